"""One zone was tampered with by somebody who makes checksums and links right: with keys the others are read instead."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from eventdb.backends import Corrupt
from eventdb.backends.assembler import Assembler
from eventdb.backends.conformance import data_of, fill, read_all, sound
from eventdb.backends.quorum import QuorumLog
from eventdb.backends.record import BadFrame, Encoder, decode, seal_of
from eventdb.backends.seal import Keyring
from tests.conftest import StartServer
from tests.kit.faults import until_up
from tests.kit.keyring import frames_in, keyring_file, ring, with_right_checksum
from tests.kit.wire import Wire

BODIES = [b"one", b"two", random.Random(5).randbytes(9000), b"four", b"five"]
Change = Callable[[bytes], bytes]


def opened(path: Path, keys: Keyring | None) -> QuorumLog:
    log = QuorumLog(f"quorum:{path}/log", payload_bytes_max=2000)
    if keys is not None:
        log.use_keys(keys)
    return log


async def written(path: Path) -> None:
    log = opened(path, ring(1))
    writer = await log.claim("node", "host:6379")
    await fill(writer, BODIES)
    await until_up(log, writer)
    await log.close()


def flipped(frame: bytes) -> bytes:
    return with_right_checksum(frame[:-1] + bytes([frame[-1] ^ 1]))


def in_the_clear(frame: bytes) -> bytes:
    """What somebody without keys puts in its place."""
    said = decode(frame)
    assert said is not None
    (forged,) = Encoder().encode(
        b"forged", kind=said.kind, epoch=said.epoch, position=said.position, durable_end=said.durable_below,
        first_offset=said.first_offset, count=said.count, time_ms=said.time_ms, before=said.link,
    )  # fmt: skip
    return with_right_checksum(forged[:20] + frame[20:24] + forged[24:])


def tamper(zone: Path, number: int, change: Change = flipped, *, relink: bool = True) -> None:
    """Change one frame of the zone's only segment, and the links after it."""
    (path,) = zone.glob("*.seg")
    data = path.read_bytes()
    frames = frames_in(data)
    made = [change(frames[number])]
    for frame in frames[number + 1 :]:
        linked = frame[:20] + made[-1][4:8] + frame[24:] if relink else frame
        made.append(with_right_checksum(linked))
    path.write_bytes(b"".join([*frames[:number], *made]) + data[sum(map(len, frames)) :])


def zones(path: Path) -> list[Path]:
    return sorted((path / "log").glob("zone-*"))


@pytest.mark.parametrize("relink", [True, False])
@pytest.mark.parametrize("zone", range(3))
@pytest.mark.parametrize("change", [flipped, in_the_clear])
@pytest.mark.parametrize("number", [1, 2, 4, 9])  # the first record; a whole one; inside a large one; the last but one
async def test_the_other_zones_are_read_and_one_line_names_zone_and_position(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, number: int, change: Change, zone: int, relink: bool
) -> None:
    await written(tmp_path)
    tamper(zones(tmp_path)[zone], number, change, relink=relink)
    log = opened(tmp_path, ring(1))
    with caplog.at_level(logging.WARNING):
        assert data_of(await read_all(log)) == BODIES
    if relink:
        lines = [each.getMessage() for each in caplog.records if "is read instead" in each.getMessage()]
        assert len(lines) == (zone == 0), lines
        assert all("zone-a: segment 0" in line and f".seg: position {number}: " in line for line in lines)
        assert all("; zone-b has it whole and is read instead" in line for line in lines)
        found = [line async for line in log.verify()]
        if change is flipped:
            name = zones(tmp_path)[zone].name
            named = [line for line in found if f"position {number}: does not decrypt with key 1: tampered" in line]
            assert len(named) == 1 and named[0].startswith(f"{name}: segment 0"), found
        assert found
    await log.close()


async def test_one_whole_copy_of_three_is_enough_and_none_is_an_error_that_names_all(tmp_path: Path) -> None:
    await written(tmp_path)
    for count, zone in enumerate(zones(tmp_path)):
        tamper(zone, 5 - count)
        log = opened(tmp_path, ring(1))
        if count < 2:
            assert data_of(await read_all(log)) == BODIES
        else:
            with pytest.raises(Corrupt, match=r"zone-.: segment .*: position 5: does not decrypt with key 1"):
                await read_all(log)
        await log.close()


