"""Where keys come from: a keyring, found by its URL, and the key-encryption keys that wrap what is in it.

A **keyring** is a small JSON text that holds the data keys and says which of them seals what is new::

    {"active": 2, "keys": {
        "1": {"made": "2026-01-31T14:05:00Z", "key": "BASE64"},
        "2": {"made": "2026-03-01T09:00:00Z", "wrapped_by": "command:vault-key db", "key": "BASE64"}}}

It is in a file (`file:PATH`, which nobody but its owner may read), in an environment variable (`env:NAME`), or is what
a program prints (`command:PROGRAM ARGUMENT ...`, which is no shell's line). Data keys are 32 random bytes.

Where an entry says `wrapped_by`, its key is encrypted by a **key-encryption key**, again a URL: `file:`, `env:` and
`command:` give 64 hex digits, which encrypt by AES-256-GCM; `aws-kms:` is a key of AWS KMS (`aws_kms.py`); any other
scheme is an entry point of the group `eventdb.keys`, where a third party registers `scheme = "module:function"`: a
function that takes the URL and returns a `Wrapping`. Its key never leaves it.

The keyring is beside the log and not in it: what is in the log is immutable and linked by checksums, so a key there
could not be wrapped anew; a topic has no other place; and a stolen zone shows not even a wrapped key.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import json
import os
import shlex
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final, Protocol, runtime_checkable

from eventdb.backends.discreet import shown
from eventdb.backends.seal import ENVIRONMENT, KEY_BYTES, KEY_ID_MAX, LOOK_S, BadKeys, Keyring, KeySet, aes_gcm

GROUP: Final = "eventdb.keys"
_BUILT_IN: Final[dict[str, tuple[str, str]]] = {"aws-kms": ("eventdb.backends.aws_kms", "open_kms")}
COMMAND_S_MAX: Final = 10.0
COMMAND_EVERY_S: Final = 60.0  # a program is asked for the keys this often, and when one is missing
KEYRING_BYTES_MAX: Final = 1 << 20
NONCE_BYTES: Final = 12
AGAIN_S: Final = 1.0  # a keyring that was read this long ago is read again when another log is opened


@runtime_checkable
class Wrapping(Protocol):
    """A key-encryption key. `about` is authenticated with the key, and the same both times."""

    def wrap(self, key: bytes, about: bytes) -> bytes:
        """Raises BadKeys."""
        ...

    def unwrap(self, wrapped: bytes, about: bytes) -> bytes:
        """Raises BadKeys."""
        ...


class LocalWrapping:
    """Wraps by AES-256-GCM with a key that is here, under a random nonce: it wraps a handful of keys."""

    def __init__(self, url: str, key: bytes) -> None:
        self._url = shown(url)
        self._aead = aes_gcm(key)

    def wrap(self, key: bytes, about: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        wrapped: bytes = self._aead.encrypt(nonce, key, about)
        return nonce + wrapped

    def unwrap(self, wrapped: bytes, about: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        try:
            key: bytes = self._aead.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], about)
        except (InvalidTag, ValueError):
            raise BadKeys(f"{self._url} is not the key that wrapped it") from None
        return key


@dataclass(slots=True)
class Entry:
    made: str
    key: bytes  # wrapped, if it says by what
    wrapped_by: str = ""


Known = tuple[int, bytes, str]  # a key as it stands in a keyring: its id, its bytes, and what wraps them


@dataclass(slots=True)
class Contents:
    """What a keyring holds."""

    active: int = 0
    entries: dict[int, Entry] = field(default_factory=dict)

    def encode(self) -> bytes:
        keys: dict[str, dict[str, str]] = {}
        for key_id, entry in sorted(self.entries.items()):
            wrapped_by = {"wrapped_by": entry.wrapped_by} if entry.wrapped_by else {}
            keys[f"{key_id}"] = {"made": entry.made, **wrapped_by, "key": base64.b64encode(entry.key).decode()}
        return json.dumps({"active": self.active, "keys": keys}, indent=1).encode() + b"\n"

    def add(self, wrapped_by: str = "") -> int:
        """A new random key, which is not active yet; its id. Raises BadKeys."""
        key_id = max(self.entries, default=0) + 1
        if key_id > KEY_ID_MAX:
            raise BadKeys(f"a keyring has room for {KEY_ID_MAX} keys")
        entry = Entry(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), os.urandom(KEY_BYTES))
        if wrapped_by:
            entry.key, entry.wrapped_by = wrapping(wrapped_by).wrap(entry.key, about(key_id)), wrapped_by
        self.entries[key_id] = entry
        return key_id

    def key(self, key_id: int) -> bytes:
        """Raises BadKeys: it cannot be unwrapped."""
        entry = self.entries[key_id]
        if not entry.wrapped_by:
            return entry.key
        return wrapping(entry.wrapped_by).unwrap(entry.key, about(key_id))

    def rewrap(self, key_id: int, wrapped_by: str) -> None:
        """Wrap a key anew; "": not at all. Raises BadKeys."""
        entry = self.entries[key_id]
        key = self.key(key_id)
        wrapped = wrapping(wrapped_by).wrap(key, about(key_id)) if wrapped_by else key
        entry.key, entry.wrapped_by = wrapped, wrapped_by

    def key_set(self, known: dict[Known, bytes] | None = None) -> KeySet:
        """known: what was unwrapped before and need not be asked for again; what is unwrapped now is added."""
        known = {} if known is None else known
        keys: dict[int, bytes] = {}
        locked: dict[int, str] = {}
        for key_id, entry in self.entries.items():
            name = (key_id, entry.key, entry.wrapped_by)
            try:
                keys[key_id] = known[name] = known.get(name) or self.key(key_id)
            except BadKeys as error:
                locked[key_id] = f"{error}"
        return KeySet(self.active, keys, locked)


def about(key_id: int) -> bytes:
    return b"eventdb data key %d" % key_id


def contents_of(url: str) -> Contents:
    """The keyring that the URL names. Raises BadKeys."""
    text = _text(url)
    try:
        said = json.loads(text)
        entries = {
            int(key_id): Entry(
                str(entry.get("made", "")), base64.b64decode(entry["key"], validate=True),
                str(entry.get("wrapped_by", "")),
            )
            for key_id, entry in said["keys"].items()
        }  # fmt: skip
        return Contents(int(said.get("active", 0)), entries)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, binascii.Error):
        # Nothing of the text is shown: it has keys in it.
        raise BadKeys(f"{shown(url)} holds no keyring: `eventdb keys generate` makes one") from None


@contextlib.contextmanager
def changing(url: str, *, make: bool = False) -> Iterator[Contents]:
    """The keyring, to be changed, and then put in its place: one at a time, so that no key is lost that was told of.

    make: one that is not there is made. Raises BadKeys, OSError.
    """
    path = os.path.realpath(file_of(url))
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        contents = Contents() if make and not os.path.exists(path) else contents_of(url)
        yield contents
        store(url, contents)
    finally:
        os.close(folder)  # with which the lock goes


def store(url: str, contents: Contents) -> None:
    """Replace the keyring's file as a whole, readable by its owner alone. Raises BadKeys, OSError."""
    path = os.path.realpath(file_of(url))  # a link to it stays one
    aside = f"{path}.new"
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(fd, 0o600)
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(contents.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(aside, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def file_of(url: str) -> str:
    """The path that a `file:` URL names. Raises BadKeys: it is none."""
    scheme, _colon, where = url.partition(":")
    if scheme != "file" or not where:
        raise BadKeys(f"{shown(url)}: only a keyring in a file (file:PATH) can be changed")
    return where


def wrapping(url: str) -> Wrapping:
    """The key-encryption key that the URL names. Raises BadKeys."""
    scheme = url.partition(":")[0]
    if scheme in ("file", "env", "command"):
        try:
            key = bytes.fromhex(_text(url).decode().strip())
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise BadKeys(f"{shown(url)} does not hold {2 * KEY_BYTES} hex digits")
        return LocalWrapping(url, key)
    made = _plugin(scheme, url)
    if not isinstance(made, Wrapping):
        raise BadKeys(f"{shown(url)}: what the key provider returns cannot wrap and unwrap")
    return Guarded(url, made)


def _plugin(scheme: str, url: str) -> object:
    """What a key provider makes of its URL. Raises BadKeys."""
    entries: list[EntryPoint] = list(entry_points(group=GROUP, name=scheme))
    if scheme not in _BUILT_IN:
        if not entries:
            known = ", ".join(f"{each}:" for each in providers())
            raise BadKeys(f"{shown(url)}: no key provider is called {scheme!r}: there are {known}")
        if len({entry.value for entry in entries}) > 1:
            raise BadKeys(f"{shown(url)}: is claimed by {', '.join(sorted(entry.value for entry in entries))}")
    try:
        if scheme in _BUILT_IN:
            module, function = _BUILT_IN[scheme]
            return getattr(import_module(module), function)(url)
        return entries[0].load()(url)
    except BadKeys as error:
        raise BadKeys(f"{shown(url)}: {error}") from None
    except Exception as failure:
        raise BadKeys(f"{shown(url)}: the key provider does not load: {failure}") from failure


def providers() -> list[str]:
    """Every scheme of a key-encryption key that is understood here."""
    return ["file", "env", "command", *sorted({*_BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))})]


