"""What a store of snapshots is: objects that are written once, whole, under a name that nothing else ever gets.

The promise that everything above stands on: `put` makes an object appear when all of it is there and durable, or not at
all, and never changes one that exists. What is half written is never listed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from typing import Final, Protocol

from eventdb.backends.log import LogError

Chunks = AsyncIterable[bytes] | Iterable[bytes]

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
PART: Final = ".part"  # what is being written; a name that begins with a dot is no object


class StoreError(LogError):
    """A store does not do what it was asked. The text names the store, the object and what to look at."""


class AlreadyThere(StoreError):  # noqa: N818 - named as the errors of log.py are
    """An object of that name exists; it was left as it is."""


class NotThere(StoreError):  # noqa: N818 - named as the errors of log.py are
    """There is no object of that name."""


class StoreUnavailable(StoreError):  # noqa: N818 - named as the errors of log.py are
    """The store cannot be reached, or not now: nothing is known about what is in it."""


class StoreFull(StoreError):  # noqa: N818 - named as the errors of log.py are
    """No room, or no more is allowed."""


class BadStoreURL(StoreError):  # noqa: N818 - named as the errors of log.py are
    """The URL names no store that can be opened here."""


class SnapshotStore(Protocol):
    """Objects by name. Used in one event loop; any number of processes may use one store."""

    url: str

    async def put(self, name: str, chunks: Chunks) -> None:
        """Make an object of these bytes: whole and durable when this returns, else there is none.

        Raises AlreadyThere for a name that is taken, StoreError, and what iterating `chunks` raises.
        """
        ...

    def get(self, name: str) -> AsyncGenerator[bytes, None]:
        """The bytes of an object, in chunks. Raises NotThere, StoreError."""
        ...

    async def names(self) -> list[str]:
        """The names of all whole objects, sorted. Raises StoreError."""
        ...

    async def delete(self, name: str) -> None:
        """Remove an object; none of that name is no error. Raises StoreError."""
        ...

    async def close(self) -> None: ...


async def each(chunks: Chunks) -> AsyncIterator[bytes]:
    """Chunks of either kind."""
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk


def check_name(name: str) -> str:
    """Raises StoreError for what could leave the store's directory, or hide in it."""
    if NAME.fullmatch(name) is None:
        raise StoreError(f"{name[:80]!r} is no name for an object of a store")
    return name


async def read_small(store: SnapshotStore, name: str, bytes_max: int) -> bytes:
    """A small object at once. Raises StoreError when it is none."""
    parts: list[bytes] = []
    size = 0
    async with contextlib.aclosing(store.get(name)) as chunks:
        async for chunk in chunks:
            parts.append(chunk)
            size += len(chunk)
            if size > bytes_max:
                raise StoreError(f"{name} in {store.url} is longer than {bytes_max} bytes: it is not what it should be")
    return b"".join(parts)
