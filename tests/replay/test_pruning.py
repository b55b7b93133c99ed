"""Pruning: what the log needs stays, whoever prunes, and whatever is trimmed meanwhile."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from eventdb.backends import Log, open_log
from eventdb.replay import pruning, snapshots
from eventdb.replay.cut import ToOffset
from eventdb.replay.making import create
from eventdb.replay.manifest import Manifest
from eventdb.replay.pruning import prune
from eventdb.replay.snapshots import SnapshotDamaged, listed
from eventdb.replay.snapshotter import Snapshotter
from eventdb.replay.state import state_at
from eventdb.replay.store import Chunks
from eventdb.replay.trimming import Holder, Window, trim
from tests.kit.machines import Notebook, Scribe, keys_up_to
from tests.kit.store_faults import Shelf

OLD_MS = 36_000_000  # later than any policy of these tests keeps
NEWEST_ALONE = "1h:1h"


def later_ms() -> int:
    return int(time.time() * 1000) + OLD_MS


class Interrupted(Shelf):
    """Something else happens before the call of that number, or after a deletion, counted from when it was set."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 0
        self.kinds: tuple[str, ...] = ("put", "get", "names", "delete")
        self.other: Callable[[], Awaitable[object]] | None = None

    async def _meanwhile(self, kind: str) -> None:
        if self.other is None or kind not in self.kinds:
            return
        self.left -= 1
        if self.left == 0:
            other, self.other = self.other, None
            await other()

    async def put(self, name: str, chunks: Chunks) -> None:
        await self._meanwhile("put")
        await super().put(name, chunks)

    async def get(self, name: str) -> AsyncGenerator[bytes, None]:
        await self._meanwhile("get")
        async for chunk in super().get(name):
            yield chunk

    async def names(self) -> list[str]:
        await self._meanwhile("names")
        return await super().names()

    async def delete(self, name: str) -> None:
        await self._meanwhile("delete")
        await super().delete(name)
        await self._meanwhile("deleted")


async def a_history(store: Shelf, records: int = 10) -> tuple[Log, Scribe]:
    """A record of one transaction a second, each with a snapshot."""
    log = open_log("memory:")
    scribe = await Scribe.claim(log)
    for _ in range(records):
        await scribe.fill(1, 1)
        await create(log, store, Notebook)
    return log, scribe


async def offsets(store: Shelf) -> list[int]:
    return [each.offset for each in await listed(store)]


async def test_what_the_window_a_trimmed_beginning_and_others_need_stays() -> None:
    store = Shelf()
    log, _ = await a_history(store)
    root = Holder(4, 3, "the root of branch b")
    done = await prune(
        store, NEWEST_ALONE, log=log, window=Window(ms=3000), others=[root], now_ms=later_ms(), dry_run=True
    )
    assert [each.offset for each in done.kept] == [10, 8, 7, 3] and len(await offsets(store)) == 10
    why = {each.offset: done.needed.get(each.name, "") for each in done.kept}
    assert why[10] == "" and "first moments of the recovery window" in why[7] and why[3] == "the root of branch b"
    await log.trim(4)  # by somebody whose window was longer
    done = await prune(store, NEWEST_ALONE, log=log, now_ms=later_ms())
    assert await offsets(store) == [10, 3]
    assert "trimmed, and what it has from offset" in done.needed[done.kept[-1].name]
    for offset in range(3, 11):
        machine, _ = await state_at(log, store, Notebook, offset)
        assert machine.values == keys_up_to(offset)
    await prune(store, NEWEST_ALONE, now_ms=later_ms())
    assert await offsets(store) == [10], "no log was named: the policy alone"


async def test_snapshots_of_other_logs_are_left_to_those_who_know_these_logs() -> None:
    store = Shelf()
    log, _ = await a_history(store, 3)
    other, _ = await a_history(store, 4)
    done = await prune(store, NEWEST_ALONE, log=log, now_ms=later_ms())
    assert len(done.deleted) == 2 and done.others == 4
    theirs = (await other.info()).log_id
    assert [each.log_id for each in await listed(store) if isinstance(each, Manifest)].count(theirs) == 4
    service = Snapshotter(
        log, store, Notebook, every_ms=0, keep=NEWEST_ALONE, window=Window(), slack=0, now_ms=later_ms
    )
    await service.once()
    assert len(await offsets(store)) == 5, "a snapshotter has pruned what is not its own"


