"""News: what a transaction means for those who asked to hear of changes. Nothing of it runs while nobody has.

The events of a transaction are looked at once, on the way to the log on a primary and as they are applied on a
replica: so both say the same, and what is said is what was logged. `Store.heeded` is the one flag that the hot path
tests, once for each transaction; the bits CACHES of a client's gate and OBSERVED of the engine's let commands pass by
`before` as they begin.

What is said waits for the transaction's batch: whoever hears of a change can read it. Notifications stand before the
reply of the client that made the change, invalidations after it, as in Redis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import hiredis

from eventdb.engine.client import CACHES, IN_MULTI
from eventdb.engine.tracker import Tracker
from eventdb.engine.tracking import Tracking
from eventdb.keyspace.events import EVENTS, KEY_WHOLE, touched_keys

if TYPE_CHECKING:
    from eventdb.engine.client import Client
    from eventdb.engine.command import Command
    from eventdb.engine.pubsub import PubSub
    from eventdb.engine.settings import Config
    from eventdb.engine.store import Store
    from eventdb.keyspace.databases import Db
    from eventdb.pipeline.outbox import Batch
    from eventdb.pipeline.turn import Turn


class News:
    """Of one engine."""

    def __init__(self, store: Store, turn: Turn, clients: dict[int, Client], pubsub: PubSub) -> None:
        self.store = store
        store.on_unchanged = self._unchanged
        self.turn = turn
        self.pubsub = pubsub
        self.tracking = Tracking(clients)
        self._reader: Any = hiredis.Reader()
        # of the transaction in the making
        self._seen = 0  # events that were looked at

    def reconfigure(self, config: Config) -> None:
        """Take over what a setting has changed."""
        self.tracking.keys_max = config.tracking_keys_max
        self.tracking.trim()
        self._look()

    def _look(self) -> None:
        """Somebody may have begun or ended to listen."""
        self.store.heeded = bool(self.tracking.trackers)

    def forget(self) -> None:
        """The state is going to be another: what a batch that failed would have said is said of every key."""
        self._seen = 0
        self.tracking.forget()

    # -- clients

    def track(self, client: Client, tracker: Tracker) -> None:
        """CLIENT TRACKING ON."""
        self.tracking.begin(client, tracker)
        client.gate |= CACHES
        self._look()

    def leave(self, client: Client) -> None:
        """The client is gone, or as new: it hears of nothing more."""
        if client.tracker is not None:
            self.tracking.end(client)
            client.gate &= ~CACHES
            self._look()

    # -- a command begins

    def before(self, client: Client, command: Command, argv: list[bytes]) -> None:
        """A client's own command is about to run."""
        tracker = client.tracker
        if tracker is not None:
            self.tracking.trim()
            self.tracking.ran(tracker, command, client.gate & IN_MULTI != 0)
        self.inside(client, command, argv)

    def inside(self, client: Client, command: Command, argv: list[bytes]) -> None:
        """As `before`, of a command that an EXEC or a script runs for this client."""
        tracker = client.tracker
        if tracker is not None:
            self.tracking.note(client, tracker, command, argv)

    # -- a transaction, on the primary

    def gather(self, command: Command | None, argv: list[bytes]) -> None:
        """The command has run: look at the events it has added to the transaction in the making."""
        events = self.store.events
        for i in range(self._seen, len(events)):
            self._reader.feed(events[i])
            self._note(cast("list[bytes]", self._reader.gets()))
        self._seen = len(events)

    def finish(self, client: Client | None, reply: bytes, batch: Batch) -> None:
        """The transaction that was gathered is in `batch`: hold the client's reply, and what others are told."""
        self._seen = 0
        if client is not None and len(reply):
            client.hold(batch, reply)
        self.tracking.tell(client, batch)

    def _unchanged(self, db: Db | None, key: bytes) -> None:
        """A command that changes nothing says so all the same: with its transaction, or else after its reply."""
        if db is None:
            self.tracking.change_all()
        else:
            self.tracking.change(key)
        self.turn.schedule(self._tell_rest)

    def _tell_rest(self) -> None:
        pending = self.store.commit.pending
        self.tracking.tell(None, pending[-1] if pending else None)

    def _note(self, event: list[bytes]) -> None:
        kind = EVENTS.get(event[0])
        if kind is None:  # a SELECT
            return
        if kind.keys == KEY_WHOLE:
            self.tracking.change_all()
            return
        for key in touched_keys(event, kind.keys) or ():
            self.tracking.change(key)

    # -- transactions from the log, on a replica

    def apply(self, transactions: list[list[bytes | list[bytes]]]) -> int:
        """Apply them through the store, and tell at once: they are durable."""
        count = self.store.apply(transactions)
        for transaction in transactions:
            for event in transaction[1:]:
                self._note(cast("list[bytes]", event))
            self.tracking.tell(None, None)
        return count
