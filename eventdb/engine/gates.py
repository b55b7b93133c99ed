"""The gates: the rare checks between finding a command and running it. Most commands meet none of them.

In this order: subcommand, authentication, the node that owns the keys, the node's role, subscriber mode, a pause, the
lease, MULTI. Source: redis src/server.c processCommand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eventdb.engine.client import (
    CLUSTERED,
    FOLLOWING,
    IN_MULTI,
    LEASELESS,
    LOADING,
    NEEDS_AUTH,
    PAUSED,
    SUBSCRIBED,
    Client,
)
from eventdb.engine.registry import IMMEDIATE, LOADING_OK, NO_AUTH, NO_MULTI, WHOLE, WRITE, Command, find_subcommand
from eventdb.protocol.replies import QUEUED

if TYPE_CHECKING:
    from eventdb.engine.engine import Engine

SUBSCRIBER_COMMANDS: Final = frozenset(  # what a RESP2 client with subscriptions may run
    ("ping", "quit", "reset", "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe")
)


def pass_gates(engine: Engine, client: Client, command: Command, argv: list[bytes]) -> Command | None:
    """The command to run now; None when it was answered, queued or made to wait."""
    if command.handler is None:
        found = find_subcommand(command, argv)
        if isinstance(found, str):
            command.rejected_calls += 1
            engine.refuse(client, found)
            return None
        command = found
    gate = client.gate
    text = ""
    if gate & NEEDS_AUTH and not command.bits & NO_AUTH:
        text = "NOAUTH Authentication required."
    elif gate & IN_MULTI and command.bits & NO_MULTI and not command.bits & IMMEDIATE:
        text = "ERR Command not allowed inside a transaction"
    elif gate & CLUSTERED and engine.slots.redirected(client, command, argv):
        return None
    elif engine.gate and refuses(engine, command):
        text = engine.gate_error
    elif gate & SUBSCRIBED and command.name not in SUBSCRIBER_COMMANDS:
        text = (
            f"ERR Can't execute '{command.name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET"
            " are allowed in this context"
        )
    if text:
        command.rejected_calls += 1
        engine.refuse(client, text, command)
        return None
    if engine.gate and _waits(engine, client, command):
        engine.pause.stall(client, argv)
        return None
    if gate & IN_MULTI and not command.bits & IMMEDIATE:
        _queue(engine, client, command, argv)
        return None
    return command


def refuses(engine: Engine, command: Command) -> bool:
    """This node's role does not let the command run."""
    gate = engine.gate
    if gate & LOADING and not command.bits & LOADING_OK:
        return True
    return gate & FOLLOWING != 0 and command.bits & WRITE != 0


def _waits(engine: Engine, client: Client, command: Command) -> bool:
    """A pause or a lapsed lease keeps it; a client that is not authenticated may go on, it can change nothing."""
    gate = engine.gate
    if client.gate & NEEDS_AUTH:
        return False
    if gate & PAUSED and engine.pause.stops(client, command):
        return True
    if not gate & LEASELESS:
        return False
    if client.gate & IN_MULTI:  # what is queued reads and writes when EXEC runs
        return command.name == "exec"
    return command.bits & (WRITE | WHOLE) != 0 or command.first_key != 0 or command.find_keys is not None


def _queue(engine: Engine, client: Client, command: Command, argv: list[bytes]) -> None:
    """Keep a command for EXEC, or only say so when EXEC is going to fail anyway."""
    if not client.queue_failed and not client.watch_broken:
        for arg in argv:
            client.queue_bytes += len(arg) + 64
        if client.queue_bytes > engine.multi_bytes_max:
            client.queue = []
            engine.refuse(client, "ERR the transaction is too large, it will be discarded", command)
            return
        client.queue.append((command, argv))
    client.reply(QUEUED)
