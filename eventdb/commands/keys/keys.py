"""Keys of any type: delete, exist, rename, copy, move. Source: redis src/db.c, src/commands/*.json (group generic)."""

from __future__ import annotations

from eventdb.engine.client import Client
from eventdb.engine.gates import not_in_cluster
from eventdb.engine.registry import command
from eventdb.keyspace.databases import Db
from eventdb.keyspace.generic import type_of
from eventdb.protocol.errors import DB_OUT_OF_RANGE, NO_SUCH_KEY, SAME_OBJECT, ReplyError, syntax_error
from eventdb.protocol.numbers import parse_int32
from eventdb.protocol.replies import OK, ONE, ZERO, integer, simple


def parse_db(client: Client, text: bytes) -> Db:
    """The database with the number that the text holds."""
    n = parse_int32(text)
    dbs = client.store.keyspace.dbs
    if n < 0 or n >= len(dbs):
        raise ReplyError(DB_OUT_OF_RANGE)
    return dbs[n]


def lookup_in(client: Client, db: Db, key: bytes) -> object:
    """The value in any database, to change it; an expired one is deleted."""
    at_ms = db.expires.get(key)
    if at_ms is not None and at_ms <= client.store.now_ms:
        client.store.expire(db, key)
        return None
    return db.values.get(key)


def present(client: Client, argv: list[bytes]) -> int:
    """How many of argv[1:] are there; one that is named twice counts twice."""
    found = 0
    for i in range(1, len(argv)):
        if client.lookup(argv[i]) is not None:
            found += 1
    return found


@command(
    "DEL", arity=-2, flags="write", keys=(1, -1, 1), acl="keyspace",
    complexity="O(N) for N keys and the elements in them", summary="Deletes keys.",
    tips="request_policy:multi_shard response_policy:agg_sum",
)  # fmt: skip
def del_(client: Client, argv: list[bytes]) -> bytes:
    if len(argv) == 2:
        if client.lookup_write(argv[1]) is None:
            return ZERO
        client.emit([b"DEL", argv[1]])
        return ONE
    found: dict[bytes, None] = {}
    for i in range(1, len(argv)):
        if client.lookup_write(argv[i]) is not None:
            found[argv[i]] = None
    if found:
        client.emit([b"DEL", *found])
    return integer(len(found))


@command(
    "UNLINK", arity=-2, flags="write fast", keys=(1, -1, 1), acl="keyspace", since="4.0.0",
    complexity="O(N) for N keys and the elements in them",
    summary="Deletes keys; in eventdb the same as DEL.",
    tips="request_policy:multi_shard response_policy:agg_sum",
)  # fmt: skip
def unlink(client: Client, argv: list[bytes]) -> bytes:
    return del_(client, argv)


@command(
    "EXISTS", arity=-2, flags="readonly fast", keys=(1, -1, 1), acl="keyspace",
    complexity="O(N) for N keys", summary="Counts how many of the given keys are there.",
    tips="request_policy:multi_shard response_policy:agg_sum",
)  # fmt: skip
def exists(client: Client, argv: list[bytes]) -> bytes:
    return integer(present(client, argv))


@command(
    "TOUCH", arity=-2, flags="readonly fast", keys=(1, -1, 1), acl="keyspace", since="3.2.1",
    complexity="O(N) for N keys",
    summary="Counts how many of the given keys are there; eventdb keeps no access times.",
    tips="request_policy:multi_shard response_policy:agg_sum",
)  # fmt: skip
def touch(client: Client, argv: list[bytes]) -> bytes:
    return integer(present(client, argv))


@command(
    "TYPE",
    arity=2,
    flags="readonly fast",
    keys=(1, 1, 1),
    acl="keyspace",
    summary="Returns the type of what a key holds.",
)
def type_(client: Client, argv: list[bytes]) -> bytes:
    return simple(type_of(client.lookup(argv[1])))


@command(
    "RENAME",
    arity=3,
    flags="write",
    keys=(1, 2, 1),
    acl="keyspace",
    summary="Gives a key a new name, in place of a key that had it.",
)
def rename(client: Client, argv: list[bytes]) -> bytes:
    key, new = argv[1], argv[2]
    if client.lookup_write(key) is None:
        raise ReplyError(NO_SUCH_KEY)
    if key != new:
        client.emit([b"RENAME", key, new])
    return OK


@command(
    "RENAMENX", arity=3, flags="write fast", keys=(1, 2, 1), acl="keyspace",
    summary="Gives a key a new name if no key has it.",
)  # fmt: skip
def renamenx(client: Client, argv: list[bytes]) -> bytes:
    key, new = argv[1], argv[2]
    if client.lookup_write(key) is None:
        raise ReplyError(NO_SUCH_KEY)
    if key == new or client.lookup_write(new) is not None:
        return ZERO
    client.emit([b"RENAME", key, new])
    return ONE


@command(
    "COPY", arity=-3, flags="write denyoom", keys=(1, 2, 1), acl="keyspace", since="6.2.0",
    complexity="O(N) for N elements",
    summary="Copies what a key holds, and its deadline, to another key.",
)  # fmt: skip
def copy(client: Client, argv: list[bytes]) -> bytes:
    source, destination = argv[1], argv[2]
    target = client.db
    replace = False
    at = 3
    while at < len(argv):
        word = argv[at].upper()
        if word == b"REPLACE":
            replace = True
        elif word == b"DB" and at + 1 < len(argv):
            at += 1
            target = parse_db(client, argv[at])
        else:
            raise syntax_error()
        at += 1
    if target.index:
        not_in_cluster(client, "ERR Copying to another database is not allowed in cluster mode")
    if target is client.db and source == destination:
        raise ReplyError(SAME_OBJECT)
    if client.lookup_write(source) is None:
        return ZERO
    if lookup_in(client, target, destination) is not None and not replace:
        return ZERO
    client.emit([b"COPY", source, destination, b"DB", b"%d" % target.index])
    return ONE


@command(
    "MOVE",
    arity=3,
    flags="write fast",
    keys=(1, 1, 1),
    acl="keyspace",
    summary="Takes a key to another database if it is not there.",
)
def move(client: Client, argv: list[bytes]) -> bytes:
    not_in_cluster(client, "ERR MOVE is not allowed in cluster mode")
    key = argv[1]
    target = parse_db(client, argv[2])
    if target is client.db:
        raise ReplyError(SAME_OBJECT)
    if client.lookup_write(key) is None or lookup_in(client, target, key) is not None:
        return ZERO
    client.emit([b"MOVE", key, b"%d" % target.index])
    return ONE
