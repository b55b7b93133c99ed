"""The rules of snapshots and trims broken on purpose."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest.mock import patch

from eventdb.backends import Log
from eventdb.replay import snapshots, state
from eventdb.replay.machine import Machine
from eventdb.replay.manifest import Manifest
from tests.simulation.snapshotting import SimStore


async def _nothing(*_: object, **__: object) -> None:
    pass


@contextlib.contextmanager
def trim_before_the_proof() -> Iterator[None]:
    """What the store was given is believed to be there, and the log goes behind it."""
    with (
        patch.object(SimStore, "lies", True),
        patch("eventdb.replay.making.verify", _nothing),
        patch("eventdb.replay.trimming.prove", _nothing),
    ):
        yield


@contextlib.contextmanager
def manifest_before_data() -> Iterator[None]:
    """The data object comes after its manifest, or never."""
    put = SimStore.put

    async def later(store: SimStore, name: str, chunks: object) -> None:
        await put(store, name, chunks)  # type: ignore[arg-type]
        if name.endswith(".rdb.zst") and store._rng.random() < 0.5:
            data = store.objects.pop(name)
            store.objects[name] = b"" if len(data) % 2 else data[: len(data) // 2]

    with (
        patch.object(SimStore, "put", later),
        patch("eventdb.replay.making.verify", _nothing),
        patch("eventdb.replay.trimming.prove", _nothing),
    ):
        yield


@contextlib.contextmanager
def believe_any_history() -> Iterator[None]:
    """Nobody asks whether the log goes on from the snapshot."""
    follow_from = snapshots.follow_from

    def believing(log: Log, start: Manifest, machine: Machine) -> object:
        follower = follow_from(log, start, machine)
        follower.begin_at(start.position, start.offset)
        return follower

    with (
        patch("eventdb.replay.belonging.check_continues", _nothing),
        patch("eventdb.replay.trimming.check_continues", _nothing),
        patch.object(state, "follow_from", believing),
    ):
        yield


@contextlib.contextmanager
def forget_what_was_said_before() -> Iterator[None]:
    """Claims and heartbeats before the snapshot are not read."""

    async def none(*_: object) -> tuple[list[object], bool]:
        return [], True

    with patch("eventdb.node.rebuilding.words_before", none):
        yield
