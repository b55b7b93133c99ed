"""The gates: the rare checks between finding a command and running it. Most commands meet none of them.

In this order: authentication, what the user may do, the node that owns the keys, memory, the node's role, subscriber
mode, a script that runs, a pause, the lease, MULTI. Here is only the verdict: the engine acts on it.
Source: redis src/server.c processCommand.
"""

from __future__ import annotations

from typing import Final

from eventdb.cluster.slots import SlotMap
from eventdb.engine.client import (
    BUSY,
    CLUSTERED,
    FOLLOWING,
    FRESH,
    HANDING,
    IN_MULTI,
    LEASELESS,
    LOADING,
    NEEDS_AUTH,
    OUT_OF_MEMORY,
    PAUSED,
    RESTRICTED,
    SUBSCRIBED,
    Client,
)
from eventdb.engine.command import (
    ALLOW_BUSY,
    DENY_OOM,
    IMMEDIATE,
    LOADING_OK,
    NO_AUTH,
    NO_MULTI,
    PROTECTED,
    READONLY,
    WHOLE,
    WRITE,
    Command,
)
from eventdb.engine.pause import Pause, may_write
from eventdb.engine.permissions import NO_DEBUG, Permissions
from eventdb.protocol.errors import ReplyError

# Verdicts.
PASS: Final = 0
REFUSE: Final = 1  # with `Gates.text`
STALL: Final = 2
QUEUE: Final = 3  # for EXEC
REDIRECT: Final = 4  # with `Gates.text`: another node has to run it
FRESHEN: Final = 5  # run it when this replica is known to be fresh

SUBSCRIBER_COMMANDS: Final = frozenset(  # what a RESP2 client with subscriptions may run
    ("ping", "quit", "reset", "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe")
)
NO_MEMORY: Final = "OOM command not allowed when used memory > 'maxmemory'."
NOT_QUEUED: Final = "ERR EVENTDB.ONCE is not queued: to run a transaction once, end it by EVENTDB.ONCE token EXEC"
SHARD_CHANNELS: Final = frozenset(("ssubscribe", "sunsubscribe", "spublish"))  # any node of the shard takes them


