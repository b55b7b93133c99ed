"""MEMORY and LATENCY: what can be said honestly of a Python process.

Source: redis src/object.c memoryCommand, src/latency.c, src/commands/memory-*.json, latency-*.json.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from itertools import islice
from typing import Final

from eventdb.commands.server.info_counters import human
from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.registry import command, container, server_command
from eventdb.metrics.memory import peak_bytes, resident_bytes
from eventdb.protocol.replies import (
    EMPTY_ARRAY,
    ZERO,
    ReplyError,
    bulk,
    integer,
    lines,
    mapping,
    null,
    parse_int,
    syntax_error,
    verbatim,
)

ADMIN: Final = "admin noscript loading stale"
ALL_NODES: Final = "nondeterministic_output request_policy:all_nodes response_policy:special"
ALL_SHARDS: Final = "nondeterministic_output request_policy:all_shards response_policy:special"
SAMPLES: Final = 5
DEPTH_MAX: Final = 8  # of objects inside a value
NO_MONITOR: Final = b"eventdb has no latency monitor; SLOWLOG tells which commands were slow.\n"
MEMORY_HELP: Final = """
MEMORY <subcommand> [<arg> ...]. Subcommands are:
DOCTOR
    What the process holds, in words.
STATS
    What the process holds, in numbers.
USAGE <key> [SAMPLES <count>]
    Estimate of the bytes that a key and its value take; of large values
    <count> elements are looked at (default: 5, 0: all).
HELP
    Print this help.
"""
LATENCY_HELP: Final = """
LATENCY <subcommand> [<arg> ...]. eventdb has no latency monitor. Subcommands are:
DOCTOR
    Says so.
GRAPH <event>
    An error: there are no samples.
HISTOGRAM [<command> ...]
    Nothing.
HISTORY <event>
    Nothing.
LATEST
    Nothing.
RESET [<event> ...]
    Resets nothing.
HELP
    Print this help.
"""

container("MEMORY", since="4.0.0", summary="Tells what memory is used for.")


def size_of(thing: object, samples: int, depth: int = DEPTH_MAX) -> float:
    """Bytes of an object and all it refers to; the elements of a large container are estimated from the first few."""
    total = float(sys.getsizeof(thing))
    if isinstance(thing, (bytes, bytearray, int, float, str, type)) or thing is None or depth == 0:
        return total
    if isinstance(thing, (dict, list, tuple, set, frozenset, deque)):
        count = len(thing)
        looked = min(count, samples) if samples else count
        inside = 0.0
        for element in islice(thing, looked):
            inside += size_of(element, samples, depth - 1)
            if isinstance(thing, dict):
                inside += size_of(thing[element], samples, depth - 1)
        return total + inside * count / looked if looked else total
    for part in gc.get_referents(thing):
        if not isinstance(part, type):
            total += size_of(part, samples, depth - 1)
    return total


@command(
    "MEMORY USAGE", arity=-3, flags="readonly", keys=(2, 2, 1), since="4.0.0", group="server",
    complexity="O(N), N samples", summary="Estimates the memory that a key takes.",
)  # fmt: skip
def memory_usage(client: Client, argv: list[bytes]) -> bytes:
    samples = SAMPLES
    i = 3
    while i < len(argv):
        if argv[i].upper() != b"SAMPLES" or i + 1 == len(argv):
            raise syntax_error()
        samples = parse_int(argv[i + 1])
        if samples < 0:
            raise syntax_error()
        i += 2
    value = client.lookup(argv[2])
    if value is None:
        return null(client.resp3)
    return integer(round(sys.getsizeof(argv[2]) + size_of(value, samples)))


@server_command(
    "MEMORY STATS", arity=2, flags="", since="4.0.0", group="server", tips=ALL_SHARDS,
    summary="Tells what the process holds, in numbers.",
)  # fmt: skip
def memory_stats(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    used, keys = resident_bytes(), engine.key_count()
    owed = sum([each.owed + each.queue_bytes for each in engine.clients.values()])
    items = [
        bulk(b"peak.allocated"), integer(max(peak_bytes(), used)),
        bulk(b"total.allocated"), integer(used),
        bulk(b"clients.normal"), integer(owed),
        bulk(b"aof.buffer"), integer(engine.commit.pending_size),
        bulk(b"keys.count"), integer(keys),
        bulk(b"keys.bytes-per-key"), integer(used // keys if keys else 0),
    ]  # fmt: skip
    return mapping(items, client.resp3)


@server_command(
    "MEMORY DOCTOR", arity=2, flags="", since="4.0.0", group="server", tips=ALL_SHARDS,
    summary="Tells what the process holds, in words.",
)  # fmt: skip
def memory_doctor(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    used, peak = resident_bytes(), peak_bytes()
    text = (
        f"The process holds {human(used)} of memory ({human(max(peak, used))} at most so far) with"
        f" {engine.key_count()} keys. eventdb never evicts: when memory runs short, delete keys or add memory.\n"
    )
    return verbatim(text.encode(), client.resp3)


@command("MEMORY HELP", arity=2, flags="loading stale", since="4.0.0", group="server", summary="Explains MEMORY.")
def memory_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(MEMORY_HELP)


container("LATENCY", since="2.8.13", summary="Tells that latencies are not monitored.")


@command(
    "LATENCY LATEST", arity=2, flags=ADMIN, since="2.8.13", group="server", tips=ALL_NODES,
    summary="Tells nothing: there is no latency monitor.",
)  # fmt: skip
def latency_latest(client: Client, argv: list[bytes]) -> bytes:
    return EMPTY_ARRAY


@command(
    "LATENCY HISTORY", arity=3, flags=ADMIN, since="2.8.13", group="server", tips=ALL_NODES,
    summary="Tells nothing: there is no latency monitor.",
)  # fmt: skip
def latency_history(client: Client, argv: list[bytes]) -> bytes:
    return EMPTY_ARRAY


@command(
    "LATENCY RESET", arity=-2, flags=ADMIN, since="2.8.13", group="server",
    tips="request_policy:all_nodes response_policy:all_succeeded", summary="Resets nothing.",
)  # fmt: skip
def latency_reset(client: Client, argv: list[bytes]) -> bytes:
    return ZERO


@command(
    "LATENCY HISTOGRAM", arity=-2, flags=ADMIN, since="7.0.0", group="server", tips=ALL_NODES,
    summary="Tells nothing: there are no latency histograms.",
)  # fmt: skip
def latency_histogram(client: Client, argv: list[bytes]) -> bytes:
    return mapping([], client.resp3)


@command(
    "LATENCY GRAPH", arity=3, flags=ADMIN, since="2.8.13", group="server", tips=ALL_NODES,
    summary="Refused: there are no samples.",
)  # fmt: skip
def latency_graph(client: Client, argv: list[bytes]) -> bytes:
    raise ReplyError(f"ERR No samples available for event '{argv[2].decode('utf-8', 'surrogateescape')}'")


@command(
    "LATENCY DOCTOR", arity=2, flags=ADMIN, since="2.8.13", group="server", tips=ALL_NODES,
    summary="Tells that there is no latency monitor.",
)  # fmt: skip
def latency_doctor(client: Client, argv: list[bytes]) -> bytes:
    return verbatim(NO_MONITOR, client.resp3)


@command("LATENCY HELP", arity=2, flags="loading stale", since="2.8.13", group="server", summary="Explains LATENCY.")
def latency_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(LATENCY_HELP)
