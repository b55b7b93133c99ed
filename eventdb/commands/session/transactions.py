"""MULTI and EXEC, WATCH. Source: redis src/multi.c, src/commands/*.json (group transactions).

Queuing itself is the engine's (Engine._queue): here a queue is opened, run or dropped. The events of a whole EXEC
are one transaction of the log, so replay sees all of it or nothing.
"""

from __future__ import annotations

from typing import Final

from eventdb.engine.client import FOLLOWING, IN_MULTI, LOADING, Client
from eventdb.engine.engine import Engine
from eventdb.engine.gates import refuses
from eventdb.engine.registry import command, server_command
from eventdb.protocol.errors import DISCARDED, ReplyError
from eventdb.protocol.replies import OK, array, null_array

ABORTED: Final = "EXECABORT Transaction discarded because"


@command(
    "MULTI", arity=1, flags="noscript loading stale fast allow_busy", immediate=True, acl="transaction", since="1.2.0",
    group="transactions", summary="Begins a transaction: commands are queued from here on",
)  # fmt: skip
def multi(client: Client, argv: list[bytes]) -> bytes:
    if client.gate & IN_MULTI:
        raise ReplyError("ERR MULTI calls can not be nested")
    client.gate |= IN_MULTI
    return OK


@server_command(
    "EXEC", arity=1, flags="noscript loading stale skip_slowlog", whole=True, immediate=True, acl="transaction",
    since="1.2.0", complexity="That of the queued commands together", group="transactions",
    summary="Runs the queued commands as one transaction",
)  # fmt: skip
def exec_(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if not client.gate & IN_MULTI:
        raise ReplyError("ERR EXEC without MULTI")
    queue = client.queue
    failed = client.queue_failed
    broken = engine.store.watching.is_broken(client.watcher, engine.store.now_ms)
    engine.discard(client)
    if engine.gate & (LOADING | FOLLOWING):  # the role may have changed since the commands were queued
        for queued, _ in queue:
            if refuses(engine.gate, queued):
                raise ReplyError(DISCARDED + engine.gate_error.removeprefix("ERR "))
    if failed:
        raise ReplyError(f"{ABORTED} of previous errors.")
    if broken:
        return null_array(client.resp3)
    engine.store.in_exec = True
    replies: list[bytes] = []
    try:
        for queued, args in queue:
            replies.append(engine.run_queued(client, queued, args))
    finally:
        engine.store.in_exec = False
    return array(replies)


@server_command(
    "DISCARD", arity=1, flags="noscript loading stale fast allow_busy", immediate=True, acl="transaction",
    since="2.0.0", complexity="O(N), N queued commands", group="transactions",
    summary="Throws the queued commands away",
)  # fmt: skip
def discard(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if not client.gate & IN_MULTI:
        raise ReplyError("ERR DISCARD without MULTI")
    engine.discard(client)
    return OK


@server_command(
    "WATCH", arity=-2, flags="noscript loading stale fast allow_busy", keys=(1, -1, 1), immediate=True,
    acl="transaction", since="2.2.0", complexity="O(N), N keys given", group="transactions",
    summary="Lets EXEC refuse if one of these keys changes before it",
)  # fmt: skip
def watch(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if client.gate & IN_MULTI:
        raise ReplyError("ERR WATCH inside MULTI is not allowed")
    if not client.watcher.broken:  # else the next EXEC fails anyway
        engine = engine
        for i in range(1, len(argv)):
            engine.store.watching.watch(client.watcher, client.db, argv[i], engine.store.now_ms)
    return OK


@server_command(
    "UNWATCH", arity=1, flags="noscript loading stale fast allow_busy", acl="transaction", since="2.2.0",
    group="transactions", summary="Forgets every watched key",
)  # fmt: skip
def unwatch(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    engine.unwatch(client)
    return OK
