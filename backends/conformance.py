"""The suite that every backend must pass; it ships with the contract so that third parties can run it.

In a test file of your own, with pytest and pytest-asyncio (asyncio_mode = "auto")::

    from eventdb.backends.conformance import LogConformance

    class TestMyLog(LogConformance):
        def fresh(self, tmp_path: Path) -> Callable[[], Log]:
            url = f"mine:{tmp_path}"
            return lambda: open_log(url)

`fresh` returns a function that opens the same new, empty log each time it is called, as two processes would.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

from eventdb.backends.log import (
    Corrupt,
    Fenced,
    Indeterminate,
    Log,
    LogError,
    Record,
    RecordKind,
    Stretch,
    Trimmed,
    Writer,
)

WAIT_S = 10.0
Raised = TypeVar("Raised", bound=BaseException)


async def sound(log: Log) -> None:
    """Every copy is found whole; one that a majority did without may take a moment to have the last record."""
    async with asyncio.timeout(WAIT_S):
        while lines := [line async for line in log.verify()]:
            assert all("lags" in line for line in lines), lines
            await asyncio.sleep(0.01)


async def read_all(log: Log, start: int = 0) -> list[Record]:
    return [record async for stretch in log.read(start) for record in stretch.records]


async def fill(writer: Writer, bodies: list[bytes]) -> list[int]:
    """Append one transaction a body, pipelined; return their positions."""
    futures = [
        writer.append(body, first_offset=writer.next_offset, count=1, time_ms=writer.last_time_ms + 1)
        for body in bodies
    ]
    return [await asyncio.wait_for(future, WAIT_S) for future in futures]


async def raised(future: asyncio.Future[int], kind: type[Raised]) -> Raised:
    try:
        position = await asyncio.wait_for(future, WAIT_S)
    except kind as error:
        return error
    raise AssertionError(f"the append got position {position}, not {kind.__name__}")


def data_of(records: list[Record]) -> list[bytes]:
    return [record.body for record in records if record.kind is RecordKind.DATA]


class LogConformance:
    def fresh(self, tmp_path: Path) -> Callable[[], Log]:
        raise NotImplementedError

    async def test_a_new_log_is_empty_and_a_claimed_one_is_not(self, tmp_path: Path) -> None:
        log = self.fresh(tmp_path)()
        assert await log.is_empty()
        assert await read_all(log) == []
        info = await log.info()
        assert (info.epoch, info.first_position, info.end_position, info.last_offset) == (0, 0, 0, 0)
        writer = await log.claim("node", "host:1")
        assert not await log.is_empty()
        assert (writer.next_offset, writer.last_time_ms) == (1, 0)
        (claim,) = await read_all(log)
        assert (claim.kind, claim.body, claim.count, claim.first_offset) == (RecordKind.CLAIM, b"node host:1", 0, 1)
        assert claim.epoch == writer.epoch
        await log.close()

    async def test_records_come_back_as_they_were_appended(self, tmp_path: Path) -> None:
        log = self.fresh(tmp_path)()
        writer = await log.claim("node")
        bodies = [b"", b"x", bytes(range(256)), b"z" * 5000, random.Random(1).randbytes(70_000)]
        positions: list[int] = []
        for number, body in enumerate(bodies):
            offset = writer.next_offset
            future = writer.append(body, first_offset=offset, count=number, time_ms=100 + number)
            positions.append(await asyncio.wait_for(future, WAIT_S))
        records = (await read_all(log))[1:]
        assert [record.body for record in records] == bodies
        assert [record.position for record in records] == positions == sorted(set(positions))
        assert [record.count for record in records] == [0, 1, 2, 3, 4]
        assert [record.first_offset for record in records] == [1, 1, 2, 4, 7]
        assert [record.time_ms for record in records] == [100, 101, 102, 103, 104]
        info = await log.info()
        assert (info.last_offset, info.last_time_ms, info.epoch) == (10, 104, writer.epoch)
        assert info.end_position == positions[-1] + 1
        await sound(log)
        await log.close()

    async def test_a_record_larger_than_any_limit_comes_back_whole(self, tmp_path: Path) -> None:
        log = self.fresh(tmp_path)()
        writer = await log.claim("node")
        large = random.Random(2).randbytes(3_500_000)
        first = writer.append(large, first_offset=1, count=7, time_ms=1)
        second = writer.append(b"after", first_offset=8, count=1, time_ms=1)
        assert await asyncio.wait_for(first, WAIT_S) < await asyncio.wait_for(second, WAIT_S)
        records = await read_all(log)
        assert data_of(records) == [large, b"after"]
        assert (records[1].count, records[2].first_offset) == (7, 8)
        await log.close()

    async def test_pipelined_appends_complete_in_call_order(self, tmp_path: Path) -> None:
        log = self.fresh(tmp_path)()
        writer = await log.claim("node")
        done: list[int] = []
        futures = []
        for number in range(300):
            future = writer.append(b"%d" % number, first_offset=number + 1, count=1, time_ms=1)
            future.add_done_callback(lambda _future, number=number: done.append(number))  # type: ignore[misc]
            futures.append(future)
        await asyncio.wait_for(asyncio.gather(*futures), WAIT_S)
        assert done == list(range(300))
        assert writer.stats.transactions >= 300
        await log.close()

    async def test_a_claim_fences_the_writer_before(self, tmp_path: Path) -> None:
        opened = self.fresh(tmp_path)
        one, two = opened(), opened()
        old = await one.claim("old")
        await fill(old, [b"kept"])
        new = await two.claim("new")
        assert new.epoch > old.epoch
        assert new.next_offset == 2
        await raised(old.append(b"lost", first_offset=2, count=1, time_ms=9), Fenced)
        for _ in range(3):  # a server goes on for a moment with the numbers it has
            await raised(old.append(b"lost", first_offset=old.next_offset, count=1, time_ms=9), Fenced)
        await fill(new, [b"newer"])
        assert data_of(await read_all(one)) == data_of(await read_all(two)) == [b"kept", b"newer"]
        await one.close()
        await two.close()

    async def test_a_claim_adopts_all_that_was_acknowledged(self, tmp_path: Path) -> None:
        opened = self.fresh(tmp_path)
        bodies: list[bytes] = []
        for round_number in range(4):
            log = opened()
            writer = await log.claim(f"node-{round_number}")
            assert writer.next_offset == len(bodies) + 1
            more = [b"%d-%d" % (round_number, number) for number in range(20)]
            await fill(writer, more)
            bodies += more
            if round_number % 2:
                await log.close()
        log = opened()
        records = await read_all(log)
        assert data_of(records) == bodies
        assert [record.position for record in records] == sorted({record.position for record in records})
        assert [record.epoch for record in records] == sorted(record.epoch for record in records)
        await log.close()

    async def test_claims_at_the_same_time_leave_one_writer(self, tmp_path: Path) -> None:
        opened = self.fresh(tmp_path)
        await opened().claim("first")
        logs = [opened() for _ in range(4)]
        outcomes = await asyncio.gather(*(log.claim(f"n{i}") for i, log in enumerate(logs)), return_exceptions=True)
        writers = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert all(isinstance(outcome, LogError) for outcome in outcomes if isinstance(outcome, BaseException)), (
            outcomes
        )
        assert len({writer.epoch for writer in writers}) == len(writers)
        acknowledged: list[bytes] = []
        for writer in writers:
            try:
                body = b"%d" % writer.epoch
                await asyncio.wait_for(writer.append(body, first_offset=writer.next_offset, count=1, time_ms=1), WAIT_S)
                acknowledged.append(body)
            except Fenced:
                pass
        assert len(acknowledged) <= 1
        assert data_of(await read_all(logs[0])) == acknowledged
        for log in logs:
            await log.close()

    async def test_a_reader_follows_what_is_appended(self, tmp_path: Path) -> None:
        opened = self.fresh(tmp_path)
        writing, reading = opened(), opened()
        writer = await writing.claim("node")
        await fill(writer, [b"before"])
        stretches = reading.read(0, follow=True)
        seen: list[Record] = []
        await _until(stretches, seen, 2)
        for number in range(5):
            await fill(writer, [b"%d" % number])
            await _until(stretches, seen, 3 + number)
        assert data_of(seen) == [b"before", b"0", b"1", b"2", b"3", b"4"]
        new = await opened().claim("next")
        await _until(stretches, seen, 8)
        assert seen[-1].epoch == new.epoch
        await _close(stretches)
        await new.close()
        await writing.close()
        await reading.close()

    async def test_reading_goes_on_from_next_position(self, tmp_path: Path) -> None:
        log = self.fresh(tmp_path)()
        writer = await log.claim("node")
        bodies = [bytes([number]) * 30_000 for number in range(100)]
        positions = await fill(writer, bodies)
        position = 0
        got: list[bytes] = []
        steps = 0
        while position <= positions[-1]:
            stretches = log.read(position)
            stretch = await anext(stretches)
            await _close(stretches)
            assert sum(len(record.body) for record in stretch.records) <= (1 << 20) + 30_000
            got += data_of(list(stretch.records))
            assert stretch.next_position > position
            position = stretch.next_position
            steps += 1
        assert got == bodies
        assert steps >= 3
        assert await read_all(log, position) == []
        await log.close()

    async def test_reading_goes_on_only_in_the_history_that_was_read(self, tmp_path: Path) -> None:
        log = self.fresh(tmp_path)()
        writer = await log.claim("node")
        await fill(writer, [b"one", b"two", b"three"])
        records = await read_all(log)
        assert await read_all(log) == records
        checksums = {record.checksum for record in records}
        if checksums == {-1}:
            return  # none are kept
        assert len(checksums) == len(records)
        last, start = records[-2], records[-1].position
        assert [
            record async for stretch in log.read(start, after=last.checksum) for record in stretch.records
        ] == records[-1:]
        found = await _corrupt(log.read(start, after=records[0].checksum))
        assert f"the frame at position {start} does not follow the one before" in found
        await log.close()

    async def test_a_log_has_an_id_that_stays(self, tmp_path: Path) -> None:
        opened = self.fresh(tmp_path)
        log = opened()
        await (await log.claim("one")).close()
        first = (await log.info()).log_id
        await (await opened().claim("two")).close()
        assert first and (await log.info()).log_id == (await opened().info()).log_id == first
        await log.close()

    async def test_reading_goes_on_after_any_record_of_data(self, tmp_path: Path) -> None:
        """A snapshot names such a place: after the record of its last transaction, and that record's checksum."""
        log = self.fresh(tmp_path)()
        writer = await log.claim("node")
        large = random.Random(5).randbytes(2_500_000)
        first = writer.append(large, first_offset=1, count=1, time_ms=1)
        beats = [writer.append(b"", first_offset=2, count=0, time_ms=1, kind=RecordKind.HEARTBEAT) for _ in range(2)]
        second = writer.append(large[::-1], first_offset=2, count=1, time_ms=2)
        await asyncio.wait_for(asyncio.gather(first, *beats, second), WAIT_S)
        await writer.close()
        writer = await log.claim("other")
        await fill(writer, [b"three", b"four"])
        records = await read_all(log)
        data = [record for record in records if record.kind is RecordKind.DATA]
        assert [record.first_offset for record in data] == [1, 2, 3, 4]
        for index, record in enumerate(data):
            rest = log.read(record.position + 1, after=record.checksum)
            found = [each async for stretch in rest for each in stretch.records]
            assert [each for each in found if each.kind is RecordKind.DATA] == data[index + 1 :]
        await log.close()

    async def test_trimmed_history_cannot_be_read_and_the_rest_can(self, tmp_path: Path) -> None:
        log = self.fresh(tmp_path)()
        writer = await log.claim("node")
        rng = random.Random(3)
        bodies = [rng.randbytes(3000) for _ in range(200)]
        positions = await fill(writer, bodies)
        await log.trim(positions[100])
        info = await log.info()
        assert info.first_position <= positions[100]
        records = await read_all(log, info.first_position)
        kept = data_of(records)
        assert kept == bodies[len(bodies) - len(kept) :]
        assert len(kept) >= 100
        if info.first_position > 0:
            await _reading_raises_trimmed(log, info.first_position - 1)
        await log.trim(positions[-1] + 1000)
        await fill(writer, [b"last"])
        info = await log.info()
        assert data_of(await read_all(log, info.first_position))[-1] == b"last"
        assert info.last_offset == 201
        await log.close()

    async def test_seek_finds_a_place_at_or_before_a_transaction(self, tmp_path: Path) -> None:
        log = self.fresh(tmp_path)()
        writer = await log.claim("node")
        for number in range(60):
            body = random.Random(number).randbytes(2000)
            await asyncio.wait_for(writer.append(body, first_offset=1 + 3 * number, count=3, time_ms=number), WAIT_S)
        for offset in (1, 2, 3, 4, 90, 178, 179, 180):
            records = await read_all(log, await log.seek(offset))
            carrying = [record for record in records if record.count]
            assert carrying[0].first_offset <= offset <= carrying[-1].last_offset
        assert await log.seek(181) <= (await log.info()).end_position
        await log.close()

    async def test_heartbeats_take_a_position_and_no_offset(self, tmp_path: Path) -> None:
        log = self.fresh(tmp_path)()
        writer = await log.claim("node")
        beat = writer.append(b"", first_offset=1, count=0, time_ms=5, kind=RecordKind.HEARTBEAT)
        position = await asyncio.wait_for(beat, WAIT_S)
        (after,) = await fill(writer, [b"data"])
        assert after > position
        assert [record.kind for record in await read_all(log)] == [
            RecordKind.CLAIM, RecordKind.HEARTBEAT, RecordKind.DATA,
        ]  # fmt: skip
        assert (await log.info()).last_offset == 1
        await log.close()

    async def test_a_writer_knows_its_zones_or_none(self, tmp_path: Path) -> None:
        log = self.fresh(tmp_path)()
        writer = await log.claim("node")
        states = writer.zone_states()
        if states:
            assert [name for name, _, _ in states] == [zone.name for zone in (await log.info()).zones]
            assert {state for _, state, _ in states} <= {"up", "catching-up", "down"}
        await fill(writer, [b"one"])
        times = writer.zone_times()
        if times:
            assert [name for name, _, _ in times] == [name for name, _, _ in states]
            assert sum(1 for _, writes, _ in times if writes) >= len(times) // 2 + 1, "a majority has it"
            assert all((took > 0) == (writes > 0) for _, writes, took in times)
        await log.close()

    async def test_a_closed_writer_appends_nothing(self, tmp_path: Path) -> None:
        log = self.fresh(tmp_path)()
        writer = await log.claim("node")
        await fill(writer, [b"one"])
        await writer.close()
        await writer.close()
        await raised(writer.append(b"two", first_offset=2, count=1, time_ms=9), Indeterminate)
        assert data_of(await read_all(log)) == [b"one"]
        await log.close()
        await log.close()

    async def test_closing_waits_for_what_is_queued(self, tmp_path: Path) -> None:
        opened = self.fresh(tmp_path)
        log = opened()
        writer = await log.claim("node")
        futures = [writer.append(b"%d" % n, first_offset=n + 1, count=1, time_ms=1) for n in range(50)]
        await log.close()
        assert all(future.done() and future.exception() is None for future in futures)
        if await opened().is_empty():
            return  # a log that ends with its last handle
        assert len(data_of(await read_all(opened()))) == 50

    async def test_a_cancelled_append_is_not_taken_back(self, tmp_path: Path) -> None:
        log = self.fresh(tmp_path)()
        writer = await log.claim("node")
        writer.append(b"one", first_offset=1, count=1, time_ms=1).cancel()
        await asyncio.wait_for(writer.append(b"two", first_offset=2, count=1, time_ms=1), WAIT_S)
        assert data_of(await read_all(log)) == [b"one", b"two"]
        await log.close()


async def _until(stretches: AsyncIterator[Stretch], seen: list[Record], count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while len(seen) < count:
            seen.extend((await anext(stretches)).records)


async def _close(stretches: AsyncIterator[Stretch]) -> None:
    closing = getattr(stretches, "aclose", None)
    if closing is not None:
        await closing()


async def _corrupt(stretches: AsyncIterator[Stretch]) -> str:
    try:
        [stretch async for stretch in stretches]
    except Corrupt as error:
        return f"{error}"
    raise AssertionError("reading went on after another record than the one that was read")


async def _reading_raises_trimmed(log: Log, position: int) -> None:
    try:
        await read_all(log, position)
    except Trimmed:
        return
    raise AssertionError(f"position {position} was trimmed and could be read")
