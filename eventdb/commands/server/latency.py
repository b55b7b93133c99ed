"""LATENCY: events that took longer than latency-monitor-threshold, and how long each command takes (latency-tracking).

Source: redis src/latency.c, src/sparkline.c, src/commands/latency-*.json.
"""

from __future__ import annotations

import time
from typing import Final

from eventdb.engine.client import Client
from eventdb.engine.command import Command
from eventdb.engine.engine import Engine
from eventdb.engine.registry import COMMANDS, command, container, server_command
from eventdb.metrics.latency import Histogram, LatencyEvent
from eventdb.protocol.errors import ReplyError, shown
from eventdb.protocol.replies import array, bulk, integer, lines, mapping, verbatim

ADMIN: Final = "admin noscript loading stale"
ALL_NODES: Final = "nondeterministic_output request_policy:all_nodes response_policy:special"
GRAPH_COLUMNS: Final = 80
GRAPH_ROWS: Final = 4
MARKS: Final = "_o#"  # the three heights within a row
OFF: Final = (
    "The latency monitor is off. CONFIG SET latency-monitor-threshold <milliseconds> lets it keep what takes at least"
    " that long; SLOWLOG shows which commands were slow.\n"
)
NOTHING: Final = "The latency monitor has seen nothing that took as long as latency-monitor-threshold.\n"
HELP: Final = """
LATENCY <subcommand> [<arg> ...]. Subcommands are:
DOCTOR
    What was slow, in words.
GRAPH <event>
    A picture of the samples of an event.
HISTOGRAM [<command> ...]
    How long commands take, while latency-tracking is on (default: all).
HISTORY <event>
    Unix time and milliseconds of the samples of an event.
LATEST
    Each event with the time and length of the last sample, and the longest.
RESET [<event> ...]
    Forget the samples of these events (default: of all).
HELP
    Print this help.
"""

container("LATENCY", since="2.8.13", summary="Shows what took long.")


