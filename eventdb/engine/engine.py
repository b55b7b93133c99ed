"""The engine: runs commands against the keyspace and turns what they change into transactions. Sans-IO.

One engine is one node's database. The server, the embedded API and the tests all drive it through
`call(client, argv)`; the log is reached through `commit`. `store.now_ms` is set by the driver once per batch of input
(by a node's engine also when a millisecond has passed), and frozen for a command, so that every event of a transaction
sees one clock.
"""

from __future__ import annotations

import logging
import time
from time import perf_counter
from typing import TYPE_CHECKING, Final

from eventdb.engine import effort
from eventdb.engine.blocking import UNBLOCKED
from eventdb.engine.client import (
    BUSY,
    CACHES,
    CLUSTERED,
    EVICTS,
    IN_MULTI,
    LOADING,
    NEEDS_AUTH,
    OBSERVED,
    OUT_OF_MEMORY,
    PAUSED,
    RESTRICTED,
    TRACKED,
    WATCHES,
    Blocked,
    Client,
)
from eventdb.engine.command import SERVER, WHOLE, WRITE, Command
from eventdb.engine.expiry import Expiry
from eventdb.engine.gates import FRESHEN, PASS, QUEUE, REDIRECT, REFUSE, STALL
from eventdb.engine.parts import Parts
from eventdb.engine.registry import find_subcommand, unknown_command
from eventdb.pipeline.outbox import Batch, Sink
from eventdb.protocol.errors import DISCARDED, wrong_arity
from eventdb.protocol.replies import QUEUED, error, integer
from eventdb.rdb import state

if TYPE_CHECKING:
    from eventdb.engine.settings import Config
    from eventdb.pipeline.commit import Commit
    from eventdb.replay.machine import Read

logger: Final = logging.getLogger("eventdb")

AGAIN_MS: Final = 100  # after which it is looked again whether a blocked command may run
HTTP: Final = (b"POST", b"HOST:")  # how its requests begin, or go on after a line that is no command


