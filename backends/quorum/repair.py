"""Rebuild one damaged segment of a zone from the copies in other zones.

What is put in its place fits on both sides: its first frame follows the one before the segment, and what comes after
the segment follows its last. So what a fenced writer left in another zone is never copied into it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Final

from eventdb.backends.quorum.files import FileOps, sync_directory, write_all
from eventdb.backends.quorum.joining import Source
from eventdb.backends.quorum.segment import CHUNK_BYTES, NO_STOP, Chunk, Segment
from eventdb.backends.quorum.view import Damage, ZoneView
from eventdb.backends.record import NOTHING, UNKNOWN, Frame, follows, unlinked

logger: Final = logging.getLogger("eventdb.backends.quorum")

Bounded = tuple[ZoneView, int]  # and up to where (exclusive) it may be believed


def repair_segment(ops: FileOps, directory: str, zone: str, name: str, others: Sequence[Source]) -> None:
    """Rebuild the segment if it can be, and say so; closes the views. Raises OSError."""
    try:
        if _rebuild(ops, directory, zone, name, others):
            logger.warning("%s: segment %s was damaged and is rebuilt from the other zones", zone, name)
    except Damage as damage:
        logger.error("%s: segment %s cannot be rebuilt: %s", zone, name, damage)
    finally:
        for source in others:
            source.view.close()


def _rebuild(ops: FileOps, directory: str, zone: str, name: str, others: Sequence[Source]) -> bool:
    """Write the segment anew, from others where they have it and from itself where it is sound.

    The new file takes the name only when it is whole and synced. False when there is nothing to do: the segment is
    no longer part of history, or is still being written. Raises Damage (nobody has a frame of it), OSError.
    """
    mine = ZoneView(ops, directory, zone)
    try:
        mine.refresh()
        for source in others:
            source.view.refresh()
        segment = next((segment for segment in mine.segments if segment.name == name), None)
        if segment is None or segment.stop == NO_STOP:
            return False
        path = os.path.join(directory, f".{name}.repair")
        fd = ops.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            _collect(ops, fd, segment, mine, [*((source.view, source.end) for source in others), (mine, segment.stop)])
            ops.fsync(fd)
            for source in others:
                if not source.is_sound():
                    raise Damage(source.view.name, name, segment.first, 0, "the zone was replaced while it was read")
        except BaseException:
            ops.unlink(path)
            raise
        finally:
            ops.close(fd)
        ops.replace(path, segment.path)
        sync_directory(ops, directory)
        return True
    finally:
        mine.close()


def _collect(ops: FileOps, fd: int, segment: Segment, mine: ZoneView, views: Sequence[Bounded]) -> None:
    """Write the segment's frames into the file, one zone's wherever it has them and the others' where not.

    Each zone is tried as the first, until what was collected fits to what comes after the segment.
    Raises Damage, OSError.
    """
    before = _seal_before(mine, segment.first)
    after = _frame_at(mine, segment.stop)
    damage: Damage | None = None
    for first in range(len(views)):
        position, byte, seal = segment.first, 0, before
        try:
            while position < segment.stop:
                chunk = _read_anywhere((*views[first:], *views[:first]), position, segment.stop, seal)
                write_all(ops, fd, chunk.raw, byte)
                byte += len(chunk.raw)
                position, seal = chunk.next_position, chunk.seal
        except Damage as error:
            damage = damage or error
            continue
        if after is None or follows(after, seal):
            ops.ftruncate(fd, byte)
            return
        damage = Damage(views[first][0].name, segment.name, position, byte, unlinked(position))
    assert damage is not None
    raise damage


def _seal_before(mine: ZoneView, position: int) -> int:
    if position == 0:
        return NOTHING
    frame = _frame_at(mine, position - 1)
    return frame.seal if frame is not None else UNKNOWN


def _frame_at(mine: ZoneView, position: int) -> Frame | None:
    """A frame beside the segment; None where it is damaged as well, or trimmed: then nothing is compared with it."""
    try:
        return mine.frame_at(position)
    except Damage:
        return None


def _read_anywhere(views: Sequence[Bounded], position: int, stop: int, before: int) -> Chunk:
    damage: Damage | None = None
    for view, end in views:
        if position >= end:
            continue
        try:
            chunk = view.read(position, min(stop, end), CHUNK_BYTES)
        except Damage as error:
            damage = damage or error
            continue
        except OSError:
            continue
        if chunk.frames and follows(chunk.frames[0], before):
            return chunk
        if chunk.frames:
            damage = damage or Damage(view.name, "-", position, 0, unlinked(position))
    raise damage or Damage(views[-1][0].name, "-", position, 0, "no zone can be read there")
