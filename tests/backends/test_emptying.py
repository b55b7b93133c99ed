"""Zones that are emptied for the next copy: who may, what a kill leaves, what a fenced writer still does."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from eventdb.backends import Unavailable
from eventdb.backends.quorum import QuorumLog
from eventdb.backends.quorum.files import FileOps
from tests.kit.faults import Bench, append, data_of, read_all, until_up


class Dies(FileOps):
    """After so many removals nothing is removed any more: as if the process had ended there."""

    left = 1 << 30

    def unlink(self, path: str) -> None:
        if path.endswith((".seg", "durable")):
            if self.left == 0:
                raise OSError(errno.EIO, "killed")
            self.left -= 1
        super().unlink(path)


async def filled(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path, segment_bytes=2000)
    log = bench.open()
    writer = await log.claim("copy")
    for n in range(12):
        await bench.append(writer, b"%d " % n + os.urandom(500))
    await until_up(log, writer)
    await log.close()
    assert any(len(bench.segments(zone)) > 2 for zone in range(3))
    return bench


async def holds_alone(bench: Bench, body: bytes) -> None:
    assert data_of(await read_all(bench.open())) == [body]
    await bench.close()


async def test_an_emptied_log_begins_again_with_the_next_epoch(tmp_path: Path) -> None:
    bench = await filled(tmp_path)
    before = await bench.open().info()
    log = bench.open()
    await log.hold()
    await log.empty()
    writer = await log.claim("again")
    assert (writer.epoch, writer.next_offset) == (before.epoch + 1, 1)
    assert (await log.info()).log_id == before.log_id
    await append(writer, b"new")
    await holds_alone(bench, b"new")
    assert not list(bench.root.glob("*/filling"))


async def test_one_process_at_a_time_fills_a_log(tmp_path: Path) -> None:
    bench = await filled(tmp_path)
    first, second = bench.open(), bench.open()
    await first.hold()
    await first.hold()
    with pytest.raises(Unavailable, match="filled by another process at this moment"):
        await second.hold()
    await first.close()
    await second.hold()
    await bench.close()


@pytest.mark.parametrize("left", [0, 1, 3, 5])
async def test_a_log_that_was_emptied_in_part_is_left_to_the_next(tmp_path: Path, left: int) -> None:
    bench = await filled(tmp_path)
    ops = Dies()
    ops.left = left
    log = QuorumLog(bench.url, ops_of=lambda index: ops)
    await log.hold()
    with pytest.raises(Unavailable, match="cannot be removed"):
        await log.empty()
    assert log._hold is not None
    for fd in log._hold._fds:  # the system takes the locks back, and the notes stay
        os.close(fd)
    assert await bench.open().half_emptied()
    again = bench.open()
    await again.hold()
    await again.empty()
    assert not await again.half_emptied()
    writer = await again.claim("again")
    assert writer.next_offset == 1
    await append(writer, b"new")
    await holds_alone(bench, b"new")


async def test_what_a_fenced_writer_names_late_has_no_say(tmp_path: Path) -> None:
    bench = await filled(tmp_path)
    before = [{path: path.read_bytes() for path in bench.segments(zone)} for zone in range(3)]
    log = bench.open()
    await log.hold()
    await log.empty()
    writer = await log.claim("again")
    await append(writer, b"new")
    await log.close()
    for files in before:
        for path, data in files.items():
            path.write_bytes(data)
    await holds_alone(bench, b"new")
