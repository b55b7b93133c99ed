"""One history: a frame that does not follow the one before is noticed wherever one is read after another."""

from __future__ import annotations

import asyncio
import errno
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import google_crc32c
import pytest

from eventdb.backends import Corrupt, Record, RecordKind
from eventdb.backends.kafka.claim import claim_epoch
from eventdb.backends.kafka.history import History
from eventdb.backends.kafka.link import Link
from eventdb.backends.kafka.reader import batches
from eventdb.backends.quorum import FileOps, QuorumLog, QuorumWriter
from eventdb.backends.quorum.joining import Source
from eventdb.backends.quorum.promise import Promise
from eventdb.backends.quorum.reader import Reader
from eventdb.backends.quorum.repair import repair_segment
from eventdb.backends.quorum.view import ZoneView
from eventdb.backends.record import NOTHING, UNKNOWN, BadFrame, Encoder, Frame, decode, follows, seal_of
from eventdb.replay.follower import Follower
from tests.golden.make import batch_of, values_of, write, writer_of
from tests.kit.faults import WRITING, Bench, append, copy_living, crash, data_of, findings, read_all, until, until_up
from tests.kit.kafka_partition import Partition, SimulatedLink
from tests.kit.machines import Notebook, Scribe, set_transaction

ALIEN = "the frame at position [0-9]+ does not follow the one before"


def believed(view: ZoneView) -> Source:
    """A zone as a source of all that it holds."""
    (path,) = (Path(view.directory) / "promises").iterdir()
    found = path.stat()
    return Source(view, 1 << 62, Promise(int(path.name[8:]), str(path), found.st_ino, found.st_ctime_ns))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


def frames_of(zone: Path) -> list[Frame]:
    view = ZoneView(FileOps(), str(zone), zone.name)
    view.refresh()
    found: list[Frame] = []
    while (chunk := view.read(found[-1].position + 1 if found else 0)).frames:
        found += chunk.frames
    view.close()
    return found


def check_chain(frames: list[Frame]) -> None:
    before = NOTHING
    for frame in frames:
        assert frame.version == 2
        assert frame.link == before & 0xFFFFFFFF, frame.position
        before = frame.seal


# -- the frame --------------------------------------------------------------------------------------------------


def encode(body: bytes, position: int = 7, *, before: int = UNKNOWN, limit: int = 1000, **facts: int) -> list[bytes]:
    known: dict[str, Any] = {"kind": 0, "epoch": 3, "durable_end": 5, "first_offset": 1, "count": 1, "time_ms": 0}
    return Encoder(limit).encode(body, position=position, before=before, **{**known, **facts})


def decoded(raw: bytes) -> Frame:
    frame = decode(raw)
    assert frame is not None
    return frame


def test_fragments_link_to_each_other_and_the_first_to_what_came_before() -> None:
    (first,) = encode(b"first")
    frames = [decoded(raw) for raw in encode(random.Random(1).randbytes(2500), before=seal_of(first))]
    assert [frame.link for frame in frames] == [decoded(first).checksum, frames[0].checksum, frames[1].checksum]
    assert all(follows(frame, before) for frame, before in zip(frames, [seal_of(first), *[f.seal for f in frames]]))
    assert not follows(frames[1], seal_of(first))
    assert follows(frames[1], UNKNOWN)
    assert not follows(frames[0], NOTHING)


def test_the_checksum_of_a_frame_is_a_running_one() -> None:
    """One other byte far before, and every checksum from there on is another."""
    ends = []
    for body in (b"this", b"that"):
        raws = encode(body, before=NOTHING)
        for _ in range(5):
            raws = encode(b"the same", before=seal_of(raws[-1]))
        ends.append(seal_of(raws[-1]))
    assert ends[0] != ends[1]


def test_what_the_header_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="epoch 4294967296"):
        encode(b"x", epoch=1 << 32)


def test_a_frame_with_a_flag_of_a_later_program_is_refused_and_named() -> None:
    (raw,) = encode(b"x")
    covered = raw[8:14] + b"\x02\x00" + raw[16:]
    with pytest.raises(BadFrame, match="flags 0x0002"):
        decode(raw[:4] + google_crc32c.value(covered).to_bytes(4, "little") + covered)


# -- quorum files -----------------------------------------------------------------------------------------------


