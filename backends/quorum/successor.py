"""The segment after the one that a zone is writing: made ahead, so that no append waits for a new file.

A segment is named by its first position, which nobody knows before it is reached. So the file is made under a name that
no reader looks at, and gets its own late, while appends go on::

    making   from half of the current segment on: zeros, written and synced step by step; what fails is tried again
    ready    it waits until the current segment is full
    naming   every write goes into it and, once synced there, into the current one. It gets its name, that of the
             position from which it was written so, and the directory is synced
    named    the zone goes over to it, and the one before it loses its zeros

The current segment never shows a frame that its successor has not synced, and a vote is for what both hold. So it is
all the same when the name appears, whether a power cut takes it away again, or whether a fenced writer gives it that
woke up late: the zone's history is the same with it and without. Only what is written into the successor alone needs
its name, and that is after `named`.

Where it is not ready in time, because the disk is full or slow, the zone begins a segment as it does after an error.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from eventdb.backends.quorum.files import FileOps, sync_directory, write_all
from eventdb.backends.quorum.runtime import Runtime
from eventdb.backends.quorum.segment_file import ZERO_BYTES_MIN, SegmentFile

logger: Final = logging.getLogger("eventdb.backends.quorum")

SUFFIX: Final = ".ahead"
STEP_BYTES: Final = 256 << 10
PACE_S: Final = 0.02  # between two steps of zeros: the disk is there for the appends
RETRY_S: Final = 1.0
END_S_MAX: Final = 0.5  # how long a zone that ends waits for what is under way
NEVER: Final = 1 << 62
LATE_FACTOR: Final = 2  # a segment grows to so many times its size while its successor is not ready

MAKING: Final = 0
READY: Final = 1
NAMING: Final = 2
NAMED: Final = 3
FAILED: Final = 4  # whether it got its name is not known


class Successor:
    """One such file. A thread of its own makes it and names it; `state` is set by that thread, but for NAMING."""

    def __init__(self, file: SegmentFile, runtime: Runtime, size: int, zone: str, call: Callable[[], None]) -> None:
        self.state = MAKING
        self.failing = False  # the latest try of making it did not succeed
        self.hurried = False
        self.error: OSError | None = None
        self.fd = -1
        self.inode = 0
        self.zeroed = 0
        self.path = os.path.join(file.directory, f".{file.epoch}.{os.getpid()}.{os.urandom(4).hex()}{SUFFIX}")
        self._file = file
        self._ops = file.ops
        self._size = max(size, ZERO_BYTES_MIN)
        self._zone = zone
        self._call = call
        self._first = -1  # the position it is to be named by; -1: it is not needed
        self._keep = False
        self._old = (-1, 0)
        self._enough = runtime.flag()  # no more zeros
        self._decided = runtime.flag()
        self._settled = runtime.flag()  # it has its name, or never will
        self._left = runtime.flag()  # nothing is written into the segment before it any more
        self._thread = runtime.thread(self._run, f"eventdb-ahead-{zone}")

    # -- called by the zone's thread ------------------------------------------------------------------------

    def start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError:  # no more threads: the zone can do without
            self.failing = True

    def hurry(self) -> None:
        """It is needed as soon as can be."""
        self.hurried = True
        self._enough.set()

    def name(self, first: int) -> None:
        """Everything from that position on is written into it, too."""
        self.state = NAMING
        self._first = first
        self._decided.set()

    def drop(self, *, keep: bool = False) -> None:
        """It is not needed. keep: leave its file as it is."""
        self._keep = keep
        self._enough.set()
        self._decided.set()
        self._left.set()

    def leave(self, old: tuple[int, int]) -> None:
        """The zone writes into it alone; `old`: descriptor and size of the one before, to be sealed and closed."""
        self._old = old
        self._left.set()

    def wait(self) -> None:
        """Until it has its name or never will, but not for long."""
        self._settled.wait(END_S_MAX)

    # -- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._make():
            self._call()
            self._decided.wait()
            if self._first >= 0:
                self._take_over()
            else:
                self._remove()
        self._settled.set()

    def _take_over(self) -> None:
        try:
            self._put_in_place()
            self.state = NAMED
        except OSError as error:
            self.error = error
            self.state = FAILED
        self._settled.set()
        self._call()
        self._left.wait()
        fd, size = self._old
        if fd >= 0:
            try:
                self._ops.ftruncate(fd, size)
            except OSError as error:
                logger.debug("%s: a segment keeps its zeros: %s", self._zone, error)
            with suppress(OSError):
                self._ops.close(fd)

    def _make(self) -> bool:
        """False when it was not needed before it could be made."""
        while True:
            try:
                self._fill()
            except OSError as error:
                logger.debug("%s: no segment is made ahead: %s", self._zone, error)
                self.failing = True
                self._remove()
                if self._enough.wait(RETRY_S):
                    return False
                continue
            self.failing = False
            self.state = READY
            return True

    def _fill(self) -> None:
        ops = self._ops
        self.zeroed = 0
        self.fd = ops.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_DSYNC)
        self.inode = ops.stat(self.path).st_ino
        while self.zeroed < self._size:
            size = min(self._size - self.zeroed, STEP_BYTES)
            if ops.room(self._file.directory) < size + self._size:  # what is left is for what clients write
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
            write_all(ops, self.fd, bytes(size), self.zeroed)
            self.zeroed += size
            if self._enough.is_set() or (self.zeroed < self._size and self._enough.wait(PACE_S)):
                return

    def _put_in_place(self) -> None:
        """Name it, durably. Raises OSError."""
        ops = self._ops
        path = self._file.path_of(self._first)
        ops.replace(self.path, path)
        if ops.stat(path).st_ino != self.inode:
            raise OSError(errno.ESTALE, "the directory was replaced", path)
        sync_directory(ops, self._file.directory)

    def _remove(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with suppress(OSError):
                self._ops.close(fd)
        if not self._keep:
            with suppress(OSError):  # it is found when the zone joins again
                self._ops.unlink(self.path)


class Succession:
    """When a zone goes on in another file. Owned by the zone's thread."""

    def __init__(self, file: SegmentFile, runtime: Runtime, zone: str, call: Callable[[], None]) -> None:
        self._file = file
        self._runtime = runtime
        self._zone = zone
        self._call = call  # let the zone's thread look
        self._next: Successor | None = None
        self._first = 0  # of a successor that is named

    @property
    def settled(self) -> bool:
        """False while a name appears in the directory at a moment that nobody knows."""
        return self._next is None or self._next.state in (MAKING, READY)

    def due(self, size: int) -> int:
        """The byte of the current segment, which is to have `size`, at which `look` has something to do."""
        made = self._next
        if made is None:
            return size // 2
        if made.state == NAMING:
            return NEVER
        if made.state == MAKING and not made.failing and made.hurried:
            return size * LATE_FACTOR
        return 0 if made.state in (NAMED, FAILED) else size

    def look(self, end: int, size: int) -> None:
        """Between two writes, of which the next one is for `end`. Raises OSError."""
        file, made = self._file, self._next
        full = file.byte >= size
        if made is None:
            if full:
                self.roll(end)
            elif file.byte >= size // 2:
                self._next = Successor(file, self._runtime, size, self._zone, self._call)
                self._next.start()
        elif made.state == MAKING:
            if full and (made.failing or file.byte >= size * LATE_FACTOR):
                self.roll(end)
            elif full:
                made.hurry()
        elif made.state == READY:
            if full:
                file.double(made.fd, made.zeroed)
                self._first = end
                made.name(end)
        elif made.state == NAMED:
            self._go_over(made)
        elif made.error is not None:
            raise made.error

    def roll(self, end: int) -> None:
        """Begin a segment at `end` now. Raises OSError."""
        made = self._next
        if made is not None:
            if not self.settled:
                made.wait()
                if made.state != NAMED:
                    raise made.error or OSError(errno.EBUSY, os.strerror(errno.EBUSY), self._file.directory)
                self._go_over(made)
            else:
                self._next = None
                made.drop()
        self._file.seal()
        self._file.begin(end)

    def _go_over(self, made: Successor) -> None:
        self._next = None
        made.leave(self._file.go_over(self._first, made.inode))

    def forget(self) -> int | None:
        """Before the zone joins: what was made ahead is not needed, and nothing is named any more. Raises OSError.

        Returns the position from which on the zone may show what stands under a name that is not durable.
        """
        made, file = self._next, self._file
        unnamed: int | None = None
        if made is not None:
            if made.state == NAMING:
                raise OSError(errno.EBUSY, "a segment is being named", file.directory)
            if made.state == FAILED:
                unnamed = self._first
            self._next = None
            made.drop()
        with suppress(OSError):
            drop_leftovers(file.ops, file.directory)
        return unnamed

    def finish(self, *, abandon: bool) -> None:
        """The zone ends; with `abandon` its files stay as they are. Raises OSError."""
        made, self._next = self._next, None
        if made is None:
            return
        if made.state in (MAKING, READY):
            made.drop(keep=abandon)
        if not abandon:
            made.wait()
            if made.state == NAMED:
                self._go_over(made)
        made.drop(keep=abandon)


def drop_leftovers(ops: FileOps, directory: str) -> None:
    """What another writer made ahead and did not need. Raises OSError."""
    try:
        names = ops.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if name.startswith(".") and name.endswith(SUFFIX):
            with suppress(FileNotFoundError):
                ops.unlink(os.path.join(directory, name))
