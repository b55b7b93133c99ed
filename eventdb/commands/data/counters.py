"""Counters. Source: redis src/t_string.c incrDecrCommand, incrbyfloatCommand.

Each is logged as the SET of its result, so that replay neither parses nor adds.
"""

from __future__ import annotations

from eventdb.commands.shared.lookups import string_to_write
from eventdb.commands.shared.string_changes import put_keeping_deadline
from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.protocol.errors import OVERFLOW, SUM_NAN_OR_INFINITY, ReplyError, wrong_type
from eventdb.protocol.longdouble import LongDouble, add, format_long_double, parse_long_double
from eventdb.protocol.numbers import INT64_MAX, INT64_MIN, parse_int
from eventdb.protocol.replies import bulk


def count(client: Client, key: bytes, by: int) -> bytes:
    value = client.lookup_write(key)
    if value is None:
        total = by
    else:
        if isinstance(value, bytes):
            total = parse_int(value) + by
        elif isinstance(value, bytearray):
            total = parse_int(bytes(value)) + by
        else:
            raise wrong_type()
        if total > INT64_MAX or total < INT64_MIN:
            raise ReplyError(OVERFLOW)
    text = b"%d" % total
    put_keeping_deadline(client, key, text)
    return b":%b\r\n" % text


@command(
    "INCR", arity=2, flags="write denyoom fast", keys=(1, 1, 1), acl="string", group="string",
    summary="Adds one to an integer.",
)  # fmt: skip
def incr(client: Client, argv: list[bytes]) -> bytes:
    return count(client, argv[1], 1)


@command(
    "DECR", arity=2, flags="write denyoom fast", keys=(1, 1, 1), acl="string", group="string",
    summary="Subtracts one from an integer.",
)  # fmt: skip
def decr(client: Client, argv: list[bytes]) -> bytes:
    return count(client, argv[1], -1)


@command(
    "INCRBY", arity=3, flags="write denyoom fast", keys=(1, 1, 1), acl="string", group="string",
    summary="Adds to an integer.",
)  # fmt: skip
def incrby(client: Client, argv: list[bytes]) -> bytes:
    return count(client, argv[1], parse_int(argv[2]))


@command(
    "DECRBY", arity=3, flags="write denyoom fast", keys=(1, 1, 1), acl="string", group="string",
    summary="Subtracts from an integer.",
)  # fmt: skip
def decrby(client: Client, argv: list[bytes]) -> bytes:
    by = parse_int(argv[2])
    if by == INT64_MIN:
        raise ReplyError("ERR decrement would overflow")
    return count(client, argv[1], -by)


@command(
    "INCRBYFLOAT", arity=3, flags="write denyoom fast", keys=(1, 1, 1), acl="string", group="string", since="2.6.0",
    summary="Adds to a number that may have a fraction.",
)  # fmt: skip
def incrbyfloat(client: Client, argv: list[bytes]) -> bytes:
    value = string_to_write(client, argv[1])
    start = LongDouble(0, 0) if value is None else parse_long_double(bytes(value))
    total = add(start, parse_long_double(argv[2]))
    if total.infinite:
        raise ReplyError(SUM_NAN_OR_INFINITY)
    text = format_long_double(total)
    put_keeping_deadline(client, argv[1], text)
    return bulk(text)
