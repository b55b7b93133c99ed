"""Marks: named points of the history (EVENTDB.MARK). They are state, so every node, restart and file knows them.

    EVENTDB.MARK name ms offset [digest]    the newest with a name counts
    EVENTDB.UNMARK name                     it is the oldest of more than MARKS_MAX, and goes

A mark bears the offset of its own transaction. A mark that came in with a file bears the offset that it had in the log
that the file was made from.
"""

from __future__ import annotations

from typing import Final

from eventdb.keyspace.value import digest_of

MARKS_MAX: Final = 1000  # kept; one more and the oldest goes
NAME_BYTES_MAX: Final = 256


class Mark:
    """Where and when it was set."""

    def __init__(self, name: bytes, at_ms: int, offset: int, digest: bytes) -> None:
        self.name = name
        self.at_ms = at_ms
        self.offset = offset
        self.digest = digest  # of the state right before the mark's transaction; empty: it was not asked for

    def arguments(self) -> list[bytes]:
        """Of the event that makes it."""
        found = [self.name, b"%d" % self.at_ms, b"%d" % self.offset]
        return [*found, self.digest] if self.digest else found


def made(arguments: list[bytes]) -> Mark:
    """From the arguments of its event."""
    return Mark(arguments[0], int(arguments[1]), int(arguments[2]), arguments[3] if len(arguments) > 3 else b"")


def digest_of_marks(marks: dict[bytes, Mark]) -> int:
    """0 while there is none, so that such a state has the digest that it always had."""
    return sum([digest_of([b"mark", *mark.arguments()]) for mark in marks.values()])
