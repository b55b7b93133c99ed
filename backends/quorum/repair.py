"""Rebuild one damaged segment of a zone from the copies in other zones."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Final

from eventdb.backends.quorum.files import FileOps, sync_directory, write_all
from eventdb.backends.quorum.joining import Source
from eventdb.backends.quorum.segment import CHUNK_BYTES, NO_STOP, Chunk
from eventdb.backends.quorum.view import Damage, ZoneView

LOGGER: Final = logging.getLogger("eventdb.backends.quorum")


def repair_segment(ops: FileOps, directory: str, zone: str, name: str, others: Sequence[Source]) -> None:
    """Rebuild the segment if it can be, and say so; closes the views. Raises OSError."""
    try:
        if _rebuild(ops, directory, zone, name, others):
            LOGGER.warning("%s: segment %s was damaged and is rebuilt from the other zones", zone, name)
    except Damage as damage:
        LOGGER.error("%s: segment %s cannot be rebuilt: %s", zone, name, damage)
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
            position = segment.first
            byte = 0
            while position < segment.stop:
                chunk = _read_anywhere(others, mine, position, segment.stop)
                write_all(ops, fd, chunk.raw, byte)
                byte += len(chunk.raw)
                position = chunk.next_position
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


def _read_anywhere(others: Sequence[Source], mine: ZoneView, position: int, stop: int) -> Chunk:
    """From a zone that has proven it, or from our own copy where that is sound. Raises Damage."""
    damage: Damage | None = None
    for view, end in [*((source.view, source.end) for source in others), (mine, stop)]:
        if position >= end:
            continue
        try:
            chunk = view.read(position, min(stop, end), CHUNK_BYTES)
        except Damage as error:
            damage = error
            continue
        except OSError:
            continue
        if chunk.frames:
            return chunk
    raise damage or Damage(mine.name, "-", position, 0, "no zone can be read there")
