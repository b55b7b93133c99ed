"""A simulated Kafka partition of three copies, and the link by which eventdb's Kafka backend asks it.

What the backend's own code sends and reads are Kafka's real record batches. Simulated is what brokers do with them
(Kafka's documentation on replication; KIP-98 for idempotent producers; KIP-101 for what a new leader cuts off):

* a batch is appended by the leader, has its place at once, and is acknowledged when all copies in sync have it, which
  have to be two at least; a copy whose broker is gone stays in sync for a while, and holds everything up;
* when the leader alone is left in sync, a broker before 3.7 shows what it has all the same, and answers
  NOT_ENOUGH_REPLICAS_AFTER_APPEND; from 3.7 on it shows nothing more (KAFKA-15583);
* a leader that is lost may take what was not shown with it; the next one, from among those in sync, is there after a
  while;
* a leader that was replaced and does not know it takes batches that come to nothing, and shows an older end;
* a request whose connection is given up may still arrive; a batch sent again is answered with the place it has.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

from eventdb.backends.kafka import KafkaLog
from eventdb.backends.kafka import link as links
from eventdb.backends.kafka.address import Address
from eventdb.backends.kafka.stand_in import append_once
from eventdb.backends.kafka.topic import LIMIT, Topic
from eventdb.backends.log import Unavailable
from tests.simulation.threads import Waiter
from tests.simulation.world import Process, World

URL = "kafka://b0:9092,b1:9092,b2:9092/log"
TOPIC = "log"
COPIES = 3
KEPT = 5  # batches of a producer that a broker remembers
NOT_LEADER, TIMED_OUT, NOT_ENOUGH, NOT_ENOUGH_AFTER = 6, 7, 19, 20
OUT_OF_ORDER, OUT_OF_RANGE, NO_COORDINATOR = 45, 1, 15
_PRODUCER = struct.Struct(">qhii")  # id, epoch, base sequence, count: at byte 43 of a batch (KIP-98)

Answer = Callable[[Any], None]


@dataclass(slots=True, eq=False)
class Stored:
    base: int
    count: int
    producer: int
    sequence: int
    data: bytes

    @property
    def end(self) -> int:
        return self.base + self.count


class Partition:
    def __init__(self, world: World, *, old: bool = False) -> None:
        """`old`: brokers before 3.7."""
        self.world = world
        self.old = old
        self.log: list[Stored] = []
        self.high_watermark = 0
        self.copied = 0  # the end of what two copies have
        self.leader = 0  # -1: none now
        self.up = [True] * COPIES
        self.in_sync = set(range(COPIES))
        self.losses = [0] * COPIES
        self.replaced: dict[int, tuple[int, float]] = {}  # leaders of before: (end they show, until when)
        self.slow = 0.0
        self.lost_answers = 0.0
        self.cut: set[str] = set()  # names of processes that reach no broker
        self.stood_in = 0  # batches sent by writers' stand-ins
        self._producers = 0
        self._waiting: list[tuple[int, Callable[[], None]]] = []  # (position, called once it is shown)

    @property
    def end(self) -> int:
        return self.log[-1].end if self.log else 0

    def delay(self) -> float:
        rng = self.world.rng
        return 0.0002 + rng.random() * 0.001 + (self.slow * rng.random() if self.slow else 0.0)

    # -- what a leader does

    def handle(self, broker: int, request: object, answer: Answer) -> None:
        if not self.up[broker]:
            return  # nobody hears it
        if isinstance(request, ProduceRequest):
            self._produce(broker, request, answer)
        elif isinstance(request, FetchRequest):
            self._fetch(broker, request, answer)
        elif isinstance(request, OffsetRequest):
            code, first, end = self._shown(broker)
            which = request._topics[0][1][0][1]
            answer(_answer((0, code, -1, end if which == -1 else first)))
        elif isinstance(request, InitProducerIdRequest):
            self._producers += 1
            code = NO_COORDINATOR if not all(self.up) and self.world.rng.random() < 0.3 else 0
            answer(SimpleNamespace(error_code=code, producer_id=self._producers, producer_epoch=0))
        else:
            raise AssertionError(request)

    def _shown(self, broker: int) -> tuple[int, int, int]:
        """(error code, first position, end) as this broker sees it."""
        if broker == self.leader:
            return 0, 0, self.high_watermark
        known = self.replaced.get(broker)
        if known is not None and self.world.now < known[1]:
            return 0, 0, min(known[0], self.high_watermark)
        return NOT_LEADER, 0, 0

    def _produce(self, broker: int, request: ProduceRequest, answer: Answer) -> None:
        code, _first, _end = self._shown(broker)
        if code or broker != self.leader:
            if code:
                answer(_answer((0, code, -1)))
            return  # it takes it, waits for copies that do not follow it any more, and forgets it
        if len(self.in_sync) < 2:
            answer(_answer((0, NOT_ENOUGH, -1)))
            return
        data = request._topics[0][1][0][1]
        producer, _epoch, sequence, count = _PRODUCER.unpack_from(data, 43)
        if producer >= 0:
            before = [stored for stored in self.log if stored.producer == producer]
            for stored in before[-KEPT:]:
                if stored.sequence == sequence:
                    self._acknowledge(broker, stored, answer)
                    return
            if sequence != (before[-1].sequence + before[-1].count if before else 0):
                answer(_answer((0, OUT_OF_ORDER, -1)))
                return
        stored = Stored(self.end, count, producer, sequence, b"")
        stored.data = struct.pack(">q", stored.base) + data[8:]  # the checksum does not cover the place
        self.log.append(stored)
        self.world.after(self.delay(), self._copied, stored)
        if request.required_acks == 1:
            answer(_answer((0, 0, stored.base)))
        else:
            self._acknowledge(broker, stored, answer)

    def _copied(self, stored: Stored) -> None:
        """Whoever is in sync has it, if none of them is gone."""
        if stored not in self.log or self.leader < 0 or not all(self.up[broker] for broker in self.in_sync):
            return
        if len(self.in_sync) > 1:
            self.copied = max(self.copied, stored.end)
        elif not self.old:
            return
        self.high_watermark = max(self.high_watermark, stored.end)
        waiting, self._waiting = self._waiting, []
        for position, action in waiting:
            if position < self.high_watermark:
                action()
            else:
                self._waiting.append((position, action))

    def _copy(self) -> None:
        """All that the leader has is on its way to the others."""
        if self.log:
            self.world.after(self.delay(), self._copied, self.log[-1])

    def _acknowledge(self, broker: int, stored: Stored, answer: Answer) -> None:
        rng = self.world.rng
        if rng.random() < self.lost_answers:
            if rng.random() < 0.5:
                answer(_answer((0, rng.choice((TIMED_OUT, NOT_ENOUGH_AFTER)), -1)))
            return

        def durable() -> None:
            if self.leader == broker and stored in self.log:
                enough = len(self.in_sync) > 1
                answer(_answer((0, 0, stored.base) if enough else (0, NOT_ENOUGH_AFTER, -1)))

        if stored.end <= self.high_watermark:
            durable()
        else:
            self._waiting.append((stored.end - 1, durable))

    def _fetch(self, broker: int, request: FetchRequest, answer: Answer) -> None:
        position = request._topics[0][1][0][1]
        code, _first, end = self._shown(broker)
        if not code and position > end:
            code = OUT_OF_RANGE
        if code or position < end:
            data = self._between(position, end) if not code else b""
            answer(_answer((0, code, end, data)))
            return
        done = False

        def tell() -> None:
            nonlocal done
            if not done:
                done = True
                now = self._shown(broker)
                answer(_answer((0, now[0], now[2], self._between(position, now[2]))))

        self._waiting.append((position, tell))
        self.world.after(request._max_wait_ms / 1000, tell)

    def _between(self, position: int, end: int) -> bytes:
        """The batches that end after `position`, and not after `end`."""
        found: list[bytes] = []
        for stored in reversed(self.log):
            if stored.end <= position:
                break
            if stored.end <= end:
                found.append(stored.data)
        return b"".join(reversed(found))

    # -- what happens to brokers

    def lose(self, broker: int) -> None:
        """A follower's process is gone. The leader waits for it for a while."""
        self.up[broker] = False
        self.losses[broker] += 1
        self.world.after(0.02 + 0.3 * self.world.rng.random(), self._give_up, broker, self.losses[broker])

    def _give_up(self, broker: int, loss: int) -> None:
        if self.leader < 0:
            self.world.after(0.05, self._give_up, broker, loss)
        elif loss == self.losses[broker] and not self.up[broker] and broker != self.leader:
            self.in_sync.discard(broker)
            self._copy()

    def lose_leader(self, *, replaced: bool) -> None:
        """Nobody leads from here on. `replaced`: the leader lives and does not know it; else its process is gone."""
        rng = self.world.rng
        old = self.leader
        if old < 0:
            return
        if replaced:
            self.replaced[old] = (self.high_watermark, self.world.now + 0.2 + 3 * rng.random())
        else:
            self.up[old] = False
        self.leader = -1
        if len(self.in_sync) > 1:
            self.in_sync.discard(old)
        behind = [stored for stored in self.log if stored.end > self.high_watermark]
        lost = rng.randint(0, len(behind))
        if lost:
            del self.log[-lost:]

    def elect(self) -> None:
        """Somebody who is in sync leads: he has all that was ever shown."""
        candidates = [broker for broker in sorted(self.in_sync) if self.up[broker]]
        if self.leader < 0 and candidates and sum(self.up) >= 2:
            fresh = [broker for broker in candidates if broker not in self.replaced]
            self.leader = self.world.rng.choice(fresh or candidates)
            self.replaced.pop(self.leader, None)
            for broker in range(COPIES):
                if self.up[broker]:
                    self.world.after(self.delay(), self._join, broker)
            self._copy()

    def start(self, broker: int) -> None:
        self.up[broker] = True
        self.replaced.pop(broker, None)
        self.elect()
        self.world.after(self.delay(), self._join, broker)

    def _join(self, broker: int) -> None:
        """It has caught up with what the leader shows, and is in sync."""
        if self.leader >= 0 and self.up[broker] and broker not in self.replaced:
            self.in_sync.add(broker)
            if self.up[self.leader] and len(self.in_sync) > 1:
                self.copied = max(self.copied, self.high_watermark)
            self._copy()

    def heal(self) -> None:
        self.slow = self.lost_answers = 0.0
        self.cut.clear()
        self.replaced.clear()
        for broker in range(COPIES):
            self.start(broker)


