"""Pages of the partition: what Kafka shows below its high watermark, which is what will never be taken back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from aiokafka.errors import CorruptRecordException, KafkaError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record import MemoryRecords

from eventdb.backends.kafka.link import PARTITION, Link, persist
from eventdb.backends.log import Corrupt
from eventdb.backends.record import BadFrame, Frame, decode

READ_BYTES: Final = 1 << 20
# From this size on, taking a page apart would hold up the loop for longer than handing it to a thread does.
ASIDE_BYTES_MIN: Final = 64 << 10
FETCH_S: Final = 1.5  # beyond the time we allow the broker to wait for news
OUT_OF_RANGE: Final = 1
_FIRST: Final = -2  # what ListOffsets takes for the log's beginning and for its high watermark
_END: Final = -1


@dataclass(frozen=True, slots=True)
class Entry:
    position: int
    frame: Frame
    key: bytes | None


@dataclass(frozen=True, slots=True)
class Page:
    entries: list[Entry]
    next_position: int
    end: int  # exclusive: the high watermark when the page was read


class OutOfRange(Exception):  # noqa: N818
    """The leader holds no such position: trimmed, or not there (yet)."""


async def bounds(link: Link) -> tuple[int, int]:
    """(first position, exclusive end of what is durable). Raises NoAnswer.

    The end is asked for as a consumer would (ListOffsets): a new leader refuses until it knows what the one before it
    had acknowledged, so the answer is never older than an append that was confirmed before the question.
    """
    end = await _bound(link, _END)
    return await _bound(link, _FIRST), end


async def _bound(link: Link, which: int) -> int:
    request = OffsetRequest(-1, 0, [(link.address.topic, [(PARTITION, which)])])
    answer = await link.ask_leader(request)
    ((_topic, ((_partition, code, _time, position),)),) = answer.topics
    if code:
        raise link.refused(code)
    return int(position)


async def fetch(link: Link, position: int, wait_s: float, size: int = READ_BYTES) -> Page:
    """One page from a position on, waiting up to `wait_s` for there to be one. Raises NoAnswer, OutOfRange, Corrupt."""
    topic = link.address.topic
    request = FetchRequest(int(wait_s * 1000), 1, size, 0, [(topic, [(PARTITION, position, size)])])
    answer = await link.ask_leader(request, wait_s + FETCH_S)
    if answer.API_VERSION >= 7 and answer.error_code:
        raise link.refused(answer.error_code)
    ((_topic, (found,)),) = answer.topics
    _partition, code, end = found[:3]
    if code == OUT_OF_RANGE:
        raise OutOfRange(f"the leader holds no position {position}")
    if code:
        raise link.refused(code)
    data = found[-1] or b""
    if len(data) < ASIDE_BYTES_MIN:
        return take_apart(topic, data, position, end)
    return await asyncio.to_thread(take_apart, topic, data, position, end)


def take_apart(topic: str, data: bytes, position: int, end: int) -> Page:
    """The frames in Kafka's record batches, checksums checked; a batch cut off at the page's end is left out."""
    entries: list[Entry] = []
    here = position
    try:
        batches = MemoryRecords(data)
        while batches.has_next():
            batch = batches.next_batch()
            if not batch.validate_crc():
                raise Corrupt(f"topic {topic}: position {here}: wrong checksum of Kafka's batch")
            after = batch.next_offset
            if not batch.is_control_batch:
                for record in batch:
                    here = record.offset
                    if here >= position:
                        entries.append(Entry(here, frame_of(record.value), record.key))
            here = after
    except BadFrame as error:
        raise Corrupt(f"topic {topic}: position {here}: {error}") from None
    except (CorruptRecordException, KafkaError) as error:
        raise Corrupt(f"topic {topic}: position {here}: {error}") from None
    return Page(entries, max(here, position), end)


def frame_of(value: bytes | None) -> Frame:
    """The one frame that a Kafka record's value is. Raises BadFrame."""
    data = bytes(value or b"")
    frame = decode(data)
    if frame is None or frame.size != len(data):
        raise BadFrame(f"{len(data)} bytes that are not one whole frame")
    return frame


class Cursor:
    """Reads page after page, through changes of the leader; while there is more, one page ahead."""

    def __init__(
        self, link: Link, position: int, *, patience_s: float | None, ahead: bool = False, size: int = READ_BYTES
    ) -> None:
        self.position = position  # of the next page
        self.end = 0  # as of the latest page
        self._link = link
        self._patience_s = patience_s
        self._ahead = ahead
        self._size = size
        self._next: asyncio.Task[Page] | None = None

    async def next(self, wait_s: float = 0.0) -> list[Entry]:
        """The entries from `position` on; perhaps none. Raises OutOfRange, Corrupt; Unavailable after the patience."""
        task, self._next = self._next, None
        page = await (task if task is not None else self._fetch(self.position, wait_s))
        self.position = page.next_position
        self.end = page.end
        if self._ahead and self.position < self.end:
            self._next = asyncio.create_task(self._fetch(self.position, wait_s))
        return page.entries

    async def _fetch(self, position: int, wait_s: float) -> Page:
        what = f"topic {self._link.address.topic} cannot be read at position {position}"
        return await persist(lambda: fetch(self._link, position, wait_s, self._size), self._patience_s, what)

    async def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
