"""What a zone does with files while it joins a living writer: other zones as sources, and writing again.

A source is believed only as far as it has proven (its votes), and only while its directory is the one that proved it:
`is_sound` looks at its promise after the reading, as a vote looks after the writing. A directory that was put in its
place meanwhile, an older copy perhaps, bears another promise file.
"""

from __future__ import annotations

import os

from eventdb.backends.quorum.files import FileOps, sync_directory, write_all
from eventdb.backends.quorum.promise import Promise
from eventdb.backends.quorum.segment import CHUNK_BYTES, segment_name
from eventdb.backends.quorum.view import Damage, Tail, ZoneView


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


def write_again(ops: FileOps, directory: str, zone: str, epoch: int, synced: int, end: int) -> None:
    """Write and sync again what an earlier writer may have left in the page cache alone. Raises OSError, Damage.

    After a failed sync the kernel shows bytes that are on no disk, and calls them clean. A zone begins a new segment
    after every error and at every roll, so only its last segment can hold such bytes; `synced` says up to where a hint
    knows better. The copy takes its name when it is whole and synced: before that, the old segment is history.
    """
    view = ZoneView(ops, directory, zone)
    try:
        view.refresh()
        segments = [segment for segment in view.segments if segment.first < end]
        first = max(segments[-1].first, synced) if segments else end
        if first >= end:
            return
        aside = os.path.join(directory, f".{segment_name(first, epoch)}.again")
        fd = ops.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            position, byte = first, 0
            while position < end:
                chunk = view.read(position, end, CHUNK_BYTES)
                if not chunk.frames:
                    raise Damage(zone, segments[-1].name, position, 0, "history ends here")
                write_all(ops, fd, chunk.raw, byte)
                byte += len(chunk.raw)
                position = chunk.next_position
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
