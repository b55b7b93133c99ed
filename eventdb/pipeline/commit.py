"""The commit pipeline: transactions join a batch, a batch becomes one record, a durable record frees its replies.

    open batch --seal--> in flight (one or more appends) --durable--> replies leave

Group commit: one batch is on its way at a time. A large one is sealed as soon as the one before is durable, before its
replies leave: so the zones write while the loop answers and reads. A small one waits a little first, while the clients
that have just been answered come back: one sync for all of them costs less than two for a half each.
Until a batch is durable, its keys are *dirty*: a reply that could reveal them waits with it (see Outbox.hold).
Sans-IO: `sink` takes a sealed batch to the log, `schedule` runs a function at the end of the loop turn; both are
injected.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from eventdb.pipeline.outbox import Batch, Outbox

# Sealed batches on their way. With two, each was a third smaller, and writes a fifth slower (benchmarks/PROFILE.md).
IN_FLIGHT_MAX: Final = 1
BATCH_BYTES_MAX: Final = 256 << 10  # a batch this large is sealed at once: more only falls out of the cache
GATHER_COUNT_MAX: Final = 64  # transactions; a batch this large does not wait for more
GATHER_TURNS_MAX: Final = 64  # of the loop that a small batch waits at most
GATHER_QUIET_TURNS: Final = 3  # it waits no longer when N turns in a row brought nothing
ONE_EVENT: Final = b"*2\r\n"  # the head of a transaction
PENDING_BYTES_MAX: Final = 64 << 20  # not yet durable; above it clients are no longer read from


class Commit:
    """Owns the open batch and those in flight."""

    def __init__(self, sink: Callable[[Batch], None], schedule: Callable[[Callable[[], None]], object]) -> None:
        self.sink = sink
        self.schedule = schedule
        self.offset = 0  # of the last transaction made
        self.durable_offset = 0
        self.open = Batch(1)
        self.pending: list[Batch] = []  # not yet durable, oldest first; the open batch last when it has content
        self.in_flight = 0
        self.pending_size = 0
        self.seal_scheduled = False
        self.crowded = False  # more than one client has just been writing
        self.turns = 0  # that the open batch has waited
        self.quiet_turns = 0  # of them, the latest in which nothing came
        self.seen = 0  # transactions in the open batch a turn ago
        self.full = False  # above PENDING_BYTES_MAX
        self.on_room: Callable[[], None] | None = None
        self.stopped = False

    def start_at(self, last_offset: int) -> None:
        """Go on after transaction `last_offset`, all of it durable."""
        assert not self.pending
        self.offset = self.durable_offset = last_offset
        self.open = Batch(last_offset + 1)

    def add(self, origin: bytes, events: list[bytes], size: int) -> Batch:
        """Append one transaction; `origin` names its maker, as an encoded bulk string."""
        self.put(origin, events)
        return self.add_run(1, size)

    def put(self, origin: bytes, events: list[bytes]) -> None:
        """Write one transaction into the open batch, for `add_run` to count."""
        chunks = self.open.chunks
        chunks.append(ONE_EVENT if len(events) == 1 else b"*%d\r\n" % (len(events) + 1))
        chunks.append(origin)
        chunks.extend(events)

    def add_run(self, count: int, size: int) -> Batch:
        """Count `count` transactions, with `size` bytes of events, which lie in the open batch's chunks already."""
        batch = self.open
        if batch.count == 0:
            batch.opened = time.monotonic()
            self.pending.append(batch)
        batch.count += count
        self.offset += count
        batch.size += size
        self.pending_size += size
        if batch.size >= BATCH_BYTES_MAX:
            self.seal()
        elif not self.seal_scheduled and self.in_flight < IN_FLIGHT_MAX:
            self._gather()
        if self.pending_size > PENDING_BYTES_MAX:
            self.full = True
        return batch

    def room(self) -> int:
        """Bytes of events after which the open batch is sealed, or the pipeline full: no run of writes is longer."""
        return min(BATCH_BYTES_MAX - self.open.size, PENDING_BYTES_MAX + 1 - self.pending_size)

    def dirty_keys(self) -> list[set[bytes]] | None:
        """The keys of each batch that is not yet durable; None: some batch changed every key."""
        found: list[set[bytes]] = []
        for batch in self.pending:
            if batch.whole:
                return None
            found.append(batch.dirty)
        return found

    def _gather(self) -> None:
        """Seal the open batch at the end of this turn, or when the clients that may come back have come."""
        self.seal_scheduled = True
        self.turns = self.quiet_turns = 0
        self.seen = -1
        self.schedule(self._seal_turn)

    def _seal_turn(self) -> None:
        count = self.open.count
        if self.in_flight < IN_FLIGHT_MAX and self.crowded and count < GATHER_COUNT_MAX:
            self.turns += 1
            self.quiet_turns = self.quiet_turns + 1 if count == self.seen else 0
            self.seen = count
            if self.quiet_turns < GATHER_QUIET_TURNS and self.turns < GATHER_TURNS_MAX:
                self.schedule(self._seal_turn)
                return
        self.seal_scheduled = False
        if self.in_flight < IN_FLIGHT_MAX:
            self.seal()

    def seal(self) -> None:
        """Send the open batch on its way; nothing happens when it is empty."""
        batch = self.open
        if batch.count == 0 or self.stopped:
            return
        self.in_flight += 1
        self.open = Batch(self.offset + 1)
        self.sink(batch)

    def completed(self, batch: Batch) -> list[Outbox]:
        """The batch is durable: free its replies and return the clients that may have some to write."""
        assert self.pending and self.pending[0] is batch, "appends become durable in order"
        del self.pending[0]
        self.in_flight -= 1
        self.pending_size -= batch.size
        self.durable_offset = batch.first_offset + batch.count - 1
        batch.durable = True
        clients = batch.clients
        self.crowded = len(clients) + len(self.open.clients) > 1
        if self.in_flight < IN_FLIGHT_MAX and not self.seal_scheduled:
            if self.open.count and (self.open.count >= GATHER_COUNT_MAX or not self.crowded):
                self.seal()  # at once: the zones write it while the replies of this one leave
            elif self.crowded:
                self._gather()
        for client in clients:
            client.release()
        if self.full and self.pending_size <= PENDING_BYTES_MAX // 2:
            self.full = False
            if self.on_room is not None:
                self.on_room()
        return clients

    def batch_of(self, offset: int) -> Batch | None:
        """The batch, not yet durable, that holds this transaction."""
        for batch in self.pending:
            if batch.first_offset <= offset < batch.first_offset + batch.count:
                return batch
        return None

    def newest_of(self, outbox: Outbox) -> Batch | None:
        """The newest batch, not yet durable, that holds a write of this client or that one of its replies waits for."""
        held = outbox.held[-1].batch if outbox.held else None
        if outbox.last_offset > self.durable_offset:  # its reply may have been silenced by CLIENT REPLY
            written = self.batch_of(outbox.last_offset)
            if written is not None and (held is None or written.first_offset > held.first_offset):
                return written
        return held

    def newest_touching(self, key: bytes) -> Batch | None:
        """The newest batch not yet durable that changed this key."""
        pending = self.pending
        for i in range(len(pending) - 1, -1, -1):
            batch = pending[i]
            if key in batch.dirty or batch.whole:
                return batch
        return None

    def stop(self) -> list[Batch]:
        """Fenced or closed: nothing leaves any more. Returns the batches whose outcome is unknown."""
        self.stopped = True
        lost, self.pending = self.pending, []
        self.in_flight = 0
        self.pending_size = 0
        self.full = False
        return lost
