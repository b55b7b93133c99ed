"""`eventdb restore`, once the command line is understood."""

from __future__ import annotations

import tempfile
import time
from typing import BinaryIO, cast

import typer

from eventdb.backends import Log
from eventdb.cli import terminal
from eventdb.history.exporting import export
from eventdb.history.founding import Founded, restore_from_snapshot
from eventdb.history.importing import import_file
from eventdb.keyspace.choice import Choice
from eventdb.replay.cut import Cut, To, ToTime, find_cut
from eventdb.replay.filling import check_empty
from eventdb.replay.inspect import around, lines
from eventdb.replay.restore import restore
from eventdb.replay.snapshots import newest
from eventdb.replay.times import format_ms

SHOWN_BEFORE = 10
SHOWN_AFTER = 3
AHEAD_MS = 60_000


async def dry(source: Log, target: Log | None, to: To, *, full: bool, store_url: str | None = None) -> None:
    """Print what would be restored, long values cut unless `full`; writes nothing."""
    info = await terminal.existing(source)
    async with terminal.opened_store(store_url) as store:
        cut = await find_cut(source, to, [] if store is None else await newest(store, info.log_id))
    if target is not None:
        await check_empty(target, source.url)
    before = min(SHOWN_BEFORE, cut.offset - info.first_offset + 1)
    entries = await around(source, cut.offset, before, SHOWN_AFTER) if before > 0 else []
    typer.echo(f"would restore offsets 1 to {cut.offset} of {source.url}, committed up to {format_ms(cut.time_ms)}")
    if left_out := later(cut):
        typer.echo(f"would leave out {left_out}")
    doubt_times(cut, to)
    typer.echo("\nlast before the cut:")
    for entry in entries:
        if entry.offset == cut.offset + 1:
            typer.echo("first after the cut, left out:")
        for line in lines(entry, full=full):
            typer.echo(f"  {line}")
    typer.echo(f"\nnothing was written; the cut by number is --to-offset {cut.offset}")


def later(cut: Cut) -> str:
    """What a restore to the cut leaves out, or ""."""
    count = cut.last_offset - cut.offset
    if not count:
        return ""
    what = "1 later transaction" if count == 1 else f"{count} later transactions"
    return f"{what}, up to offset {cut.last_offset}"


def doubt_times(cut: Cut, to: To) -> None:
    """A log whose newest time lies ahead of this machine was written by a wrong clock, or is read by one."""
    ahead_ms = cut.last_time_ms - int(time.time() * 1000)
    if isinstance(to, ToTime) and ahead_ms > AHEAD_MS:
        terminal.hint(
            f"the newest record of this log bears a time {ahead_ms / 1000:,.0f} s ahead of this machine's clock: one of"
            " the two clocks is wrong, and what was written since may be left out. --to-offset is exact"
        )


async def real(source: Log, target: Log, to: To, *, store_url: str | None = None) -> None:
    """Restore, and print what the target holds now."""
    info = await terminal.existing(source)
    founded: Founded | None = None
    async with terminal.opened_store(store_url) as store:
        with terminal.Display() as display:
            known = [] if store is None else await newest(store, info.log_id)
            cut = await find_cut(source, to, known)
            based = info.first_offset > 1 or any(each.offset <= cut.offset for each in known)
            if store is None or not based:
                done = await restore(source, target, to, terminal.make_view, on_progress=display.report)
            else:
                founded = await restore_from_snapshot(
                    source, store, target, to, terminal.make_view, on_progress=display.report
                )
                done = founded.restored
    typer.echo(f"restored {source.url} into {target.url}, read back and compared")
    terminal.facts(
        [
            ("offset", done.offset),
            ("time", format_ms(done.time_ms)),
            ("keys", done.key_count),
            ("digest", done.digest),
        ]
    )
    if founded is not None:
        terminal.hint(
            f"it begins with the state of snapshot {founded.snapshot.name} (offset {founded.snapshot.offset})"
            f" and counts its offsets anew: what was offset {done.offset} is offset {founded.offset} in {target.url}"
        )
    if left_out := later(cut):
        terminal.hint(f"left out: {left_out}")
    doubt_times(cut, to)
    rate = done.events / done.seconds if done.seconds else 0.0
    terminal.hint(f"{done.events:,} events, {done.body_bytes:,} bytes in {done.seconds:.1f} s ({rate:,.0f} events/s)")
    terminal.hint(f"serve it: eventdb serve --log {target.url}")


async def part(source: Log, target: Log, to: To, choice: Choice, *, store_url: str | None = None) -> None:
    """Fill a new log with the chosen keys alone, as they were at `to`, and print what it holds."""
    info = await terminal.existing(source)
    await check_empty(target, source.url)
    async with terminal.opened_store(store_url) as store:
        known = [] if store is None else await newest(store, info.log_id)
        cut = await find_cut(source, to, known)
        with terminal.Display() as display, tempfile.NamedTemporaryFile(prefix="restore-") as file:
            write = file.write
            with terminal.naming(f"{file.name} (TMPDIR)"):
                await export(
                    source, cut, lambda data: (write(data), None)[1], display.report, digest=False, store=store,
                    choice=choice,
                )  # fmt: skip
                file.flush()
            done = await import_file(
                cast("BinaryIO", file), target, terminal.make_view, source_url=source.url, on_progress=display.report
            )
    typer.echo(f"restored {choice.describe()} of {source.url} into {target.url}, read back and compared")
    terminal.facts(
        [("cut", cut.offset), ("time", format_ms(cut.time_ms)), ("keys", done.key_count), ("digest", done.digest)]
    )
    terminal.hint(
        f"a part has no history: the new log ends at offset {done.offset} of its own, and has no users, functions,"
        " marks and outcomes"
    )
    if left_out := later(cut):
        terminal.hint(f"left out: {left_out}")
    terminal.hint(f"serve it: eventdb serve --log {target.url}")
