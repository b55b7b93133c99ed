"""The segment that a zone's thread is writing: a file of its epoch, its name durable, zeros ahead of the frames."""

from __future__ import annotations

import errno
import os
from typing import Final

from eventdb.backends.quorum.files import FileOps, sync_directory, write_all
from eventdb.backends.quorum.segment import list_segments, segment_name

ZERO_BYTES_MIN: Final = 64 << 10
ZERO_BYTES_MAX: Final = 1 << 20


class SegmentFile:
    """Owned by one thread. `fd` is -1 while there is none."""

    def __init__(self, ops: FileOps, directory: str, epoch: int, zone: int, zones: int) -> None:
        self.ops = ops
        self.directory = directory
        self.epoch = epoch
        self.fd = -1
        self.first = 0
        self.inode = 0
        self.byte = 0  # where the next frame goes
        self.mark = (0, 0)  # byte and position of the latest write
        self.zeroed = 0  # it holds zeros from `byte` to here
        self.next_fd = -1  # of the successor that is being named: it holds what is here from byte `next_base` on
        self.next_base = 0
        self._next_zeroed = 0
        # At another level in each zone, so that they do not all stop for it at once.
        self._zero_low = ZERO_BYTES_MIN * (zone + 1) // (zones + 1)

    @property
    def name(self) -> str:
        return segment_name(self.first, self.epoch)

    def path_of(self, first: int) -> str:
        return os.path.join(self.directory, segment_name(first, self.epoch))

    def begin(self, first: int) -> None:
        """Open a new segment of our epoch at `first`, its name durable, zeros ahead. Raises OSError."""
        ops = self.ops
        self.close()
        for segment in list_segments(ops, self.directory):
            if segment.epoch == self.epoch and segment.first >= first:
                ops.unlink(segment.path)  # ours, from before an error: nothing in it was counted
        path = self.path_of(first)
        self.fd = ops.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_DSYNC)
        self.first = first
        self.inode = ops.stat(path).st_ino
        self.byte = 0
        self.zeroed = 0
        self.mark = (0, first)
        self.zero()
        sync_directory(ops, self.directory)

    def check(self) -> None:
        """Raises OSError when the name belongs to another file now."""
        path = os.path.join(self.directory, self.name)
        if self.ops.stat(path).st_ino != self.inode:
            raise OSError(errno.ESTALE, "the segment was replaced", path)

    def write(self, data: bytes) -> None:
        """Write at the end, durably; before that into the successor, which never holds less. Raises OSError."""
        if self.next_fd >= 0:
            write_all(self.ops, self.next_fd, data, self.byte - self.next_base)
        write_all(self.ops, self.fd, data, self.byte)  # O_DSYNC: back only when it is on stable storage

    def double(self, fd: int, zeroed: int) -> None:
        """From here on write into that file, too, from its beginning."""
        self.next_fd, self.next_base, self._next_zeroed = fd, self.byte, zeroed

    def go_over(self, first: int, inode: int) -> tuple[int, int]:
        """Write into the successor alone, whose name is durable. Returns descriptor and size of the file before."""
        left = self.fd, self.byte
        self.fd, self.next_fd = self.next_fd, -1
        self.first, self.inode = first, inode
        self.byte -= self.next_base
        self.zeroed = self._next_zeroed
        at, position = self.mark
        self.mark = (at - self.next_base, position) if at >= self.next_base else (0, first)
        return left

    def zero_low(self) -> int:
        """With fewer zeros than that ahead it is time to fill in more."""
        return self._zero_low

    def zero(self) -> None:
        """Fill in zeros ahead of the frames. Raises OSError, but not for a full disk."""
        size = min(max(self.byte, ZERO_BYTES_MIN), ZERO_BYTES_MAX)
        start = max(self.zeroed, self.byte)
        try:
            write_all(self.ops, self.fd, bytes(size), start)
            self.zeroed = start + size
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.zeroed = 1 << 62  # full: only speed is lost, the frames themselves may still fit

    def seal(self) -> None:
        """Cut the zeros off. Raises OSError."""
        if self.fd >= 0:
            self.ops.ftruncate(self.fd, self.byte)

    def close(self) -> None:
        for fd in (self.fd, self.next_fd):
            if fd >= 0:
                try:
                    self.ops.close(fd)
                except OSError:
                    pass  # the descriptor is gone either way
        self.fd = self.next_fd = -1
