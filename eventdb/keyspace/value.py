"""What every data type but the string has in common."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 16
NEVER: Final = 1 << 62  # later than any deadline
DIGEST_MODULUS: Final = 1 << (8 * DIGEST_BYTES)


class Value:
    """A value of a key that is not a string."""

    def type_name(self) -> bytes:
        """What TYPE says: b"hash", b"list" …"""
        raise NotImplementedError

    def encoding(self, limits: Limits) -> bytes:
        """What OBJECT ENCODING says; eventdb has one layout, so this is what Redis would use."""
        raise NotImplementedError

    def size(self) -> int:
        """Number of elements."""
        raise NotImplementedError

    def copy(self) -> Value:
        """An independent value with the same content (COPY)."""
        raise NotImplementedError

    def soonest(self) -> int:
        """No element of it has an earlier deadline; NEVER: none has one."""
        return NEVER

    def take_due(self, now_ms: int, count_max: int) -> list[bytes]:
        """Up to `count_max` elements whose deadlines have passed; the caller deletes them by event."""
        return []

    def digest(self) -> int:
        """A number below 2^128 that depends on the content alone: equal content, equal digest."""
        raise NotImplementedError


class Limits:
    """Sizes up to which Redis keeps the compact encodings (CONFIG *-max-listpack-*): shown, not stored. And bounds that
    decide what the primary writes from now on."""

    def __init__(self) -> None:
        self.hash_entries = 512
        self.hash_value = 64
        self.set_intset_entries = 512
        self.zset_entries = 128
        self.zset_value = 64
        self.string_bytes = 512 << 20  # of one argument, and of what APPEND, SETRANGE and SETBIT make
        self.stream_entries = 100  # of a block, which `~` trims as a whole; 0: no limit
        self.stream_bytes = 4096
        self.hll_sparse_bytes = 3000  # how a HyperLogLog is written
        self.once_retention_ms = 600_000  # outcomes of commands with a token are kept for so long
        self.once_tokens_max = 1_000_000
        self.once_reply_bytes_max = 16 << 10


def digest_of(parts: list[bytes]) -> int:
    """Hash a sequence of byte strings, length-prefixed so that no two sequences look alike."""
    h = blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        h.update(b"%d:" % len(part))
        h.update(part)
    return int.from_bytes(h.digest(), "big")
