"""Damage, older copies and mixed-up directories: history is healed from good copies, or refused by name."""

import asyncio
import errno
import os
import random
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventdb.backends import BadLogURL, Corrupt, Trimmed, Unavailable, open_log
from eventdb.backends.quorum import QuorumWriter
from eventdb.backends.quorum import promise as promises
from eventdb.backends.quorum.address import zone_directories
from tests.kit.faults import Bench, append, copy_living, crash, data_of, findings, read_all, until, until_up

ZONES = pytest.mark.parametrize("zone", [0, 1, 2])


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path, segment_bytes=4000)
    yield bench
    await bench.close()


async def filled(bench: Bench, count: int = 120) -> QuorumWriter:
    """A writer that has filled several segments in every zone.

    A zone that lingers would write many appends at once, and then hold all of them in one long segment: so wait for it.
    """
    writer = await bench.open().claim("node")
    rng = random.Random(5)
    for _ in range(count // 10):
        await bench.append(writer, *(rng.randbytes(90) for _ in range(10)))
        await until(lambda: all(zone.end >= writer.durable_end for zone in writer.zones if zone.state == "up"))
    return writer


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0x10
    with path.open("r+b") as file:
        file.seek(at)
        file.write(raw[at : at + 1])


# -- damage -----------------------------------------------------------------------------------------------------


@ZONES
async def test_a_flipped_byte_in_one_zone_is_named_read_around_and_repaired(bench: Bench, zone: int) -> None:
    writer = await filled(bench)
    log = bench.open()
    await until_up(log, writer)
    writer._scrubber.stop()  # it would be faster than we are
    good = bench.segments(zone)[1].read_bytes()
    flip(bench.segments(zone)[1], 700)
    (line,) = await findings(log)
    assert line.startswith(f"zone-{'abc'[zone]}: segment {bench.segments(zone)[1].name}: position ")
    assert "checksum" in line
    writing = bench._logs[0]
    for away in (other for other in range(3) if other != zone):  # so that the damaged copy is asked too
        bench.ops[away].fail(errno.EIO, frozenset({"open_read"}))
        assert data_of(await read_all(writing)) == bench.acknowledged
        bench.ops[away].heal()
    assert len(await findings(writing)) <= 1  # reported to the writer of this process, or rebuilt already
    await until(lambda: good.startswith(bench.segments(zone)[1].read_bytes()))  # less what its successor holds, too
    assert await findings(log) == []
    await bench.append(writer, b"after")
    await bench.check()


async def test_damage_that_no_reader_meets_is_found_by_the_scrubber(bench: Bench) -> None:
    first = await filled(bench)
    await until_up(bench.open(), first)
    await first.close()
    good = [path.read_bytes() for path in bench.segments(2)]
    flip(bench.segments(2)[1], 900)
    await bench.open().claim("after")
    await until(lambda: all(map(bytes.startswith, good[:-1], (path.read_bytes() for path in bench.segments(2)))))
    assert await findings(bench.open()) == []


async def test_every_byte_of_a_segment_may_be_flipped_and_history_is_still_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    log = bench.open()
    writer = await log.claim("node")
    await bench.append(writer, b"one", b"two", b"three")
    await until_up(log, writer)
    await writer.close()
    (segment,) = bench.segments(0)
    for at in range(segment.stat().st_size):
        flip(segment, at)
        assert data_of(await read_all(bench.open())) == bench.acknowledged, f"byte {at}"
        if at % 16 == 0:
            assert len(await findings(bench.open())) >= 1, f"byte {at}"
        flip(segment, at)
    assert await findings(bench.open()) == []
    await bench.close()


async def test_a_segment_cut_at_any_byte_is_healed_from_the_others(tmp_path: Path) -> None:
    whole = Bench(tmp_path)
    writer = await whole.open().claim("node")
    await whole.append(writer, b"one", b"two")
    await writer.close()
    for cut in range(0, whole.segments(1)[0].stat().st_size, 7):
        bench = Bench(tmp_path / f"{cut}")
        bench.acknowledged += whole.acknowledged
        shutil.copytree(whole.root, bench.root)
        os.truncate(bench.segments(1)[0], cut)
        await bench.check()
        log = bench.open()
        after = await log.claim("after")
        assert after.next_offset == 3
        await until_up(log, after)
        assert await findings(log) == []
        await bench.check()
        await bench.close()
    await whole.close()


async def test_a_frame_damaged_in_every_zone_stops_the_reader_with_its_place(bench: Bench) -> None:
    writer = await filled(bench)
    await until_up(bench.open(), writer)
    await writer.close()
    target = bench.acknowledged[40]
    for zone in range(3):
        for path in bench.segments(zone):
            at = path.read_bytes().find(target)
            if at >= 0:
                flip(path, at)
    with pytest.raises(Corrupt, match=r"zone-a: segment \d+-\d+\.seg: position 41 at byte \d+: wrong checksum"):
        await read_all(bench.open())
    assert len(await findings(bench.open())) == 3


async def test_different_frames_damaged_in_each_zone_are_read_from_the_others(bench: Bench) -> None:
    writer = await filled(bench)
    await until_up(bench.open(), writer)
    await writer.close()
    for zone in range(3):
        for number in (10 + zone, 50 + zone, 90 + zone):
            for path in bench.segments(zone):
                at = path.read_bytes().find(bench.acknowledged[number])
                if at >= 0:
                    flip(path, at)
    await bench.check()


async def test_two_sound_copies_that_differ_are_named(tmp_path: Path) -> None:
    one, two = Bench(tmp_path / "one"), Bench(tmp_path / "two")
    for bench, body in ((one, b"this"), (two, b"that")):
        writer = await bench.open().claim("node")
        await bench.append(writer, *(body for _ in range(400)))
        await writer.close()
    shutil.copy(two.segments(2)[0], one.segments(2)[0])
    (line,) = await findings(one.open())
    assert line.startswith("zone-c: segment ")
    assert "differs from zone-a before position 256" in line
    for bench in (one, two):
        await bench.close()


async def test_a_deleted_segment_is_made_anew(bench: Bench) -> None:
    writer = await filled(bench)
    log = bench._logs[0]
    await until_up(log, writer)
    bench.segments(0)[1].unlink()
    assert len(await findings(log)) >= 1
    assert data_of(await read_all(log)) == bench.acknowledged
    await writer.close()
    after = await log.claim("after")
    assert data_of(await read_all(log)) == bench.acknowledged
    await until(lambda: not after.zones[0]._errands and after.zones[0].waiting)
    await bench.check()


@pytest.mark.parametrize("zones", [1, 3])
async def test_a_torn_tail_that_was_never_durable_is_named_and_cut(tmp_path: Path, zones: int) -> None:
    bench = Bench(tmp_path, zones=zones)
    writer = await bench.open().claim("node")
    await bench.append(writer, b"kept")
    await writer.close()
    for zone in range(zones):
        (segment,) = bench.segments(zone)
        with segment.open("ab") as file:
            file.write(segment.read_bytes()[:90])  # the beginning of a frame, from another place
    lines = await findings(bench.open())
    assert len(lines) == zones
    assert all("torn tail at position 2" in line and "never durable" in line for line in lines)
    log = bench.open()
    after = await log.claim("after")
    assert after.next_offset == 2
    await bench.append(after, b"next")
    await until_up(log, after)
    assert await findings(log) == []
    await bench.check()
    await bench.close()


# -- older copies -------------------------------------------------------------------------------------------------


@ZONES
@pytest.mark.parametrize("claims_between", [0, 2])
async def test_an_older_copy_put_back_while_the_log_is_closed(bench: Bench, zone: int, claims_between: int) -> None:
    writer = await filled(bench, 30)
    await writer.close()
    old = bench.root.with_name("old")
    copy_living(bench.zones[zone], old)
    for number in range(claims_between + 1):
        writer = await bench.open().claim(f"node-{number}")
        await bench.append(writer, *(b"later-%d-%d" % (number, n) for n in range(10)))
        await writer.close()
    shutil.rmtree(bench.zones[zone])
    shutil.copytree(old, bench.zones[zone])
    assert any("had synced" in line or "lags" in line for line in await findings(bench.open()))
    await bench.check()
    log = bench.open()
    after = await log.claim("after")
    await bench.append(after, b"after")
    await until_up(log, after)
    assert await findings(log) == []
    await bench.check()


@ZONES
async def test_an_older_copy_put_back_under_a_running_writer(bench: Bench, zone: int) -> None:
    log = bench.open()
    writer = await log.claim("node")
    await bench.append(writer, *(b"early-%d" % n for n in range(10)))
    await until_up(log, writer)
    old = bench.root.with_name("old")
    copy_living(bench.zones[zone], old)
    await bench.append(writer, *(b"later-%d" % n for n in range(10)))
    bench.zones[zone].rename(bench.root.with_name("gone"))
    old.rename(bench.zones[zone])
    for number in range(10):
        await bench.append(writer, b"after-%d" % number)

    def is_promised() -> bool:
        promise = writer.zones[zone].promise
        return promise is not None and promise.holds(bench.ops[zone])

    await until(is_promised)
    await until_up(log, writer)
    assert await findings(log) == []
    await bench.check()


async def test_an_older_copy_is_not_counted_when_the_zone_that_knows_is_away(bench: Bench) -> None:
    """a and b acknowledged, c lags, b is put back from an older copy, a is away: nothing may go on without a."""
    log = bench.open()
    writer = await log.claim("node")
    await bench.append(writer, b"early")
    await until_up(log, writer)
    old = bench.root.with_name("old")
    copy_living(bench.zones[1], old)
    await bench.append(writer, *(b"middle-%d" % n for n in range(5)))
    await until_up(log, writer)
    await until(lambda: all(zone._hint.published == writer._quorum.votes for zone in writer.zones))
    bench.ops[2].fail(errno.EIO, frozenset({"pwrite", "fsync"}))
    await bench.append(writer, b"only in a and b")
    crash(writer)
    for ops in bench.ops:
        ops.heal()
    shutil.rmtree(bench.zones[1])
    shutil.copytree(old, bench.zones[1])
    bench.ops[0].fail(errno.EIO)
    with pytest.raises(Unavailable, match=r"zone-b: rebuild.*had synced"):
        await bench.open().claim("too early")
    bench.ops[0].heal()
    log = bench.open()
    after = await log.claim("after")
    await until_up(log, after)
    await bench.check()


async def test_a_zone_that_forgot_its_promises_gives_a_stale_writer_no_majority(bench: Bench) -> None:
    """The new writer holds a and b, c was away; then b is emptied: the old writer must not get b and c."""
    old = await bench.open().claim("old")
    await bench.append(old, b"old")
    bench.ops[2].fail(errno.EIO)
    other = bench.open()
    new = await other.claim("new")
    await bench.append(new, b"new")
    crash(new)
    shutil.rmtree(bench.zones[1].rename(bench.zones[1].with_name("removed")))
    bench.ops[2].heal()
    with pytest.raises(BaseException) as raised:  # fenced or never, but not acknowledged
        await asyncio.wait_for(append(old, b"must not be"), 2)
    assert not isinstance(raised.value, AssertionError)
    await bench.close()
    assert b"must not be" not in data_of(await read_all(bench.open(faulty=False)))


# -- directories that do not belong together ------------------------------------------------------------------------


async def close_one(url: str) -> None:
    log = open_log(url)
    await log.claim("node")
    await log.close()


async def test_swapped_directories_are_refused(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    await close_one(f"quorum:{a},{b},{c}")
    with pytest.raises(BadLogURL, match="order"):
        await open_log(f"quorum:{b},{a},{c}").claim("node")
    await close_one(f"quorum:{a},{b},{c}")


async def test_a_directory_of_another_log_is_refused(tmp_path: Path) -> None:
    a, b, c, x, y, z = (tmp_path / name for name in "abcxyz")
    await close_one(f"quorum:{a},{b},{c}")
    await close_one(f"quorum:{x},{y},{z}")
    with pytest.raises(BadLogURL, match="different logs"):
        await open_log(f"quorum:{a},{b},{z}").claim("node")
    assert any("different logs" in line for line in await findings(open_log(f"quorum:{a},{b},{z}")))  # type: ignore[arg-type]


async def test_another_number_of_zones_is_refused_with_the_right_one(tmp_path: Path) -> None:
    await close_one(f"quorum:{tmp_path}/log?zones=1")
    with pytest.raises(BadLogURL, match=r"created with 1 zones.*zones=1"):
        await open_log(f"quorum:{tmp_path}/log").claim("node")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("quorum:", "names no directory"),
        ("quorum:/d?zones=2", "odd"),
        ("quorum:/d?zones=0", "not a number of zones"),
        ("quorum:/d?zones=x", "not a number of zones"),
        ("quorum:/d?fsync=no", "no option fsync"),
        ("quorum:/a,/b", "odd"),
        ("quorum:/a,,/b", "empty place"),
        ("quorum:/a,/b,/a", "given twice"),
        ("quorum:/a,/b,/a/../b", "given twice"),
        ("quorum:/a,/b,/a/sub", "lie in one another"),
        ("nosuch:/a", "known are kafka:, memory:, quorum:"),
        ("/just/a/path", "SCHEME:WHERE"),
    ],
)
def test_a_bad_url_is_refused_with_the_reason(url: str, says: str) -> None:
    with pytest.raises(BadLogURL, match=says):
        open_log(url)


