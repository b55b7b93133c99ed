"""Real eventdb nodes in one process: servers on ports of their own, one quorum log, a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from eventdb.cluster.lease import AskedRole
from eventdb.cluster.topology import Topology
from eventdb.engine.settings import Config
from eventdb.server.server import Server
from tests.conftest import free_port

T = TypeVar("T")


class Nodes:
    """Use it in a `with`; every server still running at the end is closed."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.url = f"quorum:{folder / 'data'}"
        self.settings = settings
        self.servers: list[Server] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> Nodes:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in list(self.servers):
            self.stop(server)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def start(self, name: str, settings: dict[str, str] | None = None, *, follow_only: bool = False) -> Server:
        """A node that claims the log, or one that only follows it. It has no plain port if nodes speak TLS."""
        config = Config()
        for setting, value in (self.settings | (settings or {})).items():
            config.set(setting.replace("_", "-"), value)

        async def begin() -> Server:
            asked = AskedRole.REPLICA if follow_only else AskedRole.PRIMARY
            port = 0 if not config.tls.port or config.tls.between_nodes() else free_port()
            server = Server(self.url, config, port=port, name=name, asked=asked)
            await server.start()
            return server

        self.servers.append(self.run(begin()))
        return self.servers[-1]

    def stop(self, server: Server) -> None:
        self.servers.remove(server)
        self.run(server.close())

    def agree(self, primary: Server | None) -> None:
        """Return when every running node knows who the primary is, and all running nodes and no others."""
        names = {server.node.name for server in self.servers}

        def agreed(topology: Topology) -> bool:
            chosen = topology.primary.name if topology.primary is not None else None
            if primary is None:
                return chosen is None
            return chosen == primary.node.name and set(topology.members) == names

        async def reached() -> None:
            async with asyncio.timeout(20):
                while not all(agreed(server.node.engine.topology) for server in self.servers):
                    await asyncio.sleep(0.005)

        self.run(reached())

    def applied(self, offset: int) -> None:
        """Return when every node has this offset."""

        async def reached() -> None:
            async with asyncio.timeout(20):
                while min(server.node.engine.commit.durable_offset for server in self.servers) < offset:
                    await asyncio.sleep(0.005)

        self.run(reached())
