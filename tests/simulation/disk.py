"""The file system of one zone: what is written is seen by all at once, what is synced survives a power cut.

The model is harsher than common file systems, and no more than POSIX promises. After a power cut

* of the writes since a file's last sync any may be missing, whole or in sectors, and a truncation may be;
* of the changes of a directory's names since its last sync a first part is there: names change in order, but a synced
  file whose name was not synced may have none;
* after a sync that failed, what it should have written is still shown but never reaches the disk (as Linux does it).

The zone's directory may also be changed from outside: files bear other change times (chmod, chown, a hard link), an
older copy of the directory stands in its place, or none.
"""

from __future__ import annotations

import errno
import functools
import os
import random
import stat
from collections.abc import Callable

SECTOR: int = 512


_split = functools.lru_cache(os.path.split)


@functools.lru_cache
def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


def fail(code: int) -> OSError:
    return OSError(code, os.strerror(code))


class Inode:
    def __init__(self, number: int, *, directory: bool, changed_ns: int) -> None:
        self.number = number
        self.directory = directory
        self.changed_ns = changed_ns
        self.data = bytearray()  # a file's bytes, as everybody sees them
        self.durable = bytearray()
        self.unsynced: list[tuple[int, bytes]] = []  # (at, bytes); at -1 - size: a truncation
        self.names: dict[str, Inode] = {}  # a directory's, as everybody sees them
        self.durable_names: dict[str, Inode] = {}
        self.unsynced_names: list[tuple[tuple[str, Inode | None], ...]] = []  # changes, each whole or not at all

    def write(self, data: bytes, at: int) -> None:
        end = at + len(data)
        if len(self.data) < at:
            self.data.extend(bytes(at - len(self.data)))
        self.data[at:end] = data
        self.unsynced.append((at, bytes(data)))

    def truncate(self, size: int) -> None:
        _resize(self.data, size)
        self.unsynced.append((-1 - size, b""))

    def rename(self, *changes: tuple[str, Inode | None]) -> None:
        _change(self.names, changes)
        self.unsynced_names.append(changes)

    def sync(self, *, keep: bool = True) -> None:
        """All of it becomes durable; without `keep` the disk has lost it, and nobody will write it again."""
        if keep:
            for at, data in self.unsynced:
                _apply(self.durable, at, data)
            for changes in self.unsynced_names:
                _change(self.durable_names, changes)
        self.unsynced.clear()
        self.unsynced_names.clear()

    def lose(self, rng: random.Random) -> None:
        """The power is cut: of what was not synced, some is there."""
        for at, data in self.unsynced:
            fate = rng.random()
            if fate < 0.4:
                _apply(self.durable, at, data)
            elif fate < 0.7:
                for sector in range(0, len(data), SECTOR):
                    if rng.random() < 0.5:
                        _apply(self.durable, at + sector, data[sector : sector + SECTOR])
        for changes in self.unsynced_names[: rng.randint(0, len(self.unsynced_names))]:
            _change(self.durable_names, changes)
        self.unsynced.clear()
        self.unsynced_names.clear()
        self.data = bytearray(self.durable)
        self.names = dict(self.durable_names)


def _resize(data: bytearray, size: int) -> None:
    if size < len(data):
        del data[size:]
    else:
        data.extend(bytes(size - len(data)))


def _apply(data: bytearray, at: int, written: bytes) -> None:
    if at < 0:
        _resize(data, -1 - at)
        return
    if len(data) < at:
        data.extend(bytes(at - len(data)))
    data[at : at + len(written)] = written


def _change(names: dict[str, Inode], changes: tuple[tuple[str, Inode | None], ...]) -> None:
    for name, inode in changes:
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode


