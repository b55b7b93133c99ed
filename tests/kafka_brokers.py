"""The Kafka that the tests use: real brokers, started once, on jars that `make kafka` brought."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.protocol.admin import CreateTopicsRequest

from eventdb.backends.kafka.address import parse
from eventdb.backends.kafka.link import Cluster, Link, persist
from eventdb.cli.brokers import Brokers, NoKafka, fetch_jars, java

ROOT = Path(__file__).resolve().parent.parent
JARS = ROOT / "build" / "kafka"
POM = ROOT / "tests" / "kafka" / "pom.xml"
USERS = {"eventdb": "a-secret-that-never-shows"}


def start_brokers(folder: Path, count: int, **options: dict[str, str]) -> Brokers:
    """Start them; where that cannot be done the test is skipped (a failure under EVENTDB_REQUIRE_ALL=1)."""
    try:
        java()
        return Brokers(folder, fetch_jars(JARS, POM), count, **options).start()
    except NoKafka as error:
        pytest.skip(f"{error}; or: make kafka")


def topic_name() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """One broker, for everything that is not about losing one. `kafka.url(topic)` allows the weak topic it makes."""
    brokers = start_brokers(tmp_path_factory.mktemp("kafka"), 1, users=USERS)
    yield brokers
    brokers.kill()


@pytest.fixture(scope="session")
def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """Three brokers in racks a, b, c. A test that kills or stops one mends it."""
    brokers = start_brokers(tmp_path_factory.mktemp("kafka-three"), 3)
    yield brokers
    brokers.kill()


async def make_topic(brokers: Brokers, topic: str, settings: dict[str, str], *, partitions: int = 1) -> None:
    """A topic as somebody else would make it, with one copy a broker (three at most)."""
    link = Link(parse(brokers.url(topic)))
    try:
        copies = min(3, len(brokers.brokers))
        request = CreateTopicsRequest([(topic, partitions, copies, [], list(settings.items()))], 10_000, False)
        broker = brokers.brokers[0]
        answer = await link.ask(("127.0.0.1", broker.port), request, 10)
        assert answer.topic_errors[0][1] == 0, answer
    finally:
        await link.close()


async def cluster_of(url: str) -> Cluster:
    """Who leads the topic's partition, and which copies are in sync; polled until somebody leads."""
    link = Link(parse(url))
    try:
        while (found := await persist(link.cluster, 20, "cluster")).leader < 0:
            await asyncio.sleep(0.05)
        return found
    finally:
        await link.close()
