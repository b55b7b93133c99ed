"""Restore copies exactly the transactions up to the cut, proves the copy, and never leaves half of one to be served."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eventdb.backends import Fenced, Log, Record, RecordKind, Stretch, open_log
from eventdb.backends.log import Refillable
from eventdb.replay.completeness import RESTORED, RESTORING, Incomplete, check_complete, claimant
from eventdb.replay.cut import NothingThere, ToLatest, ToOffset, ToTime, find_cut
from eventdb.replay.filling import Mismatch, NotEmpty, Stalled, begin
from eventdb.replay.follower import BeyondEnd, Follower, Progress
from eventdb.replay.inspect import around
from eventdb.replay.machine import Transaction
from eventdb.replay.restore import restore
from eventdb.replay.transaction import encode
from tests.kit.faults import Bench
from tests.kit.machines import START_MS, Notebook, Scribe, keys_up_to, set_transaction

OpenLog = Callable[[str], Log]


@pytest.fixture(params=["memory", "quorum"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenLog]:
    """Open the log of a name; the same name again is the same log, as another process would open it."""
    kept: list[Log] = []

    def open_named(name: str) -> Log:
        url = f"memory:{tmp_path.name}-{name}" if request.param == "memory" else f"quorum:{tmp_path / name}"
        kept.append(open_log(url))
        return kept[-1]

    yield open_named
    for log in kept:
        await log.close()


async def records_of(log: Log) -> list[Record]:
    return [record async for stretch in log.read(0) for record in stretch.records]


async def data_of(log: Log) -> list[tuple[int, int, int, bytes]]:
    found = [record for record in await records_of(log) if record.kind is RecordKind.DATA]
    return [(record.first_offset, record.count, record.time_ms, record.body) for record in found]


async def source_with(opened: OpenLog, records: int, per_record: int) -> tuple[Log, Scribe]:
    scribe = await Scribe.claim(opened("source"))
    await scribe.fill(records, per_record)
    return opened("source"), scribe


async def test_every_offset_restores_exactly(opened: OpenLog) -> None:
    source, _ = await source_with(opened, 3, 4)
    for offset in range(1, 13):
        target = opened(f"to-{offset}")
        done = await restore(source, target, ToOffset(offset), Notebook)
        machine = Notebook()
        follower = Follower(opened(f"to-{offset}"), machine)
        await follower.rebuild()
        assert machine.values == keys_up_to(offset)
        assert (done.offset, done.key_count, done.digest) == (offset, offset, machine.digest())
        assert follower.committed_ms == done.time_ms == START_MS + 1000 * ((offset - 1) // 4)


async def test_offsets_times_and_bodies_are_kept_and_the_source_is_not_touched(opened: OpenLog) -> None:
    source, scribe = await source_with(opened, 4, 3)
    await scribe.heartbeat(START_MS + 20_000)
    before = await records_of(source)
    target = opened("target")
    await restore(source, target, ToLatest(), Notebook)
    assert await data_of(target) == await data_of(source)
    assert await records_of(source) == before
    claims = [claimant(record) for record in await records_of(target) if record.kind is RecordKind.CLAIM]
    assert claims == [RESTORING, RESTORED]


async def test_a_time_restores_what_was_committed_at_or_before_it(opened: OpenLog) -> None:
    source, _ = await source_with(opened, 5, 2)
    done = await restore(source, opened("target"), ToTime(START_MS + 2999), Notebook)
    assert (done.offset, done.time_ms) == (6, START_MS + 2000)


async def test_cuts_are_found_across_many_epochs(opened: OpenLog) -> None:
    """Quorum files begin a segment with each epoch, and `seek` goes to segments."""
    records = 0
    ends: list[tuple[int, int]] = []  # (time, last offset) of each record
    for epoch in range(1, 8):
        log = opened("source")
        scribe = await Scribe.claim(log, f"node-{epoch}")
        scribe.records = records
        for _ in range(epoch % 4):
            await scribe.fill(1, epoch)
            ends.append((START_MS + 1000 * records, scribe.writer.next_offset - 1))
            records += 1
        await log.close()
    source = opened("source")
    for at, (time_ms, last_offset) in enumerate(ends):
        assert (await find_cut(source, ToTime(time_ms))).offset == last_offset
        if at:
            assert (await find_cut(source, ToTime(time_ms - 1))).offset == ends[at - 1][1]
        assert (await find_cut(source, ToOffset(last_offset))).time_ms == time_ms
        shown = [entry.offset for entry in await around(source, last_offset, before=4, after=2)]
        assert shown == list(range(max(1, last_offset - 3), min(ends[-1][1], last_offset + 2) + 1))


async def test_a_restored_log_is_a_log_like_any_other(opened: OpenLog) -> None:
    """It can be written to, restored from at any offset, and read to any offset."""
    source, _ = await source_with(opened, 3, 4)
    await restore(source, opened("first"), ToOffset(10), Notebook)
    scribe = await Scribe.claim(opened("first"))
    scribe.records = 100
    await scribe.fill(2, 3)
    for offset in (1, 7, 10, 11, 16):
        machine = Notebook()
        await Follower(opened("first"), machine).rebuild(stop_offset=offset)
        assert machine.values == keys_up_to(offset)
    done = await restore(opened("first"), opened("second"), ToOffset(12), Notebook)
    assert (done.offset, done.key_count) == (12, 12)


async def test_a_source_that_is_being_written_restores_up_to_the_cut(opened: OpenLog) -> None:
    source, scribe = await source_with(opened, 3, 4)
    last = 12

    async def write_on() -> None:
        while True:
            await scribe.fill(1, 2)
            await asyncio.sleep(0)

    writing = asyncio.create_task(write_on())
    try:
        done = await restore(source, opened("target"), ToLatest(), Notebook)
    finally:
        writing.cancel()
    assert done.offset >= last and done.key_count == done.offset
    await scribe.fill(1, 1)  # still the writer: nobody fenced it


async def test_progress_tells_the_phase(opened: OpenLog) -> None:
    source, _ = await source_with(opened, 3, 4)
    seen: list[tuple[str, int]] = []

    def report(phase: str, progress: Progress) -> None:
        seen.append((phase, progress.offset))

    await restore(source, opened("target"), ToOffset(9), Notebook, on_progress=report)
    assert seen == [("copy", 9), ("verify", 9)]


# -- what is refused


async def test_a_target_that_holds_anything_is_refused_untouched(opened: OpenLog) -> None:
    source, _ = await source_with(opened, 2, 3)
    target = opened("target")
    scribe = await Scribe.claim(target)
    with pytest.raises(NotEmpty, match=r"is not empty .it holds 1 claims.: it takes a log that does not exist yet"):
        await restore(source, opened("target"), ToLatest(), Notebook)
    await scribe.fill(2, 5)
    before = await records_of(opened("target"))
    with pytest.raises(NotEmpty, match="it holds transactions up to offset 10"):
        await restore(source, opened("target"), ToLatest(), Notebook)
    with pytest.raises(NotEmpty):
        await restore(source, source, ToLatest(), Notebook)
    assert await records_of(opened("target")) == before


async def test_a_cut_that_is_not_there_leaves_the_target_untouched(opened: OpenLog) -> None:
    source, _ = await source_with(opened, 2, 3)
    with pytest.raises(BeyondEnd):
        await restore(source, opened("target"), ToOffset(7), Notebook)
    with pytest.raises(NothingThere):
        await restore(source, opened("target"), ToTime(START_MS - 1), Notebook)
    with pytest.raises(NothingThere):
        await restore(opened("nothing"), opened("target"), ToLatest(), Notebook)
    assert await opened("target").is_empty()
    assert await opened("nothing").is_empty()


class Stopped(Exception):  # noqa: N818
    """Stands for the power cut."""


class StopsAfter(Notebook):
    """Dies in its `limit`-th call; one limit for all machines of a test."""

    left = 0

    def apply(self, transactions: list[Transaction]) -> int:
        if StopsAfter.left == 0:
            raise Stopped
        StopsAfter.left -= 1
        return super().apply(transactions)


REFUSAL = "holds part of a restore or an import that did not finish .*elete it and begin again; the source is untouched"


@pytest.mark.parametrize("calls", range(8))
async def test_half_a_restore_is_refused_by_everything_wherever_it_stopped(opened: OpenLog, calls: int) -> None:
    """4 records: calls 0 to 3 stop inside the copy, 4 to 7 inside the check of the copy."""
    source, _ = await source_with(opened, 4, 3)
    StopsAfter.left = calls
    target = opened("target")
    with pytest.raises(Exception, match="Stopped"):
        await restore(source, target, ToLatest(), StopsAfter)
    await target.close()
    with pytest.raises(Incomplete, match=REFUSAL):
        await Follower(opened("target"), Notebook()).rebuild()
    if (await opened("target").info()).last_offset:
        with pytest.raises(Incomplete, match=REFUSAL):
            await restore(opened("target"), opened("other"), ToOffset(1), Notebook)
    target = opened("target")
    if isinstance(target, Refillable):
        stranger = await Scribe.claim(opened("stranger"))
        await stranger.fill(1, 1)
        with pytest.raises(Incomplete, match=REFUSAL):
            await restore(opened("stranger"), target, ToLatest(), Notebook)
        done = await restore(source, target, ToLatest(), Notebook)
        rebuilt = Notebook()
        await Follower(opened("target"), rebuilt).rebuild()
        assert (done.offset, done.digest) == (12, rebuilt.digest())
    else:
        with pytest.raises(Incomplete, match=REFUSAL):
            await restore(source, target, ToLatest(), Notebook)


async def test_a_node_that_claims_half_a_restore_does_not_make_it_whole(opened: OpenLog) -> None:
    source, _ = await source_with(opened, 2, 3)
    StopsAfter.left = 1
    with pytest.raises(Exception, match="Stopped"):
        await restore(source, opened("target"), ToLatest(), StopsAfter)
    await Scribe.claim(opened("target"), "hasty-node")
    for _ in range(2):
        with pytest.raises(Incomplete, match=REFUSAL):
            await Follower(opened("target"), Notebook()).rebuild()
        with pytest.raises(Incomplete, match=REFUSAL):
            await check_complete(opened("target"))


class ClaimedMeanwhile:
    """A source or target that, once the restore has claimed the target, is read only after somebody else claimed it."""

    def __init__(self, log: Log, claim: Callable[[], Awaitable[object]]) -> None:
        self._log = log
        self._claim = claim

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    async def read(self, start: int = 0, *, follow: bool = False, after: int = -1) -> AsyncIterator[Stretch]:
        await self._claim()
        async for stretch in self._log.read(start, follow=follow, after=after):
            yield stretch


@pytest.mark.parametrize("phase", ["copy", "verify"])
async def test_a_restore_that_was_fenced_says_so_and_its_target_is_never_served(opened: OpenLog, phase: str) -> None:
    await source_with(opened, 4, 3)

    async def claim() -> None:
        if (await opened("target").info()).epoch == 1:
            await Scribe.claim(opened("target"), "hasty-node")

    source, target = opened("source"), opened("target")
    if phase == "copy":
        source = ClaimedMeanwhile(source, claim)  # type: ignore[assignment]
    else:
        target = ClaimedMeanwhile(target, claim)  # type: ignore[assignment]
    with pytest.raises(Fenced, match=r"another node claimed .* while it was being filled"):
        await restore(source, target, ToOffset(11), Notebook)
    with pytest.raises(Incomplete, match=REFUSAL):
        await Follower(opened("target"), Notebook()).rebuild()


class Altered:
    """A log that gives back other values than it was given, of the same keys and offsets."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    async def read(self, start: int = 0, *, follow: bool = False, after: int = -1) -> AsyncIterator[Stretch]:
        async for stretch in self._log.read(start, follow=follow, after=after):
            records = [
                replace(record, body=record.body.replace(b"\r\n6\r\n", b"\r\n7\r\n")) for record in stretch.records
            ]
            yield replace(stretch, records=tuple(records))