async def test_a_key_that_is_not_there_is_missing_in_every_zone(tmp_path: Path) -> None:
    await written(tmp_path)
    log = opened(tmp_path, ring(2))
    with pytest.raises(
        Corrupt, match=r"^zone-a: segment 0\S*: position 0: sealed with key 1, which is not there: [^;]*$"
    ):
        await read_all(log)
    await log.close()
    log = opened(tmp_path, None)
    await sound(log)
    await log.close()


def test_a_frame_that_is_refused_changes_nothing() -> None:
    """Whatever comes between the frames of a history, the same records are joined of them."""
    rng = random.Random(11)
    keys = ring(1)
    frames: list[bytes] = []
    before = 0
    encoder = Encoder(300, keys)
    for number, body in enumerate((b"one", rng.randbytes(1000), b"three", rng.randbytes(900))):
        made = encoder.encode(
            body, kind=0, epoch=1, position=len(frames), durable_end=0, first_offset=number, count=1, time_ms=0,
            before=before,
        )  # fmt: skip
        frames += made
        before = seal_of(made[-1])
    assembler, records = Assembler(keys), []
    for place, frame in enumerate(frames):
        others = rng.sample([each for each in range(len(frames)) if each != place], 3) if place else []
        wrong = [
            *(flipped(frames[other]) for other in others),
            flipped(frame),
            *([in_the_clear(frame)] if place else []),
        ]
        for each in wrong:
            found = decode(each)
            assert found is not None
            with pytest.raises(BadFrame):
                assembler.feed(found, place)
        whole = decode(frame)
        assert whole is not None
        if (record := assembler.feed(whole, place)) is not None:
            records.append(record)
    assert [record.first_offset for record in records] == [0, 1, 2, 3]


@pytest.mark.parametrize("zone", range(3))
@pytest.mark.parametrize("change", [flipped, in_the_clear])
@pytest.mark.parametrize("number", [2, 9, -1])
async def test_a_claim_adopts_no_history_that_was_made_without_the_keys(
    tmp_path: Path, number: int, change: Change, zone: int
) -> None:
    """It would be as long as the true one, and all zones would be cut to it."""
    await written(tmp_path)
    (path,) = zones(tmp_path)[zone].glob("*.seg")
    tamper(zones(tmp_path)[zone], number % len(frames_in(path.read_bytes())), change)
    log = opened(tmp_path, ring(1))
    writer = await log.claim("second")
    await fill(writer, [b"six"])
    await until_up(log, writer)
    await log.close()
    log = opened(tmp_path, ring(1))
    assert data_of(await read_all(log)) == [*BODIES, b"six"]
    await sound(log)
    await log.close()


async def test_a_majority_that_was_tampered_with_is_named_and_not_adopted(tmp_path: Path) -> None:
    await written(tmp_path)
    before = [path.read_bytes() for zone in zones(tmp_path) for path in zone.glob("*.seg")]
    for zone in zones(tmp_path)[:2]:
        tamper(zone, 3)
    log = opened(tmp_path, ring(1))
    with pytest.raises(
        Corrupt, match=r"zone-a: segment \S+: position \d+: does not decrypt with key 1.*zone-b: segment"
    ):
        await log.claim("second")
    assert [path.read_bytes() for path in zones(tmp_path)[2].glob("*.seg")] == before[2:]
    await log.close()


def test_a_server_starts_on_what_the_other_zones_hold(tmp_path: Path, eventdb_server: StartServer) -> None:
    keys, log = keyring_file(tmp_path / "keys.json", 1), f"quorum:{tmp_path}/log"
    server = eventdb_server(log, "--encryption-keys", keys)
    with Wire(server.port) as wire:
        for number in range(20):
            assert wire("SET", f"k{number}", f"v{number}") == b"OK"
    assert server.stop() == 0
    tamper(zones(tmp_path)[0], 6)
    server = eventdb_server(log, "--encryption-keys", keys)
    with Wire(server.port) as wire:
        assert [wire("GET", f"k{number}") for number in range(20)] == [b"v%d" % number for number in range(20)]
        assert wire("SET", "k", "v") == b"OK"
    assert server.text.count("position 6: does not decrypt with key 1") == 1, server.text
    assert server.stop() == 0
    with Wire(eventdb_server(log, "--encryption-keys", keys).port) as wire:
        assert [wire("GET", f"k{number}") for number in range(20)] == [b"v%d" % number for number in range(20)]
