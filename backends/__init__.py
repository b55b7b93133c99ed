"""backends: where the log lives.

Knows bytes, positions and epochs; nothing of Redis, nothing of replay. `log.py` is the contract,
`record.py` the frame that is the same on every backend, `seal.py` its encryption, `memory.py` the log of one process,
`quorum/` files in several zones. `open_log(url)` finds the backend by the URL's scheme.
"""

from eventdb.backends.log import (
    BadLogURL,
    Corrupt,
    Fenced,
    Indeterminate,
    Log,
    LogError,
    LogInfo,
    Record,
    RecordKind,
    Stretch,
    Trimmed,
    Unavailable,
    Writer,
    WriterStats,
    ZoneInfo,
)
from eventdb.backends.registry import open_log

__all__ = [
    "BadLogURL",
    "Corrupt",
    "Fenced",
    "Indeterminate",
    "Log",
    "LogError",
    "LogInfo",
    "Record",
    "RecordKind",
    "Stretch",
    "Trimmed",
    "Unavailable",
    "Writer",
    "WriterStats",
    "ZoneInfo",
    "open_log",
]
