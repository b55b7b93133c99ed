"""Streams: entries, by id. Source: redis src/t_stream.c (xaddCommand, xrangeGenericCommand, xtrimCommand …).

Logged is what came of a command: XADD with its id, XTRIM with the number of entries that are left.
"""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.lookups import stream_to_read, stream_to_write
from eventdb.commands.shared.stream_ids import parse_end, parse_id, parse_open_id, parse_start
from eventdb.commands.shared.stream_references import REFERENCES, drop_references, trim_unneeded
from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.keyspace.types.stream import ID_MAX, SEQ_MAX, StreamValue, id_text
from eventdb.protocol.errors import NO_SUCH_KEY, ReplyError, syntax_error, wrong_arity
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import EMPTY_ARRAY, OK, ZERO, bulk, bulks, integer, null, null_array

BLOCKS_PER_CALL: Final = 100  # that `~` takes away at most when no LIMIT is given
LIMITS: Final = (10_000, 1_000_000)  # of entries: when blocks have no limit; the highest
ENTRY_BYTES_MAX: Final = 1 << 30


class Options:
    """What stands before the id of an XADD and after the key of an XTRIM."""

    def __init__(self) -> None:
        self.at = 2  # where the id of an XADD stands
        self.id = -1  # -1: a new one
        self.seq_given = True
        self.make = True
        self.by = b""  # MAXLEN or MINID
        self.bound = 0
        self.whole = False  # ~
        self.limit = 0  # -1: none was given, and `~` was
        self.refs = b""  # KEEPREF, DELREF or ACKED: what becomes of what groups remember of the entries trimmed

    def parse(self, argv: list[bytes], adds: bool) -> None:
        at, n, limited = 2, len(argv), False
        while at < n:
            word, left = argv[at].upper(), n - at - 1
            if adds and word == b"*":
                break
            if (word == b"MAXLEN" or word == b"MINID") and left:
                at = self._parse_bound(argv, at, word)
            elif word == b"LIMIT" and left:
                self.limit = parse_int(argv[at + 1])
                if self.limit < 0:
                    raise ReplyError("ERR The LIMIT argument must be >= 0.")
                limited = True
                at += 1
            elif word in REFERENCES and not self.refs:
                self.refs = word
            elif adds and word == b"NOMKSTREAM":
                self.make = False
            elif adds:
                self.id, self.seq_given = parse_open_id(argv[at])
                break
            else:
                raise syntax_error()
            at += 1
        self.at = at
        if self.limit and not self.by:
            raise ReplyError("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")
        if not adds and not self.by:
            raise ReplyError("ERR syntax error, XTRIM must be called with a trimming strategy")
        if limited and not self.whole:
            raise ReplyError("ERR syntax error, LIMIT cannot be used without the special ~ option")
        if self.whole and not limited:
            self.limit = -1

    def _parse_bound(self, argv: list[bytes], at: int, word: bytes) -> int:
        """Returns where the bound stands."""
        if self.by:
            raise ReplyError("ERR syntax error, MAXLEN and MINID options at the same time are not compatible")
        self.whole = argv[at + 1] == b"~" and at + 2 < len(argv)
        at += 2 if self.whole or (argv[at + 1] == b"=" and at + 2 < len(argv)) else 1
        if word == b"MAXLEN":
            self.bound = parse_int(argv[at])
            if self.bound < 0:
                raise ReplyError("ERR The MAXLEN argument must be >= 0.")
        else:
            self.bound = parse_id(argv[at])
        self.by = word
        return at

    def trim(self, client: Client, key: bytes, value: StreamValue) -> int:
        """Take away what is too much; returns how many entries that was."""
        limit = self.limit
        if limit < 0:
            limit = min(BLOCKS_PER_CALL * client.store.keyspace.limits.stream_entries or LIMITS[0], LIMITS[1])
        if self.by == b"MAXLEN":
            n = value.beyond(self.bound, self.whole, limit)
        else:
            n = value.below(self.bound, self.whole, limit)
        if n and self.refs == b"ACKED" and value.groups:
            beyond = self.by == b"MAXLEN" and not self.whole  # entries after the n may go in place of those that stay
            return trim_unneeded(client, key, value, n, beyond)
        if n and self.refs == b"DELREF":
            drop_references(client, key, value, value.newest_id() if n == value.length else value.nth_id(n) - 1)
        if n:
            client.emit([b"XTRIM", key, b"MAXLEN", b"%d" % (value.length - n)])
        return n


