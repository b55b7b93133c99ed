"""What eventdb adds to Redis: positions in history and the digest of the state."""

from __future__ import annotations

from eventdb.client import Client
from eventdb.registry import command
from eventdb.resp import array, bulk, integer


@command(
    "EVENTDB.OFFSET", arity=1, flags="fast loading stale", acl="connection", group="connection", since="0.1.0",
    summary="Returns the offset of this connection's last write, and the durable offset of the node.",
)  # fmt: skip
def offset(client: Client, argv: list[bytes]) -> bytes:
    """[last, durable]: `last` is 0 before the connection's first write. Behind a pipelined write it waits with it."""
    return array([integer(client.last_offset), integer(client.engine.commit.durable_offset)])


@command(
    "EVENTDB.DIGEST", arity=1, flags="readonly", whole=True, acl="dangerous", group="server", since="0.1.0",
    complexity="O(N) where N is the number of bytes in all keys and values",
    summary="Returns a hash of the whole state that is the same wherever the same history was replayed.",
)  # fmt: skip
def digest(client: Client, argv: list[bytes]) -> bytes:
    """32 hexadecimal digits. Blocks the server while it runs, about a second per million small keys."""
    return bulk(client.engine.digest().encode())
