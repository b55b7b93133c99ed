"""INFO's sections, and the text they make. Source: redis src/server.c genRedisInfoString.

The fields are those of Redis 7.0, in its sections; a test compares the lists. Every number is measured. A field of
something that eventdb does not have (forks, an AOF that is rewritten, a backlog, a cache of keys for tracking)
says what is true of it: none, 0, or -1 for "never". INFO never waits for the log, so that it answers while no majority
of zones does: its key counts are those in memory.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import resource
import secrets
import sys
import time
from itertools import islice
from typing import Final

from eventdb.commands.shared.info_counters import (
    Lines,
    commandstats_lines,
    latencystats_lines,
    memory_lines,
    persistence_lines,
    stats_lines,
)
from eventdb.commands.shared.roles import replication_lines
from eventdb.commands.shared.sentinels import sentinel_lines
from eventdb.engine.client import LEASELESS
from eventdb.engine.engine import Engine
from eventdb.engine.settings import REDIS_VERSION
from eventdb.pipeline.outbox import socket_facts

RUN_ID: Final = secrets.token_hex(20)
TTL_SAMPLES: Final = 100
SECTIONS: Final = (
    "server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules", "commandstats",
    "errorstats", "latencystats", "cluster", "keyspace", "eventdb", "sentinel",
)  # fmt: skip
NOT_BY_DEFAULT: Final = ("commandstats", "latencystats")
ONLY_WHEN_NAMED: Final = "sentinel"  # a Redis server has none


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
    fields = engine.host.info_fields()
    parts: list[str] = []
    for name in SECTIONS:
        if name in wanted:
            title = "CPU" if name == "cpu" else name.capitalize()
            body = "".join([f"{key}:{value}\r\n" for key, value in section(engine, name, fields)])
            parts.append(f"# {title}\r\n{body}")
    return "\r\n".join(parts)


def section(engine: Engine, name: str, fields: dict[str, str]) -> Lines:
    if name == "server":
        return _server(engine)
    if name == "clients":
        return _clients(engine)
    if name == "memory":
        return memory_lines(engine)
    if name == "persistence":
        return persistence_lines(engine, fields)
    if name == "stats":
        return stats_lines(engine)
    if name == "replication":
        return replication_lines(engine)
    if name == "cpu":
        return _cpu()
    if name == "commandstats":
        return commandstats_lines()
    if name == "latencystats":
        return latencystats_lines(engine)
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
        return _eventdb(engine, fields)
    return []  # modules: there are none


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
        ("redis_git_sha1", "00000000"),
        ("redis_git_dirty", 0),
        ("redis_build_id", _build_id()),
        ("eventdb_version", _version()),
        ("eventdb_build", "compiled" if is_compiled() else "pure"),
        ("redis_mode", "cluster" if engine.config.cluster_enabled == "yes" else "standalone"),
        ("os", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("arch_bits", 64 if sys.maxsize > 2**32 else 32),
        ("monotonic_clock", "POSIX clock_gettime"),
        ("multiplexing_api", "epoll" if sys.platform == "linux" else "kqueue"),
        ("atomicvar_api", "none"),  # one thread runs all commands
        ("gcc_version", _compiler()),
        ("python_version", platform.python_version()),
        ("process_id", os.getpid()),
        ("process_supervised", "no"),
        ("run_id", RUN_ID),
        ("tcp_port", engine.host.port()),
        ("server_time_usec", int(now * 1e6)),
        ("uptime_in_seconds", uptime),
        ("uptime_in_days", uptime // 86400),
        ("hz", 10),
        ("configured_hz", engine.config.get("hz")),
        ("lru_clock", int(now) & 0xFFFFFF),
        ("executable", sys.executable),
        ("config_file", engine.config.file),
        ("io_threads_active", 0),
    ]


def _build_id() -> str:
    """Names the program: its version, how it runs, and on what."""
    text = f"{_version()} {is_compiled()} {platform.python_version()} {platform.machine()}"
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:16]


def _compiler() -> str:
    """The version of the GCC that made the interpreter; 0.0.0 for another compiler, as Redis has it."""
    words = platform.python_compiler().split()
    return words[1] if len(words) > 1 and words[0] == "GCC" else "0.0.0"


def _clients(engine: Engine) -> Lines:
    blocked = pubsub = timed = most_in = most_out = 0
    for client in engine.clients.values():
        socket = socket_facts(client.sink)
        most_in = max(most_in, socket.unparsed + socket.waiting)
        most_out = max(most_out, socket.unsent + client.owed)
        if client.blocked is not None and client.blocked.timeout_ms:
            timed += 1
        if client.blocked is not None or client.stalled is not None:
            blocked += 1
        if client.channels or client.patterns or client.shards:
            pubsub += 1
    return [
        ("connected_clients", len(engine.clients)),
        ("cluster_connections", 0),
        ("maxclients", engine.config.maxclients),
        ("client_recent_max_input_buffer", most_in),
        ("client_recent_max_output_buffer", most_out),
        ("blocked_clients", blocked),
        ("pubsub_clients", pubsub),
        ("tracking_clients", len(engine.news.tracking.trackers)),
        ("clients_in_timeout_table", timed),
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


def _keyspace(engine: Engine) -> Lines:
    found: Lines = []
    for db in engine.store.keyspace.dbs:
        if db.values:
            left = [max(0, at_ms - engine.store.now_ms) for at_ms in islice(db.expires.values(), TTL_SAMPLES)]
            average = sum(left) // len(left) if left else 0
            text = f"keys={len(db.values)},expires={len(db.expires)},avg_ttl={average}"
            if db.timed:  # since Redis 7.4: hashes with deadlines of fields
                text += f",subexpiry={len(db.timed)}"
            found.append((f"db{db.index}", text))
    return found


def _eventdb(engine: Engine, fields: dict[str, str]) -> Lines:
    """No name of another section: clients keep INFO as one flat mapping."""
    commit = engine.commit
    found: Lines = [("offset", commit.offset), ("durable_offset", commit.durable_offset)]
    for name, value in fields.items():
        if name not in ("offset", "durable_offset", "load_seconds"):
            found.append(("node_role" if name == "role" else name, value))
    saves = engine.host.saves()
    if saves.configured:
        found.append(("snapshot_time", saves.last_time))
    if engine.lease_until != math.inf:  # of a primary
        left_s = 0.0 if engine.gate & LEASELESS else max(0.0, engine.lease_until - engine.clock)
        found.append(("lease_left_ms", int(left_s * 1000)))
    return found
