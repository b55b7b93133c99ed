"""The watch over a script that runs: what happens on a clock while nothing else can run.

Lua's hook and every redis.call ask `look` whether the script may go on. From a few milliseconds on it reports progress,
by which a primary renews its lease: a process that hangs, or is stopped, reports none and loses it. Past
`busy-reply-threshold` other clients are answered -BUSY, and may kill the script; past
`script-time-limit` it is stopped.

What others run meanwhile must not meet the transaction in the making: `_answer_others` puts it aside.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from eventdb.engine.client import BUSY

if TYPE_CHECKING:
    from eventdb.engine.engine import Engine

logger: Final = logging.getLogger("eventdb.scripting")

LOOK_S: Final = 0.01  # between two looks
LOAD_S_MAX: Final = 0.5  # for the code of a library
NOTHING: Final[list[bytes]] = []


class Watch:
    """One for each engine. `due` is when to look next: callers compare it themselves, which is cheaper than a call."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.due = 0.0
        self.stopped = False  # by `look`: the hook has to be set anew
        self._loading = False  # the code of a library runs: others are not answered
        self._load_limit_s = 0.0  # 0.0: none but that of scripts
        self._events_before = 0

    def begin(self, name: bytes, argv: list[bytes], of_function: bool) -> None:
        """A script begins."""
        engine = self.engine
        busy = engine.busy
        busy.name = name
        busy.argv = argv
        busy.of_function = of_function
        busy.began = now = time.monotonic()
        self._events_before = len(engine.store.events)
        self.due = now + LOOK_S

    def begin_loading(self, limit_s: float) -> None:
        """The code of a library begins. 0.0: without a limit of its own."""
        self.begin(b"", [], True)
        self._loading = True
        self._load_limit_s = limit_s

    def end(self) -> None:
        self._loading = False
        busy = self.engine.busy
        busy.argv = NOTHING
        if busy.answering:
            busy.answering = False
            busy.wrote = False
            busy.stop_text = ""
            if busy.on_end is not None:
                busy.on_end()

    def look(self) -> bytes | None:
        """The error by which the script ends now, or None. Never raises: it is called from Lua."""
        now = time.monotonic()
        if now < self.due:
            return None
        try:
            return self._look(now)
        except Exception:
            logger.exception("internal error while a script ran")
            self.due = now + LOOK_S
            return None

    def _look(self, now: float) -> bytes | None:
        busy, config = self.engine.busy, self.engine.config
        took = now - busy.began
        if self._loading and 0 < self._load_limit_s < took:
            self.stopped = True
            return b"ERR FUNCTION LOAD timeout"
        limit_ms, answer_ms = config.script_limit_ms, config.busy_reply_ms
        if limit_ms and took * 1000 > limit_ms:
            self.stopped = True
            return b"ERR Script stopped: it ran for longer than script-time-limit, %d ms." % limit_ms
        if busy.on_progress is not None:
            busy.on_progress()
        if busy.on_wait is not None and not self._loading and 0 < answer_ms < took * 1000:
            self._answer_others()
            if busy.stop_text:
                self.stopped = True
                return busy.stop_text.encode()
        self.due = time.monotonic() + LOOK_S
        return None

    def _answer_others(self) -> None:
        """Let the server look at its sockets. The script's transaction, time and messages are put aside meanwhile."""
        engine = self.engine
        store, busy = engine.store, engine.busy
        assert busy.on_wait is not None
        busy.wrote = len(store.events) > self._events_before
        events, event_db, event_size = store.events, store.event_db, store.event_size
        deferred, in_exec, now_ms, clock = engine.deferred[:], store.in_exec, store.now_ms, engine.clock
        store.taken()
        engine.deferred.clear()
        store.in_exec = False
        engine.gates.busy_text = busy.text
        engine.gate |= BUSY
        busy.answering = True
        try:
            busy.on_wait()
        finally:
            engine.gate &= ~BUSY
            changed = store.events
            store.events, store.event_db, store.event_size = events, event_db, event_size
            engine.deferred[:] = deferred
            store.in_exec, store.now_ms, engine.clock = in_exec, now_ms, clock
            assert not changed, "no command that is allowed now changes anything"
