"""Options of the commands that ask a running node."""

from __future__ import annotations

from typing import Annotated

import typer

Host = Annotated[str, typer.Option(help="Where the node listens.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Its port.")]
User = Annotated[
    str, typer.Option(help="The user to ask as. [dim]\\[default: the default user][/dim]", show_default=False)
]
Password = Annotated[str, typer.Option(envvar="EVENTDB_REQUIREPASS", help="The user's password.", show_default=False)]
TrustedFile = Annotated[
    str, typer.Option(metavar="FILE", help="Speak TLS, and trust this authority (PEM).", show_default=False)
]
CertFile = Annotated[
    str, typer.Option(metavar="FILE", help="A certificate for nodes that ask for one (PEM).", show_default=False)
]
KeyFile = Annotated[str, typer.Option(metavar="FILE", help="Its private key (PEM).", show_default=False)]
