"""Fields of hashes that may be past their deadlines: those are hidden, as if they were not there.

A hash without deadlines costs one comparison of a type here.
"""

from __future__ import annotations

from eventdb.engine.client import Client
from eventdb.keyspace.types.hash import HashValue
from eventdb.keyspace.types.timed_hash import TimedHash


def field_of(client: Client, value: HashValue, field: bytes) -> bytes | None:
    """What a field holds; None when it is not there, or past its deadline."""
    found = value.fields.get(field)
    if found is not None and isinstance(value, TimedHash) and value.is_due(field, client.store.now_ms):
        return None
    return found


def live_fields(client: Client, value: HashValue) -> dict[bytes, bytes]:
    """All fields but those past their deadlines; not to be changed."""
    return value.live(client.store.now_ms) if isinstance(value, TimedHash) else value.fields


def live_count(client: Client, value: HashValue) -> int:
    count = len(value.fields)
    return count - value.due_count(client.store.now_ms) if isinstance(value, TimedHash) else count


def set_keeping_deadline(client: Client, key: bytes, value: HashValue | None, field: bytes, text: bytes) -> None:
    """Emit what an increment comes to: unlike HSET, it keeps the deadline of its field."""
    if isinstance(value, TimedHash):
        at_ms = value.deadlines.get(field)
        if at_ms is not None and at_ms > client.store.now_ms:
            client.emit([b"HSETEX", key, b"KEEPTTL", b"FIELDS", b"1", field, text])
            return
    client.emit([b"HSET", key, field, text])
