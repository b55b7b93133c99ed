"""Which snapshots stay: "24h:1h,35d:1d" is one an hour for 24 hours, then one a day until they are 35 days old."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eventdb.replay.manifest import Manifest

UNIT_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
SPAN: Final = re.compile(r"(\d{1,6})([smhdw])")
FORM: Final = "such as 24h:1h,35d:1d (one an hour for 24 hours, then one a day for 35 days)"


class BadPolicy(ValueError):  # noqa: N818 - named as the errors of log.py are
    """The text is no policy; the message says why and what to write."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Of the snapshots that are younger than `age_ms`, one in every `step_ms`."""

    age_ms: int
    step_ms: int


def parse_policy(text: str) -> tuple[Rule, ...]:
    """Raises BadPolicy."""
    rules: list[Rule] = []
    for part in text.replace(" ", "").split(","):
        age, _, step = part.partition(":")
        rules.append(Rule(_span(age, text), _span(step, text)))
        if rules[-1].step_ms > rules[-1].age_ms:
            raise BadPolicy(f"{text!r}: {part} keeps one in {step} for only {age}; write AGE:STEP, {FORM}")
        if len(rules) > 1 and rules[-1].age_ms <= rules[-2].age_ms:
            raise BadPolicy(f"{text!r}: ages grow from rule to rule, {FORM}")
    return tuple(rules)


def _span(text: str, whole: str) -> int:
    found = SPAN.fullmatch(text)
    if found is None or not int(found[1]):
        raise BadPolicy(f"{whole!r}: {text!r} is no time with a unit (s, m, h, d, w); write AGE:STEP, {FORM}")
    return int(found[1]) * UNIT_MS[found[2]]


def kept(found: Sequence[Manifest], rules: Sequence[Rule], now_ms: int) -> set[str]:
    """The names of the snapshots that stay: by the rules, and whatever they say the newest verified one of each log.

    What was made in the future, by a clock that was set back since, counts as made now.
    """
    names: set[str] = set()
    buckets: set[tuple[str, int, int]] = set()
    by_age = sorted(found, key=lambda each: (each.created_ms, each.offset), reverse=True)
    for each in by_age:
        age_ms = max(0, now_ms - each.created_ms)
        rule = next((rule for rule in rules if age_ms < rule.age_ms), None)
        if rule is None:
            continue
        bucket = (each.log_id, rule.step_ms, each.created_ms // rule.step_ms)
        if bucket not in buckets:
            buckets.add(bucket)
            names.add(each.name)
    for log_id in {each.log_id for each in found}:
        usable = [each for each in found if each.log_id == log_id and each.verified]
        if usable:
            names.add(max(usable, key=lambda each: (each.offset, each.name)).name)
    return names
