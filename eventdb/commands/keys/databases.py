"""Whole databases. Source: redis src/db.c, src/commands/*.json (group server)."""

from __future__ import annotations

from eventdb.engine.client import Client
from eventdb.engine.gates import not_in_cluster
from eventdb.engine.registry import command
from eventdb.protocol.errors import DB_OUT_OF_RANGE, ReplyError, syntax_error
from eventdb.protocol.numbers import INT32_MAX, INT32_MIN, parse_int
from eventdb.protocol.replies import OK, integer


@command(
    "DBSIZE", arity=1, flags="readonly fast", whole=True, acl="keyspace", group="server",
    summary="Counts the keys of the database.",
    tips="request_policy:all_shards response_policy:agg_sum",
)  # fmt: skip
def dbsize(client: Client, argv: list[bytes]) -> bytes:
    return integer(len(client.db.values))


def check_flush(argv: list[bytes]) -> None:
    """ASYNC and SYNC mean the same here."""
    if len(argv) > 2 or (len(argv) == 2 and argv[1].upper() not in (b"ASYNC", b"SYNC")):
        raise syntax_error()


@command(
    "FLUSHDB", arity=-1, flags="write", acl="keyspace dangerous", group="server",
    complexity="O(N) for N keys",
    summary="Deletes every key of the database.",
    tips="request_policy:all_shards response_policy:all_succeeded",
)  # fmt: skip
def flushdb(client: Client, argv: list[bytes]) -> bytes:
    check_flush(argv)
    if client.db.values:
        client.emit([b"FLUSHDB"])
    return OK


@command(
    "FLUSHALL", arity=-1, flags="write", acl="keyspace dangerous", group="server",
    complexity="O(N) for N keys",
    summary="Deletes every key of every database.",
    tips="request_policy:all_shards response_policy:all_succeeded",
)  # fmt: skip
def flushall(client: Client, argv: list[bytes]) -> bytes:
    check_flush(argv)
    if client.store.keyspace.key_count():
        client.emit([b"FLUSHALL"])
    return OK


@command(
    "SWAPDB", arity=3, flags="write fast", acl="keyspace dangerous", group="server", since="4.0.0",
    complexity="O(N) for N clients that watch or wait",
    summary="Exchanges the content of two databases.",
)  # fmt: skip
def swapdb(client: Client, argv: list[bytes]) -> bytes:
    not_in_cluster(client, "ERR SWAPDB is not allowed in cluster mode")
    a = parse_index(argv[1], "ERR invalid first DB index")
    b = parse_index(argv[2], "ERR invalid second DB index")
    dbs = client.store.keyspace.dbs
    if not (0 <= a < len(dbs) and 0 <= b < len(dbs)):
        raise ReplyError(DB_OUT_OF_RANGE)
    if a != b and (dbs[a].values or dbs[b].values):
        client.emit([b"SWAPDB", b"%d" % a, b"%d" % b])
    return OK


def parse_index(text: bytes, message: str) -> int:
    n = parse_int(text, message)
    if n < INT32_MIN or n > INT32_MAX:
        raise ReplyError(message)
    return n
