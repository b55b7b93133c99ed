"""Real eventdb nodes in one process: servers on ports of their own, one quorum log, in a loop in a thread of its own.

Who the primary is they are told by `agree`, so that a test decides when the clients' world changes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from eventdb.cluster.lease import AskedRole
from eventdb.cluster.topology import Member
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
        self.epoch = 0
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
        """Tell every running node who is there and who is the primary."""
        self.epoch += 1

        async def tell() -> None:
            for server in self.servers:
                members = {other.node.name: Member(other.node.name, other.node.address) for other in self.servers}
                chosen = members[primary.node.name] if primary is not None else None
                server.node.engine.topology.update(self.epoch, chosen, members.values())

        self.run(tell())

    def applied(self, offset: int) -> None:
        """Return when every node has this offset."""

        async def reached() -> None:
            async with asyncio.timeout(20):
                while min(server.node.engine.commit.durable_offset for server in self.servers) < offset:
                    await asyncio.sleep(0.005)

        self.run(reached())
