"""Requests: bytes in, commands out. Sans-IO.

A chunk that holds whole, plain RESP arrays (nearly every one) goes through hiredis. Whatever else arrives takes
the strict parser below, which has Redis's limits and Redis's error texts: a command cut at the chunk's end, inline
commands, lengths that only an attacker sends, and everything before authentication.
Source: redis src/networking.c processInlineBuffer, processMultibulkBuffer; sdssplitargs in src/sds.c.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

import hiredis

LINE_BYTES_MAX: Final = 64 * 1024  # PROTO_INLINE_MAX_SIZE: an inline command, or a length line
ARGUMENTS_MAX: Final = (1 << 31) - 1
ARGUMENTS_MAX_UNAUTHENTICATED: Final = 10
ARGUMENT_BYTES: Final = 48  # that an argument takes beside its own, with its place in the list
BULK_BYTES_MAX: Final = 512 << 20
BULK_BYTES_MAX_UNAUTHENTICATED: Final = 16384

# hiredis would allocate an array of any announced length; only these go through the strict parser first. So it would a
# push, set, map or attribute, which no request has. One pattern for all five would be seven times as slow.
# Here and elsewhere a byte is looked for by its number: Python tries to take what it looks for as a number first, and
# for `b">"` raises an exception, which it drops; for each a third of a microsecond.
HUGE_ARRAY: Final = re.compile(rb"\*[0-9]{7}")
HUGE_OTHERS: Final = [(mark, re.compile(re.escape(mark) + rb"[0-9]{7}")) for mark in (b">", b"~", b"%", b"|")]

# Fed to hiredis after a chunk: it comes out last, as itself, when the chunk ended with a whole request. No client can
# know the number, so it is never one of theirs.
END: Final = secrets.randbits(62)
ENCODED_END: Final = b":%d\r\n" % END
NOTHING: Final[list[list[bytes]]] = []  # never changed

_ESCAPES: Final[dict[int, int]] = {110: 10, 114: 13, 116: 9, 98: 8, 97: 7}  # n r t b a
_HEX: Final = b"0123456789abcdefABCDEF"


class ProtocolError(Exception):
    """The stream cannot be read on; the client is told and closed. Commands before it were parsed."""


class SharedReader:
    """The hiredis reader of all connections of one loop.

    What a connection has not parsed yet lies in its own parser, so between two chunks a reader is empty. One buffer for
    all stays in the processor's cache, where five hundred would not.
    """

    def __init__(self) -> None:
        self.reader = hiredis.Reader()
        self.bulk_bytes_max = BULK_BYTES_MAX


class RequestParser:
    """One connection's parser: `feed` returns the commands that are complete; `failure` ends the stream."""

    def __init__(self, shared: SharedReader) -> None:
        self.shared = shared
        self.authenticated = True
        self.failure = ""  # text of the protocol error, once there was one
        self.commands = NOTHING  # of the chunk that is being parsed
        self.once = False  # stop after one command, and leave what comes then in `after`
        self.after = b""
        # the unfinished command
        self.rest = b""  # unread bytes, from the next line or bulk on
        self.parts: list[bytes] = []  # further chunks of a bulk that is known to be incomplete
        self.missing = 0  # how many bytes that bulk still lacks
        self.args: list[bytes] = []
        self.args_bytes = 0  # in `args`
        self.args_left = 0
        self.bulk_size = -1  # announced size of the argument being read

    def buffered(self) -> int:
        """Bytes held for an unfinished command, with what its arguments cost beside their own bytes."""
        parts = sum([len(part) for part in self.parts])
        return len(self.rest) + parts + self.args_bytes + len(self.args) * ARGUMENT_BYTES

    def idle(self) -> bool:
        """What comes next is the beginning of a command."""
        return not self.args_left and not self.rest and not self.failure

    def feed_end(self, data: bytes) -> tuple[list[list[bytes]], bytes]:
        """Take a chunk only to the end of the command that the last one left unfinished; the rest is returned."""
        self.once = True
        try:
            found = self.feed(data)
        finally:
            self.once = False
        after, self.after = self.after, b""
        return found, after

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Take a chunk; return the commands now complete (maybe none). Check `failure` afterwards.

        After a failure nothing is read any more.

        Before authentication that is one command at most, because it may be the AUTH after which more is allowed: run
        it, set `authenticated`, and feed nothing (b"") for the next.
        """
        if self.failure:
            return NOTHING
        if self.missing > 0:
            self.parts.append(data)
            self.missing -= len(data)
            if self.missing > 0:
                return NOTHING
            data = b"".join(self.parts)
            self.parts = []
            self.missing = 0
        elif self.rest:
            data = self.rest + data
            self.rest = b""
        found: list[list[bytes]] = []
        self.commands = found
        try:
            self._parse(data)
        except ProtocolError as failure:
            self.failure = str(failure)
        self.commands = NOTHING  # the caller lets go of them: freed at once, their memory is used again while warm
        return found

    def _parse(self, data: bytes) -> None:
        """Finish what the last chunk left, then let hiredis have the rest, then look at what it leaves."""
        pos = self._strict(data, 0, True) if self.args_left or self.once else 0
        if self.once and self.commands:
            self.after = data[pos:]
            return
        if self.missing or pos == len(data):
            return
        if not self.args_left and self._plain(data, pos):
            pos += self._fast(data[pos:] if pos else data)
        if pos < len(data):
            pos = self._strict(data, pos, not self.authenticated)
            if self.missing == 0:
                self.rest = data[pos:]

    def _plain(self, data: bytes, pos: int) -> bool:
        return (
            self.authenticated
            and data[pos] == 42
            and len(data) <= self.shared.bulk_bytes_max
            and HUGE_ARRAY.search(data, pos) is None
            and not ((62 in data or 126 in data or 37 in data or 124 in data) and _announces_much(data))
        )

    def _fast(self, data: bytes) -> int:
        """Parse by hiredis; return the index of the first thing that it could not finish.

        A lone request leaves hiredis with an empty buffer. Of several it does not say whether it stands between two of
        them, so END is fed after the data. hiredis also gives bytes for simple strings, verbatim strings and big
        numbers, which no request may have, and a list for a set, which is a line of its own here. They are shorter on
        the wire than a bulk string, or begin a line with "=" (verbatim strings) or "~" (sets): where the sizes do not
        add up, or there is such a line, what it found is walked through once more.
        """
        reader = self.shared.reader
        found: list[list[bytes]] = []
        whole = False
        size = 0  # of what was found, were it all bulk strings
        reader.feed(data)
        gets = reader.gets
        try:
            request = gets()
            if request is False or reader.has_data():
                reader.feed(ENCODED_END)
                if request is False:
                    request = gets()
            while request is not False:
                if type(request) is not list:
                    whole = type(request) is int and request == END
                    break
                taken = size_of(request)
                if taken < 0:
                    break
                found.append(request)
                size += taken
                if size == len(data) and not reader.has_data():
                    whole = True
                    break
                request = gets()
        except (hiredis.ProtocolError, TypeError):  # a type error: of a map whose key is a map or an array
            pass
        except BaseException:  # out of memory: what it holds now must not reach the next connection
            self.shared.reader = hiredis.Reader()
            raise
        if not whole:
            self.shared.reader = hiredis.Reader()
        end = len(data)
        if not whole or size != end or (61 in data and b"\n=" in data) or (126 in data and b"\n~" in data):
            count, end = skip_commands(data, len(found))
            del found[count:]
        for request in found:
            if request:  # "*0" is legal and means nothing
                self.commands.append(request)
        return end

    def _strict(self, data: bytes, pos: int, once: bool) -> int:
        """Parse with every limit checked, up to an unfinished command or (`once`) the first finished one."""
        size = len(data)
        while pos < size:
            if self.args_left:
                moved = self._argument(data, pos)
            elif once and self.commands:
                break
            elif data[pos] == 42:
                moved = self._array_header(data, pos)
            else:
                moved = self._inline(data, pos)
            if moved < 0:
                break
            pos = moved
        return pos

    def _line_end(self, data: bytes, pos: int, end: bytes, what: str) -> int:
        """Where the line ends that begins at `pos`, or -1 while that is not known.

        As in Redis, whose search is for C strings, a line with a NUL byte never ends. It does not matter for the limit
        whether the end has come already: a line is too long in one piece when it is in several.
        """
        found = data.find(end, pos)
        stop = len(data) if found < 0 else found
        if data.find(b"\0", pos, stop) >= 0:
            found, stop = -1, len(data)
        if stop - pos > LINE_BYTES_MAX:
            raise ProtocolError(f"too big {what}")
        return found

    def _array_header(self, data: bytes, pos: int) -> int:
        line_end = self._line_end(data, pos, b"\r", "mbulk count string")
        if line_end < 0 or line_end + 2 > len(data):  # whatever follows the \r is taken for the \n, as in Redis
            return -1
        count = length_of(data[pos + 1 : line_end])
        if count is None or count > ARGUMENTS_MAX:
            raise ProtocolError("invalid multibulk length")
        if count > ARGUMENTS_MAX_UNAUTHENTICATED and not self.authenticated:
            raise ProtocolError("unauthenticated multibulk length")
        if count > 0:
            self.args_left = count
            self.args = []
            self.args_bytes = 0
        return line_end + 2

    def _argument(self, data: bytes, pos: int) -> int:
        if self.bulk_size < 0:
            line_end = self._line_end(data, pos, b"\r", "bulk count string")
            if line_end < 0 or line_end + 2 > len(data):
                return -1
            if data[pos] != 36:
                raise ProtocolError(
                    "expected '$', got '" + data[pos : pos + 1].decode("utf-8", "surrogateescape") + "'"
                )
            size = length_of(data[pos + 1 : line_end])
            if size is None or size < 0 or size > self.shared.bulk_bytes_max:
                raise ProtocolError("invalid bulk length")
            if size > BULK_BYTES_MAX_UNAUTHENTICATED and not self.authenticated:
                raise ProtocolError("unauthenticated bulk length")
            self.bulk_size = size
            return line_end + 2
        end = pos + self.bulk_size + 2
        if end > len(data):
            self.parts = [data[pos:]]
            self.missing = end - len(data)
            self.rest = b""
            return -1
        self.args.append(data[pos : end - 2])
        self.args_bytes += self.bulk_size
        self.bulk_size = -1
        self.args_left -= 1
        if self.args_left == 0:
            self.commands.append(self.args)
            self.args = []
            self.args_bytes = 0
        return end

    def _inline(self, data: bytes, pos: int) -> int:
        line_end = self._line_end(data, pos, b"\n", "inline request")
        if line_end < 0:
            return -1
        line = data[pos:line_end]
        if line.endswith(b"\r"):
            line = line[:-1]
        args = split_arguments(line)
        if args is None:
            raise ProtocolError("unbalanced quotes in request")
        if args:
            self.commands.append(args)
        return line_end + 1


def size_of(request: list[object]) -> int:
    """Bytes that an array of these bulk strings takes on the wire; -1 when one of them is none."""
    size = 3 + _digits(len(request))
    for arg in request:
        if type(arg) is not bytes:
            return -1
        length = len(arg)
        size += 5 + length + _digits(length)
    return size


def _digits(number: int) -> int:
    if number < 10:
        return 1
    if number < 100:
        return 2
    return 3 if number < 1000 else len(str(number))


def _announces_much(data: bytes) -> bool:
    return any(mark in data and pattern.search(data) is not None for mark, pattern in HUGE_OTHERS)


def length_of(text: bytes) -> int | None:
    """A length line's number, or None when it is none: a sign or a zero too many is no number (redis string2ll)."""
    n = len(text)
    if n == 0 or n > 20:
        return None
    digits = text[1:] if text[0] == 45 else text
    if not digits.isdigit() or (digits[0] == 48 and n > 1):
        return None
    return int(text)


