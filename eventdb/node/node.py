"""A node: one engine on one log, and what it is on it.

    start     rebuild (replay the log), then claim if the log is free or we were told to; else follow
    replica   follow; when the log has been silent for a lease: look once more, claim (fence, adopt), replay the rest
    primary   commit; Fenced -> forget everything, rebuild, follow; hand-over -> give the lease back, follow

The server and the embedded API both run a node; it knows neither sockets nor commands.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import random
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from eventdb.backends import (
    Fenced,
    Indeterminate,
    Log,
    LogError,
    LogInfo,
    Record,
    Trimmed,
    Unavailable,
    Writer,
    open_log,
)
from eventdb.cluster.lease import AskedRole
from eventdb.cluster.timing import (
    BEATS,
    CLAIM_ATTEMPTS,
    CRON_S,
    FOLLOW_RETRY_S,
    GIVE_BACK_S,
    HAND_OVER_MS,
    LEASE_MS,
    MARGIN,
)
from eventdb.cluster.topology import Member
from eventdb.engine.client import FOLLOWING, FRESH, LOADING, OBSERVED
from eventdb.engine.engine import Engine
from eventdb.engine.host import FAILOVER_IN_PROGRESS, NO_FAILOVER, WAITING_FOR_SYNC
from eventdb.keyspace.types.zset import rank_large
from eventdb.node.answers import facts, fields_of
from eventdb.node.freshness import Freshness
from eventdb.node.giving import Giving
from eventdb.node.hand_over import drained
from eventdb.node.parting import Parting
from eventdb.node.rebuilding import Rebuilding
from eventdb.node.reloading import Reloading
from eventdb.node.restoring import Restoring
from eventdb.node.role import Happening, Role, after
from eventdb.node.saving import Saving
from eventdb.node.succession import Ground, Standing
from eventdb.node.tenure import Tenure, all_durable
from eventdb.node.traces import Traces, traced
from eventdb.node.unanswered import CLOSED_TEXT, FENCED_TEXT, fail_pending, time_out
from eventdb.pipeline.appending import Appending
from eventdb.pipeline.commit import Commit
from eventdb.protocol.errors import FAILOVER_ON_REPLICA, FAILOVER_UNDER_WAY, ReplyError
from eventdb.protocol.replies import integer
from eventdb.replay.follower import Follower, OnProgress
from eventdb.replay.store import StoreError

if TYPE_CHECKING:
    from eventdb.engine.client import Client
    from eventdb.engine.settings import Config
    from eventdb.keyspace.choice import Choice
    from eventdb.replay.cut import Wanted

logger: Final = logging.getLogger("eventdb")

LAG_KNOWN_MS_MAX: Final = 1 << 40
TICK_S: Final = 0.001  # what the clock of deadlines can tell apart
STOPPING_TEXT: Final = "LOADING eventdb is stopping; the command was not run"
READONLY_TEXT: Final = "READONLY You can't write against a read only replica."
LOADING_TEXT: Final = "LOADING eventdb is loading the dataset in memory"


class Node:
    """Owns the log, the writer, the engine and the timers of one node.

    asked: the role it is to have. lease_ms: of its own leases while other candidates are about. monotonic: seconds, for
    leases; rng: for the spread of claims. Both are given by a simulation.
    """

    def __init__(
        self,
        url: str,
        config: Config,
        name: str = "",
        address: str = "",
        *,
        asked: AskedRole = AskedRole.PRIMARY,
        lease_ms: int = LEASE_MS,
        monotonic: Callable[[], float] = time.perf_counter,
        rng: random.Random | None = None,
    ) -> None:
        self.asked = asked
        self.lease_ms = lease_ms
        self.config = config
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self.address = address
        self.log: Log = open_log(url, keys=config.encryption_keys)
        self.url = self.log.url  # as it may be shown
        self.monotonic = monotonic
        self.appending = Appending(self._failed, monotonic)
        self.tenure: Tenure | None = None
        self.role = Role.LOADING
        self.on_progress: OnProgress | None = None  # told how a rebuild goes
        self.engine = Engine(config, self._new_commit())
        self.engine.host = self
        self.engine.tick_s = TICK_S
        self.appending.on_reached = self.engine.offset_reached
        self.on_shutdown: Callable[[], None] | None = None  # set by a server
        self.standing = Standing(self.name, monotonic, rng or random.Random())
        self.standing.on_change = self._members_changed
        self.parting = Parting(self.engine)
        self.freshness = Freshness(self.engine)
        self.freshness.hurry = self.log.hurry
        self._follow_task: asyncio.Task[None] | None = None
        self._handing_over: asyncio.Task[None] | None = None
        self._shown, self._behind = 0, False  # the offset that clients have seen here; the log has less
        self.reloading = Reloading(self.engine, self.log)
        self.rebuilding = Rebuilding(self.engine, self.log, self.standing)
        self.giving = Giving(self.engine, self.log, url)
        self.give_state = self.giving.begin  # SYNC
        self.restoring = Restoring(self.engine, self.log, url)
        self.saving = Saving(self.engine, self.log, url)
        self.save, self.saves = self.saving.begin, self.saving.saves  # BGSAVE, LASTSAVE
        self._cron: asyncio.TimerHandle | None = None
        self._ticked = math.inf  # the loop's time then
        self._held_up = self._closed = False
        self._new_follower()
        self.load_seconds = 0.0
        self.traces: Traces | None = None  # see `Server`

    def _new_commit(self) -> Commit:
        commit = Commit(self.appending.append, self.appending.schedule)
        commit.on_room = self._resume_all
        self.appending.commit = commit
        return commit

    def _new_follower(self) -> None:
        self.follower = Follower(self.log, self.engine, on_record=self._followed, on_slice=self._applied)

    def _happens(self, event: Happening) -> None:
        self.role = after(self.role, event)

    @property
    def writer(self) -> Writer | None:
        return self.appending.writer

    @writer.setter
    def writer(self, writer: Writer | None) -> None:
        self.appending.writer = writer

    # -- becoming a primary

    @traced("start", facts)
    async def start(self) -> None:
        """Rebuild, and be ready as what the log and `asked` allow. Raises LogError: it cannot be read, or claimed."""
        engine = self.engine
        engine.turn.call_later = asyncio.get_running_loop().call_later
        engine.gate, engine.gate_error = engine.gate & OBSERVED | LOADING, LOADING_TEXT
        engine.topology.introduce(self.name, self.address, self.asked is not AskedRole.REPLICA)
        began = time.perf_counter()
        await self._replay()
        if self.config.cluster_enabled == "yes" and any(db.values for db in engine.store.keyspace.dbs[1:]):
            raise LogError("the log holds keys in other databases than 0, which cluster-enabled does not have")
        if not await self._claim_at_start():
            self._become_replica(Happening.REBUILT)
        self.load_seconds = time.perf_counter() - began
        self._tick()

    async def _claim_at_start(self) -> bool:
        if self.asked is AskedRole.PRIMARY:
            await self._take_log(Ground.FREE if self.standing.is_free() else Ground.FORCE, CLAIM_ATTEMPTS)
            return True
        if self.asked is AskedRole.REPLICA or not self.standing.may_begin():
            return False
        try:
            await self._take_log(Ground.FREE)
        except Fenced as error:
            logger.info("another node was faster: %s", error)
            return False
        return True

    @traced("claim", facts)
    async def _take_log(self, ground: Ground, attempts: int = 1) -> None:
        """Claim the log and be the primary. Raises LogError; then it is none."""
        self.standing.decide(ground)
        writer = await self._claim(attempts)
        try:
            await self._replay()
            if (wait_s := self.standing.wait_s()) > 0:
                logger.info("waiting %.3f s, until the lease of the primary before has lapsed", wait_s)
                await asyncio.sleep(wait_s)
            if self.follower.offset >= writer.next_offset:
                raise Fenced("another node has claimed the log since, and written to it")
            assert writer.next_offset == self.follower.offset + 1
            clock = self.appending.clock
            tenure = Tenure(self.engine, writer, self.lease_ms, self.monotonic, self._failed, clock=clock)
            await tenure.begin(self.standing.others())
        except BaseException:
            await writer.close()
            raise
        self._begin_tenure(writer, tenure)

    def _begin_tenure(self, writer: Writer, tenure: Tenure) -> None:
        engine = self.engine
        self.writer, self.tenure = writer, tenure
        self.appending.on_durable = tenure.durable
        tenure.on_members = self._members_changed
        for db in engine.store.keyspace.dbs:
            db.track_deadlines()
        rank_large(engine.store.keyspace)
        engine.gate &= ~(LOADING | FOLLOWING | FRESH)
        self._happens(Happening.CLAIMED)
        self._members_changed()
        self.parting.returned()
        self.freshness.all_fresh()
        logger.info("primary of epoch %d after offset %d", writer.epoch, self.follower.offset)

    async def _claim(self, attempts: int) -> Writer:
        for attempt in range(attempts):
            try:
                return await self.log.claim(self.name, self.address)
            except Fenced:  # lost a race to a claim made at the same time
                if attempt == attempts - 1:
                    raise
        raise AssertionError("unreachable")

    @traced("replay", facts)
    async def _replay(self) -> None:
        """Apply everything the log holds after what was applied so far, at full speed."""
        await self.rebuilding.run(self.follower, self.on_progress)
        self.engine.commit.start_at(self.follower.offset)

    # -- committing

    def _resume_all(self) -> None:
        """The pipeline has room again."""
        for client in self.engine.clients.values():
            client.sink.resume()

    # -- stepping down

    def _failed(self, failure: BaseException | None) -> None:
        """An append of this tenure failed; None: it was cancelled."""
        if self.tenure is None or self.role is Role.CLOSED:
            return
        if isinstance(failure, Fenced):
            logger.warning("fenced: another node has claimed the log (%s); stepping down", failure)
            self._step_down()
        else:
            if not isinstance(failure, Indeterminate):
                logger.error("append failed: %r", failure)
            self._step_down(CLOSED_TEXT)

    def _step_down(self, text: str = FENCED_TEXT) -> None:
        """Fenced: answer nothing that was pending, forget the state, follow the log as a replica."""
        engine = self.engine
        self._end_tenure()
        engine.resume_writes()
        engine.unpause()
        engine.topology.update(engine.topology.epoch, None, engine.topology.members.values())
        self._forget(Happening.FENCED, text)
        self.parting.stepped_down()
        self._follow_task = asyncio.get_running_loop().create_task(self._follow_again())

    def _forget(self, event: Happening, text: str = LOADING_TEXT) -> None:
        """Nothing is answered from here on, and the state is built anew: all of it, so the follower is a new one."""
        engine = self.engine
        self._happens(event)
        engine.gate, engine.gate_error = engine.gate & OBSERVED | LOADING, LOADING_TEXT
        fail_pending(engine.commit, text)
        self._shown = max(self._shown, engine.commit.durable_offset)
        engine.reset_state()
        self._new_follower()
        engine.begin_commit(self._new_commit())

    def _end_tenure(self) -> None:
        self.appending.on_durable = None
        if self.tenure is not None:
            self.tenure.end()
            self.tenure = None

    async def _follow_again(self) -> None:
        """Let go of the log as its writer, rebuild, and follow."""
        await self._close_writer()
        await self._follow(rebuilt=False)

    async def _close_writer(self) -> None:
        writer, self.writer = self.writer, None
        if writer is not None:
            await writer.close()

    def fail_over(self, address: str | None, timeout_ms: int) -> None:
        """FAILOVER: check what can be checked at once, then hand over in the background. Raises ReplyError."""
        if self.tenure is None:
            raise ReplyError(FAILOVER_ON_REPLICA)
        if self._handing_over is not None and not self._handing_over.done():
            raise ReplyError(FAILOVER_UNDER_WAY)
        self.tenure.check_successor(self.tenure.successor(address))
        self.engine.failover_state = WAITING_FOR_SYNC
        self._handing_over = asyncio.get_running_loop().create_task(self._fail_over(address, timeout_ms))

    async def _fail_over(self, address: str | None, timeout_ms: int) -> None:
        if self.engine.failover_state != WAITING_FOR_SYNC:
            return  # aborted before it began
        try:
            await self.hand_over(address, timeout_ms or HAND_OVER_MS)
        except ReplyError as error:
            logger.warning("the hand-over has failed: %s", error.text)
        finally:
            self.engine.failover_state = NO_FAILOVER

    @traced("hand-over", facts)
    async def hand_over(self, address: str | None, timeout_ms: int) -> str:
        """Give the lease to a follower and follow it; returns the address of the one that takes over.

        address: of the follower meant, or None for the one that is furthest. Writes wait meanwhile, and are then
        answered as a replica answers them. Raises ReplyError when nothing was given away.
        """
        tenure, engine = self.tenure, self.engine
        if tenure is None:
            raise ReplyError(FAILOVER_ON_REPLICA)
        successor = tenure.successor(address)
        tenure.check_successor(successor)
        engine.pause_writes(timeout_ms)
        engine.failover_state = WAITING_FOR_SYNC
        try:
            await drained(engine, timeout_ms / 1000, self.monotonic)
            engine.failover_state = FAILOVER_IN_PROGRESS
            if self.tenure is not tenure:
                raise ReplyError("ERR another node has taken the log over meanwhile")
            engine.gate |= FOLLOWING
            self.parting.hold(timeout_ms / 1000)
            engine.gate_error = READONLY_TEXT
            self._happens(Happening.HANDS_OVER)
            logger.info("handing over to %s at %s", successor.name, successor.address)
            self.tenure, self.standing.statement = None, None
            members = engine.topology.members.values()
            engine.topology.update(engine.topology.epoch, None, members, handing_over=True)
            position = await asyncio.wait_for(tenure.release(successor.name), timeout_ms / 1000)
            await self._close_writer()
            engine.step_aside()
            # It reads its own last word again, as every follower does.
            self.follower.offset, self.follower.next_position = engine.commit.durable_offset, position
            self._become_replica(Happening.RELEASED)
        except ReplyError:
            raise
        except Exception as error:
            if self.role is not Role.CLOSED:
                self._step_down()
            raise ReplyError(f"ERR the outcome of the hand-over is unknown: {error or 'no answer in time'}") from None
        finally:
            engine.failover_state = NO_FAILOVER
            engine.resume_writes()
        return successor.address

    # -- following

    def _become_replica(self, event: Happening) -> None:
        """Serve reads of what is applied, refuse writes, and follow the log in a task of its own."""
        self._serve_reads(event)
        self._follow_task = asyncio.get_running_loop().create_task(self._follow(rebuilt=True))

    def _serve_reads(self, event: Happening) -> None:
        """Unless the log shows less, now, than this node did before it stepped down: its clients would go back."""
        self._behind = self.role is Role.LOADING and self.follower.offset < self._shown
        if self._behind:
            logger.warning("the log shows offset %d, and this node has shown %d", self.follower.offset, self._shown)
            return
        self._happens(event)
        engine = self.engine
        engine.gate = engine.gate & ~LOADING | FOLLOWING
        if self.config.replica_read_mode == "fresh":
            engine.gate |= FRESH
        engine.gate_error = READONLY_TEXT
        self._members_changed()

    async def _follow(self, *, rebuilt: bool) -> None:
        """Follow until the node is closed or the primary. What is applied is served on while the log cannot be reached.

        A log that cannot be followed any further (damage, a newer format, trimmed history and no snapshot) ends the
        service: a replica that stands still for ever and answers is a plausible lie.
        """
        while self.role is not Role.CLOSED:
            try:
                if not rebuilt:
                    await self._replay()
                    self._serve_reads(Happening.REBUILT)
                    rebuilt = True
                await self._follow_until_silence()
                if await self._take_over():
                    return
            except Fenced as error:
                logger.info("another node was faster: %s", error)
            except (Unavailable, StoreError) as away:
                logger.warning("the log cannot be followed now: %s; trying again", away)
                await asyncio.sleep(FOLLOW_RETRY_S)
            except Exception as failure:
                if not isinstance(failure, Trimmed) or not self.rebuilding.can_begin_anew():
                    self._lose_log(failure)
                    return
                logger.warning("%s; beginning anew with a snapshot", failure)
                self._forget(Happening.OUTRUN)
                rebuilt = False

    def _lose_log(self, error: Exception) -> None:
        known, offset = isinstance(error, LogError), self.follower.offset
        logger.error("the log cannot be followed after offset %d: %s", offset, error, exc_info=not known)
        self._happens(Happening.LOST_LOG)
        text = f"MASTERDOWN this replica cannot follow its log after offset {offset}: {error}"
        self.engine.gate, self.engine.gate_error = LOADING, " ".join(text.split())

    async def _follow_until_silence(self) -> None:
        """Follow; return when it is this node's turn to claim, if it may at all. Raises LogError."""
        loop = asyncio.get_running_loop()
        silence = loop.create_future() if self.asked is AskedRole.REPLICA else self.standing.silence()
        following = loop.create_task(self.follower.follow())
        try:
            await asyncio.wait((following, silence), return_when=asyncio.FIRST_COMPLETED)
        finally:
            silence.cancel()
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following

    @traced("take-over", facts)
    async def _take_over(self) -> bool:
        """Nothing was heard for a lease: if that is so at the log's proven end, claim. False: a primary exists."""
        heard_at = self.standing.heard_at
        await self._replay()
        if self.standing.heard_at != heard_at and not self.standing.is_free():
            return False
        ground = Ground.FREE if self.standing.is_free() else Ground.SILENCE
        why = "nobody holds the lease" if ground is Ground.FREE else "the primary's lease has lapsed"
        logger.warning("%s; claiming the log", why)
        try:
            await self._take_log(ground)
        except (Fenced, Unavailable):
            raise
        except LogError as error:
            logger.error("the log cannot be claimed: %s; trying again", error)
            await asyncio.sleep(FOLLOW_RETRY_S)
            return False
        return True

    def _followed(self, record: Record) -> None:
        """A record was applied: the engine answers reads by what is applied, its offsets follow."""
        self.standing.heard(record)
        if self._behind and self.follower.offset >= self._shown:
            self._serve_reads(Happening.REBUILT)
        if self.role is Role.REPLICA:
            me = self.engine.topology.me
            me.lag_ms = min(max(int(time.time() * 1000) - record.time_ms, 0), LAG_KNOWN_MS_MAX)  # two machines' clocks
            self._applied()
            if self.engine.topology.primary is None and not self.standing.claimed:
                self._members_changed()

    def _look_for_silence(self) -> None:
        """On a replica: while the log is silent its lag grows by as much, and at last there is no primary."""
        topology, lease_ms = self.engine.topology, self.standing.lease_ms
        silent_ms = self.standing.silent_s() * 1000
        if silent_ms > 2 * lease_ms / BEATS:
            topology.me.lag_ms = max(topology.me.lag_ms, min(int(silent_ms), LAG_KNOWN_MS_MAX))
        if not topology.is_down and silent_ms > self._silence_s() * 1000:
            whom = topology.primary.address if topology.primary is not None else "the primary's successor"
            logger.warning("nothing was heard from %s for %.1f s", whom, silent_ms / 1000)
            topology.update(topology.epoch, None, topology.members.values())

    def _silence_s(self) -> float:
        """Seconds without a word after which a replica calls nobody the primary."""
        return (1 + 2 * MARGIN) * self.standing.lease_ms / 1000

    def _applied(self) -> None:
        """Clients may look at the state now, so it must have its offset."""
        if self.role is not Role.REPLICA:
            return
        commit = self.engine.commit
        commit.offset = commit.durable_offset = self.engine.topology.me.offset = self.follower.offset
        self.engine.offset_reached()
        self.freshness.reached()

    # -- the nodes of the log

    def announced(self, member: Member, said: dict[str, object]) -> bytes | None:
        """EVENTDB.ANNOUNCE: the primary keeps the list, and answers with its durable offset."""
        if self.tenure is None:
            return None
        self.tenure.announced(member)
        return integer(self.engine.commit.durable_offset)

    def _members_changed(self) -> None:
        """Bring the engine's list of nodes up to date, from our own tenure or from what the log says."""
        topology, tenure, said = self.engine.topology, self.tenure, self.standing.statement
        if self.role in (Role.LOADING, Role.STUCK):
            return  # the log is being read from its beginning: it names primaries of long ago
        if tenure is not None:
            topology.update(tenure.writer.epoch, topology.me, tenure.members.values())
        elif said is not None:
            known = topology.primary.offset if topology.primary is not None else 0
            primary = None if said.released or said.name == self.name else Member(said.name, said.address, offset=known)
            handing_over = said.released and bool(said.successor) and self.standing.silent_s() <= self._silence_s()
            topology.update(self.standing.epoch, primary, said.members, handing_over=handing_over)
            if primary is not None:
                self.parting.found(self._silence_s())

    # -- timers, fields, closing

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._cron = loop.call_later(CRON_S, self._tick)
        # After a long command it is not yet known what has become durable meanwhile: look once more before judging.
        held_up = not self._held_up and loop.time() - self._ticked > 2 * CRON_S
        self._held_up, self._ticked = held_up, loop.time()
        engine = self.engine
        engine.read_clock()
        engine.cron()
        if self.role is Role.REPLICA:
            self._look_for_silence()
        if self.role is Role.PRIMARY:
            began = time.perf_counter()
            engine.expire_cycle()
            engine.statistics.expire_seconds += time.perf_counter() - began
            engine.accounting.latencies.event("expire-cycle", (time.perf_counter() - began) * 1e6)
            if engine.commit.pending and not held_up:
                time_out(engine.commit, self.config.commit_timeout_ms)
        if self.tenure is not None and not held_up:
            if self.tenure.time_out(self.config.commit_timeout_ms) and not self.tenure.lone:
                self.parting.close_all()  # another node may be the primary by now, and this one cannot hear of it

    def port(self) -> int:
        """Where it listens."""
        return self.config.port or self.config.tls.port

    def shut_down(self) -> bool:
        if self.on_shutdown is None:
            return False
        self.on_shutdown()
        return True

    def reload(self, done: Callable[[str], None]) -> None:
        """DEBUG RELOAD."""
        tenure = self.tenure
        if tenure is None:
            raise ReplyError("ERR a replica follows the log already: only the primary rebuilds its state")
        self.reloading.begin(lambda: self.tenure is tenure, done)

    def restore(self, client: Client, to: Wanted, choice: Choice, dry: bool) -> bytes:
        """EVENTDB.RESTORE."""
        tenure = self.tenure
        if tenure is None:
            raise ReplyError("ERR only the primary restores in place")
        return self.restoring.call(client, to, choice, dry, lambda: self.tenure is tenure)

    async def info(self) -> LogInfo:
        return await self.log.info()

    def info_fields(self) -> dict[str, str]:
        lease_ms = self.tenure.lease_ms if self.tenure is not None else self.standing.lease_ms
        commit, events = self.engine.commit, self.follower.events
        return fields_of(self.role, self.url, self.name, lease_ms, self.appending, commit, events, self.load_seconds)

    async def close(self) -> None:
        """Make what was accepted durable if the log allows, else say so to the clients; release everything."""
        if self.role is Role.CLOSED:
            return
        self._happens(Happening.CLOSED)
        # What is run from here on could be read off a state that somebody else already changes, or is not durable.
        self.engine.gate |= LOADING
        self.engine.gate_error = STOPPING_TEXT
        if self._cron is not None:
            self._cron.cancel()
        for task in (self._handing_over, self._follow_task, self.reloading.task):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self.giving.close()
        await self.restoring.close()
        await self.rebuilding.close()
        await self.saving.close()
        if self.writer is not None:
            self.engine.commit.seal()
            if self.tenure is not None and await all_durable(self.engine.commit, GIVE_BACK_S):
                self.tenure.give_up()  # not earlier: a successor's claim would cut off what was accepted
            await self._close_writer()
            await asyncio.sleep(0)  # the appends' callbacks free the last replies
        fail_pending(self.engine.commit, CLOSED_TEXT)
        await self.log.close()
