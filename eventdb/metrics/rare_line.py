"""A log line about something that a client can repeat at will: it must not fill a disk."""

from __future__ import annotations

import logging
import time
from typing import Final

logger: Final = logging.getLogger("eventdb")


class RareLine:
    """Of one kind: a warning at most every `seconds`, with the number of those that were left out."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._said = 0.0
        self._silent = 0

    def say(self, text: str) -> None:
        now = time.monotonic()
        if self._said and now - self._said < self.seconds:
            self._silent += 1
            return
        more = f" (and {self._silent} others since the last such line)" if self._silent else ""
        logger.warning("%s%s", text, more)
        self._said, self._silent = now, 0
