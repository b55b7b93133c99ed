"""Encryption at rest: what seals the payload of a frame, and a stream of bytes such as a snapshot.

A sealed payload::

    at  size  field
     0   16   salt: random, of the one who seals; drawn anew for each claim, key and SEALS_MAX records
    16    8   count: 1, 2, 3 ... of what was sealed with that salt, little-endian
    24        AES-256-GCM of the payload, and after it the tag of 16 bytes

The header of the frame (`record.py`) names a *data key*. What encrypts is a key of its own for each salt:
HMAC-SHA256(data key, LABEL + salt). The nonce is the count and four zeros, and the authenticated data are the 56 bytes
of the header after the checksum: epoch, link, position, offset, time and all the rest.

**No nonce comes twice under one key.** Two payloads could share key and nonce only if they shared a salt. One `Sealer`
counts up and never gives a count twice. Two of them, in one process or two, draw the same 128 random bits with a chance
of 2^-65 once 2^32 of them have lived. So it matters neither how many nodes have the data key, nor that a fenced writer
goes on sealing for a while. A frame is sealed once: a zone that is retried, caught up, repaired or brought up to a
claim gets the same bytes. Kafka's writer, whose frame may have to expect another place, seals it anew under the next
count (`record.Encoder.moved`); so does a frame whose ciphertext happens to contain the frame's magic.

A stream (`seal_stream`) is a header and chunks; the nonce of a chunk is its number and whether it is the last one, so
that one cut short, turned round or continued is no stream. The header and the caller's `context` are authenticated.

The library `cryptography` is imported when there is something to seal or to open.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Final, Protocol, runtime_checkable

from eventdb.backends.log import LogError

logger: Final = logging.getLogger("eventdb.backends.seal")

KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
COUNT_BYTES: Final = 8
TAG_BYTES: Final = 16
SEAL_BYTES: Final = SALT_BYTES + COUNT_BYTES + TAG_BYTES  # what sealing adds to a payload
KEY_ID_MAX: Final = (1 << 16) - 1
SEALS_MAX: Final = 1 << 28  # records of one salt; then another one is drawn
SUBKEYS_MAX: Final = 64  # that are kept for reading; there is one for each claim
ENVIRONMENT: Final = "EVENTDB_ENCRYPTION_KEYS"  # the URL of the keyring, where nothing else says it
LOOK_S: Final = 5.0  # between two looks whether the keys have changed
MISSED_S: Final = 0.5  # the same when a key is missing

LABEL: Final = b"eventdb record key\0"
STREAM_LABEL: Final = b"eventdb stream key\0"
STREAM_MAGIC: Final = b"evSS"
STREAM_VERSION: Final = 1
CHUNK_BYTES_MAX: Final = 1 << 20
_STREAM: Final = struct.Struct("<4sBBH16s")  # magic, version, zero, key id, salt
_CHUNK: Final = struct.Struct("<IB")  # bytes that follow, 1 if it is the last
_NONCE: Final = struct.Struct("<QHBB")


class BadKeys(LogError):  # noqa: N818 - named as the errors of log.py are
    """The configured keys cannot be used: a file that others may read, a key of the wrong size, no library."""


class CannotOpen(LogError):  # noqa: N818
    """What is sealed cannot be opened: its key is not there, or it was tampered with. The text names the key."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """What a source of keys gave."""

    active: int = 0  # the id of the key that seals what is new; 0: nothing is sealed yet
    keys: Mapping[int, bytes] = field(default_factory=dict)
    locked: Mapping[int, str] = field(default_factory=dict)  # known, and why it cannot be unwrapped


def aes_gcm(key: bytes) -> Any:
    """AES-256-GCM under that key. Raises BadKeys: the library is not installed."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError:
        raise BadKeys("encryption needs cryptography, which is not installed: pip install 'eventdb[crypto]'") from None
    return AESGCM(key)


def _derived(label: bytes, key: bytes, salt: bytes) -> Any:
    return aes_gcm(hmac.new(key, label + salt, hashlib.sha256).digest())


