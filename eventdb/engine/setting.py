"""One setting: its name, the values it may have, and what CONFIG SET may do with it.

There are four kinds of change. FREE: CONFIG SET changes what the server does. FIXED: chosen at the start
(`eventdb serve --config name=value`). CONSTANT: Redis can change it and eventdb cannot, so only the value that is true
here is accepted. NO_EFFECT: it tunes machinery that eventdb does not have and promises a client nothing; any value of
Redis is accepted and shown, and the reason stands beside it. Bounds and texts follow redis src/config.c.
"""

from __future__ import annotations

from typing import Final

from eventdb.engine.notifications import parse_classes, show_classes
from eventdb.protocol.errors import ReplyError

FREE: Final = 0
FIXED: Final = 1
CONSTANT: Final = 2
NO_EFFECT: Final = 3

NUMBER: Final = 0
MEMORY: Final = 1  # bytes; "64mb" is understood
YES_NO: Final = 2
ONE_OF: Final = 3
TEXT: Final = 4
OUTPUT_LIMITS: Final = 5
PERCENTILES: Final = 6
SAVE_POINTS: Final = 7
EVENT_CLASSES: Final = 8  # of keyspace notifications

INT_MAX: Final = 2**31 - 1
UINT_MAX: Final = 2**32 - 1
LONG_MAX: Final = 2**63 - 1

UNITS: Final[dict[str, int]] = {
    "": 1, "b": 1, "k": 1000, "kb": 1 << 10, "m": 1000**2, "mb": 1 << 20, "g": 1000**3, "gb": 1 << 30,
}  # fmt: skip


class SettingError(ValueError):
    """A value that a setting cannot have; the text is what Redis says after the setting's name."""


class Setting:
    """One name of CONFIG GET."""

    def __init__(
        self,
        name: str,
        kind: int,
        default: int | str,
        attribute: str = "",
        low: int = 0,
        high: int = LONG_MAX,
        change: int = FREE,
        choices: str = "",
        note: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        # Of Config; "limits.x" of its Limits, "tls.x" of its Tls; "noted.x" of what is only shown again; or "".
        self.attribute = attribute
        self.low = low
        self.high = high
        self.change = change
        self.choices = choices.split()
        self.note = note  # what it does; why it is not otherwise (CONSTANT), or has no effect

    def parse(self, text: str) -> int | str:
        """The value that the text means. Raises SettingError."""
        kind = self.kind
        if kind == NUMBER:
            return self._within(whole_number(text))
        if kind == MEMORY:
            return self._within(memory(text))
        if kind == YES_NO:
            if text.lower() not in ("yes", "no"):
                raise SettingError("argument must be 'yes' or 'no'")
            return text.lower()
        if kind == ONE_OF:
            if text.lower() not in self.choices:
                raise SettingError("argument(s) must be one of the following: " + ", ".join(self.choices))
            return text.lower()
        if kind == PERCENTILES:
            return percentiles(text)
        if kind == EVENT_CLASSES:
            return event_classes(text)
        if kind == SAVE_POINTS:
            return save_points(text)
        return text

    def _within(self, value: int) -> int:
        if not self.low <= value <= self.high:
            raise SettingError(f"argument must be between {self.low} and {self.high} inclusive")
        return value


def whole_number(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or (digits[0] == "0" and text != "0") or len(digits) > 19:
        raise SettingError("argument couldn't be parsed into an integer")
    value = int(text)
    if not -LONG_MAX - 1 <= value <= LONG_MAX:
        raise SettingError("argument couldn't be parsed into an integer")
    return value


def memory(text: str) -> int:
    """Bytes: a number and a unit; k is 1000, kb is 1024."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text[len(digits) :].lower()
    if not (digits.isascii() and (digits or "0").isdigit()) or unit not in UNITS or len(digits) > 19:
        raise SettingError("argument must be a memory value")
    return int(digits or "0") * UNITS[unit]  # nothing is zero, as in redis memtoull


def percentiles(text: str) -> str:
    """Numbers from 0 to 100, as they are shown again. Raises SettingError."""
    found: list[str] = []
    for word in text.split():
        try:
            value = float(word)
        except ValueError:
            raise SettingError("Invalid latency-tracking-info-percentiles parameters") from None
        if not 0 <= value <= 100:
            raise SettingError("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]")
        found.append(f"{value:.15g}")
    return " ".join(found)


def event_classes(text: str) -> str:
    """Letters of notify-keyspace-events, as they are shown again. Raises SettingError."""
    try:
        return show_classes(parse_classes(text))
    except ReplyError as failure:
        raise SettingError(failure.text) from None


def save_points(text: str) -> str:
    """Pairs of seconds and changes. Raises SettingError."""
    words = text.split()
    if len(words) % 2:
        raise SettingError("Invalid save parameters")
    for i, word in enumerate(words):
        if not (word.isascii() and word.isdigit() and len(word) < 20) or (i % 2 == 0 and int(word) < 1):
            raise SettingError("Invalid save parameters")
    return " ".join(words)
