"""`eventdb snapshot …`: make, look at, prove, copy, export, delete and prune snapshots."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from eventdb.backends.discreet import discreet
from eventdb.cli import rdb, terminal

if TYPE_CHECKING:
    from eventdb.backends import Log
    from eventdb.replay.cut import To
    from eventdb.replay.manifest import Manifest
    from eventdb.replay.snapshots import Damaged
    from eventdb.replay.stores import SnapshotStore
    from eventdb.replay.trimming import Window

T = TypeVar("T")

EXAMPLES = """
[bold]Examples[/bold]

[cyan]eventdb snapshot create --log quorum:./data --store ./snapshots[/cyan]

[cyan]eventdb snapshot list --store s3://backups/db[/cyan]   (credentials: AWS_ACCESS_KEY_ID …, AWS_ENDPOINT_URL)

[cyan]eventdb snapshot verify newest --store s3://backups/db[/cyan]

[cyan]eventdb snapshot copy --store ./snapshots --into s3://backups/db[/cyan]

[cyan]eventdb snapshot export newest --store ./snapshots --rdb dump.rdb[/cyan]

[cyan]eventdb snapshot prune --store ./snapshots --log quorum:./data --keep 24h:1h,35d:1d --dry-run[/cyan]
"""

snapshots = typer.Typer(
    help="Make snapshots of a log, prove them, copy them, and remove old ones.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="rich",
)

StoreURL = Annotated[
    str,
    typer.Option(
        "--store", metavar="URL", envvar="EVENTDB_STORE", help="Where snapshots are: a directory, s3://BUCKET/PREFIX …"
    ),
]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help='A name as `list` shows it, an offset, or "newest".', show_default=False)
]
AsJSON = terminal.AsJSON


def _with_store(url: str, work: Callable[[SnapshotStore], Awaitable[T]]) -> T:
    """Open the store, work, close it; what goes wrong is one line."""

    async def working() -> T:
        async with terminal.opened_store(url) as store:
            assert store is not None
            return await work(store)

    return terminal.run(working())


@snapshots.command()
def create(
    log: rdb.LogURL,
    store: StoreURL,
    to_offset: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="The state after transaction N. \\[default: now]", show_default=False),
    ] = None,
    to_time: Annotated[
        str | None, typer.Option(metavar="T", help="The state at a time, as for restore.", show_default=False)
    ] = None,
    to_mark: Annotated[
        str | None, typer.Option(metavar="NAME", help="The state at the newest mark of that name.", show_default=False)
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Make a snapshot, read it back, load it, compare its digest, and only then let it count.

    The log is only read; a server may go on writing to it. A run that is interrupted leaves nothing that is ever
    listed: run it again. `eventdb restore --into STORE-URL` is the same.
    """
    from eventdb.cli.making import say_made
    from eventdb.cli.restoring import wanted_of

    wanted = wanted_of(to_offset, to_time, to_mark) if (to_offset, to_time, to_mark) != (None, None, None) else None
    source = terminal.open_source(log, foresee=False)

    async def work(opened: SnapshotStore) -> Manifest:
        from eventdb.cli.making import snapshot
        from eventdb.history.marks import resolved

        try:
            to: To | None = None if wanted is None else await resolved(source, wanted, opened)
            return await snapshot(source, opened, to)
        finally:
            await source.close()

    began = time.monotonic()
    made = _with_store(store, work)
    if as_json:
        typer.echo(json.dumps(facts_of(made)))
        return
    say_made(made, store)
    terminal.hint(f"{made.key_count:,} keys in {time.monotonic() - began:.1f} s")


@snapshots.command("list")
def list_(store: StoreURL, as_json: AsJSON = False) -> None:
    """List the snapshots of a store, newest first, with what proves each. Exit code 1: some are damaged."""
    from eventdb.replay.manifest import Manifest
    from eventdb.replay.snapshots import listed

    found = _with_store(store, listed)
    damaged = [each for each in found if not isinstance(each, Manifest)]
    if as_json:
        typer.echo(json.dumps([facts_of(each) for each in found]))
    else:
        _print_list(store, found)
    if damaged:
        terminal.fail(
            f"{len(damaged)} of {len(found)} snapshots cannot be used; `eventdb snapshot delete NAME` removes one"
        )


