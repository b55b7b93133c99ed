"""WATCH: which keys a client watches, and whether one of them has changed since.

Sans-IO, and it knows no client: a `Watcher` belongs to each. As in Redis, a FLUSHALL or SWAPDB touches a watched key
only when the key existed before or exists afterwards.
Source: redis src/multi.c (touchWatchedKey, touchAllWatchedKeysInDb).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventdb.keyspace.types.timed_hash import TimedHash

if TYPE_CHECKING:
    from eventdb.keyspace.databases import Db, Keyspace

DbKey = tuple[int, bytes]  # database index, key


class Watch:
    """One key that a watcher watches."""

    def __init__(self, watcher: Watcher, db: Db, key: bytes, expired: bool, since_ms: int) -> None:
        self.watcher = watcher
        self.db = db
        self.key = key
        self.expired = expired  # when it was watched, though not yet deleted
        self.since_ms = since_ms


class Watcher:
    """What one client watches. `broken`: its next EXEC fails, whatever else changes."""

    def __init__(self) -> None:
        self.watches: list[Watch] = []
        self.broken = False


class Watching:
    """Every watched key of a keyspace."""

    def __init__(self, keyspace: Keyspace) -> None:
        self.keyspace = keyspace
        self.watches: dict[DbKey, dict[Watch, None]] = {}
        # While a transaction may be undone: the watchers that it has broken with what they watched, and the watches it
        # has found expired or no longer so, each as it was.
        self.journal: list[tuple[Watcher, list[Watch]] | tuple[Watch, bool]] | None = None

    def watch(self, watcher: Watcher, db: Db, key: bytes, now_ms: int) -> None:
        """A key that has expired already and is only not yet deleted counts as absent: its deletion is no change."""
        for watch in watcher.watches:
            if watch.db is db and watch.key == key:
                return
        watch = Watch(watcher, db, key, is_expired(db, key, now_ms), now_ms)
        watcher.watches.append(watch)
        place = (db.index, key)
        found = self.watches.get(place)
        if found is None:
            self.watches[place] = {watch: None}
        else:
            found[watch] = None

    def unwatch(self, watcher: Watcher) -> None:
        """Forget all that it watches."""
        for watch in watcher.watches:
            place = (watch.db.index, watch.key)
            found = self.watches.get(place)
            if found is not None:
                found.pop(watch, None)
                if not found:
                    del self.watches[place]
        watcher.watches = []
        watcher.broken = False

    def is_broken(self, watcher: Watcher, now_ms: int) -> bool:
        """EXEC asks: has a watched key changed, or expired since it was watched, or a field of it?"""
        if watcher.broken:
            return True
        for watch in watcher.watches:
            if not watch.expired and is_expired(watch.db, watch.key, now_ms):
                return True
            if watch.db.timed:
                value = watch.db.values.get(watch.key)
                if isinstance(value, TimedHash) and value.has_passed(watch.since_ms, now_ms):
                    return True
        return False

    def _break(self, watch: Watch) -> None:
        """Nothing of the watcher needs watching any more."""
        watcher = watch.watcher
        if self.journal is not None:
            self.journal.append((watcher, watcher.watches))
        self.unwatch(watcher)
        watcher.broken = True

    def _mark(self, watch: Watch, expired: bool) -> None:
        if self.journal is not None:
            self.journal.append((watch, watch.expired))
        watch.expired = expired

    def play_back(self) -> None:
        """Undo what the journal holds."""
        for what, before in reversed(self.journal or []):
            if isinstance(what, Watcher) and isinstance(before, list):
                if not what.broken:  # a client that was answered while a script ran has said UNWATCH
                    continue
                what.broken = False
                what.watches = before
                for watch in before:
                    self.watches.setdefault((watch.db.index, watch.key), {})[watch] = None
            elif isinstance(what, Watch) and isinstance(before, bool):
                what.expired = before

    def touch(self, db: Db, key: bytes) -> None:
        """The key has changed."""
        watches = self.watches.get((db.index, key))
        if watches is not None:
            for watch in list(watches):
                if watch.expired and key not in db.values:
                    self._mark(watch, False)  # it was gone when it was watched; now it is deleted too
                else:
                    self._break(watch)

    def flushed(self, db: Db | None) -> None:
        """A database, or with None every one, is about to be emptied."""
        dbs = self.keyspace.dbs
        for place in list(self.watches):
            index, key = place
            if (db is None or index == db.index) and key in dbs[index].values:
                for watch in list(self.watches.get(place, ())):
                    if watch.expired:
                        self._mark(watch, False)
                    else:
                        self._break(watch)

    def swapped(self, a: int, b: int, now_ms: int) -> None:
        """Two databases are about to be exchanged."""
        dbs = self.keyspace.dbs
        for place in list(self.watches):
            if place[0] == a:
                self._replaced(place, dbs[b], now_ms)
            elif place[0] == b:
                self._replaced(place, dbs[a], now_ms)

    def _replaced(self, place: DbKey, by: Db, now_ms: int) -> None:
        """The database of a watched key is about to hold the content of another."""
        index, key = place
        was_there = key in self.keyspace.dbs[index].values
        will_be_there = key in by.values
        if not was_there and not will_be_there:
            return
        will_be_expired = will_be_there and is_expired(by, key, now_ms)
        for watch in list(self.watches.get(place, ())):
            if watch.expired and not will_be_there:
                self._mark(watch, False)
            elif will_be_expired and (watch.expired or not was_there):
                self._mark(watch, True)  # absent before, absent afterwards
            else:
                self._break(watch)


def is_expired(db: Db, key: bytes, now_ms: int) -> bool:
    """The deadline has passed and nobody has deleted the key yet."""
    at_ms = db.expires.get(key)
    return at_ms is not None and at_ms <= now_ms
