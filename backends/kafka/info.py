"""What `Log.info` says: where history begins and ends, and how each copy of it is."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Int64, Schema, String

from eventdb.backends.kafka.history import CLAIM, History
from eventdb.backends.kafka.link import PARTITION, Cluster, Link, NoAnswer, persist
from eventdb.backends.kafka.reader import PATIENCE_S, entries, history_at, judge, span
from eventdb.backends.log import LogInfo, ZoneInfo
from eventdb.backends.record import FIRST

SIZES_S: Final = 1.0  # a copy whose broker does not say its size by then is shown without one


class DescribeLogDirsResponse(Response):  # type: ignore[misc]
    """Kafka's DescribeLogDirs, version 1 (KIP-113), which aiokafka does not bring."""

    API_KEY = 35
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("results", Array(
            ("error_code", Int16),
            ("log_dir", String("utf-8")),
            ("topics", Array(
                ("name", String("utf-8")),
                ("partitions", Array(
                    ("partition", Int32), ("size", Int64), ("offset_lag", Int64), ("is_future", Boolean),
                )),
            )),
        )),
    )  # fmt: skip


class DescribeLogDirsRequestStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 35
    API_VERSION = 1
    RESPONSE_TYPE = DescribeLogDirsResponse
    SCHEMA = Schema(("topics", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))))


class DescribeLogDirs(Request[DescribeLogDirsRequestStruct]):  # type: ignore[misc]
    API_KEY = 35

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[DescribeLogDirsRequestStruct]) -> DescribeLogDirsRequestStruct:
        return request_struct_class([(self._topic, [PARTITION])])


async def log_info(link: Link, known_end: int, trouble: str, racks: dict[int, str]) -> LogInfo:
    """State of the log, read now. Raises Unavailable, Corrupt.

    `trouble` is what a writer of this process waits for. `racks` remembers those of brokers that are away the next
    time.
    """
    cluster = await persist(link.cluster, PATIENCE_S, f"topic {link.address.topic} cannot be looked at")
    if cluster.partitions == 0:
        return LogInfo(link.address.shown, 0, 0, 0, 1, 0, 0)
    first, end = await span(link, known_end)
    history = await history_at(link, end, first)
    oldest = await first_offset(link, first, end) if first > 0 else 1
    racks.update((broker.id, broker.rack) for broker in cluster.brokers.values())
    zones = await _zones(link, cluster, racks, first, end, trouble)
    epoch = max(history.epoch, 0)
    return LogInfo(
        link.address.shown,
        epoch,
        first,
        end,
        oldest,
        history.next_offset - 1,
        history.time_ms,
        tuple(zones),
        log_id(cluster.cluster_id, link.address.topic),
    )


def log_id(cluster_id: str, topic: str) -> str:
    """What a cluster and a topic are called, as one id: aiokafka has no request for the topic's own.

    A topic that was deleted and made again has the same one; the running checksum tells such logs apart.
    """
    return hashlib.sha256(f"{cluster_id}/{topic}".encode()).hexdigest()[:32]


async def first_offset(link: Link, first: int, end: int) -> int:
    """Offset of the oldest transaction that can still be read, or of the next one when there is none."""
    history = History(known=first == 0, trusting=True)
    async for entry in entries(link, first, end):
        if judge(link, history, entry) and entry.frame.kind != CLAIM:
            frame = entry.frame
            inside = frame.fragment > FIRST  # its record began in what was trimmed
            return frame.first_offset + (frame.count if inside else 0)
    return history.next_offset


async def _zones(
    link: Link, cluster: Cluster, racks: dict[int, str], first: int, end: int, trouble: str
) -> list[ZoneInfo]:
    """A zone for each copy, named by its broker and rack. A copy in sync has everything that is durable."""
    sizes = await asyncio.gather(*(_size(link, cluster, number) for number in cluster.replicas))
    zones: list[ZoneInfo] = []
    for number, size in zip(cluster.replicas, sizes, strict=True):
        broker = cluster.brokers.get(number)
        name = f"{racks[number]}/{number}" if racks.get(number) else f"{number}"
        detail = f"leader{': ' + trouble if trouble else ''}" if number == cluster.leader else ""
        stored, lag = size if size is not None else (0, 0)
        if broker is None:
            zones.append(ZoneInfo(name, "down", "its broker is not in the cluster now"))
        elif number in cluster.in_sync:
            zones.append(ZoneInfo(name, "up", detail, first, end, stored, 1))
        else:
            zones.append(ZoneInfo(name, "catching-up", "not in sync", first, end - lag if size else 0, stored, 1))
    return zones


async def _size(link: Link, cluster: Cluster, number: int) -> tuple[int, int] | None:
    """(bytes stored, end position) of one copy, or None when its broker does not say."""
    broker = cluster.brokers.get(number)
    if broker is None:
        return None
    try:
        async with asyncio.timeout(SIZES_S):
            answer = await link.ask((broker.host, broker.port), DescribeLogDirs(link.address.topic))
    except (NoAnswer, TimeoutError):
        return None
    for _code, _dir, topics in answer.results:
        for _name, partitions in topics:
            for _partition, size, lag, is_future in partitions:
                if not is_future:
                    return size, lag
    return None
