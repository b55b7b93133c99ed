"""A materialized view without a server: the keyspace alone, for the CLI, restores and digests at an offset."""

from __future__ import annotations

import eventdb.keyspace.kinds  # noqa: F401
from eventdb.keyspace.databases import Keyspace
from eventdb.keyspace.events import apply_transactions


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
