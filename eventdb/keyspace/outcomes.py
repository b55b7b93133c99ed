"""What commands with a token have answered (EVENTDB.ONCE): part of the state, so that every node and restore knows it.

    EVENTDB.RAN token ms offset fingerprint reply [reply in RESP2]    last event of the command's own transaction
    EVENTDB.FORGET n                                                  the n oldest outcomes are dropped

When an outcome is dropped is the primary's decision, by its clock and its settings, and stands in the log as an event:
replay keeps exactly what the primary kept. FLUSHALL empties databases and leaves outcomes: a client that repeats a
command with its token must not run it again.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from eventdb.keyspace.value import DIGEST_MODULUS, digest_of

FORGET_MAX: Final = 1000  # dropped by one event


class Outcome:
    """One command that ran: when, in which transaction, and what it answered."""

    def __init__(self, token: bytes, at_ms: int, offset: int, fingerprint: bytes, reply: bytes, reply2: bytes) -> None:
        self.token = token
        self.at_ms = at_ms
        self.offset = offset
        self.fingerprint = fingerprint  # of the command: a token is for one
        self.reply = reply  # in RESP3; empty: it was too large to keep
        self.reply2 = reply2  # in RESP2

    def digest(self) -> int:
        return digest_of(
            [self.token, b"%d" % self.at_ms, b"%d" % self.offset, self.fingerprint, self.reply, self.reply2]
        )


class Outcomes:
    """Of one keyspace, in the order of their transactions."""

    def __init__(self) -> None:
        self.kept: dict[bytes, Outcome] = {}
        self.oldest_first: deque[Outcome] = deque()
        self.forgotten_ms = 0  # when the newest dropped one ran: everything that ran later is kept

    def add(self, outcome: Outcome) -> None:
        assert outcome.token not in self.kept
        self.kept[outcome.token] = outcome
        self.oldest_first.append(outcome)

    def forget(self, count: int) -> None:
        for _ in range(count):
            outcome = self.oldest_first.popleft()
            del self.kept[outcome.token]
            self.forgotten_ms = max(self.forgotten_ms, outcome.at_ms)

    def due(self, now_ms: int, retention_ms: int) -> int:
        """How many of the oldest have been kept for long enough, FORGET_MAX at most."""
        count = 0
        for outcome in self.oldest_first:
            if outcome.at_ms + retention_ms > now_ms or count == FORGET_MAX:
                break
            count += 1
        return count

    def digest(self) -> int:
        """0 while no token was ever used, so that such a state has the digest that it always had."""
        total = sum([outcome.digest() for outcome in self.oldest_first])
        if self.forgotten_ms:
            total += digest_of([b"forgotten", b"%d" % self.forgotten_ms])
        return total % DIGEST_MODULUS
