"""MEMORY: what can be said of a Python process. Source: redis src/object.c, src/commands/memory-*.json."""

from __future__ import annotations

import gc
import platform
import sys
from typing import Final

from eventdb.commands.shared.info_counters import MemoryFacts, cached_sources, human
from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.registry import command, container, server_command
from eventdb.metrics.memory import give_back, malloc_facts, peak_bytes, resident_bytes, size_of
from eventdb.protocol.errors import syntax_error
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import OK, ZERO, bulk, double, integer, lines, mapping, null, verbatim

ALL_SHARDS: Final = "nondeterministic_output request_policy:all_shards response_policy:special"
SAMPLES: Final = 5
MEMORY_HELP: Final = """
MEMORY <subcommand> [<arg> ...]. Subcommands are:
DOCTOR
    What the process holds, in words.
MALLOC-STATS
    What Python's and the C library's allocators count.
PURGE
    Give memory that is kept for later back to the operating system.
STATS
    What the process holds, in numbers.
USAGE <key> [SAMPLES <count>]
    Estimate of the bytes that a key and its value take; of large values
    <count> elements are looked at (default: 5, 0: all).
HELP
    Print this help.
"""
container("MEMORY", since="4.0.0", summary="Shows what memory is used for.")


@command(
    "MEMORY USAGE", arity=-3, flags="readonly", keys=(2, 2, 1), since="4.0.0", group="server",
    complexity="O(N) where N is the number of samples.", summary="Estimates the memory that a key takes.",
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
    summary="Returns what the process holds, in numbers.",
)  # fmt: skip
def memory_stats(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    """The fields of Redis 7.0, as INFO memory has them; of what eventdb does not have (a backlog, functions) 0."""
    found, keys, resp3 = MemoryFacts(engine), engine.key_count(), client.resp3
    ratio = found.resident / found.used
    items: list[bytes] = []

    def add(name: str, value: bytes) -> None:
        items.extend([bulk(name.encode()), value])

    add("peak.allocated", integer(found.peak))
    add("total.allocated", integer(found.used))
    add("startup.allocated", integer(found.startup))
    for name in ("replication.backlog", "clients.slaves"):
        add(name, ZERO)
    add("clients.normal", integer(found.clients))
    add("cluster.links", ZERO)
    add("aof.buffer", integer(found.log_buffer))
    add("lua.caches", integer(cached_sources(engine)))
    add("functions.caches", integer(sum([len(code) for code in engine.store.keyspace.libraries.code.values()])))
    for db in engine.store.keyspace.dbs:
        if db.values:
            tables = [
                bulk(b"overhead.hashtable.main"), integer(sys.getsizeof(db.values)),
                bulk(b"overhead.hashtable.expires"), integer(sys.getsizeof(db.expires)),
                bulk(b"overhead.hashtable.slot-to-keys"), ZERO,
            ]  # fmt: skip
            add(f"db.{db.index}", mapping(tables, resp3))
    add("overhead.total", integer(found.overhead))
    add("keys.count", integer(keys))
    add("keys.bytes-per-key", integer((found.used - found.startup) // keys if keys else 0))
    add("dataset.bytes", integer(found.dataset))
    add("dataset.percentage", double(found.dataset_percent(), resp3))
    add("peak.percentage", double(found.peak_percent(), resp3))
    add("allocator.allocated", integer(found.used))
    for name in ("allocator.active", "allocator.resident"):
        add(name, integer(found.resident))
    add("allocator-fragmentation.ratio", double(ratio, resp3))
    add("allocator-fragmentation.bytes", integer(found.kept_back))
    for name in ("allocator-rss", "rss-overhead"):
        add(f"{name}.ratio", double(1.0, resp3))
        add(f"{name}.bytes", ZERO)
    add("fragmentation", double(ratio, resp3))
    add("fragmentation.bytes", integer(found.kept_back))
    return mapping(items, resp3)


@server_command(
    "MEMORY DOCTOR", arity=2, flags="", since="4.0.0", group="server", tips=ALL_SHARDS,
    summary="Describes what the process holds, in words.",
)  # fmt: skip
def memory_doctor(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    found, limit = MemoryFacts(engine), engine.config.memory_bytes_max
    bound = f"maxmemory is {human(limit)}" if limit else "maxmemory is not set"
    policy = engine.config.maxmemory_policy
    advice = f"keys are evicted at maxmemory ({policy})"
    if policy == "noeviction":
        advice = "nothing is evicted: when memory runs short, delete keys or add memory"
    text = (
        f"The process uses {human(found.used)} of memory ({human(found.peak)} at most so far) with"
        f" {engine.key_count()} keys; {human(found.kept_back)} more are kept for what comes next (MEMORY PURGE gives"
        f" back what it can). {bound}; {advice}.\n"
    )
    return verbatim(text.encode(), client.resp3)


@command(
    "MEMORY MALLOC-STATS", arity=2, flags="", since="4.0.0", group="server", tips=ALL_SHARDS,
    complexity="Depends on how much memory is allocated, could be slow",
    summary="Returns what the allocators count.",
)  # fmt: skip
def memory_malloc_stats(client: Client, argv: list[bytes]) -> bytes:
    rows = [f"python {platform.python_version()}: {sys.getallocatedblocks()} small blocks allocated"]
    rows += [f"glibc {name}: {value}" for name, value in malloc_facts().items()]
    rows += [f"process resident: {resident_bytes()}", f"process peak: {peak_bytes()}"]
    rows += [f"garbage collector, generation {i}: {count} objects since" for i, count in enumerate(gc.get_count())]
    return verbatim(("\n".join(rows) + "\n").encode(), client.resp3)


@command(
    "MEMORY PURGE", arity=2, flags="", since="4.0.0", group="server",
    tips="request_policy:all_shards response_policy:all_succeeded",
    complexity="Depends on how much memory is allocated, could be slow",
    summary="Gives memory that is kept for later back to the operating system.",
)  # fmt: skip
def memory_purge(client: Client, argv: list[bytes]) -> bytes:
    give_back()
    return OK


@command("MEMORY HELP", arity=2, flags="loading stale", since="4.0.0", group="server", summary="Explains MEMORY.")
def memory_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(MEMORY_HELP)
