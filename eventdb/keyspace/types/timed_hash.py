"""Hashes some of whose fields have deadlines, and their events HPEXPIREAT, HPERSIST and HSETEX.

A hash becomes a TimedHash when a field is given its first deadline, and stays one; any other hash knows nothing of
deadlines. As with keys, nothing here reads a clock: a field whose deadline has passed is there until an HDEL event of
the primary, and commands hide it. `Db.track` is told of the earliest deadline, so that the expiry cycle of a primary
finds what is due without looking at anything else.
Rules: redis src/t_hash.c (hashTypeSetEx, hashTypeSet with HASH_SET_KEEP_TTL).
"""

from __future__ import annotations

import heapq
from typing import Final

from eventdb.keyspace.databases import Db
from eventdb.keyspace.events import event
from eventdb.keyspace.types.hash import HashValue
from eventdb.keyspace.value import DIGEST_BYTES, NEVER, Limits, digest_of

STALE_MAX: Final = 64  # entries of a heap that mean nothing any more, beside as many as there are deadlines


class TimedHash(HashValue):
    """Fields and their values; some fields have a deadline."""

    def __init__(self) -> None:
        super().__init__()
        self.deadlines: dict[bytes, int] = {}  # field -> Unix ms at which it is gone
        self.first_ms = NEVER  # no deadline is earlier; the one that was may have gone
        # (deadline, field), some stale; made when the cycle first finds something due.
        self.heap: list[tuple[int, bytes]] | None = None

    def encoding(self, limits: Limits) -> bytes:
        return b"hashtable" if self.big else b"listpackex"

    def copy(self) -> TimedHash:
        made = TimedHash()
        made.fields = dict(self.fields)
        made.big = self.big
        made.deadlines = dict(self.deadlines)
        made.first_ms = self.first_ms
        return made

    def digest(self) -> int:
        """That of an ordinary hash if there is no deadline; else of an odd number of parts, which no other hash has."""
        plain = super().digest()
        deadlines = self.deadlines
        if not deadlines:
            return plain
        parts: list[bytes] = [plain.to_bytes(DIGEST_BYTES, "big")]
        for field in sorted(deadlines):
            parts.append(field)
            parts.append(b"%d" % deadlines[field])
        return digest_of(parts)

    # -- what is due

    def soonest(self) -> int:
        return self.first_ms if self.deadlines else NEVER

    def nothing_due(self, now_ms: int) -> bool:
        """Looks at all deadlines only when the earliest there ever was has passed."""
        if self.soonest() > now_ms:
            return True
        self.first_ms = min(self.deadlines.values())
        return self.first_ms > now_ms

    def is_due(self, field: bytes, now_ms: int) -> bool:
        at_ms = self.deadlines.get(field)
        return at_ms is not None and at_ms <= now_ms

    def due_count(self, now_ms: int) -> int:
        """How many fields are past their deadlines and not yet deleted."""
        if self.nothing_due(now_ms):
            return 0
        return sum([1 for at_ms in self.deadlines.values() if at_ms <= now_ms])

    def live(self, now_ms: int) -> dict[bytes, bytes]:
        """The fields that are not due: all that there are, or a copy."""
        fields = self.fields
        if self.nothing_due(now_ms):
            return fields
        get = self.deadlines.get
        return {field: value for field, value in fields.items() if get(field, NEVER) > now_ms}

    def has_passed(self, since_ms: int, now_ms: int) -> bool:
        """A field that could be seen at `since_ms` is due now, and not yet deleted."""
        if self.nothing_due(now_ms):
            return False
        return any(since_ms < at_ms <= now_ms for at_ms in self.deadlines.values())

    def take_due(self, now_ms: int, count_max: int) -> list[bytes]:
        deadlines = self.deadlines
        heap = self.heap
        if heap is None or len(heap) > 2 * len(deadlines) + STALE_MAX:
            heap = [(at_ms, field) for field, at_ms in deadlines.items()]
            heapq.heapify(heap)
            self.heap = heap
        found: dict[bytes, None] = {}
        while heap:
            at_ms, field = heap[0]
            if deadlines.get(field) == at_ms and field not in found:
                self.first_ms = at_ms
                if at_ms > now_ms or len(found) >= count_max:
                    break
                found[field] = None
            heapq.heappop(heap)
        return list(found)

    # -- changes

    def update(self, argv: list[bytes], limits: Limits) -> None:
        """Set the pairs from argv[2] on; their deadlines go."""
        super().update(argv, limits)
        deadlines = self.deadlines
        if deadlines:
            for i in range(2, len(argv), 2):
                deadlines.pop(argv[i], None)

    def update_keeping(self, argv: list[bytes], limits: Limits) -> None:
        """Set the pairs from argv[2] on; their deadlines stay."""
        super().update(argv, limits)

    def remove(self, argv: list[bytes]) -> None:
        super().remove(argv)
        deadlines = self.deadlines
        if deadlines:
            for i in range(2, len(argv)):
                deadlines.pop(argv[i], None)

    def set_deadline(self, field: bytes, at_ms: int) -> None:
        """The field exists; the caller calls `Db.track` afterwards."""
        if at_ms < self.soonest():
            self.first_ms = at_ms
        self.deadlines[field] = at_ms
        heap = self.heap
        if heap is not None:
            heapq.heappush(heap, (at_ms, field))


def deadlines_of(value: HashValue) -> dict[bytes, int]:
    """Field -> Unix ms, of any hash; not to be changed."""
    return value.deadlines if isinstance(value, TimedHash) else {}


def timed_at(db: Db, key: bytes) -> TimedHash:
    """The hash at key as one that knows deadlines; it is what the key holds from now on."""
    value = db.values.get(key)
    if isinstance(value, TimedHash):
        return value
    made = TimedHash()
    if value is not None:
        assert isinstance(value, HashValue)
        made.fields, made.big, made.order = value.fields, value.big, value.order
    db.put(key, made)
    return made


@event(b"HPEXPIREAT")
def apply_hpexpireat(db: Db, argv: list[bytes]) -> None:
    """HPEXPIREAT key ms FIELDS count field [field …], only fields that exist."""
    at_ms = int(argv[2])
    value = timed_at(db, argv[1])
    for i in range(5, len(argv)):
        assert argv[i] in value.fields
        value.set_deadline(argv[i], at_ms)
    db.track(argv[1], value)


@event(b"HPERSIST")
def apply_hpersist(db: Db, argv: list[bytes]) -> None:
    """HPERSIST key FIELDS count field [field …], only fields that have a deadline."""
    value = db.values[argv[1]]
    assert isinstance(value, TimedHash)
    for i in range(4, len(argv)):
        del value.deadlines[argv[i]]


@event(b"HSETEX")
def apply_hsetex(db: Db, argv: list[bytes]) -> None:
    """HSETEX key KEEPTTL FIELDS count field value [field value …], or with PXAT ms in place of KEEPTTL."""
    key = argv[1]
    keeps = argv[2] == b"KEEPTTL"
    first = 5 if keeps else 6
    value = timed_at(db, key)
    value.update_keeping(argv[first - 2 :], db.keyspace.limits)
    if not keeps:
        at_ms = int(argv[3])
        for i in range(first, len(argv), 2):
            value.set_deadline(argv[i], at_ms)
        db.track(key, value)
