"""Marks in the log. They are no keys: FLUSHALL leaves them, and so does a restore in place."""

from __future__ import annotations

from typing import Final

from eventdb.keyspace.databases import Db
from eventdb.keyspace.events import KEY_NONE, event
from eventdb.keyspace.marks import made

MARK: Final = b"EVENTDB.MARK"
UNMARK: Final = b"EVENTDB.UNMARK"


@event(MARK, KEY_NONE)
def apply_mark(db: Db, argv: list[bytes]) -> None:
    """EVENTDB.MARK name ms offset [digest]. It makes another dict: an undo brings back the one before."""
    keyspace = db.keyspace
    marks = dict(keyspace.marks)
    marks.pop(argv[1], None)  # the order is that of the history
    marks[argv[1]] = made(argv[1:])
    keyspace.marks = marks


@event(UNMARK, KEY_NONE)
def apply_unmark(db: Db, argv: list[bytes]) -> None:
    """EVENTDB.UNMARK name."""
    keyspace = db.keyspace
    marks = dict(keyspace.marks)
    del marks[argv[1]]
    keyspace.marks = marks
