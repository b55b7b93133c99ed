"""The application: `eventdb serve`, `eventdb restore` …, and the groups `log`, `snapshot` and `dev`."""

from __future__ import annotations

from typing import Annotated

import typer

from eventdb.cli import log_past, moving_in, options, rdb, restoring, snapshotter, terminal, top
from eventdb.cli.dev.kafka import dev
from eventdb.cli.iam import app as iam
from eventdb.cli.keys import keys
from eventdb.cli.log import logs
from eventdb.cli.log_lines import LogFormat, LogFormatOption, configure
from eventdb.cli.snapshot import snapshots
from eventdb.cluster.lease import AskedRole
from eventdb.cluster.timing import LEASE_MS, LEASE_MS_MAX, LEASE_MS_MIN

EXAMPLES = """
[bold]Examples[/bold]

Start a server on quorum files in ./data, three zones as folders:
[cyan]eventdb serve --log quorum:./data --port 6379[/cyan]

The same with each zone on a disk of its own:
[cyan]eventdb serve --log quorum:/mnt/a/db,/mnt/b/db,/mnt/c/db[/cyan]

A second node of it: answers reads, and takes over within a second when the first is gone:
[cyan]eventdb serve --log quorum:/mnt/a/db,/mnt/b/db,/mnt/c/db --port 6380[/cyan]

Make another node the primary, before you stop this one:
[cyan]eventdb failover --node 127.0.0.1:6379[/cyan]

See how a node and its zones do, and what to do about what is wrong:
[cyan]eventdb status --port 6379[/cyan]

See what a node does now, live:
[cyan]eventdb top --port 6379[/cyan]

See what was written lately, and by whom:
[cyan]eventdb log tail --log quorum:./data[/cyan]

Look first, then bring back the state of ten minutes ago, next to the live one:
[cyan]eventdb restore --log quorum:./data --to-time "10 minutes ago" --dry-run[/cyan]
[cyan]eventdb restore --log quorum:./data --to-time "10 minutes ago" --into quorum:./restored[/cyan]
"""

app = typer.Typer(
    name="eventdb",
    help="A Redis-compatible primary database whose memory is a replay of a durable log.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
logs.command()(log_past.marks)
logs.command(epilog=log_past.REPLAY_EXAMPLES)(log_past.replay)
app.add_typer(logs, name="log")
app.add_typer(iam, name="iam")
app.add_typer(keys, name="keys")
app.add_typer(snapshots, name="snapshot")
app.add_typer(dev, name="dev")

LogURL = Annotated[
    str,
    typer.Option(
        "--log",
        metavar="URL",
        envvar="EVENTDB_LOG",
        help="The log: quorum:DIR, quorum:DIR,DIR,DIR, kafka://HOST:PORT,…/TOPIC",
    ),
]
PortOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="TCP port; 0 takes a free one, or with --tls-port none. [dim]\\[default: the file's, or 6379][/dim]",
        show_default=False,
    ),
]
HostOption = Annotated[
    str | None,
    typer.Option(
        help="Address to listen on, or several. [dim]\\[default: the file's `bind`, or 127.0.0.1][/dim]",
        show_default=False,
    ),
]
TlsPortOption = Annotated[
    int | None,
    typer.Option(
        min=0, max=65535, help="TCP port for TLS, beside the plain one; with --port 0 instead.", show_default=False
    ),
]
TlsCertOption = Annotated[str, typer.Option(metavar="FILE", help="The server's certificate (PEM).", show_default=False)]
TlsKeyOption = Annotated[str, typer.Option(metavar="FILE", help="Its private key (PEM).", show_default=False)]
TlsCaOption = Annotated[
    str, typer.Option(metavar="FILE", help="Authorities whose certificates are trusted (PEM).", show_default=False)
]
TlsClientsOption = Annotated[
    str,
    typer.Option(
        metavar="yes|no|optional",
        help="Whether clients need a certificate. [dim]\\[default: yes][/dim]",
        show_default=False,
    ),
]
ConfigFileOption = Annotated[
    str,
    typer.Option(
        metavar="FILE", help="Settings in Redis's format (redis.conf); options count more.", show_default=False
    ),
]
RoleOption = Annotated[
    AskedRole,
    typer.Option(
        help="auto: primary if nobody is, else a replica that takes over when the primary is gone."
        " primary: take the log over now. replica: only answer reads, never take over."
    ),
]
LeaseOption = Annotated[
    int,
    typer.Option(
        min=LEASE_MS_MIN,
        max=LEASE_MS_MAX,
        metavar="MS",
        help="How long the primary may be silent before another node takes over.",
    ),
]
AdvertiseOption = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT",
        help="Where other nodes and clients reach this one. [dim]\\[default: the address it listens on][/dim]",
        show_default=False,
    ),
]
MetricsPortOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Port of /metrics for Prometheus, /healthz and /readyz. [dim]\\[default: none][/dim]",
        show_default=False,
    ),
]
SnapshotStoreOption = Annotated[
    str,
    typer.Option(
        metavar="URL",
        envvar="EVENTDB_STORE",
        help="Where snapshots of the log are: a start begins with the newest. [dim]\\[default: none][/dim]",
        show_default=False,
    ),
]


