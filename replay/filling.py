"""A new log is filled from something else, and proven before it counts: what restores and imports have in common.

    claim the target as RESTORING -> append -> read it back and compare -> claim it as RESTORED

Until the last claim the target is half a copy, which every rebuild refuses (completeness.py): killing this at any
moment is safe, and the same copy begins anew in what it left, where the backend can remove that (`log.Refillable`).
A target that holds anything else is never added to.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from eventdb.backends.log import Fenced, Log, LogError, Record, RecordKind, Refillable, Writer
from eventdb.replay.completeness import RESTORED, RESTORING, Incomplete, check_complete
from eventdb.replay.follower import Follower, Progress
from eventdb.replay.machine import Machine, MachineFactory

logger: Final = logging.getLogger("eventdb")

IN_FLIGHT_BYTES_MAX: Final = 16 << 20  # appended and not yet durable in the target
SLOW_S: Final = 5.0  # that an append takes without a word about it

OnPhase = Callable[[str, Progress], None]  # "copy" or "verify", and how far


class NotEmpty(LogError):  # noqa: N818 - named as the errors of log.py are
    """The target holds something. What fills a log never adds to one and never overwrites one."""


class Mismatch(LogError):  # noqa: N818 - named as the errors of log.py are
    """The target read back gives another state than the source gave: the copy must not be used."""


async def check_empty(target: Log, source_url: str) -> bool:
    """Whether nothing has to be removed before `target` is filled from that source.

    False: an earlier copy from there ended half-way, and can be removed. Raises Incomplete for what another copy left,
    NotEmpty.
    """
    if isinstance(target, Refillable) and await target.half_emptied():
        return False
    if await target.is_empty():
        return True
    try:
        await check_complete(target)
    except Incomplete as found:
        if isinstance(target, Refillable) and found.source == _stated(source_url):
            return False
        raise
    info = await target.info()
    what = f"transactions up to offset {info.last_offset}" if info.last_offset else f"{info.epoch} claims"
    raise NotEmpty(f"{target.url} is not empty (it holds {what}): it takes a log that does not exist yet")


class Stalled(LogError):  # noqa: N818 - named as the errors of log.py are
    """It was to end while the target took nothing."""


class Filling:
    """The appends of one fill. `close` in any case; `prove` when all of it was appended."""

    def __init__(self, target: Log, writer: Writer, source_url: str) -> None:
        self.target = target
        self.writer = writer
        self.source_url = source_url
        self.copied_bytes = 0
        self.slow_s = SLOW_S
        self.is_stopped: Callable[[], bool] = bool  # whether it is to end; asked while the target takes nothing
        self._first_offset = writer.next_offset
        self._sum = hashlib.blake2b()  # of all transactions that were appended
        self._pending: deque[tuple[asyncio.Future[int], int]] = deque()
        self._pending_bytes = 0

    def append(self, body: bytes, *, first_offset: int, count: int, time_ms: int) -> None:
        """Append transactions; call `room` now and then."""
        future = self.writer.append(body, first_offset=first_offset, count=count, time_ms=time_ms)
        self._pending.append((future, len(body)))
        self._pending_bytes += len(body)
        self._sum.update(body)
        self.copied_bytes += len(body)

    async def room(self, bytes_max: int = IN_FLIGHT_BYTES_MAX) -> None:
        """Wait until no more than `bytes_max` are on their way. Raises what an append raised."""
        while self._pending and (self._pending_bytes > bytes_max or self._pending[0][0].done() or bytes_max == 0):
            future, size = self._pending.popleft()
            try:
                if not future.done():
                    await self._landed(future)
                future.result()
            except Fenced as error:
                raise taken_over(self.target.url) from error
            self._pending_bytes -= size

    async def _landed(self, future: asyncio.Future[int]) -> None:
        """Wait for an append; a target that is full or away is waited for, which is said. Raises Stalled."""
        said = False
        while not (await asyncio.wait({future}, timeout=self.slow_s))[0]:
            if self.is_stopped():
                raise Stalled(f"{self.target.url} takes nothing at the moment, so the last of it was not written")
            if not said:
                said = True
                logger.warning(
                    "%s has taken nothing for %g s: this goes on by itself when a majority of it can be written"
                    " again, or can be ended now", self.target.url, self.slow_s,
                )  # fmt: skip

    async def close(self) -> None:
        for future, _ in self._pending:  # after a failure: theirs is the same one
            future.add_done_callback(_looked_at)
        await self.writer.close()

    async def prove(
        self,
        make_machine: MachineFactory,
        offset: int,
        key_count: int,
        digest: str = "",
        on_progress: OnPhase | None = None,
    ) -> str:
        """After `close`: read the target back as a server would, and make it count; returns its digest.

        digest: of what was copied. Needed only where that state came about by something else than applying the very
        transactions that were appended: those are compared byte by byte in any case. Raises Mismatch.
        """
        machine = make_machine()
        read = hashlib.blake2b()

        def take(record: Record) -> None:
            if record.kind is RecordKind.DATA and record.first_offset >= self._first_offset:
                read.update(record.body)

        follower = Follower(self.target, machine, on_record=take, allow_incomplete=True)
        report = None if on_progress is None else lambda progress: on_progress("verify", progress)
        await follower.rebuild(on_progress=report)
        found = (follower.offset, machine.key_count(), machine.digest())
        same = read.digest() == self._sum.digest()
        if not same or found != (offset, key_count, digest or found[2]):
            said = f", digest {digest}" if digest else "" if same else " of other bytes"
            raise Mismatch(
                f"{self.target.url} read back gives offset {found[0]}, {found[1]} keys, digest {found[2]}; copied were"
                f" offset {offset}, {key_count} keys{said}. The target is left marked as incomplete"
            )
        finished = await _claim(
            self.target, RESTORED, self.source_url, (self.writer.epoch + 1, self.writer.next_offset)
        )
        await finished.close()
        if isinstance(self.target, Refillable):
            await self.target.let_go()
        return found[2]


async def begin(target: Log, source_url: str) -> Filling:
    """Claim an empty log, to fill it from `source_url`; what an earlier attempt has left there is removed first.

    Raises NotEmpty, Incomplete, Fenced, Unavailable (another process fills it at this moment).
    """
    epoch: int | None = 1
    await check_empty(target, source_url)
    if isinstance(target, Refillable):
        await target.hold()
    if not await check_empty(target, source_url):
        assert isinstance(target, Refillable)
        logger.warning("%s holds part of an earlier attempt that did not finish: it is removed", target.url)
        await target.empty()
        epoch = None
    return Filling(target, await _claim(target, RESTORING, source_url, (epoch, 1)), source_url)


async def resume(target: Log, source_url: str) -> Filling:
    """Claim a log again that an unfinished fill has left, to go on after what it holds. Raises Fenced, Unavailable.

    Only for a source that says itself where it goes on; the caller has met Incomplete, and reads what is there: the
    claim may have adopted more than could be read before it, and who else has claimed is found by reading, too.
    """
    if isinstance(target, Refillable):
        await target.hold()
    return Filling(target, await target.claim(RESTORING, _stated(source_url)), source_url)


def _stated(source_url: str) -> str:
    """As the claim has it: without what ends a word there."""
    return source_url.replace(" ", "%20")


async def _claim(target: Log, node: str, source_url: str, expected: tuple[int | None, int]) -> Writer:
    """Claim the target and make sure that nobody came in between. The address states where the copy comes from.

    expected: the epoch (None: any) and the first offset that the claim must be given.
    """
    writer = await target.claim(node, _stated(source_url))
    if (expected[0] or writer.epoch, writer.next_offset) != (writer.epoch, expected[1]):
        await writer.close()
        raise taken_over(target.url)
    return writer


def taken_over(url: str) -> Fenced:
    return Fenced(
        f"another node claimed {url} while it was being filled, so the copy was given up and stays marked as"
        " incomplete: delete it and begin again"
    )


def _looked_at(future: asyncio.Future[int]) -> None:
    """Take a future's outcome, so that asyncio does not report it as forgotten."""
    if not future.cancelled():
        future.exception()


def state_of(machine: Machine) -> tuple[int, str]:
    """Keys and digest of what was copied: taken before the proof, because two states at once need not fit."""
    return machine.key_count(), machine.digest()
