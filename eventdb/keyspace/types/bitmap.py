"""Bitmaps are strings whose bits count: bit 0 is the highest bit of byte 0. Here is what is read off them.

They have no events of their own: what changes bits is logged as the bytes that changed (SETRANGE), or as a new string.
"""

from __future__ import annotations

import re
from typing import Final

PIECE: Final = 1 << 20  # bytes that are turned into one number at a time
NOT_ZEROS: Final = re.compile(rb"[^\x00]")
NOT_ONES: Final = re.compile(rb"[^\xff]")

Bytes = bytes | bytearray


def count_bits(value: Bytes, first: int, last: int) -> int:
    """How many of the bits from `first` to `last`, both within the value, are 1."""
    start, stop = first >> 3, (last >> 3) + 1
    total = 0
    for at in range(start, stop, PIECE):
        total += int.from_bytes(value[at : min(at + PIECE, stop)], "big").bit_count()
    before = value[start] >> (8 - (first & 7))
    after = value[stop - 1] & ((1 << (7 - (last & 7))) - 1)
    return total - before.bit_count() - after.bit_count()


def find_bit(value: Bytes, bit: int, first: int, last: int) -> int:
    """The first of the bits from `first` to `last`, both within the value, that equals `bit`; -1 when none does."""
    start, stop = first >> 3, last >> 3
    if start == stop:
        return _find_in_byte(value[start], bit, first, last)
    found = _find_in_byte(value[start], bit, first, start * 8 + 7)
    if found >= 0:
        return found
    match = (NOT_ZEROS if bit else NOT_ONES).search(value, start + 1, stop)
    at = match.start() if match is not None else stop
    return _find_in_byte(value[at], bit, at * 8, last if at == stop else at * 8 + 7)


def _find_in_byte(byte: int, bit: int, first: int, last: int) -> int:
    """The same for bits of one byte, numbered as in the value."""
    wanted = (byte if bit else ~byte) & (0xFF >> (first & 7)) & (0xFF << (7 - (last & 7))) & 0xFF
    return -1 if wanted == 0 else (first & ~7) + 8 - wanted.bit_length()


def combine(operation: bytes, values: list[Bytes]) -> bytes:
    """One string out of several, bit by bit; shorter ones go on with zeros.

    AND, OR, XOR; NOT of one value; DIFF: in the first and no other; DIFF1: in another and not in the first; ANDOR:
    in the first and another; ONE: in exactly one. Names are upper case.
    """
    size = max(len(value) for value in values)
    numbers = [int.from_bytes(value, "big") << (8 * (size - len(value))) for value in values]
    result = numbers[0]
    if operation == b"NOT":
        result ^= (1 << (8 * size)) - 1
    elif operation == b"AND":
        for number in numbers[1:]:
            result &= number
    elif operation == b"OR":
        for number in numbers[1:]:
            result |= number
    elif operation == b"XOR":
        for number in numbers[1:]:
            result ^= number
    elif operation == b"ONE":
        several = 0
        for number in numbers[1:]:
            several |= result & number
            result |= number
        result &= ~several
    else:
        others = 0
        for number in numbers[1:]:
            others |= number
        if operation == b"DIFF":
            result &= ~others
        elif operation == b"ANDOR":
            result &= others
        else:
            assert operation == b"DIFF1"
            result = others & ~result
    return result.to_bytes(size, "big")


class Field:
    """Some bits of a string read as one number, `i5` or `u63` in the words of BITFIELD."""

    def __init__(self, signed: bool, bits: int, at: int) -> None:
        self.signed = signed
        self.bits = bits
        self.at = at  # its first bit

    def start(self) -> int:
        """The first byte that holds some of it."""
        return self.at >> 3

    def stop(self) -> int:
        """The byte after the last one that holds some of it."""
        return ((self.at + self.bits - 1) >> 3) + 1

    def _spare(self) -> int:
        """How many bits of its last byte come after it."""
        return self.stop() * 8 - self.at - self.bits

    def _span(self, value: Bytes) -> int:
        """Its bytes as a number; what lies past the end is zero."""
        start, stop = self.start(), self.stop()
        part = value[start:stop]
        return int.from_bytes(part, "big") << (8 * (stop - start - len(part)))

    def read(self, value: Bytes) -> int:
        number = (self._span(value) >> self._spare()) & ((1 << self.bits) - 1)
        return self.wrapped(number)

    def patch(self, value: Bytes, number: int) -> bytes:
        """What the bytes from start() to stop() are once it holds `number`."""
        mask = ((1 << self.bits) - 1) << self._spare()
        span = (self._span(value) & ~mask) | ((number << self._spare()) & mask)
        return span.to_bytes(self.stop() - self.start(), "big")

    def lowest(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    def highest(self) -> int:
        return (1 << (self.bits - self.signed)) - 1

    def wrapped(self, number: int) -> int:
        """What is left of a number that does not fit."""
        number &= (1 << self.bits) - 1
        return number - (1 << self.bits) if self.signed and number > self.highest() else number
