"""Strings. Source: redis src/t_string.c, src/commands/*.json (group string)."""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.deadlines import deadline_of
from eventdb.commands.shared.lookups import string_to_read, string_to_write
from eventdb.commands.shared.string_changes import encode_set, longest, put, put_keeping_deadline
from eventdb.commands.shared.string_options import (
    IF_ABSENT,
    IF_VALUE,
    OF_GETEX,
    OF_SET,
    compares,
    parse_options,
)
from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.keyspace.events import apply_set
from eventdb.keyspace.types import string
from eventdb.protocol.errors import ReplyError, wrong_arity, wrong_type
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import EMPTY_BULK, NULL3, NULL_BULK, OK, ONE, ZERO, array, integer

DIGESTED_BYTES_MAX: Final = 4 << 20  # by SET, of which nobody asks how long it may take (engine/effort.py)
TOO_LONG_TO_DIGEST: Final = "ERR the string is too long for IFDEQ and IFDNE of SET, which take up to 4 MiB"
TOO_LONG: Final = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"

assert string  # its events are registered by the import


def string_reply(value: bytes | bytearray | None, resp3: bool) -> bytes:
    if value is None:
        return NULL3 if resp3 else NULL_BULK
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    return b"$%d\r\n" % len(value) + value + b"\r\n"


# -- whole values


@command(
    "GET", arity=2, flags="readonly fast", keys=(1, 1, 1), acl="string", group="string",
    summary="Returns the string a key holds.",
)  # fmt: skip
def get(client: Client, argv: list[bytes]) -> bytes:
    value = client.lookup(argv[1])
    if value is None:
        return NULL3 if client.resp3 else NULL_BULK
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if isinstance(value, bytearray):
        return b"$%d\r\n" % len(value) + value + b"\r\n"
    raise wrong_type()


@command(
    "SET", arity=-3, flags="write denyoom", keys=(1, 1, 1), acl="string", group="string",
    summary="Makes a key hold a string, whatever it held; options add a condition and a deadline.",
)  # fmt: skip
def set_(client: Client, argv: list[bytes]) -> bytes:
    if len(argv) == 3:
        key, value, db = argv[1], argv[2], client.db
        if client.store.undo is not None:
            client.store.undo.keep(db, key, False)
        apply_set(db, argv)
        client.store.record(db, key, encode_set(key, value))
        return OK
    return set_with_options(client, argv)


def set_with_options(client: Client, argv: list[bytes]) -> bytes:
    options = parse_options(argv, 3, OF_SET)
    key = argv[1]
    at_ms = deadline_of(client, options.unit, options.time, "set") if options.unit else 0
    reply = OK
    refused = NULL3 if client.resp3 else NULL_BULK
    if options.get:
        reply = refused = string_reply(string_to_write(client, key), client.resp3)
    if options.condition == IF_VALUE:
        value = string_to_write(client, key)
        if value is None:
            if options.comparison[-2:] != b"NE":  # what is not there equals nothing
                return refused
        elif len(options.comparison) == 5 and len(value) > DIGESTED_BYTES_MAX:
            raise ReplyError(TOO_LONG_TO_DIGEST)
        elif not compares(value, options.comparison, options.operand):
            return refused
    elif options.condition:
        present = client.lookup_write(key) is not None
        if present == (options.condition == IF_ABSENT):
            return refused
    if options.unit:
        client.emit([b"SET", key, argv[2], b"PXAT", b"%d" % at_ms])
    elif options.keep and client.lookup_write(key) is not None:
        put_keeping_deadline(client, key, argv[2])
    else:
        put(client, key, argv[2])
    return reply


@command(
    "SETNX", arity=3, flags="write denyoom fast", keys=(1, 1, 1), acl="string", group="string",
    summary="Makes a key hold a string if the key is not there.",
)  # fmt: skip
def setnx(client: Client, argv: list[bytes]) -> bytes:
    if client.lookup_write(argv[1]) is not None:
        return ZERO
    put(client, argv[1], argv[2])
    return ONE


