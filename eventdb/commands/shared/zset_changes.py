"""Changing sorted sets: what ZADD and its relatives, the pops, and the commands that store a result have in common."""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.lookups import zset_to_write
from eventdb.engine.client import Client
from eventdb.keyspace.types.zset import ZSetValue, score_text
from eventdb.keyspace.value import Limits
from eventdb.protocol.errors import COUNT_NOT_POSITIVE, NUMKEYS_TOO_SMALL, ReplyError, syntax_error
from eventdb.protocol.numbers import parse_at_least, parse_float
from eventdb.protocol.replies import array, bulk, double, integer, null

NOT_A_NUMBER: Final = "ERR resulting score is not a number (NaN)"
# Bits of a ZADD's options.
NX: Final = 1
XX: Final = 2
GT: Final = 4
LT: Final = 8
CH: Final = 16
INCR: Final = 32
OPTIONS: Final[dict[bytes, int]] = {b"NX": NX, b"XX": XX, b"GT": GT, b"LT": LT, b"CH": CH, b"INCR": INCR}


def remove_members(client: Client, key: bytes, value: ZSetValue, members: list[bytes]) -> None:
    """Remove members that are there; the key goes with the last one."""
    if not members:
        return
    if len(members) == len(value.scores):
        client.emit([b"DEL", key])
    else:
        client.emit([b"ZREM", key, *members])


def outgrows(limits: Limits, members: int, member: bytes) -> bool:
    """True when this member, one of N, takes a sorted set from Redis's listpack to its skiplist.

    It matters beyond OBJECT ENCODING: a listpack keeps no sign of zero, so -0 becomes 0 there.
    """
    return members > limits.zset_entries or len(member) > limits.zset_value


def _options(argv: list[bytes], bits: int) -> tuple[int, int]:
    """The option bits, and the index of the first score."""
    i = 2
    while i < len(argv):
        bit = OPTIONS.get(argv[i].upper(), 0)
        if bit == 0:
            break
        bits |= bit
        i += 1
    if i == len(argv) or (len(argv) - i) % 2:
        raise syntax_error()
    if bits & NX and bits & XX:
        raise ReplyError("ERR XX and NX options at the same time are not compatible")
    if (bits & GT and bits & (NX | LT)) or (bits & LT and bits & NX):
        raise ReplyError("ERR GT, LT, and/or NX options at the same time are not compatible")
    if bits & INCR and len(argv) - i > 2:
        raise ReplyError("ERR INCR option supports a single increment-element pair")
    return bits, i


def add_members(client: Client, argv: list[bytes], bits: int) -> bytes:
    """ZADD with whatever options, and ZINCRBY."""
    bits, first = _options(argv, bits)
    given: list[float] = []
    for i in range(first, len(argv), 2):
        given.append(parse_float(argv[i]))
    key = argv[1]
    value = zset_to_write(client, key)
    scores: dict[bytes, float] = {} if value is None else value.scores
    if bits & INCR:
        return _increment(client, key, value, given[0], argv[first + 1], bits)
    limits = client.store.keyspace.limits
    big = value is not None and value.big
    changes: dict[bytes, float] = {}
    added = updated = 0
    for i in range(len(given)):
        score, member = given[i], argv[first + 2 * i + 1]
        before = changes.get(member)
        if before is None:
            before = scores.get(member)
        if before is None:
            if bits & XX:
                continue
            added += 1
            big = big or outgrows(limits, len(scores) + added, member)
        elif score == before or bits & NX or (bits & LT and score > before) or (bits & GT and score < before):
            continue
        else:
            updated += 1
        changes[member] = score if big else score + 0.0  # -0.0 + 0.0 is 0.0
    if changes:
        event: list[bytes] = [b"ZADD", key]
        for member, score in changes.items():
            event.append(score_text(score))
            event.append(member)
        client.emit(event)
    return integer(added + updated if bits & CH else added)


def _increment(client: Client, key: bytes, value: ZSetValue | None, by: float, member: bytes, bits: int) -> bytes:
    """Add to one score; reply with the new one, or nothing when an option forbids the change."""
    scores: dict[bytes, float] = {} if value is None else value.scores
    big = value is not None and value.big
    before = scores.get(member)
    if before is None:
        if bits & XX:
            return null(client.resp3)
        score = by
        big = big or outgrows(client.store.keyspace.limits, len(scores) + 1, member)
    else:
        score = before + by
        if bits & NX:
            return null(client.resp3)
        if score != score:
            raise ReplyError(NOT_A_NUMBER)
        if (bits & LT and score >= before) or (bits & GT and score <= before):
            return null(client.resp3)
    if score != before:
        client.emit([b"ZADD", key, score_text(score if big else score + 0.0), member])
    return double(score, client.resp3)


def pop(client: Client, key: bytes, value: ZSetValue, count: int, highest: bool) -> dict[bytes, float]:
    """Take up to `count` members from one end; returns them with their scores, the endmost first."""
    ranking = value.ranked()
    size = ranking.size
    if highest:
        members = ranking.slice(max(0, size - count), size)
        members.reverse()
    else:
        members = ranking.slice(0, min(count, size))
    scores = value.scores
    taken: dict[bytes, float] = {}
    for member in members:
        taken[member] = scores[member]
    remove_members(client, key, value, members)
    return taken


class PopMany:
    """The arguments of ZMPOP and BZMPOP after the timeout: numkeys key [key …] MIN|MAX [COUNT count]."""

    def __init__(self, argv: list[bytes], at: int) -> None:
        numkeys = parse_at_least(argv[at], 1, NUMKEYS_TOO_SMALL)
        where = at + 1 + numkeys
        if where >= len(argv):
            raise syntax_error()
        self.keys = argv[at + 1 : where]
        end = argv[where].upper()
        if end not in (b"MIN", b"MAX"):
            raise syntax_error()
        self.highest = end == b"MAX"
        self.count = 0
        i = where + 1
        while i < len(argv):
            if argv[i].upper() != b"COUNT" or self.count or i + 1 == len(argv):
                raise syntax_error()
            self.count = parse_at_least(argv[i + 1], 1, COUNT_NOT_POSITIVE)
            i += 2
        self.count = max(1, self.count)

    def reply(self, client: Client, key: bytes, value: ZSetValue) -> bytes:
        """Pop from this key. The pairs are nested in RESP2 as well."""
        taken = pop(client, key, value, self.count, self.highest)
        pairs: list[bytes] = []
        for member, score in taken.items():
            pairs.append(array([bulk(member), double(score, client.resp3)]))
        return array([bulk(key), array(pairs)])


def store_scores(client: Client, key: bytes, scores: dict[bytes, float]) -> bytes:
    """Replace whatever `key` holds by a sorted set, in any order; reply with its size. An empty one leaves no key."""
    if client.lookup_write(key) is not None:
        client.emit([b"DEL", key])
    if scores:
        limits = client.store.keyspace.limits
        small = len(scores) <= limits.zset_entries and max(map(len, scores)) <= limits.zset_value
        event: list[bytes] = [b"ZADD", key]
        for member, score in scores.items():
            event.append(score_text(score + 0.0 if small else score))  # -0.0 + 0.0 is 0.0; see outgrows
            event.append(member)
        client.emit(event)
    return integer(len(scores))
