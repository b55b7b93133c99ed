"""Libraries of functions as Redis serializes them: FUNCTION DUMP, FUNCTION RESTORE, and the head of an RDB file.

    opcode 245 (FUNCTION2), the library's source as a string; for each library
    2 bytes: the version of RDB, little endian
    8 bytes: CRC-64 of all before it, little endian

A string is its length and its bytes, or, as Redis writes long ones, compressed by LZF. Written is the plain form, and
version 10: that of Redis 7.0. What is read may be hostile: no length is believed before as many bytes are there.
Source: redis src/functions.c functionDumpCommand, functionRestoreCommand; src/rdb.c rdbFunctionLoad, rdbLoadLen.
"""

from __future__ import annotations

from typing import Final

from eventdb.rdb.crc64 import crc64

VERSION: Final = 10
FUNCTION2: Final = 245
FUNCTION_PRE_GA: Final = 246  # of release candidates of Redis 7.0
FOOTER_BYTES: Final = 10
COMPRESSED: Final = 0xC3  # the string's two lengths follow
GROWTH_MAX: Final = 88  # LZF: three bytes stand for 264 at most


class PayloadError(ValueError):
    """It cannot be read; the text says why, in Redis's words."""


def dump(codes: list[bytes]) -> bytes:
    """The payload of these libraries."""
    parts: list[bytes] = []
    for code in codes:
        parts += [b"\xf5", _length(len(code)), code]
    body = b"".join(parts) + VERSION.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


def load(payload: bytes) -> list[bytes]:
    """The libraries of a payload. Raises PayloadError."""
    if len(payload) < FOOTER_BYTES:
        raise PayloadError("DUMP payload version or checksum are wrong")
    body, checksum = payload[:-8], int.from_bytes(payload[-8:], "little")
    if int.from_bytes(body[-2:], "little") > VERSION or (checksum and checksum != crc64(body)):
        raise PayloadError("DUMP payload version or checksum are wrong")
    reader = _Reader(body[:-2])
    found: list[bytes] = []
    while reader.at < len(reader.data):
        opcode = reader.byte()
        if opcode == FUNCTION_PRE_GA:
            raise PayloadError("Pre-GA function format not supported")
        if opcode != FUNCTION2:
            raise PayloadError("given type is not a function")
        found.append(reader.string())
    return found


def _length(size: int) -> bytes:
    if size < 1 << 6:
        return bytes([size])
    if size < 1 << 14:
        return bytes([0x40 | size >> 8, size & 255])
    return b"\x80" + size.to_bytes(4, "big") if size < 1 << 32 else b"\x81" + size.to_bytes(8, "big")


class _Reader:
    """Reads a body from its start."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        return self._take(1)[0]

    def string(self) -> bytes:
        first = self.byte()
        if first == COMPRESSED:
            packed, size = self._size(self.byte()), self._size(self.byte())
            return _unpacked(self._take(packed), size)
        if 0xC0 <= first <= 0xC2:  # a number, in 1, 2 or 4 bytes
            return b"%d" % int.from_bytes(self._take(1 << (first & 3)), "little", signed=True)
        return self._take(self._size(first))

    def _size(self, first: int) -> int:
        kind = first >> 6
        if kind == 0:
            return first
        if kind == 1:
            return (first & 63) << 8 | self.byte()
        if first == 0x80:
            return int.from_bytes(self._take(4), "big")
        if first == 0x81:
            return int.from_bytes(self._take(8), "big")
        raise PayloadError("Failed loading library payload")

    def _take(self, size: int) -> bytes:
        found = self.data[self.at : self.at + size]
        if len(found) < size:
            raise PayloadError("Failed loading library payload")
        self.at += size
        return found


def _unpacked(data: bytes, size: int) -> bytes:
    """The `size` bytes that LZF has made `data` from. Source: liblzf lzf_d.c."""
    if size > GROWTH_MAX * len(data):
        raise PayloadError("Failed loading library payload")
    made = bytearray()
    at, end = 0, len(data)
    while at < end:
        control = data[at]
        at += 1
        if control < 32:  # as many bytes as they are, and one more
            made += data[at : at + control + 1]
            at += control + 1
            continue
        length = control >> 5
        if length == 7 and at < end:
            length += data[at]
            at += 1
        if at >= end:
            break
        start = len(made) - ((control & 31) << 8 | data[at]) - 1
        at += 1
        if start < 0:
            break
        for i in range(start, start + length + 2):  # one by one: it may repeat what it has just made
            made.append(made[i])
    if at != end or len(made) != size:
        raise PayloadError("Failed loading library payload")
    return bytes(made)
