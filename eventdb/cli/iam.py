"""`eventdb iam token`: a token to log in with, as a program's AWS library makes it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventdb.cli import terminal

if TYPE_CHECKING:
    from eventdb.security.policies import AccessKey

app = typer.Typer(no_args_is_help=True, help="Tokens of users that log in with IAM.", rich_markup_mode="rich")

EXAMPLES = """
[bold]Examples[/bold]

[cyan]redis-cli --user alice --pass "$(eventdb iam token --cluster shop --user alice --region eu-central-1)"[/cyan]

[cyan]eventdb iam token --cluster shop --user alice --region eu-central-1 --key-file keys.json --key-id AKIDALICE[/cyan]
"""


@app.command(epilog=EXAMPLES)
def token(
    cluster: Annotated[str, typer.Option(metavar="NAME", help="The cluster: iam-cluster-name of its nodes.")],
    user: Annotated[str, typer.Option(metavar="NAME", help="The user to log in as.")],
    region: Annotated[str, typer.Option(metavar="NAME", envvar="AWS_REGION", help="The region to sign for.")],
    service: Annotated[str, typer.Option(help="memorydb or elasticache.")] = "memorydb",
    serverless: Annotated[bool, typer.Option("--serverless", help="For a serverless cache of ElastiCache.")] = False,
    expires: Annotated[int, typer.Option(metavar="SECONDS", min=1, max=900, help="How long it is good for.")] = 900,
    key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Take the access key from this file (iam-key-file).", show_default=False),
    ] = None,
    key_id: Annotated[
        str, typer.Option(metavar="ID", help="Which of its keys; needless where it holds one.", show_default=False)
    ] = "",
) -> None:
    """Print a token that logs a user in for the next minutes.

    The access key is that of the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN), or one of a
    file. Nothing is sent anywhere.
    """
    from eventdb.security.iam import SERVICES, make
    from eventdb.security.policies import AccessKey

    if service not in SERVICES:
        terminal.fail(f"--service is one of {', '.join(SERVICES)}", 2)
    if key_file is not None:
        key = _from_file(key_file, key_id)
    else:
        given = os.environ.get("AWS_ACCESS_KEY_ID", ""), os.environ.get("AWS_SECRET_ACCESS_KEY", "")
        if not all(given):
            terminal.fail("no access key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --key-file")
        key = AccessKey(*given, os.environ.get("AWS_SESSION_TOKEN", ""))
    print(make(cluster, user, key, region=region, service=service, expires_s=expires, serverless=serverless))


def _from_file(path: Path, key_id: str) -> AccessKey:
    from eventdb.security.policies import BadKeys, read_keys

    try:
        keys = read_keys(path.read_text())
    except (OSError, BadKeys, UnicodeDecodeError) as error:
        terminal.fail(f"{path} cannot be read: {error}")
    if key_id and key_id not in keys:
        terminal.fail(f"{path} holds no access key {key_id}")
    if not key_id and len(keys) != 1:
        terminal.fail(f"{path} holds {len(keys)} access keys: say which one with --key-id")
    return keys[key_id] if key_id else next(iter(keys.values()))
