"""One seed of another kind: nobody follows a lease, everybody claims the log, all the time and at once, and reads it.

What the nodes avoid by leases and terms the log has to bear without them: claims that meet, writers fenced before
their first record, threads held up in the middle of a call whose files come late. Zones are slow here, processes are
stopped and killed; nothing is lost, so whatever a reader cannot read, it was a claim that broke.
"""

from __future__ import annotations

import asyncio
import random

from eventdb.backends import Corrupt, LogError, Stretch
from tests.simulation import seams
from tests.simulation.checks import nothing_lost, one_history
from tests.simulation.cluster import Cluster
from tests.simulation.simulation import Result, taken_apart, uncollected
from tests.simulation.world import Process, World

SECONDS = 0.5  # of claims
REST_S = 30.0
ANSWER_S = 0.5  # how long a contender waits for an append


def contest(seed: int, *, story: bool = False) -> Result:
    """Run one seed from beginning to end; `wrong` is empty when all held."""
    with uncollected(), taken_apart():
        return _contested(seed, story)


def _contested(seed: int, story: bool) -> Result:
    world = World(seed)
    if story:
        world.notes = []
    run = Contest(world)
    with seams.installed(world, run.cluster.open_log):
        try:
            world.run_until_complete(run.main())
        except (AssertionError, Exception) as error:
            run.wrong.append(f"{type(error).__name__}: {error}")
        records = [record for stretch in run.stretches for record in stretch.records]
        claims = sum(1 for record in records if record.kind == 1)
        durable = len(run.cluster.seen.durable)
        result = Result(
            seed, run.wrong, world.trace, "contest", world.steps, durable, run.unknown, len(records), claims, run.reads,
            world.notes or [], {"claims tried": run.tried, "claims lost": run.lost},
        )  # fmt: skip
        world.end()
    return result


class Contest:
    def __init__(self, world: World) -> None:
        rng = world.rng
        self.world = world
        self.wrong: list[str] = []
        self.stretches: list[Stretch] = []
        self.tried = self.lost = self.reads = self.unknown = 0
        self.over = False
        self.cluster = Cluster(
            world,
            machines=0,
            zones=rng.choice((1, 3, 3, 3, 5)),
            payload_bytes=500,
            segment_bytes=rng.choice((600, 1500, 1 << 20)),
            partition=None,
        )
        for zone in self.cluster.zones:
            zone.held = rng.choice((0.0, 0.02, 0.05))
        self.contenders = [self._contender(number) for number in range(rng.randint(2, 5))]

    async def main(self) -> None:
        world = self.world
        reader = self.cluster.visitor("reader")
        reading = reader.spawn(self._read_on())
        await self._disturb()
        self.over = True
        for zone in self.cluster.zones:
            zone.heal()
            zone.held = 0.0
        for process in self.contenders:
            process.resume()
        await reading
        await world.sleep(ANSWER_S)
        await self.cluster.visitor("last").spawn(self._end())
        seen = self.cluster.seen
        self.wrong.extend([*one_history(seen, self.stretches), *nothing_lost(seen, self.stretches)])

    # -- who claims

    def _contender(self, number: int) -> Process:
        process = self.cluster.visitor(f"c{number}")
        process.spawn(self._contend(process, random.Random(self.world.rng.random())))
        return process

    async def _contend(self, process: Process, rng: random.Random) -> None:
        log = self.cluster.open_log()
        while not self.over:
            self.tried += 1
            try:
                writer = await log.claim(process.name)
                self.world.note(f"{process.name} has epoch {writer.epoch}")
                for number in range(rng.randint(0, 4)):
                    body = b"%s %d %d " % (process.name.encode(), writer.epoch, number) + bytes(
                        rng.choice((0, 0, 1200))
                    )
                    future = writer.append(body, first_offset=writer.next_offset, count=1, time_ms=writer.last_time_ms)
                    await asyncio.wait_for(asyncio.shield(future), ANSWER_S)
                if rng.random() < 0.3:
                    await writer.close()
            except LogError as error:
                self.lost += 1
                if isinstance(error, Corrupt):
                    self.wrong.append(f"{process.name} cannot claim: {error}")
            except TimeoutError:
                self.unknown += 1
            if rng.random() < 0.5:
                await asyncio.sleep(rng.random() * 0.02)

    # -- who reads

    async def _read_on(self) -> None:
        log = self.cluster.open_log()
        while not self.over:
            try:
                async for _ in log.read(0):
                    pass
                self.reads += 1
            except Corrupt as error:
                self.wrong.append(f"cannot be read: {error}")
                return
            except LogError:
                pass
            await asyncio.sleep(0.005)

    async def _end(self) -> None:
        """All is well again: one claims, and reads all there is."""
        log = self.cluster.open_log()
        deadline = self.world.now + REST_S
        while True:
            try:
                writer = await log.claim("last")
                break
            except LogError as error:
                if self.world.now > deadline:
                    self.wrong.append(f"no claim within {REST_S:.0f} s: {error}")
                    return
                await asyncio.sleep(0.01)
        try:
            self.stretches = [stretch async for stretch in log.read(0)]
            self.cluster.seen.complete = True
            while any(zone.end < writer.durable_end or zone.state != "up" for zone in writer.zones):  # type: ignore[attr-defined]
                if self.world.now > deadline:
                    states = "; ".join(f"{zone.name}: {zone.health()}" for zone in writer.zones)  # type: ignore[attr-defined]
                    self.wrong.append(f"not all zones are up: {states}")
                    return
                await asyncio.sleep(0.01)
            self.wrong += [f"verify: {line}" async for line in log.verify() if "position" in line]
        except LogError as error:
            self.wrong.append(f"the log cannot be read: {error!r}")
        await log.close()

    # -- what happens to them

    async def _disturb(self) -> None:
        world, rng = self.world, self.world.rng
        end = world.now + SECONDS
        while world.now < end:
            await world.sleep(rng.random() * 0.02)
            place = rng.randrange(len(self.contenders))
            process = self.contenders[place]
            chance = rng.random()
            if chance < 0.45:
                world.create_task(self._stop(process, rng.random() ** 2 * 0.1))
            elif chance < 0.6:
                world.note(f"{process.name} is killed")
                process.kill()
                self.contenders[place] = self._contender(place)
            elif chance < 0.8:
                world.create_task(self._slow(rng.randrange(len(self.cluster.zones)), rng.random() * 0.05))

    async def _stop(self, process: Process, seconds: float) -> None:
        self.world.note(f"{process.name} is stopped")
        process.pause()
        await self.world.sleep(seconds)
        process.resume()

    async def _slow(self, zone: int, seconds: float) -> None:
        state = self.cluster.zones[zone]
        state.slow = self.world.rng.choice((0.001, 0.005, 0.02))
        await self.world.sleep(seconds)
        state.slow = 0.0
