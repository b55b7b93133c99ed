"""Connections between processes: bytes arrive in order, late, or (across a partition) not before it is healed.

`Network` gives the loop's `create_server` and `create_connection`, so that the real server, the streams of asyncio and
whatever else uses them run over it unchanged. A process that dies resets its connections; one that is paused does not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.simulation.world import Process, World

DELAY_S = 0.0002
RETRY_S = 0.01  # between two looks whether a partition is healed


class Network:
    def __init__(self, world: World) -> None:
        self.world = world
        self.listening: dict[tuple[str, int], tuple[Process, Callable[[], asyncio.Protocol], Listener]] = {}
        self.cut: set[frozenset[str]] = set()  # names of two processes that do not reach each other
        self.slow = 0.0  # seconds on top, at most
        world.create_server = self.create_server  # type: ignore[method-assign, assignment]
        world.create_connection = self.create_connection  # type: ignore[method-assign, assignment]

    def delay(self) -> float:
        rng = self.world.rng
        late = self.slow * rng.random() if self.slow else 0.0
        return DELAY_S * (0.3 + rng.random()) + late

    def reaches(self, one: Process, other: Process) -> bool:
        return frozenset((one.name, other.name)) not in self.cut

    async def create_server(
        self, factory: Callable[[], asyncio.Protocol], host: str | list[str], port: int, **_options: Any
    ) -> Listener:
        """host: one, or several, each with that port, as of asyncio."""
        process = self.world.current
        assert process is not None
        places = [(each, port) for each in ([host] if isinstance(host, str) else host)]
        for place in places:
            if place in self.listening and not self.listening[place][0].dead:
                raise OSError(98, "Address already in use")
        listener = Listener(self, places)
        for place in places:
            self.listening[place] = (process, factory, listener)
        return listener

    async def create_connection(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, **_options: Any
    ) -> tuple[Transport, asyncio.Protocol]:
        process = self.world.current
        assert process is not None
        world = self.world
        await _sleep(world, process, self.delay())
        while True:
            found = self.listening.get((host, int(port)))
            if found is None or self.reaches(process, found[0]):
                break
            await _sleep(world, process, RETRY_S)  # its SYN is sent again and again
        if found is None or found[0].dead:
            raise ConnectionRefusedError(111, "Connection refused")
        server, server_factory, _listener = found
        near = Transport(self, process, f"{process.name}:1")
        far = Transport(self, server, f"{host}:{port}")
        near.peer, far.peer = far, near
        protocol = factory()
        near.protocol = protocol
        protocol.connection_made(near)
        world.after(self.delay(), far.accept, server_factory, process=server)
        return near, protocol


async def _sleep(world: World, process: Process, seconds: float) -> None:
    future = world.create_future()
    world.after(seconds, lambda: None if future.done() else future.set_result(None), process=process)
    await future


class Listener:
    """What `create_server` returns."""

    def __init__(self, network: Network, places: list[tuple[str, int]]) -> None:
        self._network = network
        self._places = places
        self.sockets = [self]

    def getsockname(self) -> tuple[str, int]:
        return self._places[0]

    def fileno(self) -> int:
        """None: no script runs here that would keep the loop from accepting (eventdb/server/meanwhile.py)."""
        return -1

    def close(self) -> None:
        for place in self._places:
            found = self._network.listening.get(place)
            if found is not None and found[2] is self:
                del self._network.listening[place]

    async def wait_closed(self) -> None:
        return None

    def is_serving(self) -> bool:
        return True


class Transport(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, network: Network, process: Process, name: str) -> None:
        super().__init__()
        self._network = network
        self._world = network.world
        self.process = process
        self.name = name
        self.peer: Transport
        self.protocol: Any = None
        self._closing = False
        self._lost = False
        self._paused = False
        self._inbox: deque[bytes | None] = deque()  # None: the other end will send no more
        self._clear_at = 0.0  # when all that was sent so far has arrived
        process.on_death.append(self._died)

    def accept(self, factory: Callable[[], asyncio.Protocol]) -> None:
        self.protocol = factory()
        self.protocol.connection_made(self)
        self._read()

    def _died(self) -> None:
        self._closing = self._lost = True
        self._world.after(self._network.delay(), self.peer.reset, self, process=self.peer.process)

    def reset(self, dead: Transport) -> None:
        """The other end's machine says that there is no such connection."""
        if not self._network.reaches(self.process, dead.process):
            self._world.after(RETRY_S * 5, self.reset, dead, process=self.process)
            return
        self._lose(ConnectionResetError(104, "Connection reset by peer"))

    # -- sending

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing and data:
            self._send(bytes(data))

    def _send(self, data: bytes | None) -> None:
        now = self._world.now
        self._clear_at = max(self._clear_at, now + self._network.delay()) + 1e-9
        self._world.at(self._clear_at, self.peer.arrive, data, process=self.peer.process)

    def arrive(self, data: bytes | None) -> None:
        """Bytes have come; across a partition they come when it is healed, in order."""
        if self._lost:
            return
        self._inbox.append(data)
        self._read()

    def _read(self) -> None:
        while self._inbox and self.protocol is not None and not self._paused and not self._lost:
            if not self._network.reaches(self.process, self.peer.process):
                self._world.after(RETRY_S, self._read, process=self.process)
                return
            data = self._inbox.popleft()
            if data is None:
                if not self.protocol.eof_received():
                    self.close()
                    self._lose(None)
            else:
                self.protocol.data_received(data)

    # -- the rest of a transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return (self.peer.name, 1)
        if name == "sockname":
            return (self.name, 1)
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._paused

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._world.call_soon(self._read)

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        if not self._closing:
            self._send(None)
            self._closing = True
            self._world.call_soon(self._lose, None)

    def abort(self) -> None:
        self._closing = True
        self._world.after(self._network.delay(), self.peer.reset, self, process=self.peer.process)
        self._world.call_soon(self._lose, None)

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            if self.protocol is not None:
                self.protocol.connection_lost(error)
