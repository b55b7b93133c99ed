"""ACL: users and what they may do. Source: redis src/acl.c aclCommand, src/commands/acl-*.json.

A change of users is a transaction of the log, so every node, restart and restore has it, and a replica refuses it as
it refuses any write; with `aclfile` the file is the place, and each node has its own.
"""

from __future__ import annotations

import secrets
from typing import Final

from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.permissions import Refusal
from eventdb.engine.registry import CATEGORIES, command, container, find_subcommand, server_command
from eventdb.keyspace.types.user import DELETE_USERS, SET_USER
from eventdb.protocol.errors import ReplyError, shown, wrong_arity, wrong_subcommand
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import OK, array, bulk, bulks, double, integer, lines, mapping, null
from eventdb.security.acl import ALLOWED, DENIED_COMMAND, REASONS, AclError, Selector

ADMIN: Final = "admin noscript loading stale"
GENPASS_BITS_MAX: Final = 4096
BAD_BITS: Final = (
    "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096"
)
NO_FILE: Final = (
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER"
    " command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store"
    " users in the Redis configuration."
)
HELP: Final = """
ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
CAT [<category>]
    The categories of commands, or the commands of one.
DELUSER <username> [<username> ...]
    Delete users and close their connections.
DRYRUN <username> <command> [<arg> ...]
    Whether the user may run the command, which is not run.
GETUSER <username>
    The user's flags, passwords (SHA-256), commands, keys, channels, selectors.
GENPASS [<bits>]
    A password of 256 random bits, or of N, in hexadecimal digits.
LIST
    Each user as the line that makes it.
LOAD
    Read the ACL file again.
LOG [<count> | RESET]
    What was refused to whom, the newest first.
SAVE
    Write the users to the ACL file.
SETUSER <username> <attribute> [<attribute> ...]
    Create a user, or change it.
USERS
    The names of all users.
WHOAMI
    The user of this connection.
HELP
    Print this help.
"""

container("ACL", since="6.0.0", summary="Manages users and what they may do.")


@command(
    "ACL WHOAMI", arity=2, flags="noscript loading stale", since="6.0.0", group="server",
    summary="Returns the connection's user.",
)  # fmt: skip
def acl_whoami(client: Client, argv: list[bytes]) -> bytes:
    return bulk(client.user.name)


@command("ACL HELP", arity=2, flags="loading stale", since="6.0.0", group="server", summary="Explains ACL.")
def acl_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(HELP)


