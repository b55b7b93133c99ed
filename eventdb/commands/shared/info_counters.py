"""INFO's sections of memory, persistence, statistics, commands and latencies.

Source: redis src/server.c genRedisInfoString.
"""

from __future__ import annotations

import os
import time
from itertools import islice
from typing import Final

from eventdb.commands.shared.durability import durable_until
from eventdb.engine.client import LOADING, Client
from eventdb.engine.command import Command
from eventdb.engine.engine import Engine
from eventdb.engine.registry import COMMANDS
from eventdb.metrics.memory import PAGE_BYTES, peak_bytes, resident_bytes, used_bytes
from eventdb.pipeline.outbox import socket_facts
from eventdb.scripting.lua import Lua
from eventdb.security.acl import DENIED_AUTH, DENIED_CHANNEL, DENIED_COMMAND, DENIED_KEY

STALE_SAMPLES: Final = 100  # keys with a deadline, of each database

Lines = list[tuple[str, object]]


def human(size: int) -> str:
    """1536 as 1.50K, as redis bytesToHuman prints it."""
    value = float(size)
    for unit in "BKMGT":
        if value < 1024 or unit == "T":
            return f"{size}B" if unit == "B" else f"{value:.2f}{unit}"
        value /= 1024
    return ""


def client_bytes(client: Client) -> int:
    """What the server keeps for a client: what it is owed, what it has queued or sent and what is not run yet."""
    socket = socket_facts(client.sink)
    return client.owed + client.queue_bytes + socket.unparsed + socket.waiting + socket.unsent


class MemoryFacts:
    """One look at the process's memory, from which INFO memory and MEMORY STATS are told."""

    def __init__(self, engine: Engine) -> None:
        self.resident = resident_bytes()
        self.used = used_bytes()
        self.peak = max(peak_bytes(), self.resident)
        self.startup = min(engine.memory_at_start, self.used)
        self.clients = sum([client_bytes(client) for client in engine.clients.values()])
        self.log_buffer = engine.commit.pending_size
        self.overhead = min(self.used, self.startup + self.clients + self.log_buffer)
        self.dataset = self.used - self.overhead
        self.kept_back = max(0, self.resident - self.used)  # by the C library, for what comes next

    def dataset_percent(self) -> float:
        grown = self.used - self.startup
        return 100 * self.dataset / grown if grown else 0.0

    def peak_percent(self) -> float:
        return 100 * self.used / self.peak


def memory_lines(engine: Engine) -> Lines:
    found, system = MemoryFacts(engine), os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES
    limit = engine.config.memory_bytes_max
    ratio = f"{found.resident / found.used:.2f}"
    return [
        ("used_memory", found.used),  # of the whole process: Python's allocator does not tell them apart
        ("used_memory_human", human(found.used)),
        ("used_memory_rss", found.resident),
        ("used_memory_rss_human", human(found.resident)),
        ("used_memory_peak", found.peak),
        ("used_memory_peak_human", human(found.peak)),
        ("used_memory_peak_perc", f"{found.peak_percent():.2f}%"),
        ("used_memory_overhead", found.overhead),
        ("used_memory_startup", found.startup),
        ("used_memory_dataset", found.dataset),
        ("used_memory_dataset_perc", f"{found.dataset_percent():.2f}%"),
        ("allocator_allocated", found.used),
        ("allocator_active", found.resident),
        ("allocator_resident", found.resident),
        ("total_system_memory", system),
        ("total_system_memory_human", human(system)),
        *_script_memory(engine),
        ("maxmemory", limit),
        ("maxmemory_human", human(limit)),
        ("maxmemory_policy", engine.config.maxmemory_policy),
        ("allocator_frag_ratio", ratio),
        ("allocator_frag_bytes", found.kept_back),
        ("allocator_rss_ratio", "1.00"),
        ("allocator_rss_bytes", 0),
        ("rss_overhead_ratio", "1.00"),
        ("rss_overhead_bytes", 0),
        ("mem_fragmentation_ratio", ratio),
        ("mem_fragmentation_bytes", found.kept_back),
        ("mem_not_counted_for_evict", 0),
        ("mem_replication_backlog", 0),
        ("mem_total_replication_buffers", 0),
        ("mem_clients_slaves", 0),
        ("mem_clients_normal", found.clients),
        ("mem_cluster_links", 0),
        ("mem_aof_buffer", found.log_buffer),
        ("mem_allocator", "python"),
        ("active_defrag_running", 0),
        ("lazyfree_pending_objects", 0),
        ("lazyfreed_objects", 0),
    ]