@pytest.mark.parametrize("what", ["bytes", "state"])
async def test_a_copy_that_reads_back_differently_does_not_count(opened: OpenLog, what: str) -> None:
    class Forgetful(Notebook):
        made = 0

        def __init__(self) -> None:
            super().__init__()
            Forgetful.made += 1
            self.number = Forgetful.made

        def key_count(self) -> int:
            return super().key_count() - (self.number == 2)

    source, _ = await source_with(opened, 2, 3)
    target = opened("target")
    gives, bytes_too = ("5 keys", "") if what == "state" else ("6 keys", " of other bytes")
    said = rf"read back gives offset 6, {gives}, digest \w+; copied were offset 6, 6 keys{bytes_too}\."
    into: Any = Altered(target) if what == "bytes" else target
    with pytest.raises(Mismatch, match=said):
        await restore(source, into, ToLatest(), Forgetful if what == "state" else Notebook)
    with pytest.raises(Incomplete):
        await Follower(opened("target"), Notebook()).rebuild()


async def test_a_copy_takes_the_digest_once(opened: OpenLog) -> None:
    """It is as dear as reading all of it, and the same transactions make the same state."""

    class Counting(Notebook):
        digests = 0

        def digest(self) -> str:
            Counting.digests += 1
            return super().digest()

    source, _ = await source_with(opened, 2, 3)
    done = await restore(source, opened("target"), ToLatest(), Counting)
    machine = Notebook()
    await Follower(opened("target"), machine).rebuild()
    assert (Counting.digests, done.digest) == (1, machine.digest())


