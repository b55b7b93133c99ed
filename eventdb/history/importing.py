"""Import: a file of Redis or Valkey becomes the beginning of a new log, as transactions in bounded pieces.

The checksum of the whole file is looked at before the log is touched. What was written is read back and compared
before it counts (replay/filling.py), so half an import is never taken for a database. A value of more than VALUE_BYTES
comes in several transactions; no server serves the log before it is whole.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final

from eventdb.backends.log import Log
from eventdb.keyspace.types.user import SET_USER
from eventdb.rdb.codes import BadRdb
from eventdb.rdb.crc64 import crc64
from eventdb.rdb.reader import CHECKSUM_SINCE, FileReader
from eventdb.rdb.source import Source
from eventdb.replay.filling import Filling, OnPhase, begin, check_empty
from eventdb.replay.follower import PROGRESS_S, Progress, collector_paused
from eventdb.replay.machine import Machine, MachineFactory
from eventdb.replay.transaction import encode

ORIGIN: Final = b"import"
VALUE_BYTES: Final = 32 << 20
ARGUMENT_BYTES: Final = 16
READ_BYTES: Final = 4 << 20
CHECKSUM_BYTES: Final = 8
HEADER_BYTES: Final = 9

CheckUser = Callable[[bytes, bytes], None]  # name and rules


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import ended with."""

    offset: int
    key_count: int
    digest: str
    file_bytes: int
    seconds: float
    facts: dict[str, str]  # what the file says about itself
    skipped: dict[str, int]  # what was passed over, and how often
    user_count: int
    outcome_count: int


class FileProgress(Progress):
    """How far an import is: counted in bytes of the file."""

    def __init__(self, file_bytes: int) -> None:
        super().__init__(0, 0)
        self.file_bytes = file_bytes
        self.read_bytes = 0

    def fraction(self) -> float:
        return self.read_bytes / self.file_bytes if self.file_bytes else 1.0

    def describe(self) -> str:
        return f"{self.read_bytes:,} of {self.file_bytes:,} bytes ({self.fraction():.0%})"


async def import_file(
    file: BinaryIO,
    target: Log,
    make_machine: MachineFactory,
    *,
    source_url: str = "",
    skip: bool = False,
    on_progress: OnPhase | None = None,
    check_user: CheckUser | None = None,
) -> Imported:
    """Fill the empty log `target` from a file. skip: pass over what eventdb cannot keep.

    source_url: what the log says it was made from, if not from a file of that name.
    check_user: raises ValueError for rules that no server could follow.
    Raises BadRdb and Unkept for the file, and what filling a log raises.
    """
    began = time.monotonic()
    source_url = source_url or f"rdb:{os.path.basename(str(file.name))}"
    await check_empty(target, source_url)
    size = check_file(file)
    reader = FileReader(Source(b"", file.read), skip)
    filling = await begin(target, source_url)
    copy = FileCopy(reader, filling, make_machine(), FileProgress(size), check_user)
    try:
        with collector_paused():
            await copy.run(on_progress)
    finally:
        await filling.close()
    offset = copy.offset
    key_count = copy.machine.key_count()
    del copy
    digest = await filling.prove(make_machine, offset, key_count, on_progress=on_progress)
    return Imported(
        offset,
        key_count,
        digest,
        size,
        time.monotonic() - began,
        reader.facts,
        reader.skipped,
        reader.user_count,
        reader.outcome_count,
    )


def check_file(file: BinaryIO) -> int:
    """Compare the checksum at the end with the content, leave the file at its start; returns its size."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    FileReader(Source(b"", file.read))  # the header
    file.seek(0)
    digits = file.read(HEADER_BYTES).lstrip(b"REDISVALKEY")
    file.seek(0)
    if int(digits) >= CHECKSUM_SINCE:
        left, found = size - CHECKSUM_BYTES, 0
        while left > 0:
            data = file.read(min(left, READ_BYTES))
            if not data:
                break
            left -= len(data)
            found = crc64(data, found)
        said = int.from_bytes(file.read(CHECKSUM_BYTES), "little")
        file.seek(0)
        if said not in (0, found):
            raise BadRdb(
                f"the checksum at its end is {said:016x}, that of its content {found:016x}: it is cut off or damaged"
            )
    return size


class FileCopy:
    """The pass over the file: every piece goes into the target and into a machine."""

    def __init__(
        self,
        reader: FileReader,
        filling: Filling,
        machine: Machine,
        progress: FileProgress,
        check_user: CheckUser | None,
        *,
        time_ms: int = 0,
    ) -> None:
        """time_ms: what every transaction bears; 0: when it is made."""
        self.check_user = check_user
        self.reader = reader
        self.filling = filling
        self.machine = machine
        self.progress = progress
        self.offset = 0
        self.time_ms = time_ms
        self._now = time_ms == 0
        self.mtime_ms = 0  # if set, transactions bear the time the file says it was made at, or this one

    async def run(self, on_progress: OnPhase | None) -> None:
        reported = 0.0
        while events := self.reader.piece():
            self._add(events)
            await self.filling.room()
            await asyncio.sleep(0)  # for signals, and what else the loop has to do
            now = time.monotonic()
            if on_progress is not None and now - reported >= PROGRESS_S:
                reported = now
                self._report(on_progress, now)
        await self.filling.room(0)
        if on_progress is not None:
            self._report(on_progress, time.monotonic())

    def _report(self, on_progress: OnPhase, now: float) -> None:
        progress = self.progress
        progress.offset = progress.transactions = self.offset
        progress.read_bytes = self.reader.source.position()
        progress.seconds = now - progress.started
        on_progress("copy", progress)

    def _add(self, events: list[list[bytes]]) -> None:
        """One piece, as one transaction, or several when a value is large."""
        part: list[list[bytes]] = []
        select = events[0] if events[0][0] == b"SELECT" else None
        size = 0
        for event in events:
            if event[0] == SET_USER:
                self._check(event)
            length = ARGUMENT_BYTES * len(event) + sum(map(len, event))
            if part and size + length > VALUE_BYTES:
                self._append(part)
                part, size = [] if select is None else [select], 0
            if event[0] == b"SELECT":
                select = event
            part.append(event)
            size += length
        self._append(part)
        if self.machine.key_count() != self.reader.key_count:
            raise BadRdb(f"a key comes twice before byte {self.reader.source.position()}")

    def _check(self, event: list[bytes]) -> None:
        if self.check_user is not None:
            try:
                self.check_user(event[1], event[2])
            except ValueError as error:
                raise BadRdb(f"the user {event[1][:64]!r} has rules that make no sense: {error}") from None

    def _now_ms(self) -> int:
        now_ms = int(time.time() * 1000)
        if not self.mtime_ms:
            return now_ms
        said = self.reader.facts.get("ctime", "")
        return min(now_ms, 1000 * int(said) if said.isdecimal() else self.mtime_ms)

    def _append(self, events: list[list[bytes]]) -> None:
        transaction: list[bytes | list[bytes]] = [ORIGIN, *events]
        try:
            self.progress.events += self.machine.apply([transaction])
        except Exception as error:
            raise BadRdb(
                f"what stands before byte {self.reader.source.position()} cannot be put together"
                f" ({type(error).__name__}): a key may come twice"
            ) from error
        self.offset += 1
        if self._now:
            self.time_ms = max(self.time_ms, self._now_ms())
        self.filling.append(encode([transaction]), first_offset=self.offset, count=1, time_ms=self.time_ms)
