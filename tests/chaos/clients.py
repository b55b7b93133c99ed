"""redis-py clients, sync and asyncio, that write and read at the primary or at replicas, and keep what they were told.

Every command is sent once: redis-py's own retries are off, because a retried INCR whose first outcome is unknown counts
twice for the best of reasons. What a plan is and what an answer means is the same for both kinds of client; only the
sending differs. Times are `time.monotonic()` of this process, one clock for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import hiredis
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ExecAbortError, MasterDownError, ReadOnlyError, RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from tests.kit.wire import Wire, encode
from tests.simulation.linearizable import INFINITY, Operation, Step

Address = tuple[str, int]

# The server said so, in words that mean: it has not been run and never will be.
REFUSALS: Final = (
    ReadOnlyError, BusyLoadingError, MasterDownError, ExecAbortError, MasterNotFoundError, AsyncMasterNotFoundError,
)  # fmt: skip
DEMOTED: Final = "The previous master is now a slave"  # what redis-py makes of -READONLY on a Sentinel connection
NOT_CONNECTED: Final = ("Error 111 connecting", "Timeout connecting", "No route to host")
SERVICE: Final = "mymaster"  # the default of sentinel-service-name
TOKEN: Final = "{name:.<4}{count:06d};"  # of one width, so that a list's length is a string's length
TOKEN_BYTES: Final = 11
PACE_S: Final = 0.03  # between two commands of a client, on average
LOYAL_PACE_S: Final = 0.04
LOYAL_ASKED_MAX: Final = 200
KEYS: Final = (b"s0", b"s1", b"l0", b"l1", b"c0", b"c1")  # strings, lists, counters


@dataclass(slots=True)
class ReplicaRead:
    """What a replica answered at once: the offset it states, and the values of some keys."""

    connection: str  # one client's connection to one process
    offset: int
    values: dict[bytes, bytes | None]


@dataclass(slots=True)
class ClientHistory:
    """What all clients were told. Lists take appends from several threads."""

    operations: list[Operation] = field(default_factory=list)
    refused: list[Operation] = field(default_factory=list)  # certainly not run
    reads: list[ReplicaRead] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)  # by what they say
    generation: int = 0  # part of every key: a new one now and then keeps the history of one key short

    def keys(self) -> list[bytes]:
        return [b"g%d:%b" % (self.generation, key) for key in KEYS]

    def accepted(self) -> list[float]:
        """When writes were acknowledged, in order."""
        return sorted(
            one.returned
            for one in self.operations
            if one.returned < INFINITY and any(name != "get" for name, _value in one.steps)
        )


def kind_of(key: bytes) -> str:
    return key.rpartition(b":")[2][:1].decode()


def command_of(key: bytes, step: Step) -> tuple[bytes | str, ...]:
    """Reads are commands that a replica refuses, so that an answer is a primary's; they change nothing."""
    name, value = step
    if name == "get":
        return ("SORT", key, "BY", "nosort") if kind_of(key) == "l" else ("GETEX", key)
    if name == "incr":
        return ("INCR", key)
    if name == "append" and kind_of(key) == "l":
        return ("RPUSH", key, value)
    return (name.upper(), key, value)


def result_of(key: bytes, step: Step, told: Any) -> object:
    """A list counts as the string of its items, in the one model that the checker has."""
    if kind_of(key) != "l":
        return told
    if step[0] == "append":
        return told * TOKEN_BYTES
    return b"".join(told) or None


