"""Live migration: a new log is filled from a running Redis or Valkey until the programs turn to eventdb.

The source's file is the beginning, then its stream follows, command by command (`incoming.py`). The last transaction
of each record bears `import ID:OFFSET:DB` as its origin: up to which byte of which stream the log holds it, and the
database that the stream is in. A record is there or not, so what is interrupted anywhere goes on exactly there, and
nothing else has to be remembered. The log counts only after the cut-over, when it was read back and compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from eventdb.backends.log import Log, LogError, Refillable
from eventdb.engine.engine import Engine
from eventdb.history.importing import CheckUser, FileCopy, FileProgress, check_file
from eventdb.history.incoming import RECORD_BYTES, Incoming, make_engine
from eventdb.history.psync import Address, Feed, Link, SourceError
from eventdb.rdb.aof import CommandReader
from eventdb.rdb.codes import BadRdb, Unkept
from eventdb.rdb.reader import FileReader
from eventdb.rdb.source import Source
from eventdb.replay.completeness import Incomplete
from eventdb.replay.filling import Filling, OnPhase, begin, check_empty, resume, state_of
from eventdb.replay.follower import Follower, collector_paused
from eventdb.replay.machine import MachineFactory, Read, Transaction, Write

READ_BYTES: Final = 1 << 20
ORIGIN: Final = re.compile(rb"import ([0-9a-f]{40}):(\d+):(\d+)")
SETTLE_S: Final = 1.0  # of the busiest stream, between two looks at what is durable
IDLE_S: Final = 0.2
ASK_S: Final = 0.3  # between two questions for the source's offset
REPORT_S: Final = 1.0
PAUSE_MS: Final = 30_000
PAUSE_AGAIN_S: Final = 10.0
PAUSE_AFTER_MS: Final = 3_600_000

NEVER: Final = "never"
ZERO: Final = "zero"
PAUSE: Final = "pause"


class Stopped(LogError):  # noqa: N818 - named as the errors of log.py are
    """It was asked to end before the source's file was whole in the log."""


@dataclass(slots=True)
class Status:
    """How far a migration is."""

    phase: str = "connect"  # connect, receive, copy, follow, pause, verify
    received: int = 0  # bytes of the file, or offset of the stream
    size: int = 0  # of the file, 0: not known
    lag_bytes: int = 0  # received and not yet durable here
    offset: int = 0  # of the log
    commands: int = 0
    trouble: str = ""  # why there is no connection


@dataclass(slots=True)
class Migrated:
    """What a migration ended with."""

    finished: bool  # the log counts; False: it can go on later
    offset: int
    key_count: int = 0
    digest: str = ""
    stream_id: str = ""
    stream_offset: int = 0
    commands: int = 0
    reconnects: int = 0
    paused: bool = False  # the source takes no writes
    pause_s: float = 0.0
    skipped: dict[str, int] = field(default_factory=dict)


OnStatus = Callable[[Status], None]


