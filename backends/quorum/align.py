"""Where a zone's history parts from the true one, and how the missing part is read from other zones.

Two records with the same position, epoch and checksum are the same record, and so is all that lies before them: the
epoch has one writer, it writes a position once, and it writes to a zone only after a history equal to its own; and the
checksum covers what came before (record.py). So comparing from the end backwards finds the place.
"""

from __future__ import annotations

from eventdb.backends.quorum import hint as hints
from eventdb.backends.quorum.files import FileOps
from eventdb.backends.quorum.segment import NO_STOP
from eventdb.backends.quorum.view import Damage, Tail, ZoneView
from eventdb.backends.record import NOTHING, UNKNOWN, Frame

Mark = tuple[int, int]  # epoch and checksum of a frame


def mark_of(frame: Frame) -> Mark:
    return frame.epoch, frame.checksum


def compare(mine: ZoneView, source: ZoneView, source_end: int) -> tuple[int | None, int, Tail, Mark | None]:
    """(what `agreed_end` says, the source's first position, the end of `mine`, the mark before the agreed end).

    Closes the views.

    Raises Damage (of the source), OSError.
    """
    try:
        for view in (mine, source):
            view.refresh()
            view.mark(hints.load(view.ops, view.directory))
        tail = mine.tail()
        end = agreed_end(mine, tail, source, source_end)
        last = mine.frame_at(end - 1) if end else None
        return end, source.first_position, tail, mark_of(last) if last is not None else None
    finally:
        mine.close()
        source.close()


def seal_before(ops: FileOps, directory: str, name: str, end: int) -> int:
    """The seal of the last frame of a zone that ends at `end`; UNKNOWN when it cannot be read, which readers find."""
    if end == 0:
        return NOTHING
    view = ZoneView(ops, directory, name)
    try:
        view.refresh()
        view.mark(hints.load(ops, directory))
        frame = view.frame_at(end - 1)
        return frame.seal if frame is not None else UNKNOWN
    except Damage:
        return UNKNOWN
    finally:
        view.close()


def agreed_end(mine: ZoneView, tail: Tail, source: ZoneView, source_end: int) -> int | None:
    """Up to which position (exclusive) `mine` holds what `source` does; None when they have nothing in common.

    `source` must be true up to `source_end`. Raises Damage (of the source), OSError.
    """
    if tail.last is None or tail.end <= source.first_position:
        return None
    if tail.end <= source_end:
        true = source.frame_at(tail.end - 1)
        if true is not None and mark_of(true) == mark_of(tail.last):
            return tail.end
    for segment in reversed(mine.segments):
        low = max(segment.first, source.first_position)
        high = min(segment.stop, source_end, tail.end)
        if low >= high:
            continue
        ours = _marks(mine, low, high, forgiving=True)
        theirs = _marks(source, low, low + len(ours), forgiving=False)
        for index in range(min(len(ours), len(theirs)) - 1, -1, -1):
            if ours[index] == theirs[index]:
                return low + index + 1
    return None


def _marks(view: ZoneView, low: int, high: int, *, forgiving: bool) -> list[Mark]:
    """Epochs and checksums of the frames in [low, high); fewer where history ends, or at damage if `forgiving`."""
    marks: list[Mark] = []
    position = low
    while position < high:
        try:
            chunk = view.read(position, min(high, NO_STOP))
        except Damage:
            if forgiving:
                return marks
            raise
        if not chunk.frames:
            return marks
        marks.extend(mark_of(frame) for frame in chunk.frames)
        position = chunk.next_position
    return marks
