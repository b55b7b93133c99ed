"""What is sealed opens for ever: the golden log, topic and stream, and the keyring in the form that it has.

`tests/golden/make_sealed.py` says how they were made. When one of these tests fails, the program is wrong.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path
from typing import cast

import pytest

from eventdb.backends import Corrupt, Record, RecordKind, open_log
from eventdb.backends.kafka.link import Link
from eventdb.backends.kafka.reader import batches
from eventdb.backends.keyrings import contents_of, keyring_of
from eventdb.backends.quorum import QuorumLog, QuorumWriter
from eventdb.backends.record import decode
from eventdb.backends.seal import CannotOpen, open_stream
from eventdb.replay.inspect import verify
from tests.backends.test_golden import append, loaded, records_of, state_after, state_of
from tests.golden.make import batch_of, described
from tests.golden.make_sealed import SEALED, WRAPPING_KEY, stream_of
from tests.kit.faults import until_up
from tests.kit.kafka_partition import Partition, SimulatedLink
from tests.kit.keyring import ring


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The golden keyring, as private as a keyring has to be."""
    monkeypatch.setenv("GOLDEN_KEK", WRAPPING_KEY.hex())
    shutil.copy(SEALED / "keys.json", tmp_path / "keys.json")
    (tmp_path / "keys.json").chmod(0o600)
    return f"file:{tmp_path}/keys.json"


@pytest.fixture
def url(tmp_path: Path) -> str:
    shutil.copytree(SEALED / "quorum", tmp_path / "log")
    return f"quorum:{tmp_path}/log"


def golden_state() -> tuple[str, int, int]:
    expected = loaded("sealed", "expected.json")
    return expected["digest"], expected["keys"], expected["last_offset"]


async def test_the_log_reads_as_it_was_written(url: str, keys: str) -> None:
    log = open_log(url, keys=keys)
    assert [described(record) for record in await records_of(log)] == loaded("sealed", "expected.json")["records"]
    assert await state_of(log) == golden_state()
    assert await state_of(log) == tuple(loaded("format-2", "expected.json")[key] for key in (
        "digest", "keys", "last_offset",
    ))  # fmt: skip
    await log.close()
    log = open_log(url, keys=ring(1, 2))
    with pytest.raises(Corrupt, match="does not decrypt with key 1: tampered with, or sealed with another key"):
        await records_of(log)


async def test_the_log_goes_on_being_written(url: str, keys: str) -> None:
    log = open_log(url, keys=keys)
    writer = await log.claim("again")
    await append(writer, b"new")
    await until_up(cast(QuorumLog, log), cast(QuorumWriter, writer))
    assert [line async for line in verify(log)] == []
    assert (await state_of(log))[1:] == (golden_state()[1] + 1, golden_state()[2] + 1)
    await log.close()


async def test_the_topic_reads_as_it_was_written(keys: str) -> None:
    partition = Partition(random.Random(1))
    data = (SEALED / "kafka").read_bytes()
    at = 0
    while at < len(data):
        frame = decode(data, at)
        assert frame is not None and frame.key_id in (1, 2)
        partition.append(batch_of(data[at : at + frame.size]))
        at += frame.size
    partition.commit()
    both = await asyncio.to_thread(keyring_of, keys)
    found = batches(cast(Link, SimulatedLink(partition)), 0, follow=False, known_end=0, keys=both)
    records: list[Record] = [record async for stretch in found for record in stretch.records]
    assert sum(record.kind is RecordKind.CLAIM for record in records) == 2
    assert state_after(records) == golden_state()


def test_the_stream_opens(keys: str) -> None:
    data = (SEALED / "stream").read_bytes()
    both = keyring_of(keys)
    assert both is not None
    assert b"".join(open_stream([data], both, b"golden")) == stream_of()
    with pytest.raises(CannotOpen, match="chunk 0 does not decrypt with key 2"):
        list(open_stream([data], ring(1, 2), b"golden"))


def test_the_keyring_is_written_as_it_was(keys: str) -> None:
    contents = contents_of(keys)
    assert contents.encode() == (SEALED / "keys.json").read_bytes()
    assert contents.entries[2].wrapped_by == "env:GOLDEN_KEK"
