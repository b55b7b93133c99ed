"""`make bench`: eventdb beside a real redis-server, one table of ratios; also `python -m benchmarks.run --help`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks import surface
from benchmarks.bulk import bulk
from benchmarks.elements import fill_types
from benchmarks.expiry import expiry
from benchmarks.load import compare, fill
from benchmarks.mixes import mixes
from benchmarks.report import show, write
from benchmarks.rows import BUILDS, KEYS, ONE_ZONE, QUICK, READS, TYPE_WRITES, TYPES, WRITES, LoadRow, Result
from benchmarks.servers import ROOT, EventDB, Redis, Server, is_compiled, pure_tree

BULK_KEYS = 1_000_000


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="some rows in about two minutes; results.json stays as it is"
    )
    kinds = "rows that contain TEXT: reads, writes, onezone, types, typewrites, surface, mixes, build, bulk, expiry, …"
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
    parser.add_argument(
        "--write", action="store_true", help="write results.json even with --quick, --only or --control"
    )
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

    def pair(
        self,
        rows: list[LoadRow],
        reference: Callable[[], Server],
        candidate: Callable[[], Server],
        filled: Callable[[Server], None] = lambda server: fill(server, KEYS),
    ) -> None:
        """Start both, fill both with the keys that are read, and run the rows against them in turn."""
        rows = self.wanted(rows)
        if not rows:
            return
        servers = (reference(), candidate())
        try:
            for server in servers:
                server.start()
                filled(server)
            self.measure(rows, *servers)
        finally:
            for server in servers:
                server.kill()

    def measure(self, rows: list[LoadRow], reference: Server, candidate: Server) -> None:
        """Run those rows that are wanted against two servers that serve."""
        for row in self.wanted(rows):
            self.console.print(f"[dim]{row.key}[/dim]", end=" ")
            result = compare(row, reference, candidate, self.options.seconds, self.options.rounds)
            self.console.print(f"{result.ratio:.2f}")
            self.results.append(result)

    def eventdb(self, name: str, zones: int = 3) -> Server:
        if self.options.control:
            return Redis(self.folder / name, always=name != "reads")
        return EventDB(self.folder / name, zones)

    def asked(self, text: str) -> bool:
        only: list[str] = self.options.only
        return not only or any(each.lower() in text for each in only)

    def surface(self) -> None:
        """Scripts, streams, bitmaps and the like; the rows of streams by a loader of their own."""
        if not self.wanted(surface.rows()):
            return
        servers = (Redis(self.folder / "redis-surface", always=True), self.eventdb("surface"))
        try:
            for server in servers:
                server.start()
                surface.prepare(server)
            self.measure(surface.rows(), *servers)
            self.results.append(surface.streams(*servers, self.options.seconds, self.options.rounds))
        finally:
            for server in servers:
                server.kill()

    def run(self) -> None:
        self.loads()
        if not self.options.quick and self.asked("mixes"):
            self.mixes()
        if self.asked("bulk restart replay memory"):
            self.console.print(f"[dim]bulk, {self.options.bulk_keys:,} keys[/dim]")
            self.results += bulk(self.folder, self.options.bulk_keys, self.options.control)
        if self.asked("expiry set px"):
            self.console.print("[dim]expiry[/dim]")
            self.results += expiry(self.folder, self.options.control)

    def mixes(self) -> None:
        self.console.print("[dim]mixes[/dim]")
        servers = (Redis(self.folder / "redis-mixes", always=True), self.eventdb("mixes"))
        try:
            for server in servers:
                server.start()
                fill(server, KEYS)
            self.results += mixes(*servers, max(1.0, self.options.seconds), min(3, self.options.rounds))
        finally:
            for server in servers:
                server.kill()

    def loads(self) -> None:
        """The rows that redis-benchmark loads."""
        self.pair(READS, lambda: Redis(self.folder / "redis-reads", always=False), lambda: self.eventdb("reads"))
        self.pair(WRITES, lambda: Redis(self.folder / "redis-writes", always=True), lambda: self.eventdb("writes"))
        self.pair(
            TYPES, lambda: Redis(self.folder / "redis-types", always=False), lambda: self.eventdb("types"), fill_types
        )
        self.pair(
            TYPE_WRITES,
            lambda: Redis(self.folder / "redis-typewrites", always=True),
            lambda: self.eventdb("typewrites"),
            fill_types,
        )
        self.pair(ONE_ZONE, lambda: Redis(self.folder / "redis-one", always=True), lambda: self.eventdb("one", zones=1))
        if is_compiled() and not self.options.control:
            pure = pure_tree(self.folder / "pure-tree")
            self.pair(
                BUILDS,
                lambda: EventDB(self.folder / "pure", source=pure, label="pure eventdb"),
                lambda: self.eventdb("compiled"),
            )
        self.surface()


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
        write(bench.results, command)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
