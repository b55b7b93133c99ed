"""Where a restore stops: which transaction an offset, a time or "latest" means in a log.

A time means the last transaction committed at or before it. All transactions of one record carry the record's time, and
times never go back, so a log can be searched by halves: `seek` goes to an offset, the record there has the time.
"""

from __future__ import annotations

from dataclasses import dataclass

from eventdb.backends.log import Log, LogError, LogInfo, Record, RecordKind
from eventdb.replay.follower import BeyondEnd
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


To = ToOffset | ToTime | ToLatest


@dataclass(frozen=True, slots=True)
class Cut:
    """A resolved stop: the last transaction that is kept."""

    offset: int
    time_ms: int  # of the record it is in
    last_offset: int  # of the log, when the cut was looked up
    last_time_ms: int


async def find_cut(log: Log, to: To) -> Cut:
    """Resolve `to` against a log that starts with transaction 1. Reads only.

    Raises: NothingThere, HistoryTrimmed, BeyondEnd, and what reading raises.
    """
    info = await log.info()
    if info.last_offset == 0:
        raise NothingThere(f"{log.url} holds no transaction")
    if info.first_offset > 1:
        raise HistoryTrimmed(
            f"{log.url} keeps the transactions from {info.first_offset} on; what came before was trimmed,"
            " so a snapshot is needed to begin with"
        )
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
