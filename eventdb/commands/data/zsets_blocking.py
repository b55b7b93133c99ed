"""Sorted sets: the pops that wait for a member.

Source: redis src/t_zset.c, src/blocked.c. When a key became ready the handler runs again for that one, with
`client.blocked` set; a key of another type then counts as empty.
"""

from __future__ import annotations

from eventdb.commands.shared.timeouts import parse_seconds
from eventdb.commands.shared.zset_changes import PopMany, pop
from eventdb.engine.client import Client
from eventdb.engine.registry import command, find_numkeys
from eventdb.keyspace.types.zset import ZSetValue
from eventdb.protocol.errors import wrong_type
from eventdb.protocol.replies import array, bulk, double, null_array


def _first_zset(client: Client, keys: list[bytes]) -> tuple[bytes, ZSetValue] | None:
    """The first key that has members. A key of another type before it is an error, unless the client is waiting."""
    for key in client.keys_to_try(keys):
        value = client.lookup_write(key)
        if value is None:
            continue
        if isinstance(value, ZSetValue):
            return key, value
        if client.blocked is None:
            raise wrong_type()
    return None


def _pop_one(client: Client, argv: list[bytes], highest: bool) -> bytes:
    wait_ms = parse_seconds(argv[-1])
    keys = argv[1:-1]
    found = _first_zset(client, keys)
    if found is None:
        return client.block(argv, keys, wait_ms, null_array(client.resp3))
    key, value = found
    (member, score), *_ = pop(client, key, value, 1, highest).items()
    return array([bulk(key), bulk(member), double(score, client.resp3)])


@command(
    "BZPOPMIN", arity=-3, flags="write noscript blocking fast", keys=(1, -2, 1), acl="sortedset", since="5.0.0",
    group="sorted-set",
    complexity="O(log(N)), N members in the sorted set",
    summary="Like ZPOPMIN on several keys; waits until one of them has a member",
)  # fmt: skip
def bzpopmin(client: Client, argv: list[bytes]) -> bytes:
    return _pop_one(client, argv, False)


@command(
    "BZPOPMAX", arity=-3, flags="write noscript blocking fast", keys=(1, -2, 1), acl="sortedset", since="5.0.0",
    group="sorted-set",
    complexity="O(log(N)), N members in the sorted set",
    summary="Like ZPOPMAX on several keys; waits until one of them has a member",
)  # fmt: skip
def bzpopmax(client: Client, argv: list[bytes]) -> bytes:
    return _pop_one(client, argv, True)


def _bzmpop_keys(argv: list[bytes]) -> list[bytes]:
    return find_numkeys(argv, 2)


@command(
    "BZMPOP", arity=-5, flags="write blocking movablekeys", find_keys=_bzmpop_keys, acl="sortedset", since="7.0.0",
    group="sorted-set",
    complexity="O(K + M*log(N)), K keys given, M members taken of N",
    summary="Like ZMPOP; waits until one of the keys has a member",
)  # fmt: skip
def bzmpop(client: Client, argv: list[bytes]) -> bytes:
    asked = PopMany(argv, 2)
    wait_ms = parse_seconds(argv[1])
    found = _first_zset(client, asked.keys)
    if found is None:
        return client.block(argv, asked.keys, wait_ms, null_array(client.resp3))
    key, value = found
    return asked.reply(client, key, value)
