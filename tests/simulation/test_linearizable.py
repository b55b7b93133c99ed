"""The checker of histories, against the plainest one there is: every order, one by one."""

from __future__ import annotations

import itertools
import random

import pytest

from tests.simulation import linearizable
from tests.simulation.linearizable import INFINITY, Operation, Step, is_linearizable, run

STEPS: tuple[Step, ...] = (("set", b"a;"), ("append", b"b;"), ("append", b"c;"), ("get", b""), ("get", b""))
RESULTS: tuple[object, ...] = (None, b"a;", b"b;", b"c;", b"a;b;", b"b;c;", b"a;b;c;")


def every_order(operations: list[Operation]) -> bool:
    """Is there a choice of the unanswered ones, and an order of all, that time and answers allow?"""
    lost = [one for one in operations if one.returned == INFINITY]
    sure = [one for one in operations if one.returned < INFINITY]
    places = sorted(one.place for one in operations if one.place)
    for count in range(len(lost) + 1):
        for chosen in itertools.combinations(lost, count):
            for order in itertools.permutations([*sure, *chosen]):
                if explains(order, places):
                    return True
    return False


def explains(order: tuple[Operation, ...], places: list[int]) -> bool:
    """places: of all writes, in order; those that are taken must be the first of them."""
    taken = [one.place for one in order if one.place]
    if taken != places[: len(taken)]:
        return False
    state = None
    latest = 0.0
    for operation in order:
        latest = max(latest, operation.called)
        state, fits = run(state, operation)
        if not fits or operation.returned < latest:
            return False
    return True


def history(rng: random.Random) -> list[Operation]:
    found: list[Operation] = []
    for number in range(rng.randint(1, 6)):
        step = rng.choice(STEPS)
        called = rng.randint(0, 6)
        operation = Operation(f"c{number}", b"k", (step,), called)
        if rng.random() < 0.8:
            operation.returned = called + rng.randint(1, 5)
            told = {"set": b"OK", "append": rng.choice((2, 4, 6)), "get": rng.choice(RESULTS)}[step[0]]
            operation.results = (told,)
        found.append(operation)
    if rng.random() < 0.5:  # the order of the writes is known
        writes = [one for one in found if one.steps[0][0] != "get"]
        for place, operation in enumerate(rng.sample(writes, len(writes)), 1):
            operation.place = place
    return found


def test_it_agrees_with_trying_every_order() -> None:
    rng = random.Random(1)
    told = {True: 0, False: 0}
    for _ in range(6000):
        operations = history(rng)
        expected = every_order(operations)
        assert is_linearizable(operations) is expected, "\n".join(map(str, operations))
        told[expected] += 1
    assert min(told.values()) > 500, told


def test_many_late_reads_of_an_early_state_are_not_hard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads that a stopped primary answers all at once overlap with everything that was written meanwhile."""
    monkeypatch.setattr(linearizable, "TRIES_MAX", 2000)
    reads = [Operation("r", b"k", (("get", b""),), n / 100, 50.0, (b"a;" if n < 60 else None,)) for n in range(60)]
    writes = [Operation("w", b"k", (("set", b"a;"),), 1.0, 1.1, (b"OK",))]
    writes += [Operation("w", b"k", (("append", b"b;"),), 2.0 + n, 2.5 + n, (4 + 2 * n,)) for n in range(40)]
    assert is_linearizable([*reads, *writes])
    assert not is_linearizable([*reads, *writes, Operation("r", b"k", (("get", b""),), 45.0, 46.0, (b"a;",))])


def test_writes_that_all_overlap_are_not_hard_when_their_order_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when all clients wait for the same new primary, and some never hear of it."""
    monkeypatch.setattr(linearizable, "TRIES_MAX", 2000)
    tokens = [b"%02d;" % n for n in range(40)]
    random.Random(1).shuffle(tokens)
    writes = [Operation("w", b"k", (("append", token),), 1.0, place=n) for n, token in enumerate(tokens, 1)]
    for operation in writes[::3]:
        operation.returned, operation.results = 50.0, (3 * operation.place,)
    reads = [Operation("r", b"k", (("get", b""),), 1.0, 50.0, (b"".join(tokens[:n]),)) for n in (7, 23, 40)]
    assert is_linearizable([*writes, *reads])
    reads[0].results = (b"".join(tokens[1:7]),)
    assert not is_linearizable([*writes, *reads])
    reads[0].results = (b"".join(tokens[:7]),)
    reads[0].called, reads[1].returned = 20.0, 10.0  # the longer value was seen first
    assert not is_linearizable([*writes, *reads])
