"""The benchmarks' tables without servers: rows that exist, a check that can fail, pictures that belong to the table."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from benchmarks import surface
from benchmarks.check import fallen
from benchmarks.mixes import MIXES, RATES
from benchmarks.report import TITLES, kept, pictures
from benchmarks.rows import BUILDS, ONE_ZONE, QUICK, READS, TYPE_WRITES, TYPES, WRITES
from docs.generate import DOCS
from eventdb import commands
from eventdb.engine.registry import COMMANDS

ROWS = [*READS, *WRITES, *ONE_ZONE, *BUILDS, *TYPES, *TYPE_WRITES, *surface.rows()]


def test_every_row_stands_once_and_under_a_title() -> None:
    keys = [row.key for row in ROWS]
    assert len(set(keys)) == len(keys)
    assert {row.group for row in ROWS} <= set(TITLES)
    assert set(keys) >= QUICK, f"--quick asks for rows that do not exist: {sorted(QUICK - set(keys))}"


def test_every_row_asks_for_a_command_that_exists() -> None:
    commands.load()
    asked = {(row.command[0] if row.command else row.test).upper().encode() for row in ROWS}
    assert asked <= set(COMMANDS), f"no such command: {sorted(asked - set(COMMANDS))}"


@pytest.mark.redis
def test_every_row_is_a_test_of_redis_benchmark() -> None:
    """A name that -t does not know makes redis-benchmark measure nothing, and say nothing."""
    binary = shutil.which("redis-benchmark")
    assert binary
    for test in {row.test for row in ROWS if not row.command}:
        done = subprocess.run(
            [binary, "-t", test, "-h", "no-such-host.invalid"], capture_output=True, text=True, check=False
        )
        assert "Could not connect" in done.stdout + done.stderr, f"redis-benchmark -t {test}"


@pytest.mark.parametrize(
    ("runs", "falls"),
    [
        ([1.0, 1.0, 1.0], False),
        ([0.8, 1.0, 1.0], False),
        ([0.8, 0.95, 0.89], True),
        ([0.91, 0.92, 0.93], False),
    ],
)
def test_a_row_has_fallen_when_two_runs_of_three_say_so(runs: list[float], falls: bool) -> None:
    lines = fallen({"reads get": 1.0, "not measured": 1.0}, [{"reads get": ratio} for ratio in runs])
    assert bool(lines) == falls


def test_the_pictures_are_those_of_the_table() -> None:
    drawn = pictures()
    assert drawn
    found = {path.name: path.read_text() for path in (DOCS / "pictures").glob("benchmarks-*.svg")}
    assert found == drawn, "run `make docs`"


def test_what_was_measured_is_what_the_rows_ask_for() -> None:
    """A row that was renamed leaves its figures behind."""
    _, results = kept()
    mixes = {f"mixes {name} at {rate:,}/s" for name in MIXES for rate in RATES}
    known = {f"{row.group} {row.name}" for row in ROWS} | mixes
    others = ("bulk", "expiry", "surface")
    strange = [each.key for each in results if each.key not in known and each.group not in others]
    assert not strange
    assert not any(re.search(r"/(home|root|work|tmp)/", each.note) for each in results)
