"""`eventdb log marks` and `eventdb log replay`."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from eventdb.cli import rdb, terminal
from eventdb.cli.log import LogURL

if TYPE_CHECKING:
    from eventdb.backends import Log
    from eventdb.history.marks import Marked
    from eventdb.history.rehearsal import Expected, Rehearsed

REPLAY_EXAMPLES = """
[bold]Examples[/bold]

Before an upgrade, with the new version, while the old one serves:
[cyan]eventdb log replay --log quorum:./data --store ./snapshots[/cyan]
"""


def marks(log: LogURL, store: rdb.StoreURL = None) -> None:
    """List the named points of the history: offset, time, name. Those too that were set again, or dropped, since.

    With --store also those of what was trimmed away, as its snapshots have them.
    """
    from eventdb.history.marks import listed, trimmed

    source = terminal.open_source(log)

    async def work() -> None:
        info = await terminal.existing(source)
        async with terminal.opened_store(store) as opened:
            for mark in [] if opened is None else await trimmed(source, opened):
                _print_mark(mark, f"trimmed: the log begins at offset {info.first_offset}")
        for mark in await listed(source):
            _print_mark(mark, f"digest before it {mark.digest}" if mark.digest else "")
        if info.first_offset > 1 and store is None:
            terminal.hint(f"the log begins at offset {info.first_offset}; --store shows the marks of what was before")

    terminal.run(work())


def _print_mark(mark: Marked, note: str) -> None:
    from eventdb.replay.inspect import quote
    from eventdb.replay.times import format_ms

    typer.echo(f"{mark.offset} {format_ms(mark.time_ms)} {quote(mark.name)}{f'  # {note}' if note else ''}")


def replay(
    log: LogURL,
    store: rdb.StoreURL = None,
    node: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Compare with this running node too.", show_default=False),
    ] = "",
    password: Annotated[
        str, typer.Option(envvar="EVENTDB_REQUIREPASS", help="The node's password.", show_default=False)
    ] = "",
) -> None:
    """Replay all of the history with this version, and compare digests with those of snapshots and marks.

    Nothing is written. Exit code 1: a state differs; the transactions that it may be are named.
    """
    source = terminal.open_source(log)
    more = [_of_node(node, password)] if node else []
    found = terminal.run(_replay(source, store, more))
    rate = found.events / found.seconds if found.seconds else 0.0
    typer.echo(f"OK: {found.compared} digests agree, offsets {found.first_offset} to {found.offset}")
    terminal.facts([("digest", found.digest), ("seconds", f"{found.seconds:.1f}")])
    terminal.hint(f"{found.events:,} events ({rate:,.0f} events/s)")
    if not found.compared:
        terminal.hint("nothing to compare with: neither a snapshot (--store), nor a mark WITHDIGEST, nor --node")


async def _replay(source: Log, store_url: str | None, more: list[Expected]) -> Rehearsed:
    from eventdb.history.rehearsal import noted, rehearse

    await terminal.existing(source)
    async with terminal.opened_store(store_url) as store:
        with terminal.Display() as display:
            expected = sorted(await noted(source, store) + more, key=lambda each: each.offset)
            return await rehearse(source, store, expected, display.report)


def _of_node(node: str, password: str) -> Expected:
    """Its digest, at an offset that did not move meanwhile."""
    from eventdb.cli.failover import Connection, Refused
    from eventdb.history.rehearsal import Expected

    try:
        with closing(Connection(node, password)) as connection:
            connection.wait_long()
            before = connection.ask("EVENTDB.OFFSET")[1]
            digest = connection.ask("EVENTDB.DIGEST")
            after = connection.ask("EVENTDB.OFFSET")[1]
    except Refused as error:
        terminal.fail(str(error))
    if before != after:
        terminal.fail(f"{node} is being written to: EVENTDB.MARK name WITHDIGEST notes a digest in the log instead")
    return Expected(before, digest, f"node {node}")
