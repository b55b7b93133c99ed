"""One pass of the log contract's suite over Kafka in a container that testcontainers starts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from eventdb.backends import Log
from eventdb.backends.conformance import LogConformance
from eventdb.backends.kafka import KafkaLog
from eventdb.backends.record import PAYLOAD_BYTES_MAX
from tests.compose.engine import Engine
from tests.compose.stack import variables_of_compose
from tests.conftest import free_port
from tests.kit.kafka_brokers import topic_name

pytestmark = [pytest.mark.timeout(1800), pytest.mark.kafka]

SETTINGS = {
    "CLUSTER_ID": "8bP2nQ0wT1Gd0wqkYB3v5A",
    "KAFKA_HEAP_OPTS": "-Xmx400m",
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
}


@pytest.fixture(scope="module")
def broker(engine: Engine, images: dict[str, str]) -> Iterator[str]:
    """host:port of one broker; it and its network are gone afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in engine.env.items():
            patch.setenv(name, value)
        patch.setenv(
            "TESTCONTAINERS_RYUK_DISABLED", "true"
        )  # the reaper is an image that a registry would have to give
        from testcontainers.core.container import DockerContainer
        from testcontainers.core.network import Network
        from testcontainers.core.wait_strategies import LogMessageWaitStrategy

        port = free_port()
        container = DockerContainer(images.get("KAFKA_IMAGE") or variables_of_compose()["KAFKA_IMAGE"])
        container.ports["9092/tcp"] = ("127.0.0.1", port)  # type: ignore[assignment]  # with_bind_ports would publish it to the world
        for name, value in {**SETTINGS, "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}"}.items():
            container.with_env(name, value)
        ready = LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(60)
        with Network() as network, container.with_network(network).waiting_for(ready):
            yield f"127.0.0.1:{port}"


class TestKafkaInAContainer(LogConformance):
    payload_bytes_max = PAYLOAD_BYTES_MAX

    @pytest.fixture(autouse=True)
    async def _around(self, broker: str) -> AsyncIterator[None]:
        self.broker = broker
        self.logs: list[Log] = []
        yield
        for log in self.logs:
            await log.close()

    def fresh(self, tmp_path: Path) -> Callable[[], Log]:
        url = f"kafka://{self.broker}/{topic_name()}?allow-weak=1"

        def opened() -> Log:
            self.logs.append(KafkaLog(url, payload_bytes_max=self.payload_bytes_max))
            return self.logs[-1]

        return opened
