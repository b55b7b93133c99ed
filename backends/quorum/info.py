"""What `Log.info` says: where history begins and ends, and how the zones are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eventdb.backends.log import Unavailable, ZoneInfo
from eventdb.backends.quorum import hint as hints
from eventdb.backends.quorum import identity as identities
from eventdb.backends.quorum.claim import Place
from eventdb.backends.quorum.horizon import Horizon
from eventdb.backends.quorum.identity import DamagedIdentity
from eventdb.backends.quorum.reader import End
from eventdb.backends.quorum.view import Damage, ZoneView
from eventdb.backends.quorum.zone import CATCHING_UP, DOWN, UP


@dataclass(frozen=True, slots=True)
class HistoryEnd:
    end: int  # exclusive, durable
    epoch: int  # of the last record
    next_offset: int
    time_ms: int
    vouched: int = 0  # the epoch of the writer whose word it is: a zone without a segment of it is not read


def end_of_history(places: Sequence[Place], horizon: Horizon, *, foresee: bool = False) -> HistoryEnd:
    """The durable end and the frame before it. Raises Unavailable when no zone can show that frame."""
    end = End(places, horizon)
    if foresee:
        end.foresee()
    else:
        end.prove()
    if end.durable_end == 0:
        return HistoryEnd(0, 0, 1, 0)
    reasons: list[str] = []
    for place in places:
        view = ZoneView(place.ops, place.directory, place.name)
        try:
            view.refresh()
            if not any(segment.epoch >= end.epoch for segment in view.segments):
                continue
            view.mark(hints.load(place.ops, place.directory))
            frame = view.frame_at(end.durable_end - 1)
            if frame is not None:
                return HistoryEnd(end.durable_end, frame.epoch, frame.next_offset, frame.time_ms, end.epoch)
        except (OSError, Damage) as error:
            reasons.append(f"{error}")
        finally:
            view.close()
    raise Unavailable(f"position {end.durable_end - 1} is durable, but no zone shows it: {'; '.join(reasons)}")


def first_of_history(places: Sequence[Place], end: HistoryEnd) -> tuple[int, int]:
    """(first position, first offset) kept by the zone that goes back farthest, of those that readers read."""
    best: tuple[int, int] | None = None
    for place in places:
        view = ZoneView(place.ops, place.directory, place.name)
        try:
            view.refresh()
            if not any(segment.epoch >= end.vouched for segment in view.segments):
                continue
            if view.segments and (best is None or view.first_position < best[0]):
                frame = view.frame_at(view.first_position)
                if frame is not None:
                    inside = frame.fragment not in (0, 1)
                    best = (view.first_position, frame.first_offset + (frame.count if inside else 0))
        except (OSError, Damage):
            continue
        finally:
            view.close()
    return best if best is not None else (0, end.next_offset)


def zone_infos(places: Sequence[Place], durable_end: int, health: Sequence[tuple[str, str]] | None) -> list[ZoneInfo]:
    """One entry a zone; `health` is what a live writer of this process says, else the files are judged."""
    infos: list[ZoneInfo] = []
    for place in places:
        state, detail = health[place.index] if health is not None else (UP, "")
        view = ZoneView(place.ops, place.directory, place.name)
        try:
            view.refresh()
            view.mark(hints.load(place.ops, place.directory))
            tail = view.tail()
            stored = sum(place.ops.stat(segment.path).st_size for segment in view.segments)
            if health is None:
                state, detail = _judge(place, tail.end, durable_end)
            infos.append(ZoneInfo(place.name, state, detail, tail.first, tail.end, stored, tail.segments))
        except (OSError, Damage) as error:
            infos.append(ZoneInfo(place.name, DOWN, detail or f"{error}"))
        finally:
            view.close()
    return infos


def _judge(place: Place, end: int, durable_end: int) -> tuple[str, str]:
    try:
        if identities.load(place.ops, place.directory) is None:
            return DOWN, "blank"
    except DamagedIdentity as error:
        return DOWN, f"{error}"
    if end < durable_end:
        return CATCHING_UP, f"ends at position {end} of {durable_end}"
    return UP, ""
