"""A TCP proxy on loopback that a test cuts: for everybody, or only for some processes.

It stands for the network between two programs that know nothing of it. A cut that hangs keeps what was sent until the
cut is mended, as a network that loses packets does; one that resets is a firewall that says no.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final

import psutil

HANG: Final = "hang"
RESET: Final = "reset"
WhoIsCut = Callable[[int, float], bool]  # of a connection: the port at its far end, and when it was accepted


class OwnedBy:
    """Picks the connections of these processes, as they are when asked. Looks again only for what is newer."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._look()

    def _look(self) -> None:
        self._looked = time.monotonic()
        self._ports: set[int] = set()
        for pid in self._pids:
            with contextlib.suppress(psutil.Error):
                self._ports |= {one.laddr.port for one in psutil.Process(pid).net_connections("tcp")}

    def __call__(self, port: int, opened: float) -> bool:
        if opened > self._looked:
            self._look()
        return port in self._ports


class Half(asyncio.Protocol):
    """One side of a proxied connection; what it receives goes out at `other`."""

    def __init__(self, proxy: Proxy, other: Half | None = None) -> None:
        self.proxy = proxy
        self.other = other
        self.transport: asyncio.Transport | None = None
        self.early: list[bytes] = []  # received before the other side was there
        self.opened = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.other is None:
            self.proxy.accepted(self)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)
        else:
            self.early.append(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None and self.proxy.flows(self, self.other):
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.proxy.halves.pop(self, None)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close() if error is None else self.other.transport.abort()

    @property
    def far_port(self) -> int:
        assert self.transport is not None
        peer = self.transport.get_extra_info("peername")
        return int(peer[1]) if peer else 0


class Proxy:
    """Listens on `port` from the start; `target` may be set, and changed, later. Its methods may be called anywhere."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: int = 0) -> None:
        self.loop = loop
        self.target = target
        self.halves: dict[Half, None] = {}  # the clients' sides
        self._how = ""
        self._who: WhoIsCut = lambda port, opened: False
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), loop).result(10)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _listen(self, port: int = 0) -> asyncio.Server:
        return await self.loop.create_server(lambda: Half(self), "127.0.0.1", port, backlog=256)

    def refuse(self) -> None:
        """Nobody listens any more, as when the target has ended; `accept` begins anew."""
        asyncio.run_coroutine_threadsafe(self._close(), self.loop).result(10)

    def accept(self) -> None:
        self._server = asyncio.run_coroutine_threadsafe(self._listen(self.port), self.loop).result(10)

    def cut(self, how: str, who: WhoIsCut = lambda port, opened: True) -> None:
        """From here on connections whose far port `who` picks hang or are reset, old ones and new ones."""
        asyncio.run_coroutine_threadsafe(self._cut(how, who), self.loop).result(10)

    async def _cut(self, how: str, who: WhoIsCut) -> None:
        self._how, self._who = how, who
        for half in list(self.halves):
            if who(half.far_port, half.opened):
                self._stop(half)

    def mend(self) -> None:
        """Everything flows again, what hung first."""
        asyncio.run_coroutine_threadsafe(self._mend(), self.loop).result(10)

    async def _mend(self) -> None:
        self._how = ""
        for half in list(self.halves):
            if half.other is None:
                await self._connect(half)
            else:
                for side in (half, half.other):
                    if side.transport is not None:
                        side.transport.resume_reading()

    close = refuse

    async def _close(self) -> None:
        self._server.close()
        for half in list(self.halves):
            if half.transport is not None:
                half.transport.abort()

    def flows(self, one: Half, other: Half) -> bool:
        client = one if one in self.halves else other
        return not self._how or not self._who(client.far_port, client.opened)

    # -- in the loop

    def accepted(self, half: Half) -> None:
        self.halves[half] = None
        if self._how and self._who(half.far_port, half.opened):
            self._stop(half)
        else:
            self.loop.create_task(self._connect(half))

    def _stop(self, half: Half) -> None:
        for side in (half, half.other):
            if side is not None and side.transport is not None:
                side.transport.abort() if self._how == RESET else side.transport.pause_reading()

    async def _connect(self, half: Half) -> None:
        assert half.transport is not None
        half.transport.resume_reading()
        other = Half(self, half)
        try:
            await self.loop.create_connection(lambda: other, "127.0.0.1", self.target)
        except OSError:
            half.transport.abort()
            return
        assert other.transport is not None
        half.other = other
        if half.transport.is_closing():
            other.transport.close()
            return
        for data in half.early:
            other.transport.write(data)
        half.early.clear()
        if not self.flows(half, other):
            self._stop(half)


class Loop:
    """An event loop in a thread of its own, for proxies and asyncio clients. Use it in a `with`."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> asyncio.AbstractEventLoop:
        self._thread.start()
        return self.loop

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._rest(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _rest(self) -> None:
        """Let everything that was aborted end, and what ends with it."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for _ in range(5):
            await asyncio.sleep(0.01)
