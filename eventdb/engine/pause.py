"""CLIENT PAUSE, a hand-over, a lapsed lease: commands wait, connections and reads need not.

Source: redis src/networking.c pauseClients.

A paused command is kept with its client and run when the pause ends; until then `Engine.may_run` keeps the client's
later commands waiting after it. While a pause lasts no key expires either, so the state stands still. Here is only who
waits and until when: the engine acts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eventdb.engine.client import IN_MULTI, Client
from eventdb.engine.command import WRITE, Command

if TYPE_CHECKING:
    from eventdb.pipeline.turn import Timer

# Not writes by their flags, though other nodes or clients see what they do (redis CMD_MAY_REPLICATE).
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


class Pause:
    """The one pause of an engine. It lasts while the engine's gate says PAUSED."""

    def __init__(self) -> None:
        self.until_ms = 0
        self.writes_only = True
        self.stalled: dict[Client, None] = {}  # by the pause, or by a lapsed lease
        self.timer: Timer | None = None

    def extend(self, until_ms: int, writes_only: bool, lasting: bool) -> None:
        """Begin, or add to a pause that lasts: the later end counts, and so does the stricter kind."""
        self.until_ms = max(self.until_ms if lasting else 0, until_ms)
        self.writes_only = writes_only and (self.writes_only or not lasting)
        self.stop_timer()

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def stops(self, client: Client, command: Command) -> bool:
        """The command has to wait."""
        return not self.writes_only or may_write(client, command)

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
