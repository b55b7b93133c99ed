"""What `/metrics` shows: one look at the counters of a node, as families of metrics/exposition.py.

Names follow Prometheus's conventions: base units, `_total` for what only grows. A counter may begin anew (CONFIG
RESETSTAT, a new tenure); `rate()` expects that. No name, key, argument, address of a client or password is a label.
docs/monitoring.md pairs these names with those of MemoryDB and ElastiCache.
"""

from __future__ import annotations

import math
import os
import platform
import resource
import sys
import time
from itertools import islice
from typing import Final

from eventdb.commands.shared.info_sections import TTL_SAMPLES, is_compiled
from eventdb.engine.client import LEASELESS, LOADING
from eventdb.engine.command import READONLY, WRITE, Command
from eventdb.engine.engine import Engine
from eventdb.engine.registry import COMMANDS
from eventdb.engine.settings import REDIS_VERSION
from eventdb.metrics.exposition import Family
from eventdb.metrics.latency import Latencies
from eventdb.metrics.memory import PAGE_BYTES, machine_facts, peak_bytes, resident_bytes, used_bytes
from eventdb.metrics.statistics import Peak
from eventdb.node.node import Node
from eventdb.node.role import Role
from eventdb.node.saving import SELDOM_S
from eventdb.security.acl import DENIED_AUTH, DENIED_CHANNEL, DENIED_COMMAND, DENIED_KEY

ZONE_STATES: Final = ("up", "catching-up", "down")
DENIED: Final = ((DENIED_COMMAND, "command"), (DENIED_KEY, "key"), (DENIED_CHANNEL, "channel"))


def families(node: Node, zones: list[tuple[str, str, str]], peak: Peak | None = None) -> list[Family]:
    """Everything; zones: (name, state, detail) of each, none while it is not known. peak: of the log's bytes."""
    engine = node.engine
    return [
        *_about(node),
        *_process(engine),
        *_clients(engine),
        *_commands(),
        *_latencies(engine.accounting.latencies),
        *_keys(engine),
        *_refusals(engine),
        *_role(node),
        *_followers(node),
        *_durability(node),
        *_log(node, zones),
        *_zone_times(node),
        *_throughput(peak),
        *_snapshots(node),
    ]


def gauge(name: str, help: str, *labels: str) -> Family:
    return Family("gauge", f"eventdb_{name}", help, labels)


def counter(name: str, help: str, *labels: str) -> Family:
    return Family("counter", f"eventdb_{name}_total", help, labels)


def histogram(name: str, help: str, *labels: str) -> Family:
    return Family("histogram", f"eventdb_{name}", help, labels)


def _about(node: Node) -> list[Family]:
    from eventdb import __version__

    build = gauge("build_info", "The program: always 1.", "version", "build", "python", "redis_version")
    build.add(1, __version__, "compiled" if is_compiled() else "pure", platform.python_version(), REDIS_VERSION)
    return [
        build,
        gauge("node_info", "The node: always 1.", "node").add(1, node.name),
        gauge("start_time_seconds", "When the server was started, in Unix seconds.").add(node.engine.started_ms / 1000),
    ]


def _process(engine: Engine) -> list[Family]:
    own = resource.getrusage(resource.RUSAGE_SELF)
    whole = counter("cpu_seconds", "CPU time of the process.", "mode").add(own.ru_utime, "user")
    whole.add(own.ru_stime, "system")
    found = [whole]
    if sys.platform == "linux":
        thread = resource.getrusage(resource.RUSAGE_THREAD)  # a scrape is answered in the thread that runs commands
        loop = counter("engine_cpu_seconds", "CPU time of the thread that runs commands.", "mode")
        found.append(loop.add(thread.ru_utime, "user").add(thread.ru_stime, "system"))
    resident = resident_bytes()
    memory = gauge("memory_bytes", "Memory of the process: used, resident (with what is free in it), its peak.", "what")
    memory.add(used_bytes(), "used").add(resident, "resident").add(max(peak_bytes(), resident), "peak")
    turn = engine.turn
    return [
        *found,
        memory,
        gauge("memory_limit_bytes", "maxmemory; 0: no limit.").add(engine.config.memory_bytes_max),
        gauge("system_memory_bytes", "Memory of the machine.").add(_system_bytes()),
        *_machine(),
        counter("network_receive_bytes", "Bytes that clients have sent.").add(engine.bytes_in),
        counter("network_transmit_bytes", "Bytes that clients were sent.").add(turn.bytes_out),
        counter("network_reads", "Reads from sockets of clients.").add(engine.reads),
        counter("network_writes", "Writes to sockets of clients.").add(turn.writes),
    ]


