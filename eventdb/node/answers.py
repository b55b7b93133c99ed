"""What INFO shows of a node and its log, as far as the engine does not know it itself."""

from __future__ import annotations

from eventdb.backends import Writer
from eventdb.node.role import Role
from eventdb.pipeline.commit import Commit


def one_line(text: str) -> str:
    """What an error says, fit for a field of INFO, which clients take apart at commas."""
    return " ".join(text.split()).replace(",", ";")


def fields_of(
    role: Role, url: str, name: str, lease_ms: int, commit: Commit, events: int, load_s: float, writer: Writer | None
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
    if writer is not None:
        stats = writer.stats
        found["epoch"] = str(writer.epoch)
        found["log_records"] = str(stats.records)
        found["log_transactions"] = str(stats.transactions)
        found["log_body_bytes"] = str(stats.body_bytes)
        found["log_stored_bytes"] = str(stats.stored_bytes)
        found["log_syncs"] = str(stats.syncs)
        found["log_zone_errors"] = str(stats.zone_errors)
        for i, (zone, state, detail) in enumerate(writer.zone_states()):
            found[f"log_zone{i}"] = f"name={zone},state={state}" + (f",detail={one_line(detail)}" if detail else "")
    return found
