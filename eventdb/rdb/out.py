"""Bytes in the making: lengths, strings and the checksum of Redis's format; a file leaves in pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from eventdb.rdb.codes import LENGTH_32, LENGTH_64
from eventdb.rdb.crc64 import crc64

PIECE_BYTES: Final = 1 << 20  # of a file, handed on at a time
INTEGER_BYTES_MAX: Final = 11  # of a decimal that may be written as a number of 32 bits
INT32_MAX: Final = (1 << 31) - 1


def ignore(data: bytes) -> None:
    """For one whose bytes are taken at the end."""


class Out:
    """Bytes in the making; `write` takes them in pieces, if they are for a file."""

    def __init__(self, write: Callable[[bytes], object] = ignore, piece_bytes: int = 0) -> None:
        self.write = write
        self.piece_bytes = piece_bytes  # 0: never hand on what is there
        self.parts: list[bytes] = []
        self.size = 0  # of `parts`
        self.sum = 0  # the checksum of what was handed on

    def raw(self, data: bytes) -> None:
        self.parts.append(data)
        self.size += len(data)

    def flush_if_large(self) -> None:
        if self.piece_bytes and self.size >= self.piece_bytes:
            self.flush()

    def flush(self) -> None:
        data = b"".join(self.parts)
        self.parts = []
        self.size = 0
        self.sum = crc64(data, self.sum)
        self.write(data)

    def taken(self) -> bytes:
        """Everything written, for a payload."""
        return b"".join(self.parts)

    def length(self, number: int) -> None:
        if number < 64:
            data = b"%c" % number
        elif number < 16384:
            data = b"%c%c" % (0x40 | number >> 8, number & 255)
        elif number < 1 << 32:
            data = b"%c%b" % (LENGTH_32, number.to_bytes(4, "big"))
        else:
            data = b"%c%b" % (LENGTH_64, number.to_bytes(8, "big"))
        self.parts.append(data)
        self.size += len(data)

    def string(self, data: bytes | bytearray) -> None:
        """A string; a decimal that fits into 32 bits as a number, as Redis does."""
        size = len(data)
        parts = self.parts
        if 0 < size <= INTEGER_BYTES_MAX and data[0] <= 57 and self._integer(bytes(data)):
            return
        if size < 64:
            parts.append(b"%c%b" % (size, bytes(data)))
            self.size += size + 1
            return
        if size < 16384:
            parts.append(b"%c%c%b" % (0x40 | size >> 8, size & 255, bytes(data)))
            self.size += size + 2
            return
        self.length(size)
        parts.append(bytes(data))
        self.size += size

    def _integer(self, data: bytes) -> bool:
        try:
            number = int(data)
        except ValueError:
            return False
        if not -INT32_MAX - 1 <= number <= INT32_MAX or b"%d" % number != data:
            return False
        if -128 <= number < 128:
            self.raw(b"\xc0" + number.to_bytes(1, "little", signed=True))
        elif -32768 <= number < 32768:
            self.raw(b"\xc1" + number.to_bytes(2, "little", signed=True))
        else:
            self.raw(b"\xc2" + number.to_bytes(4, "little", signed=True))
        return True
