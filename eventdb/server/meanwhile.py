"""Meanwhile: other clients are answered while a script keeps the loop.

The loop cannot turn, so its sockets are looked at from inside the script (scripting/watch.py calls `look` every few
milliseconds): what has come is read and goes the usual way, through parser and engine, whose gate refuses all but the
few commands that Redis allows then; the answers are written at once. Whoever connects is accepted too, or nobody new
could end the script. When it has ended the loop finds each connection as if it had been slow: bytes that were read are
gone from the socket, and what could not be written waits in the transport. New connections are handed over to it.

Nothing else is done here: no timer runs, no append is confirmed, nothing is read from a connection that the loop has
paused, or that speaks TLS. A reply that the loop had not written when the script began leaves after the script, and so
do later ones of that client; a connection that the loop accepted in the very turn in which the script began waits for
the next turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import selectors
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from eventdb.server.connection import Connection

if TYPE_CHECKING:
    from eventdb.engine.engine import Engine

logger: Final = logging.getLogger("eventdb")

READ_BYTES: Final = 64 << 10  # from one client at a look


class Direct(asyncio.Transport):
    """A connection's transport while the loop stands still: writes at once what can be written."""

    def __init__(self, inner: asyncio.Transport, fd: int) -> None:
        super().__init__()
        self.inner = inner
        self._fd = fd

    def write(self, data: bytes | bytearray | memoryview) -> None:
        written = 0
        if self.inner.get_write_buffer_size() == 0 and not self.inner.is_closing():
            with contextlib.suppress(OSError):  # the loop will find out
                written = os.write(self._fd, data)
        if written < len(data):
            self.inner.write(data[written:])

    def get_write_buffer_size(self) -> int:
        return self.inner.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.inner.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self.inner.is_closing()

    def close(self) -> None:
        self.inner.close()

    def abort(self) -> None:
        self.inner.abort()

    def pause_reading(self) -> None:
        self.inner.pause_reading()

    def resume_reading(self) -> None:
        self.inner.resume_reading()


class Accepted(asyncio.Transport):
    """Of a connection that was accepted while the loop stands still; `adopt` hands it over."""

    def __init__(self, opened: socket.socket) -> None:
        super().__init__()
        self.socket = opened
        self.unsent = b""
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        written = 0
        if not self.unsent:
            with contextlib.suppress(OSError):
                written = self.socket.send(data)
        self.unsent += data[written:]

    def get_write_buffer_size(self) -> int:
        return len(self.unsent)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        with contextlib.suppress(OSError):
            if name == "peername":
                return self.socket.getpeername()
            if name == "sockname":
                return self.socket.getsockname()
        return self.socket if name == "socket" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Meanwhile:
    """One for each server. `look` and `end` are called by the watch over scripts, in the loop's own thread."""

    def __init__(self, engine: Engine, connections: dict[Connection, None], connect: Callable[[], Connection]) -> None:
        self.engine = engine
        self.connections = connections
        self.connect = connect  # makes one for what is accepted
        self.listeners: Iterable[int] = ()  # file numbers, of a server that listens
        self._selector: selectors.BaseSelector | None = None
        self._accepting: list[socket.socket] = []
        self._accepted: list[tuple[Connection, Accepted]] = []
        self._adopting: set[asyncio.Task[None]] = set()

    def look(self) -> None:
        """Read what has come, answer it."""
        selector = self._selector
        if selector is None:
            selector = self._selector = self._begin()
        for key, _ in selector.select(0):
            found = key.data
            if isinstance(found, Connection):
                self._serve(selector, found, key.fd)
            else:
                self._accept(selector, found)

    def _begin(self) -> selectors.BaseSelector:
        selector = selectors.DefaultSelector()
        for connection in list(self.connections):
            if connection.encrypted:  # what comes there is for TLS to read
                continue
            opened = connection.transport.get_extra_info("socket") if connection.transport is not None else None
            if opened is not None and opened.fileno() >= 0:
                selector.register(opened.fileno(), selectors.EVENT_READ, connection)
        for fd in self.listeners:
            listener = socket.socket(fileno=os.dup(fd))
            listener.setblocking(False)
            self._accepting.append(listener)
            selector.register(listener, selectors.EVENT_READ, listener)
        logger.warning("a script has kept the server busy for more than %d ms", self.engine.config.busy_reply_ms)
        return selector

    def _serve(self, selector: selectors.BaseSelector, connection: Connection, fd: int) -> None:
        transport = connection.transport
        if transport is None or transport.is_closing() or not connection.reading:
            selector.unregister(fd)
            return
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # its end, which the loop sees too
            selector.unregister(fd)
            if isinstance(transport, Accepted):
                transport.closing = True
            return
        if not isinstance(transport, Accepted):
            connection.transport = Direct(transport, fd)
        try:
            connection.data_received(data)
        finally:
            if not isinstance(transport, Accepted):
                connection.transport = transport

    def _accept(self, selector: selectors.BaseSelector, listener: socket.socket) -> None:
        try:
            opened, _ = listener.accept()
        except OSError:  # taken by another look, or given up
            return
        opened.setblocking(False)
        transport = Accepted(opened)
        connection = self.connect()
        connection.connection_made(transport)
        if connection.client is None:  # there are too many
            opened.close()
            return
        self._accepted.append((connection, transport))
        if not transport.closing:
            selector.register(opened, selectors.EVENT_READ, connection)

    def end(self) -> None:
        """The script has ended: the loop goes on."""
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        for listener in self._accepting:
            listener.close()
        self._accepting = []
        accepted, self._accepted = self._accepted, []
        for connection, transport in accepted:
            task = asyncio.get_running_loop().create_task(self._adopt(connection, transport))
            self._adopting.add(task)
            task.add_done_callback(self._adopting.discard)

    async def _adopt(self, connection: Connection, transport: Accepted) -> None:
        """The loop takes over a connection; what is not yet written to it goes first (Connection.connection_made)."""
        loop = asyncio.get_running_loop()
        connection.rest = lambda: transport.unsent
        try:
            made, _ = await loop.connect_accepted_socket(lambda: connection, transport.socket)  # type: ignore[type-var]
        except OSError:
            transport.socket.close()
            connection.connection_lost(None)
            return
        if transport.closing:
            made.close()