def _print_list(url: str, found: list[Manifest | Damaged]) -> None:
    from eventdb.replay.manifest import Manifest
    from eventdb.replay.times import format_ms

    if not found:
        typer.echo(f"no snapshot in {discreet(url)}")
        return
    for each in found:
        if not isinstance(each, Manifest):
            typer.echo(f"{_stem(each)}  DAMAGED: {each.why}")
            continue
        proof = f"verified {format_ms(each.verified)}" if each.verified else "NOT VERIFIED"
        typer.echo(
            f"{each.name}  state of {format_ms(each.time_ms)}, {each.key_count:,} keys, {each.stored_bytes:,} bytes,"
            f" {proof}, digest {each.digest}"
        )


@snapshots.command()
def show(name: Name, store: StoreURL, as_json: AsJSON = False) -> None:
    """Show all that is known of one snapshot."""
    from eventdb.cli.making import pairs
    from eventdb.replay.snapshots import find

    found = _with_store(store, lambda opened: find(opened, name))
    if as_json:
        typer.echo(json.dumps(facts_of(found)))
    else:
        terminal.facts(pairs(found))


@snapshots.command()
def verify(
    store: StoreURL,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help='A name, an offset, or "newest". \\[default: all]', show_default=False)
    ] = "",
) -> None:
    """Rehearse a start: read every byte, load it, compare SHA-256, keys and digest. Exit code 1: findings."""
    from eventdb.backends.seal import CannotOpen
    from eventdb.replay import snapshots as proving
    from eventdb.replay.snapshots import NotProven, SnapshotDamaged

    async def work(opened: SnapshotStore) -> int:
        found = [await proving.find(opened, name)] if name else await proving.listed(opened)
        count = 0
        for each in found:
            why = each.why if isinstance(each, proving.Damaged) else ""
            if not isinstance(each, proving.Damaged):
                try:
                    with terminal.Display() as display:
                        await proving.verify(opened, each, terminal.make_view, display.report)
                except (SnapshotDamaged, NotProven, CannotOpen) as error:
                    why = str(error)
            typer.echo(f"{_stem(each)}  {why or 'sound: loaded, digest ' + getattr(each, 'digest', '')}")
            count += bool(why)
        if not found:
            typer.echo(f"no snapshot in {discreet(store)}")
        return count

    count = _with_store(store, work)
    if count:
        terminal.fail(f"{count} snapshot{'s' if count > 1 else ''} in {discreet(store)} cannot be used")


@snapshots.command()
def copy(
    store: StoreURL,
    into: Annotated[str, typer.Option("--into", metavar="URL", help="The store to copy to.", show_default=False)],
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="One snapshot. \\[default: all that the target lacks]", show_default=False),
    ] = "",
) -> None:
    """Copy snapshots to another store, in another region say, and read back what was written there.

    A copy that was interrupted goes on where it was: run it again. Exit code 1: some are damaged, and stayed behind.
    """
    from eventdb.replay import snapshots as copying
    from eventdb.replay.stores import BadStoreURL, open_store

    try:
        target = open_store(into)
    except BadStoreURL as error:
        terminal.fail(str(error), code=2)

    async def work(opened: SnapshotStore) -> copying.Copied:
        try:
            with terminal.Display() as display:
                return await copying.copy(opened, target, name, display.report)
        finally:
            await target.close()

    done = _with_store(store, work)
    for each in done.copied:
        typer.echo(f"copied {each.name} ({each.stored_bytes:,} bytes)")
    for damaged in done.refused:
        typer.echo(f"not copied: {_stem(damaged)}, damaged: {damaged.why}")
    if done.refused:
        count = len(done.refused)
        terminal.fail(f"{count} snapshot{'s' if count > 1 else ''} in {discreet(store)} cannot be copied")
    if not done.copied:
        typer.echo(f"nothing to copy: {discreet(into)} has it all")


@snapshots.command()
def export(
    name: Name,
    store: StoreURL,
    file: Annotated[Path, typer.Option("--rdb", metavar="FILE", help="The file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Put it in place of a file that exists.")] = False,
) -> None:
    """Write a snapshot as a plain RDB file, which Redis 7.0 and later and Valkey load."""
    from eventdb.replay import snapshots as exporting

    if file.exists() and not overwrite:
        terminal.fail(f"{file} exists: --overwrite puts the new file in its place")

    async def work(opened: SnapshotStore) -> tuple[Manifest, int]:
        found = await exporting.find(opened, name)
        with rdb.appearing(file, overwrite) as target:
            return found, await exporting.export(opened, found, target.write)

    found, size = _with_store(store, work)
    typer.echo(f"exported snapshot {found.name} to {file}")
    terminal.facts([("offset", found.offset), ("keys", found.key_count), ("bytes", size)])


