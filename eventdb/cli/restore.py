"""`eventdb restore`, once the command line is understood."""

from __future__ import annotations

import typer

from eventdb.backends import Log
from eventdb.cli import terminal
from eventdb.replay.cut import To, find_cut
from eventdb.replay.inspect import around, lines
from eventdb.replay.restore import check_empty, restore
from eventdb.replay.times import format_ms

SHOWN_BEFORE = 10
SHOWN_AFTER = 3


async def dry(source: Log, target: Log | None, to: To) -> None:
    """Print what would be restored; writes nothing."""
    await terminal.existing(source)
    cut = await find_cut(source, to)
    if target is not None:
        await check_empty(target)
    entries = await around(source, cut.offset, SHOWN_BEFORE, SHOWN_AFTER)
    left_out = cut.last_offset - cut.offset
    typer.echo(f"would restore offsets 1 to {cut.offset} of {source.url}, committed up to {format_ms(cut.time_ms)}")
    if left_out:
        later = "1 later transaction" if left_out == 1 else f"{left_out} later transactions"
        typer.echo(f"would leave out {later}, up to offset {cut.last_offset}")
    typer.echo("\nlast before the cut:")
    for entry in entries:
        if entry.offset == cut.offset + 1:
            typer.echo("first behind the cut, left out:")
        for line in lines(entry):
            typer.echo(f"  {line}")
    typer.echo(f"\nnothing was written; the cut by number is --to-offset {cut.offset}")


async def real(source: Log, target: Log, to: To) -> None:
    """Restore, and print what the target holds now."""
    await terminal.existing(source)
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
    rate = done.events / done.seconds if done.seconds else 0.0
    terminal.hint(f"{done.events:,} events, {done.body_bytes:,} bytes in {done.seconds:.1f} s ({rate:,.0f} events/s)")
    terminal.hint(f"serve it: eventdb serve --log {target.url}")
