"""Bring a node's engine to the end of its log: from the newest snapshot that can be used, else from the beginning.

A snapshot is loaded in a thread, into a keyspace that nobody sees; what answers meanwhile (INFO, PING) reads the
engine's own, which is empty. Then the one takes the place of the other, and the rest of the log is replayed into it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from eventdb.backends.log import Record, RecordKind, Trimmed
from eventdb.history.view import View
from eventdb.node.reloading import take_over
from eventdb.replay.reading import reading
from eventdb.replay.state import NoState, loaded, without
from eventdb.replay.stores import BadStoreURL, open_store

if TYPE_CHECKING:
    from eventdb.backends.log import Log
    from eventdb.engine.engine import Engine
    from eventdb.node.succession import Standing
    from eventdb.replay.follower import Follower, OnProgress, Progress
    from eventdb.replay.manifest import Manifest
    from eventdb.replay.store import SnapshotStore

logger: Final = logging.getLogger("eventdb")

BACK_FACTOR: Final = 4  # for each step further back in search of a statement
ATTEMPTS: Final = 3  # to find a snapshot that is not outrun by a trim while it is loaded


class Rebuilding:
    """Of one node."""

    def __init__(self, engine: Engine, log: Log, standing: Standing) -> None:
        self.engine = engine
        self.log = log
        self.standing = standing  # told what the skipped part of the log says of the primary
        self._store: SnapshotStore | None = None

    @property
    def store(self) -> SnapshotStore | None:
        """Where snapshots of the log are, if `snapshot-store` says so. Raises BadStoreURL."""
        url = self.engine.config.snapshot_store
        if self._store is None and url:
            self._store = open_store(url)
        return self._store

    def can_begin_anew(self) -> bool:
        try:
            return self.store is not None
        except BadStoreURL:
            return False

    async def run(self, follower: Follower, on_progress: OnProgress | None) -> None:
        """Apply all that is durable; the engine holds what `follower` says, at first perhaps nothing.

        Raises NoState, StoreError, and what reading the log raises: Trimmed for a follower that was outrun.
        """
        for attempt in range(ATTEMPTS):
            fresh = follower.offset == 0 and follower.transactions == 0
            if fresh and self.engine.config.snapshot_store:
                await self._load(follower, on_progress)
            try:
                await follower.rebuild(on_progress=on_progress)
                return
            except Trimmed as error:
                if not fresh:
                    raise
                if self.store is None or attempt == ATTEMPTS - 1 or follower.transactions:
                    raise NoState(f"{without(self.log, self.store, None)}: {error}") from error
                self.engine.reset_state()  # trimmed since we looked: the next look finds a newer snapshot
                follower.begin_at(0, 0)

    async def _load(self, follower: Follower, on_progress: OnProgress | None) -> None:
        limits = self.engine.store.keyspace.limits

        def report(_phase: str, progress: Progress) -> None:
            if on_progress is not None:
                on_progress(progress)

        assert self.store is not None
        found = await loaded(self.log, self.store, lambda: View(limits), on_progress=report)
        if found is None:
            return
        machine, start = found
        words, whole = await words_before(self.log, start)
        self.standing.begins_after(words, whole=whole)
        take_over(machine.keyspace, self.engine.store.keyspace)
        self.engine.follow_users()
        follower.begin_at(start.position, start.offset, start.checksum)
        follower.committed_ms, follower.epoch = start.time_ms, start.epoch
        logger.info("loaded snapshot %s: %d keys at offset %d", start.name, start.key_count, start.offset)

    async def close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            await store.close()


async def words_before(log: Log, start: Manifest) -> tuple[list[Record], bool]:
    """Claims and heartbeats before the snapshot, back to a statement of its primary if the log still has one.

    And whether they are all that there ever were.

    A node that begins with the snapshot alone would not know that somebody holds a lease. Raises LogError.
    """
    info = await log.info()
    back = 1
    while True:
        offset = max(start.offset + 1 - back, info.first_offset)
        first = offset <= info.first_offset
        words: list[Record] = []
        async with reading(log, info.first_position if first else await log.seek(offset)) as stretches:
            async for stretch in stretches:
                words.extend(
                    record
                    for record in stretch.records
                    if record.kind is not RecordKind.DATA and record.position < start.position
                )
                if stretch.next_position >= start.position:
                    break
        if first or any(record.kind is RecordKind.HEARTBEAT and record.body for record in words):
            return words, first and info.first_position == 0
        back *= BACK_FACTOR
