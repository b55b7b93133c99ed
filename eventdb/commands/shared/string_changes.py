"""Writing a string: the event SET, as the hot path writes it, and the size that a string may have."""

from __future__ import annotations

from typing import Final

from eventdb.engine.client import Client
from eventdb.keyspace.events import apply_set

STRING_BYTES_MAX: Final = 512 << 20  # Redis's default proto-max-bulk-len


def encode_set(key: bytes, value: bytes) -> bytes:
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)


def put(client: Client, key: bytes, value: bytes) -> None:
    """Emit SET key value, which also ends the deadline: the hottest event, so it takes the shortest way."""
    db = client.db
    apply_set(db, [b"SET", key, value])
    client.store.record(db, key, encode_set(key, value))


def put_keeping_deadline(client: Client, key: bytes, value: bytes) -> None:
    if client.db.expires and key in client.db.expires:
        client.emit([b"SET", key, value, b"KEEPTTL"])
    else:
        put(client, key, value)
