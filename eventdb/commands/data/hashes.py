"""Hashes. Source: redis src/t_hash.c, src/commands/*.json (group hash).

Increments are logged as the HSET they come to, so replay neither adds nor rounds.
"""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.counts import REPEATED_MAX, random_count
from eventdb.commands.shared.hash_fields import field_of, live_count, live_fields, set_keeping_deadline
from eventdb.commands.shared.lookups import hash_to_read, hash_to_write
from eventdb.commands.shared.scan_replies import parse_cursor, scan_options, scan_reply
from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.keyspace import sampling
from eventdb.keyspace.order import Order
from eventdb.keyspace.types.hash import HashValue
from eventdb.keyspace.types.timed_hash import TimedHash
from eventdb.protocol.errors import (
    OVERFLOW,
    SUM_NAN_OR_INFINITY,
    VALUE_OUT_OF_RANGE,
    ReplyError,
    syntax_error,
    wrong_arity,
    wrong_type,
)
from eventdb.protocol.glob import glob_match
from eventdb.protocol.longdouble import add as add_long_doubles
from eventdb.protocol.longdouble import format_long_double, parse_long_double
from eventdb.protocol.numbers import INT64_MAX, INT64_MIN, parse_int
from eventdb.protocol.replies import (
    BULK_HEADS,
    EMPTY_ARRAY,
    NULL3,
    NULL_BULK,
    OK,
    ONE,
    ZERO,
    bulk,
    bulk_or_null,
    bulks,
    integer,
)

NAN_OR_INFINITY: Final = "ERR value is NaN or Infinity"
HASH_NOT_INTEGER: Final = "ERR hash value is not an integer"
HASH_NOT_FLOAT: Final = "ERR hash value is not a float"


@command(
    "HSET", arity=-4, flags="write denyoom fast", keys=(1, 1, 1), acl="hash", since="2.0.0", group="hash",
    complexity="O(N), N fields given",
    summary="Writes fields of a hash and creates the hash if needed",
)  # fmt: skip
def hset(client: Client, argv: list[bytes]) -> bytes:
    n = len(argv)
    if n & 1:
        raise wrong_arity("hset")
    key = argv[1]
    value = client.lookup_write(key)
    before = 0
    if value is not None:
        if not isinstance(value, HashValue):
            raise wrong_type()
        before = len(value.fields)
        if isinstance(value, TimedHash):  # a field past its deadline is new
            before -= len({field for field in argv[2::2] if value.is_due(field, client.store.now_ms)})
    client.emit(argv if argv[0] == b"HSET" else [b"HSET", *argv[1:]])
    if value is None:
        if n == 4:
            return ONE
        value = client.db.values[key]
        assert isinstance(value, HashValue)
    return integer(len(value.fields) - before)


@command(
    "HMSET", arity=-4, flags="write denyoom fast", keys=(1, 1, 1), acl="hash", since="2.0.0", group="hash",
    complexity="O(N), N fields given",
    summary="Writes fields of a hash; HSET does the same and returns a count",
)  # fmt: skip
def hmset(client: Client, argv: list[bytes]) -> bytes:
    if len(argv) & 1:
        raise wrong_arity("hmset")
    hash_to_write(client, argv[1])
    client.emit([b"HSET", *argv[1:]])
    return OK


@command(
    "HSETNX", arity=4, flags="write denyoom fast", keys=(1, 1, 1), acl="hash", since="2.0.0", group="hash",
    summary="Writes a field unless the hash has it",
)  # fmt: skip
def hsetnx(client: Client, argv: list[bytes]) -> bytes:
    value = hash_to_write(client, argv[1])
    if value is not None and field_of(client, value, argv[2]) is not None:
        return ZERO
    client.emit([b"HSET", argv[1], argv[2], argv[3]])
    return ONE


@command(
    "HGET", arity=3, flags="readonly fast", keys=(1, 1, 1), acl="hash", since="2.0.0", group="hash",
    summary="Reads one field of a hash",
)  # fmt: skip
def hget(client: Client, argv: list[bytes]) -> bytes:
    value = client.lookup(argv[1])
    if value is not None:
        if not isinstance(value, HashValue):
            raise wrong_type()
        found = value.fields.get(argv[2])
        if found is not None and not (isinstance(value, TimedHash) and value.is_due(argv[2], client.store.now_ms)):
            return b"$%d\r\n%b\r\n" % (len(found), found)
    return NULL3 if client.resp3 else NULL_BULK


@command(
    "HMGET", arity=-3, flags="readonly fast", keys=(1, 1, 1), acl="hash", since="2.0.0", group="hash",
    complexity="O(N), N fields given",
    summary="Reads several fields of a hash; nil for each that is missing",
)  # fmt: skip
def hmget(client: Client, argv: list[bytes]) -> bytes:
    value = hash_to_read(client, argv[1])
    null = NULL3 if client.resp3 else NULL_BULK
    n = len(argv)
    parts: list[bytes] = [b"*%d\r\n" % (n - 2)]
    if value is None:
        return parts[0] + null * (n - 2)
    for i in range(2, n):
        found = field_of(client, value, argv[i])
        parts.append(null if found is None else b"$%d\r\n%b\r\n" % (len(found), found))
    return b"".join(parts)


