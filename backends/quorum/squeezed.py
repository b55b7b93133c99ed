"""A sealed segment of little more than heartbeats, written small: every frame to the byte, less what can be computed.

An idle log is frames of 64 bytes: each repeats the one before it but for its time, and its checksum, its link and its
position can be computed. So the fields of some thousand frames are put down one field after the other, each as the
difference from what was to be expected, and compressed: a byte or two a heartbeat. What is read from it is exactly
what was written, and it is read through the same door (`FileOps.pread`), at the same places: positions, links and
checksums, repair, catching up and `verify` know nothing of it. The file keeps the segment's name. Little-endian::

    at  size  field
     0    4   magic, b"evSQ": no frame begins so
     4    4   CRC32C of everything from byte 8 to the end of the table
     8    1   version, 1; then three zero bytes
    12    4   number of blocks
    16    8   bytes of all frames
    24   12n  the table, for each block: bytes of its frames, bytes stored, CRC32C of what is stored

and then the blocks. A block is zstd over: the number of frames, the first one's header from byte 8 on, for each field
the differences of the others byte by byte (all lowest bytes, then all next ones …), and the payloads. Each block is
checked on its own; one that is damaged reads as bytes that are no frame, so that it is found, named and rebuilt as any
damaged part of a segment is.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import google_crc32c
import zstandard

from eventdb.backends.quorum.files import FileOps
from eventdb.backends.record import FORMAT_VERSION, HEADER_BYTES, MAGIC, PAYLOAD_BYTES_BELIEVED

SQUEEZED: Final = b"evSQ"
BLOCK_BYTES: Final = 128 << 10  # of frames
BLOCK_BYTES_MAX: Final = BLOCK_BYTES + 2 * (PAYLOAD_BYTES_BELIEVED + HEADER_BYTES)  # what a reader believes
BLOCKS_MAX: Final = 1 << 16
LEVEL: Final = 12

_HEAD: Final = struct.Struct("<4sIBxxxIQ")
_ENTRY: Final = struct.Struct("<III")
_FRAME: Final = struct.Struct("<BBBBHHIIQQQIIII")  # a header after its checksum (record.py)
_PREFIX: Final = struct.Struct("<4sI")
_NUMBER: Final = struct.Struct("<I")
_VERSION: Final = 1
_CHECKED_FROM: Final = 8
# Of each field: how its numbers are packed, and how many bytes they take.
_CODES: Final = "BBBBHHIIQQQIIII"
_WIDTHS: Final = (1, 1, 1, 1, 2, 2, 4, 4, 8, 8, 8, 4, 4, 4, 4)
_FRAGMENT: Final = 2
_LINK: Final = 7
_POSITION: Final = 8
_OFFSET: Final = 9
_COUNT: Final = 11
_LENGTH: Final = 12
_ENDS: Final = (0, 3)  # fragments with which a record ends

assert _PREFIX.size + _FRAME.size == HEADER_BYTES

Columns = list[Sequence[int]]  # one for each field


class NotSqueezed(Exception):  # noqa: N818 - named as the errors of record.py are
    """These bytes are no squeezed block, or are frames that cannot be squeezed."""


def squeeze(frames: bytes) -> bytes:
    """A block of whole, sound frames, one after the other. Raises NotSqueezed for frames of older formats."""
    rows: list[tuple[int, ...]] = []
    payloads: list[bytes] = []
    checksums: list[int] = []
    at = 0
    while at < len(frames):
        if at + HEADER_BYTES > len(frames):
            raise NotSqueezed("a frame that is cut off")
        magic, checksum = _PREFIX.unpack_from(frames, at)
        row = _FRAME.unpack_from(frames, at + _PREFIX.size)
        end = at + HEADER_BYTES + row[_LENGTH]
        if magic != MAGIC or row[0] != FORMAT_VERSION or end > len(frames):
            raise NotSqueezed("frames of another format")
        rows.append(row)
        checksums.append(checksum)
        payloads.append(frames[at + HEADER_BYTES : end])
        at = end
    columns: Columns = list(zip(*rows, strict=True))
    parts = [_NUMBER.pack(len(rows)), _FRAME.pack(*rows[0])]
    for field, column in enumerate(columns):
        if field == _LINK:
            expected: Sequence[int] = checksums
        elif field == _OFFSET:
            expected = [offset + step for offset, step in zip(column, _steps(columns), strict=True)]
        elif field == _POSITION:
            expected = [position + 1 for position in column]
        else:
            expected = column
        parts.append(_planes([b - a for a, b in zip(expected[:-1], column[1:], strict=True)], field))
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(b"".join([*parts, *payloads]))
    if expand(packed, len(frames)) != frames:  # a checksum that is not the frame's own, above all
        raise NotSqueezed("frames that are not sound")
    return packed


def _steps(columns: Columns) -> list[int]:
    """By how much each frame moves the first offset of the next."""
    return [count if end in _ENDS else 0 for end, count in zip(columns[_FRAGMENT], columns[_COUNT], strict=True)]


def expand(stored: bytes, size: int) -> bytes:
    """The frames of a block, `size` bytes of them. Raises NotSqueezed."""
    try:
        return _expand(stored, size)
    except (zstandard.ZstdError, struct.error, ValueError, IndexError) as error:
        raise NotSqueezed(f"{error}") from None


def _expand(stored: bytes, size: int) -> bytes:
    data = zstandard.ZstdDecompressor().decompress(stored, max_output_size=2 * BLOCK_BYTES_MAX)
    count = _NUMBER.unpack_from(data)[0]
    if not 0 < count * HEADER_BYTES <= size:
        raise NotSqueezed(f"{count} frames in {size} bytes")
    first = _FRAME.unpack_from(data, _NUMBER.size)
    at = _NUMBER.size + _FRAME.size
    columns: Columns = []
    for field, width in enumerate(_WIDTHS):
        columns.append(_numbers(data[at : at + width * (count - 1)], field, count - 1))
        at += width * (count - 1)
    links = [first[_LINK], *columns[_LINK]]
    for field in range(len(_WIDTHS)):
        if field not in (_LINK, _OFFSET):
            columns[field] = _summed(first[field], columns[field], field, 1 if field == _POSITION else 0)
    moved = [a + b for a, b in zip(columns[_OFFSET], _steps(columns)[:-1], strict=True)]
    columns[_OFFSET] = _summed(first[_OFFSET], moved, _OFFSET, 0)
    columns[_LINK] = links
    frames: list[bytes] = []
    checksum = 0
    pack, prefix, value = _FRAME.pack, _PREFIX.pack, google_crc32c.value
    for v, kind, part, codec, key, flags, epoch, link, position, offset, time, txs, length, raw, flying in zip(
        *columns, strict=True
    ):
        end = at + length
        link = (checksum + link) & 0xFFFFFFFF
        head = pack(v, kind, part, codec, key, flags, epoch, link, position, offset, time, txs, length, raw, flying)
        covered = head + data[at:end] if length else head
        checksum = value(covered)
        frames.append(prefix(MAGIC, checksum) + covered)
        at = end
    found = b"".join(frames)
    if len(found) != size or at != len(data):
        raise NotSqueezed(f"{len(found)} bytes where {size} were")
    return found


def _summed(first: int, differences: Sequence[int], field: int, step: int) -> Sequence[int]:
    """The numbers of a field: each is the one before it, a step and a difference further on."""
    if not any(differences):
        return range(first, first + step * (len(differences) + 1), step) if step else [first] * (len(differences) + 1)
    mask = (1 << 8 * _WIDTHS[field]) - 1
    return [number & mask for number in accumulate(differences, lambda a, b: a + b + step, initial=first)]


def _planes(column: list[int], field: int) -> bytes:
    """All lowest bytes, then all next ones …: where the numbers are small, all but the first plane are zeros."""
    width = _WIDTHS[field]
    if not any(column):
        return bytes(width * len(column))
    mask = (1 << 8 * width) - 1
    raw = struct.pack(f"<{len(column)}{_CODES[field]}", *[number & mask for number in column])
    return b"".join([raw[plane::width] for plane in range(width)])


def _numbers(planes: bytes, field: int, count: int) -> Sequence[int]:
    width = _WIDTHS[field]
    if len(planes) != width * count:
        raise NotSqueezed("a block that is cut off")
    if not planes.strip(b"\0"):
        return [0] * count
    raw = bytearray(width * count)
    for plane in range(width):
        raw[plane::width] = planes[plane * count : (plane + 1) * count]
    return struct.unpack(f"<{count}{_CODES[field]}", raw)


class Squeezing:
    """Takes a segment's frames as they are read, and has the bytes of the file when all of them were given."""

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._bytes = 0  # of them
        self._table: list[bytes] = []
        self._blocks: list[bytes] = []
        self._total = 0

    def add(self, frames: bytes) -> None:
        """Whole frames that follow those before. Raises NotSqueezed."""
        self._frames.append(frames)
        self._bytes += len(frames)
        if self._bytes >= BLOCK_BYTES:
            self._end_block()

    def finish(self) -> bytes:
        """The file. Raises NotSqueezed."""
        if self._bytes:
            self._end_block()
        if len(self._blocks) > BLOCKS_MAX:
            raise NotSqueezed("too many blocks")
        rest = _HEAD.pack(SQUEEZED, 0, _VERSION, len(self._blocks), self._total)[_CHECKED_FROM:] + b"".join(self._table)
        return b"".join([_PREFIX.pack(SQUEEZED, google_crc32c.value(rest)), rest, *self._blocks])

    def _end_block(self) -> None:
        frames = b"".join(self._frames)
        stored = squeeze(frames)
        self._table.append(_ENTRY.pack(len(frames), len(stored), google_crc32c.value(stored)))
        self._blocks.append(stored)
        self._total += len(frames)
        self._frames, self._bytes = [], 0


