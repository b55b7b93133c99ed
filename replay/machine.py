"""What replay drives: any state that is made by applying transactions in order.

Replay defines it and eventdb implements it (`eventdb.engine.engine.Engine`, `eventdb.history.view.View`), so that the
arrow of imports points one way and a test can put in a machine of five lines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

# [origin, event, event …]: who made it as text, then events as lists of byte strings. A plain list, as hiredis
# makes it: millions of them pass through a rebuild.
Transaction = list[bytes | list[bytes]]


class Machine(Protocol):
    """A materialized view in the making."""

    def apply(self, transactions: list[Transaction]) -> int:
        """Apply whole transactions in order; return how many events they held. An error leaves it unusable."""
        ...

    def digest(self) -> str:
        """Hexadecimal digits that depend on the whole state and on nothing else."""
        ...

    def key_count(self) -> int:
        """Keys held, expired ones that nobody deleted included."""
        ...


MachineFactory = Callable[[], Machine]
