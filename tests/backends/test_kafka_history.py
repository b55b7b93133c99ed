"""Whatever happens to requests and answers: what was acknowledged is history, once, and for every reader."""

from __future__ import annotations

import asyncio
import os
import random
from concurrent.futures import Future
from typing import Any, cast

import pytest
from aiokafka.protocol.produce import ProduceRequest

from eventdb.backends.kafka import claim, link, writer
from eventdb.backends.kafka.history import History
from eventdb.backends.kafka.link import Link, NoAnswer
from eventdb.backends.kafka.reader import batches
from eventdb.backends.kafka.stand_in import StandIn
from eventdb.backends.kafka.writer import KafkaWriter
from eventdb.backends.log import Fenced, Indeterminate, LogError, Record, RecordKind, Unavailable
from eventdb.backends.record import BadFrame, Encoder, Frame, decode
from eventdb.backends.seal import SEAL_BYTES, Keyring, KeySet
from tests.kit.kafka_partition import Partition, SimulatedLink, SimulatedStandIn

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

    def __init__(
        self, name: str, partition: Partition, trouble: float, pushes: float = 0.0, keys: Keyring | None = None
    ) -> None:
        """pushes: the share of appends that are sent without the loop."""
        self.pushes = pushes
        self.stood_in = 0
        self.name = name
        self.keys = keys
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
                taken = await claim.claim_epoch(self.link(), f"{self.name}".encode(), 0, self.keys)
            except (Fenced, Unavailable):
                continue
            self.claims += 1
            beside = SimulatedStandIn(SimulatedLink(self.partition, self.trouble))
            one = KafkaWriter(
                self.link(), self.link(), epoch=taken.epoch, position=taken.position + 1,
                next_offset=taken.next_offset, last_time_ms=taken.time_ms,
                encoder=Encoder(rng.choice((8, 1000)) + (SEAL_BYTES if self.keys else 0), self.keys),
                batch_bytes=rng.choice((100, 10_000)),
            )  # fmt: skip
            one._stand_in = cast(StandIn, beside)
            await self._append(one, rng.randrange(1, 12))
            self.stood_in += beside.sent
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
            while self.pushes and rng.random() < self.pushes:
                one.push(0.0)
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


async def read(partition: Partition, start: int, keys: Keyring | None = None) -> list[Record]:
    one = cast(Any, SimulatedLink(partition))
    found = batches(one, start, follow=False, known_end=0, keys=keys)
    return [record async for batch in found for record in batch.records]


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
@pytest.mark.parametrize(("pushes", "sealed"), [(0.0, False), (0.4, False), (0.0, True), (0.4, True)])
async def test_what_was_acknowledged_is_history_once_for_every_reader(pushes: float, sealed: bool) -> None:
    void = stood_in = 0
    keys = Keyring(KeySet(1, {1: bytes(range(32))})) if sealed else None
    seeds = SEEDS // 3 if sealed else SEEDS
    for seed in range(seeds):
        rng = random.Random(seed)
        partition = Partition(rng)
        trouble = rng.choice((0.05, 0.3, 0.6))
        nodes = [Node(f"n{number}", partition, trouble, pushes, keys) for number in range(3)]
        try:
            await asyncio.gather(*(node.live(3) for node in nodes))
            partition.settle()
            records = await read(partition, 0, keys)
            check(nodes, records)
            starts = range(partition.end + 1) if seed % 10 == 0 else [rng.randrange(partition.end + 1)]
            for start in starts:
                seen = await read(partition, start, keys)
                assert seen == [record for record in records if record.position >= start][-len(seen) or len(records) :]
                missing = [record for record in records if record.position >= start][: -len(seen) or None]
                assert len(missing) <= 1, "a reader in the middle may miss the record it began inside, and no other"
            void += partition.end - len(records)
            stood_in += sum(node.stood_in for node in nodes)
        except (AssertionError, LogError) as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    assert void > seeds  # or nothing was put to the test
    assert (stood_in > seeds) == (pushes > 0)


