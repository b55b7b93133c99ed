"""The keyspace: 16 databases of keys, values and deadlines, and the libraries of functions. What a log replays into.

Changed only by the apply functions of events (events.py). Nothing here reads a clock: whether a key has
expired is the caller's question, because a replica hides what the primary has not yet deleted.
"""

from __future__ import annotations

import heapq
import random
from hashlib import blake2b
from typing import Final

from eventdb.keyspace.marks import Mark, digest_of_marks
from eventdb.keyspace.order import Order
from eventdb.keyspace.outcomes import Outcomes
from eventdb.keyspace.value import DIGEST_BYTES, DIGEST_MODULUS, NEVER, Limits, Value, digest_of

DATABASES: Final = 16


class Db:
    """One numbered database."""

    def __init__(self, index: int, keyspace: Keyspace) -> None:
        self.index = index
        self.keyspace = keyspace
        self.values: dict[bytes, object] = {}
        self.expires: dict[bytes, int] = {}  # key -> Unix ms at which it is gone
        self.order: Order | None = None  # made for the first SCAN or RANDOMKEY
        # (deadline, key), some stale; kept only on a primary, which alone expires keys.
        self.deadlines: list[tuple[int, bytes]] | None = None
        # The same for values whose elements have deadlines: which keys may hold one, each with its entry that counts;
        # and, on a primary, (deadline of the element that is due first or an earlier time, key), some stale.
        self.timed: dict[bytes, int] = {}
        self.element_deadlines: list[tuple[int, bytes]] | None = None

    def put(self, key: bytes, value: object) -> None:
        """Store a value, new or in place of another; a deadline is left as it is."""
        values = self.values
        before = len(values)
        values[key] = value
        if len(values) != before and self.order is not None:
            self.order.added(key)

    def delete(self, key: bytes) -> bool:
        """Remove key, value and deadline; False when there was no such key."""
        values = self.values
        if key not in values:
            return False
        del values[key]
        if self.expires:
            self.expires.pop(key, None)
        if self.timed:
            self.timed.pop(key, None)
        if self.order is not None:
            self.order.removed(key)
        return True

    def set_deadline(self, key: bytes, at_ms: int) -> None:
        self.expires[key] = at_ms
        deadlines = self.deadlines
        if deadlines is not None:
            heapq.heappush(deadlines, (at_ms, key))
            if len(deadlines) > 2 * len(self.expires) + 1024:
                self.track_deadlines()

    def clear_deadline(self, key: bytes) -> bool:
        return self.expires.pop(key, None) is not None

    def track_deadlines(self) -> None:
        """Start (or rebuild) the heaps of deadlines: called when a node becomes primary."""
        self.deadlines = [(at_ms, key) for key, at_ms in self.expires.items()]
        heapq.heapify(self.deadlines)
        self._track_elements()

    def track(self, key: bytes, value: Value) -> None:
        """An element of this key's value has a deadline: see to it that the cycle comes when the first one is due."""
        heap = self.element_deadlines
        timed = self.timed
        if heap is None:
            timed[key] = NEVER
            return
        at_ms = value.soonest()
        if at_ms < timed.get(key, NEVER):
            timed[key] = at_ms
            heapq.heappush(heap, (at_ms, key))
            if len(heap) > 2 * len(timed) + 1024:
                self._track_elements()

    def _track_elements(self) -> None:
        heap: list[tuple[int, bytes]] = []
        timed = self.timed
        self.timed = {}
        for key in timed:
            value = self.values.get(key)
            if isinstance(value, Value) and value.soonest() < NEVER:
                self.timed[key] = at_ms = value.soonest()
                heap.append((at_ms, key))
        heapq.heapify(heap)
        self.element_deadlines = heap

    def stop_tracking(self) -> None:
        """No primary any more: deadlines are the business of another node."""
        self.deadlines = None
        self.element_deadlines = None

    def expired_keys(self, now_ms: int, count_max: int) -> list[bytes]:
        """Take up to `count_max` keys whose deadline has passed off the heap; the caller deletes them by event."""
        deadlines = self.deadlines
        found: list[bytes] = []
        if deadlines is None:
            return found
        while deadlines and deadlines[0][0] <= now_ms and len(found) < count_max:
            at_ms, key = heapq.heappop(deadlines)
            if self.expires.get(key) == at_ms and key not in found[-1:]:
                found.append(key)
        return found

    def expired_elements(self, now_ms: int, count_max: int) -> tuple[bytes, list[bytes]] | None:
        """A key, and up to `count_max` elements of its value whose deadlines have passed: maybe none, if they moved.

        The caller deletes them by event, and then calls `track_again`. None: nothing is due.
        """
        heap = self.element_deadlines
        while heap and heap[0][0] <= now_ms:
            at_ms, key = heapq.heappop(heap)
            if self.timed.get(key) == at_ms:
                del self.timed[key]
                value = self.values.get(key)
                if isinstance(value, Value):
                    return key, value.take_due(now_ms, count_max)
        return None

    def track_again(self, key: bytes) -> None:
        value = self.values.get(key)
        if isinstance(value, Value) and value.soonest() < NEVER:
            self.track(key, value)

    def places(self) -> Order:
        """The Order of the keys, to pick from or to scan."""
        order = self.order
        if order is None:
            order = self.order = Order(list(self.values))
        return order

    def random_key(self, rng: random.Random) -> bytes | None:
        return self.places().pick(rng) if self.values else None

    def clear(self) -> None:
        self.values = {}
        self.expires = {}
        self.order = None
        if self.deadlines is not None:
            self.deadlines = []
        self.timed = {}
        if self.element_deadlines is not None:
            self.element_deadlines = []

    def digest(self) -> int:
        """Sum of one hash per key over name, type, content and deadline: the order of keys does not matter."""
        total = 0
        index = b"%d" % self.index
        head = b"%d:%b" % (len(index), index)
        for key, value in self.values.items():
            deadline = self.expires.get(key)
            at = b"" if deadline is None else b"%d" % deadline
            if isinstance(value, Value):
                total += digest_of([index, key, value.type_name(), value.digest().to_bytes(16, "big"), at])
            else:  # what digest_of would hash, in one piece: most keys are strings
                assert isinstance(value, (bytes, bytearray))
                n = len(value)
                data = b"%b%d:%b6:string%d:%b%d:%b" % (head, len(key), key, n, bytes(value), len(at), at)
                total += int.from_bytes(blake2b(data, digest_size=DIGEST_BYTES).digest(), "big")
        return total % DIGEST_MODULUS


