"""SYNC, PSYNC, REPLCONF: as much of Redis's replication as gives somebody the whole state once.

`redis-cli --rdb FILE` asks for that. A replica of Redis would go on to wait for a stream of commands, which a log of
offsets has no place for, so it is refused: eventdb's replicas follow the log.
Source: redis src/replication.c (syncCommand, replconfCommand), src/redis-cli.c (getRDB).
"""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.roles import log_id
from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.registry import command, server_command
from eventdb.protocol.errors import ReplyError, not_between, shown, syntax_error
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import NO_REPLY, OK

ADMIN: Final = "admin noscript no_async_loading no_multi"
NO_REPLICA: Final = (
    "ERR a server of Redis cannot be a replica of eventdb, whose replicas follow its log. For the state of now, once:"
    " redis-cli --rdb FILE, or REPLCONF rdb-only 1 before this command; at any moment of the past: eventdb export"
)

# Bits of Client.sync_options.
RDB_ONLY: Final = 1
REPLICA: Final = 2  # it has named a port on which it listens
FUNCTIONS_ONLY: Final = 4


@command(
    "REPLCONF", arity=-1, flags="admin noscript loading stale allow_busy", since="3.0.0", group="server",
    summary="Says what a client that is going to send SYNC wants.",
)  # fmt: skip
def replconf(client: Client, argv: list[bytes]) -> bytes:
    if len(argv) % 2 == 0:
        raise syntax_error()
    for at in range(1, len(argv), 2):
        word, value = argv[at].lower(), argv[at + 1]
        if word == b"rdb-only":
            wanted = parse_int(value)
            if wanted not in (0, 1):
                raise ReplyError(not_between(0, 1))
            _set(client, RDB_ONLY, wanted == 1)
        elif word == b"rdb-filter-only":
            _filter(client, value)
        elif word == b"listening-port":
            parse_int(value)
            _set(client, REPLICA, True)
        elif word not in (b"capa", b"ip-address", b"ack", b"getack"):
            raise ReplyError(f"ERR Unrecognized REPLCONF option: {shown(argv[at])}")
        elif word in (b"ack", b"getack"):
            return NO_REPLY
    return OK


def _set(client: Client, bit: int, on: bool) -> None:
    client.sync_options = client.sync_options | bit if on else client.sync_options & ~bit


def _filter(client: Client, value: bytes) -> None:
    """Which parts of the state are wanted: "functions", or all of it."""
    words = value.split()
    for word in words:
        if word.lower() != b"functions":
            raise ReplyError(f"ERR Unsupported rdb-filter-only option: {shown(word)}")
    _set(client, FUNCTIONS_ONLY, len(words) > 0)


@server_command(
    "SYNC", arity=1, flags=ADMIN, group="server",
    summary="Sends the whole state once, as a file of Redis's format, and closes the connection.",
)  # fmt: skip
def sync(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _give(engine, client, argv, "")


@server_command(
    "PSYNC", arity=-3, flags=ADMIN, since="2.8.0", group="server",
    summary="The same as SYNC, after REPLCONF rdb-only 1.",
)  # fmt: skip
def psync(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if not client.sync_options & RDB_ONLY:
        raise ReplyError(NO_REPLICA)
    return _give(engine, client, argv, f"+FULLRESYNC {log_id(engine)} {{}}\r\n")


def _give(engine: Engine, client: Client, argv: list[bytes], greeting: str) -> bytes:
    if client.sync_options & REPLICA and not client.sync_options & RDB_ONLY:
        raise ReplyError(NO_REPLICA)
    if client.embedded:
        raise ReplyError("ERR a session inside the program has no connection for a file: eventdb export writes one")
    client.block(argv, [], 0, b"")
    engine.host.give_state(client, greeting, client.sync_options & FUNCTIONS_ONLY != 0)
    return NO_REPLY
