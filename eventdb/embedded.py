"""eventdb inside a Python program: the same node and commands, without a socket.

    async with eventdb.open("quorum:./data") as db:
        await db.execute("SET", "k", "v")          # returns when a majority of zones has it
        await db.execute("HGETALL", "h")           # {b"field": b"value"}

Replies are what RESP3 carries: bytes, int, float, bool, None, list, dict; an error reply raises `ReplyError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, TypeAlias, TypeVar

import hiredis

from eventdb import commands
from eventdb.engine.settings import Config
from eventdb.node.node import Node
from eventdb.protocol.replies import ReplyError

Argument: TypeAlias = bytes | str | int | float
T = TypeVar("T")

PUSHED_REPLIES: Final = frozenset(
    (b"SUBSCRIBE", b"UNSUBSCRIBE", b"PSUBSCRIBE", b"PUNSUBSCRIBE", b"SSUBSCRIBE", b"SUNSUBSCRIBE")
)


def encode_argument(value: Argument) -> bytes:
    """bytes as they are, str as UTF-8, numbers as Redis reads them. TypeError for anything else."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(value).encode()
    raise TypeError(f"a command takes bytes, str, int or float, not {type(value).__name__}")


class Session:
    """One caller's connection state: its database, MULTI, WATCH and subscriptions. Commands run in call order."""

    def __init__(self, node: Node) -> None:
        self._engine = node.engine
        self._reader = hiredis.Reader(replyError=ReplyError)
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._backlog: deque[list[bytes]] = deque()
        self._messages: asyncio.Queue[list[Any] | None] = asyncio.Queue()
        self._closed = False
        self._client = node.engine.connect(self)
        self._client.gate = 0  # who can open the log needs no password
        self._client.resp3 = True

    async def execute(self, *args: Argument) -> Any:
        """Run one command; return its reply, for a write once it is durable.

        Raises ReplyError (the command failed), TypeError (an argument), RuntimeError (closed).
        """
        if self._closed:
            raise RuntimeError("this eventdb session is closed")
        argv = [encode_argument(arg) for arg in args]
        if not argv:
            raise TypeError("execute() takes a command and its arguments")
        if argv[0].upper() in PUSHED_REPLIES:
            self._backlog.append(argv)
            self._run()
            return None
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._backlog.append(argv)
        self._run()
        reply = await future
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    async def messages(self) -> AsyncIterator[list[Any]]:
        """Yield what the session's subscriptions receive: [b"message", channel, payload] and confirmations."""
        while (message := await self._messages.get()) is not None:
            yield message

    def _run(self) -> None:
        engine, client = self._engine, self._client
        engine.read_clock()
        while self._backlog and engine.may_run(client):
            engine.call(client, self._backlog.popleft())
        client.flush()

    # -- Sink

    def write(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, hiredis.PushNotification):
                self._messages.put_nowait(list(reply))
                continue
            future = self._waiting.popleft()
            if not future.done():  # its caller may have been cancelled
                future.set_result(reply)

    def resume(self) -> None:
        asyncio.get_running_loop().call_soon(self._run)

    def close(self) -> None:
        """End the session. What it still waited for is cancelled; what it wrote stays."""
        if self._closed:
            return
        self._closed = True
        self._engine.disconnect(self._client)
        self._messages.put_nowait(None)
        for future in self._waiting:
            future.cancel()


class Database(Session):
    """An open eventdb. Itself a session; `session()` gives further ones. Close it, or use `async with`."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._node = node

    def session(self) -> Session:
        return Session(self._node)

    async def aclose(self) -> None:
        """Make what was accepted durable and release the log."""
        await self._node.close()
        self.close()


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


class SyncDatabase:
    """The same for programs without asyncio: a loop in a thread of its own. Any thread may call `execute`."""

    def __init__(self, url: str, settings: dict[str, str]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="eventdb", daemon=True)
        self._thread.start()
        try:
            self._database: Database = self._call(Opening(url, settings)._start())
        except BaseException:
            self._stop()
            raise

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result()

    def execute(self, *args: Argument) -> Any:
        """Run one command; see Session.execute."""
        return self._call(self._database.execute(*args))

    def close(self) -> None:
        """Make what was accepted durable and release the log. Idempotent."""
        if self._thread.is_alive():
            self._call(self._database.aclose())
            self._stop()

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
