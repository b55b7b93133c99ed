"""Names of connections."""

from __future__ import annotations

from typing import Final

from eventdb.engine.client import Client
from eventdb.protocol.errors import ReplyError

BAD_NAME: Final = "ERR Client names cannot contain spaces, newlines or special characters."


def check_name(name: bytes, message: str = BAD_NAME) -> None:
    """CLIENT LIST separates by spaces and lines, so only printable characters but the space may be in a name."""
    for c in name:
        if not 33 <= c <= 126:
            raise ReplyError(message)


def set_name(client: Client, name: bytes) -> None:
    """Name the connection; the name goes into the origin of its transactions. Raises ReplyError."""
    check_name(name)
    client.name = name
    client.set_origin()
