"""Hashes: HashValue and its events HSET and HDEL.

Every command that sets fields (HSETNX, HINCRBY, HINCRBYFLOAT …) is logged as the HSET it comes to.
Encoding rules: redis src/t_hash.c (hashTypeTryConversion, hashTypeSet).
"""

from __future__ import annotations

import random
import sys
from typing import Final

from eventdb.keyspace import sampling
from eventdb.keyspace.databases import Db
from eventdb.keyspace.events import event
from eventdb.keyspace.order import Order
from eventdb.keyspace.sampling import WHOLE_MAX
from eventdb.keyspace.value import Limits, Value, digest_of

NAMES_MAX: Final = 4096
# Field names of small hashes, one object for each: a million users share one b"email". When full it starts over, so
# that names which never come again cannot crowd out those which do.
_names: Final[dict[bytes, bytes]] = {}

SPARSE_BYTES: Final = 512  # of table for one element; above it a shrunken table is rebuilt


def shared_name(name: bytes) -> bytes:
    """The one object that stands for this field name."""
    known = _names.get(name)
    if known is not None:
        return known
    if len(_names) >= NAMES_MAX:
        _names.clear()
    _names[name] = name
    return name


class HashValue(Value):
    """Fields and their values."""

    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}
        self.big = False  # outgrew Redis's listpack once, so it is a hashtable for good
        self.order: Order | None = None  # made for the first scan or random pick of more than WHOLE_MAX fields

    def type_name(self) -> bytes:
        return b"hash"

    def encoding(self, limits: Limits) -> bytes:
        return b"hashtable" if self.big else b"listpack"

    def size(self) -> int:
        return len(self.fields)

    def copy(self) -> HashValue:
        made = HashValue()
        made.fields = dict(self.fields)
        made.big = self.big
        return made

    def digest(self) -> int:
        fields = self.fields
        parts: list[bytes] = []
        for field in sorted(fields):
            parts.append(field)
            parts.append(fields[field])
        return digest_of(parts)

    def places(self) -> Order:
        """An Order of the fields, to pick from or to scan; kept when there are many."""
        order = self.order
        if order is None:
            order = Order(list(self.fields))
            if len(self.fields) > WHOLE_MAX:
                self.order = order
        return order

    def scanned_whole(self) -> bool:
        """True when HSCAN returns everything at once, as Redis does for a listpack."""
        return not self.big or len(self.fields) <= WHOLE_MAX

    def pick(self, rng: random.Random, count: int) -> list[bytes]:
        """`count` random fields: all different, or, when negative, -count of them with repetition."""
        if count == 1 and len(self.fields) <= WHOLE_MAX:
            return [sampling.one_of(rng, self.fields)]
        if count < 0:
            return sampling.repeated(rng, self.places(), -count)
        return sampling.distinct(rng, self.places(), self.fields, count)

    def update(self, argv: list[bytes], limits: Limits) -> None:
        """Set the pairs from argv[2] on."""
        fields = self.fields
        order = self.order
        if order is not None:
            for i in range(2, len(argv), 2):
                if argv[i] not in fields:
                    order.added(argv[i])
                fields[argv[i]] = argv[i + 1]
        elif self.big:
            for i in range(2, len(argv), 2):
                fields[argv[i]] = argv[i + 1]
            return
        else:
            value_max = limits.hash_value
            for i in range(2, len(argv), 2):
                field, value = argv[i], argv[i + 1]
                if len(field) > value_max or len(value) > value_max:
                    self.big = True
                elif field not in fields:
                    field = shared_name(field)
                fields[field] = value
        if len(fields) > limits.hash_entries:
            self.big = True

    def remove(self, argv: list[bytes]) -> None:
        """Remove the fields from argv[2] on, all of which exist."""
        fields = self.fields
        before = len(fields)
        order = self.order
        for i in range(2, len(argv)):
            del fields[argv[i]]
            if order is not None:
                order.removed(argv[i])
        left = len(fields)
        # A dict keeps its table when keys go; look whenever the size falls below a power of two.
        if left.bit_length() != before.bit_length() and sys.getsizeof(fields) > SPARSE_BYTES * (left + 1):
            self.fields = dict(fields)


@event(b"HSET")
def apply_hset(db: Db, argv: list[bytes]) -> None:
    """HSET key field value [field value …]"""
    key = argv[1]
    value = db.values.get(key)
    if value is None:
        value = HashValue()
        db.put(key, value)
    assert isinstance(value, HashValue)
    value.update(argv, db.keyspace.limits)


@event(b"HDEL")
def apply_hdel(db: Db, argv: list[bytes]) -> None:
    """HDEL key field [field …], only fields that exist; the last one takes the key with it."""
    value = db.values[argv[1]]
    assert isinstance(value, HashValue)
    value.remove(argv)
    if not value.fields:
        db.delete(argv[1])
