"""What is known of the snapshots of a node that has a store for them: for LASTSAVE and INFO."""

from __future__ import annotations


class Saves:
    """Of one node; times in seconds."""

    def __init__(self) -> None:
        self.configured = False  # there is a store
        self.in_progress = False
        self.began = 0.0  # monotonic, of the one in progress
        self.last_time = 0  # Unix, when the newest one was verified; 0: there is none, or the store was not looked at
        self.last_offset = 0
        self.last_seconds = -1  # that the last one here took
        self.last_failure = ""  # of the last one here; "": it went well
        self.count = 0  # made here
        # Any moment since then can be restored, in Unix seconds; 0: all of history, -1: not known, or there is no way.
        self.restorable_from = -1
