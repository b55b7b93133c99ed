"""A process beside the loop leaves no pipe open, however the task that waits for it ends, with either loop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from eventdb.node import child

PROGRAM = "code"  # of the standard library: it runs the lines that it is given
ENDLESS = b"import time; time.sleep(1000)\n"
LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


def pipes() -> set[str]:
    """The pipes that this process has open."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # the folder's own
            continue
    return {each for each in found if each.startswith("pipe:")}


def run(loop: Callable[[], asyncio.AbstractEventLoop], work: Callable[[], Awaitable[child.Child]]) -> None:
    """The work returns its process; two turns of the loop later its pipes are closed."""

    async def measured() -> None:
        await (await child.start("this", "")).end()  # the loop's own pipes are open now
        before = pipes()
        process = await work()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert pipes() <= before
        assert process.returncode is not None, "a zombie is left"

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(measured())


@LOOPS
def test_an_answer(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def work() -> child.Child:
        process = await child.start(PROGRAM, "")
        assert b"42" in await child.answer(process, b"print(6 * 7)\n", "counts")
        return process

    run(loop, work)


@LOOPS
def test_a_failure_is_the_last_line_of_its_errors(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def work() -> child.Child:
        process = await child.start(PROGRAM, "")
        with pytest.raises(OSError, match="nothing to count"):
            await child.answer(process, b"exit('nothing to count')\n", "counts")
        return process

    run(loop, work)


@LOOPS
@pytest.mark.parametrize("cancellations", [1, 2])
def test_a_cancelled_wait(loop: Callable[[], asyncio.AbstractEventLoop], cancellations: int) -> None:
    async def work() -> child.Child:
        process = await child.start(PROGRAM, "")
        task = asyncio.create_task(child.answer(process, ENDLESS, "sleeps"))
        for _ in range(cancellations):
            for _turn in range(10):  # it waits for the answer, then for the end
                await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return process

    run(loop, work)


@LOOPS
def test_the_end_of_one_that_writes_and_nobody_reads(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def work() -> child.Child:
        process = await child.start(PROGRAM, "")
        reading = process.transport.get_pipe_transport(1)
        assert reading is not None
        reading.pause_reading()  # type: ignore[attr-defined] # as when more comes than is read
        await process.end()
        assert process.returncode == -signal.SIGKILL
        return process

    run(loop, work)
