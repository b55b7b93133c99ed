"""`memory:` and `memory:NAME`: the log of one process, durable for nobody.

For tests and for embedding without files. `memory:` is a new, private log each time it is opened;
`memory:NAME` is one history for every Log object of the process that names it, and lives as long as
one of them does. It keeps the whole contract: positions, epochs, fencing, trimming. Records are held
as they are: there is nothing to frame, checksum or split.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from eventdb.backends.log import (
    BadLogURL,
    Fenced,
    Indeterminate,
    LogInfo,
    Record,
    RecordKind,
    Stretch,
    Trimmed,
    WriterStats,
    ZoneInfo,
)

if TYPE_CHECKING:
    from eventdb.backends.seal import Keyring

BATCH_BYTES: Final = 1 << 20


class SharedRecords:
    """The records of one log and the epoch that may add to them. Shared by threads: `lock` guards all of it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.records: list[Record] = []
        self.first_position = 0  # of records[0], or of the next record when all are trimmed
        self.epoch = 0
        self.next_offset = 1
        self.first_offset = 1
        self.last_time_ms = 0
        self.stored_bytes = 0
        self.log_id = os.urandom(16).hex()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    @property
    def end_position(self) -> int:
        return self.first_position + len(self.records)

    def add(self, record: Record) -> None:
        """Append one record and wake the readers; the lock is held."""
        assert record.position == self.end_position
        self.records.append(record)
        self.next_offset = record.first_offset + record.count
        self.last_time_ms = record.time_ms
        self.stored_bytes += len(record.body)
        waiting, self._waiting = self._waiting, []
        for loop, event in waiting:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:
                pass  # that reader's loop has ended, and the reader with it

    def wait(self) -> asyncio.Event:
        """An event set by the next record; the lock is held, so none can slip in between."""
        event = asyncio.Event()
        self._waiting.append((asyncio.get_running_loop(), event))
        return event


_named: Final[weakref.WeakValueDictionary[str, SharedRecords]] = weakref.WeakValueDictionary()
_named_lock: Final = threading.Lock()


def open_memory(url: str) -> MemoryLog:
    """Open `memory:` (private) or `memory:NAME` (shared in this process). Raises BadLogURL."""
    name = url.partition(":")[2]
    if "?" in name or "/" in name:
        raise BadLogURL(f"{url!r}: memory: takes a plain name and no options")
    if not name:
        return MemoryLog(url, SharedRecords())
    with _named_lock:
        history = _named.get(name)
        if history is None:
            history = _named[name] = SharedRecords()
    return MemoryLog(url, history)


class MemoryWriter:
    """The writer of one epoch. `hold()` and `release()` are for tests of what waits for durability."""

    def __init__(self, history: SharedRecords, epoch: int) -> None:
        self.epoch = epoch
        self.next_offset = history.next_offset
        self.last_time_ms = history.last_time_ms
        self.stats = WriterStats()
        self._history = history
        self._held: list[tuple[asyncio.Future[int], RecordKind, int, int, int, bytes]] | None = None
        self._closed = False

    def zone_states(self) -> list[tuple[str, str, str]]:
        return [("memory", "up", "")]

    def zone_times(self) -> list[tuple[str, int, float]]:
        return []

    def append(
        self, body: bytes, *, first_offset: int, count: int, time_ms: int, kind: RecordKind = RecordKind.DATA
    ) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_exception(Indeterminate("the writer is closed"))
            return future
        assert first_offset == self.next_offset, (first_offset, self.next_offset)
        assert time_ms >= self.last_time_ms, (time_ms, self.last_time_ms)
        self.next_offset = first_offset + count
        self.last_time_ms = time_ms
        if self._held is not None:
            self._held.append((future, kind, first_offset, count, time_ms, bytes(body)))
        else:
            self._commit(future, kind, first_offset, count, time_ms, bytes(body))
        return future

    def _commit(
        self, future: asyncio.Future[int], kind: RecordKind, first_offset: int, count: int, time_ms: int, body: bytes
    ) -> None:
        history = self._history
        with history.lock:
            fenced_by = history.epoch if history.epoch != self.epoch else 0
            if not fenced_by:
                position = history.end_position
                history.add(Record(position, self.epoch, kind, first_offset, count, time_ms, body))
        if fenced_by:
            if not future.done():
                future.set_exception(Fenced(f"epoch {self.epoch} was fenced by epoch {fenced_by}"))
            return
        stats = self.stats
        stats.records += 1
        stats.transactions += count
        stats.body_bytes += len(body)
        stats.stored_bytes += len(body)
        stats.syncs += 1
        if not future.done():
            future.set_result(position)

    def hold(self) -> None:
        """From now on appends stay pending, as if no majority could be reached."""
        if self._held is None:
            self._held = []

    def release(self) -> None:
        """End `hold()`: what is pending is decided now, in order."""
        held, self._held = self._held, None
        for future, kind, first_offset, count, time_ms, body in held or ():
            self._commit(future, kind, first_offset, count, time_ms, body)

    async def close(self) -> None:
        self._closed = True
        held, self._held = self._held, None
        for entry in held or ():
            if not entry[0].done():
                entry[0].set_exception(Indeterminate("the writer was closed before the append was durable"))


