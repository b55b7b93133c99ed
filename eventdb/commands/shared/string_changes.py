"""Writing a string: the event SET, as the hot path writes it, and the size that a string may have."""

from __future__ import annotations

from eventdb.engine.client import Client
from eventdb.keyspace.events import apply_set
from eventdb.rdb.codes import STRING_BYTES_MAX


def longest(client: Client) -> int:
    """How long a string may get: proto-max-bulk-len, and what a snapshot can hold."""
    return min(client.store.keyspace.limits.string_bytes, STRING_BYTES_MAX)


def encode_set(key: bytes, value: bytes) -> bytes:
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)


def put(client: Client, key: bytes, value: bytes) -> None:
    """Emit SET key value, which also ends the deadline: the hottest event, so it takes the shortest way."""
    db = client.db
    if client.store.undo is not None:
        client.store.undo.keep(db, key, False)
    apply_set(db, [b"SET", key, value])
    client.store.record(db, key, encode_set(key, value))


def put_keeping_deadline(client: Client, key: bytes, value: bytes) -> None:
    if client.db.expires and key in client.db.expires:
        client.emit([b"SET", key, value, b"KEEPTTL"])
    else:
        put(client, key, value)
