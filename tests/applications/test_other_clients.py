"""Other languages' clients, with their defaults, through a hand-over and a failover: each goes on writing.

The programs are in tests/applications/clients/; `make clients` builds those whose tool chain is there. All that are go
through the same two changes of the primary at once. node-redis tries the address that it was told last until somebody
answers there, so after a kill it goes on when that node is back.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Server, wait_until
from tests.kit.wire import Wire
from tests.node.test_failover import Trio

BUILD = ROOT / "build" / "clients"
SOURCES = ROOT / "tests" / "applications" / "clients"
NODE = ["node", str(SOURCES / "clients.mjs")]
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{BUILD}:{BUILD / 'lib'}/*", "Clients"]
PROGRAMS: dict[str, tuple[list[str], Path]] = {  # how to start it, and what must have been built
    "ioredis": (NODE, BUILD / "node_modules" / "ioredis"),
    "node-redis": (NODE, BUILD / "node_modules" / "redis"),
    "lettuce": (JAVA, BUILD / "Clients.class"),
    "jedis": (JAVA, BUILD / "Clients.class"),
    "go-redis": ([str(BUILD / "go-redis")], BUILD / "go-redis"),
}
RESUME_S = 15.0  # within which a client writes again: go-redis and jedis wait a second now and then


def lacking(name: str) -> str:
    """Why the client cannot be tried here, or ""."""
    command, built = PROGRAMS[name]
    if shutil.which(command[0]) is None and command[0] in ("node", "java"):
        return f"there is no {command[0]} here"
    return "" if built.exists() else f"{name} is not built: make clients"


class Program(threading.Thread):
    """A client at work. `heard` grows by a line for each answer: (time.monotonic(), text)."""

    def __init__(self, name: str, ports: list[int]) -> None:
        super().__init__(daemon=True)
        self.label = name
        self.heard: list[tuple[float, str]] = []
        command = [*PROGRAMS[name][0], name, *map(str, ports)]
        env = {**os.environ, "CLIENTS_BUILD": str(BUILD)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
        )
        self.start()

    def run(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.heard.append((time.monotonic(), line.strip()))

    def writes_since(self, moment: float) -> bool:
        return any(at > moment and text.startswith("ok ") for at, text in reversed(self.heard[-20:]))

    def acknowledged(self) -> int:
        return max((int(text.split()[1]) for _, text in self.heard if text.startswith("ok ")), default=0)

    def end(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.join()
        self.process.stdout.close()


class Story:
    """What became of every client: the seconds it took to write again, or None."""

    def __init__(self, trio: Trio, programs: dict[str, Program]) -> None:
        self.trio = trio
        self.programs = programs
        self.resumed: dict[str, list[float | None]] = {name: [] for name in programs}
        self.held: dict[str, int] = {}

    def until_all_write(self, moment: float, but: str = "") -> None:
        deadline = time.monotonic() + RESUME_S
        waiting = {name: program for name, program in self.programs.items() if name != but}
        while waiting and time.monotonic() < deadline:
            for name, program in list(waiting.items()):
                if program.writes_since(moment):
                    self.resumed[name].append(time.monotonic() - moment)
                    del waiting[name]
            time.sleep(0.01)
        for name in waiting:
            self.resumed[name].append(None)

    def tell(self) -> None:
        trio = self.trio
        self.until_all_write(0.0)
        old = trio.primary()
        new = trio.others(old)[0]
        with Wire(old.port) as wire:
            assert wire("FAILOVER", "TO", "127.0.0.1", str(new.port)) == b"OK"
        wait_until(lambda: trio.role(new) == "master", what="the log is handed over")
        self.until_all_write(time.monotonic())
        wait_until(lambda: trio.listed(new) == 2, what="the old primary is listed again")
        new.kill()
        moment = time.monotonic()
        newest = trio.primary()
        self.until_all_write(moment, but="node-redis")
        new.restart()
        self.until_all_write(time.monotonic())
        for program in self.programs.values():
            program.end()
        with Wire(newest.port) as wire:
            for name in self.programs:
                self.held[name] = int(wire("GET", f"n:{name}") or 0)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    started: list[Server] = []

    def start(url: str, *options: str) -> Server:
        server = Server(url, tmp_path_factory.mktemp("node"), options, {})
        started.append(server)
        return server.wait_ready()

    trio = Trio(start, tmp_path_factory.mktemp("log"))
    ports = [node.port for node in trio.nodes]
    programs = {name: Program(name, ports) for name in PROGRAMS if not lacking(name)}
    try:
        told = Story(trio, programs)
        told.tell()
        yield told
    finally:
        for program in programs.values():
            program.process.kill()
        for server in started:
            server.kill()


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_a_client_as_it_comes_writes_on_after_a_hand_over_and_a_failover(
    name: str, request: pytest.FixtureRequest
) -> None:
    """ioredis and lettuce stayed on the old primary, heard -READONLY and never wrote again."""
    if reason := lacking(name):
        pytest.skip(reason)
    story: Story = request.getfixturevalue("story")
    program = story.programs[name]
    lines = [text for _, text in program.heard]
    assert None not in story.resumed[name], f"{story.resumed[name]}, then {lines[-5:]}"
    assert story.held[name] >= program.acknowledged() > 0
