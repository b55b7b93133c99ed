"""The record frame: the same bytes on every backend.

One frame, little-endian, 64 bytes and then the payload::

    at  size  field
     0    4   magic, b"evDB"
     4    4   CRC32C of everything from byte 8 to the end of the payload
     8    1   format version, 2
     9    1   kind: 0 data, 1 claim, 2 heartbeat
    10    1   fragment: 0 whole, 1 first, 2 middle, 3 last, 4 between: a whole heartbeat that stands between two
              fragments of another record, whose first offset and count it bears
    11    1   codec: 0 none, 1 zstd
    12    2   key id: 0 not encrypted, else the data key that seals the payload (`seal.py`)
    14    2   flags: 1 the payload is masked; the others are zero, and a frame that has one is not read
    16    4   epoch
    20    4   link: the checksum of the frame before it in history, 0 where nothing is said of that
    24    8   position the writer expects the frame to take
    32    8   first offset
    40    8   time, Unix ms on the primary's clock
    48    4   count of transactions
    52    4   payload length, bytes that follow, a mask among them
    56    4   raw length: bytes of the whole body once fragments are joined and decompressed
    60    4   in flight: positions sealed before this one and not yet durable then, so
              everything below `position - in_flight` is known to be durable

The checksum leaves out the magic (its loss is seen without one) and itself. The body is compressed
first and cut into fragments afterwards: a fragment alone can be checked but not decompressed.

**The link makes one history of the frames.** A frame's checksum covers its link, and its link is the checksum of the
frame before: so the checksum of a frame is a *running* checksum of all that lies before it, back to the first frame of
format 2 and, through that one's link, the last of format 1. Two logs that show the same checksum at the same
position have, but for one chance in 2^32, the same history up to there; a frame of another history does not follow.
Every step from one frame to the next checks it by `follows`. It costs no second pass over any byte.

**No payload contains the magic.** Where one would (a client can send any bytes), the payload is masked: four random
bytes, then what was to be stored XORed with them, chosen anew until the magic is in none of it. So whatever is found
by searching for the magic past a damaged place began as a frame of this log, and no client can have made it.

**A sealed payload** is that of each frame, after compressing and cutting; the whole header, from byte 8 on, is
authenticated with it. So a header that was changed, and a frame that was moved to another place, do not open, whatever
their checksums say. Claims and heartbeats are sealed as well: forged, they would name addresses of other nodes. After
a sealed frame none that is not is believed.

Room for keys of data subjects, whose loss shreds what is theirs: a flag (2) that says that the body begins with a table
of (subject's key, range of the body), those ranges being sealed once more, before compression, by keys that the log
keeps wrapped. A frame with a flag that a program does not know is refused by it. Frames of older formats:
`old_frames.py`.
"""

from __future__ import annotations

import os
import struct
from typing import Final

import google_crc32c
import zstandard

from eventdb.backends import old_frames
from eventdb.backends.log import RecordKind
from eventdb.backends.seal import SEAL_BYTES, Keyring, Sealer

MAGIC: Final = b"evDB"
FORMAT_VERSION: Final = 2
HEADER_BYTES: Final = 64
# Below Kafka's default max.message.bytes (1,048,588 with its own overhead), so one limit serves all backends.
PAYLOAD_BYTES_MAX: Final = 1_000_000
# What a decoder believes: a damaged length must not make it wait for, or allocate, gigabytes.
PAYLOAD_BYTES_BELIEVED: Final = 16 << 20
BODY_BYTES_MAX: Final = (1 << 32) - 1
# Under this, zstd's own header eats what it saves.
COMPRESS_BYTES_MIN: Final = 96
COMPRESS_LEVEL: Final = 1

WHOLE: Final = 0
FIRST: Final = 1
MIDDLE: Final = 2
LAST: Final = 3
BETWEEN: Final = 4

_HEARTBEAT: Final = int(RecordKind.HEARTBEAT)

