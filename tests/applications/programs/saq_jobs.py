"""SAQ, queue and worker: the same lines on every server. Usage: saq_jobs.py PORT."""

import asyncio
import logging
import sys
import time
from typing import Any

from saq import Job, Queue, Worker
from saq.queue import JobError

logging.disable(logging.CRITICAL)
PATIENCE_S = 20
tries: list[int] = []
begun = asyncio.Event()


async def add(_context: Any, *, a: int, b: int) -> int:
    return a + b


async def flaky(_context: Any) -> int:
    tries.append(1)
    if len(tries) < 2:
        raise ValueError("not yet")
    return len(tries)


async def bad(_context: Any) -> None:
    raise ValueError("no")


async def slow(_context: Any) -> None:
    begun.set()
    await asyncio.sleep(10 * PATIENCE_S)


async def until_over(job: Job | None) -> Job:
    """Job.refresh(until_complete=...) waits in vain for what ends before it listens."""
    assert job is not None
    while not job.completed:
        await asyncio.sleep(0.01)
        await job.refresh()
    return job


async def main() -> None:
    queue = Queue.from_url(f"redis://127.0.0.1:{sys.argv[1]}", name="jobs")
    await queue.connect()
    timers: Any = {"schedule": 1, "abort": 1}
    functions: Any = [add, bad, flaky, slow]
    worker: Any = Worker(queue, functions=functions, concurrency=3, timers=timers, dequeue_timeout=1)
    running = asyncio.create_task(worker.start())
    print("a job", await queue.apply("add", a=1, b=2, timeout=PATIENCE_S))
    print("retried", await queue.apply("flaky", retries=3, timeout=PATIENCE_S))
    try:
        await queue.apply("bad", timeout=PATIENCE_S)
    except JobError as error:
        print("failed", error.job.status)
    print("many", await queue.map("add", [{"a": n, "b": n} for n in range(4)], timeout=PATIENCE_S))
    later = await until_over(await queue.enqueue("add", a=3, b=4, scheduled=int(time.time()) + 1))
    print("scheduled", later.status, later.result)
    first, second = [await queue.enqueue("add", a=1, b=1, key="unique", scheduled=9999999999) for _ in range(2)]
    assert first is not None
    print("unique", second, await queue.count("incomplete"))
    await queue.abort(first, "not wanted")
    long = await queue.enqueue("slow", timeout=10 * PATIENCE_S)
    assert long is not None
    await begun.wait()
    await queue.abort(long, "stopped")
    await until_over(long)
    print("aborted", long.status, long.error)
    print("left", [await queue.count(kind) for kind in ("queued", "active", "incomplete")])
    await worker.stop()
    running.cancel()
    await queue.disconnect()


asyncio.run(main())
