"""Three real brokers in three racks, and what happens when they are killed or stopped while records are appended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from eventdb.backends import Fenced
from eventdb.backends.conformance import data_of, raised, read_all
from eventdb.backends.kafka import KafkaLog, KafkaWriter
from eventdb.cli.dev.brokers import Broker, Brokers, wait_for
from tests.kit.kafka_brokers import cluster_of, topic_name

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

# Writes stand still for about 1.5 s, and 1 s longer when the lost broker led the controllers too; slow machines get
# more.
FAILOVER_S_MAX = 20.0


class Load:
    """Appends one record after the other, and remembers which were acknowledged and how long it stood still."""

    def __init__(self, writer: KafkaWriter) -> None:
        self.writer = writer
        self.acknowledged: list[bytes] = []
        self.still_s = 0.0
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        writer = self.writer
        last = time.monotonic()
        while True:
            body = b"%d" % writer.next_offset
            await writer.append(body, first_offset=writer.next_offset, count=1, time_ms=0)
            self.acknowledged.append(body)
            self.still_s = max(self.still_s, time.monotonic() - last)
            last = time.monotonic()
            await asyncio.sleep(0.002)

    async def more(self, count: int, seconds: float = FAILOVER_S_MAX) -> None:
        """Return when so many more were acknowledged."""
        wanted = len(self.acknowledged) + count
        async with asyncio.timeout(seconds):
            while len(self.acknowledged) < wanted:
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Stage:
    """A log on three brokers with a load on it."""

    def __init__(self, brokers: Brokers) -> None:
        self.brokers = brokers
        self.url = brokers.url(topic_name())
        self.log = KafkaLog(self.url)
        self.other = KafkaLog(self.url)
        self._load: Load | None = None

    async def load(self) -> Load:
        self._load = Load(await self.log.claim("node"))
        await self._load.more(50)
        return self._load

    async def leader(self) -> Broker:
        return self.brokers.brokers[(await cluster_of(self.url)).leader - 1]

    async def mend(self) -> None:
        """Every broker runs again, and has every record; nobody appends any more."""
        if self._load is not None:
            await self._load.end()
        for broker in self.brokers.brokers:
            broker.resume()
            if not broker.running:
                broker.start()
        await asyncio.to_thread(wait_for, lambda: all(one.is_ready() for one in self.brokers.brokers), 60)
        async with asyncio.timeout(60):
            while len((await cluster_of(self.url)).in_sync) < 3:
                await asyncio.sleep(0.05)


@pytest.fixture
async def stage(three_brokers: Brokers) -> AsyncIterator[Stage]:
    one = Stage(three_brokers)
    yield one
    await one.mend()
    await one.log.close()
    await one.other.close()


async def test_the_topic_has_a_copy_in_every_rack(stage: Stage) -> None:
    assert "allow-weak" not in stage.url
    await stage.log.claim("node")
    info = await stage.log.info()
    assert sorted(zone.name for zone in info.zones) == ["a/1", "b/2", "c/3"]
    assert {zone.state for zone in info.zones} == {"up"}
    assert [zone.detail for zone in info.zones].count("leader") == 1
    assert {zone.end_position for zone in info.zones} == {1}
    assert all(zone.stored_bytes > 64 for zone in info.zones)
    assert [line async for line in stage.log.verify()] == []


async def test_a_killed_leader_costs_seconds_and_no_record(stage: Stage) -> None:
    load = await stage.load()
    followed: list[bytes] = []

    async def follow() -> None:
        async for batch in stage.other.read(follow=True):
            followed.extend(data_of(list(batch.records)))

    following = asyncio.create_task(follow())
    await stage.log.info()  # which racks there are, it can say of a lost broker too from now on
    victim = await stage.leader()
    victim.kill()
    await load.more(50)
    print(f"writes stood still for {load.still_s:.2f} s")
    states = {zone.name: zone.state for zone in (await stage.log.info()).zones}
    assert states[f"{victim.rack}/{victim.id}"] == "down"
    await load.end()
    assert load.writer.stats.zone_errors > 0
    async with asyncio.timeout(FAILOVER_S_MAX):
        while len(followed) < len(load.acknowledged):
            await asyncio.sleep(0.01)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    found = data_of(await read_all(stage.log))
    assert found[: len(load.acknowledged)] == load.acknowledged
    assert len(found) <= len(load.acknowledged) + 1
    assert followed[: len(load.acknowledged)] == load.acknowledged


async def test_a_stopped_leader_is_left_and_its_late_records_are_void(stage: Stage) -> None:
    load = await stage.load()
    victim = await stage.leader()
    victim.pause()
    await load.more(50)
    print(f"writes stood still for {load.still_s:.2f} s")
    assert (await stage.leader()) is not victim
    new = await stage.other.claim("new")
    victim.resume()  # with a batch of the load's still unread in its socket
    await load.end()
    await raised(load.writer.append(b"stale", first_offset=load.writer.next_offset, count=1, time_ms=0), Fenced)
    await new.append(b"new", first_offset=new.next_offset, count=1, time_ms=0)
    await stage.mend()
    found = data_of(await read_all(stage.other))
    assert found[: len(load.acknowledged)] == load.acknowledged
    assert found[-1] == b"new" and b"stale" not in found
    assert len(found) == len(set(found))
    assert not [line async for line in stage.other.verify() if "position" in line]


async def test_with_one_broker_of_three_appends_wait_and_go_on_when_a_second_is_back(stage: Stage) -> None:
    load = await stage.load()
    leader = await stage.leader()
    others = [broker for broker in stage.brokers.brokers if broker is not leader]
    for broker in others:
        broker.kill()
    await asyncio.sleep(0.5)  # what was on its way when the second died may still have been acknowledged
    before = len(load.acknowledged)
    await asyncio.sleep(2.0)
    assert len(load.acknowledged) <= before + 1
    assert load.writer.trouble
    others[0].start()
    await load.more(50, 60)
    await load.end()
    found = data_of(await read_all(stage.log))
    assert found[: len(load.acknowledged)] == load.acknowledged
    assert len(found) <= len(load.acknowledged) + 1
