"""Celery, broker and result backend: a line a step, the same on every server. Usage: celery_jobs.py PORT."""

import logging
import sys
from typing import Any

from celery import Celery, chain, chord, group
from celery.contrib.testing.worker import start_worker
from celery.exceptions import TaskRevokedError

logging.disable(logging.CRITICAL)
URL = f"redis://127.0.0.1:{sys.argv[1]}/0"
PATIENCE_S = 20

app = Celery("jobs", broker=URL, backend=URL)
app.conf.update(result_expires=3600, broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)
tries: list[int] = []


@app.task
def add(a: int, b: int) -> int:
    return a + b


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(bind=True, max_retries=2)
def stubborn(self: Any) -> int:
    tries.append(1)
    if len(tries) < 3:
        raise self.retry(countdown=0)
    return len(tries)


@app.task
def fails() -> None:
    raise ValueError("no")


def result(handle: Any) -> object:
    return handle.get(timeout=PATIENCE_S)


with start_worker(app, pool="threads", concurrency=4, perform_ping_check=False, shutdown_timeout=PATIENCE_S):
    print("a job", result(add.delay(1, 2)))
    print("with an ETA", result(add.apply_async((2, 3), countdown=1)))
    print("a group", result(group(add.s(n, n) for n in range(4))()))
    print("a chain", result(chain(add.s(1, 1), add.s(2), add.s(3))()))
    print("a chord", result(chord((add.s(n, 1) for n in range(5)), total.s())()))
    print("a chord of chords", result(chord([chord([add.s(1, 1), add.s(2, 2)], total.s()), add.s(5, 5)], total.s())()))
    print("retried", result(stubborn.delay()))
    handle = fails.delay()
    handle.get(timeout=PATIENCE_S, propagate=False)
    print("failed", handle.state, repr(handle.result))
    print("expired", end=" ")
    try:
        result(add.apply_async((1, 1), expires=-1))
    except TaskRevokedError as error:
        print(error)
    kept = add.delay(4, 4)
    result(kept)
    kept.forget()
    print("forgotten", app.AsyncResult(kept.id).state)
print("left", app.control.purge())
