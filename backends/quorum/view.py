"""What one zone holds, read from its files: history by position, and where it ends.

A view only reads. It believes nothing that a checksum does not cover and takes no step over a frame
that is missing, nor onto one that does not follow: `Damage` names the place, and the caller decides whether another
zone has it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from eventdb.backends.log import RecordKind
from eventdb.backends.quorum import squeezed
from eventdb.backends.quorum.files import FileOps
from eventdb.backends.quorum.hint import Hint
from eventdb.backends.quorum.segment import (
    ALIEN,
    BAD,
    CHUNK_BYTES,
    MORE,
    NO_PROOF,
    NO_STOP,
    Chunk,
    Proof,
    Segment,
    durable_beyond,
    kept_segments,
    read_chunk,
)
from eventdb.backends.record import HEADER_BYTES, NOTHING, UNKNOWN, Frame, follows, length_at


class Damage(Exception):  # noqa: N818
    """A frame that this zone should hold is missing or damaged."""

    def __init__(self, zone: str, segment: str, position: int, byte: int, reason: str) -> None:
        super().__init__(f"{zone}: segment {segment}: position {position} at byte {byte}: {reason}")
        self.zone = zone
        self.segment = segment
        self.position = position
        self.byte = byte
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a zone's readable history ends."""

    first: int  # position; equals `end` when there is no history
    end: int  # exclusive
    last: Frame | None  # the frame at end - 1
    torn: str  # why the bytes at the end are no frame, "" when they are clean
    proven: int  # exclusive end of what this zone's own bytes prove durable; above `end` it has lost something
    segments: int
    writer_epoch: int  # of the last segment: the last writer here
    alleged: int = 0  # not below `proven`: with what its bytes say, and a client may have made them say (segment.Proof)

    @property
    def rank(self) -> tuple[int, int]:
        """Of two tails the one with the higher rank holds everything durable that the other does."""
        return (self.last.epoch if self.last is not None else 0, self.end)


