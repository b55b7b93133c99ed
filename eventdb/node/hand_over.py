"""Handing the log over: what has to be true before the lease is given away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from eventdb.engine.engine import Engine
from eventdb.engine.host import WAITING_FOR_SYNC
from eventdb.protocol.errors import ReplyError


async def drained(engine: Engine, seconds: float, monotonic: Callable[[], float]) -> None:
    """Wait until all that was accepted is durable. Raises ReplyError when it takes too long or is aborted."""
    commit = engine.commit
    deadline = monotonic() + seconds
    commit.seal()
    while True:
        if engine.failover_state != WAITING_FOR_SYNC:
            raise ReplyError("ERR it was aborted")
        if not commit.pending:
            return
        if monotonic() > deadline or commit.stopped:
            raise ReplyError("ERR writes are not durable yet, so nothing was handed over")
        await asyncio.sleep(0.001)
