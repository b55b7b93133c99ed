"""Making a snapshot: the state at one exact offset, from the log alone, and proven before it counts.

    the state there (state.py) -> put the data -> read it back, load it, compare digest and count -> put the manifest

The manifest makes a snapshot exist, and it is the last thing written: whatever dies before leaves nothing that is ever
listed or used. Objects are never changed, so any number of snapshotters may share a store; two of the same offset make
two snapshots, each of them whole. The source is only read.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Final

from eventdb.backends.log import Log, LogInfo
from eventdb.backends.seal import Keyring
from eventdb.replay import manifest as manifests
from eventdb.replay.cut import NothingThere, To, ToLatest, find_cut
from eventdb.replay.filling import OnPhase
from eventdb.replay.follower import Follower
from eventdb.replay.machine import Machine, MachineFactory
from eventdb.replay.manifest import Manifest
from eventdb.replay.sealing import bound_to, keys_of, sealer
from eventdb.replay.snapshots import BytesProgress, newest, put_manifest, verify
from eventdb.replay.state import state_at
from eventdb.replay.store import SnapshotStore
from eventdb.replay.streaming import Packing

VERSION_BYTES: Final = 9  # of a file of Redis: REDIS0010, VALKEY080


async def create(
    log: Log,
    store: SnapshotStore,
    make_machine: MachineFactory,
    to: To | None = None,
    on_progress: OnPhase | None = None,
    *,
    begin: SnapshotStore | None = None,
) -> Manifest:
    """Make a snapshot of the state at `to` (None: all that is durable now), and prove it.

    begin: where the snapshots are that it may begin with (None: in `store`). Raises what `find_cut` and `state_at`
    raise; StoreError, SnapshotDamaged or NotProven when the store does not keep what it was given. Then nothing is
    listed; what is left of the data is removed by `prune`.
    """
    begin = begin or store
    info = await log.info()
    if info.last_offset == 0:
        raise NothingThere(f"{log.url} holds no transaction, so there is nothing to make a snapshot of")
    known = await newest(begin, info.log_id)  # a store that is away is heard of before the log is replayed
    offset: int | None = None  # to the end of the log: past heartbeats too, so that they can be trimmed
    if to is not None and not isinstance(to, ToLatest):
        offset = (await find_cut(log, to, known)).offset
    machine, follower = await state_at(log, begin, make_machine, offset, on_progress=on_progress)
    made = await _put_data(store, info, machine, follower, on_progress, keys_of(log))
    del machine, follower  # two states at once need not fit into memory
    await verify(store, made, make_machine, on_progress, keys_of(log))
    proven = replace(made, verified=_now_ms())
    await put_manifest(store, proven)
    return proven


async def _put_data(
    store: SnapshotStore,
    info: LogInfo,
    machine: Machine,
    follower: Follower,
    on_progress: OnPhase | None,
    keys: Keyring | None,
) -> Manifest:
    now_ms = _now_ms()
    name = manifests.stem(follower.offset, follower.epoch, now_ms)
    version = str(getattr(sys.modules["eventdb"], "__version__", "?"))
    facts = {
        "ctime": str(now_ms // 1000),
        "eventdb-ver": version,
        "eventdb-offset": str(follower.offset),
        "eventdb-log": info.log_id,
    }
    context = bound_to(
        name, info.log_id, follower.offset, follower.next_position, follower.checksum(), follower.epoch,
        follower.committed_ms,
    )  # fmt: skip
    packing = Packing(lambda write: machine.dump(write, facts), lambda: sealer(keys, context))
    progress = BytesProgress(follower.offset, 0)

    async def counted() -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(packing.chunks()) as chunks:
            async for chunk in chunks:
                yield chunk
                progress.done_bytes, progress.seconds = packing.stored_bytes, time.monotonic() - progress.started
                if on_progress is not None:
                    on_progress("write", progress)

    async with contextlib.aclosing(counted()) as chunks:
        await store.put(name + manifests.DATA, chunks)
    return Manifest(
        name=name,
        log_id=info.log_id,
        offset=follower.offset,
        position=follower.next_position,
        checksum=follower.checksum(),
        epoch=follower.epoch,
        time_ms=follower.committed_ms,
        created_ms=now_ms,
        key_count=machine.key_count(),
        types=machine.type_counts(),
        rdb_bytes=packing.plain_bytes,
        stored_bytes=packing.stored_bytes,
        sha256=packing.sha256,
        digest=machine.digest(),
        rdb_version=_version(packing.head),
        eventdb_version=version,
        key_id=packing.key_id,
    )


def _version(head: bytes) -> int:
    digits = head[:VERSION_BYTES].lstrip(b"REDISVALKEY")
    return int(digits) if digits.isdigit() else 0


def _now_ms() -> int:
    return int(time.time() * 1000)