class Guarded:
    """A plugin's key: whatever it raises becomes a line that names it."""

    def __init__(self, url: str, inner: Wrapping) -> None:
        self._url = shown(url)
        self._inner = inner

    def wrap(self, key: bytes, about: bytes) -> bytes:
        try:
            return self._inner.wrap(key, about)
        except Exception as error:
            raise BadKeys(f"{self._url} does not wrap: {error}") from error

    def unwrap(self, wrapped: bytes, about: bytes) -> bytes:
        try:
            return self._inner.unwrap(wrapped, about)
        except Exception as error:
            raise BadKeys(f"{self._url} does not unwrap: {error}") from error


def _text(url: str) -> bytes:
    """What a `file:`, `env:` or `command:` URL holds. Raises BadKeys; its text never shows a key."""
    scheme, _colon, where = url.partition(":")
    if scheme == "file" and where:
        return _file(where)
    if scheme == "env" and where:
        value = os.environ.get(where)
        if value is None:
            raise BadKeys(f"{shown(url)}: there is no such environment variable")
        return value.encode("utf-8", "surrogateescape")
    if scheme == "command" and where.strip():
        return _printed(url, where)
    raise BadKeys("what was given names no keys: write file:PATH, env:NAME or command:PROGRAM ARGUMENT ...")


