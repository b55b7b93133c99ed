"""Sets: SetValue and its events SADD and SREM.

SPOP and SMOVE are logged as SREM and SADD, the STORE commands as DEL and SADD of their result: what happened, so that
replay neither computes nor needs the sources. Encoding rules: redis src/t_set.c (setTypeAdd, setTypeCreate).

Layout, measured on CPython 3.11: a Python set takes 216 bytes up to 4 members, 728 from 5 on and 2264 from 20 on,
where a tuple takes 40 + 8 a member and finds one of 8 in 0.15 µs. So few members are a tuple, more are a set. A dict
needs a quarter more than a set from 50 thousand members on, is slower to add to, and has no set algebra.
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
from eventdb.keyspace.types.string import is_integer
from eventdb.keyspace.value import Limits, Value, digest_of

FEW_MAX: Final = 16
SPARSE_BYTES: Final = 512  # of table for one member; above it a shrunken table is rebuilt

Members = set[bytes] | tuple[bytes, ...]


class SetValue(Value):
    """Members, without order."""

    def __init__(self) -> None:
        self.members: Members = ()
        self.ints = True  # Redis would have an intset; once it had to be a hashtable it stays one
        self.order: Order | None = None  # made for the first scan or random pick of more than WHOLE_MAX members

    def type_name(self) -> bytes:
        return b"set"

    def encoding(self, limits: Limits) -> bytes:
        return b"intset" if self.ints else b"hashtable"

    def size(self) -> int:
        return len(self.members)

    def copy(self) -> SetValue:
        made = SetValue()
        members = self.members
        made.members = members.copy() if isinstance(members, set) else members
        made.ints = self.ints
        return made

    def digest(self) -> int:
        return digest_of(sorted(self.members))

    def places(self) -> Order:
        """An Order of the members, to pick from or to scan; kept when there are many."""
        order = self.order
        if order is None:
            order = Order(list(self.members))
            if len(self.members) > WHOLE_MAX:
                self.order = order
        return order

    def scanned_whole(self) -> bool:
        """True when SSCAN returns everything at once, as Redis does for an intset."""
        return self.ints or len(self.members) <= WHOLE_MAX

    def pick(self, rng: random.Random, count: int) -> list[bytes]:
        """`count` random members: all different, or, when negative, -count of them with repetition."""
        if count == 1 and len(self.members) <= WHOLE_MAX:
            return [sampling.one_of(rng, self.members)]
        if count < 0:
            return sampling.repeated(rng, self.places(), -count)
        return sampling.distinct(rng, self.places(), self.members, count)

    def update(self, argv: list[bytes], limits: Limits) -> None:
        """Add the members from argv[2] on, all of them new and different."""
        members = self.members
        count = len(argv) - 2
        if isinstance(members, set):
            if count == 1:
                members.add(argv[2])
            else:
                members.update(argv[2:])
            order = self.order
            if order is not None:
                for i in range(2, len(argv)):
                    order.added(argv[i])
        elif len(members) + count <= FEW_MAX:
            self.members = (*members, argv[2]) if count == 1 else members + tuple(argv[2:])
        else:
            made = set(argv[2:])
            made.update(members)
            self.members = made
        if self.ints:
            self.ints = len(self.members) <= limits.set_intset_entries and _all_integers(argv)

    def remove(self, argv: list[bytes]) -> None:
        """Remove the members from argv[2] on, all of which exist."""
        members = self.members
        if isinstance(members, tuple):
            gone = argv[2:]
            self.members = tuple([member for member in members if member not in gone])
            return
        before = len(members)
        order = self.order
        for i in range(2, len(argv)):
            members.remove(argv[i])
            if order is not None:
                order.removed(argv[i])
        left = len(members)
        if left <= FEW_MAX // 2:
            self.members = tuple(members)
            self.order = None
            return
        # A set keeps its table when members go; look whenever the size falls below a power of two.
        if left.bit_length() != before.bit_length() and sys.getsizeof(members) > SPARSE_BYTES * left:
            self.members = set(members)


def _all_integers(argv: list[bytes]) -> bool:
    for i in range(2, len(argv)):
        member = argv[i]
        if not member or member[0] > 57 or not is_integer(member):  # a look at the first byte settles most
            return False
    return True


@event(b"SADD")
def apply_sadd(db: Db, argv: list[bytes]) -> None:
    """SADD key member [member …], only new members and each once."""
    key = argv[1]
    value = db.values.get(key)
    if value is None:
        value = SetValue()
        db.put(key, value)
    assert isinstance(value, SetValue)
    value.update(argv, db.keyspace.limits)


@event(b"SREM")
def apply_srem(db: Db, argv: list[bytes]) -> None:
    """SREM key member [member …], only members that exist; the last one takes the key with it."""
    value = db.values[argv[1]]
    assert isinstance(value, SetValue)
    value.remove(argv)
    if not value.members:
        db.delete(argv[1])
