"""Write sealed segments of little more than heartbeats small (`squeezed.py`), while the scrubber reads them anyway.

Nothing of the lease or of a record's way into the log knows of it: a heartbeat is appended, synced and voted for like
any record. Only a sealed segment is written again, all of which is durable and so is history for ever; only by a zone
that serves; and only into the same bytes, as a repair does: aside, synced, read back, then put into the place of the
very file that was read. So at any moment either the old file or the new one bears the name, both say the same, and a
reader that has the old one open goes on reading it. The last step is the zone's thread's, which owns the directory.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from eventdb.backends.quorum.files import FileOps, sync_directory, write_all
from eventdb.backends.quorum.segment import NO_STOP, Segment
from eventdb.backends.quorum.squeezed import NotSqueezed, Squeezing, is_squeezed

if TYPE_CHECKING:
    from eventdb.backends.quorum.zone import Zone

BYTES_MIN: Final = 64 << 10  # a smaller file is not worth the work
# A segment with more bytes than that for each frame, on average, holds data that are compressed already.
FRAME_BYTES_MAX: Final = 128
GAIN_MIN: Final = 2  # what is not half as large afterwards stays as it is: sealed records, where little can be left out
SUFFIX: Final = ".squeezed"


class Squeezer:
    """One segment on its way. `begin` makes one where it is worth it."""

    def __init__(self, zone: Zone, segment: Segment, found: os.stat_result) -> None:
        self._zone = zone
        self._segment = segment
        self._file = _mark(found)
        self._size = found.st_size
        self._squeezing: Squeezing | None = Squeezing()

    @staticmethod
    def begin(zone: Zone, segment: Segment, durable_end: int) -> Squeezer | None:
        """Raises OSError."""
        if segment.stop == NO_STOP or segment.stop > durable_end:
            return None
        try:
            found = zone.ops.stat(segment.path)
        except FileNotFoundError:
            return None  # trimmed since the segments were listed
        if not BYTES_MIN <= found.st_size <= FRAME_BYTES_MAX * (segment.stop - segment.first):
            return None
        fd = zone.ops.open(segment.path, os.O_RDONLY)
        try:
            return None if is_squeezed(zone.ops, fd) else Squeezer(zone, segment, found)
        finally:
            zone.ops.close(fd)

    def add(self, frames: bytes) -> None:
        """Take the next frames; all of them were found sound."""
        if self._squeezing is not None:
            try:
                self._squeezing.add(frames)
            except NotSqueezed:  # of an older format
                self._squeezing = None

    def finish(self) -> None:
        """All frames were added: write them aside, and leave the rest to the zone. Raises OSError."""
        if self._squeezing is None:
            return
        try:
            data = self._squeezing.finish()
        except NotSqueezed:
            return
        if GAIN_MIN * len(data) > self._size:
            return
        aside = self._write_aside(data)
        self._zone.when_idle(self._segment.name, lambda: self._put_in_place(aside))

    def _write_aside(self, data: bytes) -> str:
        ops = self._zone.ops
        name = f".{self._segment.name}.{os.getpid()}.{os.urandom(4).hex()}{SUFFIX}"
        aside = os.path.join(self._zone.directory, name)
        fd = ops.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            write_all(ops, fd, data, 0)
            ops.fsync(fd)
            ops.forget_cached(fd)
            if ops.pread(fd, len(data) + 1, 0) != data:
                raise OSError(f"{aside} does not hold what was written")
        except BaseException:
            ops.unlink(aside)
            raise
        finally:
            ops.close(fd)
        return aside

    def _put_in_place(self, aside: str) -> None:
        """In the zone's thread, between two writes. Raises OSError."""
        zone = self._zone
        with suppress(FileNotFoundError):  # trimmed meanwhile, or rebuilt
            same = _mark(zone.ops.stat(self._segment.path)) == self._file
            if same and zone.promise is not None and zone.promise.holds(zone.ops):
                zone.ops.replace(aside, self._segment.path)
                sync_directory(zone.ops, zone.directory)
                return
        with suppress(FileNotFoundError):
            zone.ops.unlink(aside)


def _mark(found: os.stat_result) -> tuple[int, int]:
    """What distinguishes a file from another one of its name: the number of one that was removed is given again."""
    return found.st_ino, found.st_ctime_ns


def drop_leftovers(ops: FileOps, directory: str) -> None:
    """What a killed process has written aside. Raises OSError."""
    for name in ops.listdir(directory):
        if name.startswith(".") and name.endswith(SUFFIX):
            with suppress(FileNotFoundError):
                ops.unlink(os.path.join(directory, name))
