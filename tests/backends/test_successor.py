"""Segments made ahead: no append waits for one, and whatever becomes of one, history is the same."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventdb.backends.quorum import QuorumWriter, successor
from tests.kit.faults import Bench, FaultyOps, append, copy_living, crash, data_of, findings, read_all, until, until_up

SEGMENT_BYTES = 200_000
BODY = 2000


class AheadOps(FaultyOps):
    """Faults for what concerns a successor only, and what was done with names."""

    def __init__(self) -> None:
        super().__init__()
        self.code = 0
        self.failing: frozenset[str] = frozenset()  # of making, writing, naming, syncing
        self.holding: frozenset[str] = frozenset()
        self.held = threading.Event()
        self.go_on = threading.Event()
        self.named = 0
        self.refused = 0
        self.inode = 0
        self.target = ""  # the latest name that a successor was to get
        self.created: list[str] = []  # segments that began under their own name
        self._ahead: set[int] = set()
        self._named: set[int] = set()

    def fail_at(self, step: str, code: int = errno.EIO) -> None:
        self.code, self.failing = code, frozenset({step})

    def hold_at(self, step: str) -> None:
        self.holding = frozenset({step})

    def heal(self) -> None:
        super().heal()
        self.failing = self.holding = frozenset()
        self.go_on.set()

    def _step(self, step: str) -> None:
        if step in self.holding:
            self.held.set()
            self.go_on.wait()
        if step in self.failing:
            self.refused += 1
            raise OSError(self.code, os.strerror(self.code))

    def open(self, path: str, flags: int) -> int:
        if path.endswith(".seg") and flags & os.O_CREAT:
            self.created.append(path)
        fd = super().open(path, flags)
        self._ahead.discard(fd)
        if path.endswith(successor.SUFFIX):
            self._ahead.add(fd)
        return fd

    def pwrite(self, fd: int, data: bytes, at: int) -> int:
        if fd in self._ahead:
            self._step("making" if not data.strip(b"\0") else "writing")
        return super().pwrite(fd, data, at)

    def replace(self, source: str, target: str) -> None:
        ahead = source.endswith(successor.SUFFIX)
        if ahead:
            self.target, self.inode = target, os.stat(source).st_ino
            self._step("naming")
        super().replace(source, target)
        self.named += ahead

    def fsync(self, fd: int) -> None:
        if self.named and os.path.isdir(f"/proc/self/fd/{fd}"):
            self._step("syncing")
        super().fsync(fd)


@pytest.fixture(params=[1, 3])
async def bench(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    monkeypatch.setattr(successor, "RETRY_S", 0.01)
    made = Bench(tmp_path, zones=request.param, segment_bytes=SEGMENT_BYTES)
    made.ops = [AheadOps() for _ in range(request.param)]
    yield made
    await made.close()


def of(bench: Bench) -> list[AheadOps]:
    return [ops for ops in bench.ops if isinstance(ops, AheadOps)]


def ahead(bench: Bench) -> list[Path]:
    return [path for zone in bench.zones for path in zone.glob(f".*{successor.SUFFIX}")]


async def fill(bench: Bench, writer: QuorumWriter, parts: float) -> None:
    """Append until each zone's segment has been filled to so many parts of its size."""
    for number in range(int(SEGMENT_BYTES * parts / BODY)):
        await bench.append(writer, os.urandom(BODY))
        if number % 10 == 9:  # or one that lags writes it all at once, past the end of its segment
            await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))
    await until(lambda: all(zone.reached() == writer.durable_end for zone in writer.zones))


def helds(bench: Bench) -> list[bool]:
    return [ops.held.is_set() for ops in of(bench)]


def successors(writer: QuorumWriter) -> list[successor.Successor | None]:
    return [zone._succession._next for zone in writer.zones]


def all_ready(writer: QuorumWriter) -> bool:
    return all(made is not None and made.state == successor.READY for made in successors(writer))


async def go_over(bench: Bench, writer: QuorumWriter) -> None:
    """Append until every zone writes into its second segment alone."""
    while any(zone._file.first == 0 for zone in writer.zones):
        await bench.append(writer, os.urandom(BODY))


