"""The order of a sorted set, against a sorted list; small blocks, so that splits and merges happen."""

from __future__ import annotations

import random
from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventdb.keyspace.types.ranking import BLOCK_MAX, GROUP, Ranking

SEED = 20240607


def check(found: Ranking, model: dict[bytes, float]) -> None:
    """Everything a ranking can be asked, and that its parts fit together."""
    ordered = sorted((score, member) for member, score in model.items())
    members = [member for _, member in ordered]
    assert found.size == len(ordered)
    assert found.slice(0, found.size) == members
    assert [score for block in found.scores for score in block] == [score for score, _ in ordered]
    assert [block[-1] for block in found.members] == found.last_members
    assert [block[-1] for block in found.scores] == list(found.last_scores)
    assert all(found.members)
    whole = found.members
    assert not found.groups or found.groups == [
        sum(map(len, whole[i : i + GROUP])) for i in range(0, len(whole), GROUP)
    ]
    for place, (score, member) in enumerate(ordered):
        assert found.rank(score, member) == place
    for start in range(0, found.size, 1 + found.size // 7):
        for stop in (start, start + 1, found.size // 2, found.size):
            assert found.slice(start, stop) == members[start:stop]
    for score in {-1.0, *model.values(), 0.5, 1e9}:
        assert found.count_below(score, False) == sum(other < score for other in model.values())
        assert found.count_below(score, True) == sum(other <= score for other in model.values())


STEPS = st.lists(st.tuples(st.integers(0, 60), st.one_of(st.none(), st.sampled_from([0.0, 1.0, 2.0, 0.5, -3.25]))))


@settings(max_examples=200, deadline=None, print_blob=True)
@given(STEPS, st.integers(0, 40))
def test_order_ranks_and_ranges_stay_those_of_a_sorted_list(steps: list[tuple[int, float | None]], first: int) -> None:
    model = {b"%d" % i: float(i % 3) for i in range(first)}
    found = Ranking(model, 4)
    check(found, model)
    for number, score in steps:
        member = b"%d" % number
        if member in model:
            found.remove(model.pop(member), member)
        if score is not None:
            model[member] = score
            found.add(score, member)
        check(found, model)
    check(found.copy(), model)


def test_many_blocks_are_counted_in_groups() -> None:
    """Ranks and ranges among several groups of blocks, while blocks come, go and change."""
    rng = random.Random(SEED)
    model = {b"%d" % i: float(rng.randrange(100)) for i in range(12_000)}
    found = Ranking(model, 4)
    assert len(found.members) > 2 * GROUP
    check(found, model)
    for number in range(2000):
        member = b"%d" % rng.randrange(14_000)
        if member in model:
            found.remove(model.pop(member), member)
        else:
            model[member] = float(rng.randrange(100))
            found.add(model[member], member)
        place = rng.randrange(found.size)
        (member,) = found.slice(place, place + 1)
        assert found.rank(model[member], member) == place, f"seed {SEED}, step {number}"
    check(found, model)


@pytest.mark.parametrize("spread", [1, 10, 1 << 40], ids=["one score", "ten scores", "all different"])
def test_thousands_of_members_in_blocks_of_the_real_size(spread: int) -> None:
    rng = random.Random(SEED)
    model = {b"%x" % rng.randrange(1 << 60): float(rng.randrange(spread)) for _ in range(3000)}
    found = Ranking({})
    for member, score in model.items():
        found.add(score, member)
    check(found, model)
    for member in rng.sample(list(model), 1500):
        found.remove(model.pop(member), member)
        if rng.random() < 0.3:
            model[member] = float(rng.randrange(spread))
            found.add(model[member], member)
    check(found, model)
    for member in rng.sample(list(model), len(model) - 20):
        found.remove(model.pop(member), member)
    check(found, model)
    assert len(found.members) < 8, f"small neighbours were not joined (seed {SEED})"


def test_a_set_that_grows_at_its_end_fills_its_blocks() -> None:
    found = Ranking({})
    for i in range(5000):
        found.add(float(i), b"%d" % i)
    assert len(found.members) == -(-5000 // BLOCK_MAX)


@given(st.lists(st.binary(max_size=3), unique=True), st.binary(max_size=3))
def test_members_of_one_score_are_counted_as_bytes_compare(members: list[bytes], bound: bytes) -> None:
    found = Ranking(dict.fromkeys(members, 0.0))
    ordered = sorted(members)
    assert found.count_below_member(bound, False) == bisect_left(ordered, bound)
    assert found.count_below_member(bound, True) == sum(member <= bound for member in members)


def test_the_member_object_is_kept_once() -> None:
    member = bytes([65, 66])
    found = Ranking({member: 1.0})
    assert found.remove(1.0, bytes([65, 66])) is member
