"""The one way to a past or present state: the newest snapshot that can be used, and the rest of the log.

    snapshots at or before the offset, newest first: does the log go on from it? -> load -> follow the rest
    none: from the beginning of the log, where it still has one

Before anything is loaded the log is asked whether it goes on from the snapshot: the running checksum in the manifest
must be that of the record before. A snapshot that is damaged, of another log, or of a history that was fenced is
passed over with a warning; an older one does, or the log itself. What is left when nothing does is NoState, with why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypeVar

from eventdb.backends.log import Corrupt, Log, Trimmed
from eventdb.backends.seal import CannotOpen
from eventdb.replay.belonging import NewerThanLog, OtherLog, check_gives
from eventdb.replay.cut import HistoryTrimmed
from eventdb.replay.filling import OnPhase
from eventdb.replay.follower import Follower, OnRecord
from eventdb.replay.machine import Machine
from eventdb.replay.manifest import Manifest
from eventdb.replay.sealing import keys_of
from eventdb.replay.snapshots import SnapshotDamaged, follow_from, load, newest
from eventdb.replay.store import SnapshotStore, StoreError

logger: Final = logging.getLogger("eventdb")

ATTEMPTS: Final = 3  # to find a snapshot that is not outrun by a trim while it is loaded

M = TypeVar("M", bound=Machine)


class NoState(HistoryTrimmed):
    """The beginning of history was trimmed, and no snapshot can stand in for it."""


async def state_at(
    log: Log,
    store: SnapshotStore | None,
    make_machine: Callable[[], M],
    offset: int | None = None,
    *,
    on_progress: OnPhase | None = None,
    on_record: OnRecord | None = None,
) -> tuple[M, Follower]:
    """The state after transaction `offset` (None: after all that is durable now), and what can follow from there.

    Raises NoState; BeyondEnd; Corrupt and Unavailable of the log; StoreError when the log needs a store that fails.
    """
    for attempt in range(ATTEMPTS):
        found = None if store is None else await loaded(log, store, make_machine, offset, on_progress)
        if found is None:
            machine = make_machine()
            follower = Follower(log, machine)
        else:
            machine, start = found
            follower = follow_from(log, start, machine)
        follower.on_record = on_record
        try:
            if offset is None or follower.offset < offset:
                await rebuild(follower, offset, on_progress)
            return machine, follower
        except Trimmed as error:  # since we looked: the next look finds the snapshot behind which it was
            if store is None or attempt == ATTEMPTS - 1:
                raise NoState(f"{without(log, store, offset)}: {error}") from error
    raise AssertionError("unreachable")


async def rebuild(follower: Follower, offset: int | None, on_progress: OnPhase | None) -> None:
    """`Follower.rebuild`, which reports its phase. Raises as it does."""
    report = None if on_progress is None else lambda progress: on_progress("replay", progress)
    await follower.rebuild(stop_offset=offset, on_progress=report)


async def loaded(
    log: Log,
    store: SnapshotStore,
    make_machine: Callable[[], M],
    at_or_before: int | None = None,
    on_progress: OnPhase | None = None,
) -> tuple[M, Manifest] | None:
    """The newest snapshot that can be used, loaded; None: there is none, and the log has its beginning.

    Raises NoState, StoreError when only a snapshot would do.
    """
    info = await log.info()
    refused: list[str] = []
    try:
        for start in await newest(store, info.log_id, at_or_before):
            try:
                await check_gives(log, start, at_or_before, info)
                machine = make_machine()
                await load(store, start, machine, on_progress, keys=keys_of(log))
                return machine, start
            except (SnapshotDamaged, OtherLog, NewerThanLog, Corrupt, Trimmed, CannotOpen) as error:
                refused.append(f"{start.name}: {error}")
                logger.warning("snapshot %s is passed over: %s", start.name, error)
    except StoreError as error:
        if info.first_offset > 1:
            raise
        logger.warning("the snapshots cannot be read, the log is replayed from its beginning: %s", error)
    if info.first_offset > 1:
        raise NoState(f"{without(log, store, at_or_before)}{'. Passed over: ' if refused else ''}{'; '.join(refused)}")
    return None


def without(log: Log, store: SnapshotStore | None, offset: int | None) -> str:
    """Why there is no state to begin with."""
    what = f"the state at offset {offset}" if offset is not None else "its state"
    if store is None:
        return (
            f"the beginning of {log.url} was trimmed, so {what} needs a snapshot: name the store of its snapshots"
            " (snapshot-store)"
        )
    return f"the beginning of {log.url} was trimmed, and no snapshot in {store.url} gives {what}"