class Libraries:
    """Source texts of Lua functions by the name of their library (types/library.py)."""

    def __init__(self) -> None:
        self.code: dict[bytes, bytes] = {}
        self.version = 0  # another one after each change: whatever has compiled them compares it

    def set(self, name: bytes, code: bytes) -> None:
        self.code[name] = code
        self.version += 1

    def delete(self, name: bytes) -> None:
        del self.code[name]
        self.version += 1

    def replace(self, code: dict[bytes, bytes]) -> None:
        self.code = code
        self.version += 1

    def clear(self) -> None:
        self.replace({})

    def digest(self) -> int:
        return sum([digest_of([b"library", name, code]) for name, code in self.code.items()])


class Keyspace:
    """All databases of one node, and the libraries of functions beside them."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits if limits is not None else Limits()
        self.libraries = Libraries()
        self.dbs: list[Db] = [Db(i, self) for i in range(DATABASES)]
        self.outcomes = Outcomes()  # of commands with a token
        self.users: dict[bytes, bytes] = {}  # name -> the rules that make it (security/acl.py)
        self.users_version = 0  # counts their changes
        self.marks: dict[bytes, Mark] = {}  # by name, oldest first; another dict after each change

    def swap(self, a: int, b: int) -> None:
        """Exchange the content of two databases (SWAPDB); clients keep their Db object, so contents move."""
        x, y = self.dbs[a], self.dbs[b]
        x.values, y.values = y.values, x.values
        x.expires, y.expires = y.expires, x.expires
        x.order, y.order = y.order, x.order
        x.deadlines, y.deadlines = y.deadlines, x.deadlines
        x.timed, y.timed = y.timed, x.timed
        x.element_deadlines, y.element_deadlines = y.element_deadlines, x.element_deadlines

    def overdue_ms(self, now_ms: int) -> int:
        """For how long the oldest deadline of a primary has passed; -1 when none has. It may have been moved since."""
        oldest = now_ms + 1
        for db in self.dbs:
            if db.deadlines and db.deadlines[0][0] < oldest:
                oldest = db.deadlines[0][0]
            if db.element_deadlines and db.element_deadlines[0][0] < oldest:
                oldest = db.element_deadlines[0][0]
        return now_ms - oldest

    def clear(self) -> None:
        """As before the first event."""
        for db in self.dbs:
            db.clear()
        self.outcomes = Outcomes()
        self.libraries.clear()
        self.users = {}
        self.users_version += 1
        self.marks = {}

    def key_count(self) -> int:
        return sum(len(db.values) for db in self.dbs)

    def digest(self) -> str:
        """32 hexadecimal digits that depend on the whole state and on nothing else."""
        total = sum(db.digest() for db in self.dbs) + self.outcomes.digest() + self.libraries.digest()
        total += digest_of_marks(self.marks)
        total += sum(digest_of([b"user", name, rules]) for name, rules in self.users.items())
        return f"{total % DIGEST_MODULUS:032x}"
