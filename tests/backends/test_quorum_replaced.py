"""Directories that change under a living writer: what a zone acknowledged it neither forgets nor invents.

Changed change times (chmod, chown, hard links), an older copy put back, frames of a fenced writer, a failed sync whose
bytes only the page cache shows.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from eventdb.backends.quorum import window
from eventdb.backends.quorum.files import FileOps
from eventdb.backends.quorum.joining import write_again
from eventdb.backends.quorum.view import ZoneView
from tests.kit.faults import (
    WRITING,
    Bench,
    FaultyOps,
    append,
    copy_living,
    crash,
    data_of,
    findings,
    read_all,
    until,
    until_up,
)

PWRITE = frozenset({"pwrite"})


def change_times(zone: Path) -> None:
    """What chmod -R, chown -R, an fsGroup walk or `cp -al` do to the promises."""
    for path in (zone / "promises").iterdir():
        os.chmod(path, 0o600)
        os.chmod(path, 0o644)


def history_of(zone: Path) -> list[bytes]:
    """The bodies of the data records that one zone alone would tell of."""
    view = ZoneView(FileOps(), str(zone), zone.name)
    view.refresh()
    position, found = 0, []
    while (chunk := view.read(position)).frames:
        found += [frame.payload for frame in chunk.frames if frame.kind == 0]
        position = chunk.next_position
    view.close()
    return found


@pytest.mark.parametrize("zones", [1, 3, 5])
async def test_changed_change_times_in_every_zone_stop_nothing(tmp_path: Path, zones: int) -> None:
    bench = Bench(tmp_path, zones=zones)
    log = bench.open()
    writer = await log.claim("node")
    for turn in range(4):
        await bench.append(writer, b"before %d" % turn)
        for zone in bench.zones:
            change_times(zone)
        await asyncio.wait_for(bench.append(writer, b"after %d" % turn), 5)
    await until_up(log, writer)
    await log.close()
    assert data_of(await read_all(bench.open(faulty=False))) == bench.acknowledged


class Unreadable(FaultyOps):
    """Segments that cannot be read while `count` is above 0; everything else works."""

    count = 0

    def open(self, path: str, flags: int) -> int:
        if self.count and path.endswith(".seg") and not flags & (os.O_WRONLY | os.O_RDWR):
            self.count -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().open(path, flags)


@pytest.mark.parametrize("zones", [1, 3])
async def test_read_errors_while_a_zone_looks_at_what_it_holds_settle_nothing(tmp_path: Path, zones: int) -> None:
    """Simulation, seed 616376: the only zone gave up its identity, and no node could read the log any more."""
    bench = Bench(tmp_path, zones=zones)
    failing = [Unreadable() for _ in range(zones)]
    bench.ops = list(failing)
    log = bench.open()
    writer = await log.claim("node")
    await bench.append(writer, b"before")
    await until_up(log, writer)
    for zone, ops in zip(bench.zones, failing, strict=True):
        ops.count = 2
        change_times(zone)
    await asyncio.wait_for(bench.append(writer, b"after"), 10)
    await until(lambda: not any(ops.count for ops in failing))
    await until_up(log, writer)
    assert all((zone / "zone.json").exists() for zone in bench.zones)
    await log.close()
    assert data_of(await read_all(bench.open(faulty=False))) == bench.acknowledged


async def test_zones_whose_times_changed_at_once_cut_nothing_that_was_acknowledged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Zone c lags: whoever took its history for the true one would cut what a and b acknowledged."""
    bench = Bench(tmp_path)
    log = bench.open()
    writer = await log.claim("one")
    await bench.append(writer, b"one", b"two")
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    bench.ops[2].stall(PWRITE)
    await bench.append(writer, *[b"acknowledged %d" % i for i in range(5)])
    for zone in bench.zones:
        change_times(zone)
    await asyncio.wait_for(bench.append(writer, b"later"), 5)
    assert "cut at" not in caplog.text, "a zone that bears our promise and all it voted for needs no other zone"
    crash(writer)
    bench.ops[2].heal()
    log._horizon.leave(writer.epoch)
    new = bench.open(faulty=False)
    await new.claim("two")
    assert data_of(await read_all(new)) == bench.acknowledged


