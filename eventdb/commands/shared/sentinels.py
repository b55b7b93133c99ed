"""The service that SENTINEL describes: its names, its primary and whether that is down."""

from __future__ import annotations

from typing import Final

from eventdb.cluster.slots import Shard
from eventdb.cluster.topology import Member
from eventdb.engine.client import LEASELESS, Client
from eventdb.engine.engine import Engine
from eventdb.protocol.errors import ReplyError

FLAGS: Final = "admin loading stale"
NO_MASTER: Final = "ERR No such master with that name"


def own_shard(engine: Engine, client: Client) -> Shard:
    return engine.slots.mine


def service_names(engine: Engine) -> list[str]:
    return engine.config.sentinel_service_name.split()


def is_known(engine: Engine, name: bytes) -> bool:
    return name.decode("utf-8", "surrogateescape") in service_names(engine)


def named_primary(engine: Engine, client: Client, name: bytes) -> Member:
    """The primary, or the last one that was. Raises ReplyError for an unknown name, and before there was one."""
    found = own_shard(engine, client).primary
    if found is None or not is_known(engine, name):
        raise ReplyError(NO_MASTER)
    return found


def is_down(engine: Engine, shard: Shard) -> bool:
    """Nobody is the primary, as far as this node knows: its own lapsed lease is another's silence."""
    return shard.topology.is_down or (shard.topology.is_primary and engine.gate & LEASELESS != 0)


def sentinel_lines(engine: Engine) -> list[tuple[str, object]]:
    """INFO sentinel, as a Sentinel has it."""
    shard, names = engine.slots.mine, service_names(engine)
    primary = shard.primary
    found: list[tuple[str, object]] = [
        ("sentinel_masters", 0 if primary is None else len(names)),
        ("sentinel_tilt", 0),
        ("sentinel_tilt_since_seconds", -1),
        ("sentinel_running_scripts", 0),
        ("sentinel_scripts_queue_length", 0),
        ("sentinel_simulate_failure_flags", 0),
    ]
    if primary is not None:
        status = "odown" if is_down(engine, shard) else "ok"
        there = f"address={primary.host}:{primary.port},slaves={len(shard.replicas)}"
        there += f",sentinels={len(shard.topology.members)}"
        found += [(f"master{i}", f"name={name},status={status},{there}") for i, name in enumerate(names)]
    return found
