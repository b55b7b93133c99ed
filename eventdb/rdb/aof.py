"""Redis's commands as a file (AOF) or a replication stream holds them: arrays of bulk strings, one after the other.

Unlike protocol/requests.py it knows at which byte each command ends, which a migration goes on from and an error names.
Source: redis src/aof.c loadSingleAppendOnlyFile.
"""

from __future__ import annotations

from typing import Final

from eventdb.rdb.codes import BadRdb

HEAD_BYTES_MAX: Final = 32  # of a line with a count or a length
NOTE_BYTES_MAX: Final = 1024  # of a line that begins with #
COUNT_MAX: Final = 1 << 31
STAMP: Final = b"TS:"
STAR: Final = 0x2A
HASH: Final = 0x23
NEWLINES: Final = b"\r\n"


class CommandReader:
    """`feed` it bytes and take commands until there is none; what is not whole waits for more."""

    def __init__(self, begins_at: int = 0) -> None:
        self.data = b""
        self.at = 0
        self.before = begins_at  # position of data[0]
        self.whole_at = begins_at  # where the last whole command, or note, ended
        self.time_ms = 0  # of the last #TS: note; 0: there was none
        self._args: list[bytes] = []  # of the command in the making
        self._left = 0  # arguments that are not yet there; 0: between two commands
        self._parts: list[bytes] = []  # fed and not yet joined to `data`
        self._have = 0  # bytes in `data` from `at` on, and in `_parts`
        self._need = 0  # nothing can be made of less
        self._number = 0  # what `_line` has read

    def feed(self, data: bytes) -> None:
        self._parts.append(data)
        self._have += len(data)

    def _join(self) -> None:
        self.before += self.at
        self._parts.insert(0, self.data[self.at :])
        self.data = b"".join(self._parts)
        self._parts = []
        self.at = 0

    def is_between(self) -> bool:
        """Everything that was fed has been taken."""
        return self._left == 0 and self._have == 0

    def next(self) -> list[bytes] | None:
        """The next command; None: feed more. Raises BadRdb, which names the byte."""
        if self._have < self._need:
            return None
        if self._parts:
            self._join()
        self._need = 0
        data = self.data
        while True:
            if self._left == 0:
                if not self._begin(data):
                    return None
            start = self._line(data, 0x24, "the length of an argument")
            if start < 0:
                return None
            size = self._number
            end = start + size
            if end + 2 > len(data):
                self._need = end + 2 - self.at
                return None
            if data[end : end + 2] != NEWLINES:
                raise BadRdb(f"an argument of {size} bytes does not end at byte {self.before + end}")
            self._args.append(data[start:end])
            self._advance(end + 2)
            self._left -= 1
            if self._left == 0:
                found = self._args
                self._args = []
                self.whole_at = self.before + self.at
                return found

    def _begin(self, data: bytes) -> bool:
        """Read up to where the arguments of a command begin; False: it is not there yet."""
        while self.at < len(data):
            first = data[self.at]
            if first == STAR:
                start = self._line(data, STAR, "a command")
                if start < 0:
                    return False
                if self._number < 1:
                    raise BadRdb(f"a command without a name at byte {self.before + self.at}")
                self._left = self._number
                self._advance(start)
                return True
            if first in NEWLINES:  # what a server sends to keep a connection alive
                self._advance(self.at + 1)
            elif first == HASH:
                if not self._note(data):
                    return False
                self.whole_at = self.before + self.at
            else:
                raise BadRdb(f"byte {self.before + self.at} begins no command: {data[self.at : self.at + 16]!r}")
        return False

    def _note(self, data: bytes) -> bool:
        end = data.find(b"\n", self.at, self.at + NOTE_BYTES_MAX)
        if end < 0:
            if len(data) - self.at >= NOTE_BYTES_MAX:
                raise BadRdb(f"a note of more than {NOTE_BYTES_MAX} bytes at byte {self.before + self.at}")
            return False
        text = data[self.at + 1 : end].strip()
        if text.startswith(STAMP) and text[3:].isdigit() and len(text) <= HEAD_BYTES_MAX:
            self.time_ms = 1000 * int(text[3:])
        self._advance(end + 1)
        return True

    def _line(self, data: bytes, first: int, what: str) -> int:
        """Read `*N` or `$N` into `_number`; returns where the next line begins, -1 when this one is not whole."""
        at = self.at
        end = data.find(NEWLINES, at, at + HEAD_BYTES_MAX)
        if at < len(data) and data[at] != first:
            raise BadRdb(f"{what} should begin at byte {self.before + at}, where {data[at : at + 16]!r} stands")
        if end < 0:
            if len(data) - at >= HEAD_BYTES_MAX:
                raise BadRdb(f"{what} at byte {self.before + at} is no number: {data[at : at + 16]!r}")
            return -1
        digits = data[at + 1 : end]
        if not digits.isdigit():
            raise BadRdb(f"{what} at byte {self.before + at} is no number: {digits!r}")
        self._number = int(digits)
        if self._number >= COUNT_MAX:
            raise BadRdb(f"{what} at byte {self.before + at} is too large: {self._number}")
        return end + 2

    def _advance(self, to: int) -> None:
        self._have -= to - self.at
        self.at = to
