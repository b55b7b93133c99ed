"""A log becomes state: exactly up to an offset, at full speed or in slices, and never past a fault."""

from __future__ import annotations

import asyncio
import gc
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventdb.backends import Corrupt, Log, Record, RecordKind, Trimmed, open_log
from eventdb.protocol.requests import split_arguments
from eventdb.replay.cut import HistoryTrimmed, NothingThere, ToLatest, ToOffset, ToTime, find_cut
from eventdb.replay.follower import (
    FREEZE_OBJECTS_MIN,
    SLICE_TRANSACTIONS,
    BeyondEnd,
    Follower,
    NotApplied,
    Progress,
    collector_paused,
)
from eventdb.replay.inspect import RecordRules, quote, verify
from eventdb.replay.machine import Transaction
from eventdb.replay.transaction import decode, encode
from tests.kit.machines import START_MS, Notebook, Scribe, keys_up_to, set_transaction

BINARY = st.binary(max_size=12)
TRANSACTION = st.builds(
    lambda origin, events: [origin, *events], BINARY, st.lists(st.lists(BINARY, min_size=1), min_size=1)
)


def record(body: bytes, count: int, first_offset: int = 7) -> Record:
    return Record(42, 3, RecordKind.DATA, first_offset, count, START_MS, body)


# -- a record's body


@given(st.lists(TRANSACTION, max_size=6))
def test_a_body_gives_back_its_transactions(transactions: list[Transaction]) -> None:
    assert decode(record(encode(transactions), len(transactions))) == transactions


@given(st.lists(TRANSACTION, min_size=1, max_size=3), st.data())
def test_a_body_cut_anywhere_is_refused(transactions: list[Transaction], data: st.DataObject) -> None:
    body = encode(transactions)
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(Corrupt, match=r"position 42 \(offsets 7 to \d+, epoch 3\)"):
        decode(record(body[:cut], len(transactions)))


ONE = encode([set_transaction("k", "v")])


@pytest.mark.parametrize(
    ("body", "count", "text"),
    [
        (ONE * 2, 1, "goes on after 1 transactions"),
        (ONE, 2, "ends inside a transaction"),
        (b"hello\r\n", 1, "is not RESP"),
        (b":1\r\n", 1, "holds something that is no transaction: 1"),
        (b"*1\r\n$5\r\nlocal\r\n", 1, "holds something that is no transaction"),
        (b"*2\r\n$5\r\nlocal\r\n$3\r\nSET\r\n", 1, "holds something that is no transaction"),
    ],
)
def test_a_body_that_is_not_its_count_of_transactions_is_refused(body: bytes, count: int, text: str) -> None:
    with pytest.raises(Corrupt, match=text):
        decode(record(body, count))


# -- rebuild


@pytest.fixture
def log() -> Log:
    return open_log("memory:")


async def test_a_rebuild_applies_all_that_is_durable(log: Log) -> None:
    scribe = await Scribe.claim(log)
    await scribe.fill(records=20, per_record=7)
    await scribe.heartbeat(START_MS + 60_000)
    machine = Notebook()
    follower = Follower(log, machine)
    progress = await follower.rebuild()
    assert machine.values == keys_up_to(140)
    assert (follower.offset, follower.events, follower.transactions) == (140, 140, 140)
    assert follower.committed_ms == START_MS + 19_000
    assert follower.time_ms == START_MS + 60_000
    assert (progress.offset, progress.events, progress.fraction()) == (140, 140, 1.0)


def test_only_much_is_kept_from_the_collector() -> None:
    """What is frozen is never collected: a program that replays many small logs must not grow by each."""
    before = gc.get_freeze_count()
    for _ in range(3):
        with collector_paused():
            few = [[n] for n in range(1000)]
    assert gc.get_freeze_count() == before and len(few) == 1000
    try:
        with collector_paused():
            many = [[n] for n in range(FREEZE_OBJECTS_MIN + 1000)]
        assert gc.get_freeze_count() > before + FREEZE_OBJECTS_MIN and many
    finally:
        gc.unfreeze()


async def test_every_stop_offset_is_exact_and_the_rest_can_follow(log: Log) -> None:
    scribe = await Scribe.claim(log)
    await scribe.fill(records=5, per_record=4)
    for stop in range(21):
        machine = Notebook()
        follower = Follower(log, machine)
        await follower.rebuild(stop_offset=stop)
        assert machine.values == keys_up_to(stop)
        assert follower.offset == stop
        await follower.rebuild()
        assert machine.values == keys_up_to(20)
        assert machine.applied == 20, "nothing is applied twice"


async def test_a_follower_may_start_inside_a_record(log: Log) -> None:
    scribe = await Scribe.claim(log)
    await scribe.fill(records=3, per_record=5)
    machine = Notebook()
    follower = Follower(log, machine, next_position=await log.seek(8), offset=7)
    await follower.rebuild()
    assert machine.values == {f"key:{n}": str(n) for n in range(8, 16)}