KeysOption = Annotated[
    str,
    typer.Option(
        metavar="URL",
        help="Keys that encrypt the log: file:PATH, env:NAME, command:LINE (see eventdb keys)."
        " [dim]\\[default: EVENTDB_ENCRYPTION_KEYS][/dim]",
        show_default=False,
    ),
]


def print_version(wanted: bool) -> None:
    if not wanted:
        return
    import platform
    from importlib.util import find_spec

    from eventdb import __version__

    spec = find_spec("eventdb.engine.engine")
    compiled = spec is not None and (spec.origin or "").endswith((".so", ".pyd"))
    build = "compiled" if compiled else "pure Python"
    typer.echo(f"eventdb {__version__} ({build}, Python {platform.python_version()})")
    raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and the build.")
    ] = False,
) -> None:
    """A Redis-compatible primary database whose memory is a replay of a durable log."""


@app.command()
def serve(
    log: LogURL = "quorum:./data",
    port: PortOption = None,
    host: HostOption = None,
    tls_port: TlsPortOption = None,
    tls_cert_file: TlsCertOption = "",
    tls_key_file: TlsKeyOption = "",
    tls_ca_cert_file: TlsCaOption = "",
    tls_auth_clients: TlsClientsOption = "",
    config_file: ConfigFileOption = "",
    requirepass: Annotated[
        str,
        typer.Option(
            envvar="EVENTDB_REQUIREPASS",
            help="Password that clients must give (AUTH). Better set by the environment: a process list shows options.",
            show_default=False,
        ),
    ] = "",
    node_name: Annotated[
        str, typer.Option(help="Name of this node in the log. [dim]\\[default: HOST:PID][/dim]", show_default=False)
    ] = "",
    encryption_keys: KeysOption = "",
    role: RoleOption = AskedRole.AUTO,
    lease_ms: LeaseOption = LEASE_MS,
    advertise: AdvertiseOption = "",
    metrics_port: MetricsPortOption = None,
    snapshot_store: SnapshotStoreOption = "",
    log_format: LogFormatOption = LogFormat.TEXT,
    config: Annotated[
        list[str] | None,
        typer.Option("--config", "-c", metavar="NAME=VALUE", help="A setting, as in CONFIG SET; may be repeated."),
    ] = None,
) -> None:
    """Start a server: replay the log, and answer Redis clients until SIGTERM or Ctrl-C.

    A log that does not exist yet is created. The first server on a log is its primary. Every further one is a replica:
    it answers reads, costs the primary nothing, and takes over within a second when the primary is gone.

    --role replica never takes over. --role primary takes the log over from its primary.

    A primary whose log does not answer refuses commands on keys when its lease is over; with --config
    primary-serve-stale-data=yes it answers reads while it knows of no other node, and they may be old.
    """
    settings = _settings(config or []) | _given({
        "tls-port": tls_port, "tls-cert-file": tls_cert_file, "tls-key-file": tls_key_file,
        "tls-ca-cert-file": tls_ca_cert_file, "tls-auth-clients": tls_auth_clients, "metrics-port": metrics_port,
        "snapshot-store": snapshot_store,
        "encryption-keys": encryption_keys,
    })  # fmt: skip
    configure(log_format)
    from eventdb.backends import BadLogURL, LogError
    from eventdb.engine.config_file import ConfigFileError
    from eventdb.server.server import serve as serve_log

    try:
        serve_log(
            log, host, port, config_file=config_file, requirepass=requirepass, config=settings, node=node_name,
            asked=role, lease_ms=lease_ms, advertise=advertise,
        )  # fmt: skip
    except ConfigFileError as error:
        terminal.fail(f"{config_file} is refused:\n{error}", code=2, lines=True)
    except (BadLogURL, ValueError) as error:  # ValueError: a setting that CONFIG SET would refuse
        terminal.fail(str(error), code=2)
    except LogError as error:
        terminal.fail(str(error))
    except OSError as error:
        if error.filename:  # of the settings, or one that they name
            terminal.fail(f"{error.filename}: {error.strerror}", code=2)
        terminal.fail(error.strerror or str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command()
def failover(
    node: Annotated[str, typer.Option(metavar="HOST:PORT", help="Any node of the log; it knows the primary.")] = (
        "127.0.0.1:6379"
    ),
    to: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="The node that takes over. [dim]\\[default: the one that is furthest][/dim]",
            show_default=False,
        ),
    ] = "",
    timeout_ms: Annotated[int, typer.Option(min=1, metavar="MS", help="Give up when it takes longer.")] = 5000,
    password: Annotated[
        str, typer.Option(envvar="EVENTDB_REQUIREPASS", help="The nodes' password.", show_default=False)
    ] = "",
    tls_ca_cert_file: options.TrustedFile = "",
    tls_cert_file: options.CertFile = "",
    tls_key_file: options.KeyFile = "",
) -> None:
    """Hand the primary's role to another node, for an upgrade say: writes wait a moment, none is lost.

    What reaches the old primary afterwards is answered with -READONLY; clients then look for the new one. Nothing is
    handed to a node that has not been heard of for a second, or is a second behind.

    The old primary becomes a replica. Exit code 1: it was not handed over, or nobody can tell.
    """
    from eventdb.cli.failover import Refused, hand_over, trusting
    from eventdb.security.tls import TlsError

    try:
        tls = trusting(tls_ca_cert_file, tls_cert_file, tls_key_file)
        old, new, seconds = hand_over(node, to, timeout_ms, password, tls)
    except TlsError as error:
        terminal.fail(f"--{error}", code=2)
    except Refused as error:
        terminal.fail(str(error))
    typer.echo(f"{new} is the primary now; {old} follows it ({seconds * 1000:.0f} ms)")


