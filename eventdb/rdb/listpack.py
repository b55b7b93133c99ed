"""Listpacks: a sequence of strings and integers in one string. Redis keeps small values and streams in them.

    total bytes (4) | number of elements (2; 65535: unknown) | element … | 255

An element is its kind, its data, and the length of both, to be read backwards. Source: redis src/listpack.c.
"""

from __future__ import annotations

from typing import Final

from eventdb.rdb.codes import BadRdb

HEADER: Final = 6
END: Final = 255
COUNT_UNKNOWN: Final = 65535


def read(data: bytes) -> list[bytes]:
    """The elements; integers as their decimals. Raises BadRdb."""
    end = len(data) - 1
    if end < HEADER or data[end] != END or int.from_bytes(data[:4], "little") != end + 1:
        raise BadRdb("a listpack of another length than it says")
    found: list[bytes] = []
    at = HEADER
    while at < end:
        first = data[at]
        if first < 0x80:
            found.append(b"%d" % first)
            at += 2
            continue
        size, skip = _extent(data, at, first)
        stop = at + skip + size
        if stop > end:
            break
        if first < 0xC0 or 0xE0 <= first <= 0xF0:
            found.append(data[at + skip : stop])
        elif first < 0xE0:
            number = (first & 31) << 8 | data[at + 1]
            found.append(b"%d" % (number - 8192 if number > 4095 else number))
        else:
            found.append(b"%d" % int.from_bytes(data[at + 1 : stop], "little", signed=True))
        at = stop + back_bytes(skip + size)
    count = int.from_bytes(data[4:6], "little")
    if at != end or (count != COUNT_UNKNOWN and count != len(found)):
        raise BadRdb("a listpack is damaged")
    return found


def _extent(data: bytes, at: int, first: int) -> tuple[int, int]:
    """Of the element there: how many bytes its data has, and after how many others it begins."""
    if first < 0xC0:
        return first & 63, 1
    if first < 0xE0:
        return 1, 1
    if first < 0xF0:
        return (first & 15) << 8 | data[at + 1], 2
    if first == 0xF0:
        return int.from_bytes(data[at + 1 : at + 5], "little"), 5
    if first <= 0xF3:
        return first - 0xEF, 1  # 0xF1: 16 bits, 0xF2: 24, 0xF3: 32
    if first == 0xF4:
        return 8, 1
    raise BadRdb(f"byte {first} where an element of a listpack begins")


def back_bytes(size: int) -> int:
    """How many bytes a length takes when it is to be read backwards."""
    if size < 128:
        return 1
    if size < 16384:
        return 2
    if size < 2097152:
        return 3
    return 4 if size < 268435456 else 5


class ListpackWriter:
    """A listpack in the making."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = HEADER + 1
        self.count = 0

    def _add(self, element: bytes) -> None:
        size = len(element)
        if size < 128:
            back = b"%c" % size
        else:
            shift = 7 * (back_bytes(size) - 1)
            made = bytearray([size >> shift])
            while shift:
                shift -= 7
                made.append((size >> shift) & 127 | 128)
            back = bytes(made)
        self.parts.append(element)
        self.parts.append(back)
        self.size += size + len(back)
        self.count += 1

    def integer(self, number: int) -> None:
        """A signed number of 64 bits."""
        if 0 <= number < 128:
            self._add(b"%c" % number)
        elif -4096 <= number < 4096:
            self._add((0xC000 | number & 0x1FFF).to_bytes(2, "big"))
        elif -(1 << 15) <= number < 1 << 15:
            self._add(b"\xf1" + number.to_bytes(2, "little", signed=True))
        elif -(1 << 23) <= number < 1 << 23:
            self._add(b"\xf2" + number.to_bytes(3, "little", signed=True))
        elif -(1 << 31) <= number < 1 << 31:
            self._add(b"\xf3" + number.to_bytes(4, "little", signed=True))
        else:
            self._add(b"\xf4" + number.to_bytes(8, "little", signed=True))

    def string(self, data: bytes) -> None:
        size = len(data)
        if size < 64:
            self._add(b"%c%b" % (0x80 | size, data))
        elif size < 4096:
            self._add(b"%c%c%b" % (0xE0 | size >> 8, size & 255, data))
        else:
            self._add(b"\xf0" + size.to_bytes(4, "little") + data)

    def made(self) -> bytes:
        count = self.count if self.count < COUNT_UNKNOWN else COUNT_UNKNOWN
        head = self.size.to_bytes(4, "little") + count.to_bytes(2, "little")
        return b"%b%b\xff" % (head, b"".join(self.parts))
