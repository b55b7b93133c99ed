"""Where snapshots are kept, by URL.

/var/backups/db, file:/var/backups/db     a directory (directory_store.py)
s3://bucket/prefix, gs://…, az://…        an object store (object_store.py, eventdb[s3])
any other URL that fsspec knows           fsspec_store.py, when fsspec is installed
"""

from __future__ import annotations

import re
from typing import Final

from eventdb.replay.directory_store import DirectoryStore
from eventdb.replay.store import (
    AlreadyThere,
    BadStoreURL,
    NotThere,
    SnapshotStore,
    StoreError,
    StoreFull,
    StoreUnavailable,
)

__all__ = [
    "AlreadyThere",
    "BadStoreURL",
    "DirectoryStore",
    "NotThere",
    "SnapshotStore",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "open_store",
]

SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*):")
OBJECT_STORES: Final = frozenset(("s3", "s3a", "gs", "az", "azure", "abfs", "abfss"))


def open_store(url: str) -> SnapshotStore:
    """The store at a URL or a path. Raises BadStoreURL; reaches out to nothing yet."""
    if not url:
        raise BadStoreURL("the store has no name: give a directory, or a URL such as s3://bucket/prefix")
    found = SCHEME.match(url)
    if found is None:
        return DirectoryStore(url)
    if found[1] == "file":
        path = url.removeprefix("file:")
        return DirectoryStore("/" + path.lstrip("/") if path.startswith("//") else path)
    if found[1] in OBJECT_STORES:
        from eventdb.replay.object_store import open_object_store

        return open_object_store(url)
    from eventdb.replay.fsspec_store import open_fsspec

    return open_fsspec(url)
