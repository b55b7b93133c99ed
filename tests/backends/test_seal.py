"""Encryption at rest: what lies on disk shows nothing, what was changed does not open, and no nonce comes twice."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from eventdb.backends import Corrupt, Log, LogError, RecordKind, open_log
from eventdb.backends.assembler import Assembler
from eventdb.backends.conformance import LogConformance, data_of, fill, read_all, sound
from eventdb.backends.kafka.claim import claim_epoch
from eventdb.backends.kafka.link import Link
from eventdb.backends.quorum import QuorumLog
from eventdb.backends.record import HEADER_BYTES, BadFrame, Encoder, decode, seal_of
from eventdb.backends.seal import SEAL_BYTES, BadKeys, CannotOpen, Keyring, KeySet, open_stream, seal_stream
from tests.golden.make import batch_of
from tests.kit.faults import WRITING, Bench, crash, until, until_up
from tests.kit.kafka_partition import Partition, SimulatedLink
from tests.kit.keyring import frames_in, key_of, nonce_of, ring, with_right_checksum

SECRET = b"correct horse battery staple"


class TestSealedQuorum(LogConformance):
    def fresh(self, tmp_path: Path) -> Callable[[], Log]:
        keys = ring(1, 2)
        return lambda: open_log(f"quorum:{tmp_path}/log", keys=keys)


class TestSealedFragments(LogConformance):
    """Segments that begin inside a record, each fragment sealed by itself."""

    def fresh(self, tmp_path: Path) -> Callable[[], Log]:
        def opened() -> QuorumLog:
            log = QuorumLog(f"quorum:{tmp_path}/log", segment_bytes=20_000, payload_bytes_max=1500)
            log.use_keys(ring(7))
            return log

        return opened


def sealed(body: bytes, keys: Keyring) -> list[bytes]:
    return Encoder(1000, keys).encode(
        body, kind=0, epoch=3, position=7, durable_end=5, first_offset=11, count=2, time_ms=1 << 40,
        before=2 << 32 | 99,
    )  # fmt: skip


def opened(frame: bytes, keys: Keyring | None) -> bytes:
    decoded = decode(frame)
    assert decoded is not None
    record = Assembler(keys).feed(decoded, decoded.position)
    assert record is not None
    return record.body


def key_id_of(frame: bytes) -> int:
    decoded = decode(frame)
    assert decoded is not None
    return decoded.key_id


# -- one frame


@pytest.mark.parametrize("body", [b"", SECRET, SECRET * 40, random.Random(1).randbytes(900)])
def test_a_sealed_frame_opens_and_shows_nothing(body: bytes) -> None:
    (frame,) = sealed(body, ring(1))
    assert opened(frame, ring(1)) == body
    assert SECRET not in frame
    assert key_id_of(frame) == 1


def test_every_changed_byte_is_noticed_though_the_checksum_is_made_right() -> None:
    (frame,) = sealed(SECRET, ring(1))
    for at in range(8, len(frame)):
        if at == 8 or at in range(52, 56):  # the version, and the length, without which there is no frame to judge
            continue
        changed = bytearray(frame)
        changed[at] ^= 1
        with pytest.raises(BadFrame) as failure:
            opened(with_right_checksum(bytes(changed)), ring(1))
        if at >= HEADER_BYTES:
            assert "does not decrypt with key 1: tampered with, or sealed with another key" in str(failure.value)


def test_what_is_sealed_once_more_is_never_the_same() -> None:
    keys = ring(1)
    encoder = Encoder(1000, keys)
    bodies = [b"same"] * 50 + [random.Random(1).randbytes(9000)]
    frames: list[bytes] = []
    for body in bodies:
        frames += encoder.encode(
            body, kind=0, epoch=1, position=0, durable_end=0, first_offset=1, count=1, time_ms=1
        )  # fmt: skip
    frames += [frame for _ in range(20) for frame in sealed(b"same", keys)]  # a new encoder each: a claim
    assert len(frames) > 75
    assert len({nonce_of(frame) for frame in frames}) == len(frames)


def test_a_moved_frame_gets_another_nonce_unless_it_is_the_same_frame() -> None:
    keys = ring(1)
    encoder = Encoder(1000, keys)
    (frame,) = sealed(SECRET, keys)
    assert encoder.moved(frame, 7, 6, 2 << 32 | 99) == frame
    for position, before in ((8, 2 << 32 | 99), (7, 2 << 32 | 98)):
        moved = encoder.moved(frame, position, 6, before)
        assert nonce_of(moved) != nonce_of(frame)
        assert opened(moved, keys) == SECRET


def test_a_frame_never_contains_its_own_mark_though_chance_would_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from eventdb.backends import seal

    class Unlucky(seal.Sealer):
        def seal(self, payload: bytes, header: bytes) -> bytes:
            self.tries = getattr(self, "tries", 0) + 1
            found = super().seal(payload, header)
            return found[:30] + b"evDB" + found[34:] if self.tries == 1 else found

    monkeypatch.setattr(seal, "Sealer", Unlucky)
    (frame,) = sealed(SECRET, ring(1))
    assert frame.find(b"evDB", 1) < 0
    assert opened(frame, ring(1)) == SECRET


def test_the_stored_limit_holds_what_sealing_adds() -> None:
    frames = sealed(random.Random(3).randbytes(5000), ring(1))
    assert max(map(len, frames)) == HEADER_BYTES + 1000
    assert len(frames) == -(-5000 // (1000 - SEAL_BYTES))


# -- whole logs


def at(tmp_path: Path) -> str:
    return f"quorum:{tmp_path}/log"


async def written(url: str, keys: Keyring | None, *bodies: bytes) -> None:
    log = open_log(url, keys=keys)
    writer = await log.claim("node", "host:6379")
    await fill(writer, list(bodies))
    await writer.append(b'{"address": "host:6379"}', first_offset=writer.next_offset, count=0,
                        time_ms=writer.last_time_ms, kind=RecordKind.HEARTBEAT)  # fmt: skip
    await until_up(cast(QuorumLog, log), writer)  # type: ignore[arg-type]
    await log.close()


async def bodies_of(url: str, keys: Keyring | None) -> list[bytes]:
    log = open_log(url, keys=keys)
    try:
        return data_of(await read_all(log))
    finally:
        await log.close()


def files(tmp_path: Path) -> Iterator[bytes]:
    yield from (path.read_bytes() for path in (tmp_path / "log").rglob("*") if path.is_file())


async def test_no_file_of_any_zone_shows_a_value_an_address_or_a_key(tmp_path: Path) -> None:
    noise = random.Random(4).randbytes(5000)  # compression would hide words
    await written(at(tmp_path), None, SECRET, noise)
    assert sum(SECRET in data for data in files(tmp_path)) == 3, "in the clear each zone shows it"
    (tmp_path / "log").rename(tmp_path / "clear")
    await written(at(tmp_path), ring(1), SECRET, noise)
    for data in files(tmp_path):
        assert not any(word in data for word in (SECRET, noise[100:120], b"host:6379", key_of(1)))
    assert await bodies_of(at(tmp_path), ring(1)) == [SECRET, noise]


async def test_a_log_that_is_clear_then_sealed_then_rotated_is_one_history(tmp_path: Path) -> None:
    url = at(tmp_path)
    await written(url, None, b"clear")
    await written(url, ring(1, active=0), b"keys, and none is active")
    await written(url, ring(1), b"one")
    await written(url, ring(1, 2), b"two")
    everything = [b"clear", b"keys, and none is active", b"one", b"two"]
    assert await bodies_of(url, ring(1, 2)) == everything
    log = open_log(url, keys=ring(1, 2))
    assert [line async for line in log.verify()] == []
    await written(url, ring(1, 2, active=0), b"active no more")  # goes on with the newest key that it met
    assert await bodies_of(url, ring(1, 2)) == [*everything, b"active no more"]
    with pytest.raises(Corrupt, match="sealed with key 2, which is not there: there is 1"):
        await bodies_of(url, ring(1))


@pytest.mark.parametrize(("keys", "text"), [
    (None, r"position 0: sealed with key 1, and no keys are given \(encryption-keys, or EVENTDB_ENCRYPTION_KEYS\)"),
    (ring(), "position 0: sealed with key 1, which is not there: there is none"),
    (ring(2, 3), "position 0: sealed with key 1, which is not there: there are 2, 3"),
    (Keyring(KeySet(1, {1: key_of(9)})), "position 0: does not decrypt with key 1: tampered with, or sealed with"),
    (Keyring(KeySet(0, {}, {1: "the KMS says no"})), "sealed with key 1, which cannot be unwrapped: the KMS says no"),
])  # fmt: skip
async def test_a_log_whose_key_is_missing_names_it_and_is_not_written(
    tmp_path: Path, keys: Keyring | None, text: str
) -> None:
    url = at(tmp_path)
    await written(url, ring(1), SECRET)
    with pytest.raises(Corrupt, match=text):
        await bodies_of(url, keys)
    if keys is None or not keys.active:
        with pytest.raises(LogError, match="cannot be written: it is sealed with key 1"):
            await open_log(url, keys=keys).claim("stranger")
    assert await bodies_of(url, ring(1)) == [SECRET]


async def test_clear_records_after_sealed_ones_are_a_forgery(tmp_path: Path) -> None:
    """Whoever has a zone's disk but no key can write frames with right checksums and links; none is believed."""
    url = at(tmp_path)
    await written(url, ring(1), SECRET)
    for path in sorted((tmp_path / "log").glob("zone-*/*.seg")):
        data = path.read_bytes()
        frames = frames_in(data)
        victim = decode(frames[-1])
        assert victim is not None
        (forged,) = Encoder().encode(
            b"forged", kind=0, epoch=victim.epoch, position=victim.position, durable_end=victim.durable_below,
            first_offset=victim.first_offset, count=1, time_ms=victim.time_ms, before=seal_of(frames[-2]),
        )  # fmt: skip
        before = sum(map(len, frames[:-1]))
        forged += bytes(max(0, len(frames[-1]) - len(forged)))
        path.write_bytes(data[:before] + forged + data[before + len(forged) :])
    with pytest.raises(Corrupt, match="not encrypted, after records that are"):
        await read_foreseeing(url, ring(1))


