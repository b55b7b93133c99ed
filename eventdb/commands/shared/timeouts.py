"""How long a command may wait, as its argument says: seconds with a fraction, or milliseconds; 0 is for ever."""

from __future__ import annotations

from typing import Final

from eventdb.protocol.errors import TIMEOUT_NEGATIVE, TIMEOUT_NOT_INTEGER, TIMEOUT_OUT_OF_RANGE, ReplyError
from eventdb.protocol.longdouble import parse_long_double
from eventdb.protocol.numbers import INT64_MAX, parse_float, parse_int

NOT_A_TIMEOUT: Final = "ERR timeout is not a float or out of range"


def parse_seconds(text: bytes) -> int:
    """Seconds with a fraction, as ms; 0 waits for ever. Less than 1 ms is 1 ms, as in Redis 7.2: 7.0 waits for ever."""
    try:
        seconds = parse_float(text, NOT_A_TIMEOUT)
    except ReplyError:  # Redis reads a long double, which holds more
        if parse_long_double(text, NOT_A_TIMEOUT).exponent < 0:
            return 1
        raise ReplyError(TIMEOUT_NEGATIVE) from None
    scaled = seconds * 1000.0
    if scaled <= -1.0 or scaled >= INT64_MAX:  # a C long long overflows to a negative number
        raise ReplyError(TIMEOUT_NEGATIVE)
    if 0.0 < scaled < 1.0:
        return 1
    return int(scaled)


def parse_milliseconds(text: bytes, now_ms: int = 0) -> int:
    """A whole number of ms that does not end, counted from now_ms, after the last moment that a clock can show."""
    n = parse_int(text, TIMEOUT_NOT_INTEGER)
    if n < 0:
        raise ReplyError(TIMEOUT_NEGATIVE)
    if n > INT64_MAX - now_ms:
        raise ReplyError(TIMEOUT_OUT_OF_RANGE)
    return n
