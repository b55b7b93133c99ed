"""Makes one snapshot, as a program (`python -m eventdb.history.snapshotting`, what to do as JSON on stdin): so a server
saves its state (BGSAVE) without a thought of its own loop spent on it. The manifest is printed, or one line of error.

It can be killed at any moment: what it has left is never listed, and removed by `eventdb snapshot prune`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from eventdb.backends import Log, LogError, open_log
from eventdb.history.exporting import APPEAR_S_MAX, APPEAR_STEP_S, NICENESS
from eventdb.history.view import View
from eventdb.replay import making
from eventdb.replay.manifest import Manifest
from eventdb.replay.stores import open_store


async def snapshot(log: Log, store_url: str, offset: int) -> Manifest:
    """Of all that is durable, `offset` at least: a reader in another process may see it a little later."""
    store = open_store(store_url)
    try:
        deadline = time.monotonic() + APPEAR_S_MAX
        while (await log.info()).last_offset < offset:
            if time.monotonic() > deadline:
                raise TimeoutError(f"offset {offset} cannot be read from {log.url} yet")
            await asyncio.sleep(APPEAR_STEP_S)
        return await making.create(log, store, View)
    finally:
        await store.close()


async def run(url: str, store_url: str, offset: int) -> Manifest:
    log = open_log(url)
    try:
        return await snapshot(log, store_url, offset)
    finally:
        await log.close()


def main() -> int:
    """The program."""
    os.nice(NICENESS)
    asked = json.loads(sys.stdin.buffer.read())
    try:
        made = asyncio.run(run(asked["url"], asked["store"], asked["offset"]))
    except (LogError, OSError, TimeoutError, MemoryError) as error:
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr)
        return 1
    sys.stdout.buffer.write(made.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
