"""One zone of a live writer: a thread that writes, and what it does when its disk will not.

The thread owns everything of its zone, so a slow zone delays nobody. Its life::

    joining   promise, identity and history are checked; what it lacks is copied from other zones ("catching-up")
    serving   frames from the window: one O_DSYNC write, one look at the promise, one vote ("up")
    failing   an error: the segment is given up (after a failed sync its tail is not trusted again), the zone is
              "down", and joins again after a pause that doubles

Votes are safe at any time: a vote says "synced here up to this position", and a zone that lags votes low.
"""

from __future__ import annotations

import logging
import math
import os
import queue
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from eventdb.backends.quorum import hint as hints
from eventdb.backends.quorum import identity as identities
from eventdb.backends.quorum import promise as promises
from eventdb.backends.quorum import zone_loops
from eventdb.backends.quorum.align import Mark, compare, mark_of, seal_before
from eventdb.backends.quorum.claim import Place
from eventdb.backends.quorum.hint_file import HintFile
from eventdb.backends.quorum.identity import DamagedIdentity, Identity
from eventdb.backends.quorum.joining import Changed, NotYet, Source, cut_short, holds, write_again
from eventdb.backends.quorum.promise import LostPromise, Outbid, Promise
from eventdb.backends.quorum.repair import repair_segment
from eventdb.backends.quorum.runtime import Wake
from eventdb.backends.quorum.segment import CHUNK_BYTES, NO_STOP, list_segments
from eventdb.backends.quorum.segment_file import SegmentFile
from eventdb.backends.quorum.successor import Succession
from eventdb.backends.quorum.view import Damage, Tail, ZoneView
from eventdb.backends.quorum.window import Quorum
from eventdb.backends.record import decode, follows, unlinked

if TYPE_CHECKING:
    from eventdb.backends.quorum.zone_loop import Lanes

logger: Final = logging.getLogger("eventdb.backends.quorum")

