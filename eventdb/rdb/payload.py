"""What DUMP answers and RESTORE takes: a type, a value, the version of the format (2 bytes) and a checksum (8).

Source: redis src/cluster.c (createDumpPayload, verifyDumpPayload).
"""

from __future__ import annotations

from typing import Final

from eventdb.rdb import codes
from eventdb.rdb.codes import BadRdb
from eventdb.rdb.crc64 import crc64
from eventdb.rdb.out import Out
from eventdb.rdb.source import Source
from eventdb.rdb.values import read_value
from eventdb.rdb.writer import type_of, write_value

FOOTER: Final = 10


def dump(value: object) -> bytes:
    """The payload of a value."""
    out = Out()
    kind = type_of(value)
    out.raw(b"%c" % kind)
    write_value(value, out)
    out.raw((codes.VERSION_TIMED if kind == codes.HASH_METADATA else codes.VERSION).to_bytes(2, "little"))
    data = out.taken()
    return data + crc64(data).to_bytes(8, "little")


def version(payload: bytes) -> int:
    """The version of a sound payload; 0 when it is not sound, or too new."""
    if len(payload) < FOOTER:
        return 0
    found = int.from_bytes(payload[-FOOTER : 2 - FOOTER], "little")
    if crc64(payload[:-8]) != int.from_bytes(payload[-8:], "little"):
        return 0
    return found if found <= codes.VERSION_MAX or found == codes.VALKEY_VERSION else 0


def read(payload: bytes, key: bytes) -> list[list[bytes]]:
    """The events that make the value of a sound payload. Raises BadRdb, Unkept."""
    source = Source(payload[:-FOOTER])
    if source.end == 0:
        raise BadRdb("a payload without a value")
    valkey = int.from_bytes(payload[-FOOTER : 2 - FOOTER], "little") == codes.VALKEY_VERSION
    return read_value(source, source.byte(), key, valkey)
