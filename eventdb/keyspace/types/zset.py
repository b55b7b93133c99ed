"""Sorted sets: ZSetValue and its events ZADD and ZREM.

Every command that changes a sorted set is logged as what it came to: increments and conditions as the ZADD of the new
scores, pops and removals by range as ZREM, the STORE commands as DEL and ZADD. Scores are logged so that reading them
gives the same double again. Encoding rules: redis src/t_zset.c (zsetAdd, zsetConvert).

The order is made when it is first asked for, and kept up to date from then on: a set that is only written to
and read by member never pays for it, and neither does a replay, which asks nothing.
"""

from __future__ import annotations

import random
import struct
import sys
from typing import Final

from eventdb.keyspace import sampling
from eventdb.keyspace.databases import Db, Keyspace
from eventdb.keyspace.events import event
from eventdb.keyspace.order import Order
from eventdb.keyspace.sampling import WHOLE_MAX
from eventdb.keyspace.types.ranking import Ranking
from eventdb.keyspace.value import Limits, Value, digest_of

# To order this many takes a tenth of a second. A primary does not let a set outgrow that unordered.
UNRANKED_MAX: Final = 131_072
SPARSE_BYTES: Final = 512  # of table for one member; above it a shrunken table is rebuilt


def score_text(score: float) -> bytes:
    """The score as events carry it: the shortest text that reads as the same double."""
    if -1e15 < score < 1e15:
        n = int(score)
        if n == score and n != 0:
            return b"%d" % n
    text = repr(score)
    return text[:-2].encode() if text.endswith(".0") else text.encode()


class ZSetValue(Value):
    """Members and their scores."""

    def __init__(self) -> None:
        self.scores: dict[bytes, float] = {}
        self.big = False  # outgrew Redis's listpack once, so it is a skiplist for good
        self.ranking: Ranking | None = None
        self.order: Order | None = None  # made for the first scan or random pick of more than WHOLE_MAX members

    def type_name(self) -> bytes:
        return b"zset"

    def encoding(self, limits: Limits) -> bytes:
        return b"skiplist" if self.big else b"listpack"

    def size(self) -> int:
        return len(self.scores)

    def copy(self) -> ZSetValue:
        made = ZSetValue()
        made.scores = dict(self.scores)
        made.big = self.big
        if self.ranking is not None:
            made.ranking = self.ranking.copy()
        return made

    def digest(self) -> int:
        scores = self.scores
        parts: list[bytes] = []
        for member in sorted(scores):
            parts.append(member)
            parts.append(struct.pack(">d", scores[member]))
        return digest_of(parts)

    def ranked(self) -> Ranking:
        """The order of the members, made now if nobody asked for it before."""
        ranking = self.ranking
        if ranking is None:
            ranking = self.ranking = Ranking(self.scores)
        return ranking

    def places(self) -> Order:
        """An Order of the members, to pick from or to scan; kept when there are many."""
        order = self.order
        if order is None:
            order = Order(list(self.scores))
            if len(self.scores) > WHOLE_MAX:
                self.order = order
        return order

    def scanned_whole(self) -> bool:
        """True when ZSCAN returns everything at once, as Redis does for a listpack."""
        return not self.big or len(self.scores) <= WHOLE_MAX

    def pick(self, rng: random.Random, count: int) -> list[bytes]:
        """`count` random members: all different, or, when negative, -count of them with repetition."""
        if count == 1 and len(self.scores) <= WHOLE_MAX:
            return [sampling.one_of(rng, self.scores)]
        if count < 0:
            return sampling.repeated(rng, self.places(), -count)
        return sampling.distinct(rng, self.places(), self.scores, count)

    def put(self, score: float, member: bytes) -> None:
        """Add a member or change its score, and keep order and ranking up to date."""
        scores = self.scores
        before = scores.get(member)
        scores[member] = score
        if before is None and self.order is not None:
            self.order.added(member)
        ranking = self.ranking
        if ranking is not None:
            if before is not None:
                member = ranking.remove(before, member)  # one object a member, here and in the dict
            ranking.add(score, member)

    def remove(self, members: list[bytes]) -> None:
        """Remove members, all of which exist."""
        scores = self.scores
        ranking = self.ranking
        before = len(scores)
        if ranking is not None and len(members) * 2 > before:
            ranking = self.ranking = None  # ordering the rest anew is less work
        order = self.order
        for member in members:
            score = scores.pop(member)
            if order is not None:
                order.removed(member)
            if ranking is not None:
                ranking.remove(score, member)
        left = len(scores)
        # A dict keeps its table when keys go; look whenever the size falls below a power of two.
        if left.bit_length() != before.bit_length() and sys.getsizeof(scores) > SPARSE_BYTES * (left + 1):
            self.scores = dict(scores)


def rank_large(keyspace: Keyspace) -> int:
    """Order the sets that a first look would take long to order; returns how many members that was.

    For a node that has replayed its log and has not yet been asked anything: about a microsecond a member.
    """
    count = 0
    for db in keyspace.dbs:
        for value in db.values.values():
            if isinstance(value, ZSetValue) and value.ranking is None and len(value.scores) > UNRANKED_MAX:
                count += value.ranked().size
    return count


@event(b"ZADD")
def apply_zadd(db: Db, argv: list[bytes]) -> None:
    """ZADD key score member [score member …]"""
    key = argv[1]
    value = db.values.get(key)
    if value is None:
        value = ZSetValue()
        db.put(key, value)
    assert isinstance(value, ZSetValue)
    scores = value.scores
    if value.ranking is None and value.order is None:
        for i in range(2, len(argv), 2):
            scores[argv[i + 1]] = float(argv[i])
        # Only a primary keeps deadlines: a replay stays unordered, however many members it brings.
        if len(scores) > UNRANKED_MAX and db.deadlines is not None:
            value.ranked()
    else:
        for i in range(2, len(argv), 2):
            value.put(float(argv[i]), argv[i + 1])
    if not value.big:
        limits = db.keyspace.limits
        value.big = len(scores) > limits.zset_entries
        for i in range(3, len(argv), 2):
            if len(argv[i]) > limits.zset_value:
                value.big = True


@event(b"ZREM")
def apply_zrem(db: Db, argv: list[bytes]) -> None:
    """ZREM key member [member …], only members that exist; the last one takes the key with it."""
    value = db.values[argv[1]]
    assert isinstance(value, ZSetValue)
    value.remove(argv[2:])
    if not value.scores:
        db.delete(argv[1])
