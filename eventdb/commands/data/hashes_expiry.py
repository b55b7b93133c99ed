"""Deadlines of hash fields. Source: redis src/t_hash.c of 8.0, src/commands/*.json (group hash).

What is logged is absolute: HPEXPIREAT for a deadline, HDEL for one in the past, HPERSIST, HSETEX for values and
deadline at once. Each only with the fields that it changes.
"""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.deadlines import invalid_expire_time
from eventdb.commands.shared.hash_fields import field_of
from eventdb.commands.shared.lookups import hash_to_read, hash_to_write
from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.keyspace.types.hash import HashValue
from eventdb.keyspace.types.timed_hash import TimedHash, deadlines_of
from eventdb.protocol.errors import ReplyError, shown, wrong_arity
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import ONE, ZERO, array, bulk, bulk_or_null, integer, null

# What is answered for each field.
NO_FIELD: Final = b":-2\r\n"
NO_DEADLINE: Final = b":-1\r\n"
DELETED: Final = b":2\r\n"

DEADLINE_MS_MAX: Final = (1 << 46) - 1
COUNT_MAX: Final = (1 << 63) - 1
HSETEX_COUNT_MAX: Final = (1 << 31) - 1
FIELDS_MISSING: Final = "ERR Mandatory argument FIELDS is missing or not at the right position"
NOT_AS_MANY: Final = "ERR The `numfields` parameter must match the number of arguments"
NO_COUNT: Final = "ERR Number of fields must be a positive integer"
NO_COUNT_OF_EXPIRE: Final = "ERR Parameter `numFields` should be greater than 0"
ONE_EXPIRATION: Final = "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"
UNITS: Final = (b"EX", b"PX", b"EXAT", b"PXAT")


def parse_deadline(client: Client, text: bytes, unit: bytes, name: str) -> int:
    """The Unix ms that `EX 10`, `PXAT …` mean; it may be in the past."""
    at_ms = parse_int(text)
    if at_ms < 0:
        raise ReplyError("ERR invalid expire time, must be >= 0")
    base_ms = client.store.now_ms if len(unit) == 2 else 0
    if unit[:1] == b"E":
        at_ms *= 1000
    if at_ms > DEADLINE_MS_MAX - base_ms:
        raise invalid_expire_time(name)
    return at_ms + base_ms


def parse_count(text: bytes, error: str, most: int = COUNT_MAX) -> int:
    count = parse_int(text, error)
    if not 1 <= count <= most:
        raise ReplyError(error)
    return count


def fields_from(argv: list[bytes], at: int, error: str = NO_COUNT) -> list[bytes]:
    """The fields after `FIELDS count`, which begins at argv[at] and ends the command."""
    if at >= len(argv) or argv[at].upper() != b"FIELDS":
        raise ReplyError(FIELDS_MISSING)
    count = parse_count(argv[at + 1] if at + 1 < len(argv) else b"", error)
    if count != len(argv) - at - 2:
        raise ReplyError(NOT_AS_MANY)
    return argv[at + 2 :]


def emit_fields(client: Client, head: list[bytes], fields: dict[bytes, None]) -> None:
    """An event that ends in `FIELDS count field …`, if there is any."""
    if fields:
        client.emit([*head, b"FIELDS", b"%d" % len(fields), *fields])


def emit_deleted(client: Client, key: bytes, fields: dict[bytes, None]) -> None:
    if fields:
        client.emit([b"HDEL", key, *fields])


# -- HEXPIRE and its like


