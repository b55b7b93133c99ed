"""Recovery as two tables: what a zone is worth, and what a claim may do with all of them.

Pure: facts in, verdict out; `claim.py` gathers the facts (and has refused directories that do not belong together
before) and does what is said. The order of the rows means nothing: exactly one fits every combination of facts, and a
test proves it.

What the tables rest on, for 2f+1 zones of which at most f are out of order at one time (unreachable, deleted, put
back from an older copy, damaged):

* Every acknowledged append is in f+1 zones and every claim reads f+1 *counting* zones, so they share one.
* A zone that forgot something counts in neither until it was rebuilt: blank zones have no identity; an older
  copy is told by the hints of the others, which say what it had synced; damage is told by checksums and by
  later frames that knew the damaged ones to be durable. For an older copy that nobody can recognize (all other
  hints are lost as well), the claim still asks every zone it can reach, not only f+1, and takes the best.
* The floor is the highest end that any hint or frame proves durable. A history that ends below it is never adopted.
  A frame found past damage is a proof only if this log's writer alone can have made it: no payload of format 2
  contains one (record.py). One of format 1 may stand in a client's value: it makes its own zone HURT, so that it is
  rebuilt, and does not move the floor: one zone's word does not outweigh a majority that is in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Presence(Enum):
    UNREACHABLE = "unreachable"  # an error, or no answer in time
    BLANK = "blank"  # no identity
    MEMBER = "member"


class Hold(Enum):
    """Of our promise."""

    NONE = "none"  # not asked, because it is no member
    OWNED = "owned"
    OUTBID = "outbid"  # another claimant has it


class Memory(Enum):
    """Of what the zone once acknowledged."""

    NONE = "none"  # not read, because the promise is not ours
    WHOLE = "whole"  # ends cleanly, or in a torn write that was never durable
    STALE = "stale"  # others know that it had synced more: an older copy of itself
    DAMAGED = "damaged"  # its own bytes prove that more was durable than can be read


class Worth(Enum):
    ABSENT = "absent"  # joins later, if it comes back
    REBUILD = "rebuild"  # counts for nothing until it was filled from the others
    HURT = "hurt"  # as REBUILD; its loss has to be named if nobody else has the history
    LOST = "lost"  # the other claimant's
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class ZoneRow:
    presence: Presence
    hold: frozenset[Hold]
    memory: frozenset[Memory]
    worth: Worth | None  # None: cannot be
    why: str

    def fits(self, presence: Presence, hold: Hold, memory: Memory) -> bool:
        return presence is self.presence and hold in self.hold and memory in self.memory


_ANY_HOLD: Final = frozenset(Hold)
_ANY_MEMORY: Final = frozenset(Memory)
_NO_HOLD: Final = frozenset({Hold.NONE})
_UNREAD: Final = frozenset({Memory.NONE})
_OWNED: Final = frozenset({Hold.OWNED})

ZONE_TABLE: Final[tuple[ZoneRow, ...]] = (
    ZoneRow(Presence.UNREACHABLE, _ANY_HOLD, _ANY_MEMORY, Worth.ABSENT, "what it holds is unknown"),
    ZoneRow(Presence.BLANK, _NO_HOLD, _UNREAD, Worth.REBUILD, "it forgot its promises and its records"),
    ZoneRow(Presence.BLANK, _NO_HOLD, _ANY_MEMORY - _UNREAD, None, "a blank zone is not read"),
    ZoneRow(Presence.BLANK, _ANY_HOLD - _NO_HOLD, _ANY_MEMORY, None, "a blank zone is not asked for a promise"),
    ZoneRow(Presence.MEMBER, frozenset({Hold.OUTBID}), _ANY_MEMORY, Worth.LOST, "another claim is under way"),
    ZoneRow(Presence.MEMBER, _NO_HOLD, _ANY_MEMORY, None, "a member that answers was asked"),
    ZoneRow(Presence.MEMBER, _OWNED, _UNREAD, None, "a zone that gave its promise was read"),
    ZoneRow(Presence.MEMBER, _OWNED, frozenset({Memory.WHOLE}), Worth.COUNT, "all it acknowledged is here"),
    ZoneRow(Presence.MEMBER, _OWNED, frozenset({Memory.STALE}), Worth.REBUILD, "it forgot what it acknowledged"),
    ZoneRow(Presence.MEMBER, _OWNED, frozenset({Memory.DAMAGED}), Worth.HURT, "it lost what it acknowledged"),
)


def judge_zone(presence: Presence, hold: Hold, memory: Memory) -> Worth:
    for row in ZONE_TABLE:
        if row.fits(presence, hold, memory):
            assert row.worth is not None, row.why
            return row.worth
    raise AssertionError((presence, hold, memory))


class Move(Enum):
    ADOPT = "adopt"  # the best tail among the zones that count
    LOST_RACE = "lost race"  # try again with a higher epoch
    UNAVAILABLE = "unavailable"
    CORRUPT = "corrupt"


@dataclass(frozen=True, slots=True)
class Tally:
    """How many zones are worth what, and whether the best counting tail reaches the floor."""

    zones: int
    count: int
    lost: int
    hurt: int
    reaches_floor: bool

    @property
    def majority(self) -> int:
        return self.zones // 2 + 1


def judge_log(tally: Tally) -> Move:
    """One row of LOG_TABLE: a majority first, then what else may have what is missing."""
    for fits, move, _why in LOG_TABLE:
        if fits(tally):
            return move
    raise AssertionError(tally)


def _whole(tally: Tally) -> bool:
    return tally.count >= tally.majority and tally.reaches_floor


def _short_hurt(tally: Tally) -> bool:
    return tally.count >= tally.majority and not tally.reaches_floor and tally.hurt > 0


def _short(tally: Tally) -> bool:
    return tally.count >= tally.majority and not tally.reaches_floor and tally.hurt == 0


def _raced(tally: Tally) -> bool:
    return tally.count < tally.majority and tally.lost > 0


def _damaged(tally: Tally) -> bool:
    few = tally.count < tally.majority and tally.lost == 0
    return few and tally.count + tally.hurt >= tally.majority


def _few(tally: Tally) -> bool:
    few = tally.count < tally.majority and tally.lost == 0
    return few and tally.count + tally.hurt < tally.majority


LOG_TABLE: Final = (
    (_whole, Move.ADOPT, "a majority remembers, and the best tail reaches all that is known to be durable"),
    (_short_hurt, Move.CORRUPT, "what was durable is damaged where it is, and missing elsewhere"),
    (_short, Move.UNAVAILABLE, "what was durable is only in zones that cannot be reached or were rolled back"),
    (_raced, Move.LOST_RACE, "another claimant holds the promises we need"),
    (_damaged, Move.CORRUPT, "a majority is there, but its history is damaged"),
    (_few, Move.UNAVAILABLE, "no majority"),
)
