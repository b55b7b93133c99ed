"""Parting: what becomes of the clients of a primary that is none any more.

They came to write, and a connection that hears -READONLY for as long as it lives never finds the new primary: so it is
closed, once the client has what it is owed and the log names a primary to go to. Until then writes wait, for
a client that connects anew would only be sent back here. In cluster mode MOVED does all that; a server decides what to
close.

Other nodes may hear of the new primary a little later and go on sending clients here. So for as long as a node may
believe in the old primary, any client that is refused a write is closed after the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from eventdb.engine.client import HANDING

if TYPE_CHECKING:
    from eventdb.engine.client import Client
    from eventdb.engine.engine import Engine
    from eventdb.pipeline.turn import Timer


class Parting:
    """Of one node. `on_parted` closes the connections; a server sets it where they are to be closed."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.on_parted: Callable[[], None] | None = None
        self._due = False  # this node was the primary, and its clients do not know the new one yet
        self._hold: Timer | None = None
        self._strays: Timer | None = None  # until it rings, clients may be sent here by nodes that do not know yet

    def hold(self, seconds: float) -> None:
        """The lease is being given back: writes wait until the successor answers, at most that long."""
        self._due = True
        self.engine.gate |= HANDING
        self._hold = self.engine.turn.later(seconds, self._give_up)

    def stepped_down(self) -> None:
        """The state is forgotten, and nothing can be answered: close now, and new clients until `found`."""
        self._due = True
        self._let_go()
        self.close_all()

    def found(self, stray_seconds: float) -> None:
        """The log names another primary; other nodes go on naming this one for no longer than `stray_seconds`."""
        if not self._due:
            return
        self._due = False
        self._let_go()
        self.close_all()
        if self.on_parted is not None:
            self._stop_strays()
            self.engine.on_refused = _finish
            self._strays = self.engine.turn.later(stray_seconds, self._stop_strays)

    def returned(self) -> None:
        """This node is the primary again: what waits is run."""
        self._due = False
        self._stop_strays()
        self._let_go()

    def _give_up(self) -> None:
        """The successor has not come in time."""
        self.engine.topology.handing_over = False
        self._let_go()

    def close_all(self) -> None:
        if self.on_parted is not None:
            self.on_parted()

    def _let_go(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        self.engine.gate &= ~HANDING
        self.engine.run_stalled_later()

    def _stop_strays(self) -> None:
        self.engine.on_refused = None
        if self._strays is not None:
            self._strays.cancel()
            self._strays = None


def _finish(client: Client) -> None:
    client.finish()
