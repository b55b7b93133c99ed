"""RESP2 and RESP3 replies: bytes out, no socket.

Handlers return replies already encoded, so a reply is typed by the handler and never guessed from its content.
Whatever differs between the protocol versions takes `resp3`, the client's choice by HELLO.
Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ (RESP2, RESP3), redis src/networking.c.
"""

from __future__ import annotations

from typing import Final

from eventdb.protocol.numbers import format_double

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