class Sealer:
    """Seals payloads under one data key and one salt. Any thread may call it."""

    __slots__ = ("_aead", "_counts", "_salt", "key_id", "spent")

    def __init__(self, key_id: int, key: bytes) -> None:
        self.key_id: int = key_id
        self.spent: bool = False  # it has sealed enough: draw another salt
        self._salt: bytes = os.urandom(SALT_BYTES)
        self._aead: Any = _derived(LABEL, key, self._salt)
        self._counts: Iterator[int] = count(1)

    def seal(self, payload: bytes, header: bytes) -> bytes:
        number = next(self._counts)
        if number >= SEALS_MAX:
            self.spent = True
        counted = number.to_bytes(COUNT_BYTES, "little")
        sealed: bytes = self._aead.encrypt(counted + b"\0\0\0\0", payload, header)
        return self._salt + counted + sealed


class Keyring:
    """The data keys of a process. Shared by readers and writers, in any thread.

    source: asked again from time to time, so that a rotated key needs no restart; and when a key is missing.
    """

    def __init__(self, given: KeySet, source: Callable[[], KeySet] | None = None, every_s: float = LOOK_S) -> None:
        self._given = given
        self._source = source
        self._every_s = every_s
        self._subkeys: dict[tuple[int, bytes], Any] = {}
        self._looked = time.monotonic()
        self._looking = threading.Lock()
        self.newest_met = 0  # the highest key id met in a log: what comes after it is never written in the clear
        _check(given)
        if given.keys:
            aes_gcm(next(iter(given.keys.values())))  # a missing library is found at the start

    @property
    def active(self) -> int:
        return self._given.active

    def ids(self) -> list[int]:
        """The keys that are there, in order."""
        return sorted(self._given.keys)

    def met(self, key_id: int) -> None:
        """A log holds what was sealed with this key."""
        self.newest_met = max(self.newest_met, key_id)

    def met_clear(self) -> None:
        """A log holds what is not sealed."""

    def sealer(self, current: Sealer | None) -> Sealer | None:
        """Who seals the next record: `current` as long as its key is the one to be used; None: nobody seals.

        Raises CannotOpen: the log is sealed, and no key is there to go on with.
        """
        if self._source is not None and time.monotonic() - self._looked >= self._every_s:
            self._looked = time.monotonic()
            threading.Thread(target=self.look, name="eventdb-keys", daemon=True).start()
        key_id = self._given.active or self.newest_met
        if current is not None and current.key_id == key_id and not current.spent:
            return current
        if not key_id:
            return None
        self.met(key_id)
        return Sealer(key_id, self.key(key_id))

    def open(self, key_id: int, payload: bytes, header: bytes) -> bytes | None:
        """The payload as it was before it was sealed. Raises CannotOpen. None: as `Survey` says."""
        self.met(key_id)
        salt, counted = payload[:SALT_BYTES], payload[SALT_BYTES : SALT_BYTES + COUNT_BYTES]
        aead = self._subkeys.get((key_id, salt))
        if aead is None:
            aead = _derived(LABEL, self.key(key_id), salt)
            if len(self._subkeys) >= SUBKEYS_MAX:
                self._subkeys.pop(next(iter(self._subkeys)), None)
            self._subkeys[(key_id, salt)] = aead
        return _opened(aead, counted + b"\0\0\0\0", payload[SALT_BYTES + COUNT_BYTES :], header, key_id)

    def key(self, key_id: int) -> bytes:
        """That data key. Raises CannotOpen."""
        key = self._given.keys.get(key_id)
        if key is None:
            self.look_again(MISSED_S)
            key = self._given.keys.get(key_id)
        if key is None:
            locked = self._given.locked.get(key_id)
            if locked is not None:
                raise CannotOpen(f"sealed with key {key_id}, which cannot be unwrapped: {locked}")
            raise CannotOpen(f"sealed with key {key_id}, which is not there: there {_listed(self.ids())}")
        return key

    def look_again(self, seconds: float) -> None:
        """Ask the source again, if that was done longer ago."""
        if self._source is not None and time.monotonic() - self._looked >= seconds:
            self._looked = time.monotonic()
            self.look()

    def look(self) -> None:
        """Ask the source again. A source that fails changes nothing, and is logged."""
        source = self._source
        if source is None or not self._looking.acquire(blocking=False):
            return
        try:
            given = source()
            _check(given)
            for key_id, key in given.keys.items():
                if self._given.keys.get(key_id, key) != key:
                    raise BadKeys(f"key {key_id} is another one than before: a key is never changed, a new one is made")
            if given.active != self._given.active:
                logger.info("records are sealed with key %d from now on", given.active or self.newest_met)
            # A key that is taken away may still be needed for what this process has open.
            self._given = replace(given, keys={**self._given.keys, **given.keys})
        except (LogError, OSError) as error:
            logger.warning("the encryption keys cannot be read again, those from before are used: %s", error)
        finally:
            self._looking.release()


