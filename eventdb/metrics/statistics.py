"""What INFO reports beside the engine's and commands' counters: errors by code, rates over the last seconds."""

from __future__ import annotations

import time
from typing import Final

SAMPLES: Final = 16  # of the last 1.6 seconds
ERROR_CODES_MAX: Final = 128  # further codes are counted together


class Rate:
    """How fast a counter grows, per second, averaged over the last samples (redis getInstantaneousMetric)."""

    def __init__(self, start: int) -> None:
        self.values: list[float] = []
        self.last = start

    def sample(self, count: int, seconds: float) -> None:
        if seconds > 0:
            self.values.append((count - self.last) / seconds)
            del self.values[:-SAMPLES]
        self.last = count

    def now(self) -> float:
        return sum(self.values) / len(self.values) if self.values else 0.0


class Peak:
    """How fast a counter grew in its fastest moment: of the minute that runs and the one before."""

    def __init__(self) -> None:
        self.count = -1.0  # at the last sample; -1: there was none, or the counter has begun anew
        self.at = 0.0
        self.minute = 0
        self.fastest = [0.0, 0.0]  # of the minute before, of this one

    def sample(self, count: float, now: float) -> None:
        """now: monotonic seconds."""
        minute = int(now // 60)
        if minute != self.minute:
            self.fastest = [self.fastest[1] if minute == self.minute + 1 else 0.0, 0.0]
            self.minute = minute
        if 0 <= self.count <= count and now > self.at:
            self.fastest[1] = max(self.fastest[1], (count - self.count) / (now - self.at))
        self.count, self.at = count, now

    def value(self) -> float:
        return max(self.fastest)


class Statistics:
    """Since the start, or since CONFIG RESETSTAT, which makes a new one."""

    def __init__(self) -> None:
        self.errors: dict[str, int] = {}
        self.errors_sent = 0
        self.connections_rejected = 0
        self.expire_caps = 0  # rounds of the expiry cycle that ended before all expired keys were gone
        self.expire_seconds = 0.0  # spent in it
        self.commands_rate = Rate(0)
        self.in_rate = Rate(0)
        self.out_rate = Rate(0)
        self.sampled = time.monotonic()

    def error(self, text: str) -> None:
        """Count an error reply by its first word."""
        self.errors_sent += 1
        code = text.partition(" ")[0]
        if code not in self.errors and len(self.errors) >= ERROR_CODES_MAX:
            code = "other"
        self.errors[code] = self.errors.get(code, 0) + 1

    def sample(self, commands: int, bytes_in: int, bytes_out: int) -> None:
        """Take the counters as they are now; called ten times a second."""
        now = time.monotonic()
        seconds = now - self.sampled
        self.sampled = now
        self.commands_rate.sample(commands, seconds)
        self.in_rate.sample(bytes_in, seconds)
        self.out_rate.sample(bytes_out, seconds)
