"""The Kafka that the tests use: real brokers, started once, on jars that `make kafka` brought."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.protocol.admin import CreateTopicsRequest

from eventdb.backends.kafka import KafkaLog
from eventdb.backends.kafka.address import parse
from eventdb.backends.kafka.link import Cluster, Link, persist
from eventdb.cli.dev.brokers import Brokers, NoKafka, fetch_jars, java

ROOT = Path(__file__).resolve().parents[2]
JARS = ROOT / "build" / "kafka"
POM = ROOT / "tests" / "kafka" / "pom.xml"
USERS = {"eventdb": "a-secret-that-never-shows"}
KEY_PASSWORD = "another-secret"  # of the client's private key
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")

OpenLog = Callable[[str], KafkaLog]


def start_brokers(folder: Path, count: int, **options: Any) -> Brokers:
    """Start them; where that cannot be done the test is skipped (a failure under EVENTDB_REQUIRE_ALL=1)."""
    try:
        java()
        return Brokers(folder, fetch_jars(JARS, POM), count, **options).start()
    except NoKafka as error:
        pytest.skip(f"{error}; or: make kafka")


def secured(folder: Path) -> dict[str, Any]:
    """Options of `Brokers` for three listeners that want to know who asks, and tell who they are.

    SASL: a password in the clear; SASL_TLS: one that is proved and not sent (SCRAM), over TLS; TLS: a certificate. The
    files in `folder`: server.crt, client.crt, client.key, and stranger.crt, which nobody knows.
    """
    certificate(folder / "server", "/CN=broker")
    certificate(folder / "client", "/CN=eventdb", KEY_PASSWORD)
    certificate(folder / "stranger", "/CN=stranger")
    both = folder / "server.pem"
    both.write_text((folder / "server.key").read_text() + (folder / "server.crt").read_text())
    users = " ".join(f'user_{name}="{password}"' for name, password in USERS.items())
    security = "org.apache.kafka.common.security"
    settings = {
        "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl.plain.sasl.jaas.config": f"{security}.plain.PlainLoginModule required {users};",
        "listener.name.sasl_tls.sasl.enabled.mechanisms": ",".join(SCRAM),
        "listener.name.tls.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": f"{both}",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": f"{folder / 'client.crt'}",
    }
    for name in SCRAM:
        login = f"{security}.scram.ScramLoginModule required;"
        settings[f"listener.name.sasl_tls.{name.lower()}.sasl.jaas.config"] = login
    scram = [f"{one}=[name={name},password={password}]" for one in SCRAM for name, password in USERS.items()]
    return {
        "listeners": {"SASL": "SASL_PLAINTEXT", "SASL_TLS": "SASL_SSL", "TLS": "SSL"},
        "settings": settings,
        "formatting": tuple(word for one in scram for word in ("--add-scram", one)),
    }


def certificate(place: Path, subject: str, password: str = "") -> None:
    """`place`.crt, signed by itself, good for 127.0.0.1, and `place`.key. (openssl comes with Debian's Java.)"""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj", subject]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{place}.key", "-out", f"{place}.crt"]
    command += ["-passout", f"pass:{password}"] if password else ["-nodes"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert done.returncode == 0, done.stderr


def topic_name() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """One broker, for everything that is not about losing one. `kafka.url(topic)` allows the weak topic it makes."""
    brokers = start_brokers(tmp_path_factory.mktemp("kafka"), 1, **secured(tmp_path_factory.mktemp("certificates")))
    yield brokers
    brokers.kill()


@pytest.fixture(scope="session")
def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """Three brokers in racks a, b, c. A test that kills or stops one mends it."""
    brokers = start_brokers(tmp_path_factory.mktemp("kafka-three"), 3)
    yield brokers
    brokers.kill()


@pytest.fixture
async def opened() -> AsyncIterator[OpenLog]:
    """Opens logs in Kafka that are closed when the test ends."""
    logs: list[KafkaLog] = []

    def open_url(url: str) -> KafkaLog:
        logs.append(KafkaLog(url))
        return logs[-1]

    yield open_url
    for log in logs:
        await log.close()


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
