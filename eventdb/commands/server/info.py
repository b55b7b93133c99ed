"""INFO: the node in numbers. Source: redis src/server.c genRedisInfoString, src/commands/info.json.

Every number is measured; what eventdb does not have or does not count is left out. INFO never waits for the log, so
that it answers while no majority of zones does: its key counts are those in memory.
"""

from __future__ import annotations

import os
import platform
import resource
import secrets
import sys
import time
from itertools import islice
from typing import Final

from eventdb.commands.cluster.replication import replication_lines
from eventdb.commands.cluster.sentinel import sentinel_lines
from eventdb.engine.client import LOADING, Client
from eventdb.engine.command import Command
from eventdb.engine.engine import Engine
from eventdb.engine.registry import COMMANDS, server_command
from eventdb.engine.settings import REDIS_VERSION
from eventdb.protocol.replies import verbatim

RUN_ID: Final = secrets.token_hex(20)
TTL_SAMPLES: Final = 100
PAGE_BYTES: Final = resource.getpagesize()

SECTIONS: Final = (
    "server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules", "commandstats",
    "errorstats", "latencystats", "cluster", "keyspace", "eventdb", "sentinel",
)  # fmt: skip
NOT_BY_DEFAULT: Final = ("commandstats", "latencystats")
ONLY_WHEN_NAMED: Final = "sentinel"  # a Redis server has none

Lines = list[tuple[str, object]]


