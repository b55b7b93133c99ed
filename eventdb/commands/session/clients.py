"""CLIENT: connections looking at themselves and at each other.

Source: redis src/networking.c clientCommand, getClientInfoString, src/commands/client-*.json. SETINFO and NO-TOUCH are
of Redis 7.2: clients send them on every connection.
"""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.client_names import check_name, set_name
from eventdb.commands.shared.timeouts import parse_milliseconds
from eventdb.engine.client import Client
from eventdb.engine.client_line import describe
from eventdb.engine.engine import Engine
from eventdb.engine.registry import command, container, server_command
from eventdb.pipeline.outbox import REPLY_OFF, REPLY_ON, REPLY_SKIP
from eventdb.protocol.errors import ReplyError, shown, syntax_error, wrong_subcommand
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import (
    NO_REPLY,
    OK,
    ONE,
    ZERO,
    bulk_or_null,
    error,
    integer,
    lines,
    verbatim,
)

PAUSE_MS_MAX: Final = 10**12  # thirty years; timers need not hold more
UNBLOCKED: Final = "UNBLOCKED client unblocked via CLIENT UNBLOCK"
TYPES: Final[dict[bytes, str]] = {
    b"normal": "normal", b"pubsub": "pubsub", b"master": "master", b"replica": "replica", b"slave": "replica",
}  # fmt: skip
HELP: Final = """
CLIENT <subcommand> [<arg> ...]. Subcommands are:
CACHING (YES|NO)
    Cache the keys of the next command, with OPTIN, or do not, with OPTOUT.
CAPA <capability> [<capability> ...]
    What this client can do. redirect: a replica that is asked for more than READONLY allows names the primary.
GETREDIR
    The client that hears of changes in place of this one; 0: itself, -1: it does not track.
GETNAME
    The name of this connection.
ID
    The id of this connection.
INFO
    What CLIENT LIST says of this connection.
KILL <ip:port>
    Close the connection from this address.
KILL <option> <value> [<option> <value> ...]
    Close connections that match all of these:
    * ID <id>
    * ADDR <ip:port>
    * LADDR <ip:port>, the server's side of the connection
    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)
    * USER <username>
    * MAXAGE <seconds>, connected for that long or longer
    * SKIPME (YES|NO), spare this connection (default: yes)
LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB) | ID <id> ...]
    One line for each connection.
NO-EVICT (ON|OFF)
    Accepted: eventdb never evicts.
NO-TOUCH (ON|OFF)
    Whether what this connection does leaves OBJECT IDLETIME and FREQ as they are.
PAUSE <milliseconds> [WRITE|ALL]
    Let clients wait, all of them or those that write.
REPLY (ON|OFF|SKIP)
    Silence the replies to this connection, or the next one.
SETINFO (LIB-NAME|LIB-VER) <value>
    Say which library this is.
SETNAME <name>
    Name this connection; the log says who wrote what.
TRACKING (ON|OFF) [<option> ...]
    Be told when keys change that this connection has read. Options:
    * REDIRECT <id>, tell that client
    * BCAST, tell of every key, read or not
    * PREFIX <prefix>, with BCAST: of the keys that begin so
    * OPTIN, keys count only after CLIENT CACHING YES
    * OPTOUT, keys do not count after CLIENT CACHING NO
    * NOLOOP, say nothing of what this connection changes
TRACKINGINFO
    What tracking this connection has asked for.
UNBLOCK <id> [TIMEOUT|ERROR]
    Let a blocked client go on.
UNPAUSE
    End a pause.
HELP
    Print this help.
"""

container("CLIENT", since="2.4.0", group="connection", summary="Reports and changes what connections are.")


def _type(client: Client) -> str:
    return "pubsub" if client.channels or client.patterns or client.shards else "normal"


def _type_named(name: bytes) -> str:
    found = TYPES.get(name.lower())
    if found is None:
        raise ReplyError(f"ERR Unknown client type '{shown(name)}'")
    return found


@command(
    "CLIENT ID", arity=2, flags="noscript loading stale", acl="connection", since="5.0.0", group="connection",
    summary="Reports the connection's id.",
)  # fmt: skip
def client_id(client: Client, argv: list[bytes]) -> bytes:
    return integer(client.id)


