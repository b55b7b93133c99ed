"""Draw the table: on the terminal with rich, and as markdown for RESULTS.md."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.rows import Result
from benchmarks.servers import is_compiled

TITLES = {
    "reads": "Reads, beside Redis that keeps nothing",
    "writes": "Writes on three zones, beside Redis `always`",
    "onezone": "Writes on one zone, beside Redis `always`",
    "build": "Compiled build, beside the pure one",
    "bulk": "Bulk",
    "expiry": "Keys that live for half a second, beside Redis `always`",
}
HEADS = ("", "reference", "eventdb", "ratio", "range", "bound", "")


def number(value: float, unit: str) -> str:
    if unit == "/s":
        return f"{value:,.0f}/s"
    if unit == "s":
        return f"{value:.2f} s"
    return f"{value:,.0f} {unit}"


def cells(result: Result) -> tuple[str, ...]:
    span = f"{result.ratios[0]:.2f}-{result.ratios[-1]:.2f}" if result.ratios else ""
    sign = "≥" if result.better == "more" else "≤"
    bound = "" if result.bound is None else f"{sign} {result.bound:.2f}"
    return (
        result.name,
        number(result.reference, result.unit) if result.reference else "",
        number(result.candidate, result.unit),
        f"{result.ratio:.2f}" if result.reference else "",
        span,
        {True: bound, False: f"{bound} missed", None: ""}[result.holds],
        result.note,
    )


def show(results: list[Result], console: Console) -> None:
    """One table for people; a missed bound stands out."""
    table = Table(title="eventdb beside Redis", title_justify="left")
    for head in HEADS:
        table.add_column(head, justify="left" if head in ("", "bound") else "right")
    for group, title in TITLES.items():
        rows = [result for result in results if result.group == group]
        if rows:
            table.add_section()
            table.add_row(f"[bold]{title}[/bold]")
        for result in rows:
            style = {True: "green", False: "red", None: ""}[result.holds]
            table.add_row(*cells(result), style=style)
    console.print(table)


def machine() -> str:
    """Processor, cores, memory, system, and the versions that matter; no host name."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=False).stdout.split()
    redis_version = next((word[2:] for word in said if word.startswith("v=")), "?")
    return (
        f"{model}, {os.cpu_count()} cores shared with the load, {memory_gib:.0f} GiB, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, Redis {redis_version}"
    )


def markdown(results: list[Result], command: str) -> str:
    """The page kept in RESULTS.md."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [
        "# Results",
        "",
        "The last table of `make bench`; the page is written by it. Ratios are eventdb / reference, the median of",
        "runs taken in turn; the range shows the lowest and the highest. p99 and the server's processor time a",
        "request are reference / eventdb. Redis `always`",
        "is `appendonly yes, appendfsync always`: one copy on disk before each reply. eventdb replies after a majority",
        "of its zones, here folders of the same disk, has the write.",
        "",
        f"- {today}, `{command}`, the {'compiled' if is_compiled() else 'pure Python'} build",
        f"- {machine()}",
    ]
    for group, title in TITLES.items():
        rows = [result for result in results if result.group == group]
        if not rows:
            continue
        lines += ["", f"## {title}", "", "| " + " | ".join(HEADS) + " |", "|---|---:|---:|---:|---:|---|---|"]
        lines += ["| " + " | ".join(cells(result)) + " |" for result in rows]
    return "\n".join(lines) + "\n"
