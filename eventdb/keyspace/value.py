"""What every data type but the string has in common, and the table behind SCAN and random picks."""

from __future__ import annotations

import random
from collections.abc import Collection
from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 16
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

    def digest(self) -> int:
        """A number below 2^128 that depends on the content alone: equal content, equal digest."""
        raise NotImplementedError


class Limits:
    """Sizes up to which Redis keeps the compact encodings (CONFIG *-max-listpack-*). Shown, never stored."""

    def __init__(self) -> None:
        self.hash_entries = 512
        self.hash_value = 64
        self.list_size = -2
        self.set_intset_entries = 512
        self.set_entries = 128  # Redis 7.2; 7.0 has intset or hashtable only
        self.set_value = 64
        self.zset_entries = 128
        self.zset_value = 64


def digest_of(parts: list[bytes]) -> int:
    """Hash a sequence of byte strings, length-prefixed so that no two sequences look alike."""
    h = blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        h.update(b"%d:" % len(part))
        h.update(part)
    return int.from_bytes(h.digest(), "big")


class Order:
    """Positions for the keys of a dict or set, so that SCAN and random picks cost O(1) and a scan misses nothing.

    A dict cannot be entered in the middle. This keeps a list of its keys: a new key is appended, a removed
    one stays until the list is twice as long as the dict, and is then dropped. A scan walks from the end
    to the front. That is why it returns every key that was there from its start to its end: new keys
    land behind it, and a clean-up moves keys only to the front, where the scan still comes by. A key may be
    seen twice, as Redis allows. The cursor is the number of list places still to visit, so it needs no state
    on the server and any number is a valid cursor.
    """

    def __init__(self, keys: list[bytes]) -> None:
        self.keys: list[bytes] = keys

    def added(self, key: bytes) -> None:
        self.keys.append(key)

    def removed(self, alive: Collection[bytes]) -> None:
        """Call after a removal; cleans up when more than half of the list is stale."""
        if len(self.keys) > 2 * len(alive) + 64:
            self.compact(alive)

    def compact(self, alive: Collection[bytes]) -> None:
        first: dict[bytes, None] = {}
        for key in self.keys:
            if key in alive:
                first[key] = None
        self.keys = list(first)

    def scan(self, cursor: int, count: int, alive: Collection[bytes]) -> tuple[int, list[bytes]]:
        """Visit up to `count` places from the cursor down; return the next cursor (0: done) and the live keys."""
        keys = self.keys
        top = len(keys) if cursor == 0 else min(cursor, len(keys))
        bottom = max(0, top - count)
        found = [key for key in keys[bottom:top] if key in alive]
        found.reverse()
        return bottom, found

    def pick(self, rng: random.Random, alive: Collection[bytes]) -> bytes:
        """A random live key; `alive` must not be empty."""
        keys = self.keys
        while True:
            key = keys[int(rng.random() * len(keys))]
            if key in alive:
                return key