def _system_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES


def _machine() -> list[Family]:
    """As CloudWatch has it of a host."""
    facts = machine_facts()
    free = gauge("system_memory_available_bytes", "Memory of the machine that programs can still have.")
    swap = gauge("system_swap_used_bytes", "Memory of the machine that is swapped out.")
    if "MemAvailable" in facts:
        free.add(facts["MemAvailable"])
        swap.add(facts.get("SwapTotal", 0) - facts.get("SwapFree", 0))
    return [free, swap]


def _clients(engine: Engine) -> list[Family]:
    rejected = counter("connections_rejected", "Connections refused because of maxclients.")
    return [
        gauge("connections", "Clients that are connected.").add(len(engine.clients)),
        gauge("connections_limit", "maxclients.").add(engine.config.maxclients),
        counter("connections_accepted", "Connections accepted.").add(engine.connections_received),
        rejected.add(engine.statistics.connections_rejected),
        gauge("pubsub_channels", "Channels with subscribers.").add(len(engine.pubsub.channels)),
        gauge("pubsub_patterns", "Patterns with subscribers.").add(len(engine.pubsub.patterns)),
        gauge("tracked_keys", "Keys noted for clients that cache.").add(len(engine.news.tracking.holders)),
        gauge("tracked_keys_limit", "tracking-table-max-keys; 0: no limit.").add(_tracked_max(engine)),
        counter("slow_commands", "Commands that SLOWLOG wrote down.").add(engine.accounting.slowlog.next_id),
    ]


def _tracked_max(engine: Engine) -> int:
    return int(engine.config.get("tracking-table-max-keys"))


def kind_of(command: Command) -> str:
    if command.bits & WRITE:
        return "write"
    return "read" if command.bits & READONLY else "other"


def _commands() -> list[Family]:
    """Of each command that was called; `group` is the family of commands, `kind` read, write or other."""
    labels = ("command", "group", "kind")
    calls = counter("commands", "Calls of a command that ran.", *labels)
    seconds = counter("commands_duration_seconds", "Time spent in a command; waiting for the log not counted.", *labels)
    failed = counter("commands_failed", "Calls that ran and answered with an error.", *labels)
    rejected = counter("commands_rejected", "Calls refused before they ran.", *labels)
    for each in COMMANDS.values():
        for one in [each, *each.subcommands.values()]:
            if one.calls or one.failed_calls or one.rejected_calls:
                values = (one.name, one.group, kind_of(one))
                calls.add(one.calls, *values)
                seconds.add(one.usec / 1e6, *values)
                failed.add(one.failed_calls, *values)
                rejected.add(one.rejected_calls, *values)
    return [calls, seconds, failed, rejected]


def _latencies(latencies: Latencies) -> list[Family]:
    about = "Time in a command, while latency-tracking is yes."
    spread = histogram("command_duration_seconds", about, "command", "kind")
    kinds = {one.name: kind_of(one) for each in COMMANDS.values() for one in [each, *each.subcommands.values()]}
    for name, found in latencies.histograms.items():
        buckets = [(f"{usec / 1e6:g}", float(count)) for usec, count in found.doubling()]
        spread.spreads.append(([name, kinds.get(name, "other")], [*buckets, ("+Inf", float(found.count))], None))
    return [spread]