@command(
    "SETEX", arity=4, flags="write denyoom", keys=(1, 1, 1), acl="string", group="string", since="2.0.0",
    summary="Makes a key hold a string for some seconds.",
)  # fmt: skip
def setex(client: Client, argv: list[bytes]) -> bytes:
    at_ms = deadline_of(client, b"EX", argv[2], "setex")
    client.emit([b"SET", argv[1], argv[3], b"PXAT", b"%d" % at_ms])
    return OK


@command(
    "PSETEX", arity=4, flags="write denyoom", keys=(1, 1, 1), acl="string", group="string", since="2.6.0",
    summary="Makes a key hold a string for some milliseconds.",
)  # fmt: skip
def psetex(client: Client, argv: list[bytes]) -> bytes:
    at_ms = deadline_of(client, b"PX", argv[2], "psetex")
    client.emit([b"SET", argv[1], argv[3], b"PXAT", b"%d" % at_ms])
    return OK


@command(
    "GETSET", arity=3, flags="write denyoom fast", keys=(1, 1, 1), acl="string", group="string",
    summary="Makes a key hold a string and returns the one it held (use SET with GET).",
)  # fmt: skip
def getset(client: Client, argv: list[bytes]) -> bytes:
    reply = string_reply(string_to_write(client, argv[1]), client.resp3)
    put(client, argv[1], argv[2])
    return reply


@command(
    "GETDEL", arity=2, flags="write fast", keys=(1, 1, 1), acl="string", group="string", since="6.2.0",
    summary="Returns the string a key holds, and deletes the key.",
)  # fmt: skip
def getdel(client: Client, argv: list[bytes]) -> bytes:
    value = string_to_write(client, argv[1])
    reply = string_reply(value, client.resp3)
    if value is not None:
        client.emit([b"DEL", argv[1]])
    return reply


@command(
    "GETEX", arity=-2, flags="write fast", keys=(1, 1, 1), acl="string", group="string", since="6.2.0",
    summary="Returns the string a key holds, and gives the key a deadline or takes it away.",
)  # fmt: skip
def getex(client: Client, argv: list[bytes]) -> bytes:
    options = parse_options(argv, 2, OF_GETEX)
    key = argv[1]
    value = string_to_write(client, key)
    reply = string_reply(value, client.resp3)
    if value is None:
        return reply
    if options.unit:
        at_ms = deadline_of(client, options.unit, options.time, "getex")
        if len(options.unit) == 4 and at_ms <= client.store.now_ms:
            client.emit([b"DEL", key])
        else:
            client.emit([b"PEXPIREAT", key, b"%d" % at_ms])
    elif options.persist and key in client.db.expires:
        client.emit([b"PERSIST", key])
    return reply


# -- several keys


@command(
    "MGET", arity=-2, flags="readonly fast", keys=(1, -1, 1), acl="string", group="string",
    complexity="O(N) for N keys", summary="Returns the strings that several keys hold.",
    tips="request_policy:multi_shard",
)  # fmt: skip
def mget(client: Client, argv: list[bytes]) -> bytes:
    nothing = NULL3 if client.resp3 else NULL_BULK
    items: list[bytes] = []
    for i in range(1, len(argv)):
        value = client.lookup(argv[i])
        if isinstance(value, bytes):
            items.append(b"$%d\r\n%b\r\n" % (len(value), value))
        elif isinstance(value, bytearray):
            items.append(b"$%d\r\n" % len(value) + value + b"\r\n")
        else:
            items.append(nothing)
    return array(items)


@command(
    "MSET", arity=-3, flags="write denyoom", keys=(1, -1, 2), acl="string", group="string", since="1.0.1",
    complexity="O(N) for N keys", summary="Makes several keys hold a string each, all at once.",
    tips="request_policy:multi_shard response_policy:all_succeeded",
)  # fmt: skip
def mset(client: Client, argv: list[bytes]) -> bytes:
    if len(argv) % 2 == 0:
        raise wrong_arity("mset")
    client.emit([b"MSET", *argv[1:]])
    return OK


