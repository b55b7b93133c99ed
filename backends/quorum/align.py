"""Where a zone's history parts from the true one, and how the missing part is read from other zones.

Two records with the same position and epoch are the same record, and so is all that lies before them: the epoch has
one writer, it writes a position once, and it writes to a zone only behind a history equal to its own. So
comparing epochs from the end backwards finds the place.
"""

from __future__ import annotations

from eventdb.backends.quorum.segment import NO_STOP
from eventdb.backends.quorum.view import Damage, Tail, ZoneView


def agreed_end(mine: ZoneView, tail: Tail, source: ZoneView, source_end: int) -> int | None:
    """Up to which position (exclusive) `mine` holds what `source` does; None when they have nothing in common.

    `source` must be true up to `source_end`. Raises Damage (of the source), OSError.
    """
    if tail.last is None or tail.end <= source.first_position:
        return None
    if tail.end <= source_end:
        true = source.frame_at(tail.end - 1)
        if true is not None and true.epoch == tail.last.epoch:
            return tail.end
    for segment in reversed(mine.segments):
        low = max(segment.first, source.first_position)
        high = min(segment.stop, source_end, tail.end)
        if low >= high:
            continue
        ours = _epochs(mine, low, high, forgiving=True)
        theirs = _epochs(source, low, low + len(ours), forgiving=False)
        for index in range(min(len(ours), len(theirs)) - 1, -1, -1):
            if ours[index] == theirs[index]:
                return low + index + 1
    return None


def _epochs(view: ZoneView, low: int, high: int, *, forgiving: bool) -> list[int]:
    """Epochs of the frames in [low, high); shorter where history ends, or at damage if `forgiving`."""
    epochs: list[int] = []
    position = low
    while position < high:
        try:
            chunk = view.read(position, min(high, NO_STOP))
        except Damage:
            if forgiving:
                return epochs
            raise
        if not chunk.frames:
            return epochs
        epochs.extend(frame.epoch for frame in chunk.frames)
        position = chunk.next_position
    return epochs
