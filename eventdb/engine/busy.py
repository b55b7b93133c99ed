"""Busy: what goes on while one script keeps the loop for long. Plain data and hooks; scripting/watch.py acts on them.

While a script runs nothing else does, so what has to happen meanwhile is called from inside it: the node renews its
lease (`on_progress`), and past `busy-reply-threshold` the server answers other clients (`on_wait`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

BUSY_SCRIPT: Final = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
BUSY_FUNCTION: Final = "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
NOT_BUSY: Final = "NOTBUSY No scripts in execution right now."
UNKILLABLE: Final = (
    "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script"
    " termination or kill the server in a hard way using the SHUTDOWN NOSAVE command."
)
KILLED: Final = "ERR Script killed by user with SCRIPT KILL..."

SHUT_DOWN: Final = "ERR Script stopped: the server shuts down"


class Busy:
    """One for each engine."""

    def __init__(self) -> None:
        self.on_progress: Callable[[], None] | None = None  # a script has got on; called every few milliseconds
        self.on_wait: Callable[[], None] | None = None  # others wait: answer them
        self.on_end: Callable[[], None] | None = None  # the script that they waited for has ended
        self.on_abort: Callable[[], None] | None = None  # end the process, as it is
        self.answering = False  # others are being answered: `on_wait` has been called at least once
        self.of_function = False  # what runs: an FCALL, else an EVAL
        self.name = b""  # of the function, or the script's SHA-1
        self.argv: list[bytes] = []  # the command that runs it
        self.began = 0.0  # time.monotonic()
        self.wrote = False  # so it cannot be killed: what it did is applied
        self.stop_text = ""  # end it with this error

    @property
    def text(self) -> str:
        """What others are told."""
        return BUSY_FUNCTION if self.of_function else BUSY_SCRIPT