async def test_a_vote_is_never_for_more_than_the_zone_holds(tmp_path: Path) -> None:
    """Zone a has voted for a record that no other zone has; after a change of times it still has it, or has no vote."""
    bench = Bench(tmp_path)
    log = bench.open()
    writer = await log.claim("one")
    await bench.append(writer, b"one", b"two")
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    for index in (1, 2):
        bench.ops[index].stall(PWRITE)
    precious = append(writer, b"precious")
    await until(lambda: writer.zones[0].reached() == writer.durable_end + 1)
    before = writer.zones[0]._file.first
    change_times(bench.zones[0])
    writer.zones[0].report_damage("")  # so that it looks
    await until(lambda: writer.zones[0]._file.first != before)
    assert history_of(bench.zones[0])[-1] == b"precious"
    assert writer._quorum.synced[0] <= writer.zones[0].reached()
    bench.ops[1].heal()
    await precious
    crash(writer)
    bench.ops[2].heal()
    log._horizon.leave(writer.epoch)
    shutil.rmtree(bench.zones[1])  # the one fault of three zones
    new = bench.open(faulty=False)
    await new.claim("two")
    assert b"precious" in data_of(await read_all(new))


async def test_a_zone_that_forgot_its_promise_has_no_vote_until_it_counts_again(tmp_path: Path) -> None:
    """It has all records, but a claim does not count it: what it voted for needs another copy."""
    bench = Bench(tmp_path, zones=5)
    log = bench.open()
    writer = await log.claim("one")
    await bench.append(writer, b"one", b"two")
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    for index in (2, 3, 4):
        bench.ops[index].stall(PWRITE)
    precious = append(writer, b"precious")
    end = writer.durable_end + 1
    await until(lambda: all(zone.reached() == end for zone in writer.zones[:2]))
    for index in (2, 3, 4):
        bench.ops[index].fail(errno.EIO, frozenset({"stat"}))  # so that nobody can vouch for the promises of zone a
    shutil.rmtree(bench.zones[0] / "promises")
    await until(lambda: "can vouch for its promises" in writer.zones[0].health()[1])
    assert history_of(bench.zones[0])[-1] == b"precious"
    bench.ops[2].heal()
    await until(lambda: writer.zones[2].reached() == end)
    assert not precious.done() and writer.durable_end < end, "two zones that count have it, and three are needed"
    for index in (3, 4):
        bench.ops[index].heal()
    await asyncio.wait_for(precious, 10)
    await log.close()


