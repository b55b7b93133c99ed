"""A materialized view without a server: the keyspace alone, for the CLI, restores and digests at an offset."""

from __future__ import annotations

import eventdb.commands  # registers every event kind  # noqa: F401
from eventdb.events import apply_transactions
from eventdb.keyspace import Keyspace


class View:
    """The machine (replay/machine.py) that `eventdb restore` and `eventdb log` rebuild."""

    def __init__(self) -> None:
        self.keyspace = Keyspace()

    def apply(self, transactions: list[list[bytes | list[bytes]]]) -> int:
        return apply_transactions(self.keyspace, transactions)

    def digest(self) -> str:
        return self.keyspace.digest()

    def key_count(self) -> int:
        return self.keyspace.key_count()
