"""Sorted sets, member by member: adding, removing, asking, popping, sampling.

Source: redis src/t_zset.c, src/commands/*.json (group sorted-set).
"""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.counts import count_to_pop, random_count
from eventdb.commands.shared.lookups import zset_to_read, zset_to_write
from eventdb.commands.shared.scan_replies import parse_cursor, scan_options, scan_reply
from eventdb.commands.shared.zset_changes import INCR, PopMany, add_members, pop, remove_members
from eventdb.engine.client import Client
from eventdb.engine.registry import command, find_numkeys
from eventdb.keyspace.types.zset import ZSetValue
from eventdb.protocol.errors import VALUE_OUT_OF_RANGE, ReplyError, syntax_error, wrong_arity, wrong_type
from eventdb.protocol.glob import compile_glob
from eventdb.protocol.numbers import INT64_MAX, format_double
from eventdb.protocol.replies import (
    EMPTY_ARRAY,
    NULL3,
    NULL_BULK,
    ZERO,
    array,
    bulk,
    bulks,
    double,
    integer,
    null,
    null_array,
    scored,
)

EMPTY_SCAN: Final = b"*2\r\n$1\r\n0\r\n*0\r\n"


WHOLE_MAX: Final = 2.0**62  # of the whole numbers that a listpack keeps as such


# -- adding


@command(
    "ZADD", arity=-4, flags="write denyoom fast", keys=(1, 1, 1), acl="sortedset", since="1.2.0", group="sorted-set",
    complexity="O(M*log(N)), M members given, N in the sorted set",
    summary="Puts members with scores into a sorted set, or changes their scores",
)  # fmt: skip
def zadd(client: Client, argv: list[bytes]) -> bytes:
    if len(argv) != 4:
        return add_members(client, argv, 0)
    text, member = argv[2], argv[3]
    try:
        score = float(text)
    except ValueError:
        return add_members(client, argv, 0)
    if score - score != 0.0 or score == 0.0 or text[0] <= 32 or text[-1] <= 32 or 95 in text or len(text) > 24:
        return add_members(client, argv, 0)  # what needs a closer look, or a shorter text in the log
    key = argv[1]
    value = client.lookup_write(key)
    if value is None:
        client.emit([b"ZADD", key, text, member])
        return b":1\r\n"
    if not isinstance(value, ZSetValue):
        raise wrong_type()
    before = value.scores.get(member)
    if before is None:
        client.emit([b"ZADD", key, text, member])
        return b":1\r\n"
    if before != score:
        client.emit([b"ZADD", key, text, member])
    return b":0\r\n"


@command(
    "ZINCRBY", arity=4, flags="write denyoom fast", keys=(1, 1, 1), acl="sortedset", since="1.2.0", group="sorted-set",
    complexity="O(log(N)), N members in the sorted set",
    summary="Adds to the score of a member",
)  # fmt: skip
def zincrby(client: Client, argv: list[bytes]) -> bytes:
    return add_members(client, argv, INCR)


# -- removing


@command(
    "ZREM", arity=-3, flags="write fast", keys=(1, 1, 1), acl="sortedset", since="1.2.0", group="sorted-set",
    complexity="O(M*log(N)), M members given, N in the sorted set",
    summary="Takes members out of a sorted set",
)  # fmt: skip
def zrem(client: Client, argv: list[bytes]) -> bytes:
    value = zset_to_write(client, argv[1])
    if value is None:
        return ZERO
    scores = value.scores
    found = [member for member in dict.fromkeys(argv[2:]) if member in scores]
    remove_members(client, argv[1], value, found)
    return integer(len(found))


@command(
    "ZPOPMIN", arity=-2, flags="write fast", keys=(1, 1, 1), acl="sortedset", since="5.0.0", group="sorted-set",
    complexity="O(M*log(N)), M members taken of N",
    summary="Takes out the members with the lowest scores",
)  # fmt: skip
def zpopmin(client: Client, argv: list[bytes]) -> bytes:
    return _pop(client, argv, False)


@command(
    "ZPOPMAX", arity=-2, flags="write fast", keys=(1, 1, 1), acl="sortedset", since="5.0.0", group="sorted-set",
    complexity="O(M*log(N)), M members taken of N",
    summary="Takes out the members with the highest scores",
)  # fmt: skip
def zpopmax(client: Client, argv: list[bytes]) -> bytes:
    return _pop(client, argv, True)


def _pop(client: Client, argv: list[bytes], highest: bool) -> bytes:
    if len(argv) > 3:
        raise syntax_error()
    count = 1
    if len(argv) == 3:
        count = count_to_pop(argv[2])
    value = zset_to_write(client, argv[1])
    if value is None or count == 0:
        return EMPTY_ARRAY
    taken = pop(client, argv[1], value, count, highest)
    members = list(taken)
    if len(argv) == 3 or not client.resp3:
        return scored(members, taken, client.resp3)
    return array([bulk(members[0]), double(taken[members[0]], True)])


def _zmpop_keys(argv: list[bytes]) -> list[bytes]:
    return find_numkeys(argv, 1)


@command(
    "ZMPOP", arity=-4, flags="write movablekeys", find_keys=_zmpop_keys, acl="sortedset", since="7.0.0",
    group="sorted-set",
    complexity="O(K + M*log(N)), K keys given, M members taken of N",
    summary="Takes members from an end of the first sorted set that has any",
)  # fmt: skip
def zmpop(client: Client, argv: list[bytes]) -> bytes:
    asked = PopMany(argv, 1)
    for key in asked.keys:
        value = zset_to_write(client, key)
        if value is not None:
            return asked.reply(client, key, value)
    return null_array(client.resp3)


