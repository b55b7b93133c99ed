"""The calls of one process to one zone: messages to the disk and back, which take time, fail, hang, arrive late.

A call that is under way when its process is killed or cut off still arrives: what a zone does then is what the promises
are there for.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from eventdb.backends.quorum.files import FileOps
from tests.simulation.disk import Disk, Inode, fail
from tests.simulation.threads import Waiter, is_thread
from tests.simulation.world import Process, World

SHORT = 0.01  # of writes take a first part only, which the caller is told
HELD_S = 0.03
SWITCH = 0.08  # of quick calls take noticeable time, so that others get in between
HANG_S_MIN = 0.002  # between two tries of a message to a zone that cannot be reached


class ZoneState:
    """A zone and what is wrong with it."""

    def __init__(self, world: World, index: int, directory: str) -> None:
        self.world = world
        self.index = index
        self.directory = directory
        self.disk = Disk(directory, lambda: int((1_000_000 + world.now) * 1e9))
        self.sync_s = 0.0003  # what a sync takes, about
        self.slow = 0.0  # seconds on top of every call
        self.held = 0.0  # chance that a call arrives late, by up to HELD_S
        self.read_error = 0.0  # chance of EIO, by kind of call
        self.write_error = 0.0
        self.sync_error = 0.0
        self.full = False
        self.lies = 0.0  # chance that a sync does nothing
        self.down = False
        self.cut: dict[str, str] = {}  # name of a process: "hang" or "error": it cannot reach this zone
        self.syncs: list[Callable[[], None]] = []

    @property
    def well(self) -> bool:
        return not (
            self.slow
            or self.read_error
            or self.write_error
            or self.sync_error
            or self.full
            or self.lies
            or self.down
            or self.cut
        )

    def heal(self) -> None:
        self.slow = self.read_error = self.write_error = self.sync_error = self.lies = 0.0
        self.full = self.down = False
        self.cut.clear()


class _File:
    def __init__(self, inode: Inode, path: str, flags: int, powered: int) -> None:
        self.inode = inode
        self.path = path
        self.durably = bool(flags & os.O_DSYNC)
        self.powered = powered


class SimOps(FileOps):
    def __init__(self, process: Process, zone: ZoneState) -> None:
        self._process = process
        self._zone = zone
        self._world = process.world
        self._files: dict[int, _File] = {}
        self._next = 3

    # -- the way there and back

    def _call(self, effect: Callable[[], Any], *, error: float = 0.0, seconds: float = 0.0) -> Any:
        """Run `effect` at the zone, and return what it returns or raise what it raises."""
        process, zone, world = self._process, self._zone, self._world
        if process.dead or not is_thread(world):
            raise fail(errno.EIO)  # what is left of a process that is being taken apart
        rng = world.rng
        quick = not seconds and rng.random() >= SWITCH
        if quick and not (zone.slow or zone.held or zone.down or zone.cut):
            if error and rng.random() < error:
                raise fail(errno.EIO)
            return effect()
        waiter = Waiter(process)
        there = rng.random() * 100e-6 + (zone.slow * rng.random() if zone.slow else 0.0)
        if zone.held and rng.random() < zone.held:
            there += rng.random() * HELD_S
        world.after(there, self._arrive, waiter, effect, error, seconds)
        ok, result = waiter.wait()
        if ok:
            return result
        raise result

    def _arrive(self, waiter: Waiter, effect: Callable[[], Any], error: float, seconds: float) -> None:
        """At the zone; a zone that cannot be reached is tried again until it can, or the call fails."""
        zone, world = self._zone, self._world
        rng = world.rng
        how = zone.cut.get(self._process.name, "")
        if zone.down and not how:
            how = "error" if rng.random() < 0.5 else "hang"
        if how == "hang":
            world.after(HANG_S_MIN + rng.random() * 0.02, self._arrive, waiter, effect, error, seconds)
            return
        back = rng.random() * 100e-6 + zone.slow * rng.random()
        result: Any
        if how == "error" or (error and rng.random() < error):
            answer = (False, fail(errno.EIO))
        else:
            try:
                result = effect()
                answer = (True, result)
            except OSError as failure:
                answer = (False, failure)
        if seconds:
            back += seconds * (0.5 + rng.random())
        world.after(back, self._return, waiter, answer)

    def _return(self, waiter: Waiter, answer: tuple[bool, Any]) -> None:
        how = self._zone.cut.get(self._process.name, "")
        if how == "hang":
            self._world.after(HANG_S_MIN + self._world.rng.random() * 0.02, self._return, waiter, answer)
            return
        if how == "error":  # it was done, and nobody will be told
            answer = (False, fail(errno.EIO))
        waiter.fire(answer)

    def _sync(self, inode: Inode) -> None:
        """Wait for the disk, then it is durable; or it was a lie, or an error that forgets."""
        zone = self._zone
        rng = self._world.rng
        powered = zone.disk.powered

        def done() -> None:
            if zone.disk.powered != powered:
                raise fail(errno.EIO)
            if zone.sync_error and rng.random() < zone.sync_error:
                inode.sync(keep=False)
                raise fail(errno.EIO)
            if not (zone.lies and rng.random() < zone.lies):
                inode.sync()

        started = zone.sync_s * (0.3 + rng.random())
        self._world.feed(inode.number)
        self._wait(started)
        self._call(done, seconds=zone.sync_s * 0.1)

    def _wait(self, seconds: float) -> None:
        Waiter(self._process).wait(seconds * self._process.rate)

    def _file(self, fd: int) -> _File:
        file = self._files.get(fd)
        if file is None:
            raise fail(errno.EBADF)
        if file.powered != self._zone.disk.powered:
            raise fail(errno.EIO)
        return file

    def _room(self) -> None:
        if self._zone.full:
            raise fail(errno.ENOSPC)

    # -- FileOps

    def open(self, path: str, flags: int) -> int:
        disk = self._zone.disk

        def effect() -> _File:
            if flags & os.O_CREAT:
                self._room()
            return _File(disk.open(path, flags), path, flags, disk.powered)

        writing = flags & (os.O_WRONLY | os.O_RDWR)
        file: _File = self._call(effect, error=self._zone.write_error if writing else self._zone.read_error)
        self._next += 1
        self._files[self._next] = file
        return self._next

    def close(self, fd: int) -> None:
        self._files.pop(fd, None)

    def pwrite(self, fd: int, data: bytes, at: int) -> int:
        file = self._file(fd)
        zone = self._zone
        rng = self._world.rng

        def effect() -> int:
            self._file(fd)
            size = len(data)
            if zone.full:
                size = rng.randint(0, size) if at + size > len(file.inode.data) else size
                if size == 0:
                    raise fail(errno.ENOSPC)
            elif zone.write_error and rng.random() < zone.write_error:
                zone.disk.pwrite(file.inode, data[: rng.randint(0, size)], at)
                raise fail(errno.EIO)
            elif size > 1 and rng.random() < SHORT:
                size = rng.randint(1, size)
            return zone.disk.pwrite(file.inode, data[:size], at)

        done: int = self._call(effect)
        if file.durably:
            self._sync(file.inode)
        return done

    def pread(self, fd: int, size: int, at: int) -> bytes:
        def effect() -> bytes:
            return bytes(self._file(fd).inode.data[at : at + size])

        data: bytes = self._call(effect, error=self._zone.read_error)
        return data

    def fsync(self, fd: int) -> None:
        self._sync(self._file(fd).inode)

    def forget_cached(self, fd: int) -> None:
        pass  # what is read here is what the disk would show

    def ftruncate(self, fd: int, size: int) -> None:
        self._call(lambda: self._zone.disk.ftruncate(self._file(fd).inode, size), error=self._zone.write_error)

    def size(self, fd: int) -> int:
        return len(self._file(fd).inode.data)

    def room(self, path: str) -> int:
        return 0 if self._zone.full else 1 << 40

    def stat(self, path: str) -> os.stat_result:
        found: os.stat_result = self._call(lambda: self._zone.disk.stat(path), error=self._zone.read_error)
        return found

    def listdir(self, path: str) -> list[str]:
        names: list[str] = self._call(lambda: self._zone.disk.listdir(path), error=self._zone.read_error)
        self._world.rng.shuffle(names)
        return names

    def unlink(self, path: str) -> None:
        self._call(lambda: self._zone.disk.unlink(path), error=self._zone.write_error)

    def link(self, source: str, target: str) -> None:
        def effect() -> None:
            self._room()
            self._zone.disk.link(source, target)

        self._call(effect, error=self._zone.write_error)

    def replace(self, source: str, target: str) -> None:
        self._call(lambda: self._zone.disk.replace(source, target), error=self._zone.write_error)

    def mkdir(self, path: str) -> None:
        def effect() -> None:
            self._room()
            self._zone.disk.mkdir(path)

        self._call(effect, error=self._zone.write_error)
