"""`eventdb import`: files of Redis and Valkey, and a running server, become a new log."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventdb.backends.discreet import discreet
from eventdb.cli import terminal
from eventdb.cli.rdb import LogURL

if TYPE_CHECKING:
    from eventdb.backends import Log
    from eventdb.history.migrating import Migrated, Status
    from eventdb.history.psync import Address

EXAMPLES = """
[bold]Examples[/bold]

[cyan]eventdb import dump.rdb --log quorum:./data[/cyan]

[cyan]eventdb import /var/lib/redis/appendonlydir --log quorum:./data[/cyan]

[cyan]eventdb import redis://:secret@old-server:6379 --log quorum:./data[/cyan]   (Ctrl-C ends it; again: goes on)

[cyan]eventdb import redis://:secret@old-server:6379 --log quorum:./data --cutover pause[/cyan]

[cyan]eventdb serve --log quorum:./data[/cyan]
"""
SCHEMES = ("redis://", "rediss://")


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="An RDB file, an append-only file, an appendonlydir, or redis://\\[user:password@]host:port.",
        ),
    ],
    log: LogURL,
    skip_unsupported: Annotated[
        bool,
        typer.Option("--skip-unsupported", help="Leave out what eventdb cannot keep (data of modules …), and name it."),
    ] = False,
    to_time: Annotated[
        str | None,
        typer.Option(
            metavar="T",
            help="Of an append-only file with timestamps: nothing that was written after this time.",
            show_default=False,
        ),
    ] = None,
    cutover: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help="Of a running server: end when nothing is left to copy. pause: stop its writes for that; zero: only"
            " look, for you have stopped them.",
            show_default=False,
        ),
    ] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificates to trust for rediss://.", show_default=False),
    ] = None,
) -> None:
    """Make a new log from what Redis or Valkey has written, or from a running server, and prove it.

    The log must not exist yet. It is read back and compared before it counts: an import that was interrupted leaves
    a log that every server refuses. Run it again: it begins anew (a Kafka topic has to be deleted first); that of a
    running server goes on where it was, once the server's file was copied.
    """
    live = source.startswith(SCHEMES)
    if cutover is not None and (not live or cutover not in ("pause", "zero")):
        terminal.fail("--cutover is pause or zero, and for a running server (redis://…)", code=2)
    to_ms = None if to_time is None else terminal.moment(to_time)
    if live:
        from eventdb.history.psync import BadSourceURL, parse_url

        if to_ms is not None:
            terminal.fail("--to-time is for append-only files with timestamps", code=2)
        try:
            address = parse_url(source, str(tls_ca or ""))
        except BadSourceURL as error:
            terminal.fail(f"the address of the running server: {error}", code=2)
        target = terminal.open_source(log)
        terminal.run(_migrate(address, target, cutover or "never", skip_unsupported))
        return
    if "://" in source:
        terminal.fail(f"{discreet(source)}: neither a file nor the redis:// of a running server", code=2)
    target = terminal.open_source(log)
    terminal.run(_import(Path(source), target, skip_unsupported, to_ms))


async def _import(path: Path, target: Log, skip: bool, to_ms: int | None) -> None:
    from eventdb import commands
    from eventdb.history.appendonly import find_manifest, read_manifest
    from eventdb.rdb.codes import BadRdb, Unkept

    commands.load()  # which the rules of users name
    try:
        path.stat()
        manifest = find_manifest(path)
        if manifest is not None:
            await _import_appended(path, read_manifest(manifest), target, skip, to_ms)
        elif _is_appended(path):
            await _import_appended(path, [path], target, skip, to_ms)
        elif to_ms is not None:
            terminal.fail("--to-time is for append-only files with timestamps", code=2)
        else:
            await _import_rdb(path, target, skip)
    except Unkept as error:
        hint = "" if skip else " (--skip-unsupported leaves out what can be left out)"
        terminal.fail(f"{path}: {error}{hint}")
    except BadRdb as error:
        terminal.fail(f"{path}: {error}")


def _is_appended(path: Path) -> bool:
    """An append-only file may begin as an RDB file does; then its name decides."""
    with path.open("rb") as file:
        head = file.read(1)
    return head in (b"*", b"#") or path.suffix == ".aof"


async def _import_rdb(path: Path, target: Log, skip: bool) -> None:
    from eventdb.engine.permissions import check_rules
    from eventdb.history.importing import import_file

    with path.open("rb") as file, terminal.Display() as display:
        done = await import_file(
            file, target, terminal.make_view, skip=skip, on_progress=display.report, check_user=check_rules
        )
    typer.echo(f"imported {path} into {target.url}, read back and compared")
    found = _said(done.facts)
    found += [("offset", done.offset), ("keys", done.key_count)]
    found += [(name, n) for name, n in (("users", done.user_count), ("outcomes", done.outcome_count)) if n]
    terminal.facts([*found, ("digest", done.digest)])
    _end(target, done.skipped, done.file_bytes, done.seconds)


async def _import_appended(path: Path, files: list[Path], target: Log, skip: bool, to_ms: int | None) -> None:
    from eventdb.engine.permissions import check_rules
    from eventdb.history.appendonly import import_appended
    from eventdb.replay.times import format_ms

    with terminal.Display() as display:
        done = await import_appended(
            files, target, terminal.make_view, name=path.name, skip=skip, to_ms=to_ms, on_progress=display.report,
            check_user=check_rules,
        )  # fmt: skip
    typer.echo(f"imported {path} into {target.url}, read back and compared")
    found = [*_said(done.facts), ("files", ", ".join(file.name for file in files)), ("commands", done.command_count)]
    if done.time_ms:
        found.append(("last time", format_ms(done.time_ms)))
    terminal.facts([*found, ("offset", done.offset), ("keys", done.key_count), ("digest", done.digest)])
    if done.cut:
        terminal.hint(f"cut off: {done.cut}")
    _end(target, done.skipped, done.file_bytes, done.seconds)


def _said(facts: dict[str, str]) -> list[tuple[str, object]]:
    """What an RDB file says of itself."""
    found: list[tuple[str, object]] = [(name, text) for name, text in facts.items() if name.endswith("-ver")]
    if facts.get("ctime", "").isdecimal() and int(facts["ctime"]) < 1 << 36:
        found.append(("made", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(facts["ctime"])))))
    return found


def _end(target: Log, skipped: dict[str, int], size: int, seconds: float) -> None:
    for what, count in skipped.items():
        terminal.hint(f"left out: {count} × {what}")
    rate = size / seconds / 1e6 if seconds else 0.0
    terminal.hint(f"{size:,} bytes in {seconds:.1f} s ({rate:,.1f} MB/s)")
    terminal.hint(f"serve it: eventdb serve --log {target.url}")


# -- a running server


async def _migrate(address: Address, target: Log, cutover: str, skip: bool) -> None:
    import asyncio
    import signal

    from eventdb import commands
    from eventdb.engine.permissions import check_rules
    from eventdb.history.migrating import Migration
    from eventdb.rdb.codes import BadRdb, Unkept

    commands.load()
    said = _Says(address)
    migration = Migration(target, address, cutover=cutover, skip=skip, on_status=said.status, check_user=check_rules)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, migration.stop.set)
    try:
        with terminal.Display() as display:
            done = await migration.run(terminal.make_view, display.report)
    except Unkept as error:
        hint = "" if skip else " (--skip-unsupported leaves out what can be left out)"
        terminal.fail(f"{address.shown}: {error}{hint}")
    except BadRdb as error:
        terminal.fail(f"the file of {address.shown}: {error}")
    _tell(address, target, done)


class _Says:
    """A line every few seconds, and at each change of phase."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.phase = ""
        self.trouble = ""
        self.lined = 0.0

    def status(self, status: Status) -> None:
        now = time.monotonic()
        if (status.phase, status.trouble) == (self.phase, self.trouble) and now - self.lined < terminal.LINE_S:
            return
        self.phase, self.trouble, self.lined = status.phase, status.trouble, now
        if status.trouble:
            terminal.hint(f"the connection is broken, trying again: {status.trouble}")
        elif status.phase == "receive":
            of = f" of {status.size:,}" if status.size else ""
            terminal.hint(f"receiving the file of {self.address.shown}: {status.received:,}{of} bytes")
        elif status.phase == "copy":
            terminal.hint(f"copying it into the log: {status.received:,} of {status.size:,} bytes")
        else:
            terminal.hint(
                f"following: lag {status.lag_bytes:,} bytes, {status.commands:,} commands, offset {status.offset:,}"
            )


def _tell(address: Address, target: Log, done: Migrated) -> None:
    if done.finished:
        typer.echo(f"migrated {address.shown} into {target.url}, read back and compared")
    else:
        typer.echo(f"stopped; {target.url} holds {address.shown} up to here")
    found: list[tuple[str, object]] = [
        ("stream", f"{done.stream_id}:{done.stream_offset}"), ("commands", done.commands), ("offset", done.offset),
    ]  # fmt: skip
    if done.finished:
        found += [("keys", done.key_count), ("digest", done.digest)]
    terminal.facts(found)
    for what, count in done.skipped.items():
        terminal.hint(f"left out: {count} × {what}")
    if done.reconnects:
        terminal.hint(f"the connection broke {done.reconnects} times")
    if not done.finished:
        terminal.hint("run the same command again to go on; --cutover pause ends the migration")
        return
    if done.paused:
        terminal.hint(
            f"{address.shown} takes no writes since {done.pause_s:.1f} s, and for an hour from now; CLIENT UNPAUSE lets"
            " it write again"
        )
    else:
        terminal.hint(f"writes that {address.shown} takes from now on are not in the log")
    terminal.hint(f"serve it, and point the programs there: eventdb serve --log {target.url}")