CODEC_NONE: Final = 0
CODEC_ZSTD: Final = 1

MASKED: Final = 1  # of the flags
MASK_BYTES: Final = 4

# Of the frame before: nothing is known, so any frame may follow. And: there is none, the next one is the first.
UNKNOWN: Final = -1
NOTHING: Final = 0

_HEADER: Final = struct.Struct("<4sIBBBBHHIIQQQIIII")
_SEALED: Final = struct.Struct("<BBBBHHIIQQQIIII")  # what the checksum covers of it
_PREFIX: Final = struct.Struct("<4sI")
_LENGTH: Final = struct.Struct("<I")
_LENGTH_AT: Final = 52  # in every format
_VERSION_AT: Final = 8
_IN_FLIGHT_MAX: Final = (1 << 32) - 1
_COUNT_MAX: Final = (1 << 32) - 1
_EPOCH_MAX: Final = (1 << 32) - 1
_CHECKSUM_BITS: Final = 32
_CHECKSUM_MASK: Final = (1 << 32) - 1

assert _HEADER.size == HEADER_BYTES
assert _PREFIX.size + _SEALED.size == HEADER_BYTES
assert PAYLOAD_BYTES_MAX + MASK_BYTES + SEAL_BYTES <= PAYLOAD_BYTES_BELIEVED


class BadFrame(Exception):  # noqa: N818 - named as the errors of log.py are
    """These bytes are no frame, or a damaged one. The caller adds zone, segment and position."""


class Frame:
    """One decoded frame; its checksum was right. Plain, because millions are made during a replay."""

    __slots__ = (
        "checksum",
        "codec",
        "count",
        "epoch",
        "first_offset",
        "fragment",
        "in_flight",
        "key_id",
        "kind",
        "link",
        "payload",
        "position",
        "raw_length",
        "size",
        "time_ms",
        "version",
    )

    def __init__(
        self,
        kind: int,
        fragment: int,
        codec: int,
        key_id: int,
        epoch: int,
        position: int,
        first_offset: int,
        time_ms: int,
        count: int,
        raw_length: int,
        in_flight: int,
        payload: bytes,
        version: int = FORMAT_VERSION,
        checksum: int = 0,
        link: int = 0,
        size: int = 0,
    ) -> None:
        self.kind: int = kind
        self.fragment: int = fragment
        self.codec: int = codec
        self.key_id: int = key_id
        self.epoch: int = epoch
        self.position: int = position
        self.first_offset: int = first_offset
        self.time_ms: int = time_ms
        self.count: int = count
        self.raw_length: int = raw_length
        self.in_flight: int = in_flight
        self.payload: bytes = payload  # as it was before it was masked; still sealed, where there is a key id
        self.version: int = version
        self.checksum: int = checksum
        self.link: int = link
        self.size: int = size if size else HEADER_BYTES + len(payload)  # bytes that it takes

    @property
    def ends_record(self) -> bool:
        return self.fragment == WHOLE or self.fragment == LAST

    @property
    def next_offset(self) -> int:
        """Offset that follows; that of an unfinished record is its own first, since it will be discarded."""
        return self.first_offset + self.count if self.ends_record else self.first_offset

    @property
    def durable_below(self) -> int:
        """Every position below this one was durable before the frame was sealed."""
        return self.position - self.in_flight

    @property
    def seal(self) -> int:
        """What the next frame must follow (`follows`): the checksum, and above it the format's version."""
        return self.version << _CHECKSUM_BITS | self.checksum

    def authenticated(self) -> bytes:
        """The header as it was sealed with the payload."""
        return _SEALED.pack(
            self.version, self.kind, self.fragment, self.codec, self.key_id, 0, self.epoch, self.link, self.position,
            self.first_offset, self.time_ms, self.count, len(self.payload), self.raw_length, self.in_flight,
        )  # fmt: skip


