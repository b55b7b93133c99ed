"""A small HTTP server for machines that watch: GET and HEAD of a few fixed paths, on the loop that runs commands.

No thread: a thread would read counters in the middle of a change, and two threads that take turns at the interpreter
slow the loop all the time, whereas an answer on the loop holds it up for a millisecond when somebody asks. Each request
is answered and its connection closed; what is slow, long or not HTTP is closed too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

HEAD_BYTES_MAX: Final = 8192
REQUEST_S_MAX: Final = 5.0
CONNECTIONS_MAX: Final = 32
REASONS: Final = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip
TEXT: Final = "text/plain; charset=utf-8"


class Answer:
    """What a page answers."""

    def __init__(self, status: int, body: bytes, content_type: str = TEXT) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type


Page = Callable[[], Answer]


class HttpServer:
    """Owns a listener and the pages it answers, by path."""

    def __init__(self, pages: dict[str, Page]) -> None:
        self.pages = pages
        self.port = 0
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> None:
        """Raises OSError."""
        self._listener = await asyncio.start_server(self._accept, host, port, limit=HEAD_BYTES_MAX)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._open.add(task)
        try:
            with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                async with asyncio.timeout(REQUEST_S_MAX):
                    writer.write(await self._reply(reader))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        finally:
            self._open.discard(task)
            writer.transport.abort()  # what is still there after the time is over

    async def _reply(self, reader: asyncio.StreamReader) -> bytes:
        """The whole reply to one request. Raises IncompleteReadError when it never came."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _encode(Answer(431, b"the request is too long\n"))
        words = head.partition(b"\r\n")[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _encode(Answer(400, b"this is not HTTP/1.1\n"))
        if words[0] not in (b"GET", b"HEAD"):
            return _encode(Answer(405, b"only GET and HEAD\n"))
        page = self.pages.get(words[1].partition(b"?")[0].decode("latin-1"))
        if page is None:
            return _encode(Answer(404, f"there are {', '.join(self.pages)}\n".encode()))
        return _encode(page(), with_body=words[0] == b"GET")


def _encode(answer: Answer, *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status} {REASONS[answer.status]}\r\nContent-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"{'Allow: GET, HEAD' + chr(13) + chr(10) if answer.status == 405 else ''}Connection: close\r\n\r\n"
    )
    return head.encode() + (answer.body if with_body else b"")