def next_id(last: int, now_ms: int) -> int:
    """The id of a new entry: the time, or, when the clock stands or is behind, what follows the last one."""
    return now_ms << 64 if now_ms > last >> 64 else last + 1


def chosen_id(asked: Options | None, last: int, now_ms: int) -> int:
    """The id that an XADD comes to."""
    if last == ID_MAX:
        raise ReplyError("ERR The stream has exhausted the last possible ID, unable to add more items")
    if asked is None or asked.id < 0:
        return next_id(last, now_ms)
    eid = asked.id
    if not asked.seq_given and last >> 64 == eid >> 64:
        eid = last + 1 if last & SEQ_MAX != SEQ_MAX else 0
    if eid <= last:
        raise ReplyError("ERR The ID specified in XADD is equal or smaller than the target stream top item")
    return eid


@command(
    "XADD", arity=-5, flags="write denyoom fast", keys=(1, 1, 1), acl="stream", group="stream", since="5.0.0",
    complexity="O(1), with a trim O(N) for N entries taken away", tips="nondeterministic_output",
    summary="Appends an entry to a stream, which is made if it is not there.",
)  # fmt: skip
def xadd(client: Client, argv: list[bytes]) -> bytes:
    asked: Options | None = None
    at = 3
    if argv[2] != b"*":
        asked = Options()
        asked.parse(argv, True)
        at = asked.at + 1
    n = len(argv) - at
    if n < 2 or n & 1:
        raise wrong_arity("xadd")
    if asked is not None and asked.id == 0 and asked.seq_given:
        raise ReplyError("ERR The ID specified in XADD must be greater than 0-0")
    key, made = argv[1], False
    value = stream_to_write(client, key)
    if value is None:
        if asked is not None and not asked.make:
            return null(client.resp3)
        value = StreamValue()
        made = True
    eid = chosen_id(asked, value.last_id, client.store.now_ms)
    text = id_text(eid)
    if n == 2:
        name, what = argv[at], argv[at + 1]
        fields = b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(what), what)
    else:
        fields = bulks(argv[at:])
    if len(fields) > ENTRY_BYTES_MAX:
        raise ReplyError("ERR Elements are too large to be stored")
    if client.store.undo is not None:
        client.store.undo.keep(client.db, key)
    if made:
        client.db.put(key, value)
    # Applied here as apply_xadd does, so that the fields are encoded once, for the entry and for the event.
    value.add(eid, text, fields, client.store.keyspace.limits)
    event = b"*%d\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (
        n + 3, len(key), key, len(text), text, fields[fields.index(b"\n") + 1 :]
    )  # fmt: skip
    client.store.record(client.db, key, event)
    if asked is not None and asked.by:
        asked.trim(client, key, value)
    return bulk(text)


@command(
    "XTRIM", arity=-4, flags="write", keys=(1, 1, 1), acl="stream", group="stream", since="5.0.0",
    complexity="O(N) for N entries taken away", tips="nondeterministic_output",
    summary="Takes away the oldest entries of a stream, down to a length or up to an id.",
)  # fmt: skip
def xtrim(client: Client, argv: list[bytes]) -> bytes:
    asked = Options()
    asked.parse(argv, False)
    value = stream_to_write(client, argv[1])
    return ZERO if value is None else integer(asked.trim(client, argv[1], value))


