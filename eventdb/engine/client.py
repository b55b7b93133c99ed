"""A client: what one connection (or one embedded caller) has chosen, queued, watched and is still owed.

It is the first argument of every command handler. Sans-IO: replies leave through `sink`, an object of the
connection or the embedded API.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from eventdb.protocol.replies import error

if TYPE_CHECKING:
    from eventdb.engine.engine import Engine
    from eventdb.engine.registry import Command
    from eventdb.keyspace.databases import Db
    from eventdb.pipeline.commit import Batch

# Bits of Client.gate: why the next command needs more than a look-up before it may run.
NEEDS_AUTH: Final = 1
IN_MULTI: Final = 2
SUBSCRIBED: Final = 4  # RESP2 with subscriptions: only a few commands are allowed
FOLLOWING: Final = 8  # this node is a replica, or has not finished loading
PAUSED: Final = 16
LOADING: Final = 32  # the state is incomplete: only commands that read no key may run
CLUSTERED: Final = 64  # cluster-enabled: keys may belong to another node
LEASELESS: Final = 128  # this primary's lease has lapsed: commands that touch keys wait

# Values of Client.reply_mode (CLIENT REPLY). Pushed messages leave in any mode.
REPLY_ON: Final = 0
REPLY_OFF: Final = 1
REPLY_SKIP: Final = 2  # the next reply


class Sink(Protocol):
    """Where a client's replies go."""

    def write(self, data: bytes) -> None:
        """Take bytes for the client; called at most once a loop turn per client."""

    def resume(self) -> None:
        """The client may run its next command: it is unblocked, or the commit pipeline has room again."""

    def close(self) -> None:
        """Close once everything written has left. May be called again."""


class Timer(Protocol):
    """What `call_later` returns (asyncio.TimerHandle)."""

    def cancel(self) -> None: ...


