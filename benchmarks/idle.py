"""What an idle log grows by: `python -m benchmarks.idle --nodes 1 --nodes 3`. From the bytes of a minute in one zone.

Two figures of the same frames: as they are appended, and as a sealed segment of them is kept. Both for a day.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.servers import EventDB
from eventdb.backends.quorum.files import FileOps
from eventdb.backends.quorum.squeezed import Squeezing
from eventdb.backends.quorum.view import ZoneView

DAY_S = 86_400
SETTLE_S = 6.0  # until all nodes have said who they are


class Node(EventDB):
    """One of several on the same log."""

    def __init__(self, folder: Path, data: Path) -> None:
        super().__init__(folder)
        self.data = data

    def command(self) -> list[str]:
        return [sys.executable, "-m", "eventdb", "serve", "--log", f"quorum:{self.data}", "--port", str(self.port)]


def end_of(zone: str) -> int:
    view = ZoneView(FileOps(), zone, "zone")
    try:
        view.refresh()
        return view.tail().end
    finally:
        view.close()


def frames_of(zone: str, start: int, stop: int) -> list[bytes]:
    """The bytes of the frames at those positions, in pieces."""
    view = ZoneView(FileOps(), zone, "zone")
    found: list[bytes] = []
    try:
        view.refresh()
        while start < stop and (chunk := view.read(start, stop)).frames:
            found.append(chunk.raw)
            start = chunk.next_position
    finally:
        view.close()
    return found


def idle(nodes: int, seconds: float, folder: Path) -> tuple[float, float, float]:
    """Records a second, and megabytes a day in one zone: appended, and kept of a sealed segment."""
    data = folder / "data"
    zone = str(data / "zone-a")
    running = [Node(folder / f"node-{number}", data) for number in range(nodes)]
    try:
        for node in running:
            node.start()
        time.sleep(SETTLE_S)
        start, began = end_of(zone), time.monotonic()
        time.sleep(seconds)
        stop, lasted = end_of(zone), time.monotonic() - began
    finally:
        for node in running:
            node.kill()
    pieces = frames_of(zone, start, stop)
    squeezing = Squeezing()
    for piece in pieces:
        squeezing.add(piece)
    per_day = DAY_S / lasted / 1e6
    return (stop - start) / lasted, sum(map(len, pieces)) * per_day, len(squeezing.finish()) * per_day


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__)
    parser.add_argument("--nodes", type=int, action="append", help="on one log (1, then 3)")
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    print(f"{'nodes':>5} {'records/s':>10} {'appended':>14} {'kept':>14}")
    for nodes in asked.nodes or [1, 3]:
        with tempfile.TemporaryDirectory(prefix="idle-") as name:
            rate, appended, kept = idle(nodes, asked.seconds, Path(name))
        print(f"{nodes:>5} {rate:>10.1f} {appended:>7.1f} MB/day {kept:>7.2f} MB/day", flush=True)


if __name__ == "__main__":
    main()
