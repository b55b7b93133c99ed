"""The hint as its zone's thread writes it; hint.py says what is in it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Final

from eventdb.backends.quorum import hint as hints
from eventdb.backends.quorum.files import FileOps, write_all
from eventdb.backends.quorum.segment_file import SegmentFile
from eventdb.backends.quorum.window import Quorum

logger: Final = logging.getLogger("eventdb.backends.quorum")


class HintFile:
    """Owned by one thread. `published`: the votes that the file states."""

    def __init__(self, ops: FileOps, directory: str, zone: str, monotonic: Callable[[], float]) -> None:
        self.ops = ops
        self.directory = directory
        self.zone = zone
        self.monotonic = monotonic
        self.fd = -1
        self.published = (0, 0)
        self.published_at = 0.0

    def open(self) -> None:
        """Open it anew: the directory may be another one. Raises OSError."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self.ops.close(fd)
        self.fd = self.ops.open(os.path.join(self.directory, hints.NAME), os.O_WRONLY | os.O_CREAT)
        self.published = (0, 0)

    def publish(self, quorum: Quorum, segment: SegmentFile) -> None:
        """State what the quorum has counted by now. An error is only noted: a hint may be old."""
        votes = quorum.votes
        durable_end = quorum.durable_end
        if not durable_end or self.fd < 0:
            return
        byte, position = segment.mark
        stated = hints.encode(
            quorum.epoch, durable_end, segment.first, quorum.epoch, byte, position, list(quorum.synced)
        )
        try:
            write_all(self.ops, self.fd, stated, 0)
        except OSError as error:  # if the disk is in earnest, the next frame will meet it
            logger.debug("%s: hint not written: %s", self.zone, error)
        self.published = votes
        self.published_at = self.monotonic()

    def close(self, *, sync: bool) -> None:
        """Raises OSError."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            try:
                if sync:
                    self.ops.fsync(fd)
            finally:
                self.ops.close(fd)