async def test_every_zone_holds_one_chain_over_epochs_rolls_and_fragments(tmp_path: Path) -> None:
    bench = Bench(tmp_path, segment_bytes=6000)
    for _epoch in range(3):
        log = bench.open()
        writer = await log.claim("node")
        for number in range(8):
            await bench.append(writer, random.Random(number).randbytes(700 if number % 3 else 9000))
        bench.ops[1].fail(errno.EIO, WRITING)  # this zone has to catch up from another
        await bench.append(writer, b"without b")
        bench.ops[1].heal()
        await until_up(log, writer)
        await log.close()
    chains = [frames_of(zone) for zone in bench.zones]
    for chain in chains:
        check_chain(chain)
    assert len({chain[-1].seal for chain in chains}) == 1
    records = await read_all(bench.open())
    assert records[-1].checksum == chains[0][-1].seal
    await bench.close()


async def two_histories(bench: Bench) -> tuple[QuorumLog, Path]:
    """A log, and a copy of it from before its latest records, in which another writer wrote others."""
    writer = await bench.open().claim("node")
    await bench.append(writer, *(b"both-%d" % number for number in range(5)))
    await bench._logs[-1].close()
    kept = bench.root.parent / "kept"
    copy_living(bench.root, kept)
    for body in (b"other", b"this"):
        log = bench.open()
        writer = await log.claim("node")
        for number in range(5):
            await append(writer, b"%s-%d" % (body, number))
        await until_up(log, writer)
        await log.close()
        if body == b"other":
            bench.root.rename(bench.root.parent / "other")
            kept.rename(bench.root)
    return bench.open(), bench.root.parent / "other"


def swap(bench: Bench, other: Path) -> None:
    bench.root.rename(bench.root.parent / "away")
    other.rename(bench.root)


async def test_a_reader_that_is_moved_onto_another_history_stops(bench: Bench) -> None:
    log, other = await two_histories(bench)
    reader = Reader(log._places, log._horizon, 0, lambda zone, segment: None)
    reader.end.prove()
    reader.end.durable_end, whole = 9, reader.end.durable_end
    reader._started = True
    batch = reader.next()
    assert batch is not None
    assert (batch.next_position, batch.records[-1].body) == (9, b"this-1")
    swap(bench, other)
    for view in reader._views:
        view.close()  # as where a segment ends: what is open would still show the true one
    reader.end.durable_end = whole
    with pytest.raises(Corrupt, match=f"zone-a: segment 0.*: position 9 .*{ALIEN}"):
        reader.next()
    reader.close()


async def test_reading_goes_on_in_the_history_that_was_read_or_not_at_all(bench: Bench) -> None:
    log, other = await two_histories(bench)
    records = await read_all(log)
    last = records[8]
    more = [one async for batch in log.read(9, after=last.checksum) for one in batch.records]
    assert more == records[9:]
    with pytest.raises(Corrupt, match=ALIEN):
        [batch async for batch in log.read(9, after=records[7].checksum)]
    swap(bench, other)
    with pytest.raises(Corrupt, match=ALIEN):
        [batch async for batch in bench.open().read(9, after=last.checksum)]
    assert [batch async for batch in bench.open().read(9)], "a reader that read nothing before cannot know"


async def test_a_follower_that_goes_on_later_notices_that_the_log_is_another_one(bench: Bench) -> None:
    """As after every error of a replica, and before a claim: it reads on from where it was."""
    scribe = await Scribe.claim(bench.open())
    for number in range(4):
        await scribe.write([set_transaction(f"k{number}", "both")])
    await bench._logs[-1].close()
    copy_living(bench.root, bench.root.parent / "other")
    for turn in range(2):
        scribe = await Scribe.claim(bench.open())
        for number in range(4):
            await scribe.write([set_transaction(f"k{number}", f"{turn}")], 1 << 41)
        await bench._logs[-1].close()
        if turn == 0:
            follower = Follower(bench.open(), Notebook(), allow_incomplete=True)
            await follower.rebuild()
            assert follower.offset == 8
            swap(bench, bench.root.parent / "other")
    scribe = await Scribe.claim(bench.open())
    await scribe.write([set_transaction("k9", "after")], 1 << 41)
    follower.log = bench.open()
    with pytest.raises(Corrupt, match=ALIEN):
        await follower.rebuild()
    assert follower.offset == 8


