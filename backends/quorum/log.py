"""`QuorumLog`: the log contract over quorum files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from eventdb.backends.log import (
    LogError,
    LogInfo,
    RecordKind,
    Stretch,
    Trimmed,
    Unavailable,
    ZoneInfo,
)
from eventdb.backends.quorum import identity as identities
from eventdb.backends.quorum.address import zone_directories, zone_names
from eventdb.backends.quorum.claim import Place, claim_epoch, is_new, survey_all
from eventdb.backends.quorum.emptying import Hold, half_emptied
from eventdb.backends.quorum.files import FileOps
from eventdb.backends.quorum.horizon import horizon_of
from eventdb.backends.quorum.info import end_of_history, first_of_history, zone_infos
from eventdb.backends.quorum.reader import Reader
from eventdb.backends.quorum.runtime import PROCESS, Runtime
from eventdb.backends.quorum.trimming import trim_zone
from eventdb.backends.quorum.verify import findings
from eventdb.backends.quorum.view import Damage, ZoneView
from eventdb.backends.quorum.writer import QuorumWriter
from eventdb.backends.quorum.zone import SEGMENT_BYTES
from eventdb.backends.record import PAYLOAD_BYTES_MAX, UNKNOWN, Encoder
from eventdb.backends.seal import Keyring, unsealable

CLAIM_S_MAX = 5.0


class QuorumLog:
    """Opens nothing before it is asked to.

    `ops_of` gives the file system of a zone by its index, `runtime` the clock and the threads.
    """

    def __init__(
        self,
        url: str,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
        ops_of: Callable[[int], FileOps] | None = None,
        runtime: Runtime = PROCESS,
    ) -> None:
        self.url = url
        self._runtime = runtime
        directories = zone_directories(url)
        names = zone_names(directories)
        self._places: list[Place] = [
            Place(ops_of(index) if ops_of is not None else FileOps(), directory, names[index], index, runtime)
            for index, directory in enumerate(directories)
        ]
        self._horizon = horizon_of(tuple(directories), runtime)
        self._segment_bytes = segment_bytes
        self._payload_bytes_max = payload_bytes_max
        self._writers: list[QuorumWriter] = []
        self._damaged: set[tuple[int, str]] = set()
        self._foresee = False
        self.keys: Keyring | None = None
        self._hold: Hold | None = None

    def foresee(self) -> None:
        """See `log.Foreseeing`."""
        self._foresee = True

    def use_keys(self, keys: Keyring) -> None:
        """See `seal.Sealing`."""
        self.keys = keys

    async def claim(self, node: str, address: str = "") -> QuorumWriter:
        claimed = await asyncio.to_thread(claim_epoch, self._places, self.keys)
        last = claimed.tail.last
        if last is not None and (why := unsealable(last.key_id, self.keys)):
            raise LogError(f"{self.url} cannot be written: {why}")
        encoder = Encoder(self._payload_bytes_max, self.keys)
        writer = QuorumWriter(claimed, self._horizon, encoder, self._segment_bytes)
        body = f"{node} {address}".rstrip().encode()
        try:
            future = writer.append(
                body, first_offset=writer.next_offset, count=0, time_ms=writer.last_time_ms, kind=RecordKind.CLAIM
            )
            await asyncio.wait_for(asyncio.shield(future), CLAIM_S_MAX)
        except TimeoutError:
            zones = "; ".join(f"{zone.name}: {' '.join(zone.health())}" for zone in writer.zones)
            future.cancel()
            await writer.close()
            raise Unavailable(f"the claim record is on no majority after {CLAIM_S_MAX:.0f} s: {zones}") from None
        except BaseException:
            await writer.close()
            raise
        self._writers.append(writer)
        for zone, segment in self._damaged:
            writer.zones[zone].report_damage(segment)
        self._damaged.clear()
        return writer

    async def read(self, start: int = 0, *, follow: bool = False, after: int = UNKNOWN) -> AsyncIterator[Stretch]:
        loop = asyncio.get_running_loop()
        reader = Reader(
            self._places, self._horizon, start, self._report, after, foresee=self._foresee and not follow,
            keys=self.keys,
        )  # fmt: skip
        executor = self._runtime.executor("eventdb-read")
        told = start
        try:
            while True:
                stretch = await loop.run_in_executor(executor, reader.next)
                if stretch is not None:
                    if stretch.records or stretch.next_position != told:  # else a part of a large record, and no more
                        told = stretch.next_position
                        yield stretch
                elif not follow:
                    return
                else:
                    await loop.run_in_executor(executor, reader.end.wait, reader.position)
        finally:
            executor.submit(reader.close)
            executor.shutdown(wait=False)

    def _report(self, zone: int, segment: str) -> None:
        """A reader found damage (in its thread): the writer here repairs it, or the next one will."""
        self._damaged.add((zone, segment))
        for writer in self._writers:
            if not writer.fenced:
                writer.zones[zone].report_damage(segment)
                self._damaged.discard((zone, segment))

    def hurry(self) -> None:
        self._horizon.look()

    async def seek(self, offset: int) -> int:
        return await asyncio.to_thread(self._seek, offset)

    def _seek(self, offset: int) -> int:
        """The last segment start at which that transaction has not begun yet; frames state their first offset."""
        error: LogError | OSError | Damage | None = None
        oldest: Trimmed | None = None
        for place in self._places:
            view = ZoneView(place.ops, place.directory, place.name)
            try:
                view.refresh()
                low = -1
                for segment in view.segments:
                    frame = view.frame_at(segment.first)
                    if frame is None:
                        break
                    # A segment may begin inside a record; its transactions are found from an earlier start only.
                    reached = frame.first_offset + (0 if frame.fragment in (0, 1) else frame.count)
                    if reached > offset:
                        break
                    low = segment.first
                if low >= 0:
                    return low
                if view.segments:
                    oldest = Trimmed(f"transaction {offset} is no longer kept")
            except (OSError, Damage) as caught:
                error = caught
            finally:
                view.close()
        if oldest is not None:
            raise oldest
        if error is not None:
            raise Unavailable(f"no zone can be searched: {error}")
        return 0

    async def trim(self, before_position: int) -> None:
        await asyncio.to_thread(self._trim, before_position)

    def _trim(self, before_position: int) -> None:
        end = end_of_history(self._places, self._horizon).end
        before = min(before_position, end - 1)  # the last record stays: the next claim goes on from it
        errors: list[str] = []
        for place in self._places:
            try:
                trim_zone(place.ops, place.directory, before)
            except OSError as error:
                errors.append(f"{place.name}: {error}")
        if len(errors) > len(self._places) // 2:
            raise Unavailable(f"not trimmed: {'; '.join(errors)}")

    async def info(self) -> LogInfo:
        return await asyncio.to_thread(self._info)

    def _info(self) -> LogInfo:
        end = end_of_history(self._places, self._horizon, foresee=self._foresee)
        first_position, first_offset = first_of_history(self._places, end)
        return LogInfo(
            self.url,
            end.epoch,
            first_position,
            end.end,
            first_offset,
            end.next_offset - 1,
            end.time_ms,
            tuple(self._zone_infos(end.end)),
            self._log_id(),
        )

    def _log_id(self) -> str:
        """As the first zone that can be read has it; directories of several logs were refused when it was opened."""
        for place in self._places:
            try:
                found = identities.load(place.ops, place.directory)
            except (OSError, identities.DamagedIdentity):
                continue
            if found is not None:
                return found.log_id
        return ""

    def _zone_infos(self, durable_end: int) -> list[ZoneInfo]:
        live: Sequence[QuorumWriter] = [writer for writer in self._writers if not writer.fenced and not writer.closed]
        health = [zone.health() for zone in live[-1].zones] if live else None
        return zone_infos(self._places, durable_end, health)

    async def verify(self) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        lines = findings(self._places, self._horizon, self._report, self.keys)
        executor = self._runtime.executor("eventdb-verify")
        try:
            while (line := await loop.run_in_executor(executor, next, lines, None)) is not None:
                yield line
        finally:
            executor.shutdown(wait=False)

    async def is_empty(self) -> bool:
        found = await asyncio.to_thread(survey_all, self._places)
        if any(not facts.empty for facts in found):
            return False
        if not is_new(found):
            away = "; ".join(f"{facts.place.name}: {facts.why}" for facts in found if facts.why)
            raise Unavailable(f"cannot tell whether the log is empty: {away}")
        return True

    async def hold(self) -> None:
        """See `log.Refillable`."""
        if self._hold is None:
            hold = Hold(self.url, self._places)
            await asyncio.to_thread(hold.take)
            self._hold = hold

    async def let_go(self) -> None:
        """See `log.Refillable`."""
        hold, self._hold = self._hold, None
        if hold is not None:
            await asyncio.to_thread(hold.let_go)

    async def half_emptied(self) -> bool:
        """See `log.Refillable`."""
        return await asyncio.to_thread(half_emptied, self._places)

    async def empty(self) -> None:
        """See `log.Refillable`."""
        assert self._hold is not None
        await asyncio.to_thread(self._hold.empty)

    async def close(self) -> None:
        writers, self._writers = self._writers, []
        await asyncio.gather(*(writer.close() for writer in writers))
        await self.let_go()


def open_quorum(url: str) -> QuorumLog:
    """Open quorum files; see `address.py` for the URL. Raises BadLogURL."""
    return QuorumLog(url)
