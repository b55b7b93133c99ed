"""A client: what one connection (or one embedded caller) has chosen, queued, watched and is still owed.

It is the first argument of every command handler. Through `store` a handler reads and changes the keyspace; it reaches
neither the server nor the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eventdb.engine.watching import Watcher
from eventdb.keyspace.events import encode_event
from eventdb.pipeline.commit import ONE_EVENT
from eventdb.pipeline.outbox import Outbox, Sink
from eventdb.protocol.replies import NO_REPLY
from eventdb.security.acl import EVERYONE, User

if TYPE_CHECKING:
    from eventdb.engine.command import Command
    from eventdb.engine.store import Store
    from eventdb.engine.tracker import Tracker
    from eventdb.keyspace.databases import Db
    from eventdb.pipeline.turn import Timer, Turn

# Bits of Client.gate: why the next command needs more than a look-up before it may run.
NEEDS_AUTH: Final = 1
IN_MULTI: Final = 2
SUBSCRIBED: Final = 4  # RESP2 with subscriptions: only a few commands are allowed
FOLLOWING: Final = 8  # this node is a replica, or has not finished loading
PAUSED: Final = 16
LOADING: Final = 32  # the state is incomplete: only commands that read no key may run
CLUSTERED: Final = 64  # cluster-enabled: keys may belong to another node
LEASELESS: Final = 128  # this primary's lease has lapsed: commands that touch keys wait
FRESH: Final = 512  # this replica answers reads only when it has what the primary had when they came
HANDING: Final = 256  # the lease was given to a successor that is not there yet: writes wait
OUT_OF_MEMORY: Final = 1024  # above maxmemory: commands that need memory are refused on a primary
TRACKED: Final = 2048  # keys that commands name are noted, for OBJECT IDLETIME and FREQ
CACHES: Final = 8192  # of a client that caches: the keys it reads are noted (tracking.py)
OBSERVED: Final = 16384  # somebody asks to see commands as they begin (news.py)
RESTRICTED: Final = 32768  # its user may not do everything
LARGE: Final = 4096  # a command of megabytes is coming: it is asked how long it may take (effort.py)
BUSY: Final = 65536  # a script runs, and others are answered meanwhile: few commands may run
EVICTS: Final = 131072  # keys are evicted above maxmemory (eviction.py)
WATCHES: Final = OUT_OF_MEMORY | TRACKED | OBSERVED | EVICTS  # bits that keep a state from changing no more than usual


class Blocked:
    """A blocking command that waits for one of its keys."""

    def __init__(
        self, command: Command, argv: list[bytes], db: Db, keys: list[bytes], timeout_ms: int, timeout_reply: bytes,
        until_gone: bool,
    ) -> None:  # fmt: skip
        self.command = command
        self.argv = argv
        self.db = db
        self.keys = keys
        self.timeout_ms = timeout_ms  # 0: waits for ever
        self.timeout_reply = timeout_reply
        self.timer: Timer | None = None
        self.ready = b""  # the key that lets the command run again
        self.usec = 0.0  # spent before it blocked
        self.again_ms = 0  # when it runs again by itself, for `again_key`; 0: never
        self.again_key = b""
        self.again: Timer | None = None
        self.until_gone = until_gone  # runs again too when a key is deleted (XREADGROUP, whose group goes with it)


class Client(Outbox):
    """One client's state. `emit` is the only way in which a handler changes the keyspace."""

    def __init__(
        self, store: Store, turn: Turn, id: int, sink: Sink, address: str = "", local_address: str = ""
    ) -> None:
        super().__init__(turn, sink)
        self.store = store
        self.gate = 0
        self.db: Db = store.keyspace.dbs[0]
        self.blocked: Blocked | None = None
        self.stalled: list[bytes] | None = None  # the command that CLIENT PAUSE keeps from running
        self.last_command: Command | None = None
        self.active_ms = store.now_ms
        self.origin = b""  # who: the encoded bulk string that each of its transactions carries
        self.head = b""  # of a transaction with one event, in database 0
        self.id = id
        self.address = address
        self.local_address = local_address
        self.name = b""
        self.library_name = b""
        self.library_version = b""
        self.user: User = EVERYONE
        self.created_ms = store.now_ms
        self.resp3 = False
        self.queue: list[tuple[Command, list[bytes]]] = []  # inside MULTI
        self.queue_bytes = 0
        self.queue_failed = False
        self.watcher = Watcher()
        self.tracker: Tracker | None = None  # CLIENT TRACKING
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        self.shards: dict[bytes, None] = {}
        self.atomic: bool | None = None  # EVENTDB.ATOMIC; None: as the setting says
        self.is_monitor = False
        self.is_script = False  # it runs the commands of scripts
        self.is_node = False  # another node, to which messages are passed on
        self.embedded = False  # inside this process: RESP3 and a reply to every command, no password, never idle
        self.no_evict = False
        self.no_touch = False  # its commands do not count as uses of keys
        self.sync_options = 0  # what REPLCONF has said of a SYNC to come
        self.readonly_mode = False  # READONLY of Redis Cluster
        self.redirects = False  # CLIENT CAPA redirect: a replica names the primary in place of answering
        self.fresh_left = 0  # commands that had come when the primary was asked: what they read is fresh
        self.set_origin()

    def set_origin(self) -> None:
        """Call again after the name or address changed."""
        who = self.address.encode() or b"local"
        if self.name:
            who += b" " + self.name
        self.origin = b"$%d\r\n%b\r\n" % (len(who), who)
        self.head = ONE_EVENT + self.origin

    def head_of_one(self) -> bytes:
        """What a transaction of one event begins with, in this client's database."""
        db = self.db
        if db.index == 0:
            return self.head
        return b"*3\r\n" + self.origin + encode_event([b"SELECT", b"%d" % db.index])

    # -- reading and changing keys: what handlers use

    def lookup(self, key: bytes) -> object:
        """The value to read, or None. An expired key is hidden, never deleted: a read does not write."""
        db = self.db
        store = self.store
        value = db.values.get(key)
        if value is not None and db.expires:
            at_ms = db.expires.get(key)
            if at_ms is not None and at_ms <= store.now_ms:
                value = None
        if value is None:
            store.misses += 1
        else:
            store.hits += 1
        return value

    def lookup_write(self, key: bytes) -> object:
        """The value to change, or None. An expired key is deleted here, by an event, so that replay agrees."""
        db = self.db
        value = db.values.get(key)
        if value is not None and db.expires:
            at_ms = db.expires.get(key)
            if at_ms is not None and at_ms <= self.store.now_ms:
                self.store.expire(db, key)
                return None
        return value

    def emit(self, argv: list[bytes]) -> None:
        """Change the keyspace by one event in this client's database, and record it in the transaction."""
        self.store.emit(self.db, argv)

    def block(
        self, argv: list[bytes], keys: list[bytes], timeout_ms: int, timeout_reply: bytes, until_gone: bool = False
    ) -> bytes:
        """A blocking handler found nothing: wait for one of `keys`, then the handler is run again.

        Returns what the handler must return. timeout_ms 0 waits for ever. Inside MULTI the answer is
        `timeout_reply` at once. On a further run `self.blocked` is set; a key of the wrong type must then be
        treated as a key with nothing in it, as Redis does.
        """
        if self.blocked is not None:  # run again and still nothing
            return NO_REPLY
        if self.store.in_exec:
            return timeout_reply
        assert self.last_command is not None
        self.blocked = Blocked(self.last_command, argv, self.db, keys, timeout_ms, timeout_reply, until_gone)
        return NO_REPLY

    def keys_to_try(self, keys: list[bytes]) -> list[bytes]:
        """The keys a blocking handler looks at: all it was given; on a further run the one that became ready."""
        blocked = self.blocked
        return keys if blocked is None else [blocked.ready]

    def is_atomic(self) -> bool:
        """The first error of its EXECs and scripts undoes them."""
        return self.store.atomic_errors if self.atomic is None else self.atomic

    def hears_all(self) -> bool:
        """It is told of changes of any key, read by it or not, so what it is owed has no bound of its own."""
        return self.tracker is not None and self.tracker.bcast

    def listens(self) -> bool:
        """It may be sent what it did not ask for, and is never idle: a subscriber, a node, a session of a program."""
        return bool(self.channels or self.patterns or self.shards) or self.is_node or self.is_monitor or self.embedded
