"""Frames of formats that are no longer written, and are read for ever.

What is the same in every format stands in `record.py`: the magic, the checksum over all that follows it, the version
at byte 8, the payload's length at byte 52, 64 bytes of header. So a frame's size and its checksum are known before its
version is. Here is where the other fields stood. `tests/golden/` keeps logs of each format.

Format 1, of 0.1 while it was developed, from byte 8 on::

    at  size  field
     8    1   format version, 1
     9    1   kind: 0 data, 1 claim, 2 heartbeat
    10    1   fragment: 0 whole, 1 first, 2 middle, 3 last
    11    1   codec: 0 none, 1 zstd
    12    2   key id
    14    2   zero
    16    8   epoch
    24    8   position
    32    8   first offset
    40    8   time
    48    4   count of transactions
    52    4   payload length
    56    4   raw length
    60    4   in flight

It has no link: it does not show what came before it. And its payload is as the client sent it, so it may
contain a whole frame with a right checksum; a search for frames must not believe what it finds in one.
"""

from __future__ import annotations

import struct
from typing import Final

_FORMAT_1: Final = struct.Struct("<BBBBHHQQQQIIII")

# kind, fragment, codec, key id, epoch, position, first offset, time, count, raw length, in flight
Fields = tuple[int, int, int, int, int, int, int, int, int, int, int]


def fields_1(data: bytes, at: int) -> Fields:
    """The fields of a header of format 1 that begins at byte `at`; its checksum was right."""
    (
        _version, kind, fragment, codec, key_id, _zero, epoch, position, first_offset, time_ms, count, _length,
        raw_length, in_flight,
    ) = _FORMAT_1.unpack_from(data, at + 8)  # fmt: skip
    return kind, fragment, codec, key_id, epoch, position, first_offset, time_ms, count, raw_length, in_flight