class Disk:
    """Every call raises OSError as the kernel does. `now_ns` stamps changes."""

    def __init__(self, root: str, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._zone = root
        self._number = 10
        self._last_ns = 0
        self.powered = 0  # times it was switched on: files that were open before are gone
        self.root = self._inode(directory=True)
        at = self.root
        for part in root.strip("/").split("/")[:-1]:  # where the zone's directory is made, it is mounted
            inside = self._inode(directory=True)
            at.rename((part, inside))
            at.sync()
            at = inside

    def _inode(self, *, directory: bool) -> Inode:
        self._number += 1
        return Inode(self._number, directory=directory, changed_ns=self._stamp())

    def _stamp(self) -> int:
        self._last_ns = max(self._last_ns + 1, self._now_ns())
        return self._last_ns

    def _find(self, path: str) -> Inode:
        at = self.root
        for part in _parts(path):
            if not at.directory:
                raise fail(errno.ENOTDIR)
            found = at.names.get(part)
            if found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            at = found
        return at

    def _parent(self, path: str) -> tuple[Inode, str]:
        above, name = _split(path)
        parent = self._find(above)
        if not parent.directory:
            raise fail(errno.ENOTDIR)
        return parent, name

    # -- what a zone calls

    def open(self, path: str, flags: int) -> Inode:
        parent, name = self._parent(path)
        inode = parent.names.get(name)
        if inode is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            inode = self._inode(directory=False)
            parent.rename((name, inode))
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        elif flags & os.O_TRUNC:
            inode.truncate(0)
        return inode

    def pwrite(self, inode: Inode, data: bytes, at: int) -> int:
        inode.write(data, at)
        inode.changed_ns = self._stamp()
        return len(data)

    def ftruncate(self, inode: Inode, size: int) -> None:
        inode.truncate(size)
        inode.changed_ns = self._stamp()

    def stat(self, path: str) -> os.stat_result:
        inode = self._find(path)
        mode = stat.S_IFDIR | 0o755 if inode.directory else stat.S_IFREG | 0o644
        seconds = inode.changed_ns // 10**9
        fields = [mode, inode.number, 1, 1, 0, 0, len(inode.data), seconds, seconds, seconds]
        return os.stat_result(fields, {"st_ctime_ns": inode.changed_ns})

    def listdir(self, path: str) -> list[str]:
        inode = self._find(path)
        if not inode.directory:
            raise fail(errno.ENOTDIR)
        return list(inode.names)

    def unlink(self, path: str) -> None:
        parent, name = self._parent(path)
        inode = parent.names.get(name)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if inode.directory:
            raise fail(errno.EISDIR)
        parent.rename((name, None))
        inode.changed_ns = self._stamp()

    def link(self, source: str, target: str) -> None:
        inode = self._find(source)
        parent, name = self._parent(target)
        if name in parent.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        parent.rename((name, inode))
        inode.changed_ns = self._stamp()

    def replace(self, source: str, target: str) -> None:
        before, old_name = self._parent(source)
        inode = self._find(source)
        parent, name = self._parent(target)
        assert parent is before, "within one directory"
        parent.rename((name, inode), (old_name, None))
        inode.changed_ns = self._stamp()

    def mkdir(self, path: str) -> None:
        parent, name = self._parent(path)
        if name in parent.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        parent.rename((name, self._inode(directory=True)))

    # -- what happens to it

    def every(self) -> list[Inode]:
        """All inodes that have or had a name, in a fixed order."""
        found: dict[int, Inode] = {}
        todo = [self.root]
        while todo:
            inode = todo.pop()
            if inode.number in found:
                continue
            found[inode.number] = inode
            todo.extend(inode.names.values())
            todo.extend(inode.durable_names.values())
            todo.extend(made for changes in inode.unsynced_names for _name, made in changes if made is not None)
        return [found[number] for number in sorted(found)]

    def touch(self) -> None:
        """All files bear other change times."""
        for inode in self.every():
            inode.changed_ns = self._stamp()

    def backup(self) -> Inode | None:
        """A copy of the zone's directory as it is shown now; None while there is none."""
        try:
            return self._copy(self._find(self._zone))
        except OSError:
            return None

    def replace_zone(self, backup: Inode | None) -> None:
        """A copy of the backup takes the directory's place; who has files open has those of before."""
        parent, name = self._parent(self._zone)
        parent.rename((name, self._copy(backup) if backup is not None else None))
        parent.sync()

    def _copy(self, inode: Inode) -> Inode:
        made = self._inode(directory=inode.directory)
        made.data = bytearray(inode.data)
        made.durable = bytearray(inode.data)
        made.names = {name: self._copy(found) for name, found in inode.names.items()}
        made.durable_names = dict(made.names)
        return made

    def cut_power(self, rng: random.Random) -> None:
        for inode in self.every():
            inode.lose(rng)
        self.powered += 1
