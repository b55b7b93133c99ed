"""Client-side caching: which clients hold which keys, and how they hear that one has changed (CLIENT TRACKING).

Keys are kept by name, not by database, as Redis keeps them. A key is noted before the command that reads it runs, and
its entry goes with the first change after that: so a client hears of the first change only, until it reads again. What
is said of a change waits for the change's own batch, in the order of all that the client is owed: any client that
drops a value and asks again finds the one that replaced it.
Source: redis src/tracking.c, src/networking.c (clientCommand).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eventdb.engine.command import READONLY, Command
from eventdb.engine.tracker import Tracker
from eventdb.protocol.replies import bulk, bulks, integer, null, push

if TYPE_CHECKING:
    from eventdb.engine.client import Client
    from eventdb.pipeline.outbox import Batch

CHANNEL: Final = b"__redis__:invalidate"
SCRIPTS: Final = frozenset(("eval_ro", "evalsha_ro", "fcall_ro"))  # what they call is noted, not what they name


class Tracking:
    """Of one engine."""

    def __init__(self, clients: dict[int, Client]) -> None:
        self.clients = clients  # of the engine, by id
        self.trackers: dict[Client, Tracker] = {}
        self.holders: dict[bytes, dict[int, None]] = {}  # by key: ids of clients; some may be gone
        self.items = 0  # in all of `holders`
        self.prefixes: dict[bytes, dict[Client, None]] = {}
        self.keys_max = 0  # 0: no limit
        # by the transaction in the making
        self.changed: dict[bytes, None] = {}
        self.taken: list[tuple[bytes, dict[int, None]]] = []  # of them, those that clients held
        self.flushed = False

    def begin(self, client: Client, tracker: Tracker) -> None:
        """Track for this client from now on; further prefixes are added to those it has."""
        before = self.trackers.get(client)
        for prefix in tracker.prefixes:
            self.prefixes.setdefault(prefix, {})[client] = None
        if before is not None and before.bcast:
            tracker.prefixes = before.prefixes + [each for each in tracker.prefixes if each not in before.prefixes]
        self.trackers[client] = client.tracker = tracker

    def end(self, client: Client) -> None:
        """Off. Its entries in `holders` go when their keys change."""
        tracker = self.trackers.pop(client, None)
        client.tracker = None
        if tracker is not None:
            for prefix in tracker.prefixes:
                found = self.prefixes.get(prefix)
                if found is not None:
                    found.pop(client, None)
                    if not found:
                        del self.prefixes[prefix]

    def ran(self, tracker: Tracker, command: Command, in_multi: bool) -> None:
        """A client's own command is about to run: CLIENT CACHING was for one command, or for one MULTI and its EXEC."""
        if tracker.caching_used:
            tracker.caching = tracker.caching_used = False
        name = command.name
        if not name.startswith("client|") and name != "multi" and (not in_multi or name in ("exec", "discard")):
            tracker.caching_used = True

    def note(self, client: Client, tracker: Tracker, command: Command, argv: list[bytes]) -> None:
        """The client is about to read the keys of this command."""
        if tracker.bcast or not command.bits & READONLY or not command.has_keys or command.name in SCRIPTS:
            return
        if (tracker.optin and not tracker.caching) or (tracker.optout and tracker.caching):
            return
        for key in command.keys(argv):
            found = self.holders.get(key)
            if found is None:
                self.holders[key] = {client.id: None}
                self.items += 1
            elif client.id not in found:
                found[client.id] = None
                self.items += 1

    def trim(self) -> None:
        """Hold to tracking-table-max-keys: the clients of the keys noted first are told to forget them.

        Not while a command runs whose reply has these keys: it would come after that, and be kept for ever.
        """
        while self.keys_max and len(self.holders) > self.keys_max:
            key, holders = next(iter(self.holders.items()))
            del self.holders[key]
            self.items -= len(holders)
            self._tell_holders(key, holders, None, None)

    def change(self, key: bytes) -> None:
        """The key has changed, and is in no client's hands any more; `tell` says so, at the end of the transaction."""
        self.changed[key] = None
        holders = self.holders.pop(key, None)
        if holders is not None:
            self.items -= len(holders)
            self.taken.append((key, holders))

    def change_all(self) -> None:
        """Any key may have changed."""
        self.flushed = True
        self.holders = {}
        self.items = 0

    def tell(self, writer: Client | None, after: Batch | None) -> None:
        """Say what has changed, once `after` is durable. writer: whose command it was."""
        changed, self.changed = self.changed, {}
        taken, self.taken = self.taken, []
        if self.flushed:
            self.flushed = False
            for client, tracker in list(self.trackers.items()):
                self._tell(client, tracker, null(client.resp3), after)
        for key, holders in taken:
            self._tell_holders(key, holders, writer, after)
        for prefix, clients in sorted(self.prefixes.items(), key=lambda item: item[0]) if changed else []:
            found = sorted([key for key in changed if key.startswith(prefix)])
            if found:
                encoded = bulks(found)
                for client in list(clients):
                    found_tracker = client.tracker
                    if found_tracker is not None and not (found_tracker.noloop and client is writer):
                        self._tell(client, found_tracker, encoded, after)

    def forget(self) -> None:
        """The state is going to be another: what a batch that failed would have said is said of every key."""
        self.change_all()
        self.tell(None, None)

    def drop(self) -> None:
        """Nothing is said of the transaction in the making."""
        self.changed = {}
        self.taken = []
        self.flushed = False

    def _tell_holders(self, key: bytes, holders: dict[int, None], writer: Client | None, after: Batch | None) -> None:
        encoded = bulks([key])
        for number in holders:
            client = self.clients.get(number)
            tracker = client.tracker if client is not None else None
            if client is None or tracker is None or tracker.bcast or (tracker.noloop and client is writer):
                continue
            self._tell(client, tracker, encoded, after)

    def _tell(self, client: Client, tracker: Tracker, what: bytes, after: Batch | None) -> None:
        """A RESP3 client gets a push; one of RESP2 only by redirection, and as a subscriber."""
        target = client
        if tracker.redirect:
            found = self.clients.get(tracker.redirect)
            if found is None:
                tracker.broken = True
                if client.resp3:
                    client.push(push([bulk(b"tracking-redir-broken"), integer(tracker.redirect)], True), after)
                return
            target = found
        if target.resp3:
            target.push(push([bulk(b"invalidate"), what], True), after)
        elif target is not client and (target.channels or target.patterns or target.shards):
            target.push(push([bulk(b"message"), bulk(CHANNEL), what], False), after)
