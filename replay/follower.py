"""The loop that reads a log and applies it to a machine.

    where to start --rebuild--> up to what was durable, or exactly to a stop offset --follow--> for ever

A rebuild runs at full speed: a task reads (and, in the backend's threads, decompresses) the next stretch while this one
is applied, and the cyclic garbage collector is off, because it would walk millions of new objects that are no garbage.
Following works in slices of SLICE_MS, so that an event loop that also answers clients never waits long.

Invariant between two slices: the machine holds exactly the transactions up to `offset`, and reading from
`next_position` on, skipping those, gives the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Final

from eventdb.backends.log import Corrupt, Log, LogError, Record, RecordKind, Stretch
from eventdb.replay.completeness import Completeness, check_complete
from eventdb.replay.machine import Machine, Transaction
from eventdb.replay.reading import reading
from eventdb.replay.transaction import decode

SLICE_MS: Final = 2.0  # of work in follow mode before the loop gets its turn
SLICE_TRANSACTIONS: Final = 256  # between two looks at the clock
READ_AHEAD_MAX: Final = 2  # stretches (of about 1 MiB) read and not yet applied
PROGRESS_S: Final = 0.1  # between two progress reports
FREEZE_OBJECTS_MIN: Final = 100_000  # which a full collection looks through in some ten milliseconds


class NotApplied(Corrupt):
    """A transaction of durable history that this machine cannot apply: made by a newer version, or a bug."""


class Progress:
    """Where a rebuild stands. One object, updated in place: a callback keeps no reference to it."""

    def __init__(self, offset: int, target_offset: int) -> None:
        self.started = time.monotonic()
        self.first_offset = offset + 1
        self.offset = offset  # of the last transaction applied
        self.target_offset = target_offset  # where it ends, as known at the start
        self.time_ms = 0  # when the transaction `offset` was committed
        self.transactions = 0
        self.events = 0
        self.body_bytes = 0
        self.seconds = 0.0

    def fraction(self) -> float:
        """Done so far, 0 to 1."""
        whole = self.target_offset - self.first_offset + 1
        return 1.0 if whole <= 0 else min(1.0, self.transactions / whole)

    def events_per_second(self) -> float:
        return self.events / self.seconds if self.seconds > 0 else 0.0

    def describe(self) -> str:
        """One line for a person: "offset 510,000 of 1,000,000 (51%), 640,000 events/s"."""
        target = max(self.target_offset, self.offset)
        whole = f"offset {self.offset:,} of {target:,} ({self.fraction():.0%})"
        return f"{whole}, {self.events_per_second():,.0f} events/s"


OnProgress = Callable[[Progress], None]
OnRecord = Callable[[Record], None]


class Follower:
    """One machine's way through one log. Lives in one event loop."""

    def __init__(
        self,
        log: Log,
        machine: Machine,
        *,
        next_position: int = 0,
        offset: int = 0,
        after: int = -1,
        on_record: OnRecord | None = None,
        on_slice: Callable[[], None] | None = None,
        allow_incomplete: bool = False,
    ) -> None:
        """The machine holds the transactions up to `offset` (0: none); `next_position` is at or before the rest.

        after: the checksum of the latest record before `next_position`, where it is known: reading proves then that the
        log is the one that the machine's state was made from (else Corrupt).

        on_record: called after each record, claims and heartbeats too, when its transactions are applied.
        on_slice: called when others may look at the machine in the middle of a record: it then holds `offset`.
        allow_incomplete: read half a restore as well (only a restore does, to check its own work).
        """
        self.log = log
        self.machine = machine
        self.next_position = next_position
        self.offset = offset
        self.time_ms = 0  # of the last record seen, heartbeats included
        self.committed_ms = 0  # of the record with transaction `offset`, once one was applied
        self.epoch = 0
        self.on_record = on_record
        self.on_slice = on_slice
        self.clock: Callable[[], float] = time.perf_counter  # seconds; measures slices
        self.events = 0
        self.transactions = 0
        self.body_bytes = 0
        self.records = 0
        self._seen = (next_position, after)  # a position, and the checksum of the latest record before it
        self._completeness = None if allow_incomplete else Completeness(log.url)

    def begin_at(self, next_position: int, offset: int, after: int = -1) -> None:
        """The machine holds another state now: that of transaction `offset`; see `__init__`."""
        self.next_position, self.offset = next_position, offset
        self._seen = (next_position, after)

    async def rebuild(
        self,
        *,
        stop_offset: int | None = None,
        on_progress: OnProgress | None = None,
        between: Callable[[], Awaitable[None]] | None = None,
    ) -> Progress:
        """Apply what is durable now, or exactly the transactions up to `stop_offset`, at full speed.

        between: awaited after each stretch, for a caller that must not be outrun (a restore waits for its target
        there). Raises: Trimmed, Corrupt (and its child NotApplied), Unavailable, Incomplete; BeyondEnd when the log
        ends before `stop_offset`.
        """
        target = stop_offset
        if target is None:
            target = (await self.log.info()).last_offset
        progress = Progress(self.offset, target)
        before = (self.events, self.body_bytes)
        reported = progress.started
        with collector_paused():
            async with contextlib.aclosing(self._read_ahead()) as stretches:
                async for stretch in stretches:
                    if self._apply_stretch(stretch, stop_offset):
                        break
                    now = time.monotonic()
                    if on_progress is not None and now - reported >= PROGRESS_S:
                        reported = now
                        self._report(progress, before, on_progress)
                    if between is not None:
                        await between()
        self._report(progress, before, on_progress)
        if stop_offset is not None and self.offset < stop_offset:
            raise BeyondEnd(stop_offset, self.offset, self.log.url)
        if self._completeness is not None and self._completeness.restoring:
            await check_complete(self.log)
        return progress

    def _report(self, progress: Progress, before: tuple[int, int], on_progress: OnProgress | None) -> None:
        progress.offset = self.offset
        progress.time_ms = self.committed_ms
        progress.transactions = self.offset - progress.first_offset + 1
        progress.events = self.events - before[0]
        progress.body_bytes = self.body_bytes - before[1]
        progress.seconds = time.monotonic() - progress.started
        if on_progress is not None:
            on_progress(progress)

    async def follow(self) -> None:
        """Apply what becomes durable, for ever, in slices; cancel to stop: the invariant then holds.

        Raises what `rebuild` raises. A replica calls `rebuild` first.
        """
        async with reading(self.log, self.next_position, follow=True, after=self.checksum()) as stretches:
            async for stretch in stretches:
                for record in stretch.records:
                    await self._apply_sliced(record)
                self._reached(stretch)

    async def _read_ahead(self) -> AsyncGenerator[Stretch, None]:
        """The stretches from `next_position` to the end of what is durable, the next ones read while one is used."""
        queue: asyncio.Queue[Stretch | None] = asyncio.Queue(READ_AHEAD_MAX)

        async def read() -> None:
            try:
                async with reading(self.log, self.next_position, after=self.checksum()) as stretches:
                    async for stretch in stretches:
                        await queue.put(stretch)
            finally:
                with contextlib.suppress(asyncio.QueueFull):
                    queue.put_nowait(None)

        reader = asyncio.create_task(read())
        try:
            while not (reader.done() and queue.empty()):
                stretch = await queue.get()
                if stretch is not None:
                    yield stretch
            await reader
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, LogError):  # damage after a cut is not our matter
                await reader

    def _due(self, record: Record, stop_offset: int | None = None) -> list[Transaction]:
        """Decode what of this record is still to be applied: not before `offset`, not after `stop_offset`."""
        if record.kind is not RecordKind.DATA:
            if record.kind is RecordKind.CLAIM and self._completeness is not None:
                self._completeness.claimed(record)
            return []
        first, last = record.first_offset, record.last_offset
        if first > self.offset + 1:
            raise Corrupt(
                f"transactions {self.offset + 1} to {first - 1} are missing:"
                f" the record at position {record.position} starts with {first}"
            )
        if last <= self.offset or (stop_offset is not None and first > stop_offset):
            return []
        transactions = decode(record)
        if stop_offset is not None and last > stop_offset:
            del transactions[stop_offset - first + 1 :]
        if first <= self.offset:
            del transactions[: self.offset - first + 1]
        return transactions

    def _apply_stretch(self, stretch: Stretch, stop_offset: int | None) -> bool:
        """Apply a stretch; True when the cut was reached: reading goes on after the last record applied whole."""
        for record in stretch.records:
            if stop_offset is not None and self.offset >= stop_offset:
                return True
            transactions = self._due(record, stop_offset)
            if transactions:
                self._run(record, transactions)
            self._passed(record)
            if record.kind is RecordKind.DATA:
                if record.last_offset > self.offset:
                    return True  # cut inside it: it will be read again
                self.next_position = record.position + 1
                self._seen = (record.position + 1, record.checksum)
        self._reached(stretch)
        return stop_offset is not None and self.offset >= stop_offset

    def _reached(self, stretch: Stretch) -> None:
        self.next_position = stretch.next_position
        before = [record for record in stretch.records if record.position < stretch.next_position]
        self._seen = (stretch.next_position, before[-1].checksum if before else self._seen[1])

    def checksum(self) -> int:
        """What the record at `next_position` must follow: reading goes on in the history that was read."""
        position, checksum = self._seen
        return checksum if position == self.next_position else -1

    async def _apply_sliced(self, record: Record) -> None:
        transactions = self._due(record)
        if self._completeness is not None:
            self._completeness.check()
        started = self.clock()
        for at in range(0, len(transactions), SLICE_TRANSACTIONS):
            self._run(record, transactions[at : at + SLICE_TRANSACTIONS])
            if (self.clock() - started) * 1000 >= SLICE_MS:
                if self.on_slice is not None:
                    self.on_slice()
                await asyncio.sleep(0)
                started = self.clock()
        self._passed(record)

    def _run(self, record: Record, transactions: list[Transaction]) -> None:
        try:
            self.events += self.machine.apply(transactions)
        except Exception as error:
            first, last = self.offset + 1, self.offset + len(transactions)
            raise NotApplied(
                f"a transaction of {first} to {last} (position {record.position}, epoch {record.epoch})"
                f" cannot be applied: {type(error).__name__}: {error}"
            ) from error
        self.offset += len(transactions)
        self.committed_ms = record.time_ms
        self.transactions += len(transactions)

    def _passed(self, record: Record) -> None:
        self.records += 1
        self.body_bytes += len(record.body)
        self.time_ms = record.time_ms
        self.epoch = record.epoch
        if self.on_record is not None:
            self.on_record(record)


class BeyondEnd(LogError):  # noqa: N818 - named as the errors of log.py are
    """The log ends before the offset asked for."""

    def __init__(self, wanted_offset: int, last_offset: int, url: str) -> None:
        super().__init__(f"{url} ends at offset {last_offset}: there is no offset {wanted_offset} yet")
        self.wanted_offset = wanted_offset
        self.last_offset = last_offset


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """No cyclic garbage collection inside; what was made is then left out of every later one, if it is much.

    Freezing matters as much as pausing: one full collection over a million values stops a server for a second. What is
    frozen is never collected, so a program that replays one small log after another would grow by each.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
        if gc.get_count()[0] > FREEZE_OBJECTS_MIN:
            gc.freeze()
