"""Reads, writes and a mix of both at fixed rates over many connections: latency beside Redis."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from benchmarks.offered import Offered
from benchmarks.rows import Result
from benchmarks.servers import ROOT, Server

MIXES = {"100 % reads": 100, "80 % reads": 80, "100 % writes": 0}
RATES = (2_500, 5_000, 10_000, 15_000, 20_000, 25_000)  # requests a second


def mixes(reference: Server, candidate: Server, seconds: float, rounds: int) -> list[Result]:
    """p99 of both, in turn, at each rate; both are running and filled. The median of `rounds` counts."""
    found = []
    for name, reads in MIXES.items():
        for rate in RATES:
            sides: list[list[Offered]] = [[], []]
            for number in range(rounds):
                order = ((reference, 0), (candidate, 1)) if number % 2 == 0 else ((candidate, 1), (reference, 0))
                for server, side in order:
                    sides[side].append(_offer(server, rate, reads, seconds, number))
            found.append(_row(f"{name} at {rate:,}/s", *sides))
    return found


def _row(name: str, reference: list[Offered], candidate: list[Offered]) -> Result:
    def middle(field: str) -> tuple[float, float]:
        a, b = (statistics.median(getattr(each, field) for each in side) for side in (reference, candidate))
        return a, b

    p99 = middle("p99")
    note = "p50 {:.2f} / {:.2f}, p99.9 {:.2f} / {:.2f} ms".format(*middle("p50"), *middle("p999"))
    return Result("mixes", name, *p99, p99[1] / p99[0], unit="ms", better="less", note=note)


def _offer(server: Server, rate: int, reads: int, seconds: float, seed: int) -> Offered:
    command = [sys.executable, "-m", "benchmarks.offered", "--port", str(server.port), "--rate", str(rate)]
    command += ["--reads", str(reads), "--seconds", str(seconds), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"{server.label} at {rate}/s: {done.stderr[-500:]}")
    return Offered(**json.loads(done.stdout))
