"""Values in encodings that eventdb reads and does not write: what Redis 2.8 to 8 and Valkey 9 make of small ones.

Written from the public description of the formats, apart from the code under test, so that both must agree on them.
"""

from __future__ import annotations

import struct

from eventdb.rdb.crc64 import crc64


def length(number: int) -> bytes:
    if number < 64:
        return bytes([number])
    if number < 16384:
        return bytes([0x40 | number >> 8, number & 255])
    return b"\x80" + struct.pack(">I", number) if number < 1 << 32 else b"\x81" + struct.pack(">Q", number)


def string(data: bytes) -> bytes:
    return length(len(data)) + data


def packed(data: bytes) -> bytes:
    """An LZF string of nothing but literals, but for one run that repeats its first byte."""
    out = b""
    for at in range(0, len(data), 32):
        piece = data[at : at + 32]
        out += bytes([len(piece) - 1]) + piece
    return b"\xc3" + length(len(out)) + length(len(data)) + out


def repeated(byte: bytes, count: int) -> bytes:
    """An LZF string: one literal, then a reference to it of count - 1 bytes."""
    out = b"\x00" + byte + bytes([7 << 5, count - 1 - 9, 0])
    return b"\xc3" + length(len(out)) + length(count) + out


def payload(body: bytes, version: int = 10) -> bytes:
    """As DUMP answers it."""
    body += struct.pack("<H", version)
    return body + struct.pack("<Q", crc64(body))


def as_integer(element: bytes) -> int | None:
    if len(element) > 20 or not element.lstrip(b"-").isdigit():
        return None
    number = int(element)
    return number if b"%d" % number == element and -(1 << 63) <= number < 1 << 63 else None


def ziplist(elements: list[bytes]) -> bytes:
    body, before, tail = b"", 0, 10
    for element in elements:
        tail = 10 + len(body)
        head = bytes([before]) if before < 254 else b"\xfe" + struct.pack("<I", before)
        number = as_integer(element)
        if number is None:
            size = len(element)
            if size < 64:
                kind = bytes([size])
            else:
                kind = bytes([0x40 | size >> 8, size & 255]) if size < 16384 else b"\x80" + struct.pack(">I", size)
            entry = head + kind + element
        elif 0 <= number <= 12:
            entry = head + bytes([0xF1 + number])
        else:
            for kind, size in ((b"\xfe", 1), (b"\xc0", 2), (b"\xf0", 3), (b"\xd0", 4), (b"\xe0", 8)):
                if -(1 << 8 * size - 1) <= number < 1 << 8 * size - 1:
                    entry = head + kind + number.to_bytes(size, "little", signed=True)
                    break
        body += entry
        before = len(entry)
    return struct.pack("<IIH", len(body) + 11, tail, len(elements)) + body + b"\xff"


def zipmap(pairs: list[bytes], free: int = 0) -> bytes:
    """`free`: so many bytes after each value are left unused."""
    out = bytes([len(pairs) // 2])
    for i, part in enumerate(pairs):
        out += bytes([len(part)]) if len(part) < 254 else b"\xfe" + struct.pack("<I", len(part))
        out += bytes([free]) + part + b"?" * free if i % 2 else part
    return out + b"\xff"


def intset(numbers: list[int]) -> bytes:
    size = next(n for n in (2, 4, 8) if all(-(1 << 8 * n - 1) <= x < 1 << 8 * n - 1 for x in numbers))
    body = b"".join(x.to_bytes(size, "little", signed=True) for x in sorted(numbers))
    return struct.pack("<II", size, len(numbers)) + body


def listpack(elements: list[bytes]) -> bytes:
    body = b""
    for element in elements:
        number = as_integer(element)
        size = len(element)
        if number is None:
            if size < 64:
                entry = bytes([0x80 | size]) + element
            elif size < 4096:
                entry = bytes([0xE0 | size >> 8, size & 255]) + element
            else:
                entry = b"\xf0" + struct.pack("<I", size) + element
        elif 0 <= number < 128:
            entry = bytes([number])
        elif -4096 <= number < 4096:
            entry = struct.pack(">H", 0xC000 | number & 0x1FFF)
        else:
            for kind, bits in ((b"\xf1", 16), (b"\xf2", 24), (b"\xf3", 32), (b"\xf4", 64)):
                if -(1 << bits - 1) <= number < 1 << bits - 1:
                    entry = kind + number.to_bytes(bits // 8, "little", signed=True)
                    break
        back: list[int] = []
        left = len(entry)
        while True:
            back.insert(0, left & 127)
            left >>= 7
            if not left:
                break
        body += entry + bytes([back[0]] + [part | 128 for part in back[1:]])
    return struct.pack("<IH", len(body) + 7, len(elements)) + body + b"\xff"
