"""Latencies: events that took long (latency-monitor-threshold), and a histogram for each command (latency-tracking).

Both are off unless a setting asks for them. Source: redis src/latency.c; the buckets are those of an HdrHistogram of
two significant figures, which is what Redis keeps.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final

SAMPLES_MAX: Final = 160  # kept of one event
SUB_BUCKETS: Final = 8  # bits: a bucket is at most 1/128 wide
FIRST_BUCKET_NS: Final = 1024  # of LATENCY HISTOGRAM; the others double


class LatencyEvent:
    """One kind of event: the newest samples, at most one a second, and the worst ever."""

    def __init__(self) -> None:
        self.samples: deque[tuple[int, int]] = deque(maxlen=SAMPLES_MAX)  # Unix seconds, ms; oldest first
        self.worst = 0

    def add(self, at: int, ms: int) -> None:
        self.worst = max(self.worst, ms)
        samples = self.samples
        if samples and samples[-1][0] == at:
            samples[-1] = (at, max(ms, samples[-1][1]))
        else:
            samples.append((at, ms))


class Histogram:
    """How often a command took how long."""

    def __init__(self) -> None:
        self.count = 0
        self.buckets: dict[int, int] = {}  # by the largest duration of the bucket in ns

    def add(self, usec: float) -> None:
        ns = max(1, int(usec * 1000))
        shift = max(0, ns.bit_length() - SUB_BUCKETS)
        top = (((ns >> shift) + 1) << shift) - 1
        self.count += 1
        self.buckets[top] = self.buckets.get(top, 0) + 1

    def percentile(self, percent: float) -> float:
        """Microseconds in which that share of the calls was done."""
        wanted = max(1, int(percent / 100 * self.count + 0.5))
        for top in sorted(self.buckets):
            wanted -= self.buckets[top]
            if wanted <= 0:
                return top / 1000
        return 0.0

    def doubling(self) -> list[tuple[int, int]]:
        """(microseconds, calls that took no longer) where the count grows; each step is twice the one before."""
        found: list[tuple[int, int]] = []
        limit, seen, before = FIRST_BUCKET_NS, 0, 0
        for top in sorted(self.buckets):
            while top > limit + limit // 128 - 1:
                if seen > before:
                    found.append(((limit + limit // 128 - 1) // 1000, seen))
                    before = seen
                limit *= 2
            seen += self.buckets[top]
        if seen > before:
            found.append(((limit + limit // 128 - 1) // 1000, seen))
        return found


class Latencies:
    """Of one engine."""

    def __init__(self) -> None:
        self.threshold_ms = 0  # 0: no event is kept
        self.tracks = False
        self.events: dict[str, LatencyEvent] = {}
        self.histograms: dict[str, Histogram] = {}  # by the command's full name

    def event(self, name: str, usec: float) -> None:
        """Keep an event that has reached the threshold."""
        ms = int(usec) // 1000
        if self.threshold_ms and ms >= self.threshold_ms:
            found = self.events.get(name)
            if found is None:
                found = self.events[name] = LatencyEvent()
            found.add(int(time.time()), ms)

    def command(self, name: str, usec: float) -> None:
        """Count one call of a command, while latency-tracking is on."""
        if self.tracks:
            found = self.histograms.get(name)
            if found is None:
                found = self.histograms[name] = Histogram()
            found.add(usec)

    def reset(self, names: list[str]) -> int:
        """Forget these events, or all; returns how many there were."""
        gone = [name for name in (names or list(self.events)) if self.events.pop(name, None) is not None]
        return len(gone)
