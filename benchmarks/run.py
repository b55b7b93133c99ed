"""`make bench`: eventdb beside a real redis-server, one table of ratios; also `python -m benchmarks.run --help`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks.bulk import bulk
from benchmarks.expiry import expiry
from benchmarks.load import compare, fill
from benchmarks.report import markdown, show
from benchmarks.rows import BUILDS, KEYS, ONE_ZONE, QUICK, READS, WRITES, LoadRow, Result
from benchmarks.servers import ROOT, EventDB, Redis, Server, is_compiled, pure_tree

RESULTS = ROOT / "benchmarks" / "RESULTS.md"
BULK_KEYS = 1_000_000


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a dozen rows in about two minutes; RESULTS.md stays as it is"
    )
    kinds = "rows that contain TEXT: reads, writes, onezone, build, bulk, expiry, 'set c=50'; repeatable"
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help=kinds)
    parser.add_argument("--rounds", type=int, default=0, help="runs of each server a row (5; --quick 3)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a run (1)")
    parser.add_argument(
        "--bulk-keys", type=int, default=0, help="keys of the restart rows (1,000,000; --quick 100,000)"
    )
    parser.add_argument(
        "--control", action="store_true", help="Redis beside Redis: what the harness itself adds, and noise"
    )
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "build", help="where the servers keep their files (build/)"
    )
    parser.add_argument("--write", action="store_true", help="write RESULTS.md even with --quick, --only or --control")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.bulk_keys = options.bulk_keys or (BULK_KEYS // 10 if options.quick else BULK_KEYS)
    return options


class Bench:
    """Runs the groups asked for, one pair of servers at a time, and collects their rows."""

    def __init__(self, options: argparse.Namespace, folder: Path, console: Console) -> None:
        self.options = options
        self.folder = folder
        self.console = console
        self.results: list[Result] = []

    def wanted(self, rows: list[LoadRow]) -> list[LoadRow]:
        only: list[str] = self.options.only
        rows = [row for row in rows if not self.options.quick or row.key in QUICK]
        return [row for row in rows if not only or any(text.lower() in row.key.lower() for text in only)]

    def pair(self, rows: list[LoadRow], reference: Callable[[], Server], candidate: Callable[[], Server]) -> None:
        """Start both, fill both with the keys that are read, and run the rows against them in turn."""
        rows = self.wanted(rows)
        if not rows:
            return
        servers = (reference(), candidate())
        try:
            for server in servers:
                server.start()
                fill(server, KEYS)
            for row in rows:
                self.console.print(f"[dim]{row.key}[/dim]", end=" ")
                result = compare(row, *servers, self.options.seconds, self.options.rounds)
                self.console.print(f"{result.ratio:.2f}")
                self.results.append(result)
        finally:
            for server in servers:
                server.kill()

    def eventdb(self, name: str, zones: int = 3) -> Server:
        if self.options.control:
            return Redis(self.folder / name, always=name != "reads")
        return EventDB(self.folder / name, zones)

    def run(self) -> None:
        self.pair(READS, lambda: Redis(self.folder / "redis-reads", always=False), lambda: self.eventdb("reads"))
        self.pair(WRITES, lambda: Redis(self.folder / "redis-writes", always=True), lambda: self.eventdb("writes"))
        self.pair(ONE_ZONE, lambda: Redis(self.folder / "redis-one", always=True), lambda: self.eventdb("one", zones=1))
        if is_compiled() and not self.options.control:
            pure = pure_tree(self.folder / "pure-tree")
            self.pair(
                BUILDS,
                lambda: EventDB(self.folder / "pure", source=pure, label="pure eventdb"),
                lambda: self.eventdb("compiled"),
            )
        only: list[str] = self.options.only
        if not only or any(text.lower() in "bulk restart replay memory" for text in only):
            self.console.print(f"[dim]bulk, {self.options.bulk_keys:,} keys[/dim]")
            self.results += bulk(self.folder, self.options.bulk_keys, self.options.control)
        if not only or any(text.lower() in "expiry set px" for text in only):
            self.console.print("[dim]expiry[/dim]")
            self.results += expiry(self.folder, self.options.control)


def main(argv: list[str]) -> int:
    options = arguments(argv)
    console = Console()
    for needed in ("redis-server", "redis-benchmark"):
        if shutil.which(needed) is None:
            console.print(f"{needed} is not installed; it is what eventdb is compared with")
            return 2
    options.folder.mkdir(exist_ok=True)
    # Not the system's temporary folder: that may be memory, where an fsync costs nothing.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        bench = Bench(options, Path(folder), console)
        try:
            bench.run()
        finally:
            show(bench.results, Console(width=max(150, console.width)))
    command = " ".join(["make bench", *([f'BENCH_ARGS="{" ".join(argv)}"'] if argv else [])])
    if options.write or not (options.quick or options.only or options.control):
        RESULTS.write_text(markdown(bench.results, command))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
