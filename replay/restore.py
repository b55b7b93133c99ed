"""Restore: copy a log up to an exact cut into a new, empty log, and prove the copy before it counts.

    look up the cut -> claim the target as RESTORING -> copy and rebuild -> read the target back and compare digests
    -> claim the target as RESTORED

The source is only read: it is never claimed, so a live server goes on writing to it. Offsets and times are kept, bodies
too, byte for byte; only positions and epochs are the target's own. Until the last claim the target is half a restore,
which every rebuild refuses (marker.py): killing this at any moment is safe.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from eventdb.backends.log import Fenced, Log, LogError, Record, RecordKind, Writer
from eventdb.replay.completeness import RESTORED, RESTORING, check_complete
from eventdb.replay.cut import Cut, To, find_cut
from eventdb.replay.follower import Follower, Progress
from eventdb.replay.machine import MachineFactory
from eventdb.replay.transaction import decode, encode

IN_FLIGHT_BYTES_MAX: Final = 16 << 20  # copied and not yet durable in the target


class NotEmpty(LogError):  # noqa: N818 - named as the errors of log.py are
    """The target holds something. A restore never adds to a log and never overwrites one."""


class Mismatch(LogError):  # noqa: N818 - named as the errors of log.py are
    """The target read back gives another state than the source gave: the copy must not be used."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore ended with."""

    offset: int
    time_ms: int
    key_count: int
    digest: str
    events: int
    body_bytes: int
    seconds: float


OnPhase = Callable[[str, Progress], None]  # "copy" or "verify", and how far


async def restore(
    source: Log, target: Log, to: To, make_machine: MachineFactory, *, on_progress: OnPhase | None = None
) -> Restored:
    """Copy the transactions up to `to` into `target`.

    Raises NotEmpty, Mismatch, Fenced (another node claimed the target meanwhile), and what `find_cut` and reading the
    source raise; the target is then half a restore, or untouched.
    """
    began = time.monotonic()
    cut = await find_cut(source, to)
    await check_empty(target)
    writer = await _claim(target, RESTORING, source.url)
    copy = _Copy(source, writer, target.url, cut, make_machine)
    try:
        await copy.run(on_progress)
    finally:
        await writer.close()
    key_count, digest = copy.machine.key_count(), copy.machine.digest()
    events, body_bytes = copy.follower.events, copy.copied_bytes
    del copy  # two states at once need not fit into memory
    await _verify(target, cut, make_machine, key_count, digest, on_progress)
    finished = await _claim(target, RESTORED, source.url, after=writer)
    await finished.close()
    return Restored(cut.offset, cut.time_ms, key_count, digest, events, body_bytes, time.monotonic() - began)


async def check_empty(target: Log) -> None:
    """Raises NotEmpty, or Incomplete for what an earlier restore left."""
    if await target.is_empty():
        return
    await check_complete(target)
    info = await target.info()
    what = f"transactions up to offset {info.last_offset}" if info.last_offset else f"{info.epoch} claims"
    raise NotEmpty(f"{target.url} is not empty (it holds {what}): restore into a log that does not exist yet")


async def _claim(target: Log, node: str, source_url: str, after: Writer | None = None) -> Writer:
    """Claim the target and make sure that nobody came in between. The address tells where the copy comes from."""
    writer = await target.claim(node, source_url.replace(" ", "%20"))
    expected = (1, 1) if after is None else (after.epoch + 1, after.next_offset)
    if (writer.epoch, writer.next_offset) != expected:
        await writer.close()
        raise taken_over(target.url)
    return writer


def taken_over(url: str) -> Fenced:
    return Fenced(
        f"another node claimed {url} during the restore, so the copy was given up and stays marked as incomplete:"
        " delete it and restore again"
    )


class _Copy:
    """The first pass: every record up to the cut goes into the target and into a machine."""

    def __init__(self, source: Log, writer: Writer, target_url: str, cut: Cut, make_machine: MachineFactory) -> None:
        self.machine = make_machine()
        self.follower = Follower(source, self.machine, on_record=self._record)
        self.writer = writer
        self.url = target_url
        self.cut = cut
        self.copied_bytes = 0
        self._pending: deque[tuple[asyncio.Future[int], int]] = deque()
        self._pending_bytes = 0

    async def run(self, on_progress: OnPhase | None) -> None:
        report = None if on_progress is None else lambda progress: on_progress("copy", progress)
        try:
            await self.follower.rebuild(stop_offset=self.cut.offset, on_progress=report, between=self._room)
            await self._room(0)
        finally:
            for future, _ in self._pending:  # after a failure: theirs is the same one
                future.add_done_callback(_looked_at)

    def _record(self, record: Record) -> None:
        """Append what of this record lies before the cut; the follower has applied just that."""
        if record.kind is not RecordKind.DATA:
            return
        body, count = record.body, record.count
        if record.last_offset > self.cut.offset:
            count = self.cut.offset - record.first_offset + 1
            body = encode(decode(record)[:count])
        future = self.writer.append(body, first_offset=record.first_offset, count=count, time_ms=record.time_ms)
        self._pending.append((future, len(body)))
        self._pending_bytes += len(body)
        self.copied_bytes += len(body)

    async def _room(self, bytes_max: int = IN_FLIGHT_BYTES_MAX) -> None:
        """Wait until no more than `bytes_max` are on their way. Raises what an append raised."""
        while self._pending and (self._pending_bytes > bytes_max or self._pending[0][0].done() or bytes_max == 0):
            future, size = self._pending.popleft()
            try:
                await future
            except Fenced as error:
                raise taken_over(self.url) from error
            self._pending_bytes -= size


def _looked_at(future: asyncio.Future[int]) -> None:
    """Take a future's outcome, so that asyncio does not report it as forgotten."""
    if not future.cancelled():
        future.exception()


async def _verify(
    target: Log, cut: Cut, make_machine: MachineFactory, key_count: int, digest: str, on_progress: OnPhase | None
) -> None:
    """The second pass: what the target gives when it is read as a server would read it."""
    machine = make_machine()
    follower = Follower(target, machine, allow_incomplete=True)
    report = None if on_progress is None else lambda progress: on_progress("verify", progress)
    await follower.rebuild(on_progress=report)
    found = (follower.offset, machine.key_count(), machine.digest())
    if found != (cut.offset, key_count, digest):
        raise Mismatch(
            f"{target.url} read back gives offset {found[0]}, {found[1]} keys, digest {found[2]}; copied were offset"
            f" {cut.offset}, {key_count} keys, digest {digest}. The target is left marked as incomplete"
        )