def cached_sources(engine: Engine) -> int:
    """Bytes of the scripts that EVALSHA finds."""
    interpreter = engine.interpreter
    if not isinstance(interpreter, Lua):
        return 0
    return sum([len(script.source) for script in interpreter.scripts.values()])


def _script_memory(engine: Engine) -> Lines:
    """The interpreter is there once a script came; functions have the same one, and count once it has compiled them."""
    interpreter = engine.interpreter
    machine = count = 0
    sources = cached_sources(engine)
    code = engine.store.keyspace.libraries.code
    kept = sum([len(source) for source in code.values()])
    functions = 0
    if isinstance(interpreter, Lua):
        machine, count = interpreter.memory_bytes(), len(interpreter.scripts)
        functions = interpreter.functions.counts()[1] if code else 0
    return [
        ("used_memory_lua", machine),
        ("used_memory_vm_eval", machine),
        ("used_memory_lua_human", human(machine)),
        ("used_memory_scripts_eval", sources),
        ("number_of_cached_scripts", count),
        ("number_of_functions", functions),
        ("number_of_libraries", len(code)),
        ("used_memory_vm_functions", 0),
        ("used_memory_vm_total", machine),
        ("used_memory_vm_total_human", human(machine)),
        ("used_memory_functions", kept),
        ("used_memory_scripts", sources + kept),
        ("used_memory_scripts_human", human(sources + kept)),
    ]


