"""`eventdb restore`, once the command line is understood."""

from __future__ import annotations

import time

import typer

from eventdb.backends import Log
from eventdb.cli import terminal
from eventdb.replay.cut import Cut, To, ToTime, find_cut
from eventdb.replay.filling import check_empty
from eventdb.replay.inspect import around, lines
from eventdb.replay.restore import restore
from eventdb.replay.times import format_ms

SHOWN_BEFORE = 10
SHOWN_AFTER = 3
AHEAD_MS = 60_000


async def dry(source: Log, target: Log | None, to: To, *, full: bool) -> None:
    """Print what would be restored, long values cut unless `full`; writes nothing."""
    await terminal.existing(source)
    cut = await find_cut(source, to)
    if target is not None:
        await check_empty(target)
    entries = await around(source, cut.offset, SHOWN_BEFORE, SHOWN_AFTER)
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


async def real(source: Log, target: Log, to: To) -> None:
    """Restore, and print what the target holds now."""
    await terminal.existing(source)
    cut = await find_cut(source, to)
    with terminal.Display() as display:
        done = await restore(source, target, to, terminal.make_view, on_progress=display.report)
    typer.echo(f"restored {source.url} into {target.url}, read back and compared")
    terminal.facts(
        [
            ("offset", done.offset),
            ("time", format_ms(done.time_ms)),
            ("keys", done.key_count),
            ("digest", done.digest),
        ]
    )
    if left_out := later(cut):
        terminal.hint(f"left out: {left_out}")
    doubt_times(cut, to)
    rate = done.events / done.seconds if done.seconds else 0.0
    terminal.hint(f"{done.events:,} events, {done.body_bytes:,} bytes in {done.seconds:.1f} s ({rate:,.0f} events/s)")
    terminal.hint(f"serve it: eventdb serve --log {target.url}")
