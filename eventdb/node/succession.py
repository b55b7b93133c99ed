"""What the log says of its primary, and for how long it has said nothing: when a follower may take over.

The rules and why they are safe are in `lease.py`. Followers take turns: the one that the primary lists first claims
first, the next a little later, so that they rarely meet.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

from eventdb.backends import Record, RecordKind
from eventdb.cluster.lease import Statement, silence_s
from eventdb.cluster.timing import LEASE_MS_MAX, LONE_LEASE_MS, MARGIN, SPREAD_S, TURN_S
from eventdb.cluster.topology import Member
from eventdb.replay.completeness import RESTORED, RESTORING, claimant

logger: Final = logging.getLogger("eventdb")


class Ground(Enum):
    """Why a claim may be made."""

    FREE = 1  # nobody holds a lease
    SILENCE = 2  # nothing was heard for as long as one lasts
    FORCE = 3  # somebody said so


class Standing:
    """Fed with every record that the follower passes. `monotonic` is in seconds and never set back."""

    def __init__(self, name: str, monotonic: Callable[[], float], rng: random.Random) -> None:
        self.name = name
        self.epoch = 0
        self.statement: Statement | None = None  # the newest one, of this epoch or an earlier one
        self.claimed = False  # the epoch's claimant has made no statement yet, so it has not begun to answer
        self.restored = False  # and it was a restore, which never will
        self.unknown = False  # reading began after the newest statement: somebody may hold a lease of any length
        self.heard_at = monotonic()
        self.time_ms = 0  # of the newest record, by its primary's clock
        self.on_change: Callable[[], None] | None = None
        self._ground = Ground.FORCE
        # epoch, heard_at, time_ms and lease_ms when the claim was decided on
        self._decided: tuple[int, float, int, int] = (0, 0.0, 0, 0)
        self._renewed = False  # after that, somebody has taken a lease up
        self._monotonic = monotonic
        self._chance_s = rng.uniform(0, SPREAD_S)
        self._timer: asyncio.TimerHandle | None = None
        self._silent: asyncio.Future[None] | None = None

    # -- what is read

    def heard(self, record: Record) -> None:
        """A record was read; claims and heartbeats name the primary."""
        self.heard_at = self._monotonic()
        self.time_ms = record.time_ms
        if record.kind is RecordKind.DATA:
            return
        self.epoch = record.epoch
        if record.kind is RecordKind.CLAIM:
            self.claimed = True
            self.restored = claimant(record) in (RESTORING, RESTORED)
            return
        if not record.body:
            return
        try:
            statement = Statement.decode(record.body)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            logger.error("the heartbeat at position %d makes no sense: %s", record.position, error)
            return
        self._renewed = self._renewed or self.claimed or statement.resumed or record.epoch > self._decided[0]
        self.statement = statement
        self.claimed = self.restored = self.unknown = False
        if self.on_change is not None:
            self.on_change()
        self._rearm()

    def begins_after(self, words: Sequence[Record], *, whole: bool) -> None:
        """Reading begins in the middle of the log: these are the latest claims and heartbeats before, as far as kept.

        whole: they are all that there ever were. Else, without a statement among them, nothing is known of who holds a
        lease, and for how long.
        """
        self.statement, self.claimed, self.restored, self.unknown = None, False, False, not whole
        for record in words:
            self.heard(record)

    def silent_s(self) -> float:
        """Seconds since the last record was read."""
        return self._monotonic() - self.heard_at

    # -- which node may claim

    def is_free(self) -> bool:
        """Nobody holds a lease, for certain: none was ever stated, or it was given back, or its process has ended."""
        said = self.statement
        if self.unknown or (self.claimed and not self.restored):
            return False  # somebody has claimed since, and may begin to answer at any moment
        return said is None or said.released or said.holder.has_ended()

    def may_begin(self) -> bool:
        """Whether a node that starts may claim at once without being in anybody's way."""
        return self.is_free()

    def decide(self, ground: Ground) -> None:
        """A claim is about to be made; what is heard from here on, `wait_s` takes into account."""
        self._ground = ground
        self._decided = (self.epoch, self.heard_at, self.time_ms, self.lease_ms)
        self._renewed = False

    def wait_s(self) -> float:
        """Seconds from now, after the claim, in which every lease lapses that somebody may still hold."""
        _epoch, heard_at, time_ms, lease_ms = self._decided
        lapse_s = silence_s(max(self.lease_ms, lease_ms))
        if self._renewed or self._ground is Ground.FORCE:
            return lapse_s
        if self._ground is Ground.FREE or (self.time_ms == time_ms and self.lease_ms <= lease_ms):
            return 0.0
        # Adopted records that we had not seen were sent so much later than the last one that we had.
        later_s = (self.time_ms - time_ms) * (1 + MARGIN) / 1000
        return min(lapse_s, max(0.0, heard_at + later_s + lapse_s - self._monotonic()))

    @property
    def lease_ms(self) -> int:
        if self.unknown:
            return LEASE_MS_MAX
        return self.statement.lease_ms if self.statement is not None else LONE_LEASE_MS

    def others(self) -> list[Member]:
        """The followers that the newest statement lists, without this node."""
        return [member for member in self.statement.members if member.name != self.name] if self.statement else []

    def turn(self) -> int:
        """Our place among the followers that may take over: 0 is the first."""
        said = self.statement
        names = [member.name for member in said.members if member.candidate] if said is not None else []
        return names.index(self.name) if self.name in names else len(names)

    def patience_s(self) -> float:
        """Seconds of silence after which this node claims."""
        said = self.statement
        if said is not None and said.released and not self.claimed:
            if said.successor == self.name:
                return 0.0
            if not said.successor:
                return self.turn() * TURN_S + self._chance_s
        lease_ms = 2 * max(self.lease_ms, LONE_LEASE_MS) if self.claimed else self.lease_ms
        return silence_s(lease_ms) + self.turn() * TURN_S + self._chance_s

    # -- silence

    def silence(self) -> asyncio.Future[None]:
        """A future that is done when this node's turn to claim has come. One at a time; cancel it to end the watch."""
        self.heard_at = max(self.heard_at, self._monotonic() if self._silent is None else 0.0)
        self._silent = asyncio.get_running_loop().create_future()
        self._rearm()
        return self._silent

    def _rearm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        silent = self._silent
        if silent is not None and not silent.done():
            left = self.heard_at + self.patience_s() - self._monotonic()
            due = self._monotonic() + left
            self._timer = silent.get_loop().call_later(max(left, 0.0), self._look, due)

    def _look(self, due: float) -> None:
        silent = self._silent
        self._timer = None
        if silent is None or silent.done():
            return
        now = self._monotonic()
        if now - due > MARGIN * self.lease_ms / 1000:
            self.heard_at = now  # this process was held up: what it did not hear may lie in the log
        if now < self.heard_at + self.patience_s():
            self._rearm()
        else:
            silent.set_result(None)
