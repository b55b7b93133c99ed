"""INCREX: a counter with bounds and a deadline. Source: the documentation and tests of Redis 8.8 and Valkey 9.2.

Logged as the SET of its result, with its deadline.
"""

from __future__ import annotations

from eventdb.commands.shared.deadlines import deadline_of
from eventdb.commands.shared.lookups import string_to_write
from eventdb.commands.shared.string_changes import put, put_keeping_deadline
from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.protocol.errors import NOT_FLOAT, NOT_INTEGER, ReplyError, syntax_error
from eventdb.protocol.longdouble import (
    LARGEST,
    LongDouble,
    add,
    below,
    format_long_double,
    negative,
    parse_long_double,
)
from eventdb.protocol.numbers import INT64_MAX, INT64_MIN, parse_int
from eventdb.protocol.replies import bulk, integer

UNITS = (b"EX", b"PX", b"EXAT", b"PXAT")
OVERFLOW = "ERR applied increment would overflow"
BOUNDS_CROSS = "ERR LBOUND can't be greater than UBOUND"


class Options:
    """What follows the key."""

    def __init__(self) -> None:
        self.by = b"1"
        self.mode = b""  # BYINT or BYFLOAT
        self.low: bytes | None = None
        self.high: bytes | None = None
        self.saturates = False
        self.unit = b""  # PERSIST too
        self.time = b""
        self.only_new = False  # ENX: a deadline that is there stays

    def parse(self, argv: list[bytes]) -> None:
        at, n = 2, len(argv)
        while at < n:
            word = argv[at].upper()
            at += 1
            if word == b"SATURATE":
                self.saturates = True
            elif word == b"ENX" and self.unit != b"PERSIST":
                self.only_new = True
            elif word == b"PERSIST" and not self.unit and not self.only_new:
                self.unit = word
            elif at < n:
                self._with_value(word, argv[at])
                at += 1
            else:
                raise syntax_error()
        if self.only_new and not self.unit:
            raise syntax_error()

    def _with_value(self, word: bytes, value: bytes) -> None:
        if word in (b"BYINT", b"BYFLOAT") and self.mode in (b"", word):
            self.mode, self.by = word, value
        elif word == b"LBOUND":
            self.low = value
        elif word == b"UBOUND":
            self.high = value
        elif word in UNITS and self.unit in (b"", word):
            self.unit, self.time = word, value
        else:
            raise syntax_error()


def bound_of(name: str, text: bytes | None, otherwise: LongDouble) -> LongDouble:
    """A bound of BYFLOAT; an infinite one has the sign of its mantissa."""
    if text is None:
        return otherwise
    found = parse_long_double(text, f"ERR {name}{NOT_FLOAT.removeprefix('ERR value')}")
    return LongDouble(-1 if text[:1] == b"-" else 1, 0, True) if found.infinite else found


def not_above(a: LongDouble, b: LongDouble) -> bool:
    """a <= b, where both may be infinite."""
    if a.infinite or b.infinite:
        return (a.infinite and a.mantissa < 0) or (b.infinite and b.mantissa > 0)
    return not below(b, a)


def count(options: Options, value: bytes | None) -> tuple[int, int, bool]:
    """The new value, what was added, and whether anything changes."""
    by = parse_int(options.by)
    low, high = INT64_MIN, INT64_MAX
    if options.low is not None:
        low = parse_int(options.low, f"ERR LBOUND{NOT_INTEGER.removeprefix('ERR value')}")
    if options.high is not None:
        high = parse_int(options.high, f"ERR UBOUND{NOT_INTEGER.removeprefix('ERR value')}")
    if low > high:
        raise ReplyError(BOUNDS_CROSS)
    current = 0 if value is None else parse_int(value)
    total = current + by
    if low <= total <= high:
        return total, by, True
    if not options.saturates:
        return current, 0, False
    total = min(max(total, low), high)
    if not INT64_MIN <= total - current <= INT64_MAX:
        raise ReplyError(OVERFLOW)
    return total, total - current, True


def measure(options: Options, value: bytes | None) -> tuple[LongDouble, LongDouble, bool]:
    """The same for BYFLOAT."""
    by = parse_long_double(options.by)
    if by.infinite:
        raise ReplyError("ERR BYFLOAT increment cannot be Infinity")
    low, high = bound_of("LBOUND", options.low, negative(LARGEST)), bound_of("UBOUND", options.high, LARGEST)
    if not not_above(low, high):
        raise ReplyError(BOUNDS_CROSS)
    current = LongDouble(0, 0) if value is None else parse_long_double(value)
    if current.infinite:
        raise ReplyError("ERR value cannot be Infinity")
    total = add(current, by)
    if total.infinite:
        total = LongDouble(by.mantissa, 0, True)
    if not total.infinite and not_above(low, total) and not_above(total, high):
        return total, by, True
    if not options.saturates:
        return current, LongDouble(0, 0), False
    total = low if not not_above(low, total) else high
    applied = add(total, negative(current))
    if total.infinite or applied.infinite:
        raise ReplyError("ERR applied increment would be Infinity")
    return total, applied, True


def write(client: Client, key: bytes, options: Options, at_ms: int, text: bytes) -> None:
    keeps = options.only_new and key in client.db.expires
    if not options.unit or keeps:
        put_keeping_deadline(client, key, text)
    elif options.unit == b"PERSIST":
        put(client, key, text)
    elif at_ms > client.store.now_ms:
        client.emit([b"SET", key, text, b"PXAT", b"%d" % at_ms])
    elif key in client.db.values:
        client.emit([b"DEL", key])


def float_reply(value: LongDouble, resp3: bool) -> bytes:
    text = format_long_double(value)
    return b",%b\r\n" % text if resp3 else bulk(text)


@command(
    "INCREX", arity=-2, flags="write denyoom fast", keys=(1, 1, 1), acl="string", group="string", since="8.8.0",
    summary="Adds to a number within bounds, and gives its key a deadline.",
)  # fmt: skip
def increx(client: Client, argv: list[bytes]) -> bytes:
    options = Options()
    options.parse(argv)
    key = argv[1]
    at_ms = deadline_of(client, options.unit, options.time, "increx") if options.time else 0
    found = string_to_write(client, key)
    value = None if found is None else bytes(found)
    if options.mode != b"BYFLOAT":
        total, by, changes = count(options, value)
        if changes:
            write(client, key, options, at_ms, b"%d" % total)
        return b"*2\r\n" + integer(total) + integer(by)
    reached, added, changes = measure(options, value)
    if changes:
        write(client, key, options, at_ms, format_long_double(reached))
    return b"*2\r\n" + float_reply(reached, client.resp3) + float_reply(added, client.resp3)
