"""Who watches a key (WATCH), who waits for one (BLPOP …) or for an offset: the engine tells it of every change.

Source: redis src/multi.c (touchWatchedKey, touchAllWatchedKeysInDb), src/blocked.c (signalKeyAsReady). As there, a
client is served by the key that became ready first, the clients of one key in the order in which they blocked, and
a FLUSHALL or SWAPDB touches a watched key only when it was there or is there afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventdb.engine.client import Client, Watch

if TYPE_CHECKING:
    from eventdb.keyspace.databases import Db, Keyspace

Place = tuple[int, bytes]  # database index, key


class Waiting:
    """The two tables, and the keys that changed while somebody waited for them."""

    def __init__(self, keyspace: Keyspace) -> None:
        self.keyspace = keyspace
        self.watchers: dict[Place, dict[Watch, None]] = {}
        self.waiters: dict[Place, dict[Client, None]] = {}  # in the order in which they blocked
        self.ready: list[Place] = []
        self.offsets: dict[Client, int] = {}  # EVENTDB.WAITFOR: who waits for which offset

    # -- WATCH

    def watch(self, client: Client, key: bytes, now_ms: int) -> None:
        """A key that has expired already and is only not yet deleted counts as absent: its deletion is no change."""
        db = client.db
        for watch in client.watching:
            if watch.db is db and watch.key == key:
                return
        watch = Watch(client, db, key, is_expired(db, key, now_ms))
        client.watching.append(watch)
        place = (db.index, key)
        found = self.watchers.get(place)
        if found is None:
            self.watchers[place] = {watch: None}
        else:
            found[watch] = None

    def unwatch(self, client: Client) -> None:
        for watch in client.watching:
            place = (watch.db.index, watch.key)
            found = self.watchers.get(place)
            if found is not None:
                found.pop(watch, None)
                if not found:
                    del self.watchers[place]
        client.watching = []
        client.watch_broken = False

    def broken(self, client: Client, now_ms: int) -> bool:
        """EXEC asks: has a watched key changed, or expired since it was watched?"""
        return client.watch_broken or any(
            not watch.expired and is_expired(watch.db, watch.key, now_ms) for watch in client.watching
        )

    def _break(self, watch: Watch) -> None:
        """The client's next EXEC fails, whatever else changes: nothing of it needs watching any more."""
        client = watch.client
        self.unwatch(client)
        client.watch_broken = True

    # -- changes

    def touch(self, db: Db, key: bytes) -> None:
        """The key has changed."""
        place = (db.index, key)
        watches = self.watchers.get(place)
        if watches is not None:
            for watch in list(watches):
                if watch.expired and key not in db.values:
                    watch.expired = False  # it was gone when it was watched; now it is deleted too
                else:
                    self._break(watch)
        if place in self.waiters and key in db.values:
            ready = self.ready
            if not ready or ready[-1] != place:
                ready.append(place)

    def touch_whole(self, db: Db, argv: list[bytes], now_ms: int) -> None:
        """A FLUSHDB, FLUSHALL or SWAPDB event is about to be applied."""
        swaps = argv[0] == b"SWAPDB"
        a = b = -1
        if swaps:
            a, b = int(argv[1]), int(argv[2])
            for place in self.waiters:
                if place[0] == a or place[0] == b:
                    self.ready.append(place)
        dbs = self.keyspace.dbs
        for place in list(self.watchers):
            index, key = place
            if swaps:
                if index == a:
                    self._replaced(place, dbs[b], now_ms)
                elif index == b:
                    self._replaced(place, dbs[a], now_ms)
            elif argv[0] == b"FLUSHALL" or index == db.index:
                if key in dbs[index].values:
                    for watch in list(self.watchers.get(place, ())):
                        if watch.expired:
                            watch.expired = False
                        else:
                            self._break(watch)

    def _replaced(self, place: Place, by: Db, now_ms: int) -> None:
        """The database of a watched key is about to hold the content of another."""
        index, key = place
        was_there = key in self.keyspace.dbs[index].values
        will_be_there = key in by.values
        if not was_there and not will_be_there:
            return
        will_be_expired = will_be_there and is_expired(by, key, now_ms)
        for watch in list(self.watchers.get(place, ())):
            if watch.expired and not will_be_there:
                watch.expired = False
            elif will_be_expired and (watch.expired or not was_there):
                watch.expired = True  # absent before, absent afterwards
            else:
                self._break(watch)

    # -- blocked clients

    def add(self, client: Client, db: Db, keys: list[bytes]) -> None:
        for key in keys:
            place = (db.index, key)
            found = self.waiters.get(place)
            if found is None:
                self.waiters[place] = {client: None}
            else:
                found[client] = None

    def remove(self, client: Client, db: Db, keys: list[bytes]) -> None:
        self.offsets.pop(client, None)
        for key in keys:
            place = (db.index, key)
            found = self.waiters.get(place)
            if found is not None:
                found.pop(client, None)
                if not found:
                    del self.waiters[place]

    def first(self, place: Place) -> Client | None:
        """Who has waited longest for this key; None when nobody does, or when the key has gone again."""
        found = self.waiters.get(place)
        if found is None or place[1] not in self.keyspace.dbs[place[0]].values:
            return None
        return next(iter(found))

    def take_ready(self) -> list[Place]:
        """The keys that changed since the last call, in the order of their first change."""
        ready, self.ready = self.ready, []
        return list(dict.fromkeys(ready))


def is_expired(db: Db, key: bytes, now_ms: int) -> bool:
    """The deadline has passed and nobody has deleted the key yet."""
    at_ms = db.expires.get(key)
    return at_ms is not None and at_ms <= now_ms
