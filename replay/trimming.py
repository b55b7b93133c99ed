"""What of a log may not go, and letting go of the rest: the one place that decides it.

Each reason to keep something is a *holder*: from its position on nothing may be trimmed. The log is trimmed up to the
first of them, and only behind a snapshot that is verified, whose data was read again just now, and from which the log
goes on. Whatever cannot be told (a store that does not answer, a log that cannot be read) holds everything.

    recovery window    any moment in it can be restored: from the newest snapshot before it, and the log after that
    the last snapshot  what was written since is in the log alone
    others             readers of the log from some place on: roots of branches
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eventdb.backends.log import Corrupt, Log, LogInfo, Trimmed
from eventdb.replay.belonging import NewerThanLog, OtherLog, check_continues
from eventdb.replay.manifest import Manifest
from eventdb.replay.snapshots import SnapshotDamaged, check_data, newest
from eventdb.replay.store import SnapshotStore
from eventdb.replay.times import UNIT_MS, format_ms

SIZES: Final = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
PART: Final = re.compile(r"(\d{1,9})\s*([a-z]+)")
# Positions kept before the snapshot: the primary's statement is repeated every few seconds, and a node that begins with
# the snapshot looks for it there (node/rebuilding.py). At full speed that many records take some seconds.
SLACK: Final = 1 << 14


class BadWindow(ValueError):  # noqa: N818 - named as the errors of log.py are
    """The text is no recovery window; the message says what to write."""


@dataclass(frozen=True, slots=True)
class Window:
    """How far back any moment can be restored: at least so long, and at least so much of the log."""

    ms: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        parts = [f"{self.ms / UNIT_MS['day']:g} days"] if self.ms or not self.bytes else []
        return " and ".join(parts + ([f"{self.bytes:,} bytes"] if self.bytes else []))


def parse_window(text: str) -> Window:
    """ "7d", "20gb", or both, "7d,20gb": what lies in either stays. Raises BadWindow."""
    ms = size = 0
    for part in text.lower().split(","):
        found = PART.fullmatch(part.strip())
        if found is not None and found[2] in UNIT_MS:
            ms = int(found[1]) * UNIT_MS[found[2]]
        elif found is not None and found[2] in SIZES:
            size = int(found[1]) * SIZES[found[2]]
        elif part.strip() == "0":
            pass
        else:
            raise BadWindow(
                f"{text!r} is no recovery window; write a time, a size or both, such as 7d, 20gb or 7d,20gb"
            )
    return Window(ms, size)


@dataclass(frozen=True, slots=True)
class Holder:
    """A reason why nothing from `position` on may go."""

    position: int
    offset: int  # of the last transaction before it
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What may go now: what lies before `before`. Behind the snapshot `base`; None: nothing may."""

    before: int
    base: Manifest | None
    holders: tuple[Holder, ...]  # the strictest first

    @property
    def first(self) -> Holder:
        return self.holders[0]


async def plan(
    log: Log, store: SnapshotStore, window: Window, now_ms: int, others: Sequence[Holder] = (), *, slack: int = SLACK
) -> Plan:
    """What may be trimmed at `now_ms`. Changes nothing. Raises StoreError, and what `Log.info` raises."""
    info = await log.info()
    now_ms = min(now_ms, info.last_time_ms)  # this machine's clock may be wrong; the log's own ends nothing too early
    usable = [found for found in await newest(store, info.log_id) if _fits(found, info)]
    if not usable:
        return Plan(0, None, (Holder(0, 0, f"no verified snapshot of it is in {store.url}"), *others))
    usable.sort(key=_place, reverse=True)  # of an idle log there are several
    last = usable[0]
    holders = [Holder(last.position, last.offset, f"what came after the newest verified snapshot, {last.name}")]
    holders.append(_window_by_time(usable, window, now_ms))
    if window.bytes:
        holders.append(_window_by_size(usable, window, info))
    holders.extend(others)
    holders.sort(key=lambda holder: holder.position)
    base = next((found for found in usable if found.position <= holders[0].position), None)
    if base is None:
        return Plan(0, None, tuple(holders))
    return Plan(max(0, base.position - slack), base, tuple(holders))


def _fits(found: Manifest, info: LogInfo) -> bool:
    return found.offset <= info.last_offset and found.position <= info.end_position


def _window_by_time(usable: Sequence[Manifest], window: Window, now_ms: int) -> Holder:
    begin = now_ms - window.ms
    why = f"the recovery window, which begins at {format_ms(begin)}"
    base = next((found for found in usable if found.time_ms <= begin), None)
    if base is None:
        return Holder(0, 0, f"{why}: no verified snapshot is of a time before it")
    return Holder(base.position, base.offset, f"{why}: it is restored from snapshot {base.name}")


