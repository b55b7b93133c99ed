"""From frames back to records: fragments joined, what is sealed opened, bodies decompressed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import zstandard

from eventdb.backends.log import Record, RecordKind
from eventdb.backends.record import BETWEEN, CODEC_ZSTD, FIRST, MIDDLE, WHOLE, BadFrame, Frame
from eventdb.backends.seal import CannotOpen, Keyring, no_keys

_KINDS: Final = (RecordKind.DATA, RecordKind.CLAIM, RecordKind.HEARTBEAT)


class Assembler:
    """Joins fragments and decompresses bodies; one for each reader, fed in log order.

    A record is handed out only once its last fragment has come. Fragments cut off by the record of a
    new epoch are discarded: their writer was fenced before it could finish, nobody was told OK.
    """

    def __init__(self, keys: Keyring | None = None) -> None:
        self._keys: Keyring | None = keys
        self._sealed: bool = False  # a frame was: none after it may not be
        self._blind: bool = False  # what is joined has a part that could not be opened (`seal.Survey`)
        self._decompressor: zstandard.ZstdDecompressor = zstandard.ZstdDecompressor()
        self._open: Frame | None = None  # the latest fragment of a record not yet whole
        self._parts: list[bytes] = []
        self._parts_bytes: int = 0
        self._began: bool = False  # a reader may start in the middle of a record; later that is damage

    @property
    def pending(self) -> bool:
        """True while a record is half read: its first fragment is in, its last is not."""
        return self._open is not None

    def feed(self, frame: Frame, position: int) -> Record | None:
        """Take the next frame of history; return the record it completes.

        Raises BadFrame, and is then as it was before: another copy of the frame may be fed.
        """
        if frame.fragment == BETWEEN:
            return self._between(frame, position)
        if frame.fragment == WHOLE:
            if self._open is not None:
                self._check_cut(frame)
            record = self._record(frame, self._opened(frame), position, frame.count)
            self._forget()
            self._began = True
            return record
        before = self._open
        if frame.fragment == FIRST:
            if before is not None:
                self._check_cut(frame)
            payload = self._opened(frame)
            _check_size(len(payload), frame)
            self._forget()
            self._began = True
            self._keep(frame, payload)
            return None
        if before is None:
            if self._began:
                raise BadFrame("a fragment without its beginning")
            return None
        if (
            before.epoch != frame.epoch
            or before.first_offset != frame.first_offset
            or before.raw_length != frame.raw_length
            or before.position >= frame.position
        ):
            raise BadFrame("a fragment that belongs to another record")
        payload = self._opened(frame)
        _check_size(self._parts_bytes + len(payload), frame)
        if frame.fragment == MIDDLE:
            self._keep(frame, payload)
            return None
        record = self._record(frame, b"".join([*self._parts, payload]), position, frame.count)
        self._forget()
        return record

    def _between(self, frame: Frame, position: int) -> Record:
        """A heartbeat between two fragments: they go on after it."""
        before = self._open
        if before is None and self._began:
            raise BadFrame("a heartbeat inside a record, and there is none")
        if before is not None and (before.epoch, before.first_offset) != (frame.epoch, frame.first_offset):
            raise BadFrame("a heartbeat inside another record")
        blind = self._blind  # of the parts around it
        self._blind = False
        try:
            return self._record(frame, self._opened(frame), position, 0)
        finally:
            self._blind = blind

    def _opened(self, frame: Frame) -> bytes:
        """The payload as it was before it was sealed. Raises BadFrame."""
        if frame.key_id == 0:
            if self._sealed:
                raise BadFrame("not encrypted, after records that are: no node with the keys has written it")
            if self._keys is not None:
                self._keys.met_clear()
            return frame.payload
        keys = self._keys
        if keys is None:
            raise BadFrame(no_keys(frame.key_id))
        try:
            payload = keys.open(frame.key_id, frame.payload, frame.authenticated())
        except CannotOpen as error:
            raise BadFrame(f"{error}") from None
        self._sealed = True
        if payload is None:
            self._blind = True
            return b""
        return payload

    def _keep(self, frame: Frame, payload: bytes) -> None:
        self._open = frame
        self._parts.append(payload)
        self._parts_bytes += len(payload)

    def _check_cut(self, following: Frame) -> None:
        """A record that is half read may be cut off by the record of a new epoch alone. Raises BadFrame."""
        assert self._open is not None
        if following.epoch == self._open.epoch:
            raise BadFrame("a record that ends in the middle, inside its own epoch")

    def _forget(self) -> None:
        if self._open is not None:
            self._open = None
            self._parts = []
            self._parts_bytes = 0

    def _record(self, frame: Frame, payload: bytes, position: int, count: int) -> Record:
        body = payload
        if self._blind:
            self._blind = False
            body = b""
        elif frame.codec == CODEC_ZSTD:
            body = decompress(self._decompressor, payload, frame.raw_length)
        elif len(body) != frame.raw_length:
            raise BadFrame(f"body has {len(body)} bytes, its header says {frame.raw_length}")
        return Record(
            position, frame.epoch, _KINDS[frame.kind], frame.first_offset, count, frame.time_ms, body, frame.seal
        )


def unopened(frames: Sequence[Frame], keys: Keyring) -> str:
    """Position and reason of the first of these that does not open with the key it names, if that is there; or ""."""
    there = keys.ids()
    for frame in frames:
        if frame.key_id in there:
            try:
                keys.open(frame.key_id, frame.payload, frame.authenticated())
            except CannotOpen as error:
                return f"position {frame.position}: {error}"
    return ""


def _check_size(size: int, frame: Frame) -> None:
    if size > frame.raw_length:  # a stored body is never longer than the raw one
        raise BadFrame(f"fragments hold more than the record's {frame.raw_length} bytes")


def decompress(decompressor: zstandard.ZstdDecompressor, payload: bytes, raw_length: int) -> bytes:
    """Undo zstd, never producing more than `raw_length` bytes. Raises BadFrame."""
    try:
        # The library sizes its output by what the payload claims, so the claim is checked first.
        if zstandard.frame_content_size(payload) != raw_length:
            raise BadFrame("compressed body and header disagree about its length")
        body = decompressor.decompress(payload, max_output_size=raw_length)
    except zstandard.ZstdError as error:
        raise BadFrame(f"body does not decompress: {error}") from None
    if len(body) != raw_length:
        raise BadFrame(f"body has {len(body)} bytes, its header says {raw_length}")
    return body