def _answer(*found: Any) -> SimpleNamespace:
    return SimpleNamespace(API_VERSION=4, topics=[(TOPIC, list(found))])


class SimLink(links.Link):
    """Asks the simulated brokers; what the real one does on sockets and its metadata requests is replaced."""

    def __init__(self, address: Address, process: Process, partition: Partition) -> None:
        super().__init__(address)
        self._process = process
        self._partition = partition
        self._asked: asyncio.Future[Any] | None = None

    async def ask(self, place: tuple[str, int], request: object, seconds: float = links.ASK_S) -> Any:
        raise links.NoAnswer("nothing else is simulated")

    async def cluster(self) -> links.Cluster:
        partition = self._partition
        await asyncio.sleep(partition.delay())
        if self._process.name in partition.cut:
            await asyncio.sleep(links.CONNECT_S)
            raise links.NoAnswer("no broker can be reached")
        return cluster_of(partition)

    async def ask_leader(self, request: object, seconds: float = links.ASK_S) -> Any:
        partition, world = self._partition, self._process.world
        if self._leader is None:
            found = await self.cluster()
            self._leader = found.brokers.get(found.leader)
            if self._leader is None:
                raise links.NoAnswer("there is no leader now")
        future = self._asked = asyncio.get_running_loop().create_future()

        def answer(found: object) -> None:
            world.after(partition.delay(), self._arrive, future, found, process=self._process)

        self._depart(self._leader.id, request, answer, future)
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            self.forget_leader()
            raise links.NoAnswer("it does not answer") from None
        except links.NoAnswer:
            self.forget_leader()
            raise

    def _depart(self, broker: int, request: object, answer: Answer, future: asyncio.Future[Any]) -> None:
        partition, world = self._partition, self._process.world

        def there() -> None:
            if self._process.name in partition.cut:
                world.after(0.01 + world.rng.random() * 0.03, there)  # the kernel sends it again
            elif not future.done() or world.rng.random() < 0.5:  # a connection given up loses some of what it held
                partition.handle(broker, request, answer)

        world.after(partition.delay(), there)

    def _arrive(self, future: asyncio.Future[Any], found: object) -> None:
        if self._process.name in self._partition.cut:
            self._process.world.after(0.02, self._arrive, future, found, process=self._process)
        elif not future.done():
            future.set_result(found)

    def leave_leader(self) -> None:
        self.forget_leader()
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(links.NoAnswer("the connection was given up"))

    async def close(self) -> None:
        self._closed = True


