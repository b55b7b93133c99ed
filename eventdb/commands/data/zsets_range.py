"""Sorted sets by range: by rank, by score, by member; reading, storing, counting, removing.

All of them come down to a window of ranks, start <= rank < stop. Source: redis src/t_zset.c (zrangeGenericCommand).
"""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.lookups import zset_to_read, zset_to_write
from eventdb.commands.shared.zset_changes import remove_members, store_scores
from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.keyspace.types.ranking import Ranking
from eventdb.keyspace.types.zset import ZSetValue
from eventdb.protocol.errors import ReplyError, syntax_error
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import EMPTY_ARRAY, ZERO, bulks, integer, scored

BAD_SCORE: Final = "ERR min or max is not a float"
BAD_MEMBER: Final = "ERR min or max not valid string range item"

AUTO: Final = 0  # the caller's options decide
BY_RANK: Final = 1
BY_SCORE: Final = 2
BY_LEX: Final = 3

FORWARD: Final = 1
REVERSE: Final = 2


class Scores:
    """A range of scores. A bound is a number as strtod reads it, after "(" when the number itself is left out."""

    def __init__(self, low: bytes, high: bytes) -> None:
        self.low, self.low_open = _score_bound(low)
        self.high, self.high_open = _score_bound(high)

    def window(self, ranking: Ranking) -> tuple[int, int]:
        start = ranking.count_below(self.low, self.low_open)
        return start, max(start, ranking.count_below(self.high, not self.high_open))


def _score_bound(text: bytes) -> tuple[float, bool]:
    """The number and whether it is left out. Space before it is allowed, nothing is zero, a NUL ends it."""
    open_end = text[:1] == b"("
    if open_end:
        text = text[1:]
    if 0 in text:
        text = text[: text.index(b"\0")]
    if not text:
        return 0.0, open_end
    try:
        value = float(text)
    except ValueError:
        value = _hex_bound(text)
    if value != value or text[-1] <= 32 or 95 in text:
        raise ReplyError(BAD_SCORE)
    return value, open_end


def _hex_bound(text: bytes) -> float:
    digits = text.lstrip(b" \t\n\v\f\r").lstrip(b"+-").lower()
    if digits[:2] != b"0x":
        raise ReplyError(BAD_SCORE)
    try:
        return float.fromhex(text.decode("ascii"))
    except OverflowError:
        return float("-inf" if b"-" in text.partition(b"0")[0] else "inf")
    except ValueError:
        raise ReplyError(BAD_SCORE) from None


class Members:
    """A range of members: "[a" with a, "(a" without it, "-" and "+" for the ends."""

    def __init__(self, low: bytes, high: bytes) -> None:
        self.low, self.low_open = _member_bound(low)
        self.high, self.high_open = _member_bound(high)

    def window(self, ranking: Ranking) -> tuple[int, int]:
        size = ranking.size
        low, high = self.low, self.high
        if low is None:
            start = size if self.low_open else 0
        else:
            start = ranking.count_below_member(low, self.low_open)
        if high is None:
            stop = size if self.high_open else 0
        else:
            stop = ranking.count_below_member(high, not self.high_open)
        return start, max(start, stop)


def _member_bound(text: bytes) -> tuple[bytes | None, bool]:
    """(member, left out), or for the ends (None, True for "+")."""
    head = text[:1]
    if head == b"[" or head == b"(":
        return text[1:], head == b"("
    if (head == b"+" or head == b"-") and text[1:2] in (b"", b"\0"):
        return None, head == b"+"
    raise ReplyError(BAD_MEMBER)


def rank_window(start: int, stop: int, size: int) -> tuple[int, int]:
    """The window of inclusive ranks, negative ones counted from the end."""
    if start < 0:
        start = max(0, start + size)
    if stop < 0:
        stop += size
    stop = min(stop + 1, size)
    return (start, stop) if start < stop else (0, 0)


