"""EVENTDB.RESTORE: the running primary takes a past state as one more transaction at the end of its history.

    compare the past with now, beside the server -> let writes wait -> compare what was written since -> one transaction

So a reader sees all of the old or all of the new, the log has either none of it or all, and what was undone is itself a
moment to restore to. Only the difference becomes events. It is worked out by a process of its own
(history/differing.py); a `memory:` log can be read in this process alone: there a thread does the same.

Writes wait for the last comparison only, PAUSE_MS at most. The transaction is made in one go of the loop, under a lease
that outlasts it, and only if nothing was written since that comparison: so whatever ends the pause early is harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import IO, TYPE_CHECKING, Final

from eventdb.backends.log import LogError
from eventdb.cluster.timing import EFFORT_S_MAX
from eventdb.history.differing import Comparison, asked_for, read_gone, said
from eventdb.history.marks import check_mark
from eventdb.keyspace.events import EVENTS, touched_keys
from eventdb.keyspace.types.library import LIBRARY
from eventdb.node import child
from eventdb.node.traces import Traces, traced
from eventdb.protocol.errors import ReplyError
from eventdb.protocol.replies import bulk, error, integer, mapping
from eventdb.rdb.codes import BadRdb
from eventdb.rdb.reader import FileReader
from eventdb.rdb.source import Source
from eventdb.replay.cut import ToMark, ToOffset, find_cut
from eventdb.replay.snapshots import newest
from eventdb.replay.store import StoreError
from eventdb.replay.stores import open_store

if TYPE_CHECKING:
    from eventdb.backends.log import Log
    from eventdb.engine.client import Blocked, Client
    from eventdb.engine.engine import Engine
    from eventdb.engine.settings import Config
    from eventdb.keyspace.choice import Choice
    from eventdb.pipeline.commit import Commit
    from eventdb.replay.cut import Wanted

log: Final = logging.getLogger("eventdb")

PAUSE_MS: Final = 10_000  # that writes wait at most; what takes longer is given up
STEP_S: Final = 0.002
EVENT_USEC: Final = 60.0  # what an event may take at most, as in engine/effort.py
ARGUMENT_USEC: Final = 10.0
PROGRAM: Final = "eventdb.history.differing"
COUNTS: Final = ("changed", "appeared", "vanished", "functions")


class Here:
    """The comparison in a thread."""

    def __init__(self, source: Log, choice: Choice, file: IO[bytes]) -> None:
        self._comparison = Comparison(source, choice, None)
        self._file = file

    async def begin(self, cut: int, now: int) -> dict[str, int]:
        return said(await asyncio.to_thread(lambda: asyncio.run(self._comparison.begin(cut, now))))

    async def finish(self, now: int) -> dict[str, int]:
        found = await asyncio.to_thread(lambda: asyncio.run(self._comparison.finish(now)))
        await asyncio.to_thread(self._comparison.write, self._file)
        return said(found)

    async def close(self) -> None:
        """There is nothing to end."""


class Elsewhere:
    """The comparison in a process of its own."""

    def __init__(self, url: str, config: Config, choice: Choice, file: IO[bytes]) -> None:
        self._url = url
        self._store_url = config.snapshot_store
        self._encryption_keys = config.encryption_keys
        self._choice = choice
        self._file = file
        self._process: child.Child | None = None

    async def begin(self, cut: int, now: int) -> dict[str, int]:
        self._process = await child.start(PROGRAM, self._encryption_keys, self._file.fileno())
        return await self._ask(asked_for(self._url, self._store_url, cut, now, self._choice))

    async def finish(self, now: int) -> dict[str, int]:
        return await self._ask({"now": now})

    async def _ask(self, question: dict[str, object]) -> dict[str, int]:
        process = self._process
        assert process is not None and process.stdin is not None
        assert process.stdout is not None and process.stderr is not None
        with contextlib.suppress(ConnectionError):  # it has ended: what it printed says why
            process.stdin.write(json.dumps(question).encode() + b"\n")
            await process.stdin.drain()
        line = await process.stdout.readline()
        if not line:
            lines = (await process.stderr.read()).decode("utf-8", "replace").strip().splitlines()
            raise OSError(lines[-1] if lines else "the process that compares has ended")
        found: dict[str, int] = json.loads(line)
        return found

    async def close(self) -> None:
        if self._process is not None:
            await self._process.end()


class Plan:
    """What is to be emitted: events, each with its database. Made beside the loop, run in one go."""

    def __init__(self, cut: int, before: int, counts: dict[str, int], paused: float) -> None:
        self.cut = cut
        self.before = before  # the offset to restore to, to undo it
        self.counts = counts
        self.paused = paused  # when writes began to wait
        self.events: list[tuple[int, list[bytes]]] = []
        self.arguments = 0

    def seconds(self) -> float:
        """What running it may take at most."""
        return min((EVENT_USEC * len(self.events) + ARGUMENT_USEC * self.arguments) / 1e6, EFFORT_S_MAX)

    def add(self, db: int, argv: list[bytes]) -> None:
        self.events.append((db, argv))
        self.arguments += len(argv)


class Restoring:
    """Of one node."""

    def __init__(self, engine: Engine, source: Log, url: str) -> None:
        self.engine = engine
        self.log = source
        self.url = url
        self.traces: Traces | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self._under_way: Blocked | None = None  # which wait is for one; its task may last a little longer
        self._plan: Plan | None = None

    def call(self, client: Client, to: Wanted, choice: Choice, dry: bool, is_primary: Callable[[], bool]) -> bytes:
        """The command's reply: nothing while it waits; at its second call, the transaction is made."""
        if client.blocked is not None:
            return self._run(client)
        if self._under_way is not None:
            raise ReplyError("ERR a restore is under way already")
        assert client.last_command is not None
        reply = client.block([b"EVENTDB.RESTORE"], [], 0, b"")
        assert client.blocked is not None
        work = self._restore(client, client.blocked, to, choice, dry, is_primary)
        self._under_way = client.blocked
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return reply

    async def _restore(
        self, client: Client, blocked: Blocked, to: Wanted, choice: Choice, dry: bool, is_primary: Callable[[], bool]
    ) -> None:
        engine = self.engine
        try:
            with tempfile.TemporaryFile() as file:
                memory = self.url.startswith("memory:")
                comparison = Here(self.log, choice, file) if memory else self._elsewhere(choice, file)
                try:
                    cut, now = await self._cut(to)
                    counts = await self._unless_gone(client, blocked, comparison.begin(cut, now))
                    if dry:
                        self._under_way = None
                        engine.block_ends(client, reply_of(client, cut, 0, now, counts, 0))
                    else:
                        await self._change(client, blocked, comparison, file, cut, is_primary)
                finally:
                    await comparison.close()
        except (LogError, StoreError, ReplyError, BadRdb, OSError, TimeoutError) as failure:
            text = " ".join(str(failure).split()) or type(failure).__name__
            if isinstance(to, ToMark) and not isinstance(failure, ReplyError):
                text = f"mark {to.name.decode('utf-8', 'backslashreplace')!r}: {text}"
            self._failed(client, blocked, text)
        except Exception:
            log.exception("a restore in place has failed")
            self._failed(client, blocked, "internal error; please report it, the server's log has the details")

    def _failed(self, client: Client, blocked: Blocked, text: str) -> None:
        text = text.removeprefix("ERR ")
        log.warning("a restore in place for %s changed nothing: %s", client.address, text)
        if self._under_way is blocked:
            self._under_way = None
        if client.blocked is blocked:
            self.engine.block_ends(client, error(f"ERR nothing was changed: {text}"))

    def _elsewhere(self, choice: Choice, file: IO[bytes]) -> Elsewhere:
        return Elsewhere(self.url, self.engine.config, choice, file)

    async def _cut(self, to: Wanted) -> tuple[int, int]:
        """The offset to restore, and one that is durable now. Raises LogError, ReplyError."""
        commit = self.engine.commit
        now = commit.offset
        await self._durable(commit, now, self.engine.config.commit_timeout_ms)
        if isinstance(to, ToMark):
            mark = self.engine.store.keyspace.marks.get(to.name)
            if mark is None:
                raise ReplyError("ERR there is no mark of that name")
            await check_mark(self.log, mark.name, mark.offset)
            return mark.offset, now
        if isinstance(to, ToOffset):
            if not 1 <= to.offset <= now:
                raise ReplyError(f"ERR there is no offset {to.offset}: the first transaction is 1, the last {now}")
            return to.offset, now
        url = self.engine.config.snapshot_store
        store = open_store(url) if url else None
        try:
            known = [] if store is None else await newest(store, (await self.log.info()).log_id)
            return min((await find_cut(self.log, to, known)).offset, now), now
        finally:
            if store is not None:
                await store.close()

    async def _durable(self, commit: Commit, offset: int, limit_ms: int) -> None:
        until = time.monotonic() + limit_ms / 1000
        while commit.durable_offset < offset:
            if commit is not self.engine.commit or commit.stopped or time.monotonic() > until:
                raise TimeoutError("what was written before is not durable")
            await asyncio.sleep(STEP_S)

    async def _unless_gone(self, client: Client, blocked: Blocked, work: Awaitable[dict[str, int]]) -> dict[str, int]:
        """Wait for the work; a client that goes away, or is unblocked, ends it."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=0.1))[0]:
                if client.closing or client.blocked is not blocked:
                    raise TimeoutError("the client has gone, or was unblocked")
            return await task
        finally:
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    @traced("restore", lambda restoring: {"eventdb.offset": restoring.engine.commit.offset})
    async def _change(
        self, client: Client, blocked: Blocked, comparison: Here | Elsewhere, file: IO[bytes], cut: int,
        is_primary: Callable[[], bool],
    ) -> None:  # fmt: skip
        """Let writes wait, compare for good, make the transaction."""
        engine = self.engine
        commit, began = engine.commit, time.monotonic()
        engine.pause_writes(PAUSE_MS)
        try:
            async with asyncio.timeout(PAUSE_MS / 1000):
                commit.seal()
                await self._durable(commit, commit.offset, PAUSE_MS)
                before = commit.offset
                counts = await self._unless_gone(client, blocked, comparison.finish(before))
                plan = Plan(cut, before, counts, began)
                await self._fill(plan, file)
                await self._lease(plan.seconds())
            if client.closing or client.blocked is not blocked:
                raise TimeoutError("the client has gone, or was unblocked")
            if not is_primary() or commit is not engine.commit or commit.stopped:
                raise ReplyError("ERR this node is not the primary any more")
            if commit.offset != before:
                raise ReplyError("ERR something was written while writes were to wait")
            self._plan = plan
            engine.read_clock()
            engine.run_blocked(client)
        except TimeoutError as late:
            raise TimeoutError(str(late) or f"writes would have waited for more than {PAUSE_MS} ms") from None
        finally:
            self._plan = None
            engine.resume_writes()

    async def _fill(self, plan: Plan, file: IO[bytes]) -> None:
        """Turn the file into events. Raises BadRdb."""
        keyspace = self.engine.store.keyspace
        file.seek(0)
        for index, key in read_gone(file):
            plan.add(index, [b"DEL", key])
        reader = FileReader(Source(b"", file.read))
        code: dict[bytes, bytes] = {}
        seen: set[tuple[int, bytes]] = set()
        while events := reader.piece():
            db = 0
            for argv in events:
                if argv[0] == b"SELECT":
                    db = int(argv[1])
                elif argv[0] == LIBRARY:
                    code[argv[2]] = argv[3]
                else:
                    key = (touched_keys(argv, EVENTS[argv[0]].keys) or [b""])[0]
                    if (db, key) not in seen:
                        seen.add((db, key))
                        if key in keyspace.dbs[db].values and argv[0] != b"SET":  # which replaces whatever there is
                            plan.add(db, [b"DEL", key])
                    plan.add(db, argv)
            await asyncio.sleep(0)
        if plan.counts["functions"]:
            ours = keyspace.libraries.code
            for name in ours:
                if name not in code:
                    plan.add(0, [LIBRARY, b"DELETE", name])
            for name, text in code.items():
                if ours.get(name) != text:
                    plan.add(0, [LIBRARY, b"SET", name, text])

    async def _lease(self, seconds: float) -> None:
        """Wait for a lease that outlasts the transaction."""
        engine = self.engine
        while engine.on_long is not None:
            engine.read_clock()
            if engine.lease_until - engine.clock > seconds:
                return
            engine.on_long(seconds, False)
            await asyncio.sleep(STEP_S)

    def _run(self, client: Client) -> bytes:
        """Emit the plan: called by the engine as a blocked command that runs again."""
        plan, store = self._plan, self.engine.store
        self._under_way = None
        if plan is None:
            return b""
        for index, argv in plan.events:
            store.emit(store.keyspace.dbs[index], argv)
        offset = self.engine.commit.offset + (1 if store.events else 0)
        paused_ms = int((time.monotonic() - plan.paused) * 1000)
        if store.events:
            log.warning(
                "restored the state at offset %d in place, as transaction %d, for %s; undo: restore to offset %d",
                plan.cut, offset, client.address, plan.before,
            )  # fmt: skip
        return reply_of(client, plan.cut, offset, plan.before, plan.counts, paused_ms)

    async def close(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def reply_of(client: Client, cut: int, offset: int, before: int, counts: dict[str, int], paused_ms: int) -> bytes:
    """Facts by name. offset: of the restore's own transaction; 0: none was made, it is a dry run."""
    facts = {"cut": cut, "offset": offset, "before": before}
    facts |= {name: counts[name] for name in COUNTS} | {"paused-ms": paused_ms}
    return mapping([part for name, n in facts.items() for part in (bulk(name.encode()), integer(n))], client.resp3)
