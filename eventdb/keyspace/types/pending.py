"""What a stream's consumer groups remember: groups, their consumers, and the entries that wait for an XACK.

The same `Nack` stands in the group's Pending and in that of the consumer that owns it. Redis keeps two radix trees in
its place (redis src/stream.h, streamCG).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final

UNKNOWN: Final = -1  # entries_read of a group that Redis cannot count
NEVER: Final = -1  # active_ms of a consumer that was never given an entry


class Nack:
    """One entry that was delivered and not acknowledged."""

    def __init__(self, owner: Consumer, at_ms: int, count: int) -> None:
        self.owner = owner
        self.at_ms = at_ms
        self.count = count


class Pending:
    """Entries by id, and their order.

    `order` may contain ids that are no longer there; it is cleaned when they are more than half of it, so a removal
    costs O(1), and a delivery too, because new entries have the highest ids.
    """

    def __init__(self) -> None:
        self.nacks: dict[int, Nack] = {}
        self.order: list[int] = []

    def add(self, eid: int, nack: Nack) -> None:
        order = self.order
        self.nacks[eid] = nack
        if not order or eid > order[-1]:
            order.append(eid)
            return
        i = bisect_left(order, eid)
        if order[i] != eid:
            insort(order, eid)

    def remove(self, eid: int) -> None:
        nacks = self.nacks
        del nacks[eid]
        if len(self.order) > 2 * len(nacks) + 64:
            self.order = [one for one in self.order if one in nacks]

    def first(self, start: int = 0) -> int:
        """The lowest id from `start` on; -1 when there is none."""
        order, nacks = self.order, self.nacks
        for i in range(bisect_left(order, start), len(order)):
            if order[i] in nacks:
                return order[i]
        return -1

    def last(self) -> int:
        order, nacks = self.order, self.nacks
        while order and order[-1] not in nacks:
            order.pop()
        return order[-1] if order else -1

    def ids(self, start: int, end: int, count: int) -> list[int]:
        """Up to `count` ids between two; count -1 is all."""
        order, nacks = self.order, self.nacks
        found: list[int] = []
        for i in range(bisect_left(order, start), len(order)):
            eid = order[i]
            if eid > end or len(found) == count:
                break
            if eid in nacks:
                found.append(eid)
        return found


class Consumer:
    """One consumer of a group."""

    def __init__(self, name: bytes, seen_ms: int, active_ms: int) -> None:
        self.name = name
        self.seen_ms = seen_ms  # asked for entries, or was given some
        self.active_ms = active_ms  # was given some
        self.pending = Pending()


class Group:
    """A consumer group."""

    def __init__(self, last_id: int, entries_read: int) -> None:
        self.last_id = last_id
        self.entries_read = entries_read
        self.pending = Pending()
        self.consumers: dict[bytes, Consumer] = {}

    def assign(self, eid: int, consumer: Consumer, at_ms: int, count: int) -> None:
        """The entry now waits for this consumer's XACK, whichever consumer had it before."""
        nack = self.pending.nacks.get(eid)
        if nack is None:
            nack = Nack(consumer, at_ms, count)
            self.pending.add(eid, nack)
            consumer.pending.add(eid, nack)
            return
        if nack.owner is not consumer:
            nack.owner.pending.remove(eid)
            nack.owner = consumer
            consumer.pending.add(eid, nack)
        nack.at_ms = at_ms
        nack.count = count

    def made(self, name: bytes) -> Consumer:
        """The consumer of this name, made if it is not there."""
        found = self.consumers.get(name)
        if found is None:
            found = self.consumers[name] = Consumer(name, 0, NEVER)
        return found

    def forget(self, eid: int) -> None:
        self.pending.nacks[eid].owner.pending.remove(eid)
        self.pending.remove(eid)

    def copy(self) -> Group:
        made = Group(self.last_id, self.entries_read)
        for consumer in self.consumers.values():
            made.consumers[consumer.name] = Consumer(consumer.name, consumer.seen_ms, consumer.active_ms)
        for eid in self.pending.ids(0, 1 << 128, -1):
            nack = self.pending.nacks[eid]
            made.assign(eid, made.consumers[nack.owner.name], nack.at_ms, nack.count)
        return made

    def parts(self) -> list[bytes]:
        """The whole content as a list, for the digest."""
        found = [b"%d %d %d" % (self.last_id, self.entries_read, len(self.consumers))]
        for name in sorted(self.consumers):
            consumer = self.consumers[name]
            found.append(name)
            found.append(b"%d %d" % (consumer.seen_ms, consumer.active_ms))
        for eid in self.pending.ids(0, 1 << 128, -1):
            nack = self.pending.nacks[eid]
            found.append(b"%d %d %d" % (eid, nack.at_ms, nack.count))
            found.append(nack.owner.name)
        return found
