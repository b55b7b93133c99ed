"""What a broker shows may be on one copy only: it counts once something after it was acknowledged.

A broker before 3.7 answers an append with NOT_ENOUGH_REPLICAS_AFTER_APPEND and shows the record all the same.
"""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.protocol.produce import ProduceRequest

from eventdb.backends.kafka import claim, link, writer
from eventdb.backends.kafka.claim import Claimed
from eventdb.backends.kafka.link import Broker, Cluster, Link, NoAnswer
from eventdb.backends.kafka.stand_in import StandIn
from eventdb.backends.kafka.topic import WeakTopic, old_brokers, old_leader
from eventdb.backends.kafka.writer import KafkaWriter
from eventdb.backends.log import Indeterminate, RecordKind
from eventdb.backends.record import Encoder
from eventdb.cli.dev.brokers import Brokers
from tests.backends.test_kafka_history import read
from tests.kit.kafka_brokers import OpenLog, topic_name
from tests.kit.kafka_partition import TOPIC, Partition, SimulatedLink, SimulatedStandIn

NOT_ENOUGH, NOT_ENOUGH_AFTER = 19, 20
TURNS = 50  # of the loop, in which all that can happen has happened


class OldLink(SimulatedLink):
    """A leader before 3.7. `leaving`: the next append finds a second copy in sync, and is left without it."""

    def __init__(self, partition: Partition) -> None:
        super().__init__(partition)
        self.leaving = False
        self.alone = False
        self.refused_appends = 0

    async def ask_leader(self, request: object, seconds: float = 0.0) -> Any:
        await asyncio.sleep(0)
        if not isinstance(request, ProduceRequest) or not (self.leaving or self.alone):
            return await super().ask_leader(request, seconds)
        code = NOT_ENOUGH
        self.refused_appends += 1
        if not self.alone:
            self.partition.append(bytes(request._topics[0][1][0][1]))
            self.partition.commit()
            self.alone, code = True, NOT_ENOUGH_AFTER
        return SimpleNamespace(topics=[(TOPIC, [(0, code, -1, -1, 0, [], None)])])

    def join(self) -> None:
        """A second copy has all that the leader has."""
        self.leaving = self.alone = False


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> OldLink:
    for module in (link, writer, claim):
        monkeypatch.setattr(module, "PAUSE_S_MIN", 0.0)
        monkeypatch.setattr(module, "PAUSE_S_MAX", 0.0)
    monkeypatch.setattr(writer, "CLOSE_S_MAX", 0.05)
    return OldLink(Partition(random.Random(1)))


async def claimed(broker: OldLink) -> Claimed:
    return await claim.claim_epoch(cast(Link, broker), b"node", 0)


def writer_of(broker: OldLink, taken: Claimed, *, payload: int = 1000) -> KafkaWriter:
    one = cast(Link, broker)
    return KafkaWriter(
        one, one, epoch=taken.epoch, position=taken.position + 1, next_offset=taken.next_offset,
        last_time_ms=taken.time_ms, seal=taken.seal, encoder=Encoder(payload), batch_bytes=10_000,
    )  # fmt: skip


def append(one: KafkaWriter, body: bytes) -> asyncio.Future[int]:
    return one.append(body, first_offset=one.next_offset, count=1, time_ms=one.last_time_ms)


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def test_what_was_read_back_waits_for_a_later_append_to_be_acknowledged(broker: OldLink) -> None:
    one = writer_of(broker, await claimed(broker))
    assert await append(one, b"two copies") == 1
    broker.leaving = True
    future = append(one, b"one copy")
    await turns()
    assert broker.partition.shown == 3, "it is shown"
    assert broker.refused_appends > 2, "and something is sent after it, which is refused"
    assert not future.done()
    assert one.durable_end == 2
    broker.join()
    assert await future == 2
    assert one.durable_end == 4
    await one.close()
    records = await read(broker.partition, 0)
    assert [(record.kind, record.body) for record in records[1:]] == [
        (RecordKind.DATA, b"two copies"), (RecordKind.DATA, b"one copy"), (RecordKind.HEARTBEAT, b""),
    ]  # fmt: skip


async def test_the_next_record_is_what_settles_it_where_there_is_one(broker: OldLink) -> None:
    one = writer_of(broker, await claimed(broker), payload=8)
    broker.leaving = True
    futures = [append(one, b"%d" % number * 30) for number in range(3)]
    await turns()
    futures.append(append(one, b"later"))
    await turns()
    assert not any(future.done() for future in futures)
    broker.join()
    await asyncio.gather(*futures)
    await one.close()
    records = await read(broker.partition, 0)
    assert [record.body for record in records[1:] if record.kind is RecordKind.DATA] == [
        b"0" * 30, b"1" * 30, b"2" * 30, b"later",
    ]  # fmt: skip


