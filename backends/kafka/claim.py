"""Claiming the log: say so in the log, then read whether one was the first to."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Final

from eventdb.backends.kafka.history import CLAIM, History
from eventdb.backends.kafka.link import PAUSE_S_MAX, PAUSE_S_MIN, Link, NoAnswer
from eventdb.backends.kafka.producer import Producer
from eventdb.backends.kafka.reader import entries, history_at, judge, span
from eventdb.backends.log import Fenced, LogError, Unavailable
from eventdb.backends.record import Encoder
from eventdb.backends.seal import Keyring, unsealable

CLAIM_S_MAX: Final = 10.0


@dataclass(frozen=True, slots=True)
class Claimed:
    epoch: int
    position: int  # of our claim
    next_offset: int
    time_ms: int
    seal: int  # what the first record of the epoch links to


async def claim_epoch(link: Link, body: bytes, known_end: int, keys: Keyring | None = None) -> Claimed:
    """Make the next epoch ours. Raises Fenced (another claim came first), Unavailable, Corrupt.

    Which claim is ours is told by a random key beside it: two nodes may say the same of themselves. After Unavailable
    the claim may still come into the log; it then fences, and nobody writes in its epoch.

    A claim that was read back without an acknowledgement may be on one copy only (see writer.py). It is said once more
    until a copy is acknowledged; the copies are void for every reader.
    """
    first, end = await span(link, known_end)
    history = await history_at(link, end, first)
    if not history.known:
        raise Unavailable(f"topic {link.address.topic} was trimmed to nothing: its epoch and offset are not known")
    if why := unsealable(history.key_id, keys):
        raise LogError(f"topic {link.address.topic} cannot be written: {why}")
    epoch = history.epoch + 1
    (frame,) = Encoder(keys=keys).encode(
        body, kind=CLAIM, epoch=epoch, position=end, durable_end=end, first_offset=history.next_offset, count=0,
        time_ms=history.time_ms, before=history.seal,
    )  # fmt: skip
    key = os.urandom(16)
    producer = Producer(link, idempotent=False)
    deadline = time.monotonic() + CLAIM_S_MAX
    position = end
    found = -1
    pause = PAUSE_S_MIN
    while True:
        said = -1
        trouble = ""
        try:
            said = await producer.send([frame], key)
        except NoAnswer as error:
            trouble = f"{error}"
        _first, end = await span(link, said + 1)
        if found < 0:
            found = await _read_on(link, history, position, end, key)
            position = end
        if found >= 0 and said >= found:
            return Claimed(epoch, found, history.next_offset, history.time_ms, history.seal)
        if found < 0 and history.epoch >= epoch:
            raise Fenced(f"epoch {epoch} was claimed by another node just before")
        if time.monotonic() > deadline:
            raise Unavailable(f"the claim is not in topic {link.address.topic} after {CLAIM_S_MAX:.0f} s: {trouble}")
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, PAUSE_S_MAX)


async def _read_on(link: Link, history: History, start: int, stop: int, key: bytes) -> int:
    """Judge what stands in [start, stop), no further than our claim; its position if it is history, else -1."""
    async for entry in entries(link, start, stop):
        if judge(link, history, entry) and entry.key == key:
            return entry.position
    return -1
