"""Evicting keys above maxmemory, where maxmemory-policy asks for it: only a primary does, by DEL events.

Engine.gate then has the bit EVICTS, so that each command passes by here; without it nothing is looked at. What is
compared with maxmemory is measured (metrics/memory.py), and measuring takes longer the more there is. So bytes of
requests are counted from one measurement to the next; when one finds too much, keys are deleted by the estimate of
their size, at most for the time that maxmemory-eviction-tenacity gives one command, and the next one is measured.
Nothing is evicted on an old measurement: what was deleted by clients meanwhile is no reason to delete more.
Source: redis src/evict.c (performEvictions, evictionPoolPopulate, evictionTimeLimitUs).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Final

from eventdb.engine.expiry import commit_own
from eventdb.metrics.memory import Meter, size_of

if TYPE_CHECKING:
    from eventdb.engine.news import News
    from eventdb.engine.settings import Config
    from eventdb.engine.store import Store
    from eventdb.keyspace.databases import Db
    from eventdb.pipeline.commit import Commit
    from eventdb.pipeline.turn import Timer, Turn

ORIGIN: Final = b"$8\r\neviction\r\n"
NONE: Final = "noeviction"
POOL: Final = 16  # candidates that are kept from one pick to the next
LOOKED_BYTES: Final = 8192  # of requests, after which memory is measured again
SPARING_NEAR: Final = 5  # a measurement takes at most this part of the time while memory may be short
SHARE_OF_LIMIT: Final = 64  # memory is measured when requests have brought this part of maxmemory, whatever it costs
ARGUMENT_BYTES: Final = 64  # what an argument takes beside its bytes
KEY_BYTES: Final = 104  # what a key takes in the dictionaries
SAMPLES: Final = 5  # elements of a value that are looked at to estimate its size
GUESSES_MAX: Final = 64  # at entries of a heap that mean nothing any more
SLICE_S: Final = 0.002  # what is done on a clock takes in one piece
PAUSE_S: Final = 0.006  # between two pieces
UNLIMITED: Final = 100  # tenacity
PACE_BYTES: Final = 1024  # a request of N bytes may evict for twice the time, and so on up to PACE_MAX_S
PACE_MAX_S: Final = 0.02
FLUSHES: Final = frozenset((b"FLUSHALL", b"FLUSHDB"))

Candidate = tuple[float, bytes, int]  # how good it is to delete, key, number of its database


def time_limit(tenacity: int) -> float:
    """Seconds that one command may spend on evicting."""
    if tenacity <= 10:
        return 50e-6 * tenacity
    return 500e-6 * 1.15 ** (tenacity - 10) if tenacity < UNLIMITED else 1e9


class Eviction:
    """Of one engine. `failing`: there is too much, and nothing that may be evicted."""

    def __init__(self, store: Store, turn: Turn, news: News) -> None:
        self.policy = NONE
        self.limit = 0
        self.failing = False
        self.meter = Meter()
        self.evicted = 0
        self.exceeded_s = 0.0  # how long memory was above maxmemory
        self.since = 0.0  # when it went above; 0: it is not
        self.timer: Timer | None = None  # until it goes on
        self.again: Callable[[], None] | None = None  # called when it is to go on
        self._store = store
        self._turn = turn
        self._news = news
        self._samples = 5
        self._command_s = time_limit(10)
        self._debt = 0  # bytes still to evict
        self._grown = 0  # bytes that requests have brought since the last measurement
        self._unsure = True  # something happened that the last measurement does not know
        self._db = 0  # from which a random key is taken next
        self._pool: list[Candidate] = []  # the best one last

    def reconfigure(self, config: Config) -> None:
        self.limit = config.memory_bytes_max
        if config.maxmemory_policy != self.policy:
            self.policy = config.maxmemory_policy
            self._pool = []
        self._samples = config.memory_samples
        self._command_s = time_limit(config.eviction_tenacity)
        self._debt = 0
        self._unsure = True
        if not self.active():
            self.failing = False
            self._settled()

    def active(self) -> bool:
        return self.limit > 0 and self.policy != NONE

    def reset_counts(self) -> None:
        self.evicted = 0
        self.exceeded_s = 0.0
        if self.since:
            self.since = perf_counter()

    # -- when

    def before(self, argv: list[bytes], commit: Commit) -> None:
        """A command is about to run: make room, if that is needed, within the time that it may take."""
        size = 0
        for arg in argv:
            size += len(arg) + ARGUMENT_BYTES
        self._grown += size
        if argv[0].upper() in FLUSHES:
            self._debt = 0
            self._unsure = True
        elif self._debt > 0 or self.failing or self._unsure or self._grown >= LOOKED_BYTES:
            seconds = self._command_s
            self.make_room(commit, max(seconds, min(PACE_MAX_S, seconds * (size / PACE_BYTES))))

    def on_clock(self, commit: Commit) -> None:
        self._unsure = True
        self.make_room(commit, SLICE_S)
        if self._debt > 0 and self.timer is None and self.again is not None:
            self.timer = self._turn.later(PAUSE_S, self.again)

    def make_room(self, commit: Commit, seconds: float) -> None:
        """Evict what is too much, for so long at most; one key goes in any case."""
        if self._debt <= 0:
            if not self._due():
                return
            self._debt = self.meter.measure() - self.limit
            self._grown = 0
            self._unsure = False
            if self._debt <= 0:
                self.failing = False
                self._settled()
                return
            if not self.since:
                self.since = perf_counter()
        if commit.full:
            return
        self._evict(seconds)
        if self._store.events:
            commit_own(self._store, commit, self._news, ORIGIN)

    def _due(self) -> bool:
        """Measure now: something may have changed, and the last measurement is old enough for what one costs."""
        if self._grown * SHARE_OF_LIMIT >= self.limit:
            return True
        near = self.failing or self.meter.bytes + self._grown > self.limit
        if not near and not self._unsure and self._grown < LOOKED_BYTES:
            return False
        return self.meter.rested(SPARING_NEAR) if near else self.meter.rested()

    def _settled(self) -> None:
        if self.since:
            self.exceeded_s += perf_counter() - self.since
            self.since = 0.0

    def exceeded_now(self) -> float:
        """For how many seconds memory has been above maxmemory; 0: it is not."""
        return perf_counter() - self.since if self.since else 0.0

    # -- what

    def _evict(self, seconds: float) -> None:
        store = self._store
        end = perf_counter() + seconds
        while self._debt > 0:
            found = self._pick()
            if found is None:
                self._debt = 0  # what else there is to free is not ours: measured again by the next command
                self.failing = True
                return
            self.failing = False
            db, key = found
            self._debt -= int(size_of(key, 0) + size_of(db.values[key], SAMPLES)) + KEY_BYTES
            self.evicted += 1
            store.emit(db, [b"DEL", key])
            store.because(b"evicted")
            if store.accesses is not None:
                store.accesses.forget(db, key)
            if perf_counter() >= end:
                return
        self._unsure = True

    def _pick(self) -> tuple[Db, bytes] | None:
        """The next key to delete; None: the policy allows for none."""
        volatile = self.policy.startswith("volatile-")
        if self.policy == "volatile-ttl":
            return self._due_first()
        dbs = self._store.keyspace.dbs
        if self.policy.endswith("-random"):
            for _ in dbs:
                db = dbs[self._db]
                self._db = (self._db + 1) % len(dbs)
                key = self._sample(db, volatile)
                if key is not None:
                    return db, key
            return None
        for db in dbs:
            if db.values:
                self._populate(db, volatile)
        pool = self._pool
        while pool:
            _, key, number = pool.pop()
            db = dbs[number]
            if key in (db.expires if volatile else db.values):
                return db, key
        return None

    def _due_first(self) -> tuple[Db, bytes] | None:
        """The key that expires first: the heaps of a primary know it."""
        best: tuple[Db, bytes] | None = None
        best_ms = 0
        for db in self._store.keyspace.dbs:
            heap = db.deadlines
            while heap and db.expires.get(heap[0][1]) != heap[0][0]:
                heapq.heappop(heap)
            if heap and (best is None or heap[0][0] < best_ms):
                best, best_ms = (db, heap[0][1]), heap[0][0]
        return best

    def _sample(self, db: Db, volatile: bool) -> bytes | None:
        """A key by chance."""
        rng = self._store.rng
        if not volatile:
            return db.random_key(rng)
        expires = db.expires
        if not expires:
            return None
        for _ in range(GUESSES_MAX):
            heap = db.deadlines
            if not heap:
                return None
            at_ms, key = heap[int(rng.random() * len(heap))]
            if expires.get(key) == at_ms:
                return key
        db.track_deadlines()  # most of it is out of date
        heap = db.deadlines
        return heap[int(rng.random() * len(heap))][1] if heap else None

    def _populate(self, db: Db, volatile: bool) -> None:
        """Take some keys by chance, and keep the best that were ever seen."""
        if not (db.expires if volatile else db.values):
            return
        accesses = self._store.accesses
        if accesses is None:
            return
        pool, now_ms = self._pool, self._store.now_ms
        counts = self.policy.endswith("-lfu")
        for _ in range(min(self._samples, len(db.expires) if volatile else len(db.values))):
            key = self._sample(db, volatile)
            if key is None:
                return
            if counts:
                score = 255.0 - accesses.frequency(db, key, now_ms)
            else:
                score = float(accesses.idle_ms(db, key, now_ms))
            if len(pool) == POOL and score <= pool[0][0]:
                continue
            if any(one[1] == key and one[2] == db.index for one in pool):
                continue
            pool.append((score, key, db.index))
            pool.sort()
            if len(pool) > POOL:
                del pool[0]