def skip_commands(data: bytes, count: int) -> tuple[int, int]:
    """How many of `count` arrays are whole in the data and of bulk strings only, and where the last of them ends.

    hiredis has read them, so the lengths are numbers; what it took for bytes need not have been a bulk string.
    """
    end = 0
    size = len(data)
    for done in range(count):
        pos = end
        line_end = data.find(b"\r\n", pos)
        if line_end < 0 or data[pos] != 42:
            return done, end
        args = int(data[pos + 1 : line_end])
        pos = line_end + 2
        for _ in range(args):
            line_end = data.find(b"\r\n", pos)
            if line_end < 0 or data[pos] != 36:
                return done, end
            pos = line_end + 4 + int(data[pos + 1 : line_end])
        if pos > size:
            return done, end
        end = pos
    return count, end


def split_arguments(line: bytes) -> list[bytes] | None:
    """Split an inline command as sdssplitargs does; None when quotes are unbalanced."""
    args: list[bytes] = []
    i, n = 0, len(line)
    while True:
        while i < n and line[i] in b" \t\n\r\v\f\0":
            i += 1
        if i >= n:
            return args
        current = bytearray()
        quote = 0
        while True:
            if i >= n:
                if quote:
                    return None
                break
            c = line[i]
            if quote == 34 and c == 92 and i + 1 < n:
                i = _escape(line, i + 1, current)
            elif quote == 39 and c == 92 and i + 1 < n and line[i + 1] == 39:
                current.append(39)
                i += 1
            elif quote and c == quote:
                if i + 1 < n and line[i + 1] not in b" \t\n\r\v\f\0":
                    return None
                quote = 0
                i += 1
                break
            elif not quote and c in b" \t\n\r\0":
                break
            elif not quote and c in b"\"'":
                quote = c
            else:
                current.append(c)
            i += 1
        args.append(bytes(current))


def _escape(line: bytes, i: int, into: bytearray) -> int:
    """Decode the escape whose letter stands at index i; return the index of its last byte."""
    c = line[i]
    if c == 120 and i + 2 < len(line) and line[i + 1] in _HEX and line[i + 2] in _HEX:
        into.append(int(line[i + 1 : i + 3], 16))
        return i + 2
    into.append(_ESCAPES.get(c, c))
    return i
