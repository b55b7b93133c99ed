"""The order of SCAN and random picks: by a hash of the element, and made when a command first needs it.

**Scanning.** Each element has a *position*, 32 bits that depend on its bytes alone: not on the process, the node, the
value it lies in or what happened before. A cursor is the lowest position still to visit. So a scan from 0 until the
cursor is 0 again

* returns every element that was there from its start to its end at least once, also when the value was replaced
  meanwhile (RENAME, the STORE commands, DEL and SADD), when it grew or shrank, and when the scan went on on another
  node or after a restart;
* returns no element twice, however often it was removed and added. (Values so small that a call returns them whole,
  as Redis does, return what they have once more when they have shrunk to that during the scan; the scan ends there.)
* visits `count` elements a call or some more; fewer, or none and a cursor, while the buckets are still being filled;
* keeps no state: any number is a cursor.

Positions are cut into buckets by linear hashing, which splits and joins one bucket at a time, so that no call pays
for all elements. A bucket is returned whole. The hash has no secret, which a cursor that outlives a process rules
out; a client that makes keys that collide gets them in one large page, as from KEYS.

**Picks** are uniform over the elements, because each is here exactly once: in a bucket, or in `pending`, where all
of them are as long as nobody scans.

    elements = (pending - gone) + buckets,    gone within pending,    no element twice

Nobody asks for most values, so they have no Order and pay nothing. A write to one that has costs the append of the
key; the hash is the scan's work.
"""

from __future__ import annotations

import random
from typing import Final
from zlib import crc32

POSITIONS: Final = 1 << 32  # as a cursor: nothing is visited yet, where 0 cannot say so because it ends a scan
LOAD: Final = 8  # elements a bucket, on average; joined at a quarter of it
STEP: Final = 131_072  # elements that one call puts into buckets: some ten milliseconds
SWEEP: Final = 8  # places of `pending` looked at after a removal that leaves too much
GUESSES_MAX: Final = 100


def reversed_bits(n: int) -> int:
    """The 32 bits of n from the other end."""
    n = (n & 0x55555555) << 1 | n >> 1 & 0x55555555
    n = (n & 0x33333333) << 2 | n >> 2 & 0x33333333
    n = (n & 0x0F0F0F0F) << 4 | n >> 4 & 0x0F0F0F0F
    n = (n & 0x00FF00FF) << 8 | n >> 8 & 0x00FF00FF
    return (n & 0xFFFF) << 16 | n >> 16


