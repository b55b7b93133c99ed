"""eventdb inside a Python program: the same node and commands, without a socket.

    async with eventdb.open("quorum:./data") as db:
        await db.execute("SET", "k", "v")          # returns when a majority of zones has it
        await db.execute("HGETALL", "h")           # {b"field": b"value"}

Replies are what RESP3 carries: bytes, int, float, bool, None, list, dict; an error reply raises `ReplyError`. What a
session or database can no longer do raises `Closed`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, TypeAlias, TypeVar

import hiredis

from eventdb import commands
from eventdb.engine.client import IN_MULTI
from eventdb.engine.settings import Config
from eventdb.node.node import Node
from eventdb.protocol.errors import ReplyError

Argument: TypeAlias = bytes | str | int | float
T = TypeVar("T")

# Their answer is a push for each channel, and no reply.
SUBSCRIPTIONS: Final = frozenset(
    (b"SUBSCRIBE", b"UNSUBSCRIBE", b"PSUBSCRIBE", b"PUNSUBSCRIBE", b"SSUBSCRIBE", b"SUNSUBSCRIBE")
)
CONFIRMATIONS: Final = frozenset(name.lower() for name in SUBSCRIPTIONS)
FORKED: Final = (
    "this eventdb belongs to the process that this one was forked from; a log has one process at a time: "
    "fork before opening it, or let the processes share a server"
)
DATABASE_CLOSED: Final = "this eventdb database is closed"


class Closed(RuntimeError):  # noqa: N818 - named as the log's errors are
    """The session or database is closed, or belongs to the process that this one was forked from."""


def encode_argument(value: Argument) -> bytes:
    """bytes as they are, str as UTF-8, numbers as Redis reads them. TypeError for anything else."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(value).encode()
    raise TypeError(f"a command takes bytes, str, int or float, not {type(value).__name__}")


def _size(message: list[Any]) -> int:
    return sum(len(part) for part in message if isinstance(part, bytes))


class Call:
    """A command that a session was given, and the future that waits for its reply."""

    def __init__(self, argv: list[bytes], future: asyncio.Future[Any]) -> None:
        self.argv = argv
        self.future = future
        self.confirmations = 0  # of a subscription that runs: pushes that answer it instead of a reply


