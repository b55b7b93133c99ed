"""Snapshots: exact at every offset, proven before they count, and nothing half made is ever listed or used."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventdb.backends import Corrupt, Log, open_log
from eventdb.history.founding import restore_from_snapshot
from eventdb.history.view import View
from eventdb.replay import making, pruning, snapshots
from eventdb.replay import state as paths
from eventdb.replay.belonging import NewerThanLog, OtherLog, check_fits
from eventdb.replay.cut import HistoryTrimmed, NothingThere, ToOffset, ToTime
from eventdb.replay.follower import BeyondEnd
from eventdb.replay.inspect import state_at
from eventdb.replay.machine import Transaction
from eventdb.replay.manifest import SUM, BadManifest, Manifest, checksum, decode
from eventdb.replay.retention import BadPolicy, parse_policy
from eventdb.replay.snapshots import Damaged, NotProven, SnapshotDamaged
from eventdb.replay.store import NotThere, StoreError
from tests.kit.differential import examples, sequences
from tests.kit.harness import Local
from tests.kit.histories import COMMANDS, PROLOGUE, Words, run
from tests.kit.machines import START_MS, Notebook, Scribe, keys_up_to, set_transaction
from tests.kit.store_faults import KilledError, Shelf

HOUR_MS = 3_600_000


async def a_log(url: str = "memory:", records: int = 4, per_record: int = 3) -> tuple[Log, Scribe]:
    log = open_log(url)
    scribe = await Scribe.claim(log)
    await scribe.fill(records, per_record)
    return log, scribe


async def whole(store: Shelf) -> list[Manifest]:
    return [each for each in await snapshots.listed(store) if isinstance(each, Manifest)]


async def started_from(log: Log, store: Shelf, manifest: Manifest) -> Notebook:
    """What a node has that starts from the snapshot and goes on to the end."""
    machine = Notebook()
    await snapshots.load(store, manifest, machine)
    follower = snapshots.follow_from(log, manifest, machine)
    await follower.rebuild()
    return machine


@given(steps=sequences(COMMANDS, 14), sizes=st.lists(st.integers(1, 4), min_size=20, max_size=20))
@examples(10)
async def test_a_snapshot_at_any_offset_is_the_state_there(steps: list[Words], sizes: list[int]) -> None:
    local = Local()
    run(local, [*PROLOGUE, *steps])
    left: list[Transaction] = local.transactions()  # type: ignore[assignment]
    log = open_log("memory:")
    scribe = await Scribe.claim(log)
    for size in sizes:
        if left:
            await scribe.write(left[:size])
            left = left[size:]
    last = (await log.info()).last_offset
    store = Shelf()
    digests = {}
    for offset in range(1, last + 1):
        expected = await state_at(log, View, offset)
        found = await making.create(log, store, View, ToOffset(offset))
        assert (found.offset, found.key_count, found.digest) == (offset, expected.key_count, expected.digest)
        assert found.time_ms == expected.time_ms and found.verified
        digests[offset] = found.digest
    for found in await whole(store):  # each leads to the same end
        view = View()
        await snapshots.load(store, found, view)
        follower = snapshots.follow_from(log, found, view)
        await follower.rebuild()
        assert (follower.offset, view.digest()) == (last, digests[last])


@pytest.mark.parametrize("kind", ["memory", "quorum"])
async def test_a_log_goes_on_from_it(kind: str, tmp_path: Path) -> None:
    log, scribe = await a_log("memory:" if kind == "memory" else f"quorum:{tmp_path / 'log'}")
    store = Shelf()
    made = await making.create(log, store, Notebook)
    assert (made.offset, made.epoch, made.time_ms) == (12, 1, START_MS + 3000)
    assert made.log_id == (await log.info()).log_id != ""
    await scribe.fill(2, 2)
    assert (await started_from(log, store, made)).values == keys_up_to(16)
    store.calls.clear()
    again = await making.create(log, store, Notebook, ToTime(START_MS + 4000))
    assert f"get {made.data_name}" in store.calls  # it began with the newest one
    assert (again.offset, again.time_ms) == (14, START_MS + 4000)
    assert [each.offset for each in await snapshots.newest(store, made.log_id)] == [14, 12]
    assert [each.offset for each in await snapshots.newest(store, made.log_id, 13)] == [12]
    assert await snapshots.newest(store, "another") == []
    await log.close()


@pytest.mark.parametrize("kind", ["memory", "quorum"])
async def test_it_says_where_its_last_transaction_ends(kind: str, tmp_path: Path) -> None:
    """Heartbeats after it, and cuts inside a stretch: reading goes on right after the last record that it holds."""
    log, scribe = await a_log("memory:" if kind == "memory" else f"quorum:{tmp_path / 'log'}")
    await scribe.heartbeat(START_MS + 3500)
    await scribe.fill(1, 1)
    await scribe.heartbeat(START_MS + 9000)
    records = [record async for stretch in log.read() for record in stretch.records]
    store = Shelf()
    for offset in range(1, 14):
        made = await making.create(log, store, Notebook, ToOffset(offset) if offset < 13 else None)
        last = [each for each in records if each.count and each.last_offset <= offset][-1:]
        if offset == 13:  # "now": past the heartbeats too
            last = records[-1:]
        expected = (last[0].position + 1, last[0].checksum) if last else (0, -1)
        assert (made.offset, made.position, made.checksum) == (offset, *expected)
        assert (await started_from(log, store, made)).values == keys_up_to(13)
    await log.close()


async def test_a_trimmed_log_has_its_beginning_in_a_snapshot(tmp_path: Path) -> None:
    log, scribe = await a_log()
    store = Shelf()
    made = await making.create(log, store, Notebook)
    await scribe.fill(2, 2)
    await log.trim(made.position)
    assert (await log.info()).first_offset == 13
    assert (await making.create(log, store, Notebook, ToOffset(14))).offset == 14
    assert (await started_from(log, store, made)).values == keys_up_to(16)


async def test_what_cannot_be_asked_for() -> None:
    log = open_log("memory:")
    with pytest.raises(NothingThere, match="nothing to make a snapshot of"):
        await making.create(log, Shelf(), Notebook)
    await (await Scribe.claim(log)).fill(1, 3)
    with pytest.raises(BeyondEnd):
        await making.create(log, Shelf(), Notebook, ToOffset(4))
    with pytest.raises(NothingThere):
        await making.create(log, Shelf(), Notebook, ToOffset(0))
    with pytest.raises(NotThere, match="there is no snapshot 'newest' in shelf"):
        await snapshots.find(Shelf(), "newest")


async def test_another_log_and_a_newer_one_are_refused(tmp_path: Path) -> None:
    log, _ = await a_log()
    other, _ = await a_log(records=2)
    store = Shelf()
    made = await making.create(log, store, Notebook)
    with pytest.raises(OtherLog, match="was made from log"):
        check_fits(made, await other.info())
    with pytest.raises(NewerThanLog, match=r"up to 12, and .* ends at 6"):
        check_fits(dataclasses.replace(made, log_id=(await other.info()).log_id), await other.info())
    check_fits(made, await log.info())


async def test_another_history_of_the_same_log_is_found_out_when_it_is_read_on(tmp_path: Path) -> None:
    log, scribe = await a_log(f"quorum:{tmp_path / 'one'}")
    other, another = await a_log(f"quorum:{tmp_path / 'two'}", per_record=1)
    store = Shelf()
    made = await making.create(log, store, Notebook, ToOffset(12))
    await scribe.fill(1, 1)
    for _ in range(20):
        await another.fill(1, 1)
    with pytest.raises(Corrupt, match="does not follow"):
        await started_from(other, store, made)
    assert (await started_from(log, store, made)).values == keys_up_to(13)
    await log.close()
    await other.close()


async def put_back(tmp_path: Path, records: int) -> tuple[Log, Shelf, Manifest]:
    """A log of which an older copy was put back, and written to since, and a snapshot of what was lost by that."""
    path, copy = tmp_path / "log", tmp_path / "copy"
    store = Shelf()
    for kind in ("old", "lost", "new"):
        if kind == "lost":
            shutil.copytree(path, copy)
        elif kind == "new":
            shutil.rmtree(path)
            copy.rename(path)
        log = open_log(f"quorum:{path}")
        scribe = await Scribe.claim(log)
        if kind == "lost":
            for _ in range(records):
                await scribe.heartbeat(START_MS + 2)
        await scribe.write([set_transaction("k", kind)], time_ms=START_MS + 2)
        await scribe.writer.close()
        if kind == "lost":
            lost = await making.create(log, store, View)
        if kind != "new":
            await log.close()
    return log, store, lost


@pytest.mark.parametrize("records", [0, 5])
async def test_a_snapshot_of_what_an_older_copy_of_the_log_has_lost_is_never_used(tmp_path: Path, records: int) -> None:
    """The same name and the same offsets, and nothing after the snapshot in the log that could be another."""
    log, store, lost = await put_back(tmp_path, records)
    now = await state_at(log, View)
    assert now.offset == lost.offset == 2 and now.digest != lost.digest
    made = await making.create(log, store, View)
    assert (made.offset, made.digest) == (2, now.digest)
    await store.delete(made.manifest_name)
    target = open_log(f"quorum:{tmp_path / 'restored'}")
    with pytest.raises(HistoryTrimmed, match=r"a history that .* does not have|does not follow"):
        await restore_from_snapshot(log, store, target, ToOffset(2), View)
    assert await target.is_empty()
    await log.close()
    await target.close()


async def test_a_snapshot_whose_key_is_gone_is_passed_over(tmp_path: Path) -> None:
    """The log, or an older snapshot, gives the same state; what was passed over is named where neither does."""
    log, scribe = await a_log(f"quorum:{tmp_path / 'log'}")
    store = Shelf()
    first = await making.create(log, store, View)
    await scribe.fill(1, 1)
    second = await making.create(log, store, View)
    store.objects.pop(second.manifest_name)
    await store.put(second.manifest_name, [dataclasses.replace(second, key_id="7").encode()])
    assert [each.name for each in await snapshots.newest(store, "")] == [second.name, first.name]
    found, _ = await paths.state_at(log, store, View)
    assert found.digest() == (await state_at(log, View)).digest
    assert f"get {first.data_name}" in store.calls
    target = open_log("memory:")
    done = await restore_from_snapshot(log, store, target, ToOffset(13), View)
    assert done.snapshot.name == first.name
    await log.close()


@pytest.mark.parametrize("works_first", [False, True])
@pytest.mark.parametrize("failure", [StoreError("out of order"), KilledError()])
async def test_a_failure_at_any_call_leaves_nothing_half_made(failure: BaseException, works_first: bool) -> None:
    log, _ = await a_log()
    count = 0
    for at in range(1, 100):
        store = Shelf()
        old = await making.create(log, store, Notebook, ToOffset(5))
        store.calls.clear()
        store.fail_at, store.failure, store.works_first = at, failure, works_first
        made = None
        try:
            made = await making.create(log, store, Notebook)
        except (StoreError, KilledError):
            count += 1
        store.fail_at, calls = 0, len(store.calls)
        found = await snapshots.listed(store)
        for each in found:  # what is listed is whole
            assert isinstance(each, Manifest)
            await snapshots.verify(store, each, Notebook)
        assert found[-1] == old and len(found) <= 2 and (made is None or found[0] == made)
        again = await making.create(log, store, Notebook)  # running it again finishes
        assert (await whole(store))[0].offset == again.offset == 12
        if at > calls:
            break
    assert count >= 6, store.calls


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ({"forgets": (".rdb.zst",)}, SnapshotDamaged, "its data is gone"),
        ({"garbles": (".rdb.zst",)}, SnapshotDamaged, "was changed since it was written"),
        ({"forgets": (".json",)}, SnapshotDamaged, "this store must not be trusted"),
        ({"garbles": (".json",)}, SnapshotDamaged, "this store must not be trusted"),
    ],
)
async def test_a_store_that_lies_is_found_out(
    how: dict[str, tuple[str, ...]], error: type[Exception], text: str
) -> None:
    log, _ = await a_log()
    store = Shelf()
    for name, value in how.items():
        setattr(store, name, value)
    with pytest.raises(error, match=text):
        await making.create(log, store, Notebook)
    assert await whole(store) == []


async def test_a_state_that_reads_back_otherwise_never_counts() -> None:
    log, _ = await a_log()
    made = 0

    def forgetful() -> Notebook:
        """The second machine of a `create` is the one that its snapshot is loaded into."""
        nonlocal made
        made += 1
        machine = Notebook()
        if made == 2:
            machine.digest = lambda: "0" * 32  # type: ignore[method-assign]
        return machine

    store = Shelf()
    with pytest.raises(NotProven, match="loads as another state"):
        await making.create(log, store, forgetful)
    assert await snapshots.listed(store) == []


Spoil = Callable[[Shelf, Manifest], None]


def cut(store: Shelf, made: Manifest) -> None:
    store.objects[made.data_name] = store.objects[made.data_name][:-3]


def grown(store: Shelf, made: Manifest) -> None:
    store.objects[made.data_name] += b"more"


def flipped(store: Shelf, made: Manifest) -> None:
    data = store.objects[made.data_name]
    store.objects[made.data_name] = data[:20] + bytes([data[20] ^ 4]) + data[21:]


def emptied(store: Shelf, made: Manifest) -> None:
    store.objects[made.data_name] = b""


@pytest.mark.parametrize(
    ("spoil", "text"),
    [(cut, "is truncated"), (grown, "is longer than it was"), (flipped, "was changed"), (emptied, "is truncated")],
)
async def test_damaged_data_is_named_and_an_older_snapshot_used(spoil: Spoil, text: str) -> None:
    log, scribe = await a_log()
    store, target = Shelf(), Shelf("target")
    await making.create(log, store, Notebook, ToOffset(5))
    made = await making.create(log, store, Notebook)
    spoil(store, made)
    with pytest.raises(SnapshotDamaged, match=text):
        await snapshots.load(store, made, Notebook())
    with pytest.raises(SnapshotDamaged, match=text):
        await snapshots.verify(store, made, Notebook)
    with pytest.raises(SnapshotDamaged, match=text):
        await snapshots.export(store, made, lambda data: None)
    (refused,) = (await snapshots.copy(store, target)).refused
    assert re.search(text, refused.why)
    assert [each.offset for each in await whole(target)] == [5] and made.data_name not in target.objects
    await log.trim(made.position)
    await scribe.fill(1, 1)
    with pytest.raises(
        paths.NoState, match=text
    ):  # the older one does not reach the log any more: what is wrong is said
        await making.create(log, store, Notebook)
    other, _ = await a_log()
    shelf = Shelf()
    await making.create(other, shelf, Notebook, ToOffset(5))
    spoil(shelf, await making.create(other, shelf, Notebook))
    assert (await making.create(other, shelf, Notebook)).offset == 12


async def test_flips_anywhere_are_found() -> None:
    log, _ = await a_log(records=10)
    store = Shelf()
    made = await making.create(log, store, Notebook)
    data, rng = store.objects[made.data_name], Random(3)
    for _ in range(60):
        at = rng.randrange(len(data))
        store.objects[made.data_name] = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        with pytest.raises(SnapshotDamaged):
            await snapshots.load(store, made, Notebook())


async def test_missing_data_and_bad_manifests_are_listed_as_damaged() -> None:
    log, _ = await a_log()
    store = Shelf()
    made = await making.create(log, store, Notebook)
    text = store.objects[made.manifest_name]
    del store.objects[made.data_name]
    (found,) = await snapshots.listed(store)
    assert isinstance(found, Damaged) and "is missing in shelf" in found.why
    with pytest.raises(SnapshotDamaged, match="cannot be used: its data"):
        await snapshots.find(store, made.name)
    store.objects["note.txt"] = store.objects["other.json"] = b"{}"  # none of ours
    assert len(await snapshots.listed(store)) == 1
    store.objects[made.manifest_name] = text[:-10]
    (found,) = await snapshots.listed(store)
    assert isinstance(found, Damaged) and "is no JSON" in found.why
    assert await snapshots.newest(store, made.log_id) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": 2}, "has format 2; this version of eventdb reads 1"),
        ({"offset": 13}, "it was renamed"),
        ({"offset": "12"}, "offset cannot be '12'"),
        ({"offset": True}, "offset cannot be"),
        ({"position": -1}, "position cannot be"),
        ({"digest": ""}, "its SHA-256 or its digest is none"),
        ({"sha256": "00"}, "its SHA-256 or its digest is none"),
        ({"types": {"string": "x"}}, "types cannot be"),
        ({"types": {"string": 3}}, "sum up to 3"),
        ({"name": "../up"}, "it was renamed"),
        ({"more": 1}, "lacks, or should not have: more"),
        ({"log_id": None}, "log_id cannot be"),
    ],
)
async def test_a_manifest_is_believed_as_a_whole_or_not_at_all(change: dict[str, object], text: str) -> None:
    log, _ = await a_log()
    made = await making.create(log, Shelf(), Notebook)
    assert decode(made.manifest_name, made.encode()) == made
    facts = json.loads(made.encode()) | change
    with pytest.raises(BadManifest, match=r"own checksum|has format 2"):
        decode(made.manifest_name, json.dumps(facts).encode())
    del facts[SUM]
    with pytest.raises(BadManifest, match=text):
        decode(made.manifest_name, json.dumps({**facts, SUM: checksum(facts)}).encode())
    del facts["digest"]
    with pytest.raises(BadManifest):
        decode(made.manifest_name, json.dumps({**facts, SUM: checksum(facts)}).encode())
    with pytest.raises(BadManifest, match="is no JSON"):
        decode(made.manifest_name, b"[" * 60_000)


async def test_two_snapshotters_of_one_offset_are_harmless() -> None:
    log, _ = await a_log()
    store = Shelf()
    first, second = await making.create(log, store, Notebook), await making.create(log, store, Notebook)
    assert first.name != second.name and len(await whole(store)) == 2
    await snapshots.delete(store, first.name)
    assert await whole(store) == [second] and sorted(store.objects) == [second.manifest_name, second.data_name]


async def test_a_copy_goes_on_where_it_was_interrupted() -> None:
    log, _ = await a_log()
    source = Shelf()
    for offset in (3, 6, 9):
        await making.create(log, source, Notebook, ToOffset(offset))
    for works_first in (False, True):
        for at in range(1, 100):
            target = Shelf("target")
            target.fail_at, target.works_first = at, works_first
            try:
                await snapshots.copy(source, target)
                break
            except StoreError:
                for each in await snapshots.listed(target):
                    assert isinstance(each, Manifest)
                    await snapshots.verify(target, each, Notebook)
            target.fail_at = 0
            await snapshots.copy(source, target)
            assert target.objects == source.objects
        assert at > 9
    target = Shelf("target")
    (one,) = (await snapshots.copy(source, target, "6")).copied
    assert one.offset == 6 and len(target.objects) == 2
    target.objects[one.data_name] = b"of an older, lying store"
    del target.objects[one.manifest_name]
    assert len((await snapshots.copy(source, target)).copied) == 3 and target.objects == source.objects
    assert await snapshots.copy(source, target) == snapshots.Copied([], [])
    target.objects.clear()
    target.garbles = (".rdb.zst",)
    with pytest.raises(SnapshotDamaged, match="was changed"):
        await snapshots.copy(source, target)
    assert await whole(target) == []


async def test_a_damaged_snapshot_keeps_no_other_from_being_copied() -> None:
    log, _ = await a_log()
    source, target = Shelf(), Shelf("target")
    made = [await making.create(log, source, Notebook, ToOffset(offset)) for offset in (3, 6, 9, 12)]
    flipped(source, made[3])
    del source.objects[made[2].data_name]
    source.objects[made[1].manifest_name] = b"{}"
    done = await snapshots.copy(source, target)
    assert [each.offset for each in done.copied] == [3]
    assert [each.offset for each in done.refused] == [12, 9, 6]
    assert "was changed since it was written" in done.refused[0].why and "is missing" in done.refused[1].why
    assert sorted(target.objects) == [made[0].manifest_name, made[0].data_name]
    with pytest.raises(SnapshotDamaged, match="was changed"):
        await snapshots.copy(source, target, "12")


async def made_at(store: Shelf, log: Log, offset: int, created_ms: int) -> Manifest:
    """A snapshot that says that it was made then."""
    made = await making.create(log, store, Notebook, ToOffset(offset))
    data = store.objects.pop(made.data_name)
    del store.objects[made.manifest_name]
    name = f"{made.name[:-16]}{created_ms:011x}{made.name[-5:]}"
    moved = dataclasses.replace(made, name=name, created_ms=created_ms)
    store.objects[moved.data_name], store.objects[moved.manifest_name] = data, moved.encode()
    return moved


async def test_pruning_keeps_what_the_policy_says() -> None:
    log, _ = await a_log(records=10, per_record=10)
    store, now_ms = Shelf(), 1_700_000_000_000
    ages_h = [0.1, 0.2, 1.1, 1.2, 5.0, 30.0, 31.0, 60.0, 24 * 40.0]
    for i, age in enumerate(ages_h):
        await made_at(store, log, 90 - i, now_ms - int(age * HOUR_MS))
    done = await pruning.prune(store, "24h:1h,35d:1d", now_ms=now_ms, dry_run=True)
    assert [each.offset for each in done.kept] == [90, 88, 86, 85, 83] and len(await whole(store)) == 9
    done = await pruning.prune(store, "24h:1h,35d:1d", now_ms=now_ms)
    assert [each.offset for each in done.kept] == [90, 88, 86, 85, 83]
    assert await whole(store) == done.kept and len(store.objects) == 10
    done = await pruning.prune(store, "1h:1h", now_ms=now_ms + 1000 * HOUR_MS)
    assert [each.offset for each in done.kept] == [90]
    done = await pruning.prune(store, "1h:1h", now_ms=now_ms - 1000 * HOUR_MS)  # a clock that was set back
    assert [each.offset for each in done.kept] == [90]


async def test_pruning_removes_left_over_data_and_nothing_that_may_be_in_the_making() -> None:
    log, _ = await a_log()
    store, now_ms = Shelf(), 1_700_000_000_000
    made = await made_at(store, log, 5, now_ms)
    for age in (23, 25):
        store.objects[f"{7:020}-1-{now_ms - age * HOUR_MS:011x}00000.rdb.zst"] = b"half"
    store.objects["a person's file"] = b""
    done = await pruning.prune(store, "24h:1h", now_ms=now_ms)
    assert len(done.left_over) == 1 and done.kept == [made] and len(store.objects) == 4


async def test_pruning_that_is_killed_leaves_whole_snapshots() -> None:
    log, _ = await a_log()
    for works_first in (False, True):
        for at in range(1, 50):
            store, now_ms = Shelf(), 1_700_000_000_000
            for offset in range(1, 5):
                await made_at(store, log, offset, now_ms - (50 - offset) * HOUR_MS)
            store.calls.clear()
            store.fail_at, store.failure, store.works_first = at, KilledError(), works_first
            try:
                await pruning.prune(store, "1h:1h", now_ms=now_ms)
                break
            except KilledError:
                store.fail_at = 0
            assert all(isinstance(each, Manifest) for each in await snapshots.listed(store))
            await pruning.prune(store, "1h:1h", now_ms=now_ms)
            assert sorted(store.objects) == [name for name in sorted(store.objects) if name.startswith(f"{4:020}")]
        assert at > 6


@pytest.mark.parametrize("text", ["", "24h", "24h:", "1h:24h", "24h:1h,12h:1h", "0h:1h", "24x:1h", "24h:1h,"])
def test_policies_that_are_none(text: str) -> None:
    with pytest.raises(BadPolicy):
        parse_policy(text)


async def test_a_large_state_goes_through_in_pieces() -> None:
    log = open_log("memory:")
    scribe = await Scribe.claim(log)
    rng = Random(1)
    transactions: list[Transaction] = [[b"t", [b"SET", b"k%d" % n, rng.randbytes(200_000)]] for n in range(60)]
    for each in transactions:
        await scribe.write([each])
    store = Shelf()
    made = await making.create(log, store, View)
    assert made.stored_bytes > 12_000_000 and made.key_count == 60
    sizes: list[int] = []
    assert await snapshots.export(store, made, lambda data: sizes.append(len(data))) == made.rdb_bytes == sum(sizes)
