"""A turn of the loop: what runs at its end, and what runs on a clock. Sans-IO: the driver brings both.

A client with something to write is flushed once a turn, however many commands it ran in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """What `call_later` returns (asyncio.TimerHandle)."""

    def cancel(self) -> None: ...


class Flushable:
    """What a turn flushes at its end. A class and not a protocol: a call through a protocol is four times as dear."""

    def flush(self) -> None:
        raise NotImplementedError


class Turn:
    """One for each engine. `call_later` (seconds, action) is None until a driver has brought a clock."""

    def __init__(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        self.schedule = schedule  # runs a function at the end of the turn
        self.call_later: Callable[[float, Callable[[], None]], Timer] | None = None
        self.waiting: dict[Flushable, None] = {}
        self.bytes_out = 0  # written to all sinks
        self.writes = 0  # how often

    def flush_later(self, flushable: Flushable) -> None:
        """Flush it at the end of this turn."""
        if not self.waiting:
            self.schedule(self.flush)
        self.waiting[flushable] = None

    def flush(self) -> None:
        waiting, self.waiting = self.waiting, {}
        for flushable in waiting:
            flushable.flush()

    def forget(self, flushable: Flushable) -> None:
        """It has nothing to write any more: its connection is gone."""
        self.waiting.pop(flushable, None)

    def later(self, seconds: float, action: Callable[[], None]) -> Timer | None:
        """Run `action` after that number of seconds; None without a clock."""
        return None if self.call_later is None else self.call_later(seconds, action)
