"""Random elements of a hash, a set or a sorted set. Only reads and SPOP ask for them, so chance never reaches the
log: SPOP logs the members it took as SREM."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Final

from eventdb.keyspace.order import Order

# Up to here a collection is scanned whole and sampled from a fresh list, so it never needs a kept Order.
WHOLE_MAX: Final = 128


def one_of(rng: random.Random, few: Collection[bytes]) -> bytes:
    """One of a few elements: an Order of them would be made for this alone."""
    elements = list(few)
    return elements[int(rng.random() * len(elements))]


def distinct(rng: random.Random, order: Order, alive: Collection[bytes], count: int) -> list[bytes]:
    """`count` different elements; all of them when there are no more."""
    if count >= len(alive):
        return list(alive)
    if count == 1:
        return [order.pick(rng)]
    if count * 3 > len(alive):
        return rng.sample(list(alive), count)
    found: dict[bytes, None] = {}
    while len(found) < count:
        found[order.pick(rng)] = None
    return list(found)


def repeated(rng: random.Random, order: Order, count: int) -> list[bytes]:
    """`count` elements, each picked from all of them."""
    return [order.pick(rng) for _ in range(count)]
