"""What a machine writes down and loads again is the same state, and goes on from there as the first one does."""

from __future__ import annotations

import io
from random import Random

import pytest
from hypothesis import given

from eventdb.engine.engine import Engine
from eventdb.engine.settings import Config
from eventdb.history.view import View
from eventdb.keyspace.databases import Keyspace
from eventdb.pipeline.commit import Commit
from eventdb.rdb.writer import write
from eventdb.replay.machine import DamagedState, Machine
from tests.kit.differential import examples, sequences
from tests.kit.harness import Local
from tests.kit.histories import COMMANDS, PROLOGUE, Words, run
from tests.kit.values import values


def dumped(machine: Machine, **facts: str) -> bytes:
    parts: list[bytes] = []
    machine.dump(parts.append, facts)
    return b"".join(parts)


def loaded(data: bytes, machine: Machine, chunk: int = 777) -> Machine:
    file = io.BytesIO(data)
    machine.load(lambda size: file.read(min(size, chunk)))
    return machine


def replica() -> Engine:
    engine = Engine(Config(), Commit(lambda batch: None, lambda action: None), 2)
    return engine


@given(before=sequences(COMMANDS, 60), after=sequences(COMMANDS, 20))
@examples(60)
def test_any_state_is_the_same_afterwards_and_goes_on_alike(before: list[Words], after: list[Words]) -> None:
    local = Local()
    run(local, [*PROLOGUE, *before])
    first = len(local.transactions())
    data, digest = dumped(local.engine), local.engine.digest()
    for machine in (loaded(data, View()), loaded(data, replica())):
        assert machine.digest() == digest
        assert machine.key_count() == local.engine.key_count()
        assert machine.type_counts() == local.engine.type_counts()
        assert dumped(loaded(dumped(machine), View())) == dumped(machine)
    view = loaded(data, View())
    run(local, after)
    view.apply(local.transactions()[first:])  # type: ignore[arg-type]
    assert view.digest() == local.engine.digest()


def test_large_values_of_every_kind() -> None:
    local = Local()
    for makers in values(Random(11)).values():
        for each in makers:
            assert not local.raw(*each).startswith(b"-"), each
    data = dumped(local.engine, **{"eventdb-offset": "5"})
    view = loaded(data, View(), 1 << 20)
    assert view.digest() == local.engine.digest()
    assert view.type_counts() == local.engine.type_counts()
    assert sum(view.type_counts().values()) == view.key_count() > 20


def test_an_empty_state() -> None:
    data = dumped(View())
    assert loaded(data, View()).digest() == View().digest() and View().type_counts() == {}


@pytest.mark.parametrize("machine", [View, replica])
def test_damage_is_named(machine: type[Machine]) -> None:
    local = Local()
    for makers in values(Random(3)).values():
        for each in makers[:3]:
            local.raw(*each)
    data = dumped(local.engine)
    rng = Random(5)
    for _ in range(40):
        at = rng.randrange(len(data))
        bad = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        if rng.random() < 0.3:
            bad = data[:at]
        with pytest.raises(DamagedState, match="it cannot be loaded"):
            loaded(bad, machine(), 1 << 16)


def test_a_key_that_comes_twice() -> None:
    keyspace = Keyspace()
    keyspace.dbs[0].put(b"k", b"v")
    parts: list[bytes] = []
    write(parts.append, keyspace, {})
    twice = parts[0][:-1] + parts[0][-7:-1] + b"\xff" + bytes(8)  # the pair again, and no checksum
    with pytest.raises(DamagedState):
        loaded(twice, View())