@command(
    "MSETNX", arity=-3, flags="write denyoom", keys=(1, -1, 2), acl="string", group="string", since="1.0.1",
    complexity="O(N) for N keys",
    summary="Makes several keys hold a string each, if none of the keys is there.",
    tips="request_policy:multi_shard response_policy:agg_min",
)  # fmt: skip
def msetnx(client: Client, argv: list[bytes]) -> bytes:
    if len(argv) % 2 == 0:
        raise wrong_arity("msetnx")
    for i in range(1, len(argv), 2):
        if client.lookup_write(argv[i]) is not None:
            return ZERO
    client.emit([b"MSET", *argv[1:]])
    return ONE


# -- parts of values


@command(
    "STRLEN", arity=2, flags="readonly fast", keys=(1, 1, 1), acl="string", group="string", since="2.2.0",
    summary="Returns how many bytes a string has.",
)  # fmt: skip
def strlen(client: Client, argv: list[bytes]) -> bytes:
    value = string_to_read(client, argv[1])
    return ZERO if value is None else integer(len(value))


@command(
    "APPEND", arity=3, flags="write denyoom fast", keys=(1, 1, 1), acl="string", group="string", since="2.0.0",
    complexity="O(N) for N bytes added, amortised",
    summary="Adds bytes at the end of a string.",
)  # fmt: skip
def append(client: Client, argv: list[bytes]) -> bytes:
    key, suffix = argv[1], argv[2]
    value = string_to_write(client, key)
    if value is None:
        put(client, key, suffix)
        return integer(len(suffix))
    size = len(value) + len(suffix)
    if size > longest(client):
        raise ReplyError(TOO_LONG)
    client.emit([b"APPEND", key, suffix])
    return integer(size)


@command(
    "SETRANGE", arity=4, flags="write denyoom", keys=(1, 1, 1), acl="string", group="string", since="2.2.0",
    complexity="O(N) for N bytes written",
    summary="Writes bytes into a string from a given place on.",
)  # fmt: skip
def setrange(client: Client, argv: list[bytes]) -> bytes:
    key, patch = argv[1], argv[3]
    start = parse_int(argv[2])
    if start < 0:
        raise ReplyError("ERR offset is out of range")
    value = string_to_write(client, key)
    size = 0 if value is None else len(value)
    if len(patch) == 0:
        return integer(size)
    if start + len(patch) > longest(client):
        raise ReplyError(TOO_LONG)
    client.emit([b"SETRANGE", key, b"%d" % start, patch])
    return integer(max(size, start + len(patch)))


@command(
    "GETRANGE", arity=4, flags="readonly", keys=(1, 1, 1), acl="string", group="string", since="2.4.0",
    complexity="O(N) for N bytes returned",
    summary="Returns the bytes of a string between two places.",
)  # fmt: skip
def getrange(client: Client, argv: list[bytes]) -> bytes:
    start, end = parse_int(argv[2]), parse_int(argv[3])
    value = string_to_read(client, argv[1])
    if value is None or (start < 0 and start > end and end < 0):
        return EMPTY_BULK
    size = len(value)
    if start < 0:
        start = max(0, size + start)
    end = max(0, size + end) if end < 0 else min(end, size - 1)
    if start > end or size == 0:
        return EMPTY_BULK
    return string_reply(value[start : end + 1], False)


@command(
    "SUBSTR", arity=4, flags="readonly", keys=(1, 1, 1), acl="string", group="string",
    complexity="O(N) for N bytes returned",
    summary="Returns the bytes of a string between two places (use GETRANGE).",
)  # fmt: skip
def substr(client: Client, argv: list[bytes]) -> bytes:
    return getrange(client, argv)
