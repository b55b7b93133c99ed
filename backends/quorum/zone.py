"""One zone of a live writer: a thread that writes, and what it does when its disk will not.

The thread owns everything of its zone, so a slow zone delays nobody. Its life::

    joining   promise, identity and history are checked; what it lacks is copied from other zones ("catching-up")
    serving   frames from the window: one O_DSYNC write, one look at the promise, one vote ("up")
    failing   an error: the segment is given up (after a failed sync its tail is not trusted again), the zone is
              "down", and joins again after a pause that doubles

Votes are safe at any time: a vote says "synced here up to this position", and a zone that lags votes low.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from eventdb.backends.quorum import hint as hints
from eventdb.backends.quorum import identity as identities
from eventdb.backends.quorum import promise as promises
from eventdb.backends.quorum import zone_loops
from eventdb.backends.quorum.align import agreed_end
from eventdb.backends.quorum.claim import Place
from eventdb.backends.quorum.files import sync_directory, write_all
from eventdb.backends.quorum.identity import DamagedIdentity, Identity
from eventdb.backends.quorum.promise import LostPromise, Outbid, Promise
from eventdb.backends.quorum.repair import repair_segment
from eventdb.backends.quorum.runtime import Wake
from eventdb.backends.quorum.segment import CHUNK_BYTES, list_segments, segment_name
from eventdb.backends.quorum.view import Damage, Tail, ZoneView
from eventdb.backends.quorum.window import Quorum

if TYPE_CHECKING:
    from eventdb.backends.quorum.zone_loop import Lanes

LOGGER: Final = logging.getLogger("eventdb.backends.quorum")

SEGMENT_BYTES: Final = 32 << 20
# Frames that queued up while the zone was writing leave together; bounded, so that a vote is never far away.
WRITE_BYTES_MAX: Final = 1 << 20
ZERO_BYTES_MIN: Final = 64 << 10
ZERO_BYTES_MAX: Final = 1 << 20
RETRY_S_MIN: Final = 0.02
RETRY_S_MAX: Final = 2.0
REPLACED_S: Final = 0.1
HINT_S: Final = 0.002  # the hint is at most this old while the zone is alive; stating every append costs 10 %
# A zone that the majority does not need waits this long between two writes: its one sync then serves several records,
# which leaves processor and disk to the zones that answer. When it is needed, a reply waits at most this long, once.
LINGER_S: Final = 0.005
IDLE_S: Final = 1.0  # an idle zone looks this often whether it is still there
STALL_S: Final = 1.0  # a call that takes longer is reported as a stall

UP: Final = "up"
CATCHING_UP: Final = "catching-up"
DOWN: Final = "down"


class NotYet(Exception):  # noqa: N818
    """The zone cannot join now, for want of others; said in `Log.info`."""


class Zone:
    def __init__(self, place: Place, quorum: Quorum, identity: Identity) -> None:
        runtime = place.runtime
        self.ops = place.ops
        self.monotonic = runtime.monotonic
        self.sleep = runtime.sleep
        self.directory = place.directory
        self.name = place.name
        self.index = place.index
        self.state = CATCHING_UP
        self.detail = ""
        self.end = 0  # exclusive end of what it has synced
        self.true = False  # what it holds up to `end` is history: others may copy from it
        self.promise: Promise | None = None
        self.waiting = False  # the thread sleeps until something is put in `wake`
        self.wake: Wake = runtime.wake()
        self.segment_bytes = SEGMENT_BYTES
        self.others: Sequence[Zone] = ()
        self.busy_since = 0.0
        self._quorum = quorum
        self._identity = identity
        self._member = False  # its identity is there, and it forgot nothing
        self._trusted = False  # was a member in this writer's life; a whole copy of it may become one again
        self._voted = 0  # the highest end it voted for, also before it was rebuilt
        self._stopping = False
        self._abandoned = False
        self._fd = -1
        self._hint_fd = -1
        self._segment_first = 0
        self._segment_inode = 0
        self._byte = 0  # where the next frame goes
        self._mark = (0, 0)  # byte and position of the latest write
        self._zeroed = 0  # the segment holds zeros from `_byte` to here
        self._published = (0, 0)  # the votes that the hint states
        self._published_at = 0.0
        self._in_lane = False  # the thread is in zone_loop.c; the quorum knows how far it is
        self._wrote_at = 0.0
        self._damaged: set[str] = set()  # names of segments to be rebuilt
        self._runner = runtime.thread(self._run, f"eventdb-{place.name}")

    # -- called by the loop ---------------------------------------------------------------------------------

    def start(self) -> None:
        self._runner.start()

    def adopt(self, promise: Promise | None, tail: Tail | None, *, true: bool, member: bool) -> None:
        """What the claim found out. `true`: this is the tail that was adopted."""
        self.promise = promise
        self._member = self._trusted = member
        if true and tail is not None:
            self.true = True
            self.end = tail.end

    def stop(self, *, abandon: bool = False) -> None:
        """End the thread when all is written; or at once, leaving the files as they are."""
        self._abandoned = abandon
        self._stopping = True
        self._call()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False when it hangs in a call (it ends with that call)."""
        self._runner.join(timeout_s)
        return not self._runner.is_alive()

    def report_damage(self, segment: str) -> None:
        """A reader found this segment damaged; it is rebuilt when the zone has time."""
        self._damaged.add(segment)
        self._call()

    def _call(self) -> None:
        """Let the thread look at what is new beside frames."""
        self.wake.put(None)
        if self._quorum.lanes is not None:
            self._quorum.lanes.call(self.index)

    def reached(self) -> int:
        """`end` as it is now."""
        return max(self.end, self._quorum.synced[self.index]) if self._in_lane else self.end

    def health(self) -> tuple[str, str]:
        lanes = self._quorum.lanes
        since = lanes.busy_since(self.index) if lanes is not None and self._in_lane else self.busy_since
        if since and self.monotonic() - since > STALL_S and self.state != DOWN:
            return DOWN, f"no answer from its file system for {self.monotonic() - since:.1f} s"
        return self.state, self.detail

    # -- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = RETRY_S_MIN
        while not self._stopping and not self._quorum.fenced_by:
            try:
                self._join()
                pause = RETRY_S_MIN
                self._serve()
            except LostPromise:
                # A directory that is being removed is not made anew under the hands of who removes it.
                self._pause(pause if self._outbid() else REPLACED_S)
            except Outbid as error:
                self._give_up(f"{error}")
                self._quorum.outbid(self.index, error.epoch)
                self._watch_for_fence()
                self._pause(pause)
            except (OSError, Damage, NotYet) as error:
                self._give_up(f"{error}")
                self._pause(pause)
            pause = min(pause * 2, RETRY_S_MAX)
        try:
            self._finish()
        except OSError as error:
            LOGGER.warning("%s: not closed cleanly: %s", self.name, error)

    def _serve(self) -> None:
        quorum = self._quorum
        window = quorum.window
        self._state(UP, "")
        while not self._stopping or (window.end > self.end and not self._abandoned):
            if quorum.lanes is not None and not self._stopping:
                self._serve_in_lane(quorum.lanes)
                if quorum.fenced_by:
                    return
                continue
            if not quorum.eager[self.index]:
                self._linger()
            frames = window.take(self.end, WRITE_BYTES_MAX)
            if frames is None:
                self._catch_up()
                continue
            if not frames:
                if not self._idle():
                    return
                continue
            self._write(frames[0] if len(frames) == 1 else b"".join(frames), self.end + len(frames))
            if quorum.mark(self.index, self.end) and self.monotonic() - self._published_at > HINT_S:
                self._publish()
            if quorum.fenced_by:
                return
            if self._byte >= self.segment_bytes:
                self._roll()
            elif self._zeroed - self._byte < self._zero_low() and window.end <= self.end:
                self._zero()

    def _serve_in_lane(self, lanes: Lanes) -> None:
        """What `_serve` does, without the interpreter (zone_loop.c), until something else is to be done; then that."""
        promise = self.promise
        quorum = self._quorum
        assert promise is not None
        dry_at = self._zeroed - self._zero_low() + 1
        self._in_lane = True
        reason, error, at, self._mark, self._published, self._published_at = lanes.serve(
            self.index, (os.fsencode(promise.path), promise.inode, promise.changed_ns),
            (self._fd, quorum.epoch, self._segment_first, self.segment_bytes, dry_at), (self._byte, self.end),
            self._mark, (self._hint_fd, *self._published, self._published_at),
            HINT_S, IDLE_S, LINGER_S, WRITE_BYTES_MAX,
        )  # fmt: skip
        self._byte, self.end = at
        self._in_lane = False
        quorum.refresh()
        if reason == zone_loops.FAILED:
            raise OSError(error, os.strerror(error), self.directory)
        if reason == zone_loops.LOST:
            raise LostPromise
        if reason == zone_loops.BEHIND:
            self._catch_up()
        elif reason == zone_loops.FULL:
            self._roll()
        elif reason == zone_loops.DRY:
            self._zero()
        elif reason == zone_loops.IDLE:
            self._still_there()
        if self._damaged and quorum.window.end <= self.end:
            self._repair()

    def _linger(self) -> None:
        """Let more records come before the next write."""
        left = self._wrote_at + LINGER_S - self.monotonic()
        if left > 0 and not self._stopping:
            self.sleep(left)
        self._wrote_at = self.monotonic()

    def _write(self, data: bytes, end: int) -> None:
        """Write at the end of the segment, durably, and look at the promise. Raises OSError, LostPromise."""
        ops = self.ops
        promise = self.promise
        assert promise is not None
        self.busy_since = self.monotonic()
        at = self._byte
        done = ops.pwrite(self._fd, data, at)  # O_DSYNC: back only when it is on stable storage
        if done < len(data):
            write_all(ops, self._fd, data[done:], at + done)
        if not promise.holds(ops):
            raise LostPromise
        self.busy_since = 0.0
        self._mark = (at, self.end)
        self._byte = at + len(data)
        self.end = end

    def _idle(self) -> bool:
        """Nothing to write: sleep until there is. False when the thread should end."""
        self.waiting = True
        if self._quorum.window.end > self.end:  # it came between the look and the flag
            self.waiting = False
            return True
        behind = self._published != self._quorum.votes
        try:
            self.wake.get(timeout=HINT_S if behind else IDLE_S)
        except queue.Empty:
            self.waiting = False
            if behind:
                self._publish()
            else:
                self._still_there()
        self.waiting = False
        if self._damaged and self._quorum.window.end <= self.end:
            self._repair()
        return not (self._stopping or self._quorum.fenced_by)

    def _still_there(self) -> None:
        assert self.promise is not None
        if not self.promise.holds(self.ops):
            raise LostPromise
        path = os.path.join(self.directory, segment_name(self._segment_first, self._quorum.epoch))
        if self.ops.stat(path).st_ino != self._segment_inode:
            raise OSError(errno.ESTALE, "the segment was replaced", path)

    # -- joining --------------------------------------------------------------------------------------------

    def _join(self) -> None:
        """Become a zone that may vote. Raises OSError, Outbid, Damage, NotYet, LostPromise."""
        ops = self.ops
        quorum = self._quorum
        self.busy_since = self.monotonic()
        marked = self._check_identity()
        back = marked and self._trusted and not self._member
        held = self.promise
        known = held is not None and held.holds(ops)
        if not known:
            known = quorum.epoch in promises.epochs(ops, self.directory)
            self.promise = promises.make(ops, self.directory, quorum.epoch, ours=True)
            back = back or held is not None
        if back:
            self._after_replacement(marked, known)
        if not self._member:
            if self._check_identity() != marked:  # or the mark that goes would be one which has just come back
                raise NotYet("its directory was replaced while it was looked at")
            self._voted = max(self._voted, quorum.synced[self.index])
            identities.leave(ops, self.directory)
            quorum.unmark(self.index)
        if not self.true:
            self._align()
        self._begin_segment(self.end)
        self.busy_since = 0.0
        self._open_hint()
        if quorum.window.take(self.end, 1) is None:
            self._state(CATCHING_UP, f"from position {self.end}")
            self._fill()
        if not self._member:
            self._become_member()

    def _check_identity(self) -> bool:
        """True when the zone bears its identity; without it the zone is blank, or away. Raises NotYet, OSError."""
        try:
            found = identities.load(self.ops, self.directory)
        except DamagedIdentity:
            found = None
        if found is None:
            self._member = False
            self.true = False
        elif found != self._identity:
            raise NotYet(f"it is zone {found.zone + 1} of {found.zones} of log {found.log_id}, not of this one")
        return found is not None

    def _after_replacement(self, marked: bool, known: bool) -> None:
        """The directory is another one than a moment ago: the zone was away and came back, or this is a copy of it.

        If it bears our promise and all we voted for, it forgot nothing and counts as before. Any other is rebuilt.
        """
        self.true = False
        self._member = False
        if not marked:
            return  # blank: the zone itself may still come back
        trusted, self._trusted = self._trusted, False
        voted = max(self._voted, self._quorum.synced[self.index])
        view = ZoneView(self.ops, self.directory, self.name)
        try:
            view.refresh()
            self._member = self._trusted = trusted and known and view.tail().end >= voted
        finally:
            view.close()

    def _align(self) -> None:
        """Set `end` to where this zone's history is still the true one; drop what cannot be joined to it."""
        ops = self.ops
        mine = ZoneView(ops, self.directory, self.name)
        source = self._source(-1)
        try:
            mine.refresh()
            mine.mark(hints.load(ops, self.directory))
            tail = mine.tail()
            other = ZoneView(source.ops, source.directory, source.name)
            try:
                other.refresh()
                other.mark(hints.load(source.ops, source.directory))
                end = agreed_end(mine, tail, other, source.reached())
                first = other.first_position
            finally:
                other.close()
        finally:
            mine.close()
        if end is None:
            for segment in list_segments(ops, self.directory):
                ops.unlink(segment.path)
            end = first
        elif end < tail.end or tail.torn:
            LOGGER.warning(
                "%s: cut at position %d: %s, never acknowledged",
                self.name, end, tail.torn or f"{tail.end - end} records of a fenced writer",
            )  # fmt: skip
        self.end = end
        self.true = True

    def _become_member(self) -> None:
        """Count again after a rebuild. It forgot its promises: only a majority of the others knows them all."""
        kept = 0
        for other in self.others:
            try:
                if other._member and other.promise is not None and other.promise.holds(other.ops):
                    kept += 1
            except OSError:
                continue
        if kept < self._quorum.majority:
            raise NotYet(f"rebuilt, but only {kept} other zones can vouch for its promises")
        identities.join(self.ops, self.directory, self._identity)
        self._member = self._trusted = True
        LOGGER.warning("%s: rebuilt up to position %d", self.name, self.end)

    def _source(self, position: int, tried: frozenset[int] = frozenset()) -> Zone:
        """Another zone that holds true history behind `position`. Raises NotYet."""
        best: Zone | None = None
        for other in self.others:
            if (
                other.true
                and other.index not in tried
                and other.reached() > position
                and (best is None or other.reached() > best.reached())
            ):
                best = other
        if best is None:
            raise NotYet(f"no other zone has history behind position {position}")
        return best

    def _catch_up(self) -> None:
        self._state(CATCHING_UP, f"from position {self.end}")
        self._fill()
        self._state(UP, "")

    def _fill(self) -> None:
        """Copy from other zones until the window has what comes next. Raises NotYet, OSError, LostPromise."""
        tried: frozenset[int] = frozenset()
        window = self._quorum.window
        while window.first > self.end and not self._stopping:
            source = self._source(self.end, tried)
            view = ZoneView(source.ops, source.directory, source.name)
            try:
                view.refresh()
                if view.first_position > self.end:
                    self.true = False
                    raise NotYet(f"position {self.end} was trimmed meanwhile")
                while window.first > self.end and not self._stopping:
                    chunk = view.read(self.end, source.reached(), CHUNK_BYTES)
                    if not chunk.frames:
                        break
                    self._write(chunk.raw, chunk.next_position)
                    self._vote()
                    if self._byte >= self.segment_bytes:
                        self._roll()
            except Damage as damage:
                source.report_damage(damage.segment)
                tried |= {source.index}
            finally:
                view.close()
        if window.first > self.end:
            raise NotYet("the writer ended before the zone was complete")

    def _vote(self) -> None:
        if self._member and self._quorum.mark(self.index, self.end):
            self._publish()

    # -- the segment ----------------------------------------------------------------------------------------

    def _begin_segment(self, first: int) -> None:
        """Open a new segment of our epoch at `first`, its name durable, zeros ahead."""
        ops = self.ops
        self._close_segment()
        epoch = self._quorum.epoch
        for segment in list_segments(ops, self.directory):
            if segment.epoch == epoch and segment.first >= first:
                ops.unlink(segment.path)  # ours, from before an error: nothing in it was counted
        path = os.path.join(self.directory, segment_name(first, epoch))
        self._fd = ops.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_DSYNC)
        self._segment_first = first
        self._segment_inode = ops.stat(path).st_ino
        self._byte = 0
        self._zeroed = 0
        self._mark = (0, first)
        self._zero()
        sync_directory(ops, self.directory)

    def _zero_low(self) -> int:
        """When to fill in zeros: at another level in each zone, so that they do not all stop for it at once."""
        return ZERO_BYTES_MIN * (self.index + 1) // (len(self.others) + 2)

    def _zero(self) -> None:
        size = min(max(self._byte, ZERO_BYTES_MIN), ZERO_BYTES_MAX)
        start = max(self._zeroed, self._byte)
        try:
            write_all(self.ops, self._fd, bytes(size), start)
            self._zeroed = start + size
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._zeroed = 1 << 62  # full: only speed is lost, the frames themselves may still fit

    def _roll(self) -> None:
        self._seal()
        self._begin_segment(self.end)

    def _seal(self) -> None:
        if self._fd >= 0:
            self.ops.ftruncate(self._fd, self._byte)

    def _close_segment(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                self.ops.close(fd)
            except OSError:
                pass  # the descriptor is gone either way

    # -- the hint -------------------------------------------------------------------------------------------

    def _open_hint(self) -> None:
        fd, self._hint_fd = self._hint_fd, -1
        if fd >= 0:
            self.ops.close(fd)
        self._hint_fd = self.ops.open(os.path.join(self.directory, hints.NAME), os.O_WRONLY | os.O_CREAT)
        self._published = (0, 0)

    def _publish(self) -> None:
        quorum = self._quorum
        votes = quorum.votes
        durable_end = quorum.durable_end
        if not durable_end or self._hint_fd < 0:
            return
        byte, position = self._mark
        stated = hints.encode(
            quorum.epoch, durable_end, self._segment_first, quorum.epoch, byte, position, list(quorum.synced)
        )
        try:
            self.ops.pwrite(self._hint_fd, stated, 0)
        except OSError as error:  # a hint may be old; if the disk is in earnest, the next frame will meet it
            LOGGER.debug("%s: hint not written: %s", self.name, error)
        self._published = votes
        self._published_at = self.monotonic()

    # -- repair, errors, the end ----------------------------------------------------------------------------

    def _repair(self) -> None:
        name = self._damaged.pop()
        if name == segment_name(self._segment_first, self._quorum.epoch):
            if self._byte == 0:
                return
            self._roll()
        sources = [ZoneView(z.ops, z.directory, z.name) for z in self.others if z.true]
        repair_segment(self.ops, self.directory, self.name, name, sources)

    def _outbid(self) -> bool:
        """Our promise is gone: True when a higher one took its place, False when the zone was replaced."""
        try:
            there = promises.epochs(self.ops, self.directory)
        except OSError as error:
            self._give_up(f"{error}")
            return True
        if there and there[-1] > self._quorum.epoch:
            self._give_up(f"promised to epoch {there[-1]}")
            self._quorum.outbid(self.index, there[-1])
            self._watch_for_fence()
            return True
        self._give_up("its directory was removed or replaced")
        return False

    def _watch_for_fence(self) -> None:
        """A promise may belong to a claim that never ended; a hint of a higher epoch belongs to a writer."""
        for zone in (self, *self.others):
            found = hints.load(zone.ops, zone.directory)
            if found is not None and found.epoch > self._quorum.epoch:
                self._quorum.fence(found.epoch)

    def _give_up(self, reason: str) -> None:
        """Go down. The segment is left behind: what a failed sync covered is not trusted again."""
        self.busy_since = 0.0
        self._close_segment()
        self._quorum.zone_errors += 1
        self._state(DOWN, reason)

    def _pause(self, pause_s: float) -> None:
        """Wait before the next try, but not longer than until `stop`."""
        deadline = self.monotonic() + pause_s
        while not self._stopping and (left := deadline - self.monotonic()) > 0:
            try:
                self.wake.get(timeout=left)
            except queue.Empty:
                return

    def _state(self, state: str, detail: str) -> None:
        if state != self.state or (state == DOWN and detail != self.detail):
            LOGGER.log(logging.WARNING if state == DOWN else logging.INFO, "%s: %s %s", self.name, state, detail)
        self.state = state
        self.detail = detail

    def _finish(self) -> None:
        """Leave the zone as small and as well described as can be."""
        if self._fd >= 0 and not self._quorum.fenced_by and not self._abandoned:
            self._seal()
            self._publish()
            if self._hint_fd >= 0:
                self.ops.fsync(self._hint_fd)
        self._close_segment()
        if self._hint_fd >= 0:
            fd, self._hint_fd = self._hint_fd, -1
            self.ops.close(fd)
