"""Kafka keeps the log contract: the shipped suite, on a real broker."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from eventdb.backends import Log
from eventdb.backends.conformance import LogConformance
from eventdb.backends.kafka import KafkaLog
from eventdb.backends.record import PAYLOAD_BYTES_MAX
from eventdb.backends.seal import Keyring
from eventdb.cli.dev.brokers import Brokers
from tests.kit.kafka_brokers import topic_name
from tests.kit.keyring import ring

pytestmark = pytest.mark.kafka


class TestKafka(LogConformance):
    payload_bytes_max = PAYLOAD_BYTES_MAX
    keys: Keyring | None = None

    @pytest.fixture(autouse=True)
    async def _around(self, kafka: Brokers) -> AsyncIterator[None]:
        """The suite leaves some logs open, as a killed process does; their sockets would outlive the test's loop."""
        self.brokers = kafka
        self.logs: list[Log] = []
        yield
        for log in self.logs:
            await log.close()

    def fresh(self, tmp_path: Path) -> Callable[[], Log]:
        url = self.brokers.url(topic_name())

        def opened() -> Log:
            log = KafkaLog(url, payload_bytes_max=self.payload_bytes_max)
            if self.keys is not None:
                log.use_keys(self.keys)
            self.logs.append(log)
            return log

        return opened


class TestKafkaSmallFragments(TestKafka):
    """Most records in fragments, many of them in a batch."""

    payload_bytes_max = 1500


class TestKafkaSealed(TestKafka):
    """Every record sealed, many in fragments."""

    payload_bytes_max = 20_000
    keys = ring(1, 2)
