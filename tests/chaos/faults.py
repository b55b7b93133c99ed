"""What can be done to nodes and to the network between them, their clients and each other."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tests.chaos.cluster import LEASE_MS, Cluster, Node
from tests.chaos.proxy import HANG, RESET
from tests.chaos.stage import Mend, Strike
from tests.kit.wire import Wire, encode

TAKEN_OVER_S: Final = 3.0

Pick = Callable[[random.Random], Node]


def node_faults(cluster: Cluster) -> dict[str, Strike]:
    """By name."""

    def primary(rng: random.Random) -> Node:
        return cluster.primary or rng.choice(cluster.nodes)

    def follower(rng: random.Random) -> Node:
        return rng.choice(cluster.followers)

    def anyone(rng: random.Random) -> Node:
        return primary(rng) if rng.random() < 0.6 else follower(rng)

    return {
        "the primary is killed": _kill(primary),
        "a replica is killed": _kill(follower),
        "all nodes are killed": lambda rng: _all_killed(cluster),
        "the primary is paused, shorter than its lease": _pause(primary, 0.1, 0.8),
        "the primary is paused, longer than its lease": _pause(primary, 1.5, 5.0),
        "the primary is asked while it is paused": lambda rng: _late_question(cluster),
        "a replica is paused": _pause(follower, 0.2, 5.0),
        "the primary stutters": lambda rng: _stutter(primary(rng), rng),
        "clients are cut from a node": _cut(anyone, cluster.cut_from_clients),
        "nodes are cut from a node": _cut(anyone, cluster.cut_from_nodes),
        "everybody is cut from a node": _cut(anyone, cluster.cut_from_all),
        "a hand-over": lambda rng: _hand_over(cluster),
        "a hand-over, and its old primary is killed": lambda rng: _hand_over_and_kill(cluster),
    }


def _kill(pick: Pick) -> Strike:
    def strike(rng: random.Random) -> Mend:
        node = pick(rng)
        node.kill()
        return node.restart

    return strike


def _all_killed(cluster: Cluster) -> Mend:
    for node in cluster.nodes:
        node.kill()

    def restart() -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Node.restart, cluster.nodes))

    return restart


def _pause(pick: Pick, low: float, high: float) -> Strike:
    """For low to high leases; then it goes on as if nothing had been."""

    def strike(rng: random.Random) -> Mend:
        node = pick(rng)
        node.pause()
        time.sleep(rng.uniform(low, high) * LEASE_MS / 1000)
        node.resume()
        return lambda: None

    return strike


def _late_question(cluster: Cluster) -> Mend:
    """Somebody else takes over and is written to; what was asked of the old primary after that has no old answer."""
    primary = cluster.primary
    if primary is None or not cluster.write("late", "old"):
        return lambda: None
    with contextlib.suppress(OSError), Wire(primary.server.port) as wire:
        primary.pause()
        deadline = time.monotonic() + TAKEN_OVER_S
        while not (written := cluster.write("late", "new")) and time.monotonic() < deadline:
            time.sleep(0.01)
        wire.send(encode("GETEX", "late"))
        primary.resume()
        told = wire.receive()
        assert not written or told != b"old", "a primary that was paused past its lease answers from the past"
    return lambda: None


def _stutter(node: Node, rng: random.Random) -> Mend:
    """Pauses about as long as the lease, again and again: where a lease that is checked too late would show."""
    for _ in range(4):
        node.pause()
        time.sleep(rng.uniform(0.7, 1.5) * LEASE_MS / 1000)
        node.resume()
        time.sleep(rng.uniform(0.0, 0.05))
    return lambda: None


def _cut(pick: Pick, cut: Callable[[Node, str], None]) -> Strike:
    def strike(rng: random.Random) -> Mend:
        node = pick(rng)
        cut(node, rng.choice((HANG, RESET)))
        return node.proxy.mend

    return strike


def _hand_over(cluster: Cluster) -> Mend:
    primary = cluster.primary
    if primary is not None:
        primary.ask("FAILOVER")  # refused when no other node is there: then nothing happens
    return lambda: None


def _hand_over_and_kill(cluster: Cluster) -> Mend:
    primary = cluster.primary
    if primary is None:
        return lambda: None
    primary.ask("FAILOVER")
    primary.kill()
    return primary.restart
