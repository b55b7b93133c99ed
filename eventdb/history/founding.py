"""A new log from a snapshot and the rest of a log whose beginning was trimmed.

    snapshot -> transactions that make its state -> the records after it, up to the cut -> read back -> it counts

The state becomes ordinary transactions, as an import's does, and the new log begins with them as its offset 1: a log's
offsets have no gaps, and what the trimmed transactions were nobody knows any more. Times are kept: the state bears that
of the snapshot, what came after its own.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from dataclasses import dataclass
from typing import BinaryIO

from eventdb.backends.log import Corrupt, Log, Record, RecordKind, Trimmed
from eventdb.backends.seal import CannotOpen
from eventdb.history.importing import FileCopy, FileProgress
from eventdb.rdb.reader import FileReader
from eventdb.rdb.source import Source
from eventdb.replay.belonging import NewerThanLog, OtherLog, check_gives
from eventdb.replay.cut import Cut, HistoryTrimmed, To, find_cut
from eventdb.replay.filling import Filling, Mismatch, OnPhase, begin, check_empty
from eventdb.replay.follower import Follower, collector_paused
from eventdb.replay.machine import Machine, MachineFactory
from eventdb.replay.manifest import Manifest
from eventdb.replay.restore import Restored
from eventdb.replay.sealing import keys_of
from eventdb.replay.snapshots import SnapshotDamaged, export, follow_from, newest
from eventdb.replay.store import SnapshotStore
from eventdb.replay.transaction import decode, encode


@dataclass(frozen=True, slots=True)
class Founded:
    """What it ended with."""

    restored: Restored
    snapshot: Manifest
    offset: int  # in the new log, of the transaction that is `restored.offset` in the old one


async def restore_from_snapshot(
    source: Log,
    store: SnapshotStore,
    target: Log,
    to: To,
    make_machine: MachineFactory,
    *,
    on_progress: OnPhase | None = None,
) -> Founded:
    """Fill the empty log `target` with the state at `to`, by way of the nearest snapshot before.

    Raises HistoryTrimmed (no snapshot will do), and what `find_cut`, reading and filling raise; the target is then
    half a restore, or untouched.
    """
    began = time.monotonic()
    await check_empty(target, source.url)
    known = await newest(store, (await source.info()).log_id)
    cut = await find_cut(source, to, known)
    with tempfile.TemporaryFile() as file:
        start = await _fetch(source, store, known, cut, file)
        filling = await begin(target, source.url)
        copy = _Tail(source, filling, cut, start, make_machine())
        try:
            with collector_paused():
                await copy.found(file, on_progress)
            await copy.follow(on_progress)
        finally:
            await filling.close()
    offset, events, size = copy.offset, copy.events, filling.copied_bytes
    key_count = copy.machine.key_count()
    del copy  # two states at once need not fit into memory
    digest = await filling.prove(make_machine, offset, key_count, on_progress=on_progress)
    seconds = time.monotonic() - began
    return Founded(Restored(cut.offset, cut.time_ms, key_count, digest, events, size, seconds), start, offset)


async def _fetch(source: Log, store: SnapshotStore, known: list[Manifest], cut: Cut, file: BinaryIO) -> Manifest:
    """Copy the nearest snapshot that can be used into `file`, its SHA-256 compared. Raises HistoryTrimmed."""
    refused: list[str] = []
    for start in known:
        if start.offset > cut.offset:
            continue
        try:
            await check_gives(source, start, cut.offset)
            file.seek(0)
            file.truncate()
            await export(store, start, file.write, keys_of(source))
            return start
        except (SnapshotDamaged, OtherLog, NewerThanLog, Corrupt, Trimmed, CannotOpen) as error:
            refused.append(str(error))
        except OSError as error:  # of the file: those of the store have names of their own
            raise OSError(error.errno, error.strerror or str(error), f"{tempfile.gettempdir()} (TMPDIR)") from error
    why = f": {'; '.join(refused)}" if refused else ""
    raise HistoryTrimmed(f"no snapshot in {store.url} is at or before offset {cut.offset} and can be used{why}")


class _Tail:
    """The pass over snapshot and log: all goes into the target and into a machine."""

    def __init__(self, source: Log, filling: Filling, cut: Cut, start: Manifest, machine: Machine) -> None:
        self.machine = machine
        self.filling = filling
        self.cut = cut
        self.start = start
        self.offset = 0  # in the target
        self.events = 0
        self._follower = follow_from(source, start, machine)
        self._follower.on_record = self._record
        self._time_ms = start.time_ms

    async def found(self, file: BinaryIO, on_progress: OnPhase | None) -> None:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        reader = FileReader(Source(b"", file.read))
        copy = FileCopy(reader, self.filling, self.machine, FileProgress(size), None, time_ms=self.start.time_ms)
        await copy.run(on_progress)
        digest = await asyncio.to_thread(self.machine.digest)
        if digest != self.start.digest:
            raise Mismatch(f"snapshot {self.start.name} gives digest {digest}; its manifest says {self.start.digest}")
        self.offset, self.events = copy.offset, copy.progress.events

    async def follow(self, on_progress: OnPhase | None) -> None:
        follower: Follower = self._follower
        if self.cut.offset > self.start.offset:
            report = None if on_progress is None else lambda progress: on_progress("copy", progress)
            await follower.rebuild(stop_offset=self.cut.offset, on_progress=report, between=self.filling.room)
        await self.filling.room(0)
        self.events += follower.events

    def _record(self, record: Record) -> None:
        """Append what of this record lies after the snapshot and before the cut; the follower has applied just that."""
        first, last = max(record.first_offset, self.start.offset + 1), min(record.last_offset, self.cut.offset)
        if record.kind is not RecordKind.DATA or last < first:
            return
        body = record.body
        if last - first + 1 < record.count:
            body = encode(decode(record)[first - record.first_offset : last - record.first_offset + 1])
        self._time_ms = max(self._time_ms, record.time_ms)
        self.filling.append(body, first_offset=self.offset + 1, count=last - first + 1, time_ms=self._time_ms)
        self.offset += last - first + 1
