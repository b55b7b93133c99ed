"""Real Kafka brokers as processes of this machine: for trying things out, and for the tests.

Apache Kafka in KRaft mode, each broker a JVM that is a controller too, in racks a, b, c … on free ports of 127.0.0.1.
The jars come from Maven Central (`fetch_jars`) or a folder that has them. Nothing here is imported by the server.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import socket
import string
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from eventdb.backends.kafka.broker_timing import BROKER_TIMING

KAFKA_VERSION: Final = "4.4.0"
JAVA_MIN: Final = 17
HEAP: Final = "-Xmx400m"
READY_S: Final = 60.0
STOP_S: Final = 10.0
READY: Final = b"Kafka Server started"
POM: Final = f"""<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>eventdb</groupId><artifactId>kafka-broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


class NoKafka(Exception):  # noqa: N818 - named as the errors of the backends are
    """Kafka cannot be run here; the text says what to install."""


def java() -> str:
    """Path of a Java that is new enough. Raises NoKafka."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None)
    if found is None:
        raise NoKafka(f"Java {JAVA_MIN} is not installed (Debian: apt-get install openjdk-{JAVA_MIN}-jre-headless)")
    return found


def cache_folder() -> Path:
    """Where the jars are kept: EVENTDB_KAFKA_JARS, else a folder of the user's cache."""
    given = os.environ.get("EVENTDB_KAFKA_JARS")
    if given:
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "eventdb" / f"kafka-{KAFKA_VERSION}"


def has_jars(folder: Path) -> bool:
    return any(folder.glob("kafka_2.13-*.jar")) and any(folder.glob("slf4j-simple-*.jar"))


def fetch_jars(folder: Path, pom: Path | None = None) -> Path:
    """Make sure that the jars are in the folder; Maven brings them if not (43 MB). Raises NoKafka."""
    if has_jars(folder):
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise NoKafka("Maven, which brings Kafka's jars, is not installed (Debian: apt-get install maven)")
    folder.mkdir(parents=True, exist_ok=True)
    if pom is None:
        pom = folder / "pom.xml"
        pom.write_text(POM)
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={folder.resolve()}"]
    done = subprocess.run([maven, "-q", "-B", "-f", str(pom), *goal], capture_output=True, text=True, check=False)
    if done.returncode or not has_jars(folder):
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise NoKafka(f"Kafka's jars are not available: {' '.join(last) or 'mvn brought none'}")
    return folder


