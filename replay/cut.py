"""Where a restore stops: which transaction an offset, a time or "latest" means in a log.

A time means the last transaction committed at or before it. All transactions of one record carry the record's time, and
times never go back, so a log can be searched by halves: `seek` goes to an offset, the record there has the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eventdb.backends.log import Log, LogError, LogInfo, Record, RecordKind
from eventdb.replay.follower import BeyondEnd
from eventdb.replay.manifest import Manifest
from eventdb.replay.reading import reading, search_start
from eventdb.replay.times import format_ms


class NothingThere(LogError):  # noqa: N818 - named as the errors of log.py are
    """The log has no transaction at or before the wanted place."""


class HistoryTrimmed(LogError):  # noqa: N818 - named as the errors of log.py are
    """The beginning of history is no longer in the log, so replaying it alone gives no state."""


@dataclass(frozen=True, slots=True)
class ToOffset:
    offset: int


@dataclass(frozen=True, slots=True)
class ToTime:
    time_ms: int


@dataclass(frozen=True, slots=True)
class ToLatest:
    """The last transaction that is durable when the cut is looked up."""


@dataclass(frozen=True, slots=True)
class ToMark:
    """A named point. What it means only the machine's events say, so it is an offset before a cut is looked up."""

    name: bytes


To = ToOffset | ToTime | ToLatest
Wanted = To | ToMark


@dataclass(frozen=True, slots=True)
class Cut:
    """A resolved stop: the last transaction that is kept."""

    offset: int
    time_ms: int  # of the record it is in
    last_offset: int  # of the log, when the cut was looked up
    last_time_ms: int


async def find_cut(log: Log, to: To, snapshots: Sequence[Manifest] = ()) -> Cut:
    """Resolve `to` against a log that starts with transaction 1, or against what is left of it and `snapshots`.

    Reads only.

    Raises: NothingThere, HistoryTrimmed, BeyondEnd, and what reading raises.
    """
    info = await log.info()
    if info.last_offset == 0:
        raise NothingThere(f"{log.url} holds no transaction")
    if info.first_offset > 1:
        return await _cut_trimmed(log, info, to, snapshots)
    if isinstance(to, ToOffset):
        if to.offset < 1:
            raise NothingThere(
                f"there is no offset {to.offset}: the first transaction is 1, the last {info.last_offset}"
            )
        if to.offset > info.last_offset:
            raise BeyondEnd(to.offset, info.last_offset, log.url)
        record = await record_at(log, to.offset)
        return Cut(to.offset, record.time_ms, info.last_offset, info.last_time_ms)
    if isinstance(to, ToTime):
        record = await last_before(log, info, to.time_ms)
        return Cut(record.last_offset, record.time_ms, info.last_offset, info.last_time_ms)
    record = await record_at(log, info.last_offset)
    return Cut(info.last_offset, record.time_ms, info.last_offset, info.last_time_ms)


async def _cut_trimmed(log: Log, info: LogInfo, to: To, snapshots: Sequence[Manifest]) -> Cut:
    """The cut at a snapshot, or after one that the log goes on from. Raises as `find_cut`."""
    based = min((each.offset for each in snapshots if each.offset >= info.first_offset - 1), default=None)
    if isinstance(to, ToOffset):
        if to.offset > info.last_offset:
            raise BeyondEnd(to.offset, info.last_offset, log.url)
        wanted = to.offset
    elif isinstance(to, ToLatest):
        wanted = info.last_offset
    else:
        try:
            wanted = (await last_before(log, info, to.time_ms)).last_offset
        except (NothingThere, BeyondEnd):
            wanted = info.first_offset - 1  # the last one that was trimmed, if that is of a time before
            if not any(each.offset == wanted and each.time_ms <= to.time_ms for each in snapshots):
                wanted = 0
    for each in snapshots:
        if each.offset == wanted:
            return Cut(wanted, each.time_ms, info.last_offset, info.last_time_ms)
    if based is not None and wanted >= based:
        record = await record_at(log, wanted)
        return Cut(wanted, record.time_ms, info.last_offset, info.last_time_ms)
    reach = "so a snapshot is needed to begin with (--store)"
    if snapshots:
        exact = ", ".join(str(each.offset) for each in snapshots[:8])
        later = f" and to any offset from {based} on" if based is not None else ""
        reach = f"and with the snapshots it can be restored to the offsets {exact}{later}"
    raise HistoryTrimmed(
        f"{log.url} keeps the transactions from {info.first_offset} on; what came before was trimmed, {reach}"
    )


async def record_at(log: Log, offset: int) -> Record:
    """The record that holds transaction `offset`. Raises BeyondEnd, Trimmed."""
    last = 0
    async with reading(log, await log.seek(offset)) as stretches:
        async for stretch in stretches:
            for record in stretch.records:
                if record.kind is RecordKind.DATA and record.last_offset >= offset:
                    return record
                last = record.last_offset
    raise BeyondEnd(offset, last, log.url)


async def last_before(log: Log, info: LogInfo, time_ms: int) -> Record:
    """The last record with transactions whose time is at or before `time_ms`. Raises NothingThere."""
    position = await search_start(log, info, lambda record: record.time_ms <= time_ms)
    found: Record | None = None
    async with reading(log, position) as stretches:
        async for stretch in stretches:
            for record in stretch.records:
                if record.kind is not RecordKind.DATA or not record.count:
                    continue
                if record.time_ms > time_ms:
                    return found or await _nothing_before(log, info, time_ms)
                found = record
    return found or await _nothing_before(log, info, time_ms)


async def _nothing_before(log: Log, info: LogInfo, time_ms: int) -> Record:
    first = await record_at(log, info.first_offset)
    raise NothingThere(
        f"nothing was committed at or before {format_ms(time_ms)}: the first transaction of {log.url} is of"
        f" {format_ms(first.time_ms)}"
    )
