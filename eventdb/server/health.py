"""Whether a node may be sent clients: `/readyz` in reasons, none of them being yes."""

from __future__ import annotations

import time

from eventdb.engine.client import LOADING
from eventdb.node.node import Node
from eventdb.node.role import Role
from eventdb.server.measures import lease_left_s


def not_ready(node: Node) -> list[str]:
    """Why clients should not be sent here now, in words; empty when they should."""
    engine, role = node.engine, node.role
    if role is Role.LOADING or engine.gate & LOADING:
        return [f"the node is {role.value}" if role in (Role.STUCK, Role.CLOSED) else "the state is being rebuilt"]
    if role is Role.PRIMARY:
        return _primary(node)
    if role is Role.REPLICA:
        return _replica(node)
    return [f"the node is {role.value}"]


def _primary(node: Node) -> list[str]:
    """A valid lease says that an append was durable lately: it runs from the newest one that was."""
    found: list[str] = []
    if lease_left_s(node) <= 0:
        found.append("the lease has lapsed: the log does not answer")
    pending = node.engine.commit.pending
    if pending:
        age_ms = (time.monotonic() - pending[0].opened) * 1000
        if age_ms > node.config.commit_timeout_ms:
            found.append(f"a write has been waiting for the log for {age_ms:.0f} ms")
    return found


def _replica(node: Node) -> list[str]:
    topology, lag_max_ms = node.engine.topology, node.config.metrics_ready_lag_ms
    if topology.me.lag_ms > lag_max_ms:
        return [f"{topology.me.lag_ms} ms behind, more than metrics-ready-lag {lag_max_ms}"]
    return []
