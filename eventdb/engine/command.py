"""A command: its facts beside its handler, as plain data. registry.py fills them in; clients and gates read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

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
SERVER: Final = 1 << 9  # its handler takes the engine first
NOSCRIPT: Final = 1 << 10  # refused inside a script
DENY_OOM: Final = 1 << 11  # needs memory: refused above maxmemory
PROTECTED: Final = 1 << 13  # runs only where a setting allows it, whatever the connection's state (DEBUG)
ALLOW_BUSY: Final = 1 << 12  # runs while a script keeps everything else waiting


class Command:
    """A command or subcommand and its facts. Counters are kept here so that counting costs an addition."""

    def __init__(self, name: str, handler: Callable[..., bytes] | None, arity: int) -> None:
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
        self.element_usec = 0.0  # of what it reads, if that may take long (effort.py)
        # Of a command that runs the one which its arguments name: that one, or why it may not.
        self.inner: Callable[[list[bytes]], Command | str] | None = None
        self.checked = handler is None  # it passes the gates although nothing else asks for that

    @property
    def has_keys(self) -> bool:
        """It may name keys."""
        return self.first_key != 0 or self.find_keys is not None

    def keys(self, argv: list[bytes]) -> list[bytes]:
        """The keys that this call names, in order."""
        if self.find_keys is not None:
            return self.find_keys(argv)
        if self.first_key == 0:
            return []
        last = self.last_key if self.last_key >= 0 else len(argv) + self.last_key
        return argv[self.first_key : last + 1 : self.key_step]
