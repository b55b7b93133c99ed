"""A transport for a connection without a network: it keeps what is written and notes what is asked of it."""

from __future__ import annotations

import asyncio


class Ends(asyncio.Transport):
    """A transport that only notes what a connection wants of it."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.reads = True
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.data += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True
