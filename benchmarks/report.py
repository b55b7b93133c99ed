"""Show what was measured: on the terminal with rich; as results.json, and from it docs/benchmarks.md with pictures.

Pictures are SVG, drawn by matplotlib: a bar of the ratio for each row, and latency curves of the mixes.
"""

from __future__ import annotations

import datetime
import io
import json
import os
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.rows import Result
from benchmarks.servers import ROOT, is_compiled

RESULTS: Final = ROOT / "benchmarks" / "results.json"
PICTURES: Final = "benchmarks-{}.svg"  # in docs/pictures
TITLES = {
    "reads": "Reads, beside Redis that keeps nothing",
    "writes": "Writes on three zones, beside Redis `always`",
    "onezone": "Writes on one zone, beside Redis `always`",
    "types": "Reads of each data type, beside Redis that keeps nothing",
    "typewrites": "Writes into large values on three zones, beside Redis `always`",
    "mixes": "p99 latency of mixes at fixed rates, beside Redis `always`",
    "build": "Compiled build, beside the pure one",
    "surface": "Scripts, streams, other types and large collections, beside Redis `always`",
    "bulk": "Bulk",
    "expiry": "Keys that live for half a second, beside Redis `always`",
}
HEADS = ("", "reference", "eventdb", "ratio", "range", "bound", "")


def number(value: float, unit: str) -> str:
    if unit == "/s":
        return f"{value:,.0f}/s"
    if unit == "s":
        return f"{value:.2f} s"
    if unit == "ms":
        return f"{value:.2f} ms"
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


def write(results: list[Result], command: str) -> None:
    """Keep what was measured in results.json; `make docs` makes the page of it."""
    facts: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": command,
        "build": "compiled" if is_compiled() else "pure Python",
        "machine": machine(),
        "rows": [{name: _rounded(value) for name, value in asdict(result).items()} for result in results],
    }
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")


def _rounded(value: object) -> object:
    if isinstance(value, (tuple, list)):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def kept() -> tuple[dict[str, Any], list[Result]]:
    """The facts and rows of results.json."""
    facts = json.loads(RESULTS.read_text())
    return facts, [Result(**{**row, "ratios": tuple(row["ratios"])}) for row in facts["rows"]]


def tables() -> str:
    """The part of docs/benchmarks.md that results.json gives."""
    facts, results = kept()
    lines = [f"- {facts['date']}, `{facts['command']}`, the {facts['build']} build", f"- {facts['machine']}"]
    drawn = pictures()
    for group, title in TITLES.items():
        rows = [result for result in results if result.group == group]
        if not rows:
            continue
        lines += ["", f"## {title}", ""]
        if PICTURES.format(group) in drawn:
            lines += [f"![{title}](pictures/{PICTURES.format(group)})", ""]
        lines += ["| " + " | ".join(HEADS) + " |", "|---|---:|---:|---:|---:|---|---|"]
        lines += ["| " + " | ".join(cells(result)) + " |" for result in rows]
    return "\n".join(lines) + "\n"


def pictures() -> dict[str, str]:
    """Name and SVG of each picture. The same rows give the same bytes."""
    _, results = kept()
    drawn = {}
    for group in ("reads", "writes", "onezone", "types", "typewrites"):
        rows = [result for result in results if result.group == group]
        if rows:
            drawn[PICTURES.format(group)] = _bars(TITLES[group], rows)
    curves = [result for result in results if result.group == "mixes"]
    if curves:
        drawn[PICTURES.format("mixes")] = _curves(TITLES["mixes"], curves)
    return drawn


def _bars(title: str, rows: list[Result]) -> str:
    """A bar of the ratio for each row, beside Redis's 1."""
    figure, axes = _plot(title, height=0.8 + 0.24 * len(rows))
    names = [row.name for row in reversed(rows)]
    ratios = [row.ratio for row in reversed(rows)]
    bars = axes.barh(names, ratios, color=[_colour(row) for row in reversed(rows)], height=0.7)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlim(0, max(1.3, max(ratios) * 1.1))
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("eventdb / Redis: more is better")
    return _svg(figure)


def _colour(row: Result) -> str:
    return "#5b8c5a" if row.ratio >= 1 else "#c98a2b" if row.holds is not False else "#b5483a"


def _curves(title: str, rows: list[Result]) -> str:
    """Latency over the rate that was offered: a colour for each mix, dashed for Redis."""
    figure, axes = _plot(title, height=4.5)
    points: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows:
        mix, _, rate = row.name.partition(" at ")
        at = float(rate.removesuffix("/s").replace(",", ""))
        points.setdefault(mix, []).append((at, row.reference, row.candidate))
    for number, (mix, found) in enumerate(points.items()):
        rates, reference, candidate = zip(*found, strict=True)
        axes.plot(rates, reference, "--", color=f"C{number}", label=f"Redis, {mix}")
        axes.plot(rates, candidate, "-", color=f"C{number}", label=f"eventdb, {mix}")
    axes.set_yscale("log")
    axes.set_xlabel("requests a second")
    axes.set_ylabel("p99 in ms: less is better")
    axes.legend(fontsize=8, frameon=False)
    return _svg(figure)


def _plot(title: str, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title.replace("`", ""), fontsize=10, loc="left")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure) -> str:
    """The same figure gives the same text: no date, and no random names."""
    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "eventdb"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
