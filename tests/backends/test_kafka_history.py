"""Whatever happens to requests and answers: what was acknowledged is history, once, and for every reader."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any, cast

import pytest

from eventdb.backends.kafka import claim, link, writer
from eventdb.backends.kafka.history import History
from eventdb.backends.kafka.link import Link
from eventdb.backends.kafka.reader import batches
from eventdb.backends.kafka.writer import KafkaWriter
from eventdb.backends.log import Fenced, Indeterminate, LogError, Record, RecordKind, Unavailable
from eventdb.backends.record import BadFrame, Encoder, Frame, decode
from tests.kit.kafka_partition import Partition, SimulatedLink

SEEDS = int(os.environ.get("EVENTDB_KAFKA_SEEDS", "150"))


def frame(epoch: int, position: int, first_offset: int, kind: RecordKind = RecordKind.DATA, count: int = 1) -> Frame:
    (data,) = Encoder().encode(
        b"x", kind=int(kind), epoch=epoch, position=position, durable_end=position, first_offset=first_offset,
        count=0 if kind is RecordKind.CLAIM else count, time_ms=0,
    )  # fmt: skip
    made = decode(data)
    assert made is not None
    return made


def claimed(epoch: int, first_offset: int = 1) -> Frame:
    return frame(epoch, 0, first_offset, RecordKind.CLAIM)


def judged(*frames: Frame) -> list[bool]:
    history = History(known=True)
    return [history.takes(one, position) for position, one in enumerate(frames)]


def test_the_first_claim_wins_and_the_second_is_void() -> None:
    assert judged(claimed(1), claimed(1), claimed(2), claimed(1), claimed(4)) == [True, False, True, False, False]


def test_a_fenced_writers_late_record_is_void_even_where_it_expected_to_be() -> None:
    assert judged(claimed(1), frame(1, 1, 1), claimed(2), frame(1, 3, 2), frame(2, 4, 2)) == [
        True, True, True, False, True,
    ]  # fmt: skip


def test_a_record_sent_twice_is_history_once() -> None:
    assert judged(claimed(1), frame(1, 1, 1), frame(1, 1, 1), frame(1, 3, 2)) == [True, True, False, True]


def test_what_no_writer_leaves_behind_is_an_error_and_not_skipped() -> None:
    with pytest.raises(BadFrame, match="without its claim"):
        judged(claimed(1), frame(2, 1, 1))
    with pytest.raises(BadFrame, match="begins with transaction 3, where 1 was to come"):
        judged(claimed(1), frame(1, 1, 3))


def test_a_reader_in_the_middle_learns_the_epoch_from_an_anchor() -> None:
    history = History(known=False)
    assert not history.takes(claimed(7), 3)  # may be void: nobody knows
    assert not history.takes(frame(6, 3, 9), 4)  # moved: void
    assert history.takes(frame(7, 5, 9), 5)
    assert (history.epoch, history.next_offset) == (7, 10)


class Node:
    """Claims, appends numbered bodies, and claims again when fenced; remembers what it was promised."""

    def __init__(self, name: str, partition: Partition, trouble: float) -> None:
        self.name = name
        self.partition = partition
        self.trouble = trouble
        self.acknowledged: dict[int, bytes] = {}  # position -> body
        self.claims = 0

    def link(self) -> Link:
        return cast(Link, SimulatedLink(self.partition, self.trouble))

    async def live(self, turns: int) -> None:
        rng = self.partition.rng
        for _ in range(turns):
            try:
                taken = await claim.claim_epoch(self.link(), f"{self.name}".encode(), 0)
            except (Fenced, Unavailable):
                continue
            self.claims += 1
            one = KafkaWriter(
                self.link(), self.link(), epoch=taken.epoch, position=taken.position + 1,
                next_offset=taken.next_offset, last_time_ms=taken.time_ms,
                encoder=Encoder(rng.choice((8, 1000))), batch_bytes=rng.choice((100, 10_000)),
            )  # fmt: skip
            await self._append(one, rng.randrange(1, 12))
            if rng.random() < 0.5:
                one.abandon()  # killed: what it sent is still on its way
            else:
                await one.close()

    async def _append(self, one: KafkaWriter, count: int) -> None:
        rng = self.partition.rng
        waiting: list[tuple[bytes, asyncio.Future[int]]] = []
        for number in range(count):
            body = f"{self.name}/{one.epoch}/{number}".encode() + bytes(rng.randrange(20))
            beat = rng.random() < 0.2
            kind = RecordKind.HEARTBEAT if beat else RecordKind.DATA
            waiting.append((body, one.append(
                body, first_offset=one.next_offset, count=0 if beat else rng.randrange(1, 4),
                time_ms=one.last_time_ms + rng.randrange(3), kind=kind,
            )))  # fmt: skip
            if rng.random() < 0.5:
                await asyncio.sleep(0)
        done = 0
        for body, future in waiting:
            try:
                position = await asyncio.wait_for(asyncio.shield(future), 20)
                assert done >= 0, "acknowledged behind one that was not"
                assert position < self.partition.acknowledged, "read back, and perhaps on one copy only"
                self.acknowledged[position] = body
            except (Fenced, Indeterminate):
                done = -1


async def read(partition: Partition, start: int) -> list[Record]:
    one = cast(Any, SimulatedLink(partition))
    return [record async for batch in batches(one, start, follow=False, known_end=0) for record in batch.records]


def check(nodes: list[Node], records: list[Record]) -> None:
    at = {record.position: record for record in records}
    for node in nodes:
        for position, body in node.acknowledged.items():
            assert position in at, f"{body!r} was acknowledged at {position} and is not there"
            assert at[position].body == body
    bodies = [record.body for record in records if record.kind is not RecordKind.CLAIM and record.body]
    assert len(bodies) == len(set(bodies)), "a record is there twice"
    next_offset, epoch, time_ms = 1, 0, 0
    for record in records:
        assert record.first_offset == next_offset
        assert record.time_ms >= time_ms
        assert record.epoch == epoch + (record.kind is RecordKind.CLAIM)
        next_offset, epoch, time_ms = record.first_offset + record.count, record.epoch, record.time_ms


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (link, writer, claim):
        monkeypatch.setattr(module, "PAUSE_S_MIN", 0.0)
        monkeypatch.setattr(module, "PAUSE_S_MAX", 0.0)
    monkeypatch.setattr(writer, "CLOSE_S_MAX", 0.05)


@pytest.mark.usefixtures("no_pauses")
async def test_what_was_acknowledged_is_history_once_for_every_reader() -> None:
    void = 0
    for seed in range(SEEDS):
        rng = random.Random(seed)
        partition = Partition(rng)
        trouble = rng.choice((0.05, 0.3, 0.6))
        nodes = [Node(f"n{number}", partition, trouble) for number in range(3)]
        try:
            await asyncio.gather(*(node.live(3) for node in nodes))
            partition.settle()
            records = await read(partition, 0)
            check(nodes, records)
            starts = range(partition.end + 1) if seed % 10 == 0 else [rng.randrange(partition.end + 1)]
            for start in starts:
                seen = await read(partition, start)
                assert seen == [record for record in records if record.position >= start][-len(seen) or len(records) :]
                missing = [record for record in records if record.position >= start][: -len(seen) or None]
                assert len(missing) <= 1, "a reader in the middle may miss the record it began inside, and no other"
            void += partition.end - len(records)
        except (AssertionError, LogError) as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    assert void > SEEDS  # or nothing was put to the test