class Asked:
    """The arguments of one ZRANGE or of its many relatives, which fix `by` and `direction`."""

    def __init__(self, argv: list[bytes], at: int, by: int, direction: int, store: bool) -> None:
        self.with_scores = False
        self.offset, self.limit = 0, -1
        if len(argv) > at + 3:
            by, direction = self._options(argv, at + 3, by, direction, store)
        self.by = by or BY_RANK
        self.reverse = direction == REVERSE
        self.key = argv[at]
        low, high = argv[at + 1], argv[at + 2]
        if self.limit != -1 and self.by == BY_RANK:
            raise ReplyError(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            )
        if self.with_scores and self.by == BY_LEX:
            raise ReplyError("ERR syntax error, WITHSCORES not supported in combination with BYLEX")
        self.start = self.stop = 0
        self.scores: Scores | None = None
        self.members: Members | None = None
        if self.by == BY_RANK:
            self.start = parse_int(low)
            self.stop = parse_int(high)
        else:
            if self.reverse:
                low, high = high, low
            if self.by == BY_SCORE:
                self.scores = Scores(low, high)
            else:
                self.members = Members(low, high)

    def _options(self, argv: list[bytes], i: int, by: int, direction: int, store: bool) -> tuple[int, int]:
        """Read the options from argv[i] on; returns `by` and `direction`."""
        may_reverse, may_choose = direction == AUTO, by == AUTO
        n = len(argv)
        while i < n:
            word = argv[i].upper()
            if word == b"WITHSCORES" and not store:
                self.with_scores = True
            elif word == b"LIMIT" and i + 2 < n:
                self.offset = parse_int(argv[i + 1])
                self.limit = parse_int(argv[i + 2])
                i += 2
            elif word == b"REV" and may_reverse and direction == AUTO:
                direction = REVERSE
            elif word == b"BYLEX" and may_choose and by == AUTO:
                by = BY_LEX
            elif word == b"BYSCORE" and may_choose and by == AUTO:
                by = BY_SCORE
            else:
                raise syntax_error()
            i += 1
        return by, direction

    def find(self, value: ZSetValue) -> list[bytes]:
        """The members asked for, in the order asked for."""
        ranking = value.ranked()
        if self.by == BY_RANK:
            start, stop = rank_window(self.start, self.stop, ranking.size)
            if self.reverse:
                start, stop = ranking.size - stop, ranking.size - start
        else:
            start, stop = self.within(ranking)
            if self.offset or self.limit >= 0:
                start, stop = self._limited(start, stop)
        if start >= stop:
            return []
        found = ranking.slice(start, stop)
        if self.reverse:
            found.reverse()
        return found

    def within(self, ranking: Ranking) -> tuple[int, int]:
        """The window of a range of scores or members."""
        if self.scores is not None:
            return self.scores.window(ranking)
        assert self.members is not None
        return self.members.window(ranking)

    def _limited(self, start: int, stop: int) -> tuple[int, int]:
        """LIMIT offset count: a negative offset passes over everything, a negative count takes everything."""
        offset, limit = self.offset, self.limit
        if offset < 0:
            return 0, 0
        if self.reverse:
            stop -= offset
            return (max(start, stop - limit) if limit >= 0 else start), stop
        start += offset
        return start, (min(stop, start + limit) if limit >= 0 else stop)


def _range(client: Client, argv: list[bytes], by: int, direction: int) -> bytes:
    asked = Asked(argv, 1, by, direction, False)
    value = zset_to_read(client, asked.key)
    if value is None:
        return EMPTY_ARRAY
    found = asked.find(value)
    return scored(found, value.scores, client.resp3) if asked.with_scores else bulks(found)


# -- reading


@command(
    "ZRANGE", arity=-4, flags="readonly", keys=(1, 1, 1), acl="sortedset", since="1.2.0", group="sorted-set",
    complexity="O(log(N) + M), M members returned of N",
    summary="Lists a part of a sorted set: by place, score or name",
)  # fmt: skip
def zrange(client: Client, argv: list[bytes]) -> bytes:
    return _range(client, argv, AUTO, AUTO)


@command(
    "ZREVRANGE", arity=-4, flags="readonly", keys=(1, 1, 1), acl="sortedset", since="1.2.0", group="sorted-set",
    complexity="O(log(N) + M), M members returned of N",
    summary="Lists a part of a sorted set by place, highest score first",
)  # fmt: skip
def zrevrange(client: Client, argv: list[bytes]) -> bytes:
    return _range(client, argv, BY_RANK, REVERSE)


@command(
    "ZRANGEBYSCORE", arity=-4, flags="readonly", keys=(1, 1, 1), acl="sortedset", since="1.0.5", group="sorted-set",
    complexity="O(log(N) + M), M members returned or skipped of N",
    summary="Lists the members between two scores",
)  # fmt: skip
def zrangebyscore(client: Client, argv: list[bytes]) -> bytes:
    return _range(client, argv, BY_SCORE, FORWARD)


@command(
    "ZREVRANGEBYSCORE", arity=-4, flags="readonly", keys=(1, 1, 1), acl="sortedset", since="2.2.0", group="sorted-set",
    complexity="O(log(N) + M), M members returned or skipped of N",
    summary="Lists the members between two scores, highest first",
)  # fmt: skip
def zrevrangebyscore(client: Client, argv: list[bytes]) -> bytes:
    return _range(client, argv, BY_SCORE, REVERSE)


