"""Sealed segments of heartbeats, written small: the same frames to the byte, whatever happens on the way."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from eventdb.backends import RecordKind
from eventdb.backends.quorum import QuorumWriter, squeezing
from eventdb.backends.quorum.files import FileOps
from eventdb.backends.quorum.segment import list_segments
from eventdb.backends.quorum.squeezed import SQUEEZED, NotSqueezed, Squeezing, expand, is_squeezed, opened, squeeze
from eventdb.backends.record import MAGIC, UNKNOWN, Encoder, decode, seal_of
from tests.kit.faults import Bench, data_of, findings, read_all, until, until_up

HEARTBEAT = RecordKind.HEARTBEAT
SEALED = 3  # segments of a zone, in the logs below


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def beats(count: int, seed: int, *, data: bool = False) -> list[bytes]:
    """Frames of an idle log: heartbeats in their rhythm, now and then a statement; with `data` records between them."""
    rng = random.Random(seed)
    encoder = Encoder(payload_bytes_max=900)
    frames: list[bytes] = []
    seal, time_ms, offset, epoch = UNKNOWN, 1_790_000_000_000 + seed, 5 + seed, 1
    while len(frames) < count:
        time_ms += 100 + rng.choice((0, 0, 1, 2))
        kind, body, transactions = HEARTBEAT, b'{"name":"node-a"}' * 20 if rng.random() < 0.02 else b"", 0
        if data and rng.random() < 0.3:
            kind, transactions = RecordKind.DATA, rng.randint(1, 3)
            body = rng.randbytes(rng.choice((10, 300, 2500))) + (MAGIC if rng.random() < 0.2 else b"")
        if data and rng.random() < 0.01:
            kind, epoch, body = RecordKind.CLAIM, epoch + 1, b"node-b 127.0.0.1:1"
        position = 1000 + len(frames)
        made = encoder.encode(
            body, kind=int(kind), epoch=epoch, position=position, durable_end=position - rng.choice((0, 0, 0, 3)),
            first_offset=offset, count=transactions, time_ms=time_ms, before=seal,
        )  # fmt: skip
        offset += transactions
        seal = seal_of(made[-1])
        frames += made
    return frames


@pytest.mark.parametrize("data", [False, True], ids=["idle", "with-data"])
def test_every_frame_comes_back_to_the_byte(tmp_path: Path, data: bool) -> None:
    for seed in range(3):
        frames = beats(2500, seed, data=data)
        whole = b"".join(frames)
        squeezing = Squeezing()
        for first in range(0, len(frames), 700):
            squeezing.add(b"".join(frames[first : first + 700]))
        path = tmp_path / f"{seed}.seg"
        path.write_bytes(squeezing.finish())
        fd = os.open(path, os.O_RDONLY)
        try:
            ops = FileOps()
            assert is_squeezed(ops, fd)
            door = opened(ops, fd)
            rng = random.Random(seed)
            assert door.pread(fd, len(whole) + 1, 0) == whole
            for _ in range(30):
                at, size = rng.randrange(len(whole) + 100), rng.choice((1, 64, 5000, 200_000))
                assert door.pread(fd, size, at) == whole[at : at + size], f"seed {seed}: {size} at {at}"
        finally:
            os.close(fd)


def test_the_golden_segment_is_read_for_ever() -> None:
    """`tests/golden/make_squeezed.py` says how it was made. When this fails, the program is wrong."""
    golden = Path(__file__).parent.parent / "golden" / "squeezed"
    expected = json.loads((golden / "expected.json").read_text())
    fd = os.open(golden / "segment", os.O_RDONLY)
    try:
        whole = opened(FileOps(), fd).pread(fd, expected["bytes"] + 1, 0)
    finally:
        os.close(fd)
    assert (len(whole), hashlib.sha256(whole).hexdigest()) == (expected["bytes"], expected["sha256"])
    at = count = 0
    while at < len(whole):
        frame = decode(whole, at)
        assert frame is not None
        at, count = at + frame.size, count + 1
    assert count == expected["frames"]


def test_an_idle_day_is_less_than_a_megabyte() -> None:
    frames = b"".join(beats(8640, 3))
    squeezing = Squeezing()
    squeezing.add(frames)
    assert len(squeezing.finish()) * 100 < 1_000_000, "10 beats a second for a day"


def test_what_cannot_be_made_anew_is_not_squeezed() -> None:
    frames = b"".join(beats(50, 1))
    with pytest.raises(NotSqueezed):
        squeeze(frames[:-3])
    with pytest.raises(NotSqueezed):  # a checksum that is not its own
        squeeze(frames[:4] + b"\0\0\0\0" + frames[8:])
    old = bytearray(frames)
    old[8] = 1  # of format 1
    with pytest.raises(NotSqueezed):
        squeeze(bytes(old))
    packed = squeeze(frames)
    for at in range(len(packed)):
        garbled = packed[:at] + bytes([packed[at] ^ 0x10]) + packed[at + 1 :]
        try:
            assert len(expand(garbled, len(frames))) == len(frames)
        except NotSqueezed:
            pass


@pytest.fixture
def eager() -> Iterator[None]:
    """Every sealed segment is worth it, however small."""
    with patch.object(squeezing, "BYTES_MIN", 0):
        yield


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    found = Bench(tmp_path, segment_bytes=20_000)
    yield found
    await found.close()


async def idle(bench: Bench, writer: QuorumWriter, count: int) -> None:
    """Heartbeats, as an idle primary appends them; a write in between."""
    for step in range(count):
        await bench.append(writer, b"write %d" % step)
        beats = [
            writer.append(
                b"", first_offset=writer.next_offset, count=0, time_ms=writer.last_time_ms + 100 * n, kind=HEARTBEAT
            )
            for n in range(100)
        ]
        await asyncio.gather(*beats)
        await until(lambda: all(zone.reached() >= writer.durable_end for zone in writer.zones))  # same segments


def small(bench: Bench, zone: int) -> list[bool]:
    return [path.read_bytes()[:4] == SQUEEZED for path in bench.segments(zone)]


async def sealed_log(bench: Bench) -> None:
    first = await bench.open().claim("first")
    await idle(bench, first, 10)
    await until_up(bench.open(), first)
    await first.close()
    assert all(len(bench.segments(zone)) >= SEALED for zone in range(3))


async def squeezed_log(bench: Bench) -> None:
    """A log whose sealed segments were squeezed in all zones, by the writer after the one that wrote them."""
    await sealed_log(bench)
    second = await bench.open().claim("second")
    await until(lambda: all(small(bench, zone).count(True) >= SEALED for zone in range(3)))
    await second.close()


async def test_a_writer_squeezes_what_is_sealed_and_all_reads_are_the_same(eager: None, bench: Bench) -> None:
    await sealed_log(bench)
    before = await read_all(bench.open())
    size = sum(path.stat().st_size for path in bench.segments(1))
    second = await bench.open().claim("second")
    await until(lambda: all(small(bench, zone).count(True) >= SEALED for zone in range(3)))
    after = await read_all(bench.open())
    assert after[: len(before)] == before, "a record differs, or its running checksum"
    assert sum(path.stat().st_size for path in bench.segments(1)[:-1]) < size / 4
    for start in range(0, before[-1].position, 97):
        assert (await read_all(bench.open(), start))[0].position == start
    assert await findings(bench.open()) == []
    info = await bench.open().info()
    assert info.zones[1].stored_bytes == sum(path.stat().st_size for path in bench.segments(1))
    await bench.append(second, b"after")
    await bench.check()
    assert [path for zone in bench.zones for path in zone.iterdir() if path.name.endswith(squeezing.SUFFIX)] == []


async def test_any_flipped_byte_is_found_named_and_rebuilt(eager: None, bench: Bench) -> None:
    await squeezed_log(bench)
    target = bench.segments(1)[1]
    assert target.read_bytes()[:4] == SQUEEZED
    good = target.read_bytes()
    for at in (0, 5, 10, 30, 45, len(good) // 2, len(good) - 1):
        flip(target, at)
        assert data_of(await read_all(bench.open())) == bench.acknowledged, f"byte {at}"
        found = await findings(bench.open())
        assert len(found) == 1 and target.name in found[0], (at, found)
        flip(target, at)
    flip(target, len(good) // 2)
    writer = await bench.open().claim("third")
    await until(lambda: target.read_bytes()[:4] != SQUEEZED or target.read_bytes() == good)
    await until_up(bench.open(), writer)
    assert await findings(bench.open()) == []
    await bench.check()


async def test_a_blank_zone_is_filled_from_squeezed_ones(eager: None, bench: Bench) -> None:
    await squeezed_log(bench)
    for path in sorted(bench.zones[2].rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    writer = await bench.open().claim("third")
    await until_up(bench.open(), writer)
    assert await findings(bench.open()) == []
    await writer.close()
    for zone in (0, 1):  # it alone is read
        for segment in list_segments(FileOps(), str(bench.zones[zone])):
            os.truncate(segment.path, 10)
    assert data_of(await read_all(bench.open())) == bench.acknowledged


@pytest.mark.parametrize("call", ["open_write", "pwrite", "fsync", "pread", "replace"])
async def test_a_zone_that_fails_on_the_way_keeps_what_it_has(eager: None, bench: Bench, call: str) -> None:
    await sealed_log(bench)
    kept = [path.read_bytes() for path in bench.segments(0)]
    log = bench.open()
    finish = squeezing.Squeezer.finish

    def failing(squeezer: squeezing.Squeezer) -> None:
        """The zone's file system fails from here on."""
        if squeezer._zone.index == 0:
            bench.ops[0].fail(errno.EIO, frozenset({call}))
        finish(squeezer)

    with patch.object(squeezing.Squeezer, "finish", failing):
        writer = await log.claim("second")
        await until(lambda: all(small(bench, zone).count(True) >= SEALED for zone in (1, 2)))
        await bench.append(writer, b"while it fails")
        assert [path.read_bytes() for path in bench.segments(0)][:SEALED] == kept[:SEALED]
    bench.ops[0].heal()
    await bench.append(writer, b"after")
    await until_up(log, writer)
    assert await findings(log) == []
    await bench.check()


async def test_what_was_put_in_its_place_meanwhile_is_left_alone(eager: None, bench: Bench) -> None:
    """The file that was read is not the one that has the name: it was rebuilt, or the zone was replaced."""
    await sealed_log(bench)
    finish = squeezing.Squeezer.finish
    done: list[str] = []

    def replaced(squeezer: squeezing.Squeezer) -> None:
        path = Path(squeezer._segment.path)
        copy = path.with_suffix(".copy")
        copy.write_bytes(path.read_bytes())
        copy.replace(path)
        finish(squeezer)
        done.append(copy.name)

    with patch.object(squeezing.Squeezer, "finish", replaced):
        writer = await bench.open().claim("second")
        await until(lambda: len(done) >= 3 * SEALED and not any(zone._errands for zone in writer.zones))
        await writer.close()
    assert not any(any(small(bench, zone)) for zone in range(3))
    assert [path for zone in bench.zones for path in zone.iterdir() if path.name.endswith(squeezing.SUFFIX)] == []
    await bench.check()
