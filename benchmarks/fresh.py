"""`python -m benchmarks.fresh`: how often a replica misses what was acknowledged just before; what a fresh read costs.

One client writes at the primary and, as soon as that is acknowledged, reads the key at the replica: in `fast` mode, and
in `fresh` mode with the default of 5 ms. Then 50 clients read at once: one question serves many reads. There refused
reads would end the benchmark, so it asks a third replica, which waits longer.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.replicas import benchmark
from benchmarks.servers import ROOT
from benchmarks.stages import Node, Wire, wait_until


class Replica(Node):
    """A node that only follows, in one of the modes."""

    def __init__(self, folder: Path, name: str, url: str, mode: str, timeout_ms: int = 5) -> None:
        super().__init__(folder, name, url, "replica")
        self.settings = [f"replica-read-mode={mode}", f"replica-read-timeout={timeout_ms}"]

    def command(self) -> list[str]:
        return [*super().command(), *(word for setting in self.settings for word in ("--config", setting))]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the reads of one mode showed."""

    missing: int
    refused: int
    ms: list[float]

    def at(self, share: float) -> float:
        ordered = sorted(self.ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def pairs(primary: Node, replica: Node, count: int) -> Seen:
    missing = refused = 0
    ms: list[float] = []
    with Wire(primary.port, 30) as writing, Wire(replica.port, 30) as reading:
        for i in range(count):
            writing.ask(f"SET pair {i}")
            began = time.perf_counter()
            reply = reading.ask("GET pair")[0]
            ms.append((time.perf_counter() - began) * 1000)
            refused += isinstance(reply, Exception)
            missing += not isinstance(reply, Exception) and reply != b"%d" % i
    return Seen(missing, refused, ms)


def rate(replica: Node) -> float:
    """GETs a second of 50 clients without pipelining."""
    count = 20_000
    command = benchmark(replica.port, "get", count)
    command[command.index("-P") + 1] = "1"
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=600)
    return count / (time.perf_counter() - began)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fresh", description=__doc__)
    parser.add_argument("--pairs", type=int, default=500, metavar="N", help="writes, each with a read after it (500)")
    parser.add_argument("--folder", type=Path, default=ROOT / "build", help="where the nodes keep their files (build/)")
    options = parser.parse_args(argv)
    options.folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as name:
        folder = Path(name)
        url = f"quorum:{folder / 'log'}"
        primary = Node(folder, "primary", url)
        fast, fresh = Replica(folder, "fast", url, "fast"), Replica(folder, "fresh", url, "fresh")
        patient = Replica(folder, "patient", url, "fresh", 1000)
        nodes = [primary, fast, fresh, patient]
        try:
            for node in nodes:
                node.start()
            wait_until(lambda: primary.followers() == 3, "the primary lists all replicas")
            for replica, crowded in ((fast, fast), (fresh, patient)):
                pairs(primary, replica, 50)
                seen = pairs(primary, replica, options.pairs)
                times = ", ".join(f"{word} {seen.at(share):.2f} ms" for word, share in (("median", 0.5), ("p99", 0.99)))
                print(
                    f"{replica.name}: {seen.missing} of {options.pairs} reads missed the write, {seen.refused} were"
                    f" refused; a read took {times}; 50 clients {rate(crowded):,.0f} GET/s"
                )
        finally:
            for node in nodes:
                node.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