def expire(client: Client, argv: list[bytes], unit: bytes, name: str) -> bytes:
    key = argv[1]
    value = hash_to_write(client, key)
    at_ms = parse_deadline(client, argv[2], unit, name)
    condition = argv[3].upper()
    at = 4
    if condition not in (b"NX", b"XX", b"GT", b"LT"):
        condition, at = b"", 3
    fields = fields_from(argv, at, NO_COUNT_OF_EXPIRE)
    if value is None:
        return array([NO_FIELD] * len(fields))
    current = dict(deadlines_of(value)) if len(set(fields)) != len(fields) else deadlines_of(value)
    past = at_ms <= client.store.now_ms
    changed: dict[bytes, None] = {}
    replies: list[bytes] = []
    for field in fields:
        if field_of(client, value, field) is None or (past and field in changed):
            replies.append(NO_FIELD)
        elif not _meets(condition, current.get(field), at_ms):
            replies.append(ZERO)
        else:
            replies.append(DELETED if past else ONE)
            changed[field] = None
            if current is not deadlines_of(value) and not past:
                current[field] = at_ms
    if past:
        emit_deleted(client, key, changed)
    else:
        emit_fields(client, [b"HPEXPIREAT", key, b"%d" % at_ms], changed)
    return array(replies)


def _meets(condition: bytes, current: int | None, at_ms: int) -> bool:
    if condition == b"":
        return True
    if current is None:
        return condition == b"NX" or condition == b"LT"
    if condition == b"GT":
        return at_ms > current
    return at_ms < current if condition == b"LT" else condition == b"XX"


@command(
    "HEXPIRE", arity=-6, flags="write denyoom fast", keys=(1, 1, 1), acl="hash", since="7.4.0", group="hash",
    complexity="O(N) for N fields", summary="Gives fields of a hash a deadline, in seconds from now.",
)  # fmt: skip
def hexpire(client: Client, argv: list[bytes]) -> bytes:
    return expire(client, argv, b"EX", "hexpire")


@command(
    "HPEXPIRE", arity=-6, flags="write denyoom fast", keys=(1, 1, 1), acl="hash", since="7.4.0", group="hash",
    complexity="O(N) for N fields", summary="Gives fields of a hash a deadline, in milliseconds from now.",
)  # fmt: skip
def hpexpire(client: Client, argv: list[bytes]) -> bytes:
    return expire(client, argv, b"PX", "hpexpire")


@command(
    "HEXPIREAT", arity=-6, flags="write denyoom fast", keys=(1, 1, 1), acl="hash", since="7.4.0", group="hash",
    complexity="O(N) for N fields", summary="Gives fields of a hash a deadline, in Unix seconds.",
)  # fmt: skip
def hexpireat(client: Client, argv: list[bytes]) -> bytes:
    return expire(client, argv, b"EXAT", "hexpireat")


@command(
    "HPEXPIREAT", arity=-6, flags="write denyoom fast", keys=(1, 1, 1), acl="hash", since="7.4.0", group="hash",
    complexity="O(N) for N fields", summary="Gives fields of a hash a deadline, in Unix milliseconds.",
)  # fmt: skip
def hpexpireat(client: Client, argv: list[bytes]) -> bytes:
    return expire(client, argv, b"PXAT", "hpexpireat")


@command(
    "HPERSIST", arity=-5, flags="write fast", keys=(1, 1, 1), acl="hash", since="7.4.0", group="hash",
    complexity="O(N) for N fields", summary="Takes away the deadlines of fields of a hash.",
)  # fmt: skip
def hpersist(client: Client, argv: list[bytes]) -> bytes:
    value = hash_to_write(client, argv[1])
    fields = fields_from(argv, 2)
    if value is None:
        return array([NO_FIELD] * len(fields))
    deadlines = deadlines_of(value)
    changed: dict[bytes, None] = {}
    replies: list[bytes] = []
    for field in fields:
        if field_of(client, value, field) is None:
            replies.append(NO_FIELD)
        elif field not in deadlines or field in changed:
            replies.append(NO_DEADLINE)
        else:
            replies.append(ONE)
            changed[field] = None
    emit_fields(client, [b"HPERSIST", argv[1]], changed)
    return array(replies)


# -- HTTL and its like


