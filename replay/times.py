"""Times as people write them, read without guessing; and times as we print them.

Accepted: ISO 8601 with a zone, Unix seconds, and simple words about the past ("10 minutes ago", "yesterday": 24 hours
ago). What could mean two things is refused with a text that says what to write instead: a restore to the wrong hour is
noticed too late.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)
# Unix seconds outside are surely something else: a year or YYYYMMDD below, milliseconds above.
UNIX_S_MIN: Final = 100_000_000  # 1973
UNIX_S_MAX: Final = 100_000_000_000  # year 5138
FORMAT_MS_MIN: Final = -62_135_596_800_000  # the beginning of year 1 and the end of year 9999: datetime's own limits
FORMAT_MS_MAX: Final = 253_402_300_799_999

UNIT_MS: Final[dict[str, int]] = {
    "ms": 1,
    "millisecond": 1,
    "s": 1000,
    "sec": 1000,
    "second": 1000,
    "m": 60_000,
    "min": 60_000,
    "minute": 60_000,
    "h": 3_600_000,
    "hr": 3_600_000,
    "hour": 3_600_000,
    "d": 86_400_000,
    "day": 86_400_000,
    "w": 604_800_000,
    "week": 604_800_000,
}
NUMBER: Final = re.compile(r"[+-]?\d{1,20}(\.\d*)?")
ISO_LIKE: Final = re.compile(r"\d{4}-?\d\d|\d{4}-?W")
PART: Final = re.compile(r"(\d{1,15}(?:\.\d{1,15})?|an?|one)\s*([a-z]+)")
BETWEEN: Final = re.compile(r"[\s,]*(?:and\s+)?")
FORMS: Final = '2026-01-31T14:05:00Z, 2026-01-31T15:05:00+01:00, 1769868300 (Unix seconds) or "10 minutes ago"'


class BadMoment(ValueError):  # noqa: N818 - named as the errors of log.py are
    """The text names no single moment; the message says why and what to write."""


def parse_moment(text: str, now_ms: int) -> int:
    """Unix ms of the moment that `text` names; a fraction of a millisecond is dropped. Raises BadMoment."""
    stripped = text.strip()
    if not stripped:
        raise BadMoment(f"an empty time; write {FORMS}")
    words = stripped.lower()
    if NUMBER.fullmatch(stripped):
        return _unix(stripped)
    if words == "now":
        return now_ms
    if words == "yesterday":
        return now_ms - UNIT_MS["day"]
    if words.endswith(" ago"):
        return _ago(text, words.removesuffix(" ago").strip(), now_ms)
    if ISO_LIKE.match(stripped):
        return _iso(stripped)
    raise BadMoment(f"{text!r} is no time I can read; write {FORMS}")


def _unix(text: str) -> int:
    whole, _, fraction = text.partition(".")
    seconds = int(whole)
    if text.startswith("-") or seconds < UNIX_S_MIN:
        raise BadMoment(f"{text!r} as Unix seconds lies before 1973-03-03; for a date write {FORMS}")
    if seconds >= UNIX_S_MAX:
        raise BadMoment(f"{text!r} looks like milliseconds; Unix time is taken in seconds: {text[:-3]}.{text[-3:]}")
    return seconds * 1000 + int(fraction[:3].ljust(3, "0"))


def _iso(text: str) -> int:
    try:
        parsed = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise BadMoment(f"{text!r} is no ISO 8601 time ({error}); write {FORMS}") from None
    if parsed.tzinfo is None:
        full = text if len(text) > 10 else f"{text}T00:00:00"
        raise BadMoment(f"{text!r} has no time zone: add Z for UTC or an offset, such as {full}Z or {full}+01:00")
    at_ms = (parsed - EPOCH) // MILLISECOND
    if at_ms < 0:
        raise BadMoment(f"{text!r} lies before 1970")
    return at_ms


def _ago(text: str, span: str, now_ms: int) -> int:
    """The moment "1 hour 30 minutes" before now; days have 24 hours, months have no fixed length and are refused."""
    total = 0
    at = 0
    while at < len(span) or at == 0:
        found = PART.match(span, at)
        if found is None:
            raise BadMoment(f'{text!r}: I read "10 minutes ago" or "1 hour 30 minutes ago", not this')
        amount, unit = found[1], found[2]
        unit_ms = UNIT_MS.get(unit) or UNIT_MS.get(unit.removesuffix("s"))
        if unit_ms is None:
            raise BadMoment(f"{text!r}: {unit!r} has no fixed length here; use seconds, minutes, hours, days or weeks")
        total += round(float(amount) * unit_ms) if amount[0].isdigit() else unit_ms
        at = found.end()
        gap = BETWEEN.match(span, at)
        assert gap is not None, "may match nothing"
        at = gap.end()
    if total > now_ms:
        raise BadMoment(f"{text!r} lies before 1970")
    return now_ms - total


def format_ms(time_ms: int) -> str:
    """Unix ms as 2026-01-31T14:05:00.123Z, always UTC; "never" for 0, the time of a log without transactions."""
    if time_ms == 0:
        return "never"
    if not FORMAT_MS_MIN <= time_ms <= FORMAT_MS_MAX:
        return f"{time_ms} ms"
    moment = EPOCH + timedelta(milliseconds=time_ms)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
