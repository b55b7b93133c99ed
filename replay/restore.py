"""Restore: copy a log up to an exact cut into a new, empty log, and prove the copy before it counts.

    look up the cut -> claim the target as RESTORING -> copy and rebuild -> read the target back and compare digests
    -> claim the target as RESTORED

The source is only read: it is never claimed, so a live server goes on writing to it. Offsets and times are kept, bodies
too, byte for byte; only positions and epochs are the target's own. What is half copied is never used (filling.py).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from eventdb.backends.log import Log, Record, RecordKind
from eventdb.replay.cut import Cut, To, find_cut
from eventdb.replay.filling import Filling, OnPhase, begin
from eventdb.replay.follower import Follower
from eventdb.replay.machine import MachineFactory
from eventdb.replay.transaction import decode, encode


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


async def restore(
    source: Log, target: Log, to: To, make_machine: MachineFactory, *, on_progress: OnPhase | None = None
) -> Restored:
    """Copy the transactions up to `to` into `target`.

    Raises NotEmpty, Mismatch, Fenced (another node claimed the target meanwhile), and what `find_cut` and reading the
    source raise; the target is then half a restore, or untouched.
    """
    began = time.monotonic()
    cut = await find_cut(source, to)
    filling = await begin(target, source.url)
    copy = _Copy(source, filling, cut, make_machine)
    try:
        await copy.run(on_progress)
    finally:
        await filling.close()
    key_count = copy.machine.key_count()
    events, body_bytes = copy.follower.events, filling.copied_bytes
    del copy  # two states at once need not fit into memory
    digest = await filling.prove(make_machine, cut.offset, key_count, on_progress=on_progress)
    return Restored(cut.offset, cut.time_ms, key_count, digest, events, body_bytes, time.monotonic() - began)


class _Copy:
    """The first pass: every record up to the cut goes into the target and into a machine."""

    def __init__(self, source: Log, filling: Filling, cut: Cut, make_machine: MachineFactory) -> None:
        self.machine = make_machine()
        self.follower = Follower(source, self.machine, on_record=self._record)
        self.filling = filling
        self.cut = cut

    async def run(self, on_progress: OnPhase | None) -> None:
        report = None if on_progress is None else lambda progress: on_progress("copy", progress)
        await self.follower.rebuild(stop_offset=self.cut.offset, on_progress=report, between=self.filling.room)
        await self.filling.room(0)

    def _record(self, record: Record) -> None:
        """Append what of this record lies before the cut; the follower has applied just that."""
        if record.kind is not RecordKind.DATA:
            return
        body, count = record.body, record.count
        if record.last_offset > self.cut.offset:
            count = self.cut.offset - record.first_offset + 1
            body = encode(decode(record)[:count])
        self.filling.append(body, first_offset=record.first_offset, count=count, time_ms=record.time_ms)
