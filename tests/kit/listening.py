"""Several connections to a real redis-server and to an engine, comparing all that each of them is sent, in order.

    with Listening(redis_server, resp3=[True, False]) as both:
        both.step(0, "SUBSCRIBE", "c")
        both.step(1, "PUBLISH", "c", "hi")      # compares what both connections have got by now

After a step every connection sends a PING with a marker, and what came before its answer belongs to the step. `@2` in
an argument is the id of connection 2. Where keys expire, give it `still_redis`: what a cycle of expiry sends between
two steps would belong to the wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import TracebackType

from eventdb.engine.client import IN_MULTI
from tests.kit.differential import Address, Arg, Wire
from tests.kit.harness import Local

MARKER = "the-end-of-this-step"
IDS = re.compile(rb"((?:broken|redirect|\$2\r\nid)\r\n):\d+")
Normal = Callable[[bytes], bytes]


class Listening:
    """Use it in a `with`. `normal` is applied to both sides before they are compared."""

    def __init__(self, address: Address, resp3: Sequence[bool], normal: Normal | None = None) -> None:
        self.local = Local()
        self.normal = normal
        self.wires = [Wire(address) for _ in resp3]
        self.clients = [self.local.connect() for _ in resp3]
        self.compared = set(range(len(resp3)))  # connections of which both sides are compared
        self.waiting: set[int] = set()  # connections that are blocked
        self.history: list[str] = []
        self.ids = [int(wire.call("CLIENT", "ID")[1:]) for wire in self.wires]
        self.wires[0].call("FLUSHALL")
        self.wires[0].call("CONFIG", "SET", "notify-keyspace-events", "")
        for wire, client, three in zip(self.wires, self.clients, resp3, strict=True):
            if three:
                wire.call("HELLO", 3)
                self.local.raw("HELLO", 3, client=client)

    def __enter__(self) -> Listening:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for wire in self.wires:
            wire.close()

    def _args(self, argv: Sequence[Arg], ids: list[int]) -> list[Arg]:
        return [ids[int(arg[1:])] if isinstance(arg, str) and re.fullmatch("@[0-9]", arg) else arg for arg in argv]

    def step(self, number: int, *argv: Arg, frees: Sequence[int] = (), blocks: bool = False) -> list[bytes]:
        """Run a command on connection `number`; returns what each connection got, which is the same on both sides.

        blocks: it blocks its connection, until a later step says that it `frees` it.
        """
        self.history.append(f"{number}: {argv}")
        self.waiting -= set(frees)
        if blocks:
            self.waiting.add(number)
        ours = self._ours(number, argv)
        theirs = self._theirs(number, argv)
        for i, (a, b) in enumerate(zip(theirs, ours, strict=True)):
            assert b == a or i not in self.compared, "\n".join(
                [*self.history, f"connection {i}", f"redis   {a!r}", f"eventdb {b!r}"]
            )
        return ours

    def _queues(self, number: int) -> bool:
        """It is in a MULTI, where a PING would be queued: what others send it is looked at after that."""
        return self.clients[number].gate & IN_MULTI != 0

    def _theirs(self, number: int, argv: Sequence[Arg]) -> list[bytes]:
        self.wires[number].send(*self._args(argv, self.ids))
        found = [b""] * len(self.wires)
        while number not in self.waiting:  # before the marker is sent: Redis broadcasts between two turns of its loop
            found[number] += (reply := self.wires[number].reply())
            if reply[:1] != b">" or b"subscribe\r\n" in reply[:30]:
                break
        order = [number, *[i for i in range(len(self.wires)) if i != number]]
        for i in order:
            if i in self.waiting:
                continue
            if self._queues(i):
                continue
            self.wires[i].send("PING", MARKER)
            while not (reply := self.wires[i].reply()).endswith(b"\r\n%b\r\n" % MARKER.encode()):
                found[i] += reply
            found[i] += reply
        return [self._same(each) for each in found]

    def _ours(self, number: int, argv: Sequence[Arg]) -> list[bytes]:
        ids = [client.id for client in self.clients]
        found = [b""] * len(self.clients)
        found[number] += self.local.raw(*self._args(argv, ids), client=self.clients[number])
        if self.clients[number].blocked is not None and number not in self.waiting:  # its time is up in a moment
            for _, action in self.local.timers:
                action()
            self.local.turn()
            found[number] += self.local.take(self.clients[number])
        self.local.timers.clear()
        order = [number, *[i for i in range(len(self.wires)) if i != number]]
        for i in order:
            if i in self.waiting or self._queues(i):
                continue
            found[i] += self.local.take(self.clients[i])
            found[i] += self.local.raw("PING", MARKER, client=self.clients[i])
        return [self._same(each) for each in found]

    def _same(self, data: bytes) -> bytes:
        data = IDS.sub(rb"\1:ID", data)
        return self.normal(data) if self.normal is not None else data
