"""EVENTDB.*: what only a database with a history can be asked."""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.durability import after_own_writes
from eventdb.commands.shared.timeouts import parse_milliseconds
from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.registry import server_command
from eventdb.protocol.errors import TIMEOUT_OUT_OF_RANGE, ReplyError, syntax_error
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import array, bulk, integer, null

TIMEOUT_MS_MAX: Final = 1 << 40  # 35 years; what timers take without overflowing


@server_command(
    "EVENTDB.OFFSET", arity=1, flags="noscript loading stale fast", acl="connection", since="7.0.0", group="server",
    tips="nondeterministic_output",
    summary="Tells the offset of this connection's last write (0: none), and the durable offset.",
)  # fmt: skip
def eventdb_offset(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    """The reply leaves when that write is durable, so the durable offset is never below the first number."""
    commit = engine.commit
    reply = array([integer(client.last_offset), integer(max(client.last_offset, commit.durable_offset))])
    return after_own_writes(engine, client, reply)


@server_command(
    "EVENTDB.WAITFOR", arity=-2, flags="noscript blocking", acl="connection", since="7.0.0", group="server",
    tips="nondeterministic_output",
    summary="Waits until this node has that offset, at most so many ms (0: for ever); nil when the time is up.",
)  # fmt: skip
def eventdb_waitfor(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    """EVENTDB.WAITFOR offset [milliseconds] -> the offset this node has, not below the one asked for; nil: not yet.

    With the first number of EVENTDB.OFFSET on the primary, a read behind it on a replica sees one's own writes.
    """
    if len(argv) > 3:
        raise syntax_error()
    offset = parse_int(argv[1])
    timeout_ms = parse_milliseconds(argv[2]) if len(argv) == 3 else 0
    if offset < 0:
        raise ReplyError("ERR offset is negative")
    if timeout_ms > TIMEOUT_MS_MAX:
        raise ReplyError(TIMEOUT_OUT_OF_RANGE)
    if engine.commit.durable_offset >= offset:
        return integer(engine.commit.durable_offset)
    reply = client.block(argv, [], timeout_ms, null(client.resp3))
    if client.blocked is not None:
        engine.blocking.offsets[client] = offset
    return reply


@server_command(
    "EVENTDB.DIGEST", arity=1, flags="readonly", whole=True, since="7.0.0", group="server",
    complexity="O(N) where N is the size of all data: the server does nothing else meanwhile",
    summary="Tells a hash of the whole state, the same on every node and snapshot that has the same offset.",
)  # fmt: skip
def eventdb_digest(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return bulk(engine.digest().encode())
