"""Sending a batch while something keeps the writer's loop: by a thread with an event loop and connections of its own.

The stand-in sends what it is given and returns the answer; it keeps no state of the log and repeats nothing by itself,
so a process that hangs sends at most the one batch that was handed over before. It sends the request that the writer
would send, byte by byte, under the same producer id and sequence: a broker that already has the batch, from the
writer's own connection, answers with the position it has (`producer.py`). What arrives twice all the same, or late,
does not stand at the position that its frames expect, and is void (`history.py`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future

from aiokafka.protocol.produce import ProduceRequest

from eventdb.backends.kafka.link import Link, NoAnswer
from eventdb.backends.kafka.producer import SEND_S, outcome_of


async def append_once(link: Link, request: ProduceRequest) -> int:
    """Where the broker says the frames are durable. Raises NoAnswer, Unavailable."""
    code, position = outcome_of(await link.ask_leader(request, SEND_S))
    if code:
        raise link.refused(code)
    if position < 0:
        raise NoAnswer("the broker took it for one sent before, and does not say where that is")
    return position


class StandIn:
    """Belongs to a writer; starts its thread at once. `make_link`: called in that thread's loop."""

    def __init__(self, make_link: Callable[[], Link]) -> None:
        self._make_link = make_link
        self._link: Link | None = None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, name="eventdb-stand-in", daemon=True).start()

    def send(self, request: ProduceRequest) -> Future[int]:
        """See `append_once`; its errors come through the future."""
        return asyncio.run_coroutine_threadsafe(self._send(request), self._loop)

    def close(self) -> None:
        """End the thread. What is under way gets no answer."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _send(self, request: ProduceRequest) -> int:
        if self._link is None:
            self._link = self._make_link()
        return await append_once(self._link, request)

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            if self._link is not None:
                loop.run_until_complete(self._link.close())
        finally:
            loop.close()
