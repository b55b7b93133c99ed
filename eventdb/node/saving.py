"""BGSAVE, SAVE and LASTSAVE of a node with a store for snapshots: a process of its own makes one from the log.

So it costs this process neither a fork nor memory nor time of its loop. A `memory:` log can be read in this process
alone: there a thread does the same. One snapshot is made at a time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from eventdb.backends.log import LogError
from eventdb.history.snapshotting import snapshot
from eventdb.metrics.saves import Saves
from eventdb.node import child
from eventdb.node.durable import until_durable
from eventdb.node.traces import Traces, traced
from eventdb.protocol.errors import ReplyError
from eventdb.replay import manifest as manifests
from eventdb.replay import snapshots
from eventdb.replay.stores import open_store

if TYPE_CHECKING:
    from eventdb.backends.log import Log, LogInfo
    from eventdb.engine.engine import Engine
    from eventdb.replay.manifest import Manifest

log: Final = logging.getLogger("eventdb")

PROGRAM: Final = "eventdb.history.snapshotting"
IN_PROGRESS: Final = "ERR Background save already in progress"  # redis src/rdb.c bgsaveCommand
LOOK_S: Final = 5.0  # between two looks into the store, for what others have made
SELDOM_S: Final = 60.0  # the same for what asks all day


class Saving:
    """Of one node."""

    def __init__(self, engine: Engine, source: Log, url: str) -> None:
        self.engine = engine
        self.log = source
        self.url = url  # as it was given: with what it takes to open it again
        self.facts = Saves()
        self.traces: Traces | None = None
        self._task: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._looked = -SELDOM_S

    def saves(self, look_s: float = LOOK_S) -> Saves:
        """What is known now; other nodes and snapshotters use the same store, so it is looked at again now and then."""
        self.facts.configured = bool(self.engine.config.snapshot_store)
        now = time.monotonic()
        if self.facts.configured and now - self._looked >= look_s and (self._looking is None or self._looking.done()):
            self._looked = now
            self._looking = asyncio.get_running_loop().create_task(self._look())
        return self.facts

    def begin(self, done: Callable[[str], None]) -> None:
        """Make one in the background; then `done` is called with an error or "". Raises ReplyError."""
        if self._task is not None and not self._task.done():
            raise ReplyError(IN_PROGRESS)
        self._task = asyncio.get_running_loop().create_task(self._save(done))

    async def close(self) -> None:
        for task in (self._task, self._looking):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _look(self) -> None:
        try:
            store = open_store(self.engine.config.snapshot_store)
            try:
                info = await self.log.info()
                found = await snapshots.newest(store, info.log_id)
                for each in found:
                    self._note(each)
                self.facts.restorable_from = _restorable_from(info, found)
            finally:
                await store.close()
        except LogError as error:
            log.warning("the store of snapshots cannot be looked at: %s", error)

    def _note(self, found: Manifest) -> None:
        self.facts.last_time = max(self.facts.last_time, found.verified // 1000)
        self.facts.last_offset = max(self.facts.last_offset, found.offset)

    async def _save(self, done: Callable[[str], None]) -> None:
        facts, failure = self.facts, "ERR the node is being closed"
        facts.in_progress, facts.began = True, time.monotonic()
        try:
            made = await self._made()
            self._note(made)
            facts.count += 1
            facts.last_failure = failure = ""
            log.info("snapshot %s was made and verified: %d keys", made.name, made.key_count)
        except (LogError, OSError, TimeoutError) as error:
            facts.last_failure = " ".join(str(error).split()) or type(error).__name__
            failure = f"ERR no snapshot was made: {facts.last_failure}"
            log.warning("no snapshot was made: %s", facts.last_failure)
        finally:
            facts.in_progress, facts.last_seconds = False, round(time.monotonic() - facts.began)
            done(failure)

    @traced("snapshot", lambda saving: {"eventdb.offset": saving.facts.last_offset})
    async def _made(self) -> Manifest:
        """What was answered so far is in it."""
        commit, store = self.engine.commit, self.engine.config.snapshot_store
        wanted = commit.offset
        await until_durable(self.engine, commit, wanted)
        if self.url.startswith("memory:"):
            return await asyncio.to_thread(lambda: asyncio.run(snapshot(self.log, store, wanted)))
        return await self._made_elsewhere(json.dumps({"url": self.url, "store": store, "offset": wanted}).encode())

    async def _made_elsewhere(self, asked: bytes) -> Manifest:
        process = await child.start(PROGRAM, self.engine.config.encryption_keys)
        told = await child.answer(process, asked, "makes it")
        return manifests.decode(json.loads(told)["name"] + manifests.MANIFEST, told)


def _restorable_from(info: LogInfo, found: list[Manifest]) -> int:
    """See Saves.restorable_from: a snapshot's moment counts where the log still goes on from it."""
    if info.first_offset <= 1:
        return 0
    times = [each.time_ms for each in found if each.position >= info.first_position]
    return min(times) // 1000 if times else -1
