"""One zone out of order never stops a log; the zone heals by itself. Two stop it until one of them is back."""

import asyncio
import errno
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from eventdb.backends import Corrupt, Fenced, Unavailable
from eventdb.backends.quorum import hint as hints
from eventdb.backends.quorum.files import FileOps
from eventdb.backends.quorum.hint_file import HintFile
from eventdb.backends.quorum.segment_file import SegmentFile
from eventdb.backends.quorum.window import Quorum
from tests.kit.faults import (
    EVERYTHING,
    WRITING,
    Bench,
    append,
    crash,
    data_of,
    findings,
    read_all,
    until,
    until_up,
)

ZONES = pytest.mark.parametrize("zone", [0, 1, 2])
SYNCING = frozenset({"pwrite", "fsync"})

FAULTS: dict[str, Callable[[Bench, int], None]] = {
    "EIO on write": lambda bench, zone: bench.ops[zone].fail(errno.EIO, SYNCING),
    "EIO on write, half of it done": lambda bench, zone: bench.ops[zone].fail(errno.EIO, SYNCING, torn=70),
    "EIO on everything": lambda bench, zone: bench.ops[zone].fail(errno.EIO, EVERYTHING),
    "full": lambda bench, zone: bench.ops[zone].fail(errno.ENOSPC, SYNCING, torn=10),
    "read-only": lambda bench, zone: bench.ops[zone].fail(errno.EROFS, WRITING),
    "hanging": lambda bench, zone: bench.ops[zone].stall(EVERYTHING),
    "deleted": lambda bench, zone: remove(bench.zones[zone]),
    "emptied": lambda bench, zone: empty(bench.zones[zone]),
    "a file in its place": lambda bench, zone: replace_by_file(bench.zones[zone]),
    "identity deleted": lambda bench, zone: (bench.zones[zone] / "zone.json").unlink(),
    "promises deleted": lambda bench, zone: remove(bench.zones[zone] / "promises"),
}


def empty(directory: Path) -> None:
    remove(directory)
    directory.mkdir(exist_ok=True)


def remove(directory: Path) -> None:
    """At once, so that the writer does not make it anew while it is still being emptied."""
    shutil.rmtree(directory.rename(directory.with_name("removed")))


def replace_by_file(directory: Path) -> None:
    remove(directory)
    directory.write_text("not a directory")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


@ZONES
@pytest.mark.parametrize("fault", FAULTS)
async def test_one_zone_out_of_order_stops_nothing_and_heals(bench: Bench, zone: int, fault: str) -> None:
    log = bench.open()
    writer = await log.claim("node")
    await bench.append(writer, *(b"before-%d" % n for n in range(20)))
    FAULTS[fault](bench, zone)
    for number in range(20):
        await bench.append(writer, b"during-%d" % number)
    bench.ops[zone].heal()
    if bench.zones[zone].is_file():
        bench.zones[zone].unlink()
    await bench.append(writer, *(b"after-%d" % n for n in range(20)))
    if fault != "identity deleted":
        await until_up(log, writer)
        assert await findings(log) == []
    await bench.check()


@ZONES
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_claim_succeeds_with_one_zone_out_of_order(bench: Bench, zone: int, fault: str) -> None:
    log = bench.open()
    first = await log.claim("node")
    await bench.append(first, *(b"before-%d" % n for n in range(20)))
    crash(first)
    FAULTS[fault](bench, zone)
    writer = await bench.open().claim("next")
    await bench.append(writer, *(b"during-%d" % n for n in range(20)))
    await bench.check()
    bench.ops[zone].heal()
    if bench.zones[zone].is_file():
        bench.zones[zone].unlink()
    await until_up(bench.open(), writer)
    await bench.append(writer, b"after")
    await until_up(bench.open(), writer)
    assert await findings(log) == []


