"""EVENTDB.*: what only a database with a history can be asked."""

from __future__ import annotations

from eventdb.client import Client
from eventdb.registry import command
from eventdb.resp import NO_REPLY, array, bulk, integer


@command(
    "EVENTDB.OFFSET", arity=1, flags="noscript loading stale fast", acl="connection", since="7.0.0", group="server",
    tips="nondeterministic_output",
    summary="Tells the offset of this connection's last write (0: none), and the durable offset.",
)  # fmt: skip
def eventdb_offset(client: Client, argv: list[bytes]) -> bytes:
    """The reply leaves when that write is durable, so the durable offset is never below the first number."""
    commit = client.engine.commit
    reply = array([integer(client.last_offset), integer(max(client.last_offset, commit.durable_offset))])
    return after_own_writes(client, reply)


def after_own_writes(client: Client, reply: bytes) -> bytes:
    """Answer once everything this client has written is durable; inside EXEC, with the EXEC itself."""
    batch = client.pending_batch()
    if batch is None or client.engine.in_exec:
        return reply
    client.hold(batch, reply)
    return NO_REPLY


@command(
    "EVENTDB.DIGEST", arity=1, flags="readonly", whole=True, since="7.0.0", group="server",
    complexity="O(N) where N is the size of all data: the server does nothing else meanwhile",
    summary="Tells a hash of the whole state, the same on every node and snapshot that has the same offset.",
)  # fmt: skip
def eventdb_digest(client: Client, argv: list[bytes]) -> bytes:
    return bulk(client.engine.digest().encode())
