"""`verify`: read every copy in every zone, checksum by checksum, and say what is not as it should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import google_crc32c

from eventdb.backends.assembler import unopened
from eventdb.backends.log import BadLogURL
from eventdb.backends.quorum import hint as hints
from eventdb.backends.quorum.claim import Place, Survey, remembered, survey_all
from eventdb.backends.quorum.horizon import Horizon
from eventdb.backends.quorum.reader import End
from eventdb.backends.quorum.recovery import Presence
from eventdb.backends.quorum.runtime import Runtime
from eventdb.backends.quorum.segment import NO_STOP, Segment
from eventdb.backends.quorum.view import Damage, Tail, ZoneView
from eventdb.backends.seal import Keyring

# A live writer's latest frames may be half visible; what is still wrong after this long is a finding.
SETTLE_S: Final = 0.1


BLOCK: Final = 256  # positions

Report = Callable[[int, str], None]  # (zone index, segment name): found damaged


def findings(places: Sequence[Place], horizon: Horizon, report: Report, keys: Keyring | None = None) -> Iterator[str]:
    """One line for each thing that is wrong, naming zone, segment and position where it has them.

    keys: what is sealed with one of them is opened.
    """
    try:
        found = survey_all(places)
    except BadLogURL as error:
        yield f"{error}"
        return
    if all(facts.empty for facts in found):
        return
    end = End(places, horizon)
    end.prove()
    sums: dict[int, tuple[int, str]] = {}  # of blocks of positions: (checksum, the zone that was read first)
    for facts in found:
        name = facts.place.name
        if facts.presence is Presence.UNREACHABLE:
            yield f"{name}: cannot be read: {facts.why}"
        elif facts.presence is Presence.BLANK:
            yield f"{name}: not a member of the log ({facts.why}): it is rebuilt by the next writer"
        else:
            yield from _zone(facts, found, end.durable_end, sums, report, keys)


def _zone(
    facts: Survey, found: Sequence[Survey], durable_end: int, sums: dict[int, tuple[int, str]], report: Report,
    keys: Keyring | None,
) -> Iterator[str]:  # fmt: skip
    place = facts.place
    view = ZoneView(place.ops, place.directory, place.name)
    try:
        view.refresh()
        blocks = _Blocks(place.name, sums, durable_end)
        for segment in view.segments:
            for line, damaged in _segment(view, segment, durable_end, blocks, place.runtime, keys):
                if damaged:
                    report(place.index, segment.name)
                yield line
        view.mark(hints.load(place.ops, place.directory))
        tail = view.tail()
        yield from _end(facts, found, tail, durable_end)
    except OSError as error:
        yield f"{place.name}: cannot be read: {error}"
    except Damage as damage:
        yield f"{damage}"
    finally:
        view.close()


def _end(facts: Survey, found: Sequence[Survey], tail: Tail, durable_end: int) -> Iterator[str]:
    name = facts.place.name
    known = remembered(found, facts.place.index, tail.writer_epoch)
    if tail.alleged > tail.end:
        yield f"{name}: ends at position {tail.end} ({tail.torn}), but had {tail.alleged}: damage"
    elif tail.end < known:
        yield f"{name}: ends at position {tail.end}, but had synced {known}: an older copy of itself, or damage"
    elif tail.end < durable_end:
        yield f"{name}: lags: ends at position {tail.end}, history is durable up to {durable_end}"
    elif tail.torn:
        yield f"{name}: torn tail at position {tail.end} ({tail.torn}), never durable: the next writer cuts it"


class _Blocks:
    """Checksums of one zone's history in blocks of positions, to compare copies whose segments differ in size.

    The last block ends where what is durable does.
    """

    def __init__(self, zone: str, sums: dict[int, tuple[int, str]], durable_end: int) -> None:
        self._zone = zone
        self._durable_end = durable_end
        self._sums = sums
        self._differs = False  # what follows a difference is another history, and differs as well
        self._position = -1  # the next one, if the block was followed from its beginning
        self._checksum = 0

    def add(self, first: int, end: int, raw: bytes) -> str:
        """Take positions [first, end), within one block; the name of a zone that has other bytes there, or ""."""
        if first % BLOCK == 0:
            self._position, self._checksum = first, 0
        if first != self._position:
            return ""
        self._checksum = google_crc32c.extend(self._checksum, raw)
        self._position = end
        if end % BLOCK and end != self._durable_end:
            return ""
        other = self._sums.setdefault(end, (self._checksum, self._zone))
        if other[0] == self._checksum or self._differs:
            return ""
        self._differs = True
        return other[1]


def _segment(
    view: ZoneView, segment: Segment, durable_end: int, blocks: _Blocks, runtime: Runtime, keys: Keyring | None
) -> Iterator[tuple[str, bool]]:
    """Read one segment to its end: (finding, whether it is damage that others can mend).

    Damage after the durable end is a torn tail and not named here.
    """
    stop = min(segment.stop, max(durable_end, segment.first))
    position = segment.first
    named = False
    deadline = runtime.monotonic() + SETTLE_S
    while position < stop:
        try:
            chunk = view.read(position, min(stop, (position // BLOCK + 1) * BLOCK))
        except Damage as damage:
            if segment.stop == NO_STOP and runtime.monotonic() < deadline:
                runtime.sleep(SETTLE_S / 4)
                view.close()
                continue
            yield f"{damage}", True
            return
        if not chunk.frames:
            return  # lags, which `_end` says
        why = "" if named or keys is None else unopened(chunk.frames, keys)
        if why:
            named = True  # once a segment: whoever changed one may have changed all after it
            yield f"{view.name}: segment {segment.name}: {why}", False
        other = blocks.add(position, chunk.next_position, chunk.raw)
        position = chunk.next_position
        if other:
            yield (
                f"{view.name}: segment {segment.name}: differs from {other} before position {position}, both sound",
                False,
            )
