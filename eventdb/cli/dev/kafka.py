"""The commands under `eventdb dev`: what a developer needs around eventdb, for as long as the command runs."""

from __future__ import annotations

import signal
import tempfile
import threading
from pathlib import Path
from typing import Annotated

import typer

from eventdb.cli import terminal

dev = typer.Typer(help="Things around eventdb, for trying it out on this machine.", no_args_is_help=True)

EXAMPLES = """
[bold]Examples[/bold]

[cyan]eventdb dev kafka[/cyan]   (prints the URL; then, in another terminal)
[cyan]eventdb serve --log kafka://127.0.0.1:…,127.0.0.1:…,127.0.0.1:…/orders[/cyan]

One broker instead of three, its data kept for the next time:
[cyan]eventdb dev kafka --brokers 1 --dir ./kafka[/cyan]
"""


@dev.callback()
def group() -> None:
    """Things around eventdb, for trying it out on this machine."""


@dev.command(epilog=EXAMPLES)
def kafka(
    brokers: Annotated[int, typer.Option(min=1, max=5, help="How many, each in a rack of its own.")] = 3,
    topic: Annotated[str, typer.Option(help="The topic in the URL that is printed.")] = "eventdb",
    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="Keep the brokers' data here. [dim]\\[default: a temporary folder][/dim]"),
    ] = None,
    jars: Annotated[
        Path | None, typer.Option(help="A folder with Kafka's jars. [dim]\\[default: fetched once by Maven][/dim]")
    ] = None,
) -> None:
    """Run real Kafka brokers in the foreground until Ctrl-C: Java 17, some 350 MB of memory each.

    Each is a process of its own, so it can be killed or stopped (kill -STOP) to see what happens.
    """
    from eventdb.cli.dev.brokers import Brokers, NoKafka, cache_folder, fetch_jars, java

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: ended.set())
    with tempfile.TemporaryDirectory(prefix="eventdb-kafka-") as temporary:
        try:
            java()
            found = fetch_jars(jars or cache_folder())
            cluster = Brokers((folder or Path(temporary)).resolve(), found.resolve(), brokers).start()
        except NoKafka as error:
            terminal.fail(str(error))
        try:
            for broker in cluster.brokers:
                typer.echo(
                    f"broker {broker.id}, rack {broker.rack}: 127.0.0.1:{broker.port}, pid {broker.pid}", err=True
                )
            typer.echo(cluster.url(topic))
            ended.wait()
        finally:
            cluster.stop()