@command(
    "XLEN", arity=2, flags="readonly fast", keys=(1, 1, 1), acl="stream", group="stream", since="5.0.0",
    summary="Returns the number of entries of a stream.",
)  # fmt: skip
def xlen(client: Client, argv: list[bytes]) -> bytes:
    value = stream_to_read(client, argv[1])
    return ZERO if value is None else integer(value.length)


@command(
    "XDEL", arity=-3, flags="write fast", keys=(1, 1, 1), acl="stream", group="stream", since="5.0.0",
    complexity="O(N) for N ids", summary="Takes entries out of a stream, by their ids.",
)  # fmt: skip
def xdel(client: Client, argv: list[bytes]) -> bytes:
    value = stream_to_write(client, argv[1])
    if value is None:
        return ZERO
    ids = dict.fromkeys([parse_id(argv[i]) for i in range(2, len(argv))])
    found = [id_text(eid) for eid in ids if value.has(eid)]
    if found:
        client.emit([b"XDEL", argv[1], *found])
    return integer(len(found))


def entries_between(client: Client, argv: list[bytes], start: int, end: int, backwards: bool) -> bytes:
    count, at = -1, 4
    while at < len(argv):
        if argv[at].upper() != b"COUNT" or at + 1 == len(argv):
            raise syntax_error()
        count = max(0, parse_int(argv[at + 1]))
        at += 2
    value = stream_to_read(client, argv[1])
    if value is None:
        return EMPTY_ARRAY
    if count == 0:
        return null_array(client.resp3)
    total, data = (value.reverse if backwards else value.range)(start, end, max(count, 0))
    return b"*%d\r\n%b" % (total, data)


@command(
    "XRANGE", arity=-4, flags="readonly", keys=(1, 1, 1), acl="stream", group="stream", since="5.0.0",
    complexity="O(log(M)+N) for N entries returned of M", summary="Returns the entries between two ids.",
)  # fmt: skip
def xrange(client: Client, argv: list[bytes]) -> bytes:
    return entries_between(client, argv, parse_start(argv[2]), parse_end(argv[3]), False)


@command(
    "XREVRANGE", arity=-4, flags="readonly", keys=(1, 1, 1), acl="stream", group="stream", since="5.0.0",
    complexity="O(log(M)+N) for N entries returned of M",
    summary="Returns the entries between two ids, the newest first.",
)  # fmt: skip
def xrevrange(client: Client, argv: list[bytes]) -> bytes:
    start = parse_start(argv[3])
    return entries_between(client, argv, start, parse_end(argv[2]), True)


@command(
    "XSETID", arity=-3, flags="write denyoom fast", keys=(1, 1, 1), acl="stream", group="stream", since="5.0.0",
    summary="Sets the last id of a stream, and what it remembers of entries added and deleted.",
)  # fmt: skip
def xsetid(client: Client, argv: list[bytes]) -> bytes:
    eid, added, deleted, at = parse_id(argv[2]), -1, 0, 3
    while at < len(argv):
        word = argv[at].upper()
        if at + 1 == len(argv) or word not in (b"ENTRIESADDED", b"MAXDELETEDID"):
            raise syntax_error()
        if word == b"ENTRIESADDED":
            added = parse_int(argv[at + 1])
            if added < 0:
                raise ReplyError("ERR entries_added must be positive")
        else:
            deleted = parse_id(argv[at + 1])
            if eid < deleted:
                raise ReplyError("ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id")
        at += 2
    value = stream_to_write(client, argv[1])
    if value is None:
        raise ReplyError(NO_SUCH_KEY)
    if value.length:
        if eid < value.newest_id():
            raise ReplyError("ERR The ID specified in XSETID is smaller than the target stream top item")
        if 0 <= added < value.length:
            raise ReplyError("ERR The entries_added specified in XSETID is smaller than the target stream length")
    client.emit(
        [b"XSETID", argv[1], id_text(eid), b"ENTRIESADDED", b"%d" % (value.entries_added if added < 0 else added),
         b"MAXDELETEDID", id_text(deleted or value.max_deleted)]
    )  # fmt: skip
    return OK