async def fenced_tail(bench: Bench, count: int = 4) -> QuorumWriter:
    """Zone a holds records of a fenced writer that were never acknowledged, and is away; another writer is at work."""
    writer = await bench.open().claim("first")
    await bench.append(writer, b"one", b"two")
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    for index in range(1, len(bench.ops)):
        bench.ops[index].fail(errno.EIO, WRITING)
    for number in range(count):
        append(writer, b"fenced-%d" % number)
    await until(lambda: writer.zones[0].reached() == writer.durable_end + count)
    crash(writer)
    bench.ops[0].fail(errno.EIO)
    for index in range(1, len(bench.ops)):
        bench.ops[index].heal()
    again = await bench.open().claim("second")
    for number in range(6):  # one by one, so that no zone takes them in one write, and in one segment
        await bench.append(again, b"true-%d" % number)
        await until(lambda: all(zone.reached() == again.durable_end for zone in again.zones[1:]))
    return again


async def test_a_repair_copies_only_what_fits_on_both_sides(tmp_path: Path) -> None:
    """A zone that shows a fenced writer's frames where others have true ones is asked first, and not believed."""
    bench = Bench(tmp_path, segment_bytes=400)
    again = await fenced_tail(bench)
    for number in range(12):  # past twice the size that a segment may grow to while the next one gets its name
        await bench.append(again, b"more-%d" % number)
        await until(lambda: all(zone.reached() == again.durable_end for zone in again.zones[1:]))
    await bench._logs[-1].close()
    zones = [ZoneView(FileOps(), str(zone), zone.name) for zone in bench.zones]
    name = "00000000000000000003-0000000002.seg"  # begins where the fenced writer's frames part from the true ones
    path = bench.zones[1] / name
    good = path.read_bytes()
    path.write_bytes(good[:90] + bytes([good[90] ^ 1]) + good[91:])
    repair_segment(FileOps(), str(bench.zones[1]), "zone-b", name, [believed(zones[0]), believed(zones[2])])
    rebuilt = path.read_bytes()
    assert len(rebuilt) > 90 and good.startswith(rebuilt)  # what its successor holds, too, is no part of it
    bench.ops[0].heal()
    await bench.check()
    await bench.close()


async def test_a_repair_goes_on_to_the_end_in_one_history(tmp_path: Path) -> None:
    """The segment begins with what all have in common, so what a fenced writer wrote follows its first frames."""
    bench = Bench(tmp_path, segment_bytes=1200)
    writer = await bench.open().claim("first")
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    bench.ops[1].fail(errno.EIO, WRITING)
    await bench.append(writer, b"one", b"two")
    await until(lambda: writer.zones[2].reached() == writer.durable_end)
    bench.ops[2].fail(errno.EIO, WRITING)
    for number in range(30):
        append(writer, b"fenced-%d" % number)
    await until(lambda: writer.zones[0].reached() == writer.durable_end + 30)
    crash(writer)
    bench.ops[0].fail(errno.EIO)
    for index in (1, 2):
        bench.ops[index].heal()
    log = bench.open()
    again = await log.claim("second")
    for number in range(20):
        await bench.append(again, b"true-%d" % number)
        await until(lambda: all(zone.reached() == again.durable_end for zone in again.zones[1:]))
    await log.close()
    path = bench.zones[1] / f"{1:020d}-{2:010d}.seg"
    good = path.read_bytes()
    path.write_bytes(good[:90] + bytes([good[90] ^ 1]) + good[91:])
    zones = [ZoneView(FileOps(), str(zone), zone.name) for zone in (bench.zones[0], bench.zones[2])]
    repair_segment(FileOps(), str(bench.zones[1]), "zone-b", path.name, [believed(zone) for zone in zones])
    rebuilt = path.read_bytes()
    assert len(rebuilt) > 90 and good.startswith(rebuilt)  # what its successor holds, too, is no part of it
    await bench.close()