async def test_a_replica_that_waits_on_an_empty_log_does_not_serve_a_restore_in_the_making(opened: OpenLog) -> None:
    follower = Follower(opened("target"), Notebook())
    await follower.rebuild()
    following = asyncio.create_task(follower.follow())
    source, _ = await source_with(opened, 2, 3)
    await restore(source, opened("target"), ToLatest(), Notebook)
    async with asyncio.timeout(10):
        with pytest.raises(Incomplete):
            await following
    machine = Notebook()
    await Follower(opened("target"), machine).rebuild()
    assert machine.values == keys_up_to(6)


async def test_a_long_history_is_copied_within_bounds(opened: OpenLog) -> None:
    """More bytes than may be on their way at once."""
    scribe = await Scribe.claim(opened("source"))
    value = "v" * 400_000
    for n in range(60):
        await scribe.write([set_transaction(f"k{n % 7}", f"{n}{value}")])
    done = await restore(opened("source"), opened("target"), ToOffset(59), Notebook)
    assert (done.key_count, done.body_bytes > 20 << 20) == (7, True)
    assert await data_of(opened("target")) == (await data_of(opened("source")))[:59]


@pytest.mark.parametrize("name", ["eventdb-restoring", "eventdb-restored", "restoring"])
async def test_no_name_of_a_node_makes_a_log_half_a_restore(tmp_path: Path, name: str) -> None:
    log = open_log(f"quorum:{tmp_path / 'log'}")
    writer = await log.claim(name, "127.0.0.1:6379")
    await writer.append(
        b"*2\r\n$1\r\nx\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n", first_offset=1, count=1, time_ms=1
    )
    await writer.close()
    await check_complete(log)
    claims = [record for record in await records_of(log) if record.kind is RecordKind.CLAIM]
    assert [claimant(record) for record in claims] == [name]
    await log.close()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"eventdb-restoring quorum:/old/data", RESTORING),
        (b"eventdb-restored kafka://broker:9092/topic", RESTORED),
        (b"eventdb-restoring node.example:6379", "eventdb-restoring"),
        (b"eventdb-restoring", "eventdb-restoring"),
        (RESTORING.encode() + b" quorum:./data", RESTORING),
    ],
)
def test_a_restore_of_an_older_version_is_told_by_the_url_of_its_source(body: bytes, found: str) -> None:
    record = Record(0, 1, RecordKind.CLAIM, 1, 0, 1, body, -1)
    assert claimant(record) == found


async def test_a_target_that_takes_nothing_is_waited_for_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk ends nothing, as it ends no server; whoever is asked to end meanwhile does."""
    bench = Bench(tmp_path)
    target = bench.open()
    filling = await begin(target, "memory:")
    filling.slow_s = 0.02
    for ops in bench.ops:
        ops.fail(errno.ENOSPC, frozenset({"pwrite"}))
    body = encode([[b"test", [b"SET", b"k", b"v"]]])
    filling.append(body, first_offset=1, count=1, time_ms=1)
    waiting = asyncio.ensure_future(filling.room(0))
    while "has taken nothing for" not in caplog.text:
        await asyncio.sleep(0.01)
    for ops in bench.ops:
        ops.heal()
    await waiting
    assert caplog.text.count("has taken nothing for") == 1
    for ops in bench.ops:
        ops.fail(errno.ENOSPC, frozenset({"pwrite"}))
    filling.append(body, first_offset=2, count=1, time_ms=1)
    filling.is_stopped = lambda: True
    with pytest.raises(Stalled, match="takes nothing at the moment"):
        await filling.room(0)
    await filling.close()
    await bench.close()
