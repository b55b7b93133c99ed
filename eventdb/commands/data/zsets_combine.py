"""Union, intersection and difference of sorted sets and sets. Source: redis src/t_zset.c
(zunionInterDiffGenericCommand).

Scores are added up in the order in which Redis does it, smallest input first, because sums of doubles depend on it.
"""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.zset_changes import store_scores
from eventdb.engine.client import Client
from eventdb.engine.registry import command, find_numkeys
from eventdb.keyspace.types.ranking import in_order
from eventdb.keyspace.types.set import SetValue
from eventdb.keyspace.types.zset import ZSetValue
from eventdb.protocol.errors import LIMIT_NEGATIVE, ReplyError, syntax_error, wrong_type
from eventdb.protocol.numbers import parse_at_least, parse_float, parse_int
from eventdb.protocol.replies import bulks, integer, scored

UNION: Final = 0
INTER: Final = 1
DIFF: Final = 2

SUM: Final = 0
MIN: Final = 1
MAX: Final = 2
AGGREGATES: Final[dict[bytes, int]] = {b"SUM": SUM, b"MIN": MIN, b"MAX": MAX}


class Source:
    """One input: scores by member; a member of a set counts 1."""

    def __init__(self, scores: dict[bytes, float]) -> None:
        self.scores = scores
        self.weight = 1.0


def _source(client: Client, key: bytes) -> Source:
    value = client.lookup(key)
    if value is None:
        return Source({})
    if isinstance(value, ZSetValue):
        return Source(value.scores)
    if isinstance(value, SetValue):
        return Source(dict.fromkeys(value.members, 1.0))
    raise wrong_type()


class Asked:
    """The arguments from numkeys (argv[at]) on, the inputs looked up."""

    def __init__(self, client: Client, argv: list[bytes], at: int, operation: int, counting: bool) -> None:
        count = parse_int(argv[at])
        if count < 1:
            assert client.last_command is not None
            raise ReplyError(f"ERR at least 1 input key is needed for '{argv[0].decode().lower()}' command")
        if count > len(argv) - at - 1:
            raise syntax_error()
        self.operation = operation
        self.sources = [_source(client, key) for key in argv[at + 1 : at + 1 + count]]
        self.aggregate = SUM
        self.with_scores = False
        self.limit = 0
        self._options(argv, at + 1 + count, operation != DIFF and not counting, at == 1 and not counting, counting)

    def _options(self, argv: list[bytes], i: int, weighs: bool, replies: bool, counting: bool) -> None:
        n, count = len(argv), len(self.sources)
        while i < n:
            word = argv[i].upper()
            if weighs and word == b"WEIGHTS" and n - i > count:
                for k in range(count):
                    self.sources[k].weight = parse_float(argv[i + 1 + k], "ERR weight value is not a float")
                i += count
            elif weighs and word == b"AGGREGATE" and i + 1 < n:
                i += 1
                aggregate = AGGREGATES.get(argv[i].upper())
                if aggregate is None:
                    raise syntax_error()
                self.aggregate = aggregate
            elif replies and word == b"WITHSCORES":
                self.with_scores = True
            elif counting and word == b"LIMIT" and i + 1 < n:
                i += 1
                self.limit = parse_at_least(argv[i], 0, LIMIT_NEGATIVE)
            else:
                raise syntax_error()
            i += 1

    def result(self) -> dict[bytes, float]:
        """Scores by member, in no order."""
        if self.operation == DIFF:
            return self._difference()
        self.sources.sort(key=_size)
        return self._union() if self.operation == UNION else self._intersection()

    def _union(self) -> dict[bytes, float]:
        found: dict[bytes, float] = {}
        for source in self.sources:
            weight = source.weight
            for member, score in source.scores.items():
                score = weighted(score, weight)
                before = found.get(member)
                found[member] = score if before is None else aggregated(before, score, self.aggregate)
        return found

    def _intersection(self) -> dict[bytes, float]:
        first, *others = self.sources
        found: dict[bytes, float] = {}
        for member, score in first.scores.items():
            total = weighted(score, first.weight)
            for source in others:
                other = source.scores.get(member)
                if other is None:
                    break
                total = aggregated(total, other * source.weight, self.aggregate)
            else:
                found[member] = total
        return found

    def _difference(self) -> dict[bytes, float]:
        first, *others = self.sources
        found = dict(first.scores)
        for source in others:
            if len(source.scores) < len(found):
                for member in source.scores:
                    found.pop(member, None)
            else:
                found = {member: score for member, score in found.items() if member not in source.scores}
        return found

    def common(self) -> int:
        """The size of the intersection, or `limit` (0: none) when there are more."""
        first, *others = sorted(self.sources, key=_size)
        count = 0
        for member in first.scores:
            for source in others:
                if member not in source.scores:
                    break
            else:
                count += 1
                if count == self.limit:
                    break
        return count