@command(
    "HGETALL", arity=2, flags="readonly", keys=(1, 1, 1), acl="hash", since="2.0.0", group="hash",
    complexity="O(N), N fields in the hash", tips="nondeterministic_output_order",
    summary="Reads a whole hash",
)  # fmt: skip
def hgetall(client: Client, argv: list[bytes]) -> bytes:
    value = hash_to_read(client, argv[1])
    resp3 = client.resp3
    if value is None:
        return b"%0\r\n" if resp3 else EMPTY_ARRAY
    fields = live_fields(client, value)
    parts: list[bytes] = [b"%%%d" % len(fields) if resp3 else b"*%d" % (2 * len(fields))]
    for field, content in fields.items():
        n = len(field)
        parts.append(BULK_HEADS[n] if n < 1024 else b"$%d" % n)
        parts.append(field)
        n = len(content)
        parts.append(BULK_HEADS[n] if n < 1024 else b"$%d" % n)
        parts.append(content)
    parts.append(b"")
    return b"\r\n".join(parts)


@command(
    "HKEYS", arity=2, flags="readonly", keys=(1, 1, 1), acl="hash", since="2.0.0", group="hash",
    complexity="O(N), N fields in the hash", tips="nondeterministic_output_order",
    summary="Lists the field names of a hash",
)  # fmt: skip
def hkeys(client: Client, argv: list[bytes]) -> bytes:
    value = hash_to_read(client, argv[1])
    return EMPTY_ARRAY if value is None else bulks(list(live_fields(client, value)))


@command(
    "HVALS", arity=2, flags="readonly", keys=(1, 1, 1), acl="hash", since="2.0.0", group="hash",
    complexity="O(N), N fields in the hash", tips="nondeterministic_output_order",
    summary="Lists the values of a hash without their fields",
)  # fmt: skip
def hvals(client: Client, argv: list[bytes]) -> bytes:
    value = hash_to_read(client, argv[1])
    return EMPTY_ARRAY if value is None else bulks(list(live_fields(client, value).values()))


@command(
    "HLEN", arity=2, flags="readonly fast", keys=(1, 1, 1), acl="hash", since="2.0.0", group="hash",
    summary="Counts the fields of a hash",
)  # fmt: skip
def hlen(client: Client, argv: list[bytes]) -> bytes:
    value = hash_to_read(client, argv[1])
    return ZERO if value is None else integer(live_count(client, value))


@command(
    "HSTRLEN", arity=3, flags="readonly fast", keys=(1, 1, 1), acl="hash", since="3.2.0", group="hash",
    summary="Measures the value of a field, in bytes",
)  # fmt: skip
def hstrlen(client: Client, argv: list[bytes]) -> bytes:
    value = hash_to_read(client, argv[1])
    if value is None:
        return ZERO
    found = field_of(client, value, argv[2])
    return ZERO if found is None else integer(len(found))


@command(
    "HEXISTS", arity=3, flags="readonly fast", keys=(1, 1, 1), acl="hash", since="2.0.0", group="hash",
    summary="Tells whether a hash has a field",
)  # fmt: skip
def hexists(client: Client, argv: list[bytes]) -> bytes:
    value = hash_to_read(client, argv[1])
    return ONE if value is not None and field_of(client, value, argv[2]) is not None else ZERO


@command(
    "HDEL", arity=-3, flags="write fast", keys=(1, 1, 1), acl="hash", since="2.0.0", group="hash",
    complexity="O(N), N fields given",
    summary="Deletes fields; a hash without fields is deleted too",
)  # fmt: skip
def hdel(client: Client, argv: list[bytes]) -> bytes:
    value = hash_to_write(client, argv[1])
    if value is None:
        return ZERO
    fields = value.fields
    if len(argv) == 3:
        if argv[2] not in fields:
            return ZERO
        late = isinstance(value, TimedHash) and value.is_due(argv[2], client.store.now_ms)
        client.emit([b"HDEL", argv[1], argv[2]])
        return ZERO if late else ONE
    found = [field for field in dict.fromkeys(argv[2:]) if field in fields]
    count = len(found)
    if isinstance(value, TimedHash):  # what is past its deadline goes too, but was not there
        count -= len([field for field in found if value.is_due(field, client.store.now_ms)])
    if found:
        client.emit([b"HDEL", argv[1], *found])
    return integer(count)


