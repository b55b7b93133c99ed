"""The store: the keyspace, and the transaction in the making. Command handlers read and write through it.

It has the clock and the source of chance that a handler may use, and no way to a client, a server or a log: so the same
handlers run on a view of the past. `commit` is told which keys are dirty, that is all.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from eventdb.engine.watching import DbKey, Watching
from eventdb.keyspace.databases import Db, Keyspace
from eventdb.keyspace.events import (
    EVENTS,
    KEY_COPY,
    KEY_FIRST,
    KEY_MOVE,
    KEY_WHOLE,
    apply_transactions,
    encode_event,
    touched_keys,
)

if TYPE_CHECKING:
    from eventdb.engine.access import Accesses
    from eventdb.engine.undo import Undo
    from eventdb.keyspace.value import Limits
    from eventdb.pipeline.commit import Commit


class Store:
    """One for each engine. What is emitted joins `events`, the transaction in the making."""

    def __init__(self, limits: Limits, commit: Commit, seed: int | None = None) -> None:
        self.keyspace = Keyspace(limits)
        self.commit = commit
        self.now_ms = int(time.time() * 1000)  # set by the driver once per batch of input, frozen for a command
        self.rng = random.Random(seed)
        self.hits = 0
        self.misses = 0
        self.expired_keys = 0
        self.expired_elements = 0  # fields of hashes
        self.accesses: Accesses | None = None  # while OBJECT IDLETIME or FREQ may be answered
        # the transaction in the making
        self.events: list[bytes] = []
        self.event_db = 0
        self.event_size = 0
        self.in_exec = False
        self.undo: Undo | None = None  # while an error takes all of it back (atomic.py)
        self.atomic_errors = False  # the setting
        self.heeded = False  # somebody hears of changes: what a transaction says to them is gathered (news.py)
        # Called, if heeded, with what is no change and made no event, and is told as one all the same.
        self.on_unchanged: Callable[[Db | None, bytes, list[bytes]], None] | None = None
        self.reasons: list[
            tuple[bytes, bytes]
        ] = []  # events of the transaction that have a name of their own, if heeded
        # what has to know of a change
        self.watching = Watching(self.keyspace)
        self.awaited: dict[DbKey, None] = {}  # keys that blocked clients wait for
        self.missed: dict[DbKey, None] = {}  # of them, those whose end a client wants to hear of
        self.ready: list[DbKey] = []  # of the awaited, those that have changed

    def emit(self, db: Db, argv: list[bytes]) -> None:
        """Apply one event and record it in the open transaction."""
        event = EVENTS[argv[0]]
        keys = event.keys
        if self.undo is not None:
            self.undo.before(db, argv, keys)
        if keys == KEY_FIRST:
            event.apply(db, argv)
            self.record(db, argv[1], encode_event(argv))
            return
        if keys == KEY_WHOLE:
            self._touch_whole(db, argv)
        event.apply(db, argv)
        self._record_many(db, argv, keys)

    def record(self, db: Db, key: bytes, data: bytes) -> None:
        """Record an event on one key that the caller has applied and encoded, as the hottest commands do.

        While there is an `undo`, the caller has let it keep the key before.
        """
        if db.index != self.event_db:
            self._select(db)
        self.events.append(data)
        self.event_size += len(data)
        self.commit.open.dirty.add(key)
        if self.watching.watches or self.awaited:
            self._touch(db, key)

    def reset_counts(self) -> None:
        self.hits = self.misses = self.expired_keys = self.expired_elements = 0

    def taken(self) -> list[bytes]:
        """The events of the transaction in the making, which is closed by that."""
        events = self.events
        self.events = []
        self.event_db = 0
        self.event_size = 0
        return events

    def _select(self, db: Db) -> None:
        self.event_db = db.index
        self.events.append(encode_event([b"SELECT", b"%d" % db.index]))

    def _record_many(self, db: Db, argv: list[bytes], keys: int) -> None:
        """Record an event that touches other keys than its first argument."""
        if db.index != self.event_db:
            self._select(db)
        data = encode_event(argv)
        self.events.append(data)
        self.event_size += len(data)
        touched = touched_keys(argv, keys)
        if touched is None:
            self.commit.open.whole = True
            return
        self.commit.open.dirty.update(touched)
        other = db
        if keys == KEY_COPY:
            other = db = self.keyspace.dbs[int(argv[4])]
        elif keys == KEY_MOVE:
            other = self.keyspace.dbs[int(argv[2])]
        if self.watching.watches or self.awaited:
            for key in touched:
                self._touch(db, key)
                if other is not db:
                    self._touch(other, key)

    def _touch(self, db: Db, key: bytes) -> None:
        """The key has changed: break what watches it, note that it is ready for a client that waits."""
        if self.watching.watches:
            self.watching.touch(db, key)
        place = (db.index, key)
        if place in self.awaited and (key in db.values or place in self.missed):
            ready = self.ready
            if not ready or ready[-1] != place:
                ready.append(place)

    def touch_unchanged(self, db: Db, key: bytes, names: list[bytes]) -> None:
        """A write that left its key as it was, and made no event, breaks WATCH all the same where Redis says so.

        names: what it is called in keyspace notifications.
        """
        if self.watching.watches:
            self.watching.touch(db, key)
        if self.heeded and self.on_unchanged is not None:
            self.on_unchanged(db, key, names)

    def flush_unchanged(self) -> None:
        """A FLUSHDB or FLUSHALL found nothing to delete: clients that cache forget everything all the same."""
        if self.heeded and self.on_unchanged is not None:
            self.on_unchanged(None, b"", [])

    def _touch_whole(self, db: Db, argv: list[bytes]) -> None:
        """A FLUSHDB, FLUSHALL or SWAPDB event is about to be applied."""
        if argv[0] == b"SWAPDB":
            a, b = int(argv[1]), int(argv[2])
            self.ready += [place for place in self.awaited if place[0] == a or place[0] == b]
            self.watching.swapped(a, b, self.now_ms)
        else:
            everywhere = argv[0] == b"FLUSHALL"
            self.ready += [place for place in self.missed if everywhere or place[0] == db.index]
            self.watching.flushed(None if everywhere else db)

    def apply(self, transactions: list[list[bytes | list[bytes]]]) -> int:
        """Apply transactions from the log, and note the awaited keys in them; returns how many events they have."""
        count = apply_transactions(self.keyspace, transactions)
        self.note_applied(transactions)
        return count

    def note_applied(self, transactions: list[list[bytes | list[bytes]]]) -> None:
        """Note awaited keys, whatever their database: one that is noted needlessly is looked at and waits on."""
        if not self.awaited:
            return
        names = {key for _, key in self.awaited}
        changed: set[bytes] = set()
        for transaction in transactions:
            for event in transaction[1:]:
                argv = cast("list[bytes]", event)
                kind = EVENTS.get(argv[0])  # None: a SELECT
                if kind is not None:
                    touched = touched_keys(argv, kind.keys)
                    changed.update(names if touched is None else names.intersection(touched))
        if changed:
            self.ready += [place for place in self.awaited if place[1] in changed]

    def take_ready(self) -> list[DbKey]:
        """The awaited keys that changed since the last call, in the order of their first change."""
        ready, self.ready = self.ready, []
        return list(dict.fromkeys(ready))

    def expire(self, db: Db, key: bytes) -> None:
        """Delete a key whose deadline has passed."""
        self.expired_keys += 1
        self.emit(db, [b"DEL", key])
        self.because(b"expired")

    def because(self, name: bytes) -> None:
        """The newest event has a name of its own in keyspace notifications: keys have expired, or were evicted."""
        if self.heeded:
            self.reasons.append((self.events[-1], name))
