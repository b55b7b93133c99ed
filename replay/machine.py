"""What replay drives: any state that is made by applying transactions in order, and can be written down and read back.

Replay defines it and eventdb implements it (`eventdb.engine.engine.Engine`, `eventdb.history.view.View`), so that the
arrow of imports points one way and a test can put in a machine of a few lines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from eventdb.backends.log import LogError

# [origin, event, event …]: its origin as text, then events as lists of byte strings. A plain list, as hiredis
# makes it: millions of them pass through a rebuild.
Transaction = list[bytes | list[bytes]]

Write = Callable[[bytes], object]
Read = Callable[[int], bytes]  # up to N bytes; b"" at the end


class DamagedState(LogError):  # noqa: N818 - named as the errors of log.py are
    """What should be loaded is not what `dump` writes."""


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

    def type_counts(self) -> dict[str, int]:
        """Keys held, by the name of their type."""
        ...

    def dump(self, write: Write, facts: dict[str, str]) -> None:
        """Hand the whole state to `write` in pieces, with `facts` that a reader of it is shown. Called in a thread,
        while nothing is applied. Raises LogError when there is no form for some of it."""
        ...

    def load(self, read: Read) -> None:
        """Take a state that `dump` wrote; the machine is a fresh one. Called in a thread. Raises a child of LogError
        for what is damaged, and the machine is unusable then."""
        ...


MachineFactory = Callable[[], Machine]
