"""Make the golden files of the format that this program writes.

    python -m tests.golden.make

writes `tests/golden/format-N/`, N being `record.FORMAT_VERSION`, and refuses when it is there: a golden file is made
once, by the first program that writes the format, and never again. What lies in it::

    frames/       single frames, and frames.json: their fields
    hint          a zone's hint, and hint.json: what it says
    quorum/       a whole log of three zones: three epochs, rolled segments, records in fragments, a zone that lags
    kafka         the values of a topic's records in log order: frames, void ones among them
    expected.json what a reader finds in the two logs: records, digest, number of keys
    parts/        a log of three zones with heartbeats inside of records, one of which was never ended; parts.json:
                  what a reader finds in it

All of it holds one history, which has every kind of event in it (`events.json` lists them).
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import shutil
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from aiokafka.record import MemoryRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from eventdb.backends import Record, RecordKind, Writer
from eventdb.backends.kafka.claim import Claimed, claim_epoch
from eventdb.backends.kafka.link import Link
from eventdb.backends.kafka.writer import KafkaWriter
from eventdb.backends.quorum import hint
from eventdb.backends.record import FORMAT_VERSION, Encoder, decode
from eventdb.engine.engine import Engine
from eventdb.engine.settings import Config
from eventdb.keyspace.events import EVENTS
from eventdb.keyspace.marks import MARKS_MAX
from eventdb.pipeline.commit import Commit
from eventdb.replay.transaction import decode as transactions_of
from tests.kit.faults import WRITING, Bench, crash, until, until_up
from tests.kit.harness import Local
from tests.kit.kafka_partition import Partition, SimulatedLink

ROOT = Path(__file__).parent
START_MS = 1_700_000_000_000
PAYLOAD_BYTES_MAX = 4000
SEGMENT_BYTES = 12_000
# Every event kind is emitted by one of these, and what is left in the end is of every type.
COMMANDS = """
set plain value; set timed v px 100000; set kept v px 50000; set kept w keepttl; mset a 1 b 2 c 3; incr a; append b xyz
setrange c 5 tail; setrange new 3 x; del a missing; expire b 100; persist b; rename b renamed; copy renamed copied
copy plain plain db 3; move c 2; rpush list 1 2 3 4 5; lpush list 0 9; lpop list; rpop list 2; lset list 0 set
linsert list before 2 between; lrem list 1 1; rpush other a b c d e; ltrim other 1 3; lmove list other left right
hset hash f v g w h x; hdel hash g; hincrby hash n 5; sadd set a b c d; srem set b; zadd zset 1 one 2.5 two -inf low
zrem zset two; zincrby zset 0.1 one; select 5; set five 5; select 6; set six 6; select 0; swapdb 5 6; select 6
set gone 1; flushdb; select 0; flushall; set plain value; set timed v px 100000; mset a 1 b 2 c 3; rpush list a b c
hset hash f v; sadd set a b; zadd zset 1 one; select 7; set seven 7; select 0; xadd stream * f v; xadd stream * f w
xadd stream * f x; xadd stream * f y; xgroup create stream group 0; xreadgroup group group one count 2 streams stream >
xreadgroup group group one streams stream 0; xclaim stream group two 0 1700000000000-0; xdel stream 1700000000000-2
xack stream group 1700000000000-1; xtrim stream maxlen 2; xsetid stream 1800000000000-0
hsetex hash px 1000 fields 1 d v; hexpire hash 100 fields 1 f; hset hash p v; hexpire hash 100 fields 1 p
hpersist hash fields 1 p
""".replace("\n", ";")


def bodies() -> list[tuple[bytes, int]]:
    """(body, how many transactions) of each record, by the engine itself; and two that take several frames."""
    local = Local(seed=7)
    for command in filter(None, (command.split() for command in COMMANDS.split(";"))):
        reply = local(*command)
        assert not isinstance(reply, Exception), (command, reply)
    local("set", "large", random.Random(1).randbytes(9000))
    local("set", "words", b"compressible " * 900)
    local("function", "load", "#!lua name=library\nredis.register_function('f', function() return 1 end)")
    local("eventdb.once", "token", "incr", "five")
    local.engine.store.now_ms += local.engine.config.limits.once_retention_ms
    local("eventdb.once", "later", "incr", "five")
    for number in range(MARKS_MAX + 1):
        local("eventdb.mark", f"mark {number}")
    known = {event[0] for event in local.events()} - {b"SELECT"}
    assert known == set(EVENTS), set(EVENTS) ^ known
    local.check_replay()
    singles = [(body, 1) for body in local.log]
    joined = [(b"".join(body for body, _one in singles[at : at + 3]), len(singles[at : at + 3]))
              for at in range(0, len(singles), 3)]  # fmt: skip
    return joined


def write(writer: Writer, body: bytes, count: int, kind: RecordKind = RecordKind.DATA) -> asyncio.Future[int]:
    time_ms = max(writer.last_time_ms + 5, START_MS)
    return writer.append(body, first_offset=writer.next_offset, count=count, time_ms=time_ms, kind=kind)


async def quorum_log(target: Path) -> list[Record]:
    """Three epochs: in the second zone b is torn off, in the third it catches up and zone c ends early."""
    with TemporaryDirectory() as directory:
        bench = Bench(Path(directory), segment_bytes=SEGMENT_BYTES)
        todo = bodies()
        third = len(todo) // 3
        for epoch in range(3):
            log = bench.open()
            writer = await log.claim(f"node-{epoch}", f"host-{epoch}:6379")
            await until_up(log, writer)
            for number, (body, count) in enumerate(todo[epoch * third : (epoch + 1) * third if epoch < 2 else None]):
                if epoch == 1 and number == 3:
                    bench.ops[1].fail(errno.EIO, WRITING, torn=70)
                await write(writer, body, count)
                if number % 4 == 1:
                    await write(writer, b"", 0, RecordKind.HEARTBEAT)
            if epoch == 0:
                await until_up(log, writer)
                await log.close()
            elif epoch == 1:
                await until(lambda writer=writer: writer.zones[2].reached() == writer.durable_end)  # type: ignore[misc]
                crash(writer)
                bench.ops[1].heal()
            else:
                await until_up(log, writer)
                bench.ops[2].fail(errno.EIO, WRITING)
                await write(writer, b"", 0, RecordKind.HEARTBEAT)
                await log.close()
        reader = bench.open(faulty=False)
        records = [record async for batch in reader.read() for record in batch.records]
        for zone in bench.zones:
            shutil.copytree(zone, target / zone.name)
            for leftover in (target / zone.name).glob(".*"):
                leftover.unlink()
        await bench.close()
        return records


async def parts_log(target: Path) -> list[Record]:
    """Two epochs: heartbeats inside of a large record, and inside of one that was cut off by the second claim."""
    with TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        writer = await (log := bench.open(payload_bytes_max=1000)).claim("node-0", "host-0:6379")
        await until_up(log, writer)
        for whole in (True, False):  # large, and yet little when it is compressed
            value = random.Random(8).randbytes(6_000 if whole else 60_000) * (100 if whole else 10)
            body = b"*2\r\n$4\r\nnode\r\n*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n$%d\r\n%b\r\n" % (len(value), value)
            for ops in bench.ops:
                ops.stall(WRITING)
            stored = writer.stats.stored_bytes
            large = write(writer, body, 1)
            await until(lambda stored=stored: writer.stats.stored_bytes > stored)  # type: ignore[misc]
            said = [write(writer, text, 0, RecordKind.HEARTBEAT) for text in (b"", b'{"lease_ms":700}')]
            for ops in bench.ops:
                ops.heal()
            await asyncio.gather(*said)
            assert not large.done()
            if whole:
                await large
            else:
                crash(writer)
                assert large.exception() is not None
        writer = await (log := bench.open(payload_bytes_max=1000)).claim("node-1", "host-1:6379")
        await until_up(log, writer)
        await write(writer, b"*2\r\n$4\r\nnode\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n", 1)
        await until_up(log, writer)
        await log.close()
        records = [record async for batch in bench.open(faulty=False).read() for record in batch.records]
        for zone in bench.zones:
            shutil.copytree(zone, target / zone.name, ignore=shutil.ignore_patterns(".*"))
        await bench.close()
        return records


def batch_of(*frames: bytes) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, len(frames) + 1)
    for index, frame in enumerate(frames):
        builder.append(index, START_MS, None, frame, [])
    return bytes(builder.build())


def values_of(partition: Partition) -> list[bytes]:
    found: list[bytes] = []
    for _first, _count, data in partition.stored:
        records = MemoryRecords(data)
        while records.has_next():
            found += [record.value for record in records.next_batch()]
    return found


def writer_of(taken: Claimed, partition: Partition) -> KafkaWriter:
    link, watch = cast(Link, SimulatedLink(partition)), cast(Link, SimulatedLink(partition))
    return KafkaWriter(
        link, watch, epoch=taken.epoch, position=taken.position + 1, next_offset=taken.next_offset,
        last_time_ms=taken.time_ms, encoder=Encoder(PAYLOAD_BYTES_MAX), batch_bytes=6000, seal=taken.seal,
    )  # fmt: skip


async def kafka_log(target: Path) -> None:
    """Two epochs; void are a record stored twice, a claim that came second and a fenced writer's last record."""
    partition = Partition(random.Random(3))
    todo = bodies()
    for epoch in range(2):
        taken = await claim_epoch(cast(Link, SimulatedLink(partition)), b"node-%d host:1" % epoch, 0)
        writer = writer_of(taken, partition)
        if epoch == 1:
            partition.append(batch_of(values_of(partition)[-1]))  # the same claim again
            partition.append(batch_of(values_of(partition)[0]))
        half = todo[: len(todo) // 2] if epoch == 0 else todo[len(todo) // 2 :]
        for number, (body, count) in enumerate(half):
            await write(writer, body, count)
            if number % 4 == 1:
                await write(writer, b"", 0, RecordKind.HEARTBEAT)
            if number % 5 == 2:
                partition.append(batch_of(values_of(partition)[-1]))  # sent twice
        await writer.close()
    partition.append(batch_of(values_of(partition)[2]))  # of a fenced writer
    target.write_bytes(b"".join(values_of(partition)))


def single_frames(target: Path) -> None:
    noise = random.Random(2).randbytes(300)
    makings: dict[str, dict[str, Any]] = {
        "data": {"body": b"*2\r\n$1\r\nx\r\n*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n", "kind": 0},
        "zstd": {"body": b"words that come again, " * 40, "kind": 0},
        "claim": {"body": b"node host:6379", "kind": 1, "count": 0},
        "heartbeat": {"body": b"", "kind": 2, "count": 0},
        "fragments": {"body": noise, "kind": 0, "count": 3},
        "masked": {"body": b"a value with evDB in it", "kind": 0},  # since format 2
        "between": {"body": b"", "kind": 2, "inside": True},  # since format 2
    }
    target.mkdir()
    found: dict[str, object] = {}
    for name, making in makings.items():
        facts = {"epoch": 3, "position": 1000, "durable_end": 990, "first_offset": 77, "count": 2, "time_ms": START_MS}
        facts["before"] = 2 << 32 | 0x12345678  # since format 2: the seal of the frame before
        body = making.pop("body")
        frames = Encoder(120).encode(body, **{**facts, **making})
        for number, raw in enumerate(frames):
            label = name if len(frames) == 1 else f"{name}-{number}"
            (target / label).write_bytes(raw)
            found[label] = fields_of(raw)
    (target / "frames.json").write_text(json.dumps(found, indent=1) + "\n")


def fields_of(raw: bytes) -> dict[str, object]:
    frame = decode(raw)
    assert frame is not None
    names: tuple[str, ...] = (
        "kind",
        "fragment",
        "codec",
        "key_id",
        "epoch",
        "position",
        "first_offset",
        "time_ms",
        "count",
    )
    names += ("raw_length", "in_flight", "size")
    names += ("version", "checksum", "link")
    return {**{name: getattr(frame, name) for name in names}, "payload": frame.payload.hex()}


def described(record: Record) -> list[object]:
    return [
        record.position, record.epoch, int(record.kind), record.first_offset, record.count, record.time_ms,
        len(record.body), zlib.crc32(record.body),
    ]  # fmt: skip


def state_of(records: list[Record]) -> tuple[str, int]:
    engine = Engine(Config(), Commit(lambda batch: None, lambda action: None), 1)
    for record in records:
        if record.kind is RecordKind.DATA:
            engine.apply(transactions_of(record))
    return engine.digest(), engine.key_count()


def in_lines(expected: dict[str, Any]) -> str:
    return json.dumps(expected).replace("], [", "],\n  [") + "\n"


async def parts(target: Path) -> None:
    records = await parts_log(target / "parts")
    digest, keys = state_of(records)
    found = {"digest": digest, "keys": keys, "last_offset": records[-1].last_offset,
             "records": [described(record) for record in records]}  # fmt: skip
    (target / "parts.json").write_text(in_lines(found))


async def main() -> None:
    target = ROOT / f"format-{FORMAT_VERSION}"
    target.mkdir()  # FileExistsError: golden files are made once
    single_frames(target / "frames")
    stated = hint.encode(4, 1000, 512, 3, 65_536, 998, [1000, 990, 1000])
    (target / "hint").write_bytes(stated)
    says = {"epoch": 4, "durable_end": 1000, "segment_first": 512, "segment_epoch": 3, "byte": 65_536, "position": 998}
    (target / "hint.json").write_text(json.dumps({**says, "synced": [1000, 990, 1000]}) + "\n")
    records = await quorum_log(target / "quorum")
    await kafka_log(target / "kafka")
    digest, keys = state_of(records)
    expected = {"digest": digest, "keys": keys, "last_offset": records[-1].last_offset,
                "records": [described(record) for record in records]}  # fmt: skip
    (target / "expected.json").write_text(in_lines(expected))
    await parts(target)
    size = sum(os.path.getsize(path) for path in target.rglob("*") if path.is_file())
    print(f"{target}: {size} bytes, digest {digest}")


if __name__ == "__main__":
    asyncio.run(main())