def test_the_url_names_the_zones(tmp_path: Path) -> None:
    assert zone_directories(f"quorum:{tmp_path}") == [f"{tmp_path}/zone-{letter}" for letter in "abc"]
    assert zone_directories(f"quorum:{tmp_path}?zones=5")[4] == f"{tmp_path}/zone-e"
    assert zone_directories("quorum:///x?zones=1") == ["/x/zone-a"]


async def test_the_same_directory_through_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(BadLogURL, match="given twice"):
        open_log(f"quorum:{tmp_path}/a,{tmp_path}/b,{tmp_path}/c")


async def test_two_wiped_zones_are_never_taken_for_a_new_log(bench: Bench) -> None:
    writer = await filled(bench, 10)
    await writer.close()
    for zone in (0, 1):
        shutil.rmtree(bench.zones[zone])
    with pytest.raises(Unavailable, match=r"zone-a: rebuild, blank.*zone-b: rebuild, blank"):
        await bench.open().claim("node")


async def test_a_creation_that_was_interrupted_is_finished_by_the_next(bench: Bench) -> None:
    bench.ops[1].fail(errno.EROFS, frozenset({"mkdir", "open_write"}))
    with pytest.raises(Unavailable, match="a new log needs all its zones once, and zone-b fails"):
        await bench.open().claim("node")
    bench.ops[1].heal()
    writer = await bench.open().claim("node")
    await bench.append(writer, b"one")
    await bench.check()


