"""The log contract: one ordered, durable sequence of records per shard.

Every backend (`memory:`, `quorum:`, later `kafka:`) keeps this contract, so it promises only what
all can. This room knows bytes, positions and epochs, and nothing of Redis.

Numbers, always in this order::

    first_position <= durable end (high watermark) <= log end

* A *position* is the place of a record in one backend; the first is 0. Positions grow; a void record of a
  fenced writer takes a position too, so a reader never computes the next one, it takes `next_position`.
* An *offset* numbers transactions 1, 2, 3 … without gaps, the same on every backend. A record carries a
  batch of consecutive transactions: `first_offset` and `count`; a claim carries none (`count == 0`).
* An *epoch* numbers the writers. A higher one fences every lower one, for ever.

An append has one of three outcomes and never two in one error: done (the future has a position), not done
(`Fenced` before anything could count), unknown (`Indeterminate`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol, runtime_checkable


class LogError(Exception):
    """What a backend raises on purpose. Any other exception out of it is a bug."""


class Fenced(LogError):  # noqa: N818
    """A higher epoch owns the log. Step down; never retry, never answer OK for what was still pending."""


class Unavailable(LogError):  # noqa: N818
    """No majority of zones can be reached now. Nothing was changed: trying again is safe."""


class Indeterminate(LogError):  # noqa: N818
    """The append may or may not be in the log; only reading it back can show which."""


class Corrupt(LogError):  # noqa: N818
    """Durable history cannot be read. Names zone, segment and position; history is never skipped."""


class Trimmed(LogError):  # noqa: N818
    """The position asked for lies before the first one kept: start from a snapshot instead."""


class BadLogURL(LogError):  # noqa: N818
    """The URL names no known backend, or carries an option the backend does not have."""


class RecordKind(IntEnum):
    """Values reach the disk; never renumber."""

    DATA = 0
    CLAIM = 1
    HEARTBEAT = 2


@dataclass(frozen=True, slots=True)
class Record:
    """One record of history, whole (fragments joined), body decompressed.

    position: of the record (of its last fragment when it was split). After one of kind DATA, `position + 1` is a place
        to read on from, with its checksum; after any other it may lie inside a record.
    time_ms: Unix ms on the primary's clock when the record was sealed; never smaller than the one before.
    body: DATA: transactions as `replay` framed them; CLAIM: UTF-8 "node address"; HEARTBEAT: the writer's word.
    checksum: running checksum of history up to here, this record in it: two logs that show the same at one
        position have the same history before it. -1 where the backend keeps none. Only good for `Log.read(after=)`
        and for comparing.
    """

    position: int
    epoch: int
    kind: RecordKind
    first_offset: int
    count: int
    time_ms: int
    body: bytes
    checksum: int = -1

    @property
    def last_offset(self) -> int:
        """Offset of the last transaction in it; `first_offset - 1` when it carries none."""
        return self.first_offset + self.count - 1


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one step of a reader yields."""

    records: tuple[Record, ...]  # empty when only void records were passed over
    # Where to read next: never inside a record. Heartbeats that stand inside one are given before it is whole, so they
    # may come after this position, and any reader that begins there meets them again.
    next_position: int


@dataclass(frozen=True, slots=True)
class ZoneInfo:
    name: str
    state: str  # "up", "catching-up" or "down"
    detail: str = ""  # the last error, in words, when not up
    first_position: int = 0
    end_position: int = 0  # exclusive
    stored_bytes: int = 0
    segments: int = 0


@dataclass(frozen=True, slots=True)
class LogInfo:
    url: str
    epoch: int  # of the last claim, 0 for a log never claimed
    first_position: int
    end_position: int  # exclusive end of what is durable
    first_offset: int  # of the oldest transaction kept
    last_offset: int  # the durable offset; 0 for an empty log
    last_time_ms: int
    zones: tuple[ZoneInfo, ...] = field(default=())
    log_id: str = ""  # the same for ever, and no other log's; "": the backend has none, or no zone says it now


@dataclass(slots=True)
class WriterStats:
    """Counters a server shows; monotonic since the claim, summed by the reader of them."""

    records: int = 0
    transactions: int = 0
    body_bytes: int = 0  # before compression
    stored_bytes: int = 0  # after framing and compression, one copy
    syncs: int = 0  # durable writes done, over all zones
    zone_errors: int = 0


