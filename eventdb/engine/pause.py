"""CLIENT PAUSE, a hand-over, a lapsed lease: commands wait, connections and reads need not.

Source: redis src/networking.c pauseClients.

A paused command is kept with its client and run when the pause ends; until then `Engine.may_run` keeps the client's
later commands waiting behind it. While a pause lasts no key expires either, so the state stands still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eventdb.engine.client import IN_MULTI, PAUSED, Client, Timer
from eventdb.engine.registry import WRITE, Command

if TYPE_CHECKING:
    from eventdb.engine.engine import Engine

# Not writes by their flags, though other nodes or clients see what they do (redis CMD_MAY_REPLICATE).
MAY_WRITE: Final = frozenset(("publish", "spublish", "eval", "evalsha", "fcall", "pfcount"))


class Pause:
    """The one pause of an engine: until when, and who waits. It lasts while the engine's gate says PAUSED."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.until_ms = 0
        self.writes_only = True
        self.stalled: dict[Client, None] = {}
        self.timer: Timer | None = None

    def start(self, ms: int, writes_only: bool) -> None:
        """Begin, or add to a pause that lasts: the later end counts, and so does the stricter kind."""
        engine = self.engine
        lasting = engine.gate & PAUSED != 0
        self.until_ms = max(self.until_ms if lasting else 0, engine.now_ms + ms)
        self.writes_only = writes_only and (self.writes_only or not lasting)
        engine.gate |= PAUSED
        if self.timer is not None:
            self.timer.cancel()
        if engine.call_later is not None:
            self.timer = engine.call_later((self.until_ms - engine.now_ms) / 1000, self.end)

    def stops(self, client: Client, command: Command) -> bool:
        """The command has to wait."""
        if not self.writes_only or command.bits & WRITE or command.name in MAY_WRITE:
            return True
        if command.name == "exec" and client.gate & IN_MULTI:
            for queued, _ in client.queue:
                if queued.bits & WRITE or queued.name in MAY_WRITE:
                    return True
        return False

    def stall(self, client: Client, argv: list[bytes]) -> None:
        client.stalled = argv
        self.stalled[client] = None

    def forget(self, client: Client) -> None:
        """The client is gone, and with it what it waited to run."""
        client.stalled = None
        self.stalled.pop(client, None)

    def end(self) -> None:
        """Let clients go on (CLIENT UNPAUSE, or the time is up)."""
        self.engine.gate &= ~PAUSED
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.go_on()

    def go_on(self) -> None:
        """Run what waits, unless something still keeps it; later, for the caller may be in the middle of a command."""
        if self.stalled:
            self.engine.commit.schedule(self._run_stalled)

    def refuse_all(self, text: str) -> None:
        """Answer every stalled command with an error; none of them was run."""
        clients, self.stalled = self.stalled, {}
        engine = self.engine
        for client in clients:
            argv = client.stalled or [b""]
            client.stalled = None
            engine.refuse(client, text, engine.commands.get(argv[0].upper()))
            engine.flush_later(client)
            client.sink.resume()

    def _run_stalled(self) -> None:
        """Run what was stalled, in the order it came; what a new pause stops is stalled again."""
        engine = self.engine
        engine.read_clock()
        clients, self.stalled = self.stalled, {}
        for client in clients:
            argv = client.stalled
            client.stalled = None
            if argv is not None:
                engine.call(client, argv)
                engine.flush_later(client)
                client.sink.resume()
