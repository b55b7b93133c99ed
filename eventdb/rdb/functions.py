"""Libraries of functions as Redis serializes them: FUNCTION DUMP, FUNCTION RESTORE, and the head of an RDB file.

    opcode 245 (FUNCTION2), the library's source as a string; for each library
    2 bytes: the version of RDB, little endian
    8 bytes: CRC-64 of all before it, little endian

A string is its length and its bytes, or, as Redis writes long ones, compressed by LZF. Written is the plain form, and
version 10: that of Redis 7.0. What is read may be hostile: `Source` believes no length before as many bytes are there.
Source: redis src/functions.c functionDumpCommand, functionRestoreCommand; src/rdb.c rdbFunctionLoad, rdbLoadLen.
"""

from __future__ import annotations

from typing import Final

from eventdb.rdb.codes import FUNCTION2, VERSION, BadRdb
from eventdb.rdb.crc64 import crc64
from eventdb.rdb.out import Out
from eventdb.rdb.source import Source

FUNCTION_PRE_GA: Final = 246  # of release candidates of Redis 7.0
FOOTER_BYTES: Final = 10


class PayloadError(ValueError):
    """It cannot be read; the text says why, in Redis's words."""


def dump(codes: list[bytes]) -> bytes:
    """The payload of these libraries."""
    out = Out()
    for code in codes:
        out.raw(b"%c" % FUNCTION2)
        out.string(code)
    out.raw(VERSION.to_bytes(2, "little"))
    body = out.taken()
    return body + crc64(body).to_bytes(8, "little")


def load(payload: bytes) -> list[bytes]:
    """The libraries of a payload. Raises PayloadError."""
    if len(payload) < FOOTER_BYTES:
        raise PayloadError("DUMP payload version or checksum are wrong")
    body, checksum = payload[:-8], int.from_bytes(payload[-8:], "little")
    if int.from_bytes(body[-2:], "little") > VERSION or (checksum and checksum != crc64(body)):
        raise PayloadError("DUMP payload version or checksum are wrong")
    source = Source(body[:-2])
    found: list[bytes] = []
    while not source.is_at_end():
        opcode = source.byte()
        if opcode == FUNCTION_PRE_GA:
            raise PayloadError("Pre-GA function format not supported")
        if opcode != FUNCTION2:
            raise PayloadError("given type is not a function")
        try:
            found.append(source.string())
        except BadRdb:
            raise PayloadError("Failed loading library payload") from None
    return found
