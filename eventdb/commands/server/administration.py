"""What operators ask of a server: time, durability, role, the end.

Source: redis src/server.c, src/replication.c, src/rdb.c, src/commands/*.json (groups server, generic).
A write is answered when the log has it. So without a store for snapshots SAVE waits for what is on its way, LASTSAVE is
the moment up to which all is durable; and WAIT counts replicas, of which none answers to the primary.
"""

from __future__ import annotations

import time
from typing import Final

from eventdb.commands.shared.durability import after_own_writes, durable_until
from eventdb.commands.shared.timeouts import parse_milliseconds
from eventdb.engine.busy import SHUT_DOWN
from eventdb.engine.client import FOLLOWING, Blocked, Client
from eventdb.engine.engine import Engine
from eventdb.engine.registry import command, container, server_command
from eventdb.protocol.errors import NOT_POSITIVE, ReplyError, syntax_error
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import EMPTY_ARRAY, NO_REPLY, OK, ZERO, array, bulks, error, integer, lines, simple

ADMIN: Final = "admin noscript loading stale"
ALL_NODES: Final = "request_policy:all_nodes response_policy:all_succeeded"
ON_A_REPLICA: Final = "ERR WAIT cannot be used with replica instances."
NO_REWRITE: Final = b"There is no append only file to rewrite: the log of eventdb is never rewritten"
MODULE_HELP: Final = """
MODULE <subcommand>. eventdb loads no modules. Subcommands are:
LIST
    Nothing.
HELP
    Print this help.
"""


@command(
    "TIME", arity=1, flags="loading stale fast", since="2.6.0", group="server", tips="nondeterministic_output",
    summary="Reports the server's clock: Unix seconds, and microseconds.",
)  # fmt: skip
def time_(client: Client, argv: list[bytes]) -> bytes:
    usec = time.time_ns() // 1000
    return bulks([b"%d" % (usec // 1_000_000), b"%d" % (usec % 1_000_000)])


@server_command(
    "WAIT", arity=3, flags="noscript", acl="connection", since="3.0.0", group="generic",
    tips="request_policy:all_shards response_policy:agg_min",
    summary="Answers when this connection's writes are durable; the number of replicas is always 0.",
)  # fmt: skip
def wait(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    """Never waits for the timeout: replicas follow the log and confirm nothing, so no more time brings more of them."""
    if engine.gate & FOLLOWING:
        raise ReplyError(ON_A_REPLICA)
    parse_int(argv[1])
    parse_milliseconds(argv[2])
    return after_own_writes(engine, client, ZERO)


@server_command(
    "WAITAOF", arity=4, flags="noscript", acl="connection", since="7.2.0", group="generic",
    tips="request_policy:all_shards response_policy:agg_min",
    summary="Answers when this connection's writes are durable: 1 for the log, and 0 replicas.",
)  # fmt: skip
def waitaof(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if engine.gate & FOLLOWING:
        raise ReplyError(ON_A_REPLICA.replace("WAIT", "WAITAOF"))
    if not 0 <= parse_int(argv[1]) <= 1:
        raise ReplyError("ERR value is out of range, must be between 0 and 1")
    if parse_int(argv[2]) < 0:
        raise ReplyError(NOT_POSITIVE)
    parse_milliseconds(argv[3])
    return after_own_writes(engine, client, array([integer(1), ZERO]))


@server_command(
    "LASTSAVE", arity=1, flags="loading stale fast", acl="admin dangerous", group="server",
    tips="nondeterministic_output",
    summary="Reports when the newest snapshot was verified; without snapshot-store, up to when everything is durable.",
)  # fmt: skip
def lastsave(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    saves = engine.host.saves()
    return integer(saves.last_time if saves.configured else int(durable_until(engine)))


@server_command(
    "SAVE", arity=1, flags="admin noscript no_async_loading no_multi", whole=True, group="server",
    complexity="O(N) in another process, where N is the number of keys; O(1) without snapshot-store",
    summary="Makes a snapshot and waits for it; without snapshot-store, answers when everything is durable.",
)  # fmt: skip
def save(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if not engine.host.saves().configured:
        return OK
    waiting: list[Blocked | None] = []

    def done(failure: str) -> None:
        if client.blocked is not None and client.blocked is waiting[0]:  # and no other command by now
            engine.block_ends(client, error(failure) if failure else OK)

    engine.host.save(done)
    reply = client.block(argv, [], 0, OK)
    waiting.append(client.blocked)
    return reply


@server_command(
    "BGSAVE", arity=-1, flags="admin noscript no_async_loading", group="server",
    complexity="O(N) in another process, where N is the number of keys; O(1) without snapshot-store",
    summary="Makes a snapshot in the background, if there is a snapshot-store.",
)  # fmt: skip
def bgsave(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if len(argv) > 2 or (len(argv) == 2 and argv[1].upper() != b"SCHEDULE"):
        raise syntax_error()
    if not engine.host.saves().configured:
        return simple(b"Background saving is not needed: every acknowledged write is durable")
    engine.host.save(_ignored)
    return simple(b"Background saving started")


def _ignored(failure: str) -> None:
    """INFO and the server's log have it."""


@command(
    "BGREWRITEAOF", arity=1, flags="admin noscript no_async_loading", group="server",
    summary="Does nothing: the log is never rewritten.",
)  # fmt: skip
def bgrewriteaof(client: Client, argv: list[bytes]) -> bytes:
    return simple(NO_REWRITE)


@server_command(
    "SHUTDOWN", arity=-1, flags="admin noscript loading stale no_multi allow_busy", group="server",
    complexity="O(1): what is on its way is waited for", summary="Stops the server when everything is durable.",
)  # fmt: skip
def shutdown(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    options = [arg.upper() for arg in argv[1:]]
    for option in options:
        if option not in (b"SAVE", b"NOSAVE", b"NOW", b"FORCE", b"ABORT"):
            raise syntax_error()
    if (b"ABORT" in options and len(options) > 1) or (b"SAVE" in options and b"NOSAVE" in options):
        raise syntax_error()
    if b"ABORT" in options:
        raise ReplyError("ERR No shutdown in progress.")
    busy = engine.busy
    if busy.answering:
        if b"NOSAVE" not in options:
            raise ReplyError(busy.text)
        if busy.wrote and busy.on_abort is not None:  # nothing of the script is in the log, and nothing shall be
            busy.on_abort()
        busy.stop_text = SHUT_DOWN
    if not engine.host.shut_down():
        raise ReplyError("ERR eventdb runs inside a program here, which has to close it")
    return NO_REPLY


container("MODULE", since="4.0.0", summary="Reports which modules are loaded: none.")


@command(
    "MODULE LIST", arity=2, flags="admin noscript", since="4.0.0", group="server",
    complexity="O(1)", tips="nondeterministic_output_order", summary="Answers with an empty list.",
)  # fmt: skip
def module_list(client: Client, argv: list[bytes]) -> bytes:
    return EMPTY_ARRAY


@command(
    "MODULE HELP", arity=2, flags="loading stale", since="5.0.0", group="server", summary="Explains MODULE."
)  # fmt: skip
def module_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(MODULE_HELP)
