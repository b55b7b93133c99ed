"""A log that is filled: going on after a kill."""

from __future__ import annotations

import asyncio
from pathlib import Path

from eventdb.backends.quorum import QuorumLog
from eventdb.replay.completeness import RESTORING
from eventdb.replay.filling import resume
from tests.kit.faults import copy_living, crash


async def test_going_on_after_a_kill_takes_what_the_claim_adopts(tmp_path: Path) -> None:
    """The last record was durable, and no hint says so: it cannot be read before the claim that adopts it."""
    url = f"quorum:{tmp_path / 'log'}"
    writer = await QuorumLog(url).claim(RESTORING, "redis://source:1")
    for count in (3, 4):
        future = writer.append(b"x", first_offset=writer.next_offset, count=count, time_ms=1)
        await asyncio.wait_for(future, 10)
    crash(writer)
    copy_living(tmp_path / "log", tmp_path / "later")  # this process knows more of the one than its files say
    for hint in (tmp_path / "later").glob("*/durable"):
        hint.unlink()
    log = QuorumLog(f"quorum:{tmp_path / 'later'}")
    assert (await log.info()).last_offset == 3
    filling = await resume(log, "redis://source:1")
    assert filling.writer.next_offset == 8
    await filling.close()
    await log.close()
