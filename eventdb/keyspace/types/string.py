"""Strings: `bytes` as set, `bytearray` once changed in place, so that appending costs the bytes appended.

Redis shows the same difference: a string that was changed in place has the encoding `raw` from then on.
"""

from __future__ import annotations

from typing import Final

from eventdb.keyspace.databases import Db
from eventdb.keyspace.events import event

EMBEDDED_BYTES_MAX: Final = 44  # redis src/object.c OBJ_ENCODING_EMBSTR_SIZE_LIMIT
INTEGER_BYTES_MAX: Final = 20


def changeable(db: Db, key: bytes) -> bytearray:
    """The string at key as a bytearray, empty when there was none; it is what the key holds from now on."""
    value = db.values.get(key)
    if isinstance(value, bytearray):
        return value
    if value is None:
        made = bytearray()
    else:
        assert isinstance(value, bytes)
        made = bytearray(value)
    db.put(key, made)
    return made


@event(b"APPEND")
def apply_append(db: Db, argv: list[bytes]) -> None:
    """APPEND key suffix; the deadline stays."""
    value = changeable(db, argv[1])
    value += argv[2]


@event(b"SETRANGE")
def apply_setrange(db: Db, argv: list[bytes]) -> None:
    """SETRANGE key start bytes; what lies between the end and `start` becomes zero bytes. The deadline stays."""
    value = changeable(db, argv[1])
    start, patch = int(argv[2]), argv[3]
    if start > len(value):
        value += bytes(start - len(value))
    value[start : start + len(patch)] = patch


def string_encoding(value: object) -> bytes:
    """What OBJECT ENCODING says of a string."""
    if isinstance(value, bytes):
        if is_integer(value):
            return b"int"
        if len(value) <= EMBEDDED_BYTES_MAX:
            return b"embstr"
    return b"raw"


def is_integer(value: bytes) -> bool:
    """True for the canonical decimal of a signed 64-bit number, which Redis stores as that number."""
    if len(value) > INTEGER_BYTES_MAX:
        return False
    try:
        n = int(value)
    except ValueError:
        return False
    return -(1 << 63) <= n < (1 << 63) and b"%d" % n == value
