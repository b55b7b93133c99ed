"""The job that test_rq.py has run: it notes in a file that it began and that it ended."""

from __future__ import annotations

import os
import threading
import time


def note(path: str, *words: object) -> None:
    """Append a line in one write, so that no two processes mix theirs and a killed one leaves a whole line or none."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(handle)


def work(path: str, job: int, seconds: float) -> None:
    """Takes `seconds`. The parent of a work horse is the worker that was started; a SimpleWorker has none."""
    note(path, "begin", job, time.time(), os.getpid(), os.getppid())
    threading.Event().wait(seconds)
    note(path, "end", job, time.time(), os.getpid(), os.getppid())
