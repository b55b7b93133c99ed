"""What INFO shows of a node and its log, as far as the engine does not know it itself."""

from __future__ import annotations

from typing import Protocol

from eventdb.engine.engine import Engine
from eventdb.node.role import Role
from eventdb.pipeline.appending import Appending
from eventdb.pipeline.commit import Commit
from eventdb.replay.follower import Follower


class Seen(Protocol):
    """What a span says something of: a node."""

    role: Role
    engine: Engine
    follower: Follower


def one_line(text: str) -> str:
    """What an error says, fit for a field of INFO, which clients take apart at commas."""
    return " ".join(text.split()).replace(",", ";")


def facts(node: Seen) -> dict[str, str | int]:
    """What a span of a trace says of its node."""
    offset = max(node.follower.offset, node.engine.commit.offset)
    return {"eventdb.role": node.role.value, "eventdb.epoch": node.engine.topology.epoch, "eventdb.offset": offset}


def fields_of(
    role: Role, url: str, name: str, lease_ms: int, appending: Appending, commit: Commit, events: int, load_s: float
) -> dict[str, str]:
    """The fields of INFO's section eventdb by name; those of the writer only while this node has one."""
    found = {
        "role": role.value,
        "log_url": url,
        "node_name": name,
        "lease_ms": str(lease_ms),
        "offset": str(commit.offset),
        "durable_offset": str(commit.durable_offset),
        "pending_batches": str(len(commit.pending)),
        "pending_bytes": str(commit.pending_size),
        "load_seconds": f"{load_s:.3f}",
        "events_replayed": str(events),
    }
    writer = appending.writer
    if writer is not None:
        found["commits"], found["commit_usec"] = str(appending.commits), str(int(appending.commit_s * 1e6))
        times = {zone: (writes, took) for zone, writes, took in writer.zone_times()}
        stats = writer.stats
        found["epoch"] = str(writer.epoch)
        found["log_records"] = str(stats.records)
        found["log_transactions"] = str(stats.transactions)
        found["log_body_bytes"] = str(stats.body_bytes)
        found["log_stored_bytes"] = str(stats.stored_bytes)
        found["log_syncs"] = str(stats.syncs)
        found["log_zone_errors"] = str(stats.zone_errors)
        for i, (zone, state, detail) in enumerate(writer.zone_states()):
            said = f"name={zone},state={state}"
            if zone in times:
                writes, took = times[zone]
                said += f",writes={writes},write_usec={int(took * 1e6)}"
            found[f"log_zone{i}"] = said + (f",detail={one_line(detail)}" if detail else "")
    return found
