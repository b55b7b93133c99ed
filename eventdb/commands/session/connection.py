"""A connection's own commands: greeting, passwords, database, farewell.

Source: redis src/networking.c helloCommand, src/acl.c authCommand, src/db.c, src/commands/*.json (group connection).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from eventdb.commands.shared.client_names import set_name
from eventdb.engine.client import NEEDS_AUTH, SUBSCRIBED, Blocked, Client
from eventdb.engine.engine import Engine
from eventdb.engine.gates import not_in_cluster
from eventdb.engine.pubsub import mark
from eventdb.engine.registry import command, server_command
from eventdb.engine.settings import REDIS_VERSION
from eventdb.keyspace.databases import DATABASES
from eventdb.pipeline.outbox import REPLY_OFF, REPLY_ON
from eventdb.protocol.errors import DB_OUT_OF_RANGE, ReplyError, shown, syntax_error, wrong_arity
from eventdb.protocol.numbers import parse_int, parse_int32
from eventdb.protocol.replies import EMPTY_ARRAY, OK, PONG, bulk, bulks, error, integer, mapping, simple
from eventdb.security.iam import Pending

Handler = Callable[[Engine, Client, list[bytes]], bytes]

WRONGPASS: Final = "WRONGPASS invalid username-password pair or user is disabled."
NO_PASSWORD: Final = (
    "ERR AUTH <password> called without any password configured for the default user."
    " Are you sure your configuration is correct?"
)
HELLO_UNAUTHENTICATED: Final = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass>"
    " option can be used to authenticate the client and select the RESP protocol version at the same time"
)


@command(
    "PING", arity=-1, flags="fast", acl="connection", group="connection", summary="Answers PONG, or the message.",
    tips="request_policy:all_shards response_policy:all_succeeded",
)  # fmt: skip
def ping(client: Client, argv: list[bytes]) -> bytes:
    if len(argv) > 2:
        raise wrong_arity("ping")
    if client.gate & SUBSCRIBED:
        return bulks([b"pong", argv[1] if len(argv) == 2 else b""])
    return bulk(argv[1]) if len(argv) == 2 else PONG


@command(
    "ECHO", arity=2, flags="loading stale fast", acl="connection", group="connection", summary="Answers the message.",
)  # fmt: skip
def echo(client: Client, argv: list[bytes]) -> bytes:
    return bulk(argv[1])


@command(
    "SELECT", arity=2, flags="loading stale fast", acl="connection", group="connection",
    summary="Changes the connection's database.",
)  # fmt: skip
def select(client: Client, argv: list[bytes]) -> bytes:
    index = parse_int32(argv[1])
    if index:
        not_in_cluster(client, "ERR SELECT is not allowed in cluster mode")
    if not 0 <= index < DATABASES:
        raise ReplyError(DB_OUT_OF_RANGE)
    client.db = client.store.keyspace.dbs[index]
    return OK


@server_command(
    "AUTH", arity=-2, flags="noscript loading stale fast no_auth allow_busy", acl="connection", group="connection",
    complexity="O(N), N passwords of the user", summary="Authenticates the connection.",
)  # fmt: skip
def auth(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _with_lookup(engine, client, argv, _auth)


def _auth(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if len(argv) > 3:
        raise syntax_error()
    if len(argv) == 2 and engine.permissions.users[b"default"].nopass:
        raise ReplyError(NO_PASSWORD)
    authenticate(engine, client, argv[1] if len(argv) == 3 else b"default", argv[-1], argv[0])
    return OK


def _with_lookup(engine: Engine, client: Client, argv: list[bytes], handler: Handler) -> bytes:
    """Run the handler; where a token's access key has to be looked up first, block the client until that is done."""
    try:
        return handler(engine, client, argv)
    except Pending as pending:
        lookup = pending.lookup
    if engine.store.in_exec:
        raise ReplyError("ERR a token whose access key is not known yet cannot be verified inside a transaction")
    waiting: list[Blocked | None] = []

    def done(_: asyncio.Future[None]) -> None:
        if client.blocked is None or client.blocked is not waiting[0]:
            return  # it is gone
        try:
            reply = handler(engine, client, argv)
        except ReplyError as refused:
            reply = error(refused.text)
        except Pending:
            reply = error(WRONGPASS)
        engine.block_ends(client, reply)

    asyncio.get_running_loop().run_in_executor(None, lookup).add_done_callback(done)
    reply = client.block(argv, [], 0, error(WRONGPASS))
    waiting.append(client.blocked)
    return reply