async def test_a_repair_that_nobody_can_do_rightly_is_not_done(tmp_path: Path) -> None:
    bench = Bench(tmp_path, segment_bytes=400)
    await fenced_tail(bench)
    await bench._logs[-1].close()
    name = "00000000000000000003-0000000002.seg"  # begins where the fenced writer's frames part from the true ones
    path = bench.zones[1] / name
    good = path.read_bytes()
    damaged = good[:90] + bytes([good[90] ^ 1]) + good[91:]
    path.write_bytes(damaged)
    fenced = ZoneView(FileOps(), str(bench.zones[0]), "zone-a")
    repair_segment(FileOps(), str(bench.zones[1]), "zone-b", name, [believed(fenced)])
    assert path.read_bytes() == damaged
    assert [entry.name for entry in bench.zones[1].glob(".*.repair")] == []
    await bench.close()


async def test_a_zone_that_catches_up_takes_nothing_from_a_directory_that_was_put_back(tmp_path: Path) -> None:
    """Between two looks the source became an older copy of itself, which shows a fenced writer's frames."""
    bench = Bench(tmp_path, zones=5)
    writer = await bench.open().claim("first")
    await bench.append(writer, b"one", b"two")
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    for index in range(1, 5):
        bench.ops[index].fail(errno.EIO, WRITING)
    for number in range(4):
        append(writer, b"fenced-%d" % number)
    await until(lambda: writer.zones[0].reached() == writer.durable_end + 4)
    crash(writer)
    backup = bench.root / "backup"
    copy_living(bench.zones[0], backup)
    for index in range(1, 5):
        bench.ops[index].heal()
    bench.ops[0].fail(errno.EIO)
    log = bench.open()
    again = await log.claim("second")
    bench.ops[0].heal()
    await bench.append(again, b"true-0")
    await until_up(log, again)
    zone = again.zones[2]
    bench.ops[2].fail(errno.EIO, WRITING)
    for number in range(1, 12):
        await bench.append(again, b"true-%d" % number)
    await until(lambda: zone.state == "down")
    await until(lambda: all(one.reached() == again.durable_end for one in again.zones if one is not zone))
    bench.zones[0].rename(bench.root / "zone-a.old")
    backup.rename(bench.zones[0])
    again._window._held = (again.durable_end, [])  # as after many records: they have to be copied
    bench.ops[2].heal()
    await until(lambda: zone.reached() == again.durable_end)
    check_chain(frames_of(bench.zones[2]))
    assert frames_of(bench.zones[2]) != []
    assert [frame.payload for frame in frames_of(bench.zones[2])] == [
        frame.payload for frame in frames_of(bench.zones[1])
    ]
    await bench.close()


async def test_verify_names_the_place_where_two_histories_were_put_together(bench: Bench) -> None:
    log, other = await two_histories(bench)
    await log.close()
    of_this, of_other = bench.segments(0)[-1], other / "zone-a" / bench.segments(0)[-1].name
    frames = [[frame for frame in frames_of(zone) if frame.epoch == 2] for zone in (bench.zones[0], other / "zone-a")]
    cuts = [sum(frame.size for frame in found[:3]) for found in frames]
    of_this.write_bytes(of_this.read_bytes()[: cuts[0]] + of_other.read_bytes()[cuts[1] :])
    lines = await findings(bench.open())
    assert any("zone-a: segment" in line and "does not follow the one before" in line for line in lines), lines


async def test_a_missing_segment_does_not_show_what_was_fenced_even_before_a_claim(tmp_path: Path) -> None:
    """The segment that is missing is all that an epoch wrote: after it a claim begins, as if all were well."""
    bench = Bench(tmp_path, segment_bytes=1 << 20)
    again = await fenced_tail(bench, 12)
    log = bench._logs[-1]
    bench.ops[0].heal()
    await until_up(log, again)
    await log.close()
    log = bench.open()
    third = await log.claim("third")
    await bench.append(third, b"last")
    await until_up(log, third)
    await log.close()
    missing = [path for path in bench.segments(0) if path.name.endswith("-0000000002.seg")]
    (of_third,) = [path for path in bench.segments(0) if path.name.endswith("-0000000003.seg")]
    assert int(of_third.name[:20]) <= 3 + 12, "the fenced frames reach to it, or this proves nothing"
    for path in missing:
        path.unlink()
    await bench.check()
    await bench.close()


