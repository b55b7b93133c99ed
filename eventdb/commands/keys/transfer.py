"""DUMP and RESTORE: values that travel between servers, in Redis's own encoding.

A value that is restored is logged as the events that make it (RPUSH, HSET, XADD …), never as the bytes that came: so
the log says in words what was written, and reading it does not need Redis's format for as long as the log lives.
Source: redis src/cluster.c (dumpCommand, restoreCommand).
"""

from __future__ import annotations

from typing import Final

from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.protocol.errors import ReplyError, syntax_error
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import OK, bulk, null
from eventdb.rdb import payload
from eventdb.rdb.codes import BadRdb, Unkept

BUSY_KEY: Final = "BUSYKEY Target key name already exists."
BAD_FORMAT: Final = "ERR Bad data format"
BAD_PAYLOAD: Final = "ERR DUMP payload version or checksum are wrong"
EVENT_BYTES_MAX: Final = 1 << 31  # of one transaction; a record of the log holds twice as much
ARGUMENT_BYTES: Final = 16
EVICTION_COUNT_MAX: Final = 255


class Options:
    """What follows the payload of a RESTORE."""

    def __init__(self) -> None:
        self.replace = False
        self.absolute = False
        self.idle_s = -1
        self.frequency = -1


def _options(argv: list[bytes]) -> Options:
    found = Options()
    at = 4
    while at < len(argv):
        word = argv[at].upper()
        has_value = at + 1 < len(argv)
        if word == b"REPLACE":
            found.replace = True
        elif word == b"ABSTTL":
            found.absolute = True
        elif word == b"IDLETIME" and has_value and found.frequency == -1:
            at += 1
            found.idle_s = parse_int(argv[at])
            if found.idle_s < 0:
                raise ReplyError("ERR Invalid IDLETIME value, must be >= 0")
        elif word == b"FREQ" and has_value and found.idle_s == -1:
            at += 1
            found.frequency = parse_int(argv[at])
            if not 0 <= found.frequency <= EVICTION_COUNT_MAX:
                raise ReplyError("ERR Invalid FREQ value, must be >= 0 and <= 255")
        else:
            raise syntax_error()
        at += 1
    return found


@command(
    "DUMP", arity=2, flags="readonly", keys=(1, 1, 1), acl="keyspace", since="2.6.0",
    complexity="O(N) for N elements", tips="nondeterministic_output",
    summary="Returns what a key holds in Redis's encoding, for RESTORE.",
)  # fmt: skip
def dump(client: Client, argv: list[bytes]) -> bytes:
    value = client.lookup(argv[1])
    if value is None:
        return null(client.resp3)
    try:
        return bulk(payload.dump(value))
    except Unkept as failure:
        raise ReplyError(f"ERR this value cannot be dumped: {failure}") from None


@command(
    "RESTORE", arity=-4, flags="write denyoom", keys=(1, 1, 1), acl="keyspace dangerous", since="2.6.0",
    complexity="O(N) for N elements",
    summary="Makes a key hold what DUMP returned, here or at a server of Redis or Valkey.",
)  # fmt: skip
def restore(client: Client, argv: list[bytes]) -> bytes:
    options = _options(argv)
    key = argv[1]
    there = client.lookup_write(key) is not None
    if there and not options.replace:
        raise ReplyError(BUSY_KEY)
    ttl = parse_int(argv[2])
    if ttl < 0:
        raise ReplyError("ERR Invalid TTL value, must be >= 0")
    events = _events(argv[3], key)
    now_ms = client.store.now_ms
    at_ms = ttl if options.absolute or ttl == 0 else ttl + now_ms
    if 0 < at_ms <= now_ms or at_ms >= 1 << 63:  # Redis's sum of 64 bits becomes negative, which is the past
        if there:
            client.emit([b"DEL", key])
        return OK
    if there and events[0][0] != b"SET":
        client.emit([b"DEL", key])
    for event in events:
        client.emit(event)
    if at_ms:
        client.emit([b"PEXPIREAT", key, b"%d" % at_ms])
    accesses = client.store.accesses
    if accesses is not None:
        accesses.restored(client.db, key, options.idle_s, options.frequency, now_ms)
    return OK


def _events(data: bytes, key: bytes) -> list[list[bytes]]:
    """The events that make the value. Raises ReplyError."""
    if payload.version(data) == 0:
        raise ReplyError(BAD_PAYLOAD)
    try:
        events = payload.read(data, key)
    except Unkept as failure:
        raise ReplyError(f"{BAD_FORMAT}: eventdb cannot keep {failure}") from None
    except BadRdb:
        raise ReplyError(BAD_FORMAT) from None
    size = 0
    for event in events:
        size += sum([len(arg) for arg in event]) + ARGUMENT_BYTES * len(event)
    if size > EVENT_BYTES_MAX:
        raise ReplyError(f"{BAD_FORMAT}: the value is too large for one transaction")
    return events


@command(
    "RESTORE-ASKING", arity=-4, flags="write denyoom asking", keys=(1, 1, 1), acl="keyspace dangerous", since="3.0.0",
    complexity="O(N) for N elements", group="server",
    summary="The same as RESTORE: no slot is ever half moved here.",
)  # fmt: skip
def restore_asking(client: Client, argv: list[bytes]) -> bytes:
    return restore(client, argv)
