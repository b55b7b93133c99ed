"""Making a snapshot from the command line: `eventdb snapshot create`, and `eventdb restore --into` a store."""

from __future__ import annotations

import typer

from eventdb.backends import Log
from eventdb.backends.discreet import discreet
from eventdb.cli import terminal
from eventdb.cli.restore import doubt_times, later
from eventdb.replay.cut import Cut, To
from eventdb.replay.making import create
from eventdb.replay.manifest import Manifest
from eventdb.replay.store import SnapshotStore
from eventdb.replay.times import format_ms


async def snapshot(source: Log, target: SnapshotStore, to: To | None, *, store_url: str | None = None) -> Manifest:
    """Make a snapshot of the state at `to` (None: now) in `target`, by way of the snapshots in another store if named.

    source: opened without `foresee`, because what was not acknowledged may still be lost, and a snapshot must not
    hold it.
    """
    await terminal.existing(source)
    async with terminal.opened_store(store_url) as store:
        with terminal.Display() as display:
            return await create(source, target, terminal.make_view, to, display.report, begin=store)


async def to_snapshot(source: Log, target: SnapshotStore, into: str, to: To, *, store_url: str | None = None) -> None:
    """`snapshot`, and print what was made and what it is good for."""
    made = await snapshot(source, target, to, store_url=store_url)
    say_made(made, into)
    info = await source.info()
    cut = Cut(made.offset, made.time_ms, info.last_offset, info.last_time_ms)
    if left_out := later(cut):
        terminal.hint(f"left out: {left_out}")
    doubt_times(cut, to)
    terminal.hint(
        f"it stands in for the first {made.offset:,} transactions of {source.url}, which it proves to be of; a log of"
        f" that state alone: eventdb restore --log {source.url} --to-offset {made.offset} --store {discreet(into)}"
        " --into quorum:DIR"
    )


def say_made(made: Manifest, store: str) -> None:
    """What a snapshot that was made is, and what proves it."""
    typer.echo(f"made snapshot {made.name} in {discreet(store)}, read back, loaded and compared")
    terminal.facts(pairs(made))


def pairs(found: Manifest) -> list[tuple[str, object]]:
    """Everything that is known of a snapshot, as names and values."""
    types = ", ".join(f"{count:,} {name}" for name, count in found.types.items()) or "none"
    pairs: list[tuple[str, object]] = [
        ("name", found.name),
        ("log", found.log_id or "without an id"),
        ("offset", found.offset),
        ("position", found.position),
        ("log checksum", found.checksum if found.checksum >= 0 else "none before that position"),
        ("epoch", found.epoch),
        ("state of", format_ms(found.time_ms)),
        ("made", format_ms(found.created_ms)),
        ("verified", format_ms(found.verified)),
        ("keys", found.key_count),
        ("types", types),
        ("bytes", f"{found.stored_bytes} stored, {found.rdb_bytes} as RDB version {found.rdb_version}"),
        ("sha256", found.sha256),
        ("digest", found.digest),
        ("written by", f"eventdb {found.eventdb_version}"),
    ]
    return [*pairs, ("key", found.key_id)] if found.key_id else pairs
