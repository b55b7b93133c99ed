"""taskiq on streams, lists and pub/sub, with results: the same lines on every server. Usage: taskiq_jobs.py PORT."""

import asyncio
import logging
import sys
from typing import Any

from taskiq.receiver import Receiver
from taskiq_redis import ListQueueBroker, PubSubBroker, RedisAsyncResultBackend, RedisStreamBroker

logging.disable(logging.CRITICAL)
URL = f"redis://127.0.0.1:{sys.argv[1]}"
PATIENCE_S = 20


async def work(kind: Any) -> None:
    backend: Any = RedisAsyncResultBackend(redis_url=URL, result_ex_time=600)
    broker = kind(url=URL, queue_name=kind.__name__).with_result_backend(backend)
    broker.is_worker_process = True

    @broker.task(task_name="double")
    async def double(n: int) -> int:
        if n < 0:
            raise ValueError(n)
        return 2 * n

    await broker.startup()
    finish = asyncio.Event()
    receiver = asyncio.create_task(Receiver(broker, max_async_tasks=4).listen(finish))
    name = kind.__name__
    if kind is PubSubBroker:  # nobody keeps a message for a worker that does not listen yet
        await asyncio.sleep(1)
    handles = [await double.kiq(n) for n in range(5)]
    print(name, "results", [(await handle.wait_result(timeout=PATIENCE_S)).return_value for handle in handles])
    failed = await (await double.kiq(-1)).wait_result(timeout=PATIENCE_S)
    print(name, "failed", failed.is_err, repr(failed.error))
    finish.set()
    receiver.cancel()
    await asyncio.gather(receiver, return_exceptions=True)
    await broker.shutdown()


async def main() -> None:
    for kind in (RedisStreamBroker, ListQueueBroker, PubSubBroker):
        await work(kind)


asyncio.run(main())
