"""Bits of strings. Source: redis src/bitops.c, src/commands/*.json (group bitmap); DIFF, ANDOR and ONE: Redis 8.2."""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.lookups import string_to_read, string_to_write
from eventdb.commands.shared.string_changes import longest, put
from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.keyspace.types.bitmap import Field, combine, count_bits, find_bit
from eventdb.protocol.errors import ReplyError, syntax_error
from eventdb.protocol.numbers import INT64_MAX, parse_int
from eventdb.protocol.replies import EMPTY_ARRAY, ONE, ZERO, array, integer, null

BAD_OFFSET: Final = "ERR bit offset is not an integer or out of range"
BAD_BIT: Final = "ERR bit is not an integer or out of range"
BAD_TYPE: Final = "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
OPERATIONS: Final = frozenset((b"AND", b"OR", b"XOR", b"NOT", b"DIFF", b"DIFF1", b"ANDOR", b"ONE"))
OF_TWO: Final = frozenset((b"DIFF", b"DIFF1", b"ANDOR"))


def parse_offset(client: Client, text: bytes, bits: int = 0) -> int:
    """The number of a bit. With `bits`, `#n` means the n-th field of that width. Raises ReplyError."""
    if bits and text[:1] == b"#":
        offset = parse_int(text[1:], BAD_OFFSET) * bits
    else:
        offset = parse_int(text, BAD_OFFSET)
    if offset < 0 or offset > INT64_MAX or offset >> 3 >= longest(client):
        raise ReplyError(BAD_OFFSET)
    return offset


def patch(client: Client, key: bytes, start: int, data: bytes) -> None:
    """Write bytes into the string at key, or make it, by an event; the deadline stays."""
    client.emit([b"SETRANGE", key, b"%d" % start, data])


@command(
    "SETBIT", arity=4, flags="write denyoom", keys=(1, 1, 1), acl="bitmap", group="bitmap", since="2.2.0",
    summary="Sets one bit of a string and returns what it was.",
)  # fmt: skip
def setbit(client: Client, argv: list[bytes]) -> bytes:
    offset = parse_offset(client, argv[2])
    on = parse_int(argv[3], BAD_BIT)
    if on not in (0, 1):
        raise ReplyError(BAD_BIT)
    key = argv[1]
    value = string_to_write(client, key)
    at, mask = offset >> 3, 0x80 >> (offset & 7)
    byte = 0 if value is None or at >= len(value) else value[at]
    was_on = byte & mask != 0
    if value is None or at >= len(value) or was_on != bool(on):
        patch(client, key, at, bytes((byte | mask if on else byte & ~mask,)))
    return ONE if was_on else ZERO


@command(
    "GETBIT", arity=3, flags="readonly fast", keys=(1, 1, 1), acl="bitmap", group="bitmap", since="2.2.0",
    summary="Returns one bit of a string.",
)  # fmt: skip
def getbit(client: Client, argv: list[bytes]) -> bytes:
    offset = parse_offset(client, argv[2])
    value = string_to_read(client, argv[1])
    at = offset >> 3
    return ONE if value is not None and at < len(value) and value[at] & (0x80 >> (offset & 7)) else ZERO


def counts_bits(word: bytes) -> bool:
    """BIT or BYTE, at the end of BITCOUNT and BITPOS. Raises ReplyError."""
    unit = word.upper()
    if unit not in (b"BIT", b"BYTE"):
        raise syntax_error()
    return unit == b"BIT"


def bit_range(size: int, start: int, end: int, in_bits: bool) -> tuple[int, int]:
    """The first and the last bit that a range means, negative numbers counting from the end of `size` bytes."""
    total = size * 8 if in_bits else size
    start = max(0, start + total) if start < 0 else start
    end = max(0, end + total) if end < 0 else end
    end = min(end, total - 1)
    return (start, end) if in_bits else (start * 8, end * 8 + 7)


@command(
    "BITCOUNT", arity=-2, flags="readonly", keys=(1, 1, 1), acl="bitmap", group="bitmap", since="2.6.0",
    complexity="O(N) for N bytes", summary="Counts the bits of a string, or of a part of it, that are 1.",
)  # fmt: skip
def bitcount(client: Client, argv: list[bytes]) -> bytes:
    value = string_to_read(client, argv[1])
    if value is None:
        return ZERO
    first, last = 0, len(value) * 8 - 1
    if len(argv) in (4, 5):
        start, end = parse_int(argv[2]), parse_int(argv[3])
        if start < 0 and end < 0 and start > end:
            return ZERO
        first, last = bit_range(len(value), start, end, len(argv) == 5 and counts_bits(argv[4]))
    elif len(argv) != 2:
        raise syntax_error()
    return ZERO if first > last else integer(count_bits(value, first, last))


@command(
    "BITPOS", arity=-3, flags="readonly", keys=(1, 1, 1), acl="bitmap", group="bitmap", since="2.8.7",
    complexity="O(N) for N bytes", summary="Finds the first bit of a string, or of a part of it, that is 1 or 0.",
)  # fmt: skip
def bitpos(client: Client, argv: list[bytes]) -> bytes:
    bit = parse_int(argv[2])
    if bit not in (0, 1):
        raise ReplyError("ERR The bit argument must be 1 or 0.")
    value = string_to_read(client, argv[1])
    if value is None:
        return integer(-1 if bit else 0)
    size = len(value)
    first, last = 0, size * 8 - 1
    if len(argv) in (4, 5, 6):
        start = parse_int(argv[3])
        in_bits = len(argv) == 6 and counts_bits(argv[5])
        end = parse_int(argv[4]) if len(argv) > 4 else size - 1
        first, last = bit_range(size, start, end, in_bits)
    elif len(argv) != 3:
        raise syntax_error()
    if first > last:
        return integer(-1)
    found = find_bit(value, bit, first, last)
    if found < 0 and bit == 0 and len(argv) < 5:  # after the end of a string there are zeros
        found = size * 8
    return integer(found)


