"""The slow log: the last commands that took longer than slowlog-log-slower-than. Source: redis src/slowlog.c.

It times the handler alone, as Redis does: waiting for the log is not in it.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final

ARGUMENTS_MAX: Final = 32  # kept of one command
ARGUMENT_BYTES_MAX: Final = 128
REDACTED: Final = b"(redacted)"
SECRETS: Final = (  # settings that hold a password, or may
    "requirepass", "masterauth", "tls-key-file-pass", "tls-client-key-file-pass", "iam-key-command", "encryption-keys",
)  # fmt: skip
PASSWORDS: Final = tuple(name.encode() for name in (*SECRETS, "snapshot-store", "masteruser"))
SENTINELS: Final = (b"auth-pass", b"sentinel-pass")


class SlowCommand:
    """One entry."""

    def __init__(self, id: int, at: int, usec: int, argv: list[bytes], address: str, name: bytes) -> None:
        self.id = id
        self.at = at  # Unix seconds
        self.usec = usec
        self.argv = argv
        self.address = address
        self.name = name


class SlowLog:
    """Newest first, at most `entries_max` (slowlog-max-len)."""

    def __init__(self, entries_max: int) -> None:
        self.entries_max = entries_max
        self.entries: deque[SlowCommand] = deque()
        self.next_id = 0

    def add(self, argv: list[bytes], usec: int, address: str, name: bytes) -> None:
        """Keep a command of the client at `address`, called `name`."""
        entry = SlowCommand(self.next_id, int(time.time()), usec, _shortened(argv), address, name)
        self.next_id += 1
        self.entries.appendleft(entry)
        self.trim()

    def limit(self, entries_max: int) -> None:
        """Keep at most N from now on."""
        self.entries_max = entries_max
        self.trim()

    def trim(self) -> None:
        """Drop what is over the limit."""
        while len(self.entries) > self.entries_max:
            self.entries.pop()


def _shortened(argv: list[bytes]) -> list[bytes]:
    settings = _settings_from(argv)
    secret = len(argv) if settings < len(argv) else secret_from(argv)
    found: list[bytes] = []
    for i in range(min(len(argv), ARGUMENTS_MAX)):
        arg = argv[i]
        if i == ARGUMENTS_MAX - 1 and len(argv) > ARGUMENTS_MAX:
            found.append(b"... (%d more arguments)" % (len(argv) - ARGUMENTS_MAX + 1))
        elif i >= secret or (i > settings and (i - settings) % 2 and _holds_password(argv[i - 1])):
            found.append(REDACTED)
        elif len(arg) > ARGUMENT_BYTES_MAX:
            found.append(arg[:ARGUMENT_BYTES_MAX] + b"... (%d more bytes)" % (len(arg) - ARGUMENT_BYTES_MAX))
        else:
            found.append(arg)
    return found


def secret_from(argv: list[bytes]) -> int:
    """Index of the first argument that may be a password."""
    name = argv[0].upper()
    if name == b"EVENTDB.ONCE" and len(argv) > 2:
        return 2 + secret_from(argv[2:])
    if name == b"AUTH":
        return 1
    if name == b"HELLO":
        return 2
    if name == b"ACL" and len(argv) > 1 and argv[1].upper() in (b"SETUSER", b"GETUSER", b"DELUSER"):
        return 2
    if name == b"MIGRATE":
        for i in range(6, len(argv)):
            if argv[i].upper() in (b"AUTH", b"AUTH2"):
                return i + 1
    if name == b"SENTINEL" and any(arg.lower() in SENTINELS for arg in argv[2:]):
        return 2
    if name == b"CONFIG" and any(_holds_password(arg) for arg in argv[2:]):
        return 2
    return len(argv)


def _settings_from(argv: list[bytes]) -> int:
    """Index of the first name that CONFIG SET changes."""
    if argv[0].upper() == b"EVENTDB.ONCE" and len(argv) > 2:
        return 2 + _settings_from(argv[2:])
    if argv[0].upper() == b"CONFIG" and len(argv) > 1 and argv[1].upper() == b"SET":
        return 2
    return len(argv)


def _holds_password(setting: bytes) -> bool:
    """Its value may be one; a name that is not quite right counts too."""
    return any(word in setting.lower() for word in PASSWORDS)
