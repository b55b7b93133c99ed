"""Strings written or deleted on a condition: DIGEST, DELEX, DELIFEQ, MSETEX.

Later than Redis 7. Source: redis src/t_string.c of 8.4 (delexCommand, msetexCommand), valkey src/t_string.c of 9.0
(delifeqCommand). What is logged is DEL, MSET or SET.
"""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.deadlines import deadline_of
from eventdb.commands.shared.lookups import string_to_read, string_to_write
from eventdb.commands.shared.string_changes import put_keeping_deadline
from eventdb.commands.shared.string_options import COMPARISONS, IF_ABSENT, OF_MSETEX, compares, parse_options
from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.protocol.errors import ReplyError, wrong_arity
from eventdb.protocol.numbers import counted, parse_int
from eventdb.protocol.replies import ONE, ZERO, bulk, null
from eventdb.protocol.xxh3 import digest as digest_of

PAIRS_MAX: Final = (1 << 31) - 1
NO_STRING: Final = "ERR Key should be of string type if conditions are specified"


@command(
    "DIGEST", arity=2, flags="readonly fast", keys=(1, 1, 1), acl="string", group="string", since="8.4.0",
    complexity="O(N) for N bytes",
    summary="Returns a hash of a string (XXH3, 64 bits), for IFDEQ and IFDNE.",
)  # fmt: skip
def digest(client: Client, argv: list[bytes]) -> bytes:
    value = string_to_read(client, argv[1])
    return null(client.resp3) if value is None else bulk(digest_of(bytes(value)))


@command(
    "DELEX", arity=-2, flags="write fast", keys=(1, 1, 1), acl="string", group="string", since="8.4.0",
    complexity="O(1), O(N) for N bytes with IFDEQ or IFDNE",
    summary="Deletes a key if the string that it holds, or its digest, is or is not the one given.",
)  # fmt: skip
def delex(client: Client, argv: list[bytes]) -> bytes:
    if len(argv) not in (2, 4):
        raise wrong_arity("delex")
    key = argv[1]
    value = client.lookup_write(key)
    if value is None:
        return ZERO
    if len(argv) == 4:
        if not isinstance(value, (bytes, bytearray)):
            raise ReplyError(NO_STRING)
        comparison = argv[2].upper()
        if comparison not in COMPARISONS:
            raise ReplyError("ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE")
        if not compares(value, comparison, argv[3]):
            return ZERO
    client.emit([b"DEL", key])
    return ONE


@command(
    "DELIFEQ", arity=3, flags="write fast", keys=(1, 1, 1), acl="string", group="string", since="9.0.0",
    summary="Deletes a key if it holds the string given (Valkey's name; Redis has DELEX).",
)  # fmt: skip
def delifeq(client: Client, argv: list[bytes]) -> bytes:
    value = string_to_write(client, argv[1])
    if value is None or value != argv[2]:
        return ZERO
    client.emit([b"DEL", argv[1]])
    return ONE


def keys_of_msetex(argv: list[bytes]) -> list[bytes]:
    return argv[2 : 2 + 2 * max(0, counted(argv[1])) : 2] if len(argv) >= 4 else []


@command(
    "MSETEX", arity=-4, flags="write denyoom movablekeys", find_keys=keys_of_msetex, acl="string", group="string",
    since="8.4.0", complexity="O(N) for N keys",
    summary="Makes several keys hold a string each, all at once, under a condition and with one deadline.",
)  # fmt: skip
def msetex(client: Client, argv: list[bytes]) -> bytes:
    count = parse_int(argv[1], "ERR invalid numkeys value")
    if not 1 <= count <= PAIRS_MAX:
        raise ReplyError("ERR invalid numkeys value")
    end = 2 + 2 * count
    if end > len(argv):
        raise ReplyError("ERR wrong number of key-value pairs")
    options = parse_options(argv, end, OF_MSETEX)
    at_ms = deadline_of(client, options.unit, options.time, "msetex") if options.unit else 0
    if options.condition:
        for i in range(2, end, 2):
            if (client.lookup_write(argv[i]) is not None) == (options.condition == IF_ABSENT):
                return ZERO
    if not options.unit and not options.keep:
        client.emit([b"MSET", *argv[2:end]])
        return ONE
    for i in range(2, end, 2):
        if options.keep:
            client.lookup_write(argv[i])  # a deadline that has passed is not kept
            put_keeping_deadline(client, argv[i], argv[i + 1])
        else:
            client.emit([b"SET", argv[i], argv[i + 1], b"PXAT", b"%d" % at_ms])
    return ONE
