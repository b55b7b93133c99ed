"""Which shard owns which of the 16,384 slots, and where a command has to go in cluster mode. Sans-IO.

Today one shard owns all slots; nothing but the making of an engine's SlotMap knows that.
Source: redis src/cluster.c (keyHashSlot, getNodeByQuery, clusterRedirectClient).
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from eventdb.cluster.topology import Member, Topology

SLOTS: Final = 16384

CROSSSLOT: Final = "CROSSSLOT Keys in request don't hash to the same slot"
NOT_SERVED: Final = "CLUSTERDOWN Hash slot not served"
DOWN: Final = "CLUSTERDOWN The cluster is down"


def key_slot(key: bytes) -> int:
    """CRC16/XMODEM of the key, or of what its first braces hold when that is not empty, modulo 16,384."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


class Shard:
    """The nodes of one log, and the slots that are in it."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.ranges: list[tuple[int, int]] = []  # both ends inclusive, as Redis prints them; kept by SlotMap.assign

    @property
    def primary(self) -> Member | None:
        """The last one known: until there is a new one, clients are told of that, as Redis does."""
        return self.topology.last_primary

    @property
    def replicas(self) -> list[Member]:
        """Every other live member."""
        shown = self.primary
        members = self.topology.members
        return [members[name] for name in sorted(members) if shown is None or name != shown.name]


class SlotMap:
    """The owner of every slot. `mine` is the shard of this node."""

    def __init__(self, mine: Shard) -> None:
        self.mine = mine
        self.shards: list[Shard] = [mine]
        self.owners: list[Shard | None] = [mine] * SLOTS
        mine.ranges = [(0, SLOTS - 1)]

    def assign(self, shard: Shard | None, start: int, stop: int) -> None:
        """Give the slots [start, stop) to a shard, or to nobody."""
        if shard is not None and shard not in self.shards:
            self.shards.append(shard)
        self.owners[start:stop] = [shard] * (stop - start)
        for each in self.shards:
            each.ranges = []
        first = 0
        for slot in range(1, SLOTS + 1):
            if slot == SLOTS or self.owners[slot] is not self.owners[first]:
                owner = self.owners[first]
                if owner is not None:
                    owner.ranges.append((first, slot - 1))
                first = slot

    def assigned(self) -> int:
        """How many slots have an owner."""
        return SLOTS - self.owners.count(None)

    def redirection(self) -> str:
        """Where the primary of this node is, as Valkey tells clients outside cluster mode; "" while nobody knows."""
        primary = self.mine.topology.primary
        if primary is None or primary is self.mine.topology.me or not primary.port:
            return ""
        return f"REDIRECT {primary.address}"

    def refusal(self, keys: list[bytes], writes: bool, may_read: bool) -> str:
        """Why this node does not run a command on these keys: the text of MOVED, CROSSSLOT or CLUSTERDOWN, or "".

        may_read: the client reads replicas, or the command is one that any node of the shard takes.
        """
        if not keys:  # any node may
            return ""
        slot = key_slot(keys[0])
        for key in keys:
            if key_slot(key) != slot:
                return CROSSSLOT
        shard = self.owners[slot]
        if shard is None:
            return NOT_SERVED
        topology = shard.topology
        if shard is self.mine and (topology.is_primary or (may_read and not writes)):
            return ""
        primary = topology.primary
        if (
            topology.handing_over
        ):  # the last one still knows best: there the command waits, and then hears of the new one
            primary = topology.last_primary
            if primary is topology.me:
                return ""
        return DOWN if primary is None else f"MOVED {slot} {primary.host}:{primary.port}"