@command(
    "BITOP", arity=-4, flags="write denyoom", keys=(2, -1, 1), acl="bitmap", group="bitmap", since="2.6.0",
    complexity="O(N) for N bytes", summary="Makes a string out of others, bit by bit.",
)  # fmt: skip
def bitop(client: Client, argv: list[bytes]) -> bytes:
    operation, key = argv[1].upper(), argv[2]
    if operation not in OPERATIONS:
        raise syntax_error()
    if operation == b"NOT" and len(argv) != 4:
        raise ReplyError("ERR BITOP NOT must be called with a single source key.")
    if operation in OF_TWO and len(argv) < 5:
        raise ReplyError(f"ERR BITOP {operation.decode()} must be called with at least two source keys.")
    values = [string_to_read(client, source) or b"" for source in argv[3:]]
    if not any(values):
        if client.lookup_write(key) is not None:
            client.emit([b"DEL", key])
        return ZERO
    result = combine(operation, values)
    put(client, key, result)
    return integer(len(result))


# -- BITFIELD

WRAP: Final = 0
SATURATE: Final = 1
FAIL: Final = 2
OVERFLOWS: Final = {b"WRAP": WRAP, b"SAT": SATURATE, b"FAIL": FAIL}


class Step:
    """One GET, SET or INCRBY of a BITFIELD."""

    def __init__(self, word: bytes, field: Field, number: int, overflow: int) -> None:
        self.word = word
        self.field = field
        self.number = number
        self.overflow = overflow


def parse_type(text: bytes) -> tuple[bool, int]:
    """i16 -> signed, 16 bits. Raises ReplyError."""
    sign = text[:1]
    bits = parse_int(text[1:], BAD_TYPE) if sign in (b"i", b"u") else 0
    if not 1 <= bits <= (64 if sign == b"i" else 63):
        raise ReplyError(BAD_TYPE)
    return sign == b"i", bits


def parse_steps(client: Client, argv: list[bytes]) -> list[Step]:
    steps: list[Step] = []
    overflow = WRAP
    at, n = 2, len(argv)
    while at < n:
        word = argv[at].upper()
        if word == b"OVERFLOW" and at + 1 < n:
            found = OVERFLOWS.get(argv[at + 1].upper())
            if found is None:
                raise ReplyError("ERR Invalid OVERFLOW type specified")
            overflow = found
            at += 2
            continue
        count = 3 if word == b"GET" else 4 if word in (b"SET", b"INCRBY") else 0
        if count == 0 or at + count > n:
            raise syntax_error()
        signed, bits = parse_type(argv[at + 1])
        field = Field(signed, bits, parse_offset(client, argv[at + 2], bits))
        steps.append(Step(word, field, parse_int(argv[at + 3]) if count == 4 else 0, overflow))
        at += count
    return steps


def run_step(client: Client, key: bytes, step: Step) -> bytes:
    """One element of the reply."""
    field = step.field
    value = client.db.values.get(key)
    before = field.read(value) if isinstance(value, (bytes, bytearray)) else 0
    if step.word == b"GET":
        return integer(before)
    after = step.number
    if step.word == b"INCRBY":
        after += before
    elif not field.signed:
        after %= 1 << 64  # as Redis reads a negative number
    if not field.lowest() <= after <= field.highest():
        if step.overflow == FAIL:
            return null(client.resp3)
        if step.overflow == WRAP:
            after = field.wrapped(after)
        else:
            after = field.highest() if after > field.highest() else field.lowest()
    if after != before:
        assert isinstance(value, (bytes, bytearray))  # made, or grown, by bitfield
        patch(client, key, field.start(), field.patch(value, after))
    return integer(before if step.word == b"SET" else after)


@command(
    "BITFIELD", arity=-2, flags="write denyoom", keys=(1, 1, 1), acl="bitmap", group="bitmap", since="3.2.0",
    complexity="O(1) for each part", summary="Reads and changes bits of a string as numbers of any width.",
)  # fmt: skip
def bitfield(client: Client, argv: list[bytes]) -> bytes:
    steps = parse_steps(client, argv)
    key = argv[1]
    stops = [step.field.stop() for step in steps if step.word != b"GET"]
    if not stops:
        return read_fields(client, key, steps)
    value = string_to_write(client, key)
    size = max(stops)
    if value is None or len(value) < size:  # even when every number turns out not to fit
        patch(client, key, size - 1, b"\0")
    return array([run_step(client, key, step) for step in steps])


@command(
    "BITFIELD_RO", arity=-2, flags="readonly fast", keys=(1, 1, 1), acl="bitmap", group="bitmap", since="6.0.0",
    complexity="O(1) for each part", summary="Reads bits of a string as numbers of any width.",
)  # fmt: skip
def bitfield_ro(client: Client, argv: list[bytes]) -> bytes:
    steps = parse_steps(client, argv)
    if any(step.word != b"GET" for step in steps):
        raise ReplyError("ERR BITFIELD_RO only supports the GET subcommand")
    return read_fields(client, argv[1], steps)


def read_fields(client: Client, key: bytes, steps: list[Step]) -> bytes:
    value = string_to_read(client, key) or b""
    if not steps:
        return EMPTY_ARRAY
    return array([integer(step.field.read(value)) for step in steps])