class Broker:
    """One JVM. Killed and paused for real: SIGKILL, SIGSTOP."""

    def __init__(self, id: int, rack: str, port: int, controller_port: int, folder: Path, launch: list[str]) -> None:
        self.id = id
        self.rack = rack
        self.port = port
        self.controller_port = controller_port
        self.folder = folder
        self.output = folder / "output.txt"
        self._launch = launch
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def properties(self) -> Path:
        return self.folder / "server.properties"

    @property
    def pid(self) -> int:
        """Of the JVM; 0 before it was started."""
        return self._process.pid if self._process is not None else 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def format(self, cluster_id: str, words: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        command = [*self._launch, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self.properties)]
        command += words
        with (self.folder / "format.txt").open("wb") as sink:
            return subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)

    def start(self) -> None:
        """Start the JVM; `wait_ready` says when it serves."""
        assert not self.running
        # A session of its own: Ctrl-C at our terminal is for us to handle, in our order.
        with self.output.open("wb") as sink:
            command = [*self._launch, "kafka.Kafka", str(self.properties)]
            self._process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True)

    def is_ready(self) -> bool:
        """Whether it takes part in the cluster. Raises NoKafka when it ended instead."""
        if not self.running:
            raise NoKafka(f"broker {self.id} ended:\n{self.output.read_text(errors='replace')[-2000:]}")
        return READY in self.output.read_bytes()

    def signal(self, number: int) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not enough."""
        if self._process is not None and self.running:
            self.resume()
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        self.kill()


class Brokers:
    """A cluster of them.

    settings: further properties. listeners: name -> security protocol, of further ones that a broker alone opens, on
    loopback and `ports[name]`; what they need stands in `settings`. formatting: further words for Kafka's StorageTool.
    """

    def __init__(
        self, folder: Path, jars: Path, count: int = 1, *, settings: dict[str, str] | None = None,
        listeners: dict[str, str] | None = None, formatting: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        launch = [
            java(), HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.log.kafka.server=info",
            "-Dorg.slf4j.simpleLogger.showDateTime=true", "-cp", f"{jars}/*",
        ]  # fmt: skip
        self._listeners = listeners or {}
        assert count == 1 or not self._listeners
        ports = free_ports(2 * count + len(self._listeners))
        self.ports = {name: ports.pop() for name in self._listeners}
        self.brokers = [
            Broker(number + 1, string.ascii_lowercase[number], ports[number], ports[count + number],
                   folder / f"broker-{number + 1}", launch)
            for number in range(count)
        ]  # fmt: skip
        self.settings = settings or {}
        self._formatting = formatting

    @property
    def address(self) -> str:
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self.brokers)

    def url(self, topic: str) -> str:
        weak = "?allow-weak=1" if len(self.brokers) < 3 else ""
        return f"kafka://{self.address}/{topic}{weak}"

    def start(self) -> Brokers:
        """Format what is new, start all, and return when they form a cluster. Raises NoKafka."""
        cluster_id = new_cluster_id()
        formatting = []
        for broker in self.brokers:
            broker.folder.mkdir(parents=True, exist_ok=True)
            new = not broker.properties.exists()
            broker.properties.write_text(self._properties(broker))
            if new:
                formatting.append((broker, broker.format(cluster_id, self._formatting)))
        for broker, process in formatting:
            if process.wait(READY_S):
                raise NoKafka(f"broker {broker.id}: {(broker.folder / 'format.txt').read_text(errors='replace')}")
        for broker in self.brokers:
            broker.start()
        try:
            wait_for(lambda: all(broker.is_ready() for broker in self.brokers), READY_S)
        except BaseException:
            self.kill()
            raise
        return self

    def _properties(self, broker: Broker) -> str:
        copies = min(3, len(self.brokers))
        voters = ",".join(f"{one.id}@127.0.0.1:{one.controller_port}" for one in self.brokers)
        listeners = [f"PLAINTEXT://127.0.0.1:{broker.port}"]
        listeners += [f"{name}://127.0.0.1:{port}" for name, port in self.ports.items()]
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **self._listeners}
        found = {
            "process.roles": "broker,controller",
            "node.id": f"{broker.id}",
            "broker.rack": broker.rack,
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "log.dirs": f"{broker.folder / 'data'}",
            "auto.create.topics.enable": "false",
            "default.replication.factor": f"{copies}",
            "offsets.topic.replication.factor": f"{copies}",
            "transaction.state.log.replication.factor": f"{copies}",
            "transaction.state.log.min.isr": f"{min(2, copies)}",
            "num.io.threads": "4",
            "num.network.threads": "2",
            **BROKER_TIMING,
            **self.settings,
        }
        found["advertised.listeners"] = ",".join(listeners)
        found["listeners"] = ",".join([*listeners, f"CONTROLLER://127.0.0.1:{broker.controller_port}"])
        return "".join(f"{name}={value}\n" for name, value in found.items())

    def stop(self) -> None:
        for broker in self.brokers:
            broker.resume()
            broker.signal(signal.SIGTERM)
        for broker in self.brokers:
            broker.stop()

    def kill(self) -> None:
        for broker in self.brokers:
            broker.kill()


def new_cluster_id() -> str:
    """A random UUID in base64; as Kafka's own, none that begins with a dash: its tools would take it for an option."""
    while True:
        made = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not made.startswith("-"):
            return made


def free_ports(count: int) -> list[int]:
    """Loopback ports nobody listens on now, all different."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Poll until the condition holds. Raises NoKafka."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NoKafka(f"the brokers were not ready within {seconds:.0f} s")
        time.sleep(0.05)
