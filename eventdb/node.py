"""A node: one engine on one log. Follows the log to its end, claims it, and commits to it as the primary.

    rebuild (replay what is there) -> claim (fence, adopt) -> replay the rest -> primary
    primary --Fenced--> forget everything -> rebuild -> follow as a replica
    with follow_only: rebuild -> follow as a replica; the log is never claimed

The server and the embedded API both run a node; it knows neither sockets nor commands.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Final

from eventdb.backends import Fenced, Indeterminate, Log, LogError, LogInfo, Record, Unavailable, Writer, open_log
from eventdb.client import FOLLOWING, LOADING, Client
from eventdb.commit import Commit
from eventdb.committing import Committing
from eventdb.engine import Engine
from eventdb.replay.follower import Follower, OnProgress
from eventdb.values.zset import rank_large

if TYPE_CHECKING:
    from eventdb.config import Config

log: Final = logging.getLogger("eventdb")

CRON_SECONDS: Final = 0.1
CLAIM_ATTEMPTS: Final = 5
FOLLOW_RETRY_SECONDS: Final = 0.5  # between two tries to read a log of which no zone answers

READONLY_TEXT: Final = "READONLY You can't write against a read only replica."
LOADING_TEXT: Final = "LOADING eventdb is loading the dataset in memory"
FENCED_TEXT: Final = (
    "UNKNOWN the outcome of this command is unknown: another node has taken over the log before it was confirmed"
)
CLOSED_TEXT: Final = "UNKNOWN the outcome of this command is unknown: the server stopped before it was confirmed"


def timeout_text(timeout_ms: int) -> str:
    return (
        f"UNKNOWN the outcome of this command is unknown: no majority of zones confirmed it within {timeout_ms} ms;"
        " a write may still become durable"
    )


class Node:
    """Owns the log, the writer, the engine and the timers of one node."""

    def __init__(
        self, url: str, config: Config, name: str = "", address: str = "", *, follow_only: bool = False
    ) -> None:
        self.url = url
        self.follow_only = follow_only
        self.config = config
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self.address = address
        self.log: Log = open_log(url)
        self.committing = Committing(self._append_failed)
        self.role = "loading"  # then "primary" or "replica"
        self.on_progress: OnProgress | None = None  # told how a rebuild goes
        self.engine = Engine(config, Commit(self.committing.append, self.committing.schedule))
        self.committing.engine = self.engine
        self.engine.facts = self.facts
        self.engine.commit.on_room = self._resume_all
        self._follow_task: asyncio.Task[None] | None = None
        self._cron: asyncio.TimerHandle | None = None
        self._closed = False
        self.follower = Follower(self.log, self.engine)
        self.load_seconds = 0.0

    @property
    def writer(self) -> Writer | None:
        return self.committing.writer

    @writer.setter
    def writer(self, writer: Writer | None) -> None:
        self.committing.writer = writer

    # -- becoming a primary

    async def start(self) -> None:
        """Rebuild, claim, and be ready as the primary; or, with `follow_only`, rebuild and be ready as a replica.

        Raises LogError when the log cannot be read or claimed.
        """
        engine = self.engine
        engine.call_later = asyncio.get_running_loop().call_later
        engine.gate, engine.gate_error = LOADING, LOADING_TEXT
        began = time.perf_counter()
        await self._replay()
        if self.follow_only:
            self.load_seconds = time.perf_counter() - began
            self._become_replica()
            self._tick()
            return
        self.writer = await self._claim()
        await self._replay()
        self.load_seconds = time.perf_counter() - began
        assert self.writer.next_offset == self.follower.offset + 1
        for db in engine.keyspace.dbs:
            db.track_deadlines()
        rank_large(engine.keyspace)
        engine.gate = 0
        self.role = "primary"
        self._tick()

    async def _claim(self) -> Writer:
        for attempt in range(CLAIM_ATTEMPTS):
            try:
                return await self.log.claim(self.name, self.address)
            except Fenced:  # lost a race to a claim made at the same time
                if attempt == CLAIM_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def _replay(self) -> None:
        """Apply everything the log holds behind what was applied so far, at full speed."""
        follower = self.follower
        await follower.rebuild(on_progress=self.on_progress)
        self.engine.commit.start_at(follower.offset)

    # -- committing

    def _resume_all(self) -> None:
        """The pipeline has room again."""
        for client in self.engine.clients.values():
            client.sink.resume()

    def _append_failed(self, failure: BaseException | None) -> None:
        if isinstance(failure, Fenced):
            log.warning("fenced: another node has claimed the log (%s); stepping down", failure)
            self._step_down()
        else:
            if not isinstance(failure, Indeterminate):
                log.error("append failed: %r", failure)
            self._fail_pending(CLOSED_TEXT)

    def _fail_pending(self, text: str) -> None:
        """Nothing pending will be confirmed to its clients: tell them so."""
        clients: dict[Client, None] = {}
        for batch in self.engine.commit.stop():
            for client in batch.clients:
                clients[client] = None
        for client in clients:
            client.fail_held(text)
            client.flush()

    def _time_out(self) -> None:
        """Answer what has waited longer than commit-timeout; the batches themselves go on."""
        limit = self.config.commit_timeout_ms
        now = time.monotonic()
        for batch in self.engine.commit.pending:
            if (now - batch.opened) * 1000 < limit:
                break
            clients, batch.clients = batch.clients, []
            for client in clients:
                client.fail_held(timeout_text(limit), batch)
                client.flush()

    # -- stepping down

    def _step_down(self) -> None:
        """Fenced: answer nothing that was pending, forget the state, follow the log as a replica."""
        engine = self.engine
        engine.gate, engine.gate_error = LOADING, LOADING_TEXT
        self.role = "loading"
        self._fail_pending(FENCED_TEXT)
        engine.reset_state()
        self.follower = Follower(self.log, engine)
        engine.commit = Commit(self.committing.append, self.committing.schedule)
        engine.commit.on_room = self._resume_all
        self._follow_task = asyncio.get_running_loop().create_task(self._follow_again())

    async def _follow_again(self) -> None:
        """Let go of the log as its writer, rebuild, and follow."""
        if self.writer is not None:
            await self.writer.close()
            self.writer = None
        await self._follow(rebuilt=False)

    def _become_replica(self) -> None:
        """Serve reads of what is applied, refuse writes, and follow the log in a task of its own."""
        self._serve_reads()
        self._follow_task = asyncio.get_running_loop().create_task(self._follow(rebuilt=True))

    def _serve_reads(self) -> None:
        self.role = "replica"
        self.engine.gate, self.engine.gate_error = FOLLOWING, READONLY_TEXT
        self.follower.on_record = self._followed

    async def _follow(self, *, rebuilt: bool) -> None:
        """Follow until the node is closed. What is applied is served on while the log cannot be reached.

        A log that cannot be followed any further (damage, trimmed history, a newer format) ends the service: a replica
        that stands still for ever and answers is a plausible lie.
        """
        while True:
            try:
                if not rebuilt:
                    await self._replay()
                    self._serve_reads()
                    rebuilt = True
                await self.follower.follow()
            except Unavailable as error:
                log.warning("the log cannot be followed now: %s; trying again", error)
                await asyncio.sleep(FOLLOW_RETRY_SECONDS)
            except LogError as error:
                log.error("the log cannot be followed behind offset %d: %s", self.follower.offset, error)
                self.role = "loading"
                text = f"MASTERDOWN this replica cannot follow its log behind offset {self.follower.offset}: {error}"
                self.engine.gate, self.engine.gate_error = LOADING, " ".join(text.split())
                return

    def _followed(self, record: Record) -> None:
        """The engine answers reads by what is applied; its offsets follow."""
        commit = self.engine.commit
        commit.offset = commit.durable_offset = self.follower.offset
        if self.engine.waiting.offsets:
            self.engine.offset_reached()

    # -- timers, facts, closing

    def _tick(self) -> None:
        self._cron = asyncio.get_running_loop().call_later(CRON_SECONDS, self._tick)
        engine = self.engine
        engine.read_clock()
        engine.cron()
        if self.role == "primary":
            engine.expire_cycle()
            if engine.commit.pending:
                self._time_out()

    async def info(self) -> LogInfo:
        return await self.log.info()

    def facts(self) -> dict[str, str]:
        """What INFO shows of the node and its log."""
        commit = self.engine.commit
        found = {
            "role": self.role,
            "log_url": self.url,
            "node_name": self.name,
            "offset": str(commit.offset),
            "durable_offset": str(commit.durable_offset),
            "pending_batches": str(len(commit.pending)),
            "pending_bytes": str(commit.pending_size),
            "load_seconds": f"{self.load_seconds:.3f}",
            "events_replayed": str(self.follower.events),
        }
        writer = self.writer
        if writer is not None:
            stats = writer.stats
            found["epoch"] = str(writer.epoch)
            found["log_records"] = str(stats.records)
            found["log_transactions"] = str(stats.transactions)
            found["log_body_bytes"] = str(stats.body_bytes)
            found["log_stored_bytes"] = str(stats.stored_bytes)
            found["log_syncs"] = str(stats.syncs)
            found["log_zone_errors"] = str(stats.zone_errors)
        return found

    async def close(self) -> None:
        """Make what was accepted durable if the log allows, tell the clients otherwise, release everything."""
        if self._closed:
            return
        self._closed = True
        if self._cron is not None:
            self._cron.cancel()
        if self._follow_task is not None:
            self._follow_task.cancel()
            await asyncio.gather(self._follow_task, return_exceptions=True)
        if self.writer is not None:
            self.engine.commit.seal()
            await self.writer.close()
            await asyncio.sleep(0)  # the appends' callbacks free the last replies
        self._fail_pending(CLOSED_TEXT)
        await self.log.close()
