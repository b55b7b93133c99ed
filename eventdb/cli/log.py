"""`eventdb log info | tail | verify | digest`: look into a log. None of them writes to it; a server may be using it."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from eventdb.cli import rdb, terminal

if TYPE_CHECKING:
    from eventdb.backends import Log, LogInfo
    from eventdb.replay.inspect import Entry, StateAt
    from eventdb.replay.trimming import Plan, Window

logs = typer.Typer(
    help="Look into a log: state, transactions, every checksum, the digest at an offset.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

LogURL = Annotated[
    str,
    typer.Option("--log", metavar="URL", envvar="EVENTDB_LOG", help="The log: quorum:DIR, quorum:DIR,DIR,DIR …"),
]
AsJSON = terminal.AsJSON

TAIL_EXAMPLES = """
[bold]Examples[/bold]

The last ten transactions, then new ones as they become durable:
[cyan]eventdb log tail --log quorum:./data --follow[/cyan]

Who deleted that key?
[cyan]eventdb log tail --log quorum:./data --from 1 | grep ' DEL ' | grep user:1042[/cyan]

For programs, one JSON object a line:
[cyan]eventdb log tail --log quorum:./data --from 51200 --json | jq .events[/cyan]
"""


@logs.command()
def info(
    log: LogURL,
    store: rdb.StoreURL = None,
    recovery_window: Annotated[
        str, typer.Option(metavar="WINDOW", help="With --store: as the snapshotter has it (7d, 20gb, or both).")
    ] = "7d",
    as_json: AsJSON = False,
) -> None:
    """Show offsets, epoch, sizes, and how each zone is; with --store also what of the log is kept, and why."""
    from eventdb.replay.trimming import BadWindow, parse_window

    source = terminal.open_source(log)
    try:
        window = parse_window(recovery_window)
    except BadWindow as error:
        terminal.fail(f"--recovery-window {error}", code=2)
    found, planned = terminal.run(_info(source, store, window))
    if as_json:
        from dataclasses import asdict

        facts = asdict(found)
        if planned is not None:
            facts["kept"] = {"may_go_before": planned.before, "holders": [asdict(each) for each in planned.holders]}
        typer.echo(json.dumps(facts, indent=2))
    else:
        _print_info(found)
        if planned is not None:
            _print_kept(found, planned)


async def _info(source: Log, store_url: str | None, window: Window) -> tuple[LogInfo, Plan | None]:
    from eventdb.replay.trimming import plan

    found = await terminal.existing(source)
    async with terminal.opened_store(store_url) as store:
        return found, None if store is None else await plan(source, store, window, int(time.time() * 1000))


def _print_kept(found: LogInfo, planned: Plan) -> None:
    typer.echo("")
    if planned.before > found.first_position:
        typer.echo(f"a trim may drop what lies before position {planned.before:,}. Kept is, from")
    else:
        typer.echo("nothing may be trimmed now. Kept is, from")
    for each in planned.holders:
        typer.echo(f"  position {each.position:,} (after offset {each.offset:,}): {each.why}")


def _print_info(found: LogInfo) -> None:
    from rich.console import Console
    from rich.table import Table

    from eventdb.replay.times import format_ms

    offsets = f"{found.first_offset:,} to {found.last_offset:,}" if found.last_offset else "none yet"
    terminal.facts(
        [
            ("log", found.url),
            ("epoch", found.epoch),
            ("offsets", offsets),
            ("last written", format_ms(found.last_time_ms)),
            ("positions", f"{found.first_position:,} to {found.end_position:,} (exclusive)"),
        ]
    )
    if not found.zones:
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("zone", "state"):
        table.add_column(name, overflow="fold")
    for name in ("positions", "segments", "bytes"):
        table.add_column(name, justify="right")
    table.add_column("detail", overflow="fold")
    colours = {"up": "green", "catching-up": "yellow", "down": "red"}
    for zone in found.zones:
        colour = colours.get(zone.state, "default")
        positions = f"{zone.first_position:,} to {zone.end_position:,}"
        state = f"[{colour}]{zone.state}[/{colour}]"
        table.add_row(zone.name, state, positions, f"{zone.segments:,}", f"{zone.stored_bytes:,}", zone.detail)
    typer.echo("")
    Console().print(table)


@logs.command(epilog=TAIL_EXAMPLES)
def tail(
    log: LogURL,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what becomes durable; end by Ctrl-C.")
    ] = False,
    from_offset: Annotated[
        int | None,
        typer.Option("--from", metavar="N", min=1, help="Begin with transaction N.", show_default=False),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="Without --from: how many of the last ones.")] = 10,
    as_json: AsJSON = False,
    full: Annotated[bool, typer.Option("--full", help="Show long values to their end.")] = False,
) -> None:
    """Print transactions as people read Redis commands: offset, time, \\[database client], command.

    One line an event; the events of one transaction share an offset. Arguments are quoted as redis-cli does; long ones
    are cut, with the number of bytes left out (--json never cuts).
    """
    source = terminal.open_source(log)
    terminal.run(_tail(source, from_offset, count, follow, as_json, full))


async def _tail(source: Log, from_offset: int | None, count: int, follow: bool, as_json: bool, full: bool) -> None:
    from eventdb.replay.follower import BeyondEnd
    from eventdb.replay.inspect import tail as entries

    found = await source.info() if follow else await terminal.existing(source)
    if from_offset is None:
        from_offset = max(found.first_offset, found.last_offset - count + 1)
    elif from_offset > found.last_offset and not follow:
        raise BeyondEnd(from_offset, found.last_offset, source.url)
    async for entry in entries(source, from_offset, follow=follow):
        _print_entry(entry, as_json, full)
        if follow:
            sys.stdout.flush()


def _print_entry(entry: Entry, as_json: bool, full: bool) -> None:
    from eventdb.replay import inspect

    if as_json:
        print(json.dumps(inspect.as_json(entry), ensure_ascii=False))
    else:
        for line in inspect.lines(entry, full=full):
            print(line)


@logs.command()
def verify(log: LogURL) -> None:
    """Read every copy in every zone and check every checksum, then the order of history. Exit code 1: findings."""
    source = terminal.open_source(log)
    count = terminal.run(_verify(source))
    if count:
        terminal.fail(f"{count} finding{'s' if count > 1 else ''} in {log}")


async def _verify(source: Log) -> int:
    from eventdb.replay.inspect import verify as findings

    await terminal.existing(source)
    count = 0
    async for finding in findings(source):
        count += 1
        print(finding, flush=True)
    if not count:
        found = await source.info()
        zones = f"{len(found.zones)} zone{'s' if len(found.zones) != 1 else ''}"
        print(
            f"sound: {zones}, positions {found.first_position} to {found.end_position}, offsets to {found.last_offset}"
        )
    return count


@logs.command()
def digest(
    log: LogURL,
    at: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="After transaction N. [dim]\\[default: the last][/dim]", show_default=False
        ),
    ] = None,
    store: rdb.StoreURL = None,
    as_json: AsJSON = False,
) -> None:
    """Rebuild the state after one transaction, in memory, and print its digest: equal digests, equal states.

    EVENTDB.DIGEST gives the same number for a running server.
    """
    from eventdb.replay.times import format_ms

    found = terminal.run(_digest(terminal.open_source(log), at, store))
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(found)))
        return
    terminal.facts(
        [
            ("offset", found.offset),
            ("time", format_ms(found.time_ms)),
            ("keys", found.key_count),
            ("digest", found.digest),
        ]
    )


async def _digest(source: Log, at: int | None, store_url: str | None) -> StateAt:
    from eventdb.replay.inspect import state_at

    await terminal.existing(source)
    async with terminal.opened_store(store_url) as store:
        with terminal.Display() as display:
            return await state_at(source, terminal.make_view, at, display.report, store)
