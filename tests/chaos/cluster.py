"""Nodes as processes: `eventdb serve`, each behind a proxy which is the address that it advertises."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from pathlib import Path

from tests.chaos.proxy import OwnedBy, Proxy
from tests.conftest import Server, wait_until
from tests.kit.wire import Wire

READY_S = 30.0
LEASE_MS = 500
NODES = 3


class Node:
    """One of them. `proxy.port` is where everybody reaches it; the test itself asks at the node's own port."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, url: str, folder: Path) -> None:
        self.name = name
        self.proxy = Proxy(loop)
        self.down = False  # killed or paused by a fault
        self.outputs: list[str] = []  # of earlier starts
        folder.mkdir()
        options = ("--node-name", name, "--lease-ms", str(LEASE_MS), "--advertise", f"127.0.0.1:{self.proxy.port}")
        self.server = Server(url, folder, options, {})

    def wait_ready(self) -> None:
        self.proxy.target = self.server.wait_ready(READY_S).port

    @property
    def pid(self) -> int:
        return self.server.pid

    def kill(self) -> None:
        self.down = True
        self.server.kill()
        self.proxy.refuse()

    def restart(self) -> None:
        """Start it again after a kill."""
        self.outputs.append(self.server.text)
        self.server.restart(READY_S)
        self.proxy.accept()
        self.down = False

    def pause(self) -> None:
        self.down = True
        self.server.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.server.process.send_signal(signal.SIGCONT)
        self.down = False

    def ask(self, *words: str | int, seconds: float = 2.0) -> object:
        """A command over a connection of its own; an error reply, or why there was none, is returned, never raised."""
        try:
            with Wire(self.server.port, seconds) as wire:
                return wire(*words)
        except OSError as error:
            return error

    @property
    def is_primary(self) -> bool:
        found = self.ask("ROLE") if not self.down else None
        return isinstance(found, list) and found[0] == b"master"

    @property
    def offset(self) -> int:
        """The one it has applied; -1 when it does not say."""
        found = self.ask("EVENTDB.OFFSET")
        return int(found[1]) if isinstance(found, list) else -1

    def text(self) -> str:
        """All it has printed."""
        return "".join([*self.outputs, self.server.text])


class Cluster:
    """Three nodes on one log. Use it in a `with`: they are killed at its end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, url: str, folder: Path, count: int = NODES) -> None:
        self.url = url
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.nodes = [Node(loop, f"n{number + 1}", url, folder / f"n{number + 1}") for number in range(count)]

    def __enter__(self) -> Cluster:
        try:
            for node in self.nodes:
                node.wait_ready()
            wait_until(lambda: self.primary is not None, READY_S, "a primary")
            wait_until(lambda: len(self.listed()) == len(self.nodes) - 1, READY_S, "all followers are listed")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for node in self.nodes:
            with contextlib.suppress(OSError):
                node.server.process.send_signal(signal.SIGCONT)
            node.server.kill()
            node.proxy.close()

    @property
    def primary(self) -> Node | None:
        return next((node for node in self.nodes if node.is_primary), None)

    @property
    def followers(self) -> list[Node]:
        primary = self.primary
        return [node for node in self.nodes if node is not primary]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", node.proxy.port) for node in self.nodes]

    def listed(self) -> list[object]:
        """The followers that the primary has heard of."""
        primary = self.primary
        found = primary.ask("ROLE") if primary is not None else None
        return found[2] if isinstance(found, list) and isinstance(found[2], list) else []

    def check_alive(self) -> None:
        """Only we end nodes."""
        for node in self.nodes:
            code = node.server.process.poll()
            assert node.down or code is None, f"{node.name} ended with {code}:\n{node.server.text[-4000:]}"

    # -- the network

    def cut_from_clients(self, node: Node, how: str) -> None:
        """This node is there for the other nodes only."""
        of_nodes = OwnedBy([other.pid for other in self.nodes])
        node.proxy.cut(how, lambda port, opened: not of_nodes(port, opened))

    def cut_from_nodes(self, node: Node, how: str) -> None:
        """This node is there for clients only."""
        node.proxy.cut(how, OwnedBy([other.pid for other in self.nodes]))

    def cut_from_all(self, node: Node, how: str) -> None:
        node.proxy.cut(how)

    # -- waiting

    def write(self, key: str, value: str) -> bool:
        """Whether a client that tries all nodes has a write accepted, trying each once."""
        for node in self.nodes:
            if not node.down:
                with (
                    contextlib.suppress(OSError),
                    socket.create_connection(("127.0.0.1", node.proxy.port), 0.5) as conn,
                ):
                    conn.sendall(f"SET {key} {value}\r\n".encode())
                    if conn.recv(64) == b"+OK\r\n":
                        return True
        return False

    def wait_level(self, seconds: float) -> int:
        """Return the offset that all nodes have, once they have the same; nobody may write meanwhile."""
        found: list[int] = []

        def level() -> bool:
            found[:] = [node.offset for node in self.nodes]
            return found[0] >= 0 and len(set(found)) == 1

        wait_until(level, seconds, "all nodes have the same offset")
        return found[0]

    def digests(self) -> set[object]:
        return {node.ask("EVENTDB.DIGEST", seconds=20) for node in self.nodes}
