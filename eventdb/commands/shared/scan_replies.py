"""What HSCAN, SSCAN and ZSCAN share: cursor, options and the shape of the reply. Source: redis src/db.c."""

from __future__ import annotations

import re
from typing import Final

from eventdb.protocol.errors import SYNTAX, ReplyError
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import bulks

INVALID_CURSOR: Final = "ERR invalid cursor"
COUNT_DEFAULT: Final = 10
_UNSIGNED: Final = re.compile(rb"([+-]?)([0-9]+)")


def parse_cursor(text: bytes) -> int:
    """Read a cursor as C's strtoul does: nothing is 0, it ends at a zero byte, and a minus counts down from 2^64."""
    if text == b"0":
        return 0
    end = text.find(b"\0")
    if end >= 0:
        text = text[:end]
    if not text:
        return 0
    found = _UNSIGNED.fullmatch(text)
    if found is None:
        raise ReplyError(INVALID_CURSOR)
    digits = found[2].lstrip(b"0")
    value = int(digits or b"0") if len(digits) <= 20 else 1 << 64
    if value >= 1 << 64:
        raise ReplyError(INVALID_CURSOR)
    return (1 << 64) - value if found[1] == b"-" and value else value


def scan_options(argv: list[bytes]) -> tuple[int, bytes | None]:
    """COUNT and MATCH from argv[3] on; no pattern when everything matches."""
    count = COUNT_DEFAULT
    pattern: bytes | None = None
    n = len(argv)
    i = 3
    while i < n:
        option = argv[i].upper()
        if i + 1 == n:
            raise ReplyError(SYNTAX)
        if option == b"COUNT":
            count = parse_int(argv[i + 1])
            if count < 1:
                raise ReplyError(SYNTAX)
        elif option == b"MATCH":
            pattern = argv[i + 1]
        else:
            raise ReplyError(SYNTAX)
        i += 2
    return count, None if pattern == b"*" else pattern


def scan_reply(cursor: int, items: list[bytes]) -> bytes:
    digits = b"%d" % cursor
    return b"*2\r\n$%d\r\n%b\r\n%b" % (len(digits), digits, bulks(items))
