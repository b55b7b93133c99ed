"""The nodes in a virtual world: some seeds of `make simulate`, and the proof that it would notice a broken rule.

Longer: EVENTDB_SIMULATE=first-last (seeds), or `make simulate SEEDS=1000`. It needs the pure build: beside a
compiled one it runs in a copy of the sources.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.simulation.linearizable import INFINITY, Operation, Step, is_linearizable, step_of
from tests.simulation.mutations import MUTATIONS

ROOT = Path(__file__).resolve().parents[2]
PARTS = 6  # tests, each of as many seeds as make up the range


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources without any compiled module."""
    if not any(ROOT.glob("eventdb/*.so")):
        return ROOT
    copy = tmp_path_factory.mktemp("pure")
    unwanted = shutil.ignore_patterns("*.so", "__pycache__")
    for folder in ("eventdb", "backends", "replay", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=unwanted)
    for file in ("pyproject.toml", "setup.py"):
        shutil.copy(ROOT / file, copy)
    return copy


def simulation(tree: Path, *arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(tree)}
    environment.pop("EVENTDB_BUILD", None)  # that of the tests around it
    program = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(program, cwd=tree, env=environment, capture_output=True, text=True, check=False)


def seeds(part: int) -> tuple[str, str]:
    first, _, last = os.environ.get("EVENTDB_SIMULATE", "1-90").partition("-")
    whole = range(int(first), int(last) + 1)
    mine = whole[len(whole) * part // PARTS : len(whole) * (part + 1) // PARTS]
    return str(mine.start), str(len(mine))


@pytest.mark.parametrize("backend", ["files", "kafka"])
@pytest.mark.parametrize("part", range(PARTS))
def test_everything_holds(tree: Path, part: int, backend: str) -> None:
    first, count = seeds(part)
    done = simulation(tree, "--backend", backend, "--first", first, "--seeds", count)
    assert done.returncode == 0, done.stdout + done.stderr


def test_claims_at_once_leave_one_history(tree: Path) -> None:
    done = simulation(tree, "--contest", "--seeds", "60")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("backend", ["files", "kafka"])
def test_everything_holds_with_commands_that_outlast_the_lease(tree: Path, backend: str) -> None:
    done = simulation(tree, "--backend", backend, "--long", "4", "--seeds", "8")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("backend", ["files", "kafka"])
def test_everything_holds_while_scripts_keep_the_loop(tree: Path, backend: str) -> None:
    """Heartbeats go out all the same: to the brokers by a stand-in, which the world cuts off, too."""
    done = simulation(tree, "--backend", backend, "--scripts", "5", "--first", "1030", "--seeds", "8")
    assert done.returncode == 0, done.stdout + done.stderr
    if backend == "kafka":
        stood_in = re.search(r"'stood in': (\d+)", done.stdout)
        assert stood_in is not None and int(stood_in[1]) > 50


def test_everything_holds_while_snapshotters_trim_the_log(tree: Path) -> None:
    done = simulation(tree, "--snapshots", "--seeds", "14")
    assert done.returncode == 0, done.stdout + done.stderr
    trims = re.search(r"'trims': (\d+)", done.stdout)
    assert trims is not None and int(trims[1]) > 8


@pytest.mark.parametrize("backend", ["files", "kafka"])
def test_a_command_that_outlasts_the_lease_is_no_failover(tree: Path, backend: str) -> None:
    """In a calm world: commands of up to 3 s, a lease of 0.5 s, two nodes that would take over."""
    seed = {"files": "39", "kafka": "10"}[backend]  # one of a calm world
    done = simulation(tree, "--backend", backend, "--long", "6", "--seed", seed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"seed {seed}: calm" in done.stdout and " 1 claims" in done.stdout
    assert done.stdout.count("runs a command of") >= 3


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_a_broken_rule_is_noticed(tree: Path, name: str) -> None:
    done = simulation(tree, "--mutation", name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("options", [("--seed", "5"), ("--seed", "1033", "--backend", "kafka", "--scripts", "5")])
def test_a_seed_runs_the_same_way_again(tree: Path, options: tuple[str, ...]) -> None:
    """Whatever the hashes of text are in the process it runs in."""
    traces = set()
    for hash_seed in ("0", "4242"):
        done = simulation(tree, *options, hash_seed=hash_seed)
        assert "the second run did the same" in done.stdout, done.stdout + done.stderr
        traces |= set(re.findall(r"trace ([0-9a-f]{16})", done.stdout))
    assert len(traces) == 1


# -- the checker of histories


def operation(steps: tuple[Step, ...], called: float, returned: float, *results: object) -> Operation:
    told = results if returned < INFINITY else None
    return Operation("u", b"k", steps, called, returned, told)


def test_a_read_behind_a_write_sees_it() -> None:
    write = operation((("set", b"1"),), 0, 1, b"OK")
    assert is_linearizable([write, operation((("get", b""),), 2, 3, b"1")])
    assert not is_linearizable([write, operation((("get", b""),), 2, 3, None)])
    assert is_linearizable([write, operation((("get", b""),), 0.5, 3, None)])  # at the same time: either is right


def test_an_unknown_outcome_may_come_late_or_never() -> None:
    lost = operation((("set", b"1"),), 0, INFINITY)
    reads = [operation((("get", b""),), at, at + 1, value) for at, value in ((2, None), (4, b"1"))]
    assert is_linearizable([lost])
    assert is_linearizable([lost, *reads])
    assert not is_linearizable([lost, *reads, operation((("get", b""),), 6, 7, None)])


def test_a_block_is_one_operation() -> None:
    block = operation((("append", b"a"), ("get", b"")), 0, 5, 1, b"a")
    assert is_linearizable([block, operation((("append", b"b"),), 1, 2, 2)])
    between = operation((("append", b"a"), ("get", b"")), 0, 5, 1, b"ab")
    assert not is_linearizable([between, operation((("append", b"b"),), 1, 2, 2)])


@pytest.mark.parametrize("seed", range(20))
def test_real_orders_are_found_and_impossible_ones_are_not(seed: int) -> None:
    """Operations that took effect at a random moment of their time; then one result is made wrong."""
    rng = random.Random(seed)
    moments = sorted(rng.random() * 10 for _ in range(40))
    state: bytes | None = None
    history: list[Operation] = []
    for number, moment in enumerate(moments):
        step: Step = rng.choice((("get", b""), ("set", b"%d" % number), ("append", b"%d;" % number)))
        state, result = step_of(state, step)
        end = moment + rng.random() if rng.random() < 0.9 else INFINITY
        history.append(operation((step,), moment - rng.random(), end, result))
    rng.shuffle(history)
    assert is_linearizable(history), f"seed {seed}"
    reads = [o for o in history if o.results is not None and o.steps[0][0] == "get"]
    if reads:
        wrong = rng.choice(reads)
        wrong.results = (b"nobody wrote %d" % zlib.crc32(b"%d" % seed),)
        assert not is_linearizable(history), f"seed {seed}"
