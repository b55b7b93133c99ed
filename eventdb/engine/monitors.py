"""MONITOR: every command that runs, as a line, to the clients that asked for it.

A line says what was asked for and not what came of it, so it waits for nothing. Commands of class admin are left out
and passwords are not shown. Source: redis src/replication.c replicationFeedMonitors, src/server.c call.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from eventdb.metrics.slowlog import secret_from
from eventdb.protocol.numbers import counted

if TYPE_CHECKING:
    from eventdb.engine.client import Client
    from eventdb.engine.command import Command
    from eventdb.keyspace.databases import Db

ESCAPED: Final[dict[int, str]] = {
    34: '\\"', 92: "\\\\", 10: "\\n", 13: "\\r", 9: "\\t", 7: "\\a", 8: "\\b",
}  # fmt: skip
PLAIN: Final = re.compile(rb"[ !#-\[\]-~]*")  # nothing of it is escaped
REDACTED: Final = b"(redacted)"
SCRIPT: Final = "lua"  # in place of an address


class Monitors:
    """Of one engine."""

    def __init__(self) -> None:
        self.clients: dict[Client, None] = {}

    def feed(self, client: Client, command: Command, argv: list[bytes], db: Db, is_script: bool) -> None:
        """A command is about to run for this client."""
        if "admin" in command.flags:
            return
        if command.inner is not None:  # EVENTDB.ONCE, of which an ACL SETUSER may be inside
            inner = command.inner(argv)
            if isinstance(inner, str) or "admin" in inner.flags:
                return
        index = db.index
        if command.name == "select" and 0 <= counted(argv[1]) < len(db.keyspace.dbs):
            index = counted(argv[1])
        elif command.name == "reset":
            index = 0
        now = time.time()
        who = SCRIPT if is_script else client.address
        words = " ".join([quoted(arg) for arg in _shown(command.name, argv)])
        line = f"+{int(now)}.{int(now % 1 * 1e6):06d} [{index} {who}] {words}\r\n".encode()
        for each in self.clients:
            if each is not client or command.name != "reset":  # it is no monitor any more when RESET is answered
                each.push(line)


def _shown(name: str, argv: list[bytes]) -> list[bytes]:
    """The arguments, without passwords."""
    if name == "auth":
        return argv[:1] + [REDACTED] * (len(argv) - 1)
    found = list(argv)
    if name == "hello":
        for i in range(2, len(found)):
            if found[i].upper() == b"AUTH":  # cut short it is refused, and seen all the same
                for at in range(i + 1, min(i + 3, len(found))):
                    found[at] = REDACTED
                break
    if name == "migrate":
        for at in range(secret_from(argv), len(found)):
            found[at] = REDACTED
    return found


def quoted(arg: bytes) -> str:
    """An argument in quotes, bytes that are not printable escaped (redis sdscatrepr)."""
    if PLAIN.fullmatch(arg):
        return f'"{arg.decode()}"'
    parts = ['"']
    for c in list(arg):
        found = ESCAPED.get(c)
        if found is not None:
            parts.append(found)
        else:
            parts.append(chr(c) if 32 <= c < 127 else f"\\x{c:02x}")
    parts.append('"')
    return "".join(parts)