def _file(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                raise BadKeys(f"{path} is not a file")
            if mode & 0o077:
                raise BadKeys(f"{path} can be read by others (mode {mode & 0o777:04o}): chmod 600 {path}")
            return os.read(fd, KEYRING_BYTES_MAX)
        finally:
            os.close(fd)
    except OSError as error:
        raise BadKeys(f"{path}: {error.strerror or error}") from None


def _printed(url: str, line: str) -> bytes:
    try:
        done = subprocess.run(
            shlex.split(line), capture_output=True, timeout=COMMAND_S_MAX, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise BadKeys(f"{shown(url)} does not end within {COMMAND_S_MAX:.0f} s") from None
    except (OSError, ValueError) as error:
        raise BadKeys(f"{shown(url)} cannot be run: {error}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise BadKeys(f"{shown(url)} ends with code {done.returncode}{': ' + said[-1] if said else ''}")
    return done.stdout


_open: Final[dict[str, Keyring]] = {}
_lock: Final = threading.Lock()


def keyring_of(url: str = "") -> Keyring | None:
    """The keyring at `url`, or where EVENTDB_ENCRYPTION_KEYS says; None: nowhere. One object a URL in a process.

    Raises BadKeys.
    """
    url = url or os.environ.get(ENVIRONMENT, "")
    if not url:
        return None
    with _lock:
        found = _open.get(url)
        if found is None:
            known: dict[Known, bytes] = {}
            every_s = COMMAND_EVERY_S if url.startswith("command:") else LOOK_S
            found = _open[url] = Keyring(
                contents_of(url).key_set(known), lambda: contents_of(url).key_set(known), every_s
            )
        else:
            found.look_again(AGAIN_S)
        return found
