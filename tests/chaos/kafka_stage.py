"""What a log lies on: three Kafka brokers in three racks, each behind a proxy that nodes and brokers use.

A partition has a copy on every broker and needs two of them, so one broker may be lost at a time.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Final

from eventdb.backends.kafka.broker_timing import BROKER_TIMING
from eventdb.cli.dev.brokers import Broker, Brokers, fetch_jars, java, wait_for
from tests.chaos.cluster import Cluster
from tests.chaos.proxy import HANG, RESET, OwnedBy, Proxy
from tests.chaos.stage import Mend, Strike
from tests.kit.kafka_brokers import JARS, POM, cluster_of, topic_name

START_S: Final = 90.0
SESSION_S: Final = int(BROKER_TIMING["broker.session.timeout.ms"]) / 1000  # after which a silent broker is replaced


class ProxiedBrokers(Brokers):
    """Brokers that advertise their proxies."""

    def __init__(self, loop: asyncio.AbstractEventLoop, folder: Path) -> None:
        super().__init__(folder, fetch_jars(JARS, POM), 3)
        self.proxies = [Proxy(loop, broker.port) for broker in self.brokers]

    @property
    def address(self) -> str:
        return ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.proxies)

    def _properties(self, broker: Broker) -> str:
        proxy = self.proxies[self.brokers.index(broker)]
        here = "advertised.listeners=PLAINTEXT://127.0.0.1:"
        return super()._properties(broker).replace(f"{here}{broker.port}\n", f"{here}{proxy.port}\n")


class Kafka:
    """One topic on them. Raises NoKafka where they cannot be run."""

    def __init__(self, loop: asyncio.AbstractEventLoop, folder: Path) -> None:
        java()
        self.brokers = ProxiedBrokers(loop, folder / "brokers")
        self.brokers.start()
        self.url = self.brokers.url(topic_name())

    def faults(self, cluster: Cluster) -> dict[str, Strike]:
        return {
            "the leading broker is killed": lambda rng: self._kill(self._leader()),
            "a broker is killed": lambda rng: self._kill(rng.choice(self.brokers.brokers)),
            "the leading broker is paused": lambda rng: self._pause([self._leader()], rng.uniform(0.3, 3.0)),
            "two brokers are paused: no majority": self._pause_two,
            "a node is cut from all brokers": lambda rng: self._cut_node(cluster, rng),
            "all nodes are cut from a broker": lambda rng: self._cut_broker(cluster, rng),
        }

    def _leader(self) -> Broker:
        return self.brokers.brokers[asyncio.run(cluster_of(self.url)).leader - 1]

    def _kill(self, broker: Broker) -> Mend:
        broker.kill()

        def start() -> None:
            broker.start()
            wait_for(broker.is_ready, START_S)

        return start

    def _pause(self, brokers: list[Broker], sessions: float) -> Mend:
        """Shorter and longer than a broker's session."""
        for broker in brokers:
            broker.pause()
        time.sleep(sessions * SESSION_S)

        def resume() -> None:
            for broker in brokers:
                broker.resume()

        return resume

    def _pause_two(self, rng: random.Random) -> Mend:
        return self._pause(rng.sample(self.brokers.brokers, 2), rng.uniform(0.3, 1.5))

    def _cut_node(self, cluster: Cluster, rng: random.Random) -> Mend:
        node = cluster.primary if rng.random() < 0.7 else None
        return self._cut(self.brokers.proxies, [(node or rng.choice(cluster.nodes)).pid], rng)

    def _cut_broker(self, cluster: Cluster, rng: random.Random) -> Mend:
        return self._cut([rng.choice(self.brokers.proxies)], [node.pid for node in cluster.nodes], rng)

    def _cut(self, proxies: list[Proxy], pids: list[int], rng: random.Random) -> Mend:
        how = rng.choice((HANG, RESET))
        for proxy in proxies:
            proxy.cut(how, OwnedBy(pids))

        def mend() -> None:
            for proxy in proxies:
                proxy.mend()

        return mend

    def missing(self) -> str:
        in_sync = asyncio.run(cluster_of(self.url)).in_sync
        return "" if len(in_sync) == len(self.brokers.brokers) else f"only the brokers {in_sync} are in sync"

    def close(self) -> None:
        for broker in self.brokers.brokers:
            broker.resume()
        self.brokers.kill()
        for proxy in self.brokers.proxies:
            proxy.close()
