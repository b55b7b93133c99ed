"""Reading: where history stands at a position, and the records from there on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from eventdb.backends.kafka.history import History, Replay
from eventdb.backends.kafka.link import Link, NoAnswer, persist
from eventdb.backends.kafka.page import READ_BYTES, Cursor, Entry, OutOfRange, bounds
from eventdb.backends.log import Corrupt, Record, Stretch, Trimmed
from eventdb.backends.record import UNKNOWN, BadFrame, unlinked
from eventdb.backends.seal import Keyring

BATCH_BYTES: Final = 1 << 20
# How long a reader that has not begun, or that wants an end, waits for a leader before it raises Unavailable.
PATIENCE_S: Final = 10.0
FOLLOW_S: Final = 0.5  # one question for news stays with the broker for this long
NEAR_BYTES: Final = 32 << 10  # Kafka gives a whole batch, however little is asked for
BACK: Final = 8  # positions looked back at first for an anchor
BACK_FACTOR: Final = 16


async def span(link: Link, known_end: int = 0) -> tuple[int, int]:
    """(first position, end), the end not before `known_end`, which is durable for certain. Raises Unavailable."""

    async def step() -> tuple[int, int]:
        first, end = await bounds(link)
        if end < known_end:
            raise NoAnswer(f"the leader shows {end} positions, of which {known_end} are durable")
        return first, end

    return await persist(step, PATIENCE_S, f"topic {link.address.topic} cannot be read")


async def history_at(link: Link, position: int, first: int) -> History:
    """History's state before `position`: from the log's beginning, or from the nearest anchor before it.

    Raises Unavailable, Corrupt. `first` is the log's first position.
    """
    back = BACK
    while True:
        begin = max(first, position - back)
        history = History(known=begin == 0, trusting=begin == first)
        async for entry in entries(link, begin, position):
            judge(link, history, entry)
        if history.known or begin == first:
            return history
        back *= BACK_FACTOR


async def entries(link: Link, start: int, stop: int) -> AsyncIterator[Entry]:
    """Everything that stands in [start, stop), which must be durable. Raises Unavailable, Corrupt, Trimmed."""
    cursor = Cursor(link, start, patience_s=PATIENCE_S, size=NEAR_BYTES if stop - start <= BACK else READ_BYTES)
    while cursor.position < stop:
        for entry in await _page(link, cursor, 0.0):
            if entry.position < stop:
                yield entry


def judge(link: Link, history: History, entry: Entry) -> bool:
    """Whether the entry is history. Raises Corrupt."""
    try:
        return history.takes(entry.frame, entry.position)
    except BadFrame as error:
        raise Corrupt(f"topic {link.address.topic}: position {entry.position}: {error}") from None


async def _page(link: Link, cursor: Cursor, wait_s: float) -> list[Entry]:
    """The cursor's next page; none if the leader does not go that far yet. Raises Trimmed, Corrupt, Unavailable."""
    try:
        return await cursor.next(wait_s)
    except OutOfRange:
        first, end = await span(link)
        if cursor.position < first:
            raise Trimmed(f"position {cursor.position} was trimmed; the first one kept is {first}") from None
        if cursor.position > end:
            topic = link.address.topic
            raise Corrupt(f"topic {topic}: ends at position {end}, and {cursor.position} was durable") from None
        return []


async def batches(
    link: Link, start: int, *, follow: bool, known_end: int, after: int = UNKNOWN, keys: Keyring | None = None
) -> AsyncGenerator[Stretch, None]:
    """See `log.Log.read`."""
    first, end = await span(link, known_end)
    if start < first:
        raise Trimmed(f"position {start} was trimmed; the first one kept is {first}")
    if start > end:
        raise Corrupt(f"topic {link.address.topic}: ends at position {end}, and is to be read from {start}")
    history = await history_at(link, start, first)
    if UNKNOWN not in (after, history.seal) and after != history.seal:
        raise Corrupt(f"topic {link.address.topic}: position {start}: {unlinked(start)}")
    replay = Replay(history, keys)
    cursor = Cursor(link, start, patience_s=None if follow else PATIENCE_S, ahead=True)
    told = start  # a reader that goes on from there must meet a record that is half read from its beginning
    try:
        while follow or cursor.position < end:
            records: list[Record] = []
            size = 0
            for entry in await _page(link, cursor, FOLLOW_S if follow else 0.0):
                record = _feed(link, replay, entry)
                if record is None:
                    continue
                records.append(record)
                size += len(record.body)
                if size >= BATCH_BYTES:
                    told = max(told, history.record_start if history.open else entry.position + 1)
                    yield Stretch(tuple(records), told)
                    records, size = [], 0
            reached = history.record_start if history.open else cursor.position
            if records or reached > told:
                told = max(told, reached)
                yield Stretch(tuple(records), told)
    finally:
        await cursor.close()


def _feed(link: Link, replay: Replay, entry: Entry) -> Record | None:
    try:
        return replay.feed(entry.frame, entry.position)
    except BadFrame as error:
        raise Corrupt(f"topic {link.address.topic}: position {entry.position}: {error}") from None