class Writer(Protocol):
    """The one writer of an epoch, returned by `Log.claim`. Lives in one event loop."""

    epoch: int
    next_offset: int  # offset the first transaction appended next must have
    last_time_ms: int  # time of the last record in history, 0 when empty
    stats: WriterStats

    def append(
        self, body: bytes, *, first_offset: int, count: int, time_ms: int, kind: RecordKind = RecordKind.DATA
    ) -> asyncio.Future[int]:
        """Queue one record and return at once; the future gets its position when a majority has it durable.

        Calls may overlap; records become durable, and futures complete, in call order, but for one thing: a
        heartbeat never waits for a large record, it is put before it or between its parts. While no majority
        can be reached the same record is retried without end and the future stays pending: how long a
        client waits is the caller's business, and the zone states in `Log.info` say why.
        `first_offset` must equal the previous append's `first_offset + count`, and time_ms must not go
        back (both asserted). Raises through the future: Fenced; Indeterminate (the writer was closed).
        Cancelling the future does not take the record back: the outcome is then unknown.
        """
        ...

    def zone_states(self) -> list[tuple[str, str, str]]:
        """(name, state, detail) of each zone as the writer knows it now, without asking anybody; see `ZoneInfo`.

        Empty where the writer does not know: `Log.info` asks.
        """
        ...

    def zone_times(self) -> list[tuple[str, int, float]]:
        """(name, durable writes, seconds spent in them) of each zone since the claim; empty where nobody counts."""
        ...

    async def close(self) -> None:
        """Wait for what is queued if a majority answers within 5 s, then release files and threads.

        Pending futures that could not be completed get Indeterminate. Idempotent.
        """
        ...


class Log(Protocol):
    """One shard's log, opened by `open_log(url)`. Any number of processes may hold one."""

    url: str

    async def claim(self, node: str, address: str = "") -> Writer:
        """Fence every earlier writer and adopt what it left, then return the writer of a new epoch.

        Raises: Unavailable (no majority), Corrupt (no majority has a readable history), Fenced (lost a race
        to a claim made at the same time; trying again is safe).
        """
        ...

    def read(self, start: int = 0, *, follow: bool = False, after: int = -1) -> AsyncIterator[Stretch]:
        """Yield durable records from position `start` on, in order; then wait for more if `follow`, else end.

        What was yielded is never withdrawn (but see `Foreseeing`). Batches are bounded in bytes (about 1 MiB of bodies,
        or one record if larger). `after`: the checksum of the latest record before `start`, given by a caller that read
        it: what stands at `start` must follow that record and not another, or Corrupt is raised. Raises: Trimmed,
        Corrupt, Unavailable.
        """
        ...

    def hurry(self) -> None:
        """Somebody waits for what has just become durable: let this process's readers look for it now, if they poll."""

    async def seek(self, offset: int) -> int:
        """Return a position at or before the record holding transaction `offset`, as near as is cheap.

        Raises: Trimmed when that transaction is no longer kept.
        """
        ...

    async def trim(self, before_position: int) -> None:
        """Drop whole segments that lie entirely before the position. Reading below then raises Trimmed."""
        ...

    async def info(self) -> LogInfo:
        """State of the log and its zones, read now."""
        ...

    async def verify(self) -> AsyncIterator[str]:
        """Read every copy in every zone, checksum by checksum; yield one line per finding, none when sound."""
        ...
        yield ""  # pragma: no cover - makes the signature an async generator

    async def is_empty(self) -> bool:
        """True when nothing was ever claimed or written: a restore may use it as its target."""
        ...

    async def close(self) -> None:
        """Release what this object holds. Idempotent; a writer from it is closed too."""
        ...


@runtime_checkable
class Foreseeing(Protocol):
    """A Log whose readers wait for a writer's word, and so, while nobody writes, may not show its last records yet.

    `foresee` makes `info` and `read` (without `follow`) go on to what a claim made now would find: all that was
    acknowledged, and perhaps a last record that nobody was told of. That is for copying and looking: what was not
    acknowledged may still be lost before there is a claim, so no server shows it.
    """

    def foresee(self) -> None: ...


@runtime_checkable
class Refillable(Protocol):
    """A Log that whoever fills it can empty again, where an earlier copy ended half-way.

    No server ever served such a copy, and its source has all of it: it is for the caller to know that
    (replay/filling.py).
    """

    async def hold(self) -> None:
        """Keep others from filling it, until `let_go`. Raises Unavailable: another process fills it at this moment."""
        ...

    async def let_go(self) -> None:
        """Take back `hold`, as `close` does, and the end of the process."""
        ...

    async def half_emptied(self) -> bool:
        """`empty` was called, and ended before all was removed."""
        ...

    async def empty(self) -> None:
        """Remove every record; epochs go on. After `hold`, without a writer. Raises Unavailable."""
        ...


@runtime_checkable
class Pushing(Protocol):
    """A Writer whose records go out through its event loop, and so stay here while something else keeps that loop."""

    def push(self, wait_s: float) -> None:
        """Send on what was appended, without the loop; to be called from its thread, again and again while it is kept.

        Waits at most so long for answers, by which futures complete as ever. Sends nothing after the last call.
        """
        ...


@runtime_checkable
class Backend(Protocol):
    """What an entry point of the group `eventdb.backends` names: `scheme = "module:function"`."""

    def __call__(self, url: str) -> Log:
        """Parse the URL and return a Log; opens nothing yet. Raises BadLogURL."""
        ...
