"""eventdb: a Redis-compatible primary database whose memory is a replay of a durable log.

    async with eventdb.open("quorum:./data") as db:
        await db.execute("SET", "k", "v")

Inside: client.py and engine.py run commands against keyspace.py; registry.py holds the facts of each command in
commands/; values/ are the data types with the functions that events apply; commit.py is the way to the log, node.py
ties an engine to a log, server.py to a port, embedded.py to a Python program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventdb.embedded import Opening, SyncDatabase

__version__ = "0.1.0"


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
