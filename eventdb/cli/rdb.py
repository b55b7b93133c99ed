"""`eventdb export`: a file for Redis and Valkey."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from eventdb.cli import terminal

if TYPE_CHECKING:
    from eventdb.backends import Log
    from eventdb.keyspace.choice import Choice
    from eventdb.replay.cut import To

EXPORT_EXAMPLES = """
[bold]Examples[/bold]

[cyan]eventdb export --log quorum:./data --rdb dump.rdb[/cyan]

[cyan]eventdb export --log quorum:./data --rdb before.rdb --to-time "10 minutes ago"[/cyan]

[cyan]redis-server --dbfilename dump.rdb[/cyan]   (Redis 7.0 or later, or Valkey, has it all)
"""
LogURL = Annotated[
    str, typer.Option("--log", metavar="URL", envvar="EVENTDB_LOG", help="The log: quorum:DIR, quorum:DIR,DIR,DIR …")
]
StoreURL = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="EVENTDB_STORE",
        help="Where the log's snapshots are: begin with the nearest.",
        show_default=False,
    ),
]


def export(
    log: LogURL,
    rdb: Annotated[Path, typer.Option("--rdb", metavar="FILE", help="The file to write.")],
    to_offset: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="The state after transaction N. \\[default: now]", show_default=False),
    ] = None,
    to_time: Annotated[
        str | None, typer.Option(metavar="T", help="The state at a time, as for restore.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Put it in place of a file that exists.")] = False,
    store: StoreURL = None,
) -> None:
    """Write the state of a log, now or at any moment of its past, as an RDB file for Redis or Valkey.

    The log is only read; a server may go on writing to it. The file appears under its name when it is whole.
    """
    from eventdb.replay.cut import ToLatest, ToOffset, ToTime

    if to_offset is not None and to_time is not None:
        terminal.fail("give --to-offset N or --to-time T, not both", code=2)
    to: To = ToLatest()
    if to_offset is not None:
        to = ToOffset(to_offset)
    elif to_time is not None:
        to = ToTime(terminal.moment(to_time))
    source = terminal.open_source(log)
    if rdb.exists() and not overwrite:
        terminal.fail(f"{rdb} exists: --overwrite puts the new file in its place")
    terminal.run(export_to(source, to, rdb, overwrite, store))


async def export_to(
    source: Log, to: To, path: Path, overwrite: bool, store_url: str | None, choice: Choice | None = None
) -> None:
    """Write the state at `to`, or the chosen part of it."""
    from eventdb.history.exporting import export
    from eventdb.keyspace.choice import ALL
    from eventdb.rdb.codes import Unkept
    from eventdb.replay.cut import find_cut
    from eventdb.replay.snapshots import newest
    from eventdb.replay.times import format_ms

    info = await terminal.existing(source)
    async with terminal.opened_store(store_url) as store:
        known = [] if store is None else await newest(store, info.log_id)
        cut = await find_cut(source, to, known)
        try:
            with terminal.Display() as display, appearing(path, overwrite) as file:
                done = await export(
                    source, cut, lambda data: _write(file, data), display.report, store=store, choice=choice or ALL
                )
        except Unkept as error:
            terminal.fail(str(error))
    typer.echo(f"exported {source.url} to {path}")
    terminal.facts(
        [
            ("offset", done.offset),
            ("time", format_ms(done.time_ms)),
            ("keys", done.key_count),
            ("digest", done.digest),
            ("bytes", done.file_bytes),
        ]
    )
    terminal.hint(f"{done.key_count:,} keys in {done.seconds:.1f} s")


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)


@contextmanager
def appearing(path: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """A file that has its name only when it is whole and on the disk; after an error there is none."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with terminal.naming(str(path)), part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            part.replace(path)
        else:
            os.link(part, path)  # fails if somebody else has made it meanwhile
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        part.unlink(missing_ok=True)
