"""Nodes on one log, as processes: on quorum files, or on three Kafka brokers of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import hiredis

from benchmarks.servers import ROOT, Server
from eventdb.cli.dev.brokers import Broker, Brokers, cache_folder, fetch_jars, wait_for

LEASE_MS = 500
STEADY_S = 60.0


class Wire:
    """One connection with no timeouts of its own but `seconds`; an error reply is returned, not raised."""

    def __init__(self, port: int, seconds: float = 5.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def ask(self, *commands: str) -> list[object]:
        """Send inline commands at once; returns their replies. Raises OSError."""
        self.socket.sendall(b"".join(command.encode() + b"\r\n" for command in commands))
        return [self._receive() for _ in commands]

    def _receive(self) -> object:
        while (reply := self._reader.gets()) is False:
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("closed by the server")
            self._reader.feed(data)
        return reply

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()


class Node(Server):
    """`eventdb serve` on a log that others serve too."""

    def __init__(self, folder: Path, name: str, url: str, role: str = "auto") -> None:
        super().__init__(folder / name)
        self.label = self.name = name
        self.url = url
        self.role = role

    def command(self) -> list[str]:
        options = ["--node-name", self.name, "--role", self.role, "--lease-ms", str(LEASE_MS)]
        return [sys.executable, "-m", "eventdb", "serve", "--log", self.url, "--port", str(self.port), *options]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def ask(self, command: str) -> object:
        """One command on a connection of its own; None when there is no answer."""
        with contextlib.suppress(OSError), Wire(self.port, 1.0) as wire:
            return wire.ask(command)[0]
        return None

    def followers(self) -> int:
        """How many replicas it lists as the primary; -1 when it is none."""
        found = self.ask("ROLE")
        if not isinstance(found, list) or found[0] != b"master":
            return -1
        return len(found[2])


class Nodes:
    """Several of them. Use it in a `with`: they are killed at its end."""

    def __init__(self, folder: Path, url: str, roles: tuple[str, ...] = ("auto", "auto", "auto")) -> None:
        folder.mkdir(parents=True)
        self.nodes = [Node(folder, f"n{number}", url, role) for number, role in enumerate(roles, 1)]

    def __enter__(self) -> Nodes:
        try:
            for node in self.nodes:
                node.start()
            self.wait_steady()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            node.kill()

    def wait_steady(self) -> Node:
        """Return the primary once it lists all the others, so that its lease is the short one.

        One that was stopped may take itself for the primary until it has looked at the log: then there are two.
        """
        found: list[Node] = []

        def steady() -> bool:
            listed = {node: node.followers() for node in self.nodes}
            found[:] = [node for node, count in listed.items() if count >= 0]
            return len(found) == 1 and listed[found[0]] == len(self.nodes) - 1

        wait_until(steady, "a primary with all followers")
        return found[0]


def wait_until(condition: Callable[[], bool], what: str, seconds: float = STEADY_S) -> None:
    """Poll. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)


class Stage:
    """What the logs lie on; every `url()` is a new log. Use it in a `with`."""

    name = ""

    def url(self) -> str:
        raise NotImplementedError

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Files(Stage):
    name = "files"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    def url(self) -> str:
        self._count += 1
        return f"quorum:{self.folder / f'log-{self._count}'}"


class Kafka(Stage):
    """Raises NoKafka where brokers cannot be run."""

    name = "Kafka"

    def __init__(self, folder: Path) -> None:
        here = ROOT / "build" / "kafka"
        self.brokers = Brokers(folder / "brokers", fetch_jars(here if here.exists() else cache_folder()), 3)

    def __enter__(self) -> Kafka:
        self.brokers.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.brokers.kill()

    def url(self) -> str:
        return self.brokers.url(f"bench-{uuid.uuid4().hex[:8]}")

    def zones(self, url: str) -> list[dict[str, str]]:
        """The brokers as `eventdb log info` shows them: name, state, detail."""
        command = [sys.executable, "-m", "eventdb", "log", "info", "--log", url, "--json"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60).stdout
        found: list[dict[str, str]] = json.loads(printed)["zones"]
        return found

    def leader(self, url: str) -> Broker:
        """The broker that leads this log."""
        led = next(zone["name"] for zone in self.zones(url) if "leader" in zone["detail"])
        return self.brokers.brokers[int(led.rpartition("/")[2]) - 1]

    def bring_back(self, broker: Broker, url: str) -> None:
        """Start it again, and return when it has every record."""
        broker.start()
        wait_for(broker.is_ready, STEADY_S)
        wait_until(lambda: all(zone["state"] == "up" for zone in self.zones(url)), "all copies are in sync")