class Session:
    """One caller's connection state: its database, MULTI, WATCH and subscriptions. Commands run in call order.

    It belongs to the event loop in which it was opened. A call that is cancelled before its command has run takes the
    command back, a blocked one too; what has run has happened, and only the reply is lost.
    """

    def __init__(self, node: Node) -> None:
        self._engine = node.engine
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._reader = hiredis.Reader(replyError=ReplyError)
        self._backlog: deque[Call] = deque()  # not begun
        self._waiting: deque[Call] = deque()  # begun, in the order of their replies
        self._messages: asyncio.Queue[list[Any] | None] = asyncio.Queue()
        self._unread = 0  # bytes in _messages
        self._closed = ""  # why, once it is
        self._client = node.engine.connect(self)
        self._client.embedded = True
        node.engine.permissions.embed(self._client)  # a program that can open the log needs no password
        self._client.resp3 = True

    async def execute(self, *args: Argument) -> Any:
        """Run one command; return its reply, for a write once it is durable. SUBSCRIBE and its kin return None.

        Raises ReplyError (the command failed), TypeError (an argument), Closed, RuntimeError (another event loop).
        """
        self._check_usable()
        argv = [encode_argument(arg) for arg in args]
        if not argv:
            raise TypeError("execute() takes a command and its arguments")
        call = Call(argv, self._loop.create_future())
        self._backlog.append(call)
        self._run()
        try:
            reply = await call.future
        except asyncio.CancelledError:
            self._withdraw(call)
            raise
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    async def messages(self) -> AsyncIterator[list[Any]]:
        """Yield what the session's subscriptions receive: [b"message", channel, payload] and confirmations."""
        while (message := await self._next_message()) is not None:
            yield message

    async def _next_message(self) -> list[Any] | None:
        """None once the session is closed and its last message taken. Raises Closed in a forked child."""
        if self._closed and self._messages.empty():
            return None
        if not self._closed:
            self._check_usable()
        message = await self._messages.get()
        if message is None:
            self._messages.put_nowait(None)  # for any other caller that waits
        else:
            self._unread -= _size(message)
        return message

    def _check_usable(self) -> None:
        """Raises Closed or RuntimeError."""
        if self._pid != os.getpid():
            raise Closed(FORKED)
        if self._closed:
            raise Closed(self._closed)
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("this eventdb session belongs to another event loop; open_sync is for any thread")

    def _run(self) -> None:
        engine, client = self._engine, self._client
        engine.read_clock()
        client.active_ms = engine.store.now_ms
        while self._backlog and engine.may_run(client):
            call = self._backlog.popleft()
            self._waiting.append(call)
            name = call.argv[0].upper()
            if name not in SUBSCRIPTIONS:
                engine.call(client, call.argv)
            elif client.gate & IN_MULTI:  # its pushes would come inside the array of EXEC's replies
                engine.refuse(client, f"ERR {name.decode()} is not allowed inside a transaction of a program's session")
            else:
                call.confirmations = len(call.argv) - 1 or max(1, self._subscribed(name))
                engine.call(client, call.argv)
        client.flush()

    def _subscribed(self, name: bytes) -> int:
        """How many channels or patterns this command without arguments leaves."""
        client = self._client
        return len(client.patterns if name[0:1] == b"P" else client.shards if name[0:1] == b"S" else client.channels)

    def _withdraw(self, call: Call) -> None:
        """Its caller was cancelled: what has not been run never is."""
        if self._closed or self._pid != os.getpid():
            return
        client = self._client
        if call in self._backlog:
            self._backlog.remove(call)
        elif self._waiting and self._waiting[-1] is call and (client.blocked or client.stalled is not None):
            self._waiting.pop()
            self._engine.unblock(client)
            self._engine.pause.forget(client)
            self._run()

    # -- Sink

    def write(self, data: bytes) -> None:
        if self._closed:
            return
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if not isinstance(reply, hiredis.PushNotification):
                self._answer(reply)
                continue
            message = list(reply)
            if not self._keep(message):
                return
            call = self._waiting[0] if self._waiting else None
            if call is not None and call.confirmations and message[0] in CONFIRMATIONS:
                call.confirmations -= 1
                if not call.confirmations:
                    self._answer(None)

    def _keep(self, message: list[Any]) -> bool:
        """Keep a message until it is asked for; False when there were too many: a subscriber cannot be slowed down."""
        limit = self._engine.config.pubsub_bytes_hard_max
        self._unread += _size(message)
        if limit and self._unread > limit:
            self._end(
                "this eventdb session is closed: it left more messages unread than client-output-buffer-limit allows"
            )
            return False
        self._messages.put_nowait(message)
        return True

    def _answer(self, reply: Any) -> None:
        future = self._waiting.popleft().future
        if not future.done():  # its caller may have been cancelled
            future.set_result(reply)

    def resume(self) -> None:
        self._loop.call_soon(self._run)

    def close(self) -> None:
        """End the session. What waits for a reply raises Closed; what it wrote stays."""
        self._end("this eventdb session is closed")

    def _end(self, reason: str) -> None:
        if self._closed or self._pid != os.getpid():
            return
        self._closed = reason
        self._engine.disconnect(self._client)
        self._messages.put_nowait(None)
        for call in (*self._waiting, *self._backlog):
            if not call.future.done():
                call.future.set_exception(Closed(reason))
        self._waiting.clear()
        self._backlog.clear()

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Database(Session):
    """An open eventdb. Itself a session; `session()` gives further ones. Close it, or use `async with`."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._node = node
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._database_closed = False

    def session(self) -> Session:
        """A session of its own: for each task that uses MULTI, WATCH, SELECT, subscriptions or blocking commands.

        Raises Closed.
        """
        if self._pid != os.getpid():
            raise Closed(FORKED)
        if self._database_closed:
            raise Closed(DATABASE_CLOSED)
        session = Session(self._node)
        self._sessions.add(session)
        return session

    async def aclose(self) -> None:
        """Make what was accepted durable and release the log; what still waits raises Closed. Idempotent."""
        if self._database_closed or self._pid != os.getpid():
            return
        self._database_closed = True
        try:
            await self._node.close()
        finally:
            for session in (self, *self._sessions):
                session._end(DATABASE_CLOSED)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Opening:
    """What `eventdb.open` returns: await it, or enter it with `async with`."""

    def __init__(self, url: str, settings: dict[str, str]) -> None:
        commands.load()
        self._config = Config()
        for name, value in settings.items():
            self._config.set(name.replace("_", "-"), value)
        self._url = url
        self._database: Database | None = None

    async def _start(self) -> Database:
        node = Node(self._url, self._config, address="embedded")
        try:
            await node.start()
        except BaseException:
            await node.close()
            raise
        self._database = Database(node)
        return self._database

    def __await__(self) -> Any:
        return self._start().__await__()

    async def __aenter__(self) -> Database:
        return await self._start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._database is not None:
            await self._database.aclose()


class SyncSession:
    """A session for programs without asyncio. Threads may share it: their commands then run in call order."""

    def __init__(self, database: SyncDatabase, session: Session) -> None:
        self._database = database
        self._session = session

    def execute(self, *args: Argument) -> Any:
        """Run one command; see Session.execute."""
        return self._database._call(self._session.execute(*args))

    def messages(self, timeout: float | None = None) -> Iterator[list[Any]]:
        """Yield what the session's subscriptions receive, until none comes for `timeout` seconds (None: for ever)."""

        async def following() -> list[Any] | None:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(self._session._next_message(), timeout)
            return None

        while (message := self._database._call(following())) is not None:
            yield message

    def close(self) -> None:
        """End the session. What waits for a reply raises Closed; what it wrote stays."""
        self._database._later(self._session.close)

    def __enter__(self) -> SyncSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class OwnSession(threading.local):
    """Each thread's session; it ends with the thread."""

    session: SyncSession | None = None


