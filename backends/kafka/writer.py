"""The writer of one epoch: queues records, sends one batch at a time, and believes only the expected position.

What is read back after an answer that was lost is history, but nobody knows on how many copies: a broker before 3.7
shows a record as soon as every copy that is in sync has it, be it the leader's alone, and says so only to the writer
that appended it (NOT_ENOUGH_REPLICAS_AFTER_APPEND). So what was found is kept until a later append is acknowledged:
copies are prefixes of the leader's log, so a copy that has the later record has the earlier one too, if the leader
still has it: which is looked at, because what is on one copy can be lost, and others may then write in its place.
Where nothing else is to be appended, a heartbeat is.

While a batch is on its way what is appended joins the next one, so a batch grows with the load. A broker answers one
request of a connection at a time, so several batches in flight would only wait there instead of here.

A large record is compressed in a thread and goes batch by batch; heartbeats are put between.

While something keeps the loop, `push` sends what is staged through a stand-in (`stand_in.py`): the batch under way
first, as the very same request, then the next. It does so only where all that is history is known to be durable;
whatever is out of the ordinary waits for the loop. An answer that the loop then gets for a batch which was settled
meanwhile is worth nothing (`_deliver`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Final

from eventdb.backends.kafka.history import CLAIM
from eventdb.backends.kafka.link import PAUSE_S_MAX, PAUSE_S_MIN, Link, NoAnswer, persist
from eventdb.backends.kafka.page import Cursor, Entry, OutOfRange
from eventdb.backends.kafka.producer import RECORD_BYTES, Producer, TooLarge
from eventdb.backends.kafka.stand_in import StandIn
from eventdb.backends.log import Corrupt, Fenced, Indeterminate, LogError, RecordKind, Unavailable, WriterStats
from eventdb.backends.record import BODY_BYTES_MAX, UNKNOWN, Encoder, Parts, decode, seal_of

# From this size on, compressing would hold up the loop for longer than handing it to a thread does.
ASIDE_BYTES_MIN: Final = 256 << 10
CLOSE_S_MAX: Final = 5.0
CLOSE_POLL_S: Final = 0.005
# An answer that takes longer than this may mean that the leader is gone: ask the other brokers.
SUSPECT_S: Final = 0.4
NEWS_S: Final = 0.25


class _Append:
    """One record on its way into the log."""

    __slots__ = ("body", "count", "first_offset", "frames_left", "future", "kind", "parts", "staged", "time_ms")

    def __init__(
        self, body: bytes, kind: int, first_offset: int, count: int, time_ms: int, future: asyncio.Future[int]
    ) -> None:
        self.body = body
        self.kind = kind
        self.first_offset = first_offset
        self.count = count
        self.time_ms = time_ms
        self.future = future
        self.frames_left = 0  # staged and not yet durable
        self.staged = False  # all of it is, or was
        self.parts: asyncio.Future[Parts] | None = None  # of a large record: compressed in a thread


@dataclass(frozen=True, slots=True)
class _Push:
    """A batch that the stand-in sends."""

    base: int
    turn: int  # of the producer
    count: int
    answer: Future[int]


class KafkaWriter:
    """`link` and `watch` reach the same brokers: the first carries the records, the second looks for a new leader."""

    def __init__(
        self, link: Link, watch: Link, *, epoch: int, position: int, next_offset: int, last_time_ms: int,
        encoder: Encoder, batch_bytes: int, seal: int = UNKNOWN,
    ) -> None:  # fmt: skip
        """`position`: after our claim, which was acknowledged, so everything below it is durable."""
        self.epoch = epoch
        self.next_offset = next_offset
        self.last_time_ms = last_time_ms
        self.stats = WriterStats()
        self.trouble = ""  # why the oldest append is not yet durable; "" when nothing is wrong
        self._link = link
        self._watch = watch
        self._producer = Producer(link)
        self._encoder = encoder
        self._batch_bytes = batch_bytes
        self._base = position  # everything below it was read or acknowledged; it is what the next frame sent expects
        self._durable = position  # everything below it was acknowledged, or stands before what was
        self._found: deque[tuple[int, _Append]] = deque()  # whole records in [_durable, _base), with their positions
        self._seal = seal  # of what is history right before `_base`: the next frame sent links to it
        self._last = position - 1  # where that stands
        # What the latest frame says; what was given to `append` may be ahead of it, and earlier in time.
        self._offset = next_offset
        self._time_ms = last_time_ms
        self._queue: deque[_Append] = deque()  # a large record, of which a part may be staged, and what comes after it
        self._staged: deque[tuple[bytes, _Append]] = deque()  # frames, at consecutive positions from _base on
        self._staged_bytes = 0
        self._failure: LogError | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._closing: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None  # for another leader, while one does not answer
        self._stand_in: StandIn | None = None  # from the first `push` on
        self._push: _Push | None = None
        self._sent = (-1, -1, 0)  # the latest batch: where it was to go, the producer's turn, how many frames
        self._in_flight = -1  # how many frames are on their way; 0: none are, and none would be; -1: neither is sure
        self._astray = False  # what the stand-in sent is not where it was to go: the loop finds out why
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._task = self._loop.create_task(self._run())

    def zone_states(self) -> list[tuple[str, str, str]]:
        """Which copies are in sync only the brokers know."""
        return []

    def zone_times(self) -> list[tuple[str, int, float]]:
        return []

    @property
    def durable_end(self) -> int:
        """Everything below it is durable, and known to be."""
        return self._durable

    @property
    def fenced(self) -> bool:
        return isinstance(self._failure, Fenced)

    @property
    def closed(self) -> bool:
        return self._closing is not None

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
        entry = _Append(body, int(kind), first_offset, count, time_ms, future)
        if len(body) >= ASIDE_BYTES_MIN:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, "eventdb-encode")
            entry.parts = self._loop.run_in_executor(self._executor, self._encoder.parts, body)
            entry.parts.add_done_callback(lambda done: self._wake.set())
        if kind == RecordKind.HEARTBEAT and len(body) <= self._encoder.payload_bytes_max:
            self._put_heartbeat(entry)
        elif self._queue or entry.parts is not None:
            self._queue.append(entry)
        else:
            self._put(entry)  # now, while the batch before it is on its way
        self._wake.set()
        return future

    def _stage(self) -> None:
        """Stage what waited for a large record, or a part of one, up to a batch."""
        while self._queue and self._staged_bytes < self._batch_bytes:
            entry = self._queue[0]
            if entry.parts is None:
                self._put(entry)
                self._queue.popleft()
            elif not entry.parts.done():
                return
            elif self._put_part(entry, entry.parts.result()):
                self._queue.popleft()

    def _put(self, entry: _Append, *, count: int | None = None) -> None:
        """Stage a record's frames; each expects the position after the one before. count: it is a heartbeat inside
        a record of N transactions."""
        self._time_ms = max(self._time_ms, entry.time_ms)
        frames = self._encoder.encode(
            entry.body,
            kind=entry.kind,
            epoch=self.epoch,
            position=self._base + len(self._staged),
            durable_end=self._durable,
            first_offset=self._offset,
            count=entry.count if count is None else count,
            time_ms=self._time_ms,
            before=self._last_seal(),
            inside=count is not None,
        )
        entry.staged = True
        self._offset += entry.count
        for frame in frames:
            self._add(frame, entry)

    def _put_heartbeat(self, entry: _Append) -> None:
        """Stage a heartbeat after what is staged, be it in the middle of a record."""
        large = self._queue[0] if self._queue else None
        inside = large is not None and large.parts is not None and large.parts.done() and large.parts.result().begun
        self._put(entry, count=large.count if large is not None and inside else None)

    def _put_part(self, entry: _Append, parts: Parts) -> bool:
        """Stage the next frame of a large record; True when it was the last one."""
        self._time_ms = max(self._time_ms, entry.time_ms)
        frame = parts.next(
            kind=entry.kind,
            epoch=self.epoch,
            position=self._base + len(self._staged),
            durable_end=self._durable,
            first_offset=self._offset,
            count=entry.count,
            time_ms=self._time_ms,
            before=self._last_seal(),
        )
        self._add(frame, entry)
        if parts.done:
            entry.staged = True
            self._offset += entry.count
        return parts.done

    def _add(self, frame: bytes, entry: _Append) -> None:
        entry.frames_left += 1
        self._staged.append((frame, entry))
        self._staged_bytes += len(frame)

    def _last_seal(self) -> int:
        return seal_of(self._staged[-1][0]) if self._staged else self._seal

    def _moved(self, frames: Iterable[bytes], position: int, before: int) -> list[bytes]:
        """The same frames, expecting the places from `position` on, each linked to the one before."""
        found: list[bytes] = []
        for frame in frames:
            found.append(self._encoder.moved(frame, position + len(found), self._durable, before))
            before = seal_of(found[-1])
        return found

    def _batch(self) -> list[bytes]:
        """The staged frames that go into the next batch: at least one, as many as fit.

        Those that were sent under this sequence number before, and may be in the log, are sent again as they were: a
        broker refuses a batch that has the same number and other bounds.
        """
        base, turn, count = self._sent
        if (base, turn) == (self._base, self._producer.turn):
            return [frame for frame, _entry in islice(self._staged, count)]
        frames: list[bytes] = []
        size = 0
        for frame, _entry in self._staged:
            size += len(frame) + RECORD_BYTES
            if frames and size > self._batch_bytes:
                break
            frames.append(frame)
        return frames

    # -- while something keeps the loop ---------------------------------------------------------------------

    def push(self, wait_s: float) -> None:
        """See `log.Pushing.push`."""
        if self._push is None:
            # Below `_durable` stands all that is history, so that the next answer settles what it is for and no more.
            steady = self._in_flight >= 0 and not self._astray and not self._found and self._last < self._durable
            if not steady or not self._staged or not self._producer.known or self._failure or self._closing:
                return
            if self._stand_in is None:
                self._stand_in = StandIn(lambda: Link(self._link.address))
            frames = self._batch()
            self._sent = (self._base, self._producer.turn, len(frames))
            answer = self._stand_in.send(self._producer.request(frames))
            self._push = _Push(self._base, self._producer.turn, len(frames), answer)
        wait((self._push.answer,), wait_s)
        if self._push.answer.done():
            self._pushed()

    def _pushed(self) -> None:
        """The stand-in has its answer: believe it as one that came to us."""
        push, self._push = self._push, None
        if push is None or (push.base, push.turn) != (self._base, self._producer.turn):
            return  # the loop was faster
        try:
            position = push.answer.result()
        except (NoAnswer, Unavailable, CancelledError) as error:
            self.trouble = f"{error}"
            return
        if position != push.base:
            self._astray = True
            return
        self._in_flight = 0
        self._producer.overtaken(push.count)
        self._take(push.count)
        self._settle()
        self.stats.syncs += 1
        self.trouble = ""

    async def _join_push(self) -> None:
        """Wait for what the stand-in still sends, so that the next batch does not have other bounds than that one."""
        if self._push is not None:
            answered = asyncio.wrap_future(self._push.answer)
            answered.add_done_callback(_look_at)
            await asyncio.wait((answered,))
            self._pushed()
        self._astray = False

    # -- sending --------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Send until closed or fenced; whatever ends it is what every append then gets."""
        try:
            while True:
                self._wake.clear()
                await self._join_push()
                self._stage()
                if not self._staged and self._found:
                    self._put_heartbeat(self._heartbeat())
                if self._staged:
                    await self._deliver(self._batch())
                else:
                    self._in_flight = 0
                    await self._wake.wait()
                    self._in_flight = -1
        except (Fenced, Indeterminate) as failure:
            self._fail(failure)
        except asyncio.CancelledError:
            raise
        except Corrupt as error:
            self._fail(Indeterminate(f"the log cannot be read back: {error}"))
        except Exception as error:
            self._fail(Indeterminate(f"the writer stopped: {error!r}"))
            raise

    def _heartbeat(self) -> _Append:
        """An append that nobody waits for; when it is acknowledged, what was found before it is durable."""
        future: asyncio.Future[int] = self._loop.create_future()
        future.cancel()
        return _Append(b"", int(RecordKind.HEARTBEAT), self.next_offset, 0, self.last_time_ms, future)

    async def _deliver(self, frames: list[bytes]) -> None:
        """Return once the frames are history, or are to be put into smaller batches. Raises Fenced."""
        pause = PAUSE_S_MIN
        while frames:
            base = self._base
            try:
                position = await self._send(frames)
                if self._base != base:  # they were settled by `push`
                    return
            except TooLarge as error:  # nothing of it was appended: the same frames again in smaller batches
                self.trouble = f"{error}: is max.message.bytes smaller than it was?"
                self._batch_bytes = max(self._batch_bytes // 2, 1)
                await asyncio.sleep(PAUSE_S_MIN if len(frames) > 1 else PAUSE_S_MAX)
                return
            if position == self._base:
                if self._last >= self._durable:
                    await self._look_again()
                self._take(len(frames))
                self._settle()
                self.trouble = ""
                return
            if position is not None and position < self._base:
                raise Corrupt(f"position {self._base - 1} was shown and is gone: the log now ends at {position}")
            frames = await self._read_back(frames, position)
            if frames and position is None:
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, PAUSE_S_MAX)

    async def _send(self, frames: list[bytes]) -> int | None:
        """Where the broker says they are now durable, or None when that is not known. Raises TooLarge."""
        suspicion = self._loop.call_later(SUSPECT_S, self._suspect)
        self._in_flight = len(frames)
        self._sent = (self._base, self._producer.turn, len(frames))
        try:
            position = await self._producer.send(frames)
        except TooLarge:
            self.stats.zone_errors += 1
            raise
        except (NoAnswer, Unavailable) as error:
            self.trouble = f"{error}"
            self.stats.zone_errors += 1
            return None
        finally:
            self._in_flight = -1
            suspicion.cancel()
            if self._looking is not None:
                self._looking.cancel()
                self._looking = None
        self.stats.syncs += 1
        return position

    def _suspect(self) -> None:
        self._looking = self._loop.create_task(self._look_for_leader())

    async def _look_for_leader(self) -> None:
        """While a send waits: leave its leader once the other brokers know of another one."""
        while True:
            asked = self._link.leader_id
            try:
                leader = (await self._watch.cluster()).leader
            except (NoAnswer, Unavailable):
                leader = -1
            if leader != -1 and asked not in (-1, leader):
                self._link.leave_leader()
            await asyncio.sleep(NEWS_S)

    def _take(self, count: int) -> None:
        """The first `count` staged frames are history, from `_base` on."""
        stats = self.stats
        for _ in range(count):
            frame, entry = self._staged.popleft()
            self._staged_bytes -= len(frame)
            self._seal = seal_of(frame)
            stats.stored_bytes += len(frame)
            entry.frames_left -= 1
            if entry.frames_left == 0 and entry.staged:
                self._found.append((self._base, entry))
            self._last = self._base
            self._base += 1

    def _settle(self) -> None:
        """What stands right before `_base` was acknowledged: all that is history is durable."""
        self._durable = self._base
        stats = self.stats
        found = self._found
        while found:
            position, entry = found.popleft()
            stats.records += 1
            stats.transactions += entry.count
            stats.body_bytes += len(entry.body)
            if not entry.future.done():
                entry.future.set_result(position)

    # -- reading back ---------------------------------------------------------------------------------------

    async def _read_back(self, frames: list[bytes], position: int | None) -> list[bytes]:
        """Read what stands from `_base` on and take what is history of it; return what has to be sent again.

        `position` is where the broker put the frames: not where they were to go. Raises Fenced, Corrupt.
        """
        stop = 0 if position is None else position + len(frames)
        base, count = self._base, len(frames)
        cursor = Cursor(self._link, base, patience_s=None)
        while True:
            try:
                page = await persist(lambda: self._page(cursor, stop), None, "read-back")
            except OutOfRange:
                break
            for entry in page:
                if self._is_mine(entry):
                    self._base = entry.position
                    self._take(1)
                    self._seal = entry.frame.seal
                    count -= 1
                else:
                    self._base = entry.position + 1
            if cursor.position >= cursor.end and cursor.position >= stop:
                break
        self._base = max(self._base, cursor.position)
        if self._base == base and position is None:
            return frames  # nothing there yet: the same again, under the same sequence number
        if position is None:
            self._producer.renew()
        again = self._moved((frame for frame, _entry in self._staged), self._base, self._seal)
        self._staged = deque(zip(again, (entry for _frame, entry in self._staged), strict=True))
        return [frame for frame, _entry in list(self._staged)[:count]] if count > 0 else []

    async def _look_again(self) -> None:
        """See that what was read back stands below what was just acknowledged. Raises Corrupt if not."""
        cursor = Cursor(self._link, self._last, patience_s=None)
        page = await persist(lambda: self._page(cursor, self._base), None, "read-back")
        if not page or page[0].position != self._last or page[0].frame.seal != self._seal:
            raise Corrupt(f"position {self._last} was shown and is gone: something else stands there")

    async def _page(self, cursor: Cursor, stop: int) -> list[Entry]:
        """Raises NoAnswer; OutOfRange, unless there is something up to `stop`."""
        try:
            return await cursor.next(NEWS_S)
        except OutOfRange as error:
            # A leader that was replaced and does not know it may hold less than was shown. Or what was shown is lost,
            # which the place of the next append then says.
            self._link.forget_leader()
            self.trouble = f"{error}"
            if stop == 0:
                raise
            raise NoAnswer(self.trouble) from None

    def _is_mine(self, entry: Entry) -> bool:
        """Whether it is the first staged frame, as history; False for what is void. Raises Fenced, Corrupt."""
        frame = entry.frame
        if frame.kind == CLAIM:
            if frame.epoch == self.epoch + 1:
                raise Fenced(f"epoch {self.epoch} was fenced by epoch {frame.epoch} at position {entry.position}")
            return False
        if frame.epoch != self.epoch or frame.position != entry.position:
            return False
        sent = decode(self._staged[0][0]) if self._staged else None
        if sent is None or (sent.first_offset, sent.kind, sent.fragment, sent.payload) != (
            frame.first_offset, frame.kind, frame.fragment, frame.payload,
        ):  # fmt: skip
            raise Corrupt(f"position {entry.position} holds a record of our epoch {self.epoch} that is not ours")
        return True

    # -- the end --------------------------------------------------------------------------------------------

    def _fail(self, failure: LogError) -> None:
        if self._failure is None:
            self._failure = failure
        staged, self._staged = self._staged, deque()
        queue, self._queue = self._queue, deque()
        found, self._found = self._found, deque()
        pending = (*(entry for _position, entry in found), *(entry for _frame, entry in staged), *queue)
        for entry in dict.fromkeys(pending):
            if not entry.future.done():
                entry.future.set_exception(failure)

    def abandon(self) -> None:
        """End as a killed process would: nothing more is sent or said. Pending appends: Indeterminate."""
        self._task.cancel()
        if self._stand_in is not None:
            self._stand_in.close()
        self._fail(Indeterminate("the writer was abandoned before the append was durable"))

    async def close(self) -> None:
        """See `log.Writer.close`."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        deadline = time.monotonic() + CLOSE_S_MAX
        while self._failure is None and time.monotonic() < deadline:
            pending = self._queue or [entry for _frame, entry in self._staged] or [entry for _at, entry in self._found]
            if not pending:
                break
            last = pending[-1]
            if last.future.done():  # cancelled: nobody waits for it, but its record is on its way all the same
                await asyncio.sleep(CLOSE_POLL_S)
            else:
                await asyncio.wait([last.future], timeout=deadline - time.monotonic())
                await asyncio.sleep(0)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._fail(Indeterminate("the writer was closed before the append was durable"))
        if self._executor is not None:
            self._executor.shutdown(wait=False)
        if self._stand_in is not None:
            self._stand_in.close()
        await asyncio.gather(self._link.close(), self._watch.close())


def _look_at(answer: asyncio.Future[int]) -> None:
    """`_pushed` takes the outcome from the other future of the two: asyncio would call an error of this one unheard."""
    if not answer.cancelled():
        answer.exception()
