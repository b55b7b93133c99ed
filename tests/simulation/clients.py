"""Clients: they write and read at whichever node they believe to be the primary, and remember what they were told.

A client has one command (or MULTI block) on its way. When no answer comes in time it closes the connection, and never
knows what became of it: the bytes may still arrive. Then it tries again, perhaps elsewhere, with a new operation.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import hiredis

from eventdb.keyspace.events import encode_event
from tests.simulation.cluster import Cluster, Machine
from tests.simulation.linearizable import UNTOLD, Operation, Step

# What a node says when it has certainly not run a command.
NOT_RUN = ("READONLY", "LOADING", "MASTERDOWN", "EXECABORT", "MOVED", "CLUSTERDOWN")
UNKNOWN = ("UNKNOWN",)
STRINGS = (b"s0", b"s1")
COUNTERS = (b"c0",)


@dataclass(slots=True)
class ReplicaRead:
    """What a replica answered: a key's value and the offset it claims to have."""

    connection: str  # of one client to one process of a replica
    key: bytes
    value: bytes | None
    offset: int


@dataclass(slots=True)
class ClientHistory:
    operations: list[Operation] = field(default_factory=list)
    replica_reads: list[ReplicaRead] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    answered: int = 0
    refused: int = 0
    unknown: int = 0


