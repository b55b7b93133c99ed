"""Reading quorum files, in the writer's process or in any other.

How far to read is a writer's word: its hint, or a frame, which says how far history was durable before it was sealed.
A reader does not count copies itself. What it can read may be in the page cache alone, after a sync that failed; and a
zone that has not voted for a frame may still cut it, when it joins anew. So what a dead writer left unsaid is shown
after the next claim has written and synced it again, and said so.
Where to read is any zone that this writer or a later one has begun a segment in, because it did so only after true
history. (A later one, which has said nothing yet, may have written all of a segment again.) A zone that cannot deliver,
or whose next frame does not follow the one read last or does not decrypt, is left for another; only when none can is it
an error.
All of it blocks and runs in the reader's own thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from eventdb.backends.assembler import Assembler
from eventdb.backends.log import Corrupt, Record, Stretch, Trimmed, Unavailable
from eventdb.backends.quorum import hint as hints
from eventdb.backends.quorum import identity as identities
from eventdb.backends.quorum import promise as promises
from eventdb.backends.quorum.claim import Place
from eventdb.backends.quorum.hint import Hint
from eventdb.backends.quorum.horizon import Horizon
from eventdb.backends.quorum.identity import DamagedIdentity
from eventdb.backends.quorum.segment import Chunk, kept_segments, start_of
from eventdb.backends.quorum.view import Damage, Tail, ZoneView
from eventdb.backends.record import FIRST, UNKNOWN, BadFrame, Frame, follows, unlinked
from eventdb.backends.seal import Keyring

logger: Final = logging.getLogger("eventdb.backends.quorum")

BATCH_BYTES: Final = 1 << 20
READ_BYTES: Final = 1 << 20
# At the live end a step reads little; it grows while there is more.
READ_BYTES_MIN: Final = 64 << 10
POLL_S: Final = 0.002
# How long one wait may take before the caller gets the chance to end it.
WAIT_S: Final = 0.1
# At the live end a zone may show half of a frame that others have whole; only what stays so is damage.
SETTLE_S: Final = 0.05


class End:
    """How far history is durable, and which epoch says so."""

    def __init__(self, places: Sequence[Place], horizon: Horizon) -> None:
        self.epoch = 0
        self.durable_end = 0
        self.hints: list[Hint | None] = [None] * len(places)  # the newest of each zone
        self._places = places
        self._monotonic = places[0].runtime.monotonic
        self._horizon = horizon
        self._quiet = False

    def look(self) -> bool:
        """Take the newest hints; True when something moved."""
        before = (self.epoch, self.durable_end)
        for index, place in enumerate(self._places):
            found = hints.load(place.ops, place.directory)
            if found is not None:
                self.hints[index] = found
                self.epoch = max(self.epoch, found.epoch)
                self.durable_end = max(self.durable_end, found.durable_end)
        self.durable_end = max(self.durable_end, self._horizon.durable_end)
        self.epoch = max(self.epoch, self._horizon.epoch)
        return (self.epoch, self.durable_end) != before

    def prove(self) -> None:
        """Look, and hear what the last frames say: after a crash hints are a little old, after a power cut more so.

        A frame that knew something to be durable says what a hint of its epoch would. It stays true, whichever node is
        fenced and whatever is cut: later histories hold all that was durable once. Raises Unavailable when no zone
        answers: that is not an empty log.
        """
        self.look()
        errors: list[str] = []
        for place in self._places:
            try:
                tail = _tail(place)
                self._hear_trim(place)
            except OSError as error:
                errors.append(f"{place.name}: {error}")
                continue
            last = tail.last if tail is not None else None
            if last is not None and last.durable_below:
                self.epoch = max(self.epoch, last.epoch)
                self.durable_end = max(self.durable_end, last.durable_below)
        if len(errors) == len(self._places):
            raise Unavailable(f"no zone can be read: {'; '.join(errors)}")

    def _hear_trim(self, place: Place) -> None:
        """Only what was durable is trimmed, and never the last record: so the record where a zone begins is durable.

        After a power cut the hints may say less, and nobody could find the record that they end with any more.
        """
        start = start_of(place.ops, place.directory)
        if start >= self.durable_end:
            kept = kept_segments(place.ops, place.directory)
            if kept and kept[0].first <= start:
                self.epoch = max(self.epoch, kept[0].epoch)
                self.durable_end = start + 1

    def foresee(self) -> None:
        """Prove, and go on to what a claim made now would find in a majority of zones, acknowledged or not.

        For a caller that copies a log that nobody writes: all that was acknowledged is in there. It is no
        proof: until that claim is made, a power cut may take away what is not durable.
        """
        self.prove()
        tails: list[Tail] = []
        for place in self._places:
            with suppress(OSError):
                tail = _tail(place)
                if tail is not None and promises.epochs(place.ops, place.directory)[-1:] == [tail.writer_epoch]:
                    tails.append(tail)  # else a claim is under way in it
        epoch = max((tail.writer_epoch for tail in tails), default=0)
        ends = sorted(
            tail.end
            for tail in tails
            if tail.writer_epoch == epoch and tail.last is not None and tail.last.epoch == epoch
        )
        majority = len(self._places) // 2 + 1
        if len(ends) >= majority and epoch >= self.epoch:
            self.epoch = epoch
            self.durable_end = max(self.durable_end, ends[-majority])

    def wait(self, known: int) -> None:
        """Sleep until more than `known` is durable, at most WAIT_S."""
        deadline = self._monotonic() + WAIT_S
        while self._monotonic() < deadline:
            self._horizon.wait(known, POLL_S)
            self.look()
            if self.durable_end > known:
                self._quiet = False
                return
        if not self._quiet:  # once in each silence: the writer may have died before its last hint
            self._quiet = True
            with suppress(Unavailable):
                self.prove()


def _tail(place: Place) -> Tail | None:
    """The end of a zone's history; None when the zone is blank or damaged. Raises OSError."""
    view = ZoneView(place.ops, place.directory, place.name)
    try:
        if identities.load(place.ops, place.directory) is None:
            return None
        view.refresh()
        view.mark(hints.load(place.ops, place.directory))
        return view.tail()
    except (Damage, DamagedIdentity):
        return None
    finally:
        view.close()