def put_other(bench: Bench, zone: int) -> None:
    """Put another sound frame in place of the last one of a zone: same position, same epoch, same size."""
    path = bench.segments(zone)[-1]
    last = frames_of(bench.zones[zone])[-1]
    raw = path.read_bytes()
    at = raw.rindex(b"evDB")
    (other,) = Encoder().encode(
        bytes(len(last.payload)), kind=last.kind, epoch=last.epoch, position=last.position,
        durable_end=last.durable_below, first_offset=last.first_offset, count=last.count, time_ms=last.time_ms,
    )  # fmt: skip
    assert len(other) == last.size
    path.write_bytes(raw[:at] + other + raw[at + last.size :])


async def test_a_claim_takes_back_a_last_record_that_is_not_the_true_one(bench: Bench) -> None:
    """It has the position and the epoch of the true one, and nothing would ever have compared more."""
    log = bench.open()
    writer = await log.claim("node")
    await bench.append(writer, b"one", b"two", b"three")
    await until_up(log, writer)
    await log.close()
    put_other(bench, 2)
    log = bench.open()
    again = await log.claim("again")
    await bench.append(again, b"four")
    await until_up(log, again)
    await log.close()
    assert frames_seals(bench, 2) == frames_seals(bench, 0)
    await bench.check()


def frames_seals(bench: Bench, zone: int) -> list[int]:
    return [frame.seal for frame in frames_of(bench.zones[zone])]


async def test_a_zone_whose_last_record_became_another_one_does_not_go_on(bench: Bench) -> None:
    """It was away, and what the writer has for it does not follow what it holds now."""
    log = bench.open()
    writer = await log.claim("node")
    await bench.append(writer, b"one", b"two", b"three")
    await until_up(log, writer)
    bench.ops[2].fail(errno.EIO, WRITING)
    await bench.append(writer, b"four")
    await until(lambda: writer.zones[2].state == "down")
    put_other(bench, 2)
    bench.ops[2].heal()
    await until(lambda: "does not follow the one before" in writer.zones[2].detail)
    await bench.append(writer, b"five")
    assert (writer.zones[2].state, writer.zones[2].end) == ("down", 4)
    await bench.check()


async def test_verify_compares_the_last_records_of_a_short_log_too(tmp_path: Path) -> None:
    one, two = Bench(tmp_path / "one"), Bench(tmp_path / "two")
    for bench, body in ((one, b"this"), (two, b"that")):
        writer = await bench.open().claim("node")
        await bench.append(writer, *(body for _ in range(20)))
        await until(lambda zones=writer.zones: all(zone.reached() == 21 for zone in zones))  # type: ignore[misc]
        await writer.close()
    shutil.copy(two.segments(2)[0], one.segments(2)[0])
    (line,) = await findings(one.open())
    assert "differs from zone-a before position 21" in line
    await asyncio.gather(one.close(), two.close())


async def test_the_last_record_is_kept_by_every_trim(tmp_path: Path) -> None:
    """The next claim links to it, and has its offset from it."""
    bench = Bench(tmp_path, segment_bytes=300)
    log = bench.open()
    writer = await log.claim("node")
    for number in range(10):
        await bench.append(writer, random.Random(number).randbytes(300))  # a segment each
        await until(lambda: all(zone.end == writer.durable_end and zone._file.byte == 0 for zone in writer.zones))
    await log.trim(1 << 40)
    crash(writer)
    again = await bench.open().claim("again")
    assert again.next_offset == 11
    (claim,) = [record for record in await read_all(bench.open(), 11) if record.kind is RecordKind.CLAIM]
    assert claim.first_offset == 11
    await bench.close()


async def test_a_batch_never_ends_inside_a_record(bench: Bench) -> None:
    """A reader that goes on from there would miss the record that was half durable."""
    log = bench.open()
    writer = await log.claim("node")
    await bench.append(writer, b"small", random.Random(1).randbytes(11_000), b"after")
    reader = Reader(log._places, log._horizon, 0, lambda zone, segment: None)
    reader.end.prove()
    reader.end.durable_end, whole = 4, reader.end.durable_end  # the second of three fragments
    reader._started = True
    batch = reader.next()
    assert batch is not None
    assert (data_of(list(batch.records)), batch.next_position) == ([b"small"], 2)
    reader.end.durable_end = whole
    batch = reader.next()
    assert batch is not None
    assert data_of(list(batch.records)) == bench.acknowledged[1:]
    reader.close()
    rest = [one async for more in log.read(2, after=UNKNOWN) for one in more.records]
    assert data_of(rest) == bench.acknowledged[1:]