class Gates:
    """Of one engine: what its role, a pause, the slots and a client's own state keep from running."""

    def __init__(self, slots: SlotMap, pause: Pause, permissions: Permissions) -> None:
        self.slots = slots
        self.pause = pause
        self.permissions = permissions
        self.text = ""  # why the last command was refused
        self.judged: Command | None = None  # the last one judged: inside EVENTDB.ONCE, the one in it
        self.busy_text = ""  # what is said while a script runs

    def judge(self, client: Client, command: Command, argv: list[bytes], node_gate: int, node_error: str) -> int:
        """PASS, REFUSE, REDIRECT, STALL, FRESHEN or QUEUE. node_gate, node_error: the engine's, for every client."""
        self.judged = command
        if command.inner is not None:
            return self._judge_inner(client, command, command.inner(argv), argv, node_gate, node_error)
        gate = client.gate
        text = ""
        if command.bits & PROTECTED and not self.permissions.may_debug(client):
            text = NO_DEBUG
        elif gate & NEEDS_AUTH and not command.bits & NO_AUTH:
            text = "NOAUTH Authentication required."
        elif gate & IN_MULTI and command.bits & NO_MULTI and not command.bits & IMMEDIATE:
            text = "ERR Command not allowed inside a transaction"
        elif gate & RESTRICTED and (denied := self.permissions.refusal(client, command, argv)):
            text = denied
        elif gate & CLUSTERED and (elsewhere := self._elsewhere(client, command, argv)):
            self.text = elsewhere
            return REDIRECT
        elif node_gate & OUT_OF_MEMORY and _needs_memory(node_gate, client, command):
            text = NO_MEMORY
        elif client.redirects and node_gate & FOLLOWING and (elsewhere := self._at_the_primary(client, command, argv)):
            self.text = elsewhere
            return REDIRECT
        elif node_gate and refuses(node_gate, command):
            text = node_error
        elif gate & SUBSCRIBED and command.name not in SUBSCRIBER_COMMANDS:
            text = (
                f"ERR Can't execute '{command.name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET"
                " are allowed in this context"
            )
        elif node_gate & BUSY and not command.bits & ALLOW_BUSY:
            text = self.busy_text
        elif client.is_monitor and (command.bits & READONLY or may_write(client, command)):
            text = "ERR Replica can't interact with the keyspace"
        if text:
            self.text = text
            return REFUSE
        if node_gate and self._waits(node_gate, client, command, argv):
            return STALL
        if node_gate & FRESH and _must_be_fresh(client, command):
            return FRESHEN
        return QUEUE if gate & IN_MULTI and not command.bits & IMMEDIATE else PASS

    def _judge_inner(
        self, client: Client, command: Command, inner: Command | str, argv: list[bytes], node_gate: int, node_error: str
    ) -> int:
        """EVENTDB.ONCE: as the command in it is judged, on a node that may write; it is never queued."""
        if isinstance(inner, str):
            self.text = "NOAUTH Authentication required." if client.gate & NEEDS_AUTH else inner
            return REFUSE
        if argv[1] in client.store.keyspace.outcomes.kept:  # it has run: an answer needs no memory
            node_gate &= ~OUT_OF_MEMORY
        verdict = self.judge(client, inner, argv[2:], node_gate, node_error)
        if verdict == QUEUE:
            self.judged, self.text = command, NOT_QUEUED
            return REFUSE
        if verdict in (PASS, FRESHEN) and refuses(node_gate, command):
            self.text = node_error
            return REFUSE
        return verdict

    def _elsewhere(self, client: Client, command: Command, argv: list[bytes]) -> str:
        """Why another node has to run the command, or ""; that of an EXEC is decided by all that is queued."""
        writes, keys = _touched(client, command, argv)
        may_read = client.readonly_mode or command.name in SHARD_CHANNELS
        return self.slots.refusal(keys, writes, may_read)

    def _at_the_primary(self, client: Client, command: Command, argv: list[bytes]) -> str:
        """The text of REDIRECT, of Valkey 8: for a client that can follow it, outside cluster mode; or ""."""
        writes, keys = _touched(client, command, argv)
        if not writes and (client.readonly_mode or not keys):
            return ""
        return self.slots.redirection()

    def _waits(self, node_gate: int, client: Client, command: Command, argv: list[bytes]) -> bool:
        """A pause or a lapsed lease keeps it; a client that is not authenticated may go on, it can change nothing."""
        if client.gate & NEEDS_AUTH:
            return False
        if node_gate & PAUSED and self.pause.stops(client, command, argv):
            return True
        if node_gate & HANDING:  # in cluster mode reads too: they are for the primary, and will be told where it is
            if may_write(client, command) or (
                client.gate & CLUSTERED and command.has_keys and not client.readonly_mode
            ):
                return True
        if not node_gate & LEASELESS:
            return False
        if client.gate & IN_MULTI:  # what is queued reads and writes when EXEC runs
            return command.name == "exec"
        return command.bits & (WRITE | WHOLE) != 0 or command.has_keys


def _touched(client: Client, command: Command, argv: list[bytes]) -> tuple[bool, list[bytes]]:
    """Whether the command writes, and the keys it names; of EXEC: what all do that are queued."""
    writes = command.bits & WRITE
    keys: list[bytes] = []
    if command.has_keys:
        keys = command.keys(argv)
    elif command.name == "exec" and client.gate & IN_MULTI:
        for queued, args in client.queue:
            writes |= queued.bits & WRITE
            if queued.has_keys:
                keys += queued.keys(args)
    return writes != 0, keys


def _must_be_fresh(client: Client, command: Command) -> bool:
    """A read at a fresh replica; not if it had come when the primary was last asked. Counts the client's commands."""
    if client.fresh_left:
        client.fresh_left -= 1
        return False
    if client.gate & NEEDS_AUTH:
        return False
    if client.gate & IN_MULTI:  # what is queued reads when EXEC runs
        return command.name == "exec"
    return command.bits & WHOLE != 0 or command.has_keys


def _needs_memory(node_gate: int, client: Client, command: Command) -> bool:
    """The command, or one that an EXEC would run, is not allowed above maxmemory; nothing more is queued either."""
    if node_gate & FOLLOWING:  # a replica takes what the log says
        return False
    if not client.gate & IN_MULTI:
        return command.bits & DENY_OOM != 0
    if command.name != "exec":
        return not command.bits & IMMEDIATE
    return any(queued.bits & DENY_OOM for queued, _ in client.queue)


def refuses(node_gate: int, command: Command) -> bool:
    """This node's role does not let the command run."""
    if node_gate & LOADING and not command.bits & LOADING_OK:
        return True
    return node_gate & (FOLLOWING | HANDING) == FOLLOWING and command.bits & WRITE != 0


def not_in_cluster(client: Client, text: str) -> None:
    """Raises ReplyError with this text in cluster mode, where a slot has one database and one place."""
    if client.gate & CLUSTERED:
        raise ReplyError(text)
