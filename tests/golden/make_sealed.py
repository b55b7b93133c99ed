"""Make the golden files of what is sealed: a log, a topic, a stream, and the keyring that opens them.

    python -m tests.golden.make_sealed

writes `tests/golden/sealed/`, and refuses when it is there: like all golden files it is made once. What lies in it::

    keys.json      a keyring with two keys, which seal nothing but this; one is wrapped by WRAPPING_KEY
    quorum/        a log of three zones: an epoch in the clear, one sealed with key 1, one with key 2; some in fragments
    kafka          the values of a topic's records, sealed with key 1 and then 2
    stream         a sealed stream of 100,000 bytes that follow from a seed, bound to b"golden"
    expected.json  what a reader finds: records of the log, digest, number of keys
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import eventdb.keyspace.kinds
from eventdb.backends import Record, RecordKind, open_log
from eventdb.backends.kafka.claim import claim_epoch
from eventdb.backends.kafka.link import Link
from eventdb.backends.kafka.writer import KafkaWriter
from eventdb.backends.keyrings import Contents, Entry, store
from eventdb.backends.quorum import QuorumLog
from eventdb.backends.record import Encoder
from eventdb.backends.seal import Keyring, seal_stream
from tests.golden.make import PAYLOAD_BYTES_MAX, ROOT, described, in_lines, state_of, values_of, write
from tests.kit.faults import until_up
from tests.kit.kafka_partition import Partition, SimulatedLink

SEALED = Path(__file__).parent / "sealed"
WRAPPING_KEY = b"golden" * 5 + b"!!"


def keyring_text() -> Contents:
    contents = Contents(2)
    for key_id in (1, 2):
        key = hashlib.sha256(b"golden key %d" % key_id).digest()
        contents.entries[key_id] = Entry("2026-01-31T14:05:00Z", key)
    os.environ["GOLDEN_KEK"] = WRAPPING_KEY.hex()
    contents.rewrap(2, "env:GOLDEN_KEK")
    return contents


def keyrings(contents: Contents) -> list[Keyring | None]:
    given = contents.key_set()
    both = Keyring(given)
    first = Keyring(type(given)(1, {1: given.keys[1]}))
    return [None, first, both]


async def bodies() -> list[tuple[bytes, int]]:
    """(body, how many transactions) of each record of the golden log that is in the clear."""
    with TemporaryDirectory() as directory:
        shutil.copytree(ROOT / "format-2" / "quorum", f"{directory}/log")
        reader = open_log(f"quorum:{directory}/log")
        records = [record async for stretch in reader.read() for record in stretch.records]
        return [(record.body, record.count) for record in records if record.kind is RecordKind.DATA]


async def quorum_log(target: Path, rings: list[Keyring | None]) -> list[Record]:
    todo = await bodies()
    third = len(todo) // 3
    with TemporaryDirectory() as directory:
        url = f"quorum:{directory}/log"
        for epoch, keys in enumerate(rings):
            log = QuorumLog(url, payload_bytes_max=PAYLOAD_BYTES_MAX)
            if keys is not None:
                log.use_keys(keys)
            writer = await log.claim(f"node-{epoch}", f"host-{epoch}:6379")
            for body, count in todo[epoch * third : (epoch + 1) * third if epoch < 2 else None]:
                await write(writer, body, count)
            await until_up(log, writer)
            await log.close()
        shutil.copytree(f"{directory}/log", target, ignore=shutil.ignore_patterns(".*"))
        reader = open_log(url, keys=rings[-1])
        return [record async for stretch in reader.read() for record in stretch.records]


async def kafka_log(target: Path, rings: list[Keyring | None]) -> None:
    partition = Partition(random.Random(3))
    todo = await bodies()
    for epoch, keys in enumerate(rings[1:]):
        link, watch = cast(Link, SimulatedLink(partition)), cast(Link, SimulatedLink(partition))
        taken = await claim_epoch(link, b"node-%d host:1" % epoch, 0, keys)
        writer = KafkaWriter(
            link, watch, epoch=taken.epoch, position=taken.position + 1, next_offset=taken.next_offset,
            last_time_ms=taken.time_ms, encoder=Encoder(PAYLOAD_BYTES_MAX, keys), batch_bytes=6000, seal=taken.seal,
        )  # fmt: skip
        half = len(todo) // 2
        for body, count in todo[:half] if epoch == 0 else todo[half:]:
            await write(writer, body, count)
        await writer.close()
    target.write_bytes(b"".join(values_of(partition)))


def stream_of() -> bytes:
    return random.Random(11).randbytes(100_000)


async def main() -> None:
    assert eventdb.keyspace.kinds  # every kind of event can be applied
    SEALED.mkdir()  # FileExistsError: golden files are made once
    contents = keyring_text()
    store(f"file:{SEALED}/keys.json", contents)
    rings = keyrings(contents)
    records = await quorum_log(SEALED / "quorum", rings)
    await kafka_log(SEALED / "kafka", rings)
    keys = rings[-1]
    assert keys is not None
    chunks = (stream_of()[at : at + 30_000] for at in range(0, 100_000, 30_000))
    (SEALED / "stream").write_bytes(b"".join(seal_stream(chunks, keys, b"golden")))
    digest, count = state_of(records)
    found = {"digest": digest, "keys": count, "last_offset": records[-1].last_offset,
             "records": [described(record) for record in records]}  # fmt: skip
    (SEALED / "expected.json").write_text(in_lines(found))


if __name__ == "__main__":
    asyncio.run(main())