class Encoder:
    """Turns bodies into frames. Holds a compressor, so it belongs to one writer and one thread at a time."""

    def __init__(self, payload_bytes_max: int = PAYLOAD_BYTES_MAX, keys: Keyring | None = None) -> None:
        """payload_bytes_max: as stored. keys: with them records are sealed, as soon as one of the keys is active."""
        if not 1 <= payload_bytes_max <= PAYLOAD_BYTES_BELIEVED - MASK_BYTES:
            raise ValueError(f"payload limit {payload_bytes_max} is outside 1..{PAYLOAD_BYTES_BELIEVED - MASK_BYTES}")
        self.payload_bytes_max: int = payload_bytes_max if keys is None else max(1, payload_bytes_max - SEAL_BYTES)
        self._keys: Keyring | None = keys
        self._sealer: Sealer | None = None
        self._compressor: zstandard.ZstdCompressor = zstandard.ZstdCompressor(level=COMPRESS_LEVEL)

    def encode(
        self,
        body: bytes,
        *,
        kind: int,
        epoch: int,
        position: int,
        durable_end: int,
        first_offset: int,
        count: int,
        time_ms: int,
        before: int = UNKNOWN,
        inside: bool = False,
    ) -> list[bytes]:
        """Return the frames of one record; each takes one position, counted up from `position`.

        before: the seal of the frame that comes before the first of them. inside: it is a heartbeat between two
        fragments of the record that has `first_offset` and `count`; it takes one frame, or ValueError is raised.
        """
        parts = Parts(body, self._compressor, self.payload_bytes_max, self._sealing(), inside=inside)
        frames: list[bytes] = []
        while not parts.done:
            here = position + len(frames)
            frames.append(
                parts.next(
                    kind=kind, epoch=epoch, position=here, durable_end=durable_end, first_offset=first_offset,
                    count=count, time_ms=time_ms, before=before,
                )
            )  # fmt: skip
            before = seal_of(frames[-1])
        return frames

    def parts(self, body: bytes) -> Parts:
        """The same, frame by frame. Compresses the body, which takes its time; may be called in any thread."""
        return Parts(body, zstandard.ZstdCompressor(level=COMPRESS_LEVEL), self.payload_bytes_max, self._sealing())

    def _sealing(self) -> Sealer | None:
        """Who seals the next record. Raises CannotOpen."""
        keys = self._keys
        if keys is None:
            return None
        self._sealer = keys.sealer(self._sealer)
        return self._sealer

    def moved(self, data: bytes, position: int, durable_end: int, before: int) -> bytes:
        """The same frame, expecting to take another position after another frame; sealed anew where it is sealed.

        Raises CannotOpen.
        """
        frame = decode(data)
        assert frame is not None
        payload = frame.payload
        sealer: Sealer | None = None
        if frame.key_id:
            if frame.position == position and frame.link == _link_to(before):
                return data  # or the copy of it that may be on its way would not be known again
            keys = self._keys
            assert keys is not None
            opened = keys.open(frame.key_id, payload, frame.authenticated())
            assert opened is not None
            payload, sealer = opened, self._sealing()
        return _frame(
            frame.kind, frame.fragment, frame.codec, frame.epoch, before, position, frame.first_offset, frame.time_ms,
            frame.count, frame.raw_length, position - durable_end, payload, sealer,
        )  # fmt: skip


