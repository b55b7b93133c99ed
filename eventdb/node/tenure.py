"""A tenure: one node's time as the primary, from its claim until it is fenced or gives the log back.

It keeps the lease by appending (a heartbeat when nothing else is), lists the nodes in the log, and stalls the engine
while the lease has lapsed. `lease.py` says why that is safe.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from eventdb.backends import RecordKind, Writer
from eventdb.backends.log import Pushing
from eventdb.cluster.lease import Holder, Statement
from eventdb.cluster.timing import (
    ALONE_S,
    BEATS,
    LAG_MS_MAX,
    LATE_S,
    LEASE_MS_MAX,
    LONE_LEASE_MS,
    MEMBER_S,
    PUSH_S,
    STATE_S,
)
from eventdb.engine.client import LEASELESS
from eventdb.pipeline.record_clock import RecordClock
from eventdb.protocol.errors import FAILOVER_ALONE, FAILOVER_NO_SUCH_REPLICA, ReplyError

if TYPE_CHECKING:
    from eventdb.cluster.topology import Member
    from eventdb.engine.engine import Engine
    from eventdb.pipeline.commit import Commit
    from eventdb.pipeline.turn import Timer

logger: Final = logging.getLogger("eventdb")

MEMBERS_MAX: Final = 256

LAPSED_TEXT: Final = (
    "MASTERDOWN this node could not renew its lease, because its log does not answer; the command was not run"
)


class Tenure:
    """Owns the writer's heartbeats, the lease and the list of followers. `monotonic` is in seconds."""

    def __init__(
        self,
        engine: Engine,
        writer: Writer,
        lease_ms: int,
        monotonic: Callable[[], float],
        on_failure: Callable[[BaseException], None],
        *,
        clock: RecordClock | None = None,
    ) -> None:
        self.engine = engine
        self.writer = writer
        self.me = engine.topology.me
        self.holder = Holder.here()
        self.shared_lease_ms = lease_ms  # with other candidates about
        self.lease_ms = LONE_LEASE_MS
        self.members: dict[str, Member] = {}
        self.lapsed = True  # until the first statement is durable
        self.lapsed_at = monotonic()
        self.refused_at = 0.0  # when what waits for the lease was last refused
        self.sent = 0.0  # when the newest append was sent
        self.on_members: Callable[[], None] | None = None
        self._monotonic = monotonic
        self._clock = clock or RecordClock(monotonic)  # of records
        self._on_failure = on_failure
        self._heard: dict[str, float] = {}
        self._stated = 0.0
        self._beats = 0  # heartbeats on their way
        self._beat_due = monotonic()
        # A lease that long commands need, in ms; 0: none. They wait until the log has it (`lengthen`).
        self._needed_ms = 0
        self._needed_at = 0.0  # when one of them last asked, or was let go
        self._long_waits = False
        self._stating = False  # a statement about the followers is on its way
        self._state_again = False  # and another one is due after it
        self._timer: Timer | None = None
        self._alone: Timer | None = None
        self._push = writer.push if isinstance(writer, Pushing) else None
        self._ended = False

    async def begin(self, followers: Iterable[Member]) -> None:
        """Make the first statement durable; from then on the node may answer. Raises LogError.

        followers: those the primary before has listed; they count until they are not heard of for MEMBER_S.
        """
        for member in followers:
            self.members[member.name] = member
            self._heard[member.name] = self._monotonic()
        if not self.lone:
            self.lease_ms = self.shared_lease_ms
        future = self._append(self._statement())
        sent = self.sent
        try:
            await future
        except BaseException:
            self.end()
            raise
        self.engine.on_lapse = self._lapse
        self.engine.on_long = self._lengthen
        self.engine.busy.on_progress = self._progress
        self._take_up(sent)
        self._beat()

    def end(self) -> None:
        """Nothing is appended any more, and nothing is answered by this lease."""
        self._ended = True
        self.engine.on_lapse = self.engine.on_long = self.engine.busy.on_progress = None
        self.engine.lease_until = math.inf
        for timer in (self._timer, self._alone):
            if timer is not None:
                timer.cancel()
        if self.engine.gate & LEASELESS:
            self._let_go()

    # -- the lease

    def durable(self, sent: float) -> None:
        """An append that was sent at that moment is durable: the lease runs from there, unless it has lapsed."""
        engine = self.engine
        if self._ended or self.lapsed:
            return
        if self._monotonic() > engine.lease_until:
            self._lapse()
            return
        until = sent + self.lease_ms / 1000
        if until > engine.lease_until:
            engine.lease_until = until
        if self._long_waits:
            self._long_waits = False
            engine.run_stalled_later()

    def _lengthen(self, seconds: float, waits: bool) -> None:
        """The loop may be busy for so long: make a lease durable that outlasts that, or renew the one there is."""
        self._long_waits = self._long_waits or waits
        self._needed_ms = max(self._needed_ms, min(int(seconds * 1000) + self.shared_lease_ms, LEASE_MS_MAX))
        self._needed_at = self._monotonic()
        if self.lease_ms < self._needed_ms:
            if not self._stating:
                self.state(changed=False)
        elif waits and self._beats < BEATS:
            now = self._monotonic()
            self._append(None).add_done_callback(lambda done: self._kept(now, done))

    @property
    def _wanted_ms(self) -> int:
        """How long a lease is to be."""
        return max(self._usual_ms, self._needed_ms)

    @property
    def _usual_ms(self) -> int:
        return LONE_LEASE_MS if self.lone else self.shared_lease_ms

    def _lapse(self) -> None:
        """Stall what reads and writes, and try to take the lease up again."""
        if self.lapsed or self._ended:
            return
        self.lapsed = True
        self.lapsed_at = self._monotonic()
        self.engine.lease_until = math.inf
        self.engine.gate |= LEASELESS
        logger.warning("the lease of %d ms has lapsed; answering waits until the log confirms it anew", self.lease_ms)
        self._try_to_resume()
        self._alone = self.engine.turn.later(ALONE_S, self._look_alone)

    def _try_to_resume(self) -> None:
        future = self._append(self._statement(resumed=True))
        sent = self.sent
        future.add_done_callback(lambda done: self._resumed(sent, done))

    def _resumed(self, sent: float, done: asyncio.Future[int]) -> None:
        if self._ended or done.cancelled() or done.exception() is not None:
            return  # `_appended` told the node
        if self._monotonic() > sent + self.lease_ms / 1000:
            self._try_to_resume()  # it took longer than a lease
            return
        logger.info("the lease is confirmed again, after %.1f s", self._monotonic() - self.lapsed_at)
        self._take_up(sent)

    def _take_up(self, sent: float) -> None:
        self.lapsed = False
        self.engine.lease_until = sent + self.lease_ms / 1000
        if self._alone is not None:
            self._alone.cancel()
            self._alone = None
        self._let_go()

    def _look_alone(self) -> None:
        """Whether to answer reads without a lease: asked for by a setting, which may be changed at any time."""
        if self.lone and self.engine.config.serve_stale_data == "yes":
            if self.engine.gate & LEASELESS:
                logger.warning("the log does not answer; reads of clean keys go on, and may be old")
                self._let_go()
        else:
            self.engine.gate |= LEASELESS

    def _let_go(self) -> None:
        self.engine.gate &= ~LEASELESS
        self.engine.run_stalled_later()

    def time_out(self, limit_ms: int) -> bool:
        """Refuse what has waited for the lease for longer than a client waits for a write. True: it is that late."""
        waited_since = max(self.lapsed_at, self.refused_at)
        if self.engine.gate & LEASELESS and (self._monotonic() - waited_since) * 1000 >= limit_ms:
            self.refused_at = self._monotonic()
            self.engine.refuse_stalled(LAPSED_TEXT)
            return True
        return False

    # -- heartbeats

    def _append(self, statement: Statement | None) -> asyncio.Future[int]:
        """Append a heartbeat, with a statement or one that repeats the last."""
        writer = self.writer
        body = b""
        if statement is not None:
            body = statement.encode()
            self._stated = self._monotonic()
        self.sent = self._monotonic()
        self._beats += 1
        future = writer.append(
            body,
            first_offset=writer.next_offset,
            count=0,
            time_ms=self._clock.now_ms(writer.last_time_ms),
            kind=RecordKind.HEARTBEAT,
        )
        future.add_done_callback(self._appended)
        return future

    def _appended(self, done: asyncio.Future[int]) -> None:
        self._beats -= 1
        failure = None if done.cancelled() else done.exception()
        if failure is not None and not self._ended:
            self._on_failure(failure)

    def _beat(self) -> None:
        """Look after the lease and the list of followers, `BEATS` times a lease."""
        if self._ended:
            return
        now, due = self._monotonic(), self._beat_due
        interval = self._rearm()
        held_up = now - due
        if held_up > interval:  # by a long command: what the followers have said meanwhile is not yet read
            for name in self._heard:
                self._heard[name] += held_up
        if self._needed_ms and not self._stating and now - self._needed_at > interval:
            self._needed_ms = 0
            self.state(changed=False)
        if not self.lapsed and now > self.engine.lease_until:
            self._lapse()
        elif self.lapsed and now - self.lapsed_at > ALONE_S:
            self._look_alone()
        gone = [name for name, heard in self._heard.items() if now - heard > MEMBER_S]
        for name in gone:
            del self.members[name], self._heard[name]
        for name, heard in self._heard.items():  # its lag is at least as long as its silence
            if now - heard > LATE_S:
                self.members[name].lag_ms = max(self.members[name].lag_ms, int((now - heard) * 1000))
        if gone:
            self.state(changed=True)
        elif self._beats >= BEATS:
            return  # the log does not answer: more of them would not help
        elif now - self._stated > STATE_S:
            self.state(changed=False)
        elif now - self.sent > interval / 2:
            self._append(None).add_done_callback(lambda done: self._kept(now, done))

    def _progress(self) -> None:
        """A script keeps the loop and has got on: beat for it, as the loop would. Called every few milliseconds.

        It says no more than a usual heartbeat: the lease is as short as before, so a process that hangs in the middle
        of a script is replaced as soon as any other. What becomes durable is heard of when the loop turns again; if
        that is after the lease that is known of, it is taken up anew like any that has lapsed.
        """
        now = self._monotonic()
        if not self._ended and now - self.sent > min(self.lease_ms, self._usual_ms) / 1000 / BEATS / 2:
            self._append(None).add_done_callback(lambda done: self._kept(now, done))
        if self._push is not None and self._beats:
            self._push(PUSH_S)

    def _rearm(self) -> float:
        """Beat again after the interval that is returned; a long lease is kept as closely as a usual one."""
        if self._timer is not None:
            self._timer.cancel()
        interval = min(self.lease_ms, self._usual_ms) / 1000 / BEATS
        self._timer = self.engine.turn.later(interval, self._beat)
        self._beat_due = self._monotonic() + interval
        return interval

    def _kept(self, sent: float, done: asyncio.Future[int]) -> None:
        if not done.cancelled() and done.exception() is None:
            self.durable(sent)

    # -- the nodes of the log

    @property
    def lone(self) -> bool:
        """No other node that could take over is known."""
        return not any(member.candidate for member in self.members.values())

    def announced(self, member: Member) -> None:
        """A follower stated its name and how far it has come."""
        known = self.members.get(member.name)
        if known is None and len(self.members) >= MEMBERS_MAX:
            logger.warning("%s at %s is not listed: %d nodes are", member.name, member.address, MEMBERS_MAX)
            return
        self.members[member.name] = member
        self._heard[member.name] = self._monotonic()
        if known is None or (known.address, known.candidate) != (member.address, member.candidate):
            logger.info("%s follows at %s", member.name, member.address)
            self.state(changed=True)
        elif self.on_members is not None:
            self.on_members()

    def check_successor(self, member: Member) -> None:
        """Raises ReplyError when this follower could not take over at once: writes would wait until it can."""
        silent_s = self._monotonic() - self._heard.get(member.name, -math.inf)
        if silent_s > LATE_S:
            raise ReplyError(
                f"ERR {member.address} has not been heard of for {silent_s:.1f} s; nothing was handed over"
            )
        if member.lag_ms > LAG_MS_MAX:
            raise ReplyError(f"ERR {member.address} is {member.lag_ms} ms behind the log; nothing was handed over")

    def state(self, *, changed: bool) -> None:
        """Write into the log which nodes there are, and for how long a lease runs now.

        A shorter lease binds this node from the moment the word is sent; a longer one only once the word is durable.
        """
        if changed and self.on_members is not None:
            self.on_members()
        wanted = self._wanted_ms
        if self.lapsed and not self.lone:
            self.engine.gate |= LEASELESS  # it may have gone on alone
        if wanted < self.lease_ms:
            self.lease_ms = wanted
            self.engine.lease_until = min(self.engine.lease_until, self._monotonic() + wanted / 1000)
            if self._timer is not None:
                self._rearm()
        if self._stating:  # one at a time: a node that announces itself often must not fill the log
            self._state_again = True
            return
        self._stating = True
        future = self._append(self._statement(lease_ms=wanted))
        sent = self.sent
        future.add_done_callback(lambda done: self._said(sent, wanted, done))

    def _said(self, sent: float, lease_ms: int, done: asyncio.Future[int]) -> None:
        self._stating = False
        if self._ended or done.cancelled() or done.exception() is not None:
            return
        self._needed_at = self._monotonic()
        if self._state_again:
            self._state_again = False
            self.state(changed=True)
        if not self.lapsed and self.lease_ms < lease_ms <= self._wanted_ms:
            self.lease_ms = lease_ms
        self.durable(sent)

    def _statement(
        self, *, lease_ms: int = 0, resumed: bool = False, released: bool = False, successor: str = ""
    ) -> Statement:
        return Statement(
            self.me.name,
            self.me.address,
            lease_ms or self.lease_ms,
            tuple(self.members.values()),
            self.holder,
            released,
            successor,
            resumed,
        )

    async def release(self, successor: str = "") -> int:
        """Give the lease back: nothing is answered by it, or appended, from here on.

        Returns the position of the word in the log once it is durable. Raises LogError.
        """
        self.end()
        return await self._append(self._statement(released=True, successor=successor))

    def give_up(self) -> None:
        """The same for a node that stops: the writer's closing waits for the word, if a majority answers."""
        self.end()
        self._append(self._statement(released=True))

    def successor(self, address: str | None) -> Member:
        """Who is to take over: the one at this address, else the one that has most of the log. Raises ReplyError."""
        candidates = [member for member in self.members.values() if member.candidate]
        if address is not None:
            candidates = [member for member in candidates if member.address == address]
            if not candidates:
                raise ReplyError(FAILOVER_NO_SUCH_REPLICA)
        if not candidates:
            raise ReplyError(FAILOVER_ALONE)
        return max(candidates, key=lambda member: member.offset)


async def all_durable(commit: Commit, seconds: float) -> bool:
    """Wait for what was accepted, at most so long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while commit.pending and not commit.stopped and loop.time() < deadline:
        await asyncio.sleep(0.001)
    return not commit.pending