async def test_the_next_segment_is_there_before_it_is_needed(bench: Bench) -> None:
    log = bench.open()
    writer = await log.claim("node")
    await fill(bench, writer, 0.4)
    assert not ahead(bench)
    await fill(bench, writer, 0.3)
    await until(lambda: len(ahead(bench)) == len(bench.zones))
    await until(lambda: all(path.stat().st_size >= SEGMENT_BYTES * 3 // 4 for path in ahead(bench)))
    assert await findings(bench.open()) == []
    before = await log.info()
    assert [zone.segments for zone in before.zones] == [1] * len(bench.zones)
    await go_over(bench, writer)
    for ops in of(bench):
        assert ops.named == 1 and len(ops.created) == 1, "only the first one began under its own name"
    await until(
        lambda: all(bench.segments(zone)[0].stat().st_size < SEGMENT_BYTES * 2 for zone in range(len(of(bench))))
    )
    await fill(bench, writer, 3)
    await until_up(log, writer)
    assert writer.stats.zone_errors == 0
    assert await findings(bench.open()) == []
    await log.close()
    assert not ahead(bench)
    await bench.check()


@pytest.mark.parametrize("step", ["making", "naming", "syncing"])
async def test_no_append_waits_for_a_successor(bench: Bench, step: str) -> None:
    """In every zone a call of its making hangs: appends go on, and all is well when the call comes back."""
    writer = await bench.open().claim("node")
    for ops in of(bench):
        ops.hold_at(step)
    await fill(bench, writer, 1.4)
    await until(lambda: all(helds(bench)))
    assert all(zone._file.first == 0 for zone in writer.zones)
    await bench.check()
    if step == "making":  # for ever: the zone begins another one itself
        await fill(bench, writer, 1)
        assert all(zone._file.first > 0 for zone in writer.zones)
    for ops in of(bench):
        ops.heal()
    await go_over(bench, writer)
    await fill(bench, writer, 1)
    assert writer.stats.zone_errors == 0
    await bench.check()


@pytest.mark.parametrize("known", [False, True])
async def test_a_full_disk_that_holds_no_successor_stops_no_write(bench: Bench, known: bool) -> None:
    log = bench.open()
    writer = await log.claim("node")
    for ops in of(bench):
        if known:  # what is left is not taken from the clients, not even for a moment
            ops.bytes_left = SEGMENT_BYTES
            ops.hold_at("making")
        else:
            ops.fail_at("making", errno.ENOSPC)
    await fill(bench, writer, 0.8)
    assert all(zone._file.first == 0 for zone in writer.zones)
    await until(lambda: all(made is not None and made.failing for made in successors(writer)))
    await go_over(bench, writer)
    assert all(len(ops.created) == 2 and not ops.named for ops in of(bench))
    await fill(bench, writer, 0.6)
    assert not any(helds(bench))
    for ops in of(bench):
        ops.heal()  # there is room again: it is tried again
        ops.bytes_left = None
    while not all(ops.named for ops in of(bench)):  # segments end at another size in each zone
        await bench.append(writer, os.urandom(BODY))
    assert writer.stats.zone_errors == 0 and writer.stats.syncs > 0
    await bench.check()


@pytest.mark.parametrize("step", ["making", "writing", "naming", "syncing"])
async def test_a_writer_killed_at_any_step_leaves_a_sound_log(bench: Bench, step: str) -> None:
    writer = await bench.open().claim("first")
    if step != "making":
        await fill(bench, writer, 0.8)
        await until(lambda: all_ready(writer))
    for ops in of(bench):
        ops.hold_at(step)
    while not all(helds(bench)):
        future = append(writer, os.urandom(BODY))
        await until(
            lambda: all(
                held or zone.reached() == writer._window.end
                for held, zone in zip(helds(bench), writer.zones, strict=True)
            )
        )
        if future.done():
            bench.acknowledged.append(b"")
    killed = len(bench.acknowledged)
    crash(writer)
    assert [line for line in await findings(bench.open(faulty=False)) if "damage" in line or "missing" in line] == []
    log = bench.open(faulty=False)
    again = await log.claim("second")
    await bench.append(again, b"later")
    await until_up(log, again)
    assert not ahead(bench) or step == "making"
    shown = await records(bench)
    assert len(shown) > killed and shown[-1] == b"later"
    for ops in of(bench):
        ops.heal()  # what the killed writer had under way is done now
    await fill_with(again, bench, 1.5)
    await until_up(log, again)
    assert await findings(log) == []
    assert (await records(bench))[: len(shown)] == shown


async def test_what_the_successor_did_not_take_the_segment_does_not_show(bench: Bench) -> None:
    """A name that appears late would take it away again."""
    writer = await bench.open().claim("node")
    for ops in of(bench):
        ops.hold_at("naming")
    await fill(bench, writer, 1.2)
    await until(lambda: all(helds(bench)))
    bytes_before = [bench.segments(zone)[0].read_bytes() for zone in range(len(bench.zones))]
    for ops in of(bench):
        ops.fail_at("writing")
    append(writer, b"not taken")
    await until(lambda: all(zone.state == "down" for zone in writer.zones))
    assert [bench.segments(zone)[0].read_bytes() for zone in range(len(bench.zones))] == bytes_before
    for ops in of(bench):
        ops.heal()
    await until(lambda: all(zone.state == "up" for zone in writer.zones))
    bench.acknowledged.append(b"not taken")
    await fill(bench, writer, 1)
    await bench.check()


@pytest.mark.parametrize("step", ["naming", "syncing"])
async def test_a_name_that_cannot_be_given_is_not_relied_on(bench: Bench, step: str) -> None:
    """The zone joins again; what it had named, perhaps not durably, is written and named again."""
    log = bench.open()
    writer = await log.claim("node")
    for ops in of(bench):
        ops.hold_at(step)
    await fill(bench, writer, 1.3)
    await until(lambda: all(helds(bench)))
    await bench.append(writer, b"in both")
    for ops in of(bench):
        ops.fail_at(step)
        ops.go_on.set()
    await until(lambda: all(ops.refused for ops in of(bench)))
    for ops in of(bench):
        ops.heal()
    await until_up(log, writer)
    count = len(await records(bench))
    for zone, ops in enumerate(of(bench)):
        assert len(bench.segments(zone)) > 1
        assert os.stat(ops.target).st_ino != ops.inode or step == "naming"
    await fill_with(writer, bench, 1.5)
    await until_up(log, writer)
    assert await findings(log) == []
    assert len(await records(bench)) > count


async def test_a_fenced_writer_that_names_its_successor_late_changes_nothing(bench: Bench) -> None:
    old = await bench.open().claim("old")
    for ops in of(bench):
        ops.hold_at("naming")
    await fill(bench, old, 1.2)
    await until(lambda: all(helds(bench)))
    log = bench.open(faulty=False)
    new = await log.claim("new")
    await bench.append(new, b"of the new one")
    await until_up(log, new)
    names = [{path.name for path in bench.segments(zone)} for zone in range(len(bench.zones))]
    for zone in bench.zones:  # as it would be without the new one's tidying
        for number, path in enumerate(ahead(bench)):
            shutil.copy(path, zone / f".late-{number}")
    for ops in of(bench):
        ops.heal()
    await until(lambda: all(not zone._runner.is_alive() or zone.state == "down" for zone in old.zones))
    await bench.check()
    await fill(bench, new, 1.5)
    await until_up(log, new)
    assert await findings(log) == []
    assert all(names[zone] <= {path.name for path in bench.segments(zone)} for zone in range(len(bench.zones)))
    await log.close()
    await bench.open(faulty=False).claim("third")
    await bench.check()


@pytest.mark.parametrize("step", ["ready", "naming"])
async def test_a_directory_that_is_replaced_meanwhile_loses_nothing(tmp_path: Path, step: str) -> None:
    """By a copy of itself, successor and all."""
    bench = Bench(tmp_path, segment_bytes=SEGMENT_BYTES)
    bench.ops = [AheadOps() for _ in range(3)]
    log = bench.open()
    writer = await log.claim("node")
    if step == "naming":
        of(bench)[1].hold_at("naming")
    await fill(bench, writer, 0.7 if step == "ready" else 1.2)
    await until(lambda: of(bench)[1].held.is_set() if step == "naming" else len(ahead(bench)) == 3)
    zone = bench.zones[1]
    copy_living(zone, zone.with_name("copy"))
    zone.rename(zone.with_name("away"))
    zone.with_name("copy").rename(zone)
    await bench.append(writer, b"meanwhile")
    of(bench)[1].heal()
    await until_up(log, writer)
    await fill(bench, writer, 2)
    await until_up(log, writer)
    assert await findings(log) == []
    await bench.check()
    await log.close()
    assert not ahead(bench)
    await bench.close()


async def test_a_segment_is_not_repaired_while_its_successor_gets_its_name(bench: Bench) -> None:
    writer = await bench.open().claim("node")
    for ops in of(bench):
        ops.hold_at("syncing")
    await fill(bench, writer, 1.2)
    await until(lambda: all(helds(bench)))
    done: list[int] = []
    for zone in writer.zones:
        zone.when_idle("errand", lambda index=zone.index: done.append(index))  # type: ignore[misc]
    await bench.append(writer, b"more")
    await until(lambda: all(zone.waiting for zone in writer.zones))
    assert done == []
    for ops in of(bench):
        ops.heal()
    await until(lambda: sorted(done) == list(range(len(bench.zones))))
    await bench.check()


async def test_real_files_go_over_without_an_error(tmp_path: Path) -> None:
    """Where zone_loop.c was built, it is what writes both files."""
    bench = Bench(tmp_path, segment_bytes=SEGMENT_BYTES)
    log = bench.open(faulty=False)
    writer = await log.claim("node")
    while any(len(bench.segments(zone)) < 6 for zone in range(3)):
        await bench.append(writer, os.urandom(BODY))
    await until_up(log, writer)
    assert writer.stats.zone_errors == 0
    assert await findings(log) == []
    await bench.check()
    await log.close()
    assert not ahead(bench)
    await bench.check()


async def records(bench: Bench) -> list[bytes]:
    return data_of(await read_all(bench.open(faulty=False)))


async def fill_with(writer: QuorumWriter, bench: Bench, parts: float) -> None:
    for _ in range(int(SEGMENT_BYTES * parts / BODY)):
        await append(writer, os.urandom(BODY))
