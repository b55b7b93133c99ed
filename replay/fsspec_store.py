"""Any file system that fsspec knows as a store of snapshots: the open door, for `sftp://`, `hdfs://`, `memory://` …

fsspec has no "create if it does not exist" and no promise about when a file shows, so an object is written under
another name, looked at, and moved when it is whole. Two processes that write one name at the same moment could both
believe that they were first; names of snapshots have digits of chance in them (manifest.py), so none ever do.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, TypeVar

from eventdb.backends.discreet import discreet
from eventdb.replay.store import (
    NAME,
    PART,
    AlreadyThere,
    BadStoreURL,
    Chunks,
    NotThere,
    SnapshotStore,
    StoreError,
    check_name,
    each,
)

READ_BYTES: Final = 1 << 20

T = TypeVar("T")


def open_fsspec(url: str) -> SnapshotStore:
    """Raises BadStoreURL."""
    scheme = url.partition(":")[0]
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise BadStoreURL(
            f"{discreet(url)!r}: stores are a directory, s3://, gs:// and az://; for {scheme}: the package fsspec and"
            f" its file system for {scheme} are needed"
        ) from None
    try:
        system, path = url_to_fs(url)
    except Exception as error:  # each file system has errors of its own, and some reach out at once
        shown, why = discreet(url), str(error).replace(url, discreet(url))
        if not why or (shown != url and shown not in why):  # it may name the part that is a secret
            why = type(error).__name__
        raise BadStoreURL(f"{shown!r} cannot be opened as a store: {discreet(why)}") from None
    return FsspecStore(url, system, path.rstrip("/"))


class FsspecStore:
    """One directory of a file system; its calls block, so each runs in a thread."""

    def __init__(self, url: str, system: Any, path: str) -> None:
        self.url = discreet(url)  # as it may be shown
        self.system = system
        self.path = path

    async def put(self, name: str, chunks: Chunks) -> None:
        target = f"{self.path}/{check_name(name)}"
        part = f"{self.path}/.{name}.{secrets.token_hex(4)}{PART}"
        what = f"{name} cannot be written"
        await self._call(what, lambda: self.system.makedirs(self.path, exist_ok=True))
        if await self._call(what, lambda: self.system.exists(target)):
            raise AlreadyThere(f"{name} exists in {self.url}")
        try:
            file = await self._call(what, lambda: self.system.open(part, "wb"))
            try:
                async for chunk in each(chunks):
                    await self._call(what, lambda data=chunk: file.write(data))  # type: ignore[misc]
            finally:
                await self._call(what, file.close)
            await self._call(what, lambda: self.system.mv(part, target))
        except BaseException:
            if await self._call(what, lambda: self.system.exists(part)):
                await self._call(what, lambda: self.system.rm_file(part))
            raise

    async def get(self, name: str) -> AsyncGenerator[bytes, None]:
        what = f"{name} cannot be read"
        path = f"{self.path}/{check_name(name)}"
        try:
            file = await self._call(what, lambda: self.system.open(path, "rb"))
        except FileNotFoundError:
            raise NotThere(f"there is no {name} in {self.url}") from None
        try:
            while chunk := await self._call(what, lambda: file.read(READ_BYTES)):
                yield bytes(chunk)
        finally:
            await self._call(what, file.close)

    async def names(self) -> list[str]:
        def listed() -> list[str]:
            self.system.invalidate_cache()
            return [str(path) for path in self.system.ls(self.path, detail=False)]

        try:
            found = await self._call("it cannot be listed", listed)
        except FileNotFoundError:
            return []
        return sorted(name for path in found if NAME.fullmatch(name := path.rpartition("/")[2]))

    async def delete(self, name: str) -> None:
        path = f"{self.path}/{check_name(name)}"
        try:
            await self._call(f"{name} cannot be deleted", lambda: self.system.rm_file(path))
        except FileNotFoundError:
            pass

    async def close(self) -> None:
        pass

    async def _call(self, what: str, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except FileNotFoundError:
            raise
        except Exception as error:  # each file system has errors of its own
            raise StoreError(f"{self.url}: {what}: {discreet(str(error)) or type(error).__name__}") from error
