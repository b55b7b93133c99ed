"""Dramatiq, broker, results and rate limits: the same lines on every server. Usage: dramatiq_jobs.py PORT."""

import logging
import sys
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.rate_limits import Barrier, BucketRateLimiter, ConcurrentRateLimiter, WindowRateLimiter
from dramatiq.rate_limits.backends import RedisBackend as LimitsBackend
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

logging.disable(logging.CRITICAL)
URL = f"redis://127.0.0.1:{sys.argv[1]}"
PATIENCE_MS = 20_000
broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)
tries: list[int] = []


@dramatiq.actor(store_results=True)
def add(a: int, b: int) -> int:
    return a + b


@dramatiq.actor(store_results=True, max_retries=2, min_backoff=10, max_backoff=50)
def flaky() -> int:
    tries.append(1)
    if len(tries) < 2:
        raise RuntimeError("not yet")
    return len(tries)


@dramatiq.actor(store_results=True, max_retries=0)
def bad() -> None:
    raise ValueError("no")


def result(message: Any) -> Any:
    try:
        return message.get_result(block=True, timeout=PATIENCE_MS)
    except dramatiq.results.ResultFailure as error:
        return str(error)


def work() -> None:
    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=2)
    worker.start()
    print("a job", result(add.send(1, 2)))
    print("delayed", result(add.send_with_options(args=(3, 4), delay=200)))
    print("retried", result(flaky.send()))
    print("failed", result(bad.send()))
    jobs = dramatiq.group([add.message(n, n) for n in range(5)]).run()
    print("a group", list(jobs.get_results(block=True, timeout=PATIENCE_MS)))
    print("a pipeline", result(dramatiq.pipeline([add.message(1, 1), add.message(2), add.message(3)]).run()))
    broker.join("default")
    worker.stop()


def limits() -> None:
    backend = LimitsBackend(url=URL)
    kinds = {
        "concurrent": ConcurrentRateLimiter(backend, "concurrent", limit=1),
        "bucket": BucketRateLimiter(backend, "bucket", limit=2, bucket=600_000),
        "window": WindowRateLimiter(backend, "window", limit=2, window=600),
    }
    for name, limiter in kinds.items():
        let_in: list[bool] = []
        with limiter.acquire(raise_on_failure=False) as first:
            let_in.append(first)
            for _ in range(2):
                with limiter.acquire(raise_on_failure=False) as another:
                    let_in.append(another)
        print("limit", name, let_in)
    barrier = Barrier(backend, "barrier")
    print("barrier", barrier.create(2), barrier.wait(block=False), barrier.wait(block=False))


work()
limits()