# -- promises, trimming, real disks ---------------------------------------------------------------------------------


def test_a_promise_is_made_once_and_fences_lower_ones(tmp_path: Path) -> None:
    ops = Bench(tmp_path).ops[0]
    zone = str(tmp_path)
    low = promises.make(ops, zone, 3)
    assert low.holds(ops)
    with pytest.raises(promises.Outbid):
        promises.make(ops, zone, 3)
    high = promises.make(ops, zone, 7)
    assert high.holds(ops)
    assert not low.holds(ops)
    for late in (3, 5):
        with pytest.raises(promises.Outbid, match="7"):
            promises.make(ops, zone, late)
    assert promises.epochs(ops, zone) == [7]
    assert high.holds(ops)


async def test_trimming_leaves_every_zone_readable_and_survives_a_claim(bench: Bench) -> None:
    writer = await filled(bench, 200)
    log = bench.open()
    await until_up(log, writer)
    await log.trim(100)
    info = await log.info()
    assert 0 < info.first_position <= 100
    with pytest.raises(Trimmed):
        await read_all(log, 0)
    with pytest.raises(Trimmed):
        await log.seek(1)
    assert await findings(log) == []
    await writer.close()
    after = await bench.open().claim("after")
    assert after.next_offset == 201
    await bench.append(after, b"next")
    kept = data_of(await read_all(log, info.first_position))
    assert kept == bench.acknowledged[-len(kept) :]
    assert len(kept) >= 100


def run(*command: str) -> int:
    return subprocess.run(command, check=False, capture_output=True).returncode


async def test_a_zone_on_a_full_file_system_heals_when_there_is_room(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if run("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)):
        pytest.skip("mounting a small tmpfs takes root")
    try:
        log = open_log(f"quorum:{tmp_path}/a,{small}/b,{tmp_path}/c")
        writer = await log.claim("node")
        assert isinstance(writer, QuorumWriter)
        bodies = [random.Random(n).randbytes(3000) for n in range(200)]
        for body in bodies[:190]:
            await asyncio.wait_for(append(writer, body), 15)
        await until(lambda: writer.zones[1].state == "down")
        assert "No space left" in writer.zones[1].detail
        assert run("mount", "-o", "remount,size=16m", str(small)) == 0
        for body in bodies[190:]:
            await asyncio.wait_for(append(writer, body), 15)
        await until_up(log, writer)  # type: ignore[arg-type]
        assert [line async for line in log.verify()] == []
        assert data_of(await read_all(log)) == bodies  # type: ignore[arg-type]
        await log.close()
    finally:
        run("umount", "-l", str(small))
