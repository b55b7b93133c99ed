"""DEBUG RELOAD: the state is built again from the log, compared with the one in memory, and put in its place.

Writes wait meanwhile, so both are the state at one offset. A difference is reported and nothing is replaced: it would
be a fault of this program or of the machine, and a restart would show the log's state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from eventdb.backends.log import LogError
from eventdb.keyspace.databases import Keyspace
from eventdb.keyspace.events import apply_transactions
from eventdb.keyspace.types.zset import rank_large
from eventdb.protocol.errors import ReplyError
from eventdb.replay.follower import Follower

if TYPE_CHECKING:
    from eventdb.backends.log import Log
    from eventdb.engine.engine import Engine
    from eventdb.keyspace.value import Limits
    from eventdb.replay.machine import Transaction


RELOAD_MS: Final = 60_000  # what takes longer is given up


class Loaded:
    """A keyspace without clients, which replay drives."""

    def __init__(self, limits: Limits) -> None:
        self.keyspace = Keyspace(limits)

    def apply(self, transactions: list[Transaction]) -> int:
        return apply_transactions(self.keyspace, transactions)

    def digest(self) -> str:
        return self.keyspace.digest()

    def key_count(self) -> int:
        return self.keyspace.key_count()


async def load(log: Log, limits: Limits, offset: int) -> Loaded:
    """The state at `offset`, from the log alone. Raises LogError."""
    machine = Loaded(limits)
    await Follower(log, machine).rebuild(stop_offset=offset)
    return machine


def put_in_place(loaded: Keyspace, keyspace: Keyspace) -> str:
    """Let `keyspace` hold what was loaded; returns why not, or ""."""
    theirs, ours = loaded.digest(), keyspace.digest()
    if theirs != ours:
        return f"ERR the state in memory ({ours}) is not that of the log ({theirs})"
    for new, db in zip(loaded.dbs, keyspace.dbs, strict=True):
        db.values, db.expires, db.timed, db.order = new.values, new.expires, new.timed, None
        if db.deadlines is not None:
            db.track_deadlines()
    keyspace.outcomes = loaded.outcomes
    keyspace.libraries.replace(loaded.libraries.code)
    keyspace.users = loaded.users
    keyspace.users_version += 1
    return ""


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

    async def _reload(self, is_primary: Callable[[], bool], done: Callable[[str], None]) -> None:
        engine, failure = self.engine, ""
        keyspace = engine.store.keyspace
        engine.pause_for(RELOAD_MS, writes_only=True)
        try:
            engine.commit.seal()
            async with asyncio.timeout(RELOAD_MS / 1000):
                while engine.commit.pending:
                    await asyncio.sleep(0.001)
                loaded = await load(self.log, keyspace.limits, engine.commit.durable_offset)
            if not is_primary() or engine.commit.pending:
                failure = "ERR the role of this node has changed meanwhile"
            else:
                failure = put_in_place(loaded.keyspace, keyspace)
                rank_large(keyspace)
        except (LogError, TimeoutError) as error:
            failure = f"ERR the log could not be read again: {' '.join(str(error).split()) or 'it takes too long'}"
        engine.unpause()
        done(failure)