async def read_foreseeing(url: str, keys: Keyring) -> None:
    log = open_log(url, keys=keys, foresee=True)
    try:
        await read_all(log)
    finally:
        await log.close()


async def test_a_tampered_record_with_right_checksums_is_named_by_the_reader(tmp_path: Path) -> None:
    url = at(tmp_path)
    await written(url, ring(1), b"one", SECRET, b"three")
    for path in sorted((tmp_path / "log").glob("zone-*/*.seg")):
        data = path.read_bytes()
        frames = frames_in(data)
        tampered = bytearray(frames[2])
        tampered[-1] ^= 1
        rest = [with_right_checksum(bytes(tampered))]
        for frame in frames[3:]:  # and every link after it is made right as well
            linked = bytearray(frame)
            linked[20:24] = rest[-1][4:8]
            rest.append(with_right_checksum(bytes(linked)))
        path.write_bytes(b"".join([*frames[:2], *rest]) + data[sum(map(len, frames)) :])
    with pytest.raises(Corrupt, match=r"segment 0.*seg: position 2: does not decrypt with key 1: tampered with"):
        await bodies_of(url, ring(1))


async def test_every_copy_of_a_record_is_the_same_bytes_whatever_happens_to_a_zone(tmp_path: Path) -> None:
    """A zone that failed, one that was torn off, one that is rebuilt, and a claim that writes the tail again."""
    bench = Bench(tmp_path)

    def fresh() -> QuorumLog:
        log = bench.open()
        log.use_keys(ring(1))
        return log

    writer = await (log := fresh()).claim("first")
    await until_up(log, writer)
    for number in range(30):
        if number == 10:
            bench.ops[1].fail(errno.EIO, WRITING, torn=70)
        await fill(writer, [b"%d" % number])
    bench.ops[1].heal()
    await until_up(log, writer)
    crash(writer)
    for path in bench.zones[2].glob("*"):
        if path.is_file():
            path.unlink()
    writer = await (log := fresh()).claim("second")
    await fill(writer, [b"%d" % number for number in range(30, 40)])
    await until_up(log, writer)
    await log.close()
    at_position: dict[tuple[int, int], set[bytes]] = {}
    for zone in bench.zones:
        for path in zone.glob("*.seg"):
            for frame in frames_in(path.read_bytes()):
                decoded = decode(frame)
                assert decoded is not None
                at_position.setdefault((decoded.epoch, decoded.position), set()).add(frame)
    assert len(at_position) > 40
    assert all(len(copies) == 1 for copies in at_position.values())
    nonces = {nonce_of(frame) for copies in at_position.values() for frame in copies}
    assert len(nonces) == len(at_position)
    reader = bench.open(faulty=False)
    reader.use_keys(ring(1))
    assert data_of(await read_all(reader)) == [b"%d" % number for number in range(40)]
    await sound(reader)
    await bench.close()


