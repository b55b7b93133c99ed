"""S3 and its like as a store of snapshots, by obstore.

A small object is put with `If-None-Match: *`, so the store itself refuses a second one. A large one goes in parts of a
multipart upload, which appears when it is completed; for that there is no such condition, so it is looked for before,
and its name has digits of chance in it (manifest.py). An upload that fails is aborted: nothing of it is listed.

Credentials, region and endpoint come from the environment as for any tool: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL (GOOGLE_…, AZURE_… for the others).
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from eventdb.backends.discreet import discreet
from eventdb.replay.store import (
    AlreadyThere,
    BadStoreURL,
    Chunks,
    NotThere,
    SnapshotStore,
    StoreError,
    StoreUnavailable,
    check_name,
    each,
)

if TYPE_CHECKING:
    from obstore.store import ObjectStore

PART_BYTES: Final = 8 << 20
PARTS_AT_ONCE: Final = 4
READ_BYTES: Final = 1 << 20
RETRIES: Final = 5
RETRY_S: Final = 60
TIMEOUT_S: Final = 120  # for one request


def open_object_store(url: str) -> SnapshotStore:
    """Raises BadStoreURL."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        raise BadStoreURL(f"{discreet(url)} needs the package obstore: pip install 'eventdb[s3]'") from None
    if discreet(url) != url:
        raise BadStoreURL(
            f"{discreet(url)!r}: credentials come from the environment (AWS_ACCESS_KEY_ID …), not from the URL"
        )
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    options: dict[str, Any] = {
        "client_options": {"timeout": timedelta(seconds=TIMEOUT_S), **({"allow_http": True} if plain else {})},
        "retry_config": {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_S)},
    }
    try:
        store = from_url(url, **options)
    except (BaseError, ValueError) as error:
        raise BadStoreURL(f"{discreet(url)!r} cannot be opened as a store: {discreet(_first_line(error))}") from None
    return ObjectStoreOfSnapshots(url, store)


class ObjectStoreOfSnapshots:
    """One bucket and prefix."""

    def __init__(self, url: str, store: ObjectStore) -> None:
        self.url = discreet(url)  # as it may be shown
        self.store = store

    async def put(self, name: str, chunks: Chunks) -> None:
        import obstore

        check_name(name)
        rest = each(chunks)
        head: list[bytes] = []
        size = 0
        async for chunk in rest:
            head.append(chunk)
            size += len(chunk)
            if size >= PART_BYTES:
                break
        try:
            if size < PART_BYTES:
                await obstore.put_async(self.store, name, b"".join(head), mode="create", use_multipart=False)
                return
            if await self._exists(name):
                raise AlreadyThere(f"{name} exists in {self.url}")
            await obstore.put_async(
                self.store,
                name,
                _joined(head, rest),
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
            raise AlreadyThere(f"{name} exists in {self.url}") from None
        except (FileNotFoundError, obstore.exceptions.BaseError) as error:
            raise self._failed(error, f"{name} cannot be written") from None

    async def _exists(self, name: str) -> bool:
        import obstore

        try:
            await obstore.head_async(self.store, name)
        except FileNotFoundError:
            return False
        return True

    async def get(self, name: str) -> AsyncGenerator[bytes, None]:
        import obstore

        try:
            found = await obstore.get_async(self.store, check_name(name))
            async for chunk in found.stream(min_chunk_size=READ_BYTES):
                yield bytes(chunk)
        except FileNotFoundError:
            raise NotThere(f"there is no {name} in {self.url}") from None
        except obstore.exceptions.BaseError as error:
            raise self._failed(error, f"{name} cannot be read") from None

    async def names(self) -> list[str]:
        import obstore

        found: list[str] = []
        try:
            async for some in obstore.list(self.store):
                found += [item["path"] for item in some]
        except (FileNotFoundError, obstore.exceptions.BaseError) as error:
            raise self._failed(error, "it cannot be listed") from None
        return sorted(path for path in found if "/" not in path)

    async def delete(self, name: str) -> None:
        import obstore

        try:
            await obstore.delete_async(self.store, check_name(name))
        except FileNotFoundError:
            pass
        except obstore.exceptions.BaseError as error:
            raise self._failed(error, f"{name} cannot be deleted") from None

    async def close(self) -> None:
        pass

    def _failed(self, error: Exception, what: str) -> StoreError:
        from obstore import exceptions

        if isinstance(error, FileNotFoundError) or "NoSuchBucket" in str(error):
            return StoreError(f"{self.url}: {what}: there is no such bucket")
        text = f"{self.url}: {what}: {_first_line(error)}"
        if isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)):
            return StoreError(f"{text}. Look at its credentials (AWS_ACCESS_KEY_ID …) and what they may do")
        if isinstance(error, exceptions.GenericError):
            return StoreUnavailable(f"{text}. Look at its address (AWS_ENDPOINT_URL, AWS_REGION) and at the network")
        return StoreError(text)


async def _joined(head: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield b"".join(head)
    async for chunk in rest:
        yield chunk


def _first_line(error: Exception) -> str:
    """What obstore says, without its debug output."""
    return " ".join(str(error).split("\n\nDebug source", 1)[0].split())[:400]
