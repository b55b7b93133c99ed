"""The one door between a zone and its file system.

`FileOps` is every call a zone makes, so that a test can make one zone fail, fill up or hang at a chosen
moment; the real one only forwards. The functions below it are the safe ways to use those calls: what
has to be synced, and in which order, is decided here and nowhere else.
"""

from __future__ import annotations

import os
from typing import Final

FILE_MODE: Final = 0o644


class FileOps:
    """The file system of one zone. Every method raises OSError as `os` does."""

    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)

    def close(self, fd: int) -> None:
        os.close(fd)

    def pwrite(self, fd: int, data: bytes, at: int) -> int:
        return os.pwrite(fd, data, at)

    def pread(self, fd: int, size: int, at: int) -> bytes:
        return os.pread(fd, size, at)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def forget_cached(self, fd: int) -> None:
        """Let the next reads come from the disk, where the system can do that; pages that are not synced stay."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def ftruncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def room(self, path: str) -> int:
        """Bytes that may still be written to the file system of that directory."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def stat(self, path: str) -> os.stat_result:
        return os.stat(path)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def link(self, source: str, target: str) -> None:
        os.link(source, target)

    def replace(self, source: str, target: str) -> None:
        os.replace(source, target)

    def mkdir(self, path: str) -> None:
        os.mkdir(path)


def sync_directory(ops: FileOps, path: str) -> None:
    """Make the names in a directory durable: a synced file whose name is lost is lost."""
    fd = ops.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        ops.fsync(fd)
    finally:
        ops.close(fd)


def make_directories(ops: FileOps, path: str) -> None:
    """Make the directory and what is missing above it, each name durable in its parent."""
    missing: list[str] = []
    while True:
        try:
            ops.stat(path)
            break
        except FileNotFoundError:
            missing.append(path)
            path = os.path.dirname(path)
    for directory in reversed(missing):
        try:
            ops.mkdir(directory)
        except FileExistsError:
            pass  # somebody else made it at the same time
        sync_directory(ops, os.path.dirname(directory))


def write_all(ops: FileOps, fd: int, data: bytes, at: int) -> None:
    """pwrite until nothing is left; a full disk may take a part first and only then say ENOSPC."""
    done = ops.pwrite(fd, data, at)
    while done < len(data):
        done += ops.pwrite(fd, data[done:], at + done)


def read_file(ops: FileOps, path: str, size_max: int) -> bytes:
    fd = ops.open(path, os.O_RDONLY)
    try:
        return ops.pread(fd, size_max, 0)
    finally:
        ops.close(fd)


def create_once(ops: FileOps, directory: str, name: str, data: bytes) -> bool:
    """Put a whole, durable file in place unless the name is taken; False when it was.

    Written aside, then linked: `link` refuses an existing name, which `rename` would overwrite.
    """
    aside = _aside(ops, directory, name, data)
    try:
        ops.link(aside, os.path.join(directory, name))
    except FileExistsError:
        return False
    finally:
        ops.unlink(aside)
    sync_directory(ops, directory)
    return True


def replace_whole(ops: FileOps, directory: str, name: str, data: bytes) -> None:
    """Put a whole, durable file in place of whatever has the name: the old one or the new one, never half."""
    ops.replace(_aside(ops, directory, name, data), os.path.join(directory, name))
    sync_directory(ops, directory)


def _aside(ops: FileOps, directory: str, name: str, data: bytes) -> str:
    aside = os.path.join(directory, f".{name}.{os.getpid()}.{os.urandom(4).hex()}")
    fd = ops.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        write_all(ops, fd, data, 0)
        ops.fsync(fd)
    finally:
        ops.close(fd)
    return aside
