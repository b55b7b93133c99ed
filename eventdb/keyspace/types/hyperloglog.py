"""HyperLogLogs are strings in Redis's own two encodings, so that their bytes mean the same to either.

    "HYLL", encoding, 3 bytes of 0, the count that was computed last (8 bytes, little endian; its highest bit: outdated)
    dense   (0): 16,384 registers of 6 bits, the lowest bits first
    sparse  (1): runs of registers: 00nnnnnn n+1 zeros; 01nnnnnn nnnnnnnn the same with 14 bits; 1vvvvvnn n+1 times v+1

Where a run is split or joined follows Redis step by step, for the bytes have to be the same. Source: redis
src/hyperloglog.c. They have no events of their own: what changes is logged as the bytes that changed.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

Bytes = bytes | bytearray

MAGIC: Final = b"HYLL"
HEADER: Final = 16
ENCODING_AT: Final = 4
CARDINALITY_AT: Final = 8
DENSE: Final = 0
SPARSE: Final = 1
BITS: Final = 14
REGISTERS: Final = 1 << BITS
DENSE_SIZE: Final = HEADER + REGISTERS * 6 // 8
RANK_MAX: Final = 64 - BITS + 1
SPARSE_RANK_MAX: Final = 32
ZERO_RUN_MAX: Final = 64
VALUE_RUN_MAX: Final = 4
JOINED_AT_ONCE: Final = 5  # runs that are looked at after a change
COUNTS_KEPT: Final = 64  # at some 12 KiB each: reading one again costs a hash of its bytes
ALPHA: Final = 0.721347520444481703680
EMPTY: Final = MAGIC + bytes((SPARSE, 0, 0, 0)) + bytes(8) + b"\x7f\xff"

SEED: Final = 0xADC83B19
MULTIPLIER: Final = 0xC6A4A7935BD1E995
MASK: Final = (1 << 64) - 1

# Bytes of a dense encoding from registers and back: (mask and shift) of each of the 4 registers in 3 bytes.
_TOPS: Final = int.from_bytes(b"\x80" * REGISTERS, "little")
_LOW6: Final = bytes(byte & 63 for byte in range(256))
_RIGHT: Final = [bytes(byte >> n for byte in range(256)) for n in range(8)]
_LEFT: Final = [bytes(byte << n & 255 for byte in range(256)) for n in range(8)]


class Corrupt(Exception):  # noqa: N818 - a value that claims to be a HyperLogLog and is none
    """Its runs do not add up to the registers."""


def is_valid(value: Bytes) -> bool:
    """It looks like a HyperLogLog; whether its runs add up is found out when they are read."""
    if len(value) < HEADER or value[:4] != MAGIC or value[ENCODING_AT] > SPARSE:
        return False
    return value[ENCODING_AT] == SPARSE or len(value) == DENSE_SIZE


def murmur(data: bytes) -> int:
    """MurmurHash64A, read as on a little-endian machine. Source: the reference implementation by Austin Appleby."""
    n = len(data)
    h = SEED ^ (n * MULTIPLIER & MASK)
    whole = n & ~7
    for at in range(0, whole, 8):
        k = int.from_bytes(data[at : at + 8], "little") * MULTIPLIER & MASK
        k = (k ^ (k >> 47)) * MULTIPLIER & MASK
        h = (h ^ k) * MULTIPLIER & MASK
    if n != whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * MULTIPLIER & MASK
    h = (h ^ (h >> 47)) * MULTIPLIER & MASK
    return h ^ (h >> 47)


def register_of(element: bytes) -> tuple[int, int]:
    """The register that an element belongs to, and the rank that it asks of it."""
    h = murmur(element)
    rest = (h >> BITS) | 1 << (64 - BITS)
    return h & (REGISTERS - 1), (rest & -rest).bit_length()


# -- the count


def cached_count(value: Bytes) -> int:
    """The count that the value itself holds; -1 when it is outdated."""
    if value[CARDINALITY_AT + 7] & 0x80:
        return -1
    return int.from_bytes(value[CARDINALITY_AT:HEADER], "little")


@lru_cache(COUNTS_KEPT)
def count_of(value: bytes) -> int:
    """How many different elements were added, by the registers; remembered for values asked last. Raises Corrupt."""
    return estimate(registers_of(value))


def estimate(registers: Bytes) -> int:
    """How many different elements were added. Source: O. Ertl, arXiv:1702.01284, algorithm 6."""
    histogram = [0] * 64
    left = REGISTERS
    for rank in range(64):
        if left == 0:
            break
        count = registers.count(rank)
        left -= count
        histogram[rank] = count
    m = float(REGISTERS)
    z = m * _tau((m - histogram[RANK_MAX]) / m)
    for rank in range(RANK_MAX - 1, 0, -1):
        z = (z + histogram[rank]) * 0.5
    z += m * _sigma(histogram[0] / m)
    found = ALPHA * m * m / z
    whole = math.floor(found)
    return whole + 1 if found - whole >= 0.5 else whole


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y, z = 1.0, 1.0 - x
    while True:
        x = math.sqrt(x)
        before = z
        y *= 0.5
        z -= (1.0 - x) ** 2 * y
        if z == before:
            return z / 3.0


def _sigma(x: float) -> float:
    if x == 1.0:
        return math.inf
    y, z = 1.0, x
    while True:
        x *= x
        before = z
        z += x * y
        y += y
        if z == before:
            return z


# -- registers


def registers_of(value: Bytes) -> bytearray:
    """All registers, a byte each. Raises Corrupt."""
    return _dense_registers(value) if value[ENCODING_AT] == DENSE else _sparse_registers(value)


def highest(a: Bytes, b: Bytes) -> bytes:
    """The higher of each two registers, all of them at once: 16 KiB as one number, a byte that never overflows each."""
    x, y = int.from_bytes(a, "little"), int.from_bytes(b, "little")
    not_lower = ((x | _TOPS) - y & _TOPS) >> 7  # a 1 in each byte in which x >= y
    mask = (not_lower << 8) - not_lower  # and all bits of such a byte
    return (y ^ ((x ^ y) & mask)).to_bytes(REGISTERS, "little")


def _either(a: bytes, b: bytes) -> bytes:
    """Bit by bit; both are of one length."""
    return (int.from_bytes(a, "big") | int.from_bytes(b, "big")).to_bytes(len(a), "big")


def _dense_registers(value: Bytes) -> bytearray:
    packed = bytes(value[HEADER:])
    a, b, c = packed[0::3], packed[1::3], packed[2::3]
    registers = bytearray(REGISTERS)
    registers[0::4] = a.translate(_LOW6)
    registers[1::4] = _either(a.translate(_RIGHT[6]), b.translate(_LEFT[2]).translate(_LOW6))
    registers[2::4] = _either(b.translate(_RIGHT[4]), c.translate(_LEFT[4]).translate(_LOW6))
    registers[3::4] = c.translate(_RIGHT[2])
    return registers


def dense(header: Bytes, registers: Bytes) -> bytearray:
    """The dense encoding of these registers, with all of this header but the encoding."""
    every = bytes(registers)
    a, b, c, d = every[0::4], every[1::4], every[2::4], every[3::4]
    value = bytearray(header[:HEADER]) + bytearray(DENSE_SIZE - HEADER)
    value[ENCODING_AT] = DENSE
    value[HEADER::3] = _either(a, b.translate(_LEFT[6]))
    value[HEADER + 1 :: 3] = _either(b.translate(_RIGHT[2]), c.translate(_LEFT[4]))
    value[HEADER + 2 :: 3] = _either(c.translate(_RIGHT[4]), d.translate(_LEFT[2]))
    return value


def dense_rank(value: Bytes, index: int) -> int:
    """One register of a dense encoding."""
    at, shift = HEADER + index * 6 // 8, index * 6 & 7
    return (int.from_bytes(value[at : at + 2], "little") >> shift) & 63


def dense_patch(value: Bytes, index: int, rank: int) -> tuple[int, bytes]:
    """Where in a dense encoding to write which bytes, so that this register holds this rank."""
    at, shift = HEADER + index * 6 // 8, index * 6 & 7
    part = value[at : at + 2] if shift > 2 else value[at : at + 1]
    word = (int.from_bytes(part, "little") & ~(63 << shift)) | rank << shift
    return at, word.to_bytes(len(part), "little")


def _sparse_registers(value: Bytes) -> bytearray:
    registers = bytearray(REGISTERS)
    index = 0
    for rank, length in runs(value):
        if index + length > REGISTERS:
            raise Corrupt
        if rank:
            registers[index : index + length] = bytes((rank,)) * length
        index += length
    if index != REGISTERS:
        raise Corrupt
    return registers


def runs(value: Bytes) -> list[tuple[int, int]]:
    """The runs of a sparse encoding, (rank, length) each, as far as they can be read."""
    found: list[tuple[int, int]] = []
    at, end = HEADER, len(value)
    while at < end:
        byte = value[at]
        if byte & 0x80:
            found.append(((byte >> 2 & 31) + 1, (byte & 3) + 1))
        elif byte & 0x40:
            at += 1
            found.append((0, ((byte & 63) << 8 | (value[at] if at < end else 0)) + 1))
        else:
            found.append((0, byte + 1))
        at += 1
    return found


def _zeros(length: int) -> bytes:
    if length > ZERO_RUN_MAX:
        return bytes((0x40 | (length - 1) >> 8, (length - 1) & 255))
    return bytes((length - 1,))


def _ranks(rank: int, length: int) -> bytes:
    return bytes((0x80 | (rank - 1) << 2 | (length - 1),))


class Run:
    """Where a run of a sparse encoding stands, and the two before it; -1: none was passed on the way."""

    def __init__(self) -> None:
        self.at = self.first = self.width = self.length = 0  # place, first register, bytes, registers
        self.before = self.before_first = -1
        self.second_before = self.second_first = -1


class SparseWriter:
    """A HyperLogLog that begins in the sparse encoding; `value` turns dense when the sparse one can hold it no more.

    Registers that come in ascending order are found quickly: the search goes on where it was.
    """

    def __init__(self, value: Bytes, bytes_max: int) -> None:
        self.value = bytearray(value)
        self.bytes_max = bytes_max
        self.changed = False
        # The second run before the last change: nothing up to there has moved. Where it stands, and its first register.
        self.from_at = HEADER
        self.from_index = 0

    def add(self, index: int, rank: int) -> None:
        """Raise a register to this rank, if it is lower. Raises Corrupt."""
        value = self.value
        if value[ENCODING_AT] == DENSE:
            if dense_rank(value, index) < rank:
                at, part = dense_patch(value, index, rank)
                value[at : at + len(part)] = part
                self.changed = True
        elif rank > SPARSE_RANK_MAX:
            self._promote(index, rank)
        else:
            self._add_sparse(index, rank)

    def _promote(self, index: int, rank: int) -> None:
        registers = _sparse_registers(self.value)
        registers[index] = max(registers[index], rank)
        self.value = dense(self.value, registers)
        self.changed = True

    def _find(self, index: int, at: int, first: int) -> Run:
        """The run that holds a register, looked for from the run at `at` on. Raises Corrupt."""
        value = self.value
        end = len(value)
        found = Run()
        while at < end:
            byte = value[at]
            width = 1
            if byte & 0x80:
                length = (byte & 3) + 1
            elif byte & 0x40:
                width = 2
                length = ((byte & 63) << 8 | (value[at + 1] if at + 1 < end else 0)) + 1
            else:
                length = byte + 1
            if index < first + length:
                found.at, found.first, found.width, found.length = at, first, width, length
                return found
            found.second_before, found.second_first = found.before, found.before_first
            found.before, found.before_first = at, first
            at += width
            first += length
        raise Corrupt

    def _add_sparse(self, index: int, rank: int) -> None:
        value = self.value
        if index < self.from_index:
            self.from_at, self.from_index = HEADER, 0
        run = self._find(index, self.from_at, self.from_index)
        if run.second_before < 0 and self.from_at > HEADER:  # the run before it is not known, or soon will not be
            run = self._find(index, HEADER, 0)
        if run.second_before >= 0:
            self.from_at, self.from_index = run.second_before, run.second_first
        at, width = run.at, run.width
        old = (value[at] >> 2 & 31) + 1 if value[at] & 0x80 else 0
        if old >= rank:
            return
        made = _ranks(rank, 1)
        if width > 1 or run.length > 1:
            left, right = index - run.first, run.first + run.length - 1 - index
            if left:
                made = (_ranks(old, left) if old else _zeros(left)) + made
            if right:
                made += _ranks(old, right) if old else _zeros(right)
            if len(made) > width and len(value) + len(made) - width > self.bytes_max:
                self._promote(index, rank)
                return
        value[at : at + width] = made
        self.changed = True
        self._join(run.before if run.before >= 0 else HEADER)

    def _join(self, at: int) -> None:
        """Make one of neighbouring runs of one rank, from `at` on."""
        value = self.value
        left = JOINED_AT_ONCE
        while at < len(value) and left > 0:
            left -= 1
            byte = value[at]
            if not byte & 0x80:
                at += 2 if byte & 0x40 else 1
                continue
            if at + 1 < len(value):
                other = value[at + 1]
                length = (byte & 3) + (other & 3) + 2
                if other & 0x80 and other >> 2 == byte >> 2 and length <= VALUE_RUN_MAX:
                    value[at : at + 2] = bytes((byte & ~3 | (length - 1),))
                    continue
            at += 1
