"""Snapshots that exist: listing, finding, loading, proving and copying them. `making.py` makes them.

A snapshot is its data and its manifest; the manifest is the last thing written and the first removed, so whatever dies
where leaves nothing half made that is ever listed or used. Objects are never changed, so any number of programs may
share a store.

That a snapshot belongs to a history is proven when a reader goes on from it: `Log.read(position, after=checksum)`.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from eventdb.backends.log import Log, LogError
from eventdb.backends.seal import Keyring
from eventdb.replay import manifest as manifests
from eventdb.replay.filling import OnPhase
from eventdb.replay.follower import Follower, Progress, collector_paused
from eventdb.replay.machine import Machine, MachineFactory, Read, Write
from eventdb.replay.manifest import BadManifest, Manifest
from eventdb.replay.sealing import opener
from eventdb.replay.store import NotThere, SnapshotStore, read_small
from eventdb.replay.streaming import Unpacking


class SnapshotDamaged(LogError):  # noqa: N818 - named as the errors of log.py are
    """What is stored is not what was put there: truncated, changed or gone. Another snapshot may do."""


class NotProven(LogError):  # noqa: N818 - named as the errors of log.py are
    """The state read back is not the state that was written."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """Something in a store that would be a snapshot and cannot be used."""

    name: str  # of the manifest
    offset: int
    why: str


class BytesProgress(Progress):
    """How far reading or writing a snapshot is, in bytes of the data object."""

    def __init__(self, offset: int, stored_bytes: int) -> None:
        super().__init__(offset, offset)
        self.offset = offset
        self.stored_bytes = stored_bytes
        self.done_bytes = 0

    def fraction(self) -> float:
        return min(1.0, self.done_bytes / self.stored_bytes) if self.stored_bytes else 0.0

    def describe(self) -> str:
        rate = self.done_bytes / self.seconds / 1e6 if self.seconds > 0 else 0.0
        whole = f" of {self.stored_bytes:,} bytes ({self.fraction():.0%})" if self.stored_bytes else " bytes"
        return f"{self.done_bytes:,}{whole}, {rate:,.1f} MB/s"


# -- what is in a store


async def listed(store: SnapshotStore) -> list[Manifest | Damaged]:
    """Every snapshot, newest first, damaged ones too. Raises StoreError when the store cannot be read."""
    names = await store.names()
    objects = set(names)
    found = [name for name in names if name.endswith(manifests.MANIFEST) and manifests.offset_in(name) >= 0]
    return [await _looked_at(store, name, objects) for name in _newest_first(found)]


def _newest_first(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: (manifests.offset_in(name), name), reverse=True)


async def _looked_at(store: SnapshotStore, name: str, objects: set[str]) -> Manifest | Damaged:
    try:
        found = manifests.decode(name, await read_small(store, name, manifests.BYTES_MAX))
    except (BadManifest, NotThere) as error:
        return Damaged(name, manifests.offset_in(name), str(error))
    if found.data_name not in objects:
        return Damaged(name, found.offset, f"its data, {found.data_name}, is missing in {store.url}")
    return found


async def newest(store: SnapshotStore, log_id: str, at_or_before: int | None = None) -> list[Manifest]:
    """Verified snapshots of this log that hold no more than the transaction `at_or_before`, in the order to try them.

    log_id: "" for a log that has none; then any snapshot is taken, and reading on from it proves that it fits.
    """
    return [
        found
        for found in await listed(store)
        if isinstance(found, Manifest)
        and found.verified
        and (at_or_before is None or found.offset <= at_or_before)
        and (not log_id or not found.log_id or found.log_id == log_id)
    ]


async def find(store: SnapshotStore, name: str) -> Manifest:
    """The snapshot of that name (the names of its two objects will do), or "newest", or the newest of an offset.

    Raises NotThere, SnapshotDamaged.
    """
    wanted = name.removesuffix(manifests.MANIFEST).removesuffix(manifests.DATA)
    for found in await listed(store):
        offset = str(found.offset)
        stem = found.name.removesuffix(manifests.MANIFEST)
        if wanted in (stem, offset) or (wanted == "newest" and isinstance(found, Manifest)):
            if isinstance(found, Damaged):
                raise SnapshotDamaged(f"snapshot {stem} cannot be used: {found.why}")
            return found
    raise NotThere(f"there is no snapshot {name!r} in {store.url}")


# -- loading


async def load(
    store: SnapshotStore,
    manifest: Manifest,
    machine: Machine,
    on_progress: OnPhase | None = None,
    phase: str = "load",
    keys: Keyring | None = None,
) -> None:
    """Load the data into a fresh machine, while its SHA-256 is compared. An error leaves the machine unusable.

    keys: where EVENTDB_ENCRYPTION_KEYS is not to say it. Raises SnapshotDamaged, NotThere's parent StoreError,
    CannotOpen (its key is not there).
    """
    opened = opener(manifest, keys)
    progress = BytesProgress(manifest.offset, manifest.stored_bytes)

    def passed(done_bytes: int) -> None:
        progress.done_bytes, progress.seconds = done_bytes, time.monotonic() - progress.started
        if on_progress is not None:
            on_progress(phase, progress)

    async with contextlib.aclosing(store.get(manifest.data_name)) as chunks:
        source = Unpacking(chunks, passed, opened)
        with collector_paused():
            try:
                failed = await source.consume(machine.load)
            except NotThere as error:
                raise SnapshotDamaged(f"snapshot {manifest.name}: its data is gone: {error}") from None
    _compare(store, manifest, source.stored_bytes, source.sha256)
    if failed is not None:
        raise SnapshotDamaged(
            f"snapshot {manifest.name} in {store.url} has the right SHA-256 and cannot be loaded: {failed}"
        ) from failed
    if machine.key_count() != manifest.key_count:
        raise SnapshotDamaged(
            f"snapshot {manifest.name} in {store.url} holds {machine.key_count()} keys; its manifest says"
            f" {manifest.key_count}"
        )


def _compare(store: SnapshotStore, manifest: Manifest, stored_bytes: int, sha256: str) -> None:
    where = f"snapshot {manifest.name} in {store.url}"
    if stored_bytes != manifest.stored_bytes:
        short = "truncated" if stored_bytes < manifest.stored_bytes else "longer than it was"
        raise SnapshotDamaged(
            f"{where} is {short}: it has {stored_bytes:,} bytes, and {manifest.stored_bytes:,} were written"
        )
    if sha256 != manifest.sha256:
        raise SnapshotDamaged(
            f"{where} was changed since it was written: its SHA-256 is {sha256}, and {manifest.sha256} was put"
        )


async def verify(
    store: SnapshotStore,
    manifest: Manifest,
    make_machine: MachineFactory,
    on_progress: OnPhase | None = None,
    keys: Keyring | None = None,
) -> None:
    """Rehearse a start from the snapshot: read, load, compare SHA-256, count and digest.

    Raises SnapshotDamaged, NotProven, StoreError.
    """
    machine = make_machine()
    await load(store, manifest, machine, on_progress, "verify", keys)
    digest = machine.digest()
    if digest != manifest.digest or machine.type_counts() != manifest.types:
        raise NotProven(
            f"snapshot {manifest.name} in {store.url} loads as another state: digest {digest}, and its manifest says"
            f" {manifest.digest}"
        )


async def export(store: SnapshotStore, manifest: Manifest, take: Write, keys: Keyring | None = None) -> int:
    """Hand the plain RDB file to `take` in pieces; returns its size. It is whole when this returns.

    Raises SnapshotDamaged, StoreError, and what `take` raises.
    """
    async with contextlib.aclosing(store.get(manifest.data_name)) as chunks:
        source = Unpacking(chunks, opener=opener(manifest, keys))

        def copy(read: Read) -> None:
            while data := read(1 << 20):
                take(data)

        failed = await source.consume(copy)
    if isinstance(failed, OSError):
        raise failed
    _compare(store, manifest, source.stored_bytes, source.sha256)
    if failed is not None:
        raise SnapshotDamaged(f"snapshot {manifest.name} in {store.url} cannot be unpacked: {failed}") from failed
    return source.plain_bytes


async def glance(
    store: SnapshotStore, manifest: Manifest, take: Callable[[Read], None], keys: Keyring | None = None
) -> Exception | None:
    """Let `take` read the beginning of the plain file, and no more than it reads; nothing is compared.

    Returns what it raised. Raises StoreError, CannotOpen.
    """
    async with contextlib.aclosing(store.get(manifest.data_name)) as chunks:
        source = Unpacking(chunks, opener=opener(manifest, keys))
        failed: list[Exception] = []

        def begin(read: Read) -> None:
            try:
                take(read)
            except Exception as error:
                failed.append(error)
            source.stop()

        await source.consume(begin)
        return failed[0] if failed else None


def follow_from(log: Log, start: Manifest, machine: Machine) -> Follower:
    """What goes on from a snapshot that was loaded into the machine."""
    follower = Follower(log, machine, next_position=start.position, offset=start.offset, after=start.checksum)
    follower.committed_ms, follower.epoch = start.time_ms, start.epoch
    return follower


# -- its end, and its beginning: the manifest


async def put_manifest(store: SnapshotStore, manifest: Manifest) -> None:
    """The step that makes a snapshot exist. Raises StoreError, SnapshotDamaged when it reads back as something else.

    One that is gone at once was pruned by another snapshotter if that has begun one since: no policy prefers an older.
    """
    data = manifest.encode()
    await store.put(manifest.manifest_name, [data])
    try:
        found = await read_small(store, manifest.manifest_name, manifests.BYTES_MAX)
    except NotThere:
        begun = [manifests.created_in(name) for name in await store.names() if name.endswith(manifests.MANIFEST)]
        found = data if max(begun, default=0) >= manifest.created_ms else b""
    if found != data:
        raise SnapshotDamaged(
            f"{store.url} said that it has taken {manifest.manifest_name}, and gives {len(found)} other bytes back:"
            " this store must not be trusted"
        )


async def delete(store: SnapshotStore, name: str) -> None:
    """Remove a snapshot, damaged or not: first the manifest, so that half of one is never listed. Raises StoreError."""
    await store.delete(name + manifests.MANIFEST)
    await store.delete(name + manifests.DATA)


# -- copying


@dataclass(frozen=True, slots=True)
class Copied:
    """What `copy` did."""

    copied: list[Manifest]
    refused: list[Damaged]  # they are damaged where they come from, and the target has them not


async def copy(
    source: SnapshotStore,
    target: SnapshotStore,
    name: str = "",
    on_progress: OnPhase | None = None,
) -> Copied:
    """Copy the snapshots that the target lacks, or the one of that name; one that is damaged keeps no other back.

    Each is read back from the target and compared before its manifest is put there. An interrupted copy goes on with
    the first object that is missing. Raises SnapshotDamaged when the target does not keep what it was given, or the
    one of that name is damaged; StoreError.
    """
    wanted = [await find(source, name)] if name else await listed(source)
    there = set(await target.names())
    done = Copied([], [])
    for each in wanted:
        if isinstance(each, Damaged):
            if each.name not in there:
                done.refused.append(each)
        elif each.manifest_name not in there:
            why = await _copy_data(source, target, each, each.data_name in there, on_progress)
            if why and name:
                raise SnapshotDamaged(why)
            if why:
                done.refused.append(Damaged(each.manifest_name, each.offset, why))
                continue
            await put_manifest(target, each)
            done.copied.append(each)
    return done


async def _copy_data(
    source: SnapshotStore, target: SnapshotStore, manifest: Manifest, there: bool, on_progress: OnPhase | None
) -> str:
    """Returns why the source's data cannot be copied, or ""; nothing has appeared in the target then."""
    if there:  # an earlier copy came as far
        try:
            await check_data(target, manifest, on_progress)
            return ""
        except SnapshotDamaged:
            await target.delete(manifest.data_name)
    damage: list[str] = []  # a store may make an error of its own of what is raised in the middle of its work

    async def noted() -> AsyncGenerator[bytes, None]:
        try:
            async with contextlib.aclosing(_checked(source, manifest, "copy", on_progress)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except (SnapshotDamaged, NotThere) as error:  # nothing appears in the target then
            damage.append(str(error))
            raise

    try:
        async with contextlib.aclosing(noted()) as chunks:
            await target.put(manifest.data_name, chunks)
    except Exception:
        if damage:
            return damage[0]
        raise
    await check_data(target, manifest, on_progress)
    return ""


async def check_data(store: SnapshotStore, manifest: Manifest, on_progress: OnPhase | None = None) -> None:
    """Read the data and compare its SHA-256, without loading it. Raises SnapshotDamaged, StoreError."""
    try:
        async with contextlib.aclosing(_checked(store, manifest, "verify", on_progress)) as chunks:
            async for _ in chunks:
                pass
    except NotThere as error:
        raise SnapshotDamaged(f"snapshot {manifest.name}: its data is gone: {error}") from None


async def _checked(
    store: SnapshotStore, manifest: Manifest, phase: str, on_progress: OnPhase | None
) -> AsyncGenerator[bytes, None]:
    """The data as it is stored; after its end SnapshotDamaged if it is not what was written."""
    progress = BytesProgress(manifest.offset, manifest.stored_bytes)
    digits = hashlib.sha256()
    async with contextlib.aclosing(store.get(manifest.data_name)) as chunks:
        async for chunk in chunks:
            digits.update(chunk)
            progress.done_bytes += len(chunk)
            progress.seconds = time.monotonic() - progress.started
            if on_progress is not None:
                on_progress(phase, progress)
            yield chunk
    _compare(store, manifest, progress.done_bytes, digits.hexdigest())
