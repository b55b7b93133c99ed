"""Sealed snapshots: no object of the store shows a value, what was changed is found out, and a lost key is named."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

from eventdb.backends import Log, LogError, open_log
from eventdb.backends.seal import ENVIRONMENT, CannotOpen, Keyring, KeySet
from eventdb.replay import making, snapshots
from eventdb.replay.manifest import Manifest
from eventdb.replay.snapshots import SnapshotDamaged
from eventdb.replay.stores import SnapshotStore, open_store
from tests.kit.keyring import key_of, keyring_file, ring
from tests.kit.machines import Notebook, Scribe

SECRET = "correct horse battery staple"
NOISE = random.Random(6).randbytes(1_400_000).hex()  # more than a chunk, however it is compressed


async def filled(log: Log) -> Log:
    scribe = await Scribe.claim(log)
    await scribe.write([[b"1:1", [b"SET", b"secret", SECRET.encode()]], [b"1:1", [b"SET", b"noise", NOISE.encode()]]])
    return log


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return open_store(str(tmp_path / "snapshots"))


def objects(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tmp_path / "snapshots").rglob("*") if path.is_file()}


async def loaded(store: SnapshotStore, manifest: Manifest, keys: Keyring | None) -> Notebook:
    machine = Notebook()
    await snapshots.load(store, manifest, machine, keys=keys)
    return machine


async def made(tmp_path: Path, store: SnapshotStore, keys: Keyring | None) -> Manifest:
    log = await filled(open_log(f"quorum:{tmp_path}/log?zones=1", keys=keys))
    manifest = await making.create(log, store, Notebook)
    await log.close()
    return manifest


async def test_a_snapshot_of_a_sealed_log_is_sealed_and_loads(tmp_path: Path, store: SnapshotStore) -> None:
    manifest = await made(tmp_path, store, ring(1, 4))
    assert manifest.key_id == "4" and manifest.verified
    for data in objects(tmp_path).values():
        assert SECRET.encode() not in data and NOISE[:40].encode() not in data and b"\x28\xb5\x2f\xfd" not in data[:64]
    assert [found for found in await snapshots.listed(store) if isinstance(found, Manifest)] == [manifest]
    machine = await loaded(store, manifest, ring(4))
    assert machine.values["secret"] == SECRET and machine.digest() == manifest.digest
    await snapshots.check_data(store, manifest)  # and copying: without any key
    parts: list[bytes] = []
    assert await snapshots.export(store, manifest, parts.append, ring(4)) == manifest.rdb_bytes
    assert SECRET.encode() in b"".join(parts)


async def test_a_snapshot_goes_on_from_one_that_is_sealed(tmp_path: Path, store: SnapshotStore) -> None:
    first = await made(tmp_path, store, ring(1))
    log = open_log(f"quorum:{tmp_path}/log?zones=1", keys=ring(1, 2))
    scribe = await Scribe.claim(log)
    await scribe.write([[b"1:1", [b"SET", b"more", b"x"]]])
    second = await making.create(log, store, Notebook)
    await log.close()
    assert (first.key_id, second.key_id) == ("1", "2")
    assert (await loaded(store, second, ring(1, 2))).values.keys() == {"secret", "noise", "more"}


async def test_a_snapshot_without_keys_is_in_the_clear_and_loads_with_keys(
    tmp_path: Path, store: SnapshotStore
) -> None:
    manifest = await made(tmp_path, store, None)
    assert manifest.key_id == ""
    assert (await loaded(store, manifest, ring(1))).values["secret"] == SECRET


@pytest.mark.parametrize(("keys", "text"), [
    (None, "sealed with key 1, and no keys are given"),
    (ring(2), "sealed with key 1, which is not there: there is 2"),
    (Keyring(KeySet(0, {}, {1: "the KMS says no"})), "sealed with key 1, which cannot be unwrapped: the KMS says no"),
])  # fmt: skip
async def test_a_lost_key_is_named(tmp_path: Path, store: SnapshotStore, keys: Keyring | None, text: str) -> None:
    manifest = await made(tmp_path, store, ring(1))
    with pytest.raises(CannotOpen, match=f"snapshot {manifest.name}: {text}"):
        await loaded(store, manifest, keys)
    with pytest.raises(SnapshotDamaged, match="does not decrypt with key 1: tampered with, or sealed with another key"):
        await loaded(store, manifest, Keyring(KeySet(1, {1: key_of(7)})))


async def test_the_environment_gives_the_keys(
    tmp_path: Path, store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = await made(tmp_path, store, ring(1))
    monkeypatch.setenv(ENVIRONMENT, keyring_file(tmp_path / "keys.json", 1))
    assert (await loaded(store, manifest, None)).values["secret"] == SECRET


async def test_data_that_is_changed_with_its_manifest_is_found_out(tmp_path: Path, store: SnapshotStore) -> None:
    """Whoever may write to the store makes size and SHA-256 right; the state is not believed all the same."""
    manifest = await made(tmp_path, store, ring(1))
    whole = objects(tmp_path)[manifest.data_name]
    sizes = [24]
    while sizes[-1] < len(whole):
        sizes.append(sizes[-1] + 5 + int.from_bytes(whole[sizes[-1] : sizes[-1] + 4], "little"))
    header, *chunks = [whole[a:b] for a, b in zip([0, *sizes[:-1]], sizes, strict=True)]
    assert len(chunks) > 1
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    reordered = b"".join([header, chunks[1], chunks[0], *chunks[2:]])
    for data in (bytes(flipped), whole[: sizes[-2]], whole[:-1], reordered, whole + chunks[-1], whole + b"x", b""):
        await forged(tmp_path, manifest, data, {})
        with pytest.raises(LogError, match=manifest.name):
            await loaded(store, await snapshots.find(store, manifest.name), ring(1))
    changes: tuple[dict[str, object], ...] = (
        {"time_ms": 1},
        {"position": manifest.position + 1},
        {"checksum": 5},
        {"log_id": "0" * 32},
    )
    for changed in changes:
        await forged(tmp_path, manifest, whole, changed)
        with pytest.raises(SnapshotDamaged, match="does not decrypt with key 1"):
            await loaded(store, await snapshots.find(store, manifest.name), ring(1))
    await forged(tmp_path, manifest, whole, {})
    assert (await loaded(store, await snapshots.find(store, manifest.name), ring(1))).values["secret"] == SECRET


async def forged(tmp_path: Path, manifest: Manifest, data: bytes, changed: dict[str, object]) -> None:
    (found,) = (tmp_path / "snapshots").rglob(manifest.data_name)
    found.chmod(0o600)
    found.write_bytes(data)
    (found,) = (tmp_path / "snapshots").rglob(manifest.manifest_name)
    said = replace(manifest, stored_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    found.chmod(0o600)
    found.write_bytes(replace(said, **changed).encode())  # type: ignore[arg-type]
