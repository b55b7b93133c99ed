"""The door to zone_loop.c: whether it exists, and the reasons with which a zone's thread comes back from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from eventdb.backends.quorum.zone_loop import Lanes

ZONES_MAX: Final = 16  # that zone_loop.c has room for
# CALLED is 0: somebody wants the thread to look around.
FAILED: Final = 1  # with an errno
LOST: Final = 2  # the promise
BEHIND: Final = 3  # what comes next is no longer held in memory
FULL: Final = 4  # the segment, or as full as was asked for
DRY: Final = 5  # the zeros ahead run out, and nothing else is to be written
IDLE: Final = 6  # nothing came for long


def make_lanes(zones: int, claim_end: int) -> Lanes | None:
    """What lets the zones' threads do without the interpreter; None where it was not built."""
    try:
        import eventdb.backends.quorum.zone_loop as zone_loop
    except ImportError:
        return None
    if zones > ZONES_MAX:
        return None
    return zone_loop.Lanes(zones, zones // 2 + 1, claim_end)