# -- asking about members


@command(
    "ZCARD", arity=2, flags="readonly fast", keys=(1, 1, 1), acl="sortedset", since="1.2.0", group="sorted-set",
    summary="Counts the members of a sorted set",
)  # fmt: skip
def zcard(client: Client, argv: list[bytes]) -> bytes:
    value = zset_to_read(client, argv[1])
    return ZERO if value is None else integer(len(value.scores))


@command(
    "ZSCORE", arity=3, flags="readonly fast", keys=(1, 1, 1), acl="sortedset", since="1.2.0", group="sorted-set",
    summary="Reads the score of a member",
)  # fmt: skip
def zscore(client: Client, argv: list[bytes]) -> bytes:
    value = zset_to_read(client, argv[1])
    score = None if value is None else value.scores.get(argv[2])
    if score is None:
        return NULL3 if client.resp3 else NULL_BULK
    return double(score, client.resp3)


@command(
    "ZMSCORE", arity=-3, flags="readonly fast", keys=(1, 1, 1), acl="sortedset", since="6.2.0", group="sorted-set",
    complexity="O(N), N members given",
    summary="Reads the scores of several members; nil for each that is missing",
)  # fmt: skip
def zmscore(client: Client, argv: list[bytes]) -> bytes:
    value = zset_to_read(client, argv[1])
    scores: dict[bytes, float] = {} if value is None else value.scores
    resp3 = client.resp3
    items: list[bytes] = []
    for i in range(2, len(argv)):
        score = scores.get(argv[i])
        items.append(null(resp3) if score is None else double(score, resp3))
    return array(items)


def _rank(client: Client, argv: list[bytes], from_the_top: bool) -> bytes:
    if len(argv) > 4:
        raise wrong_arity("zrevrank" if from_the_top else "zrank")
    with_score = len(argv) == 4
    if with_score and argv[3].upper() != b"WITHSCORE":
        raise syntax_error()
    value = zset_to_read(client, argv[1])
    score = None if value is None else value.scores.get(argv[2])
    if value is None or score is None:
        return null_array(client.resp3) if with_score else NULL3 if client.resp3 else NULL_BULK
    rank = value.ranked().rank(score, argv[2])
    place = integer(len(value.scores) - 1 - rank if from_the_top else rank)
    return array([place, double(score, client.resp3)]) if with_score else place


@command(
    "ZRANK", arity=-3, flags="readonly fast", keys=(1, 1, 1), acl="sortedset", since="2.0.0", group="sorted-set",
    complexity="O(log(N)), N members in the sorted set",
    summary="Returns the place of a member, counted from the lowest score, and its score if asked for",
)  # fmt: skip
def zrank(client: Client, argv: list[bytes]) -> bytes:
    return _rank(client, argv, False)


@command(
    "ZREVRANK", arity=-3, flags="readonly fast", keys=(1, 1, 1), acl="sortedset", since="2.0.0", group="sorted-set",
    complexity="O(log(N)), N members in the sorted set",
    summary="Returns the place of a member, counted from the highest score, and its score if asked for",
)  # fmt: skip
def zrevrank(client: Client, argv: list[bytes]) -> bytes:
    return _rank(client, argv, True)


# -- sampling and scanning


@command(
    "ZRANDMEMBER", arity=-2, flags="readonly", keys=(1, 1, 1), acl="sortedset", since="6.2.0", group="sorted-set",
    complexity="O(N), N members returned", tips="nondeterministic_output",
    summary="Picks members of a sorted set at random and leaves them there",
)  # fmt: skip
def zrandmember(client: Client, argv: list[bytes]) -> bytes:
    rng = client.store.rng
    if len(argv) == 2:
        value = zset_to_read(client, argv[1])
        return null(client.resp3) if value is None else bulk(value.pick(rng, 1)[0])
    count = random_count(argv[2])
    if len(argv) > 4 or (len(argv) == 4 and argv[3].upper() != b"WITHSCORES"):
        raise syntax_error()
    if len(argv) == 4 and (count < -(INT64_MAX // 2) or count > INT64_MAX // 2):
        raise ReplyError(VALUE_OUT_OF_RANGE)
    value = zset_to_read(client, argv[1])
    if value is None or count == 0:
        return EMPTY_ARRAY
    picked = value.pick(rng, count)
    return scored(picked, value.scores, client.resp3) if len(argv) == 4 else bulks(picked)


@command(
    "ZSCAN", arity=-3, flags="readonly", keys=(1, 1, 1), acl="sortedset", since="2.8.0", group="sorted-set",
    complexity="O(1) a call, O(N) for the whole walk over N elements", tips="nondeterministic_output",
    summary="Walks through a sorted set in small steps",
)  # fmt: skip
def zscan(client: Client, argv: list[bytes]) -> bytes:
    cursor = parse_cursor(argv[2])
    value = zset_to_read(client, argv[1])
    if value is None:
        return EMPTY_SCAN
    count, pattern = scan_options(argv)
    whole = value.scanned_whole()
    if whole:
        next_cursor, members = 0, value.ranked().slice(0, len(value.scores))
    else:
        next_cursor, members = value.places().scan(cursor, count)
    if pattern is not None:
        match = compile_glob(pattern).fullmatch
        members = [member for member in members if match(member) is not None]
    items: list[bytes] = []
    for member in members:
        items.append(member)
        score = value.scores[member]
        # Redis's listpack keeps a whole number as one, and shows what it keeps (util.c double2ll).
        kept = whole and -WHOLE_MAX <= score <= WHOLE_MAX and score == int(score)
        items.append(b"%d" % int(score) if kept else format_double(score))
    return scan_reply(next_cursor, items)
