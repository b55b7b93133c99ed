"""The compact encodings before the listpack: ziplist (until Redis 6.2), zipmap (until 2.4), and intset.

Sources: redis src/ziplist.c, src/zipmap.c, src/intset.c. They are read here and never written.
"""

from __future__ import annotations

from typing import Final

from eventdb.rdb.codes import BadRdb

ZIPLIST_HEADER: Final = 10
COUNT_UNKNOWN: Final = 65535
LONG_PREVIOUS: Final = 254  # the length of the element before takes five bytes


def read_ziplist(data: bytes) -> list[bytes]:
    """The elements; integers as their decimals. Raises BadRdb."""
    end = len(data) - 1
    if end < ZIPLIST_HEADER or data[end] != 255 or int.from_bytes(data[:4], "little") != end + 1:
        raise BadRdb("a ziplist of another length than it says")
    found: list[bytes] = []
    at, before = ZIPLIST_HEADER, 0
    while at < end:
        began = at
        if data[at] < LONG_PREVIOUS:
            previous = data[at]
            at += 1
        else:
            previous = int.from_bytes(data[at + 1 : at + 5], "little")
            at += 5
        if previous != before or at >= end:
            break
        first = data[at]
        if first < 0xC0:
            size, skip = _string_extent(data, at, first)
            stop = at + skip + size
            if stop > end:
                break
            found.append(data[at + skip : stop])
        else:
            stop = at + 1 + _integer_bytes(first)
            if stop > end:
                break
            if 0xF1 <= first <= 0xFD:
                found.append(b"%d" % ((first & 15) - 1))
            else:
                found.append(b"%d" % int.from_bytes(data[at + 1 : stop], "little", signed=True))
        at, before = stop, stop - began
    count = int.from_bytes(data[8:10], "little")
    if at != end or (count != COUNT_UNKNOWN and count != len(found)):
        raise BadRdb("a ziplist is damaged")
    return found


def _string_extent(data: bytes, at: int, first: int) -> tuple[int, int]:
    """Of the string there: how many bytes it has, and after how many others it begins."""
    if first < 0x40:
        return first, 1
    if first < 0x80:
        return (first & 63) << 8 | data[at + 1], 2
    return int.from_bytes(data[at + 1 : at + 5], "big"), 5


def _integer_bytes(first: int) -> int:
    if first == 0xC0:
        return 2
    if first == 0xD0:
        return 4
    if first == 0xE0:
        return 8
    if first == 0xF0:
        return 3
    if first == 0xFE:
        return 1
    if 0xF1 <= first <= 0xFD:
        return 0
    raise BadRdb(f"byte {first} where an element of a ziplist begins")


def read_zipmap(data: bytes) -> list[bytes]:
    """Fields and values in turn. Raises BadRdb."""
    end = len(data) - 1
    if end < 1 or data[end] != 255:
        raise BadRdb("a zipmap without an end")
    found: list[bytes] = []
    at = 1  # data[0] is the number of pairs, if that is below 254
    while at < end:
        size = data[at]
        at += 1
        if size == 254:
            size = int.from_bytes(data[at : at + 4], "little")
            at += 4
        elif size == 255:
            break
        is_value = len(found) & 1
        skip = 1 if is_value else 0  # the number of unused bytes that come after a value
        stop = at + skip + size
        if stop > end:
            break
        found.append(data[at + skip : stop])
        at = stop + data[at] if is_value else stop
    if at != end or len(found) & 1 or (data[0] < 254 and data[0] != len(found) // 2):
        raise BadRdb("a zipmap is damaged")
    return found


def read_intset(data: bytes) -> list[bytes]:
    """The members as decimals. Raises BadRdb."""
    width, count = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")
    if width not in (2, 4, 8) or len(data) != 8 + width * count:
        raise BadRdb("an intset of another length than it says")
    found: list[bytes] = []
    before = -(1 << 63) - 1
    for at in range(8, len(data), width):
        number = int.from_bytes(data[at : at + width], "little", signed=True)
        if number <= before:
            raise BadRdb("an intset out of order")
        found.append(b"%d" % number)
        before = number
    return found
