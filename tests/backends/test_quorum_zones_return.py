"""Zones that go away and come back as they were (unmounted, renamed) count again, even two of three at once."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventdb.backends import Unavailable
from tests.kit.faults import Bench, append, copy_living, crash, data_of, findings, read_all, until, until_up

AWAY = ["nothing", "a blank zone", "a file"]  # what stands in a zone's place meanwhile


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


def take_away(bench: Bench, zone: int, instead: str) -> Path:
    """Rename the zone at once, and put what stands in its place there before the writer can."""
    kept = bench.root.with_name(f"kept-{zone}")
    bench.zones[zone].rename(kept)
    if instead == "a file":
        bench.zones[zone].write_text("not a directory")
    return kept


def bring_back(bench: Bench, zone: int, kept: Path) -> None:
    """As a person does: what the writer made in the meantime is moved out of the way first."""
    place = bench.zones[zone]
    if place.is_file():
        place.unlink()
    while not place.exists() or kept.exists():
        if place.exists():
            shutil.rmtree(place.rename(kept.with_name(f"made-{zone}")))
        try:
            kept.rename(place)
        except OSError:  # made anew in between
            continue


@pytest.mark.parametrize("instead", AWAY)
async def test_two_zones_that_come_back_as_they_were_count_again(bench: Bench, instead: str) -> None:
    """Their marks of membership were once removed because the writer had seen them missing: then nothing was left
    that could make a majority, and no server started again on three whole copies."""
    log = bench.open()
    writer = await log.claim("node")
    await bench.append(writer, *(b"before-%d" % n for n in range(10)))
    await until_up(log, writer)
    kept = {zone: take_away(bench, zone, instead) for zone in (0, 1)}
    await until(lambda: all(writer.zones[zone].state == "down" for zone in kept))
    waiting = [append(writer, b"waiting-%d" % n) for n in range(10)]
    seen = {"a blank zone": "vouch", "a file": "Not a directory", "nothing": "directory was removed"}[instead]
    await until(lambda: all(seen in writer.zones[zone].detail for zone in kept))
    await until(lambda: writer.zones[2].end == writer._window.end)
    assert not any(future.done() for future in waiting)
    for zone, directory in kept.items():
        bring_back(bench, zone, directory)
    await asyncio.wait_for(asyncio.gather(*waiting), 15)
    bench.acknowledged += [b"waiting-%d" % n for n in range(10)]
    await until_up(log, writer)
    assert await findings(log) == []
    await bench.check()
    crash(writer)
    await bench.open().claim("next")
    await bench.check()


@pytest.mark.parametrize("zone", [0, 1, 2])
async def test_an_older_copy_that_comes_back_in_place_of_a_blank_zone_does_not_count(bench: Bench, zone: int) -> None:
    """It carries our promise, but not what the zone has acknowledged since it was copied."""
    log = bench.open()
    writer = await log.claim("node")
    await bench.append(writer, b"early")
    await until_up(log, writer)
    old = bench.root.with_name("old")
    copy_living(bench.zones[zone], old)
    await bench.append(writer, *(b"later-%d" % n for n in range(5)))
    await until_up(log, writer)
    others = [other for other in range(3) if other != zone]
    kept = {other: take_away(bench, other, "nothing") for other in (zone, others[0])}
    await until(lambda: all("vouch" in writer.zones[other].detail for other in kept))
    bring_back(bench, zone, old)
    await until(lambda: not (bench.zones[zone] / "zone.json").exists())  # judged: it has to be rebuilt
    waiting = append(writer, b"waiting")
    await until(lambda: writer.zones[others[1]].end == writer._window.end)
    assert not waiting.done()
    bring_back(bench, others[0], kept[others[0]])
    await asyncio.wait_for(waiting, 15)
    bench.acknowledged.append(b"waiting")
    await until_up(log, writer)
    assert await findings(log) == []
    assert data_of(await read_all(bench.open(faulty=False))) == bench.acknowledged


async def test_a_claim_in_vain_does_not_cost_the_writer_the_zone_that_was_left(bench: Bench) -> None:
    """It once promised itself the one zone that was there, and the writer, which came back to its majority with the
    other two, could never use that zone again."""
    log = bench.open()
    writer = await log.claim("node")
    await bench.append(writer, b"before")
    await until_up(log, writer)
    kept = {zone: take_away(bench, zone, "nothing") for zone in (0, 1)}
    with pytest.raises(Unavailable, match="no majority of zones"):
        await bench.open().claim("another")
    for zone, directory in kept.items():
        bring_back(bench, zone, directory)
    await bench.append(writer, b"after")
    await until_up(log, writer)
    await bench.check()
