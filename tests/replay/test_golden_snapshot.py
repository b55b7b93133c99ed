"""A snapshot of format 1 as version 0.2 wrote it: readable for ever."""

from __future__ import annotations

from pathlib import Path

from eventdb.history.view import View
from eventdb.replay import snapshots
from eventdb.replay.manifest import FORMAT, Manifest
from eventdb.replay.stores import open_store

FOLDER = Path(__file__).parents[1] / "golden" / "snapshot"


async def test_it_is_listed_and_loads_as_the_same_state() -> None:
    store = open_store(str(FOLDER))
    (found,) = await snapshots.listed(store)
    assert isinstance(found, Manifest) and (found.format, FORMAT) == (1, 1), found
    assert found.rdb_version == 12 and found.encode() == (FOLDER / found.manifest_name).read_bytes()
    await snapshots.verify(store, found, View)
    assert found.digest == (FOLDER / "digest.txt").read_text().strip()
