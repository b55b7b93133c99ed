"""What lies past a damaged place: only the log's own frames prove anything, and a hole of zeros hides none."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import google_crc32c
import pytest

from eventdb.backends import Corrupt, open_log
from eventdb.backends.assembler import Assembler
from eventdb.backends.quorum import FileOps
from eventdb.backends.quorum.segment import Proof, durable_beyond
from eventdb.backends.quorum.view import ZoneView
from eventdb.backends.record import HEADER_BYTES, MAGIC, MASK_BYTES, Encoder, Frame, decode
from tests.kit.faults import WRITING, Bench, append, crash, data_of, findings, read_all, until, until_up

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


def encode(body: bytes, position: int, *, limit: int = 1_000_000, epoch: int = 1, durable_end: int = -1) -> list[bytes]:
    """Frames as the program writes them."""
    known = position if durable_end < 0 else durable_end
    return Encoder(limit).encode(
        body, kind=0, epoch=epoch, position=position, durable_end=known, first_offset=1, count=1, time_ms=1
    )


def of_format_1(body: bytes, position: int, epoch: int = 1, in_flight: int = 0, first_offset: int = 1) -> bytes:
    """A frame of the old format; see `old_frames.py`."""
    covered = struct.pack(
        "<BBBBHHQQQQIIII", 1, 0, 0, 0, 0, 0, epoch, position, first_offset, 1 << 41, 1, len(body), len(body), in_flight
    )
    return b"evDB" + google_crc32c.value(covered + body).to_bytes(4, "little") + covered + body


def decoded(raw: bytes) -> Frame:
    frame = decode(raw)
    assert frame is not None
    return frame


# -- no client makes a frame ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_no_stored_payload_contains_what_a_frame_begins_with(seed: int) -> None:
    rng = random.Random(seed)
    noise = rng.randbytes(rng.randrange(3000))
    (evil,) = encode(rng.randbytes(50), 9)
    planted = rng.choice((MAGIC, MAGIC * 200, evil, b"evevDB", b"ev" + MAGIC + b"DB"))
    body = noise + planted + noise[: rng.randrange(900)] + planted + b" words" * rng.randrange(300)
    limit = rng.choice((100, 1000, 1_000_000))
    frames = encode(body, 7, limit=limit)
    assert all(raw.count(MAGIC) == 1 for raw in frames)
    assert any(len(raw) > HEADER_BYTES + limit for raw in frames) <= (limit < len(body))
    assembler = Assembler()
    for position, raw in enumerate(frames, 7):
        assert decoded(raw).size == len(raw)
        record = assembler.feed(decoded(raw), position)
    assert record is not None
    assert record.body == body


def test_a_mask_is_another_one_every_time() -> None:
    masks = {encode(os.urandom(200) + MAGIC, 1)[0][HEADER_BYTES : HEADER_BYTES + MASK_BYTES] for _ in range(50)}
    assert len(masks) == 50


def test_a_mask_that_makes_the_magic_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = b"mask", b"\x80\x81\x82\x83"
    masks = iter((first, second))
    monkeypatch.setattr(os, "urandom", lambda size: next(masks))
    body = MAGIC + bytes(a ^ b for a, b in zip(MAGIC, first))
    (raw,) = encode(body, 1)
    assert raw[HEADER_BYTES : HEADER_BYTES + MASK_BYTES] == second
    assert (raw.count(MAGIC), decoded(raw).payload) == (1, body)


@pytest.mark.parametrize("far", [1, 3, 1 << 40])
async def test_a_torn_record_that_contains_a_frame_proves_nothing(bench: Bench, far: int) -> None:
    """One zone has half of a record that nobody acknowledged; in the half that is there, a client's frame stands."""
    writer = await bench.open().claim("one")
    await bench.append(writer, *(b"rec%d" % number for number in range(5)))
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    for index in (0, 1):
        bench.ops[index].fail(errno.EIO, WRITING)
    at = writer.zones[2]._file.byte
    end = writer.durable_end
    hint = (bench.zones[2] / "durable").read_bytes()
    (evil,) = encode(os.urandom(100), end + far)
    old = of_format_1(os.urandom(100), end + far)
    append(writer, os.urandom(1500) + evil + os.urandom(700) + old + os.urandom(700))
    await until(lambda: writer.zones[2].reached() > end)
    crash(writer)
    for ops in bench.ops:
        ops.heal()
    segment = bench.segments(2)[-1]
    with segment.open("r+b") as file:
        file.seek(at + 512)
        file.write(bytes(512))
    (bench.zones[2] / "durable").write_bytes(hint)  # it was torn, so it was never said to be synced
    lines = await findings(bench.open(faulty=False))
    assert all("never durable" in line for line in lines), lines
    log = bench.open()
    again = await log.claim("two")
    await bench.append(again, b"after")
    await until_up(log, again)
    await bench.check()