class _Rebuilt:
    """The engine of a migration that goes on, and the origin of the last transaction that it was given."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.origin = b""

    def apply(self, transactions: list[Transaction]) -> int:
        if transactions:
            origin = transactions[-1][0]
            assert isinstance(origin, bytes)
            self.origin = origin
        return self.engine.apply(transactions)

    def digest(self) -> str:
        return self.engine.digest()

    def key_count(self) -> int:
        return self.engine.key_count()

    def type_counts(self) -> dict[str, int]:
        return self.engine.type_counts()

    def dump(self, write: Write, facts: dict[str, str]) -> None:
        self.engine.dump(write, facts)

    def load(self, read: Read) -> None:
        self.engine.load(read)


class Migration:
    """One run of it. stop: set it to end at a state that can go on."""

    def __init__(
        self, target: Log, address: Address, *, cutover: str = NEVER, skip: bool = False,
        on_status: OnStatus | None = None, check_user: CheckUser | None = None,
    ) -> None:  # fmt: skip
        self.target = target
        self.address = address
        self.cutover = cutover
        self.skip = skip
        self.on_status = on_status
        self.check_user = check_user
        self.stop = asyncio.Event()
        self.wake = asyncio.Event()
        self.status = Status()
        self.engine = make_engine()
        self.position = 0  # of the stream: up to where it was run
        self.durable = 0  # of the stream: up to where the log holds it
        self._reported = time.monotonic()
        self._paused_at = self._paused_first = 0.0  # when the source was last told, and first

    async def run(self, make_machine: MachineFactory, on_progress: OnPhase | None = None) -> Migrated:
        """Raises SourceError, BadRdb and Unkept for the source, Stopped, and what filling a log raises."""
        filling, had = await self._go_on(on_progress)
        loop = asyncio.get_running_loop()
        self.feed = Feed(self.address, had, lambda: _call(loop, self.wake.set))
        self.feed.start()
        try:
            if filling is None:
                await self._wait(lambda: self.feed.file_offset >= 0, "receive")
                filling = await begin(self.target, self.address.shown)
            filling.is_stopped = self.stop.is_set
            try:
                return await self._fill(filling, had, make_machine, on_progress)
            except BaseException:
                await self._unpause()
                raise
            finally:
                await filling.close()
        finally:
            await asyncio.to_thread(self.feed.end)

    async def _go_on(self, on_progress: OnPhase | None) -> tuple[Filling | None, tuple[str, int] | None]:
        """What an interrupted migration has left in the log, built up again; (None, None) to begin with the file."""
        target = self.target
        if isinstance(target, Refillable) and await target.half_emptied():
            return None, None
        anew = False
        try:
            if await check_empty(target, self.address.shown):
                return None, None
            anew = True
        except Incomplete:  # another name of the same source, or nothing can be removed here: see what there is
            pass
        filling = await resume(target, self.address.shown)
        try:
            rebuilt = _Rebuilt(self.engine)
            follower = Follower(self.target, rebuilt, allow_incomplete=True)
            report = None if on_progress is None else lambda progress: on_progress("replay", progress)
            await follower.rebuild(on_progress=report)
            found = ORIGIN.fullmatch(rebuilt.origin)
            if found is None and anew:
                await filling.close()
                self.engine = make_engine()
                return None, None
            if found is None:
                raise Incomplete(
                    f"{target.url} holds part of an import that cannot go on: it ended before the source's file"
                    " was whole. Delete it and begin again; the source is untouched"
                )
        except BaseException:
            await filling.close()
            raise
        self.incoming = self._incoming(filling, follower.offset)
        self.incoming.client.db = self.engine.store.keyspace.dbs[int(found[3])]
        self.position = self.durable = int(found[2])
        return filling, (found[1].decode(), self.position)

    def _incoming(self, filling: Filling, offset: int) -> Incoming:
        return Incoming(self.engine, filling, offset, strict=True, skip=self.skip)

    async def _fill(
        self, filling: Filling, had: tuple[str, int] | None, make_machine: MachineFactory, on_progress: OnPhase | None
    ) -> Migrated:
        feed = self.feed
        with collector_paused():
            if had is None:
                await self._copy_file(filling)
            ended = await self._follow(filling)
        incoming = self.incoming
        result = Migrated(
            ended, incoming.offset, stream_id=feed.replication_id, stream_offset=self.durable,
            commands=incoming.command_count, reconnects=feed.reconnects, skipped=incoming.skipped,
        )  # fmt: skip
        if not ended:
            return result
        result.key_count, result.digest = state_of(self.engine)
        del self.engine, self.incoming, incoming
        await filling.close()
        await self._prove(filling, result, make_machine, on_progress)
        return result

    # -- the file

    async def _copy_file(self, filling: Filling) -> None:
        file = self.feed.file
        size = check_file(file)
        reader = FileReader(Source(b"", file.read), self.skip)
        copy = FileCopy(reader, filling, self.engine, FileProgress(size), self.check_user)
        self.status.size = size

        def report(_phase: str, _progress: object) -> None:
            self.status.received, self.status.offset = reader.source.position(), copy.offset
            self._say("copy", 0.0)
            if self.stop.is_set():
                again = "Run this again" if isinstance(self.target, Refillable) else "Delete it and run this again"
                raise Stopped(
                    f"stopped while the source's file was copied: {self.target.url} cannot go on from there. {again}"
                    " to begin with the file anew; the source is untouched"
                )

        await copy.run(report)
        self.incoming = self._incoming(filling, copy.offset)
        self.incoming.skipped.update(reader.skipped)
        self.position = self.feed.file_offset
        self.incoming.mark()
        await self._settle(filling)
        file.truncate(0)

    # -- the stream

    async def _follow(self, filling: Filling) -> bool:
        """Until the cut-over (True), or until it is to stop (False)."""
        feed, incoming = self.feed, self.incoming
        reader = CommandReader(self.position)
        settled = asked = time.monotonic()
        goal = -1  # the source's offset, once it was asked for
        while True:
            data = feed.spool.take(READ_BYTES)
            if data:
                wants_ack = self._run(reader, data, filling)
                await filling.room()
                await asyncio.sleep(0)
            now = time.monotonic()
            if not data or now - settled > SETTLE_S:
                await self._settle(filling)
                settled = time.monotonic()
                feed.acknowledge(self.durable, at_once=not data or wants_ack)
            self.status.lag_bytes = feed.received - self.durable
            self.status.received, self.status.offset = feed.received, incoming.offset
            self.status.commands = incoming.command_count
            self._say("follow")
            if self.stop.is_set():
                await self._settle(filling)
                await self._unpause()
                return False
            if len(data) == READ_BYTES:
                continue
            if feed.error is not None:
                raise feed.error
            if self.cutover != NEVER and feed.connected and not feed.trouble:
                if goal >= 0 and self.durable >= goal and not data and incoming.queue is None:
                    return True
                if time.monotonic() - asked > ASK_S:
                    asked = time.monotonic()
                    goal = await self._ask()
            await self._pause_again()
            if data:
                continue
            self.wake.clear()
            await _within(self.wake.wait(), IDLE_S)

    def _run(self, reader: CommandReader, data: bytes, filling: Filling) -> bool:
        """Run the commands in `data`; returns whether the source asks how far we are."""
        incoming = self.incoming
        asked = False
        reader.feed(data)
        try:
            while (argv := reader.next()) is not None:
                if argv[0].upper() == b"REPLCONF":
                    asked = True
                    incoming.command_count += 1
                    if incoming.queue is None:
                        self.position = reader.whole_at
                elif incoming.run(argv, reader.whole_at):
                    self.position = reader.whole_at
                    if incoming.waiting_bytes >= RECORD_BYTES:
                        incoming.flush(self._origin())
        except Unkept:
            raise
        except BadRdb as error:
            raise SourceError(f"the stream of {self.address.shown}: {error}") from None
        return asked

    def _origin(self) -> bytes:
        db = self.incoming.client.db.index
        return b"import %b:%d:%d" % (self.feed.replication_id.encode(), self.position, db)

    async def _settle(self, filling: Filling) -> None:
        """Make durable what was run."""
        position = self.position
        self.incoming.flush(self._origin())
        await filling.room(0)
        self.durable = position

    # -- the cut-over

    async def _ask(self) -> int:
        """The source's offset now; with PAUSE, from when on it takes no writes."""
        pauses = self.cutover == PAUSE
        try:
            if pauses and not self._paused_at:
                await asyncio.to_thread(self._command, b"CLIENT", b"PAUSE", b"%d" % PAUSE_MS, b"WRITE")
                self._paused_at = self._paused_first = time.monotonic()
            info = await asyncio.to_thread(self._command, b"INFO", b"replication")
        except OSError:
            return -1  # asked again
        found = re.search(rb"^master_repl_offset:(\d+)", info, re.MULTILINE)
        if found is None:
            raise SourceError("INFO of the source says no master_repl_offset")
        return int(found[1])

    async def _pause_again(self) -> None:
        if self._paused_at and time.monotonic() - self._paused_at > PAUSE_AGAIN_S:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._command, b"CLIENT", b"PAUSE", b"%d" % PAUSE_MS, b"WRITE")
                self._paused_at = time.monotonic()

    async def _unpause(self) -> None:
        if self._paused_at:
            self._paused_at = 0.0
            with contextlib.suppress(OSError, SourceError):
                await asyncio.to_thread(self._command, b"CLIENT", b"UNPAUSE")

    def _command(self, *argv: bytes) -> bytes:
        link = Link(self.address)
        try:
            return link.call(*argv)
        finally:
            link.close()

    async def _prove(
        self, filling: Filling, result: Migrated, make_machine: MachineFactory, on_progress: OnPhase | None
    ) -> None:
        """Read it back, while the source stays paused."""

        async def keep_paused() -> None:
            while True:
                await self._pause_again()
                await asyncio.sleep(1)

        keeper = asyncio.ensure_future(keep_paused())
        try:
            await filling.prove(make_machine, result.offset, result.key_count, result.digest, on_progress)
        finally:
            keeper.cancel()
        if self._paused_at:
            result.pause_s = time.monotonic() - self._paused_first
            await asyncio.to_thread(self._command, b"CLIENT", b"PAUSE", b"%d" % PAUSE_AFTER_MS, b"WRITE")
            result.paused = True

    # -- waiting and saying

    async def _wait(self, condition: Callable[[], bool], phase: str) -> None:
        while not condition():
            if self.feed.error is not None:
                raise self.feed.error
            if self.stop.is_set():
                raise Stopped("stopped before anything was written; the source is untouched")
            self.wake.clear()
            self.status.received, self.status.size = self.feed.file_bytes, self.feed.file_size
            self._say(phase)
            await _within(self.wake.wait(), IDLE_S)

    def _say(self, phase: str, every_s: float = REPORT_S) -> None:
        now = time.monotonic()
        self.status.phase = phase
        self.status.trouble = "" if self.feed.connected else self.feed.trouble
        if self.on_status is not None and now - self._reported >= every_s:
            self._reported = now
            self.on_status(self.status)


async def _within(waiting: Awaitable[object], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(waiting, seconds)


def _call(loop: asyncio.AbstractEventLoop, action: Callable[[], object]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(action)
