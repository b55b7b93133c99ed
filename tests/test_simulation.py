"""The nodes in a virtual world: a few seeds of `make simulate`, and the proof that it would notice a broken rule.

Longer: EVENTDB_SIMULATE=first-last (seeds), or `make simulate SEEDS=1000`.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.simulation import mutations
from tests.simulation.linearizable import INFINITY, Operation, Step, is_linearizable, step_of
from tests.simulation.simulation import simulate

ROOT = Path(__file__).resolve().parent.parent
WORLDS = 12  # tests, each of as many seeds as make up the range
# Seeds that once failed, and what was wrong then.
REGRESSIONS: dict[int, str] = {}

pytestmark = pytest.mark.skipif(
    any((ROOT / "eventdb").glob("*.so")), reason="the simulation needs the pure build (make test-pure runs it)"
)


def seeds() -> range:
    first, _, last = os.environ.get("EVENTDB_SIMULATE", "1-120").partition("-")
    return range(int(first), int(last) + 1)


@pytest.mark.parametrize("part", range(WORLDS))
def test_everything_holds(part: int) -> None:
    for seed in seeds()[part::WORLDS]:
        result = simulate(seed)
        assert not result.wrong, f"make simulate SEED={seed}: {result.wrong[:5]}"


@pytest.mark.parametrize("seed", sorted(REGRESSIONS))
def test_what_once_failed(seed: int) -> None:
    result = simulate(seed)
    assert not result.wrong, f"make simulate SEED={seed}: {REGRESSIONS[seed]}: {result.wrong[:5]}"


@pytest.mark.parametrize("name", sorted(mutations.MUTATIONS))
def test_a_broken_rule_is_noticed(name: str) -> None:
    """Within so many seeds; those that failed with it when this was written come first."""
    known, most = mutations.NOTICED[name]
    with mutations.applied(name):
        for seed in (*known, *range(1, most + 1)):
            if simulate(seed).wrong:
                return
    pytest.fail(f"{name}: nothing noticed in {most} seeds")


def test_a_seed_runs_the_same_way_again() -> None:
    """In this process, and in another one with other hashes of text."""
    seed = 5
    here = simulate(seed)
    assert simulate(seed).trace == here.trace
    assert simulate(seed + 1).trace != here.trace
    program = f"from tests.simulation.simulation import simulate; print(simulate({seed}).trace)"
    for hash_seed in ("0", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        there = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        assert int(there.stdout) == here.trace, f"PYTHONHASHSEED={hash_seed}"


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
    assert not is_linearizable([lost, *reversed([operation((("get", b""),), 6, 7, None), *reads])])


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
