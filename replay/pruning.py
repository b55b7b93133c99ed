"""Removing snapshots: what the policy does not keep, and nothing that the log needs.

What a log needs says `trimming.stands_on`, the place that decides what of the log itself may go: the recovery window, a
beginning that was trimmed, the roots of others. It is asked again before each deletion, because a snapshotter may trim
meanwhile. Snapshots of other logs in the same store are left to those who know these logs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eventdb.backends.log import Log, LogInfo
from eventdb.replay import manifest as manifests
from eventdb.replay.directory_store import DirectoryStore
from eventdb.replay.manifest import Manifest
from eventdb.replay.retention import kept, parse_policy
from eventdb.replay.snapshots import Damaged, delete, listed
from eventdb.replay.store import SnapshotStore
from eventdb.replay.trimming import Holder, Window, stands_on

LEFT_OVER_MS: Final = 86_400_000  # data without a manifest that is older belongs to nothing that still runs
NONE: Final = Window()


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `prune` did, or would do."""

    kept: list[Manifest]
    deleted: list[Manifest]
    needed: dict[str, str]  # why those stay that the policy does not keep
    others: int  # snapshots of other logs, none of which was touched
    left_over: list[str]  # data objects that were removed because no manifest names them
    damaged: list[Damaged]  # left as they are: a person looks at them, and deletes them by name


async def prune(
    store: SnapshotStore,
    keep: str,
    *,
    log: Log | None = None,
    window: Window = NONE,
    others: Sequence[Holder] = (),
    now_ms: int = 0,
    dry_run: bool = False,
) -> Pruned:
    """Delete what the policy `keep` (retention.py) does not keep, and data that never got a manifest.

    The newest verified snapshot of each log always stays. log: only its snapshots go, and none that `stands_on` names;
    None: those of all logs go, by the policy alone. Killed at any moment it leaves whole snapshots, and perhaps data
    without a manifest, which the next run removes. Raises BadPolicy, StoreError, what `Log.info` raises.
    """
    rules = parse_policy(keep)
    now_ms = now_ms or int(time.time() * 1000)
    names = await store.names()
    found = await listed(store)
    whole = [each for each in found if isinstance(each, Manifest)]
    info = None if log is None else await log.info()
    ours = whole if info is None else [each for each in whole if each.log_id == info.log_id]
    by_policy = kept(ours, rules, now_ms)
    needed = _needed(ours, window, info, now_ms, others)
    left_over = _left_over(names, found, now_ms)
    deleted: list[Manifest] = []
    for each in [one for one in ours if one.name not in by_policy and one.name not in needed]:
        if not dry_run:
            if log is not None:
                needed |= _needed(ours, window, await log.info(), now_ms, others)
                if each.name in needed:
                    continue
            await delete(store, each.name)
        deleted.append(each)
    if not dry_run:
        for name in left_over:
            await store.delete(name)
        if isinstance(store, DirectoryStore):
            await store.tidy()
    return Pruned(
        [each for each in ours if each not in deleted],
        deleted,
        {name: why for name, why in needed.items() if name not in by_policy},
        len(whole) - len(ours),
        left_over,
        [each for each in found if isinstance(each, Damaged)],
    )


def _needed(
    ours: Sequence[Manifest], window: Window, info: LogInfo | None, now_ms: int, others: Sequence[Holder]
) -> dict[str, str]:
    usable = [each for each in ours if each.verified]
    return {} if info is None else stands_on(usable, window, info, now_ms, others)


def _left_over(names: Sequence[str], found: Sequence[Manifest | Damaged], now_ms: int) -> list[str]:
    taken = {each.name.removesuffix(manifests.MANIFEST) for each in found}
    return [
        name
        for name in names
        if name.endswith(manifests.DATA)
        and name.removesuffix(manifests.DATA) not in taken
        and 0 < manifests.created_in(name) < now_ms - LEFT_OVER_MS
    ]


async def why_it_stays(
    store: SnapshotStore, name: str, log: Log | None, window: Window, others: Sequence[Holder] = ()
) -> str:
    """Why the snapshot of that full name should not be deleted by hand, or ""."""
    whole = [each for each in await listed(store) if isinstance(each, Manifest)]
    found = next((each for each in whole if each.name == name and each.verified), None)
    if found is None:
        return ""
    ours = [each for each in whole if each.log_id == found.log_id and each.verified]
    if (
        max(ours, key=lambda each: (each.offset, each.position, each.name)) is found
        and len([each for each in ours if each.offset == found.offset]) == 1
    ):
        return "it is the newest verified one of its log, which cannot start without it when it was trimmed"
    info = None if log is None else await log.info()
    if info is not None and info.log_id != found.log_id:
        return f"it is not of log {info.log_id}, which --log names, but of {found.log_id}"
    return _needed(ours, window, info, int(time.time() * 1000), others).get(name, "")