@server_command(
    "ACL CAT", arity=-2, flags="noscript loading stale", since="6.0.0", group="server",
    summary="Lists the categories of commands, or the commands of one.",
)  # fmt: skip
def acl_cat(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if len(argv) > 3:
        raise wrong_subcommand(argv)
    if len(argv) == 2:
        return bulks([name.encode() for name in CATEGORIES])
    try:
        names = engine.permissions.catalogue.members(argv[2].decode("latin-1").lower())
    except AclError:
        raise ReplyError(f"ERR Unknown category '{shown(argv[2])}'") from None
    return bulks([name.encode() for name in names])


@server_command(
    "ACL SETUSER", arity=-3, flags=f"{ADMIN} logged", whole=True, since="6.0.0", group="server",
    complexity="O(N), N rules given", summary="Creates a user or changes it.",
)  # fmt: skip
def acl_setuser(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    name = argv[2]
    if any(byte in b" \t\n\v\f\r\0" for byte in name):
        raise ReplyError("ERR Usernames can't contain spaces or null characters")
    permissions = engine.permissions
    try:
        user = permissions.changed(name, argv[3:])
    except AclError as failure:
        raise ReplyError(f"ERR {failure}") from None
    if permissions.config.acl_file:
        engine.lose(permissions.put(user, engine.clients), client)
    else:
        client.emit([SET_USER, name, user.describe()])
        engine.follow_users(client)
    return OK


@server_command(
    "ACL DELUSER", arity=-3, flags=f"{ADMIN} logged", whole=True, since="6.0.0", group="server",
    complexity="O(1) for each user", summary="Deletes users and closes their connections.",
)  # fmt: skip
def acl_deluser(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    permissions = engine.permissions
    if b"default" in argv[2:]:
        raise ReplyError("ERR The 'default' user cannot be removed")
    names = [name for name in dict.fromkeys(argv[2:]) if name in permissions.users]
    if permissions.config.acl_file:
        for name in names:
            engine.lose(permissions.remove(name, engine.clients), client)
    elif names:
        client.emit([DELETE_USERS, *names])
        engine.follow_users(client)
    return integer(len(names))


@server_command(
    "ACL GETUSER", arity=3, flags=ADMIN, whole=True, since="6.0.0", group="server",
    complexity="O(N), N rules of the user", summary="Returns a user's rules.",
)  # fmt: skip
def acl_getuser(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    user = engine.permissions.users.get(argv[2])
    if user is None:
        return null(client.resp3)
    items = [
        bulk(b"flags"), _names(user.flags(), client.resp3),
        bulk(b"passwords"), bulks(user.hashes),
        *_permissions(user.selectors[0]),
        bulk(b"selectors"), array([mapping(_permissions(each), client.resp3) for each in user.selectors[1:]]),
    ]  # fmt: skip
    return mapping(items, client.resp3)


def _names(names: list[bytes], resp3: bool) -> bytes:
    """A set in RESP3, as Redis gives flags."""
    found = bulks(names)
    return b"~" + found[1:] if resp3 else found


def _permissions(selector: Selector) -> list[bytes]:
    return [
        bulk(b"commands"), bulk(selector.describe_commands().encode("latin-1")),
        bulk(b"keys"), bulk(selector.describe_keys()),
        bulk(b"channels"), bulk(selector.describe_channels()),
    ]  # fmt: skip


@server_command(
    "ACL LIST", arity=2, flags=ADMIN, whole=True, since="6.0.0", group="server",
    complexity="O(N), N users", summary="Returns each user as the line that makes it.",
)  # fmt: skip
def acl_list(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return bulks(engine.permissions.lines())


@server_command(
    "ACL USERS", arity=2, flags=ADMIN, whole=True, since="6.0.0", group="server",
    complexity="O(N), N users", summary="Returns the names of all users.",
)  # fmt: skip
def acl_users(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return bulks(sorted(engine.permissions.users))


@server_command(
    "ACL LOAD", arity=2, flags=ADMIN, since="6.0.0", group="server",
    complexity="O(N), N users in the file", summary="Reads the ACL file again.",
)  # fmt: skip
def acl_load(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if not engine.config.acl_file:
        raise ReplyError(NO_FILE)
    try:
        engine.lose(engine.permissions.load_file(engine.clients), client)
    except (AclError, OSError) as failure:
        raise ReplyError(f"ERR {failure}") from None
    return OK


@server_command(
    "ACL SAVE", arity=2, flags=ADMIN, since="6.0.0", group="server",
    complexity="O(N), N users", summary="Writes the users to the ACL file.",
)  # fmt: skip
def acl_save(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if not engine.config.acl_file:
        raise ReplyError(NO_FILE)
    try:
        engine.permissions.save_file()
    except OSError as failure:
        raise ReplyError(f"ERR There was an error trying to save the ACLs: {failure.strerror}") from None
    return OK


@command(
    "ACL GENPASS", arity=-2, flags="noscript loading stale", since="6.0.0", group="server",
    summary="Returns a random password.",
)  # fmt: skip
def acl_genpass(client: Client, argv: list[bytes]) -> bytes:
    if len(argv) > 3:
        raise wrong_subcommand(argv)
    bits = 256
    if len(argv) == 3:
        bits = parse_int(argv[2])
        if not 0 < bits <= GENPASS_BITS_MAX:
            raise ReplyError(BAD_BITS)
    digits = (bits + 3) // 4
    return bulk(secrets.token_hex((digits + 1) // 2)[:digits].encode())


@server_command(
    "ACL DRYRUN", arity=-4, flags=ADMIN, since="7.0.0", group="server",
    summary="Returns whether a user may run a command, without running it.",
)  # fmt: skip
def acl_dryrun(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    user = engine.permissions.users.get(argv[2])
    if user is None:
        raise ReplyError(f"ERR User '{shown(argv[2])}' not found")
    args = argv[3:]
    wanted = engine.commands.get(args[0].upper())
    if wanted is not None and wanted.subcommands and len(args) > 1:
        found = find_subcommand(wanted, args)
        wanted = None if isinstance(found, str) else found
    if wanted is None:
        raise ReplyError(f"ERR Command '{shown(args[0])}' not found")
    n, arity = len(args), wanted.arity
    if n != arity if arity >= 0 else n < -arity:
        raise wrong_arity(wanted.name)
    verdict, what = engine.permissions.judge(user, wanted, args)
    if verdict == ALLOWED:
        return OK
    if verdict == DENIED_COMMAND:
        return bulk(b"This user has no permissions to run the '%b' command" % what)
    return bulk(b"This user has no permissions to access the '%b' %b" % (what, REASONS[verdict].encode()))


@server_command(
    "ACL LOG", arity=-2, flags=ADMIN, since="6.0.0", group="server",
    complexity="O(N), N entries shown", summary="Returns what was refused to whom.",
)  # fmt: skip
def acl_log(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    log = engine.permissions.log
    if len(argv) > 3:
        raise wrong_subcommand(argv)
    count = 10
    if len(argv) == 3 and argv[2].upper() == b"RESET":
        log.clear()
        return OK
    if len(argv) == 3:
        count = max(0, parse_int(argv[2]))
    return array([_entry(each, client) for each in list(log)[:count]])


def _entry(entry: Refusal, client: Client) -> bytes:
    age = (client.store.now_ms - entry.updated_ms) / 1000
    items = [
        bulk(b"count"), integer(entry.count),
        bulk(b"reason"), bulk(REASONS[entry.reason].encode()),
        bulk(b"context"), bulk(entry.context.encode()),
        bulk(b"object"), bulk(entry.what),
        bulk(b"username"), bulk(entry.user),
        bulk(b"age-seconds"), double(age, client.resp3),
        bulk(b"client-info"), bulk(entry.who.encode()),
        bulk(b"entry-id"), integer(entry.number),
        bulk(b"timestamp-created"), integer(entry.created_ms),
        bulk(b"timestamp-last-updated"), integer(entry.updated_ms),
    ]  # fmt: skip
    return mapping(items, client.resp3)
