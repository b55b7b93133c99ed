"""Lists that block. Source: redis src/t_list.c (blockingPopGenericCommand, blmoveGenericCommand), src/blocked.c.

A handler here runs twice when it blocks: once with all its keys, and again, as `client.blocked` says, for the one key
that became ready. On that second run a key of another type is one to go on waiting for.
"""

from __future__ import annotations

from eventdb.commands.shared.list_changes import LEFT, RIGHT, many_pop, move, parse_many_pop, parse_side, pop_one
from eventdb.commands.shared.timeouts import parse_seconds
from eventdb.engine.client import Client
from eventdb.engine.registry import command, find_numkeys
from eventdb.keyspace.types.list import ListValue
from eventdb.protocol.errors import wrong_type
from eventdb.protocol.replies import null, null_array


def waited_for(client: Client, key: bytes) -> ListValue | None:
    """The list at a key, or None; another type is an error only as long as the command has not blocked."""
    value = client.lookup_write(key)
    if value is None or isinstance(value, ListValue):
        return value
    if client.blocked is not None:
        return None
    raise wrong_type()


def blocking_pop(client: Client, argv: list[bytes], left: bool) -> bytes:
    timeout_ms = parse_seconds(argv[len(argv) - 1])
    keys = argv[1 : len(argv) - 1]
    for key in client.keys_to_try(keys):
        value = waited_for(client, key)
        if value is not None:
            element = pop_one(client, key, value, left)
            return b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(element), element)
    return client.block(argv, keys, timeout_ms, null_array(client.resp3))


@command(
    "BLPOP", arity=-3, flags="write noscript blocking", keys=(1, -2, 1), acl="list", group="list", since="2.0.0",
    complexity="O(N) for N keys", summary="Takes the first element off a list, or waits until there is one.",
)  # fmt: skip
def blpop(client: Client, argv: list[bytes]) -> bytes:
    return blocking_pop(client, argv, True)


@command(
    "BRPOP", arity=-3, flags="write noscript blocking", keys=(1, -2, 1), acl="list", group="list", since="2.0.0",
    complexity="O(N) for N keys", summary="Takes the last element off a list, or waits until there is one.",
)  # fmt: skip
def brpop(client: Client, argv: list[bytes]) -> bytes:
    return blocking_pop(client, argv, False)


def blocking_move(client: Client, argv: list[bytes], side: bytes, to_side: bytes) -> bytes:
    timeout_ms = parse_seconds(argv[len(argv) - 1])
    value = waited_for(client, argv[1])
    if value is not None:
        return move(client, argv[1], argv[2], side, to_side, value)
    if client.store.in_exec:
        return null(client.resp3)  # Redis's answer inside MULTI differs from that of a timeout
    return client.block(argv, argv[1:2], timeout_ms, null_array(client.resp3))


@command(
    "BLMOVE", arity=6, flags="write denyoom noscript blocking", keys=(1, 2, 1), acl="list", group="list",
    since="6.2.0", summary="Moves an element from list to list and returns it, or waits until there is one.",
)  # fmt: skip
def blmove(client: Client, argv: list[bytes]) -> bytes:
    side, to_side = parse_side(argv[3]), parse_side(argv[4])
    return blocking_move(client, argv, side, to_side)


@command(
    "BRPOPLPUSH", arity=4, flags="write denyoom noscript blocking", keys=(1, 2, 1), acl="list", group="list",
    since="2.2.0", summary="Moves the last element of a list to the head of another, or waits for it (use BLMOVE).",
)  # fmt: skip
def brpoplpush(client: Client, argv: list[bytes]) -> bytes:
    return blocking_move(client, argv, RIGHT, LEFT)


def _blmpop_keys(argv: list[bytes]) -> list[bytes]:
    return find_numkeys(argv, 2)


@command(
    "BLMPOP", arity=-5, flags="write blocking movablekeys", find_keys=_blmpop_keys, acl="list", group="list",
    since="7.0.0", complexity="O(N+M) for N keys and M elements taken",
    summary="Takes elements off the first list that is there, or waits until one is.",
)  # fmt: skip
def blmpop(client: Client, argv: list[bytes]) -> bytes:
    wanted = parse_many_pop(argv, 2)
    timeout_ms = parse_seconds(argv[1])
    for key in client.keys_to_try(wanted.keys):
        value = waited_for(client, key)
        if value is not None:
            return many_pop(client, key, value, wanted)
    return client.block(argv, wanted.keys, timeout_ms, null_array(client.resp3))
