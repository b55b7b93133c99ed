"""The Kafka that the tests use: real brokers, started once, on jars that `make kafka` brought."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    """Three brokers in racks a, b, c. A test may kill and stop them; `kafka_three` mends what it left."""
    brokers = start_brokers(tmp_path_factory.mktemp("kafka-three"), 3)
    yield brokers
    brokers.kill()
