"""Zones that a copy which ended half-way has filled are emptied, so that the next one begins anew in them.

Zones keep their identity and their promises, so epochs go on: whatever a fenced writer still does bears a lower epoch
than the segment that the next writer begins at position 0, and has no say. While records are removed, a note in every
zone says so: the next one that fills the log goes on removing, and reads nothing.

A process that fills a log holds a lock in every zone, which the system takes back when the process ends, however it
ends. Where machines share a file system without its locks, only the epochs keep two of them apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Sequence
from typing import Final

from eventdb.backends.log import Unavailable
from eventdb.backends.quorum import hint as hints
from eventdb.backends.quorum.claim import Place
from eventdb.backends.quorum.files import make_directories, sync_directory
from eventdb.backends.quorum.segment import START, SUFFIX, list_segments

NAME: Final = "filling"  # the lock, and the note in it
EMPTYING: Final = b"emptying\n"


class Hold:
    """The locks of all zones, once `take` was called and until `let_go`."""

    def __init__(self, url: str, places: Sequence[Place]) -> None:
        self._url = url
        self._places = places
        self._fds: list[int] = []

    def take(self) -> None:
        """Raises Unavailable: another process fills the log at this moment, or a zone cannot be written."""
        try:
            for place in self._places:
                make_directories(place.ops, place.directory)
                self._fds.append(_locked(os.path.join(place.directory, NAME)))
        except BlockingIOError:
            self.let_go()
            raise Unavailable(
                f"{self._url} is being filled by another process at this moment: wait for it, or end it, and run this"
                " again"
            ) from None
        except OSError as error:
            self.let_go()
            raise Unavailable(f"{self._url} cannot be filled: {error}") from error

    def let_go(self) -> None:
        for place in self._places[: len(self._fds)]:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(place.directory, NAME))
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def empty(self) -> None:
        """Remove all records of all zones, durably, while the locks are held. Raises Unavailable: a zone refuses."""
        try:
            for fd in self._fds:
                os.pwrite(fd, EMPTYING, 0)
                os.fsync(fd)
            for place in self._places:
                _empty(place)
            for fd in self._fds:
                os.ftruncate(fd, 0)
                os.fsync(fd)
        except OSError as error:
            raise Unavailable(f"what an earlier attempt left in {self._url} cannot be removed: {error}") from error


def half_emptied(places: Sequence[Place]) -> bool:
    """Somebody began to remove the records, and did not come to the end."""
    for place in places:
        with contextlib.suppress(OSError), open(os.path.join(place.directory, NAME), "rb") as file:
            if file.read():
                return True
    return False


def _locked(path: str) -> int:
    """A descriptor that holds the lock of the file of that name. Raises BlockingIOError, OSError."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_ino == os.fstat(fd).st_ino:
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # the one that held it has just taken the file away


def _empty(place: Place) -> None:
    ops, directory = place.ops, place.directory
    with contextlib.suppress(FileNotFoundError):
        ops.unlink(os.path.join(directory, hints.NAME))
    for segment in list_segments(ops, directory):
        ops.unlink(segment.path)
    for name in ops.listdir(directory):
        if name.startswith(START) or (name.startswith(".") and SUFFIX in name):
            with contextlib.suppress(FileNotFoundError):
                ops.unlink(os.path.join(directory, name))
    sync_directory(ops, directory)