class MemoryLog:
    def __init__(self, url: str, history: SharedRecords) -> None:
        self.url = url
        self.keys: Keyring | None = None
        self._history = history
        self._writers: list[MemoryWriter] = []

    async def claim(self, node: str, address: str = "") -> MemoryWriter:
        history = self._history
        with history.lock:
            history.epoch += 1
            body = f"{node} {address}".rstrip().encode()
            history.add(
                Record(
                    history.end_position,
                    history.epoch,
                    RecordKind.CLAIM,
                    history.next_offset,
                    0,
                    history.last_time_ms,
                    body,
                )
            )
            writer = MemoryWriter(history, history.epoch)
        self._writers.append(writer)
        return writer

    async def read(self, start: int = 0, *, follow: bool = False, after: int = -1) -> AsyncIterator[Stretch]:
        history = self._history
        position = start
        while True:
            event: asyncio.Event | None = None
            with history.lock:
                if position < history.first_position:
                    raise Trimmed(f"position {position} was trimmed; the first one kept is {history.first_position}")
                records = _bounded(history.records, position - history.first_position)
                if not records and follow:
                    event = history.wait()
            if records:
                position = records[-1].position + 1
                yield Stretch(records, position)
            elif event is not None:
                await event.wait()
            else:
                return

    def use_keys(self, keys: Keyring) -> None:
        """Nothing of this log is ever stored; but a snapshot of it is."""
        self.keys = keys

    def hurry(self) -> None:
        """Nothing to do: its readers are woken."""

    async def seek(self, offset: int) -> int:
        history = self._history
        with history.lock:
            if offset < history.first_offset:
                raise Trimmed(f"transaction {offset} was trimmed; the first one kept is {history.first_offset}")
            low, high = 0, len(history.records)
            while low < high:
                middle = (low + high) // 2
                if history.records[middle].last_offset < offset:
                    low = middle + 1
                else:
                    high = middle
            return history.first_position + low

    async def trim(self, before_position: int) -> None:
        history = self._history
        with history.lock:
            drop = min(before_position, history.end_position) - history.first_position
            if drop <= 0:
                return
            for record in history.records[:drop]:
                history.stored_bytes -= len(record.body)
                history.first_offset = record.first_offset + record.count
            del history.records[:drop]
            history.first_position += drop

    async def info(self) -> LogInfo:
        history = self._history
        with history.lock:
            zone = ZoneInfo("memory", "up", "", history.first_position, history.end_position, history.stored_bytes, 1)
            return LogInfo(
                self.url,
                history.epoch,
                history.first_position,
                history.end_position,
                history.first_offset,
                history.next_offset - 1,
                history.last_time_ms,
                (zone,),
                history.log_id,
            )

    async def verify(self) -> AsyncIterator[str]:
        return
        yield ""  # what makes it a generator; there is nothing on any disk to check

    async def is_empty(self) -> bool:
        return self._history.epoch == 0

    async def close(self) -> None:
        for writer in self._writers:
            await writer.close()
        self._writers.clear()


def _bounded(records: list[Record], at: int) -> tuple[Record, ...]:
    """Records from index `at`, up to BATCH_BYTES of bodies and at least one."""
    stop = at
    size = 0
    while stop < len(records) and (stop == at or size + len(records[stop].body) <= BATCH_BYTES):
        size += len(records[stop].body)
        stop += 1
    return tuple(records[at:stop])
