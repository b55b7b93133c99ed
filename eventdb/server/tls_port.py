"""The TLS port: it accepts sockets itself, so that a peer that may not connect costs no handshake, and each
connection gets the context of the moment.

A handshake that fails or never ends takes its own socket with it, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from eventdb.protocol.errors import TOO_MANY_CLIENTS
from eventdb.security.tls import TlsError

if TYPE_CHECKING:
    from eventdb.engine.engine import Engine
    from eventdb.server.door import Door

ACCEPTS: Final = 64  # in one turn of the loop
HANDSHAKE_S: Final = 10.0  # or unauthenticated-timeout, if that is shorter
GOODBYE_S: Final = 5.0  # for the other side to answer the end of TLS
PAUSE_S: Final = 1.0  # when the process can open no more files


class TlsPort:
    """Listening sockets on every address of the server."""

    def __init__(
        self, engine: Engine, door: Door, connections: dict[object, None], connect: Callable[[], asyncio.Protocol]
    ) -> None:
        """connections: the server's, to count them against maxclients."""
        self.engine = engine
        self.door = door
        self.connections = connections
        self.connect = connect
        self.sockets: list[socket.socket] = []
        self.handshakes: set[asyncio.Task[None]] = set()

    def listen(self, hosts: list[str], port: int, backlog: int) -> None:
        """Raises OSError."""
        loop = asyncio.get_running_loop()
        for host in hosts:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
                0
            ]
            opened = socket.socket(family, socket.SOCK_STREAM)
            self.sockets.append(opened)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                opened.bind(address)
            except OSError as error:
                raise OSError(error.errno, f"cannot serve on {host}:{port} (TLS): {error.strerror}") from None
            opened.listen(backlog)
            opened.setblocking(False)
            loop.add_reader(opened, self._accept, opened)

    def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPTS):
            try:
                opened, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no more files: what is connected goes on, and others wait in the queue
                loop.remove_reader(listening)
                loop.call_later(PAUSE_S, self._go_on, listening)
                return
            self._receive(opened, str(address[0]), f"{address[0]}:{address[1]}")

    def _go_on(self, listening: socket.socket) -> None:
        if listening in self.sockets:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _receive(self, opened: socket.socket, host: str, address: str) -> None:
        opened.setblocking(False)
        engine = self.engine
        why = self.door.refusal(host)
        if not why and len(self.connections) + len(self.handshakes) >= engine.config.maxclients:
            why = TOO_MANY_CLIENTS
        if why:  # before TLS there is no way to say so
            engine.statistics.connections_rejected += 1
            self.door.turned_away(address, why)
            opened.close()
            return
        task = asyncio.get_running_loop().create_task(self._greet(opened, host, address))
        self.handshakes.add(task)
        task.add_done_callback(self.handshakes.discard)

    async def _greet(self, opened: socket.socket, host: str, address: str) -> None:
        """The handshake; after it the connection lives by itself."""
        door, loop = self.door, asyncio.get_running_loop()
        limit = self.engine.config.unauthenticated_seconds_max
        door.greeting += 1
        door.hold(host)
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(
                self.connect,
                opened,
                ssl=self.engine.config.tls.server_context(),
                ssl_handshake_timeout=min(HANDSHAKE_S, limit or HANDSHAKE_S),
                ssl_shutdown_timeout=GOODBYE_S,
            )
        except (OSError, TlsError) as error:
            door.turned_away(address, f"no TLS with it: {reason(error)}")
            opened.close()
        except asyncio.CancelledError:
            opened.close()
            raise
        finally:
            door.greeting -= 1
            door.release(host)

    def close(self) -> None:
        """Accept no more; a client in its handshake has asked for nothing yet."""
        loop = asyncio.get_running_loop()
        for opened in self.sockets:
            with contextlib.suppress(OSError, ValueError):
                loop.remove_reader(opened)
            opened.close()
        self.sockets = []
        for task in list(self.handshakes):
            task.cancel()


def reason(error: Exception) -> str:
    """Why a handshake failed, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error) or type(error).__name__
