"""What a process gives quorum files besides its file systems: a clock, threads, and ways to wait.

Everything here that waits or reads a clock gets it from a `Runtime`, so that a simulation can run the same code on
a clock and a scheduler of its own. The real one only forwards to `time`, `threading` and `queue`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from types import TracebackType
from typing import Final, Protocol


class Thread(Protocol):
    """As `threading.Thread`."""

    def start(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...
    def is_alive(self) -> bool: ...


class Wake(Protocol):
    """As `queue.SimpleQueue`: puts never wait, `get` raises queue.Empty."""

    def put(self, item: None) -> None: ...
    def get(self, block: bool = True, timeout: float | None = None) -> None: ...


class Flag(Protocol):
    """As `threading.Event`."""

    def set(self) -> None: ...
    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class Changed(Protocol):
    """As `threading.Condition`."""

    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def notify_all(self) -> None: ...


class Runtime:
    """One process. Seconds everywhere; `monotonic` never goes back."""

    def __init__(self) -> None:
        self.monotonic: Callable[[], float] = time.monotonic
        self.sleep: Callable[[float], None] = time.sleep

    def thread(self, run: Callable[[], None], name: str) -> Thread:
        """A daemon thread, not yet started."""
        return threading.Thread(target=run, name=name, daemon=True)

    def wake(self) -> Wake:
        return queue.SimpleQueue()

    def flag(self) -> Flag:
        return threading.Event()

    def changed(self) -> Changed:
        return threading.Condition()

    def executor(self, name: str) -> Executor:
        """One thread that runs what is submitted, in order."""
        return ThreadPoolExecutor(1, name)


PROCESS: Final = Runtime()  # the one we run in
