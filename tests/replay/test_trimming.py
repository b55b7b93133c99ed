"""Random histories with snapshots, trims and faults: any moment that may be asked for is the state of a plain model.

Nothing is ever trimmed that the recovery window, an unverified or a damaged snapshot holds.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventdb.backends import Log, LogError, Trimmed, open_log
from eventdb.backends.log import ZoneInfo
from eventdb.replay import manifest as manifests
from eventdb.replay import snapshots, trimming
from eventdb.replay.completeness import check_complete
from eventdb.replay.cut import HistoryTrimmed, ToOffset
from eventdb.replay.follower import Follower
from eventdb.replay.machine import Transaction
from eventdb.replay.making import create
from eventdb.replay.manifest import Manifest
from eventdb.replay.restore import restore
from eventdb.replay.snapshots import listed
from eventdb.replay.snapshotter import Snapshotter
from eventdb.replay.state import NoState, state_at
from eventdb.replay.store import SnapshotStore, StoreUnavailable
from eventdb.replay.stores import open_store
from eventdb.replay.trimming import BadWindow, Holder, Window, parse_window, plan, trim
from tests.kit.machines import START_MS, Notebook, Scribe, keys_up_to, set_transaction

NONE = Window()


class World:
    def __init__(self, folder: Path) -> None:
        self.log: Log = open_log("memory:")
        self.store: SnapshotStore = open_store(str(folder / "snapshots"))
        self.folder = folder / "snapshots"
        self.scribe: Scribe

    async def trim(self, window: Window = NONE, others: list[Holder] | None = None) -> trimming.Trim:
        now_ms = (await self.log.info()).last_time_ms
        return await trim(self.log, self.store, window, now_ms, others or (), slack=0)

    def snapshotter(self, every_ms: int = 0, idle_positions: int = 1000) -> Snapshotter:
        return Snapshotter(
            self.log, self.store, Notebook, every_ms=every_ms, keep="1h:1s", window=NONE, slack=0,
            idle_positions=idle_positions,
        )  # fmt: skip


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    found = World(tmp_path)
    found.scribe = await Scribe.claim(found.log)
    yield found
    await found.store.close()
    await found.log.close()


@pytest.mark.parametrize("seed", range(6))
async def test_every_offset_that_is_kept_gives_the_state_of_a_plain_model(world: World, seed: int) -> None:
    rng = random.Random(seed)
    model: list[dict[str, str]] = [{}]
    made: list[Manifest] = []
    for _ in range(30):
        count = rng.randint(1, 4)
        transactions: list[Transaction] = []
        for _ in range(count):
            state = dict(model[-1])
            key = f"k{rng.randrange(8)}"
            if key in state and rng.random() < 0.3:
                del state[key]
                transactions.append([b"t", [b"DEL", key.encode()]])
            else:
                state[key] = str(len(model))
                transactions.append(set_transaction(key, state[key]))
            model.append(state)
        await world.scribe.write(transactions)
        if rng.random() < 0.3:
            made.append(await create(world.log, world.store, Notebook))
        if rng.random() < 0.2:
            await world.trim(Window(ms=rng.choice([0, 2000, 8000])))
    info = await world.log.info()
    exact = {each.offset for each in made}
    base = min((o for o in exact if o >= info.first_offset - 1), default=0) if info.first_offset > 1 else 0
    for offset in range(1, len(model)):
        if offset >= base or offset in exact:
            machine, follower = await state_at(world.log, world.store, Notebook, offset)
            assert (machine.values, follower.offset) == (model[offset], offset), f"seed {seed}, offset {offset}"
        else:
            with pytest.raises(HistoryTrimmed):
                await state_at(world.log, world.store, Notebook, offset)
    machine, _ = await state_at(world.log, world.store, Notebook)
    assert machine.values == model[-1]


# -- what holds the log


async def test_nothing_goes_without_a_verified_snapshot(world: World) -> None:
    await world.scribe.fill(5, 4)
    done = await world.trim()
    assert done.plan.base is None and "no verified snapshot" in done.plan.first.why
    made = await create(world.log, world.store, Notebook)
    await snapshots.delete(world.store, made.name)
    never = dataclasses.replace(made, name=made.name[:-1] + ("0" if made.name[-1] != "0" else "1"), verified=0)
    await world.store.put(never.data_name, [b"x" * made.stored_bytes])
    await snapshots.put_manifest(world.store, never)
    done = await world.trim()
    assert done.plan.base is None and (await world.log.info()).first_position == 0


@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
async def test_the_proof_is_read_again_before_anything_goes(world: World, harm: str) -> None:
    await world.scribe.fill(5, 4)
    made = await create(world.log, world.store, Notebook)
    path = world.folder / made.data_name
    data = path.read_bytes()
    path.chmod(0o644)
    if harm == "flip":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif harm == "cut":
        path.write_bytes(data[:-1])
    else:
        path.unlink()
    done = await world.trim()
    assert (await world.log.info()).first_position == 0
    assert done.refused or done.plan.base is None


async def test_a_snapshot_of_a_fenced_history_is_never_used_and_never_trimmed_behind(tmp_path: Path) -> None:
    """Two histories of one log that part at offset 8; the snapshot is of the one that lost."""
    url = f"quorum:{tmp_path / 'log'}"
    log = open_log(url)
    scribe = await Scribe.claim(log)
    await scribe.fill(2, 4)
    await scribe.writer.close()
    await log.close()
    shutil.copytree(tmp_path / "log", tmp_path / "lost")
    lost = open_log(f"quorum:{tmp_path / 'lost'}")
    other = await Scribe.claim(lost, "other")
    other.records = 2
    await other.write([set_transaction("lost", "1")])
    store = open_store(str(tmp_path / "snapshots"))
    made = await create(lost, store, Notebook)
    await other.writer.close()
    await lost.close()
    log = open_log(url)
    scribe = await Scribe.claim(log, "third")
    scribe.records = 2
    await scribe.write([set_transaction("true", "1")])
    machine, follower = await state_at(log, store, Notebook)
    assert machine.values == keys_up_to(8) | {"true": "1"} and follower.offset == 9 == made.offset
    done = await trim(log, store, NONE, (await log.info()).last_time_ms, slack=0)
    assert "history" in done.refused or "follow" in done.refused
    assert (await log.info()).first_position == 0
    await scribe.writer.close()
    await log.close()
    await store.close()


async def test_the_recovery_window_holds_by_time_and_by_size(world: World) -> None:
    for _ in range(10):  # a record a second, a snapshot after each
        await world.scribe.fill(1, 2)
        await create(world.log, world.store, Notebook)
    now_ms = START_MS + 9000
    found = await plan(world.log, world.store, Window(ms=4000), now_ms, slack=0)
    assert found.base is not None and found.base.time_ms == now_ms - 4000
    assert "recovery window" in found.first.why
    clock_ahead = await plan(world.log, world.store, Window(ms=4000), now_ms + 10**9, slack=0)
    assert clock_ahead.before == found.before, "a wrong clock has ended the window"
    assert (await plan(world.log, world.store, Window(ms=3600_000), now_ms, slack=0)).base is None
    root = Holder(3, 2, "the root of branch b")
    held = await plan(world.log, world.store, Window(ms=4000), now_ms, [root], slack=0)
    assert held.base is not None and held.before <= 3 and held.first is root
    done = await world.trim(Window(ms=4000))
    assert done.kept_from == found.before
    for offset in range(found.base.offset, 21):
        machine, _ = await state_at(world.log, world.store, Notebook, offset)
        assert machine.values == keys_up_to(offset)


def test_windows_are_read_as_people_write_them() -> None:
    assert parse_window("7d") == Window(7 * 86_400_000, 0)
    assert parse_window("20gb") == Window(0, 20 * 10**9)
    assert parse_window("12h, 5mb") == Window(43_200_000, 5_000_000)
    assert str(parse_window("7d,20gb")) == "7 days and 20,000,000,000 bytes"
    for bad in ("", "7", "d", "7 parsecs", "-1d"):
        with pytest.raises(BadWindow, match="such as 7d, 20gb"):
            parse_window(bad)


# -- where a state comes from


async def test_an_older_snapshot_or_the_log_stands_in_for_a_damaged_one(world: World) -> None:
    await world.scribe.fill(3, 4)
    first = await create(world.log, world.store, Notebook)
    await world.scribe.fill(3, 4)
    second = await create(world.log, world.store, Notebook)
    path = world.folder / second.data_name
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-2])
    machine, follower = await state_at(world.log, world.store, Notebook)
    assert machine.values == keys_up_to(24) and follower.transactions == 12, "the older one was not used"
    await snapshots.delete(world.store, first.name)
    machine, follower = await state_at(world.log, world.store, Notebook)
    assert machine.values == keys_up_to(24) and follower.transactions == 24
    await world.log.trim(first.position)
    with pytest.raises(NoState, match=f"was trimmed, and no snapshot .*Passed over: {second.name}: .*truncated"):
        await state_at(world.log, world.store, Notebook)


async def test_a_store_that_is_away_matters_only_to_a_trimmed_log(world: World) -> None:
    await world.scribe.fill(3, 4)
    made = await create(world.log, world.store, Notebook)

    class Away:
        url = "s3://away"

        async def names(self) -> list[str]:
            raise StoreUnavailable("s3://away: nobody answers")

    machine, _ = await state_at(world.log, Away(), Notebook)  # type: ignore[arg-type]
    assert machine.values == keys_up_to(12)
    await world.log.trim(made.position)
    with pytest.raises(StoreUnavailable):
        await state_at(world.log, Away(), Notebook)  # type: ignore[arg-type]


# -- the service


async def test_the_snapshotter_makes_one_when_the_log_moved_and_trims_behind_it(world: World) -> None:
    service = world.snapshotter()
    assert (await service.once())[0] is None, "there is nothing yet"
    await world.scribe.fill(5, 4)
    made, done = await service.once()
    assert made is not None and made.offset == 20 and made.verified
    assert done is not None and (await world.log.info()).first_position == made.position
    assert (await service.once())[0] is None, "nothing has changed"
    await world.scribe.fill(1, 1)
    assert (await world.snapshotter(every_ms=10**9).once())[0] is None, "the interval is not over"
    again, _ = await service.once()
    assert again is not None and again.offset == 21


async def test_what_the_window_stands_on_outlives_any_policy(world: World) -> None:
    """The policy keeps the newest snapshot alone, as one for a day does beside a window of a week: the log is trimmed
    all the same, and any moment in the window can be restored."""
    service = Snapshotter(
        world.log, world.store, Notebook, every_ms=0, keep="1h:1h", window=Window(ms=5000), slack=0,
        now_ms=lambda: int(time.time() * 1000) + 36_000_000,
    )  # fmt: skip
    for step in range(1, 25):
        await world.scribe.fill(1, 1)
        await service.once()
        for offset in range(max(1, step - 5), step + 1):
            machine, _ = await state_at(world.log, world.store, Notebook, offset)
            assert machine.values == keys_up_to(offset), (step, offset)
    info = await world.log.info()
    assert info.first_offset > 12
    assert len([each for each in await listed(world.store) if isinstance(each, Manifest)]) <= 4


async def test_a_window_by_size_stands_on_the_snapshots_on_both_sides_of_its_beginning(world: World) -> None:
    for _ in range(10):
        await world.scribe.fill(1, 2)
        await create(world.log, world.store, Notebook)
    usable = [each for each in await listed(world.store) if isinstance(each, Manifest)]
    zone = ZoneInfo("a", "up", end_position=20, stored_bytes=2000)
    info = dataclasses.replace(await world.log.info(), zones=(zone,), end_position=20, first_position=0)
    at = {each.name: each.position for each in usable}
    found = trimming.stands_on(usable, Window(ms=10**9, bytes=1500), info, START_MS)
    assert sorted(at[name] for name in found) == [
        2,
        5,
        6,
    ]  # of the time its oldest, of the size those around position 5


async def test_heartbeats_of_an_idle_log_go(world: World) -> None:
    await world.scribe.fill(1, 4)
    service = world.snapshotter(idle_positions=50)
    kept = []
    for beat in range(1, 500):
        await world.scribe.heartbeat(START_MS + 10_000 + beat)
        if beat % 10 == 0:
            await service.once()
        info = await world.log.info()
        kept.append(info.end_position - info.first_position)
    assert max(kept[100:]) <= 70
    machine, _ = await state_at(world.log, world.store, Notebook)
    assert machine.values == keys_up_to(4)


async def test_two_snapshotters_a_writer_and_a_starting_reader_do_each_other_no_harm(world: World) -> None:
    one, two = world.snapshotter(), world.snapshotter()

    async def starts() -> None:
        for _ in range(15):
            machine, follower = await state_at(world.log, world.store, Notebook)
            assert machine.values == keys_up_to(follower.offset)
            await asyncio.sleep(0)

    async def rounds(service: Snapshotter) -> None:
        for _ in range(10):
            try:
                await service.once()
            except (Trimmed, HistoryTrimmed):
                pass  # the other one has trimmed while it was at it: its next round begins with the newer snapshot
            await asyncio.sleep(0)

    async def writes() -> None:
        for _ in range(30):
            await world.scribe.fill(1, 3)
            await asyncio.sleep(0.002)

    await world.scribe.fill(2, 3)
    await asyncio.gather(rounds(one), rounds(two), writes(), starts())
    await one.once()
    machine, _ = await state_at(world.log, world.store, Notebook)
    assert machine.values == keys_up_to(96)
    assert (await world.log.info()).first_position > 0


async def test_it_says_once_that_the_store_is_away_and_stops_at_once(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventdb.replay import snapshotter as module

    monkeypatch.setattr(module, "RETRY_S_MIN", 0.001)
    monkeypatch.setattr(module, "RETRY_S_MAX", 0.002)
    service = world.snapshotter()
    stop = asyncio.Event()
    tries = 0
    stuck = asyncio.Event()

    async def away() -> None:
        nonlocal tries
        tries += 1
        if tries == 5:
            stuck.set()
            await asyncio.Event().wait()
        raise StoreUnavailable("s3://away: nobody answers")

    service._round = away  # type: ignore[method-assign]
    running = asyncio.create_task(service.run(stop))
    await asyncio.wait_for(stuck.wait(), 5)
    stop.set()
    await asyncio.wait_for(running, 1)
    assert [each.message for each in caplog.records if "nobody answers" in each.message] == [
        "no snapshot now: s3://away: nobody answers; trying again"
    ]


# -- errors planted on purpose are caught


async def test_trimming_before_the_proof_would_be_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted error: a trim that believes the manifest. The state is then gone."""
    await world.scribe.fill(5, 4)
    made = await create(world.log, world.store, Notebook)
    (world.folder / made.data_name).chmod(0o644)
    (world.folder / made.data_name).write_bytes(b"\0" * made.stored_bytes)

    async def believes(*_: object) -> None:
        pass

    monkeypatch.setattr(trimming, "prove", believes)
    await world.trim()
    with pytest.raises(LogError):
        await state_at(world.log, world.store, Notebook)


