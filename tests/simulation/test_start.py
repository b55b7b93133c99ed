"""Two nodes that make a new log at the same moment, and were given different numbers of zones."""

from __future__ import annotations

import asyncio
import gc

import pytest

from eventdb.backends import BadLogURL, LogError, RecordKind
from eventdb.backends.quorum import QuorumLog, hint_file
from tests.simulation import seams
from tests.simulation.cluster import URL, Cluster
from tests.simulation.ops import SimOps
from tests.simulation.simulation import taken_apart
from tests.simulation.world import World

SEEDS = range(1, 41)

pytestmark = pytest.mark.skipif(
    not str(hint_file.__file__).endswith(".py"),
    reason="what is simulated is the Python that compiled modules are made from",
)


class Starter:
    """A node that tries to be the writer for a while. `written`: what was acknowledged to it."""

    def __init__(self, cluster: Cluster, zones: int) -> None:
        self.cluster = cluster
        self.url = f"{URL}?zones={zones}"
        self.process = cluster.visitor(f"of {zones}")
        self.written = 0
        self.refused = ""

    def open(self) -> QuorumLog:
        runtime = self.cluster.runtimes[self.process]
        return QuorumLog(self.url, ops_of=lambda at: SimOps(self.process, self.cluster.zones[at]), runtime=runtime)

    async def run(self) -> None:
        log = self.open()
        for _ in range(20):
            try:
                writer = await log.claim("node")
                for _record in range(3):
                    offset, time_ms = writer.next_offset, writer.last_time_ms
                    await writer.append(b"x", first_offset=offset, count=1, time_ms=time_ms, kind=RecordKind.DATA)
                    self.written += 1
                await writer.close()
                break
            except BadLogURL as error:
                self.refused = f"{error}"
                break
            except LogError:
                await asyncio.sleep(0.02)
        await log.close()


def race(seed: int, counts: tuple[int, int]) -> list[tuple[int, str]]:
    """What was acknowledged to each of two starters, and why it was refused."""
    world = World(seed)
    cluster = Cluster(world, machines=0, zones=5, segment_bytes=1500, payload_bytes=4000, partition=None)
    starters = [Starter(cluster, zones) for zones in counts]

    async def main() -> None:
        tasks = []
        for starter in starters:
            tasks.append(starter.process.spawn(starter.run()))
            await world.sleep(world.rng.random() * 0.002)
        await asyncio.wait(tasks)

    with seams.installed(world, cluster.open_log):
        world.run_until_complete(main())
        world.end()
    return [(starter.written, starter.refused) for starter in starters]


@pytest.mark.parametrize("counts", [(1, 3), (3, 5), (5, 3)])
def test_one_of_them_makes_the_log_and_the_other_is_refused(counts: tuple[int, int]) -> None:
    for seed in SEEDS:
        with taken_apart():
            found = race(seed, counts)
            gc.collect()
        assert sorted(written for written, _refused in found) == [0, 3], f"seed {seed}: {found}"
        assert any("this log was created with" in refused for _written, refused in found), f"seed {seed}: {found}"
