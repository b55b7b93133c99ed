"""When what a client wrote, or everything, is durable."""

from __future__ import annotations

import time

from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.protocol.replies import NO_REPLY


def after_own_writes(engine: Engine, client: Client, reply: bytes) -> bytes:
    """Answer once everything this client has written is durable; inside EXEC, with the EXEC itself."""
    batch = engine.commit.newest_of(client)
    if batch is None or client.store.in_exec:
        return reply
    client.hold(batch, reply)
    return NO_REPLY


def durable_until(engine: Engine) -> float:
    """The moment, in Unix seconds, up to which everything is durable: now, unless something is on its way."""
    now = time.time()
    pending = engine.commit.pending
    return now - (time.monotonic() - pending[0].opened) if pending else now
