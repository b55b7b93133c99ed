"""One stack of compose.yaml under test: up, down, who is primary, and what was acknowledged while parts of it died."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.compose.engine import ROOT, Engine, run
from tests.conftest import free_port

HERE = Path(__file__).resolve().parent
PROJECT = "eventdb-test"


def connect(port: int, seconds: float = 10) -> redis.Redis:
    """A client that sends every command once: a broken connection is an error, not a silent second try."""
    retry = Retry(NoBackoff(), 0)
    return redis.Redis(port=port, decode_responses=True, socket_timeout=seconds, retry=retry)


@dataclass(frozen=True)
class Node:
    """A container of eventdb: its name, service, and published loopback port (0: not running)."""

    name: str
    service: str
    port: int

    def client(self, seconds: float = 10) -> redis.Redis:
        return connect(self.port, seconds)

    def role(self) -> str:
        """master, slave, or "" when it does not answer."""
        try:
            with self.client(2) as client:
                return str(client.execute_command("ROLE")[0])
        except (redis.RedisError, OSError):
            return ""


class Stack:
    """Compose, for one project and one profile. `variables`: which images, and what else compose.yaml reads."""

    def __init__(self, engine: Engine, compose: list[str | Path], profile: str, variables: dict[str, str]) -> None:
        self.engine = engine
        self.profile = profile
        files = [ROOT / "compose.yaml", *([HERE / "host-network.yaml"] if engine.own else [])]
        self._command = [*compose, "--project-name", PROJECT, "--profile", profile]
        for file in files:
            self._command += ["-f", file]
        self._env = {**engine.env, "EVENTDB_TAG": "test", "EVENTDB_PORT": str(free_port()), **variables}

    def compose(self, *words: str, seconds: float = 180) -> str:
        return run(*self._command, *words, seconds=seconds, env=self._env)

    def config(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.compose("config", "--format", "json"))
        return loaded

    def up(self, **scale: int) -> None:
        """Everything up and healthy; `scale` by service, with _ for -."""
        options = [word for name, count in scale.items() for word in ("--scale", f"{name.replace('_', '-')}={count}")]
        try:
            self.compose("up", "--detach", "--no-build", "--wait", *options)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.compose('logs', '--tail', '40')}") from None

    def down(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "20")

    def containers(self) -> list[dict[str, Any]]:
        """Of this project, running or not, as Compose tells it."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return [json.loads(line) for line in lines if line.strip()]

    def nodes(self) -> list[Node]:
        """The running eventdb nodes."""
        found = []
        for one in self.containers():
            ports = [p["PublishedPort"] for p in one["Publishers"] or () if p["TargetPort"] == 6379]
            if one["State"] == "running" and ports and ports[0]:
                found.append(Node(one["Name"], one["Service"], ports[0]))
        return sorted(found, key=lambda node: node.name)

    def primary(self, seconds: float = 30) -> Node:
        """The node that says it is primary, within `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            nodes = self.nodes()
            for node in nodes:
                if node.role() == "master":
                    return node
            assert time.monotonic() < deadline, f"no primary within {seconds} s among {nodes}\n{self.logs()}"
            time.sleep(0.05)

    def kill(self, name: str) -> None:
        """SIGKILL to every process of a container; Compose's restart policy does not bring it back."""
        self.engine.docker("kill", name)

    def start(self, name: str) -> None:
        """Start a container that was killed, and wait until it is healthy."""
        self.engine.docker("start", name)
        self.wait(lambda: self.inspect(name, "{{.State.Health.Status}}") == "healthy", f"{name} is healthy", 60)

    def inspect(self, name: str, form: str) -> str:
        return self.engine.docker("inspect", "--format", form, name).strip()

    def inside(self, name: str, script: str) -> str:
        """Run a line of bash inside a container."""
        return self.engine.docker("exec", name, "bash", "-c", script)

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s\n{self.logs()}"
            time.sleep(0.1)

    def logs(self) -> str:
        return self.compose("logs", "--tail", "25", "--timestamps")


class Load:
    """Writes one key after the other, to whichever node is primary, until stopped; keeps what was acknowledged.

    `acknowledged` key -> the moment (monotonic s) of its reply. An error reply or a broken connection decides nothing
    about a key, and it is never written again.
    """

    def __init__(self, stack: Stack) -> None:
        self.acknowledged: dict[str, float] = {}
        self._stack = stack
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the load does not end"

    def _run(self) -> None:
        number, turn, nodes = 0, 0, self._stack.nodes()
        while not self._stopping.is_set():
            if turn == len(nodes):  # none took it: ports change when containers start again
                turn, nodes = 0, self._stack.nodes()
                continue
            client = nodes[turn].client()  # a write that waits for a new leader is acknowledged late, not twice
            try:
                while not self._stopping.is_set():
                    number += 1
                    client.set(f"load:{number}", number)
                    self.acknowledged[f"load:{number}"] = time.monotonic()
            except (redis.RedisError, OSError):
                turn += 1
                self._stopping.wait(0.01)
            finally:
                client.close()

    def wait_for_more(self, count: int, seconds: float = 30) -> None:
        """Return when `count` more writes have been acknowledged."""
        deadline, target = time.monotonic() + seconds, len(self.acknowledged) + count
        while len(self.acknowledged) < target:
            assert time.monotonic() < deadline, f"writes did not resume within {seconds} s\n{self._stack.logs()}"
            time.sleep(0.01)

    def longest_gap(self) -> float:
        """Seconds between two acknowledged writes, the longest of all."""
        moments = sorted(self.acknowledged.values())
        return max((b - a for a, b in itertools.pairwise(moments)), default=0.0)


def lost(client: redis.Redis, load: Load) -> list[str]:
    """Acknowledged keys that are not there."""
    keys = list(load.acknowledged)
    found = client.mget(keys) if keys else []
    return [key for key, value in zip(keys, found, strict=True) if value is None]


def offset_of(client: redis.Redis) -> int:
    """The offset of this connection's last write."""
    return int(client.execute_command("EVENTDB.OFFSET")[0])  # type: ignore[no-untyped-call]


def variables_of_compose() -> dict[str, str]:
    """The images that compose.yaml names, by the variable that replaces each."""
    return {
        "BASE_IMAGE": os.environ.get("BASE_IMAGE") or "python:3.11-slim-bookworm",
        "KAFKA_IMAGE": os.environ.get("KAFKA_IMAGE") or "apache/kafka:4.4.0",
    }
