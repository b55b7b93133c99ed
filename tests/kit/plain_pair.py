"""Two engines on one clock, one with plain runs and one without, that have to look the same after every chunk."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from eventdb.engine import plain_runs
from eventdb.engine.engine import Engine
from eventdb.engine.plain_runs import PlainRuns
from eventdb.server.connection import Connection, Unread
from eventdb.server.door import Door
from tests.kit import plain_run
from tests.kit.harness import Local
from tests.kit.transport import Ends

PATIENT = 2  # connections
COUNTED = (*dict.fromkeys(plain_runs.NAMES), b"DEL", b"ZRANGEBYLEX")

NOW = [1_700_000_000.0]  # both engines' clock; it moves when a test moves it

Run = Callable[..., int]


def find_run(folders: pytest.TempPathFactory) -> Run:
    """What was built, or in a pure tree what a compiler makes now."""
    found = plain_runs.find_runner()
    if found is not None:
        return found
    assert os.environ.get("EVENTDB_BUILD") != "compiled", "plain_run.c is missing in the compiled build"
    if plain_run.compiler() is None:
        pytest.skip("no C compiler")
    return plain_run.make(plain_run.build(folders.mktemp("plain_run")))


class Side:
    """An engine with some connections."""

    def __init__(self, run: Run | None) -> None:
        self.local = Local()
        self.plain = PlainRuns(self.local.engine, run)
        self.ran = 0
        self.connections: list[Connection] = []
        for number in range(PATIENT):
            connection = Connection(self.local.engine, {}, Unread(), self.plain, Door(self.local.engine))
            connection.connection_made(Ends())
            assert connection.client is not None
            connection.client.address = f"127.0.0.1:{number}"
            connection.client.set_origin()
            self.connections.append(connection)

    @property
    def engine(self) -> Engine:
        return self.local.engine

    def feed(self, number: int, data: bytes) -> dict[str, object]:
        """Let a connection receive a chunk; returns what anybody can see afterwards but the state."""
        before = self._counts()
        if data:
            self.plain.ran = 0
            self.connections[number].data_received(data)
            self.ran += self.plain.ran
        return {**self._seen(), "counts": [b - a for a, b in zip(before, self._counts(), strict=True)]}

    def turn(self) -> dict[str, object]:
        before = self._counts()
        self.local.turn()
        return {**self._seen(), "counts": [b - a for a, b in zip(before, self._counts(), strict=True)]}

    def _counts(self) -> list[int]:
        """Commands are shared by all engines of a process."""
        found: list[int] = []
        for name in COUNTED:
            command = self.engine.commands[name]
            found += [command.calls, command.failed_calls, command.rejected_calls]
        store = self.engine.store
        return [*found, store.hits, store.misses, store.expired_keys, self.engine.commands_run]

    def _seen(self) -> dict[str, object]:
        commit = self.engine.commit
        found: dict[str, object] = {
            "offset": commit.offset,
            "errors": dict(self.engine.statistics.errors),
            "open": (commit.open.count, commit.open.size, commit.open.dirty, commit.open.body()),
            "pending": [(batch.first_offset, batch.count, batch.dirty) for batch in commit.pending],
            "pending_size": commit.pending_size,
            "log": list(self.local.log),
        }
        for number, connection in enumerate(self.connections):
            client, transport = connection.client, connection.transport
            assert client is not None and isinstance(transport, Ends)
            last = client.last_command
            found[f"client {number}"] = (
                transport.data, client.owed, client.last_offset, "" if last is None else last.name, client.closing,
                [(part.batch.first_offset, list(part.replies)) for part in client.held], connection._waits(),
            )  # fmt: skip
        return found

    def state(self) -> tuple[str, list[object]]:
        dbs = self.engine.store.keyspace.dbs
        return self.engine.digest(), [(list(db.values), db.expires) for db in dbs[:2]]


class Pair:
    """The two sides, which have to look the same after every chunk."""

    def __init__(self, run: Run) -> None:
        self.quick, self.slow = Side(run), Side(None)

    def feed(self, number: int, data: bytes) -> None:
        assert self.quick.feed(number, data) == self.slow.feed(number, data), data

    def turn(self) -> None:
        assert self.quick.turn() == self.slow.turn()

    def finish(self) -> None:
        self.turn()
        assert self.quick.state() == self.slow.state()
        self.quick.local.check_replay()
