"""Segments: the files that hold a zone's frames, one after the other.

A segment is named by its first position and by the epoch of the writer that wrote the *file*; its frames may be
older, when that writer copied them from another zone. Which bytes are a zone's history follows from the names::

    in the order (epoch, first position), each segment replaces all that earlier ones hold from its
    first position on

So a writer never changes what another wrote: it begins a segment at the position from which it disagrees. What a
fenced writer adds to its own segment later stands after the first position of a higher epoch, and is ignored.

A trim says first where the zone's history begins from then on: the name of an empty file, `start-POSITION`, the highest
one counts. A segment that ends at or before it is no history, whether its file is gone, not gone yet, or there again
(because a fenced writer woke up, or a repair came late). So a trim may die anywhere, and two may run at once.

Behind the last frame come zeros, filled in ahead of the writer: a write into existing, initialised blocks changes
no metadata, and its sync is cheaper for it. So zeros say nothing: sound frames after a hole of them count as those
after a damaged frame do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from eventdb.backends.quorum.files import FileOps
from eventdb.backends.record import (
    HEADER_BYTES,
    MAGIC,
    PAYLOAD_BYTES_BELIEVED,
    UNKNOWN,
    BadFrame,
    Frame,
    covers,
    decode,
    follows,
    unlinked,
)

SUFFIX: Final = ".seg"
START: Final = "start-"
NO_STOP: Final = 1 << 62
CHUNK_BYTES: Final = 1 << 20

MORE: Final = 0  # the chunk ended, the segment did not
END: Final = 1  # zeros, or the end of the file, where the next frame would begin
BAD: Final = 2  # bytes that are no whole, sound frame
ALIEN: Final = 3  # a sound frame that does not follow the one before: of another history


@dataclass(frozen=True, slots=True)
class Segment:
    path: str
    first: int
    epoch: int
    stop: int = NO_STOP  # exclusive; NO_STOP for the last one

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


def segment_name(first: int, epoch: int) -> str:
    return f"{first:020d}-{epoch:010d}{SUFFIX}"


def list_segments(ops: FileOps, zone: str) -> list[Segment]:
    """Every segment file of the zone, in the order (epoch, first); empty when there is no directory."""
    return _segments(zone, _names(ops, zone))


def _names(ops: FileOps, zone: str) -> list[str]:
    try:
        return ops.listdir(zone)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _segments(zone: str, names: list[str]) -> list[Segment]:
    found: list[Segment] = []
    for name in names:
        first, dash, epoch = name.removesuffix(SUFFIX).partition("-")
        if name.endswith(SUFFIX) and dash and first.isdigit() and epoch.isdigit():
            found.append(Segment(os.path.join(zone, name), int(first), int(epoch)))
    found.sort(key=lambda segment: (segment.epoch, segment.first))
    return found


def effective(segments: list[Segment]) -> list[Segment]:
    """The segments that hold history, by first position, each with the position where the next takes over."""
    history: list[Segment] = []
    for segment in segments:
        while history and history[-1].first >= segment.first:
            history.pop()
        if history:
            last = history[-1]
            history[-1] = Segment(last.path, last.first, last.epoch, min(last.stop, segment.first))
        history.append(segment)
    return history


def kept_segments(ops: FileOps, zone: str) -> list[Segment]:
    """The zone's history: what is effective, and was not trimmed."""
    names = _names(ops, zone)
    start = max(starts(names), default=0)
    return [segment for segment in effective(_segments(zone, names)) if segment.stop > start]


def start_of(ops: FileOps, zone: str) -> int:
    """Where the latest trim said that history begins; -1: nothing was trimmed. Raises OSError."""
    return max(starts(_names(ops, zone)), default=-1)


def starts(names: list[str]) -> list[int]:
    """Where trims said that history begins."""
    found = (name.removeprefix(START) for name in names if name.startswith(START))
    return [int(digits) for digits in found if digits.isdigit()]


def start_name(position: int) -> str:
    return f"{START}{position:020d}"


def replaced(ops: FileOps, zone: str) -> list[Segment]:
    """Segments of which nothing is history because later epochs begin at or before their first position."""
    every = list_segments(ops, zone)
    alive = {segment.path for segment in effective(every)}
    return [segment for segment in every if segment.path not in alive]


