"""How far history is durable, as far as this process knows: a writer in this process informs its readers at once."""

from __future__ import annotations

import threading
import weakref
from typing import Final

from eventdb.backends.quorum.runtime import PROCESS, Runtime


class Horizon:
    """Shared by all Log objects of one process on the same zones, whatever loops and threads they live in."""

    def __init__(self, runtime: Runtime = PROCESS) -> None:
        self.epoch = 0  # of the latest writer in this process
        self.durable_end = 0
        self._changed = runtime.changed()
        self._waiting = 0

    def advance(self, epoch: int, durable_end: int) -> None:
        with self._changed:
            if durable_end > self.durable_end:
                self.epoch = max(self.epoch, epoch)
                self.durable_end = durable_end
            if self._waiting:
                self._changed.notify_all()

    def look(self) -> None:
        """Let the readers here that wait look at the files now."""
        with self._changed:
            if self._waiting:
                self._changed.notify_all()

    def leave(self, epoch: int) -> None:
        """That writer has ended: from here on the files speak for themselves."""
        with self._changed:
            if self.epoch == epoch:
                self.epoch = 0
                self.durable_end = 0
            self._changed.notify_all()

    def wait(self, known: int, timeout_s: float) -> None:
        """Sleep until more than `known` is durable, or the time is over."""
        with self._changed:
            if self.durable_end > known:
                return
            self._waiting += 1
            try:
                self._changed.wait(timeout_s)
            finally:
                self._waiting -= 1


_OfProcess = weakref.WeakValueDictionary[tuple[str, ...], Horizon]
_shared: Final[weakref.WeakKeyDictionary[Runtime, _OfProcess]] = weakref.WeakKeyDictionary()
_lock: Final = threading.Lock()


def horizon_of(directories: tuple[str, ...], runtime: Runtime = PROCESS) -> Horizon:
    with _lock:
        shared = _shared.setdefault(runtime, weakref.WeakValueDictionary())
        horizon = shared.get(directories)
        if horizon is None:
            horizon = shared[directories] = Horizon(runtime)
        return horizon
