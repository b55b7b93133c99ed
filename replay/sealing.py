"""Snapshots that are sealed (`backends/seal.py`): with whose keys, and what the sealed bytes are bound to.

The data object of a snapshot is a sealed stream around the compressed file. It is bound to what its manifest says of
its place in history, so under another name or beside another manifest it does not open. SHA-256 and size in the
manifest are those of the object as it is stored: copying, checking and pruning need no key.

Room for keys of data subjects: an RDB file has auxiliary fields, and a value whose subject has a key of its own would
stand there sealed once more, under the same table that the log's frames have room for (`record.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from eventdb.backends.keyrings import keyring_of
from eventdb.backends.seal import CannotOpen, Keyring, Sealing, StreamSealer, no_keys, open_stream

if TYPE_CHECKING:
    from eventdb.backends.log import Log
    from eventdb.replay.manifest import Manifest

Opener = Callable[[Iterator[bytes]], Iterator[bytes]]


def keys_of(log: Log) -> Keyring | None:
    """The keys that the log is sealed with."""
    return log.keys if isinstance(log, Sealing) else None


def bound_to(
    name: str, log_id: str, offset: int, position: int, checksum: int, epoch: int, time_ms: int
) -> bytes:  # fmt: skip
    """What a snapshot's data belongs to, as its manifest says it."""
    return "\n".join(["snapshot", name, log_id, *map(str, (offset, position, checksum, epoch, time_ms))]).encode()


def sealer(keys: Keyring | None, context: bytes) -> StreamSealer | None:
    """Who seals a new snapshot; None: no key is active. Raises BadKeys, CannotOpen."""
    if keys is None:
        keys = keyring_of()
    return StreamSealer(keys, context) if keys is not None and (keys.active or keys.newest_met) else None


def opener(manifest: Manifest, keys: Keyring | None) -> Opener | None:
    """What opens the data of a snapshot; None: it is not sealed. Raises CannotOpen, which names the key."""
    if not manifest.key_id:
        return None
    if keys is None:
        keys = keyring_of()
    key_id = int(manifest.key_id) if manifest.key_id.isdigit() else 0
    if keys is None:
        raise CannotOpen(f"snapshot {manifest.name}: {no_keys(key_id)}")
    try:
        keys.key(key_id)
    except CannotOpen as error:
        raise CannotOpen(f"snapshot {manifest.name}: {error}") from None
    context = bound_to(
        manifest.name, manifest.log_id, manifest.offset, manifest.position, manifest.checksum, manifest.epoch,
        manifest.time_ms,
    )  # fmt: skip
    found = keys
    return lambda pieces: open_stream(pieces, found, context)