def _size(source: Source) -> int:
    return len(source.scores)


def weighted(score: float, weight: float) -> float:
    """Infinity times zero counts as zero."""
    score = score * weight
    return score if score == score else 0.0


def aggregated(a: float, b: float, aggregate: int) -> float:
    """Infinity plus minus infinity counts as zero; what is not a number never wins."""
    if aggregate == SUM:
        total = a + b
        return total if total == total else 0.0
    if aggregate == MIN:
        return b if b < a else a
    return b if b > a else a


def _reply(client: Client, argv: list[bytes], operation: int) -> bytes:
    asked = Asked(client, argv, 1, operation, False)
    found = asked.result()
    members = in_order(found)
    return scored(members, found, client.resp3) if asked.with_scores else bulks(members)


def _store(client: Client, argv: list[bytes], operation: int) -> bytes:
    return store_scores(client, argv[1], Asked(client, argv, 2, operation, False).result())


def _keys(argv: list[bytes]) -> list[bytes]:
    return find_numkeys(argv, 1)


def _store_keys(argv: list[bytes]) -> list[bytes]:
    return find_numkeys(argv, 2, before=1)


@command(
    "ZUNION", arity=-3, flags="readonly movablekeys", find_keys=_keys, acl="sortedset", since="6.2.0",
    group="sorted-set",
    complexity="O(N + M*log(M)), N members given, M in the result",
    summary="Lists what any of the given sorted sets has, with combined scores",
)  # fmt: skip
def zunion(client: Client, argv: list[bytes]) -> bytes:
    return _reply(client, argv, UNION)


@command(
    "ZINTER", arity=-3, flags="readonly movablekeys", find_keys=_keys, acl="sortedset", since="6.2.0",
    group="sorted-set",
    complexity="O(N*K + M*log(M)) at worst, N members in the smallest of K, M in the result",
    summary="Lists what all given sorted sets share, with combined scores",
)  # fmt: skip
def zinter(client: Client, argv: list[bytes]) -> bytes:
    return _reply(client, argv, INTER)


@command(
    "ZDIFF", arity=-3, flags="readonly movablekeys", find_keys=_keys, acl="sortedset", since="6.2.0",
    group="sorted-set",
    complexity="O(L + (N - K)*log(N)) at worst, L members in all, N in the first, K in the result",
    summary="Lists what only the first of the given sorted sets has",
)  # fmt: skip
def zdiff(client: Client, argv: list[bytes]) -> bytes:
    return _reply(client, argv, DIFF)


@command(
    "ZINTERCARD", arity=-3, flags="readonly movablekeys", find_keys=_keys, acl="sortedset", since="7.0.0",
    group="sorted-set",
    complexity="O(N*K) at worst, N members in the smallest of K",
    summary="Counts what all given sorted sets share, up to a limit",
)  # fmt: skip
def zintercard(client: Client, argv: list[bytes]) -> bytes:
    return integer(Asked(client, argv, 1, INTER, True).common())


@command(
    "ZUNIONSTORE", arity=-4, flags="write denyoom movablekeys", keys=(1, 1, 1), find_keys=_store_keys,
    acl="sortedset", since="2.0.0", group="sorted-set",
    complexity="O(N + M*log(M)), N members given, M in the result",
    summary="Saves what any of the given sorted sets has, with combined scores",
)  # fmt: skip
def zunionstore(client: Client, argv: list[bytes]) -> bytes:
    return _store(client, argv, UNION)


@command(
    "ZINTERSTORE", arity=-4, flags="write denyoom movablekeys", keys=(1, 1, 1), find_keys=_store_keys,
    acl="sortedset", since="2.0.0", group="sorted-set",
    complexity="O(N*K + M*log(M)) at worst, N members in the smallest of K, M in the result",
    summary="Saves what all given sorted sets share, with combined scores",
)  # fmt: skip
def zinterstore(client: Client, argv: list[bytes]) -> bytes:
    return _store(client, argv, INTER)


@command(
    "ZDIFFSTORE", arity=-4, flags="write denyoom movablekeys", keys=(1, 1, 1), find_keys=_store_keys,
    acl="sortedset", since="6.2.0", group="sorted-set",
    complexity="O(L + (N - K)*log(N)) at worst, L members in all, N in the first, K in the result",
    summary="Saves what only the first of the given sorted sets has",
)  # fmt: skip
def zdiffstore(client: Client, argv: list[bytes]) -> bytes:
    return _store(client, argv, DIFF)