class Survey(Keyring):
    """Counts what is sealed with which key, and opens nothing that has no key: such a record has an empty body."""

    def __init__(self, given: KeySet) -> None:
        super().__init__(given)
        self.frames: dict[int, int] = {}  # key id -> frames sealed with it
        self.failed: dict[int, str] = {}  # key id -> the first reason why one cannot be opened
        self.clear = 0  # frames that are not sealed

    def met_clear(self) -> None:
        self.clear += 1

    def open(self, key_id: int, payload: bytes, header: bytes) -> bytes | None:
        self.frames[key_id] = self.frames.get(key_id, 0) + 1
        try:
            return super().open(key_id, payload, header)
        except CannotOpen as error:
            self.failed.setdefault(key_id, f"{error}")
            return None


def unsealable(key_id: int, keys: Keyring | None) -> str:
    """Why a log whose last frame is sealed with that key (0: it is not) cannot be written with these; "" if it can."""
    if key_id == 0:
        return ""
    if keys is None:
        return f"it is {no_keys(key_id)}"
    keys.met(key_id)
    try:
        keys.sealer(None)
    except CannotOpen as error:
        return f"it is {error}"
    return ""


def no_keys(key_id: int) -> str:
    return f"sealed with key {key_id}, and no keys are given (encryption-keys, or {ENVIRONMENT})"


def for_child(url: str) -> dict[str, str]:
    """What the environment of a program that opens the same log has to have; url: of the keyring, or ""."""
    return {ENVIRONMENT: url} if url else {}


def _check(given: KeySet) -> None:
    for key_id, key in given.keys.items():
        if not 1 <= key_id <= KEY_ID_MAX:
            raise BadKeys(f"key id {key_id} is not within 1..{KEY_ID_MAX}")
        if len(key) != KEY_BYTES:
            raise BadKeys(f"key {key_id} has {len(key)} bytes, not {KEY_BYTES}")
    if given.active and given.active not in given.keys:
        why = given.locked.get(given.active, f"it is not there: there {_listed(sorted(given.keys))}")
        raise BadKeys(f"key {given.active}, which is to seal new records, cannot be used: {why}")


def _listed(ids: list[int]) -> str:
    if not ids:
        return "is none"
    return f"{'is' if len(ids) == 1 else 'are'} {', '.join(map(str, ids))}"


def _opened(aead: Any, nonce: bytes, sealed: bytes, header: bytes, key_id: int) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        opened: bytes = aead.decrypt(nonce, sealed, header)
    except (InvalidTag, ValueError):  # ValueError: too short to have a nonce
        raise CannotOpen(f"does not decrypt with key {key_id}: tampered with, or sealed with another key") from None
    return opened


@runtime_checkable
class Sealing(Protocol):
    """A Log that can seal what it writes and open what is sealed (`seal.py`).

    `use_keys` comes before anything else is asked of it. A log of which nothing is ever stored may ignore the keys.
    """

    keys: Keyring | None

    def use_keys(self, keys: Keyring) -> None: ...


