"""Between the commit pipeline and the log: a sealed batch becomes one record, a durable record frees its replies.

Apart from node.py because it runs for each batch: this is compiled, the node is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from eventdb.metrics.distribution import CommitTimes
from eventdb.pipeline.record_clock import RecordClock

if TYPE_CHECKING:
    from eventdb.backends import Writer
    from eventdb.pipeline.commit import Commit
    from eventdb.pipeline.outbox import Batch


class Appending:
    """The sink of a node's `Commit`. `writer` is the node's, None while it has none."""

    def __init__(self, on_failure: Callable[[BaseException | None], None], monotonic: Callable[[], float]) -> None:
        self.on_failure = on_failure  # an append failed, or was cancelled (None): nothing pending will be confirmed
        self.on_durable: Callable[[float], None] | None = None  # an append is durable that was sent at that moment
        self.monotonic = monotonic
        self.clock = RecordClock(monotonic)
        self.writer: Writer | None = None
        self.commit: Commit | None = None  # a fenced node gets another one
        self.on_reached: Callable[[], None] | None = None  # the durable offset has moved
        self.times: CommitTimes | None = None  # while somebody asked for metrics
        self.on_commit: Callable[[int, int, float, float], None] | None = None  # for traces: see node/traces.py
        self.commits = 0  # records that became durable
        self.commit_s = 0.0  # from sending each to that
        self._loop: asyncio.AbstractEventLoop | None = None

    def schedule(self, action: Callable[[], None]) -> object:
        """Run at the end of this turn of the loop."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.call_soon(action)

    def append(self, batch: Batch) -> None:
        """One batch becomes one record."""
        writer = self.writer
        commit = self.commit
        assert writer is not None and commit is not None
        sent = self.monotonic()
        future = writer.append(
            batch.body(),
            first_offset=batch.first_offset,
            count=batch.count,
            time_ms=self.clock.now_ms(writer.last_time_ms),
        )
        future.add_done_callback(lambda done: self._appended(commit, batch, sent, done))

    def _appended(self, commit: Commit, batch: Batch, sent: float, done: asyncio.Future[int]) -> None:
        cancelled = done.cancelled()
        failure = None if cancelled else done.exception()
        if commit.stopped:
            return
        if cancelled or failure is not None:
            self.on_failure(failure)
            return
        took = self.monotonic() - sent
        self.commits += 1
        self.commit_s += took
        if self.on_commit is not None:
            self.on_commit(batch.count, batch.first_offset, took, batch.opened)
        if self.times is not None:
            self.times.record(batch.count, took, batch.opened)
        if self.on_durable is not None:
            self.on_durable(sent)
        for client in commit.completed(batch):
            client.flush()
        if self.on_reached is not None:
            self.on_reached()
