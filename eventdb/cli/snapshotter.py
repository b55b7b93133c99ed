"""`eventdb snapshotter`: snapshots on a schedule, beside the database, and a log that does not grow for ever."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from eventdb.cli import rdb, terminal
from eventdb.cli.log_lines import LogFormat, LogFormatOption, configure

if TYPE_CHECKING:
    from eventdb.backends import Log
    from eventdb.replay.snapshotter import Snapshotter

CLOSE_S_MAX = 2.0  # for a log and a store to be let go of when it is told to end

EXAMPLES = """
[bold]Examples[/bold]

A snapshot an hour, kept for a day, then one a day for 35 days; the log is kept for 7 days:
[cyan]eventdb snapshotter --log quorum:./data --store s3://backups/db[/cyan]

Snapshots alone, the log stays whole:
[cyan]eventdb snapshotter --log quorum:./data --store ./snapshots --every 15m --no-trim[/cyan]
"""


def snapshotter(
    log: rdb.LogURL,
    store: Annotated[
        str,
        typer.Option(
            "--store", metavar="URL", envvar="EVENTDB_STORE", help="Where they go: a directory, s3://BUCKET/PREFIX …"
        ),
    ],
    every: Annotated[str, typer.Option(metavar="TIME", help="Between two snapshots: 15m, 1h, 1d …")] = "1h",
    keep: Annotated[
        str, typer.Option(metavar="AGE:STEP,…", help="Which stay: one an hour for 24 h, then one a day for 35 d.")
    ] = "24h:1h,35d:1d",
    recovery_window: Annotated[
        str,
        typer.Option(
            metavar="WINDOW",
            help="How far back any moment can be restored: a time (7d), a size of log (20gb), or both (7d,20gb).",
        ),
    ] = "7d",
    trim: Annotated[
        bool, typer.Option("--trim/--no-trim", help="Let go of the log behind a proven snapshot, outside the window.")
    ] = True,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Make snapshots on a schedule until SIGTERM, remove old ones, and trim the log behind those that are proven.

    Runs off the primary: it only reads the log and trims it. It may be killed at any moment, and two of them are
    harmless. What it cannot reach it tries again.
    """
    from eventdb.replay.retention import BadPolicy, parse_policy
    from eventdb.replay.snapshotter import Snapshotter
    from eventdb.replay.trimming import BadWindow, parse_window

    configure(log_format)
    source = terminal.open_source(log, foresee=False)
    try:
        try:
            every_ms = parse_window(every).ms
        except BadWindow:
            every_ms = 0
        if not every_ms:
            terminal.fail(f"--every {every!r} is no time; write 15m, 1h or 1d", code=2)
        window = parse_window(recovery_window)
        parse_policy(keep)
    except (BadPolicy, BadWindow) as error:
        terminal.fail(str(error), code=2)

    async def serve() -> None:
        async with terminal.opened_store(store) as opened:
            assert opened is not None
            service = Snapshotter(
                source, opened, terminal.make_view, every_ms=every_ms, keep=keep, window=window, trims=trim
            )
            await _run(service, source)

    terminal.run(serve())


async def _run(service: Snapshotter, source: Log) -> None:
    from eventdb.history.exporting import NICENESS

    os.nice(NICENESS)  # where it shares a machine with the database; before there are threads, which take it over
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    logging.getLogger("eventdb").info("snapshots of %s go to %s", source.url, service.store.url)
    await service.run(stop)
    for thing in (service.store, source):
        try:
            await asyncio.wait_for(thing.close(), CLOSE_S_MAX)
        except TimeoutError:
            pass
    logging.shutdown()
    os._exit(0)  # a thread may be in the middle of loading a state, and nothing of it is wanted any more
