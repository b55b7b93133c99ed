"""The options of SET, GETEX and MSETEX, and the conditions on a string that SET and DELEX share."""

from __future__ import annotations

from typing import Final

from eventdb.protocol.errors import ReplyError, syntax_error
from eventdb.protocol.xxh3 import digest

IF_ABSENT: Final = 1
IF_PRESENT: Final = 2
IF_VALUE: Final = 3  # what the key holds, compared as `comparison` says with `operand`
COMPARISONS: Final = (b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE")
_UNITS: Final = (b"EX", b"PX", b"EXAT", b"PXAT")
OF_SET: Final = (b"NX", b"XX", b"GET", b"KEEPTTL", *COMPARISONS)
OF_GETEX: Final = (b"PERSIST",)
OF_MSETEX: Final = (b"NX", b"XX", b"KEEPTTL")


class Options:
    """What follows the value in SET, the key in GETEX, or the pairs in MSETEX."""

    def __init__(self) -> None:
        self.condition = 0
        self.comparison = b""
        self.operand = b""
        self.get = False
        self.keep = False  # KEEPTTL
        self.persist = False
        self.unit = b""
        self.time = b""


def parse_options(argv: list[bytes], at: int, known: tuple[bytes, ...]) -> Options:
    """Read the options from argv[at] on, EX and its like or one of `known`.

    Each excludes some others, and a unit may be repeated: the last one counts.
    """
    options = Options()
    n = len(argv)
    while at < n:
        word = argv[at].upper()
        if word in _UNITS:
            other_unit = options.unit != b"" and options.unit != word
            if options.keep or options.persist or other_unit or at + 1 == n:
                raise syntax_error()
            at += 1
            options.unit, options.time = word, argv[at]
        elif word not in known:
            raise syntax_error()
        elif word == b"NX" and options.condition in (0, IF_ABSENT):
            options.condition = IF_ABSENT
        elif word == b"XX" and options.condition in (0, IF_PRESENT):
            options.condition = IF_PRESENT
        elif word in COMPARISONS and options.condition == 0 and at + 1 < n:
            at += 1
            options.condition, options.comparison, options.operand = IF_VALUE, word, argv[at]
        elif word == b"GET":
            options.get = True
        elif word == b"KEEPTTL" and not options.unit:
            options.keep = True
        elif word == b"PERSIST" and not options.unit:
            options.persist = True
        else:
            raise syntax_error()
        at += 1
    return options


def compares(value: bytes | bytearray, comparison: bytes, operand: bytes) -> bool:
    """IFEQ and IFNE compare with a value, IFDEQ and IFDNE with what DIGEST says."""
    if len(comparison) == 4:
        return (value == operand) == (comparison == b"IFEQ")
    if len(operand) != 16:
        raise ReplyError("ERR must be exactly 16 hexadecimal characters")
    return (digest(bytes(value)) == operand.lower()) == (comparison == b"IFDEQ")
