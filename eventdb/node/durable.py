"""Wait until what clients have been answered, or will be, is durable: what is made of the log then holds it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from eventdb.engine.engine import Engine
    from eventdb.pipeline.commit import Commit

LOOK_S: Final = 0.005


async def until_durable(engine: Engine, commit: Commit, offset: int) -> None:
    """Return when the log holds `offset`.

    Raises TimeoutError after commit-timeout-ms, or when this node's commit is another one by now.
    """
    until = time.monotonic() + engine.config.commit_timeout_ms / 1000
    while commit.durable_offset < offset:
        if commit is not engine.commit or time.monotonic() > until:
            raise TimeoutError("what was written before is not durable yet")
        await asyncio.sleep(LOOK_S)
