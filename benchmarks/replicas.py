"""Read replicas: what several of them answer together, and how far they are behind a primary under full write load."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.failover import Times, row
from benchmarks.load import fill
from benchmarks.rows import KEYS, VALUE_BYTES
from benchmarks.stages import Node, Nodes, Stage, Wire, wait_until

CLIENTS, PIPELINE = 50, 16
MARK_S = 0.01  # between two markers
GETS = 200_000  # a replica, a run


@dataclass(frozen=True, slots=True)
class Reads:
    """What `count` replicas answered at once."""

    count: int
    rate: float  # GETs a second, all together
    cpu_us: float  # of a replica's process for one GET


def benchmark(port: int, test: str, requests: int) -> list[str]:
    """The command of a redis-benchmark run."""
    binary = shutil.which("redis-benchmark") or "redis-benchmark"
    command = [binary, "-h", "127.0.0.1", "-p", str(port), "--csv", "-t", test, "-n", str(requests)]
    return [*command, "-c", str(CLIENTS), "-P", str(PIPELINE), "-d", str(VALUE_BYTES), "-r", str(KEYS)]


def throughput(folder: Path, stage: Stage, counts: list[int]) -> list[Reads]:
    """GETs of so many replicas at once, each with a redis-benchmark of its own; the primary rests."""
    found: list[Reads] = []
    with Nodes(folder / "reads", stage.url(), ("auto", *["replica"] * max(counts))) as nodes:
        primary, replicas = nodes.nodes[0], nodes.nodes[1:]
        fill(primary, KEYS)
        offset = _offset(primary)
        wait_until(lambda: all(_offset(replica) >= offset for replica in replicas), "the replicas have all keys")
        for count in counts:
            found.append(_reads(replicas[:count]))
    return found


def _offset(node: Node) -> int:
    found = node.ask("EVENTDB.OFFSET")
    return int(found[1]) if isinstance(found, list) else -1


def _reads(replicas: list[Node]) -> Reads:
    cpu_s = sum(replica.cpu_seconds() for replica in replicas)
    began = time.perf_counter()
    runs = [
        subprocess.Popen(benchmark(replica.port, "get", GETS), stdout=subprocess.PIPE, text=True)
        for replica in replicas
    ]
    for run in runs:
        printed = run.communicate(timeout=600)[0]
        if run.returncode:
            raise RuntimeError(f"redis-benchmark ended with {run.returncode}: {printed}")
    seconds = time.perf_counter() - began
    done = GETS * len(replicas)
    used = sum(replica.cpu_seconds() for replica in replicas) - cpu_s
    return Reads(len(replicas), done / seconds, used / done * 1e6)


def lag(folder: Path, stage: Stage, seconds: float, p99_max: float) -> tuple[Times, float]:
    """Milliseconds from a write's acknowledgement by the primary to its being seen on a replica, under full write load.

    A marker is written and its offset asked for in one packet; as soon as both are answered, the replica is asked to
    answer when it has that offset. So the way there and back counts too. Also returns the writes a second meanwhile.
    """
    with Nodes(folder / "lag", stage.url(), ("auto", "replica")) as nodes:
        primary, replica = nodes.nodes
        load = subprocess.Popen(benchmark(primary.port, "set", 1 << 30), stdout=subprocess.DEVNULL)
        try:
            time.sleep(1.0)
            before, began = _offset(primary), time.perf_counter()
            found = _marks(primary, replica, seconds)
            rate = (_offset(primary) - before) / (time.perf_counter() - began)
        finally:
            load.kill()
            load.wait()
    return row(f"replica lag, {stage.name}", found, p99_max=p99_max), rate


def _marks(primary: Node, replica: Node, seconds: float) -> list[float]:
    found: list[float] = []
    with Wire(primary.port, 30) as writing, Wire(replica.port, 30) as reading:
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            _done, offsets = writing.ask("SET marker x", "EVENTDB.OFFSET")
            acknowledged = time.perf_counter()
            assert isinstance(offsets, list), offsets
            reached = reading.ask(f"EVENTDB.WAITFOR {offsets[0]} 20000")[0]
            if not isinstance(reached, int):
                raise RuntimeError(f"the replica answered {reached!r}")
            found.append((time.perf_counter() - acknowledged) * 1000)
            time.sleep(MARK_S)
    return found
