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


class Happening(StrEnum):
    """What can happen to a node."""

    REBUILT = "rebuilt"  # its state is that of the log, and it follows from there
    CLAIMED = "claimed"  # its claim is in the log, and so is its first statement
    HANDS_OVER = "hands over"  # all it accepted is durable, and the lease goes to a successor
    RELEASED = "released"  # the log says that the lease is free
    FENCED = "fenced"  # another node has claimed the log, or what became of an append is unknown
    OUTRUN = "outrun by a trim"  # what comes after its state is no longer in the log, and a snapshot may be
    LOST_LOG = "lost its log"  # damage, trimmed history or a newer format stands after what was applied
    CLOSED = "closed"


class RoleError(RuntimeError):
    """This cannot happen to a node of that role."""


TRANSITIONS: Final[dict[tuple[Role, Happening], Role]] = {
    (Role.LOADING, Happening.REBUILT): Role.REPLICA,
    (Role.LOADING, Happening.CLAIMED): Role.PRIMARY,
    (Role.LOADING, Happening.OUTRUN): Role.LOADING,
    (Role.LOADING, Happening.LOST_LOG): Role.STUCK,
    (Role.LOADING, Happening.CLOSED): Role.CLOSED,
    (Role.REPLICA, Happening.CLAIMED): Role.PRIMARY,
    (Role.REPLICA, Happening.OUTRUN): Role.LOADING,
    (Role.REPLICA, Happening.LOST_LOG): Role.STUCK,
    (Role.REPLICA, Happening.CLOSED): Role.CLOSED,
    (Role.PRIMARY, Happening.HANDS_OVER): Role.HANDING_OVER,
    (Role.PRIMARY, Happening.FENCED): Role.LOADING,
    (Role.PRIMARY, Happening.CLOSED): Role.CLOSED,
    (Role.HANDING_OVER, Happening.RELEASED): Role.REPLICA,
    (Role.HANDING_OVER, Happening.FENCED): Role.LOADING,
    (Role.HANDING_OVER, Happening.CLOSED): Role.CLOSED,
    (Role.STUCK, Happening.CLOSED): Role.CLOSED,
}

_NO_LEASE: Final = "it holds no lease"
_NO_WRITER: Final = "it appends nothing, so no append of its can fail"
_WRITES: Final = "a primary reads its log no further: it is the only one that writes it"
_ENDED: Final = "a closed node does nothing any more"

IMPOSSIBLE: Final[dict[tuple[Role, Happening], str]] = {
    (Role.LOADING, Happening.HANDS_OVER): _NO_LEASE,
    (Role.LOADING, Happening.RELEASED): _NO_LEASE,
    (Role.LOADING, Happening.FENCED): _NO_WRITER,
    (Role.REPLICA, Happening.REBUILT): "its state is that of the log already",
    (Role.REPLICA, Happening.HANDS_OVER): _NO_LEASE,
    (Role.REPLICA, Happening.RELEASED): _NO_LEASE,
    (Role.REPLICA, Happening.FENCED): _NO_WRITER,
    (Role.PRIMARY, Happening.REBUILT): _WRITES,
    (Role.PRIMARY, Happening.CLAIMED): "it has claimed the log already",
    (Role.PRIMARY, Happening.RELEASED): "it has not begun to hand over",
    (Role.PRIMARY, Happening.OUTRUN): _WRITES,
    (Role.PRIMARY, Happening.LOST_LOG): _WRITES,
    (Role.HANDING_OVER, Happening.REBUILT): "its state is that of the log already",
    (Role.HANDING_OVER, Happening.CLAIMED): "the lease is its successor's until it has followed again",
    (Role.HANDING_OVER, Happening.HANDS_OVER): "it is at it",
    (Role.HANDING_OVER, Happening.OUTRUN): _WRITES,
    (Role.HANDING_OVER, Happening.LOST_LOG): _WRITES,
    (Role.STUCK, Happening.REBUILT): "it does not read its log any more",
    (Role.STUCK, Happening.CLAIMED): "a node that cannot read the log to its end cannot claim it",
    (Role.STUCK, Happening.HANDS_OVER): _NO_LEASE,
    (Role.STUCK, Happening.RELEASED): _NO_LEASE,
    (Role.STUCK, Happening.FENCED): _NO_WRITER,
    (Role.STUCK, Happening.OUTRUN): "it does not read its log any more",
    (Role.STUCK, Happening.LOST_LOG): "it has lost it already",
    **{(Role.CLOSED, event): _ENDED for event in Happening},
}


def after(role: Role, event: Happening) -> Role:
    """What a node of that role is after the event. Raises RoleError."""
    found = TRANSITIONS.get((role, event))
    if found is None:
        raise RoleError(f"a node that is {role.value} cannot be one that {event.value}: {IMPOSSIBLE[role, event]}")
    return found