class Segment:
    """Replies, and messages between them, that leave when their batch is durable."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.replies: list[bytes] = []
        self.pushed: dict[int, Batch | None] | None = None  # which answer no command, and the batch each tells of

    def push(self, data: bytes, after: Batch | None) -> None:
        if self.pushed is None:
            self.pushed = {}
        self.pushed[len(self.replies)] = after
        self.replies.append(data)

    def failed(self, i: int, answer: bytes) -> bytes:
        """What is sent for reply i when the batch failed: `answer`; for a pushed message itself, or nothing when what
        it may tell of is not durable."""
        if self.pushed is None or i not in self.pushed:
            return answer
        after = self.pushed[i]
        return self.replies[i] if after is None or after.durable else b""


class Watch:
    """One key that a client watches."""

    def __init__(self, client: Client, db: Db, key: bytes, expired: bool) -> None:
        self.client = client
        self.db = db
        self.key = key
        self.expired = expired  # when it was watched, though not yet deleted


class Blocked:
    """A blocking command that waits for one of its keys."""

    def __init__(self, command: Command, argv: list[bytes], db: Db, keys: list[bytes], timeout_reply: bytes) -> None:
        self.command = command
        self.argv = argv
        self.db = db
        self.keys = keys
        self.timeout_reply = timeout_reply
        self.timer: Timer | None = None
        self.ready = b""  # the key that lets the command run again


class Client:
    """One client's state. `emit` is the only way in which a handler changes the keyspace."""

    def __init__(self, engine: Engine, id: int, sink: Sink, address: str = "", local_address: str = "") -> None:
        # What nearly every command touches stands first: a compiled object keeps this order, in few cache lines.
        self.engine = engine
        self.sink = sink
        self.gate = 0
        self.db: Db = engine.keyspace.dbs[0]
        self.blocked: Blocked | None = None
        self.stalled: list[bytes] | None = None  # the command that CLIENT PAUSE keeps from running
        self.closing = False  # nothing more is run for it
        self.reply_mode = REPLY_ON
        self.last_command: Command | None = None
        self.last_offset = 0  # of this client's last transaction
        self.out: list[bytes] = []  # may leave now
        self.held: list[Segment] = []  # wait for their batches, oldest first; few, so a list is quickest
        self.owed = 0  # bytes in out and held
        self.active_ms = engine.now_ms
        self.origin = b""  # who: the encoded bulk string that each of its transactions carries
        self.id = id
        self.address = address
        self.local_address = local_address
        self.name = b""
        self.library_name = b""
        self.library_version = b""
        self.user = b"default"
        self.created_ms = engine.now_ms
        self.resp3 = False
        self.queue: list[tuple[Command, list[bytes]]] = []  # inside MULTI
        self.queue_bytes = 0
        self.queue_failed = False
        self.watching: list[Watch] = []
        self.watch_broken = False
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        self.shards: dict[bytes, None] = {}
        self.no_evict = False
        self.readonly_mode = False  # READONLY of Redis Cluster
        self.commands_run = 0
        self.set_origin()

    def set_origin(self) -> None:
        """Call again after the name or address changed."""
        who = self.address.encode() or b"local"
        if self.name:
            who += b" " + self.name
        self.origin = b"$%d\r\n%b\r\n" % (len(who), who)

    # -- reading and changing keys: what handlers use

    def lookup(self, key: bytes) -> object:
        """The value to read, or None. An expired key is hidden, never deleted: a read does not write."""
        db = self.db
        engine = self.engine
        value = db.values.get(key)
        if value is not None and db.expires:
            at_ms = db.expires.get(key)
            if at_ms is not None and at_ms <= engine.now_ms:
                value = None
        if value is None:
            engine.misses += 1
        else:
            engine.hits += 1
        return value

    def lookup_write(self, key: bytes) -> object:
        """The value to change, or None. An expired key is deleted here, by an event, so that replay agrees."""
        db = self.db
        value = db.values.get(key)
        if value is not None and db.expires:
            at_ms = db.expires.get(key)
            if at_ms is not None and at_ms <= self.engine.now_ms:
                self.engine.expire(db, key)
                return None
        return value

    def emit(self, argv: list[bytes]) -> None:
        """Change the keyspace by one event in this client's database, and record it in the transaction."""
        self.engine.emit(self.db, argv)

    def block(self, argv: list[bytes], keys: list[bytes], timeout_ms: int, timeout_reply: bytes) -> bytes:
        """A blocking handler found nothing: wait for one of `keys`, then the handler is run again.

        Returns what the handler must return. timeout_ms 0 waits for ever. Inside MULTI the answer is
        `timeout_reply` at once. On a further run `self.blocked` is set; a key of the wrong type must then be
        treated as a key with nothing in it, as Redis does.
        """
        return self.engine.block(self, argv, keys, timeout_ms, timeout_reply)

    def keys_to_try(self, keys: list[bytes]) -> list[bytes]:
        """The keys a blocking handler looks at: all it was given; on a further run the one that became ready."""
        blocked = self.blocked
        return keys if blocked is None else [blocked.ready]

    def listens(self) -> bool:
        """It is sent messages that it did not ask for one by one: a subscriber, or a node that follows."""
        return bool(self.channels or self.patterns or self.shards) or self in self.engine.pubsub.followers

    # -- replies

    def reply(self, data: bytes) -> None:
        """Send after everything this client is still owed."""
        if self.reply_mode:
            if self.reply_mode == REPLY_SKIP:
                self.reply_mode = REPLY_ON
            return
        self.owed += len(data)
        if self.held:
            self.held[-1].replies.append(data)
        else:
            self.out.append(data)

    def hold(self, batch: Batch, data: bytes) -> None:
        """Send when `batch` is durable, and after everything this client is still owed."""
        if batch.durable or self.reply_mode:
            self.reply(data)
        else:
            self._segment(batch).replies.append(data)
            self.owed += len(data)

    def _segment(self, batch: Batch) -> Segment:
        """Where to append what must not leave before `batch` is durable, nor before anything appended already."""
        held = self.held
        if held:
            last = held[-1]
            if last.batch is batch or last.batch.first_offset > batch.first_offset:
                return last
        segment = Segment(batch)
        held.append(segment)
        batch.clients.append(self)
        return segment

    def push(self, data: bytes, after: Batch | None = None) -> None:
        """Send out-of-band data, which CLIENT REPLY does not silence; behind everything the client is still owed."""
        if self.closing:
            return
        self.owed += len(data)
        if after is not None and not after.durable:
            self._segment(after).push(data, after)
        elif self.held:
            self.held[-1].push(data, None)
        else:
            self.out.append(data)
        self.engine.flush_later(self)

    def release(self) -> None:
        """Move the replies whose batch is durable to `out`."""
        held = self.held
        while held and held[0].batch.durable:
            self.out.extend(held.pop(0).replies)

    def fail_held(self, text: str, up_to: Batch | None = None) -> None:
        """Answer what is held, up to and with batch `up_to`, with an error: its outcome is unknown.

        A pushed message is no answer: it is dropped when it waited for such a batch, and else sent.
        """
        answer = error(text)
        held = self.held
        while held and (up_to is None or held[0].batch.first_offset <= up_to.first_offset):
            segment = held.pop(0)
            for i, reply in enumerate(segment.replies):
                sent = segment.failed(i, answer)
                self.owed += len(sent) - len(reply)
                self.out.append(sent)

    def drop_replies(self) -> None:
        """Forget everything the client is owed: its connection is being closed without a word."""
        self.out.clear()
        self.held.clear()
        self.owed = 0

    def flush(self) -> None:
        """Hand `out` to the sink; close it when that was the last a closing client waited for."""
        out = self.out
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            self.owed -= len(data)
            self.engine.bytes_out += len(data)
            self.sink.write(data)
        if self.closing and not self.held:
            self.sink.close()

    def finish(self) -> None:
        """Run nothing more for this client, and close it once it has what it is owed."""
        self.closing = True
        self.engine.flush_later(self)

    def pending_batch(self) -> Batch | None:
        """The newest batch, not yet durable, that holds a write of this client or that one of its replies waits for."""
        held = self.held[-1].batch if self.held else None
        commit = self.engine.commit
        if self.last_offset > commit.durable_offset:  # its reply may have been silenced by CLIENT REPLY
            written = commit.batch_of(self.last_offset)
            if written is not None and (held is None or written.first_offset > held.first_offset):
                return written
        return held
