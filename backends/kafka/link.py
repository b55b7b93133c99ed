"""Asking brokers: connections, the leader of the partition, deadlines. Answers come, or `NoAnswer` is raised.

aiokafka's connections and protocol classes carry the bytes. Its producer and consumer are not used: they retry inside
for as long as they like, and a backend that must know the fate of every send has to see each answer and set each
deadline itself. Nothing here creates a topic by asking for it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest

from eventdb.backends.kafka.address import Address
from eventdb.backends.log import Unavailable
from eventdb.backends.resolver import known

PARTITION: Final = 0
ASK_S: Final = 2.0  # for an answer that takes a broker no time
CONNECT_S: Final = 2.0
HEDGE_S: Final = 0.15  # after this the next broker is asked too
PAUSE_S_MIN: Final = 0.02
PAUSE_S_MAX: Final = 0.25
IDLE_MS_MAX: Final = 300_000
# The broker asked does not lead (any more), or the partition has no leader now: ask again which broker does.
MOVED: Final = frozenset({3, 5, 6, 9, 13, 56, 74, 75, 76})

DENIED: Final = (
    errors.AuthenticationFailedError, errors.SaslAuthenticationFailed, errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)  # fmt: skip

Result = TypeVar("Result")


class _OnlyErrors(logging.Filter):
    """At DEBUG aiokafka logs whole requests: our records, and the password when it logs in."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR


logging.getLogger("aiokafka.conn").addFilter(_OnlyErrors())


class NoAnswer(Exception):  # noqa: N818 - named as the errors of log.py are
    """No answer that could be used: connection lost, deadline passed, or an error that may go away. Says which."""


@dataclass(frozen=True, slots=True)
class Broker:
    id: int
    host: str
    port: int
    rack: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """What one broker knows; another may know newer."""

    brokers: dict[int, Broker]
    controller: int
    partitions: int  # of the topic; 0 when there is no such topic
    leader: int  # broker id, -1 for none
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    cluster_id: str = ""


