"""Rehearse an upgrade: replay all of a history with this version, and compare each digest that somebody has noted.

What is expected comes as a list, from any source: manifests of snapshots, marks that carry a digest, a running
node. Between two of them replay is one pass; so a difference is narrowed down to the transactions between two digests.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from eventdb.backends.log import Corrupt, Log
from eventdb.history.marks import listed as marks_of
from eventdb.history.view import View
from eventdb.replay.filling import OnPhase
from eventdb.replay.follower import Follower
from eventdb.replay.manifest import Manifest
from eventdb.replay.snapshots import newest
from eventdb.replay.state import rebuild, state_at
from eventdb.replay.store import SnapshotStore


@dataclass(frozen=True, slots=True)
class Expected:
    """The digest that the state at an offset had when it was noted, and where."""

    offset: int
    digest: str
    where: str


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What was replayed, and that all of it agreed."""

    first_offset: int  # 1, or the one after the snapshot that a trimmed log begins with
    offset: int
    digest: str
    compared: int
    events: int
    seconds: float


class Differs(Corrupt):
    """This version makes another state of the history than the one that noted the digest."""

    def __init__(self, url: str, last_good: int, expected: Expected, found: str) -> None:
        super().__init__(
            f"{url}: the state at offset {expected.offset} has the digest {found}; {expected.where} says"
            f" {expected.digest}. One of the transactions {last_good + 1} to {expected.offset} is applied differently"
        )
        self.last_good = last_good
        self.expected = expected


async def noted(log: Log, store: SnapshotStore | None) -> list[Expected]:
    """What the log's marks and the store's snapshots say, by offset. A mark's digest is of the state before it."""
    found = [
        Expected(mark.offset - 1, mark.digest, f"mark {mark.name.decode('utf-8', 'backslashreplace')!r}")
        for mark in await marks_of(log)
        if mark.digest
    ]
    if store is not None:
        manifests: list[Manifest] = await newest(store, (await log.info()).log_id)
        found += [Expected(each.offset, each.digest, f"snapshot {each.name}") for each in manifests]
    return sorted(found, key=lambda each: each.offset)


async def rehearse(
    log: Log, store: SnapshotStore | None, expected: list[Expected], on_progress: OnPhase | None = None
) -> Rehearsed:
    """Replay to the end. Raises Differs, NotApplied, and what reading raises.

    A log that was trimmed begins with its oldest snapshot that it goes on from.
    """
    began = time.monotonic()
    info = await log.info()
    view = View()
    follower, last_good = Follower(log, view), 0
    left = [each for each in expected if info.first_offset - 1 <= each.offset]
    if info.first_offset > 1:
        oldest = next((each.offset for each in left if each.where.startswith("snapshot")), info.first_offset - 1)
        view, follower = await state_at(log, store, View, oldest, on_progress=on_progress)
        last_good = follower.offset
        left = [each for each in left if each.offset >= last_good]
    first, compared = last_good + 1, 0
    for each in left:
        if each.offset > follower.offset:
            await rebuild(follower, each.offset, on_progress)
        if (digest := view.digest()) != each.digest:
            raise Differs(log.url, last_good, each, digest)
        last_good, compared = each.offset, compared + 1
    await rebuild(follower, None, on_progress)
    seconds = time.monotonic() - began
    return Rehearsed(first, follower.offset, view.digest(), compared, follower.events, seconds)
