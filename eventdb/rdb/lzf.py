"""LZF: how Redis compresses strings. It is read here and never written. Source: liblzf, lzf_d.c.

Three bytes stand for 264 at most, so what comes out is bounded by what came, whatever it says.
"""

from __future__ import annotations

from eventdb.rdb.codes import BadRdb


def decompress(data: bytes, size: int) -> bytes:
    """The `size` bytes that `data` was made from. Raises BadRdb."""
    made = bytearray()
    at, end = 0, len(data)
    while at < end:
        control = data[at]
        at += 1
        if control < 32:  # `control` + 1 bytes as they are
            made += data[at : at + control + 1]
            at += control + 1
            continue
        length = control >> 5
        if length == 7:
            if at >= end:
                break
            length += data[at]
            at += 1
        if at >= end:
            break
        start = len(made) - ((control & 31) << 8 | data[at]) - 1
        at += 1
        if start < 0:
            raise BadRdb("a compressed string refers to what lies before it")
        length += 2
        part = made[start : start + length]
        if len(part) < length:  # it repeats itself
            part = (part * (length // len(part) + 1))[:length]
        made += part
        if len(made) > size:
            break
    if len(made) != size or at != end:
        raise BadRdb(f"a compressed string of {size} bytes is damaged")
    return bytes(made)
