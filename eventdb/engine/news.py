"""News: what a transaction means for clients that asked to hear of changes. Nothing of it runs while nobody has.

The events of a transaction are looked at once, on the way to the log on a primary and as they are applied on a
replica: so both say what was logged, the primary in the words of its command. `Store.heeded` is the one flag that the
hot path tests, once for each transaction; the bits CACHES of a client's gate and OBSERVED of the engine's let commands
pass by `before` as they begin.

What is said waits for the transaction's batch: any client that hears of a change can read it. To the client that made
the change it is said after the reply, as in Redis 7.2 (in 7.0 it may come before, or in the middle of it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import hiredis

from eventdb.engine.client import CACHES, IN_MULTI, OBSERVED
from eventdb.engine.command import READONLY, WRITE
from eventdb.engine.monitors import Monitors
from eventdb.engine.notifications import (
    CLASS_OF,
    CLASSES,
    EMPTIES,
    KEYEVENT,
    KEYSPACE,
    MISS,
    NEW,
    NO_MISS,
    NO_NAMES,
    OF_EVENT,
    OF_ORIGIN,
    ONLY_CONSUMERS,
    READS_FROM,
    RESTORED,
    SILENT,
    STORES,
    STREAM,
    command_name,
    moves,
    parse_classes,
)
from eventdb.engine.tracker import Tracker
from eventdb.engine.tracking import Tracking
from eventdb.keyspace.events import EVENTS, KEY_COPY, KEY_MOVE, KEY_WHOLE, touched_keys
from eventdb.keyspace.types.stream import StreamValue

if TYPE_CHECKING:
    from eventdb.engine.client import Client
    from eventdb.engine.command import Command
    from eventdb.engine.pubsub import PubSub
    from eventdb.engine.settings import Config
    from eventdb.engine.store import Store
    from eventdb.keyspace.databases import Db
    from eventdb.pipeline.outbox import Batch
    from eventdb.pipeline.turn import Turn

KIND_BYTES: Final = 20  # of an encoded event, in which its name begins
CREATE_CONSUMER: Final = b"xgroup-createconsumer"
Consumer = tuple[int, bytes, bytes, bytes]  # database, key, group, name


def unwrapped(command: Command, argv: list[bytes]) -> tuple[Command, list[bytes]]:
    """The command that EVENTDB.ONCE runs: it names what it changes; of any other, itself."""
    if command.inner is not None:
        inner = command.inner(argv)
        if not isinstance(inner, str):
            return inner, argv[2:]
    return command, argv


class News:
    """Of one engine."""

    def __init__(self, store: Store, turn: Turn, clients: dict[int, Client], pubsub: PubSub) -> None:
        self.store = store
        store.on_unchanged = self._unchanged
        self.turn = turn
        self.pubsub = pubsub
        self.tracking = Tracking(clients)
        self.monitors = Monitors()
        self.classes = 0  # of notifications; 0: none are sent
        self._reader: Any = hiredis.Reader()
        # of the transaction in the making
        self._seen = 0  # events that were looked at
        self._db: Db = store.keyspace.dbs[0]  # that they have come to
        self._found: list[tuple[int, bytes, bytes]] = []  # what is to be notified of: database, key, name
        self._absent: set[tuple[int, bytes]] = set()  # keys that the command names and that were not there
        self._no_consumers: set[Consumer] = set()  # the same, of consumers of streams

    def reconfigure(self, config: Config, gate: int) -> int:
        """Take over what a setting has changed; returns the engine's gate with the right bit."""
        self.tracking.keys_max = config.tracking_keys_max
        self.tracking.trim()
        classes = parse_classes(config.notify_classes)
        self.classes = classes if classes & (KEYSPACE | KEYEVENT) else 0
        self._look()
        return self._observed(gate)

    def _observed(self, gate: int) -> int:
        """The engine's gate, with the bit OBSERVED if commands have to pass by here as they begin."""
        observed = self.monitors.clients or self.classes & (MISS | NEW | STREAM)
        return gate | OBSERVED if observed else gate & ~OBSERVED

    def _look(self) -> None:
        """Somebody may have begun or ended to listen."""
        self.store.heeded = bool(self.tracking.trackers) or self.classes != 0
        if not self.store.heeded:
            self.drop()

    def forget(self) -> None:
        """The state is going to be another: what a batch that failed would have said is said of every key."""
        self.drop()
        self.tracking.forget()

    def drop(self) -> None:
        """Nothing is said of the transaction in the making: it is none any more, or nobody listens."""
        self._reset()
        self._found = []
        self.tracking.drop()

    def _reset(self) -> None:
        self._seen = 0
        self._db = self.store.keyspace.dbs[0]
        self._absent.clear()
        self._no_consumers.clear()
        self.store.reasons = []

    # -- clients

    def track(self, client: Client, tracker: Tracker) -> None:
        """CLIENT TRACKING ON."""
        self.tracking.begin(client, tracker)
        client.gate |= CACHES
        self._look()

    def monitor(self, client: Client, gate: int) -> int:
        """MONITOR; returns the engine's gate with the right bit."""
        client.is_monitor = True
        self.monitors.clients[client] = None
        return self._observed(gate)

    def untrack(self, client: Client) -> None:
        """CLIENT TRACKING OFF."""
        if client.tracker is not None:
            self.tracking.end(client)
            client.gate &= ~CACHES
            self._look()

    def leave(self, client: Client, gate: int) -> int:
        """The client is gone, or as new: it hears of nothing more. Returns the engine's gate with the right bit."""
        self.untrack(client)
        if not client.is_monitor:
            return gate
        client.is_monitor = False
        self.monitors.clients.pop(client, None)
        return self._observed(gate)

    # -- a command begins

    def before(self, client: Client, command: Command, argv: list[bytes]) -> None:
        """A client's own command is about to run."""
        tracker = client.tracker
        if tracker is not None:
            self.tracking.trim()
            self.tracking.ran(tracker, command, client.gate & IN_MULTI != 0)
        self.inside(client, command, argv, client.db)

    def inside(self, client: Client, command: Command, argv: list[bytes], db: Db, is_script: bool = False) -> None:
        """As `before`, of a command that an EXEC or a script runs for this client."""
        if self.monitors.clients and command.name != "exec":
            self.monitors.feed(client, command, argv, db, is_script)
        tracker = client.tracker
        if tracker is not None:
            self.tracking.note(client, tracker, command, argv)
        if command.inner is not None and argv[1] in self.store.keyspace.outcomes.kept:
            return  # a repeat reads nothing and changes nothing
        if self.classes & MISS and command.has_keys:
            inner, inner_argv = unwrapped(command, argv)
            self._note_misses(db, inner, inner_argv)
        self.look(db, command, argv)

    def ended(self, client: Client, argv: list[bytes]) -> None:
        """An EXEC has run its commands: monitors see it after them."""
        command = client.last_command
        if self.monitors.clients and command is not None:
            self.monitors.feed(client, command, argv, client.db, False)

    def look(self, db: Db, command: Command, argv: list[bytes]) -> None:
        """Note what is not there before a command that may make it."""
        if not self.classes & (NEW | STREAM) or not command.bits & WRITE or not command.has_keys:
            return
        command, argv = unwrapped(command, argv)
        if not command.has_keys:
            return
        keys = command.keys(argv)
        for key in keys:
            if not self._is_there(db, key):
                self._absent.add((db.index, key))
        name = command.name
        if name in ONLY_CONSUMERS or name == "xgroup|createconsumer":
            at = 3 if name == "xgroup|createconsumer" else 2
            for key in keys:
                self._note_consumer(db, key, argv[at], argv[at + 1])

    def _is_there(self, db: Db, key: bytes) -> bool:
        at_ms = db.expires.get(key)
        return key in db.values and (at_ms is None or at_ms > self.store.now_ms)

    def _note_consumer(self, db: Db, key: bytes, group: bytes, name: bytes) -> None:
        value = db.values.get(key)
        found = value.groups.get(group) if isinstance(value, StreamValue) else None
        if found is not None and name not in found.consumers:
            self._no_consumers.add((db.index, key, group, name))

    def _note_misses(self, db: Db, command: Command, argv: list[bytes]) -> None:
        name = command.name
        if command.bits & READONLY:
            if name in NO_MISS or command.group == "scripting":
                return
            start = 0
        else:
            start = READS_FROM.get(name, -1)
            if name == "set" and b"GET" in [arg.upper() for arg in argv[3:]]:
                start = 0
            if start < 0:
                return
        keys = command.keys(argv)[start:]
        if start == 0 and not command.bits & READONLY and name != "pfmerge":
            keys = keys[:1]
        for key in keys:
            if not self._is_there(db, key):
                for _ in range(2 if name == "xread" else 1):
                    self._say(db, key, b"keymiss")

    def _say(self, db: Db, key: bytes, name: bytes) -> None:
        """Notify of what is no event: with the transaction in the making, or else after the reply."""
        self._found.append((db.index, key, name))
        self.turn.schedule(self._tell_rest)

    # -- a transaction, on the primary

    def gather(self, command: Command | None, argv: list[bytes]) -> None:
        """The command has run: look at the events it has added to the transaction in the making."""
        events = self.store.events
        name = ""
        if command is not None:
            command, argv = unwrapped(command, argv)
            name = command.name
        stores = STORES.get(name)
        start = len(self._found)
        restored = False
        end = len(events)
        while end > self._seen and b"\nEVENTDB." in events[end - 1][:KIND_BYTES]:  # the outcome of a token
            end -= 1
        for i in range(self._seen, end):
            self._reader.feed(events[i])
            event = cast("list[bytes]", self._reader.gets())
            if event[0] == b"SELECT":
                self._db = self.store.keyspace.dbs[int(event[1])]
                continue
            self._change(event)
            if stores == RESTORED and event[0] != b"DEL":  # new, whatever it replaces, and made by any number of events
                if not restored:
                    self._absent.add((self._db.index, argv[1]))
                    self._add(argv[1], RESTORED)
                restored = True
            elif self.classes and name not in SILENT:
                own = self._reason(events[i])
                if own is None and event[0] == b"DEL" and stores is not None and i + 1 < end:
                    continue  # what the result replaces
                if own is None:
                    own = stores if stores is not None else command_name(name, argv, event[0])
                    if own is not None and event[0] == b"DEL":
                        if stores is None:
                            self._add(event[1], own)
                        own = None
                if name not in ONLY_CONSUMERS or event[0] != b"XGROUP" or event[1] == b"CREATECONSUMER":
                    self._name(event, own, start)
        self._seen = len(events)
        self._absent.clear()
        self._no_consumers.clear()

    def finish(self, client: Client | None, reply: bytes, batch: Batch) -> None:
        """The transaction that was gathered is in `batch`: hold the client's reply, and what others are told."""
        self._reset()
        if client is not None and len(reply):
            client.hold(batch, reply)
        self._deliver(batch)
        self.tracking.tell(client, batch)

    def _deliver(self, after: Batch | None) -> None:
        found, self._found = self._found, []
        for index, key, name in found:
            self._publish(index, key, name, after)

    def _publish(self, index: int, key: bytes, name: bytes, after: Batch | None) -> None:
        if self.classes & KEYSPACE:
            self.pubsub.deliver(b"__keyspace@%d__:%b" % (index, key), name, False, after)
        if self.classes & KEYEVENT:
            self.pubsub.deliver(b"__keyevent@%d__:%b" % (index, name), key, False, after)

    def _unchanged(self, db: Db | None, key: bytes, names: list[bytes]) -> None:
        """A command that changes nothing says so all the same: with its transaction, or else after its reply."""
        if db is None:
            self.tracking.change_all()
        else:
            self.tracking.change(key)
            for name in names:
                if self.classes & CLASS_OF.get(name, CLASSES["g"]):
                    self._say(db, key, name)
        self.turn.schedule(self._tell_rest)

    def _tell_rest(self) -> None:
        pending = self.store.commit.pending
        after = pending[-1] if pending else None
        self._deliver(after)
        self.tracking.tell(None, after)

    def _change(self, event: list[bytes]) -> None:
        """Keys that clients hold have changed."""
        kind = EVENTS[event[0]]
        if not self.tracking.trackers:
            return
        if kind.keys == KEY_WHOLE:
            self.tracking.change_all()
        for key in touched_keys(event, kind.keys) or ():
            self.tracking.change(key)

    # -- what an event is called

    def _reason(self, data: bytes) -> bytes | None:
        for event, name in self.store.reasons:
            if event is data:
                return name
        return None

    def _add(self, key: bytes, name: bytes, db: Db | None = None) -> None:
        """Notify of this name for the key, and before it of a new key, if it was absent."""
        index = self._db.index if db is None else db.index
        place = (index, key)
        if place in self._absent and key in self.store.keyspace.dbs[index].values:
            self._absent.discard(place)
            if self.classes & NEW:
                self._found.append((index, key, b"new"))
        if self.classes & CLASS_OF.get(name, CLASSES["g"]):
            self._found.append((index, key, name))

    def _name(self, event: list[bytes], own: bytes | None, start: int) -> None:
        """Note what one event of the log is called; own: what its command calls it. The state is that after it.

        start: where the notifications of this command begin; of several events alike, one is told.
        """
        kind, db = event[0], self._db
        name = OF_EVENT.get(kind)
        if name is not None:
            key, name = event[1], own or name
            if (db.index, key, name) not in self._found[start:]:
                self._add(key, name)
            if kind == b"SET" and len(event) > 4 and event[3] == b"PXAT":
                self._add(key, b"expire")
            if kind == b"HSETEX" and event[2] == b"PXAT":
                self._add(key, b"hexpire")
            if kind in EMPTIES and key not in db.values:
                self._add(key, b"del")
        elif kind == b"DEL":
            for key in event[1:]:
                self._add(key, own or b"del")
        elif kind == b"MSET":
            for key in event[1::2]:
                self._add(key, b"set")
        elif kind == b"LMOVE":
            for key, moved in moves(event[1], event[2], event[3], event[4]):
                self._add(key, moved)
            if event[1] not in db.values:
                self._add(event[1], b"del")
        elif kind == b"XGROUP" and event[1] != b"CREATECONSUMER":
            self._add(event[2], b"xgroup-" + event[1].lower())
        elif kind in (b"XREADGROUP", b"XCLAIM", b"XGROUP"):
            at = 2 if kind == b"XGROUP" else 1
            place = (db.index, event[at], event[at + 1], event[at + 2])
            if place in self._no_consumers:
                self._no_consumers.discard(place)
                self._add(event[at], CREATE_CONSUMER)
        else:
            self._name_moved(event, db)

    def _name_moved(self, event: list[bytes], db: Db) -> None:
        """RENAME, COPY and MOVE: what they make is new, whatever it replaces."""
        kind = event[0]
        dbs = self.store.keyspace.dbs
        if kind == b"RENAME":
            if event[1] != event[2]:
                self._absent.add((db.index, event[2]))
                if self.classes & NEW:
                    self._found.append((db.index, event[2], b"new"))
                self._absent.discard((db.index, event[2]))
                self._add(event[1], b"rename_from")
                self._add(event[2], b"rename_to")
        elif kind == b"COPY":
            other = dbs[int(event[4])]
            self._absent.add((other.index, event[2]))
            self._add(event[2], b"copy_to", other)
        elif kind == b"MOVE":
            other = dbs[int(event[2])]
            if self.classes & NEW:
                self._found.append((other.index, event[1], b"new"))
            self._add(event[1], b"move_from")
            self._add(event[1], b"move_to", other)

    # -- transactions from the log, on a replica

    def apply(self, transactions: list[list[bytes | list[bytes]]]) -> int:
        """Apply them one event after the other, so that each is seen with its own state, and report them at once."""
        count = 0
        for transaction in transactions:
            names = OF_ORIGIN.get(cast("bytes", transaction[0]), NO_NAMES)
            for part in transaction[1:]:
                event = cast("list[bytes]", part)
                count += 1
                if event[0] == b"SELECT":
                    self._db = self.store.keyspace.dbs[int(event[1])]
                    continue
                self._look_at(event)
                EVENTS[event[0]].apply(self._db, event)
                self._change(event)
                if self.classes:
                    self._name(event, names.get(event[0]), len(self._found))
            self._reset()
            self._deliver(None)
            self.tracking.tell(None, None)
        self.store.note_applied(transactions)
        return count

    def _look_at(self, event: list[bytes]) -> None:
        """As `look`, of an event."""
        kind = EVENTS[event[0]].keys
        if self.classes & NEW and kind not in (KEY_WHOLE, KEY_COPY, KEY_MOVE):
            for key in touched_keys(event, kind) or ():
                if key not in self._db.values:
                    self._absent.add((self._db.index, key))
        if self.classes & STREAM and event[0] in (b"XREADGROUP", b"XCLAIM", b"XGROUP"):
            at = 2 if event[0] == b"XGROUP" else 1
            if at == 1 or event[1] == b"CREATECONSUMER":
                self._note_consumer(self._db, event[at], event[at + 1], event[at + 2])
