"""The slowest appends to a log of zones, at a steady durable load that crosses many segments.

Appends are due at fixed moments, and each is timed from when it was due to when a majority of the zones has it: a log
that stops for a moment shows it in all that became due meanwhile. `python -m benchmarks.worst --help`; the default
takes ten minutes for each number of zones. PYTHONPATH may name another tree, to compare.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from eventdb.backends.quorum import QuorumLog
from eventdb.backends.quorum.zone_loops import make_lanes

DRAIN_S_MAX = 30.0
BODIES = 256  # different ones, of bytes that compressing does not shorten


@dataclass(frozen=True, slots=True)
class Worst:
    """What came of it: latencies in ms, ascending, and how many segments the zones have begun after their first."""

    zones: int
    ms: tuple[float, ...]
    rolls: int

    def at(self, share: float) -> float:
        return self.ms[min(len(self.ms) - 1, int(len(self.ms) * share))]


async def measure(folder: Path, zones: int, segment_bytes: int, rate: float, size: int, seconds: float) -> Worst:
    """Raises RuntimeError when it never drains."""
    log = QuorumLog(f"quorum:{folder}/log?zones={zones}", segment_bytes=segment_bytes)
    writer = await log.claim("worst")
    bodies = [os.urandom(size) for _ in range(BODIES)]
    ms: list[float] = []
    pending: set[asyncio.Future[int]] = set()
    began = due = time.perf_counter()
    count = 0
    while due < began + seconds:
        while due <= time.perf_counter():
            future = writer.append(
                bodies[count % BODIES], first_offset=writer.next_offset, count=1, time_ms=writer.last_time_ms
            )
            future.add_done_callback(lambda done, due=due: _take(done, due, ms, pending))  # type: ignore[misc]
            pending.add(future)
            count += 1
            due = began + count / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    if pending:
        await asyncio.wait(list(pending), timeout=DRAIN_S_MAX)
    if len(ms) < count:
        raise RuntimeError(f"{count - len(ms)} of {count} appends were not acknowledged")
    rolls = sum(zone.segments - 1 for zone in (await log.info()).zones)
    await log.close()
    return Worst(zones, tuple(sorted(ms)), rolls)


def _take(done: asyncio.Future[int], due: float, ms: list[float], pending: set[asyncio.Future[int]]) -> None:
    pending.discard(done)
    if done.exception() is None:
        ms.append((time.perf_counter() - due) * 1000)


def table(rows: Sequence[Worst]) -> str:
    lines = [
        "| zones | appends | segments begun | p50 | p99 | p99.9 | maximum |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        times = " | ".join(f"{row.at(share):.2f}" for share in (0.5, 0.99, 0.999, 1))
        lines.append(f"| {row.zones} | {len(row.ms):,} | {row.rolls} | {times} |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worst", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for each number of zones (600)")
    parser.add_argument("--rate", type=float, default=500, help="appends a second (500)")
    parser.add_argument("--size", type=int, default=4000, help="bytes of each (4000)")
    parser.add_argument(
        "--segment-mib", type=float, default=32.0, help="size of a segment; small ones begin often (32)"
    )
    parser.add_argument("--zones", type=int, nargs="*", default=[1, 3])
    parser.add_argument("--folder", type=Path, help="on the disk to be measured (a temporary one)")
    asked = parser.parse_args(argv)
    rows: list[Worst] = []
    for zones in asked.zones:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            bytes_ = int(asked.segment_mib * (1 << 20))
            rows.append(uvloop.run(measure(Path(folder), zones, bytes_, asked.rate, asked.size, asked.seconds)))
    print(
        f"Milliseconds; {asked.rate:g} appends of {asked.size} bytes a second, segments of {asked.segment_mib:g} MiB,"
        f" zones written by {'zone_loop.c' if make_lanes(1, 1) is not None else 'Python'}\n\n{table(rows)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
