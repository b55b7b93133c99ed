"""The 80-bit floating point of x86 (C `long double`), which Redis counts with in INCRBYFLOAT and HINCRBYFLOAT.

Redis prints such a number with `%.17Lf` and drops the zeros at the end. A Python float has 53 bits of
mantissa where the long double has 64, and shows it (0.1 + 0.2), so numbers are kept here as mantissa × 2^exponent and
rounded to 64 bits, ties to even. Integers do it all; no float is involved.
Source: redis src/util.c string2ld, ld2string; IEEE 754 extended format.
"""

from __future__ import annotations

import re
from typing import Final

from eventdb.protocol.errors import NOT_FLOAT, ReplyError

MANTISSA_BITS: Final = 64
EXPONENT_BITS_MAX: Final = 16384  # numbers below 2^16384
EXPONENT_BITS_MIN: Final = -16446  # numbers up to 2^-16446 round to zero, an error where one is read
DECIMAL_MAX: Final = 5000  # a decimal exponent beyond this is out of range whatever the digits are
EXPONENT_MAX: Final = 60_000
TEXT_BYTES_MAX: Final = 5 * 1024 - 1
DIGITS: Final = 17  # after the point
CHUNK: Final = 4000  # decimal digits; Python refuses to convert more than 4300 at once

_DECIMAL: Final = re.compile(rb"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?")
_HEXADECIMAL: Final = re.compile(rb"([+-]?)0[xX]([0-9a-fA-F]*)(?:\.([0-9a-fA-F]*))?(?:[pP]([+-]?\d+))?")
_INFINITY: Final = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)


class LongDouble:
    """mantissa × 2^exponent, or infinity (of which no sign is needed: every result that holds one is refused)."""

    def __init__(self, mantissa: int, exponent: int, infinite: bool = False) -> None:
        self.mantissa = mantissa
        self.exponent = exponent
        self.infinite = infinite


LARGEST: Final = LongDouble((1 << MANTISSA_BITS) - 1, EXPONENT_BITS_MAX - MANTISSA_BITS)


def parse_long_double(text: bytes, message: str = NOT_FLOAT) -> LongDouble:
    """Read a number as C strtold does; nan, spaces, overflow and underflow are errors."""
    if not 0 < len(text) <= TEXT_BYTES_MAX:
        raise ReplyError(message)
    if _INFINITY.fullmatch(text):
        return LongDouble(0, 0, True)
    base, per_digit, power = 10, 1, 10
    found = _DECIMAL.fullmatch(text)
    if found is None:
        found = _HEXADECIMAL.fullmatch(text)
        base, per_digit, power = 16, 4, 2
    if found is None:
        raise ReplyError(message)
    whole, part = found[2], found[3] or b""
    digits = (whole + part).lstrip(b"0")
    if not digits:
        if not whole and not part:
            raise ReplyError(message)
        return LongDouble(0, 0)
    exponent = _bounded(found[4] or b"0") - len(part) * per_digit
    if base == 10 and abs(exponent + len(digits)) > DECIMAL_MAX:
        raise ReplyError(message)
    number = _integer(digits, base)
    if found[1] == b"-":
        number = -number
    if exponent >= 0:
        value = _rounded(number * power**exponent, 1)
    else:
        value = _rounded(number, power**-exponent)
    if value.infinite or value.mantissa == 0:
        raise ReplyError(message)
    return value


def add(a: LongDouble, b: LongDouble) -> LongDouble:
    if a.infinite or b.infinite:
        return LongDouble(0, 0, True)
    low = min(a.exponent, b.exponent)
    total = (a.mantissa << (a.exponent - low)) + (b.mantissa << (b.exponent - low))
    if low >= 0:
        return _rounded(total << low, 1)
    return _rounded(total, 1 << -low)


def negative(value: LongDouble) -> LongDouble:
    return LongDouble(-value.mantissa, value.exponent, value.infinite)


def below(a: LongDouble, b: LongDouble) -> bool:
    """a < b, of numbers that are not infinite."""
    low = min(a.exponent, b.exponent)
    return a.mantissa << (a.exponent - low) < b.mantissa << (b.exponent - low)


def format_long_double(value: LongDouble) -> bytes:
    """Print with up to 17 digits after the point, as many as are not zero, and never "-0"."""
    magnitude = abs(value.mantissa)
    if value.exponent >= 0:
        text = _decimal(magnitude << value.exponent)
    else:
        scaled = _divided(magnitude * 10**DIGITS, 1 << -value.exponent)
        digits = _decimal(scaled).rjust(DIGITS + 1, b"0")
        part = digits[-DIGITS:].rstrip(b"0")
        text = digits[:-DIGITS] + (b"." + part if part else b"")
    return b"-" + text if value.mantissa < 0 and text != b"0" else text


def _rounded(numerator: int, denominator: int) -> LongDouble:
    """The long double nearest to a ratio; infinity when it is too large, zero when it is too small."""
    if numerator == 0:
        return LongDouble(0, 0)
    magnitude = abs(numerator)
    exponent = magnitude.bit_length() - denominator.bit_length() - MANTISSA_BITS
    if exponent >= 0:
        mantissa = _divided(magnitude, denominator << exponent)
    else:
        mantissa = _divided(magnitude << -exponent, denominator)
    if mantissa.bit_length() > MANTISSA_BITS:  # the quotient had a bit more: divide again, so as to round once
        exponent += 1
        if exponent >= 0:
            mantissa = _divided(magnitude, denominator << exponent)
        else:
            mantissa = _divided(magnitude << -exponent, denominator)
    top = exponent + mantissa.bit_length()
    if top > EXPONENT_BITS_MAX:
        return LongDouble(0, 0, True)
    if top <= EXPONENT_BITS_MIN:
        return LongDouble(0, 0)
    return LongDouble(-mantissa if numerator < 0 else mantissa, exponent)


def _divided(numerator: int, denominator: int) -> int:
    """The integer nearest to a ratio of two positive ones, ties to even."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient & 1):
        quotient += 1
    return quotient


def _bounded(text: bytes) -> int:
    """An exponent; one that no text of this length can balance is cut, so that it never becomes a huge power."""
    digits = text.lstrip(b"+-0") or b"0"
    n = int(digits) if len(digits) < 6 else EXPONENT_MAX
    n = min(n, EXPONENT_MAX)
    return -n if text[:1] == b"-" else n


def _integer(digits: bytes, base: int) -> int:
    if base == 16 or len(digits) <= CHUNK:
        return int(digits, base)
    shift: int = 10 ** (len(digits) - CHUNK)
    return int(digits[:CHUNK]) * shift + int(digits[CHUNK:])


def _decimal(n: int) -> bytes:
    """The digits of a number that is not negative."""
    if n.bit_length() < 3 * CHUNK:
        return b"%d" % n
    high, low = divmod(n, 10**CHUNK)
    return b"%d%b" % (high, (b"%d" % low).rjust(CHUNK, b"0")) if high else b"%d" % low