class SimStandIn:
    """Stands where a `StandIn` does: what runs in its thread's loop is the real code, over the simulated partition."""

    def __init__(self, process: Process, partition: Partition, make_link: Callable[[], links.Link]) -> None:
        self._beside = process.loop_beside()
        self._link = SimLink(make_link().address, self._beside, partition)
        self._partition = partition
        self._tasks: list[asyncio.Task[None]] = []

    def send(self, request: ProduceRequest) -> Future[int]:
        answer: Future[int] = Future()
        self._partition.stood_in += 1
        task = self._beside.spawn(self._send(request, answer))
        self._tasks = [*(task for task in self._tasks if not task.done()), task]
        return answer

    async def _send(self, request: ProduceRequest, answer: Future[int]) -> None:
        try:
            position = await append_once(self._link, request)
        except (links.NoAnswer, Unavailable) as error:
            answer.set_exception(error)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        else:
            answer.set_result(position)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


def wait(process: Process, answers: Collection[Future[int]], seconds: float) -> None:
    """In place of `concurrent.futures.wait`, for one answer, in a simulated thread."""
    (answer,) = answers
    if not answer.done():
        waiter = Waiter(process)
        answer.add_done_callback(lambda _answer: waiter.fire())
        waiter.wait(seconds)


def cluster_of(partition: Partition) -> links.Cluster:
    brokers = {broker: links.Broker(broker, f"b{broker}", 9092, f"rack-{broker}") for broker in range(COPIES)}
    return links.Cluster(brokers, 0, 1, partition.leader, tuple(range(COPIES)), tuple(sorted(partition.in_sync)))


class SimKafkaLog(KafkaLog):
    """The real log over the simulated partition."""

    def __init__(self, process: Process, partition: Partition, payload_bytes: int) -> None:
        super().__init__(URL, payload_bytes_max=payload_bytes)
        self._process = process
        self._partition = partition

    def _link(self) -> SimLink:
        link = SimLink(self._address, self._process, self._partition)
        self._links.add(link)
        return link


async def ensure(link: SimLink) -> Topic:
    """In place of `topic.ensure`: the topic is there, and as it should be."""
    return Topic(await links.persist(link.cluster, 10.0, "the topic"), {LIMIT: str(1 << 20)})