async def test_a_stop_behind_the_end_is_an_error_with_the_numbers(log: Log) -> None:
    scribe = await Scribe.claim(log)
    await scribe.fill(records=2, per_record=5)
    with pytest.raises(BeyondEnd, match="memory: ends at offset 10: there is no offset 11 yet"):
        await Follower(log, Notebook()).rebuild(stop_offset=11)


async def test_an_event_nobody_knows_stops_replay_and_says_where(log: Log) -> None:
    scribe = await Scribe.claim(log)
    await scribe.fill(records=2, per_record=3)
    await scribe.write([[b"local", [b"FROBNICATE", b"k"]]])
    follower = Follower(log, Notebook())
    with pytest.raises(NotApplied, match=r"transaction of 7 to 7 \(position 3, epoch 1\).*KeyError: b'FROBNICATE'"):
        await follower.rebuild()
    assert follower.offset == 6


async def test_a_gap_in_history_is_never_passed_over(log: Log) -> None:
    scribe = await Scribe.claim(log)
    await scribe.fill(records=3, per_record=4)
    with pytest.raises(Corrupt, match="transactions 3 to 8 are missing: the record at position 3 starts with 9"):
        await Follower(log, Notebook(), next_position=3, offset=2).rebuild()


async def test_a_trimmed_log_cannot_be_replayed_from_its_start(log: Log) -> None:
    scribe = await Scribe.claim(log)
    await scribe.fill(records=3, per_record=4)
    await log.trim(2)
    with pytest.raises(Trimmed):
        await Follower(log, Notebook()).rebuild()


async def test_damage_behind_the_cut_does_not_matter(log: Log) -> None:
    scribe = await Scribe.claim(log)
    await scribe.fill(records=2, per_record=4)
    await scribe.write_body(b"*no RESP", 1)
    machine = Notebook()
    await Follower(log, machine).rebuild(stop_offset=8)
    assert machine.values == keys_up_to(8)
    with pytest.raises(Corrupt, match="offsets 9 to 9"):
        await Follower(log, Notebook()).rebuild()


async def test_a_rebuild_reports_how_far_it_is(log: Log) -> None:
    scribe = await Scribe.claim(log)
    await scribe.fill(records=3, per_record=4)
    seen: list[str] = []
    await Follower(log, Notebook()).rebuild(on_progress=lambda progress: seen.append(progress.describe()))
    assert seen[-1].startswith("offset 12 of 12 (100%), ")
    assert Progress(0, 0).fraction() == 1.0


async def test_the_garbage_collector_is_off_in_a_rebuild_and_on_again_after_it(log: Log) -> None:
    class Watching(Notebook):
        def apply(self, transactions: list[Transaction]) -> int:
            assert not gc.isenabled()
            return super().apply(transactions)

    scribe = await Scribe.claim(log)
    await scribe.fill(records=2, per_record=2)
    await Follower(log, Watching()).rebuild()
    assert gc.isenabled()
    with pytest.raises(BeyondEnd):
        await Follower(log, Watching()).rebuild(stop_offset=99)
    assert gc.isenabled()


async def test_records_are_reported_after_they_are_applied(log: Log) -> None:
    seen: list[tuple[RecordKind, int]] = []
    scribe = await Scribe.claim(log)
    await scribe.fill(records=2, per_record=2)
    await scribe.heartbeat(START_MS + 5000)
    machine = Notebook()
    follower = Follower(log, machine, on_record=lambda item: seen.append((item.kind, machine.applied)))
    await follower.rebuild()
    assert seen == [(RecordKind.CLAIM, 0), (RecordKind.DATA, 2), (RecordKind.DATA, 4), (RecordKind.HEARTBEAT, 4)]


# -- following


async def test_following_applies_what_becomes_durable_and_stops_where_it_is(log: Log) -> None:
    scribe = await Scribe.claim(log)
    await scribe.fill(records=2, per_record=3)
    machine = Notebook()
    arrived = asyncio.Event()

    def passed(item: Record) -> None:
        if follower.offset == 12:
            arrived.set()

    follower = Follower(log, machine, on_record=passed)
    await follower.rebuild()
    task = asyncio.create_task(follower.follow())
    await scribe.fill(records=2, per_record=3)
    async with asyncio.timeout(5):
        await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert machine.values == keys_up_to(12)
    await scribe.fill(records=1, per_record=3)
    await follower.rebuild()
    assert machine.values == keys_up_to(15)


async def test_following_a_large_record_lets_the_loop_run_between_transactions(log: Log) -> None:
    """Another task must get its turn in the middle of one record, and see whole transactions only."""
    count = SLICE_TRANSACTIONS * 40

    class Slow(Notebook):
        def apply(self, transactions: list[Transaction]) -> int:
            assert len(transactions) <= SLICE_TRANSACTIONS
            clock[0] += 1.0  # a second passes in each slice
            return super().apply(transactions)

    clock = [0.0]
    scribe = await Scribe.claim(log)
    machine = Slow()
    follower = Follower(log, machine)
    follower.clock = lambda: clock[0]
    seen: list[int] = []
    task = asyncio.create_task(follower.follow())
    await asyncio.sleep(0)
    await scribe.fill(records=1, per_record=count)
    async with asyncio.timeout(10):
        while follower.offset < count:
            seen.append(follower.offset)
            await asyncio.sleep(0)
    task.cancel()
    assert len(set(seen)) >= 30
    assert all(offset == machine.applied or offset % SLICE_TRANSACTIONS == 0 for offset in seen)


