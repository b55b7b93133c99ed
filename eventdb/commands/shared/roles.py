"""The role of this node and how far each one is, for ROLE, INFO and CLUSTER."""

from __future__ import annotations

import hashlib

from eventdb.cluster.topology import Member
from eventdb.engine.client import LOADING
from eventdb.engine.engine import Engine


def log_id(engine: Engine) -> str:
    """40 hex digits that name the log, and so its history and its shard, on every node alike.

    Made from the log's own id where the node knows it, else from the URL, which may be spelled differently elsewhere.
    """
    fields = engine.host.info_fields()
    text = fields.get("log_id") or fields.get("log_url", "")
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def durable_offset(engine: Engine, member: Member) -> int:
    """How far a member is; this node knows best of itself."""
    return engine.commit.durable_offset if member is engine.topology.me else member.offset


def loads_alone(engine: Engine) -> bool:
    """The state is being rebuilt, and no other node is known to have been the primary: as a master that loads.

    What it was itself before a restart it does not follow: it is going to claim the log again.
    """
    me, primary = engine.topology.me, engine.topology.last_primary
    if not engine.gate & LOADING or not me.candidate:
        return False
    return primary is None or primary.name == me.name or primary.address == me.address


def follows(engine: Engine) -> bool:
    """This replica is up, and the log has a primary."""
    return not engine.gate & LOADING and not engine.topology.is_down


def replication_lines(engine: Engine) -> list[tuple[str, object]]:
    """The replication section of INFO; what Redis does not have is the lag in offsets and ms."""
    topology, me = engine.topology, engine.topology.me
    own = engine.commit.durable_offset
    found: list[tuple[str, object]] = []
    if topology.is_primary:
        replicas = topology.replicas
        found += [("role", "master"), ("connected_slaves", len(replicas))]
        for i, member in enumerate(replicas):
            place = f"ip={member.host},port={member.port},state=online,offset={member.offset}"
            found.append((f"slave{i}", f"{place},lag={member.lag_ms // 1000},lag_ms={member.lag_ms}"))
    elif loads_alone(engine):
        found += [("role", "master"), ("connected_slaves", 0)]
    else:
        primary = topology.last_primary
        newest = own if primary is None else max(own, primary.offset)
        found += [
            ("role", "slave"),
            ("master_host", "" if primary is None else primary.host),
            ("master_port", 0 if primary is None else primary.port),
            ("master_link_status", "up" if follows(engine) else "down"),
            ("master_last_io_seconds_ago", me.lag_ms // 1000 if follows(engine) else -1),
            ("master_sync_in_progress", 1 if engine.gate & LOADING else 0),
            ("slave_read_repl_offset", own),
            ("slave_repl_offset", own),
            *([] if follows(engine) else [("master_link_down_since_seconds", me.lag_ms // 1000 if primary else -1)]),
            ("slave_priority", 100 if me.candidate else 0),
            ("slave_read_only", 1),
            ("replica_announced", 1),
            ("slave_read_mode", engine.config.replica_read_mode),
            ("slave_lag_offsets", newest - own),
            ("slave_lag_ms", me.lag_ms),
            ("connected_slaves", 0),
        ]
    return [
        *found,
        ("master_failover_state", engine.failover_state),
        ("master_replid", log_id(engine)),
        ("master_replid2", "0" * 40),
        ("master_repl_offset", own),
        ("second_repl_offset", -1),
        ("repl_backlog_active", 0),
        ("repl_backlog_size", engine.config.get("repl-backlog-size")),
        ("repl_backlog_first_byte_offset", 0),
        ("repl_backlog_histlen", 0),
    ]
