"""Rules of the quorum files that one planted error each has broken without any other test noticing."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from eventdb.backends.quorum import promise as promises
from eventdb.backends.quorum.files import FileOps
from eventdb.backends.quorum.window import Quorum
from eventdb.backends.record import MAGIC
from tests.kit.faults import Bench, append, crash, until, until_up


def test_what_was_adopted_is_durable_with_the_claim_record_and_not_before() -> None:
    """A later claimant may prefer another tail until this epoch's own record is on a majority."""
    quorum = Quorum(2, 3, 11, lambda: None)
    assert not quorum.mark(0, 9)
    assert not quorum.mark(1, 10)
    assert not quorum.mark(0, 11)
    assert quorum.durable_end == 0
    assert quorum.mark(1, 11) and quorum.durable_end == 11


async def test_a_longer_tail_of_a_fenced_writer_is_not_adopted(tmp_path: Path) -> None:
    """Nine records in one zone, never acknowledged, against one record of a later epoch that was."""
    bench = Bench(tmp_path)
    first = await bench.open().claim("first")
    await bench.append(first, b"one")
    await until(lambda: all(zone.reached() == first.durable_end for zone in first.zones))
    for index in (1, 2):
        bench.ops[index].fail(errno.EIO)
    for _ in range(9):
        append(first, b"fenced")
    await until(lambda: first.zones[0].reached() == first.durable_end + 9)
    crash(first)
    for index in (1, 2):
        bench.ops[index].heal()
    bench.ops[0].fail(errno.EIO)
    second = await bench.open().claim("second")
    await bench.append(second, b"two")
    await until(lambda: all(zone.reached() == second.durable_end for zone in second.zones[1:]))
    crash(second)
    bench.ops[0].heal()
    bench.ops[2].fail(errno.EIO)
    third = await bench.open().claim("third")
    await bench.append(third, b"three")
    bench.ops[2].heal()
    await bench.check()
    await bench.close()


async def test_what_was_written_under_a_higher_promise_is_not_shown(tmp_path: Path) -> None:
    """Two of three zones belong to a later claim, which may have read them: what still lands there is no history."""
    bench = Bench(tmp_path)
    writer = await bench.open().claim("node")
    await bench.append(writer, b"one")
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    for index in (0, 2):
        promises.make(FileOps(), str(bench.zones[index]), writer.epoch + 1)
    append(writer, b"never")
    await until(lambda: all(b"never" in bench.segments(zone)[-1].read_bytes() for zone in range(3)))
    await bench.check()
    crash(writer)
    await bench.check()
    await bench.close()


@pytest.mark.parametrize("size", [10, 2 << 20])  # the writer still holds what is copied, or it comes from other zones
async def test_a_zone_that_is_rebuilt_has_no_vote_until_it_is_a_member(tmp_path: Path, size: int) -> None:
    """It forgot its promises: what it copies counts when a majority of the others vouches for it, and not before."""
    bench = Bench(tmp_path)
    log = bench.open()
    writer = await log.claim("node")
    await bench.append(writer, *(os.urandom(size) for _ in range(5)))
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    votes: dict[str, list[int]] = {"begins a segment": [], "is named a member": []}
    opened, replaced = bench.ops[2].open, bench.ops[2].replace

    def open_noted(path: str, flags: int) -> int:
        if path.endswith(".seg") and flags & os.O_CREAT:
            votes["begins a segment"].append(writer._quorum.synced[2])
        return opened(path, flags)

    def replace_noted(source: str, target: str) -> None:
        if target.endswith("zone.json"):
            votes["is named a member"].append(writer._quorum.synced[2])
        replaced(source, target)

    bench.ops[2].open = open_noted  # type: ignore[method-assign]
    bench.ops[2].replace = replace_noted  # type: ignore[method-assign]
    shutil.rmtree(bench.zones[2])
    await bench.append(writer, b"later")
    await until(lambda: len(votes["is named a member"]) > 0)
    await until_up(log, writer)
    assert {name: set(seen) for name, seen in votes.items()} == {"begins a segment": {0}, "is named a member": {0}}
    await log.close()


async def test_a_claim_reads_the_end_of_a_zone_after_it_has_fenced_its_writer(tmp_path: Path) -> None:
    """What is acknowledged in the last moment before the promises is found by who made them."""
    bench = Bench(tmp_path)
    first = await bench.open().claim("first")
    await bench.append(first, b"one")
    asked: list[str] = []
    go_on = threading.Event()
    for ops in bench.ops:

        def open_held(path: str, flags: int, opened: Callable[[str, int], int] = ops.open) -> int:
            if path.endswith("promise-0000000002"):
                asked.append(path)
                go_on.wait(20)
            return opened(path, flags)

        ops.open = open_held  # type: ignore[method-assign]
    claiming = asyncio.ensure_future(bench.open().claim("second"))
    await until(lambda: len(asked) == 3)
    await bench.append(first, b"two")
    go_on.set()
    await claiming
    await bench.check()
    crash(first)
    await bench.close()


async def test_a_zone_votes_for_what_it_has_written_and_no_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    writer = await bench.open().claim("node")
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    held = [threading.Semaphore(0) for _ in bench.ops]
    writing: list[int] = []
    for ops, permits in zip(bench.ops, held, strict=True):

        def pwrite_held(
            fd: int, data: bytes, at: int, written: Callable[[int, bytes, int], int] = ops.pwrite,
            permits: threading.Semaphore = permits,
        ) -> int:  # fmt: skip
            if data[:4] == MAGIC:
                writing.append(fd)
                permits.acquire(timeout=20)
            return written(fd, data, at)

        ops.pwrite = pwrite_held  # type: ignore[method-assign]
    one = append(writer, b"one")
    await until(lambda: len(writing) >= 2)  # each writes the first one alone
    later = [append(writer, b"later") for _ in range(3)]
    for permits in held:
        permits.release()
    await one
    assert not any(future.done() for future in later)
    for permits in held:
        permits.release(9)
    await asyncio.gather(*later)
    await bench.close()