LogOfThem = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="URL",
        envvar="EVENTDB_LOG",
        help="Their log: what its recovery window, or its trimmed beginning, needs stays.",
        show_default=False,
    ),
]
RecoveryWindow = Annotated[
    str, typer.Option(metavar="WINDOW", help="With --log: as the snapshotter has it (7d, 20gb, or both).")
]


@snapshots.command()
def delete(
    name: Name,
    store: StoreURL,
    log: LogOfThem = None,
    recovery_window: RecoveryWindow = "7d",
    force: Annotated[bool, typer.Option("--force", help="Even if it is needed.")] = False,
) -> None:
    """Delete one snapshot, damaged or not, by its full name.

    The newest verified one of a log is refused, and with --log any that the log needs.
    """
    from eventdb.replay import pruning
    from eventdb.replay import snapshots as deleting

    window = _window(recovery_window)

    async def work(opened: SnapshotStore) -> None:
        if name not in [_stem(each) for each in await deleting.listed(opened)]:
            terminal.fail(
                f"there is no snapshot of the full name {name!r} in {discreet(store)} (`eventdb snapshot list`)"
            )
        if not force:
            async with _their_log(log) as source:
                if why := await pruning.why_it_stays(opened, name, source, window):
                    terminal.fail(f"snapshot {name} was not deleted: {why}. --force deletes it all the same")
        await deleting.delete(opened, name)

    _with_store(store, work)
    typer.echo(f"deleted {name}")


@snapshots.command()
def prune(
    store: StoreURL,
    keep: Annotated[
        str,
        typer.Option(metavar="POLICY", help="24h:1h,35d:1d keeps one an hour for 24 hours, one a day for 35 days."),
    ] = "24h:1h,35d:1d",
    log: LogOfThem = None,
    recovery_window: RecoveryWindow = "7d",
    by_age_alone: Annotated[
        bool,
        typer.Option("--by-age-alone", help="Of all logs, by the policy alone: for a store beside the one in use."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
) -> None:
    """Delete old snapshots of a log by a policy, and data that interrupted runs have left.

    What the log needs stays, and so do the newest verified one, those of other logs, and damaged ones, which are left
    for you to look at.
    """
    from eventdb.replay import pruning
    from eventdb.replay.retention import BadPolicy

    if log is None and not by_age_alone:
        terminal.fail(
            "--log URL is missing: what that log needs must stay (--by-age-alone deletes what the policy does not"
            " keep, whatever a log may need)",
            code=2,
        )
    window = _window(recovery_window)

    async def work(opened: SnapshotStore) -> pruning.Pruned:
        async with _their_log(None if by_age_alone else log) as source:
            return await pruning.prune(opened, keep, log=source, window=window, dry_run=dry_run)

    try:
        done = _with_store(store, work)
    except BadPolicy as error:
        terminal.fail(f"--keep {error}", code=2)
    verb = "would delete" if dry_run else "deleted"
    for each in done.deleted:
        typer.echo(f"{verb} {each.name}")
    for name in done.left_over:
        typer.echo(f"{verb} {name}, which has no manifest")
    for damaged in done.damaged:
        typer.echo(f"left as it is: {_stem(damaged)}, damaged: {damaged.why}")
    for name, why in done.needed.items():
        typer.echo(f"not deleted: {name}: {why}")
    typer.echo(f"{len(done.kept)} kept, {len(done.deleted)} {verb}")
    if done.others:
        terminal.hint(f"{done.others} of other logs were left as they are")


def _window(text: str) -> Window:
    from eventdb.replay.trimming import BadWindow, parse_window

    try:
        return parse_window(text)
    except BadWindow as error:
        terminal.fail(f"--recovery-window {error}", code=2)


@asynccontextmanager
async def _their_log(url: str | None) -> AsyncIterator[Log | None]:
    if url is None:
        yield None
        return
    source = terminal.open_source(url)
    try:
        await terminal.existing(source)
        yield source
    finally:
        await source.close()


def _stem(found: Manifest | Damaged) -> str:
    return found.name.removesuffix(".json")


def facts_of(found: Manifest | Damaged) -> dict[str, Any]:
    """For JSON: `damaged` is what is wrong, or ""."""
    from dataclasses import asdict

    facts = asdict(found)
    return {**facts, "name": _stem(found), "damaged": facts.pop("why", "")}