def persistence_lines(engine: Engine, fields: dict[str, str]) -> Lines:
    commit, saves = engine.commit, engine.host.saves()
    kept = saves.configured
    loading = engine.gate & LOADING != 0
    found: Lines = [
        ("loading", 1 if loading else 0),
        ("async_loading", 0),
        ("current_cow_peak", 0),
        ("current_cow_size", 0),
        ("current_cow_size_age", 0),
        ("current_fork_perc", "0.00"),
        ("current_save_keys_processed", 0),
        ("current_save_keys_total", 0),
        ("rdb_changes_since_last_save", commit.offset - (saves.last_offset if kept else commit.durable_offset)),
        ("rdb_bgsave_in_progress", int(saves.in_progress)),
        ("rdb_last_save_time", saves.last_time if kept else int(durable_until(engine))),
        ("rdb_last_bgsave_status", "err" if saves.last_failure else "ok"),
        ("rdb_last_bgsave_time_sec", saves.last_seconds),
        ("rdb_current_bgsave_time_sec", int(time.monotonic() - saves.began) if saves.in_progress else -1),
        ("rdb_saves", saves.count),
        ("rdb_last_cow_size", 0),
        ("rdb_last_load_keys_expired", 0),
        ("rdb_last_load_keys_loaded", 0),
        ("aof_enabled", 1),
        ("aof_rewrite_in_progress", 0),
        ("aof_rewrite_scheduled", 0),
        ("aof_last_rewrite_time_sec", -1),
        ("aof_current_rewrite_time_sec", -1),
        ("aof_last_bgrewrite_status", "ok"),
        ("aof_rewrites", 0),
        ("aof_rewrites_consecutive_failures", 0),
        ("aof_last_write_status", "err" if commit.stopped else "ok"),
        ("aof_last_cow_size", 0),
        ("module_fork_in_progress", 0),
        ("module_fork_last_cow_size", 0),
        ("aof_buffer_length", commit.pending_size),
        ("aof_pending_bio_fsync", len(commit.pending)),
        ("aof_delayed_fsync", 0),
    ]
    if loading:
        found.append(("loading_start_time", engine.started_ms // 1000))
    if "load_seconds" in fields:
        found.append(("load_seconds", fields["load_seconds"]))
    return found


def stale_percent(engine: Engine) -> float:
    """The share of keys with a deadline that are past it and not yet deleted, of a few in each database."""
    looked = stale = 0
    for db in engine.store.keyspace.dbs:
        for at_ms in islice(db.expires.values(), STALE_SAMPLES):
            looked += 1
            stale += at_ms <= engine.store.now_ms
    return 100 * stale / looked if looked else 0.0


def stats_lines(engine: Engine) -> Lines:
    statistics, pubsub, tracking = engine.statistics, engine.pubsub, engine.news.tracking
    refused = engine.permissions.refused
    return [
        ("total_connections_received", engine.connections_received),
        ("total_commands_processed", engine.commands_run),
        ("instantaneous_ops_per_sec", round(statistics.commands_rate.now())),
        ("total_net_input_bytes", engine.bytes_in),
        ("total_net_output_bytes", engine.turn.bytes_out),
        ("total_net_repl_input_bytes", 0),  # replicas read the log, nothing is sent to them
        ("total_net_repl_output_bytes", 0),
        ("instantaneous_input_kbps", f"{statistics.in_rate.now() / 1024:.2f}"),
        ("instantaneous_output_kbps", f"{statistics.out_rate.now() / 1024:.2f}"),
        ("instantaneous_input_repl_kbps", "0.00"),
        ("instantaneous_output_repl_kbps", "0.00"),
        ("rejected_connections", statistics.connections_rejected),
        ("sync_full", 0),
        ("sync_partial_ok", 0),
        ("sync_partial_err", 0),
        ("expired_keys", engine.store.expired_keys),
        ("expired_subkeys", engine.store.expired_elements),
        ("expired_stale_perc", f"{stale_percent(engine):.2f}"),
        ("expired_time_cap_reached_count", statistics.expire_caps),
        ("expire_cycle_cpu_milliseconds", int(statistics.expire_seconds * 1000)),
        ("evicted_keys", engine.eviction.evicted),
        ("evicted_clients", 0),
        ("total_eviction_exceeded_time", int((engine.eviction.exceeded_s + engine.eviction.exceeded_now()) * 1000)),
        ("current_eviction_exceeded_time", int(engine.eviction.exceeded_now() * 1000)),
        ("keyspace_hits", engine.store.hits),
        ("keyspace_misses", engine.store.misses),
        ("pubsub_channels", len(pubsub.channels)),
        ("pubsub_patterns", len(pubsub.patterns)),
        ("pubsubshard_channels", len(pubsub.shards)),
        ("latest_fork_usec", 0),
        ("total_forks", 0),
        ("migrate_cached_sockets", 0),
        ("slave_expires_tracked_keys", 0),
        ("active_defrag_hits", 0),
        ("active_defrag_misses", 0),
        ("active_defrag_key_hits", 0),
        ("active_defrag_key_misses", 0),
        ("total_active_defrag_time", 0),
        ("current_active_defrag_time", 0),
        ("tracking_total_keys", len(tracking.holders)),
        ("tracking_total_items", tracking.items),
        ("tracking_total_prefixes", len(tracking.prefixes)),
        ("unexpected_error_replies", 0),
        ("total_error_replies", statistics.errors_sent),
        ("dump_payload_sanitizations", 0),
        ("total_reads_processed", engine.reads),
        ("total_writes_processed", engine.turn.writes),
        ("io_threaded_reads_processed", 0),
        ("io_threaded_writes_processed", 0),
        ("reply_buffer_shrinks", 0),
        ("reply_buffer_expands", 0),
        ("acl_access_denied_auth", refused[DENIED_AUTH]),  # these four since Redis 7.2
        ("acl_access_denied_cmd", refused[DENIED_COMMAND]),
        ("acl_access_denied_key", refused[DENIED_KEY]),
        ("acl_access_denied_channel", refused[DENIED_CHANNEL]),
    ]


def commandstats_lines() -> Lines:
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


def latencystats_lines(engine: Engine) -> Lines:
    """Percentiles of each command, while latency-tracking is on."""
    wanted = [(word, float(word)) for word in engine.config.latency_percentiles.split()]
    found: Lines = []
    for name, histogram in engine.accounting.latencies.histograms.items():
        shares = ",".join([f"p{word}={histogram.percentile(percent):.3f}" for word, percent in wanted])
        found.append((f"latency_percentiles_usec_{name}", shares))
    return found