class Link:
    """Connections to the brokers of one log. For one task at a time, in one event loop."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._connections: dict[tuple[str, int], AIOKafkaConnection] = {}
        self._locks: dict[tuple[str, int], asyncio.Lock] = {}
        self._known: tuple[tuple[str, int], ...] = address.brokers
        self._leader: Broker | None = None
        self._failed: tuple[str, int] | None = None  # asked last about others, as long as another answers
        self._closed = False

    # -- one broker -----------------------------------------------------------------------------------------

    async def ask(self, place: tuple[str, int], request: object, seconds: float = ASK_S) -> Any:
        """Send one request to one broker; returns aiokafka's response object. Raises NoAnswer."""
        where = f"{place[0]}:{place[1]}"
        try:
            async with asyncio.timeout(CONNECT_S):
                connection = await self._connect(place)
            try:
                async with asyncio.timeout(seconds):
                    return await connection.send(request)
            except BaseException:
                # What was asked may still be answered; the next answer on this connection must not be taken for it.
                self._drop(place)
                raise
        except TimeoutError:
            raise NoAnswer(f"{where} does not answer") from None
        except DENIED as error:
            raise Unavailable(f"{where} does not let us in: {error}") from None
        except ssl.SSLCertVerificationError as error:
            raise Unavailable(f"{where}: its certificate cannot be trusted: {error.verify_message}") from None
        except errors.IncompatibleBrokerVersion as error:
            raise Unavailable(f"{where}: {error}") from None
        except (OSError, errors.KafkaError) as error:
            raise NoAnswer(f"{where}: {describe(error)}") from None

    async def _connect(self, place: tuple[str, int]) -> AIOKafkaConnection:
        async with self._locks.setdefault(place, asyncio.Lock()):
            connection = self._connections.get(place)
            if connection is not None and connection.connected():
                return connection
            if self._closed:
                raise errors.KafkaConnectionError("closed")
            security = self.address.security()
            connection = AIOKafkaConnection(
                *place, client_id="eventdb", request_timeout_ms=60_000, max_idle_ms=IDLE_MS_MAX, **security
            )
            await known(place[0])
            try:
                await connection.connect()
            except errors.KafkaConnectionError as error:
                if "ssl_context" in security:  # a broker may only refuse once TLS is established
                    raise errors.KafkaConnectionError(f"{error}; does it want another certificate of ours?") from None
                raise
            self._connections[place] = connection
            return connection

    def _drop(self, place: tuple[str, int]) -> None:
        connection = self._connections.pop(place, None)
        if connection is not None:
            connection.close()

    # -- the cluster ----------------------------------------------------------------------------------------

    async def cluster(self) -> Cluster:
        """Ask which brokers there are and which leads: one broker after the other, waiting for none. NoAnswer."""
        places = list(dict.fromkeys((*self._known, *self.address.brokers)))
        places.sort(key=lambda place: (place == self._failed, place not in self._connections))
        tasks: set[asyncio.Task[Cluster]] = set()
        reasons: list[str] = []
        try:
            while places or tasks:
                if places:
                    tasks.add(asyncio.create_task(self._cluster_of(places.pop(0))))
                wait_s = HEDGE_S if places else None
                done, tasks = await asyncio.wait(tasks, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    error = task.exception()
                    if error is None:
                        return task.result()
                    if not isinstance(error, NoAnswer):
                        raise error
                    reasons.append(f"{error}")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        raise NoAnswer("; ".join(reasons))

    async def _cluster_of(self, place: tuple[str, int]) -> Cluster:
        topic = self.address.topic
        answer = await self.ask(place, MetadataRequest([topic], allow_auto_topic_creation=False))
        brokers = {number: Broker(number, host, port, rack or "") for number, host, port, rack in answer.brokers}
        if not brokers:
            raise NoAnswer(f"{place[0]}:{place[1]} knows no brokers yet")
        self._known = tuple((broker.host, broker.port) for broker in brokers.values())
        ((code, _topic, _internal, partitions),) = answer.topics
        named = str(getattr(answer, "cluster_id", None) or "")
        if code == errors.UnknownTopicOrPartitionError.errno:
            return Cluster(brokers, answer.controller_id, 0, -1, (), (), named)
        if code and code != errors.LeaderNotAvailableError.errno:
            raise Unavailable(f"topic {topic}: {describe(errors.for_code(code)())}")
        for _code, partition, leader, replicas, in_sync, _offline in partitions:
            if partition == PARTITION:
                copies = (tuple(replicas), tuple(in_sync))
                return Cluster(brokers, answer.controller_id, len(partitions), leader, *copies, named)
        raise NoAnswer(f"topic {topic} has no partition {PARTITION} yet")

    # -- the leader -----------------------------------------------------------------------------------------

    async def ask_leader(self, request: object, seconds: float = ASK_S) -> Any:
        """Send one request to the partition's leader. Raises NoAnswer; the next call looks for the leader again."""
        leader = self._leader
        if leader is None:
            cluster = await self.cluster()
            if cluster.partitions == 0:
                raise NoAnswer(f"there is no topic {self.address.topic}")
            leader = cluster.brokers.get(cluster.leader)
            if leader is None:
                raise NoAnswer(f"topic {self.address.topic} has no leader now")
            self._leader = leader
        try:
            return await self.ask((leader.host, leader.port), request, seconds)
        except NoAnswer:
            self.forget_leader()
            raise

    @property
    def leader_id(self) -> int:
        """The broker that `ask_leader` asks, -1 while it is looked for."""
        return self._leader.id if self._leader is not None else -1

    def forget_leader(self) -> None:
        if self._leader is not None:
            self._failed = (self._leader.host, self._leader.port)
            self._leader = None

    def leave_leader(self) -> None:
        """End what is being asked of the leader, as a broken connection would."""
        leader = self._leader
        self.forget_leader()
        if leader is not None:
            self._drop((leader.host, leader.port))

    def refused(self, code: int) -> NoAnswer:
        """The NoAnswer for an error code in an answer from the leader."""
        if code in MOVED:
            self.forget_leader()
        return NoAnswer(describe(errors.for_code(code)()))

    async def close(self) -> None:
        self._closed = True
        connections, self._connections = self._connections, {}
        closing = [connection.close() for connection in connections.values()]
        await asyncio.gather(*(future for future in closing if future is not None), return_exceptions=True)


def describe(error: BaseException) -> str:
    """One line for an error of aiokafka's, whose own texts repeat the class's docstring or are empty."""
    text = " ".join(f"{error}".split())
    return text or type(error).__name__


async def persist(step: Callable[[], Awaitable[Result]], seconds: float | None, what: str) -> Result:
    """Call `step` until it has an answer. After `seconds`, or if we are not let in, Unavailable; None: for ever."""
    deadline = None if seconds is None else time.monotonic() + seconds
    pause = PAUSE_S_MIN
    while True:
        try:
            return await step()
        except NoAnswer as error:
            if deadline is not None and time.monotonic() + pause > deadline:
                raise Unavailable(f"{what}: {error}") from None
        except Unavailable:
            if deadline is not None:
                raise
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, PAUSE_S_MAX)
