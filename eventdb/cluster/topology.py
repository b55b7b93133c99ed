"""Who the nodes of one log are: the primary, the replicas, and how far each has come. Sans-IO.

Every engine has one. The node feeds it with what the log says (heartbeats carry the members, claims the primary);
CLUSTER, SENTINEL, ROLE, INFO replication and the redirects of cluster mode read it. An engine that nobody feeds is
alone and the primary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Final

PRIMARY: Final = "primary"
REPLICA: Final = "replica"

TEXT_BYTES_MAX: Final = 256  # of a name, and of an address
INT_MAX: Final = 2**63 - 1


class Member:
    """One node. What it says of itself is `name`, `address`, `candidate`, `offset`, `lag_ms`; its role is the log's."""

    def __init__(
        self,
        name: str,
        address: str,
        role: str = REPLICA,
        candidate: bool = True,
        offset: int = 0,
        lag_ms: int = 0,
    ) -> None:
        self.name = name
        self.address = address  # host:port as clients reach it; [host]:port with colons in the host
        self.role = role  # PRIMARY or REPLICA
        self.candidate = candidate  # it may claim the log
        self.offset = offset  # the last one it has applied and may answer from
        self.lag_ms = lag_ms  # how old the newest thing is that it has not applied; 0: it has everything
        self.id: str = hashlib.sha1(name.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()

    @property
    def host(self) -> str:
        """Without brackets; an address that names no port is all host."""
        host, colon, port = self.address.rpartition(":")
        return host.removeprefix("[").removesuffix("]") if colon and port.isdigit() else self.address

    @property
    def port(self) -> int:
        """0 when it can be reached by no client (an embedded engine)."""
        colon, port = self.address.rpartition(":")[1:]
        return int(port) if colon and port.isascii() and port.isdigit() else 0

    def describe(self) -> dict[str, object]:
        """As JSON has it, in heartbeats and announcements; `member_of` reads it. The role is not in it."""
        return {
            "name": self.name,
            "address": self.address,
            "candidate": self.candidate,
            "offset": self.offset,
            "lag_ms": self.lag_ms,
        }


def member_of(found: object) -> Member:
    """The member that `Member.describe` described; fields it does not know are passed over. Raises ValueError."""
    if not isinstance(found, dict):
        raise ValueError("a member is a JSON object")
    name, address = found.get("name"), found.get("address")
    for key, text in (("name", name), ("address", address)):
        if not isinstance(text, str) or not text:
            raise ValueError(f"'{key}' must be a text that is not empty")
        if not text.isprintable() or " " in text or len(text.encode()) > TEXT_BYTES_MAX:
            raise ValueError(f"'{key}' must be printable, without spaces, and at most {TEXT_BYTES_MAX} bytes")
    candidate = found.get("candidate", True)
    if not isinstance(candidate, bool):
        raise ValueError("'candidate' must be true or false")
    numbers: list[int] = []
    for key in ("offset", "lag_ms"):
        number = found.get(key, 0)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= INT_MAX:
            raise ValueError(f"'{key}' must be a whole number from 0 on")
        numbers.append(number)
    made = Member(str(name), str(address), REPLICA, candidate, numbers[0], numbers[1])
    if not 1 <= made.port <= 65535 or not made.host:
        raise ValueError("'address' must be host:port")
    return made


class View:
    """A topology as it was before an update."""

    def __init__(self, topology: Topology) -> None:
        self.primary = topology.last_primary
        self.members = topology.members  # an update replaces it
        self.is_down = topology.is_down


class Topology:
    """The live nodes of one log, as this node knows them."""

    def __init__(self, me: Member) -> None:
        self.me = me
        self.epoch = 0
        self.primary: Member | None = me  # None while nobody is known to hold the lease
        self.last_primary: Member | None = me  # the primary, or the last one that was
        self.handing_over = False  # the last primary has named its successor, which is not there yet
        self.members: dict[str, Member] = {me.name: me}  # by name; `me` is always among them
        self.on_update: Callable[[View], None] | None = None  # told of what was before
        me.role = PRIMARY

    @property
    def replicas(self) -> list[Member]:
        """The live members that are not the primary, by name."""
        return [self.members[name] for name in sorted(self.members) if self.members[name] is not self.primary]

    @property
    def is_primary(self) -> bool:
        return self.primary is self.me

    def introduce(self, name: str, address: str, candidate: bool = True) -> None:
        """State which node this is. From here on it is one node of many, and no primary is known until `update`."""
        self.me = Member(name, address, REPLICA, candidate)
        self.last_primary = None
        self.update(0, None, [])

    @property
    def is_down(self) -> bool:
        """Nobody holds the lease, and nobody is about to take it: there is none to wait for."""
        return self.primary is None and not self.handing_over

    def update(
        self, epoch: int, primary: Member | None, members: Iterable[Member], *, handing_over: bool = False
    ) -> None:
        """Take over what the log says. `members` need not hold this node or the primary: both are always members.

        handing_over: there is no primary because the last one has named its successor, which is about to come.

        A Member that bears this node's name stands for `me`, which stays the same object. Roles are set here.
        """
        me, before = self.me, View(self)
        known: dict[str, Member] = {member.name: member for member in members}
        if primary is not None:
            known[primary.name] = primary
        known[me.name] = me
        for member in known.values():
            member.role = REPLICA
        self.epoch = epoch
        self.members = known
        self.primary = None
        self.handing_over = handing_over and primary is None
        if primary is not None:
            new = known[primary.name]
            new.role = PRIMARY
            self.primary = self.last_primary = new
        if self.on_update is not None:
            self.on_update(before)
