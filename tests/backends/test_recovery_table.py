"""The recovery tables are total: every combination of facts meets exactly one row."""

from itertools import product

import pytest

from eventdb.backends.quorum.recovery import (
    LOG_TABLE,
    ZONE_TABLE,
    Hold,
    Memory,
    Move,
    Presence,
    Tally,
    Worth,
    judge_log,
    judge_zone,
)


@pytest.mark.parametrize(("presence", "hold", "memory"), list(product(Presence, Hold, Memory)))
def test_every_zone_meets_exactly_one_row(presence: Presence, hold: Hold, memory: Memory) -> None:
    assert len([row for row in ZONE_TABLE if row.fits(presence, hold, memory)]) == 1


def test_every_row_of_the_zone_table_is_met_and_says_why() -> None:
    facts = list(product(Presence, Hold, Memory))
    for row in ZONE_TABLE:
        assert row.why
        assert any(row.fits(*fact) for fact in facts)


def tallies() -> list[Tally]:
    return [
        Tally(zones, count, lost, hurt, reaches)
        for zones in (1, 3, 5)
        for count, lost, hurt in product(range(zones + 1), repeat=3)
        if count + lost + hurt <= zones
        for reaches in (True, False)
    ]


def test_every_tally_meets_exactly_one_row() -> None:
    for tally in tallies():
        assert len([move for fits, move, _why in LOG_TABLE if fits(tally)]) == 1, tally


def test_a_log_is_adopted_only_by_a_majority_that_reaches_the_floor() -> None:
    for tally in tallies():
        adopted = judge_log(tally) is Move.ADOPT
        assert adopted == (tally.count >= tally.majority and tally.reaches_floor), tally


#        zones                                        what the claim does (the best counting tail reaches the floor)
PICTURES = [
    ("count  count  count ", Move.ADOPT),
    ("count  count  absent", Move.ADOPT),
    ("count  count  rebuil", Move.ADOPT),
    ("count  count  hurt  ", Move.ADOPT),
    ("count  count  lost  ", Move.ADOPT),
    ("count  absent absent", Move.UNAVAILABLE),
    ("count  rebuil absent", Move.UNAVAILABLE),
    ("count  rebuil rebuil", Move.UNAVAILABLE),
    ("count  hurt   absent", Move.CORRUPT),
    ("hurt   hurt   hurt  ", Move.CORRUPT),
    ("count  lost   absent", Move.LOST_RACE),
    ("lost   lost   count ", Move.LOST_RACE),
    ("lost   lost   lost  ", Move.LOST_RACE),
    ("absent absent absent", Move.UNAVAILABLE),
    ("hurt", Move.CORRUPT),
    ("count", Move.ADOPT),
    ("rebuil", Move.UNAVAILABLE),
]


@pytest.mark.parametrize(("zones", "move"), PICTURES)
def test_pictures(zones: str, move: Move) -> None:
    names = zones.split()
    assert judge_log(Tally(len(names), names.count("count"), names.count("lost"), names.count("hurt"), True)) is move


def test_short_of_the_floor_is_never_adopted() -> None:
    assert judge_log(Tally(3, 3, 0, 0, False)) is Move.UNAVAILABLE
    assert judge_log(Tally(3, 2, 0, 1, False)) is Move.CORRUPT


def test_only_a_whole_member_with_our_promise_counts() -> None:
    for presence, hold, memory in product(Presence, Hold, Memory):
        try:
            worth = judge_zone(presence, hold, memory)
        except AssertionError:
            continue  # a row that cannot be
        counts = (presence, hold, memory) == (Presence.MEMBER, Hold.OWNED, Memory.WHOLE)
        assert (worth is Worth.COUNT) == counts