# -- where to cut


async def test_a_time_means_the_last_transaction_committed_at_or_before_it(log: Log) -> None:
    scribe = await Scribe.claim(log)
    await scribe.fill(records=40, per_record=3)
    for index in range(40):
        at_ms = START_MS + 1000 * index
        assert (await find_cut(log, ToTime(at_ms))).offset == 3 * (index + 1)
        assert (await find_cut(log, ToTime(at_ms + 999))).offset == 3 * (index + 1)
        if index:
            assert (await find_cut(log, ToTime(at_ms - 1))).offset == 3 * index
    cut = await find_cut(log, ToTime(START_MS + 10**9))
    assert (cut.offset, cut.time_ms) == (120, START_MS + 39_000)


async def test_a_time_among_equal_times_takes_all_of_them(log: Log) -> None:
    rng = random.Random(5)
    scribe = await Scribe.claim(log)
    times = sorted(START_MS + rng.randrange(30) for _ in range(60))
    ends: dict[int, int] = {}
    for at_ms in times:
        count = rng.randrange(1, 4)
        first = scribe.writer.next_offset
        await scribe.write([set_transaction(f"k{n}", "v") for n in range(first, first + count)], at_ms)
        if rng.random() < 0.3:
            await scribe.heartbeat(at_ms)
        ends[at_ms] = scribe.writer.next_offset - 1
    for at_ms in range(times[0], times[-1] + 2):
        expected = max(end for time_ms, end in ends.items() if time_ms <= at_ms)
        assert (await find_cut(log, ToTime(at_ms))).offset == expected


async def test_a_cut_that_is_not_there_is_refused_with_the_numbers(log: Log) -> None:
    with pytest.raises(NothingThere, match="memory: holds no transaction"):
        await find_cut(log, ToLatest())
    scribe = await Scribe.claim(log)
    with pytest.raises(NothingThere, match="memory: holds no transaction"):
        await find_cut(log, ToLatest())
    await scribe.fill(records=3, per_record=2)
    with pytest.raises(BeyondEnd, match="ends at offset 6: there is no offset 7 yet"):
        await find_cut(log, ToOffset(7))
    with pytest.raises(NothingThere, match="there is no offset 0: the first transaction is 1, the last 6"):
        await find_cut(log, ToOffset(0))
    with pytest.raises(
        NothingThere, match=r"at or before 2023-11-14T22:13:19.999Z: the first .* of 2023-11-14T22:13:20.000Z"
    ):
        await find_cut(log, ToTime(START_MS - 1))
    assert (await find_cut(log, ToLatest())).offset == 6
    await log.trim(2)
    with pytest.raises(HistoryTrimmed, match="keeps the transactions from 3 on; what came before was trimmed"):
        await find_cut(log, ToLatest())


# -- checking


async def test_verify_reports_every_finding_and_goes_on(log: Log) -> None:
    scribe = await Scribe.claim(log)
    await scribe.fill(records=2, per_record=2)
    assert [finding async for finding in verify(log)] == []
    await scribe.write_body(b"hello\r\n", 1)
    await scribe.write_body(ONE, 2)
    await scribe.fill(records=1, per_record=1)
    findings = [finding async for finding in verify(log)]
    assert len(findings) == 2
    assert "position 3 (offsets 5 to 5, epoch 1) is not RESP" in findings[0]
    assert "position 4 (offsets 6 to 7, epoch 1) ends inside a transaction" in findings[1]


def test_history_that_jumps_or_goes_back_is_a_finding() -> None:
    def at(position: int, epoch: int, first_offset: int, time_ms: int) -> Record:
        return Record(position, epoch, RecordKind.DATA, first_offset, 1, time_ms, ONE)

    rules = RecordRules()
    assert rules.check(at(0, 2, 1, START_MS)) == []
    assert rules.check(at(1, 2, 3, START_MS)) == ["position 1: starts with offset 3 where 2 is due"]
    assert rules.check(at(2, 2, 4, START_MS - 1)) == [
        "position 2: its time 2023-11-14T22:13:19.999Z lies before 2023-11-14T22:13:20.000Z"
    ]
    assert rules.check(at(3, 1, 5, START_MS)) == ["position 3: epoch 1 comes after epoch 2"]


@given(st.binary(min_size=1, max_size=30))
def test_a_quoted_argument_reads_back_as_itself(arg: bytes) -> None:
    assert split_arguments(quote(arg).encode()) == [arg]


def test_quotes_stand_only_where_they_are_needed() -> None:
    assert [quote(arg) for arg in (b"user:1", b"", b"a b", b"it's", b'"', b"\\", b"\x00\t", "é".encode())] == [
        "user:1", '""', '"a b"', '"it\'s"', r'"\""', r'"\\"', r'"\x00\t"', r'"\xc3\xa9"',
    ]  # fmt: skip
