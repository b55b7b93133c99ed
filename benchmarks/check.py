"""`make bench-check`: has a row of the last table fallen by a tenth? It has when two runs of three say so."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.report import kept
from benchmarks.rows import Result
from benchmarks.run import Bench, arguments
from benchmarks.servers import ROOT

RUNS = 3
FALLEN = 0.9  # of the ratio in the table
ENOUGH = 2  # runs that must agree


def fallen(table: dict[str, float], runs: list[dict[str, float]]) -> list[str]:
    """One line for each row that is below FALLEN of the table in ENOUGH runs; ratios are eventdb / reference."""
    lines = []
    for key, ratio in table.items():
        found = [run[key] for run in runs if key in run]
        if sum(each < ratio * FALLEN for each in found) >= ENOUGH:
            lines.append(f"{key}: {ratio:.2f} in the table, now " + ", ".join(f"{each:.2f}" for each in found))
    return lines


def ratios(results: list[Result]) -> dict[str, float]:
    return {result.key: result.ratio for result in results if result.better == "more"}


def main(argv: list[str]) -> int:
    options = arguments(["--quick", "--rounds", "3", *argv])
    console = Console()
    table = ratios(kept()[1])
    runs = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "build") as folder:
            bench = Bench(options, Path(folder), console)
            bench.loads()
            runs.append(ratios(bench.results))
    lines = fallen(table, runs)
    for line in lines:
        console.print(f"fell: {line}", style="red")
    if not lines:
        console.print(f"no row of {len(runs[0])} fell by a tenth in {ENOUGH} of {RUNS} runs")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
