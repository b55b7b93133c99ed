"""What an engine consists of, and how its settings reach it; the engine itself (engine.py) sets it in motion."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Final

from eventdb.cluster.slots import Shard, SlotMap
from eventdb.cluster.topology import Member, Topology
from eventdb.engine.access import asked_for
from eventdb.engine.accounting import LOG_LEVELS, Accounting
from eventdb.engine.blocking import Blocking
from eventdb.engine.busy import Busy
from eventdb.engine.client import EVICTS, OBSERVED, OUT_OF_MEMORY, TRACKED, WATCHES, Client
from eventdb.engine.command import Command
from eventdb.engine.eviction import Eviction
from eventdb.engine.gates import Gates
from eventdb.engine.host import NO_FAILOVER, Host, NoHost
from eventdb.engine.news import News
from eventdb.engine.pause import Pause
from eventdb.engine.permissions import Permissions
from eventdb.engine.pubsub import PubSub
from eventdb.engine.registry import COMMANDS
from eventdb.engine.settings import REDIS_VERSION
from eventdb.engine.store import Store
from eventdb.metrics.memory import used_bytes
from eventdb.metrics.statistics import Statistics
from eventdb.pipeline.turn import Turn
from eventdb.protocol.errors import ReplyError
from eventdb.protocol.replies import error
from eventdb.protocol.requests import SharedReader
from eventdb.rdb import state

if TYPE_CHECKING:
    from eventdb.engine.settings import Config
    from eventdb.pipeline.commit import Commit
    from eventdb.replay.machine import Write

logger: Final = logging.getLogger("eventdb")

MULTI_BYTES_MAX: Final = 256 << 20  # queued by one client; Redis closes at client-query-buffer-limit, 1 GB


class Parts:
    """Everything of one node's engine; it runs no command."""

    def __init__(self, config: Config, commit: Commit, seed: int | None = None) -> None:
        self.config = config
        self.commit = commit
        self.store = Store(config.limits, commit, seed)
        self.clock = perf_counter()  # end of the last command, start of the next one
        self.started_ms = self.store.now_ms
        self.commands: dict[bytes, Command] = {}
        for name, command in COMMANDS.items():
            self.commands[name] = command
            self.commands[name.lower()] = command
        self.turn = Turn(commit.schedule)
        self.blocking = Blocking(self.store)
        self.busy = Busy()
        self.clients: dict[int, Client] = {}
        self.shared_reader = SharedReader()
        self.next_client_id = 1
        self.pubsub = PubSub()
        self.deferred = self.pubsub.deferred
        self.news = News(self.store, self.turn, self.clients, self.pubsub)
        self.eviction = Eviction(self.store, self.turn, self.news)
        self.pause = Pause()
        self.gate = 0  # FOLLOWING while this node may not write; LOADING; PAUSED; LEASELESS
        self.gate_error = ""  # what a refused command is told
        # `clock` from which on nothing may be answered, unless `on_lapse` says otherwise
        self.lease_until = math.inf
        self.on_lapse: Callable[[], None] | None = None
        self.freshen: Callable[[Client, list[bytes]], None] | None = None  # runs a read once this replica is fresh
        self.on_refused: Callable[[Client], None] | None = None  # told of a client whose write a replica has refused
        # The loop may be busy for N seconds: with a command that waits for `run_stalled_later`, because that is
        # longer than the lease lasts (True), or soon (False).
        self.on_long: Callable[[float, bool], None] | None = None
        self.commands_run = 0
        self.connections_received = 0
        self.bytes_in = 0
        self.reads = 0  # how often something came
        self.statistics = Statistics()
        self.accounting = Accounting(config.slowlog_entries_max)
        self.slow_usec = 0.0  # accounting.limit_usec
        self.tick_s = math.inf  # how long `store.now_ms` is good for within one input; a node sets it
        self.tick_at = math.inf  # `clock` from which on it is not
        self.log_level = "notice"
        self.memory_at_start = used_bytes()
        self.permissions = Permissions(config, self.store.keyspace)
        self.reconfigure()
        self.multi_bytes_max = MULTI_BYTES_MAX
        self.host: Host = NoHost()
        self.interpreter: object | None = None  # of scripts, once one came (scripting/lua.py)
        self.failover_state = NO_FAILOVER
        # who else there is
        self.topology = Topology(Member("local", "local"))
        self.topology.on_update = lambda before: self.pubsub.tell_changes(before, self.topology, config)
        self.slots = SlotMap(Shard(self.topology))
        self.gates = Gates(self.slots, self.pause, self.permissions)

    def begin_commit(self, commit: Commit) -> None:
        """From now on transactions go this way: the node was fenced and has another pipeline."""
        self.commit = commit
        self.store.commit = commit

    def reconfigure(self) -> None:
        """Take over what a setting has changed; CONFIG SET calls it."""
        config = self.config
        if config.log_level != self.log_level:
            self.log_level = config.log_level
            logger.setLevel(LOG_LEVELS[self.log_level])
        self.accounting.reconfigure(config)
        self.slow_usec = self.accounting.limit_usec
        self.shared_reader.bulk_bytes_max = config.limits.string_bytes
        store = self.store
        store.atomic_errors = config.atomic_errors == "yes"
        store.accesses = asked_for(config, store.accesses, store.keyspace, store.rng, store.now_ms)
        self.permissions.reconfigure(self.clients)
        self.gate = self.news.reconfigure(config, self.gate)
        self.eviction.reconfigure(config)
        self.look_at_settings()

    def look_at_settings(self) -> None:
        """Set the bits of the gate that settings ask for; a change of role has cleared them."""
        self.gate &= ~(WATCHES ^ OBSERVED)
        if self.store.accesses is not None:
            self.gate |= TRACKED
            self.store.accesses.sweep()
        limit = self.config.memory_bytes_max
        if self.eviction.active():
            self.gate |= EVICTS
            if self.eviction.failing:
                self.gate |= OUT_OF_MEMORY
        elif limit and self.eviction.meter.recent() > limit:
            self.gate |= OUT_OF_MEMORY

    def failed(self, command: Command, failure: Exception) -> bytes:
        """The reply to a command whose handler has raised."""
        command.failed_calls += 1
        if isinstance(failure, ReplyError):
            self.statistics.error(failure.text)
            return error(failure.text)
        self.statistics.error("ERR")
        logger.error("internal error in '%s'", command.name, exc_info=failure)
        return error(f"ERR internal error in '{command.name}'; please report it, the server's log has the details")

    def digest(self) -> str:
        return self.store.keyspace.digest()

    def key_count(self) -> int:
        return self.store.keyspace.key_count()

    def type_counts(self) -> dict[str, int]:
        return state.type_counts(self.store.keyspace)

    def dump(self, write: Write, facts: dict[str, str]) -> None:
        state.dump(self.store.keyspace, write, {"redis-ver": REDIS_VERSION, "redis-bits": "64", **facts})