def _begin_by_size(window: Window, info: LogInfo) -> int:
    """Sizes are known of whole zones: in between they are taken to grow with the positions."""
    stored = max((zone.stored_bytes for zone in info.zones), default=0)
    count = info.end_position - info.first_position
    return info.end_position - (count * window.bytes // stored if stored else count)


def _window_by_size(usable: Sequence[Manifest], window: Window, info: LogInfo) -> Holder:
    why = f"the recovery window of {window.bytes:,} bytes"
    begin = _begin_by_size(window, info)
    base = next((found for found in usable if found.position <= begin), None)
    if begin < info.first_position or base is None:
        return Holder(0, 0, f"{why}: the log is smaller, or no verified snapshot is before it")
    return Holder(base.position, base.offset, f"{why}: it is restored from snapshot {base.name}")


def stands_on(
    usable: Sequence[Manifest], window: Window, info: LogInfo, now_ms: int, others: Sequence[Holder] = ()
) -> dict[str, str]:
    """The snapshots without which this trim, or a later one, could not keep what must be kept: names, each with why.

    Of the window the newest before it begins, from which its first moments are restored, and the oldest in it, which
    will be that one day: were they pruned by their age, the log would never be trimmed, or another trimmer would be
    standing on nothing. Of a trimmed log the oldest that it goes on from, whatever window it was trimmed by.
    """
    begin_ms = min(now_ms, info.last_time_ms) - window.ms
    sides = [
        ([each for each in usable if each.time_ms <= begin_ms], [each for each in usable if each.time_ms > begin_ms])
    ]
    if window.bytes:
        begin = _begin_by_size(window, info)
        sides.append(
            ([each for each in usable if each.position <= begin], [each for each in usable if each.position > begin])
        )
    names: dict[str, str] = {}
    for before, within in sides:
        if before:
            names[max(before, key=_place).name] = f"the first moments of the recovery window ({window}) need it"
        if within:
            names.setdefault(min(within, key=_place).name, f"it is the oldest in the recovery window ({window})")
    for holder in others:
        if behind := [each for each in usable if each.position <= holder.position]:
            names.setdefault(max(behind, key=_place).name, holder.why)
    if info.first_offset > 1 and (based := [each for each in usable if each.offset >= info.first_offset - 1]):
        why = f"the log was trimmed, and what it has from offset {info.first_offset} on is restored from it"
        names.setdefault(min(based, key=_place).name, why)
    return names


def _place(found: Manifest) -> tuple[int, int]:
    return found.offset, found.position


@dataclass(frozen=True, slots=True)
class Trim:
    """What a trim did."""

    plan: Plan
    first_position: int  # of the log before
    kept_from: int  # and after
    refused: str  # why nothing was trimmed though the plan allows it, or ""


async def trim(
    log: Log, store: SnapshotStore, window: Window, now_ms: int, others: Sequence[Holder] = (), *, slack: int = SLACK
) -> Trim:
    """Let go of what nothing holds. Raises StoreError, and what looking at the log and trimming it raise.

    Safe to run at any time and twice at once: each trims up to a place that it has proven on its own.
    """
    planned = await plan(log, store, window, now_ms, others, slack=slack)
    info = await log.info()
    base = planned.base
    if base is None or min([info.first_position, *_firsts(info)]) >= planned.before:
        return Trim(planned, info.first_position, info.first_position, "")
    try:
        await prove(log, store, base)
    except (SnapshotDamaged, OtherLog, NewerThanLog, Corrupt, Trimmed) as error:
        return Trim(planned, info.first_position, info.first_position, str(error))
    await log.trim(planned.before)
    return Trim(planned, info.first_position, (await log.info()).first_position, "")


def _firsts(info: LogInfo) -> list[int]:
    """Where the zones begin: one that was away may have to let go of something yet. One that is away cannot."""
    return [zone.first_position for zone in info.zones if zone.state != "down"]


async def prove(log: Log, store: SnapshotStore, base: Manifest) -> None:
    """Read the proof again: it was verified, its data is what was verified, and this log goes on from it.

    Raises SnapshotDamaged, OtherLog, NewerThanLog, Corrupt, Trimmed.
    """
    if not base.verified:
        raise SnapshotDamaged(f"snapshot {base.name} was never verified")
    await check_continues(log, base)
    await check_data(store, base)
    if base.manifest_name not in await store.names():
        raise SnapshotDamaged(f"snapshot {base.name} was deleted while its data was read")