class ZoneView:
    def __init__(self, ops: FileOps, directory: str, name: str, *, from_disk: bool = False) -> None:
        """from_disk: what the page cache holds of a segment is dropped before it is read."""
        self.ops = ops
        self._from_disk = from_disk
        self.directory = directory
        self.name = name
        self.segments: list[Segment] = []
        self._fd = -1
        self._file = ops  # how the open segment is read
        self._path = ""  # of the open segment
        self._byte = 0
        self._position = 0
        self._seal = UNKNOWN  # of the frame before `_position`
        # A known frame boundary in some segments, (byte, position), where a walk may start.
        self._marks: dict[str, tuple[int, int]] = {}
        self._begun: set[str] = set()  # segments that begin an epoch as they should

    def refresh(self) -> None:
        """List the segments anew. Raises OSError."""
        self.segments = kept_segments(self.ops, self.directory)

    def mark(self, hint: Hint | None) -> None:
        """Take the frame boundary that the zone's hint names; it is checked when it is used."""
        if hint is None:
            return
        for segment in self.segments:
            if (segment.first, segment.epoch) == (hint.segment_first, hint.segment_epoch):
                if segment.first <= hint.position < segment.stop:
                    self._marks[segment.path] = (hint.byte, hint.position)

    def is_joined(self, position: int) -> bool:
        """False when a segment is missing after the one that holds `position`, so that this one shows too much.

        A disk that forgot a name it had synced shows there what a fenced writer once wrote: then the next segment's
        first frame does not follow the last one that is shown. Raises Damage, OSError.
        """
        at = len(self.segments) - 1
        while at >= 0 and self.segments[at].first > position:
            at -= 1
        if at < 0 or at + 1 == len(self.segments):
            return True
        before, segment = self.segments[at : at + 2]
        if segment.epoch == before.epoch or segment.path in self._begun:
            return True
        aside = ZoneView(self.ops, self.directory, self.name)  # a reader of this view goes on from where it stands
        aside.segments, aside._marks = self.segments, self._marks.copy()
        try:
            last = aside.frame_at(segment.first - 1)
            aside.close()
            frame = aside.frame_at(segment.first)
        finally:
            aside.close()
        if last is None or frame is None:
            return True
        if not follows(frame, last.seal) or (frame.epoch == segment.epoch and frame.kind != RecordKind.CLAIM):
            return False
        self._begun.add(segment.path)
        return True

    @property
    def first_position(self) -> int:
        return self.segments[0].first if self.segments else 0

    def segment_of(self, position: int) -> Segment | None:
        """The segment that holds the position or will; None when it lies before the first one."""
        for segment in reversed(self.segments):
            if segment.first <= position:
                return segment if position < segment.stop else None
        return None

    def read(self, position: int, stop: int = NO_STOP, size: int = CHUNK_BYTES) -> Chunk:
        """Frames from `position` on, at most to `stop` and the end of one segment, about `size` bytes.

        No frames means that the zone holds none there yet. Raises Damage, OSError.
        """
        segment = self.segment_of(position)
        if segment is None:
            raise Damage(self.name, "-", position, 0, "no segment holds it")
        self._seek(segment, position)
        chunk = self._step(segment, min(stop, segment.stop), size)
        if not chunk.frames and chunk.state != MORE:
            if chunk.state >= BAD or segment.stop != NO_STOP:
                raise self._damage(segment, chunk)
        return chunk

    def is_sealed(self, segment: str) -> bool:
        """True when the segment of that name is part of history and no longer written to."""
        return any(one.name == segment and one.stop != NO_STOP for one in self.segments)

    def frame_at(self, position: int) -> Frame | None:
        """The frame at the position, or None at the end of history. Raises Damage, OSError."""
        frames = self.read(position, position + 1).frames
        return frames[0] if frames else None

    def tail(self) -> Tail:
        """Find the end of history, from the mark in the last segment if there is one. Raises OSError."""
        if not self.segments:
            return Tail(0, 0, None, "", 0, 0, 0)
        first = self.first_position
        torn = ""
        proven = alleged = 0
        count = len(self.segments)
        writer_epoch = self.segments[-1].epoch
        for index in range(len(self.segments) - 1, -1, -1):
            segment = self.segments[index]
            end, last, reason, beyond = self._end_of(segment)
            if reason or end < segment.stop != NO_STOP or beyond.alleged > end:
                torn = reason or ("ends too early" if segment.stop != NO_STOP else "a hole of zeros")
                proven = max(proven, beyond.sure)
                alleged = max(alleged, beyond.alleged)
                if segment.stop != NO_STOP and index + 1 < len(self.segments):
                    # A later segment says that history went on here: what is missing was not torn off.
                    proven = max(proven, self._sealed_proof(index + 1))
            if last is not None:
                proven = max(proven, last.durable_below)
                return Tail(first, end, last, torn, proven, count, writer_epoch, max(proven, alleged))
        return Tail(first, first, None, torn, proven, count, writer_epoch, max(proven, alleged))

    def close(self) -> None:
        if self._fd >= 0:
            self.ops.close(self._fd)
        self._fd = -1
        self._path = ""
        self._seal = UNKNOWN

    def _sealed_proof(self, index: int) -> int:
        """A segment begins only at the end of what its zone held: that much was there once."""
        return self.segments[index].first

    def _end_of(self, segment: Segment) -> tuple[int, Frame | None, str, Proof]:
        """(end, last frame, why it ends if not cleanly, what the bytes after it prove)."""
        mark = self._marks.get(segment.path)
        found = self._walk(segment, mark) if mark is not None else None
        if found is None or found[1] is None:
            self._marks.pop(segment.path, None)
            found = self._walk(segment, None)
        end, last, chunk = found
        beyond = NO_PROOF
        if chunk.state != MORE and end < segment.stop:
            beyond = durable_beyond(self._file, self._fd, chunk.next_byte, end, segment.epoch, last)
            if chunk.state == ALIEN:  # sound, and of another history
                beyond = Proof(0, beyond.alleged)
        return end, last, chunk.reason if chunk.state >= BAD else "", beyond

    def _walk(self, segment: Segment, mark: tuple[int, int] | None) -> tuple[int, Frame | None, Chunk]:
        self._open(segment)
        self._begin(segment, mark)
        last: Frame | None = None
        while True:
            byte = self._byte
            chunk = self._step(segment, segment.stop, CHUNK_BYTES)
            if chunk.frames:
                last = chunk.frames[-1]
                self._marks[segment.path] = (byte + len(chunk.raw) - last.size, last.position)
            if chunk.state != MORE or chunk.next_position >= segment.stop:
                return chunk.next_position, last, chunk

    def _step(self, segment: Segment, stop: int, size: int) -> Chunk:
        chunk = read_chunk(self._file, self._fd, self._byte, self._position, stop, segment.epoch, size, self._seal)
        self._byte = chunk.next_byte
        self._position = chunk.next_position
        self._seal = chunk.seal
        return chunk

    def _begin(self, segment: Segment, mark: tuple[int, int] | None, seal: int = UNKNOWN) -> None:
        """Stand at a mark, or at the beginning of a segment, after the frame with that seal."""
        self._byte, self._position = mark if mark is not None else (0, segment.first)
        self._seal = NOTHING if self._position == 0 else UNKNOWN if mark is not None else seal

    def _seek(self, segment: Segment, position: int) -> None:
        """Stand at `position`: go on from where we are, from a mark, or from the segment's beginning."""
        if self._path == segment.path and self._position <= position and self._fd >= 0:
            pass
        else:
            seal = self._seal if self._position == segment.first else UNKNOWN  # we come from the segment before
            self._open(segment)
            mark = self._marks.get(segment.path)
            self._begin(segment, mark if mark is not None and mark[1] <= position else None, seal)
        sound = False  # a frame was found where we stood
        while self._position < position:
            chunk = self._step(segment, position, CHUNK_BYTES)
            sound = sound or len(chunk.frames) > 0
            if chunk.state == ALIEN:
                raise self._damage(segment, chunk)
            if chunk.state != MORE:
                if self._position < position:
                    mark = self._marks.pop(segment.path, None) if not sound else None
                    if mark is not None:  # perhaps it was the mark that lied
                        self._path = ""
                        self._seek(segment, position)
                        return
                    self._step_over(segment, chunk)

    def _step_over(self, segment: Segment, chunk: Chunk) -> None:
        """Pass a damaged frame that nobody asked for, if its length can be believed: a sound one follows.

        Nothing is searched for: a body may hold bytes that look like a frame. Raises Damage.
        """
        length = length_at(self._file.pread(self._fd, HEADER_BYTES, self._byte))
        if length and self._position + 1 < segment.stop:
            byte = self._byte + length
            after = read_chunk(
                self._file, self._fd, byte, self._position + 1, self._position + 2, segment.epoch, CHUNK_BYTES
            )
            if after.frames:
                self._byte = byte
                self._position += 1
                self._seal = UNKNOWN
                return
        raise self._damage(segment, chunk)

    def _open(self, segment: Segment) -> None:
        if self._path == segment.path and self._fd >= 0:
            return
        self.close()
        try:
            self._fd = self.ops.open(segment.path, os.O_RDONLY)
        except FileNotFoundError:
            raise Damage(self.name, segment.name, segment.first, 0, "the segment is gone") from None
        if self._from_disk:
            self.ops.forget_cached(self._fd)
        self._file = squeezed.opened(self.ops, self._fd)
        self._path = segment.path

    def _damage(self, segment: Segment, chunk: Chunk) -> Damage:
        reason = chunk.reason or "nothing is written there"
        return Damage(self.name, segment.name, chunk.next_position, chunk.next_byte, reason)
