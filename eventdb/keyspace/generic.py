"""What holds for a value of any type, strings included: its type, its encoding, its references."""

from __future__ import annotations

from typing import Final

from eventdb.keyspace.types.string import is_integer, string_encoding
from eventdb.keyspace.value import Limits, Value

SHARED_INTEGERS: Final = 10_000  # redis src/server.h OBJ_SHARED_INTEGERS: 0 … 9999 are one object each
SHARED_REFCOUNT: Final = 2**31 - 1


def type_of(value: object) -> bytes:
    """What TYPE says."""
    if value is None:
        return b"none"
    return value.type_name() if isinstance(value, Value) else b"string"


def encoding_of(value: object, limits: Limits) -> bytes:
    """What OBJECT ENCODING says."""
    return value.encoding(limits) if isinstance(value, Value) else string_encoding(value)


def references(value: object) -> int:
    """How many references Redis would hold to it."""
    shared = isinstance(value, bytes) and is_integer(value) and 0 <= int(value) < SHARED_INTEGERS
    return SHARED_REFCOUNT if shared else 1
