"""Read a log without reading all of it: leave early, look at one record, search by halves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from eventdb.backends.log import Log, LogInfo, Record, RecordKind, Stretch


@asynccontextmanager
async def reading(
    log: Log, position: int, *, follow: bool = False, after: int = -1
) -> AsyncIterator[AsyncIterator[Stretch]]:
    """`async with reading(log, p) as stretches:` - files and waiters of the reader are released at the end of it."""
    stretches = log.read(position, follow=follow, after=after)
    try:
        yield stretches
    finally:
        close = getattr(stretches, "aclose", None)  # the contract promises an iterator; every backend has a generator
        if close is not None:
            await close()


async def first_data(log: Log, position: int) -> Record | None:
    """The first record with transactions at or after a position; None when only others follow."""
    async with reading(log, position) as stretches:
        async for stretch in stretches:
            for record in stretch.records:
                if record.kind is RecordKind.DATA and record.count:
                    return record
    return None


async def search_start(log: Log, info: LogInfo, is_before: Callable[[Record], bool]) -> int:
    """A position at or before the last record that `is_before`, as near as `seek` finds; read on from there.

    `is_before` must hold up to some place in the log and not after it (as for a time or an epoch).
    """
    position = info.first_position
    low, high = info.first_offset, info.last_offset + 1
    while high - low > 1:
        middle = (low + high) // 2
        place = await log.seek(middle)
        if place <= position:  # still the same segment: the answer may lie further on
            low = middle
            continue
        record = await first_data(log, place)
        if record is not None and is_before(record):
            position, low = place, middle
        else:
            high = middle
    return position
