"""Numbers inside commands and replies, as strictly as Redis reads them and with the digits it prints."""

from __future__ import annotations

from typing import Final

from eventdb.protocol.errors import NOT_FLOAT, NOT_INTEGER, ReplyError, not_between

INT64_MAX: Final = 2**63 - 1
INT64_MIN: Final = -(2**63)


def format_double(value: float) -> bytes:
    """Print a score as Redis 7.0 does, by `%.17g`: 0.1 is 0.10000000000000001, 1e17 is 1e+17, 3.0 is 3.

    Source: redis src/networking.c addReplyDouble.
    """
    if -1e17 < value < 1e17:
        n = int(value)
        if n == value and n != 0:  # the same digits, in less time; zero may have a sign
            return b"%d" % n
    return b"%.17g" % value


def parse_int(text: bytes, message: str = NOT_INTEGER) -> int:
    """Read a signed 64-bit integer as strictly as redis string2ll: no spaces, no plus, no leading zeros."""
    n = len(text)
    if n == 0 or n > 20:
        raise ReplyError(message)
    first = text[0]
    start = 1 if first == 45 else 0
    if start == n:
        raise ReplyError(message)
    for i in range(start, n):
        digit = text[i]
        if digit < 48 or digit > 57:
            raise ReplyError(message)
    if text[start] == 48 and n > 1:  # "-0", "00", "01"; a lone "0" is fine
        raise ReplyError(message)
    value = int(text)
    if value < INT64_MIN or value > INT64_MAX:
        raise ReplyError(message)
    return value


def counted(digits: bytes) -> int:
    """What digits and nothing else say, -1 for anything else: of a client's argument that is looked at before its time.

    Python refuses to read thousands of digits, by an error that nobody expects.
    """
    return int(digits) if len(digits) < 20 and digits.isdigit() else -1


def parse_at_least(text: bytes, low: int, message: str) -> int:
    """An integer that is not below `low`; the message stands for either fault."""
    number = parse_int(text, message)
    if number < low:
        raise ReplyError(message)
    return number


def parse_int32(text: bytes) -> int:
    number = parse_int(text)
    if number < INT32_MIN or number > INT32_MAX:
        raise ReplyError(not_between(INT32_MIN, INT32_MAX))
    return number


def parse_float(text: bytes, message: str = NOT_FLOAT) -> float:
    """Read a double as strictly as redis string2d: no space around it, inf by name, never nan, hexadecimal too.

    What a double cannot hold is refused, be it too large or so small that nothing but zero is left.
    """
    try:
        value = float(text)
    except ValueError:
        return _parse_hex(text, message)
    if value - value != 0.0 or value == 0.0:
        mantissa = text.lower().partition(b"e")[0]
        if mantissa.strip(b"+-0._") != b"" if value == 0.0 else b"inf" not in mantissa:
            raise ReplyError(message)
    if text[0] <= 32 or text[-1] <= 32 or 95 in text:
        raise ReplyError(message)
    return value


def _parse_hex(text: bytes, message: str) -> float:
    digits = text.lower().lstrip(b"+-")
    if digits[:2] != b"0x" or digits[-1] <= 32:
        raise ReplyError(message)
    try:
        value = float.fromhex(text.decode("ascii"))
    except (ValueError, OverflowError):
        raise ReplyError(message) from None
    if value == 0.0 and digits.partition(b"p")[0].strip(b"0x.") != b"":
        raise ReplyError(message)
    return value


INT32_MAX: Final = 2**31 - 1
INT32_MIN: Final = -(2**31)
