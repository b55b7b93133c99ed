"""Between a thread that writes or reads at its own pace and a loop that has the other end: bounded both ways.

`dump` and `load` of a machine are plain calls over bytes, and a store lives in an event loop. Compression and SHA-256
run in the thread, so the loop only passes chunks on.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Final

import zstandard

from eventdb.backends.log import LogError
from eventdb.backends.seal import StreamSealer
from eventdb.replay.machine import Read, Write
from eventdb.replay.sealing import Opener

LEVEL: Final = 3
CHUNK_BYTES: Final = 1 << 20
QUEUED_MAX: Final = 4  # chunks
HEAD_BYTES: Final = 16
WINDOW_BYTES_MAX: Final = 128 << 20  # of zstd: no file makes a reader take more memory


class Abandoned(Exception):  # noqa: N818
    """The other end has gone away; the thread ends."""


class Packing:
    """What `produce` writes, compressed, as chunks for a store; sizes and the checksum are known afterwards."""

    def __init__(
        self, produce: Callable[[Write], None], make_sealer: Callable[[], StreamSealer | None] = lambda: None
    ) -> None:
        """make_sealer: asked when the first bytes are there, and given them compressed."""
        self.produce = produce
        self.key_id = ""  # of the key that seals
        self._make_sealer = make_sealer
        self.plain_bytes = 0
        self.stored_bytes = 0
        self.head = b""  # what the plain bytes begin with
        self._sum = hashlib.sha256()
        self._gone = threading.Event()

    @property
    def sha256(self) -> str:
        return self._sum.hexdigest()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Once. Raises what `produce` raises."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUED_MAX)

        def hand_on(data: bytes) -> None:
            if self._gone.is_set():
                raise Abandoned
            self._sum.update(data)
            self.stored_bytes += len(data)
            asyncio.run_coroutine_threadsafe(queue.put(data), loop).result()

        work = asyncio.ensure_future(asyncio.to_thread(self._run, hand_on))
        try:
            while True:
                getter = asyncio.ensure_future(queue.get())
                await asyncio.wait({getter, work}, return_when=asyncio.FIRST_COMPLETED)
                if not getter.done():
                    getter.cancel()
                    break
                yield getter.result()
            while not queue.empty():
                yield queue.get_nowait()
            await work
        finally:
            self._gone.set()
            while not work.done():  # it may wait for room
                while not queue.empty():
                    queue.get_nowait()
                await asyncio.wait({work}, timeout=0.01)
            if not work.cancelled():
                work.exception()  # looked at

    def _run(self, hand_on: Write) -> None:
        packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        sealer = self._make_sealer()
        self.key_id = str(sealer.key_id) if sealer is not None else ""
        parts: list[bytes] = []
        size = 0

        def store(data: bytes) -> None:
            if sealer is not None:
                data = sealer.add(data)
            if data:
                hand_on(data)

        def write(data: bytes) -> None:
            nonlocal parts, size
            if len(self.head) < HEAD_BYTES:
                self.head = (self.head + data)[:HEAD_BYTES]
            self.plain_bytes += len(data)
            packed = packer.compress(data)
            parts.append(packed)
            size += len(packed)
            if size >= CHUNK_BYTES:
                store(b"".join(parts))
                parts, size = [], 0
            elif self._gone.is_set():
                raise Abandoned

        self.produce(write)
        parts.append(packer.flush())
        store(b"".join(parts))
        if sealer is not None:
            hand_on(sealer.end())


class Unpacking:
    """Chunks of a store for a thread that reads the plain bytes."""

    def __init__(
        self, chunks: AsyncIterator[bytes], on_bytes: Callable[[int], None] | None = None, opener: Opener | None = None
    ) -> None:
        """opener: what turns sealed bytes into compressed ones."""
        self.chunks = chunks
        self._opener = opener
        self.stored_bytes = 0
        self.plain_bytes = 0
        self.failure: LogError | None = None  # of the store
        self._sum = hashlib.sha256()
        self._on_bytes = on_bytes
        self._left = b""
        self._gone = threading.Event()
        self._asked: concurrent.futures.Future[bytes] | None = None

    @property
    def sha256(self) -> str:
        """Of what was read so far; `consume` reads to the end."""
        return self._sum.hexdigest()

    def stop(self) -> None:
        """For `take`: nothing more is wanted, and nothing will be compared."""
        self._gone.set()

    async def consume(self, take: Callable[[Read], None]) -> Exception | None:
        """Run `take` in a thread, then read what it left. Returns what it raised: the checksum may say why it did.

        Raises what the store raises.
        """
        loop = asyncio.get_running_loop()
        work = asyncio.ensure_future(asyncio.to_thread(self._run, take, loop))
        try:
            failed = await asyncio.shield(work)
            if self.failure is not None:
                raise self.failure
            return failed
        finally:
            self._gone.set()
            while not work.done():
                if self._asked is not None:
                    self._asked.cancel()
                await asyncio.wait({work}, timeout=0.01)

    def _run(self, take: Callable[[Read], None], loop: asyncio.AbstractEventLoop) -> Exception | None:
        failed: Exception | None = None
        source = _Source(lambda size: self._more(size, loop))
        if self._opener is not None:
            opened = Opened(self._opener(self._pieces(loop)))
            source = _Source(opened.read)
        reader = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX).stream_reader(source)  # type: ignore[arg-type]

        def read(size: int) -> bytes:
            data = reader.read(size)
            self.plain_bytes += len(data)
            return data

        try:
            take(read)
            if read(1) or source.read(1):  # what is sealed is whole only when its end has been read
                failed = ValueError("it goes on after its end")
        except Exception as error:
            failed = error
        try:
            while self.failure is None and not self._gone.is_set() and self._more(CHUNK_BYTES, loop):
                pass
        except (LogError, Abandoned):
            pass
        return failed

    def _pieces(self, loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
        while data := self._more(CHUNK_BYTES, loop):
            yield data

    def _more(self, size: int, loop: asyncio.AbstractEventLoop) -> bytes:
        if not self._left:
            if self._gone.is_set():
                raise Abandoned
            self._asked = asyncio.run_coroutine_threadsafe(self._next(), loop)
            try:
                self._left = self._asked.result()
            except concurrent.futures.CancelledError:
                raise Abandoned from None
            except LogError as error:
                self.failure = error
                raise
            self._sum.update(self._left)
            self.stored_bytes += len(self._left)
            if self._on_bytes is not None:
                loop.call_soon_threadsafe(self._on_bytes, self.stored_bytes)
        data, self._left = self._left[:size], self._left[size:]
        return data

    async def _next(self) -> bytes:
        async for chunk in self.chunks:
            if chunk:
                return chunk
        return b""


class Opened:
    """Pieces of any size, to be read by size."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def read(self, size: int) -> bytes:
        if not self._left:
            self._left = next(self._pieces, b"")
        data, self._left = self._left[:size], self._left[size:]
        return data


class _Source:
    """What zstandard reads from."""

    def __init__(self, read: Read) -> None:
        self.read = read
