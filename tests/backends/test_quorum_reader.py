"""A reader at the live end: what it does when the zone it reads falls behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from eventdb.backends import Record, RecordKind
from eventdb.backends.log import Unavailable
from eventdb.backends.quorum import QuorumLog
from eventdb.backends.quorum import promise as promises
from eventdb.backends.quorum.files import FileOps
from eventdb.backends.quorum.horizon import Horizon
from eventdb.backends.quorum.joining import write_again
from eventdb.backends.quorum.reader import Reader
from eventdb.backends.quorum.segment import CHUNK_BYTES
from eventdb.backends.quorum.zone import HINT_S
from tests.kit.faults import Bench, append, crash, data_of, read_all, until, until_up

RECORDS, RECORD_BYTES = 800, 12_000


@pytest.mark.parametrize("lost", [0, 1, 2])
async def test_turning_to_another_zone_does_not_read_its_segment_from_the_beginning(tmp_path: Path, lost: int) -> None:
    """A replica was behind by a tenth of a second each time a zone rolled: it walked through all of the next one."""
    bench = Bench(tmp_path)
    log = bench.open()
    writer = await log.claim("node")
    reader = Reader(log._places, log._horizon, 0, lambda zone, segment: None)
    for _ in range(RECORDS):
        await bench.append(writer, os.urandom(RECORD_BYTES))
        reader.next()
    await until_up(log, writer)
    written = reader.position
    await until(lambda: _hints_reach(reader, written))
    await bench.append(writer, b"so that the reader takes note of the hints")
    _read_on(reader)
    read_bytes = _count(bench)
    reader._zone = lost
    bench.ops[lost].fail(errno.EIO, frozenset({"pread", "open_read"}))
    await bench.append(writer, b"behind the loss")
    stretch = reader.next()
    assert stretch is not None
    assert [record.body for record in stretch.records] == [b"behind the loss"]
    assert sum(read_bytes) < 6 * CHUNK_BYTES < RECORDS * RECORD_BYTES  # some tries: a zone may linger
    reader.close()
    await bench.close()


async def test_damage_is_not_the_last_word_while_other_zones_are_away(tmp_path: Path) -> None:
    """A follower that met a hole in one zone while the others could not be reached stood still for ever."""
    bench = Bench(tmp_path)
    log = bench.open()
    writer = await log.claim("node")
    for _ in range(5):
        await bench.append(writer, os.urandom(500))
    await until_up(log, writer)
    await log.close()
    path = bench.segments(0)[0]
    path.write_bytes(path.read_bytes()[:900] + bytes(4000))
    for index in (1, 2):
        bench.ops[index].fail(errno.EIO)
    log = bench.open()
    reader = Reader(log._places, log._horizon, 0, lambda zone, segment: None)
    with pytest.raises(Unavailable, match=r"zone-a: segment .* position .*Input/output error"):
        _read_on(reader)
    for index in (1, 2):
        bench.ops[index].heal()
    assert reader.next() is not None
    assert reader.position == reader.end.durable_end
    reader.close()
    await bench.check()
    await bench.close()


async def test_what_was_never_synced_is_shown_after_a_claim_has_written_it_again(
    tmp_path: Path,
) -> None:
    """Every zone shows the bytes of a write whose sync failed; a power cut would take them back."""
    bench = Bench(tmp_path)
    log = bench.open()
    writer = await log.claim("one")
    await bench.append(writer, b"one", b"two")
    said = _reader(log)
    await until(lambda: _hints_reach(said, writer.durable_end))
    said.close()
    for ops in bench.ops:
        ops.fail(errno.EIO, frozenset({"pwrite", "open_write"}), torn=1 << 20)
    future = append(writer, b"on no disk")
    await until(lambda: all(b"on no disk" in bench.segments(zone)[-1].read_bytes() for zone in range(3)))
    assert not future.done()
    crash(writer)
    for ops in bench.ops:
        ops.heal()
    reader, began_later = _reader(log), _reader(log)
    assert _data(reader) == [b"one", b"two"]
    reader.end.wait(reader.position)  # in the silence it looks once more
    assert _data(reader) == []
    assert (await log.info()).last_offset == 2
    foreseeing = bench.open()
    foreseeing.foresee()
    assert (await foreseeing.info()).last_offset == 3
    assert data_of(await read_all(foreseeing)) == [b"one", b"two", b"on no disk"]
    assert _data(began_later) == [b"one", b"two"]
    after = await bench.open().claim("two")
    assert after.next_offset == 4
    await until(lambda: reader.end.look() or reader.end.durable_end >= after.durable_end)
    assert _data(reader) == [b"on no disk"]
    for one in (reader, began_later):
        one.close()
    await bench.close()


async def test_without_any_hint_the_last_frame_says_how_far_history_was_durable(tmp_path: Path) -> None:
    """As after a power cut: hints are written and not synced."""
    bench = Bench(tmp_path)
    log = bench.open()
    writer = await log.claim("one")
    for body in (b"one", b"two", b"three"):
        await bench.append(writer, body)
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    crash(writer)
    for zone in bench.zones:
        (zone / "durable").unlink()
    reader = _reader(log)
    assert _data(reader) == [b"one", b"two"], "the frame of the third knew so much"
    assert reader.end.epoch == writer.epoch
    reader.close()
    await bench.close()


async def test_a_log_of_which_no_zone_answers_is_not_empty(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    writer = await bench.open().claim("one")
    await bench.append(writer, b"one")
    await writer.close()
    for ops in bench.ops:
        ops.fail(errno.EIO)
    log = bench.open()
    reader = _reader(log)
    with pytest.raises(Unavailable, match=r"no zone can be read: zone-a: .*Input/output error; zone-b"):
        reader.next()
    for ops in bench.ops[:2]:
        ops.heal()
    assert _data(reader) == [b"one"]
    reader.close()
    await bench.close()


async def test_what_a_claim_that_came_to_nothing_has_written_again_is_read(tmp_path: Path) -> None:
    """It began a segment of its own in every zone, in place of the only one, and died before it said anything."""
    bench = Bench(tmp_path)
    log = bench.open()
    writer = await log.claim("one")
    await bench.append(writer, b"one", b"two")
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    await writer.close()
    for index, zone in enumerate(bench.zones):
        promises.make(FileOps(), str(zone), writer.epoch + 1)
        write_again(FileOps(), str(zone), zone.name, writer.epoch + 1, 0, writer.durable_end)
        assert len(bench.segments(index)) == 2
    assert (await log.info()).last_offset == 2
    reader = _reader(log)
    assert _data(reader) == [b"one", b"two"]
    reader.close()
    await bench.open().claim("three")
    await bench.check()
    await bench.close()


def _reader(log: QuorumLog) -> Reader:
    """One that hears nothing from a writer in this process."""
    return Reader(log._places, Horizon(), 0, lambda zone, segment: None)


def _data(reader: Reader) -> list[bytes]:
    found: list[Record] = []
    while (batch := reader.next()) is not None:
        found += batch.records
    return [record.body for record in found if record.kind is RecordKind.DATA]


def _read_on(reader: Reader) -> None:
    while reader.next() is not None:
        pass


def _hints_reach(reader: Reader, position: int) -> bool:
    """Every zone has stated a place near the end; within HINT_S or so, once nothing more is written."""
    assert HINT_S < 1
    reader.end.look()
    return all(hint is not None and hint.durable_end >= position for hint in reader.end.hints)


def _count(bench: Bench) -> list[int]:
    """A list that the bytes read from now on are added to."""
    found: list[int] = []
    for ops in bench.ops:

        def pread(fd: int, size: int, at: int, read: object = ops.pread) -> bytes:
            data = read(fd, size, at)  # type: ignore[operator]
            found.append(len(data))
            return data

        ops.pread = pread  # type: ignore[method-assign]
    return found
