"""Members in order of (score, member), with ranks: what a sorted set needs beyond a dict.

    last score and member of each block     1.5   4.0   9.0        searched first
    scores of a block (array of doubles)    [0.5 1.0 1.5]  [2.0 4.0]  [8.0 9.0]
    members of a block                      [c   a   b  ]  [f   d  ]  [e   g  ]

A skip list or a tree costs a Python object a node and a pointer to follow a level. Here the searching, shifting and
slicing is all done in C by bisect, array and list, on blocks of some hundred. Doubles in an array lie side by side:
measured with 100 thousand members, an update takes 0.6 of the time it takes with lists of floats and 0.4 of that with
lists of (score, member) pairs, and no memory for a pair. A rank adds up the sizes of the blocks before it, with one
number for each whole group of blocks: among a million members some 20 groups and at most 32 blocks.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from itertools import islice
from math import isqrt
from operator import eq
from typing import Final

GROUP: Final = 32  # blocks whose sizes are added up in one number
BLOCK_MAX: Final = 512  # members a block may have in a small set; see _resize


def in_order(scores: dict[bytes, float]) -> list[bytes]:
    """All members by (score, member)."""
    members = sorted(scores, key=scores.__getitem__)
    ordered = list(map(scores.__getitem__, members))
    if True in map(eq, ordered, islice(ordered, 1, None)):  # members that tie on the score are still unsorted
        members = sorted(scores)
        members.sort(key=scores.__getitem__)
    return members


class Ranking:
    """The order of one sorted set. The caller knows each member's score and gives it along."""

    def __init__(self, scores: dict[bytes, float], block_max: int = BLOCK_MAX) -> None:
        self.size = len(scores)
        self.block_least = block_max
        self.block_max = 0  # a block that outgrows it becomes two
        self.scores: list[array[float]] = []
        self.members: list[list[bytes]] = []
        self.last_scores: array[float] = array("d")
        self.last_members: list[bytes] = []
        self.groups: list[int] = []  # entries of each GROUP of blocks; empty after blocks came or went, until asked
        self._resize()
        ordered = in_order(scores)
        fill = self.block_max * 3 // 4
        for start in range(0, len(ordered), fill):
            block = ordered[start : start + fill]
            values = array("d", map(scores.__getitem__, block))
            self.scores.append(values)
            self.members.append(block)
            self.last_scores.append(values[-1])
            self.last_members.append(block[-1])

    def copy(self) -> Ranking:
        made = Ranking({}, self.block_least)
        made.size = self.size
        made.block_max = self.block_max
        made.scores = [block[:] for block in self.scores]
        made.members = [block[:] for block in self.members]
        made.last_scores = self.last_scores[:]
        made.last_members = self.last_members[:]
        return made

    # -- finding places

    def _block_of(self, score: float, member: bytes) -> int:
        """Index of the first block whose last entry is not below (score, member); len(blocks) when all are below."""
        lasts = self.last_scores
        i = bisect_left(lasts, score)
        if i < len(lasts) and lasts[i] == score and self.last_members[i] < member:
            i = bisect_left(self.last_members, member, i, bisect_right(lasts, score, i))
        return i

    def _place_in(self, i: int, score: float, member: bytes) -> int:
        """Index in block i of the first entry that is not below (score, member)."""
        scores = self.scores[i]
        j = bisect_left(scores, score)
        if j < len(scores) and scores[j] == score:
            members = self.members[i]
            if members[j] < member:
                j = bisect_left(members, member, j, bisect_right(scores, score, j))
        return j

    def _before(self, i: int) -> int:
        """Number of entries in the blocks before block i."""
        if i == 0:
            return 0
        group = i // GROUP
        before = sum(map(len, self.members[group * GROUP : i]))
        return before if group == 0 else before + sum(self._counted()[:group])

    def _counted(self) -> list[int]:
        """The entries of each group."""
        if not self.groups:
            blocks = self.members
            self.groups = [sum(map(len, blocks[i : i + GROUP])) for i in range(0, len(blocks), GROUP)]
        return self.groups

    # -- changing

    def add(self, score: float, member: bytes) -> None:
        """Insert a member that is not there."""
        self.size += 1
        blocks = self.members
        i = self._block_of(score, member)
        if i < len(blocks):
            j = self._place_in(i, score, member)
            self.scores[i].insert(j, score)
            block = blocks[i]
            block.insert(j, member)
            if self.groups:
                self.groups[i // GROUP] += 1
            if len(block) > self.block_max:
                self._split(i, len(block) // 2)
            return
        if i == 0 or len(blocks[i - 1]) >= self.block_max:  # at the very end: what grows there fills its blocks
            self._resize()
            self.groups = []
            self.scores.append(array("d", (score,)))
            blocks.append([member])
            self.last_scores.append(score)
            self.last_members.append(member)
            return
        self.scores[i - 1].append(score)
        blocks[i - 1].append(member)
        self.last_scores[i - 1] = score
        self.last_members[i - 1] = member
        if self.groups:
            self.groups[(i - 1) // GROUP] += 1

    def remove(self, score: float, member: bytes) -> bytes:
        """Take out a member that has this score; returns the object it was kept as."""
        i = self._block_of(score, member)
        j = self._place_in(i, score, member)
        block = self.members[i]
        kept = block[j]
        assert kept == member
        self.size -= 1
        if self.groups:
            self.groups[i // GROUP] -= 1
        del block[j]
        scores = self.scores[i]
        del scores[j]
        n = len(block)
        if n == 0:
            self._drop(i)
        else:
            if j == n:
                self.last_scores[i] = scores[-1]
                self.last_members[i] = block[-1]
            if n * 4 < self.block_max:
                self._merge(i)
        return kept

    def _resize(self) -> None:
        """Let blocks grow with the root of the size, so that shifting within them and counting them stay in balance."""
        self.block_max = max(self.block_least, 2 * isqrt(self.size))

    def _drop(self, i: int) -> None:
        self.groups = []
        del self.scores[i]
        del self.members[i]
        del self.last_scores[i]
        del self.last_members[i]

    def _split(self, i: int, at: int) -> None:
        self._resize()
        self.groups = []
        scores, members = self.scores[i], self.members[i]
        self.scores.insert(i + 1, scores[at:])
        self.members.insert(i + 1, members[at:])
        self.last_scores.insert(i, scores[at - 1])
        self.last_members.insert(i, members[at - 1])
        del scores[at:]
        del members[at:]

    def _merge(self, i: int) -> None:
        """Join block i with its right neighbour (the last with its left one) when both fit in half a block."""
        if i + 1 == len(self.members):
            i -= 1
        if i < 0 or (len(self.members[i]) + len(self.members[i + 1])) * 2 > self.block_max:
            return
        self.scores[i].extend(self.scores[i + 1])
        self.members[i].extend(self.members[i + 1])
        self.last_scores[i] = self.last_scores[i + 1]
        self.last_members[i] = self.last_members[i + 1]
        self._drop(i + 1)

    # -- asking

    def rank(self, score: float, member: bytes) -> int:
        """Number of entries below this one."""
        i = self._block_of(score, member)
        return self._before(i) + self._place_in(i, score, member)

    def count_below(self, score: float, inclusive: bool) -> int:
        """Number of entries with a score below (inclusive: not above) this one."""
        lasts = self.last_scores
        i = bisect_right(lasts, score) if inclusive else bisect_left(lasts, score)
        if i == len(lasts):
            return self.size
        block = self.scores[i]
        return self._before(i) + (bisect_right(block, score) if inclusive else bisect_left(block, score))

    def count_below_member(self, member: bytes, inclusive: bool) -> int:
        """Number of members below (inclusive: not above) this one; means something when all scores are equal."""
        lasts = self.last_members
        i = bisect_right(lasts, member) if inclusive else bisect_left(lasts, member)
        if i == len(lasts):
            return self.size
        block = self.members[i]
        return self._before(i) + (bisect_right(block, member) if inclusive else bisect_left(block, member))

    def _find(self, place: int) -> tuple[int, int]:
        """Index of the block that holds the entry of this rank, and the rank of its first."""
        start = 0
        i = 0
        for count in self._counted():
            if place < start + count:
                break
            start += count
            i += GROUP
        blocks = self.members
        while place >= start + len(blocks[i]):
            start += len(blocks[i])
            i += 1
        return i, start

    def slice(self, start: int, stop: int) -> list[bytes]:
        """Members of the ranks start <= rank < stop, both within 0 and size."""
        if start >= stop:
            return []
        i, first = self._find(start)
        left = stop - start
        found = self.members[i][start - first : start - first + left]
        while len(found) < left:
            i += 1
            block = self.members[i]
            missing = left - len(found)
            found.extend(block if len(block) <= missing else block[:missing])
        return found
