"""`eventdb keys generate | list | rotate | rewrap | verify`: the keyring that encrypts logs and snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from eventdb.cli import terminal

if TYPE_CHECKING:
    from eventdb.backends import Log
    from eventdb.backends.keyrings import Contents
    from eventdb.backends.seal import Survey

EXAMPLES = """
[bold]Examples[/bold]

Begin: make a keyring with one key, give every node a copy of it, and then let the key seal what is new:
[cyan]eventdb keys generate --keys file:/etc/eventdb/keys.json[/cyan]
[cyan]eventdb keys rotate --keys file:/etc/eventdb/keys.json[/cyan]

Is every key there that the log needs?
[cyan]eventdb keys verify --keys file:/etc/eventdb/keys.json --log quorum:./data[/cyan]
"""

keys = typer.Typer(
    help="Keys that encrypt the log: make, list, rotate, wrap and verify them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=EXAMPLES,
)

KeysURL = Annotated[
    str,
    typer.Option(
        "--keys",
        metavar="URL",
        envvar="EVENTDB_ENCRYPTION_KEYS",
        help="The keyring: file:PATH, env:NAME or command:LINE; only one in a file can be changed.",
    ),
]
WrappedBy = Annotated[
    str,
    typer.Option(
        metavar="URL",
        help="Key-encryption key that wraps it: file:PATH, env:NAME, command:LINE (64 hex digits), or a plugin's URL.",
        show_default=False,
    ),
]


@contextmanager
def _told() -> Iterator[None]:
    """Whatever is wrong with keys is one line and exit code 1."""
    from eventdb.backends import LogError

    try:
        yield
    except LogError as error:
        terminal.fail(f"{error}")
    except OSError as error:
        terminal.fail(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))


@keys.command()
def generate(url: KeysURL, wrapped_by: WrappedBy = "") -> None:
    """Add a random data key; nothing is sealed with it before `rotate`. A keyring that is not there is made.

    Give the keyring to every node, and to your backups, before you rotate: without it what is sealed is lost.
    """
    from eventdb.backends.keyrings import changing

    with _told(), changing(url, make=True) as contents:
        key_id = contents.add(wrapped_by)
    typer.echo(f"key {key_id} is in {url}")
    terminal.hint("give it to every node, then: eventdb keys rotate")


@keys.command("list")
def list_keys(url: KeysURL) -> None:
    """Show each key: its id, when it was made, what wraps it, and whether it can be opened. Never the key."""
    from eventdb.backends.keyrings import contents_of
    from eventdb.backends.seal import Keyring

    with _told():
        contents = contents_of(url)
    bad = False
    for key_id, entry in sorted(contents.entries.items()):
        state = _state(contents, key_id)
        bad = bad or state != "ok"
        mark = "*" if key_id == contents.active else " "
        typer.echo(f"{mark} {key_id:5}  {entry.made:20}  {entry.wrapped_by or 'not wrapped'}  {state}")
    if contents.active:
        terminal.hint(f"* seals what is new: key {contents.active}")
    else:
        terminal.hint("no key seals what is new yet: eventdb keys rotate")
    with _told():
        Keyring(contents.key_set())
    if bad:
        raise typer.Exit(1)


def _state(contents: Contents, key_id: int) -> str:
    from eventdb.backends.seal import BadKeys

    try:
        contents.key(key_id)
    except BadKeys as error:
        return f"cannot be opened: {error}"
    return "ok"


@keys.command()
def rotate(
    url: KeysURL,
    to: Annotated[int | None, typer.Option(metavar="ID", help="[default: the newest]", show_default=False)] = None,
) -> None:
    """Let the newest key seal what is new. A running primary does so within seconds; older keys stay for reading."""
    from eventdb.backends.keyrings import changing

    with _told(), changing(url) as contents:
        key_id = max(contents.entries, default=0) if to is None else to
        if key_id not in contents.entries:
            terminal.fail(f"{url} has no key {key_id}: eventdb keys generate" if key_id else f"{url} has no key")
        contents.key(key_id)
        before, contents.active = contents.active, key_id
    typer.echo(f"key {key_id} seals what is new" + (f", where key {before} did" if before not in (0, key_id) else ""))


@keys.command()
def rewrap(url: KeysURL, wrapped_by: WrappedBy = "") -> None:
    """Wrap every key with another key-encryption key; without --wrapped-by with none. No log is touched.

    That is what rotating a key-encryption key takes, because it encrypts nothing but these keys.
    """
    from eventdb.backends.keyrings import changing

    with _told(), changing(url) as contents:
        for key_id in contents.entries:
            contents.rewrap(key_id, wrapped_by)
    typer.echo(f"{len(contents.entries)} keys are {f'wrapped by {wrapped_by}' if wrapped_by else 'not wrapped'}")


@keys.command()
def verify(
    url: KeysURL,
    log: Annotated[str, typer.Option("--log", metavar="URL", envvar="EVENTDB_LOG", help="The log to read.")],
    store: Annotated[
        str, typer.Option("--store", metavar="URL", help="Snapshots to look at.", show_default=False)
    ] = "",
) -> None:
    """Read the whole log: which keys it needs, and whether each of them opens all that it has sealed.

    With --store also which keys the snapshots need. Exit code 1 if one is missing or does not open something. A key
    that no log and no snapshot needs any more can be taken out of the keyring.
    """
    from eventdb.backends import open_log
    from eventdb.backends.keyrings import contents_of
    from eventdb.backends.seal import Survey

    with _told():
        survey = Survey(contents_of(url).key_set())
        source = open_log(log, foresee=True, keys=survey)
    clear = terminal.run(_read(source, survey))
    typer.echo(f"not sealed: {clear} frames")
    for key_id, frames in sorted(survey.frames.items()):
        typer.echo(f"key {key_id}: {frames} frames, {survey.failed.get(key_id, 'all opened')}")
    for key_id in survey.ids():
        if key_id not in survey.frames:
            typer.echo(f"key {key_id}: not needed by this log")
    needed = terminal.run(_needed(store)) if store else {}
    missing = [key_id for key_id in needed if key_id not in survey.ids()]
    for key_id, snapshots in sorted(needed.items()):
        state = f"{snapshots} snapshots" + (", and it is not there" if key_id in missing else "")
        typer.echo(f"key {key_id}: {state}")
    if survey.failed or missing:
        raise typer.Exit(1)


async def _needed(url: str) -> dict[int, int]:
    """How many of the snapshots in a store are sealed with each key."""
    from eventdb.replay.manifest import Manifest
    from eventdb.replay.snapshots import listed
    from eventdb.replay.stores import open_store

    store = open_store(url)
    needed: dict[int, int] = {}
    try:
        for found in await listed(store):
            if isinstance(found, Manifest) and found.key_id:
                needed[int(found.key_id)] = needed.get(int(found.key_id), 0) + 1
    finally:
        await store.close()
    return needed


async def _read(log: Log, survey: Survey) -> int:
    """Read all of the log; how many frames of it are not sealed."""
    from eventdb.replay.reading import reading

    found = await terminal.existing(log)
    try:
        async with reading(log, found.first_position) as stretches:
            async for _stretch in stretches:
                pass
    finally:
        await log.close()
    return survey.clear