class Parts:
    """One record, compressed, whose frames are sealed one after the other, when each is about to be sent."""

    __slots__ = ("_at", "_codec", "_inside", "_limit", "_raw_length", "_sealer", "_stored", "done")

    def __init__(
        self, body: bytes, compressor: zstandard.ZstdCompressor, payload_bytes_max: int, sealer: Sealer | None = None,
        *, inside: bool = False,
    ) -> None:  # fmt: skip
        raw_length = len(body)
        if raw_length > BODY_BYTES_MAX:
            raise ValueError(f"a record of {raw_length} bytes is past the format's limits")
        codec = CODEC_NONE
        stored = body
        if raw_length >= COMPRESS_BYTES_MIN:
            packed = compressor.compress(body)
            if len(packed) < raw_length:
                codec = CODEC_ZSTD
                stored = packed
        if inside and len(stored) > payload_bytes_max:
            raise ValueError(f"a heartbeat of {raw_length} bytes takes more than one frame")
        self._codec: int = codec
        self._stored: bytes = stored
        self._raw_length: int = raw_length
        self._limit: int = payload_bytes_max
        self._inside: bool = inside
        self._sealer: Sealer | None = sealer
        self._at: int = 0
        self.done: bool = False  # the last frame was sealed

    @property
    def begun(self) -> bool:
        """The first frame was sealed."""
        return self._at > 0 or self.done

    def next(
        self, *, kind: int, epoch: int, position: int, durable_end: int, first_offset: int, count: int, time_ms: int,
        before: int,
    ) -> bytes:  # fmt: skip
        """Seal the next frame."""
        if count > _COUNT_MAX or epoch > _EPOCH_MAX:
            raise ValueError(f"a record of {count} transactions in epoch {epoch} is past the format's limits")
        at, stored = self._at, self._stored
        stop = at + self._limit
        self.done = stop >= len(stored)
        self._at = stop
        if at == 0 and self.done:
            fragment, payload = (BETWEEN if self._inside else WHOLE), stored
        else:
            fragment = FIRST if at == 0 else LAST if self.done else MIDDLE
            payload = stored[at:stop]
        return _frame(
            kind, fragment, self._codec, epoch, before, position, first_offset, time_ms, count, self._raw_length,
            position - durable_end, payload, self._sealer,
        )  # fmt: skip


def _frame(
    kind: int,
    fragment: int,
    codec: int,
    epoch: int,
    before: int,
    position: int,
    first_offset: int,
    time_ms: int,
    count: int,
    raw_length: int,
    in_flight: int,
    payload: bytes,
    sealer: Sealer | None = None,
) -> bytes:
    flying = in_flight if in_flight < _IN_FLIGHT_MAX else _IN_FLIGHT_MAX
    link = _link_to(before)
    if sealer is not None:
        sealed = _SEALED.pack(
            FORMAT_VERSION, kind, fragment, codec, sealer.key_id, 0, epoch, link, position, first_offset, time_ms,
            count, len(payload) + SEAL_BYTES, raw_length, flying,
        )  # fmt: skip
        stored = sealer.seal(payload, sealed)
        while stored.find(MAGIC) >= 0:  # by chance; the next nonce gives other bytes
            stored = sealer.seal(payload, sealed)
        covered = sealed + stored
        return _PREFIX.pack(MAGIC, google_crc32c.value(covered)) + covered
    flags = 0
    if payload.find(MAGIC) >= 0:
        flags = MASKED
        payload = _mask(payload)
    sealed = _SEALED.pack(
        FORMAT_VERSION, kind, fragment, codec, 0, flags, epoch, link, position, first_offset, time_ms,
        count, len(payload), raw_length, flying,
    )  # fmt: skip
    covered = sealed + payload
    return _PREFIX.pack(MAGIC, google_crc32c.value(covered)) + covered


def _link_to(before: int) -> int:
    return before & _CHECKSUM_MASK if before > 0 else 0


def _mask(payload: bytes) -> bytes:
    """The payload under a mask that nobody can have foreseen, without the magic anywhere in it."""
    while True:
        mask = os.urandom(MASK_BYTES)
        masked = mask + _xor(payload, mask)
        if masked.find(MAGIC) < 0:
            return masked


