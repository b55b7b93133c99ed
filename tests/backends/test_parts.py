"""Large records go into the log in parts, and no heartbeat waits for one: it stands before it or between its parts."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from eventdb.backends import Log, Record, RecordKind, Writer
from eventdb.backends.assembler import Assembler
from eventdb.backends.kafka.claim import claim_epoch
from eventdb.backends.kafka.link import Link
from eventdb.backends.kafka.reader import batches
from eventdb.backends.kafka.writer import KafkaWriter
from eventdb.backends.quorum import QuorumLog
from eventdb.backends.record import BETWEEN, FIRST, LAST, MIDDLE, BadFrame, Encoder, Frame, decode
from eventdb.replay.inspect import verify
from tests.golden.make import writer_of
from tests.kit.faults import Bench, append, crash, data_of, findings, read_all, until_up
from tests.kit.kafka_partition import Partition, SimulatedLink

HANGING = frozenset({"pwrite", "fsync"})
LARGE = b"E" + random.Random(5).randbytes(
    700_000
)  # no transaction; a record of 175 frames on the bench, and compressed aside
DEADLINE_S = 15.0


def beat(writer: Writer, body: bytes = b"", time_ms: int = 0) -> asyncio.Future[int]:
    return writer.append(
        body, first_offset=writer.next_offset, count=0, time_ms=max(time_ms, writer.last_time_ms),
        kind=RecordKind.HEARTBEAT,
    )  # fmt: skip


def order(records: list[Record]) -> list[tuple[RecordKind, bytes]]:
    return [(record.kind, record.body) for record in records if record.kind is not RecordKind.CLAIM]


async def wrong(log: QuorumLog) -> list[str]:
    """What is wrong with the zones, and with the order of records; that these bodies are no transactions is known."""
    return await findings(log) + [line async for line in verify(log) if "is not RESP" not in line]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


async def begun(bench: Bench, log: QuorumLog) -> tuple[Any, asyncio.Future[int], asyncio.Future[int]]:
    """A writer in the middle of a large record, which no zone takes at the moment; and a heartbeat since."""
    writer = await log.claim("node")
    for ops in bench.ops:
        ops.stall(HANGING)
    stored = writer.stats.stored_bytes
    large = append(writer, LARGE)
    deadline = time.monotonic() + DEADLINE_S
    while writer.stats.stored_bytes == stored:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
    return writer, large, beat(writer, b"said", time_ms=77)


async def test_a_heartbeat_is_durable_and_heard_before_the_large_record_it_stands_in(bench: Bench) -> None:
    log = bench.open()
    writer, large, heartbeat = await begun(bench, log)
    small = append(writer, b"small")
    for ops in bench.ops:
        ops.heal()
    at = await asyncio.wait_for(heartbeat, DEADLINE_S)
    assert not large.done(), "it waited for the whole record"
    end = await asyncio.wait_for(large, DEADLINE_S)
    assert at < end < await asyncio.wait_for(small, DEADLINE_S)
    await until_up(log, writer)  # a zone that lingers ends early
    records = await read_all(bench.open(faulty=False))
    assert order(records) == [
        (RecordKind.HEARTBEAT, b"said"), (RecordKind.DATA, LARGE), (RecordKind.DATA, b"small"),
    ]  # fmt: skip
    assert [record.first_offset for record in records] == [1, 1, 1, 2]
    assert [record.time_ms for record in records] == sorted(record.time_ms for record in records)
    assert records[1].time_ms == 77 and records[1].count == 0
    assert await wrong(bench.open(faulty=False)) == []


async def test_a_record_that_its_writer_left_in_the_middle_is_nothing_and_what_was_said_in_it_stays(
    bench: Bench,
) -> None:
    log = bench.open()
    writer, large, heartbeat = await begun(bench, log)
    for ops in bench.ops:
        ops.heal()
    await asyncio.wait_for(heartbeat, DEADLINE_S)
    crash(writer)
    assert large.exception() is not None
    other = bench.open()
    following = asyncio.ensure_future(anext(aiter(bench.open().read(0, follow=True))))
    seen = (await asyncio.wait_for(following, DEADLINE_S)).records
    assert (RecordKind.HEARTBEAT, b"said") in order(list(seen)), "a follower hears it though the record never ends"
    successor = await other.claim("other")
    assert successor.next_offset == 1
    await asyncio.wait_for(append(cast(Any, successor), b"new"), DEADLINE_S)
    await until_up(other, cast(Any, successor))
    records = await read_all(bench.open(faulty=False))
    assert order(records) == [(RecordKind.HEARTBEAT, b"said"), (RecordKind.DATA, b"new")]
    assert await wrong(bench.open(faulty=False)) == []


async def write_at_random(writer: Writer, rng: random.Random) -> tuple[list[bytes], int]:
    """Large, small and empty records in a random order, at random moments; (bodies of data, number of heartbeats)."""
    bodies: list[bytes] = []
    beats = 0
    futures = []
    for _ in range(60):
        choice = rng.random()
        if choice < 0.15:
            bodies.append(b"E" + rng.randbytes(rng.choice((520_000, 700_000))))
            futures.append(append(cast(Any, writer), bodies[-1]))
        elif choice < 0.5:
            bodies.append(b"E" + rng.randbytes(rng.choice((1, 100, 9000))))
            futures.append(append(cast(Any, writer), bodies[-1]))
        else:
            beats += 1
            futures.append(beat(writer, b"x" * rng.choice((0, 50)), time_ms=writer.last_time_ms + 1))
        if rng.random() < 0.6:
            await asyncio.sleep(rng.random() * 0.004)
    await asyncio.wait_for(asyncio.gather(*futures), DEADLINE_S)
    return bodies, beats


def check(records: list[Record], bodies: list[bytes], beats: int) -> None:
    assert data_of(records) == bodies
    assert sum(record.kind is RecordKind.HEARTBEAT for record in records) == beats
    for before, record in itertools.pairwise(records):
        assert (before.position, before.time_ms) <= (record.position, record.time_ms)
        assert record.first_offset == before.first_offset + before.count


async def test_any_order_of_large_and_small_is_read_as_it_was_written(bench: Bench) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    log = bench.open()
    writer = await log.claim("node")
    bodies, beats = await write_at_random(writer, random.Random(seed))
    await until_up(log, cast(Any, writer))
    reader: Log = bench.open(faulty=False)
    found = [batch async for batch in reader.read()]
    check([record for batch in found for record in batch.records], bodies, beats)
    for batch in found[:: max(1, len(found) // 6)]:  # a reader that goes on from any of them misses nothing
        rest = await read_all(cast(QuorumLog, reader), batch.next_position)
        assert rest == [one for part in found for one in part.records if one.position >= batch.next_position]
    assert await wrong(cast(QuorumLog, reader)) == []


async def test_the_same_on_kafka() -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    partition = Partition(random.Random(seed))
    writer: KafkaWriter = writer_of(await claim_epoch(cast(Link, SimulatedLink(partition)), b"node", 0), partition)
    bodies, beats = await write_at_random(writer, random.Random(seed))
    large = append(cast(Any, writer), LARGE)
    while writer.stats.stored_bytes < writer.stats.body_bytes + 5000 and not large.done():
        await asyncio.sleep(0)
    await asyncio.wait_for(beat(writer, b"said"), DEADLINE_S)
    assert not large.done(), "it waited for the whole record"
    writer.abandon()
    link = cast(Any, SimulatedLink(partition))
    records = [one async for batch in batches(link, 0, follow=False, known_end=0) for one in batch.records]
    check(records, bodies, beats + 1)
    taken = await claim_epoch(cast(Link, SimulatedLink(partition)), b"again", 0)
    assert taken.next_offset == len(bodies) + 1


def frames_of(body: bytes, heartbeat_offset: int = 11) -> tuple[list[Frame], Frame]:
    facts: dict[str, Any] = {"epoch": 3, "durable_end": 0, "count": 2, "time_ms": 5}
    made = Encoder(1000).encode(body, kind=0, position=7, first_offset=11, **facts)
    inside = Encoder(1000).encode(
        b"", kind=int(RecordKind.HEARTBEAT), position=8, first_offset=heartbeat_offset, inside=True, **facts
    )
    return [cast(Frame, decode(raw)) for raw in made], cast(Frame, decode(inside[0]))


def test_a_heartbeat_inside_a_record_leaves_the_record_whole() -> None:
    body = random.Random(1).randbytes(2500)
    (first, middle, last), inside = frames_of(body)
    assert [frame.fragment for frame in (first, inside, middle, last)] == [FIRST, BETWEEN, MIDDLE, LAST]
    assert inside.next_offset == 11, "the record it stands in has not happened yet"
    reader = Assembler()
    assert reader.feed(first, 7) is None
    said = reader.feed(inside, 8)
    assert said is not None and (said.kind, said.count, said.first_offset) == (RecordKind.HEARTBEAT, 0, 11)
    assert reader.pending
    assert reader.feed(middle, 9) is None
    whole = reader.feed(last, 10)
    assert whole is not None and whole.body == body


def test_a_heartbeat_inside_a_record_that_is_not_there_is_damage() -> None:
    (first, _middle, last), inside = frames_of(random.Random(1).randbytes(2500))
    _frames, elsewhere = frames_of(b"", heartbeat_offset=12)
    reader = Assembler()
    assert reader.feed(inside, 3) is not None  # a reader may begin inside a record
    reader.feed(first, 7)
    with pytest.raises(BadFrame, match="inside another record"):
        reader.feed(elsewhere, 8)
    whole = Assembler()
    for frame in frames_of(b"short")[0]:
        whole.feed(frame, 7)
    with pytest.raises(BadFrame, match="there is none"):
        whole.feed(inside, 8)
    assert last.fragment == LAST


def test_a_heartbeat_that_takes_more_than_one_frame_cannot_stand_inside() -> None:
    with pytest.raises(ValueError, match="more than one frame"):
        Encoder(100).encode(
            random.Random(1).randbytes(300), kind=2, epoch=1, position=1, durable_end=0, first_offset=1, count=1,
            time_ms=1, inside=True,
        )  # fmt: skip


async def test_on_kafka_no_reader_is_told_to_go_on_inside_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventdb.backends.kafka.reader.BATCH_BYTES", 10)  # the heartbeat alone completes a batch
    partition = Partition(random.Random(1))
    writer = writer_of(await claim_epoch(cast(Link, SimulatedLink(partition)), b"node", 0), partition)
    stored = writer.stats.stored_bytes
    large = append(cast(Any, writer), LARGE)
    while writer.stats.stored_bytes == stored:
        await asyncio.sleep(0)
    said = await asyncio.wait_for(beat(writer, b"a statement"), DEADLINE_S)
    await asyncio.wait_for(large, DEADLINE_S)
    await writer.close()
    link = cast(Any, SimulatedLink(partition))
    told = 0
    found = [batch async for batch in batches(link, 0, follow=False, known_end=0)]
    assert any(record.position == said for batch in found for record in batch.records)
    for batch in found:
        assert told <= batch.next_position
        told = batch.next_position
        rest = [one async for part in batches(link, told, follow=False, known_end=0) for one in part.records]
        assert rest == [one for part in found for one in part.records if one.position >= told]