async def pushing(partition: Partition) -> tuple[KafkaWriter, SimulatedStandIn]:
    """A writer that has a producer id, and nothing under way."""
    made = cast(Link, SimulatedLink(partition))
    taken = await claim.claim_epoch(made, b"node", 0)
    one = KafkaWriter(
        made, made, epoch=taken.epoch, position=taken.position + 1, next_offset=taken.next_offset, last_time_ms=0,
        encoder=Encoder(1000), batch_bytes=1000,
    )  # fmt: skip
    await one.append(b"first", first_offset=1, count=1, time_ms=0)
    beside = SimulatedStandIn(SimulatedLink(partition))
    one._stand_in = cast(StandIn, beside)
    return one, beside


async def test_what_is_appended_while_the_loop_is_kept_goes_out_by_a_push_and_by_nothing_else() -> None:
    partition = Partition(random.Random(1))
    one, beside = await pushing(partition)
    await asyncio.sleep(0)  # the writer waits for more
    end = partition.end
    futures = []
    for _ in range(3):
        futures.append(one.append(b"", first_offset=2, count=0, time_ms=0, kind=RecordKind.HEARTBEAT))
        assert partition.end == end
        one.push(0.0)
        end += 1
        assert partition.end == partition.acknowledged == one.durable_end == end
    one.push(0.0)  # there is nothing more
    assert beside.sent == 3 and [future.result() for future in futures] == [2, 3, 4]
    assert await one.append(b"last", first_offset=2, count=1, time_ms=0) == 5
    assert [record.body for record in await read(partition, 1)] == [b"first", b"", b"", b"", b"last"]
    await one.close()


async def test_a_batch_that_is_on_its_way_when_the_loop_is_kept_is_in_the_log_once() -> None:
    partition = Partition(random.Random(1))
    one, _beside = await pushing(partition)
    written = one.append(b"written", first_offset=2, count=1, time_ms=0)
    while one._in_flight != 1:
        await asyncio.sleep(0)
    beat = one.append(b"", first_offset=3, count=0, time_ms=0, kind=RecordKind.HEARTBEAT)
    one.push(0.0)
    assert written.result() == 2 and not beat.done()
    one.push(0.0)
    assert beat.result() == 3
    assert await one.append(b"last", first_offset=3, count=1, time_ms=0) == 4
    assert partition.end == 5, "the batch that was on its way is there twice"
    assert one.stats.records == 4 and one.stats.transactions == 3
    await one.close()


@pytest.mark.parametrize("by_the_loop", [False, True])
async def test_what_a_push_had_no_answer_for_is_sent_again_as_it_was(by_the_loop: bool) -> None:
    """A broker knows a batch again by its sequence number: with more behind it, that would be lost or refused."""
    partition = Partition(random.Random(1))
    one, beside = await pushing(partition)
    await asyncio.sleep(0)
    send = beside.send

    def send_and_lose(request: ProduceRequest) -> Future[int]:
        send(request)
        lost: Future[int] = Future()
        lost.set_exception(NoAnswer("lost"))
        return lost

    beside.send = send_and_lose  # type: ignore[method-assign]
    beats = [one.append(b"", first_offset=2, count=0, time_ms=0, kind=RecordKind.HEARTBEAT)]
    one.push(0.0)
    beside.send = send  # type: ignore[method-assign]
    beats += [one.append(b"", first_offset=2, count=0, time_ms=number, kind=RecordKind.HEARTBEAT) for number in (1, 2)]
    assert partition.end == 3 and not any(beat.done() for beat in beats)
    if not by_the_loop:
        one.push(0.0)
        assert [beat.done() for beat in beats] == [True, False, False]
        one.push(0.0)
        assert all(beat.done() for beat in beats)
    assert [await beat for beat in beats] == [2, 3, 4]
    assert await one.append(b"last", first_offset=2, count=1, time_ms=2) == 5
    records = await read(partition, 2)
    assert [(record.position, record.time_ms) for record in records] == [(2, 0), (3, 1), (4, 2), (5, 2)]
    await one.close()


async def test_a_push_into_a_log_that_another_writer_has_claimed_settles_nothing() -> None:
    partition = Partition(random.Random(1))
    one, _beside = await pushing(partition)
    await asyncio.sleep(0)
    await claim.claim_epoch(cast(Link, SimulatedLink(partition)), b"other", 0)
    beat = one.append(b"", first_offset=2, count=0, time_ms=0, kind=RecordKind.HEARTBEAT)
    one.push(0.0)
    one.push(0.0)
    assert not beat.done() and one.durable_end == 2
    with pytest.raises(Fenced):
        await beat
    await one.close()