async def test_zones_are_compared_and_rebuilt_without_any_key(tmp_path: Path) -> None:
    url = at(tmp_path)
    await written(url, ring(1), SECRET, b"more")
    log = open_log(url)
    assert [line async for line in log.verify()] == []
    assert (await log.info()).last_offset == 2
    (path,) = (tmp_path / "log" / "zone-b").glob("*.seg")
    path.write_bytes(path.read_bytes().replace(b"evDB", b"xxxx"))
    assert any("zone-b" in line for line in [line async for line in log.verify()])
    await log.close()


async def test_a_running_writer_takes_the_key_that_became_active(tmp_path: Path) -> None:
    given = [KeySet(1, {1: key_of(1), 2: key_of(2)})]
    keys = Keyring(given[0], lambda: given[0])
    log = open_log(at(tmp_path), keys=keys)
    writer = await log.claim("node")
    await fill(writer, [b"one"])
    given[0] = KeySet(2, given[0].keys)
    keys._looked -= 60  # long ago: the next record makes it look, beside what it does
    keys.sealer(None)
    await until(lambda: keys.active == 2)
    await fill(writer, [b"two"])
    given[0] = KeySet(3, given[0].keys)  # a mistake: there is no such key
    keys.look()
    await fill(writer, [b"three"])
    given[0] = KeySet(1, {1: key_of(8)})  # another key under an id that was used
    keys.look()
    await fill(writer, [b"four"])
    await until_up(cast(QuorumLog, log), writer)  # type: ignore[arg-type]
    await log.close()
    (path,) = (tmp_path / "log" / "zone-a").glob("*.seg")
    ids = [key_id_of(frame) for frame in frames_in(path.read_bytes())]
    assert ids == [1, 1, 2, 2, 2]


