"""What a node is on its log, what may happen to it, and the table of what it then is.

The table is total: every role has an entry for every event. An event that cannot happen to a role is in IMPOSSIBLE with
the reason, and a node that is told of it all the same stops what it is doing: it has lost track of what it is.
What a node was asked to be when it was started is `cluster/lease.py: AskedRole`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """The values are what INFO shows as node_role."""

    LOADING = "loading"  # it builds its state from the log, and answers nothing that is about keys
    REPLICA = "replica"  # it follows the log and answers reads
    PRIMARY = "primary"  # it holds the lease and writes
    HANDING_OVER = "handing-over"  # it writes no more, and its word that the lease is free is on its way into the log
    STUCK = "stuck"  # it cannot follow its log any further, and says so instead of answering
    CLOSED = "closed"


class Event(StrEnum):
    """What can happen to a node."""

    REBUILT = "rebuilt"  # its state is that of the log, and it follows from there
    CLAIMED = "claimed"  # its claim is in the log, and so is its first statement
    HANDS_OVER = "hands over"  # all it accepted is durable, and the lease goes to a successor
    RELEASED = "released"  # the log says that the lease is free
    FENCED = "fenced"  # another node has claimed the log, or what became of an append is unknown
    LOST_LOG = "lost its log"  # damage, trimmed history or a newer format stands behind what was applied
    CLOSED = "closed"


class RoleError(RuntimeError):
    """This cannot happen to a node of that role."""


TRANSITIONS: Final[dict[tuple[Role, Event], Role]] = {
    (Role.LOADING, Event.REBUILT): Role.REPLICA,
    (Role.LOADING, Event.CLAIMED): Role.PRIMARY,
    (Role.LOADING, Event.LOST_LOG): Role.STUCK,
    (Role.LOADING, Event.CLOSED): Role.CLOSED,
    (Role.REPLICA, Event.CLAIMED): Role.PRIMARY,
    (Role.REPLICA, Event.LOST_LOG): Role.STUCK,
    (Role.REPLICA, Event.CLOSED): Role.CLOSED,
    (Role.PRIMARY, Event.HANDS_OVER): Role.HANDING_OVER,
    (Role.PRIMARY, Event.FENCED): Role.LOADING,
    (Role.PRIMARY, Event.CLOSED): Role.CLOSED,
    (Role.HANDING_OVER, Event.RELEASED): Role.REPLICA,
    (Role.HANDING_OVER, Event.FENCED): Role.LOADING,
    (Role.HANDING_OVER, Event.CLOSED): Role.CLOSED,
    (Role.STUCK, Event.CLOSED): Role.CLOSED,
}

_NO_LEASE: Final = "it holds no lease"
_NO_WRITER: Final = "it appends nothing, so no append of its can fail"
_WRITES: Final = "a primary reads its log no further: it is the only one that writes it"
_ENDED: Final = "a closed node does nothing any more"

IMPOSSIBLE: Final[dict[tuple[Role, Event], str]] = {
    (Role.LOADING, Event.HANDS_OVER): _NO_LEASE,
    (Role.LOADING, Event.RELEASED): _NO_LEASE,
    (Role.LOADING, Event.FENCED): _NO_WRITER,
    (Role.REPLICA, Event.REBUILT): "its state is that of the log already",
    (Role.REPLICA, Event.HANDS_OVER): _NO_LEASE,
    (Role.REPLICA, Event.RELEASED): _NO_LEASE,
    (Role.REPLICA, Event.FENCED): _NO_WRITER,
    (Role.PRIMARY, Event.REBUILT): _WRITES,
    (Role.PRIMARY, Event.CLAIMED): "it has claimed the log already",
    (Role.PRIMARY, Event.RELEASED): "it has not begun to hand over",
    (Role.PRIMARY, Event.LOST_LOG): _WRITES,
    (Role.HANDING_OVER, Event.REBUILT): "its state is that of the log already",
    (Role.HANDING_OVER, Event.CLAIMED): "the lease is its successor's until it has followed again",
    (Role.HANDING_OVER, Event.HANDS_OVER): "it is at it",
    (Role.HANDING_OVER, Event.LOST_LOG): _WRITES,
    (Role.STUCK, Event.REBUILT): "it does not read its log any more",
    (Role.STUCK, Event.CLAIMED): "who cannot read the log to its end cannot claim it",
    (Role.STUCK, Event.HANDS_OVER): _NO_LEASE,
    (Role.STUCK, Event.RELEASED): _NO_LEASE,
    (Role.STUCK, Event.FENCED): _NO_WRITER,
    (Role.STUCK, Event.LOST_LOG): "it has lost it already",
    **{(Role.CLOSED, event): _ENDED for event in Event},
}


def after(role: Role, event: Event) -> Role:
    """What a node of that role is after the event. Raises RoleError."""
    found = TRANSITIONS.get((role, event))
    if found is None:
        raise RoleError(f"a node that is {role.value} was told that it {event.value}: {IMPOSSIBLE[role, event]}")
    return found