@app.command()
def status(
    host: options.Host = "127.0.0.1",
    port: options.Port = 6379,
    user: options.User = "",
    password: options.Password = "",
    tls_ca_cert_file: options.TrustedFile = "",
    tls_cert_file: options.CertFile = "",
    tls_key_file: options.KeyFile = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how a running node and its log do: role, lag, zones, memory, clients, and what to do about what is wrong.

    Exit code 0: all is well. 1: there are warnings. 2: the node does not answer, or cannot serve.
    """
    import json

    from eventdb.cli import status as looking
    from eventdb.cli.failover import Refused, trusting
    from eventdb.security.tls import TlsError

    try:
        found = looking.ask(host, port, user, password, trusting(tls_ca_cert_file, tls_cert_file, tls_key_file))
    except TlsError as error:
        terminal.fail(f"--{error}", code=2)
    except Refused as error:
        terminal.fail(str(error), code=looking.DOWN)
    if as_json:
        typer.echo(json.dumps({"facts": found.facts, "warnings": found.warnings, "code": found.code}))
    else:
        if found.facts:
            terminal.facts([(name, value) for name, value in found.facts])
        for warning in found.warnings:
            typer.echo(f"warning: {warning}")
    raise typer.Exit(found.code)


def _settings(items: list[str]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:  # it may hold a password, so it is not shown
            terminal.fail("--config takes NAME=VALUE: one that was given has no = or no name", code=2)
        settings[name] = value
    return settings


def _given(options: dict[str, str | int | None]) -> dict[str, str]:
    """Those of them that were given, as settings."""
    return {name: str(value) for name, value in options.items() if value not in ("", None)}


app.command("restore", epilog=restoring.EXAMPLES)(restoring.restore)
app.command("export", epilog=rdb.EXPORT_EXAMPLES)(rdb.export)
app.command("import", epilog=moving_in.EXAMPLES)(moving_in.import_)
app.command("top", epilog=top.EXAMPLES)(top.top)
app.command("snapshotter", epilog=snapshotter.EXAMPLES)(snapshotter.snapshotter)
