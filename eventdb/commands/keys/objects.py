"""OBJECT: how a value is kept. Source: redis src/object.c objectCommand.

The encodings are those that Redis would use (eventdb has one layout for each type). When and how often a key is used is
kept only while track-access or maxmemory-policy asks for it (engine/access.py): noting it costs every command.
"""

from __future__ import annotations

from typing import Final

from eventdb.engine.client import Client
from eventdb.engine.registry import command, container
from eventdb.keyspace.generic import encoding_of, references
from eventdb.protocol.errors import ReplyError
from eventdb.protocol.replies import array, bulk, integer, null, simple

NO_LFU: Final = (
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching"
    " between policies at runtime LRU and LFU data will take some time to adjust."
)
LFU: Final = (
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies"
    " at runtime LRU and LFU data will take some time to adjust."
)
NOT_KEPT: Final = (
    "ERR times of access are not kept unless asked for: CONFIG SET track-access yes, or an LRU maxmemory-policy;"
    " they count from then on"
)
HELP: Final = (
    b"OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    b"ENCODING <key>",
    b"    The encoding that Redis would use for the value.",
    b"FREQ <key>",
    b"    How often the key is used, on a scale to 255; under an LFU maxmemory-policy.",
    b"IDLETIME <key>",
    b"    Seconds since the key was used; with track-access or an LRU maxmemory-policy.",
    b"REFCOUNT <key>",
    b"    How many references Redis would hold to the value.",
    b"HELP",
    b"    Print this help.",
)

container("OBJECT", since="2.2.3", summary="Tells how a value is kept.", group="generic")


@command(
    "OBJECT ENCODING", arity=3, flags="readonly", keys=(2, 2, 1), acl="keyspace", since="2.2.3",
    summary="Returns the encoding that Redis would use for a value.",
    tips="nondeterministic_output",
)  # fmt: skip
def encoding(client: Client, argv: list[bytes]) -> bytes:
    value = client.lookup(argv[2])
    if value is None:
        return null(client.resp3)
    return bulk(encoding_of(value, client.store.keyspace.limits))


@command(
    "OBJECT REFCOUNT", arity=3, flags="readonly", keys=(2, 2, 1), acl="keyspace", since="2.2.3",
    summary="Returns how many references Redis would hold to a value.",
    tips="nondeterministic_output",
)  # fmt: skip
def refcount(client: Client, argv: list[bytes]) -> bytes:
    value = client.lookup(argv[2])
    if value is None:
        return null(client.resp3)
    return integer(references(value))


@command(
    "OBJECT IDLETIME", arity=3, flags="readonly", keys=(2, 2, 1), acl="keyspace", since="2.2.3",
    summary="Returns the seconds since a key was used, if that is kept.",
    tips="nondeterministic_output",
)  # fmt: skip
def idletime(client: Client, argv: list[bytes]) -> bytes:
    if client.lookup(argv[2]) is None:
        return null(client.resp3)
    accesses = client.store.accesses
    if accesses is None or not accesses.times:
        raise ReplyError(LFU if accesses is not None else NOT_KEPT)
    return integer(accesses.idle_seconds(client.db, argv[2], client.store.now_ms))


@command(
    "OBJECT FREQ", arity=3, flags="readonly", keys=(2, 2, 1), acl="keyspace", since="4.0.0",
    summary="Returns how often a key is used, if that is counted.",
    tips="nondeterministic_output",
)  # fmt: skip
def freq(client: Client, argv: list[bytes]) -> bytes:
    if client.lookup(argv[2]) is None:
        return null(client.resp3)
    accesses = client.store.accesses
    if accesses is None or not accesses.counts:
        raise ReplyError(NO_LFU)
    return integer(accesses.frequency(client.db, argv[2], client.store.now_ms))


@command(
    "OBJECT HELP", arity=2, flags="loading stale", acl="keyspace", since="6.2.0",
    summary="Lists the subcommands.",
)  # fmt: skip
def help_(client: Client, argv: list[bytes]) -> bytes:
    return array([simple(line) for line in HELP])
