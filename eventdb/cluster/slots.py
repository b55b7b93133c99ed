"""Which shard owns which of the 16,384 slots, and where a command has to go in cluster mode. Sans-IO.

Today one shard owns all slots; nothing but the making of an engine's SlotMap knows that.
Source: redis src/cluster.c (keyHashSlot, getNodeByQuery, clusterRedirectClient).
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import TYPE_CHECKING, Final

from eventdb.engine.client import IN_MULTI
from eventdb.engine.registry import WRITE
from eventdb.protocol.replies import ReplyError

if TYPE_CHECKING:
    from eventdb.cluster.topology import Member, Topology
    from eventdb.engine.client import Client
    from eventdb.engine.registry import Command

SLOTS: Final = 16384

CROSSSLOT: Final = "CROSSSLOT Keys in request don't hash to the same slot"
NOT_SERVED: Final = "CLUSTERDOWN Hash slot not served"
DOWN: Final = "CLUSTERDOWN The cluster is down"
SHARD_CHANNELS: Final = frozenset(("ssubscribe", "sunsubscribe", "spublish"))  # any node of the shard takes them


def key_slot(key: bytes) -> int:
    """CRC16/XMODEM of the key, or of what its first braces hold when that is not empty, modulo 16,384."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


def not_in_cluster(client: Client, text: str) -> None:
    """Raises ReplyError with this text in cluster mode, where a slot has one database and one place."""
    if client.engine.config.cluster_enabled == "yes":
        raise ReplyError(text)


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
        self.owners: list[Shard | None] = []
        self.assign(mine, 0, SLOTS)

    def assign(self, shard: Shard | None, start: int, stop: int) -> None:
        """Give the slots [start, stop) to a shard, or to nobody."""
        if not self.owners:
            self.owners = [None] * SLOTS
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

    def redirected(self, client: Client, command: Command, argv: list[bytes]) -> bool:
        """True: the command does not belong here and was answered so. A MULTI is spoiled, an EXEC ends it."""
        text = self.refusal(client, command, argv)
        if text == "":
            return False
        command.rejected_calls += 1
        if command.name == "exec":
            client.engine.discard(client)
        client.engine.refuse(client, text)
        return True

    def refusal(self, client: Client, command: Command, argv: list[bytes]) -> str:
        """Why this node does not run the command: the text of MOVED, CROSSSLOT or CLUSTERDOWN; empty when it may."""
        writes = command.bits & WRITE
        slot = -1
        if command.first_key or command.find_keys is not None:
            slot = _common_slot(command.keys(argv), slot)
        elif command.name == "exec" and client.gate & IN_MULTI:
            for queued, args in client.queue:
                writes |= queued.bits & WRITE
                if slot > -2 and (queued.first_key or queued.find_keys is not None):
                    slot = _common_slot(queued.keys(args), slot)
        if slot == -1:  # no keys: any node may
            return ""
        if slot == -2:
            return CROSSSLOT
        shard = self.owners[slot]
        if shard is None:
            return NOT_SERVED
        topology = shard.topology
        if shard is self.mine:
            if topology.is_primary:
                return ""
            if not writes and (client.readonly_mode or command.name in SHARD_CHANNELS):
                return ""
        primary = topology.primary
        return DOWN if primary is None else f"MOVED {slot} {primary.host}:{primary.port}"


def _common_slot(keys: list[bytes], slot: int) -> int:
    """The slot of all these keys and of those before (`slot`; -1: there were none); -2 when they differ."""
    for key in keys:
        found = key_slot(key)
        if slot == -1:
            slot = found
        elif found != slot:
            return -2
    return slot
