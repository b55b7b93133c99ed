"""A fenced writer whose thread was held up gives its segments their names late: when a claim has read the zone already.

Epoch 3 left a record that nobody acknowledged. Epoch 4 did not see it, went on at the same position, and was fenced by
epoch 5, which adopted what epoch 3 had left. Now the files of epoch 4 come, and by their names they have the say over
those of epoch 3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from eventdb.backends.log import RecordKind
from eventdb.backends.quorum import hint as hints
from eventdb.backends.quorum.align import Mark, mark_of
from eventdb.backends.quorum.claim import claim_epoch
from eventdb.backends.quorum.segment import segment_name
from eventdb.backends.quorum.view import ZoneView
from eventdb.backends.record import Encoder, Frame
from tests.kit.faults import Bench, FaultyOps, findings, until, until_up

LEFT, LATE = 3, 4  # epochs


def frame_of(epoch: int, after: Frame) -> bytes:
    [frame] = Encoder(4000).encode(
        b"node",
        kind=RecordKind.CLAIM,
        epoch=epoch,
        position=after.position + 1,
        durable_end=after.position + 1,
        first_offset=after.next_offset,
        count=0,
        time_ms=after.time_ms,
        before=after.seal,
    )
    return frame


class Held:
    """What the fenced writer's threads are held up with, zone by zone."""

    def __init__(self, bench: Bench, form: str, left: int = LEFT) -> None:
        view = ZoneView(bench.ops[0], str(bench.zones[0]), "zone-a")
        view.refresh()
        self.end = view.tail().end
        last = view.frame_at(self.end - 1)
        assert last is not None
        begun = (segment_name(self.end, LATE), frame_of(LATE, last))
        whole = (segment_name(0, LATE), view.read(0).raw)  # what was written again, up to where it went on
        view.close()
        self.left_epoch = left
        self.left = frame_of(left, last)
        self._files = {"begun": [begun], "written again": [whole], "both": [whole, begun]}[form]
        self._bench = bench
        for zone in bench.zones:
            (zone / "promises" / f"promise-{LATE:010d}").touch()

    def leave(self, *zones: int) -> None:
        """The record that nobody acknowledged."""
        for zone in zones:
            (self._bench.zones[zone] / segment_name(self.end, self.left_epoch)).write_bytes(self.left)

    def let_go(self, *zones: int) -> None:
        for zone in zones:
            for name, data in self._files:
                (self._bench.zones[zone] / name).write_bytes(data)


class LetsGo(FaultyOps):
    """Calls `let_go` when the zone is listed for the `at`th time under its new promise."""

    def __init__(self, zone: Path, at: int, let_go: Callable[[], None]) -> None:
        super().__init__()
        self._zone, self._at, self._let_go = zone, at, let_go
        self._listed = 0

    def listdir(self, path: str) -> list[str]:
        if path == str(self._zone) and (self._zone / "promises" / f"promise-{LATE + 1:010d}").exists():
            self._listed += 1
            if self._listed == self._at:
                self._let_go()
        return super().listdir(path)


async def bench_of(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    log = bench.open()
    writer = await log.claim("first")
    await bench.append(writer, b"before")
    await until_up(log, writer)
    await log.close()
    return bench


async def goes_on(bench: Bench, epoch: int) -> None:
    """A claim is made of that epoch; then every zone has the same history, and nobody finds anything wrong with it."""
    log = bench.open()
    writer = await log.claim("next")
    assert writer.epoch == epoch
    await bench.append(writer, b"after")
    await until_up(log, writer)
    await bench.check()
    assert [line for line in await findings(log) if "position" in line] == []
    await log.close()
    again = await bench.open().claim("last")
    await bench.append(again, b"last")
    await bench.check()
    await bench.close()


def _shown(bench: Bench, position: int) -> Mark | None:
    """What the first zone shows there."""
    view = ZoneView(bench.ops[0], str(bench.zones[0]), "zone-a")
    view.refresh()
    frame = view.frame_at(position)
    view.close()
    return mark_of(frame) if frame is not None else None


@pytest.mark.parametrize("form", ["begun", "written again", "both"])
async def test_what_a_fenced_writer_names_after_a_claim_changes_nothing_adopted(tmp_path: Path, form: str) -> None:
    bench = await bench_of(tmp_path)
    held = Held(bench, form)
    held.leave(0)
    places = bench.open()._places
    claimed = await asyncio.to_thread(claim_epoch, places)
    assert (claimed.epoch, claimed.source, claimed.tail.end) == (LATE + 1, 0, held.end + 1)
    left = _shown(bench, held.end)
    assert left is not None and left[0] == LEFT
    held.let_go(0, 1, 2)
    assert _shown(bench, held.end) == left
    await goes_on(bench, LATE + 2)


async def test_what_a_zone_had_synced_alone_is_no_more_settled_than_the_rest(tmp_path: Path) -> None:
    """One zone alone has the writer's last record, and a hint says so: no power cut takes it, but a late file may."""
    bench = await bench_of(tmp_path)
    held = Held(bench, "begun", left=1)
    held.leave(0)
    (bench.zones[0] / hints.NAME).write_bytes(hints.encode(1, held.end, held.end, 1, 0, held.end, [held.end + 1, 2, 2]))
    claimed = await asyncio.to_thread(claim_epoch, bench.open()._places)
    assert (claimed.epoch, claimed.source, claimed.tail.end) == (LATE + 1, 0, held.end + 1)
    left = _shown(bench, held.end)
    held.let_go(0, 1, 2)
    assert _shown(bench, held.end) == left
    await goes_on(bench, LATE + 2)


@pytest.mark.parametrize("form", ["begun", "written again", "both"])
async def test_a_claim_that_finds_another_end_than_it_has_read_is_made_anew(tmp_path: Path, form: str) -> None:
    bench = await bench_of(tmp_path)
    held = Held(bench, form)
    held.leave(0)
    bench.ops[0] = LetsGo(bench.zones[0], 2, lambda: held.let_go(0, 1, 2))
    await goes_on(bench, LATE + 2)


@pytest.mark.parametrize("form", ["begun", "written again", "both"])
async def test_a_zone_that_was_compared_and_then_changes_is_compared_again(
    tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = await bench_of(tmp_path)
    held = Held(bench, form)
    held.leave(0, 1, 2)
    for zone in (1, 2):
        bench.ops[zone] = LetsGo(bench.zones[zone], 4, lambda zone=zone: held.let_go(zone))  # type: ignore[misc]
    await goes_on(bench, LATE + 1)
    why = "history ends here" if form == "written again" else "a fenced writer's file came late"
    assert all(f"{zone}: down {zone}: " in caplog.text for zone in ("zone-b", "zone-c")) and why in caplog.text


async def test_a_zone_that_is_held_up_while_it_removes_segments_takes_none_of_a_later_writer(tmp_path: Path) -> None:
    """A zone that has nothing in common with the others is emptied by its writer, and by nobody who was fenced."""
    bench = await bench_of(tmp_path)
    held = Held(bench, "begun")
    stranger = bench.zones[2] / segment_name(0, 1)
    for path in bench.zones[2].glob("*.seg"):
        path.unlink()
    stranger.write_bytes(held.left)
    later = bench.zones[2] / segment_name(50, 9)
    bench.ops[2] = LetsGo(bench.zones[2], 4, later.touch)
    log = bench.open()
    writer = await log.claim("next")
    await bench.append(writer, b"after")
    await until(lambda: not stranger.exists())
    assert later.exists()
    await bench.close()