class Engine(Parts):
    """Store, commands, clients and pub/sub of one node."""

    def __init__(self, config: Config, commit: Commit, seed: int | None = None) -> None:
        super().__init__(config, commit, seed)
        self.expiry = Expiry(self.store, self.turn, self._expire_on, self.news)
        self.eviction.again = self._evict_on

    # -- clients

    def connect(self, sink: Sink, address: str = "", local_address: str = "") -> Client:
        client = Client(self.store, self.turn, self.next_client_id, sink, address, local_address)
        self.next_client_id += 1
        self.connections_received += 1
        self.clients[client.id] = client
        self.permissions.welcome(client)
        if self.config.cluster_enabled == "yes":
            client.gate |= CLUSTERED
        return client

    def disconnect(self, client: Client) -> None:
        """Forget a client; what it had queued is dropped, what it had committed stays."""
        client.closing = True
        self.unblock(client)
        self.unwatch(client)
        self.pubsub.leave_all(client)
        self.gate = self.news.leave(client, self.gate)
        self.pause.forget(client)
        self.turn.forget(client)
        self.clients.pop(client.id, None)

    def abandon(self, client: Client) -> None:
        """The client will take nothing more: what it has asked for and has not begun is dropped."""
        self.unblock(client)
        self.pause.forget(client)

    def kill(self, client: Client) -> None:
        """Close a client's connection now; what it is still owed is dropped (CLIENT KILL)."""
        client.drop_replies()
        self.disconnect(client)
        client.sink.close()

    def follow_users(self, caller: Client | None = None) -> None:
        """Take over users that the log has changed."""
        self.lose(self.permissions.follow(self.clients), caller)

    def lose(self, clients: list[Client], caller: Client | None) -> None:
        """Close connections whose user is gone or may no longer hear what they hear; the caller is answered first."""
        for client in clients:
            if client is caller:
                client.finish()
            else:
                self.kill(client)

    def cron(self) -> None:
        """What happens on a clock and not by a command: the driver calls it ten times a second, in any role."""
        if self.config.memory_bytes_max or self.store.accesses is not None:
            self.look_at_settings()
            if self.gate & EVICTS:
                self._evict(None)
        self.statistics.sample(self.commands_run, self.bytes_in, self.turn.bytes_out)
        idle_ms = self.config.idle_seconds_max * 1000
        if idle_ms:
            for client in list(self.clients.values()):
                if self.store.now_ms - client.active_ms > idle_ms and client.blocked is None and not client.listens():
                    self.kill(client)

    # -- running commands

    def read_clock(self) -> None:
        """Take the time that commands see until the next call, or `tick`; drivers call it once per batch of input."""
        self.store.now_ms = int(time.time() * 1000)
        self.clock = perf_counter()
        self.tick_at = self.clock + self.tick_s
        if self.clock > self.lease_until and self.on_lapse is not None and not self.gate & BUSY:
            self.on_lapse()

    def tick(self, clock: float) -> None:
        """Time has passed within one input: commands after this one, and those that it wakes, see it."""
        self.store.now_ms = int(time.time() * 1000)
        self.tick_at = clock + self.tick_s

    def may_run(self, client: Client) -> bool:
        """False while the client's next command waits, for room too if it may write; `sink.resume()`: ask again."""
        if client.blocked is not None or client.stalled is not None or client.closing:
            return False
        return not self.commit.full or client.gate & NEEDS_AUTH != 0 or self.gate & BUSY != 0

    def call(self, client: Client, argv: list[bytes]) -> None:
        """Run one command; its reply goes to the client, now or when it is durable. Never raises."""
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
            self.refuse(client, wrong_arity(command.name).text, command)
            return
        if command.checked or client.gate or self.gate:
            checked = self._pass_gates(client, command, argv)
            if checked is None:
                return
            command = checked
        client.last_command = command
        self.run(client, command, argv)

    def _pass_gates(self, client: Client, command: Command, argv: list[bytes]) -> Command | None:
        """The command to run now; None when it was answered, queued or made to wait."""
        if command.handler is None or (command.subcommands and len(argv) > 1):
            found = find_subcommand(command, argv)
            if isinstance(found, str):
                sub = command.subcommands.get(argv[1].upper())
                if sub is not None:  # it exists, the number of arguments is wrong
                    sub.rejected_calls += 1
                self.refuse(client, found)
                return None
            command = found
        if self.gate & EVICTS:
            self._evict(argv)
        verdict = self.gates.judge(client, command, argv, self.gate, self.gate_error)
        if verdict == PASS:
            if self.on_long is None or effort.fits(client, command, argv, self.lease_until - self.clock):
                if self.gate & TRACKED and self.store.accesses is not None:
                    if not client.no_touch or command.name == "touch":
                        self.store.accesses.note(client.db, command, argv, client.queue, self.store.now_ms)
                if (client.gate & CACHES) | (self.gate & OBSERVED):
                    self.news.before(client, command, argv)
                return command
            self.on_long(effort.seconds(client, command, argv), True)
            verdict = STALL
        if verdict == QUEUE:
            self._queue(client, command, argv)
        elif verdict == STALL:
            self.pause.stall(client, argv)
        elif verdict == FRESHEN and self.freshen is not None:
            self.freshen(client, argv)
        else:
            command = self.gates.judged or command
            command.rejected_calls += 1
            if verdict == REDIRECT and command.name == "exec":  # it ends a MULTI, which others spoil
                self.discard(client)
            self.refuse(client, self.gates.text, command if verdict == REFUSE else None)
            if verdict == REFUSE and command.bits & WRITE and self.on_refused is not None:
                self.on_refused(client)
        return None

    def _queue(self, client: Client, command: Command, argv: list[bytes]) -> None:
        """Keep a command for EXEC, or only say so when EXEC is going to fail anyway."""
        if not client.queue_failed and not client.watcher.broken:
            for arg in argv:
                client.queue_bytes += len(arg) + 64
            if client.queue_bytes > self.multi_bytes_max:
                client.queue = []
                client.queue_bytes = 0
                self.refuse(client, "ERR the transaction is too large, it will be discarded", command)
                return
            client.queue.append((command, argv))
        client.reply(QUEUED)

    def run(self, client: Client, command: Command, argv: list[bytes]) -> None:
        """Run a command that passed all checks, and settle its reply and its transaction."""
        reply = self.invoke(client, command, argv)
        end = perf_counter()
        usec = (end - self.clock) * 1e6
        self.clock = end
        command.usec += usec
        if end >= self.tick_at:
            self.tick(end)
        if usec >= self.slow_usec and client.blocked is None:
            self.accounting.took(client, command, argv, usec)
        if len(reply) == 0 and client.blocked is not None:  # it may have changed something all the same
            self._block(client, client.blocked, usec)
        store = self.store
        if store.events:
            self._commit(client, command, argv, reply)
            if self.deferred:
                self.pubsub.deliver_deferred(self.commit)
            if store.ready:
                self.serve_blocked()
        elif len(reply):
            if self.commit.pending:
                self._reply_when_clean(client, command, argv, reply)
            else:
                client.reply(reply)
            if self.deferred:
                self.pubsub.deliver_deferred(self.commit)

    def run_queued(self, client: Client, command: Command, argv: list[bytes]) -> bytes:
        """Run one command of an EXEC; its events join the transaction, its reply is returned."""
        start = perf_counter()
        reply = self.invoke(client, command, argv)
        usec = (perf_counter() - start) * 1e6
        command.usec += usec
        if usec >= self.slow_usec:
            self.accounting.took(client, command, argv, usec)
        return reply

    def invoke(self, client: Client, command: Command, argv: list[bytes]) -> bytes:
        """Call the handler; errors become replies. EXEC uses it for each queued command."""
        try:
            if command.bits & SERVER:
                reply = command.handler(self, client, argv)  # type: ignore[misc]
            else:
                reply = command.handler(client, argv)  # type: ignore[misc]
        except Exception as failure:
            reply = self.failed(command, failure)
        command.calls += 1  # afterwards: CONFIG RESETSTAT counts itself
        self.commands_run += 1
        return reply

    def _commit(self, client: Client, command: Command, argv: list[bytes], reply: bytes) -> None:
        """Close the transaction; its reply waits until it is durable."""
        store = self.store
        if store.heeded:
            self.news.gather(command, argv)
        size = store.event_size
        batch = self.commit.add(client.origin, store.taken(), size)
        client.last_offset = self.commit.offset
        if store.heeded:
            self.news.finish(client, reply, batch)
        elif len(reply):
            client.hold(batch, reply)

    def _reply_when_clean(self, client: Client, command: Command, argv: list[bytes], reply: bytes) -> None:
        """Send a reply that changed nothing, after every pending batch it could reveal."""
        batch: Batch | None = None
        if command.bits & WHOLE:
            batch = self.commit.pending[-1]
        elif command.has_keys:
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
            text = DISCARDED + text.removeprefix("ERR ")
            self.discard(client)
        elif client.gate & IN_MULTI:
            client.queue_failed = True
        if client.fresh_left:
            client.fresh_left -= 1
        if client.tracker is not None and not client.gate & IN_MULTI:
            client.tracker.caching_used = True
        self.statistics.error(text)
        client.reply(error(text))

    def turn_away(self, client: Client) -> None:
        """Close on what looks like HTTP: a web page may make a browser send it (redis securityWarningCommand)."""
        logger.warning("closed %s: it speaks HTTP; maybe a web page tries to reach this server", client.address)
        client.drop_replies()
        client.finish()

    def discard(self, client: Client) -> None:
        """Leave MULTI, forget what was queued and watched (DISCARD, RESET, and EXEC before it runs its queue)."""
        client.gate &= ~IN_MULTI
        client.queue = []
        client.queue_bytes = 0
        client.queue_failed = False
        self.unwatch(client)

    # -- expiry

    def expire_cycle(self) -> None:
        """Delete what has expired, in pieces; the driver calls it ten times a second on a primary."""
        if self.expiry.timer is None:
            self._expire_slice()

    def _expire_on(self) -> None:
        self.expiry.timer = None
        self.read_clock()
        self._expire_slice()

    def _expire_slice(self) -> None:
        if self.gate & ~WATCHES or self.commit.stopped:  # a paused node's state stands still
            return
        self.expiry.slice(self.commit, self.statistics, self.serve_blocked)

    # -- eviction

    def _evict(self, argv: list[bytes] | None) -> None:
        """Make room above maxmemory, on a clock or before a command."""
        if self.gate & ~WATCHES or self.commit.stopped:  # the state of a replica or a paused node stands still
            return
        if argv is None:
            self.eviction.on_clock(self.commit)
        else:
            self.eviction.before(argv, self.commit)
        if self.eviction.failing:
            self.gate |= OUT_OF_MEMORY
        else:
            self.gate &= ~OUT_OF_MEMORY
        if self.store.ready:
            self.serve_blocked()

    def _evict_on(self) -> None:
        self.eviction.timer = None
        self.read_clock()
        if self.gate & EVICTS:
            self._evict(None)

    # -- watching and blocking

    def unwatch(self, client: Client) -> None:
        self.store.watching.unwatch(client.watcher)

    def _block(self, client: Client, blocked: Blocked, usec: float) -> None:
        """A handler has just blocked its client, after `usec`."""
        blocked.usec = usec
        self.blocking.add(client, blocked.db, blocked.keys, blocked.until_gone)
        if blocked.timeout_ms > 0:
            blocked.timer = self.turn.later(
                blocked.timeout_ms / 1000, lambda: self.block_ends(client, blocked.timeout_reply)
            )
        self._run_again_later(client, blocked)

    def unblock(self, client: Client) -> None:
        blocked = client.blocked
        if blocked is None:
            return
        client.blocked = None
        if blocked.timer is not None:
            blocked.timer.cancel()
        if blocked.again is not None:
            blocked.again.cancel()
        self.blocking.remove(client, blocked.db, blocked.keys)

    def block_ends(self, client: Client, reply: bytes) -> None:
        """Unblock with this reply: the time is up, or CLIENT UNBLOCK said so.

        A timeout means that the keys are empty, so it waits for the batch that emptied them, as a read would.
        """
        blocked = client.blocked
        if blocked is None:
            return
        self.unblock(client)
        if self.commit.pending and reply == blocked.timeout_reply:
            self._reply_when_clean(client, blocked.command, blocked.argv, reply)
        else:
            client.reply(reply)
        self.turn.flush_later(client)
        client.sink.resume()

    def offset_reached(self) -> None:
        """This node now has a later offset: answer and deliver what waited for no more than that."""
        if not self.blocking.offsets and not self.pubsub.early:
            return
        reached = self.commit.durable_offset
        self.pubsub.reached(reached)
        for client, offset in list(self.blocking.offsets.items()):
            if offset <= reached:
                self.block_ends(client, integer(reached))

    def serve_blocked(self) -> None:
        """Run the blocked commands whose keys changed, first come first served, each as its own transaction.

        What they change may make further keys ready: those come when all that were ready before are done.
        """
        store, blocking = self.store, self.blocking
        while store.ready:
            for place in store.take_ready():
                client = blocking.first(place)
                while client is not None and self._serve(client, place[1]):
                    client = blocking.first(place)
                if client is not None:  # the client that waited longest cannot use the value; others may
                    for other in list(blocking.waiters.get(place, ())):
                        if other is not client and blocking.first(place) is not None:
                            self._serve(other, place[1])

    def run_blocked(self, client: Client) -> None:
        """Run again the command of a client that waits for no key, and then what waits for what that changed."""
        self._serve(client, b"")
        self.serve_blocked()

    def _serve(self, client: Client, key: bytes) -> bool:
        """Run a blocked command again, for the key that is ready; False when it goes on waiting."""
        blocked = client.blocked
        if blocked is None:
            return False
        blocked.ready = key
        command = blocked.command
        if client.gate & RESTRICTED and (denied := self.permissions.refusal(client, command, blocked.argv)):
            command.rejected_calls += 1  # the rights that it had as it blocked were taken away (as Redis 7.2 judges it)
            self.statistics.error(denied)
            self.block_ends(client, error(denied))
            return True
        if self.gate & OBSERVED:
            self.news.look(blocked.db, command, blocked.argv)
        start = perf_counter()
        reply = self.invoke(client, command, blocked.argv)
        command.calls -= 1
        self.commands_run -= 1  # counted when it blocked
        if len(reply):
            self.unblock(client)
            self.accounting.unblocked(client, blocked, (perf_counter() - start) * 1e6)
        if self.store.events:
            self._commit(client, command, blocked.argv, reply)
        elif len(reply):
            if self.commit.pending:
                self._reply_when_clean(client, command, blocked.argv, reply)
            else:
                client.reply(reply)
        if len(reply) == 0:
            self._run_again_later(client, blocked)
            return False
        self.turn.flush_later(client)
        client.sink.resume()
        return True

    def _run_again_later(self, client: Client, blocked: Blocked) -> None:
        """What it waits for may come with time alone."""
        if blocked.again is not None:
            blocked.again.cancel()
            blocked.again = None
        if blocked.again_ms:
            wait_ms = max(1, blocked.again_ms - self.store.now_ms)
            blocked.again = self.turn.later(wait_ms / 1000, lambda: self._run_again(client, blocked))

    def _run_again(self, client: Client, blocked: Blocked) -> None:
        if client.blocked is not blocked:
            return
        self.read_clock()
        if self.gate & ~WATCHES or self.commit.stopped:
            blocked.again_ms = self.store.now_ms + AGAIN_MS
            self._run_again_later(client, blocked)
            return
        self._serve(client, blocked.again_key)
        self.serve_blocked()

    # -- pauses

    def pause_for(self, ms: int, writes_only: bool) -> None:
        """CLIENT PAUSE: stall commands for so long, or longer if such a pause lasts already."""
        seconds = self.pause.asked.extend(self.store.now_ms, ms, writes_only)
        self.gate |= PAUSED
        self.pause.asked.timer = self.turn.later(seconds, self.unpause)

    def pause_writes(self, ms: int) -> None:
        """The same for a hand-over or a restore in place, until `resume_writes`, whatever clients ask for meanwhile."""
        seconds = self.pause.own.extend(self.store.now_ms, ms, True)
        self.gate |= PAUSED
        self.pause.own.timer = self.turn.later(seconds, self.resume_writes)

    def unpause(self) -> None:
        """Let clients go on (CLIENT UNPAUSE, or the time is up), unless the node has a pause of its own."""
        self.pause.asked.end()
        self._pause_ended()

    def resume_writes(self) -> None:
        self.pause.own.end()
        self._pause_ended()

    def _pause_ended(self) -> None:
        if not (self.pause.asked.lasts or self.pause.own.lasts):
            self.gate &= ~PAUSED
        self.run_stalled_later()

    def run_stalled_later(self) -> None:
        """Run what waits, unless something still keeps it; later, for the caller may be in the middle of a command."""
        if self.pause.stalled:
            self.turn.schedule(self._run_stalled)

    def refuse_stalled(self, text: str) -> None:
        """Answer every stalled command with an error; none of them was run."""
        for client in self.pause.take_stalled():
            argv = client.stalled or [b""]
            client.stalled = None
            self.refuse(client, text, self.commands.get(argv[0].upper()))
            self.turn.flush_later(client)
            client.sink.resume()

    def _run_stalled(self) -> None:
        """Run what was stalled, in the order it came; what a new pause stops is stalled again."""
        self.read_clock()
        for client in self.pause.take_stalled():
            argv = client.stalled
            client.stalled = None
            if argv is not None:
                self.call(client, argv)
                self.turn.flush_later(client)
                client.sink.resume()

    # -- pub/sub

    def publish(self, channel: bytes, message: bytes, after: Batch | None, sharded: bool = False) -> int:
        """Deliver to all subscribers, not before `after` is durable; return how many there are at this node.

        Inside EXEC the batch is not known before the end: delivery is then deferred, and `after` ignored. The EXEC may
        subscribe and unsubscribe too: the message is for the clients that listen now.
        """
        if self.store.in_exec:
            return self.pubsub.defer(channel, message, sharded)
        return self.pubsub.publish(channel, message, sharded, after, self.commit.durable_offset)

    # -- replay

    def reset_state(self) -> None:
        """Forget every key, to rebuild. What was on its way has no offset: in the log that may be another client's."""
        self.store.keyspace.clear()
        self.follow_users()
        self.news.forget()
        for client in self.clients.values():
            client.last_offset = min(client.last_offset, self.commit.durable_offset)
        self.step_aside()

    def step_aside(self) -> None:
        """This node is no primary any more: what clients have begun to write cannot be ended here."""
        for db in self.store.keyspace.dbs:
            db.stop_tracking()
        self.store.ready = []
        for client in list(self.clients.values()):
            client.watcher.broken = client.watcher.broken or len(client.watcher.watches) > 0
            client.queue_failed = client.queue_failed or len(client.queue) > 0
            self.block_ends(client, error(UNBLOCKED))

    def apply(self, transactions: list[list[bytes | list[bytes]]]) -> int:
        """Apply transactions read from the log; return the number of events in them."""
        heeded = self.store.heeded and not self.gate & LOADING
        count = self.news.apply(transactions) if heeded else self.store.apply(transactions)
        if self.store.keyspace.users_version != self.permissions.version:
            self.follow_users()
        self.serve_blocked()  # a replica's clients may wait too (XREAD)
        return count

    def load(self, read: Read) -> None:
        state.load(self, read)
