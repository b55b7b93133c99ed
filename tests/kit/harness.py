"""Drive an engine without a network and without a log, and hold it to its promise: the events rebuild the state."""

from __future__ import annotations

from collections.abc import Callable

import hiredis

from eventdb import commands
from eventdb.cluster.topology import Member
from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.settings import Config
from eventdb.keyspace.choice import Choice
from eventdb.metrics.saves import Saves
from eventdb.pipeline.commit import Commit
from eventdb.pipeline.outbox import Batch
from eventdb.replay.cut import Wanted


class Collector:
    """A sink that keeps what was written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def resume(self) -> None:
        pass

    def close(self) -> None:
        pass


class StandIn:
    """A host that answers as a test says: StandIn(info_fields=lambda: {…}, fail_over=…, announced=…, shut_down=…)."""

    def __init__(self, **answers: Callable[..., object]) -> None:
        self.answers = answers

    def info_fields(self) -> dict[str, str]:
        return self.answers["info_fields"]() if "info_fields" in self.answers else {}  # type: ignore[return-value]

    def port(self) -> int:
        return 0

    def shut_down(self) -> bool:
        self.answers["shut_down"]()
        return True

    def fail_over(self, address: str | None, timeout_ms: int) -> None:
        self.answers["fail_over"](address, timeout_ms)

    def reload(self, done: Callable[[str], None]) -> None:
        self.answers["reload"](done)

    def give_state(self, client: Client, greeting: str, functions_only: bool) -> None:
        self.answers["give_state"](client, greeting, functions_only)

    def restore(self, client: Client, to: Wanted, choice: Choice, dry: bool) -> bytes:
        return self.answers["restore"](client, to, choice, dry)  # type: ignore[return-value]

    def save(self, done: Callable[[str], None]) -> None:
        self.answers["save"](done)

    def saves(self) -> Saves:
        return self.answers["saves"]() if "saves" in self.answers else Saves()  # type: ignore[return-value]

    def announced(self, member: Member, said: dict[str, object]) -> bytes | None:
        return self.answers["announced"](member, said)  # type: ignore[return-value]


class Local:
    """One engine whose batches are durable at once; `log` keeps their bodies."""

    def __init__(self, seed: int = 1, config: Config | None = None) -> None:
        commands.load()
        self.log: list[bytes] = []
        self.scheduled: list[Callable[[], None]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.engine = Engine(config or Config(), Commit(self._durable, self.scheduled.append), seed)
        self.engine.store.now_ms = 1_700_000_000_000
        self.engine.turn.call_later = self._call_later
        for db in self.engine.store.keyspace.dbs:
            db.track_deadlines()
        self.client = self.connect()

    def _durable(self, batch: Batch) -> None:
        self.log.append(batch.body())

        def answer() -> None:
            for client in self.engine.commit.completed(batch):
                client.flush()

        self.scheduled.append(answer)

    def _call_later(self, seconds: float, action: Callable[[], None]) -> _Timer:
        self.timers.append((seconds, action))
        return _Timer()

    def connect(self) -> Client:
        return self.engine.connect(Collector(), "127.0.0.1:1")

    def turn(self) -> None:
        """Run what was scheduled, until nothing is."""
        while self.scheduled:
            self.scheduled.pop(0)()

    def raw(self, *argv: bytes | str | int | float, client: Client | None = None) -> bytes:
        """Run one command and return the reply as it would go over the wire (b"" when blocked)."""
        who = client or self.client
        self.engine.call(who, [a if isinstance(a, bytes) else str(a).encode() for a in argv])
        self.turn()
        who.flush()
        return self.take(who)

    def take(self, client: Client) -> bytes:
        """What a client has received and nobody has looked at."""
        sink = client.sink
        assert isinstance(sink, Collector)
        data, sink.data = sink.data, b""
        return data

    def __call__(self, *argv: bytes | str | int | float, client: Client | None = None) -> object:
        """Run one command and return the reply decoded; errors are returned as exceptions, not raised."""
        reader = hiredis.Reader()
        reader.feed(self.raw(*argv, client=client))
        reply = reader.gets()
        return None if reply is False else reply

    def transactions(self) -> list[list[object]]:
        """Everything logged so far, decoded: [origin, event, event …] each."""
        reader = hiredis.Reader()
        reader.feed(b"".join(self.log))
        found = []
        while (transaction := reader.gets()) is not False:
            found.append(transaction)
        return found

    def events(self) -> list[list[bytes]]:
        """All events logged so far, flat."""
        return [event for transaction in self.transactions() for event in transaction[1:]]  # type: ignore[misc]

    def check_replay(self) -> None:
        """The same log gives the same digest."""
        replica = Engine(Config(), Commit(lambda batch: None, lambda action: None), 2)
        replica.apply(self.transactions())  # type: ignore[arg-type]
        assert replica.digest() == self.engine.store.keyspace.digest()


class _Timer:
    def cancel(self) -> None:
        pass
