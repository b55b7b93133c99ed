"""A log whose beginning was trimmed, in files, with its snapshots."""

from __future__ import annotations

from pathlib import Path

from eventdb.backends import open_log
from eventdb.backends.quorum import QuorumWriter
from eventdb.history.view import View
from eventdb.replay.machine import Transaction
from eventdb.replay.making import create
from eventdb.replay.stores import open_store
from tests.kit.faults import until
from tests.kit.machines import START_MS, Scribe, set_transaction


def keys(first: int, count: int) -> list[Transaction]:
    return [set_transaction(f"key:{n}", str(n)) for n in range(first, first + count)]


def mark(offset: int) -> Transaction:
    return [b"127.0.0.1:1", [b"EVENTDB.MARK", b"at-%d" % offset, b"%d" % START_MS, b"%d" % offset]]


class Trimmed:
    """60 transactions; snapshots after 20 and 40; the log begins with 31, in zones of one segment for each claim."""

    def __init__(self, folder: Path) -> None:
        self.url = f"quorum:{folder / 'log'}"
        self.store = str(folder / "snapshots")
        self.into = f"quorum:{folder / 'restored'}"

    async def make(self, *, trim: bool = True, marks: bool = False) -> None:
        """marks: each tenth transaction is a mark, of its own offset."""
        log, store = open_log(self.url), open_store(self.store)
        for step in range(6):
            scribe = await Scribe.claim(log, f"node-{step}")
            scribe.records = step
            if marks:
                await scribe.write([*keys(10 * step + 1, 9), mark(10 * step + 10)])
            else:
                await scribe.fill(1, 10)
            await _in_every_zone(scribe)
            await scribe.writer.close()
            if step in (1, 3):
                await create(log, store, View)
        if trim:
            await log.trim(await log.seek(31))
            assert 21 < (await log.info()).first_offset <= 31
        await log.close()
        await store.close()


async def _in_every_zone(scribe: Scribe) -> None:
    """So that all zones have the same segments."""
    writer = scribe.writer
    assert isinstance(writer, QuorumWriter)
    await until(lambda: all(zone.reached() >= writer.durable_end for zone in writer.zones))
