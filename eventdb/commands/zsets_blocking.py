"""Sorted sets: the pops that wait for a member.

Source: redis src/t_zset.c, src/timeout.c (getTimeoutFromObjectOrReply).

When a key changes the handler runs again with `client.blocked` set; a key of another type then counts as empty.
"""

from __future__ import annotations

import math
from typing import Final

from eventdb.client import Client
from eventdb.commands.zsets import PopMany, pop
from eventdb.registry import command, find_numkeys
from eventdb.resp import INT64_MAX, ReplyError, array, bulk, double, null_array, parse_float, wrong_type
from eventdb.values.zset import ZSetValue

TIMEOUT_NOT_FLOAT: Final = "ERR timeout is not a float or out of range"
TIMEOUT_RANGE: Final = "ERR timeout is out of range"
TIMEOUT_NEGATIVE: Final = "ERR timeout is negative"


def timeout_ms(client: Client, text: bytes) -> int:
    """Seconds, maybe with a fraction, as whole ms, rounded up; 0 waits for ever."""
    seconds = parse_float(text, TIMEOUT_NOT_FLOAT)
    if seconds * 1000 >= INT64_MAX:
        raise ReplyError(TIMEOUT_RANGE)
    if seconds < 0 and seconds * 1000 <= -1:
        raise ReplyError(TIMEOUT_NEGATIVE)
    ms = math.ceil(seconds * 1000)
    if ms > INT64_MAX - client.engine.now_ms:
        raise ReplyError(TIMEOUT_RANGE)
    return ms


def _first_zset(client: Client, keys: list[bytes]) -> tuple[bytes, ZSetValue] | None:
    """The first key that has members. A key of another type before it is an error, unless the client is waiting."""
    for key in keys:
        value = client.lookup_write(key)
        if value is None:
            continue
        if isinstance(value, ZSetValue):
            return key, value
        if client.blocked is None:
            raise wrong_type()
    return None


def _pop_one(client: Client, argv: list[bytes], highest: bool) -> bytes:
    wait_ms = timeout_ms(client, argv[-1])
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
    complexity="O(log(N)) with N being the number of elements in the sorted set.",
    summary="Remove and return the member with the lowest score from one or more sorted sets, or block until one is "
    "available",
)  # fmt: skip
def bzpopmin(client: Client, argv: list[bytes]) -> bytes:
    return _pop_one(client, argv, False)


@command(
    "BZPOPMAX", arity=-3, flags="write noscript blocking fast", keys=(1, -2, 1), acl="sortedset", since="5.0.0",
    group="sorted-set",
    complexity="O(log(N)) with N being the number of elements in the sorted set.",
    summary="Remove and return the member with the highest score from one or more sorted sets, or block until one is "
    "available",
)  # fmt: skip
def bzpopmax(client: Client, argv: list[bytes]) -> bytes:
    return _pop_one(client, argv, True)


def _bzmpop_keys(argv: list[bytes]) -> list[bytes]:
    return find_numkeys(argv, 2)


@command(
    "BZMPOP", arity=-5, flags="write blocking movablekeys", find_keys=_bzmpop_keys, acl="sortedset", since="7.0.0",
    group="sorted-set",
    complexity="O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of elements in the "
    "sorted set, and M being the number of elements popped.",
    summary="Remove and return members with scores in a sorted set or block until one is available",
)  # fmt: skip
def bzmpop(client: Client, argv: list[bytes]) -> bytes:
    wait_ms = timeout_ms(client, argv[1])
    asked = PopMany(argv, 2)
    found = _first_zset(client, asked.keys)
    if found is None:
        return client.block(argv, asked.keys, wait_ms, null_array(client.resp3))
    key, value = found
    return asked.reply(client, key, value)