class Plan:
    """What a client does next: one command, or a MULTI block in which ROLE says who answers."""

    def __init__(self, name: str, rng: random.Random, keys: Sequence[bytes], count: int) -> None:
        self.block = rng.random() < 0.25
        self.steps: list[tuple[bytes, Step]] = []
        for key in rng.sample(list(keys), rng.choice((1, 2)) if self.block else 1):
            for _ in range(rng.choice((1, 2)) if self.block else 1):
                self.steps.append((key, self._step(kind_of(key), rng, TOKEN.format(name=name, count=count).encode())))
                count += 1
        self.count = count
        called = time.monotonic()
        self.operations = [
            Operation(name, key, tuple(step for other, step in self.steps if other == key), called)
            for key in dict.fromkeys(key for key, _step in self.steps)
        ]

    @staticmethod
    def _step(kind: str, rng: random.Random, token: bytes) -> Step:
        chance = rng.random()
        if chance < 0.35:
            return ("get", b"")
        if kind == "c":
            return ("incr", b"")
        return ("set", token) if kind == "s" and chance < 0.5 else ("append", token)

    @property
    def commands(self) -> list[tuple[bytes | str, ...]]:
        own = [command_of(key, step) for key, step in self.steps]
        return [("ROLE",), *own] if self.block else own

    def answered(self, told: list[Any], history: ClientHistory) -> bool:
        """Take down what each step was told; False when it was no primary that answered."""
        returned = time.monotonic()
        if self.block:
            role = told.pop(0)
            if role[0] != b"master":
                if any(step[0] != "get" for _key, step in self.steps):
                    history.wrong.append(f"a node that calls itself {role!r} took a write: {self.operations[0]}")
                return False
        for operation in self.operations:
            pairs = zip(self.steps, told, strict=True)
            operation.results = tuple(result_of(key, step, one) for (key, step), one in pairs if key == operation.key)
            operation.returned = returned
        history.operations.extend(self.operations)
        return True

    def failed(self, error: Exception, history: ClientHistory) -> None:
        """No answer, or an error: not run, or nobody knows."""
        text = str(error)
        history.errors[f"{type(error).__name__}: {text:.60}"] += 1
        if isinstance(error, REFUSALS) or DEMOTED in text or any(said in text for said in NOT_CONNECTED):
            history.refused.extend(self.operations)
            return
        history.operations.extend(self.operations)
        if isinstance(error, redis.exceptions.ResponseError) and "UNKNOWN" not in text:
            history.wrong.append(f"an error nobody expects: {text} to {self.operations[0]}")


class Client:
    """What both kinds have in common. `routes`: one route finds the primary by itself, several are tried in turn."""

    def __init__(self, name: str, history: ClientHistory, seed: int) -> None:
        self.label = name
        self.history = history
        self.rng = random.Random(seed)
        self.count = 0
        self.at = 0
        self.stopping = threading.Event()

    def plan(self) -> Plan:
        plan = Plan(self.label, self.rng, self.history.keys(), self.count)
        self.count = plan.count
        return plan

    def pause_s(self, *, well: bool) -> float:
        return self.rng.expovariate(1 / PACE_S) if well else self.rng.uniform(0.01, 0.05)


def plain(address: Address, timeout_s: float) -> redis.Redis:
    once = Retry(NoBackoff(), 0)
    found = redis.Redis(*address, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=once)
    found.response_callbacks.clear()
    return found


def by_sentinel(addresses: list[Address], timeout_s: float) -> redis.Redis:
    """Every node is a Sentinel on its own port."""
    options: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    make: Any = Sentinel
    sentinel = make(addresses, sentinel_kwargs={**options, "retry": Retry(NoBackoff(), 0)}, **options)
    found: redis.Redis = sentinel.master_for(SERVICE, retry=Retry(NoBackoff(), 0))
    found.response_callbacks.clear()
    return found


class SyncClient(Client, threading.Thread):
    """A thread with a synchronous client."""

    def __init__(self, name: str, history: ClientHistory, seed: int, routes: list[Any]) -> None:
        Client.__init__(self, name, history, seed)
        threading.Thread.__init__(self, name=name, daemon=True)
        self.routes = routes

    def run(self) -> None:
        while not self.stopping.is_set():
            self.stopping.wait(self.pause_s(well=self._one()))
        for route in self.routes:
            route.close()

    def _one(self) -> bool:
        plan = self.plan()
        route = self.routes[self.at]
        try:
            if plan.block:
                with route.pipeline(transaction=True) as pipe:
                    for command in plan.commands:
                        pipe.execute_command(*command)
                    told = pipe.execute()
            else:
                told = [route.execute_command(*plan.commands[0])]
            if plan.answered(told, self.history):
                return True
        except (RedisError, OSError) as error:
            plan.failed(error, self.history)
        except Exception as error:
            self.history.wrong.append(f"{self.label}: {error!r}")
        self.at = (self.at + 1) % len(self.routes)
        return False


