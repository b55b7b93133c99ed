"""Typed look-ups: the value at a key as the type that a command works on, None if there is no such key.

`X_to_read` leaves an expired key hidden, `X_to_write` deletes it first. A value of another type is WRONGTYPE.
"""

from __future__ import annotations

from eventdb.engine.client import Client
from eventdb.keyspace.types.hash import HashValue
from eventdb.keyspace.types.list import ListValue
from eventdb.keyspace.types.set import SetValue
from eventdb.keyspace.types.stream import StreamValue
from eventdb.keyspace.types.zset import ZSetValue
from eventdb.protocol.errors import wrong_type


def string_to_read(client: Client, key: bytes) -> bytes | bytearray | None:
    """The string at key to read; None when there is none."""
    value = client.lookup(key)
    if value is None or isinstance(value, (bytes, bytearray)):
        return value
    raise wrong_type()


def string_to_write(client: Client, key: bytes) -> bytes | bytearray | None:
    """The string at key to change; None when there is none."""
    value = client.lookup_write(key)
    if value is None or isinstance(value, (bytes, bytearray)):
        return value
    raise wrong_type()


def hash_to_read(client: Client, key: bytes) -> HashValue | None:
    value = client.lookup(key)
    if value is None:
        return None
    if not isinstance(value, HashValue):
        raise wrong_type()
    return value


def hash_to_write(client: Client, key: bytes) -> HashValue | None:
    value = client.lookup_write(key)
    if value is None:
        return None
    if not isinstance(value, HashValue):
        raise wrong_type()
    return value


def list_to_read(client: Client, key: bytes) -> ListValue | None:
    value = client.lookup(key)
    if value is None or isinstance(value, ListValue):
        return value
    raise wrong_type()


def list_to_write(client: Client, key: bytes) -> ListValue | None:
    value = client.lookup_write(key)
    if value is None or isinstance(value, ListValue):
        return value
    raise wrong_type()


def set_to_read(client: Client, key: bytes) -> SetValue | None:
    value = client.lookup(key)
    if value is None:
        return None
    if not isinstance(value, SetValue):
        raise wrong_type()
    return value


def set_to_write(client: Client, key: bytes) -> SetValue | None:
    value = client.lookup_write(key)
    if value is None:
        return None
    if not isinstance(value, SetValue):
        raise wrong_type()
    return value


def zset_to_read(client: Client, key: bytes) -> ZSetValue | None:
    """The sorted set to read, None when there is no such key."""
    value = client.lookup(key)
    if value is None:
        return None
    if isinstance(value, ZSetValue):
        return value
    raise wrong_type()


def zset_to_write(client: Client, key: bytes) -> ZSetValue | None:
    """The sorted set to change, None when there is no such key."""
    value = client.lookup_write(key)
    if value is None:
        return None
    if isinstance(value, ZSetValue):
        return value
    raise wrong_type()


def stream_to_read(client: Client, key: bytes) -> StreamValue | None:
    value = client.lookup(key)
    if value is None or isinstance(value, StreamValue):
        return value
    raise wrong_type()


def stream_to_write(client: Client, key: bytes) -> StreamValue | None:
    value = client.lookup_write(key)
    if value is None or isinstance(value, StreamValue):
        return value
    raise wrong_type()
