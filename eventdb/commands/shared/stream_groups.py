"""Consumer groups of streams, for the commands that read and those that manage."""

from __future__ import annotations

from eventdb.commands.shared.lookups import stream_to_read
from eventdb.engine.client import Client
from eventdb.keyspace.types.pending import Group
from eventdb.keyspace.types.stream import StreamValue
from eventdb.protocol.errors import no_group


def group_at(client: Client, key: bytes, name: bytes) -> tuple[StreamValue, Group]:
    """The stream and its group, or NOGROUP."""
    value = stream_to_read(client, key)
    group = value.groups.get(name) if value is not None else None
    if value is None or group is None:
        raise no_group(key, name)
    return value, group


def note_seen(client: Client, key: bytes, group_name: bytes, group: Group, name: bytes) -> None:
    """The consumer is there, and has just been heard of."""
    now_ms = client.store.now_ms
    consumer = group.consumers.get(name)
    if consumer is None or consumer.seen_ms != now_ms:
        client.emit([b"XGROUP", b"CREATECONSUMER", key, group_name, name, b"SEEN", b"%d" % now_ms])