async def test_a_writer_that_ends_first_does_not_know(broker: OldLink) -> None:
    one = writer_of(broker, await claimed(broker))
    broker.leaving = True
    future = append(one, b"one copy")
    await turns()
    await one.close()
    with pytest.raises(Indeterminate):
        await future


async def test_a_claim_that_was_read_back_is_said_again_until_it_is_acknowledged(broker: OldLink) -> None:
    broker.leaving = True
    claiming = asyncio.ensure_future(claimed(broker))
    await turns()
    assert broker.partition.shown == 1
    assert not claiming.done()
    broker.join()
    taken = await claiming
    assert (taken.epoch, taken.position) == (1, 0)
    one = writer_of(broker, taken)
    assert await append(one, b"x") == 3, "after the copy of the claim, and a first try that met it: both are void"
    await one.close()
    assert [record.position for record in await read(broker.partition, 0)] == [0, 3]


async def test_a_log_that_lost_what_it_had_shown_ends_its_writer(broker: OldLink) -> None:
    one = writer_of(broker, await claimed(broker))
    broker.leaving = True
    future = append(one, b"one copy")
    await turns()
    broker.partition.stored.pop()  # the broker is lost with its disk, and another one is made the leader by hand
    broker.partition.shown = broker.partition.end
    broker.join()
    with pytest.raises(Indeterminate, match="position 1 was shown and is gone"):
        await future


async def test_what_another_writer_has_put_in_the_place_of_what_was_lost_settles_nothing(broker: OldLink) -> None:
    one = writer_of(broker, await claimed(broker))
    broker.leaving = True
    future = append(one, b"one copy")
    await turns()
    broker.partition.stored.pop()
    broker.partition.shown = broker.partition.end
    other = await claim.claim_epoch(cast(Link, SimulatedLink(broker.partition)), b"other", 0)
    assert other.position == 1, "so the next append of the first one comes to where it is expected"
    broker.join()
    with pytest.raises(Indeterminate, match="position 1 was shown and is gone"):
        await future


async def test_a_push_settles_nothing_that_was_read_back(broker: OldLink) -> None:
    """What another writer has put there would pass for it, and the answer for the record after it."""
    one = writer_of(broker, await claimed(broker))
    beside = SimulatedStandIn(SimulatedLink(broker.partition))
    one._stand_in = cast(StandIn, beside)
    broker.leaving = True
    future = append(one, b"one copy")
    await turns()
    broker.partition.stored.pop()
    broker.partition.shown = broker.partition.end
    await claim.claim_epoch(cast(Link, SimulatedLink(broker.partition)), b"other", 0)
    for _ in range(TURNS):
        one.push(0.0)
        await asyncio.sleep(0)
    assert not future.done() and not beside.sent
    broker.join()
    with pytest.raises(Indeterminate, match="position 1 was shown and is gone"):
        await future


# -- which brokers


class Versions:
    """Brokers that say which requests they take."""

    leader_id = 2

    def __init__(self, *highest: int) -> None:
        self.highest = highest

    async def ask(self, place: tuple[str, int], request: object) -> object:
        highest = self.highest[place[1]]
        if highest < 0:
            raise NoAnswer("it is down")
        return SimpleNamespace(api_versions=[(0, 0, highest), (1, 4, 99)])

    async def ask_leader(self, request: object) -> object:
        return await self.ask(("", 2), request)


async def test_brokers_before_3_7_are_named_and_what_to_do() -> None:
    brokers = {number: Broker(number, "b", number, "") for number in range(3)}
    cluster = Cluster(brokers, 0, 1, 2, (0, 1, 2), (0, 1, 2))
    old = cast(Link, Versions(10, -1, 9))
    (text,) = await old_brokers(old, cluster)
    assert await old_leader(old) == [text]
    assert "broker 2 is older than Kafka 3.7" in text
    assert "upgrade every broker to 3.7 or later" in text
    assert await old_leader(cast(Link, Versions(9, 9, 13))) == []


async def test_a_leader_that_is_too_old_is_refused(
    kafka: Brokers, opened: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventdb.backends.kafka.topic._PRODUCE_MIN", 99)
    url = kafka.url(topic_name())
    await (await opened(url).claim("node")).close()  # ?allow-weak=1
    strict = opened(url.partition("?")[0])
    with pytest.raises(WeakTopic, match="broker 1 is older than Kafka"):
        await strict.claim("node")
    assert any("is older than Kafka" in line for line in [line async for line in strict.verify()])
