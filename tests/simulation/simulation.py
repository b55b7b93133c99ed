"""One seed: build a world, let its clients and its nemesis loose, bring it to rest, check what everybody saw."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import sys
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

from eventdb.backends import LogError, Record, Stretch
from eventdb.cluster.timing import LEASE_MS_MAX
from tests.simulation import seams, snapshotting
from tests.simulation.broker import Partition
from tests.simulation.checks import history_checks
from tests.simulation.clients import Client, ClientHistory
from tests.simulation.cluster import Cluster
from tests.simulation.nemesis import Nemesis, Profile, draw_profile
from tests.simulation.world import Stuck, World

FILES = "files"
KAFKA = "kafka"
SECONDS = 4.0  # of accidents
REST_S = 30.0  # after which everything has to be at rest


@dataclass(slots=True)
class Result:
    seed: int
    wrong: list[str]
    trace: int = 0  # the same for two runs that did the same
    profile: str = ""
    steps: int = 0
    operations: int = 0
    unknown: int = 0
    records: int = 0
    claims: int = 0
    replica_reads: int = 0
    story: list[str] = field(default_factory=list)
    accidents: dict[str, int] = field(default_factory=dict)


def simulate(
    seed: int,
    *,
    log: str = FILES,
    story: bool = False,
    seconds: float = SECONDS,
    long_commands: int = 0,
    snapshots: bool = False,
    scripts: int = 0,
) -> Result:
    """Run one seed from beginning to end; `wrong` is empty when all held. `log`: FILES or KAFKA.

    long_commands: how often the primary is asked for a command that keeps its loop busy for up to 3 s.
    scripts: how often the primary runs a script that keeps its loop for up to 3 s and beats for it meanwhile.
    snapshots: two snapshotters trim the log, and nodes begin with what they made (FILES only).
    """
    with uncollected(), taken_apart():
        return _simulated(seed, log, story, seconds, long_commands, snapshots, scripts)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Inside, nothing is garbage collected: what is collected when would depend on what ran before."""
    collecting = gc.isenabled()
    if not gc.get_freeze_count():
        gc.freeze()  # the modules: nothing of theirs is ever garbage
    gc.disable()
    try:
        yield
    finally:
        with taken_apart():
            gc.collect()
        if collecting:
            gc.enable()


def _simulated(
    seed: int, log: str, story: bool, seconds: float, long_commands: int, snapshots: bool, scripts: int
) -> Result:
    world = World(seed)
    if story:
        world.notes = []
    run = Run(world, log, seconds, long_commands, snapshots, scripts)
    with contextlib.ExitStack() as stack:
        stack.enter_context(seams.installed(world, run.cluster.open_log, run.cluster.partition))
        if run.snapshotters is not None:
            stack.enter_context(snapshotting.installed(run.snapshotters.store, run.snapshotters.rng))
        try:
            world.run_until_complete(run.main())
        except (AssertionError, Exception) as error:
            run.wrong.append(f"{type(error).__name__}: {error}")
            if story:
                run.wrong.extend(traceback.format_exception(error))
        result = run.result(seed)
        world.end()
    return result