async def test_a_reader_that_misses_a_key_asks_its_source_again(tmp_path: Path) -> None:
    await written(at(tmp_path), ring(5), SECRET)
    keys = Keyring(KeySet(0), lambda: KeySet(0, {5: key_of(5)}))
    keys._looked -= 60
    assert await bodies_of(at(tmp_path), keys) == [SECRET]


async def test_a_topic_is_sealed_as_files_are() -> None:
    partition = Partition(random.Random(1))
    link = cast(Link, SimulatedLink(partition))
    await claim_epoch(link, b"node host:6379", 0, ring(1))
    from eventdb.backends.kafka.reader import batches

    async def read(keys: Keyring | None) -> list[bytes]:
        found = batches(link, 0, follow=False, known_end=0, keys=keys)
        return [record.body async for batch in found for record in batch.records]

    assert await read(ring(1)) == [b"node host:6379"]
    with pytest.raises(Corrupt, match="topic t: position 0: sealed with key 1, and no keys are given"):
        await read(None)
    with pytest.raises(LogError, match="topic t cannot be written: it is sealed with key 1"):
        await claim_epoch(link, b"stranger", 0)
    (forged,) = Encoder().encode(
        b"forged", kind=0, epoch=1, position=1, durable_end=1, first_offset=1, count=1, time_ms=0
    )  # fmt: skip
    partition.append(batch_of(forged))
    partition.commit()
    with pytest.raises(Corrupt, match="position 1: not encrypted, after records that are"):
        await read(ring(1))


