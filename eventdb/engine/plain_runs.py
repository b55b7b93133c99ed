"""Runs of plain commands: the door to plain_run.c, which executes what a chunk begins with straight on the dicts.

What concerns all commands of a chunk is asked here once, and what would be counted for each is counted here once a
run. Where something asks for more (a gate, a key that is watched or waited for, a setting that wants to hear of every
command's time) nothing runs here, and everything takes the ordinary way; so it does where plain_run.c was not built.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Final

from eventdb.engine import effort
from eventdb.engine.client import FOLLOWING, RESTRICTED
from eventdb.keyspace.types.hash import HashValue
from eventdb.keyspace.types.list import ListValue
from eventdb.keyspace.types.set import SetValue
from eventdb.keyspace.types.zset import ZSetValue
from eventdb.pipeline.outbox import REPLY_ON
from eventdb.protocol.replies import NULL3, NULL_BULK
from eventdb.protocol.requests import RequestParser, SharedReader

if TYPE_CHECKING:
    from eventdb.engine.client import Client
    from eventdb.engine.engine import Engine

# The order of plain_run.c: the calls of each command, then the facts. What is below OWN has code there; the others are
# called: their handlers reach nothing but the database, and have run when they return.
NAMES: Final = (
    b"GET", b"SET", b"MGET", b"EXISTS", b"INCR", b"HGET", b"HSET", b"HGETALL", b"SADD", b"LPUSH", b"RPUSH", b"LRANGE",
    b"ZRANGE",
    b"STRLEN", b"GETRANGE", b"GETBIT", b"TTL", b"PTTL", b"TYPE", b"HMGET", b"HEXISTS", b"HLEN", b"LINDEX", b"LLEN",
    b"SISMEMBER", b"SMEMBERS", b"SCARD", b"SRANDMEMBER", b"SINTER", b"ZSCORE", b"ZRANK", b"ZCARD", b"ZREVRANK",
    b"ZCOUNT", b"ZREVRANGE", b"ZRANGEBYSCORE", b"ZREVRANGEBYSCORE", b"XRANGE", b"XLEN", b"GEOSEARCH", b"PFCOUNT",
    b"SETBIT", b"PFADD", b"INCRBY", b"DECR", b"APPEND", b"EXPIRE", b"HDEL", b"HINCRBY", b"LPOP", b"RPOP", b"LSET",
    b"SREM", b"SPOP", b"ZADD", b"ZINCRBY", b"ZREM", b"XADD", b"SET", b"SETEX",
    b"SETNX", b"PEXPIRE", b"LTRIM", b"ZPOPMIN", b"DEL",
)  # fmt: skip
OWN: Final = 13
KINDS: Final = 65
COUNT: Final = 65  # commands of the run
HITS: Final = 66
MISSES: Final = 67
REPLY_BYTES: Final = 68
WRITTEN: Final = 69  # commands that made a transaction each; then the first of the run did
EVENT_BYTES: Final = 70
WAITS: Final = 71  # of a run that wrote nothing: the pending batch that its replies wait for, counted from 1; 0: none
LAST: Final = 72  # kind of the last command
LAST_AT: Final = 73  # where it begins
LAST_USEC: Final = 74  # what its handler took
TALLIES: Final = 75

SLOW_USEC_LEAST: Final = 1000.0  # below it each command is timed by itself
OWED_BYTES_MAX: Final = 1 << 20  # replies that a client may be owed before the ordinary way decides what waits
NOTHING_DIRTY: Final[list[set[bytes]]] = []  # never changed


def find_runner() -> Callable[..., int] | None:
    """What runs; None where it was not built."""
    try:
        import eventdb.engine.plain_run as plain_run
    except ImportError:
        return None
    return plain_run.Runner(HashValue, ListValue, SetValue, ZSetValue).run


class PlainRuns:
    """Of one engine. `ran`: how many commands the last call of `take` ran."""

    def __init__(self, engine: Engine, run: Callable[..., int] | None) -> None:
        self.engine = engine
        self.run = run
        self.ran = 0
        self.tally: list[int] = [0] * TALLIES
        self.commands = [engine.commands[name] for name in NAMES]
        self.client: Client | None = None  # whose commands run
        handlers = [None if kind < OWN else command.handler for kind, command in enumerate(self.commands)]
        judged = bytes([command.checked for command in self.commands])
        self.handling = (handlers, judged, self._fits, self._failed, self._settle)

    def may_run(self, client: Client) -> bool:
        """Nothing wants to look at each of this client's commands before it runs, or at its time."""
        engine = self.engine
        if client.gate & ~RESTRICTED or engine.gate & ~FOLLOWING or client.reply_mode != REPLY_ON or client.redirects:
            return False
        if engine.store.heeded:  # by notifications or clients that cache
            return False
        return engine.slow_usec >= SLOW_USEC_LEAST

    def take(self, client: Client, data: bytes, limit: int) -> int:
        """Run the plain commands that the chunk begins with; returns where the first one stands that was not run.

        Only while `may_run`.
        """
        self.ran = 0
        engine = self.engine
        run = self.run
        if run is None:
            return 0
        store = engine.store
        commit = engine.commit
        db = client.db
        null = NULL3 if client.resp3 else NULL_BULK
        rights = self._rights(client) if client.gate else None
        head: bytes | None = None
        if not engine.gate and not store.watching.watches and not store.awaited:
            head = client.head_of_one()
        tally = self.tally
        self.client = client
        at = 0
        while at < len(data) and self.ran < limit and client.owed <= OWED_BYTES_MAX and engine.may_run(client):
            batch = commit.open
            replies: list[bytes] = []
            end = run(
                data, at, limit - self.ran, db.values, db.expires, store.now_ms,
                commit.dirty_keys() if commit.pending else NOTHING_DIRTY, null, len(client.held) > 0, replies, tally,
                head, batch.dirty, batch.chunks, commit.room(), db.order is not None, store.keyspace.limits, client,
                rights, self.handling,
            )  # fmt: skip
            if end == at:
                break
            if tally[WRITTEN]:
                batch = commit.add_run(tally[WRITTEN], tally[EVENT_BYTES])
                client.last_offset = commit.offset
                client.hold_all(batch, replies, tally[REPLY_BYTES])
            elif tally[WAITS]:
                client.hold_all(commit.pending[tally[WAITS] - 1], replies, tally[REPLY_BYTES])
            else:
                client.reply_all(replies, tally[REPLY_BYTES])
            self._count(client, data, at, end)
            at = end
        return at

    def _rights(self, client: Client) -> tuple[bytes, tuple[bytes, ...]]:
        """What its user surely may: of each kind, and the beginnings of keys. Whatever else is judged as ever."""
        user = client.user
        if user.plain is None:
            own = user.selectors[0]
            user.plain = bytes([command.name in own.commands for command in self.commands]), own.prefixes()
        return user.plain

    def _fits(self, kind: int, argv: list[bytes]) -> bool:
        """The command may not take so long that the lease would end meanwhile."""
        engine, client = self.engine, self.client
        if engine.on_long is None or client is None:
            return True
        return effort.fits(client, self.commands[kind], argv, engine.lease_until - perf_counter())

    def _failed(self, kind: int, failure: Exception) -> bytes:
        """The reply to a command whose handler has raised."""
        return self.engine.failed(self.commands[kind], failure)

    def _settle(self) -> int:
        """A handler has run: what it emitted is a transaction of the open batch; returns its bytes of events."""
        store = self.engine.store
        if not store.events:
            return 0
        client = self.client
        assert client is not None
        size = store.event_size
        self.engine.commit.put(client.origin, store.taken())
        return size

    def _count(self, client: Client, data: bytes, at: int, end: int) -> None:
        """Count a run as the engine counts its commands; the time it took is shared among them."""
        engine = self.engine
        store = engine.store
        tally = self.tally
        now = perf_counter()
        usec = (now - engine.clock) * 1e6
        engine.clock = now
        if now >= engine.tick_at:
            engine.tick(now)
        count = tally[COUNT]
        self.ran += count
        engine.commands_run += count
        store.hits += tally[HITS]
        store.misses += tally[MISSES]
        last = self.commands[tally[LAST]]
        client.last_command = last
        if tally[tally[LAST]] == count:  # all of one kind
            last.calls += count
            last.usec += usec
        else:
            for kind in range(KINDS):
                calls = tally[kind]
                if calls:
                    command = self.commands[kind]
                    command.calls += calls
                    command.usec += usec * calls / count
        if usec >= engine.slow_usec:
            self._slow(client, data, at, end, usec)

    def _slow(self, client: Client, data: bytes, at: int, end: int, usec: float) -> None:
        """A command by itself, or the last one when its handler took so long, is written down as the engine would.

        Any other takes some microseconds, so the process did not run for a while, or its memory had to come back; and
        of several nobody knows which it was that had to wait: the monitor gets the event, and SLOWLOG, whose entries
        name a command, does not.
        """
        tally = self.tally
        slow_usec = self.engine.slow_usec
        accounting = self.engine.accounting
        command = self.commands[tally[LAST]]
        last_usec = float(tally[LAST_USEC]) if tally[COUNT] > 1 else usec
        if last_usec >= slow_usec:
            argv = RequestParser(SharedReader()).feed(data[tally[LAST_AT] : end])[0]
            accounting.took(client, command, argv, last_usec)
        if usec - last_usec >= slow_usec:
            accounting.latencies.event("fast-command" if "fast" in command.flags else "command", usec - last_usec)
