"""Latency while snapshots are made: `python -m benchmarks.beside_snapshots --keys 1000000`.

A fixed rate is offered to a server filled with keys, in turn alone and while snapshots are made one after the other: by
`eventdb snapshotter` beside eventdb, by BGSAVE in Redis. Both servers and all turns are in one run.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load import fill
from benchmarks.servers import ROOT, EventDB, Redis, Server, is_compiled

ALONE = "alone"
BESIDE = "snapshots"


@contextmanager
def snapshotter(server: EventDB, folder: Path) -> Iterator[list[float]]:
    """The service, as often as it can; yields the moments at which a snapshot was there."""
    store = folder / f"store-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "eventdb", "snapshotter", "--log", f"quorum:{server.folder / 'data'}"]
    command += ["--store", str(store), "--every", "1s", "--recovery-window", "0", "--no-trim"]
    with (folder / "snapshotter.txt").open("ab") as sink:
        process = subprocess.Popen(command, env=server.environment(), stdout=sink, stderr=sink)
    made: list[float] = []
    try:
        yield made
    finally:
        process.kill()
        process.wait()
        made += [path.stat().st_mtime for path in store.glob("*.json")]


@contextmanager
def saving(server: Redis) -> Iterator[list[float]]:
    """BGSAVE again and again."""
    stop = threading.Event()
    made: list[float] = []

    def save() -> None:
        while not stop.wait(0.2):
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as conn:
                conn.sendall(b"BGSAVE\r\n")
                if conn.recv(200).startswith(b"+Background saving started"):
                    made.append(time.time())

    thread = threading.Thread(target=save)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join()


def offered(server: Server, rate: int, seconds: float, seed: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.offered", "--port", str(server.port), "--rate", str(rate)]
    command += ["--reads", "50", "--seconds", str(seconds), "--connections", "50", "--seed", str(seed)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside_snapshots", description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=2_000, help="requests a second, half of them GET (2,000)")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    build = "compiled" if is_compiled() else "pure"
    print(
        f"{asked.keys:,} keys, {asked.rate:,} requests a second offered; {build} build; medians of {asked.rounds}, ms"
    )
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    made = {"eventdb": 0, "Redis": 0}
    with tempfile.TemporaryDirectory(prefix="beside-") as name:
        folder = Path(name)
        ours, redis = EventDB(folder / "eventdb"), Redis(folder / "redis", always=True)
        try:
            for server in (ours, redis):
                server.start()
                fill(server, asked.keys)
            for turn in range(asked.rounds):
                for label, server in (("eventdb", ours), ("Redis", redis)):
                    found.setdefault((label, ALONE), []).append(offered(server, asked.rate, asked.seconds, turn))
                    beside = snapshotter(ours, folder) if server is ours else saving(redis)
                    with beside as times:
                        found.setdefault((label, BESIDE), []).append(offered(server, asked.rate, asked.seconds, turn))
                    made[label] += len(times)
        finally:
            ours.kill()
            redis.kill()
    print(f"{'':<20} {'p50':>8} {'p99':>8} {'p99.9':>8} {'worst':>8}")
    for (label, how), runs in found.items():
        numbers = [statistics.median(run[name] for run in runs) for name in ("p50", "p99", "p999", "worst")]
        note = f"  {made[label]} made" if how == BESIDE else ""
        print(f"{label + ', ' + how:<20} " + " ".join(f"{number:>8.2f}" for number in numbers) + note)
    for label in made:
        p99 = [statistics.median(run["p99"] for run in found[label, how]) for how in (ALONE, BESIDE)]
        print(f"{label}: p99 with snapshots over without: {p99[1] / p99[0]:.2f}")


if __name__ == "__main__":
    main()