# -- streams ----------------------------------------------------------------------------------------------------


class StreamSealer:
    """Seals a stream that comes in chunks; see `seal_stream`."""

    def __init__(self, keyring: Keyring, context: bytes = b"") -> None:
        """Raises BadKeys: no key is active."""
        self.key_id = keyring.active or keyring.newest_met
        if not self.key_id:
            raise BadKeys("no key is active: `eventdb keys rotate` makes the newest one so")
        salt = os.urandom(SALT_BYTES)
        self._aead = _derived(STREAM_LABEL, keyring.key(self.key_id), salt)
        self._header = _STREAM.pack(STREAM_MAGIC, STREAM_VERSION, 0, self.key_id, salt)
        self._bound = self._header + context
        self._number = 0
        self._waiting: bytes | None = None  # until it is known whether it is the last one

    def add(self, data: bytes) -> bytes:
        """What can be stored now."""
        stored: list[bytes] = []
        for at in range(0, len(data), CHUNK_BYTES_MAX):
            if self._waiting is not None:
                stored.append(self._sealed(self._waiting, last=False))
            self._waiting = bytes(data[at : at + CHUNK_BYTES_MAX])
        return b"".join(stored)

    def end(self) -> bytes:
        """The rest; nothing may be added afterwards."""
        return self._sealed(self._waiting or b"", last=True)

    def _sealed(self, chunk: bytes, *, last: bool) -> bytes:
        number = self._number
        self._number += 1
        sealed: bytes = self._aead.encrypt(_NONCE.pack(number, 0, 0, last), chunk, self._bound)
        return (b"" if number else self._header) + _CHUNK.pack(len(sealed), last) + sealed


def seal_stream(chunks: Iterable[bytes], keyring: Keyring, context: bytes = b"") -> Iterator[bytes]:
    """The bytes of `chunks`, sealed with the active key. `context`: what the stream belongs to, said again to open it.

    Raises BadKeys: no key is active.
    """
    sealer = StreamSealer(keyring, context)
    for chunk in chunks:
        if stored := sealer.add(chunk):
            yield stored
    yield sealer.end()


def open_stream(chunks: Iterable[bytes], keyring: Keyring, context: bytes = b"") -> Iterator[bytes]:
    """What `seal_stream` was given. Only when it has ended without an error was it all: use nothing before.

    Raises CannotOpen: no such stream, another key, tampered with, cut short.
    """
    source = iter(chunks)
    buffer = bytearray()

    def take(size: int, what: str) -> bytes:
        while len(buffer) < size:
            more = next(source, None)
            if more is None:
                raise CannotOpen(f"cut short: {what} is missing")
            buffer.extend(more)
        taken = bytes(buffer[:size])
        del buffer[:size]
        return taken

    header = take(_STREAM.size, "its beginning")
    magic, version, _zero, key_id, salt = _STREAM.unpack(header)
    if magic != STREAM_MAGIC or version != STREAM_VERSION:
        raise CannotOpen(f"not a sealed stream of version {STREAM_VERSION}")
    aead = _derived(STREAM_LABEL, keyring.key(key_id), salt)
    number = 0
    last = 0
    while not last:
        size, last = _CHUNK.unpack(take(_CHUNK.size, f"chunk {number}"))
        if not TAG_BYTES <= size <= CHUNK_BYTES_MAX + TAG_BYTES:
            raise CannotOpen(f"chunk {number} says that it has {size} bytes: tampered with")
        if last > 1:
            raise CannotOpen(f"chunk {number} is neither the last nor another one: tampered with")
        sealed = take(size, f"a part of chunk {number}")
        try:
            opened = _opened(aead, _NONCE.pack(number, 0, 0, last), sealed, header + context, key_id)
        except CannotOpen as error:
            raise CannotOpen(f"chunk {number} {error}") from None
        if opened:
            yield opened
        number += 1
    if buffer or any(source):
        raise CannotOpen("goes on after its end: tampered with")
