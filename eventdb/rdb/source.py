"""Bytes that are read once, from front to back: a payload, or a file that comes in pieces.

No length is believed before as many bytes have come, so what a lying one costs is bounded by what was sent.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from eventdb.rdb.codes import INT8, INT16, INT32, LENGTH_32, LENGTH_64, LZF, STRING_BYTES_MAX, BadRdb
from eventdb.rdb.crc64 import crc64
from eventdb.rdb.lzf import decompress

PIECE_BYTES: Final = 1 << 20
UNPACKED_BYTES_MAX: Final = 1 << 29  # of one value, out of compressed strings: as long as Redis lets a string be


def nothing_more(size: int) -> bytes:
    """For a payload: all of it is there from the start."""
    return b""


class Source:
    """`data` from `at` on is what was not yet read; `more(size)` gives up to that many bytes, b"" at the end."""

    def __init__(self, data: bytes, more: Callable[[int], bytes] = nothing_more) -> None:
        self.data = data
        self.at = 0
        self.end = len(data)
        self.more = more
        self.before = 0  # bytes that were read and are no longer in `data`
        self._sum = 0  # the checksum of them
        self.unpacked = 0  # bytes that came out of compressed strings; set to 0 where a value begins

    def position(self) -> int:
        return self.before + self.at

    def checksum(self) -> int:
        """Of everything read so far."""
        return crc64(self.data[: self.at], self._sum)

    def fill(self, size: int) -> None:
        """Make sure that `size` bytes from `at` on are there. Raises BadRdb."""
        if size > STRING_BYTES_MAX:
            raise BadRdb(f"{size} bytes at a time at byte {self.position()}: no value is as long")
        self._sum = crc64(self.data[: self.at], self._sum)
        self.before += self.at
        parts = [self.data[self.at :]]
        have = self.end - self.at
        while have < size:
            part = self.more(max(PIECE_BYTES, min(size - have, 16 * PIECE_BYTES)))
            if not part:
                break
            parts.append(part)
            have += len(part)
        self.data = b"".join(parts)
        self.at = 0
        self.end = len(self.data)
        if have < size:
            raise BadRdb(f"it ends after {self.before + have} bytes, in the middle of something")

    def is_at_end(self) -> bool:
        if self.at < self.end:
            return False
        try:
            self.fill(1)
        except BadRdb:
            return True
        return False

    def take(self, size: int) -> bytes:
        at = self.at
        if size > self.end - at:
            self.fill(size)
            at = 0
        self.at = at + size
        return self.data[at : at + size]

    def byte(self) -> int:
        if self.at >= self.end:
            self.fill(1)
        found = self.data[self.at]
        self.at += 1
        return found

    def length(self) -> int:
        """A length or count."""
        first = self.byte()
        if first < 64:
            return first
        return self._long(first)

    def _long(self, first: int) -> int:
        if first < 128:
            return (first & 63) << 8 | self.byte()
        if first == LENGTH_32:
            return int.from_bytes(self.take(4), "big")
        if first == LENGTH_64:
            return int.from_bytes(self.take(8), "big")
        raise BadRdb(f"byte {first} where a length begins, at byte {self.position() - 1}")

    def string(self) -> bytes:
        at, end = self.at, self.end
        if at + 1 < end:  # nearly all strings are short, and there
            first = self.data[at]
            if first < 128:
                at += 1
                if first >= 64:
                    first = (first & 63) << 8 | self.data[at]
                    at += 1
                if at + first <= end:
                    self.at = at + first
                    return self.data[at : at + first]
        first = self.byte()
        if first < 64:
            return self.take(first)
        if first < 0xC0:
            return self.take(self._long(first))
        kind = first & 63
        if kind == INT8:
            return b"%d" % int.from_bytes(self.take(1), "little", signed=True)
        if kind == INT16:
            return b"%d" % int.from_bytes(self.take(2), "little", signed=True)
        if kind == INT32:
            return b"%d" % int.from_bytes(self.take(4), "little", signed=True)
        if kind == LZF:
            packed, size = self.length(), self.length()
            self.unpacked += size
            if self.unpacked > UNPACKED_BYTES_MAX:
                raise BadRdb(f"a value of more than {UNPACKED_BYTES_MAX} bytes, compressed")
            return decompress(self.take(packed), size)
        raise BadRdb(f"byte {first} where a string begins, at byte {self.position() - 1}")

    def uint64(self) -> int:
        """Eight bytes, little-endian."""
        return int.from_bytes(self.take(8), "little")

    def int64(self) -> int:
        return int.from_bytes(self.take(8), "little", signed=True)

    def double(self) -> float:
        found: float = struct.unpack("<d", self.take(8))[0]
        return found