def _keys(engine: Engine) -> list[Family]:
    store, statistics = engine.store, engine.statistics
    keys = gauge("keys", "Keys of a database.", "db")
    timed = gauge("keys_with_deadline", "Keys of a database that expire.", "db")
    average = gauge(
        "average_ttl_seconds", "Time that keys of a database have left, of a sample of those that expire.", "db"
    )
    for db in store.keyspace.dbs:
        if db.values or db.index == 0:
            left = [max(0, at_ms - store.now_ms) for at_ms in islice(db.expires.values(), TTL_SAMPLES)]
            average.add(sum(left) / len(left) / 1000 if left else 0, str(db.index))
            keys.add(len(db.values), str(db.index))
            timed.add(len(db.expires), str(db.index))
    cycle = counter("expire_cycle_seconds", "Time spent on deleting what has expired.")
    return [
        keys,
        timed,
        average,
        counter("keyspace_hits", "Look-ups that found their key.").add(store.hits),
        counter("keyspace_misses", "Look-ups that found none.").add(store.misses),
        counter("expired_keys", "Keys deleted because they expired.").add(store.expired_keys),
        counter("expired_fields", "Fields of hashes deleted because they expired.").add(store.expired_elements),
        counter("evicted_keys", "Keys evicted above maxmemory.").add(engine.eviction.evicted),
        cycle.add(statistics.expire_seconds),
    ]


def _refusals(engine: Engine) -> list[Family]:
    refused, errors = engine.permissions.refused, counter("errors", "Error replies by their first word.", "code")
    for code, count in sorted(engine.statistics.errors.items()):
        errors.add(count, code)
    denied = counter("authorization_failures", "Calls refused because the user may not make them.", "on")
    for reason, word in DENIED:
        denied.add(refused[reason], word)
    wrong = counter("authentication_failures", "Attempts to log in that were refused.")
    return [errors, wrong.add(refused[DENIED_AUTH]), denied]


def lease_left_s(node: Node) -> float:
    """Seconds for which this primary may still answer; 0: its lease has lapsed, or it holds none."""
    engine = node.engine
    if node.tenure is None or engine.gate & LEASELESS or engine.lease_until == math.inf:
        return 0.0
    return max(0.0, engine.lease_until - node.monotonic())


def _role(node: Node) -> list[Family]:
    engine, tenure = node.engine, node.tenure
    role = gauge("role", "1 for the role that this node has, 0 for the others.", "role")
    for each in Role:
        role.add(node.role is each, each.value)
    lease_s = (tenure.lease_ms if tenure is not None else node.standing.lease_ms) / 1000
    left_s = lease_left_s(node)
    return [
        role,
        gauge("loading", "1 while the state is being rebuilt.").add(engine.gate & LOADING != 0),
        gauge("epoch", "Number of claims of the log so far, as this node knows it.").add(engine.topology.epoch),
        gauge("primary_known", "1 while some node is known to hold the lease.").add(not engine.topology.is_down),
        gauge("lease_seconds", "How long the primary may be silent.").add(lease_s),
        gauge("lease_valid", "1 on a primary whose lease is valid; 0 elsewhere.").add(left_s > 0),
        gauge("lease_left_seconds", "What is left of the lease of this primary; 0 elsewhere.").add(left_s),
    ]


def _followers(node: Node) -> list[Family]:
    """What a replica knows of itself, and the primary of its replicas."""
    engine = node.engine
    topology, own = engine.topology, engine.commit.durable_offset
    lag = gauge("replication_lag_seconds", "How old the newest thing is that a replica has not applied.", "node")
    behind = gauge("replication_lag_transactions", "Transactions that a replica has not applied.", "node")
    count = gauge("replicas", "Replicas that the primary has heard of lately.")
    if topology.is_primary:
        count.add(len(topology.replicas))
        for member in topology.replicas:
            lag.add(member.lag_ms / 1000, member.name)
            behind.add(max(0, own - member.offset), member.name)
    elif node.role is Role.REPLICA:
        lag.add(topology.me.lag_ms / 1000, topology.me.name)
        primary = topology.last_primary
        behind.add(max(0, (primary.offset if primary is not None else own) - own), topology.me.name)
    read = counter("replayed_bytes", "Bytes of records that this node has read from the log and applied.")
    return [
        lag,
        behind,
        count,
        read.add(node.follower.body_bytes),
        counter("replayed_events", "Events that this node has applied from the log.").add(node.follower.events),
        gauge("load_seconds", "How long the last start took to rebuild the state.").add(node.load_seconds),
    ]


