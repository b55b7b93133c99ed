"""Brokers that want to know who asks and say who they are: TLS, SCRAM, certificates, all of them real."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from eventdb.backends import Unavailable
from eventdb.backends.conformance import data_of, fill, read_all
from eventdb.backends.kafka import KafkaLog
from eventdb.cli.dev.brokers import Brokers
from tests.conftest import StartServer
from tests.kit.kafka_brokers import KEY_PASSWORD, SCRAM, USERS, OpenLog, topic_name
from tests.kit.wire import Wire

pytestmark = pytest.mark.kafka


@pytest.fixture
def certificates(kafka: Brokers) -> Path:
    return Path(kafka.settings["ssl.keystore.location"]).parent


def url(kafka: Brokers, listener: str, **options: object) -> str:
    """Options with _ for -."""
    words = "".join(f"&{name.replace('_', '-')}={value}" for name, value in options.items())
    return f"kafka://127.0.0.1:{kafka.ports[listener]}/{topic_name()}?allow-weak=1{words}"


def scram(kafka: Brokers, certificates: Path, mechanism: str, **others: object) -> str:
    ((name, password),) = USERS.items()
    options = {
        "security_protocol": "SASL_SSL", "sasl_mechanism": mechanism, "sasl_username": name,
        "sasl_password": password, "ssl_cafile": certificates / "server.crt", **others,
    }  # fmt: skip
    return url(kafka, "SASL_TLS", **options)


def tls(kafka: Brokers, certificates: Path, **others: object) -> str:
    options = {
        "security_protocol": "SSL", "ssl_cafile": certificates / "server.crt",
        "ssl_certfile": certificates / "client.crt", "ssl_keyfile": certificates / "client.key",
        "ssl_keypassword": KEY_PASSWORD, **others,
    }  # fmt: skip
    return url(kafka, "TLS", **options)


async def writes_and_reads(log: KafkaLog) -> None:
    writer = await log.claim("node")
    await fill(writer, [b"one", b"two"])
    assert data_of(await read_all(log)) == [b"one", b"two"]


@pytest.mark.parametrize("mechanism", SCRAM)
async def test_scram_over_tls(kafka: Brokers, certificates: Path, opened: OpenLog, mechanism: str) -> None:
    where = scram(kafka, certificates, mechanism)
    await writes_and_reads(opened(where))
    ((_, password),) = USERS.items()
    with pytest.raises(Unavailable, match="does not let us in") as refused:
        await opened(where.replace(password, "wrong-guess")).claim("node")
    assert "wrong-guess" not in str(refused.value)


async def test_a_certificate_lets_in(kafka: Brokers, certificates: Path, opened: OpenLog) -> None:
    where = tls(kafka, certificates)
    log = opened(where)
    await writes_and_reads(log)
    assert KEY_PASSWORD not in f"{log.url} {log!r} {vars(log)!r}"


async def test_a_broker_that_is_not_who_it_should_be_gets_nothing(
    kafka: Brokers, certificates: Path, opened: OpenLog
) -> None:
    """At once, and by name: no waiting makes another certificate of it."""
    for where in (
        scram(kafka, certificates, SCRAM[0], ssl_cafile=certificates / "stranger.crt"),
        scram(kafka, certificates, SCRAM[0]).replace("127.0.0.1", "localhost"),  # not the name in its certificate
        tls(kafka, certificates, ssl_cafile=certificates / "stranger.crt"),
    ):
        with pytest.raises(Unavailable, match=r"its certificate cannot be trusted: .*(self.signed|mismatch)"):
            await opened(where).claim("node")


async def test_a_client_that_nobody_knows_is_not_let_in(kafka: Brokers, certificates: Path, opened: OpenLog) -> None:
    stranger = {"ssl_certfile": certificates / "stranger.crt", "ssl_keyfile": certificates / "stranger.key"}
    with pytest.raises(Unavailable, match=r"does it want another certificate of ours\?"):
        await opened(tls(kafka, certificates, **stranger)).claim("node")


def test_a_server_on_tls(kafka: Brokers, certificates: Path, eventdb_server: StartServer) -> None:
    """The loop of the server is uvloop's, which has a TLS of its own."""
    for where in (scram(kafka, certificates, SCRAM[1]), tls(kafka, certificates)):
        server = eventdb_server(where)
        with Wire(server.port) as wire:
            assert wire("SET", "k", "v") == b"OK"
        server.kill()
        with Wire(eventdb_server(where).port) as wire:
            assert wire("GET", "k") == b"v"


def test_the_files_are_what_they_seem(certificates: Path) -> None:
    """Each test above fails for its own reason, and not for a file that cannot be read."""
    context = ssl.create_default_context(cafile=certificates / "server.crt")
    context.load_cert_chain(certificates / "client.crt", certificates / "client.key", KEY_PASSWORD)
    context.load_cert_chain(certificates / "stranger.crt", certificates / "stranger.key")