def old_log(tmp_path: Path, torn: tuple[int, ...]) -> str:
    """The golden log of format 1; a zone of `torn` ends in a torn record that contains a whole frame."""
    shutil.copytree(GOLDEN / "format-1" / "quorum", tmp_path / "log")
    for index in torn:
        zone = tmp_path / "log" / f"zone-{'abc'[index]}"
        view = ZoneView(FileOps(), str(zone), zone.name)
        view.refresh()
        tail = view.tail()
        at = view._byte  # where the next frame goes
        view.close()
        evil = of_format_1(b"x" * 100, tail.end + 2, epoch=3)
        whole = of_format_1(os.urandom(600) + evil + os.urandom(100), tail.end, epoch=3)
        path = sorted(zone.glob("*.seg"))[-1]
        path.write_bytes(path.read_bytes()[:at] + whole[:200] + bytes(300) + whole[500:])
    return f"quorum:{tmp_path / 'log'}"


async def test_in_an_old_log_what_one_zone_says_does_not_outweigh_two_that_are_in_order(tmp_path: Path) -> None:
    log = open_log(old_log(tmp_path, (0,)))
    before = await read_all(log)  # type: ignore[arg-type]
    writer = await log.claim("new")
    await asyncio.wait_for(writer.append(b"new", first_offset=writer.next_offset, count=1, time_ms=1 << 41), 10)
    records = await read_all(log)  # type: ignore[arg-type]
    assert records[: len(before)] == before
    assert records[-1].body == b"new"
    await until_up(log, writer)  # type: ignore[arg-type]
    await log.close()


async def test_in_an_old_log_it_still_counts_where_no_two_zones_are_in_order(tmp_path: Path) -> None:
    url = old_log(tmp_path, (0,))
    (tmp_path / "log" / "zone-b").rename(tmp_path / "away")
    log = open_log(url)
    with pytest.raises(Corrupt, match=r"zone-a: segment 0.*: position 27: wrong checksum"):
        await log.claim("new")
    await log.close()


def proof(tmp_path: Path, data: bytes, position: int, last: Frame | None = None, epoch: int = 1) -> Proof:
    path = tmp_path / "segment"
    path.write_bytes(data)
    ops = FileOps()
    fd = ops.open(str(path), os.O_RDONLY)
    found = durable_beyond(ops, fd, 0, position, epoch, last)
    ops.close(fd)
    return found


def test_a_proof_is_believed_only_where_its_frame_can_stand(tmp_path: Path) -> None:
    hole = bytes(6 * HEADER_BYTES)  # room for six frames: of positions 10 to 15
    for position, epoch, known, sure in (
        (16, 1, 16, 16),
        (13, 1, 11, 11),
        (13, 1, 10, 10),  # of a torn write: it knew no more to be durable than what is there
        (17, 1, 17, 0),  # no room between for all that would have come before it
        (1 << 40, 1, 1 << 40, 0),
        (16, 2, 16, 0),  # a later epoch does not write into this segment
        (10, 1, 10, 0),  # not after the place that is damaged
        (9, 1, 9, 0),
    ):
        (raw,) = encode(b"body", position, epoch=epoch, durable_end=known)
        assert proof(tmp_path, hole + raw, 10) == Proof(sure, sure), (position, epoch, known)


