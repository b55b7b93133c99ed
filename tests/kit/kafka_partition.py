"""A Kafka partition in memory whose answers get lost, come late, or are taken back.

It keeps what the backend relies on and no more. What was acknowledged, or shown by a fetch, stays where it is. What
was appended and not yet shown may vanish (another leader) or be shown later. A request that was given up may still
arrive.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

from aiokafka import errors
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record import MemoryRecords

from eventdb.backends.kafka.address import parse
from eventdb.backends.kafka.link import Cluster, Link, NoAnswer, describe
from eventdb.backends.kafka.stand_in import append_once

TOPIC = "t"
SEQUENCE_AT, PRODUCER_AT = 53, 43  # in a record batch, magic 2
ANONYMOUS = b"\xff" * 14


class Partition:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.stored: list[tuple[int, int, bytes]] = []  # (first position, how many, batch)
        self.shown = 0  # the high watermark
        self.acknowledged = 0  # what stands below it was acknowledged, or stands before what was
        self.producers = 0
        self.late: list[Callable[[], object]] = []  # requests still on their way, given up by who sent them

    @property
    def end(self) -> int:
        return self.stored[-1][0] + self.stored[-1][1] if self.stored else 0

    def append(self, batch: bytes) -> int:
        """Store a batch, or find it stored already, as an idempotent producer's; its first position."""
        producer = batch[PRODUCER_AT : SEQUENCE_AT + 4]
        for first, _count, kept in self.stored[-5:]:
            if kept[PRODUCER_AT : SEQUENCE_AT + 4] == producer != ANONYMOUS:
                return first
        first = self.end
        (found,) = list(_batches(batch))
        count = len(list(found))
        self.stored.append((first, count, first.to_bytes(8, "big") + batch[8:]))
        return first

    def commit(self) -> None:
        self.shown = self.end

    def change_leader(self) -> None:
        """The new one does not have what was not yet durable."""
        while self.stored and self.stored[-1][0] >= self.shown:
            self.stored.pop()

    def stir(self) -> None:
        """Something happens in the cluster."""
        what = self.rng.random()
        if self.late and what < 0.3:
            self.late.pop(self.rng.randrange(len(self.late)))()
        elif what < 0.5:
            self.commit()
        elif what < 0.6:
            self.change_leader()

    def settle(self) -> None:
        """All that is late arrives, and everything becomes durable."""
        while self.late:
            self.late.pop(0)()
        self.commit()


def _batches(data: bytes) -> Any:
    found = MemoryRecords(data)
    while found.has_next():
        yield found.next_batch()


class SimulatedLink:
    """Stands where a `Link` does. `trouble` is the share of requests that something happens to."""

    def __init__(self, partition: Partition, trouble: float = 0.0) -> None:
        self.address = parse(f"kafka://nowhere/{TOPIC}?allow-weak=1")
        self.partition = partition
        self.trouble = trouble
        self.leader_id = 1

    async def ask_leader(self, request: object, seconds: float = 0.0) -> Any:
        partition, rng = self.partition, self.partition.rng
        await asyncio.sleep(0)
        bad = rng.random() < self.trouble
        if self.trouble:
            partition.stir()
        if isinstance(request, ProduceRequest):
            return self._produce(request, bad)
        if bad:
            raise NoAnswer("lost")
        if isinstance(request, InitProducerIdRequest):
            partition.producers += 1
            none = errors.GroupLoadInProgressError.errno if rng.random() < self.trouble / 2 else 0
            return SimpleNamespace(error_code=none, producer_id=partition.producers, producer_epoch=0)
        if isinstance(request, OffsetRequest):
            which = request._topics[0][1][0][1]
            return SimpleNamespace(topics=[(TOPIC, [(0, 0, -1, partition.shown if which == -1 else 0)])])
        assert isinstance(request, FetchRequest)
        ((_partition, position, _size),) = request._topics[0][1]
        if not 0 <= position <= partition.end:
            found: tuple[object, ...] = (0, 1, -1, -1, -1, [], -1, b"")
        else:
            wanted = [batch for first, count, batch in partition.stored if position < first + count <= partition.shown]
            data = b"".join(wanted[: rng.randrange(1, 4)])
            found = (0, 0, partition.shown, partition.shown, 0, [], -1, data)
        return SimpleNamespace(API_VERSION=11, error_code=0, topics=[(TOPIC, [found])])

    def _produce(self, request: ProduceRequest, bad: bool) -> Any:
        partition, rng = self.partition, self.partition.rng
        batch = bytes(request._topics[0][1][0][1])
        if bad:
            fate = rng.randrange(4)
            if fate == 0:
                partition.late.append(lambda: partition.append(batch))
            elif fate == 1:
                partition.append(batch)  # NotEnoughReplicasAfterAppend, or a timeout behind it
            elif fate == 2:
                partition.append(batch)
                partition.commit()  # durable, and the answer lost
            raise NoAnswer("lost")
        first = partition.append(batch)
        partition.commit()
        said = -1 if rng.random() < self.trouble / 4 else first  # DuplicateSequenceNumber says no position
        if said >= 0:
            partition.acknowledged = max(partition.acknowledged, partition.end)
        return SimpleNamespace(topics=[(TOPIC, [(0, 0, said, -1, 0, [], None)])])

    async def cluster(self) -> Cluster:
        return Cluster({}, -1, 1, 1, (1,), (1,))

    def forget_leader(self) -> None:
        pass

    leave_leader = forget_leader

    def refused(self, code: int) -> NoAnswer:
        return NoAnswer(describe(errors.for_code(code)()))

    async def close(self) -> None:
        pass


class SimulatedStandIn:
    """Stands where a `StandIn` does, without a thread: its answers come at once, or when the loop turns."""

    def __init__(self, link: SimulatedLink) -> None:
        self.link = link
        self.sent = 0

    def send(self, request: ProduceRequest) -> Future[int]:
        self.sent += 1
        answer: Future[int] = Future()
        answer.set_running_or_notify_cancel()
        if self.link.partition.rng.random() < self.link.trouble:
            asyncio.get_running_loop().call_soon(self._answer, request, answer)
        else:
            self._answer(request, answer)
        return answer

    def _answer(self, request: ProduceRequest, answer: Future[int]) -> None:
        step = append_once(cast(Link, self.link), request)
        try:
            while True:
                step.send(None)
        except StopIteration as end:
            answer.set_result(end.value)
        except NoAnswer as error:
            answer.set_exception(error)

    def close(self) -> None:
        pass
