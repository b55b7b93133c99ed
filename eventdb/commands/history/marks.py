"""EVENTDB.MARK and EVENTDB.MARKS: named points of the history, to restore to."""

from __future__ import annotations

from typing import Final

from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.registry import command, server_command
from eventdb.keyspace.marks import MARKS_MAX, NAME_BYTES_MAX
from eventdb.keyspace.types.mark import MARK, UNMARK
from eventdb.protocol.errors import ReplyError, syntax_error
from eventdb.protocol.glob import glob_match
from eventdb.protocol.replies import array, bulk, integer, mapping

WITH_DIGEST: Final = b"WITHDIGEST"


@server_command(
    "EVENTDB.MARK", arity=-2, flags="write noscript", whole=True, since="7.0.0", group="server",
    complexity="O(1); with WITHDIGEST O(N) where N is the size of all data",
    summary="Writes a named point into the history, to restore to; returns its offset.",
)  # fmt: skip
def eventdb_mark(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    """EVENTDB.MARK name [WITHDIGEST] -> the offset of its transaction. A mark of that name is replaced."""
    name = argv[1]
    if not name or len(name) > NAME_BYTES_MAX:
        raise ReplyError(f"ERR the name of a mark has 1 to {NAME_BYTES_MAX} bytes")
    if len(argv) > 3 or (len(argv) == 3 and argv[2].upper() != WITH_DIGEST):
        raise syntax_error()
    store, db = engine.store, client.db
    marked = [MARK, name, b"%d" % store.now_ms, b"%d" % (engine.commit.offset + 1)]
    if len(argv) == 3:
        if store.events or store.in_exec:
            raise ReplyError("ERR WITHDIGEST needs a transaction of its own: the digest is that of the state before it")
        marked.append(engine.digest().encode())
    store.emit(db, marked)
    marks = store.keyspace.marks
    while len(marks) > MARKS_MAX:
        store.emit(db, [UNMARK, next(iter(marks))])
        marks = store.keyspace.marks
    return integer(engine.commit.offset + 1)


@command(
    "EVENTDB.MARKS", arity=-1, flags="readonly", whole=True, since="7.0.0", group="server",
    complexity="O(N) where N is the number of marks",
    summary="Lists the named points of the history: name, offset, time in ms and digest.",
)  # fmt: skip
def eventdb_marks(client: Client, argv: list[bytes]) -> bytes:
    """EVENTDB.MARKS [pattern] -> those whose names match, oldest first."""
    if len(argv) > 2:
        raise syntax_error()
    found = []
    for mark in client.store.keyspace.marks.values():
        if len(argv) == 1 or glob_match(argv[1], mark.name, False):
            facts = [bulk(b"name"), bulk(mark.name), bulk(b"offset"), integer(mark.offset)]
            facts += [bulk(b"time"), integer(mark.at_ms), bulk(b"digest"), bulk(mark.digest)]
            found.append(mapping(facts, client.resp3))
    return array(found)
