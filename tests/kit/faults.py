"""A file system that fails on command, and a log of three zones that has one under each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from eventdb.backends import LogInfo, Record, RecordKind
from eventdb.backends.quorum import FileOps, QuorumLog, QuorumWriter

WRITING = frozenset({"open_write", "pwrite", "fsync", "ftruncate", "unlink", "link", "replace", "mkdir"})
EVERYTHING = WRITING | {"open_read", "pread", "stat", "listdir"}
DEADLINE_S = 15.0


class FaultyOps(FileOps):
    """`fail(EIO, calls)` and `stall(calls)` hold until `heal()`. Counts nothing, remembers nothing."""

    def __init__(self) -> None:
        self._errno = 0
        self._failing: frozenset[str] = frozenset()
        self._stalling: frozenset[str] = frozenset()
        self._go = threading.Event()
        self._go.set()
        self.bytes_left: int | None = None  # what the file system says of its room, if not the truth
        self.torn = 0  # a failing pwrite leaves this many of its bytes behind
        self.stalled = threading.Event()  # somebody hangs

    def fail(self, code: int, calls: frozenset[str] = EVERYTHING, torn: int = 0) -> None:
        self._errno, self._failing, self.torn = code, calls, torn

    def stall(self, calls: frozenset[str] = EVERYTHING) -> None:
        self.stalled.clear()
        self._go.clear()
        self._stalling = calls

    def heal(self) -> None:
        self._failing = self._stalling = frozenset()
        self._go.set()

    def _meet(self, call: str) -> None:
        if call in self._stalling:
            self.stalled.set()
            self._go.wait()
        if call in self._failing:
            raise OSError(self._errno, os.strerror(self._errno))

    def open(self, path: str, flags: int) -> int:
        self._meet("open_write" if flags & (os.O_WRONLY | os.O_RDWR) else "open_read")
        return super().open(path, flags)

    def pwrite(self, fd: int, data: bytes, at: int) -> int:
        if "pwrite" in self._failing and self.torn:
            super().pwrite(fd, data[: self.torn], at)
        self._meet("pwrite")
        return super().pwrite(fd, data, at)

    def pread(self, fd: int, size: int, at: int) -> bytes:
        self._meet("pread")
        return super().pread(fd, size, at)

    def fsync(self, fd: int) -> None:
        self._meet("fsync")
        super().fsync(fd)

    def ftruncate(self, fd: int, size: int) -> None:
        self._meet("ftruncate")
        super().ftruncate(fd, size)

    def room(self, path: str) -> int:
        return super().room(path) if self.bytes_left is None else self.bytes_left

    def stat(self, path: str) -> os.stat_result:
        self._meet("stat")
        return super().stat(path)

    def listdir(self, path: str) -> list[str]:
        self._meet("listdir")
        return super().listdir(path)

    def unlink(self, path: str) -> None:
        self._meet("unlink")
        super().unlink(path)

    def link(self, source: str, target: str) -> None:
        self._meet("link")
        super().link(source, target)

    def replace(self, source: str, target: str) -> None:
        self._meet("replace")
        super().replace(source, target)

    def mkdir(self, path: str) -> None:
        self._meet("mkdir")
        super().mkdir(path)


class Bench:
    """Logs on the same zones, with a fault to switch on under each zone."""

    def __init__(self, tmp_path: Path, zones: int = 3, segment_bytes: int = 32 << 20) -> None:
        self.root = tmp_path / "log"
        self.ops = [FaultyOps() for _ in range(zones)]
        self.url = f"quorum:{self.root}?zones={zones}"
        self.segment_bytes = segment_bytes
        self.zones = [self.root / f"zone-{'abcdefghi'[index]}" for index in range(zones)]
        self.acknowledged: list[bytes] = []
        self._logs: list[QuorumLog] = []

    def open(self, *, faulty: bool = True, payload_bytes_max: int = 4000) -> QuorumLog:
        ops_of: Callable[[int], FileOps] | None = (lambda index: self.ops[index]) if faulty else None
        log = QuorumLog(self.url, segment_bytes=self.segment_bytes, payload_bytes_max=payload_bytes_max, ops_of=ops_of)
        self._logs.append(log)
        return log

    async def close(self) -> None:
        for ops in self.ops:
            ops.heal()
        await asyncio.gather(*(log.close() for log in self._logs))

    async def append(self, writer: QuorumWriter, *bodies: bytes) -> None:
        """Append and wait; what was acknowledged is remembered."""
        futures = [append(writer, body) for body in bodies]
        for body, future in zip(bodies, futures, strict=True):
            await asyncio.wait_for(future, DEADLINE_S)
            self.acknowledged.append(body)

    async def check(self) -> None:
        """All that was acknowledged is there, in order; nothing was invented. Nor is it by one who foresees the end."""
        shown = self.open(faulty=False)
        assert data_of(await read_all(shown)) == self.acknowledged
        shown.foresee()
        assert data_of(await read_all(shown)) == self.acknowledged

    def segments(self, zone: int) -> list[Path]:
        return sorted(self.zones[zone].glob("*.seg"))


def append(writer: QuorumWriter, body: bytes) -> asyncio.Future[int]:
    return writer.append(body, first_offset=writer.next_offset, count=1, time_ms=writer.last_time_ms)


def copy_living(zone: Path, to: Path) -> None:
    """Copy a directory that a writer may be changing, as rsync does: what goes away meanwhile is left out."""

    def copy(source: str, target: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(source, target)

    shutil.copytree(zone, to, copy_function=copy)


def crash(writer: QuorumWriter) -> None:
    """End a writer as kill -9 would. A thread that hangs in a call ends with that call, as the kernel's part would."""
    writer.abandon()
    for zone in writer.zones:
        zone.join(0.3)


async def read_all(log: QuorumLog, start: int = 0) -> list[Record]:
    return [record async for batch in log.read(start) for record in batch.records]


def data_of(records: list[Record]) -> list[bytes]:
    return [record.body for record in records if record.kind is RecordKind.DATA]


async def findings(log: QuorumLog) -> list[str]:
    return [line async for line in log.verify()]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what a thread does; fail when it does not come."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.002)


async def until_up(log: QuorumLog, writer: QuorumWriter) -> LogInfo:
    """Wait until every zone is up and complete, also those that first have to notice what was done to them."""
    deadline = time.monotonic() + 10
    while True:
        await until(lambda: all(zone.health()[0] == "up" for zone in writer.zones))
        await until(lambda: all(zone.end >= writer.durable_end for zone in writer.zones))
        info = await log.info()
        whole = {zone.end_position for zone in info.zones} == {info.end_position}
        if whole and [zone.state for zone in info.zones] == ["up"] * len(info.zones):
            return info
        assert time.monotonic() < deadline, info