@pytest.mark.parametrize("fault", ["EIO on write", "EIO on everything", "hanging", "full"])
async def test_two_zones_out_of_order_make_appends_wait_until_one_is_back(bench: Bench, fault: str) -> None:
    log = bench.open()
    writer = await log.claim("node")
    await bench.append(writer, b"before")
    end = writer.durable_end
    FAULTS[fault](bench, 0)
    FAULTS[fault](bench, 2)
    waiting = [append(writer, b"waiting-%d" % n) for n in range(10)]
    await until(lambda: writer.zones[1].end == end + 10)
    await until(lambda: writer.zones[0].state == "down" or bench.ops[0].stalled.is_set())
    assert not any(future.done() for future in waiting)
    assert data_of(await read_all(bench.open(faulty=False))) == [b"before"]
    bench.ops[2].heal()
    await asyncio.wait_for(asyncio.gather(*waiting), 15)
    bench.acknowledged += [b"waiting-%d" % n for n in range(10)]
    bench.ops[0].heal()
    await until_up(log, writer)
    await bench.check()


async def test_a_full_disk_is_reported_once_and_tried_ever_more_seldom(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    log = bench.open()
    writer = await log.claim("node")
    await bench.append(writer, b"before")
    await until_up(log, writer)
    caplog.set_level(logging.INFO, "eventdb.backends.quorum")
    caplog.clear()
    for ops in bench.ops:
        ops.fail(errno.ENOSPC, frozenset({"pwrite"}), torn=10)
    waiting = append(writer, b"waiting")
    await until(lambda: writer._quorum.zone_errors >= 15)
    assert not waiting.done()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(set(said)), "each is said once"
    assert not [line for line in said if line.endswith(": up ")], said
    assert len([line for line in said if ": down " in line]) <= 6, said
    for ops in bench.ops:
        ops.heal()
    await asyncio.wait_for(waiting, 15)
    bench.acknowledged.append(b"waiting")
    await until_up(log, writer)
    said = [record.getMessage() for record in caplog.records if record.getMessage().endswith(": up ")]
    assert len(said) == 3
    await bench.check()


async def test_a_claim_without_a_majority_is_unavailable_and_names_the_zones(bench: Bench) -> None:
    crash(await bench.open().claim("node"))
    bench.ops[0].fail(errno.EIO)
    bench.ops[1].fail(errno.EIO)
    with pytest.raises(Unavailable, match=r"zone-a: absent.*zone-b: absent.*Input/output"):
        await bench.open().claim("next")
    bench.ops[1].heal()
    await bench.open().claim("next")


async def test_after_a_failed_sync_the_tail_of_the_segment_is_not_trusted_again(bench: Bench) -> None:
    log = bench.open()
    writer = await log.claim("node")
    await bench.append(writer, b"one")
    await until_up(log, writer)
    assert len(bench.segments(1)) == 1
    bench.ops[1].fail(errno.EIO, frozenset({"pwrite"}), torn=30)
    await bench.append(writer, b"two")
    await until(lambda: writer.zones[1].state == "down")
    bench.ops[1].heal()
    await until_up(log, writer)
    assert len(bench.segments(1)) == 2
    assert bench.segments(1)[1].name.startswith("00000000000000000002-")
    await bench.check()


async def test_a_zone_far_behind_is_filled_from_the_others_over_many_segments(tmp_path: Path) -> None:
    bench = Bench(tmp_path, segment_bytes=8000)
    log = bench.open()
    writer = await log.claim("node")
    remove(bench.zones[2])
    for step in range(8):
        await bench.append(writer, *(b"%04d" % (step * 100 + n) * 25 for n in range(100)))
    writer._window.cut(1 << 60, writer.durable_end)
    await until_up(log, writer)
    assert len(bench.segments(2)) > 2
    assert await findings(log) == []
    for zone in (0, 1):
        bench.ops[zone].fail(errno.EIO)
    await bench.check()
    await bench.close()


async def test_a_zone_behind_the_trimmed_part_starts_where_the_others_do(tmp_path: Path) -> None:
    bench = Bench(tmp_path, segment_bytes=3000)
    log = bench.open()
    writer = await log.claim("node")
    await bench.append(writer, *(b"old-%d" % n for n in range(20)))
    bench.ops[0].fail(errno.EIO)
    for step in range(30):
        await bench.append(writer, *(b"%04d" % (step * 30 + n) * 10 for n in range(30)))
    writer._window.cut(1 << 60, writer.durable_end)
    await log.trim(writer.durable_end - 20)
    bench.ops[0].heal()
    info = await until_up(log, writer)
    assert info.first_position > 100
    assert await findings(log) == []
    kept = data_of(await read_all(bench.open(), info.first_position))
    assert kept == bench.acknowledged[-len(kept) :]
    await bench.close()


@pytest.mark.parametrize("wake", ["idle", "appending"])
async def test_a_writer_stalled_across_a_claim_never_acknowledges_again(bench: Bench, wake: str) -> None:
    """As SIGSTOP does: its threads hang inside the write, a claim passes, then they go on."""
    log = bench.open()
    old = await log.claim("old")
    await bench.append(old, b"kept")
    for zone in (0, 1, 2):
        bench.ops[zone].stall(frozenset({"pwrite"}))
    lost = append(old, b"stalled")
    await until(lambda: all(ops.stalled.is_set() for ops in bench.ops))
    other = bench.open(faulty=False)
    new = await other.claim("new")
    await bench.append(new, b"new-1")
    if wake == "appending":
        more = append(old, b"more")
    for ops in bench.ops:
        ops.heal()
    with pytest.raises(Fenced):
        await asyncio.wait_for(lost, 15)
    if wake == "appending":
        with pytest.raises(Fenced):
            await asyncio.wait_for(more, 15)
    await bench.append(new, b"new-2")
    await until_up(other, new)
    await bench.check()
    assert await findings(other) == []


async def test_an_append_that_reached_one_zone_is_adopted_or_gone_but_never_half(bench: Bench) -> None:
    for round_number in range(6):
        log = bench.open()
        writer = await log.claim(f"node-{round_number}")
        await bench.append(writer, b"acknowledged-%d" % round_number)
        for zone in range(3):
            if zone != round_number % 3:
                bench.ops[zone].fail(errno.EIO, SYNCING)
        end = writer.durable_end
        future = append(writer, b"in doubt-%d" % round_number)
        await until(lambda: writer.zones[round_number % 3].end == end + 1)  # noqa: B023
        assert not future.done()
        crash(writer)
        for ops in bench.ops:
            ops.heal()
        if round_number >= 3:  # the one zone that has it is away: it may be lost, it must not come back later
            bench.ops[round_number % 3].fail(errno.EIO)
            after = await bench.open().claim("after")
            await bench.append(after, b"instead-%d" % round_number)
            bench.ops[round_number % 3].heal()
            await until_up(bench.open(), after)
        else:
            after = await bench.open().claim("after")
            bench.acknowledged.append(b"in doubt-%d" % round_number)
        crash(after)
        await bench.check()
    assert await findings(bench.open()) == []


async def test_a_single_zone_that_lost_what_it_acknowledged_is_corrupt_and_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path, zones=1)
    writer = await bench.open().claim("node")
    await bench.append(writer, b"one", b"two", b"three")
    await until(lambda: writer.zones[0]._hint.published == writer._quorum.votes)
    crash(writer)
    (segment,) = bench.segments(0)
    raw = bytearray(segment.read_bytes())
    raw[raw.index(b"two")] ^= 1
    segment.write_bytes(raw)
    with pytest.raises(Corrupt, match=r"zone-a: segment 0+-0+1\.seg: position 2"):
        await bench.open().claim("next")
    with pytest.raises(Corrupt, match=r"zone-a: segment 0+-0+1\.seg: position 2"):
        await read_all(bench.open())
    assert any("position 2" in line and "checksum" in line for line in await findings(bench.open()))


@pytest.mark.parametrize("first", [1, 4, 40])
def test_a_hint_that_is_cut_short_is_written_to_its_end(tmp_path: Path, first: int) -> None:
    """The first bytes of two hints are the same, so that one which was cut short there would pass for the old one."""

    class Short(FileOps):
        left = 1

        def pwrite(self, fd: int, data: bytes, at: int) -> int:
            if self.left:
                self.left = 0
                data = data[:first]
            return super().pwrite(fd, data, at)

    quorum = Quorum(7, 1, 1, lambda: None)
    hint = HintFile(Short(), str(tmp_path), "zone-a", lambda: 0.0)
    hint.open()
    quorum.mark(0, 12)
    hint.publish(quorum, SegmentFile(FileOps(), str(tmp_path), 7, 0, 1))
    found = hints.load(FileOps(), str(tmp_path))
    assert found is not None and found.durable_end == 12
    hint.close(sync=False)