@server_command(
    "INFO", arity=-1, flags="loading stale", acl="dangerous", group="server",
    tips="nondeterministic_output request_policy:all_shards response_policy:special",
    summary="Tells how the node does, in sections.",
)  # fmt: skip
def info(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return verbatim(report(engine, argv[1:]).encode(), client.resp3)


def report(engine: Engine, asked: list[bytes]) -> str:
    """The text of INFO for these sections; none means the usual ones."""
    wanted: set[str] = set()
    for word in [arg.lower().decode("utf-8", "replace") for arg in asked] or ["default"]:
        if word in ("all", "everything"):
            wanted.update([name for name in SECTIONS if name != ONLY_WHEN_NAMED])
        elif word == "default":
            wanted.update([name for name in SECTIONS if name not in NOT_BY_DEFAULT and name != ONLY_WHEN_NAMED])
        else:
            wanted.add(word)
    facts = engine.host.facts()
    parts: list[str] = []
    for name in SECTIONS:
        if name in wanted:
            title = "CPU" if name == "cpu" else name.capitalize()
            body = "".join([f"{key}:{value}\r\n" for key, value in section(engine, name, facts)])
            parts.append(f"# {title}\r\n{body}")
    return "\r\n".join(parts)


def section(engine: Engine, name: str, facts: dict[str, str]) -> Lines:
    if name == "server":
        return _server(engine)
    if name == "clients":
        return _clients(engine)
    if name == "memory":
        return _memory(engine)
    if name == "persistence":
        return _persistence(engine, facts)
    if name == "stats":
        return _stats(engine)
    if name == "replication":
        return replication_lines(engine)
    if name == "cpu":
        return _cpu()
    if name == "commandstats":
        return _commandstats()
    if name == "errorstats":
        errors = engine.statistics.errors
        return [(f"errorstat_{code}", f"count={errors[code]}") for code in sorted(errors)]
    if name == "cluster":
        return [("cluster_enabled", 1 if engine.config.cluster_enabled == "yes" else 0)]
    if name == "keyspace":
        return _keyspace(engine)
    if name == "sentinel":
        return sentinel_lines(engine)
    if name == "eventdb":
        return _eventdb(engine, facts)
    return []  # modules, latencystats: there are none


def is_compiled() -> bool:
    """The hot modules run as compiled by mypyc."""
    return not str(sys.modules["eventdb.engine.engine"].__file__).endswith(".py")


def _version() -> str:
    return str(getattr(sys.modules["eventdb"], "__version__", "?"))


def _server(engine: Engine) -> Lines:
    now = time.time()
    uptime = max(0, int(now) - engine.started_ms // 1000)
    return [
        ("redis_version", REDIS_VERSION),
        ("eventdb_version", _version()),
        ("eventdb_build", "compiled" if is_compiled() else "pure"),
        ("redis_mode", "cluster" if engine.config.cluster_enabled == "yes" else "standalone"),
        ("os", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("arch_bits", 64 if sys.maxsize > 2**32 else 32),
        ("python_version", platform.python_version()),
        ("process_id", os.getpid()),
        ("run_id", RUN_ID),
        ("tcp_port", engine.host.port()),
        ("server_time_usec", int(now * 1e6)),
        ("uptime_in_seconds", uptime),
        ("uptime_in_days", uptime // 86400),
        ("hz", 10),
        ("configured_hz", 10),
        ("executable", sys.executable),
        ("config_file", ""),
        ("io_threads_active", 0),
    ]


def _clients(engine: Engine) -> Lines:
    blocked = pubsub = 0
    for client in engine.clients.values():
        if client.blocked is not None or client.stalled is not None:
            blocked += 1
        if client.channels or client.patterns or client.shards:
            pubsub += 1
    return [
        ("connected_clients", len(engine.clients)),
        ("cluster_connections", 0),
        ("maxclients", engine.config.maxclients),
        ("blocked_clients", blocked),
        ("pubsub_clients", pubsub),
        ("tracking_clients", 0),
    ]


def resident_bytes() -> int:
    """What the process holds of the machine's memory now."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * PAGE_BYTES
    except OSError:
        return peak_bytes()


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def human(size: int) -> str:
    """1536 as 1.50K, as redis bytesToHuman prints it."""
    value = float(size)
    for unit in "BKMGT":
        if value < 1024 or unit == "T":
            return f"{size}B" if unit == "B" else f"{value:.2f}{unit}"
        value /= 1024
    return ""


def _memory(engine: Engine) -> Lines:
    used, system = resident_bytes(), os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES
    peak = max(peak_bytes(), used)
    owed = sum([client.owed + client.queue_bytes for client in engine.clients.values()])
    return [
        ("used_memory", used),  # of the whole process: Python's allocator does not tell them apart
        ("used_memory_human", human(used)),
        ("used_memory_rss", used),
        ("used_memory_rss_human", human(used)),
        ("used_memory_peak", peak),
        ("used_memory_peak_human", human(peak)),
        ("used_memory_peak_perc", f"{100 * used / peak:.2f}%"),
        ("total_system_memory", system),
        ("total_system_memory_human", human(system)),
        ("maxmemory", 0),
        ("maxmemory_human", "0B"),
        ("maxmemory_policy", "noeviction"),
        ("mem_clients_normal", owed),
        ("mem_aof_buffer", engine.commit.pending_size),
        ("mem_allocator", "python"),
    ]


def durable_until(engine: Engine) -> float:
    """The moment, in Unix seconds, up to which everything is durable: now, unless something is on its way."""
    now = time.time()
    pending = engine.commit.pending
    return now - (time.monotonic() - pending[0].opened) if pending else now


def _persistence(engine: Engine, facts: dict[str, str]) -> Lines:
    commit = engine.commit
    found: Lines = [
        ("loading", 1 if engine.gate & LOADING else 0),
        ("async_loading", 0),
        ("rdb_changes_since_last_save", commit.offset - commit.durable_offset),
        ("rdb_bgsave_in_progress", 0),
        ("rdb_last_save_time", int(durable_until(engine))),
        ("rdb_last_bgsave_status", "ok"),
        ("aof_enabled", 1),
        ("aof_rewrite_in_progress", 0),
        ("aof_rewrite_scheduled", 0),
        ("aof_last_bgrewrite_status", "ok"),
        ("aof_last_write_status", "err" if commit.stopped else "ok"),
    ]
    if "load_seconds" in facts:
        found.append(("load_seconds", facts["load_seconds"]))
    return found


def _stats(engine: Engine) -> Lines:
    statistics, pubsub = engine.statistics, engine.pubsub
    return [
        ("total_connections_received", engine.connections_received),
        ("total_commands_processed", engine.commands_run),
        ("instantaneous_ops_per_sec", round(statistics.commands_rate.now())),
        ("total_net_input_bytes", engine.bytes_in),
        ("total_net_output_bytes", engine.turn.bytes_out),
        ("instantaneous_input_kbps", f"{statistics.in_rate.now() / 1024:.2f}"),
        ("instantaneous_output_kbps", f"{statistics.out_rate.now() / 1024:.2f}"),
        ("rejected_connections", statistics.connections_rejected),
        ("sync_full", 0),
        ("sync_partial_ok", 0),
        ("sync_partial_err", 0),
        ("expired_keys", engine.store.expired_keys),
        ("evicted_keys", 0),
        ("evicted_clients", 0),
        ("keyspace_hits", engine.store.hits),
        ("keyspace_misses", engine.store.misses),
        ("pubsub_channels", len(pubsub.channels)),
        ("pubsub_patterns", len(pubsub.patterns)),
        ("pubsubshard_channels", len(pubsub.shards)),
        ("latest_fork_usec", 0),
        ("total_forks", 0),
        ("total_error_replies", statistics.errors_sent),
    ]


def _cpu() -> Lines:
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    found: Lines = [
        ("used_cpu_sys", f"{own.ru_stime:.6f}"),
        ("used_cpu_user", f"{own.ru_utime:.6f}"),
        ("used_cpu_sys_children", f"{children.ru_stime:.6f}"),
        ("used_cpu_user_children", f"{children.ru_utime:.6f}"),
    ]
    if sys.platform == "linux":
        thread = resource.getrusage(resource.RUSAGE_THREAD)
        found.append(("used_cpu_sys_main_thread", f"{thread.ru_stime:.6f}"))
        found.append(("used_cpu_user_main_thread", f"{thread.ru_utime:.6f}"))
    return found


def _commandstats() -> Lines:
    found: Lines = []
    for each in COMMANDS.values():
        for one in [each, *each.subcommands.values()]:
            if one.calls or one.rejected_calls or one.failed_calls:
                found.append((f"cmdstat_{one.name}", _counted(one)))
    return found


def _counted(one: Command) -> str:
    each = one.usec / one.calls if one.calls else 0.0
    return (
        f"calls={one.calls},usec={int(one.usec)},usec_per_call={each:.2f},rejected_calls={one.rejected_calls},"
        f"failed_calls={one.failed_calls}"
    )


def _keyspace(engine: Engine) -> Lines:
    found: Lines = []
    for db in engine.store.keyspace.dbs:
        if db.values:
            left = [max(0, at_ms - engine.store.now_ms) for at_ms in islice(db.expires.values(), TTL_SAMPLES)]
            average = sum(left) // len(left) if left else 0
            found.append((f"db{db.index}", f"keys={len(db.values)},expires={len(db.expires)},avg_ttl={average}"))
    return found


def _eventdb(engine: Engine, facts: dict[str, str]) -> Lines:
    """No name of another section: clients keep INFO as one flat mapping."""
    commit = engine.commit
    found: Lines = [("offset", commit.offset), ("durable_offset", commit.durable_offset)]
    for name, value in facts.items():
        if name not in ("offset", "durable_offset", "load_seconds"):
            found.append(("node_role" if name == "role" else name, value))
    return found