@pytest.mark.parametrize("window_ms", [0, 3000])
async def test_pruned_by_hand_while_a_snapshotter_makes_prunes_and_trims(window_ms: int) -> None:
    """A round of the service, with a window of three seconds, before every single call.

    Right before a deletion only where both have the same window, which is what then keeps the trimmer's snapshot.
    """
    points = 0
    for at in range(1, 200):
        store = Interrupted()
        log, scribe = await a_history(store)
        service = Snapshotter(
            log, store, Notebook, every_ms=0, keep=NEWEST_ALONE, window=Window(ms=3000), slack=0, now_ms=later_ms
        )

        async def meanwhile(scribe: Scribe = scribe, service: Snapshotter = service) -> None:
            await scribe.fill(1, 1)
            await service.once()

        store.left, store.other = at, meanwhile
        if not window_ms:
            store.kinds = ("get", "names", "deleted")
        await prune(store, NEWEST_ALONE, log=log, window=Window(ms=window_ms), now_ms=later_ms())
        over, store.other = store.other is not None, None
        last = (await log.info()).last_offset
        for offset in range(max(last - 3, 1), last + 1):
            machine, _ = await state_at(log, store, Notebook, offset)
            assert machine.values == keys_up_to(offset), f"interrupted before call {at}"
        if over:
            break
        assert last == 11
        points += 1
    assert points >= 10


async def test_a_trimmer_is_not_fooled_by_a_deletion_while_it_reads_the_proof() -> None:
    store = Interrupted()
    log, _ = await a_history(store, 3)
    (newest, *_) = await listed(store)

    async def deleted() -> None:
        for each in await listed(store):
            store.objects.pop(each.name if each.name.endswith(".json") else f"{each.name}.json")

    store.kinds = ("get",)
    store.other, store.left = deleted, 4  # three manifests, then the data
    done = await trim(log, store, Window(), 2**50, slack=0)
    assert "was deleted while its data was read" in done.refused
    assert (await log.info()).first_position == 0 and isinstance(newest, Manifest)


async def test_what_should_not_be_deleted_by_hand_says_why() -> None:
    store = Shelf()
    log, _ = await a_history(store, 5)
    other = open_log("memory:")
    await (await Scribe.claim(other)).fill(1, 1)
    names = {each.offset: each.name for each in await listed(store)}
    assert "it is the newest verified one" in await pruning.why_it_stays(store, names[5], None, Window())
    assert not await pruning.why_it_stays(store, names[3], None, Window())
    assert not await pruning.why_it_stays(store, names[1], log, Window(ms=1000))
    assert "the first moments of the recovery window" in await pruning.why_it_stays(
        store, names[4], log, Window(ms=1000)
    )
    assert "is not of log" in await pruning.why_it_stays(store, names[4], other, Window(ms=1000))
    assert not await pruning.why_it_stays(store, "no such", log, Window())
    await create(log, store, Notebook)  # of the same offset: one of the two may go
    assert not await pruning.why_it_stays(store, names[5], None, Window())


async def test_a_snapshot_of_the_past_is_not_believed_to_have_been_pruned() -> None:
    """A store forgets its manifest: that newer states are there says nothing about it."""
    store = Shelf()
    log, _ = await a_history(store, 5)
    store.forgets = (".json",)
    with pytest.raises(SnapshotDamaged, match="must not be trusted"):
        await create(log, store, Notebook, ToOffset(2))
    store.forgets = ()
    made = await create(log, store, Notebook, ToOffset(2))
    del store.objects[made.manifest_name]
    newer = dataclasses.replace(made, name=f"{made.name[:-16]}{made.created_ms + 1:011x}00000")
    store.objects[newer.manifest_name] = b""  # somebody has begun one since, and prunes
    store.forgets = (".json",)
    await snapshots.put_manifest(store, made)


async def test_a_snapshot_of_the_past_does_not_put_off_the_next_one() -> None:
    store = Shelf()
    log, scribe = await a_history(store, 5)
    service = Snapshotter(
        log, store, Notebook, every_ms=3_600_000, keep="24h:1s", window=Window(), slack=0, now_ms=later_ms
    )
    await scribe.fill(1, 1)
    past = await create(log, store, Notebook, ToOffset(2))
    data = store.objects.pop(past.data_name)
    del store.objects[past.manifest_name]
    now_ms = later_ms()  # it was made just now
    moved = dataclasses.replace(past, name=f"{past.name[:-16]}{now_ms:011x}00000", created_ms=now_ms)
    store.objects[moved.data_name], store.objects[moved.manifest_name] = data, moved.encode()
    made, _ = await service.once()
    assert made is not None and made.offset == 6