@server_command(
    "LATENCY LATEST", arity=2, flags=ADMIN, since="2.8.13", group="server", tips=ALL_NODES,
    summary="Returns the last and the longest sample of each event.",
)  # fmt: skip
def latency_latest(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    found: list[bytes] = []
    for name, event in engine.accounting.latencies.events.items():
        at, ms = event.samples[-1]
        found.append(array([bulk(name.encode()), integer(at), integer(ms), integer(event.worst)]))
    return array(found)


@server_command(
    "LATENCY HISTORY", arity=3, flags=ADMIN, since="2.8.13", group="server", tips=ALL_NODES,
    summary="Returns the samples of an event.",
)  # fmt: skip
def latency_history(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    event = engine.accounting.latencies.events.get(argv[2].decode("utf-8", "replace"))
    return array([array([integer(at), integer(ms)]) for at, ms in (event.samples if event is not None else ())])


@server_command(
    "LATENCY RESET", arity=-2, flags=ADMIN, since="2.8.13", group="server",
    tips="request_policy:all_nodes response_policy:all_succeeded",
    summary="Forgets the samples of events; returns how many events had some.",
)  # fmt: skip
def latency_reset(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return integer(engine.accounting.latencies.reset([name.decode("utf-8", "replace") for name in argv[2:]]))


@server_command(
    "LATENCY HISTOGRAM", arity=-2, flags=ADMIN, since="7.0.0", group="server", tips=ALL_NODES,
    complexity="O(N) where N is the number of commands with latency information being retrieved.",
    summary="Returns how long commands take, in steps that double.",
)  # fmt: skip
def latency_histogram(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    histograms = engine.accounting.latencies.histograms
    names = list(histograms) if len(argv) == 2 else _names(argv[2:])
    items: list[bytes] = []
    for name in names:
        if name in histograms:
            items += [bulk(name.encode()), _histogram(histograms[name], client.resp3)]
    return mapping(items, client.resp3)


def _names(words: list[bytes]) -> list[str]:
    """The full names of commands; a container stands for its subcommands."""
    names: list[str] = []
    for word in words:
        parent, bar, child = word.upper().partition(b"|")
        found: Command | None = COMMANDS.get(parent)
        if found is not None and bar:
            found = found.subcommands.get(child)
        if found is not None:
            names += [found.name, *[each.name for each in found.subcommands.values()]]
    return names


def _histogram(found: Histogram, resp3: bool) -> bytes:
    steps: list[bytes] = []
    for usec, count in found.doubling():
        steps += [integer(usec), integer(count)]
    return mapping(
        [bulk(b"calls"), integer(found.count), bulk(b"histogram_usec"), mapping(steps, resp3)], resp3
    )  # fmt: skip


@server_command(
    "LATENCY GRAPH", arity=3, flags=ADMIN, since="2.8.13", group="server", tips=ALL_NODES,
    summary="Draws the samples of an event.",
)  # fmt: skip
def latency_graph(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    name = shown(argv[2])
    event = engine.accounting.latencies.events.get(name)
    if event is None:
        raise ReplyError(f"ERR No samples available for event '{name}'")
    return verbatim(graph(name, event, int(time.time())).encode(), client.resp3)


def graph(name: str, event: LatencyEvent, now: int) -> str:
    """One column a sample, four rows of three heights; below, upright, how long ago it was."""
    samples = list(event.samples)
    high, low = max([ms for _, ms in samples]), min([ms for _, ms in samples])
    parts = [
        f"{name} - high {high} ms, low {low} ms (all time high {event.worst} ms)\n",
        "-" * GRAPH_COLUMNS + "\n",
    ]
    for start in range(0, len(samples), GRAPH_COLUMNS):
        if start:
            parts.append("\n")
        parts += [row + "\n" for row in _rows(samples[start : start + GRAPH_COLUMNS], low, high, now)]
    return "".join(parts)


def _rows(samples: list[tuple[int, int]], low: int, high: int, now: int) -> list[str]:
    heights = GRAPH_ROWS * len(MARKS)
    steps = [min(heights - 1, (ms - low) * heights // (high - low)) if high > low else 0 for _, ms in samples]
    rows: list[str] = []
    for row in range(GRAPH_ROWS):
        bottom = (GRAPH_ROWS - row - 1) * len(MARKS)
        marks = [MARKS[step - bottom] if step < bottom + len(MARKS) else "|" for step in steps if step >= bottom]
        drawn = iter(marks)
        rows.append("".join([next(drawn) if step >= bottom else " " for step in steps]))
    labels = [_ago(now - at) for at, _ in samples]
    rows.append(" " * len(samples))
    rows += ["".join([label[i : i + 1] or " " for label in labels]) for i in range(max(map(len, labels)))]
    return rows


def _ago(seconds: int) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


@server_command(
    "LATENCY DOCTOR", arity=2, flags=ADMIN, since="2.8.13", group="server", tips=ALL_NODES,
    summary="Describes what took long.",
)  # fmt: skip
def latency_doctor(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    latencies = engine.accounting.latencies
    if not latencies.threshold_ms and not latencies.events:
        return verbatim(OFF.encode(), client.resp3)
    if not latencies.events:
        return verbatim(NOTHING.encode(), client.resp3)
    parts = [f"Events that took at least {latencies.threshold_ms} ms (latency-monitor-threshold):\n"]
    for name, event in latencies.events.items():
        lengths = [ms for _, ms in event.samples]
        average = sum(lengths) / len(lengths)
        parts.append(
            f"* {name}: {len(lengths)} samples, {average:.0f} ms on average, {event.worst} ms at worst,"
            f" {event.samples[-1][1]} ms the last time.\n"
        )
    parts.append("SLOWLOG GET shows the commands themselves: those slower than slowlog-log-slower-than.\n")
    return verbatim("".join(parts).encode(), client.resp3)


@command("LATENCY HELP", arity=2, flags="loading stale", since="2.8.13", group="server", summary="Explains LATENCY.")
def latency_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(HELP)
