"""eventdb: a Redis-compatible primary database whose memory is a replay of a durable log.

    async with eventdb.open("quorum:./data") as db:
        await db.execute("SET", "k", "v")

Inside, a room imports only from rooms before it: protocol/ (bytes and replies), metrics/, cluster/ (who the nodes are),
keyspace/ (the state, and the functions that change it), pipeline/ (from a change to a durable reply), engine/ (running
commands), history/, node/ (an engine on a log), commands/ (what each command means), server/ (ports), cli/. embedded.py
ties a node to a Python program.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventdb.backends.log import BadLogURL, Corrupt, Fenced, Trimmed, Unavailable
    from eventdb.embedded import Closed, Opening, SyncDatabase
    from eventdb.protocol.errors import ReplyError

__version__ = "0.1.0"

__all__ = [
    "BadLogURL", "Closed", "Corrupt", "Fenced", "ReplyError", "Trimmed", "Unavailable", "open", "open_sync",
]  # fmt: skip

# Where the errors of the embedded API live: imported when asked for, so that `import eventdb` stays cheap.
ERRORS = {
    "BadLogURL": "eventdb.backends.log",
    "Closed": "eventdb.embedded",
    "Corrupt": "eventdb.backends.log",
    "Fenced": "eventdb.backends.log",
    "ReplyError": "eventdb.protocol.errors",
    "Trimmed": "eventdb.backends.log",
    "Unavailable": "eventdb.backends.log",
}


def __getattr__(name: str) -> object:
    if name not in ERRORS:
        raise AttributeError(f"module 'eventdb' has no attribute {name!r}")
    return getattr(importlib.import_module(ERRORS[name]), name)


def open(url: str, **settings: str) -> Opening:  # noqa: A001
    """Open the log at `url` as its primary; use with `async with`, or await it and call `aclose()`.

    settings: as in CONFIG SET, with underscores: `commit_timeout="2000"`. Raises BadLogURL, ValueError at once;
    Unavailable, Corrupt and Fenced when it is entered.
    """
    from eventdb.embedded import Opening

    return Opening(url, settings)


def open_sync(url: str, **settings: str) -> SyncDatabase:
    """The same without asyncio: `with eventdb.open_sync(url) as db: db.execute("GET", "k")`."""
    from eventdb.embedded import SyncDatabase

    return SyncDatabase(url, settings)
