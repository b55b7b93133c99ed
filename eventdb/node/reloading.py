"""DEBUG RELOAD: the state is built again from the log, compared with the one in memory, and put in its place.

Writes wait meanwhile, so both are the state at one offset. A difference is reported and nothing is replaced: it would
be a fault of this program or of the machine, and a restart would show the log's state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from eventdb.backends.log import LogError
from eventdb.history.view import View
from eventdb.keyspace.types.zset import rank_large
from eventdb.protocol.errors import ReplyError
from eventdb.replay.state import state_at
from eventdb.replay.stores import open_store

if TYPE_CHECKING:
    from eventdb.backends.log import Log
    from eventdb.engine.engine import Engine
    from eventdb.keyspace.databases import Keyspace
    from eventdb.keyspace.value import Limits
    from eventdb.replay.store import SnapshotStore


RELOAD_MS: Final = 60_000  # what takes longer is given up


async def load(log: Log, store: SnapshotStore | None, limits: Limits, offset: int) -> View:
    """The state at `offset`, from the log, and from a snapshot where there is one. Raises LogError."""
    machine, _follower = await state_at(log, store, lambda: View(limits), offset)
    return machine


def put_in_place(loaded: Keyspace, keyspace: Keyspace) -> str:
    """Let `keyspace` hold what was loaded; returns why not, or ""."""
    theirs, ours = loaded.digest(), keyspace.digest()
    if theirs != ours:
        return f"ERR the state in memory ({ours}) is not that of the log ({theirs})"
    take_over(loaded, keyspace)
    return ""


def take_over(loaded: Keyspace, keyspace: Keyspace) -> None:
    """Let `keyspace` hold what was loaded."""
    for new, db in zip(loaded.dbs, keyspace.dbs, strict=True):
        db.values, db.expires, db.timed, db.order = new.values, new.expires, new.timed, None
        if db.deadlines is not None:
            db.track_deadlines()
    keyspace.outcomes = loaded.outcomes
    keyspace.libraries.replace(loaded.libraries.code)
    keyspace.users = loaded.users
    keyspace.marks = loaded.marks
    keyspace.users_version += 1


class Reloading:
    """Of one node."""

    def __init__(self, engine: Engine, log: Log) -> None:
        self.engine = engine
        self.log = log
        self.task: asyncio.Task[None] | None = None

    def begin(self, is_primary: Callable[[], bool], done: Callable[[str], None]) -> None:
        """Reload in the background; then `done` is called with an error or "". Raises ReplyError: one is under way.

        is_primary: whether the tenure in which it began lasts.
        """
        if self.task is not None and not self.task.done():
            raise ReplyError("ERR the state is being rebuilt already")
        self.task = asyncio.get_running_loop().create_task(self._reload(is_primary, done))

    async def _load(self, limits: Limits, offset: int) -> View:
        url = self.engine.config.snapshot_store
        store = open_store(url) if url else None
        try:
            return await load(self.log, store, limits, offset)
        finally:
            if store is not None:
                await store.close()

    async def _reload(self, is_primary: Callable[[], bool], done: Callable[[str], None]) -> None:
        engine, failure = self.engine, ""
        keyspace = engine.store.keyspace
        engine.pause_writes(RELOAD_MS)
        try:
            engine.commit.seal()
            async with asyncio.timeout(RELOAD_MS / 1000):
                while engine.commit.pending:
                    await asyncio.sleep(0.001)
                loaded = await self._load(keyspace.limits, engine.commit.durable_offset)
            if not is_primary() or engine.commit.pending:
                failure = "ERR the role of this node has changed meanwhile"
            else:
                failure = put_in_place(loaded.keyspace, keyspace)
                rank_large(keyspace)
        except (LogError, TimeoutError) as error:
            failure = f"ERR the log could not be read again: {' '.join(str(error).split()) or 'it takes too long'}"
        engine.resume_writes()
        done(failure)
