"""`make bench-nodes`: several nodes on one log; also `python -m benchmarks.nodes --help`. Writes NODES.md."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import random
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from benchmarks.failover import Failovers, Times, row, targets
from benchmarks.kafka import Served, compare_served
from benchmarks.replicas import Reads, lag, throughput
from benchmarks.report import machine
from benchmarks.servers import ROOT, is_compiled
from benchmarks.stages import LEASE_MS, Files, Kafka, Nodes, Stage
from eventdb.cli.dev.brokers import NoKafka

PAGE = ROOT / "benchmarks" / "NODES.md"
LAG_P99_MS = {"files": 20.0, "Kafka": 50.0}
HAND_OVER_MS = 200.0
SERVED_MIN = 0.8


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nodes", description=__doc__)
    parser.add_argument("--stage", action="append", choices=["files", "kafka"], default=[], help="which (both)")
    parser.add_argument("--failovers", type=int, default=100, metavar="N", help="SIGKILLs, and as many SIGSTOPs (100)")
    parser.add_argument("--hand-overs", type=int, default=20, metavar="N", help="FAILOVERs (20)")
    parser.add_argument("--brokers", type=int, default=10, metavar="N", help="brokers killed, on Kafka (10)")
    parser.add_argument("--lag-seconds", type=float, default=20.0, help="of markers under write load (20); 0: none")
    parser.add_argument("--replicas", type=int, nargs="*", default=[1, 2, 4], metavar="N", help="for GETs (1 2 4)")
    parser.add_argument("--served", type=int, default=7, metavar="N", help="rounds of SETs beside raw aiokafka (7)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which signals are sent (1)")
    parser.add_argument("--folder", type=Path, default=ROOT / "build", help="where the nodes keep their files (build/)")
    parser.add_argument("--no-write", action="store_true", help="NODES.md stays as it is")
    return parser.parse_args(argv)


@dataclass(slots=True)
class Found:
    """What one stage showed."""

    stage: str
    times: list[Times] = field(default_factory=list)
    reads: list[Reads] = field(default_factory=list)
    load_rate: float = 0.0  # writes a second while the lag was measured
    served: list[Served] = field(default_factory=list)


def measure(stage: Stage, folder: Path, options: argparse.Namespace, console: Console) -> Found:
    found = Found(stage.name)
    if options.replicas and isinstance(stage, Files):
        found.reads = throughput(folder, stage, options.replicas)
        console.print(found.reads)
    if options.lag_seconds:
        times, found.load_rate = lag(folder, stage, options.lag_seconds, LAG_P99_MS[stage.name])
        found.times.append(times)
        console.print(line(times))
    if options.served and isinstance(stage, Kafka):
        found.served = asyncio.run(compare_served(stage.brokers, folder, 1.0, options.served))
    if not (options.failovers or options.hand_overs or options.brokers):
        return found
    url = stage.url()
    with Nodes(folder / "failover", url) as nodes:
        failovers = Failovers(nodes, random.Random(options.seed))
        p50, p99 = targets(stage)
        jobs: list[tuple[str, int, Callable[[], float], float | None, float | None]] = [
            ("SIGKILL of the primary", options.failovers, lambda: failovers.lose(signal.SIGKILL), p50, p99),
            ("SIGSTOP of the primary", options.failovers, lambda: failovers.lose(signal.SIGSTOP), p50, p99),
            ("FAILOVER, a hand-over", options.hand_overs, failovers.hand_over, None, HAND_OVER_MS),
        ]
        if isinstance(stage, Kafka):
            kafka = stage
            jobs.append(
                (
                    "SIGKILL of the leading broker",
                    options.brokers,
                    lambda: failovers.lose_broker(kafka, url),
                    None,
                    None,
                )
            )
        for name, count, once, p50_max, p99_max in jobs:
            if not count:
                continue
            ms: list[float] = []
            for _ in range(count):
                ms.append(once())
                console.print(f"{name}: {ms[-1]:.0f} ms", style="dim")
            found.times.append(row(f"{name}, {stage.name}", ms, p50_max, p99_max))
            console.print(line(found.times[-1]))
    return found


def line(times: Times) -> str:
    """A row of the table."""
    bounds = [
        f"{name} ≤ {bound:.0f}" for name, bound in (("p50", times.p50_max), ("p99", times.p99_max)) if bound is not None
    ]
    verdict = ", ".join(bounds) + ("" if times.holds else " missed")
    cells = [times.name, f"{len(times.ms)}", *(f"{times.at(share):.1f}" for share in (0.5, 0.99, 1.0)), verdict]
    return "| " + " | ".join(cells) + " |"


def markdown(results: list[Found], command: str) -> str:
    """The page kept in NODES.md."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [
        "# Many nodes",
        "",
        "What the last `make bench-nodes` found; the page is written by it. Nodes, brokers and load share the cores of",
        "one machine, so rates and lag are those of a crowded one, and more replicas than cores cannot answer more.",
        "",
        f"- {today}, `{command}`, the {'compiled' if is_compiled() else 'pure Python'} build, --lease-ms {LEASE_MS}",
        f"- {machine()}",
        "",
        "Milliseconds. A failover lasts from the signal to the first write that any of three nodes accepts, seen by a",
        "client that tries all of them; the old primary is back, and all are listed, before the next one. Lag lasts",
        "from the acknowledgement of a write by the primary to the answer of a replica that it has it.",
        "",
        "| | count | p50 | p99 | max | bound |",
        "|---|---:|---:|---:|---:|---|",
    ]
    lines += [line(times) for found in results for times in found.times]
    lines += [
        f"\nWrites a second while the lag was measured, {found.stage}: {found.load_rate:,.0f}."
        for found in results
        if found.load_rate
    ]
    for found in results:
        if found.served:
            rate, sends, records = (
                statistics.median(getattr(one, name) for one in found.served) for name in ("rate", "sends", "records")
            )
            missed = " missed" if rate < SERVED_MIN * sends else ""
            lines += [
                "",
                f"SET with 500 clients, {found.stage}: {rate:,.0f} a second. Raw aiokafka with 500 sends of one SET's",
                f"bytes under way: {sends:,.0f} (ratio {rate / sends:.2f}, bound ≥ {SERVED_MIN}{missed}). Raw aiokafka",
                "sending the records that the server made of them, and running no commands:",
                f"{records:,.0f} ({rate / records:.2f}).",
            ]
    reads = [read for found in results for read in found.reads]
    if reads:
        lines += ["", "| replicas | GETs a second, together | processor time a GET |", "|---:|---:|---:|"]
        lines += [f"| {read.count} | {read.rate:,.0f} | {read.cpu_us:.1f} µs |" for read in reads]
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> int:
    options = arguments(argv)
    console = Console(width=150)
    options.folder.mkdir(exist_ok=True)
    results: list[Found] = []
    # Not the system's temporary folder: that may be memory, where an fsync costs nothing.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as name:
        stages: list[type[Files] | type[Kafka]] = []
        if "files" in options.stage or not options.stage:
            stages.append(Files)
        if "kafka" in options.stage or not options.stage:
            stages.append(Kafka)
        for kind in stages:
            folder = Path(name) / kind.name.lower()
            try:
                with kind(folder) as stage:
                    results.append(measure(stage, folder, options, console))
            except NoKafka as error:
                console.print(f"not measured on Kafka: {error}")
    command = " ".join(["make bench-nodes", *([f'BENCH_ARGS="{" ".join(argv)}"'] if argv else [])])
    page = markdown(results, command)
    console.print(page, markup=False, highlight=False)
    if not options.no_write:
        PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