def _durability(node: Node) -> list[Family]:
    commit, times = node.engine.commit, node.appending.times
    oldest = gauge("pending_oldest_seconds", "Age of the oldest write that is not durable; 0: there is none.")
    oldest.add(max(0.0, time.monotonic() - commit.pending[0].opened) if commit.pending else 0)
    found = [
        gauge("offset", "The newest transaction.").add(commit.offset),
        gauge("durable_offset", "The newest durable transaction.").add(commit.durable_offset),
        gauge("durable_lag_transactions", "Transactions that are not durable.").add(
            commit.offset - commit.durable_offset
        ),
        gauge("pending_records", "Records that are not durable, the open one included.").add(len(commit.pending)),
        gauge("pending_bytes", "Bytes that are not durable.").add(commit.pending_size),
        oldest,
    ]
    if times is not None:
        size = histogram("batch_transactions", "Transactions in a record, of those that became durable.")
        append = histogram("commit_duration_seconds", "From sending a record to a majority of zones having it.")
        write = histogram("write_duration_seconds", "From the first write in a record to its being durable.")
        found += [
            size.spread(times.transactions),
            append.spread(times.append_seconds),
            write.spread(times.write_seconds),
        ]
    return found


def _log(node: Node, zones: list[tuple[str, str, str]]) -> list[Family]:
    state = gauge("zone_state", "1 for the state that a zone has, 0 for the others.", "zone", "state")
    up = gauge("zone_up", "1 for a zone that is up.", "zone")
    for name, found, _ in zones:
        up.add(found == "up", name)
        for each in ZONE_STATES:
            state.add(found == each, name, each)
    writer = node.writer
    if writer is None:
        return [up, state]
    stats = writer.stats
    return [
        up,
        state,
        counter("log_records", "Records written since the claim.").add(stats.records),
        counter("log_transactions", "Transactions written since the claim.").add(stats.transactions),
        counter("log_body_bytes", "Bytes written since the claim, before compression.").add(stats.body_bytes),
        counter("log_stored_bytes", "Bytes written since the claim, of one copy.").add(stats.stored_bytes),
        counter("log_syncs", "Durable writes since the claim, over all zones.").add(stats.syncs),
        counter("log_zone_errors", "Errors of zones since the claim.").add(stats.zone_errors),
    ]


def _zone_times(node: Node) -> list[Family]:
    writes = counter("zone_writes", "Durable writes of a zone since the claim, synced.", "zone")
    spent = counter(
        "zone_write_seconds", "Time spent in them: what one takes is this over eventdb_zone_writes_total.", "zone"
    )
    if node.writer is not None:
        for name, count, took in node.writer.zone_times():
            writes.add(count, name)
            spent.add(took, name)
    return [writes, spent]


def _throughput(peak: Peak | None) -> list[Family]:
    about = "The fastest tenth of a second of writing to the log, of the last one to two minutes."
    found = gauge("log_peak_bytes_per_second", about)
    return [found.add(peak.value()) if peak is not None else found]


def _snapshots(node: Node) -> list[Family]:
    """Of the store of snapshots, as it was at most a minute ago; nothing where none is configured."""
    saves = node.saving.saves(SELDOM_S)
    verified = gauge("snapshot_verified_time_seconds", "When the newest snapshot was proven, in Unix seconds; 0: none.")
    age = gauge("snapshot_age_seconds", "How long ago the newest snapshot was proven.")
    behind = gauge("snapshot_lag_transactions", "Transactions that came after the newest snapshot.")
    making = gauge("snapshot_in_progress", "1 while this node makes a snapshot.")
    failed = gauge("snapshot_failed", "1 if the last snapshot that this node was asked for was not made.")
    made = counter("snapshots_made", "Snapshots that this node was asked for and made.")
    window = gauge("recovery_window_seconds", "How far back any moment can be restored; +Inf: to the beginning.")
    if saves.configured:
        now = time.time()
        verified.add(saves.last_time)
        if saves.last_time:
            age.add(max(0.0, now - saves.last_time))
        behind.add(max(0, node.engine.commit.durable_offset - saves.last_offset))
        making.add(saves.in_progress)
        failed.add(saves.last_failure != "")
        made.add(saves.count)
        if saves.restorable_from >= 0:
            window.add(max(0.0, now - saves.restorable_from) if saves.restorable_from else math.inf)
    return [verified, age, behind, making, failed, made, window]