class Wire(asyncio.Protocol):
    """One connection; `ask` sends a pipeline and waits for as many replies."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader()
        self._replies: list[object] = []
        self._wanted = 0
        self._done: asyncio.Future[list[object]] | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self._replies.append(reply)
        done = self._done
        if done is not None and not done.done() and len(self._replies) >= self._wanted:
            done.set_result(self._replies)

    def connection_lost(self, failure: Exception | None) -> None:
        self.closed = True
        if self._done is not None and not self._done.done():
            self._done.set_exception(failure or ConnectionResetError("closed"))

    async def ask(self, commands: list[list[bytes]], seconds: float) -> list[object]:
        """Raises TimeoutError, ConnectionError."""
        assert self._transport is not None
        self._replies = []
        self._wanted = len(commands)
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(b"".join(encode_event(command) for command in commands))
        return await asyncio.wait_for(self._done, seconds)

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort() if self._done is not None and not self._done.done() else self._transport.close()


class Client:
    """One client. `reads`: the share of its steps that only read."""

    def __init__(
        self, cluster: Cluster, history: ClientHistory, number: int, rng: random.Random, pace_s: float, reads: float
    ) -> None:
        self.cluster = cluster
        self.history = history
        self.name = f"u{number}"
        self.rng = rng
        self.pace_s = pace_s
        self.reads = reads
        self.process = cluster.visitor(self.name)
        self.believed = cluster.machines[0]
        self.wire: Wire | None = None
        self.count = 0
        self.stopping = False

    def start(self, *, replicas: bool = False) -> asyncio.Task[None]:
        return self.process.spawn(self._read_replicas() if replicas else self._run())

    async def _connected(self, machine: Machine) -> Wire:
        if self.wire is None or self.wire.closed:
            loop = asyncio.get_running_loop()
            connecting = loop.create_connection(Wire, machine.host, machine.port)
            _transport, self.wire = await asyncio.wait_for(connecting, 0.3)
        assert self.wire is not None
        return self.wire

    def _leave(self) -> None:
        if self.wire is not None:
            self.wire.close()
            self.wire = None

    def _turn(self) -> None:
        """Believe in another node."""
        self._leave()
        machines = self.cluster.machines
        self.believed = machines[(machines.index(self.believed) + 1) % len(machines)]

    async def _run(self) -> None:
        while not self.stopping:
            await asyncio.sleep(self.rng.expovariate(1 / self.pace_s))
            if not await self._one():
                await asyncio.sleep(self.rng.uniform(0.0, 0.03))

    # -- at the primary

    def _token(self) -> bytes:
        """One in 20 is large, so that some records are cut into fragments."""
        self.count += 1
        large = self.rng.randbytes(self.rng.randint(200, 700)).hex() if self.rng.random() < 0.05 else ""
        return f"{self.name}.{self.count}{large};".encode()

    def _step(self, key: bytes) -> Step:
        if self.rng.random() < self.reads:
            return ("get", b"")
        if key in COUNTERS:
            return ("incr", b"")
        if self.rng.random() < 0.4:
            return ("set", self._token())
        return ("append", self._token())

    async def _one(self) -> bool:
        """One operation at the believed primary; False when it was not run."""
        rng = self.rng
        block = rng.random()
        several = b""  # the command that has several keys
        if self.reads < 1 and rng.random() < 0.15:
            several = rng.choice((b"MSET", b"MSET", b"DEL", b"UNLINK"))
            keys = rng.sample(STRINGS, 2)
            plan: dict[bytes, tuple[tuple[str, bytes], ...]] = {
                key: (("set", self._token()) if several == b"MSET" else ("del", b""),) for key in keys
            }
        elif block < 0.8:
            key = rng.choice(STRINGS + COUNTERS)
            plan = {key: (self._step(key),)}
        else:
            keys = rng.sample(STRINGS + COUNTERS, rng.choice((1, 2)))
            plan = {key: tuple(self._step(key) for _ in range(rng.choice((1, 2)))) for key in keys}
        single = block < 0.6
        if several:
            words = [word for key, steps in plan.items() for word in (key, *(value for _name, value in steps if value))]
            commands = [[several, *words]]
        else:
            commands = [_command(key, step) for key, steps in plan.items() for step in steps]
        if not single:
            commands = [[b"MULTI"], [b"ROLE"], *commands, [b"EXEC"]]
        try:
            wire = await self._connected(self.believed)
        except (OSError, TimeoutError):
            self._turn()
            return False
        now = self.cluster.world
        called = now.now
        operations = [Operation(self.name, key, steps, called) for key, steps in plan.items()]
        history = self.history
        try:
            replies = await wire.ask(commands, rng.choice((0.05, 0.15, 0.6, 2.0, 4.0)))
        except (OSError, TimeoutError):
            history.operations.extend(operations)
            history.unknown += 1
            self._leave()
            if rng.random() < 0.5:
                self._turn()
            return False
        return self._answered(operations, replies, single)

    def _answered(self, operations: list[Operation], replies: list[object], single: bool) -> bool:
        history = self.history
        last = replies[-1]
        if isinstance(last, hiredis.ReplyError):
            text = str(last)
            self.cluster.world.feed(text)
            if text.startswith(NOT_RUN):
                history.refused += 1
                self._turn()
                return False
            history.unknown += 1
            if not text.startswith(UNKNOWN):
                history.wrong.append(f"an error nobody expects: {text}")
            history.operations.extend(operations)
            return False
        results: list[object] = [last] if single else list(last)  # type: ignore[call-overload]
        if not single:
            role = results.pop(0)
            if role[0] != b"master":  # type: ignore[index]
                self._turn()
                return False
        for result in results:
            if isinstance(result, hiredis.ReplyError):
                history.wrong.append(f"an error nobody expects: {result}")
                return False
        if len(operations) > len(results):  # one command of several keys has one result
            results = [result if operations[0].steps[0][0] == "set" else UNTOLD for result in results * len(operations)]
        for operation in operations:
            count = len(operation.steps)
            operation.results = tuple(results[:count])
            del results[:count]
            operation.returned = self.cluster.world.now
            self.cluster.world.feed(str(operation))
        history.operations.extend(operations)
        history.answered += 1
        return True

    # -- at the replicas

    async def _read_replicas(self) -> None:
        """Read at any node, one at a time for a while, with the offset it states."""
        rng = self.rng
        while not self.stopping:
            await asyncio.sleep(rng.expovariate(1 / self.pace_s))
            if rng.random() < 0.05:
                self._turn()
            machine = self.believed
            keys = list(STRINGS + COUNTERS)
            commands = [[b"MULTI"], [b"ROLE"], [b"EVENTDB.OFFSET"], *([b"GET", key] for key in keys), [b"EXEC"]]
            try:
                wire = await self._connected(machine)
                process = machine.process
                replies = await wire.ask(commands, 0.5)
            except (OSError, TimeoutError):
                self._turn()
                continue
            found = replies[-1]
            if not isinstance(found, list) or found[0][0] != b"slave" or process is None:
                continue
            for key, value in zip(keys, found[2:], strict=True):
                read = ReplicaRead(f"{self.name} at {machine.name}#{process.number}", key, value, found[1][1])
                self.history.replica_reads.append(read)


def _command(key: bytes, step: Step) -> list[bytes]:
    name, value = step
    if name == "get":
        return [b"GETEX", key]  # refused by a replica, so that the answer is a primary's; it changes nothing
    if name == "incr":
        return [b"INCR", key]
    return [name.upper().encode(), key, value]
