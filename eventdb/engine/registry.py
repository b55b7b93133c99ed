"""The command registry: each command is one small function beside its facts.

    @command("GET", arity=2, flags="readonly fast", keys=(1, 1, 1), acl="string", since="1.0.0",
             complexity="O(1)", summary="Returns the string value of a key.", group="string")
    def get(client: Client, argv: list[bytes]) -> bytes: ...

The facts follow redis src/commands/*.json as Redis 7.0 prints them by COMMAND INFO and COMMAND DOCS; a test compares
them with a real server. `argv[0]` is the command's name as the client spelled it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from eventdb.engine.client import Client

    Handler = Callable[[Client, list[bytes]], bytes]
    KeyFinder = Callable[[list[bytes]], list[bytes]]

# Bits of Command.flags that the server acts on; the names in FLAGS are what COMMAND INFO shows.
WRITE: Final = 1 << 0  # may emit events: refused on a replica
READONLY: Final = 1 << 1
WHOLE: Final = 1 << 2  # reads keys it does not name (KEYS, SCAN, DBSIZE …): waits for every pending batch
NO_AUTH: Final = 1 << 3  # allowed before authentication
NO_MULTI: Final = 1 << 4  # refused inside MULTI
BLOCKING: Final = 1 << 5
IMMEDIATE: Final = 1 << 7  # runs inside MULTI instead of being queued (EXEC, DISCARD, WATCH, MULTI, QUIT, RESET)
LOADING_OK: Final = 1 << 8  # may run while the state is being rebuilt

_BITS: Final[dict[str, int]] = {
    "write": WRITE,
    "readonly": READONLY,
    "no_auth": NO_AUTH,
    "no_multi": NO_MULTI,
    "blocking": BLOCKING,
    "loading": LOADING_OK,
}


class Command:
    """A command or subcommand and its facts. Counters are kept here so that counting costs an addition."""

    def __init__(self, name: str, handler: Handler | None, arity: int) -> None:
        self.name = name  # lower case; "config|get" for a subcommand
        self.handler = handler
        self.arity = arity  # counts the name; negative: at least
        self.bits = 0
        self.flags: list[str] = []  # as COMMAND INFO prints them, without what eventdb cannot have
        self.first_key = 0
        self.last_key = 0
        self.key_step = 0
        self.find_keys: KeyFinder | None = None  # for keys that move (EVAL, ZUNIONSTORE, LMPOP …)
        self.categories: list[str] = []  # ACL categories without "@"
        self.since = ""
        self.complexity = ""
        self.summary = ""
        self.group = ""
        self.tips: list[str] = []
        self.subcommands: dict[bytes, Command] = {}
        self.calls = 0
        self.failed_calls = 0
        self.rejected_calls = 0
        self.usec = 0.0

    def keys(self, argv: list[bytes]) -> list[bytes]:
        """The keys that this call names, in order."""
        if self.find_keys is not None:
            return self.find_keys(argv)
        if self.first_key == 0:
            return []
        last = self.last_key if self.last_key >= 0 else len(argv) + self.last_key
        return argv[self.first_key : last + 1 : self.key_step]


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
        "Depends on subcommand.",
        summary,
        group,
        "",
    )


def add(
    name: str,
    handler: Handler | None,
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
) -> None:
    words = name.split(" ")
    made = Command("|".join(words).lower(), handler, arity)
    made.flags = flags.split()
    for word in made.flags:
        made.bits |= _BITS.get(word, 0)
    if whole:
        made.bits |= WHOLE
    if immediate:
        made.bits |= IMMEDIATE
    made.first_key, made.last_key, made.key_step = keys
    made.find_keys = find_keys
    made.categories = _categories(made.flags, acl.split())
    made.since, made.complexity, made.summary, made.group = since, complexity, summary, group
    made.tips = tips.split()
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
    return list(dict.fromkeys(found))


def find_numkeys(argv: list[bytes], at: int, before: int = 0) -> list[bytes]:
    """Keys that a count at argv[at] announces, after `before` leading keys at argv[1:]; for `find_keys`."""
    leading = argv[1 : 1 + before]
    try:
        count = int(argv[at])
    except (ValueError, IndexError):
        return leading
    return leading + argv[at + 1 : at + 1 + max(0, count)]


def find_subcommand(command: Command, argv: list[bytes]) -> Command | str:
    """The subcommand that argv names, or the text of the error."""
    found = command.subcommands.get(argv[1].upper())
    if found is None:
        shown = argv[1].decode("utf-8", "replace")[:128]
        return f"ERR unknown subcommand '{shown}'. Try {command.name.upper()} HELP."
    n = len(argv)
    if n != found.arity if found.arity >= 0 else n < -found.arity:
        return f"ERR wrong number of arguments for '{found.name}' command"
    return found


def unknown_command(argv: list[bytes]) -> str:
    """The text of redis src/server.c for a command that is not there."""
    name = argv[0].decode("utf-8", "surrogateescape")[:128]
    shown = ""
    for arg in argv[1:]:
        if len(shown) >= 128:
            break
        shown += "'" + arg[: 128 - len(shown)].decode("utf-8", "surrogateescape") + "' "
    return f"ERR unknown command '{name}', with args beginning with: {shown}"
