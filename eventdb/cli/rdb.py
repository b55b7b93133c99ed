"""`eventdb export` and `eventdb import`: files of Redis and Valkey."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from eventdb.cli import terminal

if TYPE_CHECKING:
    from eventdb.backends import Log
    from eventdb.replay.cut import To

EXPORT_EXAMPLES = """
[bold]Examples[/bold]

[cyan]eventdb export --log quorum:./data --rdb dump.rdb[/cyan]

[cyan]eventdb export --log quorum:./data --rdb before.rdb --to-time "10 minutes ago"[/cyan]

[cyan]redis-server --dbfilename dump.rdb[/cyan]   (Redis 7.0 or later, or Valkey, has it all)
"""
IMPORT_EXAMPLES = """
[bold]Examples[/bold]

[cyan]redis-cli -h old-server --rdb dump.rdb[/cyan]

[cyan]eventdb import dump.rdb --log quorum:./data[/cyan]

[cyan]eventdb serve --log quorum:./data[/cyan]
"""
LogURL = Annotated[
    str, typer.Option("--log", metavar="URL", envvar="EVENTDB_LOG", help="The log: quorum:DIR, quorum:DIR,DIR,DIR …")
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
    terminal.run(_export(source, to, rdb, overwrite))


async def _export(source: Log, to: To, path: Path, overwrite: bool) -> None:
    from eventdb.history.exporting import export
    from eventdb.rdb.codes import Unkept
    from eventdb.replay.cut import find_cut
    from eventdb.replay.times import format_ms

    await terminal.existing(source)
    cut = await find_cut(source, to)
    try:
        with terminal.Display() as display, _appearing(path, overwrite) as file:
            done = await export(source, cut, lambda data: _write(file, data), display.report)
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
def _appearing(path: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """A file that has its name only when it is whole and on the disk; after an error there is none."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
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


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An RDB file of Redis 2.8 to 8 or of Valkey.")],
    log: LogURL,
    skip_unsupported: Annotated[
        bool,
        typer.Option("--skip-unsupported", help="Leave out what eventdb cannot keep (data of modules …), and name it."),
    ] = False,
) -> None:
    """Make a new log from an RDB file, and prove it.

    The log must not exist yet. It is read back and compared before it counts: an import that was interrupted leaves
    a log that every server refuses. Delete it and import again.
    """
    target = terminal.open_source(log)
    terminal.run(_import(file, target, skip_unsupported))


async def _import(path: Path, target: Log, skip: bool) -> None:
    from eventdb import commands
    from eventdb.engine.permissions import check_rules
    from eventdb.history.importing import import_file
    from eventdb.rdb.codes import BadRdb, Unkept

    commands.load()  # which the rules of users name
    try:
        with path.open("rb") as file, terminal.Display() as display:
            done = await import_file(
                file, target, terminal.make_view, skip=skip, on_progress=display.report, check_user=check_rules
            )
    except Unkept as error:
        hint = "" if skip else " (--skip-unsupported leaves out what can be left out)"
        terminal.fail(f"{path}: {error}{hint}")
    except BadRdb as error:
        terminal.fail(f"{path}: {error}")
    typer.echo(f"imported {path} into {target.url}, read back and compared")
    found: list[tuple[str, object]] = [(name, text) for name, text in done.facts.items() if name.endswith("-ver")]
    if done.facts.get("ctime", "").isdigit():
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(done.facts["ctime"])))
        found.append(("made", made))
    found += [("offset", done.offset), ("keys", done.key_count)]
    found += [(name, n) for name, n in (("users", done.user_count), ("outcomes", done.outcome_count)) if n]
    terminal.facts([*found, ("digest", done.digest)])
    for what, count in done.skipped.items():
        terminal.hint(f"left out: {count} × {what}")
    rate = done.file_bytes / done.seconds / 1e6 if done.seconds else 0.0
    terminal.hint(f"{done.file_bytes:,} bytes in {done.seconds:.1f} s ({rate:,.1f} MB/s)")
    terminal.hint(f"serve it: eventdb serve --log {target.url}")
