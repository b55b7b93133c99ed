"""Settings: every name that CONFIG GET shows, its default, its bounds, and whether it can be set while running.

Names and texts follow redis src/config.c where Redis has the setting.
"""

from __future__ import annotations

from eventdb.values.value import Limits


class Config:
    """The settings of one node. Hot code reads attributes; CONFIG GET/SET goes by name."""

    def __init__(self) -> None:
        self.limits = Limits()
        self.requirepass = b""
        self.maxclients = 10_000
        self.commit_timeout_ms = 5000
        self.query_buffer_bytes_max = 1 << 30
        self.bulk_bytes_max = 512 << 20
        self.slowlog_usec = 10_000
        self.slowlog_entries_max = 128
