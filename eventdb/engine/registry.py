"""The command registry: each command is one small function beside its facts.

    @command("GET", arity=2, flags="readonly fast", keys=(1, 1, 1), acl="string", since="1.0.0",
             complexity="O(1)", summary="Returns the string value of a key.", group="string")
    def get(client: Client, argv: list[bytes]) -> bytes: ...

    @server_command("DBSIZE", arity=1, …)
    def dbsize(engine: Engine, client: Client, argv: list[bytes]) -> bytes: ...

A `command` handler reaches nothing but its client's view of the keyspace, so it runs as well on a view of the past.
What needs the server itself is a `server_command`.
The facts follow redis src/commands/*.json as Redis 7.0 prints them by COMMAND INFO and COMMAND DOCS; a test compares
them with a real server. `argv[0]` is the command's name as the client spelled it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from eventdb.engine.command import (
    ALLOW_BUSY,
    BLOCKING,
    DENY_OOM,
    IMMEDIATE,
    LOADING_OK,
    NO_AUTH,
    NO_MULTI,
    NOSCRIPT,
    PROTECTED,
    READONLY,
    SERVER,
    WHOLE,
    WRITE,
    Command,
    KeyFinder,
)
from eventdb.engine.effort import ELEMENT_USEC
from eventdb.protocol.errors import shown, wrong_arity

if TYPE_CHECKING:
    from eventdb.engine.client import Client

    Handler = Callable[[Client, list[bytes]], bytes]

ServerHandler = TypeVar("ServerHandler", bound=Callable[..., bytes])  # of the engine, the client and argv

# A flag of the registry only: a write here, which Redis does not call one, because here it goes into the log.
UNSHOWN: Final = "logged"
# The same: Redis knows it, and does not show it.
GUARDED: Final = "protected"
_BITS: Final[dict[str, int]] = {
    "write": WRITE,
    UNSHOWN: WRITE,
    GUARDED: PROTECTED,
    "readonly": READONLY,
    "no_auth": NO_AUTH,
    "no_multi": NO_MULTI,
    "noscript": NOSCRIPT,
    "blocking": BLOCKING,
    "loading": LOADING_OK,
    "denyoom": DENY_OOM,
    "allow_busy": ALLOW_BUSY,
}


CATEGORIES: Final = [  # in the order of redis src/acl.c
    "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo",
    "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction", "scripting",
]  # fmt: skip
COMMANDS: Final[dict[bytes, Command]] = {}  # by upper-case name; the server adds the lower-case spelling
# Of each container, by its name: filled in any order, so that nothing depends on which module is imported first.
SUBCOMMANDS: Final[dict[bytes, dict[bytes, Command]]] = {}


def command(
    name: str,
    *,
    arity: int,
    flags: str = "",
    keys: tuple[int, int, int] = (0, 0, 0),
    find_keys: KeyFinder | None = None,
    whole: bool = False,
    immediate: bool = False,
    acl: str = "",
    since: str = "1.0.0",
    complexity: str = "O(1)",
    summary: str = "",
    group: str = "generic",
    tips: str = "",
) -> Callable[[Handler], Handler]:
    """Register the decorated function as the handler of command `name` ("CONFIG GET" for a subcommand).

    flags: the words of COMMAND INFO, separated by spaces (write readonly denyoom admin pubsub noscript blocking
    loading stale fast no_auth no_multi movablekeys …). keys: first, last, step. acl: categories beyond those that
    the flags imply (write, read, fast or slow, admin and dangerous, pubsub, blocking).
    """

    def register(handler: Handler) -> Handler:
        add(
            name, handler, arity, flags, keys, find_keys, whole, immediate, acl, since, complexity, summary, group, tips
        )
        return handler

    return register


def server_command(
    name: str,
    *,
    arity: int,
    flags: str = "",
    keys: tuple[int, int, int] = (0, 0, 0),
    find_keys: KeyFinder | None = None,
    whole: bool = False,
    immediate: bool = False,
    acl: str = "",
    since: str = "1.0.0",
    complexity: str = "O(1)",
    summary: str = "",
    group: str = "generic",
    tips: str = "",
) -> Callable[[ServerHandler], ServerHandler]:
    """As `command`, for a handler that needs the server: it is called with the engine, the client and argv."""

    def register(handler: ServerHandler) -> ServerHandler:
        made = add(
            name, handler, arity, flags, keys, find_keys, whole, immediate, acl, since, complexity, summary, group, tips
        )
        made.bits |= SERVER
        return handler

    return register


def container(
    name: str, *, flags: str = "", acl: str = "", since: str, summary: str, group: str = "server", arity: int = -2
) -> None:
    """Register a command that only carries subcommands (CONFIG, CLIENT …)."""
    add(
        name,
        None,
        arity,
        flags,
        (0, 0, 0),
        None,
        False,
        False,
        acl,
        since,
        "That of the subcommand",
        summary,
        group,
        "",
    )


def add(
    name: str,
    handler: Callable[..., bytes] | None,
    arity: int,
    flags: str,
    keys: tuple[int, int, int],
    find_keys: KeyFinder | None,
    whole: bool,
    immediate: bool,
    acl: str,
    since: str,
    complexity: str,
    summary: str,
    group: str,
    tips: str,
) -> Command:
    """Register a command with all its facts."""
    words = name.split(" ")
    made = Command("|".join(words).lower(), handler, arity)
    for word in flags.split():
        made.bits |= _BITS.get(word, 0)
        if word not in (UNSHOWN, GUARDED):
            made.flags.append(word)
    if whole:
        made.bits |= WHOLE
    if immediate:
        made.bits |= IMMEDIATE
    made.first_key, made.last_key, made.key_step = keys
    made.find_keys = find_keys
    made.categories = _categories(made.flags, acl.split())
    made.since, made.complexity, made.summary, made.group = since, complexity, summary, group
    made.tips = tips.split()
    made.element_usec = ELEMENT_USEC.get(made.name, 0.0)
    made.checked = handler is None or made.element_usec > 0.0
    key = words[0].upper().encode()
    if len(words) == 1:
        assert key not in COMMANDS, name
        COMMANDS[key] = made
        made.subcommands = SUBCOMMANDS.setdefault(key, {})
    else:
        siblings = SUBCOMMANDS.setdefault(key, {})
        second = words[1].upper().encode()
        assert second not in siblings, name
        siblings[second] = made
    return made


def _categories(flags: list[str], extra: list[str]) -> list[str]:
    """ACL categories as redis src/server.c setImplicitACLCategories derives them from flags."""
    found = list(extra)
    if "write" in flags:
        found.append("write")
    if "readonly" in flags and "scripting" not in extra:
        found.append("read")
    if "admin" in flags:
        found += ["admin", "dangerous"]
    if "pubsub" in flags:
        found.append("pubsub")
    if "blocking" in flags:
        found.append("blocking")
    found.append("fast" if "fast" in flags else "slow")
    assert set(found) <= set(CATEGORIES), found
    return [category for category in CATEGORIES if category in found]


def find_numkeys(argv: list[bytes], at: int, before: int = 0) -> list[bytes]:
    """Keys that a count at argv[at] announces, after `before` leading keys at argv[1:]; for `find_keys`."""
    leading = argv[1 : 1 + before]
    try:
        count = int(argv[at])
    except (ValueError, IndexError):
        return leading
    return leading + argv[at + 1 : at + 1 + max(0, count)]


def called(argv: list[bytes]) -> Command | str:
    """The command or subcommand that argv calls, or the text of the error."""
    if not argv:
        return "ERR no command was given"
    command = COMMANDS.get(argv[0].upper())
    if command is None:
        return unknown_command(argv)
    n, arity = len(argv), command.arity
    if n != arity if arity >= 0 else n < -arity:
        return wrong_arity(command.name).text
    if command.handler is None or (command.subcommands and n > 1):
        return find_subcommand(command, argv)
    return command


def find_subcommand(command: Command, argv: list[bytes]) -> Command | str:
    """The subcommand that argv names, or the text of the error."""
    found = command.subcommands.get(argv[1].upper())
    if found is None:
        return f"ERR unknown subcommand '{shown(argv[1], 128)}'. Try {command.name.upper()} HELP."
    n = len(argv)
    if n != found.arity if found.arity >= 0 else n < -found.arity:
        return wrong_arity(found.name).text
    return found


def unknown_command(argv: list[bytes]) -> str:
    """The text of redis src/server.c for a command that is not there."""
    args = ""
    for arg in argv[1:]:
        if len(args) >= 128:
            break
        args += "'" + shown(arg, 128 - len(args)) + "' "
    return f"ERR unknown command '{shown(argv[0], 128)}', with args beginning with: {args}"
