"""SYNC: the whole state at one offset, as a file, for `redis-cli --rdb` and the like.

The state is built a second time from the log, by a process of its own (history/exporting.py) that writes to a file
without a name. So it is that of one moment however long it takes, this process needs no memory for it, and its loop
only passes on pieces of the file, as fast as the client takes them. A `memory:` log can be read in this process alone:
there a thread does the same. One file is built at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import tempfile
import time
from typing import IO, TYPE_CHECKING, Final

from eventdb.backends.log import LogError
from eventdb.engine.settings import REDIS_VERSION
from eventdb.history.exporting import export
from eventdb.node import child
from eventdb.node.durable import until_durable
from eventdb.pipeline.outbox import REPLY_OFF, socket_facts
from eventdb.protocol.errors import ReplyError
from eventdb.protocol.replies import error
from eventdb.rdb.writer import write_libraries
from eventdb.replay.cut import Cut
from eventdb.replay.stores import open_store

if TYPE_CHECKING:
    from eventdb.backends.log import Log
    from eventdb.engine.client import Blocked, Client
    from eventdb.engine.engine import Engine

log: Final = logging.getLogger("eventdb")

PIECE_BYTES: Final = 256 << 10
UNSENT_BYTES_MAX: Final = 1 << 20
STEP_S: Final = 0.005  # between two looks at a client that has enough to read
SIGN_S: Final = 1.0  # between two line feeds while the file is made: they say that it is not forgotten
SILENT_S_MAX: Final = 60.0  # for a client that reads nothing, as repl-timeout
PROGRAM: Final = "eventdb.history.exporting"


class Giving:
    """Of one node."""

    def __init__(self, engine: Engine, source: Log, url: str) -> None:
        self.engine = engine
        self.log = source
        self.url = url  # as it was given: with what it takes to open it again
        self.tasks: set[asyncio.Task[None]] = set()
        self._one = asyncio.Lock()

    def begin(self, client: Client, greeting: str, functions_only: bool) -> None:
        """Send the state of now to a client that has just blocked, then close it. greeting: what comes first, with the
        offset in place of "{}". There are no functions, so a file of nothing else is an empty one.
        """
        assert client.blocked is not None
        client.reply_mode = REPLY_OFF  # no other word may get into the file
        task = asyncio.get_running_loop().create_task(self._give(client, client.blocked, greeting, functions_only))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _give(self, client: Client, blocked: Blocked, greeting: str, functions_only: bool) -> None:
        begun = False
        try:
            with tempfile.TemporaryFile() as file:
                await self._with_signs(client, blocked, self._made(client, greeting, functions_only, file))
                begun = True  # from here on an error would be taken for a piece of the file
                await self._sent(client, blocked, file)
        except (LogError, ReplyError, OSError, TimeoutError) as failure:
            text = " ".join(str(failure).split()) or type(failure).__name__
            log.warning("the state was not sent to %s: %s", client.address, text)
            if not begun:
                client.push(error(f"ERR the state cannot be sent: {text}"))
        finally:
            client.finish()

    async def _with_signs(self, client: Client, blocked: Blocked, work: object) -> None:
        """Wait for the file, with a line feed now and then. A client that goes away ends the work."""
        assert asyncio.iscoroutine(work)
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=SIGN_S))[0]:
                if client.closing or client.blocked is not blocked:
                    raise TimeoutError("the client has gone, or was unblocked")
                client.push(b"\n")
            await task
        finally:
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _made(self, client: Client, greeting: str, functions_only: bool, file: IO[bytes]) -> None:
        """Write the file. What the client has been answered so far, and what it wrote before, is in it."""
        commit = self.engine.commit
        libraries = list(self.engine.store.keyspace.libraries.code.values())
        wanted = commit.offset
        async with self._one:
            await until_durable(self.engine, commit, wanted)
            offset = commit.durable_offset
            if greeting:
                client.push(greeting.replace("{}", str(offset)).encode())
            if functions_only:
                write_libraries(file.write, libraries, {"redis-ver": REDIS_VERSION})
                file.flush()
            elif self.url.startswith("memory:"):
                await asyncio.to_thread(self._export_here, offset, file)
            else:
                await self._export_elsewhere(offset, file)

    def _export_here(self, offset: int, file: IO[bytes]) -> None:
        asyncio.run(self._export(offset, file))
        file.flush()

    async def _export(self, offset: int, file: IO[bytes]) -> None:
        url = self.engine.config.snapshot_store
        store = open_store(url) if url else None
        try:
            await export(self.log, Cut(offset, 0, offset, 0), file.write, digest=False, store=store)  # type: ignore[arg-type]
        finally:
            if store is not None:
                await store.close()

    async def _export_elsewhere(self, offset: int, file: IO[bytes]) -> None:
        asked = {"url": self.url, "offset": offset, "store": self.engine.config.snapshot_store}
        process = await child.start(PROGRAM, self.engine.config.encryption_keys, file.fileno())
        await child.answer(process, json.dumps(asked).encode(), "builds it")

    async def _sent(self, client: Client, blocked: Blocked, file: IO[bytes]) -> None:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        client.push(b"$%d\r\n" % size)
        moved, unsent = time.monotonic(), 0
        while size > 0:
            now, before = time.monotonic(), unsent
            unsent = socket_facts(client.sink).unsent + client.owed
            if client.closing or client.blocked is not blocked:
                return
            if unsent > UNSENT_BYTES_MAX:
                moved = now if unsent < before else moved
                if now - moved > SILENT_S_MAX:
                    raise TimeoutError(f"the client has read nothing for {SILENT_S_MAX:.0f} s")
                await asyncio.sleep(STEP_S)
                continue
            data = await asyncio.to_thread(file.read, PIECE_BYTES)
            client.push(data)
            size -= len(data)
            moved = now