@command(
    "HINCRBY", arity=4, flags="write denyoom fast", keys=(1, 1, 1), acl="hash", since="2.0.0", group="hash",
    summary="Adds an integer to a field",
)  # fmt: skip
def hincrby(client: Client, argv: list[bytes]) -> bytes:
    total = parse_int(argv[3])
    value = hash_to_write(client, argv[1])
    if value is not None:
        current = field_of(client, value, argv[2])
        if current is not None:
            total += parse_int(current, HASH_NOT_INTEGER)
            if total > INT64_MAX or total < INT64_MIN:
                raise ReplyError(OVERFLOW)
    set_keeping_deadline(client, argv[1], value, argv[2], b"%d" % total)
    return integer(total)


@command(
    "HINCRBYFLOAT", arity=4, flags="write denyoom fast", keys=(1, 1, 1), acl="hash", since="2.6.0", group="hash",
    summary="Adds a floating-point number to a field",
)  # fmt: skip
def hincrbyfloat(client: Client, argv: list[bytes]) -> bytes:
    total = parse_long_double(argv[3])
    if total.infinite:
        raise ReplyError(NAN_OR_INFINITY)
    value = hash_to_write(client, argv[1])
    if value is not None:
        current = field_of(client, value, argv[2])
        if current is not None:
            total = add_long_doubles(parse_long_double(current, HASH_NOT_FLOAT), total)
            if total.infinite:
                raise ReplyError(SUM_NAN_OR_INFINITY)
    text = format_long_double(total)
    set_keeping_deadline(client, argv[1], value, argv[2], text)
    return bulk(text)


def pick(client: Client, value: HashValue, fields: dict[bytes, bytes], count: int) -> list[bytes]:
    """`count` random fields of those that are alive: all different, or, when negative, -count of them in any way."""
    if fields is value.fields:
        return value.pick(client.store.rng, count)
    if not fields:
        return []
    order = Order(list(fields))
    rng = client.store.rng
    return sampling.repeated(rng, order, -count) if count < 0 else sampling.distinct(rng, order, fields, count)


@command(
    "HRANDFIELD", arity=-2, flags="readonly", keys=(1, 1, 1), acl="hash", since="6.2.0", group="hash",
    complexity="O(N), N fields returned", tips="nondeterministic_output",
    summary="Picks fields of a hash at random and leaves them there",
)  # fmt: skip
def hrandfield(client: Client, argv: list[bytes]) -> bytes:
    n = len(argv)
    if n == 2:
        value = hash_to_read(client, argv[1])
        if value is None:
            return NULL3 if client.resp3 else NULL_BULK
        one = pick(client, value, live_fields(client, value), 1)
        return bulk_or_null(one[0] if one else None, client.resp3)
    count = random_count(argv[2])
    with_values = n > 3
    if with_values:
        if n > 4 or argv[3].upper() != b"WITHVALUES":
            raise syntax_error()
        if not -(INT64_MAX // 2) <= count <= INT64_MAX // 2:
            raise ReplyError(VALUE_OUT_OF_RANGE)
    value = hash_to_read(client, argv[1])
    if value is None or count == 0:
        return EMPTY_ARRAY
    if count < -REPEATED_MAX:
        raise ReplyError(VALUE_OUT_OF_RANGE)
    fields = live_fields(client, value)
    picked = pick(client, value, fields, count)
    if not with_values:
        return bulks(picked)
    if client.resp3:
        pairs = [bulks([field, fields[field]]) for field in picked]
        return b"*%d\r\n%b" % (len(pairs), b"".join(pairs))
    flat: list[bytes] = []
    for field in picked:
        flat.append(field)
        flat.append(fields[field])
    return bulks(flat)


def without_novalues(argv: list[bytes]) -> list[bytes]:
    """HSCAN's arguments but for NOVALUES, which may stand where any option may."""
    kept = argv[:3]
    at = 3
    while at < len(argv):
        if argv[at].upper() == b"NOVALUES":
            at += 1
        else:
            kept += argv[at : at + 2]
            at += 2
    return kept


@command(
    "HSCAN", arity=-3, flags="readonly", keys=(1, 1, 1), acl="hash", since="2.8.0", group="hash",
    complexity="O(1) a call, O(N) for the whole walk over N elements",
    tips="nondeterministic_output",
    summary="Walks through a hash in small steps",
)  # fmt: skip
def hscan(client: Client, argv: list[bytes]) -> bytes:
    cursor = parse_cursor(argv[2])
    value = hash_to_read(client, argv[1])
    if value is None:
        return scan_reply(0, [])
    options = without_novalues(argv)
    names_only = len(options) < len(argv)
    count, pattern = scan_options(options)
    if value.scanned_whole():
        cursor, found = 0, list(value.fields)
    else:
        cursor, found = value.places().scan(cursor, count)
    flat: list[bytes] = []
    for field in found:
        if pattern is None or glob_match(pattern, field):
            content = field_of(client, value, field)
            if content is None:
                continue
            flat.append(field)
            if not names_only:
                flat.append(content)
    return scan_reply(cursor, flat)
