"""Deadlines of keys. Source: redis src/expire.c, src/commands/*.json (group generic).

A deadline in the past deletes the key at once, by a DEL event; any other becomes a PEXPIREAT event.
"""

from __future__ import annotations

from eventdb.commands.shared.deadlines import invalid_expire_time
from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.protocol.errors import ReplyError, shown
from eventdb.protocol.numbers import INT64_MAX, parse_int
from eventdb.protocol.replies import ONE, ZERO, integer

NO_DEADLINE = b":-1\r\n"
NO_KEY = b":-2\r\n"


def parse_conditions(argv: list[bytes]) -> tuple[bool, bool, bool, bool]:
    """NX, XX, GT and LT from argv[3] on."""
    nx = xx = gt = lt = False
    for i in range(3, len(argv)):
        word = argv[i].upper()
        if word == b"NX":
            nx = True
        elif word == b"XX":
            xx = True
        elif word == b"GT":
            gt = True
        elif word == b"LT":
            lt = True
        else:
            raise ReplyError(f"ERR Unsupported option {shown(argv[i])}")
    if nx and (xx or gt or lt):
        raise ReplyError("ERR NX and XX, GT or LT options at the same time are not compatible")
    if gt and lt:
        raise ReplyError("ERR GT and LT options at the same time are not compatible")
    return nx, xx, gt, lt


def set_deadline(client: Client, argv: list[bytes], name: str, in_seconds: bool, relative: bool) -> bytes:
    nx = xx = gt = lt = False
    if len(argv) > 3:
        nx, xx, gt, lt = parse_conditions(argv)
    at_ms = parse_int(argv[2])
    if in_seconds:
        if abs(at_ms) > INT64_MAX // 1000:
            raise invalid_expire_time(name)
        at_ms *= 1000
    now_ms = client.store.now_ms
    if relative:
        at_ms += now_ms
        if at_ms > INT64_MAX:
            raise invalid_expire_time(name)
    key = argv[1]
    if client.lookup_write(key) is None:
        return ZERO
    if nx or xx or gt or lt:
        current = client.db.expires.get(key)
        if current is None:
            if xx or gt:
                return ZERO
        elif nx or (gt and at_ms <= current) or (lt and at_ms >= current):
            return ZERO
    if at_ms <= now_ms:
        client.emit([b"DEL", key])
    else:
        client.emit([b"PEXPIREAT", key, b"%d" % at_ms])
    return ONE


@command(
    "EXPIRE", arity=-3, flags="write fast", keys=(1, 1, 1), acl="keyspace",
    summary="Gives a key a deadline, in seconds from now.",
)  # fmt: skip
def expire(client: Client, argv: list[bytes]) -> bytes:
    return set_deadline(client, argv, "expire", True, True)


@command(
    "PEXPIRE", arity=-3, flags="write fast", keys=(1, 1, 1), acl="keyspace", since="2.6.0",
    summary="Gives a key a deadline, in milliseconds from now.",
)  # fmt: skip
def pexpire(client: Client, argv: list[bytes]) -> bytes:
    return set_deadline(client, argv, "pexpire", False, True)


@command(
    "EXPIREAT", arity=-3, flags="write fast", keys=(1, 1, 1), acl="keyspace", since="1.2.0",
    summary="Gives a key a deadline, in Unix seconds.",
)  # fmt: skip
def expireat(client: Client, argv: list[bytes]) -> bytes:
    return set_deadline(client, argv, "expireat", True, False)


@command(
    "PEXPIREAT", arity=-3, flags="write fast", keys=(1, 1, 1), acl="keyspace", since="2.6.0",
    summary="Gives a key a deadline, in Unix milliseconds.",
)  # fmt: skip
def pexpireat(client: Client, argv: list[bytes]) -> bytes:
    return set_deadline(client, argv, "pexpireat", False, False)


@command(
    "PERSIST", arity=2, flags="write fast", keys=(1, 1, 1), acl="keyspace", since="2.2.0",
    summary="Takes away the deadline of a key.",
)  # fmt: skip
def persist(client: Client, argv: list[bytes]) -> bytes:
    key = argv[1]
    if client.lookup_write(key) is None or key not in client.db.expires:
        return ZERO
    client.emit([b"PERSIST", key])
    return ONE


@command(
    "TTL", arity=2, flags="readonly fast", keys=(1, 1, 1), acl="keyspace",
    summary="Returns the seconds until a key is gone.", tips="nondeterministic_output",
)  # fmt: skip
def ttl(client: Client, argv: list[bytes]) -> bytes:
    return time_left(client, argv[1], client.store.now_ms, True)


@command(
    "PTTL", arity=2, flags="readonly fast", keys=(1, 1, 1), acl="keyspace", since="2.6.0",
    summary="Returns the milliseconds until a key is gone.", tips="nondeterministic_output",
)  # fmt: skip
def pttl(client: Client, argv: list[bytes]) -> bytes:
    return time_left(client, argv[1], client.store.now_ms, False)


@command(
    "EXPIRETIME", arity=2, flags="readonly fast", keys=(1, 1, 1), acl="keyspace", since="7.0.0",
    summary="Returns when a key is gone, in Unix seconds.",
)  # fmt: skip
def expiretime(client: Client, argv: list[bytes]) -> bytes:
    return time_left(client, argv[1], 0, True)


@command(
    "PEXPIRETIME", arity=2, flags="readonly fast", keys=(1, 1, 1), acl="keyspace", since="7.0.0",
    summary="Returns when a key is gone, in Unix milliseconds.",
)  # fmt: skip
def pexpiretime(client: Client, argv: list[bytes]) -> bytes:
    return time_left(client, argv[1], 0, False)


def time_left(client: Client, key: bytes, since_ms: int, in_seconds: bool) -> bytes:
    """From `since_ms` to the deadline; seconds are rounded to the nearest."""
    if client.lookup(key) is None:
        return NO_KEY
    at_ms = client.db.expires.get(key)
    if at_ms is None:
        return NO_DEADLINE
    left = at_ms - since_ms
    return integer((left + 500) // 1000 if in_seconds else left)
