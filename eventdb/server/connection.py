"""One client connection: an asyncio protocol around the parser and the engine. No coroutine, no task.

Flow control, both ways: a connection runs no command while its client is blocked or paused, while it does not read its
replies, or while the commit pipeline is full. What it has parsed waits in `backlog`, what comes meanwhile waits
unparsed in `unread`: a client may write all of a pipeline before it reads the first reply, as in Redis, up to
client-query-buffer-limit, and all clients together up to client-query-buffer-total-limit. Only a client that has had
its share of the turn, or that sends more than a little while the pipeline is full, is not read from.
A client that has gone runs nothing more: what has not begun when its end is seen is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from eventdb.engine.client import NEEDS_AUTH, SUBSCRIBED, Client
from eventdb.engine.effort import LARGE_BYTES, expected
from eventdb.pipeline.outbox import SocketFacts
from eventdb.protocol.errors import TOO_MANY_CLIENTS
from eventdb.protocol.replies import error
from eventdb.protocol.requests import NOTHING, RequestParser
from eventdb.security.tls import names_of
from eventdb.server.door import Door

if TYPE_CHECKING:
    from eventdb.engine.engine import Engine
    from eventdb.engine.plain_runs import PlainRuns

logger: Final = logging.getLogger("eventdb")

OWED_BYTES_MAX: Final = 1 << 20  # replies not yet handed to the socket; above it no command is run
UNSENT_BYTES_MAX: Final = 1 << 20  # replies in the socket's buffer; above it no command is run
# libuv hands a flooding client's chunks over up to 32 times in a row, and only then looks at anybody else.
FULL_BYTES_MAX: Final = 64 << 10  # that one client may send ahead while the commit pipeline is full
RUN_MAX: Final = 512  # commands of one client before everybody else gets their turn
GREEDY_PART: Final = 64  # a client that holds more than this part of what all may hold is the first to go
LONG_CHUNK_BYTES: Final = 16 << 10  # the clock has moved when it has been parsed
CHUNK_BYTES: Final = 64  # that a chunk takes beside its own


class Unread:
    """The bytes that the connections of one server hold of commands which have not run: a limit for all of them."""

    def __init__(self) -> None:
        self.total = 0
        self.holders: dict[Connection, None] = {}

    def account(self, connection: Connection, size: int) -> None:
        """The connection now holds `size` bytes."""
        if size and not connection.held:
            self.holders[connection] = None
        elif not size:
            self.holders.pop(connection, None)
        self.total += size - connection.held
        connection.held = size

    def relieve(self, limit: int) -> None:
        """Close the newest greedy connections until no more than `limit` bytes are held."""
        while self.total > limit and self.holders:
            greedy = [one for one in self.holders if one.held * GREEDY_PART > limit] or list(self.holders)
            newest = max(greedy, key=lambda one: one.number())
            logger.warning(
                "closed %s: it has sent %d bytes of commands that wait; all clients together are above"
                " client-query-buffer-total-limit",
                newest.transport.get_extra_info("peername") if newest.transport is not None else "a client",
                newest.held,
            )
            newest.give_up()


class Connection:
    """Implements asyncio.Protocol and eventdb.engine.client.Sink."""

    def __init__(
        self, engine: Engine, connections: dict[Connection, None], waiting: Unread, plain: PlainRuns, door: Door
    ) -> None:
        self.engine = engine
        self.plain = plain
        self.door = door
        self.host = ""  # of the client; "": not let in
        self.encrypted = False
        self.connections = connections
        self.waiting = waiting
        self.parser = RequestParser(engine.shared_reader)
        self.backlog = NOTHING  # parsed commands; those from `position` on are not yet run
        self.position = 0
        self.unread: deque[bytes] = deque()  # chunks that came while the backlog waited
        self.unread_size = 0
        self.held = 0  # bytes that `waiting` has this connection down for
        self.client: Client | None = None
        self.transport: asyncio.Transport | None = None
        self.reading = True
        self.writable = True
        self.resuming = False
        self.ended = False  # the client has shut down its side
        self.rest: Callable[[], bytes] | None = None  # what was not written before the loop took the connection over
        self.retiring = False  # nothing more is read; it closes after what was
        self.behind_since = 0.0  # time.monotonic() when a subscriber's unread messages passed the soft limit

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(UNSENT_BYTES_MAX)
        if self.client is not None:  # accepted while a script kept the loop (meanwhile.py)
            if self.rest is not None:
                transport.write(self.rest())
                self.rest = None
            return
        engine = self.engine
        config = engine.config
        self.encrypted = transport.get_extra_info("sslcontext") is not None
        host = _host(transport)
        why = TOO_MANY_CLIENTS if len(self.connections) >= config.maxclients else ""
        if not why and not self.encrypted:  # the TLS port has asked before the handshake
            why = self.door.refusal(host)
        if why:
            engine.statistics.connections_rejected += 1
            transport.write(error(why))
            transport.close()
            return
        self.connections[self] = None
        self.host = host
        self.door.hold(host)
        _keep_alive(transport, config.keepalive_seconds)
        client = engine.connect(self, _address(transport, "peername"), _address(transport, "sockname"))
        self.client = client
        if self.encrypted and config.tls.auth_clients_user != "off":
            names = names_of(transport.get_extra_info("peercert"), config.tls.auth_clients_user)
            engine.permissions.recognize(client, names)
        self.door.entered(client)

    def connection_lost(self, failure: Exception | None) -> None:
        self.connections.pop(self, None)
        self._forget_commands()
        if self.client is not None:
            self.engine.disconnect(self.client)
            self.door.left(self.client)
            self.door.release(self.host)
        self.transport = None

    def _forget_commands(self) -> None:
        self.backlog = NOTHING
        self.position = 0
        self.unread.clear()
        self.unread_size = 0
        self.waiting.account(self, 0)

    def eof_received(self) -> bool:
        """The client will send no more, and may be gone: what waits for more than its turn in the loop is dropped.

        What has run is still answered. What waits only because others have their turn does run: Redis would have run
        it before it saw the end. TLS has no half of a connection: it ends with what is written by now.
        """
        self.ended = True
        client = self.client
        if client is None:
            return False
        if not self._waits() or not self.writable or client.owed > OWED_BYTES_MAX or not self.engine.may_run(client):
            self._leave(client)
        return not self.encrypted

    def _leave(self, client: Client) -> None:
        """Run nothing more for a client that has gone, and close once it has what it is owed."""
        self._forget_commands()
        self.engine.abandon(client)
        client.finish()

    def _waits(self) -> bool:
        """There are commands that have not run."""
        return self.position < len(self.backlog) or len(self.unread) > 0

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self.resume()

    def data_received(self, data: bytes) -> None:
        client = self.client
        if client is None or client.closing:
            return
        engine = self.engine
        engine.bytes_in += len(data)
        engine.reads += 1
        parser = self.parser
        if client.gate & NEEDS_AUTH:
            engine.read_clock()
            self._greet(client, data)
            client.flush()
            return
        if self.position < len(self.backlog) or self.unread:
            self.unread.append(data)
            self.unread_size += len(data) + CHUNK_BYTES
            client.active_ms = int(time.time() * 1000)
            self._bound(client)
            return
        engine.read_clock()
        client.active_ms = engine.store.now_ms
        long = parser.missing > 0 or len(data) > LONG_CHUNK_BYTES
        left = self._take(client, data, RUN_MAX)
        if long:
            engine.read_clock()  # after the parsing: a large value that took long to come is no slow command
        elif self.backlog:
            engine.clock = time.perf_counter()
        self._run(client, left)
        client.flush()
        if parser.args_left or self.held or client.queue_bytes:
            self._bound(client)

    def _bound(self, client: Client) -> None:
        """Hold what has come and has not run to the limits: of this client, and of all."""
        size = self._waiting_bytes(client)
        config = self.engine.config
        if self.parser.args_left and size > LARGE_BYTES:
            needed_s = expected(client, self.parser.buffered() + max(self.parser.missing, 0))
            if self.engine.on_long is not None:
                self.engine.on_long(needed_s, False)
        if size > config.query_buffer_bytes_max:
            logger.warning("closed %s: commands that wait are longer than client-query-buffer-limit", client.address)
            self.give_up()
            return
        if self.engine.commit.full and self.unread_size > FULL_BYTES_MAX:
            self.stop_reading()
        self.waiting.account(self, size)
        if self.waiting.total > config.query_buffers_bytes_max:
            self.waiting.relieve(config.query_buffers_bytes_max)

    def _waiting_bytes(self, client: Client) -> int:
        """What is held of commands that have not run: unparsed, unfinished, queued by MULTI."""
        size = self.unread_size + client.queue_bytes
        return size + self.parser.buffered() if self.parser.args_left else size

    def give_up(self) -> None:
        """Close at once: nothing of what it sent is run any more."""
        self._forget_commands()
        if self.client is not None:
            self.client.closing = True
        self.abort()

    def number(self) -> int:
        """The later a client came, the higher."""
        return 0 if self.client is None else self.client.id

    def _greet(self, client: Client, data: bytes) -> None:
        """Before authentication, command by command: the limits of the next depend on what the last one did."""
        parser = self.parser
        if self._waits():  # it reads no replies; others have waited for nothing else here
            self.abort()
            return
        while not client.closing:
            parser.authenticated = not client.gate & NEEDS_AUTH
            self.backlog = parser.feed(data)
            self.position = 0
            data = b""
            if not self.backlog and not parser.failure:
                return
            self._run(client)
            if self.position < len(self.backlog) or parser.failure:
                return

    def _take(self, client: Client, data: bytes, left: int) -> int:
        """Run the plain commands that a chunk begins with, and make the rest the backlog.

        Returns how many commands are left of the turn's.
        """
        parser = self.parser
        self.position = 0
        plain = self.plain
        parser.authenticated = True
        if (
            plain.run is None
            or not self.writable
            or len(data) > parser.shared.bulk_bytes_max
            or not plain.may_run(client)
        ):
            self.backlog = parser.feed(data)
        elif parser.idle():
            done = plain.take(client, data, left)
            left -= plain.ran
            data = data[done:] if done else data
            if data and left > 0:
                self.backlog = parser.feed(data)
            else:
                self.backlog = NOTHING
                self._put_back(client, data)
        else:  # a pipeline was cut: what comes after the command in which it was may be plain again
            self.backlog, data = parser.feed_end(data)
            self._put_back(client, data)
        return left

    def _put_back(self, client: Client, data: bytes) -> None:
        """Of a chunk that was taken this has to wait, for some commands at least."""
        if data:
            self.unread.appendleft(data)
            self.unread_size += len(data) + CHUNK_BYTES
            self.waiting.account(self, self._waiting_bytes(client))

    def _run(self, client: Client, left: int = RUN_MAX) -> None:
        """Run the backlog, and what came after it, until nothing is left or the next command has to wait."""
        engine = self.engine
        while True:
            backlog = self.backlog
            i = self.position
            end = len(backlog)
            n = min(end, i + left)
            left -= n - i
            while i < n:
                if client.owed > OWED_BYTES_MAX:
                    client.flush()
                if not self.writable or client.owed > OWED_BYTES_MAX or not engine.may_run(client):
                    self.position = i
                    self._wait(client)
                    return
                engine.call(client, backlog[i])
                i += 1
            self.position = i
            if i < end or (left <= 0 and self.unread):
                self.stop_reading()
                self.resume()
                return
            self.backlog = NOTHING
            self.position = 0
            if not self.unread or self.parser.failure:
                break
            if client.closing:
                return
            left = self._take_next(client, left)
        if self.parser.failure and not client.closing:
            client.reply(error("ERR Protocol error: " + self.parser.failure))
            client.closing = True
        elif self.retiring and client.stalled is None and client.blocked is None:
            client.closing = True
        elif self.ended:
            self._leave(client)

    def _take_next(self, client: Client, left: int) -> int:
        """Take the next of the chunks that waited."""
        data = self.unread.popleft()
        self.unread_size -= len(data) + CHUNK_BYTES
        left = self._take(client, data, left)
        self.waiting.account(self, self._waiting_bytes(client))
        return left

    def _wait(self, client: Client) -> None:
        """The next command has to wait. Reading goes on, or the client's end is not seen: for the log only a little."""
        if self.ended:
            self._leave(client)
        elif self.engine.commit.full and self.unread_size > FULL_BYTES_MAX:
            self.stop_reading()
        else:
            self.start_reading()

    def stop_reading(self) -> None:
        if self.reading and self.transport is not None and not self.transport.is_closing():
            self.reading = False
            self.transport.pause_reading()

    def start_reading(self) -> None:
        if not (self.reading or self.retiring) and self.transport is not None and not self.transport.is_closing():
            self.reading = True
            self.transport.resume_reading()

    # -- Sink

    def write(self, data: bytes) -> None:
        transport = self.transport
        if transport is None:
            return
        client = self.client
        if not self.writable and client is not None and (client.listens() or client.hears_all()):
            if self._too_far_behind(transport.get_write_buffer_size() + len(data)):
                logger.warning("closed subscriber %s: it leaves its messages unread", client.address)
                client.closing = True
                transport.abort()
                return
        transport.write(data)
        if self.position < len(self.backlog) or self.unread:
            self.resume()  # it may have waited for replies to leave

    def _too_far_behind(self, unread: int) -> bool:
        """A subscriber cannot be slowed down, as others may be by not running their commands: so it has limits."""
        config = self.engine.config
        if config.pubsub_bytes_hard_max and unread > config.pubsub_bytes_hard_max:
            return True
        if not config.pubsub_bytes_soft_max or unread <= config.pubsub_bytes_soft_max:
            self.behind_since = 0.0
            return False
        now = time.monotonic()
        if self.behind_since == 0.0:
            self.behind_since = now
        return now - self.behind_since > config.pubsub_soft_seconds

    def resume(self) -> None:
        """Run the backlog on, at the end of this turn: the caller may be in the middle of another client's command."""
        if not self.resuming and (self._waits() or not self.reading or self.ended):
            self.resuming = True
            self.engine.turn.schedule(self._resume)

    def _resume(self) -> None:
        self.resuming = False
        client = self.client
        if client is None or client.closing or self.transport is None:
            return
        self.engine.read_clock()
        self._run(client)
        if not self._waits():
            self.start_reading()
        client.flush()
        if self.held or client.queue_bytes:
            self._bound(client)

    def commands_waiting(self) -> int:
        """How many commands have come, are parsed and were not run yet."""
        return len(self.backlog) - self.position

    def has_sent_all(self) -> bool:
        """It is closing, and no reply waits in this process."""
        client, transport = self.client, self.transport
        if client is None or transport is None:
            return True
        return client.closing and not client.owed and not transport.get_write_buffer_size()

    def socket_facts(self) -> SocketFacts:
        """For CLIENT LIST; counted only when somebody asks."""
        found = SocketFacts()
        transport = self.transport
        found.unparsed = self.parser.buffered()
        found.waiting = sum([sum(map(len, argv)) for argv in self.backlog[self.position :]])
        if transport is not None:
            found.unsent = transport.get_write_buffer_size()
            found.events = ("r" if self.reading else "") + ("w" if found.unsent else "")
            opened = transport.get_extra_info("socket")
            found.fd = -1 if opened is None else opened.fileno()
        return found

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def finish(self) -> None:
        """Close once the client has what it is owed."""
        if self.client is not None:
            self.client.finish()

    def retire(self) -> None:
        """This node is the primary no more: answer what was read, then close, so that the client looks for the new one.

        RESP2 subscribers may stay: they can write nothing, and hear at a replica what they hear at a primary. Nodes go
        by themselves.
        """
        client = self.client
        if client is None or client.closing or client.is_node or client.gate & SUBSCRIBED:
            return
        self.stop_reading()
        self.retiring = True
        self.resume()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


def _keep_alive(transport: asyncio.Transport, seconds: int) -> None:
    """Let TCP find out about peers that are gone: probes after that long, three of them (redis src/anet.c)."""
    found = transport.get_extra_info("socket")
    if seconds <= 0 or found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, seconds // 3))
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def _host(transport: asyncio.Transport) -> str:
    found = transport.get_extra_info("peername")
    return str(found[0]) if isinstance(found, tuple) and found else ""


def _address(transport: asyncio.Transport, name: str) -> str:
    found = transport.get_extra_info(name)
    if isinstance(found, tuple) and len(found) >= 2:
        host = str(found[0])
        return f"[{host}]:{found[1]}" if ":" in host else f"{host}:{found[1]}"
    return str(found or "")
