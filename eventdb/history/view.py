"""A materialized view without a server: the keyspace alone, for the CLI, restores, rebuilding and digests."""

from __future__ import annotations

import eventdb.keyspace.kinds  # noqa: F401
from eventdb.engine.settings import REDIS_VERSION
from eventdb.keyspace.databases import Keyspace
from eventdb.keyspace.events import apply_transactions
from eventdb.keyspace.value import Limits
from eventdb.rdb import state
from eventdb.replay.machine import Read, Write


class View:
    """The machine (replay/machine.py) of restores, of `eventdb log`, and of a node that reads its log again."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.keyspace = Keyspace(limits)

    def apply(self, transactions: list[list[bytes | list[bytes]]]) -> int:
        return apply_transactions(self.keyspace, transactions)

    def digest(self) -> str:
        return self.keyspace.digest()

    def key_count(self) -> int:
        return self.keyspace.key_count()

    def type_counts(self) -> dict[str, int]:
        return state.type_counts(self.keyspace)

    def dump(self, write: Write, facts: dict[str, str]) -> None:
        state.dump(self.keyspace, write, {"redis-ver": REDIS_VERSION, "redis-bits": "64", **facts})

    def load(self, read: Read) -> None:
        state.load(self, read)