def authenticate(engine: Engine, client: Client, user: bytes, password: bytes, how: bytes) -> None:
    """Let the client in as this user; `how`: the command, for ACL LOG. Raises ReplyError."""
    if not engine.permissions.admit(client, user, password, how):
        raise ReplyError(WRONGPASS)


@server_command(
    "HELLO", arity=-1, flags="noscript loading stale fast no_auth allow_busy", acl="connection", group="connection",
    since="6.0.0", summary="Greets, and may choose the protocol version, authenticate and name the connection.",
)  # fmt: skip
def hello(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _with_lookup(engine, client, argv, _hello)


def _hello(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    version = 3 if client.resp3 else 2
    if len(argv) > 1:
        version = parse_int(argv[1], "ERR Protocol version is not an integer or out of range")
        if version not in (2, 3):
            raise ReplyError("NOPROTO unsupported protocol version")
        if version == 2 and client.embedded:
            raise ReplyError("NOPROTO a session inside the program has the types of RESP3 only")
    i = 2
    while i < len(argv):  # each option takes effect as it is read, as in Redis, even when a later one fails
        option = argv[i].upper()
        if option == b"AUTH" and i + 2 < len(argv):
            authenticate(engine, client, argv[i + 1], argv[i + 2], argv[0])
            i += 3
        elif option == b"SETNAME" and i + 1 < len(argv):
            set_name(client, argv[i + 1])
            i += 2
        else:
            raise ReplyError(f"ERR Syntax error in HELLO option '{shown(argv[i])}'")
    if client.gate & NEEDS_AUTH:
        raise ReplyError(HELLO_UNAUTHENTICATED)
    client.resp3 = version == 3
    mark(client)
    return greeting(engine, client)


def greeting(engine: Engine, client: Client) -> bytes:
    role = b"master" if engine.topology.is_primary else b"replica"
    mode = b"cluster" if engine.config.cluster_enabled == "yes" else b"standalone"
    items = [
        bulk(b"server"), bulk(b"redis"),
        bulk(b"version"), bulk(REDIS_VERSION.encode()),
        bulk(b"proto"), integer(3 if client.resp3 else 2),
        bulk(b"id"), integer(client.id),
        bulk(b"mode"), bulk(mode),
        bulk(b"role"), bulk(role),
        bulk(b"modules"), EMPTY_ARRAY,
    ]  # fmt: skip
    return mapping(items, client.resp3)


@command(
    "QUIT", arity=-1, flags="noscript loading stale fast no_auth allow_busy", immediate=True, acl="connection",
    group="connection", summary="Closes the connection.",
)  # fmt: skip
def quit_(client: Client, argv: list[bytes]) -> bytes:
    client.finish()
    return OK


@server_command(
    "RESET", arity=1, flags="noscript loading stale fast no_auth allow_busy", immediate=True, acl="connection",
    group="connection", since="6.2.0", summary="Brings the connection back to how it started.",
)  # fmt: skip
def reset(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    engine.discard(client)
    client.db = engine.store.keyspace.dbs[0]
    client.resp3 = client.embedded
    engine.pubsub.leave_all(client)
    engine.gate = engine.news.leave(client, engine.gate)
    client.name = b""
    client.set_origin()
    client.readonly_mode = client.redirects = False
    client.atomic = None
    if client.reply_mode == REPLY_OFF:
        client.reply_mode = REPLY_ON
    if client.embedded:
        engine.permissions.embed(client)
    else:
        engine.permissions.welcome(client)
    return simple(b"RESET")
