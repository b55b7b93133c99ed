"""What the simulation has found in quorum files, each as small as it can be made."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from unittest.mock import patch

import pytest

from eventdb.backends.quorum.claim import Place
from eventdb.backends.quorum.files import FileOps
from eventdb.backends.quorum.identity import Identity
from eventdb.backends.quorum.joining import NotYet
from eventdb.backends.quorum.window import Quorum
from eventdb.backends.quorum.zone import Zone
from tests.kit.faults import WRITING, Bench, append, crash, data_of, read_all, until, until_up


async def test_a_tail_with_a_hole_is_not_adopted(tmp_path: Path) -> None:
    """One zone alone went on, rolled its segment, lost the middle: every claim chose it, and no zone could follow."""
    bench = Bench(tmp_path, segment_bytes=4000)
    writer = await bench.open().claim("first")
    await bench.append(writer, b"one", b"two")
    for index in (0, 2):
        bench.ops[index].fail(errno.EIO, WRITING)
    alone = writer.zones[1]
    for _ in range(12):
        before = alone.reached()
        append(writer, os.urandom(900))
        await until(lambda before=before: alone.reached() > before)  # type: ignore[misc]
    assert len(bench.segments(1)) >= 3
    crash(writer)
    middle = bench.segments(1)[1]
    middle.write_bytes(bytes(middle.stat().st_size))
    for ops in bench.ops:
        ops.heal()
    again = await bench.open().claim("second")
    await bench.append(again, b"three")
    assert data_of(await read_all(bench.open(faulty=False)))[:2] == [b"one", b"two"]
    await bench.close()


async def test_closing_behind_a_cancelled_append_does_not_spin(tmp_path: Path) -> None:
    """The writer waited for a future that was done already, again and again, for five seconds."""
    bench = Bench(tmp_path)
    writer = await bench.open().claim("node")
    for ops in bench.ops:
        ops.stall(frozenset({"pwrite"}))
    append(writer, b"late").cancel()
    turns = 0
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        nonlocal turns
        turns += 1
        await sleep(seconds)

    with patch("asyncio.sleep", counted):
        closing = asyncio.create_task(writer.close())
        await sleep(0.1)
        for ops in bench.ops:
            ops.heal()
        await closing
    assert turns < 500
    await bench.close()


def test_a_zone_that_is_not_complete_when_its_writer_ends_is_no_member(tmp_path: Path) -> None:
    """Its filling ended early without a word: a zone that served turned in a circle, one that was rebuilt counted."""
    quorum = Quorum(1, 3, 10, lambda: None)
    zone = Zone(Place(FileOps(), str(tmp_path), "zone-a", 0), quorum, Identity("log", 0, 3))
    zone.stop()
    with pytest.raises(NotYet, match="before the zone was complete"):
        zone._fill()


async def test_a_fenced_record_does_not_show_through_a_missing_segment(tmp_path: Path) -> None:
    """A disk forgot a name it had synced; below it lay what a fenced writer had written: sound, and never history."""
    bench = Bench(tmp_path, segment_bytes=3000)
    writer = await bench.open().claim("first")
    await bench.append(writer, b"one")
    for index in (1, 2):
        bench.ops[index].fail(errno.EIO, WRITING)
    append(writer, b"fenced")
    await until(lambda: writer.zones[0].reached() >= 3)
    crash(writer)
    bench.ops[0].fail(errno.EIO)
    for index in (1, 2):
        bench.ops[index].heal()
    log = bench.open()
    again = await log.claim("second")
    bench.ops[0].heal()
    await until_up(log, again)
    for _ in range(6):
        await bench.append(again, os.urandom(900))
        await until_up(log, again)
    await bench.check()
    await log.close()
    of_second = [path for path in bench.segments(0) if path.name.endswith("-0000000002.seg")]
    assert len(of_second) >= 2
    of_second[0].unlink()
    await bench.check()
    await bench.close()
