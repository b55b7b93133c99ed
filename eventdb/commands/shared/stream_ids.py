"""Ids of stream entries as commands carry them. Source: redis src/t_stream.c (streamGenericParseIDOrReply), src/util.c.

An id is one integer, ms << 64 | seq, so that ids compare and count as integers do.
"""

from __future__ import annotations

from typing import Final

from eventdb.keyspace.types.stream import ID_MAX, SEQ_MAX
from eventdb.protocol.errors import ReplyError

INVALID_ID: Final = "ERR Invalid stream ID specified as stream command argument"
ID_BYTES_MAX: Final = 127
SPACES: Final = b" \t\n\v\f\r"


def _unsigned(text: bytes) -> int:
    """A 64-bit number as C's strtoull reads it, spaces, signs and leading zeros included; -1: it is none."""
    if text.isdigit():
        n = int(text)
        return n if n <= SEQ_MAX else -1
    rest = text.lstrip(SPACES)
    negative = rest[:1] == b"-"
    digits = rest[1:] if negative or rest[:1] == b"+" else rest
    if not digits.isdigit():
        return -1
    n = int(digits)
    if n > SEQ_MAX:
        return -1
    if not negative:
        return n
    if len(rest) == len(text) and digits[:1] != b"0" and n <= 1 << 63:
        return -1  # a number that Redis reads before it asks strtoull
    return -n & SEQ_MAX


def parse_id(text: bytes, missing: int = 0, ends: bool = False) -> int:
    """`ms-seq`, or `ms` with `missing` as its seq; `ends`: - and + are the lowest and the highest."""
    if len(text) > ID_BYTES_MAX:
        raise ReplyError(INVALID_ID)
    text = text.partition(b"\0")[0]
    if ends:
        if text == b"-":
            return 0
        if text == b"+":
            return ID_MAX
    ms_text, dash, seq_text = text.partition(b"-")
    ms = _unsigned(ms_text)
    seq = _unsigned(seq_text) if dash else missing
    if ms < 0 or seq < 0:
        raise ReplyError(INVALID_ID)
    return ms << 64 | seq


def parse_open_id(text: bytes) -> tuple[int, bool]:
    """An id of XADD, and whether its seq was given: `ms-*` leaves it open."""
    cut = text.partition(b"\0")[0]
    if cut[-2:] == b"-*" and len(text) <= ID_BYTES_MAX:
        ms = _unsigned(cut[:-2])
        if ms >= 0:
            return ms << 64, False
    return parse_id(text), True


def parse_start(text: bytes) -> int:
    """Where a range begins; `(` leaves the id out."""
    if len(text) > 1 and text[0] == 40:
        eid = parse_id(text[1:])
        if eid == ID_MAX:
            raise ReplyError("ERR invalid start ID for the interval")
        return eid + 1
    return parse_id(text, 0, True)


def parse_end(text: bytes) -> int:
    """Where a range ends; `(` leaves the id out."""
    if len(text) > 1 and text[0] == 40:
        eid = parse_id(text[1:], SEQ_MAX)
        if eid == 0:
            raise ReplyError("ERR invalid end ID for the interval")
        return eid - 1
    return parse_id(text, SEQ_MAX, True)