class Chunk:
    """What one step through a segment found: sound frames, and why it ended."""

    __slots__ = ("frames", "next_byte", "next_position", "raw", "reason", "seal", "state")

    def __init__(
        self, frames: list[Frame], raw: bytes, next_byte: int, next_position: int, state: int, reason: str, seal: int
    ) -> None:
        self.frames: list[Frame] = frames
        self.raw: bytes = raw  # the frames' bytes
        self.next_byte: int = next_byte
        self.next_position: int = next_position
        self.state: int = state
        self.reason: str = reason
        self.seal: int = seal  # of the last frame; of the one before it all when there is none


def read_chunk(
    ops: FileOps, fd: int, byte: int, position: int, stop: int, epoch_max: int, size: int, before: int = UNKNOWN
) -> Chunk:
    """Decode the frames of positions [position, stop) that start at `byte`, about `size` bytes of them.

    A frame must hold exactly the position that is next, no epoch above the segment's, and follow the frame with the
    seal `before`: leftovers of another place are as bad as a wrong checksum. Raises OSError.
    """
    data = ops.pread(fd, size, byte)
    if len(data) == size:
        need = covers(data, 0)
        if size < need <= PAYLOAD_BYTES_BELIEVED + HEADER_BYTES:
            data = ops.pread(fd, need, byte)
    frames: list[Frame] = []
    at = 0
    state = MORE
    reason = ""
    end = len(data)
    while position < stop:
        if at + HEADER_BYTES > end or data[at : at + 4] != MAGIC:
            if not data[at : at + HEADER_BYTES].strip(b"\0"):
                state = MORE if end >= size and at + HEADER_BYTES > end else END
                break
        try:
            frame = decode(data, at)
        except BadFrame as error:
            state, reason = BAD, str(error)
            break
        if frame is None:
            if at == 0 or end < size:
                state, reason = BAD, "cut off"
            break
        if frame.position != position or frame.epoch > epoch_max:
            state = BAD
            reason = f"holds position {frame.position} of epoch {frame.epoch}"
            break
        if not follows(frame, before):
            state, reason = ALIEN, unlinked(position)
            break
        frames.append(frame)
        before = frame.seal
        at += frame.size
        position += 1
    return Chunk(frames, data[:at], byte + at, position, state, reason, before)


@dataclass(frozen=True, slots=True)
class Proof:
    """An exclusive end of what was once durable, or 0: what bytes that cannot be read in order still say of it."""

    sure: int  # said by a frame that only this log's writer can have made
    alleged: int  # the highest that anything says; a client's value may (old_frames.py), or a frame of another history


NO_PROOF: Final = Proof(0, 0)


def durable_beyond(ops: FileOps, fd: int, byte: int, position: int, epoch_max: int, last: Frame | None) -> Proof:
    """What the bytes after a segment's last sound frame still prove.

    A torn write proves nothing: none of its frames was sealed after one of them was durable. A sound frame
    that knew more than `position` to be durable proves that history was lost here, not torn. It is believed only
    where it can stand: of no later epoch than the segment, and no further on than the bytes between leave room for.
    """
    sure = alleged = 0
    at = byte
    while True:
        data = ops.pread(fd, CHUNK_BYTES, at)
        found = data.find(MAGIC)
        if found < 0:
            if len(data) < CHUNK_BYTES:
                return Proof(sure, alleged)
            at += len(data) - len(MAGIC) + 1
            continue
        at += found
        frame = _frame_at(ops, fd, at)
        if frame is None:
            at += len(MAGIC)
            continue
        room = (at - byte) // HEADER_BYTES
        if position < frame.position <= position + room and frame.epoch <= epoch_max:
            alleged = max(alleged, frame.durable_below)
            if frame.version > 1 and (last is None or last.version > 1):  # not what a payload of format 1 holds
                sure = max(sure, frame.durable_below)
        at += frame.size  # what it contains is a client's


def _frame_at(ops: FileOps, fd: int, at: int) -> Frame | None:
    size = covers(ops.pread(fd, HEADER_BYTES, at), 0)
    if size == 0 or size > PAYLOAD_BYTES_BELIEVED + HEADER_BYTES:
        return None
    try:
        return decode(ops.pread(fd, size, at))
    except BadFrame:
        return None
