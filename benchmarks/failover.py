"""How long nobody can write: after a node is killed or stopped, at a hand-over, after a broker is killed.

A time runs from the signal, or the command, to the first write that any node accepts, as a client sees it that tries
all of them: it has a connection to each, one write on its way on each, and asks again a millisecond after a refusal.
"""

from __future__ import annotations

import math
import random
import select
import signal
import socket
import time
from dataclasses import dataclass

import hiredis

from benchmarks.stages import LEASE_MS, Kafka, Node, Nodes, Stage

AGAIN_S = 0.001
GIVE_UP_S = 30.0


@dataclass(frozen=True, slots=True)
class Times:
    """One row: what was done, and how many milliseconds each took, ascending."""

    name: str
    ms: tuple[float, ...]
    p50_max: float | None = None
    p99_max: float | None = None

    def at(self, share: float) -> float:
        """A percentile: the smallest time that so many are not above."""
        return self.ms[max(0, math.ceil(share * len(self.ms)) - 1)]

    @property
    def holds(self) -> bool:
        return all(self.at(s) <= m for s, m in ((0.5, self.p50_max), (0.99, self.p99_max)) if m is not None)


class Prober:
    """Writes to one node over one connection, one SET at a time."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.socket: socket.socket | None = None
        self.reader = hiredis.Reader()
        self.waiting = False
        self.next_at = 0.0

    def step(self, now: float) -> None:
        """Send the next write, if it is time to."""
        if self.waiting or now < self.next_at:
            return
        try:
            if self.socket is None:
                self.socket = socket.create_connection(("127.0.0.1", self.node.port), timeout=0.2)
                self.reader = hiredis.Reader()
            self.socket.sendall(b"SET probe x\r\n")
            self.waiting = True
        except OSError:
            self.close()
            self.next_at = now + 10 * AGAIN_S

    def receive(self) -> bool:
        """Read; True when a write was accepted."""
        assert self.socket is not None
        try:
            data = self.socket.recv(4096)
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        self.reader.feed(data)
        reply = self.reader.gets()
        if reply is False:
            return False
        self.waiting = False
        self.next_at = time.perf_counter() + AGAIN_S
        return bool(reply == b"OK")

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.socket = None
        self.waiting = False


def first_accepted(probers: list[Prober], since: float) -> float:
    """Seconds from `since` to the first accepted write. Raises TimeoutError."""
    while (now := time.perf_counter()) < since + GIVE_UP_S:
        for prober in probers:
            prober.step(now)
        reading = {prober.socket: prober for prober in probers if prober.waiting and prober.socket is not None}
        for ready in select.select(list(reading), [], [], AGAIN_S)[0]:
            if reading[ready].receive():
                return time.perf_counter() - since
    raise TimeoutError(f"no write was accepted within {GIVE_UP_S} s")


class Failovers:
    """Nodes that lose their primary again and again."""

    def __init__(self, nodes: Nodes, rng: random.Random) -> None:
        self.nodes = nodes
        self.rng = rng

    def _steady(self) -> tuple[Node, list[Prober]]:
        """The primary, and connections that work; at a random moment between two heartbeats."""
        primary = self.nodes.wait_steady()
        probers = [Prober(node) for node in self.nodes.nodes]
        for prober in probers:
            prober.step(time.perf_counter())
        first_accepted(probers, time.perf_counter())
        time.sleep(self.rng.uniform(0.0, LEASE_MS / 1000))
        for prober in probers:  # nothing is on its way, and no answer of before is taken for one of after
            prober.close()
            prober.socket = socket.create_connection(("127.0.0.1", prober.node.port), timeout=1)
        return primary, probers

    def lose(self, number: int) -> float:
        """Send the signal to the primary; milliseconds to the next accepted write. Afterwards it is brought back."""
        primary, probers = self._steady()
        began = time.perf_counter()
        primary.signal(number)
        others = [prober for prober in probers if number == signal.SIGKILL or prober.node is not primary]
        took = first_accepted(others, began)
        for prober in probers:
            prober.close()
        if number == signal.SIGKILL:
            primary.kill()
            primary.start()
        else:
            primary.signal(signal.SIGCONT)
        return took * 1000

    def hand_over(self) -> float:
        """FAILOVER; milliseconds until another node accepts a write."""
        primary, probers = self._steady()
        others = [prober for prober in probers if prober.node is not primary]
        began = time.perf_counter()
        primary.ask("FAILOVER")
        took = first_accepted(others, began)
        for prober in probers:
            prober.close()
        return took * 1000

    def lose_broker(self, stage: Kafka, url: str) -> float:
        """SIGKILL the broker that leads the log; the longest time without an accepted write, in milliseconds."""
        _primary, probers = self._steady()
        victim = stage.leader(url)
        last = time.perf_counter()
        victim.kill()
        longest = 0.0
        end = last + 8.0
        while last < end:
            took = first_accepted(probers, last)
            longest = max(longest, took)
            last += took
        for prober in probers:
            prober.close()
        stage.bring_back(victim, url)
        return longest * 1000


def row(name: str, ms: list[float], p50_max: float | None = None, p99_max: float | None = None) -> Times:
    return Times(name, tuple(sorted(ms)), p50_max, p99_max)


def targets(stage: Stage) -> tuple[float, float]:
    """p50 and p99 of a failover in ms; Kafka may take 300 longer."""
    more = 300.0 if isinstance(stage, Kafka) else 0.0
    return 700.0 + more, 1000.0 + more
