"""Publish and subscribe: who listens to which channel, pattern and shard channel, and how a message gets there.

A message is not an event: it is in no log. But it may tell of one, so it never leaves before the batch that its
publisher's writes are in is durable. Sans-IO; the commands are in commands/pubsub.py.
Source: redis src/pubsub.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventdb.client import SUBSCRIBED
from eventdb.glob import glob_match
from eventdb.resp import bulk, push

if TYPE_CHECKING:
    from eventdb.client import Client
    from eventdb.commit import Batch
    from eventdb.topology import Member

Listeners = dict[bytes, dict["Client", None]]


class PubSub:
    """The subscriptions of one node. A name without a listener is forgotten at once."""

    def __init__(self) -> None:
        self.channels: Listeners = {}
        self.patterns: Listeners = {}
        self.shards: Listeners = {}  # SSUBSCRIBE: one shard holds all slots here, so they are a second name space

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
        mark(client)

    def publish(self, channel: bytes, message: bytes, sharded: bool, after: Batch | None) -> int:
        """Deliver to every listener, not before `after` is durable; return how many messages that were."""
        if sharded:
            return _send(self.shards.get(channel), [b"$8\r\nsmessage\r\n", bulk(channel), bulk(message)], after)
        count = _send(self.channels.get(channel), [b"$7\r\nmessage\r\n", bulk(channel), bulk(message)], after)
        for pattern, listeners in self.patterns.items():
            if glob_match(pattern, channel):
                items = [b"$8\r\npmessage\r\n", bulk(pattern), bulk(channel), bulk(message)]
                count += _send(listeners, items, after)
        return count

    def tell_switch(self, service: str, old: Member | None, new: Member) -> None:
        """+switch-master, as Redis Sentinel publishes it to those who wait for a new primary."""
        if old is not None:
            message = f"{service} {old.host} {old.port} {new.host} {new.port}"
            self.publish(b"+switch-master", message.encode(), False, None)

    def receivers(self, channel: bytes, sharded: bool) -> int:
        """How many messages publishing to this channel would send."""
        if sharded:
            return len(self.shards.get(channel, ()))
        count = len(self.channels.get(channel, ()))
        for pattern, listeners in self.patterns.items():
            if glob_match(pattern, channel):
                count += len(listeners)
        return count


def _send(listeners: dict[Client, None] | None, items: list[bytes], after: Batch | None) -> int:
    if listeners is None:
        return 0
    encoded2, encoded3 = push(items, False), push(items, True)
    for client in listeners:
        client.push(encoded3 if client.resp3 else encoded2, after)
    return len(listeners)


def mark(client: Client) -> None:
    """Set or clear the gate of a RESP2 client with subscriptions; call it when either may have changed."""
    if not client.resp3 and (client.channels or client.patterns or client.shards):
        client.gate |= SUBSCRIBED
    else:
        client.gate &= ~SUBSCRIBED