class Reader:
    """Yields stretches from `position` on. One thread at a time calls it."""

    def __init__(
        self,
        places: Sequence[Place],
        horizon: Horizon,
        position: int,
        report: Callable[[int, str], None],
        after: int = UNKNOWN,
        *,
        foresee: bool = False,
        keys: Keyring | None = None,
    ) -> None:
        """after: the seal of the frame before `position`, if it was read before. foresee: see `End.foresee`."""
        self.position = position
        self._seal = after  # of the latest frame that was read
        self._seal_before = after  # of the one before `_frames`
        self._record_start = position  # of the record that is half read
        self.end = End(places, horizon)
        self._foresee = foresee
        self._views = [ZoneView(place.ops, place.directory, place.name) for place in places]
        self._runtime = places[0].runtime
        self._report = report  # (zone index, segment name): found damaged
        self._assembler = Assembler(keys)
        # Of each zone a frame boundary not far before our position: where to search from when we turn to that zone.
        self._behind: list[Hint | None] = [None] * len(places)
        self._zone = -1  # index of the zone we read
        self._epoch = -1  # the end's epoch when we chose it
        self._size = READ_BYTES_MIN
        self._frames: list[Frame] = []  # read and not yet handed out, from `_at` on: they may unpack to a lot
        self._at = 0
        self._ended = False
        self._started = False

    def next(self) -> Stretch | None:
        """The next stretch, or None when all that is durable was read. Raises Trimmed, Corrupt, Unavailable."""
        if not self._started:
            if self._foresee:
                self.end.foresee()
            else:
                self.end.prove()
            self._check_start()
            self._started = True
        records: list[Record] = []
        size = 0
        before = self.position
        while size < BATCH_BYTES:
            if self._at == len(self._frames):
                if records and self._ended:
                    break  # at the live end what has been read goes out at once
                if self.position >= self.end.durable_end:
                    if records or not self.end.look() or self.position >= self.end.durable_end:
                        break
                chunk = self._read()
                self._frames = chunk.frames
                self._at = 0
                self._ended = chunk.next_position >= self.end.durable_end
            frame = self._frames[self._at]
            self._at += 1
            size += self._take(frame, records)
        if self.position == before:
            return None
        # A reader that goes on from there must meet a record that is half read from its beginning.
        return Stretch(tuple(records), self._record_start if self._assembler.pending else self.position)

    def close(self) -> None:
        for view in self._views:
            view.close()

    def _take(self, frame: Frame, records: list[Record]) -> int:
        try:
            record = self._assembler.feed(frame, frame.position)
        except BadFrame as error:
            frame, record = self._from_another(frame, f"{error}")
        self.position = frame.position + 1
        if frame.fragment == FIRST:
            self._record_start = frame.position
        if record is None:
            return len(frame.payload)  # or nothing would be heard before the end of a large record
        records.append(record)
        return len(record.body)

    def _from_another(self, bad: Frame, why: str) -> tuple[Frame, Record | None]:
        """A frame with a right checksum cannot be what was written: go on with another zone's copy. Raises Corrupt."""
        self._seal = self._frames[self._at - 2].seal if self._at > 1 else self._seal_before
        named = f"{self._named(self._zone, bad.position)}: {why}"
        reasons = [named]
        for index, view in enumerate(self._views):
            if index == self._zone:
                continue
            try:
                chunk = self._read_zone(view, index, self.end.durable_end)
            except (Damage, OSError):
                continue
            if chunk is None or (chunk.frames[0].seal, chunk.frames[0].payload) == (bad.seal, bad.payload):
                continue
            try:
                record = self._assembler.feed(chunk.frames[0], bad.position)
            except BadFrame as error:
                reasons.append(f"{self._named(index, bad.position)}: {error}")
                continue
            logger.error("%s; %s has it whole and is read instead", named, view.name)
            self._go_on_in(index, chunk)
            self._frames, self._at = chunk.frames, 1
            self._ended = chunk.next_position >= self.end.durable_end
            return chunk.frames[0], record
        raise Corrupt("; ".join(reasons))

    def _named(self, zone: int, position: int) -> str:
        segment = self._views[zone].segment_of(position)
        return f"{self._views[zone].name}: segment {segment.name if segment is not None else '-'}: position {position}"

    def _go_on_in(self, zone: int, chunk: Chunk) -> None:
        """The chunk, of that zone, is what is read next."""
        self._seal_before, self._seal = self._seal, chunk.seal
        self._zone = zone
        self._epoch = self.end.epoch
        self._note(chunk.next_position)

    def _check_start(self) -> None:
        """Raise Trimmed if no zone that the latest writer vouched for goes back to where we are."""
        firsts: list[int] = []
        for view in self._views:
            try:
                view.refresh()
            except OSError:
                continue
            if any(segment.epoch >= self.end.epoch for segment in view.segments):
                firsts.append(view.first_position)
        if firsts and self.position < min(firsts):
            raise Trimmed(f"position {self.position} was trimmed; the first one kept is {min(firsts)}")

    def _read(self) -> Chunk:
        """A chunk of durable frames at our position, from the zone we read or from the next that has it."""
        stop = self.end.durable_end
        assert self.position < stop
        order = [self._zone] if self._zone >= 0 and self._epoch == self.end.epoch else []
        order += [index for index in range(len(self._views)) if index not in order]
        deadline = self._runtime.monotonic() + SETTLE_S
        while True:
            reasons: list[str] = []
            damaged = away = False
            for index in order:
                view = self._views[index]
                try:
                    chunk = self._read_zone(view, index, stop)
                except Damage as damage:
                    damaged = True
                    reasons.append(f"{damage}")
                    if view.is_sealed(damage.segment):
                        self._report(index, damage.segment)
                except OSError as error:
                    away = True
                    reasons.append(f"{view.name}: {error}")
                else:
                    if chunk is not None:
                        self._go_on_in(index, chunk)
                        self._size = min(self._size * 2, READ_BYTES) if chunk.next_position < stop else READ_BYTES_MIN
                        return chunk
                    reasons.append(f"{view.name}: does not reach position {self.position}")
            if self._runtime.monotonic() > deadline:
                break
            self._runtime.sleep(POLL_S)
        self._check_start()
        if damaged and not away:  # a zone that is away may have it: the damage is not the last word
            raise Corrupt("; ".join(reasons))
        raise Unavailable(f"position {self.position} is durable, but no zone can be read: {'; '.join(reasons)}")

    def _note(self, position: int) -> None:
        """We stand at `position` now: of each zone keep the newest hint that is not ahead of it."""
        for index, hint in enumerate(self.end.hints):
            if hint is not None and hint.position <= position:
                self._behind[index] = hint

    def _read_zone(self, view: ZoneView, index: int, stop: int) -> Chunk | None:
        """Frames of this zone that follow what was read, or None when it lags. Raises Damage, OSError."""
        if index == self._zone and self._epoch == self.end.epoch:
            try:
                chunk = view.read(self.position, stop, self._size)
                if chunk.frames and view.is_joined(self.position):
                    return self._following(view, chunk)
            except Damage:
                pass  # a segment may have been rolled, trimmed or rebuilt since we listed them
        view.close()
        view.refresh()
        view.mark(self._behind[index])
        if not any(segment.epoch >= self.end.epoch for segment in view.segments):
            return None  # no such writer has vouched for it
        if self.position < view.first_position or not view.is_joined(self.position):
            return None
        chunk = view.read(self.position, stop, self._size)
        return self._following(view, chunk) if chunk.frames else None

    def _following(self, view: ZoneView, chunk: Chunk) -> Chunk:
        if follows(chunk.frames[0], self._seal):
            return chunk
        segment = view.segment_of(self.position)
        name = segment.name if segment is not None else "-"
        byte = chunk.next_byte - len(chunk.raw)
        raise Damage(view.name, name, self.position, byte, unlinked(self.position))
