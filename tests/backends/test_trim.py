"""Trimming quorum files: wherever it dies, whatever happens beside it, history has a beginning and no gap."""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventdb.backends import Trimmed
from eventdb.backends.quorum.files import FileOps
from eventdb.backends.quorum.log import open_quorum
from eventdb.backends.quorum.reader import End
from eventdb.backends.quorum.segment import NO_STOP, kept_segments
from eventdb.backends.quorum.trimming import trim_zone
from eventdb.replay.reading import reading
from tests.kit.faults import Bench, data_of, findings, read_all, until, until_up


class Killed(BaseException):
    """Nothing in the program handles it, as nothing handles kill -9."""


class Mortal(FileOps):
    """Dies before its n-th change."""

    def __init__(self, left: int) -> None:
        self.left = left

    def _step(self) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1

    def unlink(self, path: str) -> None:
        self._step()
        super().unlink(path)

    def link(self, source: str, target: str) -> None:
        self._step()
        super().link(source, target)

    def fsync(self, fd: int) -> None:
        self._step()
        super().fsync(fd)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "log", segment_bytes=3000)
    yield bench
    await bench.close()


async def filled(bench: Bench, rounds: int = 8) -> int:
    """History in several segments in every zone; returns its end."""
    writer = await bench.open().claim("node")
    for step in range(rounds):
        await bench.append(writer, *(b"%06d" % (step * 20 + n) * 15 for n in range(20)))
        await until(lambda: all(zone.end >= writer.durable_end for zone in writer.zones if zone.state == "up"))
    return writer.durable_end


async def test_a_trim_that_is_killed_at_any_step_leaves_a_sound_log(bench: Bench, tmp_path: Path) -> None:
    end = await filled(bench)
    await bench.close()
    zones = sorted(path for path in (tmp_path / "log").rglob("zone-*") if path.is_dir())
    assert len(zones) == 3
    steps = 0
    while True:
        copy = tmp_path / f"killed-{steps}"
        shutil.copytree(zones[0].parent, copy)
        dead = False
        try:
            trim_zone(Mortal(steps), str(copy / zones[0].name), end - 20)
        except Killed:
            dead = True
        log = open_quorum(f"quorum:{copy}")
        info = await log.info()
        assert await findings(log) == [], steps
        first = info.first_position
        kept = data_of(await read_all(log, first))
        assert kept == bench.acknowledged[-len(kept) :]
        await log.trim(end - 20)  # the next one finishes it
        trimmed = await log.info()
        assert 0 < trimmed.first_position <= end - 20
        with pytest.raises(Trimmed):
            await read_all(log, 0)
        with pytest.raises(Trimmed):
            await log.seek(1)
        writer = await log.claim("next")
        assert writer.next_offset == len(bench.acknowledged) + 1
        await log.close()
        if not dead:
            break
        steps += 1
    assert steps > 6


async def test_what_comes_back_below_the_beginning_is_no_history(bench: Bench) -> None:
    """A fenced writer that slept through the trim makes a segment of its old epoch; a late repair puts one back."""
    await filled(bench)
    directory = str(bench.segments(0)[0].parent)
    old = bench.segments(0)[1]
    saved = old.read_bytes()
    log = bench.open()
    end = (await log.info()).end_position
    await log.trim(end - 20)
    first = (await log.info()).first_position
    old.write_bytes(saved)
    assert kept_segments(FileOps(), directory)[0].first == first
    assert (await log.info()).first_position == first
    assert await findings(log) == []
    with pytest.raises(Trimmed):
        await read_all(bench.open(), int(old.name.partition("-")[0]))
    await log.trim(end - 20)
    assert not old.exists()


async def test_a_zone_that_was_away_drops_with_the_next_trim(bench: Bench) -> None:
    end = await filled(bench)
    log = bench.open()
    bench.ops[2].fail(errno.EIO)
    await log.trim(end - 20)
    bench.ops[2].heal()
    firsts = [zone.first_position for zone in (await log.info()).zones]
    assert firsts[0] == firsts[1] > firsts[2] == 0
    assert data_of(await read_all(bench.open())) == bench.acknowledged  # it is history all the same
    await log.trim(end - 20)
    assert (await log.info()).first_position > 0
    assert await findings(log) == []


async def test_a_blank_zone_is_rebuilt_from_where_a_trimmed_log_begins(bench: Bench) -> None:
    end = await filled(bench)
    log = bench.open()
    await log.trim(end - 20)
    await bench.close()
    directory = bench.segments(1)[0].parent
    shutil.rmtree(directory)
    log = bench.open()
    writer = await log.claim("after")
    await bench.append(writer, b"more")
    info = await until_up(log, writer)
    assert {zone.first_position for zone in info.zones} == {info.first_position}
    assert info.first_position > 0
    assert await findings(log) == []
    for away in (0, 2):
        bench.ops[away].fail(errno.EIO)
    kept = data_of(await read_all(bench.open(), info.first_position))
    assert kept == bench.acknowledged[-len(kept) :]


async def test_two_trims_at_once_with_a_reader_and_a_writer_between(bench: Bench) -> None:
    """The reader gets every record in order or is told that it is too late; nobody is shown a gap."""
    end = await filled(bench, 12)
    one, two, reader_log = bench.open(), bench.open(), bench.open()
    seen: list[bytes] = []
    trimmed = False

    async def read() -> None:
        nonlocal trimmed
        try:
            async with reading(reader_log, 0) as stretches:
                async for stretch in stretches:
                    seen.extend(record.body for record in stretch.records if record.count)
                    await asyncio.sleep(0.001)
        except Trimmed:
            trimmed = True

    writer = await bench.open().claim("second")
    task = asyncio.create_task(read())
    for step in range(1, 8):
        before = end * step // 8
        await asyncio.gather(one.trim(before), two.trim(before - 30), bench.append(writer, b"%d" % step))
    await task
    assert seen == bench.acknowledged[: len(seen)]
    assert trimmed or len(seen) >= 12 * 20
    assert await findings(one) == []
    third = await bench.open().claim("third")
    assert third.next_offset == len(bench.acknowledged) + 1


async def test_the_last_segment_is_never_trimmed(bench: Bench) -> None:
    end = await filled(bench)
    log = bench.open()
    await log.trim(NO_STOP)
    info = await log.info()
    assert info.first_position < info.end_position == end
    assert (await bench.open().claim("next")).next_offset == len(bench.acknowledged) + 1


async def test_a_trim_proves_that_where_it_begins_is_durable(bench: Bench) -> None:
    """A power cut may take the newest hints and leave older ones, which end with a record that is trimmed by then."""
    await filled(bench)
    log = bench.open()
    info = await log.info()
    await bench.close()
    directories = [bench.segments(zone)[0].parent for zone in range(3)]
    last = sorted(int(path.name.partition("-")[0]) for path in bench.segments(0))[-2]
    for directory in directories:
        trim_zone(FileOps(), str(directory), last)
        assert [path.name for path in directory.glob("start-*")]
    places = log._places
    end = End(places, log._horizon)
    for place in places:
        end._hear_trim(place)
    assert last < end.durable_end <= info.end_position
