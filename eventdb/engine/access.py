"""When and how often keys are used: kept only while track-access, or an LRU or LFU maxmemory-policy, asks for it.

Engine.gate then has the bit TRACKED, so every command takes the way past the gates, and the keys that it names are
noted there; without it nothing is looked at. A read writes no event, so each node knows only what it was asked itself.
Source: redis src/evict.c (LFULogIncr, LFUDecrAndReturn), src/object.c.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from eventdb.engine.command import WRITE, Command
from eventdb.protocol.numbers import counted

if TYPE_CHECKING:
    from eventdb.engine.settings import Config
    from eventdb.keyspace.databases import Db, Keyspace

COUNT_AT_FIRST: Final = 5  # redis LFU_INIT_VAL
COUNT_MAX: Final = 255
SPARE: Final = 1024  # entries of keys that are gone, before they are swept out
UNTOUCHED: Final = frozenset(  # commands that look at a key without using it, and channels that are no keys
    (
        "exists", "type", "ttl", "pttl", "expiretime", "pexpiretime", "watch", "memory|usage", "object|encoding",
        "object|freq", "object|idletime", "object|refcount", "spublish", "ssubscribe", "sunsubscribe",
    )
)  # fmt: skip


class Uses:
    """Of one key."""

    def __init__(self, now_ms: int) -> None:
        self.used_ms = now_ms
        self.count = COUNT_AT_FIRST
        self.minute = now_ms // 60_000  # to which `count` has decayed

    def decay(self, now_ms: int, decay_minutes: int) -> int:
        """One less for each period that has passed since."""
        minute = now_ms // 60_000
        if decay_minutes and minute > self.minute:
            periods = (minute - self.minute) // decay_minutes
            if periods:
                self.count = max(0, self.count - periods)
                self.minute = minute
        return self.count


class Accesses:
    """Of all keys of one engine, since `began_ms`."""

    def __init__(self, keyspace: Keyspace, rng: random.Random, now_ms: int) -> None:
        self.keyspace = keyspace
        self.rng = rng
        self.began_ms = now_ms
        self.log_factor = 10
        self.decay_minutes = 1
        self.times = False  # OBJECT IDLETIME may be answered
        self.counts = False  # OBJECT FREQ may be answered
        self.uses: list[dict[bytes, Uses]] = [{} for _ in keyspace.dbs]

    def note(
        self, db: Db, command: Command, argv: list[bytes], queue: list[tuple[Command, list[bytes]]], now_ms: int
    ) -> None:
        """A command is about to run; queue: what an EXEC will run."""
        if command.name != "exec" and (command.inner is None or argv[2].upper() != b"EXEC"):
            self._note(db, command, argv, now_ms)
            return
        for queued, args in queue:
            if queued.name == "select" and 0 <= counted(args[1]) < len(self.uses):
                db = self.keyspace.dbs[counted(args[1])]
            self._note(db, queued, args, now_ms)

    def _note(self, db: Db, command: Command, argv: list[bytes], now_ms: int) -> None:
        name = command.name
        if name == "swapdb":
            self._swap(argv)
        if not command.has_keys or name in UNTOUCHED:
            return
        for key in command.keys(argv):
            self._use(db, key, command.bits & WRITE != 0, now_ms)
        if name == "move" or name == "copy":  # the key in the other database is new there
            number = argv[2] if name == "move" else argv[-1]
            if 0 <= counted(number) < len(self.uses):
                self._use(self.keyspace.dbs[counted(number)], argv[1] if name == "move" else argv[2], True, now_ms)

    def _use(self, db: Db, key: bytes, writes: bool, now_ms: int) -> None:
        uses = self.uses[db.index]
        there = key in db.values
        found = uses.get(key)
        if found is None or not there:
            if there or writes:
                found = uses[key] = Uses(now_ms)
            if found is None or not there:
                return
        found.used_ms = now_ms
        if self.counts:
            count = found.decay(now_ms, self.decay_minutes)
            if count < COUNT_MAX and self.rng.random() * (max(0, count - COUNT_AT_FIRST) * self.log_factor + 1) < 1:
                found.count += 1

    def _swap(self, argv: list[bytes]) -> None:
        a, b = counted(argv[1]), counted(argv[2])
        if min(a, b) >= 0 and max(a, b) < len(self.uses):
            self.uses[a], self.uses[b] = self.uses[b], self.uses[a]

    def restored(self, db: Db, key: bytes, idle_s: int, count: int, now_ms: int) -> None:
        """RESTORE has made the key, and says how long it was idle and how often it was used; -1: it does not say."""
        found = self.uses[db.index][key] = Uses(now_ms)
        if idle_s >= 0 and self.times:
            found.used_ms = now_ms - 1000 * idle_s
        if count >= 0 and self.counts:
            found.count = count

    def sweep(self) -> None:
        """Forget keys that are gone, when they are many; called on a clock."""
        for db in self.keyspace.dbs:
            uses = self.uses[db.index]
            if len(uses) > 2 * len(db.values) + SPARE:
                self.uses[db.index] = {key: found for key, found in uses.items() if key in db.values}

    def forget(self, db: Db, key: bytes) -> None:
        """The key was evicted: what it took is to be free at once."""
        self.uses[db.index].pop(key, None)

    def idle_ms(self, db: Db, key: bytes, now_ms: int) -> int:
        found = self.uses[db.index].get(key)
        return max(0, now_ms - (self.began_ms if found is None else found.used_ms))

    def idle_seconds(self, db: Db, key: bytes, now_ms: int) -> int:
        """Since the key was used; one not used since the counting began is idle since then, at least."""
        return self.idle_ms(db, key, now_ms) // 1000

    def frequency(self, db: Db, key: bytes, now_ms: int) -> int:
        found = self.uses[db.index].get(key)
        return COUNT_AT_FIRST if found is None else found.decay(now_ms, self.decay_minutes)


def asked_for(
    config: Config, before: Accesses | None, keyspace: Keyspace, rng: random.Random, now_ms: int
) -> Accesses | None:
    """What the settings ask for now: nothing, what was kept before, or a new beginning."""
    counts = config.maxmemory_policy.endswith("-lfu")
    times = config.maxmemory_policy.endswith("-lru") or config.track_access == "yes"
    if not counts and not times:
        return None
    kept = before if before is not None else Accesses(keyspace, rng, now_ms)
    kept.times, kept.counts = times, counts
    kept.log_factor, kept.decay_minutes = config.lfu_log_factor, config.lfu_decay_minutes
    return kept
