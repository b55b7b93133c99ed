"""Deleting what has expired: short slices within a share of the loop, so that it keeps up with any rate of writes.

Source of the idea: redis src/expire.c activeExpireCycle.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Final

from eventdb.protocol.replies import NO_REPLY

if TYPE_CHECKING:
    from eventdb.engine.news import News
    from eventdb.engine.store import Store
    from eventdb.keyspace.databases import Db
    from eventdb.metrics.statistics import Statistics
    from eventdb.pipeline.commit import Commit
    from eventdb.pipeline.turn import Timer, Turn

KEYS_MAX: Final = 500  # deleted in one transaction
SLICE_S: Final = 0.002  # that the cycle takes in one piece, and one transaction more
SHARE: Final = 0.25  # of the loop that the cycle takes at most, as Redis's (ACTIVE_EXPIRE_CYCLE_SLOW_TIME_PERC)
SHARE_LATE: Final = 0.5  # while the oldest key is overdue by LATE_MS: more is written than SHARE keeps up with
LATE_MS: Final = 1000
ORIGIN: Final = b"$6\r\nexpiry\r\n"


def commit_own(store: Store, commit: Commit, news: News, origin: bytes) -> None:
    """Close the transaction in the making: no client asked for it."""
    if store.heeded:
        news.gather(None, [])
    size = store.event_size
    batch = commit.add(origin, store.taken(), size)
    if store.heeded:
        news.finish(None, NO_REPLY, batch)


class Expiry:
    """The cycle of one engine. `again` is called when it is to go on."""

    def __init__(self, store: Store, turn: Turn, again: Callable[[], None], news: News) -> None:
        self.enabled = True  # DEBUG SET-ACTIVE-EXPIRE
        self.timer: Timer | None = None  # until the cycle goes on
        self._store = store
        self._turn = turn
        self._again = again
        self._news = news
        self._db = 0  # where it goes on

    def slice(self, commit: Commit, statistics: Statistics, wake: Callable[[], None]) -> None:
        """Delete for SLICE_S. What that does not suffice for goes on after a pause, which keeps the cycle in its share.

        wake: called when keys that somebody waits for have changed.
        """
        if not self.enabled:
            return
        store = self._store
        begin = perf_counter()
        outcomes = store.keyspace.outcomes
        if outcomes.kept:
            due = outcomes.due(store.now_ms, store.keyspace.limits.once_retention_ms)
            if due:
                store.emit(store.keyspace.dbs[0], [b"EVENTDB.FORGET", b"%d" % due])
                self._commit(commit)
        overdue_ms = store.keyspace.overdue_ms(store.now_ms)
        while overdue_ms >= 0 and not commit.full:
            self._delete_some(commit)
            if store.ready:
                wake()
            spent = perf_counter() - begin
            if store.keyspace.overdue_ms(store.now_ms) < 0:
                break
            if spent >= SLICE_S:
                share = SHARE if overdue_ms < LATE_MS else SHARE_LATE
                self.timer = self._turn.later(spent * (1 - share) / share, self._again)
                statistics.expire_caps += 1
                break
        statistics.expire_seconds += perf_counter() - begin

    def _delete_some(self, commit: Commit) -> None:
        """Delete some of what has expired, in one transaction: from each database in turn."""
        store = self._store
        left = KEYS_MAX
        dbs = store.keyspace.dbs
        for _ in dbs:
            db = dbs[self._db]
            keys = list(dict.fromkeys(db.expired_keys(store.now_ms, left)))
            if keys:
                left -= len(keys)
                store.expired_keys += len(keys)
                store.emit(db, [b"DEL", *keys])
                store.because(b"expired")
            left -= self._delete_elements(db, left)
            if left <= 0:
                break
            self._db = (self._db + 1) % len(dbs)
        if store.events:
            self._commit(commit)

    def _commit(self, commit: Commit) -> None:
        commit_own(self._store, commit, self._news, ORIGIN)

    def _delete_elements(self, db: Db, count_max: int) -> int:
        """Delete up to `count_max` fields of hashes, an event for each hash; how much of the transaction that is."""
        store = self._store
        done = 0
        while done < count_max and (due := db.expired_elements(store.now_ms, count_max - done)) is not None:
            key, fields = due
            if fields:
                store.expired_elements += len(fields)
                store.emit(db, [b"HDEL", key, *fields])
                store.because(b"hexpired")
            db.track_again(key)
            done += len(fields) + 1
        return done
