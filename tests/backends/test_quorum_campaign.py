"""A seeded campaign: random faults in one zone at a time, crashes and rival claims, against a model.

The model is small: what was acknowledged is in history, once and in order; what was in doubt may be; nothing else is.
Run a longer one with EVENTDB_CAMPAIGN=first-last (seeds).
"""

import asyncio
import errno
import os
import random
import shutil
from pathlib import Path

import pytest

from eventdb.backends import Fenced, LogError
from eventdb.backends.quorum import QuorumLog, QuorumWriter
from tests.kit.faults import EVERYTHING, Bench, append, copy_living, crash, data_of, findings, read_all, until_up

STEPS = 60


def seeds() -> list[int]:
    first, _, last = os.environ.get("EVENTDB_CAMPAIGN", "1-8").partition("-")
    return list(range(int(first), int(last) + 1))


class Campaign:
    def __init__(self, tmp_path: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.bench = Bench(tmp_path, segment_bytes=self.rng.choice([2000, 20_000, 1 << 20]))
        self.acknowledged: list[bytes] = []
        self.tried: list[bytes] = []
        self.pending: list[tuple[bytes, asyncio.Future[int]]] = []
        self.bad = -1  # the zone that is out of order
        self.copies: dict[int, Path] = {}  # of a zone at an earlier time
        self.log: QuorumLog
        self.writer: QuorumWriter

    async def claim(self) -> None:
        self.log = self.bench.open()
        self.writer = await self.log.claim("node")

    def send(self) -> None:
        for _ in range(self.rng.randint(1, 12)):
            body = b"%d:" % len(self.tried) + self.rng.randbytes(self.rng.choice([3, 60, 400, 9000]))
            self.tried.append(body)
            self.pending.append((body, append(self.writer, body)))

    async def settle(self) -> None:
        """Every append of a live writer is acknowledged: a majority is always in order."""
        for body, future in self.pending:
            await asyncio.wait_for(future, 30)
            self.acknowledged.append(body)
        self.pending.clear()

    def drop(self) -> None:
        """The writer is gone: what was done is acknowledged, the rest is in doubt."""
        for body, future in self.pending:
            if future.done() and future.exception() is None:
                self.acknowledged.append(body)
        self.pending.clear()

    async def heal(self) -> None:
        if self.bad >= 0:
            self.bench.ops[self.bad].heal()
            self.bad = -1
        self.send()  # an idle zone looks only now and then whether it is still there
        await self.settle()
        await until_up(self.log, self.writer)

    async def step(self) -> None:
        action = self.rng.choice(
            ["send", "send", "send", "settle", "break", "break", "heal", "crash", "rival", "copy", "roll back"]
        )
        if action == "send":
            self.send()
        elif action == "settle":
            await self.settle()
        elif action == "break":
            await self.break_one()
        elif action == "heal":
            await self.heal()
        elif action == "crash":
            crash(self.writer)
            self.drop()
            await self.claim()
        elif action == "rival":
            await self.rival()
        elif action == "copy" and self.bad < 0:
            zone = self.rng.randrange(3)
            await self.heal()
            self.copies[zone] = self.bench.root.with_name(f"copy-{zone}")
            shutil.rmtree(self.copies[zone], ignore_errors=True)
            copy_living(self.bench.zones[zone], self.copies[zone])
        elif action == "roll back" and self.bad < 0 and self.copies:
            await self.roll_back(*self.copies.popitem())

    async def break_one(self) -> None:
        await self.heal()
        self.bad = zone = self.rng.randrange(3)
        ops = self.bench.ops[zone]
        kind = self.rng.choice(["eio", "write", "torn", "full", "stall", "delete"])
        if kind == "eio":
            ops.fail(errno.EIO, EVERYTHING)
        elif kind == "write":
            ops.fail(errno.EIO, frozenset({"pwrite"}))
        elif kind == "torn":
            ops.fail(errno.EIO, frozenset({"pwrite", "fsync"}), torn=self.rng.randint(1, 300))
        elif kind == "full":
            ops.fail(errno.ENOSPC, frozenset({"pwrite"}), torn=self.rng.randint(1, 300))
        elif kind == "stall":
            ops.stall(frozenset({"pwrite"}))
        else:
            shutil.rmtree(self.bench.zones[zone].rename(self.bench.root / "removed"))

    async def rival(self) -> None:
        """A second writer claims while appends of the first are on their way."""
        self.send()
        before, before_log = self.writer, self.log
        await self.claim()
        late = b"late %d" % len(self.tried)
        with pytest.raises(Fenced):
            await asyncio.wait_for(append(before, late), 30)
        self.drop()
        if self.bad >= 0:  # a thread of it may hang there
            self.bench.ops[self.bad].heal()
            self.bad = -1
        await before_log.close()

    async def roll_back(self, zone: int, copy: Path) -> None:
        """The zone is put back from an older copy: with the writer alive, or between a crash and the next claim."""
        await self.heal()
        crashed = self.rng.random() < 0.5
        if crashed:
            crash(self.writer)
        shutil.rmtree(self.bench.zones[zone].rename(self.bench.root / "removed"))
        try:
            copy.rename(self.bench.zones[zone])
        except OSError:  # the writer was faster to make it anew
            shutil.rmtree(copy)
        self.send() if not crashed else await self.claim()
        await self.heal()

    async def check(self) -> None:
        await self.heal()
        history = data_of(await read_all(self.bench.open(faulty=False)))
        assert len(set(history)) == len(history), "a record twice"
        known = {body: number for number, body in enumerate(self.tried)}
        order = [known[body] for body in history]  # KeyError: a phantom
        assert order == sorted(order), "out of order"
        kept = set(history)
        lost = [known[body] for body in self.acknowledged if body not in kept]
        assert not lost, f"acknowledged and lost: {lost}"
        assert await findings(self.log) == []


@pytest.mark.parametrize("seed", seeds())
async def test_campaign(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    campaign = Campaign(tmp_path, seed)
    try:
        await campaign.claim()
        for step in range(STEPS):
            await campaign.step()
            if step % 20 == 19:
                await campaign.check()
    except LogError as error:
        raise AssertionError(f"seed {seed}: {error!r}") from error
    finally:
        await campaign.bench.close()