def time_left(client: Client, argv: list[bytes], since_ms: int, in_seconds: bool) -> bytes:
    """From `since_ms` to each deadline; seconds are rounded up."""
    value = hash_to_read(client, argv[1])
    fields = fields_from(argv, 2)
    if value is None:
        return array([NO_FIELD] * len(fields))
    deadlines = deadlines_of(value)
    replies: list[bytes] = []
    for field in fields:
        at_ms = deadlines.get(field)
        if field_of(client, value, field) is None:
            replies.append(NO_FIELD)
        elif at_ms is None:
            replies.append(NO_DEADLINE)
        else:
            left = at_ms - since_ms
            replies.append(integer((left + 999) // 1000 if in_seconds else left))
    return array(replies)


@command(
    "HTTL", arity=-5, flags="readonly fast", keys=(1, 1, 1), acl="hash", since="7.4.0", group="hash",
    complexity="O(N) for N fields", summary="Returns the seconds until fields of a hash are gone.",
    tips="nondeterministic_output",
)  # fmt: skip
def httl(client: Client, argv: list[bytes]) -> bytes:
    return time_left(client, argv, client.store.now_ms, True)


@command(
    "HPTTL", arity=-5, flags="readonly fast", keys=(1, 1, 1), acl="hash", since="7.4.0", group="hash",
    complexity="O(N) for N fields", summary="Returns the milliseconds until fields of a hash are gone.",
    tips="nondeterministic_output",
)  # fmt: skip
def hpttl(client: Client, argv: list[bytes]) -> bytes:
    return time_left(client, argv, client.store.now_ms, False)


@command(
    "HEXPIRETIME", arity=-5, flags="readonly fast", keys=(1, 1, 1), acl="hash", since="7.4.0", group="hash",
    complexity="O(N) for N fields", summary="Returns when fields of a hash are gone, in Unix seconds.",
)  # fmt: skip
def hexpiretime(client: Client, argv: list[bytes]) -> bytes:
    return time_left(client, argv, 0, True)


@command(
    "HPEXPIRETIME", arity=-5, flags="readonly fast", keys=(1, 1, 1), acl="hash", since="7.4.0", group="hash",
    complexity="O(N) for N fields", summary="Returns when fields of a hash are gone, in Unix milliseconds.",
)  # fmt: skip
def hpexpiretime(client: Client, argv: list[bytes]) -> bytes:
    return time_left(client, argv, 0, False)


# -- HGETEX, HGETDEL, HSETEX


@command(
    "HGETDEL", arity=-5, flags="write fast", keys=(1, 1, 1), acl="hash", since="8.0.0", group="hash",
    complexity="O(N) for N fields", summary="Reads fields of a hash and deletes them.",
)  # fmt: skip
def hgetdel(client: Client, argv: list[bytes]) -> bytes:
    value = hash_to_write(client, argv[1])
    fields = fields_from(argv, 2)
    nothing = null(client.resp3)
    if value is None:
        return array([nothing] * len(fields))
    gone: dict[bytes, None] = {}
    late = 0
    replies: list[bytes] = []
    for field in fields:
        found = field_of(client, value, field) if field not in gone else None
        replies.append(nothing if found is None else bulk(found))
        if field in value.fields:  # what is past its deadline goes too
            late += found is None and field not in gone
            gone[field] = None
    if late and late < len(gone):
        client.store.touch_unchanged(client.db, argv[1], [b"hexpired"])
    emit_deleted(client, argv[1], gone)
    if late and late == len(gone):
        client.store.because(b"hexpired")
    return array(replies)


@command(
    "HGETEX", arity=-5, flags="write fast", keys=(1, 1, 1), acl="hash", since="8.0.0", group="hash",
    complexity="O(N) for N fields", summary="Reads fields of a hash, and gives them a deadline or takes it away.",
)  # fmt: skip
def hgetex(client: Client, argv: list[bytes]) -> bytes:
    key = argv[1]
    value = hash_to_write(client, key)
    option = argv[2].upper()
    at_ms = 0
    at = 2
    if option in UNITS:
        at_ms = parse_deadline(client, argv[3], option, "hgetex")
        at = 4
    elif option == b"PERSIST":
        at = 3
    fields = fields_from(argv, at)
    if value is None:
        return array([null(client.resp3)] * len(fields))
    deletes = at == 4 and at_ms <= client.store.now_ms
    deadlines = deadlines_of(value)
    changed: dict[bytes, None] = {}
    replies: list[bytes] = []
    for field in fields:
        found = None if deletes and field in changed else field_of(client, value, field)
        replies.append(bulk_or_null(found, client.resp3))
        if found is not None and (at == 4 or (at == 3 and field in deadlines)):
            changed[field] = None
    if deletes:
        emit_deleted(client, key, changed)
    elif at == 4:
        emit_fields(client, [b"HPEXPIREAT", key, b"%d" % at_ms], changed)
    else:
        emit_fields(client, [b"HPERSIST", key], changed)
    return array(replies)


class SetOptions:
    """What stands before FIELDS in HSETEX, and where the pairs begin."""

    def __init__(self) -> None:
        self.condition = b""
        self.unit = b""  # KEEPTTL too
        self.at_ms = 0
        self.first = 0


def parse_set_options(client: Client, argv: list[bytes]) -> SetOptions:
    options = SetOptions()
    n = len(argv)
    at = 2
    while at < n:
        word = argv[at].upper()
        if word == b"FIELDS":
            if at >= n - 3:
                break
            count = parse_count(argv[at + 1], "ERR invalid number of fields", HSETEX_COUNT_MAX)
            if 2 * count != n - at - 2:
                break
            options.first = at + 2
            return options
        if word in UNITS or word == b"KEEPTTL":
            if options.unit:
                raise ReplyError(ONE_EXPIRATION)
            options.unit = word
            if word != b"KEEPTTL":
                at += 1
                if at >= n:
                    raise ReplyError("ERR missing expire time")
                options.at_ms = parse_deadline(client, argv[at], word, "hsetex")
        elif word in (b"FXX", b"FNX"):
            if options.condition:
                raise ReplyError("ERR Only one of FXX or FNX arguments can be specified")
            options.condition = word
        else:
            raise ReplyError(f"ERR unknown argument: {shown(argv[at])}")
        at += 1
    raise wrong_arity("hsetex")


@command(
    "HSETEX", arity=-6, flags="write denyoom fast", keys=(1, 1, 1), acl="hash", since="8.0.0", group="hash",
    complexity="O(N) for N fields", summary="Writes fields of a hash under a condition, and gives them a deadline.",
)  # fmt: skip
def hsetex(client: Client, argv: list[bytes]) -> bytes:
    options = parse_set_options(client, argv)
    key = argv[1]
    value = hash_to_write(client, key)
    pairs = argv[options.first :]
    if options.condition:
        wanted = options.condition == b"FXX"
        for field in pairs[::2]:
            if wanted != (value is not None and field_of(client, value, field) is not None):
                return ZERO
    count = b"%d" % (len(pairs) // 2)
    if options.unit == b"KEEPTTL":
        _set_keeping(client, key, value, pairs)
    elif not options.unit:
        client.emit([b"HSET", key, *pairs])
    elif options.at_ms > client.store.now_ms:
        client.emit([b"HSETEX", key, b"PXAT", b"%d" % options.at_ms, b"FIELDS", count, *pairs])
    else:  # set and gone at once
        there = value.fields if value is not None else {}
        gone: dict[bytes, None] = {field: None for field in pairs[::2] if field in there}
        names = [b"hset"] if gone else [b"hset", b"hdel"] if value is not None else [b"hset", b"hdel", b"del"]
        client.store.touch_unchanged(client.db, key, names)
        emit_deleted(client, key, gone)
    return ONE


def _set_keeping(client: Client, key: bytes, value: HashValue | None, pairs: list[bytes]) -> None:
    """KEEPTTL: a field past its deadline is deleted first, so that it does not inherit it."""
    if not isinstance(value, TimedHash):
        client.emit([b"HSET", key, *pairs])
        return
    late: dict[bytes, None] = {field: None for field in pairs[::2] if value.is_due(field, client.store.now_ms)}
    emit_deleted(client, key, late)
    if late:
        client.store.because(b"hexpired")
    if key not in client.db.values or not value.deadlines:
        client.emit([b"HSET", key, *pairs])
    else:
        client.emit([b"HSETEX", key, b"KEEPTTL", b"FIELDS", b"%d" % (len(pairs) // 2), *pairs])
