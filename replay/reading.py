"""Read a log and let go of it at once, also when the loop over it is left early."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eventdb.backends.log import Batch, Log, Record, RecordKind


@asynccontextmanager
async def reading(log: Log, position: int, *, follow: bool = False) -> AsyncIterator[AsyncIterator[Batch]]:
    """`async with reading(log, p) as batches:` - files and waiters of the reader are released at the end of it."""
    batches = log.read(position, follow=follow)
    try:
        yield batches
    finally:
        close = getattr(batches, "aclose", None)  # the contract promises an iterator; every backend has a generator
        if close is not None:
            await close()


async def first_data(log: Log, position: int) -> Record | None:
    """The first record with transactions at or after a position; None when only others follow."""
    async with reading(log, position) as batches:
        async for batch in batches:
            for record in batch.records:
                if record.kind is RecordKind.DATA and record.count:
                    return record
    return None
