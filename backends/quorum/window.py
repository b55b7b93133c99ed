"""What is shared by a writer's loop and its zone threads: the frames on their way, and the count of votes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from eventdb.backends.quorum.zone_loop import Lanes

# Frames kept in memory for a slow zone once they are durable; older ones it reads them from another zone.
KEEP_BYTES_MAX: Final = 8 << 20
# Let the list grow this long before it is cut, so that cutting stays cheap for each frame.
CUT_FRAMES_MIN: Final = 512


class Window:
    """Sealed frames by position: every one that is not durable yet, and the latest that are.

    Only the loop changes it, and a change is one assignment or one list append; a thread that still looks at the
    list of a moment ago sees fewer frames, never wrong ones. So neither side takes a lock.
    """

    def __init__(self, first: int, lanes: Lanes | None = None) -> None:
        self._held: tuple[int, list[bytes]] = (first, [])
        self._bytes = 0
        self._lanes = lanes  # holds the same frames

    @property
    def first(self) -> int:
        return self._held[0]

    @property
    def end(self) -> int:
        first, frames = self._held
        return first + len(frames)

    def add(self, frame: bytes) -> None:
        self._held[1].append(frame)
        self._bytes += len(frame)
        if self._lanes is not None:
            self._lanes.add(frame)

    def take(self, position: int, size: int) -> list[bytes] | None:
        """Frames from `position` on, about `size` bytes of them and at least one if there is one.

        None when the position is no longer held here.
        """
        first, frames = self._held
        at = position - first
        if at < 0:
            return None
        count = len(frames) - at
        if count <= 1:
            return frames[at:]
        taken = 0
        stop = at
        while stop < len(frames) and (stop == at or taken + len(frames[stop]) <= size):
            taken += len(frames[stop])
            stop += 1
        return frames[at:stop]

    def cut(self, needed: int, durable_end: int) -> None:
        """Forget durable frames that no live zone needs (below `needed`); past the limit, the oldest durable ones."""
        first, frames = self._held
        drop = min(needed, durable_end) - first
        full = self._bytes > KEEP_BYTES_MAX
        if not full and drop < CUT_FRAMES_MIN:
            return
        drop = max(drop, 0)
        dropped = sum(map(len, frames[:drop]))
        if full:
            while first + drop < durable_end and self._bytes - dropped > KEEP_BYTES_MAX // 2:
                dropped += len(frames[drop])
                drop += 1
        if drop:
            self._bytes -= dropped
            self._held = (first + drop, frames[drop:])
            if self._lanes is not None:
                self._lanes.cut(first + drop)


class Quorum:
    """Counts what the zones have synced. `durable_end` only grows, and only past this epoch's claim record."""

    def __init__(
        self, epoch: int, zones: int, claim_end: int, wake: Callable[[], None], lanes: Lanes | None = None
    ) -> None:
        self.epoch = epoch
        self.majority = zones // 2 + 1
        self.lanes = lanes  # when there, it counts the votes, and what is here is its state at the last `refresh`
        self.window = Window(claim_end - 1, lanes)
        self.durable_end = 0
        self.synced = [0] * zones
        self.fenced_by = 0
        self.syncs = 0
        self.zone_errors = 0
        self.writes = [0] * zones  # durable ones, each counted by its zone's thread; those of the lanes are theirs
        self.write_s = [0.0] * zones  # spent in them
        # A majority of the zones is eager: it writes at once. The others write a little later, and so several
        # records by one sync (see zone.LINGER_S); a zone that is needed after all becomes eager.
        self.eager = [index < self.majority for index in range(zones)]
        # Frames that were copied from an older epoch become durable with the claim record, not before: a later
        # claimant might prefer another tail until this epoch's own record is on a majority.
        self.claim_end = claim_end
        self._wake = wake  # called in a zone's thread; informs the loop that durable_end or fenced_by changed
        self._lock = threading.Lock()
        self._outbid: dict[int, int] = {}

    @property
    def votes(self) -> tuple[int, int]:
        """Changes with every vote: a hint that states other ones is old."""
        return self.durable_end, sum(self.synced)

    def mark(self, zone: int, end: int) -> bool:
        """All before `end` is on stable storage in this zone, under our promise. True if that completes a majority."""
        if self.lanes is not None:
            advanced = self.lanes.mark(zone, end)
            self.refresh()
            return advanced
        with self._lock:
            self.syncs += 1
            self.synced[zone] = end
            if end <= self.durable_end or self.fenced_by:
                return False
            reached = sorted(self.synced)[-self.majority]
            if reached <= self.durable_end or reached < self.claim_end:
                return False
            self.durable_end = reached
            if not self.eager[zone]:
                self._prefer(zone)
        self._wake()
        return True

    def _prefer(self, zone: int) -> None:
        """This zone was needed although it lingers: it takes the place of the eager zone that lags most."""
        late = min((index for index, eager in enumerate(self.eager) if eager), key=self.synced.__getitem__)
        self.eager[late] = False
        self.eager[zone] = True

    def unmark(self, zone: int) -> None:
        """The zone forgot what it had: it has no vote until it was rebuilt."""
        if self.lanes is not None:
            self.lanes.unmark(zone)
            self.refresh()
            return
        with self._lock:
            self.synced[zone] = 0

    def outbid(self, zone: int, epoch: int) -> None:
        """The zone is promised to a higher epoch. Without a majority left nothing can ever be durable again."""
        with self._lock:
            self._outbid[zone] = epoch
            lost = len(self.synced) - len(self._outbid) < self.majority
        if lost:
            self.fence(max(self._outbid.values()))

    def fence(self, epoch: int) -> None:
        with self._lock:
            if self.fenced_by:
                return
            self.fenced_by = epoch
        if self.lanes is not None:
            self.lanes.fence()
        self._wake()

    def write_times(self) -> list[tuple[int, float]]:
        """(durable writes, seconds spent in them) of each zone."""
        found = [(self.writes[i], self.write_s[i]) for i in range(len(self.writes))]
        if self.lanes is None:
            return found
        more = self.lanes.times()
        return [(found[i][0] + more[i][0], found[i][1] + more[i][1]) for i in range(len(found))]

    def refresh(self) -> None:
        """Take over what the lanes have counted. Each fact only grows, so one read a moment ago is never too much."""
        if self.lanes is not None:
            with self._lock:  # or a thread that was held up in between would put an older state back
                self.durable_end, self.syncs, self.synced = self.lanes.state()