async def test_a_manifest_without_its_data_is_no_snapshot(world: World) -> None:
    """The planted error: the manifest is put before the data, and the writer dies between them."""
    await world.scribe.fill(5, 4)
    made = await create(world.log, world.store, Notebook)
    await world.store.delete(made.data_name)
    assert world.store is not None and manifests.offset_in(made.manifest_name) == 20
    assert (await world.trim()).plan.base is None
    machine, follower = await state_at(world.log, world.store, Notebook)
    assert follower.transactions == 20 and machine.values == keys_up_to(20)
    reader = Follower(world.log, Notebook())
    await reader.rebuild()
    assert reader.offset == 20


async def test_a_restored_log_whose_own_beginning_was_trimmed_still_counts_as_whole(world: World) -> None:
    """The claims that say so may go: a snapshot is made of whole logs only."""
    await world.scribe.fill(5, 4)
    target = open_log("memory:")
    await restore(world.log, target, ToOffset(12), Notebook)
    scribe = await Scribe.claim(target, "server")
    scribe.records = 5
    await scribe.fill(2, 4)
    made = await create(target, world.store, Notebook)
    for position in range(1, made.position + 1):
        await target.trim(position)
        await check_complete(target)
        machine, follower = await state_at(target, world.store, Notebook)
        assert machine.values == keys_up_to(20) and follower.offset == 20
    await target.close()
