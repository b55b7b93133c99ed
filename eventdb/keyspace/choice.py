"""Which part of a state is wanted: keys by pattern, one database. Without either it is all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eventdb.keyspace.databases import Db, Keyspace
from eventdb.keyspace.value import NEVER, Value
from eventdb.protocol.glob import glob_match


@dataclass(frozen=True, slots=True)
class Choice:
    """No patterns: every key; db None: every database."""

    patterns: tuple[bytes, ...] = ()
    db: int | None = None

    def is_all(self) -> bool:
        return not self.patterns and self.db is None

    def takes(self, db: int, key: bytes) -> bool:
        if self.db is not None and db != self.db:
            return False
        return not self.patterns or any(glob_match(pattern, key) for pattern in self.patterns)

    def describe(self) -> str:
        """For people: "keys user:* of database 0"."""
        keys = " ".join(pattern.decode("utf-8", "backslashreplace") for pattern in self.patterns)
        what = f"keys {keys}" if keys else "all keys"
        return what if self.db is None else f"{what} of database {self.db}"

    def prune(self, keyspace: Keyspace) -> None:
        """Leave nothing but what is chosen: of a part, no users, functions, marks and outcomes either."""
        if self.is_all():
            return
        dbs = keyspace.dbs
        kept = [{key: (db.values[key], db.expires.get(key)) for key in self.keys(db)} for db in dbs]
        keyspace.clear()
        for db, pairs in zip(dbs, kept, strict=True):
            for key, (value, at_ms) in pairs.items():
                put(db, key, value, at_ms)

    def keys(self, db: Db) -> list[bytes]:
        """The chosen keys that a database has."""
        if self.db is not None and db.index != self.db:
            return []
        return [key for key in db.values if self.takes(db.index, key)] if self.patterns else list(db.values)


ALL: Final = Choice()


def put(db: Db, key: bytes, value: object, at_ms: int | None) -> None:
    """Store a value that was taken out of a state, with its deadline."""
    db.put(key, value)
    if isinstance(value, Value) and value.soonest() < NEVER:
        db.track(key, value)
    if at_ms is not None:
        db.set_deadline(key, at_ms)
