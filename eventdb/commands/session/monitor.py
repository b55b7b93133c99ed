"""MONITOR. Source: redis src/replication.c monitorCommand."""

from __future__ import annotations

from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.registry import server_command
from eventdb.protocol.errors import ReplyError
from eventdb.protocol.replies import NO_REPLY, OK


@server_command(
    "MONITOR", arity=1, flags="admin noscript loading stale", since="1.0.0", group="server",
    summary="Shows every command that runs here, until RESET or QUIT.",
)  # fmt: skip
def monitor(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if client.store.in_exec:
        raise ReplyError("ERR MONITOR isn't allowed for DENY BLOCKING client")
    if client.embedded:  # a line is neither a reply nor a push
        raise ReplyError("ERR MONITOR needs a connection: inside a program every call returns a reply")
    if client.is_monitor:
        return NO_REPLY
    engine.gate = engine.news.monitor(client, engine.gate)
    return OK
