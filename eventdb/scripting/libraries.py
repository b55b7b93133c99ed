"""`bit` and `struct` as Redis's scripts have them. Arguments and results are numbers and bytes of Lua.

Sources: the interfaces of Lua BitOp 1.0.2 and of Roberto Ierusalimschy's struct 0.2, as bundled with Redis.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import reduce
from math import isfinite
from operator import and_, or_, xor
from typing import Final

WORD: Final = 0xFFFFFFFF
ANY: Final = 1 << 30
SIZES: Final = {"b": 1, "h": 2, "i": 4, "l": 8, "T": 8, "f": 4, "d": 8}
ALIGNMENT_MAX: Final = 8
INTEGER_BYTES_MAX: Final = 32


class LuaError(Exception):
    """To be raised in the script with this text."""


# -- bit


def word(value: float) -> int:
    """A number as 32 bits: of one that is none, or endless, they are all 0."""
    return round(value) & WORD if isfinite(value) else 0


def signed(value: int) -> int:
    value &= WORD
    return value - (1 << 32) if value >> 31 else value


def tohex(value: float, digits: float = 8) -> bytes:
    n = signed(word(digits))
    text = f"{word(value):08x}"[-min(abs(n), 8) :] if n else ""
    return (text.upper() if n < 0 else text).encode()


def _rotate(value: int, by: int) -> int:
    by &= 31
    return value << by | value >> (32 - by)


# And how many numbers each takes, at least and at most.
BIT: Final[dict[str, tuple[Callable[..., int | bytes], int, int]]] = {
    "tobit": (lambda a: signed(word(a)), 1, 1),
    "bnot": (lambda a: signed(~word(a)), 1, 1),
    "band": (lambda *a: signed(reduce(and_, map(word, a))), 1, ANY),
    "bor": (lambda *a: signed(reduce(or_, map(word, a))), 1, ANY),
    "bxor": (lambda *a: signed(reduce(xor, map(word, a))), 1, ANY),
    "lshift": (lambda a, n: signed(word(a) << (word(n) & 31)), 2, 2),
    "rshift": (lambda a, n: signed(word(a) >> (word(n) & 31)), 2, 2),
    "arshift": (lambda a, n: signed(signed(word(a)) >> (word(n) & 31)), 2, 2),
    "rol": (lambda a, n: signed(_rotate(word(a), word(n))), 2, 2),
    "ror": (lambda a, n: signed(_rotate(word(a), -word(n))), 2, 2),
    "bswap": (lambda a: signed(int.from_bytes(word(a).to_bytes(4, "little"), "big")), 1, 1),
    "tohex": (tohex, 1, 2),
}


# -- struct


class _Format:
    """Walks through a format; each step is an option, its size and how many bytes of padding come before it."""

    def __init__(self, text: bytes, name: str) -> None:
        self.name = name
        self.text = text.decode("latin-1")
        self.at = 0
        self.order = "<"
        self.align = 1

    def number(self, default: int) -> int:
        start = self.at
        while self.at < len(self.text) and self.text[self.at].isdigit():
            self.at += 1
        if start == self.at:
            return default
        found = int(self.text[start : self.at][:12])
        if found > (1 << 31) - 1:
            raise LuaError("integral size overflow")
        return found

    def next(self, position: int) -> tuple[str, int, int] | None:
        """(option, size, padding), or None at the end. Raises LuaError."""
        while self.at < len(self.text):
            option = self.text[self.at]
            self.at += 1
            if option == " ":
                continue
            if option in "<>":
                self.order = option
            elif option == "=":
                self.order = "<"
            elif option == "!":
                self.align = self.number(ALIGNMENT_MAX)
                if self.align == 0 or self.align & (self.align - 1):
                    raise LuaError("alignment is not a power of 2")
            else:
                size = self._size(option)
                return option, size, self._padding(option, size, position)
        return None

    def _size(self, option: str) -> int:
        if option in "iI":
            size = self.number(4)
            if size > INTEGER_BYTES_MAX:
                raise LuaError(f"integral size {size} is larger than limit of {INTEGER_BYTES_MAX}")
            return size
        if option == "c":
            return self.number(1)
        if option == "s":
            return 0
        if option == "x":
            return 1
        size = SIZES.get(option if option in "fdT" else option.lower(), 0)
        if not size:
            raise LuaError(f"bad argument #1 to '{self.name}' (invalid format option '{option}')")
        return size

    def _padding(self, option: str, size: int, position: int) -> int:
        if option in "csx" or size == 0:
            return 0
        align = min(size, self.align)
        return -position % align if align > 1 and not align & (align - 1) else 0


def _wrong(wanted: str, value: object, n: int) -> LuaError:
    kinds = {bytes: "string", bool: "boolean", type(None): "nil"}
    got = kinds.get(type(value), "table")
    return LuaError(f"bad argument #{n} to 'pack' ({wanted} expected, got {got})")


def _number(value: object, n: int) -> float:
    """Raises LuaError."""
    if isinstance(value, (int, float, bytes)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    raise _wrong("number", value, n)


def _integer(value: object, n: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _number(value, n)
    return int(number) if abs(number) < 2**64 else 0


def _text(value: object, n: int) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return b"%.14g" % value
    raise _wrong("string", value, n)


def pack(format: bytes, *values: object) -> bytes:
    """Raises LuaError."""
    steps = _Format(format, "pack")
    out = bytearray()
    n = 0
    while (step := steps.next(len(out))) is not None:
        option, size, padding = step
        out += bytes(padding)
        if option == "x":
            out += b"\0"
            continue
        n += 1
        value = values[n - 1] if n <= len(values) else None
        order = "little" if steps.order == "<" else "big"
        if option in "fd":
            try:
                out += struct.pack(steps.order + option, _number(value, n + 1))
            except OverflowError:
                out += struct.pack(steps.order + option, float("inf"))
        elif option in "cs":
            data = _text(value, n + 1)
            length = size or len(data)
            if option == "c" and len(data) < length:
                raise LuaError(f"bad argument #{n + 2} to 'pack' (string too short)")
            out += data[:length] if option == "c" else data + b"\0"
        else:
            whole = _integer(value, n + 1) & ((1 << 8 * size) - 1)
            out += whole.to_bytes(size, order)  # type: ignore[arg-type]
    return bytes(out)


def unpack(format: bytes, data: bytes, start: object = 1) -> list[object]:
    """The values, then the position after them. Raises LuaError."""
    steps = _Format(format, "unpack")
    at = int(start) - 1 if isinstance(start, (int, float)) else 0
    if at < 0:
        raise LuaError("bad argument #3 to 'unpack' (offset must be 1 or greater)")
    found: list[object] = []
    while (step := steps.next(at)) is not None:
        option, size, padding = step
        at += padding
        if option == "c" and size == 0:
            if not found or not isinstance(found[-1], (int, float)):
                raise LuaError("format 'c0' needs a previous size")
            size = int(found.pop())  # type: ignore[call-overload]
        if option == "s":
            end = data.find(b"\0", at)
            if end < 0:
                raise LuaError("unfinished string in data")
            found.append(data[at:end])
            at = end + 1
            continue
        if size < 0 or at + size > len(data):
            raise LuaError("bad argument #2 to 'unpack' (data string too short)")
        raw = data[at : at + size]
        at += size
        if option == "x":
            continue
        if option == "c":
            found.append(raw)
        elif option in "fd":
            found.append(struct.unpack(steps.order + option, raw)[0])
        else:
            order = "little" if steps.order == "<" else "big"
            value = int.from_bytes(raw, order, signed=option.islower())  # type: ignore[arg-type]
            found.append(float(value))
    return [*found, at + 1]


def size(format: bytes) -> int:
    """Raises LuaError."""
    steps = _Format(format, "size")
    total = 0
    while (step := steps.next(total)) is not None:
        option, one, padding = step
        if option == "s" or (option == "c" and one == 0):
            raise LuaError(f"bad argument #1 to 'size' (option '{option}' has no fixed size)")
        total += padding + one
    return total