@server_command(
    "CLIENT INFO", arity=2, flags="noscript loading stale", acl="connection", since="6.2.0", group="connection",
    tips="nondeterministic_output", summary="Describes the connection.",
)  # fmt: skip
def client_info(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return verbatim(describe(client) + b"\n", client.resp3)


@server_command(
    "CLIENT LIST", arity=-2, flags="admin noscript loading stale", acl="connection", group="connection",
    since="2.4.0", tips="nondeterministic_output", complexity="O(N) where N is the number of connections",
    summary="Describes connections.",
)  # fmt: skip
def client_list(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    clients = list(engine.clients.values())
    if len(argv) == 4 and argv[2].upper() == b"TYPE":
        wanted = _type_named(argv[3])
        clients = [each for each in clients if _type(each) == wanted]
    elif len(argv) > 3 and argv[2].upper() == b"ID":
        ids = [parse_int(arg, "ERR Invalid client ID") for arg in argv[3:]]
        clients = [engine.clients[each] for each in ids if each in engine.clients]
    elif len(argv) > 2:
        raise syntax_error()
    return verbatim(b"".join([describe(each) + b"\n" for each in clients]), client.resp3)


class _Filter:
    """Which clients CLIENT KILL means; what is not given matches all."""

    def __init__(self) -> None:
        self.id = 0
        self.type = ""
        self.address = ""
        self.local_address = ""
        self.user = b""
        self.seconds_min = 0  # that it is connected
        self.skip_me = True

    def matches(self, client: Client) -> bool:
        return (
            (not self.id or client.id == self.id)
            and (not self.type or _type(client) == self.type)
            and (not self.address or client.address == self.address)
            and (not self.local_address or client.local_address == self.local_address)
            and (not self.user or client.user.name == self.user)
            and (client.store.now_ms - client.created_ms) // 1000 >= self.seconds_min
        )


def _filter(engine: Engine, argv: list[bytes]) -> _Filter:
    found = _Filter()
    for i in range(2, len(argv), 2):
        if i + 1 == len(argv):
            raise syntax_error()
        option, value = argv[i].upper(), argv[i + 1]
        if option == b"ID":
            found.id = parse_int(value, "ERR client-id should be greater than 0")
            if found.id < 1:
                raise ReplyError("ERR client-id should be greater than 0")
        elif option == b"TYPE":
            found.type = _type_named(value)
        elif option == b"ADDR":
            found.address = value.decode("utf-8", "surrogateescape")
        elif option == b"LADDR":
            found.local_address = value.decode("utf-8", "surrogateescape")
        elif option == b"USER":
            if value not in engine.permissions.users:
                raise ReplyError(f"ERR No such user '{shown(value)}'")
            found.user = value
        elif option == b"MAXAGE":
            found.seconds_min = parse_int(value, "ERR maxage is not an integer or out of range")
            if found.seconds_min < 1:
                raise ReplyError("ERR maxage should be greater than 0")
        elif option == b"SKIPME" and value.lower() in (b"yes", b"no"):
            found.skip_me = value.lower() == b"yes"
        else:
            raise syntax_error()
    return found


@server_command(
    "CLIENT KILL", arity=-3, flags="admin noscript loading stale", acl="connection", group="connection",
    since="2.4.0", complexity="O(N) where N is the number of connections", summary="Closes connections.",
)  # fmt: skip
def client_kill(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if len(argv) == 3:
        wanted = _Filter()
        wanted.address = argv[2].decode("utf-8", "surrogateescape") or "-"
        wanted.skip_me = False
    else:
        wanted = _filter(engine, argv)
    count = 0
    for other in list(engine.clients.values()):
        if not wanted.matches(other) or (other is client and wanted.skip_me):
            continue
        count += 1
        if other is client:
            client.finish()  # once it has the reply
        else:
            engine.kill(other)
    if len(argv) > 3:
        return integer(count)
    if count == 0:
        raise ReplyError("ERR No such client")
    return OK


@command(
    "CLIENT GETNAME", arity=2, flags="noscript loading stale", acl="connection", since="2.6.9", group="connection",
    summary="Reports the connection's name.",
)  # fmt: skip
def client_getname(client: Client, argv: list[bytes]) -> bytes:
    return bulk_or_null(client.name or None, client.resp3)


@command(
    "CLIENT SETNAME", arity=3, flags="noscript loading stale", acl="connection", since="2.6.9", group="connection",
    summary="Names the connection; the log says who wrote what.",
)  # fmt: skip
def client_setname(client: Client, argv: list[bytes]) -> bytes:
    set_name(client, argv[2])
    return OK


@command(
    "CLIENT SETINFO", arity=4, flags="noscript loading stale", acl="connection", since="7.2.0", group="connection",
    summary="Says which client library this is.",
)  # fmt: skip
def client_setinfo(client: Client, argv: list[bytes]) -> bytes:
    option = argv[2].lower()
    if option not in (b"lib-name", b"lib-ver"):
        raise ReplyError(f"ERR Unrecognized option '{shown(argv[2])}'")
    check_name(argv[3], f"ERR {shown(argv[2])} cannot contain spaces, newlines or special characters.")
    if option == b"lib-name":
        client.library_name = argv[3]
    else:
        client.library_version = argv[3]
    return OK


@server_command(
    "CLIENT PAUSE", arity=-3, flags="admin noscript loading stale", acl="connection", since="2.9.50",
    group="connection", summary="Lets clients wait for some time.",
)  # fmt: skip
def client_pause(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if len(argv) > 4:
        raise wrong_subcommand(argv)
    mode = argv[3].upper() if len(argv) == 4 else b"ALL"
    if mode not in (b"WRITE", b"ALL"):
        raise ReplyError("ERR CLIENT PAUSE mode must be WRITE or ALL")
    ms = parse_milliseconds(argv[2])
    engine.pause_for(min(ms, PAUSE_MS_MAX), mode == b"WRITE")
    return OK


@server_command(
    "CLIENT UNPAUSE", arity=2, flags="admin noscript loading stale", acl="connection", since="6.2.0",
    group="connection", complexity="O(N), N clients that wait", summary="Ends a pause.",
)  # fmt: skip
def client_unpause(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    engine.unpause()
    return OK


@command(
    "CLIENT REPLY", arity=3, flags="noscript loading stale", acl="connection", since="3.2.0", group="connection",
    summary="Silences replies.",
)  # fmt: skip
def client_reply(client: Client, argv: list[bytes]) -> bytes:
    mode = argv[2].upper()
    if mode == b"ON":
        client.reply_mode = REPLY_ON
        return OK
    if mode not in (b"OFF", b"SKIP"):
        raise syntax_error()
    if client.embedded:
        raise ReplyError("ERR CLIENT REPLY OFF and SKIP: inside a program every call returns a reply")
    if client.store.in_exec:  # a missing element would break the framing of EXEC's reply
        raise ReplyError("ERR CLIENT REPLY OFF and SKIP are not allowed inside a transaction")
    if mode == b"OFF":
        client.reply_mode = REPLY_OFF
    elif client.reply_mode != REPLY_OFF:
        client.reply_mode = REPLY_SKIP
    return NO_REPLY


@server_command(
    "CLIENT UNBLOCK", arity=-3, flags="admin noscript loading stale", acl="connection", since="5.0.0",
    group="connection", complexity="O(log N) where N is the number of connections",
    summary="Lets a blocked client go on.",
)  # fmt: skip
def client_unblock(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if len(argv) > 4:
        raise wrong_subcommand(argv)
    reason = argv[3].upper() if len(argv) == 4 else b"TIMEOUT"
    if reason not in (b"TIMEOUT", b"ERROR"):
        raise ReplyError("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    target = engine.clients.get(parse_int(argv[2]))
    if target is None or target.blocked is None:
        return ZERO
    target.blocked.command.failed_calls += 1  # for either reason, as Redis counts it
    if reason == b"ERROR":
        engine.statistics.error(UNBLOCKED)
        engine.block_ends(target, error(UNBLOCKED))
    else:
        engine.block_ends(target, target.blocked.timeout_reply)
    return ONE


def _on_or_off(argv: list[bytes]) -> bool:
    if argv[2].lower() not in (b"on", b"off"):
        raise syntax_error()
    return argv[2].lower() == b"on"


@command(
    "CLIENT NO-EVICT", arity=3, flags="admin noscript loading stale", acl="connection", since="7.0.0",
    group="connection", summary="Accepted; eventdb never evicts a client.",
)  # fmt: skip
def client_no_evict(client: Client, argv: list[bytes]) -> bytes:
    client.no_evict = _on_or_off(argv)
    return OK


@command(
    "CLIENT NO-TOUCH", arity=3, flags="noscript loading stale", acl="connection", since="7.2.0",
    group="connection", summary="Chooses whether this connection's commands count as uses of keys.",
)  # fmt: skip
def client_no_touch(client: Client, argv: list[bytes]) -> bytes:
    client.no_touch = _on_or_off(argv)
    return OK


@command(
    "CLIENT CAPA", arity=-3, flags="noscript loading stale", acl="connection", since="8.0.0", group="connection",
    summary="Takes note of what a client can do (Valkey 8): redirect.",
)  # fmt: skip
def client_capa(client: Client, argv: list[bytes]) -> bytes:
    for capability in argv[2:]:
        if capability.lower() == b"redirect":  # others are passed over, as in Valkey
            client.redirects = True
    return OK


@command(
    "CLIENT HELP", arity=2, flags="loading stale", acl="connection", since="5.0.0", group="connection",
    summary="Explains CLIENT.",
)  # fmt: skip
def client_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(HELP)