class SyncDatabase:
    """The same for programs without asyncio: a loop in a thread of its own.

    Any thread may call `execute`: each has a session of its own, with its own database number, MULTI and WATCH.
    """

    def __init__(self, url: str, settings: dict[str, str]) -> None:
        self._pid = os.getpid()
        self._submitting = threading.Lock()  # nothing is given to the loop after what closes it
        self._closed = False
        self._own = OwnSession()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="eventdb", daemon=True)
        self._thread.start()
        try:
            self._database: Database = self._call(Opening(url, settings)._start())
        except BaseException:
            self._stop()
            raise

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it in the loop and wait; whatever interrupts the waiting (Ctrl-C) cancels it. Raises Closed."""
        future = self._submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _submit(self, work: Coroutine[Any, Any, T], closes: bool = False) -> Future[T]:
        if self._pid != os.getpid():
            work.close()
            raise Closed(FORKED)
        with self._submitting:
            if self._closed:
                work.close()
                raise Closed(DATABASE_CLOSED)
            self._closed = closes
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _later(self, action: Callable[[], None]) -> None:
        """Do it in the loop, if that still runs: also from a thread that ends, or at the interpreter's end."""
        if self._pid == os.getpid() and not self._closed:
            with contextlib.suppress(RuntimeError):  # closed meanwhile
                self._loop.call_soon_threadsafe(action)

    def execute(self, *args: Argument) -> Any:
        """Run one command in this thread's session; see Session.execute."""
        session = self._own.session
        if session is None:
            session = self._own.session = self.session()
            weakref.finalize(session, self._later, session._session.close).atexit = False
        return session.execute(*args)

    def session(self) -> SyncSession:
        """A further session, for any thread; close it. Raises Closed."""

        async def begin() -> Session:
            return self._database.session()

        return SyncSession(self, self._call(begin()))

    def close(self) -> None:
        """Make what was accepted durable and release the log; what still waits raises Closed. Idempotent."""
        if self._closed or self._pid != os.getpid():
            return
        with contextlib.suppress(Closed):  # another thread was first
            ending = self._submit(self._wind_up(), closes=True)
            try:
                ending.result()
            finally:
                self._stop()

    async def _wind_up(self) -> None:
        """Close the database, and let every call that still waited return its error."""
        await self._database.aclose()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=1.0)

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        with contextlib.suppress(RuntimeError):
            self._loop.close()

    def __enter__(self) -> SyncDatabase:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
