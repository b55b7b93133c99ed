"""RESP2 and RESP3 replies, and the numbers inside commands: bytes in, bytes out, no socket.

Handlers return replies already encoded, so a reply is typed by the handler and never guessed from its content.
Whatever differs between the protocol versions takes `resp3`, the client's choice by HELLO.
Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ (RESP2, RESP3), redis src/networking.c.
"""

from __future__ import annotations

from typing import Final

INT64_MAX: Final = 2**63 - 1
INT64_MIN: Final = -(2**63)

OK: Final = b"+OK\r\n"
QUEUED: Final = b"+QUEUED\r\n"
PONG: Final = b"+PONG\r\n"
ZERO: Final = b":0\r\n"
ONE: Final = b":1\r\n"
NULL_BULK: Final = b"$-1\r\n"
NULL_ARRAY: Final = b"*-1\r\n"
NULL3: Final = b"_\r\n"
EMPTY_ARRAY: Final = b"*0\r\n"
EMPTY_BULK: Final = b"$0\r\n\r\n"
NO_REPLY: Final = b""  # the handler replies later (blocked) or has replied itself (subscriptions)

SMALL_INTEGERS: Final = [b":%d\r\n" % n for n in range(1024)]
BULK_HEADS: Final = [b"$%d" % n for n in range(1024)]  # of short bulk strings, without the line break


class ReplyError(Exception):
    """An error reply. The text starts with its code: "ERR syntax error". Raise before anything is emitted."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


# Redis's texts that more than one command uses (redis src/server.c, createSharedObjects).
WRONGTYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"
SYNTAX: Final = "ERR syntax error"
NOT_INTEGER: Final = "ERR value is not an integer or out of range"
NOT_FLOAT: Final = "ERR value is not a valid float"
NO_SUCH_KEY: Final = "ERR no such key"
OUT_OF_RANGE: Final = "ERR index out of range"
SAME_OBJECT: Final = "ERR source and destination objects are the same"


def wrong_type() -> ReplyError:
    return ReplyError(WRONGTYPE)


def syntax_error() -> ReplyError:
    return ReplyError(SYNTAX)


def shown(arg: bytes, size_max: int = 1 << 30) -> str:
    """An argument as an error text shows it: up to a NUL byte, as Redis's, whose texts are made of C strings."""
    return arg.partition(b"\0")[0][:size_max].decode("utf-8", "surrogateescape")


def error(text: str) -> bytes:
    """Encode an error reply; a line break inside the text would end it early, so it becomes a space."""
    return b"-%b\r\n" % text.replace("\r", " ").replace("\n", " ").encode("utf-8", "surrogateescape")


def simple(text: bytes) -> bytes:
    return b"+%b\r\n" % text


def integer(n: int) -> bytes:
    if 0 <= n < 1024:
        return SMALL_INTEGERS[n]
    return b":%d\r\n" % n


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def bulk_or_null(value: bytes | None, resp3: bool) -> bytes:
    if value is None:
        return NULL3 if resp3 else NULL_BULK
    return b"$%d\r\n%b\r\n" % (len(value), value)


def null(resp3: bool) -> bytes:
    """Nothing, where a bulk string could have been."""
    return NULL3 if resp3 else NULL_BULK


def null_array(resp3: bool) -> bytes:
    """Nothing, where an array could have been."""
    return NULL3 if resp3 else NULL_ARRAY


def array(items: list[bytes]) -> bytes:
    """An array of replies that are encoded already."""
    return b"*%d\r\n%b" % (len(items), b"".join(items))


def bulks(values: list[bytes]) -> bytes:
    """An array of bulk strings. Heads from a table and one join on the line break: twice as fast as formatting each."""
    parts: list[bytes] = [b"*%d" % len(values)]
    for value in values:
        n = len(value)
        parts.append(BULK_HEADS[n] if n < 1024 else b"$%d" % n)
        parts.append(value)
    parts.append(b"")
    return b"\r\n".join(parts)


def bulk_set(values: list[bytes], resp3: bool) -> bytes:
    """A set of bulk strings; an array in RESP2."""
    encoded = bulks(values)
    return b"~" + encoded[1:] if resp3 else encoded


def mapping(items: list[bytes], resp3: bool) -> bytes:
    """A map from encoded keys and values in turn; a flat array in RESP2."""
    if resp3:
        return b"%%%d\r\n%b" % (len(items) // 2, b"".join(items))
    return array(items)


def push(items: list[bytes], resp3: bool) -> bytes:
    """Out-of-band data, such as a published message; an array in RESP2."""
    head = b">" if resp3 else b"*"
    return b"%b%d\r\n%b" % (head, len(items), b"".join(items))


def double(value: float, resp3: bool) -> bytes:
    """A score: `,1.5` in RESP3, a bulk string in RESP2."""
    text = format_double(value)
    return b",%b\r\n" % text if resp3 else bulk(text)


def verbatim(text: bytes, resp3: bool) -> bytes:
    """Text meant for a person (INFO, CLIENT LIST)."""
    return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text) if resp3 else bulk(text)


def lines(text: str) -> bytes:
    """An array of simple strings, one a line: what HELP subcommands answer."""
    return array([simple(line.encode()) for line in text.strip("\n").split("\n")])


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
    if text[0] <= 32 or text[-1] <= 32 or b"_" in text:
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


def scored(members: list[bytes], scores: dict[bytes, float], resp3: bool) -> bytes:
    """Members with their scores: pairs in RESP3, a flat array in RESP2."""
    if not resp3:
        values: list[bytes] = []
        for member in members:
            values.append(member)
            values.append(format_double(scores[member]))
        return bulks(values)
    parts: list[bytes] = [b"*%d\r\n" % len(members)]
    for member in members:
        parts.append(
            b"*2\r\n$%d\r\n%b\r\n,%b\r\n" % (len(member), member, format_double(scores[member])),
        )
    return b"".join(parts)


INT32_MAX: Final = 2**31 - 1
INT32_MIN: Final = -(2**31)
DB_OUT_OF_RANGE: Final = "ERR DB index is out of range"