def _xor(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    pattern = (mask * (size // MASK_BYTES + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(pattern, "little")).to_bytes(size, "little")


def seal_of(frame: bytes) -> int:
    """`Frame.seal` of a frame that was made here: nothing is checked."""
    return frame[_VERSION_AT] << _CHECKSUM_BITS | int.from_bytes(frame[4:8], "little")


def follows(frame: Frame, before: int) -> bool:
    """Whether the frame can stand after the one with the seal `before` (or UNKNOWN, or NOTHING: it is the first).

    Format 1 says nothing of what came before; but a writer of it never comes after one of format 2, which it would
    not have read.
    """
    if before < 0:
        return True
    if frame.version < 2:
        return before >> _CHECKSUM_BITS < 2
    return frame.link == before & _CHECKSUM_MASK or frame.link == 0


def unlinked(position: int) -> str:
    """The words for a frame that does not follow."""
    return f"the frame at position {position} does not follow the one before"


def decode(data: bytes, at: int = 0) -> Frame | None:
    """Read the frame that starts at byte `at`, or None when `data` ends before it does.

    Raises BadFrame: not a frame, a newer format, or a wrong checksum.
    """
    left = len(data) - at
    if left < HEADER_BYTES:
        if data[at : at + 4] != MAGIC[: min(left, 4)]:
            raise BadFrame("no frame starts here")
        return None
    (
        magic, crc, version, kind, fragment, codec, key_id, flags, epoch, link, position, first_offset, time_ms, count,
        length, raw_length, in_flight,
    ) = _HEADER.unpack_from(data, at)  # fmt: skip
    if magic != MAGIC:
        raise BadFrame("no frame starts here")
    if length > PAYLOAD_BYTES_BELIEVED:
        raise BadFrame(f"payload length {length} is past the limit {PAYLOAD_BYTES_BELIEVED}")
    if left < HEADER_BYTES + length:
        return None
    stop = at + HEADER_BYTES + length
    if google_crc32c.value(data[at + 8 : stop]) != crc:
        raise BadFrame("wrong checksum")
    # Only now are the fields worth reading: another format is not taken for a flipped bit.
    payload = data[at + HEADER_BYTES : stop]
    if version == FORMAT_VERSION:
        if flags == MASKED:
            payload = _xor(payload[MASK_BYTES:], payload[:MASK_BYTES])
        elif flags:
            raise BadFrame(f"flags {flags:#06x} that this program does not know")
    elif version == 1:
        link = 0
        (
            kind, fragment, codec, key_id, epoch, position, first_offset, time_ms, count, raw_length, in_flight,
        ) = old_frames.fields_1(data, at)  # fmt: skip
        if key_id:
            raise BadFrame(f"key {key_id} in a frame of format version 1, which knows no keys")
    else:
        raise BadFrame(f"format version {version}; this program reads 1 to {FORMAT_VERSION}")
    if kind > 2 or fragment > BETWEEN or codec > CODEC_ZSTD or (fragment == BETWEEN and kind != _HEARTBEAT):
        raise BadFrame(f"unknown kind {kind}, fragment {fragment} or codec {codec}")
    return Frame(
        kind, fragment, codec, key_id, epoch, position, first_offset, time_ms, count, raw_length, in_flight,
        payload, version, crc, link, HEADER_BYTES + length,
    )  # fmt: skip


def covers(data: bytes, at: int) -> int:
    """How many bytes the frame at `at` says it takes, checked by nothing; 0 when no header stands there."""
    if len(data) - at < HEADER_BYTES or data[at : at + 4] != MAGIC:
        return 0
    length: int = _LENGTH.unpack_from(data, at + _LENGTH_AT)[0]
    return HEADER_BYTES + length


def length_at(header: bytes) -> int:
    """The length that a perhaps damaged header states for its frame, magic or not; 0 when it cannot be one."""
    if len(header) < HEADER_BYTES:
        return 0
    length: int = _LENGTH.unpack_from(header, _LENGTH_AT)[0]
    return HEADER_BYTES + length if length <= PAYLOAD_BYTES_BELIEVED else 0
