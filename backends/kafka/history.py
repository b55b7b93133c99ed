"""Which Kafka records are history. Every reader decides it alike, from the log alone.

A frame (`record.py`) carries its writer's epoch and the position the writer expected. In log order:

* a **claim** is history iff its epoch is the current one plus one; it makes its epoch current. The first claim wins.
* any **other** record is history iff its epoch is the current one and it stands where its writer expected it.

Everything else is void: a claim that came second, a record of a fenced writer, a second copy of a record that was
sent twice. Nobody was told that a void record is durable.

Why this is enough. A writer has one batch on its way at a time. When it sends one whose first record expects position
`b`, it has read everything below `b` and found its epoch current; the log ends at or after `b`. If the batch lands
at `b`, nothing came between: no claim, so its epoch is current there; no other copy, so it is history once. If it
lands anywhere after `b`, all of it is void. So the writer acknowledges iff the broker returns `b`; in every other
case it reads back what stands from `b` on before it sends again. A copy that was given up and arrives later is either
first at `b`, and then it is what the writer will find there, or it is void. Only one thing is needed of Kafka: that
what was acknowledged by `acks=all`, or could be fetched, keeps its position for ever.

**Links.** A record of history that is no claim links to the one of history before it (record.py); void ones are passed
over, whatever they link to. A claim cannot know what will come before it, so its own link is not compared; instead
the first record after it links to a checksum of both: of what came before the claim, and of the claim. So a
reader that is shown another history (an unclean election, another topic under the same name) meets a record that does
not follow.

A consequence lets a reader begin in the middle: a record that is no claim and stands where it was expected *is*
history, whatever came before, so it gives the current epoch (an *anchor*). Only a claim needs the epoch before it; a
reader that begins at one looks back to the nearest anchor.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Final

import google_crc32c

from eventdb.backends import record as form
from eventdb.backends.assembler import Assembler
from eventdb.backends.log import Record, RecordKind
from eventdb.backends.record import FIRST, LAST, NOTHING, WHOLE, BadFrame, Frame, follows, unlinked
from eventdb.backends.seal import Keyring

CLAIM: Final = int(RecordKind.CLAIM)
UNKNOWN: Final = -1


class History:
    """The state of history after some position; fed with every frame from there on, in log order."""

    def __init__(self, *, known: bool, trusting: bool = False) -> None:
        """`known`: we begin at position 0, where nothing has happened yet. Else the first anchor says.

        `trusting`: so does a claim, since nothing is left of what came before (the log was trimmed by hand).
        """
        self.epoch = 0 if known else UNKNOWN
        self._trusting = trusting
        self.seal = NOTHING if known else form.UNKNOWN  # what the next record must follow; form.UNKNOWN: any
        self.next_offset = 1  # once the epoch is known
        self.time_ms = 0
        self.record_start = 0  # position of the first fragment of the record we are in the middle of
        self.open = False  # we are in the middle of a record
        self.key_id = 0  # of the latest frame, a claim or not

    @property
    def known(self) -> bool:
        return self.epoch != UNKNOWN

    def takes(self, frame: Frame, position: int) -> bool:
        """Whether the frame is history. Raises BadFrame for what no writer that keeps the rules can leave."""
        if frame.kind == CLAIM:
            return self._takes_claim(frame)
        if frame.position != position or (self.known and frame.epoch < self.epoch):
            return False
        if not self.known:
            self.epoch = frame.epoch
            self.next_offset = frame.first_offset
            self.open = frame.fragment not in (WHOLE, FIRST)
            self.record_start = position
        if frame.epoch != self.epoch:
            raise BadFrame(f"a record of epoch {frame.epoch} without its claim; the epoch is {self.epoch}")
        if frame.first_offset != self.next_offset:
            raise BadFrame(f"begins with transaction {frame.first_offset}, where {self.next_offset} was to come")
        if self.open != (frame.fragment not in (WHOLE, FIRST)):
            raise BadFrame("a fragment out of its order")
        if not follows(frame, self.seal):
            raise BadFrame(unlinked(position))
        self.seal = frame.seal
        if frame.fragment in (WHOLE, FIRST):
            self.record_start = position
        self.open = frame.fragment not in (WHOLE, LAST)
        self.next_offset = frame.next_offset
        self.key_id = frame.key_id
        self.time_ms = max(self.time_ms, frame.time_ms)
        return True

    def _takes_claim(self, frame: Frame) -> bool:
        if not self.known and self._trusting:
            self.epoch = frame.epoch - 1
            self.next_offset = frame.first_offset
        if not self.known or frame.epoch != self.epoch + 1:
            return False
        self.epoch = frame.epoch
        self.seal = _joined(self.seal, frame)
        self.key_id = frame.key_id
        self.open = False  # a record the fenced writer had not finished will never be whole
        return True


_BOTH: Final = struct.Struct("<QQ")


def _joined(before: int, claim: Frame) -> int:
    """What the first record after a claim links to: CRC32C of both seals, 8 bytes each, little-endian."""
    if before < 0:
        return before
    checksum: int = google_crc32c.value(_BOTH.pack(before, claim.seal))
    return claim.version << 32 | checksum


class Replay:
    """History as records: fragments joined, bodies unpacked, claims set to the place they took."""

    def __init__(self, history: History, keys: Keyring | None = None) -> None:
        self.history = history
        self._assembler = Assembler(keys)

    def feed(self, frame: Frame, position: int) -> Record | None:
        """Take the frame at the next position; return the record it completes. Raises BadFrame."""
        history = self.history
        if not history.takes(frame, position):
            return None
        record = self._assembler.feed(frame, position)
        if record is not None and frame.kind == CLAIM:
            # Its writer could not know what would still come before it.
            history.time_ms = max(history.time_ms, frame.time_ms)
            record = replace(record, first_offset=history.next_offset, time_ms=history.time_ms, checksum=history.seal)
        return record
