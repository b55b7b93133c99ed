"""Runs of plain commands: the door to plain_run.c, which executes what a chunk begins with straight on the dicts.

What concerns all commands of a chunk is asked here once, and what would be counted for each is counted here once a
run. Where something asks for more (a gate, a key that is watched or waited for, a setting that wants to hear of every
command's time) nothing runs here, and everything takes the ordinary way; so it does where plain_run.c was not built.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Final

from eventdb.engine.client import FOLLOWING
from eventdb.keyspace.types.hash import HashValue
from eventdb.keyspace.types.list import ListValue
from eventdb.keyspace.types.zset import ZSetValue
from eventdb.pipeline.outbox import REPLY_ON
from eventdb.protocol.replies import NULL3, NULL_BULK
from eventdb.protocol.requests import RequestParser, SharedReader

if TYPE_CHECKING:
    from eventdb.engine.client import Client
    from eventdb.engine.engine import Engine

# The order of plain_run.c: the calls of each command, then these.
NAMES: Final = (b"GET", b"MGET", b"EXISTS", b"HGET", b"HGETALL", b"LRANGE", b"ZRANGE", b"SET", b"INCR")
KINDS: Final = 9
COUNT: Final = 9  # commands of the run
HITS: Final = 10
MISSES: Final = 11
REPLY_BYTES: Final = 12
EVENT_BYTES: Final = 13  # 0: it was a run of reads
LAST: Final = 14  # kind of the last command
TALLIES: Final = 15

SLOW_USEC_LEAST: Final = 1000.0  # below it each command is timed by itself
OWED_BYTES_MAX: Final = 1 << 20  # replies that a client may be owed before the ordinary way decides what waits
NOTHING_DIRTY: Final[list[set[bytes]]] = []  # never changed


def find_runner() -> Callable[..., int] | None:
    """What runs; None where it was not built."""
    try:
        import eventdb.engine.plain_run as plain_run
    except ImportError:
        return None
    return plain_run.Runner(HashValue, ListValue, ZSetValue).run


class PlainRuns:
    """Of one engine. `ran`: how many commands the last call of `take` ran."""

    def __init__(self, engine: Engine, run: Callable[..., int] | None) -> None:
        self.engine = engine
        self.run = run
        self.ran = 0
        self.tally: list[int] = [0] * TALLIES
        self.commands = [engine.commands[name] for name in NAMES]

    def may_run(self, client: Client) -> bool:
        """Nothing wants to look at each of this client's commands before it runs, or at its time."""
        engine = self.engine
        if client.gate or engine.gate & ~FOLLOWING or client.reply_mode != REPLY_ON:
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
        head: bytes | None = None
        if not engine.gate and not store.watching.watches and not store.awaited:
            head = client.head_of_one()
        tally = self.tally
        at = 0
        while at < len(data) and self.ran < limit and client.owed <= OWED_BYTES_MAX and engine.may_run(client):
            batch = commit.open
            replies: list[bytes] = []
            end = run(
                data, at, limit - self.ran, db.values, db.expires, store.now_ms,
                commit.dirty_keys() if commit.pending else NOTHING_DIRTY, null, len(client.held) > 0, replies, tally,
                head, batch.dirty, batch.chunks, commit.room(), db.order is not None,
            )  # fmt: skip
            if end == at:
                break
            if tally[EVENT_BYTES]:
                batch = commit.add_run(tally[COUNT], tally[EVENT_BYTES])
                client.last_offset = commit.offset
                client.hold_all(batch, replies, tally[REPLY_BYTES])
            else:
                client.reply_all(replies, tally[REPLY_BYTES])
            self._count(client, data, at, end)
            at = end
        return at

    def _count(self, client: Client, data: bytes, at: int, end: int) -> None:
        """Count a run as the engine counts its commands; the time it took is shared among them."""
        engine = self.engine
        store = engine.store
        tally = self.tally
        now = perf_counter()
        usec = (now - engine.clock) * 1e6
        engine.clock = now
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
            self._slow(client, data[at:end], usec)

    def _slow(self, client: Client, data: bytes, usec: float) -> None:
        """Each command takes some microseconds, so the process did not run for a while, or its memory had to come back.

        A command by itself is written down as the engine would. Of several nobody knows which it was that had to wait:
        the monitor gets the event, and SLOWLOG, whose entries name a command, does not.
        """
        accounting = self.engine.accounting
        command = self.commands[self.tally[LAST]]
        if self.tally[COUNT] == 1:
            accounting.took(client, command, RequestParser(SharedReader()).feed(data)[0], usec)
        else:
            accounting.latencies.event("fast-command" if "fast" in command.flags else "command", usec)
