"""A reply in RESP3 as the same command writes it in RESP2.

Most types have one form in RESP2. Three have several, and the command decides: a null may be a null array, a map may be
an array of pairs, and members with their scores may be one flat array. A test holds every command to it.
"""

from __future__ import annotations

from typing import Final

from eventdb.protocol.replies import NULL_ARRAY, NULL_BULK

# A null of theirs is a null array, at any depth.
_NULL_ARRAYS: Final = frozenset(
    (
        "blmpop", "blpop", "brpop", "bzmpop", "bzpopmax", "bzpopmin", "exec", "geopos", "lmpop", "xread", "xreadgroup",
        "zmpop", "xrange", "xrevrange",
    )
)  # fmt: skip
_COUNTED: Final = frozenset(("lpop", "rpop"))  # with a count, nothing is a null array
_PAIRED_MAPS: Final = frozenset(("xread", "xreadgroup"))  # a map is an array of pairs
_FLAT_PAIRS: Final = frozenset(  # pairs inside the outermost array stand in it one after the other
    (
        "hrandfield", "zdiff", "zinter", "zpopmax", "zpopmin", "zrandmember", "zrange", "zrangebyscore", "zrevrange",
        "zrevrangebyscore", "zunion",
    )
)  # fmt: skip


class _Reading:
    """Goes through one reply."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.null = NULL_BULK
        self.paired = False
        self.parts: list[bytes] = []

    def head(self) -> bytes:
        end = self.data.index(b"\r\n", self.at) + 2
        line = self.data[self.at : end]
        self.at = end
        return line

    def value(self) -> None:
        line = self.head()
        mark = line[:1]
        parts = self.parts
        if mark == b"$":
            parts.append(line)
            if line != NULL_BULK:
                end = self.at + int(line[1:]) + 2
                parts.append(self.data[self.at : end])
                self.at = end
        elif mark == b"=":
            end = self.at + int(line[1:]) + 2
            text = self.data[self.at + 4 : end]
            parts.append(b"$%d\r\n%b" % (len(text) - 2, text))
            self.at = end
        elif mark in (b"*", b"~", b">"):
            parts.append(b"*" + line[1:])
            for _ in range(int(line[1:])):
                self.value()
        elif mark == b"%":
            self.pairs(int(line[1:]))
        elif mark in (b",", b"("):
            parts.append(b"$%d\r\n%b" % (len(line) - 3, line[1:]))
        elif mark == b"#":
            parts.append(b":1\r\n" if line == b"#t\r\n" else b":0\r\n")
        elif mark == b"_":
            parts.append(self.null)
        else:
            parts.append(line)

    def pairs(self, count: int) -> None:
        self.parts.append(b"*%d\r\n" % (count if self.paired else 2 * count))
        for _ in range(count):
            if self.paired:
                self.parts.append(b"*2\r\n")
            self.value()
            self.value()


def as_resp2(reply: bytes, name: str, argc: int, inside: list[tuple[str, int]]) -> bytes:
    """The reply of command `name` with `argc` arguments, its name counted; inside: those that an EXEC has run."""
    mark = reply[:1]
    if mark in (b"+", b"-", b":") or (mark == b"$" and reply != NULL_BULK):
        return reply
    if name == "exec" and mark == b"*":
        return _as_exec(reply, inside)
    reading = _reading(reply, name, argc)
    _outermost(reading, name)
    return b"".join(reading.parts)


def _as_exec(reply: bytes, inside: list[tuple[str, int]]) -> bytes:
    reading = _Reading(reply)
    parts = [reading.head()]
    for name, argc in inside:
        one = _reading(reply, name, argc)
        one.at = reading.at
        _outermost(one, name)
        reading.at = one.at
        parts += one.parts
    return b"".join(parts)


def _reading(reply: bytes, name: str, argc: int) -> _Reading:
    found = _Reading(reply)
    if name in _NULL_ARRAYS or (name in _COUNTED and argc > 2):
        found.null = NULL_ARRAY
    found.paired = name in _PAIRED_MAPS
    return found


def _outermost(reading: _Reading, name: str) -> None:
    data, at = reading.data, reading.at
    if name not in _FLAT_PAIRS or data[at : at + 1] != b"*":
        reading.value()
        return
    count = int(reading.head()[1:])
    if data[reading.at : reading.at + 1] != b"*":
        reading.parts.append(b"*%d\r\n" % count)
        for _ in range(count):
            reading.value()
        return
    reading.parts.append(b"*%d\r\n" % (2 * count))
    for _ in range(count):
        reading.head()  # of the pair
        reading.value()
        reading.value()
