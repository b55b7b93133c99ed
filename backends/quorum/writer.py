"""The writer of one epoch: seals records on the loop, lets the zone threads make them durable.

An append costs the loop one frame and one wake-up a sleeping zone. The zone whose vote completes the majority wakes the
loop, once for all that became durable by then.

A large record is compressed in a thread, and handed to the zones frame by frame, as they get on. So it holds up the
loop for no longer than a small one, and a heartbeat, which is put between its frames, waits for no more than
FEED_FRAMES_MAX of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Final

from eventdb.backends.log import Fenced, Indeterminate, LogError, RecordKind, WriterStats
from eventdb.backends.quorum.claim import Claimed, remembered
from eventdb.backends.quorum.files import FileOps
from eventdb.backends.quorum.horizon import Horizon
from eventdb.backends.quorum.identity import Identity
from eventdb.backends.quorum.recovery import Worth
from eventdb.backends.quorum.scrub import Scrubber
from eventdb.backends.quorum.window import Quorum
from eventdb.backends.quorum.zone import DOWN, Zone
from eventdb.backends.quorum.zone_loops import make_lanes
from eventdb.backends.record import BODY_BYTES_MAX, UNKNOWN, Encoder, Parts, seal_of

# From this size on, compressing would hold up the loop for longer than handing it to a thread does.
ASIDE_BYTES_MIN: Final = 512 << 10
FEED_FRAMES_MAX: Final = 4  # of a large record, sealed and not yet durable
CLOSE_S_MAX: Final = 5.0
CLOSE_POLL_S: Final = 0.005
STOP_S_MAX: Final = 1.0


class _Waiting:
    """A large append, or one after it: what is not yet with the zones, or only in part."""

    __slots__ = ("body", "compressing", "count", "first_offset", "future", "kind", "parts", "time_ms")

    def __init__(
        self, body: bytes, kind: int, first_offset: int, count: int, time_ms: int, future: asyncio.Future[int]
    ) -> None:
        self.body: bytes = body
        self.kind: int = kind
        self.first_offset: int = first_offset
        self.count: int = count
        self.time_ms: int = time_ms
        self.future: asyncio.Future[int] = future
        self.compressing: bool = False
        self.parts: Parts | None = None  # once it is compressed


class QuorumWriter:
    def __init__(self, claimed: Claimed, horizon: Horizon, encoder: Encoder, segment_bytes: int) -> None:
        tail = claimed.tail
        last = tail.last
        self.epoch = claimed.epoch
        self.next_offset = last.next_offset if last is not None else 1
        self.last_time_ms = last.time_ms if last is not None else 0
        self.stats = WriterStats()
        self._loop = asyncio.get_running_loop()
        self._horizon = horizon
        self._encoder = encoder
        self._next_position = tail.end
        # What the latest frame says; what was given to `append` may be ahead of it, and earlier in time.
        self._offset = self.next_offset
        self._time_ms = self.last_time_ms
        self._seal = last.seal if last is not None else UNKNOWN  # of the frame before it
        self._pending: deque[tuple[int, asyncio.Future[int]]] = deque()  # (end of the record, its future)
        self._aside: deque[_Waiting] = deque()
        self._executor: Executor | None = None
        self._runtime = claimed.facts[0].place.runtime
        self._failure: LogError | None = None
        self._closing: asyncio.Task[None] | None = None
        # Files that a test makes fail are reached through Python only.
        real = all(type(facts.place.ops) is FileOps for facts in claimed.facts)
        self._lanes = make_lanes(len(claimed.facts), tail.end + 1) if real else None
        if self._lanes is not None:
            self._loop.add_reader(self._lanes.fileno(), self._hear)
        self._quorum = Quorum(claimed.epoch, len(claimed.facts), tail.end + 1, self._wake, self._lanes)
        self._window = self._quorum.window
        self.zones: Sequence[Zone] = self._make_zones(claimed, segment_bytes)
        self._scrubber = Scrubber(self.zones, self._quorum, self._runtime)
        for zone in self.zones:
            zone.start()
        self._scrubber.start()

    def _make_zones(self, claimed: Claimed, segment_bytes: int) -> list[Zone]:
        zones: list[Zone] = []
        for facts in claimed.facts:
            place = facts.place
            identity = Identity(claimed.log_id, place.index, len(claimed.facts))
            zone = Zone(place, self._quorum, identity)
            # A zone of which nothing is known may still be a member: joining will show.
            member = facts.worth in (Worth.COUNT, Worth.ABSENT, Worth.LOST)
            known = remembered(claimed.facts, place.index, facts.tail.writer_epoch) if facts.tail is not None else 0
            true = place.index == claimed.source
            zone.adopt(facts.promise, facts.tail, true=true, member=member, floor=claimed.floor, known_synced=known)
            # Not all at once: a new segment takes some milliseconds, in one zone at a time nobody waits for it.
            zone.segment_bytes = segment_bytes - place.index * (segment_bytes // 16)
            zones.append(zone)
        for zone in zones:
            zone.others = [other for other in zones if other is not zone]
        return zones

    @property
    def durable_end(self) -> int:
        return self._quorum.durable_end

    @property
    def fenced(self) -> bool:
        return self._quorum.fenced_by != 0

    @property
    def closed(self) -> bool:
        return self._closing is not None

    def zone_states(self) -> list[tuple[str, str, str]]:
        """See `log.Writer.zone_states`."""
        found: list[tuple[str, str, str]] = []
        for zone in self.zones:
            state, detail = zone.health()
            found.append((zone.name, state, detail))
        return found

    def zone_times(self) -> list[tuple[str, int, float]]:
        """See `log.Writer.zone_times`."""
        times = self._quorum.write_times()
        return [(zone.name, times[zone.index][0], times[zone.index][1]) for zone in self.zones]

    # -- appending ------------------------------------------------------------------------------------------

    def append(
        self, body: bytes, *, first_offset: int, count: int, time_ms: int, kind: RecordKind = RecordKind.DATA
    ) -> asyncio.Future[int]:
        """See `log.Writer.append`."""
        if len(body) > BODY_BYTES_MAX:
            raise ValueError(f"a record's body is limited to {BODY_BYTES_MAX} bytes")
        future: asyncio.Future[int] = self._loop.create_future()
        if self._failure is not None:
            future.set_exception(self._failure)
            return future
        assert first_offset == self.next_offset, (first_offset, self.next_offset)
        assert time_ms >= self.last_time_ms, (time_ms, self.last_time_ms)
        self.next_offset = first_offset + count
        self.last_time_ms = time_ms
        if len(body) >= ASIDE_BYTES_MIN or self._aside:
            if kind == RecordKind.HEARTBEAT and len(body) <= self._encoder.payload_bytes_max:
                self._send_heartbeat(body, time_ms, future)
                return future
            self._aside.append(_Waiting(body, int(kind), first_offset, count, time_ms, future))
            if len(self._aside) == 1:
                self._feed()
            return future
        self._send(body, int(kind), first_offset, count, time_ms, future)
        self._wake_zones()
        return future

    def _send(
        self, body: bytes, kind: int, first_offset: int, count: int, time_ms: int, future: asyncio.Future[int],
        inside: bool = False,
    ) -> None:  # fmt: skip
        """Hand all frames of a record to the zones."""
        window = self._window
        stats = self.stats
        if time_ms > self._time_ms:
            self._time_ms = time_ms
        frames = self._encoder.encode(
            body,
            kind=kind,
            epoch=self.epoch,
            position=self._next_position,
            durable_end=self._quorum.durable_end,
            first_offset=first_offset,
            count=count,
            time_ms=self._time_ms,
            before=self._seal,
            inside=inside,
        )
        for frame in frames:
            window.add(frame)
            stats.stored_bytes += len(frame)
        self._next_position += len(frames)
        self._seal = seal_of(frames[-1])
        stats.records += 1
        stats.body_bytes += len(body)
        if not inside:
            self._offset += count
            stats.transactions += count
        self._pending.append((self._next_position, future))

    def _wake_zones(self) -> None:
        for zone in self.zones:
            if zone.waiting:
                zone.waiting = False
                zone.wake.put(None)

    # -- large records --------------------------------------------------------------------------------------

    def _feed(self) -> None:
        """Hand the zones as much of `_aside` as they are to have at once."""
        aside = self._aside
        while aside and self._failure is None:
            first = aside[0]
            if first.parts is not None:
                if not self._feed_parts(first, first.parts):
                    return
            elif len(first.body) >= ASIDE_BYTES_MIN:
                if not first.compressing:
                    self._compress(first)
                return
            else:
                self._send(first.body, first.kind, first.first_offset, first.count, first.time_ms, first.future)
                aside.popleft()
                self._wake_zones()

    def _feed_parts(self, large: _Waiting, parts: Parts) -> bool:
        """True when the last frame of it is with the zones."""
        room = FEED_FRAMES_MAX - (self._next_position - self._quorum.durable_end)
        while room > 0 and not parts.done:
            room -= 1
            self._time_ms = max(self._time_ms, large.time_ms)
            frame = parts.next(
                kind=large.kind,
                epoch=self.epoch,
                position=self._next_position,
                durable_end=self._quorum.durable_end,
                first_offset=large.first_offset,
                count=large.count,
                time_ms=self._time_ms,
                before=self._seal,
            )
            self._window.add(frame)
            self._next_position += 1
            self._seal = seal_of(frame)
            self.stats.stored_bytes += len(frame)
        if parts.done:
            self._aside.popleft()
            self._pending.append((self._next_position, large.future))
            self._offset += large.count
            self.stats.records += 1
            self.stats.transactions += large.count
            self.stats.body_bytes += len(large.body)
        self._wake_zones()
        return parts.done

    def _compress(self, large: _Waiting) -> None:
        """In a thread; what comes after it keeps its place."""
        large.compressing = True
        if self._executor is None:
            self._executor = self._runtime.executor("eventdb-encode")
        compressed = self._loop.run_in_executor(self._executor, self._encoder.parts, large.body)
        compressed.add_done_callback(lambda done: self._compressed(large, done))

    def _compressed(self, large: _Waiting, done: asyncio.Future[Parts]) -> None:
        if self._failure is not None or done.cancelled():
            return  # `_fail` answered for it
        error = done.exception()
        if error is not None:  # no memory for it
            self._fail(Indeterminate(f"a record of {len(large.body)} bytes cannot be compressed: {error!r}"))
            return
        large.parts = done.result()
        self._feed()

    # -- heartbeats between its frames ----------------------------------------------------------------------

    def _send_heartbeat(self, body: bytes, time_ms: int, future: asyncio.Future[int]) -> None:
        """Before all that is not yet with the zones, be it in the middle of a record."""
        large = self._aside[0] if self._aside else None
        inside = large is not None and large.parts is not None and large.parts.begun
        count = large.count if large is not None and inside else 0
        self._send(body, int(RecordKind.HEARTBEAT), self._offset, count, time_ms, future, inside)
        self._wake_zones()

    # -- what the zones say ---------------------------------------------------------------------------------

    def _wake(self) -> None:
        """In a zone's thread: durable_end or fenced_by changed."""
        self._horizon.advance(self.epoch, self._quorum.durable_end)
        try:
            self._loop.call_soon_threadsafe(self._settle)
        except RuntimeError:
            pass  # the loop has ended, and with it every caller that could hear of it

    def _hear(self) -> None:
        """On the loop: the lanes have news."""
        assert self._lanes is not None
        self._lanes.hear()
        self._quorum.refresh()
        self._horizon.advance(self.epoch, self._quorum.durable_end)
        self._settle()

    def _stop_hearing(self) -> None:
        if self._lanes is not None:
            self._loop.remove_reader(self._lanes.fileno())

    def _settle(self) -> None:
        quorum = self._quorum
        end = quorum.durable_end
        pending = self._pending
        while pending and pending[0][0] <= end:
            position, future = pending.popleft()
            if not future.done():
                future.set_result(position - 1)
        if quorum.fenced_by:
            self._scrubber.stop()
            self._fail(Fenced(f"epoch {self.epoch} was fenced by epoch {quorum.fenced_by}"))
        needed = end
        for zone in self.zones:
            if zone.state != DOWN and zone.reached() < needed:
                needed = zone.reached()
        self._window.cut(needed, end)
        if self._aside:
            self._feed()
        self.stats.syncs = quorum.syncs
        self.stats.zone_errors = quorum.zone_errors

    def _fail(self, failure: LogError) -> None:
        if self._failure is None:
            self._failure = failure
        pending, self._pending = self._pending, deque()
        waiting, self._aside = self._aside, deque()
        for _end, future in pending:
            if not future.done():
                future.set_exception(failure)
        for entry in waiting:
            if not entry.future.done():
                entry.future.set_exception(failure)

    # -- the end --------------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """End as a killed process would: nothing more is written, sealed or said. Pending appends: Indeterminate."""
        self._scrubber.stop()
        for zone in self.zones:
            zone.stop(abandon=True)
        self._stop_hearing()
        self._fail(Indeterminate("the writer was abandoned before the append was durable"))

    async def close(self) -> None:
        """See `log.Writer.close`."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        deadline = self._loop.time() + CLOSE_S_MAX
        while (self._pending or self._aside) and self._failure is None and self._loop.time() < deadline:
            futures = [future for _end, future in self._pending] or [entry.future for entry in self._aside]
            if futures[-1].done():  # cancelled: nobody waits for it, but its record is on its way all the same
                await asyncio.sleep(CLOSE_POLL_S)
            else:
                await asyncio.wait(futures[-1:], timeout=deadline - self._loop.time())
                await asyncio.sleep(0)
        self._scrubber.stop()
        self._stop_hearing()
        self._fail(Indeterminate("the writer was closed before the append was durable"))
        for zone in self.zones:
            zone.stop()
        joins: list[Callable[[float], bool]] = [zone.join for zone in self.zones]
        await asyncio.gather(*(asyncio.to_thread(join, STOP_S_MAX) for join in joins))
        if self._executor is not None:
            self._executor.shutdown(wait=False)
        self._horizon.leave(self.epoch)
        self._quorum.refresh()
        self.stats.syncs = self._quorum.syncs
        self.stats.zone_errors = self._quorum.zone_errors
