"""How values are spread: counts by upper bounds that never change, as a Prometheus histogram has them.

`CommitTimes` is filled once a record, never once a command, and only while somebody asked for metrics.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import Final

SECONDS: Final[tuple[float, ...]] = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
TRANSACTIONS: Final[tuple[float, ...]] = (
    1.0,
    2.0,
    4.0,
    8.0,
    16.0,
    32.0,
    64.0,
    128.0,
    256.0,
    512.0,
    1024.0,
    4096.0,
    16384.0,
)


class Distribution:
    """Counts of values that are not larger than each bound, and their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # the last one: larger than every bound
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class CommitTimes:
    """What became of each record of this node."""

    def __init__(self) -> None:
        self.transactions = Distribution(TRANSACTIONS)  # in one record
        self.append_seconds = Distribution(SECONDS)  # from sending it to a majority having it
        self.write_seconds = Distribution(
            SECONDS
        )  # from its first write to that moment: what the slowest client waited

    def record(self, transactions: int, append_seconds: float, opened: float) -> None:
        """A record is durable. opened: by time.monotonic, when its first write came."""
        self.transactions.add(float(transactions))
        self.append_seconds.add(append_seconds)
        self.write_seconds.add(time.monotonic() - opened)