@contextlib.contextmanager
def taken_apart() -> Iterator[None]:
    """Inside, nobody hears the protests of coroutines and threads that end in the middle of what they were doing."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    logger = logging.getLogger("eventdb")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = hook
        logger.setLevel(level)


class Run:
    def __init__(
        self, world: World, log: str, seconds: float, long_commands: int, snapshots: bool, scripts: int
    ) -> None:
        rng = world.rng
        self.world = world
        self.seconds = seconds
        self.history = ClientHistory()
        self.wrong: list[str] = []
        self.cluster = Cluster(
            world,
            machines=3,
            zones=rng.choice((1, 3, 3, 3, 3, 3, 3, 5)) if log == FILES else 0,
            payload_bytes=rng.choice((500, 4000)),
            segment_bytes=rng.choice((1500, 6000, 1 << 20)),
            partition=Partition(world, old=rng.random() < 0.4) if log == KAFKA else None,
        )
        self.profile: Profile = draw_profile(rng, self.cluster)
        self.nemesis = Nemesis(self.cluster, self.profile, rng, long_commands=long_commands, scripts=scripts)
        self.stretches: list[Stretch] = []
        pace_s = rng.choice((0.02, 0.05, 0.1))
        self.clients = [
            Client(self.cluster, self.history, number, rng, pace_s, reads)
            for number, reads in enumerate((0.3, 0.3, 0.5, 1.0, 1.0, 1.0), 1)
        ]

        self.snapshotters: snapshotting.Snapshotters | None = None
        if snapshots:
            own = random.Random(rng.random())
            self.snapshotters = snapshotting.Snapshotters(self.cluster, snapshotting.SimStore(own), own)
            self.cluster.store_url = snapshotting.SimStore.url

    async def main(self) -> None:
        world, cluster = self.world, self.cluster
        for machine in cluster.machines:
            machine.start()
            await world.sleep(world.rng.random() * 0.2)
        users = [client.start(replicas=client is self.clients[-1]) for client in self.clients]
        sampling = world.create_task(self._sample())
        working = None if self.snapshotters is None else world.create_task(self.snapshotters.run())
        if self.snapshotters is not None:
            self.snapshotters.store.away = 0.05
        await self.nemesis.run(self.seconds)
        self.nemesis.heal()
        if self.snapshotters is not None and working is not None:
            self.snapshotters.store.away = 0.0
            await world.sleep(0.5)
            self.snapshotters.stopping = True
            await working
        await world.sleep(1.0)
        for client in self.clients:
            client.stopping = True
        await asyncio.wait(users)  # what they are told later would not be compared with what is read now
        await self._rest()
        sampling.cancel()
        cluster.sample()
        cluster.seen.complete = True
        await world.sleep(0.05)  # a reader is behind by as much as a hint is old
        process = cluster.visitor("reader")
        await process.spawn(self._read())
        self.wrong.extend(
            history_checks(self.history, cluster.seen, self.stretches, reads=not self.profile.stale_reads)
        )

    def _counts(self) -> dict[str, int]:
        found, partition = self.snapshotters, self.cluster.partition
        counts = {} if found is None else {"snapshots made": found.made, "trims": found.trimmed}
        return counts if partition is None else counts | {"stood in": partition.stood_in}

    async def _sample(self) -> None:
        while True:
            await self.world.sleep(0.05)
            self.cluster.sample()

    async def _rest(self) -> None:
        """Everything is healed, so soon there is one primary, and all zones and replicas have all of the log."""
        # A node that begins with a snapshot, and finds nothing before it of who holds a lease, expects the longest, as
        # a reader, as a claimant, and anew when its claim met another one.
        deadline = self.world.now + REST_S + (4 * LEASE_MS_MAX / 1000 if self.snapshotters is not None else 0.0)
        while why := self.cluster.settled():
            if self.world.now > deadline:
                self.wrong.append(f"no rest after {REST_S:.0f} s: {why}")
                return
            await self.world.sleep(0.05)

    async def _read(self) -> None:
        log = self.cluster.open_log()
        try:
            first = (await log.info()).first_position if self.snapshotters is not None else 0
            self.stretches = [stretch async for stretch in log.read(first)]
            if self.snapshotters is not None:
                self.stretches = _joined(self.cluster.archive, self.stretches)
        except LogError as error:
            self.wrong.append(f"the log cannot be read: {error!r}")
        await log.close()

    def result(self, seed: int) -> Result:
        world, history = self.world, self.history
        records = [record for stretch in self.stretches for record in stretch.records]
        return Result(
            seed,
            self.wrong,
            world.trace,
            self.profile.name,
            world.steps,
            history.answered,
            history.unknown,
            len(records),
            sum(1 for record in records if record.kind == 1),
            len(history.replica_reads),
            world.notes or [],
            self.nemesis.counts | self._counts(),
        )


def _joined(archive: dict[int, Record], kept: list[Stretch]) -> list[Stretch]:
    """All of history: what was trimmed, and the rest."""
    every = archive | {record.position: record for stretch in kept for record in stretch.records}
    records = tuple(every[position] for position in sorted(every))
    return [Stretch(records, kept[-1].next_position if kept else 0)]


__all__ = ["Result", "Stuck", "simulate"]
