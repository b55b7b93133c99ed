"""Finding keys: SCAN, KEYS, RANDOMKEY. Source: redis src/db.c. Expired keys are hidden; only writes delete."""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.scan_replies import COUNT_DEFAULT, parse_cursor, scan_reply
from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.registry import command, server_command
from eventdb.engine.watching import is_expired
from eventdb.keyspace.generic import type_of
from eventdb.protocol.errors import syntax_error
from eventdb.protocol.glob import compile_glob
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import bulk, bulks, null

RANDOM_TRIES_MAX: Final = 100  # then most keys have expired, and it walks through them


def hide_expired(client: Client, keys: list[bytes]) -> list[bytes]:
    expires = client.db.expires
    if not expires:
        return keys
    now_ms = client.store.now_ms
    found: list[bytes] = []
    for key in keys:
        at_ms = expires.get(key)
        if at_ms is None or at_ms > now_ms:
            found.append(key)
    return found


def matching(pattern: bytes, keys: list[bytes]) -> list[bytes]:
    if pattern == b"*":
        return keys
    match = compile_glob(pattern).fullmatch
    return [key for key in keys if match(key) is not None]


@command(
    "SCAN", arity=-2, flags="readonly", whole=True, acl="keyspace", since="2.8.0",
    complexity="O(1) a call, O(N) for all N keys",
    summary="Returns some of the keys, and a cursor to go on from.",
    tips="nondeterministic_output request_policy:special",
)  # fmt: skip
def scan(client: Client, argv: list[bytes]) -> bytes:
    cursor = parse_cursor(argv[1])
    count = COUNT_DEFAULT
    pattern = b"*"
    kind: bytes | None = None
    for at in range(2, len(argv), 2):
        word = argv[at].upper()
        if at + 1 == len(argv):
            raise syntax_error()
        if word == b"COUNT":
            count = parse_int(argv[at + 1])
            if count < 1:
                raise syntax_error()
        elif word == b"MATCH":
            pattern = argv[at + 1]
        elif word == b"TYPE":
            kind = argv[at + 1].lower()
        else:
            raise syntax_error()
    db = client.db
    cursor, keys = db.places().scan(cursor, count)
    keys = hide_expired(client, matching(pattern, keys))
    if kind is not None:
        keys = [key for key in keys if type_of(db.values[key]) == kind]
    return scan_reply(cursor, keys)


@command(
    "KEYS", arity=2, flags="readonly", whole=True, acl="keyspace dangerous",
    complexity="O(N) for N keys in the database",
    summary="Returns every key that matches a pattern.", tips="request_policy:all_shards nondeterministic_output_order",
)  # fmt: skip
def keys(client: Client, argv: list[bytes]) -> bytes:
    return bulks(hide_expired(client, matching(argv[1], list(client.db.values))))


@server_command(
    "RANDOMKEY", arity=1, flags="readonly", whole=True, acl="keyspace",
    summary="Returns a key picked by chance.", tips="request_policy:all_shards nondeterministic_output",
)  # fmt: skip
def randomkey(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    db = client.db
    for _ in range(RANDOM_TRIES_MAX):
        key = db.random_key(engine.store.rng)
        if key is None:
            return null(client.resp3)
        if not is_expired(db, key, engine.store.now_ms):
            return bulk(key)
    for key in db.values:  # hardly any key is alive, or none
        if not is_expired(db, key, engine.store.now_ms):
            return bulk(key)
    return null(client.resp3)