@command(
    "ZRANGEBYLEX", arity=-4, flags="readonly", keys=(1, 1, 1), acl="sortedset", since="2.8.9", group="sorted-set",
    complexity="O(log(N) + M), M members returned or skipped of N",
    summary="Lists the members between two names, where all scores are equal",
)  # fmt: skip
def zrangebylex(client: Client, argv: list[bytes]) -> bytes:
    return _range(client, argv, BY_LEX, FORWARD)


@command(
    "ZREVRANGEBYLEX", arity=-4, flags="readonly", keys=(1, 1, 1), acl="sortedset", since="2.8.9", group="sorted-set",
    complexity="O(log(N) + M), M members returned or skipped of N",
    summary="Lists the members between two names in reverse, where all scores are equal",
)  # fmt: skip
def zrevrangebylex(client: Client, argv: list[bytes]) -> bytes:
    return _range(client, argv, BY_LEX, REVERSE)


@command(
    "ZRANGESTORE", arity=-5, flags="write denyoom", keys=(1, 2, 1), acl="sortedset", since="6.2.0", group="sorted-set",
    complexity="O(log(N) + M), M members saved of N",
    summary="Saves a part of a sorted set as a new sorted set",
)  # fmt: skip
def zrangestore(client: Client, argv: list[bytes]) -> bytes:
    asked = Asked(argv, 2, AUTO, AUTO, True)
    value = zset_to_read(client, asked.key)
    found: dict[bytes, float] = {}
    if value is not None:
        scores = value.scores
        for member in asked.find(value):
            found[member] = scores[member]
    return store_scores(client, argv[1], found)


# -- counting


@command(
    "ZCOUNT", arity=4, flags="readonly fast", keys=(1, 1, 1), acl="sortedset", since="2.0.0", group="sorted-set",
    complexity="O(log(N)), N members in the sorted set",
    summary="Counts the members between two scores",
)  # fmt: skip
def zcount(client: Client, argv: list[bytes]) -> bytes:
    asked = Scores(argv[2], argv[3])
    value = zset_to_read(client, argv[1])
    if value is None:
        return ZERO
    start, stop = asked.window(value.ranked())
    return integer(stop - start)


@command(
    "ZLEXCOUNT", arity=4, flags="readonly fast", keys=(1, 1, 1), acl="sortedset", since="2.8.9", group="sorted-set",
    complexity="O(log(N)), N members in the sorted set",
    summary="Counts the members between two names, where all scores are equal",
)  # fmt: skip
def zlexcount(client: Client, argv: list[bytes]) -> bytes:
    asked = Members(argv[2], argv[3])
    value = zset_to_read(client, argv[1])
    if value is None:
        return ZERO
    start, stop = asked.window(value.ranked())
    return integer(stop - start)


# -- removing


def _remove(client: Client, argv: list[bytes], by: int) -> bytes:
    asked = Asked(argv, 1, by, FORWARD, True)
    value = zset_to_write(client, argv[1])
    if value is None:
        return ZERO
    found = asked.find(value)
    remove_members(client, argv[1], value, found)
    return integer(len(found))


@command(
    "ZREMRANGEBYRANK", arity=4, flags="write", keys=(1, 1, 1), acl="sortedset", since="2.0.0", group="sorted-set",
    complexity="O(log(N) + M), M members taken of N",
    summary="Takes out the members between two places",
)  # fmt: skip
def zremrangebyrank(client: Client, argv: list[bytes]) -> bytes:
    return _remove(client, argv, BY_RANK)


@command(
    "ZREMRANGEBYSCORE", arity=4, flags="write", keys=(1, 1, 1), acl="sortedset", since="1.2.0", group="sorted-set",
    complexity="O(log(N) + M), M members taken of N",
    summary="Takes out the members between two scores",
)  # fmt: skip
def zremrangebyscore(client: Client, argv: list[bytes]) -> bytes:
    return _remove(client, argv, BY_SCORE)


@command(
    "ZREMRANGEBYLEX", arity=4, flags="write", keys=(1, 1, 1), acl="sortedset", since="2.8.9", group="sorted-set",
    complexity="O(log(N) + M), M members taken of N",
    summary="Takes out the members between two names, where all scores are equal",
)  # fmt: skip
def zremrangebylex(client: Client, argv: list[bytes]) -> bytes:
    return _remove(client, argv, BY_LEX)
