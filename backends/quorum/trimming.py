"""Let go of the beginning of a zone's history: whole segments, and first the word that they are none any more.

A zone that is away meanwhile keeps what it has. It says the same history, only more of it, and lets go with the next
trim; or what it lacks lies before the others' beginning, then it is filled anew from there (zone.py).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from eventdb.backends.quorum.files import FileOps, create_once, sync_directory
from eventdb.backends.quorum.segment import NO_STOP, effective, list_segments, replaced, start_name, starts


def trim_zone(ops: FileOps, directory: str, before: int) -> None:
    """Drop the segments that end at or before a position that is history for certain. Raises OSError."""
    gone = [segment for segment in effective(list_segments(ops, directory)) if segment.stop <= before]
    gone = [segment for segment in gone if segment.stop != NO_STOP]
    if not gone:
        return
    create_once(ops, directory, start_name(before), b"")
    # An older version of this program reads the names of segments alone: what was replaced would come back to life for
    # it without what replaced it, and a gap would be damage. So that goes first, then the oldest.
    _unlink(ops, directory, (segment.path for segment in replaced(ops, directory)))
    _unlink(ops, directory, (segment.path for segment in gone))
    older = [start_name(position) for position in starts(ops.listdir(directory)) if position < before]
    _unlink(ops, directory, (os.path.join(directory, name) for name in older))


def _unlink(ops: FileOps, directory: str, paths: Iterable[str]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # another one trims as well
            ops.unlink(path)
    sync_directory(ops, directory)
