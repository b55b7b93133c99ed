"""Promises: how a claim fences every earlier writer in one zone, with nothing but files.

`promises/promise-E` is created with O_EXCL, so at most one claimant owns epoch E in a zone. Then the claimant
looks for a higher promise (and withdraws if there is one), removes every lower one, and only then reads
the zone's tail. A writer counts an append in this zone only if, after the append was synced, its own
promise is still there. That one `stat` is the whole check, and it is enough::

    the check found it: the removal comes later, and so does the claimant's reading: the append is adopted
    the check missed it: a higher claim may have read before the append: it is not counted

The check compares inode and change time with those of the file the writer made. So a zone that was deleted,
or replaced by an older copy of itself, is noticed too: there the promise is gone or is another file.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from eventdb.backends.quorum.files import FileOps, make_directories, sync_directory

DIRECTORY: Final = "promises"
_PREFIX: Final = "promise-"


class Outbid(Exception):  # noqa: N818
    """The zone is promised to a higher epoch, or to another claimant of the same one."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"promised to epoch {epoch}")
        self.epoch = epoch


class LostPromise(Exception):  # noqa: N818
    """Our promise is gone from the zone: a higher claim took it, or the directory is another one."""


@dataclass(frozen=True, slots=True)
class Promise:
    """One that we made. `inode` and `changed_ns` distinguish our file from a copy of it."""

    epoch: int
    path: str
    inode: int
    changed_ns: int

    def holds(self, ops: FileOps) -> bool:
        """True while no higher claim took the zone and the directory is still the same one. Raises OSError."""
        try:
            found = ops.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return found.st_ino == self.inode and found.st_ctime_ns == self.changed_ns


def epochs(ops: FileOps, zone: str) -> list[int]:
    """Every epoch promised in the zone, ascending; empty when there is no such directory."""
    try:
        names = ops.listdir(os.path.join(zone, DIRECTORY))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(name[len(_PREFIX) :]) for name in names if name.startswith(_PREFIX) and name[8:].isdigit())


def make(ops: FileOps, zone: str, epoch: int, *, ours: bool = False) -> Promise:
    """Promise `epoch` in the zone and fence everything below it, durably. Raises Outbid, OSError.

    `ours`: we own the epoch already, in a majority of zones; then a promise of the same number that lies here is
    no rival's, because two claimants cannot both own a majority.
    """
    directory = os.path.join(zone, DIRECTORY)
    make_directories(ops, directory)
    path = os.path.join(directory, f"{_PREFIX}{epoch:010d}")
    try:
        fd = ops.open(path, os.O_WRONLY | os.O_CREAT | (0 if ours else os.O_EXCL))
    except FileExistsError:
        raise Outbid(epoch) from None
    try:
        ops.fsync(fd)
    finally:
        ops.close(fd)
    sync_directory(ops, directory)
    there = epochs(ops, zone)
    if there and there[-1] > epoch:
        with suppress(FileNotFoundError):  # the higher claim may have been faster
            ops.unlink(path)
        raise Outbid(there[-1])
    lower = [other for other in there if other < epoch]
    for other in lower:
        try:
            ops.unlink(os.path.join(directory, f"{_PREFIX}{other:010d}"))
        except FileNotFoundError:
            pass
    if lower:
        sync_directory(ops, directory)
    try:
        found = ops.stat(path)
    except FileNotFoundError:  # taken by a higher claim since we looked, which may have given up by now
        raise Outbid(max([epoch, *epochs(ops, zone)])) from None
    return Promise(epoch, path, found.st_ino, found.st_ctime_ns)
