"""XXH3 of 64 bits, seed 0: the hash that DIGEST returns and that IFDEQ and IFDNE compare.

Specification: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md. In Python it takes some 25 ms for a
megabyte, which engine/effort.py knows; few strings whose digests are asked for are that long.
"""

from __future__ import annotations

from operator import mul
from struct import unpack
from typing import Final

MASK: Final = (1 << 64) - 1
P32: Final = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
P64: Final = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
MIX1: Final = 0x165667919E3779F9
MIX2: Final = 0x9FB21C651E98DF25
SECRET: Final = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8"
    "fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb17"
    "0ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
STRIPE: Final = 64  # bytes
BLOCK: Final = 16 * STRIPE
SHORT: Final = 240  # bytes from which on it is stripes

KEYS: Final = b"".join([SECRET[8 * i : 8 * i + STRIPE] for i in range(16)])  # of the stripes of a block


def digest(data: bytes) -> bytes:
    """16 hexadecimal digits."""
    return b"%016x" % xxh3(data)


def xxh3(data: bytes) -> int:
    n = len(data)
    if n <= 16:
        return _up_to_16(data)
    if n <= SHORT:
        return _up_to_240(data)
    return _long(data)


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _half(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _keys(at: int) -> int:
    return _word(SECRET, at) ^ _word(SECRET, at + 8)


def _fold(a: int, b: int) -> int:
    product = a * b
    return (product & MASK) ^ (product >> 64)


def _rotated(n: int, bits: int) -> int:
    return (n << bits | n >> (64 - bits)) & MASK


def _avalanche(h: int) -> int:
    h &= MASK
    h ^= h >> 37
    h = h * MIX1 & MASK
    return h ^ h >> 32


def _avalanche64(h: int) -> int:
    h ^= h >> 33
    h = h * P64[1] & MASK
    h ^= h >> 29
    h = h * P64[2] & MASK
    return h ^ h >> 32


def _up_to_16(data: bytes) -> int:
    n = len(data)
    if n > 8:
        low = _word(data, 0) ^ _keys(24)
        high = _word(data, n - 8) ^ _keys(40)
        swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
        return _avalanche(n + swapped + high + _fold(low, high))
    if n > 3:
        h = (_half(data, n - 4) + (_half(data, 0) << 32)) ^ _keys(8)
        h ^= _rotated(h, 49) ^ _rotated(h, 24)
        h = h * MIX2 & MASK
        h ^= (h >> 35) + n
        h = h * MIX2 & MASK
        return h ^ h >> 28
    if n > 0:
        joined = data[0] << 16 | data[n >> 1] << 24 | data[n - 1] | n << 8
        return _avalanche64(joined ^ _half(SECRET, 0) ^ _half(SECRET, 4))
    return _avalanche64(_keys(56))


def _mixed(data: bytes, at: int, key: int) -> int:
    return _fold(_word(data, at) ^ _word(SECRET, key), _word(data, at + 8) ^ _word(SECRET, key + 8))


def _up_to_240(data: bytes) -> int:
    n = len(data)
    h = n * P64[0]
    if n <= 128:
        for i in range((n - 1) // 32 + 1):
            h += _mixed(data, 16 * i, 32 * i) + _mixed(data, n - 16 * (i + 1), 32 * i + 16)
        return _avalanche(h)
    for i in range(8):
        h += _mixed(data, 16 * i, 16 * i)
    end = _mixed(data, n - 16, 136 - 17)
    for i in range(8, n // 16):
        end += _mixed(data, 16 * i, 16 * (i - 8) + 3)
    return _avalanche(_avalanche(h) + end)


def _stripes(sums: list[int], chunk: bytes, keys: bytes) -> None:
    """Add some stripes, all at once: one XOR of long integers, and sums that run in C."""
    size = len(chunk)
    keyed = (int.from_bytes(chunk, "little") ^ int.from_bytes(keys[:size], "little")).to_bytes(size, "little")
    halves = unpack(f"<{size // 4}I", keyed)
    products = list(map(mul, halves[0::2], halves[1::2]))
    words = unpack(f"<{size // 8}Q", chunk)
    for i in range(8):
        sums[i] += sum(products[i::8])
        sums[i ^ 1] += sum(words[i::8])


def _long(data: bytes) -> int:
    """Sums are cut to 64 bits once a block."""
    n = len(data)
    sums = [P32[2], P64[0], P64[1], P64[2], P64[3], P32[1], P64[4], P32[0]]
    at = 0
    while n - at > BLOCK:
        _stripes(sums, data[at : at + BLOCK], KEYS)
        for i in range(8):
            h = sums[i] & MASK
            sums[i] = (h ^ h >> 47 ^ _word(SECRET, len(SECRET) - STRIPE + 8 * i)) * P32[0] & MASK
        at += BLOCK
    _stripes(sums, data[at : at + (n - 1 - at) // STRIPE * STRIPE], KEYS)
    _stripes(sums, data[n - STRIPE :], SECRET[len(SECRET) - STRIPE - 7 :])
    h = n * P64[0]
    for i in range(0, 8, 2):
        key = 11 + 8 * i
        h += _fold((sums[i] & MASK) ^ _word(SECRET, key), (sums[i + 1] & MASK) ^ _word(SECRET, key + 8))
    return _avalanche(h)