SEGMENT_BYTES: Final = 32 << 20
# Frames that queued up while the zone was writing leave together; bounded, so that a vote is never far away.
WRITE_BYTES_MAX: Final = 1 << 20
RETRY_S_MIN: Final = 0.02
RETRY_S_MAX: Final = 2.0  # also how long a zone has to serve until an error is a new one, and retried at once
REASONS_MAX: Final = 8  # why a zone is down, logged until it is up again
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
        self._member = False  # its identity exists, and it forgot nothing
        self._trusted = False  # was a member in this writer's life; a whole copy of it may become one again
        # The highest end that was counted on its directory, and the epoch before it, should that come back; -1: none.
        self._counted = (-1, 0)
        self._copied: Mark | None = None  # of the record before `end`, while that lies before this writer's own
        self._floor = 0  # the claim knew that what lies before it is durable: the same in every history
        # From here to `end` an earlier writer's sync may have failed, so it is written again first. None: it was.
        self._unsynced_from: int | None = 0
        self._hollow_from = NO_STOP  # a hole was found there, in what looks whole by its end
        self._stopping = False
        self._abandoned = False
        self._file = SegmentFile(place.ops, place.directory, quorum.epoch, place.index, len(quorum.synced))
        self._succession = Succession(self._file, runtime, place.name, self._call)
        self._hint = HintFile(place.ops, place.directory, place.name, runtime.monotonic)
        self._in_lane = False  # the thread is in zone_loop.c; the quorum knows how far it is
        self._wrote_at = 0.0
        self._up_at = math.inf  # monotonic time since which it serves
        self._said: set[str] = set()  # reasons of this state that were logged
        self._errands: dict[str, Callable[[], None]] = {}  # by segment: what the thread is to do with it
        self._runner = runtime.thread(self._run, f"eventdb-{place.name}")

    # -- called by the loop ---------------------------------------------------------------------------------

    def start(self) -> None:
        self._runner.start()

    def adopt(
        self, promise: Promise | None, tail: Tail | None, *, true: bool, member: bool, floor: int, known_synced: int = 0
    ) -> None:
        """What the claim found out. known_synced: a hint says so of it.

        true: this is the tail that was adopted, and the claim has written it again.
        """
        self._unsynced_from = known_synced if not true else None
        self._floor = floor
        self.promise = promise
        self._member = self._trusted = member
        if true and tail is not None:
            self.true = True
            self.end = tail.end
            self._copied = mark_of(tail.last) if tail.last is not None else None

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
        self.when_idle(segment, lambda: self._repair(segment))

    def when_idle(self, segment: str, errand: Callable[[], None]) -> None:
        """Have the thread, which owns the directory, do something with a sealed segment."""
        self._errands[segment] = errand
        self._call()

    def _call(self) -> None:
        """Let the thread look at what is new beside frames."""
        self.wake.put(None)
        if self._quorum.lanes is not None:
            self._quorum.lanes.call(self.index)

    def reached(self) -> int:
        """`end` as it is now."""
        return max(self.end, self._quorum.synced[self.index]) if self._in_lane else self.end

    def as_source(self) -> Source:
        """The zone as it is now, for another one. The promise is taken first: a later one is for another directory."""
        promise = self.promise
        return Source(ZoneView(self.ops, self.directory, self.name), self.reached(), promise)

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
            self._up_at = math.inf
            try:
                self._join()
                self._serve()
            except LostPromise:
                # A directory that is being removed is not made anew while it is being removed.
                self._pause(pause if self._outbid() else REPLACED_S)
            except Outbid as outbid:
                self._give_up(f"{outbid}")
                self._quorum.outbid(self.index, outbid.epoch)
                self._watch_for_fence()
                self._pause(pause)
            except (OSError, Damage, NotYet) as error:
                self._give_up(f"{error}")
                self._pause(pause)
            pause = RETRY_S_MIN if self.monotonic() - self._up_at > RETRY_S_MAX else min(pause * 2, RETRY_S_MAX)
        try:
            self._finish()
        except OSError as failure:
            logger.warning("%s: not closed cleanly: %s", self.name, failure)

    def _serve(self) -> None:
        quorum = self._quorum
        window = quorum.window
        while not self._stopping or (window.end > self.end and not self._abandoned):
            if self.state != UP and window.end <= self.end:
                self._state(UP, "")
            self._go_on()
            if quorum.lanes is not None and not self._stopping and self.state == UP:
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
            if self.state != UP:  # not before: what failed may have been the write, as on a full disk
                self._state(UP, "")
            if quorum.mark(self.index, self.end) and self.monotonic() - self._hint.published_at > HINT_S:
                self._publish()
            if quorum.fenced_by:
                return
            if self._file.zeroed - self._file.byte < self._file.zero_low() and window.end <= self.end:
                self._file.zero()

    def _serve_in_lane(self, lanes: Lanes) -> None:
        """What `_serve` does, without the interpreter (zone_loop.c), until something else is to be done; then that."""
        promise = self.promise
        quorum = self._quorum
        assert promise is not None
        dry_at = self._file.zeroed - self._file.zero_low() + 1
        self._in_lane = True
        reason, error, at, self._file.mark, self._hint.published, self._hint.published_at = lanes.serve(
            self.index, (os.fsencode(promise.path), promise.inode, promise.changed_ns),
            (self._file.fd, quorum.epoch, self._file.first, self._succession.due(self.segment_bytes), dry_at),
            (self._file.next_fd, self._file.next_base), (self._file.byte, self.end),
            self._file.mark, (self._hint.fd, *self._hint.published, self._hint.published_at),
            HINT_S, IDLE_S, LINGER_S, WRITE_BYTES_MAX,
        )  # fmt: skip
        self._file.byte, self.end = at
        self._in_lane = False
        quorum.refresh()
        if reason == zone_loops.FAILED:
            raise OSError(error, os.strerror(error), self.directory)
        if reason == zone_loops.LOST:
            raise LostPromise
        if reason == zone_loops.BEHIND:
            self._catch_up()
        elif reason == zone_loops.DRY:
            self._file.zero()
        elif reason == zone_loops.IDLE:
            self._still_there()
        self._run_errand()

    def _linger(self) -> None:
        """Let more records come before the next write."""
        left = self._wrote_at + LINGER_S - self.monotonic()
        if left > 0 and not self._stopping:
            self.sleep(left)
        self._wrote_at = self.monotonic()

    def _write(self, data: bytes, end: int) -> None:
        """Write at the end of the segment, durably, and look at the promise. Raises OSError, LostPromise."""
        self.busy_since = self.monotonic()
        at = self._file.byte
        self._file.write(data)
        self._check_promise()
        self._quorum.writes[self.index] += 1
        self._quorum.write_s[self.index] += self.monotonic() - self.busy_since
        self.busy_since = 0.0
        self._file.mark, self._file.byte = (at, self.end), at + len(data)
        self.end = end

    def _idle(self) -> bool:
        """Nothing to write: sleep until there is. False when the thread should end."""
        self.waiting = True
        if self._quorum.window.end > self.end:  # it came between the look and the flag
            self.waiting = False
            return True
        behind = self._hint.published != self._quorum.votes
        try:
            self.wake.get(timeout=HINT_S if behind else IDLE_S)
        except queue.Empty:
            self.waiting = False
            if behind:
                self._publish()
            else:
                self._still_there()
        self.waiting = False
        self._run_errand()
        return not (self._stopping or self._quorum.fenced_by)

    def _run_errand(self) -> None:
        """When nothing is to be written. None while a segment gets its name, nor after a claim that may not know it."""
        if self._errands and self._quorum.window.end <= self.end and self._succession.settled:
            self._check_promise()
            self._errands.popitem()[1]()

    def _still_there(self) -> None:
        self._check_promise()
        self._file.check()

    def _check_promise(self) -> None:
        if self.promise is None or not self.promise.holds(self.ops):
            raise LostPromise

    # -- joining --------------------------------------------------------------------------------------------

    def _join(self) -> None:
        """Become a zone that may vote. Raises OSError, Outbid, Damage, NotYet, LostPromise."""
        ops = self.ops
        quorum = self._quorum
        self.busy_since = self.monotonic()
        unnamed = self._succession.forget()
        if self._unsynced_from is None:
            self._unsynced_from = unnamed
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
            if marked:
                identities.leave(ops, self.directory)
            quorum.unmark(self.index)
        if not self.true:
            self._align()
        if self._unsynced_from is not None:
            self._write_again(self._unsynced_from)
        self._file.begin(self.end)
        self.true = True  # only now: what was cut has just lost its place in history
        self._hollow_from = NO_STOP
        self.busy_since = 0.0
        self._hint.open()
        if quorum.window.take(self.end, 1) is None:
            self._fill()
        else:
            self._check_joint(seal_before(ops, self.directory, self.name, self.end))
        if not self._member:
            self._become_member()

    def _write_again(self, synced: int) -> None:
        """See `joining.write_again`. Raises OSError; Damage: the disk forgot what it had synced before the last frame.

        That is `Worth.HURT`: no member, rebuilt from the hole on; once a majority without it has the end of history.
        """
        own = self.end >= self._quorum.claim_end  # a fenced writer's files have no say in it
        try:
            write_again(
                self.ops, self.directory, self.name, self._quorum.epoch, synced, self.end,
                floor=NO_STOP if own else self._floor, last=None if own else self._copied,
            )  # fmt: skip
        except Changed:
            self.true = False
            raise
        except Damage as damage:
            if self._quorum.durable_end:
                self._hollow_from = damage.position
                self._member = self._trusted = self.true = False
            raise
        self._unsynced_from = None

    def _check_identity(self) -> bool:
        """True when the zone bears its identity; without it the zone is blank, or away. Raises NotYet, OSError."""
        try:
            found = identities.load(self.ops, self.directory)
        except DamagedIdentity:
            found = None
        if found is None:
            self._note_counted()
            self._member = False
            self.true = False
        elif found != self._identity:
            raise NotYet(f"it is zone {found.zone + 1} of {found.zones} of log {found.log_id}, not of this one")
        return found is not None

    def _after_replacement(self, marked: bool, known: bool) -> None:
        """The promise is another file than a moment ago, or bears another change time.

        Either somebody only changed the files' facts (chmod, chown, a hard link), or the zone was away and came back,
        or this is a copy of it. If it bears our promise and all it voted for, it forgot nothing: it counts as before,
        its end is what it voted, and it needs no other zone. Any other is rebuilt. Raises OSError: nothing is settled.
        """
        self._note_counted()
        self._member = self.true = False
        if not marked:
            return  # blank: the zone itself may still come back
        self._trusted = self._trusted and known
        end, epoch = self._counted
        self.true = known and end >= 0 and holds(ZoneView(self.ops, self.directory, self.name), end, epoch)
        self._member = self._trusted = self._trusted and (self.true or end < 0)
        if self.true:
            self.end = end

    def _note_counted(self) -> None:
        """Remember what counts on this directory. What a zone wrote while it was no member counts for nothing."""
        if self._member and self.true:
            self._counted = max(self._counted, (self.end, self._epoch_before(self.end)))

    def _epoch_before(self, end: int) -> int:
        """The epoch of the record before `end`: our own from the claim record on, else as it was adopted or copied."""
        if end >= self._quorum.claim_end:
            return self._quorum.epoch
        return self._copied[0] if self._copied is not None else 0

    def _align(self) -> None:
        """Set `end` to where this zone's history is still the true one; drop what cannot be joined to it."""
        ops = self.ops
        # A source that lags would have what a majority holds cut off here.
        source = self._source(self._quorum.durable_end - 1).as_source()
        end, first, tail, last = compare(
            ZoneView(ops, self.directory, self.name), source.view, min(source.end, self._hollow_from)
        )
        if not source.is_sound():
            raise NotYet(f"{source.view.name} was replaced while it was read")
        if end is None:
            for segment in list_segments(ops, self.directory):
                if segment.epoch <= self._quorum.epoch:  # or this thread was held up here, and another is the writer
                    ops.unlink(segment.path)
            end = first
        elif why := cut_short(end, tail, hollow=self._hollow_from != NO_STOP):
            logger.warning("%s: cut at position %d: %s", self.name, end, why)
        if self._quorum.synced[self.index] > end:
            self._quorum.unmark(self.index)  # a vote is never for more than the zone holds
        self.end = end
        self._copied = last
        if self._unsynced_from is None and end < self._quorum.claim_end:
            self._unsynced_from = end  # it was synced; but a fenced writer may have a say in it yet

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
        logger.warning("%s: rebuilt up to position %d", self.name, self.end)

    def _source(self, position: int, tried: frozenset[int] = frozenset()) -> Zone:
        """Another zone that holds true history after `position`. Raises NotYet."""
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
            raise NotYet(f"no other zone has history after position {position}")
        return best

    def _catch_up(self) -> None:
        self._fill()
        self._state(UP, "")

    def _fill(self) -> None:
        """Copy from other zones until the window has what comes next. Raises NotYet, OSError, LostPromise."""
        tried: frozenset[int] = frozenset()
        window = self._quorum.window
        if self.state != DOWN:
            self._state(CATCHING_UP, f"from position {self.end}")
        before = seal_before(self.ops, self.directory, self.name, self.end)
        while window.first > self.end and not self._stopping:
            zone = self._source(self.end, tried)
            source = zone.as_source()
            view = source.view
            try:
                view.refresh()
                if view.first_position > self.end:
                    self.true = False
                    raise NotYet(f"position {self.end} was trimmed meanwhile")
                while window.first > self.end and not self._stopping:
                    chunk = view.read(self.end, zone.reached(), CHUNK_BYTES)
                    if not chunk.frames:
                        break
                    if not source.is_sound():  # its directory is another one by now, perhaps an older copy
                        raise NotYet(f"{view.name} was replaced while it was read")
                    if not follows(chunk.frames[0], before):
                        raise Damage(view.name, "-", self.end, 0, unlinked(self.end))
                    self._copied = mark_of(chunk.frames[-1])
                    self._write(chunk.raw, chunk.next_position)
                    if self.state == DOWN:
                        self._state(CATCHING_UP, f"to position {self.end} so far")
                    before = chunk.seal
                    self._vote()
                    self._go_on()
            except Damage as damage:
                zone.report_damage(damage.segment)
                tried |= {zone.index}
            finally:
                view.close()
        if window.first > self.end:
            raise NotYet("the writer ended before the zone was complete")
        self._check_joint(before)

    def _check_joint(self, before: int) -> None:
        """What comes next from the writer must follow what the zone holds. Raises NotYet: it holds another history."""
        frames = self._quorum.window.take(self.end, 1)
        frame = decode(frames[0]) if frames else None
        if frame is not None and not follows(frame, before):
            raise NotYet(unlinked(self.end))

    def _vote(self) -> None:
        if self._member and self._quorum.mark(self.index, self.end):
            self._publish()

    def _go_on(self) -> None:
        """In another file, when it is time."""
        if self._file.byte >= self._succession.due(self.segment_bytes):
            self._succession.look(self.end, self.segment_bytes)

    def _publish(self) -> None:
        self._hint.publish(self._quorum, self._file)

    # -- repair, errors, the end ----------------------------------------------------------------------------

    def _repair(self, name: str) -> None:
        if name == self._file.name:
            if self._file.byte == 0:
                return
            self._succession.roll(self.end)
        repair_segment(self.ops, self.directory, self.name, name, [one.as_source() for one in self.others if one.true])

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
        """Go down. The segment stays as it is: what a failed sync covered is not trusted again."""
        self.busy_since = 0.0
        self._file.close()
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
        """Enter a state and say so, once: a zone that is down stays down while it tries, whatever each try fails at."""
        if state != self.state:
            self._said.clear()
        if state != self.state or (state == DOWN and detail not in self._said and len(self._said) < REASONS_MAX):
            logger.log(logging.WARNING if state == DOWN else logging.INFO, "%s: %s %s", self.name, state, detail)
            self._said.add(detail)
        if state == UP and self.state != UP:
            self._up_at = self.monotonic()
        self.state = state
        self.detail = detail

    def _finish(self) -> None:
        """Leave the zone as small and as well described as can be."""
        clean = self._file.fd >= 0 and not self._quorum.fenced_by and not self._abandoned
        self._succession.finish(abandon=self._abandoned)
        if clean:
            self._file.seal()
            self._publish()
        self._file.close()
        self._hint.close(sync=clean)
