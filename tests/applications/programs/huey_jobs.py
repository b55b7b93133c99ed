"""Huey with two kinds of storage: a line a step, the same on every server. Usage: huey_jobs.py PORT."""

import logging
import sys
from typing import Any

from huey import PriorityRedisHuey, RedisHuey

logging.disable(logging.CRITICAL)
PATIENCE_S = 20

for kind in (RedisHuey, PriorityRedisHuey):
    huey = kind(kind.__name__, port=int(sys.argv[1]), blocking=True)
    tries: list[int] = []

    @huey.task(retries=1)
    def increment(number: int, tries: list[int] = tries) -> int:
        if number < 0:
            tries.append(number)
            raise ValueError(number)
        return number + 1

    def result(handle: Any) -> object:
        return handle.get(blocking=True, timeout=PATIENCE_S)

    name = kind.__name__
    consumer = huey.create_consumer(workers=2, periodic=False, initial_delay=0.01, scheduler_interval=1)
    consumer.start()
    print(name, "a job", result(increment(1)))
    print(name, "delayed", result(increment.schedule((5,), delay=1)))
    print(name, "many", result(increment.map([1, 2, 3])))
    print(name, "a chain", result(huey.enqueue(increment.s(1).then(increment).then(increment))))
    later = increment.schedule((1,), delay=60)
    later.revoke()
    revoked = later.is_revoked()
    later.restore()
    print(name, "revoked", revoked, later.is_revoked())
    with huey.lock_task("lock"):
        print(name, "locked", huey.is_locked("lock"))
    print(name, "released", huey.is_locked("lock"))
    consumer.stop(graceful=True)
    huey.flush()
    print(name, "left", huey.pending_count(), huey.scheduled_count(), huey.result_count())