class Expanded(FileOps):
    """Reads one squeezed file as if it held the frames themselves."""

    def __init__(self, ops: FileOps, sizes: list[int], stored: list[tuple[int, int, int]]) -> None:
        self._ops = ops
        self._ends = list(accumulate(sizes))
        self._sizes = sizes
        self._stored = stored  # of each block: where it stands, its bytes, their checksum
        self._block = -1  # the one that was read last
        self._frames = b""

    def pread(self, fd: int, size: int, at: int) -> bytes:
        parts: list[bytes] = []
        block = bisect_right(self._ends, at)
        while size > 0 and block < len(self._ends):
            frames = self._read(fd, block)
            skip = at - (self._ends[block] - self._sizes[block])
            part = frames[skip : skip + size]
            parts.append(part)
            at += len(part)
            size -= len(part)
            block += 1
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read(self, fd: int, block: int) -> bytes:
        if block != self._block:
            at, length, checksum = self._stored[block]
            stored = self._ops.pread(fd, length, at)
            try:
                if google_crc32c.value(stored) != checksum:
                    raise NotSqueezed("its checksum is wrong")
                self._frames = expand(stored, self._sizes[block])
            except NotSqueezed:
                self._frames = b"\xff" * self._sizes[block]
            self._block = block
        return self._frames


def opened(ops: FileOps, fd: int) -> FileOps:
    """How to read that segment: as it stands, or expanded. A damaged head is read as it stands, and is no frame.

    Raises OSError.
    """
    head = ops.pread(fd, _HEAD.size, 0)
    if head[:4] != SQUEEZED or len(head) < _HEAD.size:
        return ops
    _magic, checksum, version, count, total = _HEAD.unpack(head)
    if version != _VERSION or count > BLOCKS_MAX:
        return ops
    table = ops.pread(fd, count * _ENTRY.size, _HEAD.size)
    if google_crc32c.value(head[_CHECKED_FROM:] + table) != checksum:
        return ops
    sizes: list[int] = []
    stored: list[tuple[int, int, int]] = []
    at = _HEAD.size + len(table)
    for size, length, block_checksum in _ENTRY.iter_unpack(table):
        if size > BLOCK_BYTES_MAX:
            return ops
        sizes.append(size)
        stored.append((at, length, block_checksum))
        at += length
    return Expanded(ops, sizes, stored) if sum(sizes) == total else ops


def is_squeezed(ops: FileOps, fd: int) -> bool:
    """Raises OSError."""
    return ops.pread(fd, len(SQUEEZED), 0) == SQUEEZED
