"""The time that records bear: the machine's wall clock, without its leaps.

Times in a log never go back, because a restore to a time searches them by halves. So one second of a clock that is a
day ahead would give every record of that day the same time, and `--to-time` would leave all of them out. Between two
readings the wall clock is held against the monotonic one: a step is reported at once and believed only when it has
lasted for `SETTLE_S`; until then records go on with the time they had. That bounds what a log bears of wrong times.

A clock earlier than the newest record of its log (after a wrong one was believed, or on another machine) cannot be
followed before it has caught up: the records bear the newest time again, and that is reported too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

logger: Final = logging.getLogger("eventdb")

STEP_S: Final = 2.0  # a smaller difference is drift, or a correction in small steps, and followed
SETTLE_S: Final = 60.0
BEHIND_MS: Final = 2_000  # the newest record may be so far ahead without a word: two machines' clocks


class RecordClock:
    """One for each node. monotonic: seconds that never leap."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._base = time.time()  # what the wall clock showed, or should have, at `_base_at`
        self._base_at = monotonic()
        self._stepped_at = 0.0  # when the step that is not yet believed was first seen; 0: there is none
        self._reported_behind = False

    def now_ms(self, newest_ms: int) -> int:
        """The time of the next record; newest_ms: of the log's newest one."""
        wall, monotonic = time.time(), self._monotonic()
        expected = self._base + monotonic - self._base_at
        step = wall - expected
        if -STEP_S < step < STEP_S:
            self._base, self._base_at = wall, monotonic
            if self._stepped_at:
                self._stepped_at = 0.0
                logger.warning("this machine's clock is back where it was; its step had no effect on records")
        elif not self._stepped_at:
            self._stepped_at = monotonic
            logger.warning(
                "this machine's clock has stepped by %+.1f s: records go on with the time from before, until the new"
                " one has lasted for %.0f s", step, SETTLE_S,
            )  # fmt: skip
            wall = expected
        elif monotonic - self._stepped_at < SETTLE_S:
            wall = expected
        else:
            logger.warning("this machine's clock has been %+.1f s off for %.0f s: records follow it", step, SETTLE_S)
            self._base, self._base_at, self._stepped_at = wall, monotonic, 0.0
        return self._not_before(newest_ms, int(wall * 1000))

    def _not_before(self, newest_ms: int, at_ms: int) -> int:
        behind_ms = newest_ms - at_ms
        if behind_ms <= BEHIND_MS:
            self._reported_behind = False
        elif not self._reported_behind:
            self._reported_behind = True
            logger.warning(
                "this machine's clock is %.1f s behind the newest record of the log: until it has caught up, records"
                " bear that record's time, and a restore of what is written now needs --to-offset", behind_ms / 1000,
            )  # fmt: skip
        return max(at_ms, newest_ms)
