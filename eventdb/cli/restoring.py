"""The command line of `eventdb restore`: into a new log, a store of snapshots, a file, or in place."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventdb.cli import rdb, terminal

if TYPE_CHECKING:
    from eventdb.keyspace.choice import Choice
    from eventdb.replay.cut import Wanted

EXAMPLES = """
[bold]Examples[/bold]

[cyan]eventdb restore --log quorum:./data --to-offset 51200 --into quorum:./restored[/cyan]

[cyan]eventdb restore --log quorum:./data --to-time 2026-01-31T14:05:00Z --into quorum:./restored[/cyan]

[cyan]eventdb restore --log quorum:./data --to-time "2 hours ago" --dry-run[/cyan]

[cyan]eventdb restore --log quorum:./data --to-mark before-deploy --into s3://backups/db[/cyan]   (a snapshot)

[cyan]eventdb serve --log quorum:./restored --port 6380[/cyan]   (then look at the result)

The running primary goes back to a mark, all of it or some keys; each of it can be undone:
[cyan]eventdb restore --in-place --to-mark before-deploy --dry-run[/cyan]
[cyan]eventdb restore --in-place --to-mark before-deploy --keys 'user:*'[/cyan]
"""

Log = Annotated[
    str | None,
    typer.Option("--log", metavar="URL", envvar="EVENTDB_LOG", help="The log to restore from.", show_default=False),
]
ToOffsetOption = Annotated[
    int | None, typer.Option("--to-offset", metavar="N", min=1, help="Up to transaction N, N included.")
]
ToTimeOption = Annotated[
    str | None,
    typer.Option(
        "--to-time",
        metavar="T",
        help="Up to the last transaction committed at or before T: ISO 8601 with a zone, Unix seconds, or words"
        ' such as "10 minutes ago".',
    ),
]
ToMarkOption = Annotated[
    str | None, typer.Option("--to-mark", metavar="NAME", help="Up to the newest mark of that name (EVENTDB.MARK).")
]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--keys",
        metavar="PATTERN",
        help="Only keys that match, as for KEYS; may be repeated. A new log then begins with them as its offset 1, and"
        " has no users, functions, marks and outcomes.",
    ),
]
DbOption = Annotated[
    int | None, typer.Option("--db", metavar="N", min=0, max=15, help="Only this database; as --keys.")
]
Into = Annotated[
    str | None,
    typer.Option(
        "--into",
        metavar="URL",
        help="A new log, or a file that ends in .rdb, neither of which may exist yet; or a store of snapshots, which"
        " gets one more: file:DIR, s3://BUCKET/PREFIX …",
    ),
]
InPlace = Annotated[
    bool,
    typer.Option(
        "--in-place",
        help="The primary at --node takes the old state as one transaction at the end of its history. Users, marks and"
        " outcomes stay; functions too, with --keys or --db.",
    ),
]


TlsCa = Annotated[
    str,
    typer.Option(
        metavar="FILE", help="With --in-place: speak TLS, and trust this authority (PEM).", show_default=False
    ),
]
TlsCert = Annotated[
    str, typer.Option(metavar="FILE", help="A certificate, for a node that asks for one (PEM).", show_default=False)
]
TlsKey = Annotated[str, typer.Option(metavar="FILE", help="The certificate's key (PEM).", show_default=False)]


def restore(
    log: Log = None,
    to_offset: ToOffsetOption = None,
    to_time: ToTimeOption = None,
    to_mark: ToMarkOption = None,
    to_latest: Annotated[bool, typer.Option("--to-latest", help="Everything that is durable now.")] = False,
    keys: Keys = None,
    db: DbOption = None,
    into: Into = None,
    in_place: InPlace = False,
    node: Annotated[str, typer.Option(metavar="HOST:PORT", help="With --in-place: the primary.")] = "127.0.0.1:6379",
    user: Annotated[str, typer.Option(help="With --in-place: the user to ask as.", show_default=False)] = "",
    password: Annotated[
        str, typer.Option(envvar="EVENTDB_REQUIREPASS", help="With --in-place: the password.", show_default=False)
    ] = "",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only show where the cut is; with --in-place, how many keys would change."),
    ] = False,
    tls_ca_cert_file: TlsCa = "",
    tls_cert_file: TlsCert = "",
    tls_key_file: TlsKey = "",
    full: Annotated[bool, typer.Option("--full", help="With --dry-run: show long values to their end.")] = False,
    store: rdb.StoreURL = None,
) -> None:
    """Copy a log up to an exact offset, time or mark into a new log, and prove the copy; or undo in place.

    The source is only read; a server may go on writing to it. With --store a restore begins with the nearest
    snapshot, and the new log counts its offsets anew. Into a store it makes a snapshot of that state of this log.

    The target is read back and compared before it counts: a restore that was interrupted leaves a target that every
    server refuses. Run it again: it begins anew (a Kafka topic has to be deleted first).
    """
    from eventdb.keyspace.choice import Choice

    wanted = wanted_of(to_offset, to_time, to_mark, to_latest)
    choice = Choice(tuple(pattern.encode("utf-8", "surrogateescape") for pattern in keys or ()), db)
    if in_place:
        if into is not None or to_latest:
            terminal.fail("--in-place goes with neither --into nor --to-latest", code=2)
        _in_place(wanted, choice, node, (user, password), (tls_ca_cert_file, tls_cert_file, tls_key_file), dry_run)
        return
    if log is None:
        terminal.fail("--log URL is missing: which log?", code=2)
    if into is None and not dry_run:
        terminal.fail(
            "--into URL is missing: where should the restored log go? (--dry-run only looks, --in-place undoes)", code=2
        )
    _into(log, wanted, choice, into, dry_run, full, store)


def wanted_of(to_offset: int | None, to_time: str | None, to_mark: str | None, to_latest: bool | None = None) -> Wanted:
    """The one place that was asked for; to_latest: None where there is no such option. Two of them are a mistake."""
    from eventdb.replay.cut import ToLatest, ToMark, ToOffset, ToTime

    if (to_offset is not None) + (to_time is not None) + (to_mark is not None) + bool(to_latest) != 1:
        latest = "" if to_latest is None else ", --to-latest"
        terminal.fail(f"give exactly one of --to-offset N, --to-time T, --to-mark NAME{latest}", code=2)
    if to_offset is not None:
        return ToOffset(to_offset)
    if to_time is not None:
        return ToTime(terminal.moment(to_time))
    return ToLatest() if to_mark is None else ToMark(to_mark.encode("utf-8", "surrogateescape"))


def _into(
    log: str, wanted: Wanted, choice: Choice, into: str | None, dry_run: bool, full: bool, store: str | None
) -> None:
    from eventdb.cli.making import to_snapshot
    from eventdb.cli.restore import dry, part, real
    from eventdb.history.marks import resolved

    kind = "" if into is None else _kind(into)
    if kind == "store" and not choice.is_all():
        terminal.fail(
            "a snapshot is the whole state of its log, and a node would start from it: restore --keys or --db into a"
            " new log (quorum:DIR), of which `eventdb snapshot create` makes one, or into a file (FILE.rdb)",
            code=2,
        )
    if kind == "file" and into is not None and Path(into).exists() and not dry_run:
        terminal.fail(f"{into} exists")
    source = terminal.open_source(log, foresee=kind != "store")
    target = terminal.open_source(into) if into is not None and kind == "log" else None

    async def work() -> None:
        await terminal.existing(source)
        async with terminal.opened_store(into if kind == "store" else None) as snapshots:
            async with terminal.opened_store(store) as known:
                to = await resolved(source, wanted, known or snapshots)
            if dry_run:
                await dry(source, target, to, full=full, store_url=store)
            elif into is not None and snapshots is not None:
                await to_snapshot(source, snapshots, into, to, store_url=store)
            elif into is not None and kind == "file":
                await rdb.export_to(source, to, Path(into), False, store, choice)
            elif target is not None and choice.is_all():
                await real(source, target, to, store_url=store)
            elif target is not None:
                await part(source, target, to, choice, store_url=store)

    terminal.run(work())


def _kind(into: str) -> str:
    """What the URL names: "log", "store" or "file". One that is none of them ends the command."""
    from eventdb.backends.registry import known, schemes
    from eventdb.replay.stores import BadStoreURL, open_store

    scheme, colon, _ = into.partition(":")
    if colon and scheme.lower() in schemes():
        return "log"
    if not colon and into.endswith(".rdb"):
        return "file"
    if not colon:  # a log whose scheme was forgotten must not become a folder of snapshots
        terminal.fail(
            f"{into!r} is no log URL: write quorum:{into} for a log, file:{into} for a snapshot in that directory",
            code=2,
        )
    try:
        open_store(into)
    except BadStoreURL as error:
        terminal.fail(f"--into is neither a log ({known()}), nor FILE.rdb, nor a store of snapshots: {error}", code=2)
    return "store"


def _in_place(
    wanted: Wanted, choice: Choice, node: str, who: tuple[str, str], tls: tuple[str, str, str], dry_run: bool
) -> None:
    from eventdb.cli.failover import Connection, Refused, trusting
    from eventdb.replay.cut import ToMark, ToOffset, ToTime
    from eventdb.security.tls import TlsError

    words = ["EVENTDB.RESTORE", "TO"]
    if isinstance(wanted, ToOffset):
        words += ["OFFSET", str(wanted.offset)]
    elif isinstance(wanted, ToTime):
        words += ["TIME", str(wanted.time_ms)]
    elif isinstance(wanted, ToMark):
        words += ["MARK", _argument(wanted.name)]
    if choice.db is not None:
        words += ["DB", str(choice.db)]
    if dry_run:
        words.append("DRYRUN")
    if choice.patterns:
        words += ["KEYS", *map(_argument, choice.patterns)]
    try:
        with closing(Connection(node, who[1], trusting(*tls), who[0])) as connection:
            connection.wait_long()
            reply = connection.ask(*words)
    except TlsError as error:
        terminal.fail(f"--{error}", code=2)
    except Refused as error:
        terminal.fail(str(error))
    facts: dict[str, int] = dict(zip(reply[::2], reply[1::2], strict=True))
    names = ("changed", "appeared", "vanished", "functions")
    counts: list[tuple[str, object]] = [(name, f"{facts[name]:,}") for name in names]
    if dry_run:
        typer.echo(f"would bring {choice.describe()} back to offset {facts['cut']}; nothing was written")
        terminal.facts(counts)
        return
    if facts["offset"] == facts["before"]:
        typer.echo(f"{choice.describe()}: nothing differs from offset {facts['cut']}, so nothing was written")
        return
    typer.echo(f"{choice.describe()}: as at offset {facts['cut']}, by transaction {facts['offset']}")
    terminal.facts([*counts, ("writes waited", f"{facts['paused-ms']} ms")])
    same = "".join([f" --keys {_quoted(pattern)}" for pattern in choice.patterns])
    same += "" if choice.db is None else f" --db {choice.db}"
    terminal.hint(f"undo it: eventdb restore --in-place --node {node} --to-offset {facts['before']}{same}")


def _argument(word: bytes) -> str:
    """As the command line gave it; bytes that are no UTF-8 pass through as they came."""
    return word.decode("utf-8", "surrogateescape")


def _quoted(word: bytes) -> str:
    """For a shell, which has a form of its own for what cannot be printed."""
    text = _argument(word)
    if text.isprintable():
        return "'" + text.replace("'", "'\\''") + "'"
    return "$'" + "".join([chr(c) if 32 <= c < 127 and c not in b"'\\" else f"\\x{c:02x}" for c in word]) + "'"
