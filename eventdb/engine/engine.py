"""The engine: runs commands against the keyspace and turns what they change into transactions. Sans-IO.

One engine is one node's database. The server, the embedded API and the tests all drive it through
`call(client, argv)`; the log is behind `commit`. Time is `now_ms`, set by the driver once per batch of input and
frozen for a command, so that every event of a transaction sees one clock.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Final

from eventdb.cluster.slots import Shard, SlotMap
from eventdb.cluster.topology import Member, Topology
from eventdb.engine.client import (
    CLUSTERED,
    IN_MULTI,
    NEEDS_AUTH,
    Blocked,
    Client,
    Sink,
    Timer,
)
from eventdb.engine.gates import pass_gates
from eventdb.engine.pause import Pause
from eventdb.engine.pubsub import PubSub
from eventdb.engine.registry import (
    COMMANDS,
    WHOLE,
    Command,
    unknown_command,
)
from eventdb.engine.waiting import Waiting
from eventdb.keyspace.databases import Db, Keyspace
from eventdb.keyspace.events import (
    EVENTS,
    KEY_COPY,
    KEY_FIRST,
    KEY_MOVE,
    KEY_WHOLE,
    apply_transactions,
    encode_event,
    touched_keys,
)
from eventdb.metrics.slowlog import SlowLog
from eventdb.metrics.statistics import Statistics
from eventdb.pipeline.commit import Batch, Commit
from eventdb.protocol.replies import NO_REPLY, ReplyError, error, integer
from eventdb.protocol.requests import SharedReader

if TYPE_CHECKING:
    from eventdb.engine.settings import Config

log: Final = logging.getLogger("eventdb")

MULTI_BYTES_MAX: Final = 256 << 20  # queued by one client; Redis closes at client-query-buffer-limit, 1 GB
EXPIRE_KEYS_MAX: Final = 2000  # deleted in one transaction of the expiry cycle

HTTP: Final = (b"POST", b"HOST:")  # how its requests begin, or go on behind a line that no command is

# Engine.failover_state, in Redis's words. While a hand-over waits for what was accepted to be durable it can be called
# off: whoever sets NO_FAILOVER ends it.
NO_FAILOVER: Final = "no-failover"
WAITING_FOR_SYNC: Final = "waiting-for-sync"
FAILOVER_IN_PROGRESS: Final = "failover-in-progress"

UNBLOCKED: Final = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"


class Engine:
    """Keyspace, commands, transaction in the making, clients and pub/sub of one node."""

    def __init__(self, config: Config, commit: Commit, seed: int | None = None) -> None:
        self.config = config
        self.commit = commit
        self.keyspace = Keyspace(config.limits)
        self.rng = random.Random(seed)
        self.now_ms = int(time.time() * 1000)
        self.clock = perf_counter()  # end of the last command, start of the next one
        self.started_ms = self.now_ms
        self.commands: dict[bytes, Command] = {}
        for name, command in COMMANDS.items():
            self.commands[name] = command
            self.commands[name.lower()] = command
        # the transaction in the making
        self.events: list[bytes] = []
        self.event_db = 0
        self.event_size = 0
        self.in_exec = False
        self.deferred: list[tuple[bytes, bytes, bool]] = []  # published by this EXEC: channel, message, sharded
        self.waiting = Waiting(self.keyspace)
        self.clients: dict[int, Client] = {}
        self.shared_reader = SharedReader()
        self.next_client_id = 1
        self.pubsub = PubSub()
        self.pause = Pause(self)
        self.to_flush: dict[Client, None] = {}
        self.call_later: Callable[[float, Callable[[], None]], Timer] | None = None  # seconds; set by the driver
        self.gate = 0  # FOLLOWING while this node may not write; LOADING; PAUSED; LEASELESS
        self.gate_error = ""  # what a refused command is told
        # `clock` from which on nothing may be answered, unless `on_lapse` says otherwise
        self.lease_until = math.inf
        self.on_lapse: Callable[[], None] | None = None
        # counters
        self.hits = 0
        self.misses = 0
        self.expired_keys = 0
        self.commands_run = 0
        self.connections_received = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.statistics = Statistics()
        self.slowlog = SlowLog(config)
        self.slow_usec = 0.0  # from here on a command is logged as slow
        self.expires_keys = True  # DEBUG SET-ACTIVE-EXPIRE
        self.reconfigure()
        self.multi_bytes_max = MULTI_BYTES_MAX
        # set by the node and the server
        self.facts: Callable[[], dict[str, str]] | None = None  # role, log, epoch … for INFO
        self.on_shutdown: Callable[[], None] | None = None
        self.on_failover: Callable[[str | None, int], None] | None = None  # to this address, within so many ms
        self.on_announce: Callable[[Member, dict[str, object]], bytes | None] | None = None
        self.failover_state = NO_FAILOVER
        self.port = 0
        # who else there is
        self.topology = Topology(Member("local", "local"))
        self.topology.on_switch = lambda old, new: self.pubsub.tell_switch(config.sentinel_service_name, old, new)
        self.slots = SlotMap(Shard(self.topology))

    def reconfigure(self) -> None:
        """Take over what a setting has changed; CONFIG SET calls it."""
        usec = self.config.slowlog_usec
        self.slow_usec = math.inf if usec < 0 else float(usec)
        self.slowlog.trim()

    # -- clients

    def connect(self, sink: Sink, address: str = "", local_address: str = "") -> Client:
        client = Client(self, self.next_client_id, sink, address, local_address)
        self.next_client_id += 1
        self.connections_received += 1
        self.clients[client.id] = client
        if self.config.requirepass:
            client.gate |= NEEDS_AUTH
        if self.config.cluster_enabled == "yes":
            client.gate |= CLUSTERED
        return client

    def disconnect(self, client: Client) -> None:
        """Forget a client; what it had queued is dropped, what it had committed stays."""
        client.closing = True
        self.unblock(client)
        self.unwatch(client)
        self.pubsub.leave_all(client)
        self.pause.forget(client)
        self.to_flush.pop(client, None)
        self.clients.pop(client.id, None)

    def kill(self, client: Client) -> None:
        """Close a client's connection now; what it is still owed is dropped (CLIENT KILL)."""
        client.drop_replies()
        self.disconnect(client)
        client.sink.close()

    def reset_statistics(self) -> None:
        """CONFIG RESETSTAT."""
        self.hits = self.misses = self.expired_keys = self.commands_run = self.connections_received = 0
        self.bytes_in = self.bytes_out = 0
        self.statistics = Statistics()

    def cron(self) -> None:
        """What happens on a clock and not by a command: the driver calls it ten times a second, in any role."""
        self.statistics.sample(self.commands_run, self.bytes_in, self.bytes_out)
        idle_ms = self.config.idle_seconds_max * 1000
        if idle_ms:
            for client in list(self.clients.values()):
                if self.now_ms - client.active_ms > idle_ms and client.blocked is None and not client.listens():
                    self.kill(client)

    def flush_later(self, client: Client) -> None:
        """Write a client's replies at the end of this turn; the driver calls `flush_clients`."""
        if not self.to_flush:
            self.commit.schedule(self.flush_clients)
        self.to_flush[client] = None

    def flush_clients(self) -> None:
        clients, self.to_flush = self.to_flush, {}
        for client in clients:
            client.flush()

    def later(self, seconds: float, action: Callable[[], None]) -> Timer | None:
        """Run `action` after so many seconds; None when no driver has brought a clock."""
        return None if self.call_later is None else self.call_later(seconds, action)

    # -- running commands

    def read_clock(self) -> None:
        """Take the time that every command sees until the next call; drivers call it once per batch of input."""
        self.now_ms = int(time.time() * 1000)
        self.clock = perf_counter()
        if self.clock > self.lease_until and self.on_lapse is not None:
            self.on_lapse()

    def may_run(self, client: Client) -> bool:
        """False while the client's next command has to wait; `client.sink.resume()` says when to ask again."""
        if client.blocked is not None or client.stalled is not None or client.closing:
            return False
        return not self.commit.full or client.gate & NEEDS_AUTH != 0  # who may not write yet need not wait for room

    def call(self, client: Client, argv: list[bytes]) -> None:
        """Run one command; its reply goes to the client, now or when it is durable. Never raises."""
        self.commands_run += 1
        command = self.commands.get(argv[0])
        if command is None:
            name = argv[0].upper()
            command = self.commands.get(name)
            if command is None:
                if name in HTTP and client.address:
                    self.turn_away(client)
                else:
                    self.refuse(client, unknown_command(argv))
                return
        arity = command.arity
        n = len(argv)
        if n != arity if arity >= 0 else n < -arity:
            command.rejected_calls += 1
            self.refuse(client, f"ERR wrong number of arguments for '{command.name}' command", command)
            return
        if command.handler is None or client.gate or self.gate:
            checked = pass_gates(self, client, command, argv)
            if checked is None:
                return
            command = checked
        client.last_command = command
        self.run(client, command, argv)

    def run(self, client: Client, command: Command, argv: list[bytes]) -> None:
        """Run a command that passed all checks, and settle its reply and its transaction."""
        reply = self.invoke(client, command, argv)
        end = perf_counter()
        usec = (end - self.clock) * 1e6
        self.clock = end
        command.usec += usec
        if usec >= self.slow_usec and command.name != "exec":  # whose commands are logged one by one
            self.slowlog.add(client, argv, int(usec))
        if self.events:
            self._commit(client, reply)
            if self.deferred:
                self._deliver()
            if self.waiting.ready:
                self.serve_blocked()
        elif len(reply):
            if self.commit.pending:
                self._reply_when_clean(client, command, argv, reply)
            else:
                client.reply(reply)
            if self.deferred:
                self._deliver()

    def run_queued(self, client: Client, command: Command, argv: list[bytes]) -> bytes:
        """Run one command of an EXEC; its events join the transaction, its reply is returned."""
        start = perf_counter()
        reply = self.invoke(client, command, argv)
        usec = (perf_counter() - start) * 1e6
        command.usec += usec
        if usec >= self.slow_usec:
            self.slowlog.add(client, argv, int(usec))
        return reply

    def invoke(self, client: Client, command: Command, argv: list[bytes]) -> bytes:
        """Call the handler; errors become replies. EXEC uses it for each queued command."""
        command.calls += 1
        try:
            return command.handler(client, argv)  # type: ignore[misc]
        except ReplyError as failure:
            command.failed_calls += 1
            self.statistics.error(failure.text)
            return error(failure.text)
        except Exception:
            command.failed_calls += 1
            self.statistics.error("ERR")
            log.exception("internal error in '%s'", command.name)
            return error(f"ERR internal error in '{command.name}'; please report it, the server's log has the details")

    def _commit(self, client: Client, reply: bytes) -> None:
        """Close the transaction; its reply waits until it is durable."""
        batch = self.commit.add(client.origin, self.events, self.event_size)
        self.events = []
        self.event_db = 0
        self.event_size = 0
        client.last_offset = self.commit.offset
        if len(reply):
            client.hold(batch, reply)

    def _reply_when_clean(self, client: Client, command: Command, argv: list[bytes], reply: bytes) -> None:
        """Send a reply that changed nothing, after every pending batch it could tell of."""
        batch: Batch | None = None
        if command.bits & WHOLE:
            batch = self.commit.pending[-1]
        elif command.first_key or command.find_keys is not None:
            for key in command.keys(argv):
                found = self.commit.newest_touching(key)
                if found is not None and (batch is None or found.first_offset > batch.first_offset):
                    batch = found
        if batch is None:
            client.reply(reply)
        else:
            client.hold(batch, reply)

    def refuse(self, client: Client, text: str, command: Command | None = None) -> None:
        """Answer with an error without running anything; inside MULTI, the transaction is spoiled."""
        if command is not None and command.name == "exec":
            text = "EXECABORT Transaction discarded because of: " + text.removeprefix("ERR ")
            self.discard(client)
        elif client.gate & IN_MULTI:
            client.queue_failed = True
        self.statistics.error(text)
        client.reply(error(text))

    def turn_away(self, client: Client) -> None:
        """Close without a word on what looks like HTTP: a web page may make a browser send it, commands in its body.

        Source: redis src/server.c securityWarningCommand.
        """
        log.warning("closed %s: it speaks HTTP; maybe a web page tries to reach this server", client.address)
        client.drop_replies()
        client.finish()

    def discard(self, client: Client) -> None:
        """Leave MULTI, forget what was queued and watched (DISCARD, RESET, and EXEC before it runs its queue)."""
        client.gate &= ~IN_MULTI
        client.queue = []
        client.queue_bytes = 0
        client.queue_failed = False
        self.waiting.unwatch(client)

    # -- changing the keyspace

    def emit(self, db: Db, argv: list[bytes]) -> None:
        """Apply one event and record it in the open transaction."""
        event = EVENTS[argv[0]]
        keys = event.keys
        if keys == KEY_FIRST:
            event.apply(db, argv)
            self.record(db, argv[1], encode_event(argv))
            return
        if keys == KEY_WHOLE:
            self.waiting.touch_whole(db, argv, self.now_ms)
        event.apply(db, argv)
        self._record_many(db, argv, keys)

    def record(self, db: Db, key: bytes, data: bytes) -> None:
        """Record an event on one key that the caller has applied and encoded, as the hottest commands do."""
        if db.index != self.event_db:
            self._select(db)
        self.events.append(data)
        self.event_size += len(data)
        self.commit.open.dirty.add(key)
        waiting = self.waiting
        if waiting.watchers or waiting.waiters:
            waiting.touch(db, key)

    def _select(self, db: Db) -> None:
        self.event_db = db.index
        self.events.append(encode_event([b"SELECT", b"%d" % db.index]))

    def _record_many(self, db: Db, argv: list[bytes], keys: int) -> None:
        """Record an event that touches other keys than its first argument."""
        if db.index != self.event_db:
            self._select(db)
        data = encode_event(argv)
        self.events.append(data)
        self.event_size += len(data)
        touched = touched_keys(argv, keys)
        if touched is None:
            self.commit.open.whole = True
            return
        self.commit.open.dirty.update(touched)
        other = db
        if keys == KEY_COPY:
            other = db = self.keyspace.dbs[int(argv[4])]
        elif keys == KEY_MOVE:
            other = self.keyspace.dbs[int(argv[2])]
        waiting = self.waiting
        if waiting.watchers or waiting.waiters:
            for key in touched:
                waiting.touch(db, key)
                if other is not db:
                    waiting.touch(other, key)

    def expire(self, db: Db, key: bytes) -> None:
        """Delete a key whose deadline has passed."""
        self.expired_keys += 1
        self.emit(db, [b"DEL", key])

    def expire_cycle(self) -> None:
        """Delete what has expired, in one transaction; the driver calls it ten times a second on a primary."""
        if self.gate or self.commit.full or not self.expires_keys:  # a paused node's state stands still
            return
        left = EXPIRE_KEYS_MAX
        for db in self.keyspace.dbs:
            if db.deadlines and left > 0 and db.deadlines[0][0] <= self.now_ms:
                keys = list(dict.fromkeys(db.expired_keys(self.now_ms, left)))
                if keys:
                    left -= len(keys)
                    self.expired_keys += len(keys)
                    self.emit(db, [b"DEL", *keys])
        if self.events:
            self.commit.add(b"$6\r\nexpiry\r\n", self.events, self.event_size)
            self.events = []
            self.event_db = 0
            self.event_size = 0
            if self.waiting.ready:
                self.serve_blocked()

    # -- watching and blocking

    def unwatch(self, client: Client) -> None:
        self.waiting.unwatch(client)

    def block(
        self, client: Client, argv: list[bytes], keys: list[bytes], timeout_ms: int, timeout_reply: bytes
    ) -> bytes:
        if client.blocked is not None:  # run again and still nothing
            return NO_REPLY
        if self.in_exec:
            return timeout_reply
        assert client.last_command is not None
        blocked = Blocked(client.last_command, argv, client.db, keys, timeout_reply)
        client.blocked = blocked
        self.waiting.add(client, client.db, keys)
        if timeout_ms > 0 and self.call_later is not None:
            blocked.timer = self.call_later(timeout_ms / 1000, lambda: self.block_ends(client, blocked.timeout_reply))
        return NO_REPLY

    def unblock(self, client: Client) -> None:
        blocked = client.blocked
        if blocked is None:
            return
        client.blocked = None
        if blocked.timer is not None:
            blocked.timer.cancel()
        self.waiting.remove(client, blocked.db, blocked.keys)

    def block_ends(self, client: Client, reply: bytes) -> None:
        """Unblock with this reply: the time is up, or CLIENT UNBLOCK said so.

        A timeout tells that the keys are empty, so it waits for the batch that emptied them, as a read would.
        """
        blocked = client.blocked
        if blocked is None:
            return
        self.unblock(client)
        if self.commit.pending and reply == blocked.timeout_reply:
            self._reply_when_clean(client, blocked.command, blocked.argv, reply)
        else:
            client.reply(reply)
        self.flush_later(client)
        client.sink.resume()

    def offset_reached(self) -> None:
        """This node now has a later offset: answer and deliver what waited for no more than that."""
        reached = self.commit.durable_offset
        self.pubsub.reached(reached)
        for client, offset in list(self.waiting.offsets.items()):
            if offset <= reached:
                self.block_ends(client, integer(reached))

    def serve_blocked(self) -> None:
        """Run the blocked commands whose keys changed, first come first served, each as its own transaction.

        What they change may make further keys ready: those come when all that were ready before are done.
        """
        waiting = self.waiting
        while waiting.ready:
            for place in waiting.take_ready():
                client = waiting.first(place)
                while client is not None and self._serve(client, place[1]):
                    client = waiting.first(place)
                if client is not None:  # the one who waited longest cannot use what is there; others may
                    for other in list(waiting.waiters.get(place, ())):
                        if other is not client and waiting.first(place) is not None:
                            self._serve(other, place[1])

    def _serve(self, client: Client, key: bytes) -> bool:
        """Run a blocked command again, for the key that is ready; False when it goes on waiting."""
        blocked = client.blocked
        if blocked is None:
            return False
        blocked.ready = key
        command = blocked.command
        reply = self.invoke(client, command, blocked.argv)
        command.calls -= 1  # counted when it blocked
        if len(reply):
            self.unblock(client)
        if self.events:
            self._commit(client, reply)
        elif len(reply):
            if self.commit.pending:
                self._reply_when_clean(client, command, blocked.argv, reply)
            else:
                client.reply(reply)
        if len(reply) == 0:
            return False
        self.flush_later(client)
        client.sink.resume()
        return True

    # -- pub/sub

    def publish(self, channel: bytes, message: bytes, after: Batch | None, sharded: bool = False) -> int:
        """Deliver to all subscribers, not before `after` is durable; return how many there are at this node.

        Inside EXEC the batch is not known before the end: delivery is then deferred, and `after` ignored.
        """
        if self.in_exec:
            self.deferred.append((channel, message, sharded))
            return self.pubsub.receivers(channel, sharded)
        return self.pubsub.publish(channel, message, sharded, after, self.commit.durable_offset)

    def _deliver(self) -> None:
        """Publish what an EXEC has deferred; like its reply, it waits for its own batch and all before it."""
        messages, self.deferred = self.deferred, []
        after = self.commit.pending[-1] if self.commit.pending else None
        for channel, message, sharded in messages:
            self.pubsub.publish(channel, message, sharded, after, self.commit.durable_offset)

    # -- replay

    def reset_state(self) -> None:
        """Forget every key: this node was fenced and rebuilds from the log. Clients stay connected.

        What was on its way has no offset any more: in the log that number may be another client's.
        """
        self.keyspace.clear()
        for client in self.clients.values():
            client.last_offset = min(client.last_offset, self.commit.durable_offset)
        self.step_aside()

    def step_aside(self) -> None:
        """This node is no primary any more: what clients have begun to write cannot be ended here."""
        for db in self.keyspace.dbs:
            db.deadlines = None
        self.waiting.ready = []
        for client in list(self.clients.values()):
            client.watch_broken = client.watch_broken or len(client.watching) > 0
            client.queue_failed = client.queue_failed or len(client.queue) > 0
            self.block_ends(client, error(UNBLOCKED))

    def apply(self, transactions: list[list[bytes | list[bytes]]]) -> int:
        """Apply transactions read from the log; return the number of events in them."""
        return apply_transactions(self.keyspace, transactions)

    def digest(self) -> str:
        return self.keyspace.digest()

    def key_count(self) -> int:
        return self.keyspace.key_count()
