"""zone_loop.c, a zone's loop without the interpreter: it counts as window.Quorum does, and no write too many."""

from __future__ import annotations

import errno
import os
import random
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventdb.backends.quorum import hint as hints
from eventdb.backends.quorum.files import FileOps
from eventdb.backends.quorum.window import Quorum

COMPILED_MUST_BE = os.environ.get("EVENTDB_BUILD") == "compiled"
reason = "zone_loop.c is missing in the compiled build" if COMPILED_MUST_BE else "not built here"
lanes = pytest.importorskip("eventdb.backends.quorum.zone_loop", reason=reason)

CLAIM_END = 11  # the first frame of a writer has position 10
CALLED, FAILED, LOST, BEHIND, FULL, DRY, IDLE = range(7)


class Bench:
    """One zone's segment and promise in a folder, and what `serve` is told of them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "segment"
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_DSYNC)
        self.hint_fd = os.open(folder / hints.NAME, os.O_RDWR | os.O_CREAT)
        self.promise = folder / "promise"
        self.promise.write_bytes(b"")
        found = self.promise.stat()
        self.inode, self.changed_ns = found.st_ino, found.st_ctime_ns

    def serve(
        self, made: object, zone: int = 0, *, full_at: int = 1 << 30, dry_at: int = 1 << 30,
        successor: tuple[int, int] = (-1, 0), at: tuple[int, int] = (0, CLAIM_END - 1),
    ) -> tuple[Any, ...]:  # fmt: skip
        promise = os.fsencode(self.promise)
        found: tuple[Any, ...] = made.serve(  # type: ignore[attr-defined]
            zone, (promise, self.inode, self.changed_ns), (self.fd, 7, CLAIM_END - 1, full_at, dry_at),
            successor, at, (0, 0), (self.hint_fd, 0, 0, time.monotonic()), 0.02, 0.05, 0.01, 1 << 20,
        )  # fmt: skip
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    os.close(made.fd)
    os.close(made.hint_fd)


@pytest.mark.parametrize("zones", [1, 3, 5])
def test_votes_are_counted_as_in_python(zones: int) -> None:
    for seed in range(200):
        rng = random.Random(seed)
        plain = Quorum(7, zones, CLAIM_END, lambda: None)
        counted = Quorum(7, zones, CLAIM_END, lambda: None, lanes.Lanes(zones, zones // 2 + 1, CLAIM_END))
        for step in range(60):
            zone = rng.randrange(zones)
            act = rng.random()
            if act < 0.05:
                plain.unmark(zone)
                counted.unmark(zone)
            elif act < 0.06:
                plain.fence(8)
                counted.fence(8)
            else:
                end = max(plain.synced[zone], rng.randrange(5, 12 + step))
                assert plain.mark(zone, end) == counted.mark(zone, end), f"seed {seed}"
            assert (plain.durable_end, plain.synced) == (counted.durable_end, counted.synced), f"seed {seed}"


def test_frames_are_written_and_counted(bench: Bench) -> None:
    made = lanes.Lanes(1, 1, CLAIM_END)
    made.add(b"first")
    made.add(b"second")
    assert bench.serve(made)[:5] == (IDLE, 0, (11, 12), (0, 10), (12, 12))
    assert bench.path.read_bytes() == b"firstsecond"
    assert made.state() == (12, 1, [12])
    assert os.read(made.fileno(), 8) == (1).to_bytes(8, "little")  # the loop was told
    hint = hints.load(FileOps(), str(bench.path.parent))
    assert hint == hints.Hint(7, 12, 10, 7, 0, 10, (12,))


def test_a_successor_gets_every_frame_before_the_segment_does(bench: Bench, tmp_path: Path) -> None:
    made = lanes.Lanes(1, 1, CLAIM_END)
    made.add(b"both")
    os.pwrite(bench.fd, b"alone", 0)
    path = tmp_path / "successor"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DSYNC)
    assert bench.serve(made, successor=(fd, 5), at=(5, CLAIM_END - 1))[:3] == (IDLE, 0, (9, CLAIM_END))
    assert (bench.path.read_bytes(), path.read_bytes()) == (b"aloneboth", b"both")
    made.add(b"none")
    os.close(fd)
    fd = os.open(path, os.O_RDONLY)
    assert bench.serve(made, successor=(fd, 5), at=(9, CLAIM_END))[:3] == (FAILED, errno.EBADF, (9, CLAIM_END))
    assert bench.path.read_bytes() == b"aloneboth", "what the successor did not take is not here"
    assert made.state() == (CLAIM_END, 1, [CLAIM_END])
    os.close(fd)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_lost_promise_counts_nothing(bench: Bench, replaced: bool) -> None:
    made = lanes.Lanes(1, 1, CLAIM_END)
    made.add(b"frame")
    bench.promise.rename(bench.promise.with_name("moved"))
    if replaced:
        bench.promise.write_bytes(b"")
    assert bench.serve(made)[:3] == (LOST, 0, (0, CLAIM_END - 1))
    assert made.state() == (0, 0, [0])


def test_a_failed_write_counts_nothing(bench: Bench) -> None:
    made = lanes.Lanes(1, 1, CLAIM_END)
    made.add(b"frame")
    readable = os.open(bench.path, os.O_RDONLY)
    bench.fd, fd = readable, bench.fd
    try:
        assert bench.serve(made)[:2] == (FAILED, errno.EBADF)
    finally:
        bench.fd = fd
        os.close(readable)
    assert made.state() == (0, 0, [0])


def test_a_fenced_writer_counts_nothing(bench: Bench) -> None:
    made = lanes.Lanes(1, 1, CLAIM_END)
    made.fence()
    made.add(b"frame")
    assert bench.serve(made)[0] == CALLED
    assert not made.mark(0, 12)
    assert made.state()[0] == 0


def test_it_returns_for_what_python_has_to_do(bench: Bench) -> None:
    made = lanes.Lanes(1, 1, CLAIM_END)
    made.add(b"frame")
    assert bench.serve(made, full_at=5)[0] == FULL
    assert bench.serve(made, dry_at=5)[0] == DRY
    thread = threading.Timer(0.0, made.call, (0,))
    thread.start()
    while bench.serve(made)[0] != CALLED:
        pass
    thread.join()


def test_an_idle_zone_is_woken_by_a_frame_and_a_lingering_one_lets_them_gather(bench: Bench) -> None:
    made = lanes.Lanes(3, 2, CLAIM_END)

    def add() -> None:
        for number in range(20):
            made.add(b"%02d" % number)

    for zone in (0, 2):  # 2 is no part of the eager majority
        thread = threading.Timer(0.01, add)
        thread.start()
        found = bench.serve(made, zone)
        while found[2][1] < CLAIM_END - 1 + 20:
            found = bench.serve(made, zone)
        thread.join()
        made = lanes.Lanes(3, 2, CLAIM_END)
    assert bench.path.read_bytes() == b"".join(b"%02d" % number for number in range(20))


def test_frames_no_longer_held_are_asked_for_elsewhere(bench: Bench) -> None:
    made = lanes.Lanes(1, 1, CLAIM_END)
    for _ in range(200):  # past the first size of the ring
        made.add(b"frame")
    made.cut(CLAIM_END + 50)
    assert bench.serve(made)[0] == BEHIND
    made.cut(CLAIM_END + 500)
    assert made.state() == (0, 0, [0])


# -- the order of the steps, as zone.py has it: write, sync, look at the promise, vote, state the vote


def test_a_promise_that_goes_while_the_write_is_under_way_leaves_no_vote(bench: Bench) -> None:
    """Looked at before the write, the promise would still be there."""
    made = lanes.Lanes(1, 1, CLAIM_END)
    for _ in range(64):
        made.add(os.urandom(1 << 20))
    found: list[tuple[Any, ...]] = []

    def serve() -> None:
        promise = (os.fsencode(bench.promise), bench.inode, bench.changed_ns)
        segment = (bench.fd, 7, CLAIM_END - 1, 1 << 40, 1 << 40)
        hint = (bench.hint_fd, 0, 0, time.monotonic())
        found.append(
            made.serve(0, promise, segment, (-1, 0), (0, CLAIM_END - 1), (0, 0), hint, 0.02, 0.05, 0.01, 128 << 20)
        )

    thread = threading.Thread(target=serve)
    thread.start()
    while not made.busy_since(0):
        pass
    while bench.path.stat().st_size == 0 and thread.is_alive():
        pass
    still_writing = bench.path.stat().st_size < 64 << 20
    bench.promise.unlink()
    thread.join()
    if not still_writing:
        pytest.skip("the disk was quicker than this test")
    assert found[0][0] == LOST and made.state()[0] == 0 and made.state()[2] == [0]


def test_a_write_that_is_cut_short_leaves_no_vote(bench: Bench) -> None:
    """The kernel takes 4 KiB of 10,000 bytes and then says EFBIG: what was taken is not all."""
    made = lanes.Lanes(1, 1, CLAIM_END)
    made.add(os.urandom(10_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        found = bench.serve(made)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found[:2] == (FAILED, errno.EFBIG) and made.state()[0] == 0 and made.state()[2] == [0]


def test_a_hint_states_what_was_counted_and_no_more(bench: Bench) -> None:
    made = lanes.Lanes(3, 2, CLAIM_END)
    for _ in range(5):
        made.add(os.urandom(100))
    made.mark(1, CLAIM_END + 1)  # another zone has two of the five
    assert bench.serve(made)[0] == IDLE
    stated = hints.decode(os.pread(bench.hint_fd, hints.BYTES_MAX, 0))
    assert stated is not None and stated.durable_end == made.state()[0] == CLAIM_END + 1
    assert stated.synced == tuple(made.state()[2])
