"""`/metrics`, `/healthz` and `/readyz` of one node (`metrics-port`).

Nothing is counted for it but the times of records, once a record. A scrape costs the loop about a millisecond; one is
shown again for a while that is SHARE times what it took, so a scraper in a tight loop gets a fixed small share of
the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Final

from eventdb.backends import LogError
from eventdb.metrics.distribution import CommitTimes
from eventdb.metrics.exposition import CONTENT_TYPE, render, require
from eventdb.metrics.statistics import Peak
from eventdb.node.node import Node
from eventdb.server.health import not_ready
from eventdb.server.http import Answer, HttpServer
from eventdb.server.measures import families

logger: Final = logging.getLogger("eventdb")

SHARE: Final = 20
PEAK_S: Final = 0.1  # over which the fastest writing to the log is looked for
ZONES_LOOK_S: Final = 10.0  # between two looks at the zones of a log that this node does not write


class Monitoring:
    """Use `start` before the node loads, so that `/healthz` answers meanwhile."""

    def __init__(self, node: Node) -> None:
        """Raises MissingLibraryError."""
        require()
        self.node = node
        self.http = HttpServer({"/metrics": self.metrics, "/healthz": self.healthz, "/readyz": self.readyz})
        self._looked: list[tuple[str, str, str]] = []
        self._look: asyncio.Task[None] | None = None
        self._peak = Peak()
        self._sampling: asyncio.TimerHandle | None = None
        self._text = b""
        self._good_until = 0.0

    async def start(self) -> None:
        """Raises ValueError: the port cannot be had."""
        config = self.node.config
        try:
            await self.http.start(config.metrics_bind, config.metrics_port)
        except OSError as error:
            where = f"{config.metrics_bind}:{config.metrics_port}"
            raise ValueError(f"metrics-port: cannot listen on {where}: {error.strerror or error}") from None
        self.node.appending.times = CommitTimes()
        self._sample()
        logger.info("metrics on http://%s:%d/metrics", config.metrics_bind, self.http.port)

    def watch_zones(self) -> None:
        """From now on zones are looked at, the log being open."""
        self._look = asyncio.get_running_loop().create_task(self._keep_looking())

    async def close(self) -> None:
        self.node.appending.times = None
        if self._sampling is not None:
            self._sampling.cancel()
        if self._look is not None:
            self._look.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._look
        await self.http.close()

    def _sample(self) -> None:
        writer = self.node.writer
        self._peak.sample(writer.stats.stored_bytes if writer is not None else -1, time.monotonic())
        self._sampling = asyncio.get_running_loop().call_later(PEAK_S, self._sample)

    # -- pages

    def metrics(self) -> Answer:
        began = time.perf_counter()
        if began >= self._good_until:
            self._text = render(families(self.node, self.zones(), self._peak))
            now = time.perf_counter()
            self._good_until = now + SHARE * (now - began)
        return Answer(200, self._text, CONTENT_TYPE)

    def healthz(self) -> Answer:
        """The loop turns, or nothing would answer."""
        return Answer(200, b"ok\n")

    def readyz(self) -> Answer:
        reasons = not_ready(self.node)
        if reasons:
            return Answer(503, "".join([f"{reason}\n" for reason in reasons]).encode())
        return Answer(200, f"ready: {self.node.role.value}\n".encode())

    # -- zones

    def zones(self) -> list[tuple[str, str, str]]:
        """As the writer knows them; without one, or where it does not, as they were when last looked at."""
        writer = self.node.writer
        return (writer.zone_states() if writer is not None else []) or self._looked

    async def _keep_looking(self) -> None:
        """Read the zones where no writer knows them. One that hangs holds up the next look, and nothing else."""
        while True:
            writer = self.node.writer
            if writer is None or not writer.zone_states():
                try:
                    found = await self.node.info()
                    self._looked = [(zone.name, zone.state, zone.detail) for zone in found.zones]
                except (LogError, OSError) as error:
                    self._looked = [(name, "down", f"{error}") for name, _, _ in self._looked]
            await asyncio.sleep(ZONES_LOOK_S)
