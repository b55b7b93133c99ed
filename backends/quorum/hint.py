"""The hint: what the writer publishes to readers in other processes, a small file `durable` in each zone.

It says how far history is durable, what each zone has synced, and where in this zone's segment a known
frame begins, so that a claim need not walk a whole segment to find its end. It is written without a sync
after the fact it states, so it may be old but is never ahead of the truth::

    magic "evDH", CRC32C of the rest, epoch, durable end, segment first, segment epoch, byte, position,
    zone count, then one synced end a zone (all 8 bytes after the checksum, little-endian)
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Final

import google_crc32c

from eventdb.backends.quorum.files import FileOps, read_file

NAME: Final = "durable"
BYTES_MAX: Final = 256
_MAGIC: Final = b"evDH"
_PREFIX: Final = struct.Struct("<4sI")
_FACTS: Final = struct.Struct("<QQQQQQQ")


@dataclass(frozen=True, slots=True)
class Hint:
    epoch: int
    durable_end: int  # exclusive
    segment_first: int
    segment_epoch: int
    byte: int  # in that segment, where the frame of `position` begins or will
    position: int
    synced: tuple[int, ...]  # exclusive end of what each zone had synced, by zone index


def encode(
    epoch: int, durable_end: int, segment_first: int, segment_epoch: int, byte: int, position: int, synced: list[int]
) -> bytes:
    facts = _FACTS.pack(epoch, durable_end, segment_first, segment_epoch, byte, position, len(synced))
    facts += struct.pack(f"<{len(synced)}Q", *synced)
    return _PREFIX.pack(_MAGIC, google_crc32c.value(facts)) + facts


def decode(raw: bytes) -> Hint | None:
    """None when it is missing, torn or damaged: a hint may always be absent."""
    if len(raw) < _PREFIX.size + _FACTS.size:
        return None
    magic, crc = _PREFIX.unpack_from(raw)
    *facts, zones = _FACTS.unpack_from(raw, _PREFIX.size)
    stop = _PREFIX.size + _FACTS.size + 8 * zones
    if magic != _MAGIC or stop > len(raw) or google_crc32c.value(raw[_PREFIX.size : stop]) != crc:
        return None
    synced = struct.unpack_from(f"<{zones}Q", raw, _PREFIX.size + _FACTS.size)
    return Hint(facts[0], facts[1], facts[2], facts[3], facts[4], facts[5], synced)


def load(ops: FileOps, zone: str) -> Hint | None:
    """The zone's hint; None when there is none to be read."""
    try:
        return decode(read_file(ops, os.path.join(zone, NAME), BYTES_MAX))
    except OSError:
        return None