@pytest.mark.parametrize("zones", [3, 5])
async def test_most_zones_moved_away_and_put_back_count_as_before(
    tmp_path: Path, zones: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the log makes them anew and copies what no majority acknowledged: that is not what they are held to."""
    monkeypatch.setattr(window, "CUT_FRAMES_MIN", 1)
    bench = Bench(tmp_path, zones=zones)
    log = bench.open()
    writer = await log.claim("one")
    await bench.append(writer, b"one", b"two")
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    writer._window.cut(1 << 60, writer.durable_end)  # as after many records: zones that are made anew have to copy
    moved = range(zones // 2, zones)
    for index in moved:
        bench.zones[index].rename(tmp_path / f"away-{index}")
    pending = append(writer, b"three")
    await until(lambda: all("can vouch" in writer.zones[index].detail for index in moved))  # made anew, and copied
    for index in moved:
        bench.zones[index].rename(tmp_path / f"made-{index}")
        (tmp_path / f"away-{index}").rename(bench.zones[index])
    await asyncio.wait_for(pending, 10)
    bench.acknowledged.append(b"three")
    await bench.append(writer, b"four")
    await until_up(log, writer)
    await log.close()
    assert data_of(await read_all(bench.open(faulty=False))) == bench.acknowledged


@pytest.mark.parametrize("zones", [3, 5])
async def test_repair_takes_nothing_from_a_zone_whose_fenced_tail_is_not_hidden_yet(tmp_path: Path, zones: int) -> None:
    bench = Bench(tmp_path, zones=zones, segment_bytes=3000)
    first = await bench.open().claim("first")
    await bench.append(first, b"one", b"two")
    await until(lambda: all(zone.reached() == first.durable_end for zone in first.zones))
    for index in range(1, zones):
        bench.ops[index].fail(errno.EIO, WRITING)
    for i in range(3):
        append(first, b"FENCED%d" % i)
    await until(lambda: first.zones[0].reached() == first.durable_end + 3)
    crash(first)
    bench.ops[0].fail(errno.EIO)
    for index in range(1, zones):
        bench.ops[index].heal()
    log = bench.open()
    writer = await log.claim("second")
    for i in range(8):
        await bench.append(writer, b"true%d" % i + os.urandom(900))
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones[1:]))
    slow, reached, opened = threading.Event(), threading.Event(), bench.ops[0].open

    def slow_open(path: str, flags: int) -> int:
        if path.endswith(".seg") and flags & os.O_CREAT:
            reached.set()
            slow.wait(10)
        return opened(path, flags)

    bench.ops[0].open = slow_open  # type: ignore[method-assign]
    bench.ops[0].heal()
    await until(reached.is_set)
    assert not writer.zones[0].true, "its fenced tail is still what it shows"
    path = next(path for path in bench.segments(1) if path.name.endswith("-0000000002.seg"))
    raw = bytearray(path.read_bytes())
    raw[80] ^= 1
    path.write_bytes(raw)
    writer.zones[1].report_damage(path.name)
    await until(lambda: not writer.zones[1]._errands and path.read_bytes() != bytes(raw))
    slow.set()
    await until_up(log, writer)
    assert await findings(bench.open(faulty=False)) == []
    await log.close()
    assert not [body for body in history_of(bench.zones[1]) if body.startswith(b"FENCED")]


async def test_nothing_is_copied_from_a_directory_that_is_not_the_one_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five zones, two faults: c was away, and a is replaced by an older copy that ends in a fenced writer's records."""
    monkeypatch.setattr(window, "CUT_FRAMES_MIN", 4)  # as after 512 records
    bench = Bench(tmp_path, zones=5)
    first = await bench.open().claim("first")
    await bench.append(first, b"one", b"two")
    await until(lambda: all(zone.reached() == first.durable_end for zone in first.zones))
    for index in range(1, 5):
        bench.ops[index].fail(errno.EIO, WRITING)
    for i in range(4):
        append(first, b"FENCED%d" % i)
    await until(lambda: first.zones[0].reached() == first.durable_end + 4)
    crash(first)
    backup = bench.root / "backup-of-a"
    copy_living(bench.zones[0], backup)
    bench.ops[0].fail(errno.EIO)
    for index in range(1, 5):
        bench.ops[index].heal()
    log = bench.open()
    writer = await log.claim("second")
    await bench.append(writer, b"true0")
    bench.ops[0].heal()
    await until_up(log, writer)
    bench.ops[2].fail(errno.EIO, WRITING)
    for i in range(1, 12):
        await bench.append(writer, b"true%d" % i)
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones if zone.index != 2))
    os.rename(bench.zones[0], bench.root / "zone-a.old")
    os.rename(backup, bench.zones[0])
    bench.ops[2].heal()
    writer.zones[2]._call()
    await until(lambda: writer.zones[2].reached() == writer.durable_end)
    await until_up(log, writer)
    await log.close()
    for zone in bench.zones:
        assert history_of(zone) == bench.acknowledged, zone.name


