"""Export: the state at one offset, built from the log, as a file that Redis and Valkey load.

The log is only read, so any process that can read it can export it, while a server goes on writing. As a program
(`python -m eventdb.history.exporting FD`, the URL and the offset on stdin) it writes to a file that another process has
opened: so a server gives its state away (SYNC) without a thought of its own loop spent on it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from eventdb.backends import Log, LogError, open_log
from eventdb.engine.settings import REDIS_VERSION
from eventdb.history.view import View
from eventdb.keyspace.choice import ALL, Choice
from eventdb.rdb.codes import Unkept
from eventdb.rdb.writer import write
from eventdb.replay.cut import Cut
from eventdb.replay.filling import OnPhase
from eventdb.replay.follower import BeyondEnd
from eventdb.replay.state import state_at
from eventdb.replay.store import SnapshotStore
from eventdb.replay.stores import open_store

APPEAR_S_MAX: Final = 5.0  # for an offset that is durable to be seen by a reader in another process
APPEAR_STEP_S: Final = 0.05
NICENESS: Final = 10  # of the program: the server that has started it goes first


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export ended with."""

    offset: int
    time_ms: int
    key_count: int
    digest: str
    file_bytes: int
    seconds: float


async def export(
    source: Log,
    cut: Cut,
    take: Callable[[bytes], None],
    on_progress: OnPhase | None = None,
    *,
    digest: bool = True,
    store: SnapshotStore | None = None,
    choice: Choice = ALL,
) -> Exported:
    """Build the state at the cut, or the chosen part of it, and hand its file to `take` in pieces.

    Raises what `state_at` raises.
    """
    began = time.monotonic()
    view = View()
    if cut.offset:
        view, _follower = await state_at(source, store, View, cut.offset, on_progress=on_progress)
    choice.prune(view.keyspace)
    sizes: list[int] = []

    def counted(data: bytes) -> None:
        sizes.append(len(data))
        take(data)

    facts = {
        "redis-ver": REDIS_VERSION,
        "redis-bits": "64",
        "ctime": str(int(time.time())),
        "eventdb-ver": str(getattr(sys.modules["eventdb"], "__version__", "?")),
        "eventdb-offset": str(cut.offset),
    }
    key_count = write(counted, view.keyspace, facts)
    return Exported(
        cut.offset,
        cut.time_ms,
        key_count,
        view.digest() if digest else "",
        sum(sizes),
        time.monotonic() - began,
    )


async def export_offset(url: str, offset: int, take: Callable[[bytes], None], store_url: str = "") -> None:
    """The state at an offset that is known to be durable: a reader in another process may see it a little later."""
    log = open_log(url)
    store = open_store(store_url) if store_url else None
    try:
        deadline = time.monotonic() + APPEAR_S_MAX
        while offset and (await log.info()).last_offset < offset and time.monotonic() < deadline:
            await asyncio.sleep(APPEAR_STEP_S)
        await export(log, Cut(offset, 0, offset, 0), take, digest=False, store=store)
    finally:
        if store is not None:
            await store.close()
        await log.close()


def main() -> int:
    """The program; what goes wrong is one line on stderr."""
    os.nice(NICENESS)
    asked = json.loads(sys.stdin.buffer.read())
    try:
        with os.fdopen(int(sys.argv[1]), "wb", closefd=False) as file:
            asyncio.run(export_offset(asked["url"], asked["offset"], file.write, asked["store"]))  # type: ignore[arg-type]
    except (LogError, BeyondEnd, Unkept, OSError, MemoryError) as error:
        print(str(error) or type(error).__name__, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