class Order:
    """One collection's elements. The caller says what is added and what is removed, each only when it is a change."""

    def __init__(self, keys: list[bytes]) -> None:
        self.pending: list[bytes] = keys  # not in a bucket yet
        self.gone: set[bytes] = set()  # removed, and still in `pending`
        self.hand = 0  # place in `pending` where the next sweep begins
        self.backlog = 0  # what the last scan left pending
        # Bucket i holds the elements whose hash ends with the bits of i: `base` is a power of two, the buckets below
        # `split` and from `base` on go by one bit more. None is an empty one.
        self.buckets: list[list[bytes] | None] = []
        self.base = 0
        self.split = 0
        self.placed = 0  # elements in buckets
        self.widest = 1  # no bucket holds more

    def added(self, key: bytes) -> None:
        if self.gone and key in self.gone:
            self.gone.remove(key)
        else:
            self.pending.append(key)

    def removed(self, key: bytes) -> None:
        if self.placed and self._take(key):
            return
        self.gone.add(key)
        if len(self.gone) * 3 > len(self.pending) + 192:
            self._sweep()

    def size(self) -> int:
        """Number of elements."""
        return self.placed + len(self.pending) - len(self.gone)

    # -- pending

    def _forget(self, place: int) -> None:
        """Drop the removed element at this place of `pending`."""
        pending = self.pending
        self.gone.remove(pending[place])
        last = pending.pop()
        if place < len(pending):
            pending[place] = last
        if not self.gone:
            self.gone = set()  # an emptied set keeps its table

    def _sweep(self) -> None:
        place = self.hand
        for _ in range(SWEEP):
            if place >= len(self.pending):
                place = 0
                if not self.pending:
                    break
            if self.pending[place] in self.gone:
                self._forget(place)
            else:
                place += 1
        self.hand = place

    def _fill(self) -> bool:
        """Put pending elements into buckets; True when none is left.

        A call pays for what was added since the call before it, and for STEP of what that one left: so it ends,
        however fast elements are added.
        """
        pending = self.pending
        if not self.buckets:
            while self.base * LOAD < self.size() or self.base == 0:
                self.base = self.base * 2 or 1
            self.buckets = [None] * self.base
        budget = STEP
        if self.backlog:
            budget += max(0, len(pending) - self.backlog)
        for _ in range(min(budget, len(pending))):
            key = pending.pop()
            if self.gone and key in self.gone:
                self.gone.remove(key)
            else:
                self._place(key)
        self.backlog = len(pending)
        if pending:
            return False
        self.pending = []
        self.gone = set()
        while self._sparse():  # what was pending when buckets were made may have gone
            self._join()
        return True

    # -- buckets

    def _bucket_of(self, bits: int) -> int:
        """Index of the bucket for a hash."""
        i = bits & (self.base * 2 - 1)
        return i if i < len(self.buckets) else i & (self.base - 1)

    def _place(self, key: bytes) -> None:
        i = self._bucket_of(crc32(key))
        bucket = self.buckets[i]
        if bucket is None:
            self.buckets[i] = [key]
        else:
            bucket.append(key)
            if len(bucket) > self.widest:
                self.widest = len(bucket)
        self.placed += 1
        if self.placed > LOAD * len(self.buckets):
            self._split()

    def _take(self, key: bytes) -> bool:
        """Remove an element from its bucket; False when it is in none."""
        i = self._bucket_of(crc32(key))
        bucket = self.buckets[i]
        if bucket is None or key not in bucket:
            return False
        if len(bucket) == 1:
            self.buckets[i] = None
        else:
            bucket.remove(key)
        self.placed -= 1
        if self._sparse():
            self._join()
        return True

    def _sparse(self) -> bool:
        buckets = len(self.buckets)
        return buckets > 1 and (self.placed + len(self.pending)) * 4 < LOAD * buckets

    def _split(self) -> None:
        """Give half of the next bucket in turn to a new one."""
        i, base = self.split, self.base
        stays: list[bytes] = []
        goes: list[bytes] = []
        for key in self.buckets[i] or ():
            if crc32(key) & base:
                goes.append(key)
            else:
                stays.append(key)
        self.buckets[i] = stays or None
        self.buckets.append(goes or None)
        self.split += 1
        if self.split == base:
            self.base, self.split = base * 2, 0

    def _join(self) -> None:
        """Undo the last split."""
        if self.split == 0:
            self.base //= 2
            self.split = self.base
        self.split -= 1
        last = self.buckets.pop()
        if last is None:
            return
        bucket = self.buckets[self.split]
        joined = last if bucket is None else bucket + last
        self.buckets[self.split] = joined
        if len(joined) > self.widest:
            self.widest = len(joined)

    # -- asking

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """At least `count` elements from the cursor on, if there are; the next cursor, 0 when that was all."""
        found: list[bytes] = []
        if not self._fill():
            return cursor or POSITIONS, found
        at = cursor & (POSITIONS - 1)
        while len(found) < count:
            i = self._bucket_of(reversed_bits(at))
            span = POSITIONS // self.base
            if i < self.split or i >= self.base:
                span //= 2
            bucket = self.buckets[i]
            inside = at & (span - 1)
            if bucket is not None:
                if inside:  # the cursor was made when buckets were smaller
                    found.extend([key for key in bucket if reversed_bits(crc32(key)) >= at])
                else:
                    found.extend(bucket)
            at += span - inside
            if at == POSITIONS:
                return 0, found
        return at, found

    def pick(self, rng: random.Random) -> bytes:
        """One element, each with the same chance; there must be one."""
        while True:
            place = int(rng.random() * (self.placed + len(self.pending)))
            if place < self.placed:
                return self._pick_placed(rng)
            place -= self.placed
            key = self.pending[place]
            if not self.gone or key not in self.gone:
                return key
            self._forget(place)

    def _pick_placed(self, rng: random.Random) -> bytes:
        """One of the elements in buckets: a place in a bucket as wide as the widest, until one holds something."""
        buckets = self.buckets
        for _ in range(GUESSES_MAX):
            guess = int(rng.random() * (len(buckets) * self.widest))
            bucket = buckets[guess // self.widest]
            if bucket is not None and guess % self.widest < len(bucket):
                return bucket[guess % self.widest]
        left = int(rng.random() * self.placed)
        self.widest = 1  # one bucket is far wider than the others, or was: measure again
        chosen = b""
        for bucket in buckets:
            if bucket is None:
                continue
            if 0 <= left < len(bucket):
                chosen = bucket[left]
            left -= len(bucket)
            if len(bucket) > self.widest:
                self.widest = len(bucket)
        return chosen
