"""A process of this program that builds something from the log, beside the loop of a server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from pathlib import Path
from typing import Final

from eventdb.backends.seal import for_child

LINE_BYTES_MAX: Final = 1 << 16  # as asyncio's own


class Child(Process):
    """Such a process, with pipes for what it is asked, what it answers and its errors."""

    def __init__(
        self,
        transport: asyncio.SubprocessTransport,
        protocol: SubprocessStreamProtocol,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(transport, protocol, loop)
        self.transport = transport

    async def end(self) -> None:
        """Kill it, unless it has ended, and wait for its end.

        Its pipes are closed before anything is waited for: `wait` may return before they are. A task that is cancelled
        meanwhile waits all the same, which is not for long, and is cancelled then: nobody else would reap the process.
        """
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        for fd in (0, 1, 2):  # uvloop's transport of the process would not close them
            if pipe := self.transport.get_pipe_transport(fd):
                pipe.close()
        self.transport.close()
        ended = asyncio.ensure_future(self.wait())
        cancelled: asyncio.CancelledError | None = None
        while not ended.done():
            try:
                await asyncio.shield(ended)
            except asyncio.CancelledError as cancel:
                cancelled = cancel
        if cancelled is not None:
            raise cancelled


async def start(program: str, encryption_keys: str, fd: int | None = None) -> Child:
    """Run a module of this tree with pipes, the keys of the log, and an open file, whose number is its argument.

    encryption_keys: the setting of that name.
    """
    paths = [str(Path(__file__).absolute().parents[2]), os.environ.get("PYTHONPATH", "")]
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        lambda: SubprocessStreamProtocol(LINE_BYTES_MAX, loop),
        sys.executable, "-m", program, *([] if fd is None else [str(fd)]),
        stdin=PIPE, stdout=PIPE, stderr=PIPE,
        pass_fds=() if fd is None else (fd,),
        env={**os.environ, **for_child(encryption_keys), "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )  # fmt: skip
    return Child(transport, protocol, loop)


async def answer(process: Child, asked: bytes, what: str) -> bytes:
    """Give it its question and wait for its end; returns what it printed. Raises OSError with its last line.

    It ends with this call, be it cancelled.
    """
    try:
        told, said = await process.communicate(asked)
    finally:
        await process.end()
    if process.returncode:
        lines = said.decode("utf-8", "replace").strip().splitlines()
        raise OSError(lines[-1] if lines else f"the process that {what} ended with {process.returncode}")
    return told
