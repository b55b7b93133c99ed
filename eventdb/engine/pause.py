"""CLIENT PAUSE, a hand-over, a lapsed lease: commands wait, connections and reads need not.

Source: redis src/networking.c pauseClients.

A paused command is kept with its client and run when the pause ends; until then `Engine.may_run` keeps the client's
later commands waiting after it. While a pause lasts no key expires either, so the state stands still. Here is only who
waits and until when: the engine acts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from eventdb.engine.client import IN_MULTI, Client
from eventdb.engine.command import WRITE, Command

if TYPE_CHECKING:
    from eventdb.pipeline.turn import Timer

# Not writes by their flags, though other nodes or clients see what they do (redis CMD_MAY_REPLICATE).
NO_WRITES: Final = re.compile(rb"#!lua\s(?:.*\s)?flags=(?:[\w-]*,)*no-writes(?:,|\s|$)")  # a script's first line
MAY_WRITE: Final = frozenset(("publish", "spublish", "eval", "evalsha", "fcall", "pfcount"))


def may_write(client: Client, command: Command) -> bool:
    """Others may see what it does, or what it runs of a MULTI."""
    if command.bits & WRITE or command.name in MAY_WRITE:
        return True
    if command.name == "exec" and client.gate & IN_MULTI:
        for queued, _ in client.queue:
            if queued.bits & WRITE or queued.name in MAY_WRITE:
                return True
    return False


class Span:
    """One pause, from its beginning to its end."""

    def __init__(self) -> None:
        self.lasts = False
        self.until_ms = 0
        self.writes_only = True
        self.timer: Timer | None = None

    def extend(self, now_ms: int, ms: int, writes_only: bool) -> float:
        """Begin, or add to a pause that lasts: the later end counts, and so does the stricter kind.

        Returns after how many seconds it ends.
        """
        self.until_ms = max(self.until_ms if self.lasts else 0, now_ms + ms)
        self.writes_only = writes_only and (self.writes_only or not self.lasts)
        self.stop_timer()
        self.lasts = True
        return (self.until_ms - now_ms) / 1000

    def end(self) -> None:
        self.lasts = False
        self.stop_timer()

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Pause:
    """Of an engine: what clients asked for, and the node's own. The gate says PAUSED while any of the two lasts.

    Neither ends the other: a restore in place that is done leaves the CLIENT PAUSE of an administrator as it is.
    """

    def __init__(self) -> None:
        self.asked = Span()
        self.own = Span()
        self.stalled: dict[Client, None] = {}  # by the pause, or by a lapsed lease
        # Whether a script or function that is known by this name writes nothing; None: no script has run yet.
        self.reads_only: Callable[[str, bytes], bool] | None = None

    def stops(self, client: Client, command: Command, argv: list[bytes]) -> bool:
        """The command has to wait."""
        if self.asked.lasts and not self.asked.writes_only:
            return True
        if command.name == "exec" and client.gate & IN_MULTI:
            return any(self._writes(queued, args) for queued, args in client.queue)
        return self._writes(command, argv)

    def _writes(self, command: Command, argv: list[bytes]) -> bool:
        """Others may see what it does; of a script its flags say so, as it runs under no others."""
        name = command.name
        if command.bits & WRITE or name not in MAY_WRITE:
            return command.bits & WRITE != 0
        if name == "eval":
            line, newline, _ = argv[1].partition(b"\n")
            return not (newline and NO_WRITES.match(line))
        if name in ("evalsha", "fcall") and self.reads_only is not None:
            return not self.reads_only(name, argv[1])
        return True

    def stall(self, client: Client, argv: list[bytes]) -> None:
        client.stalled = argv
        self.stalled[client] = None

    def forget(self, client: Client) -> None:
        """The client is gone, and with it what it waited to run."""
        client.stalled = None
        self.stalled.pop(client, None)

    def take_stalled(self) -> dict[Client, None]:
        """The clients that wait, in the order in which they began; they are no longer kept here."""
        stalled, self.stalled = self.stalled, {}
        return stalled