# -- Kafka ------------------------------------------------------------------------------------------------------


def frame(epoch: int, position: int, before: int, first_offset: int, body: bytes = b"x") -> Frame:
    facts = {"durable_end": position, "epoch": epoch, "first_offset": first_offset}
    return decoded(encode(body, position, before=before, **facts)[0])


def claimed(epoch: int, before: int) -> Frame:
    return decoded(encode(b"node", 0, before=before, durable_end=0, epoch=epoch, kind=1, count=0)[0])


def test_a_record_that_follows_another_one_is_an_error_and_void_ones_are_passed_over() -> None:
    history = History(known=True)
    assert history.takes(claimed(1, NOTHING), 0)
    knew = history.seal
    one = frame(1, 1, knew, 1)
    assert history.takes(one, 1)
    assert not history.takes(one, 2)  # the same again: void
    assert history.seal == one.seal
    with pytest.raises(BadFrame, match="the frame at position 3 does not follow the one before"):
        history.takes(frame(1, 3, knew, 2), 3)
    assert history.takes(frame(1, 3, one.seal, 2), 3)


def test_what_comes_after_a_claim_follows_the_claim_and_all_before_it() -> None:
    """A claim does not know what still came before it; its link is not compared, and both are in the next one's."""
    seals = []
    for late in (b"late", b"other"):
        history = History(known=True)
        history.takes(claimed(1, NOTHING), 0)
        knew = history.seal
        history.takes(frame(1, 1, knew, 1, late), 1)
        assert history.takes(claimed(2, knew), 2)
        seals.append(history.seal)
    assert seals[0] != seals[1]
    with pytest.raises(BadFrame, match="does not follow"):
        history.takes(frame(2, 3, seals[0], 2), 3)
    assert history.takes(frame(2, 3, seals[1], 2), 3)


async def topic(words: bytes, epochs: int = 2) -> Partition:
    partition = Partition(random.Random(1))
    for epoch in range(epochs):
        taken = await claim_epoch(cast(Link, SimulatedLink(partition)), b"node", 0)
        writer = writer_of(taken, partition)
        for number in range(4):
            body = b"both" if number < 2 and epoch == 0 else words
            await write(writer, body, 1)
            partition.append(batch_of(values_of(partition)[-1]))  # void
        await writer.close()
    partition.commit()
    return partition


async def read_topic(partition: Partition, start: int = 0, after: int = UNKNOWN) -> list[Record]:
    link = cast(Any, SimulatedLink(partition))
    found = batches(link, start, follow=False, known_end=0, after=after)
    return [record async for batch in found for record in batch.records]


async def test_a_reader_of_a_topic_that_becomes_another_one_stops() -> None:
    this, that = await topic(b"this"), await topic(b"that")
    records = await read_topic(this)
    assert len({record.checksum for record in records}) == len(records)
    for start in range(this.end):
        before = [record for record in records if record.position < start]
        after = before[-1].checksum if before else UNKNOWN
        assert await read_topic(this, start, after) == records[len(before) :]
        if before and before[-1].body not in (b"both", b"node"):
            with pytest.raises(Corrupt, match=ALIEN):
                await read_topic(that, start, after)
    here = next(record.position for record in records if record.body == b"this")
    mixed = Partition(random.Random(1))
    for value in values_of(this)[: here + 1] + values_of(that)[here + 1 :]:
        mixed.append(batch_of(value))
    mixed.commit()
    with pytest.raises(Corrupt, match=f"topic t: position [0-9]+: {ALIEN}"):
        await read_topic(mixed)


async def test_appends_that_wait_for_each_other_link_in_the_order_of_the_log() -> None:
    """Large records are framed in a thread, small ones after them wait; what was void is sent again, linked anew."""
    partition = Partition(random.Random(1))
    link = cast(Link, SimulatedLink(partition))
    one = writer_of(await claim_epoch(link, b"one", 0), partition)
    partition.append(batch_of(values_of(partition)[0]))  # a second claim of the same epoch takes the next place
    sizes = [10, 300_000, 20, 5000, 30]
    futures = [write(one, random.Random(size).randbytes(size), 1) for size in sizes]
    await asyncio.wait_for(asyncio.gather(*futures), 20)
    await one.close()
    partition.commit()
    assert [len(record.body) for record in (await read_topic(partition))[1:]] == sizes