class _PageCache(FileOps):
    """A file system whose writes reach no disk until they are synced; `lost` puts back what the disk has."""

    def __init__(self) -> None:
        self.synced: set[str] = set()
        self.written: set[str] = set()
        self._paths: dict[int, str] = {}

    def open(self, path: str, flags: int) -> int:
        fd = super().open(path, flags)
        self._paths[fd] = path
        if flags & os.O_CREAT:
            self.written.add(path)
        return fd

    def fsync(self, fd: int) -> None:
        super().fsync(fd)
        self.synced.add(self._paths[fd])

    def replace(self, source: str, target: str) -> None:
        super().replace(source, target)
        for names in (self.synced, self.written):
            if source in names:
                names.discard(source)
                names.add(target)


async def test_the_end_of_a_tail_is_written_and_synced_again(tmp_path: Path) -> None:
    """After a failed sync the kernel calls bytes clean that no disk has: what no hint vouches for is copied."""
    bench = Bench(tmp_path, zones=1)
    writer = await bench.open().claim("one")
    await bench.append(writer, b"one", b"two", b"three")
    await until(lambda: writer.zones[0].reached() == writer.durable_end)
    end = writer.durable_end
    crash(writer)
    zone = bench.zones[0]
    before = history_of(zone)
    ops = _PageCache()
    write_again(ops, str(zone), "zone-a", 9, 2, end)
    copy = zone / "00000000000000000002-0000000009.seg"
    assert ops.written == ops.synced - {str(zone)} == {str(copy)}
    assert history_of(zone) == before
    write_again(ops, str(zone), "zone-a", 10, end, end)
    assert len(bench.segments(0)) == 2, "nothing is left to be written"


async def test_a_claim_writes_the_tail_again_in_its_own_source_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    writer = await bench.open().claim("one")
    await bench.append(writer, b"one", b"two", b"three")
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    crash(writer)
    for zone in bench.zones:
        (zone / "durable").unlink()  # nothing vouches for what was synced
    log = bench.open()
    again = await log.claim("two")
    await bench.append(again, b"four")
    await until_up(log, again)
    for index in range(3):
        names = [path.name for path in bench.segments(index)]
        assert "00000000000000000000-0000000002.seg" in names, "the tail is in a segment of the new epoch"
    await log.close()
    assert data_of(await read_all(bench.open(faulty=False))) == bench.acknowledged


@pytest.mark.parametrize("hole", [2, 6])
async def test_a_hole_before_the_end_of_a_zone_that_was_away_is_filled_from_the_others(
    tmp_path: Path, hole: int
) -> None:
    """A disk forgot what it had synced, but not what came later: by its end, where the hint points, the zone is whole.

    It was not there when the log was claimed, so nobody knows how far it had synced; what it writes again has the hole.
    """
    bench = Bench(tmp_path)
    writer = await bench.open().claim("one")
    starts: list[int] = []
    for number in range(9):
        await until(lambda: writer.zones[2].reached() == writer.durable_end)
        starts.append(writer.zones[2]._file.byte)
        await bench.append(writer, b"%d" % number)
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    await writer.close()
    (segment,) = bench.segments(2)
    whole = segment.read_bytes()
    gap = slice(starts[hole], starts[hole + 1] if hole > 2 else starts[hole + 3])
    segment.write_bytes(whole[: gap.start] + bytes(gap.stop - gap.start) + whole[gap.stop :])
    bench.ops[2].fail(errno.EIO)
    log = bench.open()
    again = await log.claim("two")
    await bench.append(again, b"without it")
    bench.ops[2].heal()
    await until_up(log, again)
    assert await findings(log) == []
    assert history_of(bench.zones[2]) == history_of(bench.zones[0])
    await bench.append(again, b"with it")
    await bench.check()
    crash(again)
    bench.ops[0].fail(errno.EIO)
    await bench.open().claim("three")  # it is a member: two of three are enough
    await bench.close()
    await bench.check()
