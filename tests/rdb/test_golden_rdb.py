"""Files and payloads of today are read for ever, and the same state is written as the same bytes."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from eventdb.history.view import View
from eventdb.keyspace.value import Value
from eventdb.rdb.reader import FileReader
from eventdb.rdb.source import Source
from tests.golden.make_rdb import FACTS, FOLDER, file_of, replayed
from tests.kit.harness import Local

PAYLOADS: list[dict[str, Any]] = json.loads((FOLDER / "redis-7.0.json").read_text())


def test_our_file_is_read_as_the_state_it_was() -> None:
    said = json.loads((FOLDER / "ours.json").read_text())
    file = io.BytesIO((FOLDER / "ours.rdb").read_bytes())
    reader, view = FileReader(Source(b"", file.read)), View()
    while events := reader.piece():
        view.apply([[b"golden", *events]])
    assert (view.digest(), reader.facts) == (said["digest"], FACTS)


def test_the_same_state_is_written_as_the_same_bytes() -> None:
    local = Local()
    replayed(json.loads((FOLDER / "ours.json").read_text())["commands"], local)
    assert file_of(local) == (FOLDER / "ours.rdb").read_bytes()


@pytest.mark.parametrize("made", PAYLOADS, ids=lambda made: made["key"])
def test_what_redis_answered_is_read_as_the_value_it_was(made: dict[str, Any]) -> None:
    local = Local()
    local.engine.store.now_ms = 0  # so that times of consumers, which the commands take from the clock, can be left out
    replayed(made["commands"], local)
    assert local.raw("RESTORE", "back", 0, bytes.fromhex(made["payload"])) == b"+OK\r\n"
    values = local.engine.store.keyspace.dbs[0].values
    value, back = values[made["key"].encode()], values[b"back"]
    for each in (value, back):
        for group in getattr(each, "groups", {}).values():
            for consumer in group.consumers.values():
                consumer.seen_ms = consumer.active_ms = 0
            for nack in group.pending.nacks.values():
                nack.at_ms = 0
    if isinstance(value, Value):
        assert isinstance(back, Value) and back.digest() == value.digest()
    else:
        assert bytes(back) == bytes(value)  # type: ignore[call-overload]
