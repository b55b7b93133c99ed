"""What a zone does with files while it joins a living writer: other zones as sources, and writing again.

A source is believed only as far as it has proven (its votes), and only while its directory is the one that proved it:
`is_sound` looks at its promise after the reading, as a vote looks after the writing. A directory that was put in its
place meanwhile, an older copy perhaps, bears another promise file.
"""

from __future__ import annotations

import os

from eventdb.backends.quorum.align import Mark, mark_of
from eventdb.backends.quorum.files import FileOps, sync_directory, write_all
from eventdb.backends.quorum.promise import Promise
from eventdb.backends.quorum.segment import CHUNK_BYTES, NO_STOP, segment_name
from eventdb.backends.quorum.view import Damage, Tail, ZoneView


class NotYet(Exception):  # noqa: N818
    """The zone cannot join now, for want of others; said in `Log.info`."""


class Changed(NotYet):
    """A zone does not show any more what was adopted of it: a file of a fenced writer came late."""

    def __init__(self, zone: str, position: int) -> None:
        super().__init__(f"{zone}: position {position} is no longer what it was: a fenced writer's file came late")


class Source:
    """Another zone's directory, read up to what that zone has proven when it was taken as a source."""

    def __init__(self, view: ZoneView, end: int, promise: Promise | None) -> None:
        self.view = view
        self.end = end  # exclusive
        self._promise = promise

    def is_sound(self) -> bool:
        """What was read until now came from the directory that proved it. Raises OSError."""
        return self._promise is not None and self._promise.holds(self.view.ops)


def holds(view: ZoneView, end: int, epoch: int) -> bool:
    """The directory holds all before `end`, whose last record is of that epoch. Raises OSError.

    Two records of one position and epoch are the same record, and so is all that lies before them (align.py).
    """
    try:
        view.refresh()
        if end <= view.first_position:
            return end == 0
        frame = view.frame_at(end - 1)
        return frame is not None and frame.epoch == epoch
    except Damage:
        return False
    finally:
        view.close()


def cut_short(end: int, tail: Tail, *, hollow: bool) -> str:
    """Why a zone's history is cut at `end`; "" where nothing is cut."""
    if hollow:
        return "what it shows after that has a hole: rebuilt from the other zones"
    if end < tail.end or tail.torn:
        return f"{tail.torn or f'{tail.end - end} records of a fenced writer'}, never acknowledged"
    return ""


def write_again(
    ops: FileOps,
    directory: str,
    zone: str,
    epoch: int,
    synced: int,
    end: int,
    *,
    floor: int = NO_STOP,
    last: Mark | None = None,
) -> None:
    """Write the end of what was adopted once more, in a segment of this epoch, synced. Raises OSError, Damage, Changed.

    For two reasons. After a failed sync the kernel shows bytes that are on no disk, and calls them clean. A zone begins
    a new segment after every error and at every roll, so only its last segment can hold such bytes; `synced` says up to
    where a hint knows better.
    And a fenced writer whose thread was held up may still give its segment a name. Where that begins before `end`, it
    would replace what was adopted with what the fenced writer made of it. It cannot begin before `floor` with anything
    else than is here, because what is durable is the same in all histories; and from `floor` on this epoch's segment
    has the say. last: the frame before `end` as it was adopted. What was read is compared with it before it is named.

    The copy takes its name when it is whole and synced: before that, the old segment is history.
    """
    view = ZoneView(ops, directory, zone)
    try:
        view.refresh()
        segments = [segment for segment in view.segments if segment.first < end]
        first = min(max(segments[-1].first, synced), max(floor, view.first_position)) if segments else end
        if first >= end:
            _compare(view, end, last)
            return
        aside = os.path.join(directory, f".{segment_name(first, epoch)}.again")
        fd = ops.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        found: Mark | None = None
        try:
            position, byte = first, 0
            while position < end:
                chunk = view.read(position, end, CHUNK_BYTES)
                if not chunk.frames:
                    raise Damage(zone, segments[-1].name, position, 0, "history ends here")
                write_all(ops, fd, chunk.raw, byte)
                byte += len(chunk.raw)
                position = chunk.next_position
                found = mark_of(chunk.frames[-1])
            if last is not None and found != last:
                raise Changed(zone, end - 1)
            ops.fsync(fd)
        except BaseException:
            ops.unlink(aside)
            raise
        finally:
            ops.close(fd)
        ops.replace(aside, os.path.join(directory, segment_name(first, epoch)))
        sync_directory(ops, directory)
    finally:
        view.close()


def _compare(view: ZoneView, end: int, last: Mark | None) -> None:
    """Raise Changed if the frame before `end` is not the one that was adopted."""
    frame = view.frame_at(end - 1) if end and last is not None else None
    if last is not None and (frame is None or mark_of(frame) != last):
        raise Changed(view.name, end - 1)