def test_what_a_sound_frame_contains_is_not_looked_at(tmp_path: Path) -> None:
    outer = of_format_1(os.urandom(700) + of_format_1(b"inner", 14) + os.urandom(40), 12, in_flight=2)
    assert proof(tmp_path, bytes(640) + outer, 10) == Proof(0, 10)


def test_what_may_be_of_a_payload_of_format_1_is_alleged_and_not_sure(tmp_path: Path) -> None:
    hole = bytes(640)
    old, (new,) = of_format_1(b"x", 14), encode(b"x", 14)
    assert proof(tmp_path, hole + old, 10) == Proof(0, 14)
    assert proof(tmp_path, hole + new, 10) == Proof(14, 14)
    assert proof(tmp_path, hole + new, 10, decoded(old)) == Proof(0, 14)
    assert proof(tmp_path, hole + new, 10, decoded(new)) == Proof(14, 14)


# -- zeros ------------------------------------------------------------------------------------------------------


async def one_by_one(bench: Bench, count: int = 5) -> list[int]:
    """Acknowledge records one at a time in zones a and c; return where each begins in zone a's segment. Then crash."""
    log = bench.open()
    writer = await log.claim("one")
    await bench.append(writer, b"old-0", b"old-1")
    await until_up(log, writer)
    bench.ops[1].fail(errno.EIO, WRITING)
    places = []
    for number in range(count):
        places.append(writer.zones[0]._file.byte)
        await bench.append(writer, b"acknowledged-%d" % number)
        await until(lambda: writer.zones[0].reached() == writer.durable_end == writer.zones[2].reached())
    places.append(writer.zones[0]._file.byte)
    crash(writer)
    bench.ops[1].heal()
    log._horizon.leave(writer.epoch)
    return places


def spoil(path: Path, start: int, stop: int, how: str) -> None:
    data = bytearray(path.read_bytes())
    data[start:stop] = bytes(stop - start) if how == "zeros" else bytes(byte ^ 1 for byte in data[start:stop])
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["zeros", "flipped bits"])
@pytest.mark.parametrize("hurt", [0, 1, 3])
async def test_what_was_acknowledged_and_is_gone_is_named_and_nobody_goes_on_without_it(
    bench: Bench, how: str, hurt: int
) -> None:
    places = await one_by_one(bench)
    spoil(bench.segments(0)[-1], places[hurt], places[hurt + 1], how)
    for zone in bench.zones:
        (zone / "durable").unlink(missing_ok=True)
    lines = await findings(bench.open(faulty=False))
    assert any(line.startswith("zone-a: ") and "damage" in line for line in lines), lines
    away = bench.root / "away"
    bench.zones[2].rename(away)
    with pytest.raises(Corrupt, match=rf"zone-a: segment 0.*: position {3 + hurt}: "):
        await bench.open().claim("two")
    away.rename(bench.zones[2])
    log = bench.open()
    again = await log.claim("three")  # zone c has it all
    await bench.append(again, b"after")
    await until_up(log, again)
    await bench.check()
    await log.close()
    assert await findings(bench.open()) == []


async def test_a_hole_in_what_was_never_durable_is_cut(bench: Bench) -> None:
    """Several records of one write, of which the power cut took the first: none of them was acknowledged."""
    writer = await bench.open().claim("one")
    await bench.append(writer, b"kept")
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    for index in (0, 1):
        bench.ops[index].fail(errno.EIO, WRITING)
    at, end = writer.zones[2]._file.byte, writer.durable_end
    hint = (bench.zones[2] / "durable").read_bytes()
    for number in range(3):
        append(writer, b"torn-%d" % number)
    await until(lambda: writer.zones[2].reached() == end + 3)
    crash(writer)
    for ops in bench.ops:
        ops.heal()
    spoil(bench.segments(2)[-1], at, at + 70, "zeros")
    (bench.zones[2] / "durable").write_bytes(hint)
    again = await bench.open().claim("two")
    assert again.next_offset == 2
    await bench.append(again, b"after")
    assert data_of(await read_all(bench.open())) == [b"kept", b"after"]
