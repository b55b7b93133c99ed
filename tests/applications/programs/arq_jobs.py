"""arq, worker and client in one program: the same lines on every server. Usage: arq_jobs.py PORT."""

import asyncio
import logging
import sys
from typing import Any

from arq import Retry, create_pool, cron
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import JobStatus
from arq.worker import Worker, async_check_health

logging.disable(logging.CRITICAL)
SETTINGS = RedisSettings(port=int(sys.argv[1]))
PATIENCE_S = 20
ticks: list[int] = []


async def add(_context: dict[str, Any], a: int, b: int) -> int:
    return a + b


async def flaky(context: dict[str, Any]) -> int:
    if context["job_try"] < 3:
        raise Retry(defer=0.05)
    return int(context["job_try"])


async def bad(_context: dict[str, Any]) -> None:
    raise ValueError("no")


async def slow(_context: dict[str, Any]) -> None:
    await asyncio.sleep(10 * PATIENCE_S)


async def tick(_context: dict[str, Any]) -> None:
    ticks.append(1)


def worker(**options: Any) -> Worker:
    return Worker([add, flaky, bad, slow], redis_settings=SETTINGS, poll_delay=0.02, handle_signals=False, **options)


async def until_done(pool: ArqRedis) -> None:
    jobs = [await pool.enqueue_job("add", 1, 2), await pool.enqueue_job("flaky")]
    failing = await pool.enqueue_job("bad")
    once, twice = [await pool.enqueue_job("add", 5, 5, _job_id="unique") for _ in range(2)]
    later = await pool.enqueue_job("add", 7, 7, _defer_by=0.3)
    assert once is not None and later is not None and failing is not None
    print("unique", twice, await once.status(), await later.status(), len(await pool.queued_jobs()))
    work = worker(burst=True)
    await work.main()
    print("results", [await job.result(timeout=PATIENCE_S) for job in (*jobs, once, later) if job])
    try:
        await failing.result(timeout=PATIENCE_S)
    except ValueError as error:
        print("failed", repr(error))
    print("kept", sorted((found.function, found.success) for found in await pool.all_job_results()))
    print("counts", work.jobs_complete, work.jobs_failed, work.jobs_retried)
    await work.close()


async def until_aborted(pool: ArqRedis) -> None:
    work = worker(allow_abort_jobs=True, health_check_interval=1, cron_jobs=[cron(tick, run_at_startup=True)])
    running = asyncio.create_task(work.main())
    job = await pool.enqueue_job("slow")
    assert job is not None
    while await job.status() is not JobStatus.in_progress or not ticks:
        await asyncio.sleep(0.01)
    print("aborted", await job.abort(timeout=PATIENCE_S), await job.status())
    print("health", await async_check_health(SETTINGS), "cron", len(ticks))
    running.cancel()
    await work.close()


async def main() -> None:
    pool = await create_pool(SETTINGS)
    await until_done(pool)
    await until_aborted(pool)
    await pool.aclose()


asyncio.run(main())
