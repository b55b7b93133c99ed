"""The command `eventdb top`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from eventdb.cli import options, terminal

if TYPE_CHECKING:
    from eventdb.cli.frames import Cluster, Frame

EXAMPLES: Final = """
[bold]Examples[/bold]

A live screen of a node; q ends it, space stops it for a while, + and - change how often it looks:
[cyan]eventdb top --port 6379[/cyan]

Of all nodes that it knows:
[cyan]eventdb top --all[/cyan]

One frame for a script or a report, with the rates of two seconds:
[cyan]eventdb top --once --interval 2[/cyan]
"""


def top(
    host: options.Host = "127.0.0.1",
    port: options.Port = 6379,
    everyone: Annotated[bool, typer.Option("--all", help="Show every other node that it knows, too.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Print one plain frame and end.")] = False,
    interval: Annotated[float, typer.Option(min=0.05, max=3600, metavar="S", help="Seconds between two looks.")] = 1.0,
    user: options.User = "",
    password: options.Password = "",
    tls_ca_cert_file: options.TrustedFile = "",
    tls_cert_file: options.CertFile = "",
    tls_key_file: options.KeyFile = "",
) -> None:
    """Show what a running node does, live: rates, latencies, commits, zones, lag, memory, the busiest commands.

    It asks INFO, so the node needs no metrics-port. With --once the exit code is 2 when the node does not answer.
    """
    from eventdb.cli import frames
    from eventdb.cli.failover import trusting
    from eventdb.security.tls import TlsError

    try:
        tls = trusting(tls_ca_cert_file, tls_cert_file, tls_key_file)
    except TlsError as error:
        terminal.fail(f"--{error}", code=2)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    cluster = frames.Cluster(address, password, tls, user, everyone)
    try:
        if once:
            _print(frames.once(cluster, interval))
        else:
            _live(cluster, interval)
    finally:
        cluster.close()


def _print(found: list[Frame]) -> None:
    first = found[0]
    if not first.panels:
        terminal.fail("; ".join(first.warnings), code=2)
    for i, frame in enumerate(found):
        if len(found) > 1:
            typer.echo(("\n" if i else "") + f"== {frame.address}")
        typer.echo("\n".join(frame.lines()))


def _live(cluster: Cluster, interval: float) -> None:
    import sys

    from eventdb.cli.frames import MISSING

    try:
        from eventdb.cli.top_screen import run
    except ImportError:
        terminal.fail(MISSING)
    if not sys.stdout.isatty():
        terminal.fail("a live screen needs a terminal; --once prints one frame", code=2)
    run(cluster, interval)
