"""Blocked clients: those that wait for a key (BLPOP …) or for an offset (EVENTDB.WAITFOR).

As in Redis, a client is served by the key that became ready first, and the clients of one key in the order in which
they blocked. Source: redis src/blocked.c (signalKeyAsReady).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eventdb.engine.watching import DbKey

if TYPE_CHECKING:
    from eventdb.engine.client import Client
    from eventdb.engine.store import Store
    from eventdb.keyspace.databases import Db

UNBLOCKED: Final = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"


class Blocking:
    """The clients that wait for each awaited key. The store notes which of these keys changed, and knows no client."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.waiters: dict[DbKey, dict[Client, None]] = {}  # in the order in which they blocked
        self.offsets: dict[Client, int] = {}  # EVENTDB.WAITFOR: the offset that each client waits for

    def add(self, client: Client, db: Db, keys: list[bytes], until_gone: bool) -> None:
        for key in keys:
            place = (db.index, key)
            if until_gone:
                self.store.missed[place] = None
            found = self.waiters.get(place)
            if found is None:
                self.waiters[place] = {client: None}
                self.store.awaited[place] = None
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
                    del self.store.awaited[place]
                    self.store.missed.pop(place, None)

    def first(self, place: DbKey) -> Client | None:
        """The client that has waited longest for this key; None when none does, or when the key has gone again."""
        found = self.waiters.get(place)
        if found is None:
            return None
        if place[1] not in self.store.keyspace.dbs[place[0]].values and place not in self.store.missed:
            return None
        return next(iter(found))
