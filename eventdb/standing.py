"""What the log says of its primary, and for how long it has said nothing: when a follower may take over.

The rules and why they are safe are in `lease.py`. Followers take turns: the one that the primary lists first claims
first, the next a little later, so that they rarely meet.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from eventdb.backends import Record, RecordKind
from eventdb.lease import LONE_LEASE_MS, MARGIN, Statement, silence_s
from eventdb.replay.marker import RESTORED, RESTORING, claimant
from eventdb.topology import Member

log: Final = logging.getLogger("eventdb")

TURN_SECONDS: Final = 0.12  # between two followers' turns: long enough for a claim to be seen
SPREAD_SECONDS: Final = 0.02  # of chance on top, for followers that nobody has listed


class Standing:
    """Fed with every record that the follower passes. `monotonic` is in seconds and never set back."""

    def __init__(self, name: str, monotonic: Callable[[], float], rng: random.Random) -> None:
        self.name = name
        self.epoch = 0
        self.statement: Statement | None = None  # the newest one, of this epoch or an earlier one
        self.claimed = False  # the epoch's claimant has made no statement yet, so it has not begun to answer
        self.restored = False  # and it was a restore, which never will
        self.doubt = False  # somebody may hold a lease that began after we last looked: see `decide`
        self.heard_at = monotonic()
        self.on_change: Callable[[], None] | None = None
        self._decided_epoch = 0
        self._monotonic = monotonic
        self._rng = rng
        self._chance_s = rng.uniform(0, SPREAD_SECONDS)
        self._timer: asyncio.TimerHandle | None = None
        self._silent: asyncio.Future[None] | None = None

    # -- what is read

    def heard(self, record: Record) -> None:
        """A record was read; claims and heartbeats tell who is the primary."""
        self.heard_at = self._monotonic()
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
        except (ValueError, TypeError) as error:
            log.error("the heartbeat at position %d makes no sense: %s", record.position, error)
            return
        self.doubt = self.doubt or statement.resumed or record.epoch > self._decided_epoch
        self.statement = statement
        self.claimed = self.restored = False
        if self.on_change is not None:
            self.on_change()
        self._rearm()

    # -- who may claim

    def is_free(self) -> bool:
        """Nobody holds a lease, for certain: none was ever stated, or it was given back, or its process has ended."""
        said = self.statement
        return said is None or said.released or said.holder.has_ended()

    def may_begin(self) -> bool:
        """Whether a node that starts may claim at once without being in anybody's way."""
        return self.is_free() and (not self.claimed or self.restored)

    def decide(self, *, certain: bool) -> None:
        """A claim is about to be made; from here on `doubt` says whether it has to wait for a lease to lapse.

        certain: it is known that no lease is held now.
        """
        self.doubt = not certain
        self._decided_epoch = self.epoch

    def wait_s(self) -> float:
        """Seconds in which every lease that may be held lapses."""
        return silence_s(max(self.lease_ms, LONE_LEASE_MS if self.claimed else 0))

    @property
    def lease_ms(self) -> int:
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
                return self.turn() * TURN_SECONDS + self._chance_s
        lease_ms = 2 * max(self.lease_ms, LONE_LEASE_MS) if self.claimed else self.lease_ms
        return silence_s(lease_ms) + self.turn() * TURN_SECONDS + self._chance_s

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
