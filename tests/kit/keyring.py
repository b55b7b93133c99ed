"""Keys for tests of encryption at rest, and what a test looks for on disk."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import google_crc32c

from eventdb.backends.keyrings import Contents, Entry, store
from eventdb.backends.record import BadFrame, decode
from eventdb.backends.seal import COUNT_BYTES, SALT_BYTES, Keyring, KeySet


def key_of(key_id: int) -> bytes:
    """The same in every run: golden files are sealed with these."""
    return hashlib.sha256(b"test key %d" % key_id).digest()


def ring(*key_ids: int, active: int | None = None) -> Keyring:
    """A keyring of these test keys; the last one is active."""
    chosen = (key_ids[-1] if key_ids else 0) if active is None else active
    return Keyring(KeySet(chosen, {key_id: key_of(key_id) for key_id in key_ids}))


def keyring_file(path: Path, *key_ids: int, active: int | None = None) -> str:
    """The same as a file; its URL."""
    chosen = (key_ids[-1] if key_ids else 0) if active is None else active
    entries = {key_id: Entry("2026-01-31T14:05:00Z", key_of(key_id)) for key_id in key_ids}
    store(f"file:{path}", Contents(chosen, entries))
    return f"file:{path}"


def frames_in(data: bytes) -> list[bytes]:
    """The frames that lie one after the other in a segment, up to its end, a torn one, or zeros."""
    found: list[bytes] = []
    at = 0
    with suppress(BadFrame):
        while (frame := decode(data, at)) is not None:
            found.append(data[at : at + frame.size])
            at += frame.size
    return found


def nonce_of(frame: bytes) -> tuple[int, bytes]:
    """(key id, salt and count): what no two different frames may share."""
    decoded = decode(frame)
    assert decoded is not None and decoded.key_id
    return decoded.key_id, decoded.payload[: SALT_BYTES + COUNT_BYTES]


def with_right_checksum(frame: bytes) -> bytes:
    """What an attacker makes of a frame that was changed."""
    return frame[:4] + int(google_crc32c.value(frame[8:])).to_bytes(4, "little") + frame[8:]
