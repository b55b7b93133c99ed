"""What older programs wrote is read for ever: golden files of every format open, read the same and are written on.

`tests/golden/make.py` says how the files were made. A golden file is never made anew: when one of these tests fails,
the program is wrong.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from pathlib import Path
from typing import Any, cast

import pytest

import eventdb
import eventdb.keyspace.kinds
from eventdb.backends import Log, Record, RecordKind, Writer, open_log
from eventdb.backends.kafka.claim import claim_epoch
from eventdb.backends.kafka.link import Link
from eventdb.backends.kafka.reader import batches
from eventdb.backends.quorum import QuorumLog, QuorumWriter, identity
from eventdb.backends.quorum import hint as hints
from eventdb.backends.quorum.files import FileOps
from eventdb.backends.record import FORMAT_VERSION, decode
from eventdb.engine.engine import Engine
from eventdb.engine.settings import Config
from eventdb.keyspace import events
from eventdb.pipeline.commit import Commit
from eventdb.replay.cut import ToLatest
from eventdb.replay.follower import Follower
from eventdb.replay.inspect import verify
from eventdb.replay.restore import restore
from eventdb.replay.transaction import decode as transactions_of
from tests.golden.make import batch_of, described, single_frames, writer_of
from tests.kit.faults import until_up
from tests.kit.kafka_partition import Partition, SimulatedLink

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
FORMATS = sorted(path.name for path in GOLDEN.glob("format-*"))
formats = pytest.mark.parametrize("form", FORMATS)
SET = b"*2\r\n$1\r\nn\r\n*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$1\r\nv\r\n"


def loaded(form: str, name: str) -> Any:
    return json.loads((GOLDEN / form / name).read_text())


def machine() -> Engine:
    assert eventdb.keyspace.kinds
    return Engine(Config(), Commit(lambda batch: None, lambda action: None), 1)


@formats
def test_single_frames_have_the_fields_that_were_written(form: str) -> None:
    for name, fields in loaded(form, "frames/frames.json").items():
        raw = (GOLDEN / form / "frames" / name).read_bytes()
        frame = decode(raw)
        assert frame is not None
        payload = fields.pop("payload")
        assert (frame.payload.hex(), frame.size) == (payload, len(raw)), name
        assert {key: getattr(frame, key) for key in fields} == fields, name


def test_what_is_written_now_is_what_the_newest_golden_frames_are(tmp_path: Path) -> None:
    """Byte for byte: another order of fields, or another meaning of one, is another format."""
    single_frames(tmp_path / "frames")
    for path in sorted((GOLDEN / f"format-{FORMAT_VERSION}" / "frames").iterdir()):
        if path.name not in (
            "zstd",
            "masked",
            "frames.json",
        ):  # another library's bytes, random ones, and a list of all
            assert (tmp_path / "frames" / path.name).read_bytes() == path.read_bytes(), path.name


@formats
def test_a_hint_says_what_it_said(form: str) -> None:
    found = hints.decode((GOLDEN / form / "hint").read_bytes())
    says = loaded(form, "hint.json")
    assert found == hints.Hint(**{**says, "synced": tuple(says["synced"])})


@pytest.fixture
def url(form: str, tmp_path: Path) -> str:
    """A copy of the golden log, to be opened."""
    shutil.copytree(GOLDEN / form / "quorum", tmp_path / "log")
    return f"quorum:{tmp_path / 'log'}"


async def state_of(log: Log) -> tuple[str, int, int]:
    engine = machine()
    follower = Follower(log, engine)
    await follower.rebuild()
    return engine.digest(), engine.key_count(), follower.offset


async def records_of(log: Log) -> list[Record]:
    return [record async for batch in log.read() for record in batch.records]


def golden_state(form: str, name: str = "expected.json") -> tuple[str, int, int]:
    expected = loaded(form, name)
    return expected["digest"], expected["keys"], expected["last_offset"]


async def append(writer: Writer, key: bytes) -> None:
    body = SET % (len(key), key)
    await asyncio.wait_for(writer.append(body, first_offset=writer.next_offset, count=1, time_ms=1 << 41), 10)


@formats
async def test_every_zone_of_a_log_says_who_it_is(form: str, url: str) -> None:
    found = [identity.load(FileOps(), f"{url.removeprefix('quorum:')}/zone-{name}") for name in "abc"]
    assert all(one is not None and one.zones == 3 for one in found)
    assert [one.zone for one in found if one is not None] == [0, 1, 2]


@formats
async def test_a_log_reads_as_it_was_written(form: str, url: str) -> None:
    log = open_log(url)
    assert [described(record) for record in await records_of(log)] == loaded(form, "expected.json")["records"]
    assert await state_of(log) == golden_state(form)
    await log.close()


@formats
async def test_a_log_goes_on_being_written(form: str, url: str) -> None:
    digests = []
    for round_number in range(2):
        log = open_log(url)
        writer = await log.claim(f"again-{round_number}")
        for number in range(3):
            await append(writer, b"new-%d-%d" % (round_number, number))
        await until_up(cast(QuorumLog, log), cast(QuorumWriter, writer))  # or a zone that lingers ends early
        await log.close()
        log = open_log(url)
        records = await records_of(log)
        expected = loaded(form, "expected.json")["records"]
        assert [described(record) for record in records[: len(expected)]] == expected
        assert len(records) == len(expected) + 4 * (round_number + 1)
        digest, keys, last_offset = await state_of(log)
        assert (keys, last_offset) == (golden_state(form)[1] + 3 * (round_number + 1), records[-1].last_offset)
        assert [line async for line in verify(log)] == []
        digests.append(digest)
        await log.close()
    assert len({golden_state(form)[0], *digests}) == 3


@formats
async def test_each_zone_alone_with_one_other_gives_the_same(form: str, url: str) -> None:
    root = Path(url.removeprefix("quorum:"))
    for away in "abc":
        (root / f"zone-{away}").rename(root / "away")
        log = open_log(url)
        assert await state_of(log) == golden_state(form), away
        await log.close()
        (root / "away").rename(root / f"zone-{away}")


@formats
async def test_a_log_is_restored_to_the_same_digest(form: str, url: str, tmp_path: Path) -> None:
    source, target = open_log(url), open_log(f"quorum:{tmp_path / 'target'}")
    done = await restore(source, target, ToLatest(), machine)
    assert (done.digest, done.key_count, done.offset) == golden_state(form)
    assert await state_of(target) == golden_state(form)
    await source.close()
    await target.close()


async def test_a_log_with_heartbeats_inside_of_records_reads_as_it_was_written(tmp_path: Path) -> None:
    """Records in parts, since format 2; one was cut off by a claim, and what was said inside of it is still there."""
    shutil.copytree(GOLDEN / "format-2" / "parts", tmp_path / "log")
    log = open_log(f"quorum:{tmp_path / 'log'}")
    assert [described(record) for record in await records_of(log)] == loaded("format-2", "parts.json")["records"]
    assert await state_of(log) == golden_state("format-2", "parts.json")
    writer = await log.claim("again")
    await append(writer, b"new")
    await until_up(cast(QuorumLog, log), cast(QuorumWriter, writer))  # or a zone that lingers ends early
    assert [line async for line in verify(log)] == []
    assert (await state_of(log))[1:] == (3, 3), "large, k, new"
    await log.close()


def topic_of(form: str) -> Partition:
    """The golden topic: every value at the position that it had."""
    partition = Partition(random.Random(1))
    data = (GOLDEN / form / "kafka").read_bytes()
    at = 0
    while at < len(data):
        frame = decode(data, at)
        assert frame is not None
        partition.append(batch_of(data[at : at + frame.size]))
        at += frame.size
    partition.commit()
    return partition


async def kafka_records(partition: Partition) -> list[Record]:
    link = cast(Any, SimulatedLink(partition))
    return [one async for batch in batches(link, 0, follow=False, known_end=0) for one in batch.records]


def bodies(rows: list[list[Any]]) -> list[tuple[Any, ...]]:
    """(first offset, count, body's size and checksum) of what holds transactions; the rest differs by backend."""
    return [(row[3], row[4], row[6], row[7]) for row in rows if row[2] == int(RecordKind.DATA)]


@formats
async def test_a_topic_reads_as_it_was_written_and_goes_on_being_written(form: str) -> None:
    partition = topic_of(form)
    records = await kafka_records(partition)
    expected = bodies(loaded(form, "expected.json")["records"])
    assert bodies([described(record) for record in records]) == expected
    assert partition.end > len(records) + 2, "void records are among them"
    taken = await claim_epoch(cast(Link, SimulatedLink(partition)), b"again", 0)
    writer = writer_of(taken, partition)
    await append(writer, b"new")
    await writer.close()
    after = await kafka_records(partition)
    assert after[: len(records)] == records
    assert [(record.kind, record.count) for record in after[len(records) :]] == [
        (RecordKind.CLAIM, 0), (RecordKind.DATA, 1),
    ]  # fmt: skip
    assert state_after(records) == golden_state(form)
    assert state_after(after)[1:] == (golden_state(form)[1] + 1, golden_state(form)[2] + 1)


def state_after(records: list[Record]) -> tuple[str, int, int]:
    engine = machine()
    for record in records:
        if record.kind is RecordKind.DATA:
            engine.apply(transactions_of(record))
    return engine.digest(), engine.key_count(), records[-1].last_offset


def test_every_event_of_every_version_is_known() -> None:
    """An event that a log may hold is never renamed and never taken out; a new one is added to the list."""
    listed = json.loads((GOLDEN / "events.json").read_text())
    kinds = {name.removeprefix("KEY_").lower(): number for name, number in vars(events).items() if "KEY_" in name[:4]}
    stated = {entry["event"].encode(): kinds.get(entry["keys"], 0) for entry in listed}
    assert stated.pop(b"SELECT") == 0  # which moves a transaction and is no entry of the table
    assert {name: event.keys for name, event in events.EVENTS.items()} == stated
    versions = [tuple(map(int, entry["since"].split("."))) for entry in listed]
    major, minor = (int(part) for part in eventdb.__version__.split(".")[:2])
    assert max(versions) <= (major, minor + 1), "an event is of a released version or of the next one"
    assert [entry["event"] for entry in listed] == sorted(entry["event"] for entry in listed)


@formats
async def test_a_golden_log_holds_every_event_of_its_time(form: str) -> None:
    data = [record for record in await kafka_records(topic_of(form)) if record.kind is RecordKind.DATA]
    held = {item[0] for record in data for transaction in transactions_of(record) for item in transaction[1:]}
    listed = json.loads((GOLDEN / "events.json").read_text())
    missing = {entry["event"] for entry in listed if entry["since"] == "0.1"} - {
        name.decode() for name in held if isinstance(name, bytes)
    }
    assert not missing or form != FORMATS[-1], missing