# -- streams

CHUNKS = [b"first", SECRET * 100, b"", b"last"]


def resealed(keys: Keyring, context: bytes = b"") -> list[bytes]:
    return list(seal_stream(CHUNKS, keys, context))


@pytest.mark.parametrize("chunks", [[], [b""], [b"x"], CHUNKS, [random.Random(5).randbytes(3 << 20)]])
def test_a_sealed_stream_opens_however_it_is_cut(chunks: list[bytes]) -> None:
    data = b"".join(seal_stream(chunks, ring(1), b"snapshot 7"))
    assert SECRET not in data
    for size in (1 << 16, 1000) if len(data) > 10_000 else (1, 7, len(data)):
        pieces = (data[at : at + size] for at in range(0, len(data), size))
        assert b"".join(open_stream(pieces, ring(1, 2), b"snapshot 7")) == b"".join(chunks)


def test_a_stream_that_is_changed_anywhere_does_not_open() -> None:
    data = b"".join(resealed(ring(1)))
    for at in [*range(60), *range(60, len(data), 37), *range(len(data) - 20, len(data))]:
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(CannotOpen):
            list(open_stream([bytes(changed)], ring(1)))


def split(data: bytes) -> list[bytes]:
    """The header and the chunks of a stream."""
    found, at = [data[:24]], 24
    while at < len(data):
        size = 5 + int.from_bytes(data[at : at + 4], "little")
        found.append(data[at : at + size])
        at += size
    return found


def marked(chunk: bytes, *, last: bool) -> bytes:
    return chunk[:4] + bytes([last]) + chunk[5:]


def test_a_stream_that_is_cut_short_reordered_doubled_or_continued_does_not_open() -> None:
    header, *chunks = split(b"".join(resealed(ring(1))))
    other_header, *others = split(b"".join(resealed(ring(1))))
    assert len(chunks) == 3
    assert list(open_stream([header, *chunks], ring(1))) == [chunk for chunk in CHUNKS if chunk]
    for pieces in (
        [], [header], [header, *chunks[:-1]], [header, chunks[0], chunks[2]], [header, chunks[1], chunks[0], chunks[2]],
        [header, chunks[0], *chunks], [header, *chunks, chunks[2]], [header, *chunks, b"x"], [header, *others],
        [header, chunks[0], others[1], chunks[2]], [other_header, *chunks],
        [header, chunks[0], marked(chunks[1], last=True)], [header, *chunks[:2], marked(chunks[2], last=False)],
    ):  # fmt: skip
        with pytest.raises(CannotOpen):
            list(open_stream(pieces, ring(1)))


def test_a_stream_names_the_key_and_belongs_to_its_context() -> None:
    data = resealed(ring(3), b"snapshot 7")
    with pytest.raises(CannotOpen, match="sealed with key 3, which is not there: there is 1"):
        list(open_stream(data, ring(1), b"snapshot 7"))
    with pytest.raises(CannotOpen, match="chunk 0 does not decrypt with key 3"):
        list(open_stream(data, ring(3), b"snapshot 8"))
    with pytest.raises(CannotOpen, match="does not decrypt with key 3: tampered with, or sealed with another key"):
        list(open_stream(data, Keyring(KeySet(3, {3: key_of(4)})), b"snapshot 7"))
    with pytest.raises(BadKeys, match="no key is active"):
        resealed(ring())
