"""Publish and subscribe: the listeners of each channel, pattern and shard channel, and how a message gets there.

A message is not an event: it is in no log. But it may reveal one, so it never leaves before the batch that its
publisher's writes are in is durable. The primary passes every message on to the nodes that announced themselves, each
with an offset: there it waits until the node has come so far, so that any subscriber that hears of a write also finds
it. Sans-IO; the commands are in commands/session/pubsub.py, the connection of a follower in announce.py.
Source: redis src/pubsub.c.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from eventdb.cluster.sentinel_events import sentinel_events
from eventdb.engine.client import SUBSCRIBED
from eventdb.protocol.glob import glob_match
from eventdb.protocol.replies import bulk, integer, push

if TYPE_CHECKING:
    from eventdb.cluster.topology import Topology, View
    from eventdb.engine.client import Client
    from eventdb.engine.settings import Config
    from eventdb.pipeline.commit import Commit
    from eventdb.pipeline.outbox import Batch

logger: Final = logging.getLogger("eventdb")

Listeners = dict[bytes, dict["Client", None]]
Messages = list[tuple["Client", bytes]]

EARLY_BYTES_MAX: Final = 32 << 20  # of messages that wait for this node to come so far; as for a slow subscriber


class PubSub:
    """The subscriptions of one node. A name without a listener is forgotten at once."""

    def __init__(self) -> None:
        self.channels: Listeners = {}
        self.patterns: Listeners = {}
        self.shards: Listeners = {}  # SSUBSCRIBE: one shard holds all slots here, so they are a second name space
        self.followers: dict[Client, None] = {}  # connections of other nodes, to which messages are passed on
        # Takes a message to the primary (channel, message, sharded): on a follower of a cluster, where every node's
        # messages are for all; without a cluster Redis keeps those of a replica to itself.
        self.upstream: Callable[[bytes, bytes, bool], None] | None = None
        # From the primary, of what is not applied here yet: offset, channel, message, sharded.
        self.early: deque[tuple[int, bytes, bytes, bool]] = deque()
        self.early_size = 0
        # Published by the EXEC or script that runs: channel, message, sharded, and who listened then.
        self.deferred: list[tuple[bytes, bytes, bool, Messages]] = []

    def join(self, table: Listeners, own: dict[bytes, None], name: bytes, client: Client) -> None:
        """Subscribe; twice is once. `own` is the client's side of `table`."""
        own[name] = None
        table.setdefault(name, {})[client] = None

    def leave(self, table: Listeners, own: dict[bytes, None], name: bytes, client: Client) -> None:
        """Unsubscribe; a name never subscribed to is passed over."""
        own.pop(name, None)
        listeners = table.get(name)
        if listeners is not None:
            listeners.pop(client, None)
            if not listeners:
                del table[name]

    def leave_all(self, client: Client) -> None:
        """Drop every subscription of a client, and say nothing (RESET, and a connection that is gone)."""
        for channel in list(client.channels):
            self.leave(self.channels, client.channels, channel, client)
        for pattern in list(client.patterns):
            self.leave(self.patterns, client.patterns, pattern, client)
        for shard in list(client.shards):
            self.leave(self.shards, client.shards, shard, client)
        self.followers.pop(client, None)
        client.is_node = False
        mark(client)

    def publish(
        self, channel: bytes, message: bytes, sharded: bool, after: Batch | None, durable_offset: int,
        source: Client | None = None,
    ) -> int:  # fmt: skip
        """Deliver here and to all other nodes, not before `after` is durable; return how many listeners are here.

        durable_offset: this node's. source: the follower that the message came from, and need not go back to.
        """
        self.pass_on(channel, message, sharded, after, durable_offset, source)
        return self.deliver(channel, message, sharded, after)

    def pass_on(
        self, channel: bytes, message: bytes, sharded: bool, after: Batch | None, durable_offset: int,
        source: Client | None = None,
    ) -> None:  # fmt: skip
        """Send a message to all other nodes but `source`."""
        if self.followers:
            offset = durable_offset if after is None else after.first_offset + after.count - 1
            kind = b"$8\r\nsmessage\r\n" if sharded else b"$7\r\nmessage\r\n"
            encoded = push([kind, bulk(channel), bulk(message), integer(offset)], True)
            for follower in self.followers:
                if follower is not source:
                    follower.push(encoded, after)
        if self.upstream is not None:
            self.upstream(channel, message, sharded)

    def passed_on(self, offset: int, channel: bytes, message: bytes, sharded: bool, reached: int) -> None:
        """A message from the primary: deliver it once this node, at offset `reached` now, is at `offset`."""
        if offset <= reached and not self.early:
            self.deliver(channel, message, sharded, None)
            return
        self.early.append((offset, channel, message, sharded))
        self.early_size += len(channel) + len(message)
        if self.early_size > EARLY_BYTES_MAX:
            logger.warning("%d messages dropped: this node is too far behind the publishers", len(self.early))
            self.early.clear()
            self.early_size = 0

    def reached(self, offset: int) -> None:
        """This node is at `offset` now: deliver what waited for that."""
        while self.early and self.early[0][0] <= offset:
            _offset, channel, message, sharded = self.early.popleft()
            self.early_size -= len(channel) + len(message)
            self.deliver(channel, message, sharded, None)

    def deliver(
        self, channel: bytes, message: bytes, sharded: bool, after: Batch | None, later: Messages | None = None
    ) -> int:
        """Deliver to every listener at this node, not before `after` is durable; return how many messages that were.

        With `later` they are put there, each with its listener, and sent by the caller: the listeners are decided now.
        """
        if sharded:
            return _send(self.shards.get(channel), [b"$8\r\nsmessage\r\n", bulk(channel), bulk(message)], after, later)
        count = _send(self.channels.get(channel), [b"$7\r\nmessage\r\n", bulk(channel), bulk(message)], after, later)
        for pattern, listeners in self.patterns.items():
            if glob_match(pattern, channel):
                items = [b"$8\r\npmessage\r\n", bulk(pattern), bulk(channel), bulk(message)]
                count += _send(listeners, items, after, later)
        return count

    def defer(self, channel: bytes, message: bytes, sharded: bool) -> int:
        """Inside EXEC: deliver later, to the clients that listen now; return how many there are at this node."""
        messages: Messages = []
        self.deferred.append((channel, message, sharded, messages))
        return self.deliver(channel, message, sharded, None, messages)

    def deliver_deferred(self, commit: Commit) -> None:
        """The EXEC has ended: its messages wait, as its reply does, for its own batch and all before it."""
        after = commit.pending[-1] if commit.pending else None
        for channel, message, sharded, messages in self.deferred:
            self.pass_on(channel, message, sharded, after, commit.durable_offset)
            for client, encoded in messages:
                client.push(encoded, after)
        self.deferred.clear()

    def tell_changes(self, before: View, topology: Topology, config: Config) -> None:
        """The nodes have changed: say so to clients that listen here as to a Sentinel. Each node says its own."""
        if self.channels or self.patterns:
            for channel, message in sentinel_events(before, topology, config.sentinel_service_name.split()):
                self.deliver(channel.encode(), message.encode(), False, None)


def _send(listeners: dict[Client, None] | None, items: list[bytes], after: Batch | None, later: Messages | None) -> int:
    if listeners is None:
        return 0
    encoded2, encoded3 = push(items, False), push(items, True)
    for client in listeners:
        encoded = encoded3 if client.resp3 else encoded2
        if later is None:
            client.push(encoded, after)
        else:
            later.append((client, encoded))
    return len(listeners)


def mark(client: Client) -> None:
    """Set or clear the gate of a RESP2 client with subscriptions; call it when either may have changed."""
    if not client.resp3 and (client.channels or client.patterns or client.shards):
        client.gate |= SUBSCRIBED
    else:
        client.gate &= ~SUBSCRIBED
