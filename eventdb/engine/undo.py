"""The way back from a transaction in the making: what it has changed, as it was before (atomic errors).

A journal in the order of the changes, played backwards. What a key held is kept at its first change: a copy, because
apply functions change values in place; the value itself where the event only puts another one in its place. A flush
makes new dictionaries, so the old ones are kept as they are; a swap is undone by a swap. Copies cost time and memory in
proportion to the keys that change, and only while somebody asked for atomic errors: `Store.undo` is None otherwise.

Invariant: a value kept without a copy is in no database any more when the event that replaced it has been applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eventdb.keyspace.databases import Db, Keyspace
from eventdb.keyspace.events import KEY_COPY, KEY_MOVE, KEY_WHOLE, touched_keys
from eventdb.keyspace.order import Order
from eventdb.keyspace.value import Value

if TYPE_CHECKING:
    from eventdb.engine.watching import DbKey, Watching
    from eventdb.pipeline.outbox import Batch

REPLACING: Final = frozenset((b"SET", b"MSET", b"DEL"))  # they change no value in place


class Saved:
    """One step back. A swap: `other` is the second database. A flush: the content. Else one key."""

    def __init__(self, db: Db) -> None:
        self.db = db
        self.other: Db | None = None
        self.is_content = False
        self.values: dict[bytes, object] = {}
        self.expires: dict[bytes, int] = {}
        self.order: Order | None = None
        self.deadlines: list[tuple[int, bytes]] | None = None
        self.key = b""
        self.value: object = None  # None: there was no such key
        self.at_ms = -1  # its deadline; -1: none


class Undo:
    """Of one EXEC or script. It begins where the transaction in the making has `events` events already."""

    def __init__(self, keyspace: Keyspace, watching: Watching, batch: Batch) -> None:
        self.calls = 0  # commands that the script has called
        self.failed_call = 0  # the last of them that failed, its name and its error
        self.failed_name = b""
        self.failed_text = b""
        self._keyspace = keyspace
        self._watching = watching
        self._batch = batch  # the open one, whose dirty keys these are
        self._was_whole = batch.whole
        self._dirtied: list[bytes] = []
        self._journal: list[Saved] = []
        self._seen: set[DbKey] = set()
        watching.journal = []

    def before(self, db: Db, argv: list[bytes], keys: int) -> None:
        """An event is about to be applied; keys: which it touches, a kind of KEY_…."""
        if keys == KEY_WHOLE:
            self._before_whole(db, argv)
            return
        target = db
        if keys == KEY_COPY:
            target = self._keyspace.dbs[int(argv[4])]
        copied = argv[0] not in REPLACING
        for key in touched_keys(argv, keys) or ():
            self.keep(target, key, copied)
            if keys == KEY_MOVE:
                self.keep(self._keyspace.dbs[int(argv[2])], key, copied)

    def keep(self, db: Db, key: bytes, copied: bool = True) -> None:
        """The key is about to change; a handler that applies its event itself calls this first."""
        if key not in self._batch.dirty:
            self._dirtied.append(key)
        place = (db.index, key)
        if place in self._seen:
            return
        self._seen.add(place)
        saved = Saved(db)
        saved.key = key
        value = db.values.get(key)
        if copied:
            if isinstance(value, Value):
                value = value.copy()
            elif isinstance(value, bytearray):
                value = bytearray(value)
        saved.value = value
        saved.at_ms = db.expires.get(key, -1)
        self._journal.append(saved)

    def _before_whole(self, db: Db, argv: list[bytes]) -> None:
        self._seen.clear()  # what changes from here on is another content
        dbs = self._keyspace.dbs
        if argv[0] == b"SWAPDB":
            saved = Saved(dbs[int(argv[1])])
            saved.other = dbs[int(argv[2])]
            self._journal.append(saved)
            return
        for each in dbs if argv[0] == b"FLUSHALL" else [db]:
            saved = Saved(each)
            saved.is_content = True
            saved.values, saved.expires, saved.order = each.values, each.expires, each.order
            saved.deadlines = each.deadlines
            self._journal.append(saved)

    def called(self, name: bytes, failure: bytes) -> None:
        """A script has called a command; failure: its error, or nothing."""
        self.calls += 1
        if failure:
            self.failed_call, self.failed_name, self.failed_text = self.calls, name, failure

    def play(self) -> None:
        """Bring back keys, deadlines, watchers and dirty keys as they were."""
        for saved in reversed(self._journal):
            db = saved.db
            if saved.other is not None:
                self._keyspace.swap(db.index, saved.other.index)
            elif saved.is_content:
                db.values, db.expires, db.order, db.deadlines = (
                    saved.values,
                    saved.expires,
                    saved.order,
                    saved.deadlines,
                )
            elif saved.value is None:
                db.delete(saved.key)
            else:
                db.put(saved.key, saved.value)
                if saved.at_ms < 0:
                    db.clear_deadline(saved.key)
                elif db.expires.get(saved.key) != saved.at_ms:
                    db.set_deadline(saved.key, saved.at_ms)
        self._batch.dirty.difference_update(self._dirtied)
        self._batch.whole = self._was_whole
        self._watching.play_back()

    def end(self) -> None:
        """Nothing is kept any more."""
        self._watching.journal = None