class AsyncClient(Client):
    """A task with an asyncio client; `run` is its coroutine. Its routes belong to that loop."""

    def __init__(
        self, name: str, history: ClientHistory, seed: int, addresses: list[Address], timeout_s: float
    ) -> None:
        super().__init__(name, history, seed)
        self.addresses = addresses
        self.timeout_s = timeout_s
        self.sentinel = self.rng.random() < 0.5

    def _connect(self, stack: contextlib.AsyncExitStack) -> list[Any]:
        options: dict[str, Any] = {"socket_timeout": self.timeout_s, "socket_connect_timeout": self.timeout_s}
        once = AsyncRetry(NoBackoff(), 0)
        if self.sentinel:
            make: Any = AsyncSentinel
            sentinel = make(self.addresses, sentinel_kwargs={**options, "retry": once}, **options)
            for one in sentinel.sentinels:
                stack.push_async_callback(one.aclose)
            routes = [sentinel.master_for(SERVICE, retry=once)]
        else:
            routes = [redis.asyncio.Redis(host=host, port=port, retry=once, **options) for host, port in self.addresses]
        for route in routes:
            route.response_callbacks.clear()
            stack.push_async_callback(route.aclose)
        return routes

    async def run(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            routes = self._connect(stack)
            while not self.stopping.is_set():
                await asyncio.sleep(self.pause_s(well=await self._one(routes)))

    async def _one(self, routes: list[Any]) -> bool:
        plan = self.plan()
        route = routes[self.at]
        try:
            if plan.block:
                async with route.pipeline(transaction=True) as pipe:
                    for command in plan.commands:
                        pipe.execute_command(*command)
                    told = await pipe.execute()
            else:
                told = [await route.execute_command(*plan.commands[0])]
            if plan.answered(told, self.history):
                return True
        except (RedisError, OSError) as error:
            plan.failed(error, self.history)
        except Exception as error:
            self.history.wrong.append(f"{self.label}: {error!r}")
        self.at = (self.at + 1) % len(routes)
        return False


class Loyal(Client, threading.Thread):
    """Reads one key at one node only, and goes on asking over the same connection when no answer comes.

    So a stopped primary that wakes up finds questions of before and after its lease, and whether it may answer the late
    ones is what it has to look up first. One key, because answers wait behind one that waits for a write on its way.
    Reads alone: one that is never answered is forgotten.
    """

    def __init__(self, name: str, history: ClientHistory, seed: int, address: Address) -> None:
        Client.__init__(self, name, history, seed)
        threading.Thread.__init__(self, name=name, daemon=True)
        self.address = address

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                with Wire(self.address[1], 0.6) as wire:
                    wire.socket.settimeout(LOYAL_PACE_S)
                    self._ask_on(wire)
            except OSError:
                self.stopping.wait(0.05)

    def _ask_on(self, wire: Wire) -> None:
        asked: deque[Operation] = deque()
        step: Step = ("get", b"")
        generation = self.history.generation
        key = self.rng.choice(self.history.keys())
        while not self.stopping.is_set() and self.history.generation == generation:
            if len(asked) < LOYAL_ASKED_MAX:
                asked.append(Operation(self.label, key, (step,), time.monotonic()))
                wire.send(encode(*command_of(key, step)))
            due = time.monotonic() + LOYAL_PACE_S
            while time.monotonic() < due:
                try:
                    told = wire.receive()
                except TimeoutError:
                    break
                operation = asked.popleft()
                if not isinstance(told, hiredis.ReplyError):
                    operation.results = (result_of(operation.key, step, told),)
                    operation.returned = time.monotonic()
                    self.history.operations.append(operation)


class ReplicaReader(Client, threading.Thread):
    """Reads all keys at one node in one MULTI, with the offset it states; only what a replica says counts.

    Over a plain connection: redis-py's pool may reconnect unseen, and then reads may go back.
    """

    def __init__(self, name: str, history: ClientHistory, seed: int, address: Address) -> None:
        Client.__init__(self, name, history, seed)
        threading.Thread.__init__(self, name=name, daemon=True)
        self.address = address

    def run(self) -> None:
        connection = 0
        while not self.stopping.is_set():
            connection += 1
            try:
                with Wire(self.address[1], 0.6) as wire:
                    while not self.stopping.wait(2 * self.pause_s(well=True)):
                        self._read(wire, f"{self.label}#{connection}")
            except OSError:
                self.stopping.wait(0.05)

    def _read(self, wire: Wire, connection: str) -> None:
        keys = self.history.keys()
        reads = [("LRANGE", key, 0, -1) if kind_of(key) == "l" else ("GET", key) for key in keys]
        commands = [("MULTI",), ("ROLE",), ("EVENTDB.OFFSET",), *reads, ("EXEC",)]
        wire.send(*(encode(*command) for command in commands))
        found: Any = [wire.receive() for _ in commands][-1]
        if isinstance(found, list) and found[0][0] == b"slave":
            values: dict[bytes, Any] = {
                key: result_of(key, ("get", b""), value) for key, value in zip(keys, found[2:], strict=True)
            }
            self.history.reads.append(ReplicaRead(connection, int(found[1][1]), values))
