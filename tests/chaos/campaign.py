"""Rounds of faults under load, all of them decided by one seed; then everything is held against the log.

The seed decides the plan; when exactly a signal meets a process is left to the machine, as in life.
"""

from __future__ import annotations

import asyncio
import random
import time
from concurrent.futures import Future
from itertools import pairwise
from typing import Final

from tests.chaos.checks import all_checks
from tests.chaos.clients import (
    AsyncClient,
    Client,
    History,
    Loyal,
    ReplicaReader,
    SyncClient,
    by_sentinel,
    plain,
)
from tests.chaos.cluster import Cluster
from tests.chaos.faults import node_faults
from tests.chaos.stage import Mend, Stage, Strike
from tests.conftest import wait_until

AGAIN_S: Final = 20.0  # within which writes are accepted again when all is mended
LEVEL_S: Final = 30.0
WHOLE_S: Final = 60.0
SECOND_FAULT: Final = 0.35  # chance that a node and the storage fail together
GENERATION_ROUNDS: Final = 2  # rounds that share keys
TIMEOUTS_S: Final = (0.15, 0.6, 2.0)  # of clients: shorter and longer than a failover


class Campaign:
    """One cluster on one stage, with its clients."""

    def __init__(self, loop: asyncio.AbstractEventLoop, cluster: Cluster, stage: Stage, seed: int) -> None:
        self.loop = loop
        self.cluster = cluster
        self.stage = stage
        self.rng = random.Random(seed)
        self.history = History()
        self.began = time.monotonic()
        self.rounds = 0
        self._storage = stage.faults(cluster)
        self._nodes = node_faults(cluster)
        self._due: list[str] = []  # so that every fault comes once before one comes twice
        self._threads: list[SyncClient | Loyal | ReplicaReader] = []
        self._tasks: list[tuple[AsyncClient, Future[None]]] = []

    # -- clients

    def start_clients(self) -> None:
        addresses = self.cluster.addresses
        for number, timeout_s in enumerate(TIMEOUTS_S):
            routes = [[by_sentinel(addresses, timeout_s)], [plain(address, timeout_s) for address in addresses]]
            for kind, route in zip("sp", routes, strict=True):
                self._threads.append(SyncClient(f"{kind}{number}", self.history, self.rng.getrandbits(32), route))
            for kind in "uv":
                client = AsyncClient(f"{kind}{number}", self.history, self.rng.getrandbits(32), addresses, timeout_s)
                self._tasks.append((client, asyncio.run_coroutine_threadsafe(client.run(), self.loop)))
        for number, address in enumerate(addresses):
            for letter in "qw":
                self._threads.append(Loyal(f"{letter}{number}", self.history, self.rng.getrandbits(32), address))
            self._threads.append(ReplicaReader(f"r{number}", self.history, self.rng.getrandbits(32), address))
        for thread in self._threads:
            thread.start()

    def stop_clients(self) -> None:
        clients: list[Client] = [*self._threads, *(client for client, _task in self._tasks)]
        for client in clients:
            client.stopping.set()
        for thread in self._threads:
            thread.join(15)
            assert not thread.is_alive(), f"{thread.label} hangs"
        for _client, task in self._tasks:
            task.result(15)

    # -- rounds

    def run(self, seconds: float) -> None:
        """Rounds for so long, then rest, then all checks."""
        self.start_clients()
        deadline = time.monotonic() + seconds
        try:
            while time.monotonic() < deadline:
                self._round()
        finally:
            self.stop_clients()
        self._wait_whole()
        offset = self.cluster.wait_level(LEVEL_S)
        answered = {operation.client for operation in self.history.operations if operation.results is not None}
        silent = {client.label for client, _task in self._tasks} - answered
        silent |= {thread.label for thread in self._threads if isinstance(thread, SyncClient)} - answered
        assert not silent, f"the clients {silent} were never answered: {self.history.errors.most_common(5)}"
        wrong = all_checks(self.history, self.stage.url, self.cluster.digests(), offset)
        if wrong:
            self.cluster.folder.joinpath("history.txt").write_text("\n".join(map(str, self.history.operations)))
            print(f"the history is in {self.cluster.folder}")
        assert not wrong, "\n".join([f"{len(wrong)} findings", *wrong[:20]])

    def _round(self) -> None:
        rng = self.rng
        if not self._due:
            self._due = [*self._nodes, *self._storage]
            rng.shuffle(self._due)
        name = self._due.pop()
        faults = [(name, self._nodes.get(name) or self._storage[name])]
        if rng.random() < SECOND_FAULT:
            others = self._storage if name in self._nodes else self._nodes
            other = rng.choice(sorted(others))
            faults.append((other, others[other]))
        self.rounds += 1
        self.history.generation = self.rounds // GENERATION_ROUNDS
        before = time.monotonic()
        print(f"{before - self.began:6.1f} s  {self._names(faults)}", end="", flush=True)
        mends = self._strike(faults)
        time.sleep(rng.uniform(0.2, 2.0))
        for mend in mends:
            mend()
        mended = time.monotonic()
        wait_until(self._accepts, AGAIN_S, f"writes are accepted again after: {self._names(faults)}")
        again = time.monotonic()
        if any(name in self._storage for name, _strike in faults):
            self._wait_whole()
        time.sleep(rng.uniform(0.0, 0.7))
        self.cluster.check_alive()
        times = f"struck for {mended - before:.2f} s, writes {again - mended:.2f} s after mending"
        print(f": {times}; longest without a write {self._gap(before):.2f} s", flush=True)

    def _wait_whole(self) -> None:
        """Return when every copy has everything.

        A follower whose claim failed half-way closes a zone to the primary until somebody claims: a hand-over does.
        """
        began = time.monotonic()
        handed_over = False
        while missing := self.stage.missing():
            waited = time.monotonic() - began
            assert waited < WHOLE_S, f"the log is not whole again: {missing}"
            if waited > WHOLE_S / 4 and not handed_over:
                handed_over = True
                primary = self.cluster.primary
                print(f" ({missing} for {waited:.0f} s: a hand-over)", end="", flush=True)
                if primary is not None:
                    primary.ask("FAILOVER")
            time.sleep(0.2)

    @staticmethod
    def _names(faults: list[tuple[str, Strike]]) -> str:
        return " + ".join(name for name, _strike in faults)

    def _strike(self, faults: list[tuple[str, Strike]]) -> list[Mend]:
        """Do it all; returns the mends, the storage's first: a node that cannot read its log does not start."""
        mends = [(name in self._nodes, strike(self.rng)) for name, strike in faults]
        return [mend for _is_node, mend in sorted(mends, key=lambda found: found[0])]

    def _accepts(self) -> bool:
        return self.cluster.write("again", str(self.rounds))

    def _gap(self, since: float) -> float:
        """The longest time without an acknowledged write since then."""
        times = [since, *(time_ for time_ in self.history.accepted() if time_ > since), time.monotonic()]
        return max(later - earlier for earlier, later in pairwise(times))

    def summary(self) -> str:
        history = self.history
        told = sum(operation.results is not None for operation in history.operations)
        return (
            f"{self.rounds} rounds, {told} operations answered, {len(history.operations) - told} of unknown outcome,"
            f" {len(history.refused)} refused, {len(history.reads)} reads of replicas"
        )
