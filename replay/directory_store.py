"""A directory as a store of snapshots: a file an object, on the disk before it has its name."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

import aiofiles

from eventdb.replay.store import NAME, PART, AlreadyThere, Chunks, NotThere, StoreError, StoreFull, check_name, each

READ_BYTES: Final = 1 << 20
PART_S_MAX: Final = 86_400.0  # a part that nobody has written to for longer is left over


class DirectoryStore:
    """A directory of files. It is made when the first object is."""

    def __init__(self, path: str) -> None:
        self.url = path
        self.path = Path(path)

    async def put(self, name: str, chunks: Chunks) -> None:
        target = self.path / check_name(name)
        part = self.path / f".{name}.{secrets.token_hex(4)}{PART}"
        try:
            await asyncio.to_thread(self._prepare, target)
            try:
                async with aiofiles.open(part, "xb") as file:
                    async for chunk in each(chunks):
                        await file.write(chunk)
                    await file.flush()
                    await asyncio.to_thread(os.fsync, file.fileno())
                await asyncio.to_thread(self._appear, part, target)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    await asyncio.to_thread(part.unlink)
        except FileExistsError:
            raise AlreadyThere(f"{name} exists in {self.url}") from None
        except OSError as error:
            raise self._failed(error, f"{name} cannot be written") from error

    def _prepare(self, target: Path) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise FileExistsError

    def _appear(self, part: Path, target: Path) -> None:
        os.link(part, target)  # unlike a rename it fails when somebody else was first
        sync_directory(self.path)

    async def get(self, name: str) -> AsyncGenerator[bytes, None]:
        try:
            async with aiofiles.open(self.path / check_name(name), "rb") as file:
                while chunk := await file.read(READ_BYTES):
                    yield chunk
        except FileNotFoundError:
            raise NotThere(f"there is no {name} in {self.url}") from None
        except OSError as error:
            raise self._failed(error, f"{name} cannot be read") from error

    async def names(self) -> list[str]:
        try:
            return await asyncio.to_thread(self._names)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._failed(error, "it cannot be listed") from error

    def _names(self) -> list[str]:
        return sorted(entry.name for entry in os.scandir(self.path) if NAME.fullmatch(entry.name) and entry.is_file())

    async def delete(self, name: str) -> None:
        try:
            await asyncio.to_thread(self._delete, self.path / check_name(name))
        except OSError as error:
            raise self._failed(error, f"{name} cannot be deleted") from error

    def _delete(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            sync_directory(self.path)

    async def tidy(self, seconds: float = PART_S_MAX) -> int:
        """Remove what a process that died was writing; returns how many files that was."""
        try:
            return await asyncio.to_thread(self._tidy, time.time() - seconds)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise self._failed(error, "left-over parts cannot be deleted") from error

    def _tidy(self, before: float) -> int:
        count = 0
        for entry in os.scandir(self.path):
            if entry.name.startswith(".") and entry.name.endswith(PART) and entry.stat().st_mtime < before:
                os.unlink(entry.path)
                count += 1
        return count

    async def close(self) -> None:
        pass

    def _failed(self, error: OSError, what: str) -> StoreError:
        why = error.strerror or str(error) or type(error).__name__
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return StoreFull(f"{self.url}: {what}: {why}. Nothing half-written was left; make room and begin again")
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP) and "written" in what:
            return StoreError(f"{self.url}: {what}: {why}. Its file system must know hard links")
        return StoreError(f"{self.url}: {what}: {why}")


def sync_directory(path: Path) -> None:
    """Make names that were added or removed durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
