"""`KafkaLog`: the log contract over one topic of one partition."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final

from aiokafka.protocol.admin import DeleteRecordsRequest

from eventdb.backends.kafka.address import parse
from eventdb.backends.kafka.claim import claim_epoch
from eventdb.backends.kafka.history import CLAIM, History
from eventdb.backends.kafka.info import first_offset, log_info
from eventdb.backends.kafka.link import PARTITION, Link, NoAnswer, persist
from eventdb.backends.kafka.page import Entry
from eventdb.backends.kafka.producer import BATCH_BYTES, RECORD_BYTES
from eventdb.backends.kafka.reader import PATIENCE_S, batches, entries, history_at, judge, span
from eventdb.backends.kafka.topic import ensure
from eventdb.backends.kafka.verify import findings
from eventdb.backends.kafka.writer import KafkaWriter
from eventdb.backends.log import LogInfo, Stretch, Trimmed
from eventdb.backends.record import FIRST, HEADER_BYTES, PAYLOAD_BYTES_MAX, UNKNOWN, WHOLE, Encoder
from eventdb.backends.seal import Keyring

BATCH_BYTES_MAX: Final = 2 << 20  # of records in one request, if the topic allows
TRIM_S: Final = 20.0
SEEK_NEAR: Final = 64  # positions: nearer than this is not worth another question


class KafkaLog:
    """Opens no connection before it is asked to. Belongs to one event loop from then on."""

    def __init__(self, url: str, *, payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> None:
        self._address = parse(url)
        self.url = self._address.shown
        self._payload_bytes_max = payload_bytes_max
        self._links: set[Link] = set()
        self._writers: list[KafkaWriter] = []
        self._racks: dict[int, str] = {}  # of every broker seen so far
        self.keys: Keyring | None = None
        self._known_end = 0  # what was claimed, appended or read here is durable, whatever a leader says

    def use_keys(self, keys: Keyring) -> None:
        """See `seal.Sealing`."""
        self.keys = keys

    def _link(self) -> Link:
        link = Link(self._address)
        self._links.add(link)
        return link

    async def _drop(self, link: Link) -> None:
        self._links.discard(link)
        await link.close()

    def _end(self) -> int:
        return max((self._known_end, *(writer.durable_end for writer in self._writers)))

    async def claim(self, node: str, address: str = "") -> KafkaWriter:
        body = f"{node} {address}".rstrip().encode()
        link, watch = self._link(), self._link()
        try:
            topic = await ensure(link)
            claimed = await claim_epoch(link, body, self._end(), self.keys)
        except BaseException:
            await self._drop(link)
            await self._drop(watch)
            raise
        batch_bytes = min(topic.batch_bytes_max, BATCH_BYTES_MAX + BATCH_BYTES) - BATCH_BYTES
        payload = min(self._payload_bytes_max, batch_bytes - RECORD_BYTES - HEADER_BYTES)
        self._known_end = max(self._known_end, claimed.position + 1)
        encoder = Encoder(payload, self.keys)
        writer = KafkaWriter(
            link, watch, epoch=claimed.epoch, position=claimed.position + 1, next_offset=claimed.next_offset,
            last_time_ms=claimed.time_ms, seal=claimed.seal, encoder=encoder, batch_bytes=batch_bytes,
        )  # fmt: skip
        self._writers.append(writer)
        return writer

    async def read(self, start: int = 0, *, follow: bool = False, after: int = UNKNOWN) -> AsyncIterator[Stretch]:
        link = self._link()
        try:
            if not await _exists(link, follow=follow):
                return
            found = batches(link, start, follow=follow, known_end=self._end(), after=after, keys=self.keys)
            async with aclosing(found):
                async for batch in found:
                    yield batch
        finally:
            await self._drop(link)

    def hurry(self) -> None:
        """Nothing to do: a broker answers when there is more."""

    async def seek(self, offset: int) -> int:
        link = self._link()
        try:
            if not await _exists(link):
                return 0
            first, end = await span(link, self._end())
            if first > 0:
                kept = await first_offset(link, first, end)
                if 0 < offset < kept:
                    raise Trimmed(f"transaction {offset} was trimmed; the first one kept is {kept}")
            place, low, high = first, first, end
            while high - low > SEEK_NEAR:
                middle = (low + high) // 2
                history = await history_at(link, middle, first)
                if history.known and history.next_offset <= offset:  # it comes at or after `middle`
                    low = middle
                    place = history.record_start if history.open else middle
                else:
                    high = middle
            return place
        finally:
            await self._drop(link)

    async def trim(self, before_position: int) -> None:
        link = self._link()
        try:
            if not await _exists(link):
                return
            first, end = await span(link, self._end())
            place = await _anchor_before(link, min(before_position, end), first)
            if place > first:
                topic = self._address.topic
                await persist(lambda: _delete(link, place), TRIM_S, f"topic {topic} cannot be trimmed")
        finally:
            await self._drop(link)

    async def info(self) -> LogInfo:
        link = self._link()
        try:
            live = [writer for writer in self._writers if not writer.fenced and not writer.closed]
            return await log_info(link, self._end(), live[-1].trouble if live else "", self._racks)
        finally:
            await self._drop(link)

    async def verify(self) -> AsyncIterator[str]:
        link = self._link()
        try:
            if await _exists(link):
                async with aclosing(findings(link, self.keys)) as found:
                    async for line in found:
                        yield line
        finally:
            await self._drop(link)

    async def is_empty(self) -> bool:
        link = self._link()
        try:
            if not await _exists(link):
                return True
            return (await span(link, self._end()))[1] == 0
        finally:
            await self._drop(link)

    async def close(self) -> None:
        writers, self._writers = self._writers, []
        for writer in writers:
            await writer.close()
            self._known_end = max(self._known_end, writer.durable_end)
        links, self._links = self._links, set()
        for link in links:
            await link.close()


async def _exists(link: Link, *, follow: bool = False) -> bool:
    """Whether the topic exists; a follower waits until it does. Raises Unavailable."""

    async def step() -> bool:
        cluster = await link.cluster()
        if cluster.partitions == 0 and follow:
            raise NoAnswer("there is no such topic yet")
        return cluster.partitions > 0

    topic = link.address.topic
    if follow:  # nobody there at all is worth an error; no topic is not
        await persist(link.cluster, PATIENCE_S, f"topic {topic} cannot be looked at")
    return await persist(step, None if follow else PATIENCE_S, f"topic {topic} cannot be looked at")


async def _anchor_before(link: Link, position: int, first: int) -> int:
    """The last place at or before a position where a log may begin: at a record that has its epoch and is whole."""
    back = SEEK_NEAR
    while True:
        begin = max(first, position - back)
        history = History(known=begin == 0, trusting=begin == first)
        found = -1
        stop = position + 1
        _first, end = await span(link)
        async for entry in entries(link, begin, min(stop, end)):
            if judge(link, history, entry) and _may_begin(entry):
                found = entry.position
        if found >= 0 or begin == first:
            return found
        back *= 16


def _may_begin(entry: Entry) -> bool:
    return entry.frame.kind != CLAIM and entry.frame.fragment in (WHOLE, FIRST)


async def _delete(link: Link, before: int) -> None:
    request = DeleteRecordsRequest([(link.address.topic, [(PARTITION, before)])], int(TRIM_S * 1000))
    answer = await link.ask_leader(request, TRIM_S)
    code = answer.topics[0][1][0][2]
    if code:
        raise link.refused(code)


def open_kafka(url: str) -> KafkaLog:
    """Open a log in Kafka; see `address.py` for the URL. Raises BadLogURL."""
    return KafkaLog(url)
