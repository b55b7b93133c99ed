"""What is written down of commands that took long or were blocked: SLOWLOG, LATENCY, INFO commandstats.

Engine.run compares a duration with `limit_usec`, the lowest of what is asked for, and comes here above it: so what is
off costs nothing. Source: redis src/server.c call, src/blocked.c updateStatsOnUnblock.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from eventdb.metrics.latency import Latencies
from eventdb.metrics.slowlog import SlowLog

if TYPE_CHECKING:
    from eventdb.engine.client import Blocked, Client
    from eventdb.engine.command import Command
    from eventdb.engine.settings import Config

LOG_LEVELS: Final[dict[str, int]] = {
    "debug": logging.DEBUG, "verbose": logging.DEBUG, "notice": logging.INFO, "warning": logging.WARNING,
}  # fmt: skip


class Accounting:
    """Of one engine."""

    def __init__(self, slowlog_entries_max: int) -> None:
        self.slowlog = SlowLog(slowlog_entries_max)
        self.slowlog_usec = math.inf
        self.latencies = Latencies()
        self.traced_usec = math.inf
        self.on_slow: Callable[[str, float], None] | None = None  # for traces: the name of a command that took so long
        self.limit_usec = math.inf  # from here on `took` is to be called

    def reconfigure(self, config: Config) -> None:
        """Take over what a setting has changed."""
        latencies = self.latencies
        self.slowlog_usec = math.inf if config.slowlog_usec < 0 else float(config.slowlog_usec)
        self.slowlog.limit(config.slowlog_entries_max)
        latencies.threshold_ms = config.latency_threshold_ms
        latencies.tracks = config.latency_tracking == "yes"
        if not latencies.tracks:
            latencies.histograms = {}
        event_usec = config.latency_threshold_ms * 1000.0 if config.latency_threshold_ms else math.inf
        traces = self.on_slow is not None and config.traces_slow_usec >= 0
        self.traced_usec = float(config.traces_slow_usec) if traces else math.inf
        self.limit_usec = 0.0 if latencies.tracks else min(self.slowlog_usec, event_usec, self.traced_usec)

    def took(self, client: Client, command: Command, argv: list[bytes], usec: float) -> None:
        """A command is done."""
        self._keep(client, command, argv, usec)
        self.latencies.event("fast-command" if "fast" in command.flags else "command", usec)

    def _keep(self, client: Client, command: Command, argv: list[bytes], usec: float) -> None:
        if usec >= self.slowlog_usec and command.name != "exec":  # whose commands are kept one by one
            self.slowlog.add(argv, int(usec), client.address, client.name)
        if usec >= self.traced_usec and self.on_slow is not None:
            self.on_slow(command.name, usec)
        self.latencies.command(command.name, usec)

    def unblocked(self, client: Client, blocked: Blocked, usec: float) -> None:
        """A blocked command was served, after `usec` more of work: counted when it blocked, it is slow only now."""
        blocked.command.usec += usec
        total = blocked.usec + usec
        if total >= self.limit_usec:
            self._keep(client, blocked.command, blocked.argv, total)
            self.latencies.event("command-unblocking", usec)
