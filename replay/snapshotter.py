"""A service beside the database: a snapshot each interval if the log moved, then old ones go, then the log is trimmed.

It keeps nothing in memory between two rounds and holds no lock: what is due is read off the store, so it may be killed
anywhere, start again, or run twice; two do the same work at worst. What it cannot reach it tries again, a little later
each time, and says so once. Only what is durable for certain is taken: never what a claim might still cut off.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from eventdb.backends.log import Log, LogError, LogInfo
from eventdb.replay.filling import OnPhase
from eventdb.replay.machine import MachineFactory
from eventdb.replay.making import create
from eventdb.replay.manifest import Manifest
from eventdb.replay.pruning import prune
from eventdb.replay.retention import parse_policy
from eventdb.replay.snapshots import newest
from eventdb.replay.store import SnapshotStore
from eventdb.replay.trimming import SLACK, Trim, Window, trim

logger: Final = logging.getLogger("eventdb")

# An idle log grows by heartbeats alone. After every N of them the same state gets another snapshot, and they can go.
IDLE_POSITIONS: Final = 1 << 19
RETRY_S_MIN: Final = 1.0
RETRY_S_MAX: Final = 60.0
LOOK_S_MAX: Final = 60.0  # between two looks at an interval that may have been begun by another snapshotter


class Snapshotter:
    def __init__(
        self,
        log: Log,
        store: SnapshotStore,
        make_machine: MachineFactory,
        *,
        every_ms: int,
        keep: str,
        window: Window,
        trims: bool = True,
        slack: int = SLACK,
        idle_positions: int = IDLE_POSITIONS,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
        on_progress: OnPhase | None = None,
    ) -> None:
        """Raises BadPolicy for `keep`."""
        parse_policy(keep)
        self.log = log
        self.store = store
        self.every_ms = every_ms
        self.keep = keep
        self.window = window
        self.trims = trims
        self._make_machine = make_machine
        self._slack = slack
        self._idle_positions = idle_positions
        self._now_ms = now_ms
        self._on_progress = on_progress
        self._said = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then at once, in the middle of whatever it does."""
        retry_s = RETRY_S_MIN
        while not stop.is_set():
            pause_s = retry_s
            try:
                if not await self._unless(stop, self._round()):
                    return
                pause_s = min(self.every_ms / 1000, LOOK_S_MAX)
                retry_s = RETRY_S_MIN
                self._say("")
            except (LogError, OSError) as error:
                self._say(f"{error}" or type(error).__name__)
                retry_s = min(retry_s * 2, RETRY_S_MAX)
            await self._unless(stop, asyncio.sleep(pause_s))

    async def _unless(self, stop: asyncio.Event, work: object) -> bool:
        """Do the work to its end; False when `stop` came first, and the work was given up."""
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
                return True
            return False
        finally:
            for each in (task, stopping):
                each.cancel()

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self._said:
            logger.warning("no snapshot now: %s; trying again", trouble)
        elif self._said and not trouble:
            logger.info("snapshots are made again")
        self._said = trouble

    async def _round(self) -> None:
        await self.once()

    async def once(self) -> tuple[Manifest | None, Trim | None]:
        """One round: what was made, and what was trimmed. Raises LogError, StoreError."""
        info = await self.log.info()
        made = None
        if await self._is_due(info):
            made = await create(self.log, self.store, self._make_machine, on_progress=self._on_progress)
            logger.info("snapshot %s: %d keys, %d bytes", made.name, made.key_count, made.stored_bytes)
        pruned = await prune(self.store, self.keep, log=self.log, window=self.window, now_ms=self._now_ms())
        for each in pruned.deleted:
            logger.info("snapshot %s deleted", each.name)
        for damaged in pruned.damaged:
            logger.debug("%s cannot be used: %s", damaged.name, damaged.why)
        return made, await self._trim() if self.trims else None

    async def _is_due(self, info: LogInfo) -> bool:
        """The interval is over since the newest state was written down, by whom ever, and something has changed."""
        if info.last_offset == 0:
            return False
        found = await newest(self.store, info.log_id)
        if not found:
            return True
        last = found[0]
        age_ms = self._now_ms() - max(each.created_ms for each in found if each.offset == last.offset)
        if 0 <= age_ms < self.every_ms:
            return False
        return info.last_offset > last.offset or info.end_position - _reach(found) > self._idle_positions

    async def _trim(self) -> Trim:
        done = await trim(self.log, self.store, self.window, self._now_ms(), slack=self._slack)
        if done.refused:
            logger.error("the log is not trimmed: %s", done.refused)
        elif done.kept_from > done.first_position:
            logger.info("the log was trimmed: it begins at position %d now", done.kept_from)
        return done


def _reach(found: list[Manifest]) -> int:
    return max(each.position for each in found)
