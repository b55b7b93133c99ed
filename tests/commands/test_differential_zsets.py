"""Sorted sets answer as a real Redis does: replies, error texts, content, encoding; and the log rebuilds them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.differential import Address, Arg, Expire, Pair, Step, compare, examples

KEYS = st.sampled_from([b"z1", b"z2", b"z3"])
ANY_KEY = st.sampled_from([b"z1", b"z2", b"z3", b"z1", b"z2", b"set", b"string", b"none"])
MEMBERS = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"aa", b"B", b"", b"\x00", b"\xff\xfe", b"10", b"m" * 65])
NUMBERS = b"0 1 2 3 -1 1.5 0.1 1e17 -1e16 1e300 5e-324 inf -inf +inf -0 -0.0 123456789012345678 0x10 1e2"
SCORES = st.sampled_from(NUMBERS.decode().split(" "))
BAD_SCORES = st.sampled_from(
    ["", "nan", "x", "1e400", "1e-400", " 1", "1 ", "1_0", "0x", "1\x00", "(1", "--1", "infin", "0x1p-2000", "-nan"]
)
ANY_SCORE = st.one_of(SCORES, SCORES, SCORES, SCORES, SCORES, BAD_SCORES)
BOUNDS = st.one_of(SCORES, SCORES.map(lambda text: "(" + text), st.sampled_from(["-inf", "+inf", "inf"]), BAD_SCORES)
LEX = st.sampled_from(rb"- + [a (a [b (b [c (c [d [aa ( [ [B a ++ -- [ -".split(b" ")) | st.sampled_from(
    [b"(\xff", b"+\x00x", b""]
)
RANKS = st.sampled_from([0, 1, 2, 3, 5, 100, -1, -2, -3, -100, "x", "", 2**63, "01"])
COUNTS = st.sampled_from([0, 1, 2, 3, 10, -1, "x", 2**63])
LIMIT = st.tuples(st.just("LIMIT"), st.sampled_from([0, 1, 2, -1, 9, "x"]), st.sampled_from([0, 1, 2, -1, "x"]))


def flat(*parts: object) -> tuple[Arg, ...]:
    """Arguments from a nest of tuples and lists."""
    found: list[Arg] = []
    for part in parts:
        if isinstance(part, tuple | list):
            found.extend(flat(*part))
        else:
            assert isinstance(part, bytes | str | int | float)
            found.append(part)
    return tuple(found)


def call(*parts: object) -> st.SearchStrategy[Step]:
    """A command out of words and of strategies for its arguments."""
    return st.tuples(*(part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts)).map(flat)


def maybe(*words: str) -> st.SearchStrategy[list[str]]:
    """Some of the words, in any order, in either case."""
    return st.lists(st.sampled_from([*words, *(word.lower() for word in words)]), max_size=2)


PAIRS = st.lists(st.tuples(SCORES, MEMBERS), min_size=1, max_size=4)
ODD_PAIRS = st.lists(st.one_of(ANY_SCORE, MEMBERS), max_size=4)
OPTIONS = maybe("NX", "XX", "GT", "LT", "CH", "INCR")

CHANGES = st.one_of(
    call("ZADD", KEYS, PAIRS),
    call("ZADD", KEYS, PAIRS),
    call("ZADD", ANY_KEY, OPTIONS, PAIRS),
    call("ZADD", KEYS, OPTIONS, ANY_SCORE, MEMBERS),
    call("ZADD", ANY_KEY, OPTIONS, ODD_PAIRS),
    call("ZINCRBY", ANY_KEY, ANY_SCORE, MEMBERS),
    call("ZINCRBY", KEYS, st.sampled_from(["inf", "-inf", "1", "nx", "xx"]), MEMBERS),
    call("ZREM", ANY_KEY, st.lists(MEMBERS, max_size=3)),
    call(st.sampled_from(["ZPOPMIN", "zpopmax"]), ANY_KEY, st.lists(COUNTS, max_size=2)),
    call("ZREMRANGEBYRANK", ANY_KEY, RANKS, RANKS),
    call("ZREMRANGEBYSCORE", ANY_KEY, BOUNDS, BOUNDS),
    call("DEL", KEYS),
    KEYS.map(Expire),
)
READS = st.one_of(
    call("ZCARD", ANY_KEY),
    call("ZSCORE", ANY_KEY, MEMBERS),
    call("ZMSCORE", ANY_KEY, st.lists(MEMBERS, max_size=3)),
    call(st.sampled_from(["ZRANK", "ZREVRANK"]), ANY_KEY, MEMBERS),
    call("ZCOUNT", ANY_KEY, BOUNDS, BOUNDS),
    call("ZSCAN", ANY_KEY, st.sampled_from([0, 1, "x", -1, " 0", "00"]), maybe("COUNT", "MATCH", "5", "*", "0", "a*")),
    call("ZRANDMEMBER", KEYS, st.sampled_from([0, "x", -(2**63), 2**63]), maybe("WITHSCORES", "X")),
    call("ZRANDMEMBER", ANY_KEY, st.sampled_from([100, 2**62, -(2**63) + 1]), st.sampled_from(["WITHSCORES", "X"])),
)
RANGE_OPTIONS = st.lists(
    st.one_of(maybe("WITHSCORES", "REV", "BYSCORE"), LIMIT, st.sampled_from(["LIMIT", "LIMIT 0", "", "BYLEX"])),
    max_size=3,
)
RANGES = st.one_of(
    call("ZRANGE", ANY_KEY, RANKS, RANKS, RANGE_OPTIONS),
    call("ZRANGE", ANY_KEY, BOUNDS, BOUNDS, "BYSCORE", RANGE_OPTIONS),
    call("ZREVRANGE", ANY_KEY, RANKS, RANKS, RANGE_OPTIONS),
    call(st.sampled_from(["ZRANGEBYSCORE", "ZREVRANGEBYSCORE"]), ANY_KEY, BOUNDS, BOUNDS, RANGE_OPTIONS),
    call("ZRANGESTORE", ANY_KEY, ANY_KEY, RANKS, RANKS, RANGE_OPTIONS),
    call("ZRANGESTORE", KEYS, KEYS, BOUNDS, BOUNDS, "BYSCORE", RANGE_OPTIONS),
)
PREPARE: list[Step] = [("SADD", "set", "a", "b", "", "10"), ("SET", "string", "v")]


# Two sets past the size of a listpack, one of them with ties and with the members of the steps among its own.
LARGE: list[Step] = [
    ("ZADD", "z1", *flat([(i / 8, f"m{i}") for i in range(150)])),
    ("ZADD", "z2", *flat([(i % 3, chr(97 + i // 26) + chr(97 + i % 26)) for i in range(140)])),
]


@pytest.mark.redis
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@examples(150)
@given(st.lists(st.one_of(CHANGES, CHANGES, READS, RANGES), max_size=40), st.booleans())
def test_members_and_ranges(large: bool, redis_server: Address, steps: list[Step], resp3: bool) -> None:
    if large:
        compare(redis_server, PREPARE + LARGE + steps, resp3)
    else:
        compare(redis_server, PREPARE + steps, resp3, {b"ZSCAN": lambda theirs, ours: theirs == ours})


# Redis says nothing of ranges by member when scores differ, so here they do not.
EQUAL = call("ZADD", KEYS, st.lists(st.tuples(st.just(0), MEMBERS), min_size=1, max_size=6))
LEX_STEPS = st.one_of(
    EQUAL,
    EQUAL,
    call("ZLEXCOUNT", ANY_KEY, LEX, LEX),
    call(st.sampled_from(["ZRANGEBYLEX", "ZREVRANGEBYLEX"]), ANY_KEY, LEX, LEX, RANGE_OPTIONS),
    call("ZRANGE", ANY_KEY, LEX, LEX, "BYLEX", RANGE_OPTIONS),
    call("ZRANGESTORE", KEYS, ANY_KEY, LEX, LEX, "BYLEX", RANGE_OPTIONS),
    call("ZREMRANGEBYLEX", ANY_KEY, LEX, LEX),
)


@pytest.mark.redis
@examples(120)
@given(st.lists(LEX_STEPS, max_size=40), st.booleans())
def test_ranges_by_member(redis_server: Address, steps: list[Step], resp3: bool) -> None:
    compare(redis_server, PREPARE + steps, resp3)


SOURCES = st.one_of(
    st.lists(ANY_KEY, min_size=1, max_size=3).map(lambda keys: (len(keys), *keys)),
    st.lists(KEYS, min_size=1, max_size=3).map(lambda keys: (len(keys), *keys)),
    st.lists(KEYS, min_size=1, max_size=3).map(lambda keys: (len(keys), *keys)),
    st.tuples(st.sampled_from([0, -1, 4, "x"]), ANY_KEY, ANY_KEY),
)
COMBINE_OPTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("WEIGHTS"), ANY_SCORE, st.lists(ANY_SCORE, max_size=2)),
        st.tuples(st.just("aggregate"), st.sampled_from(["SUM", "min", "MAX", "AVG"])),
        st.just("WITHSCORES"),
        st.sampled_from(["WEIGHTS", "AGGREGATE", "LIMIT", "x"]),
        st.tuples(st.just("LIMIT"), st.sampled_from([0, 1, 2, -1, "x"])),
    ),
    max_size=3,
)
COMBINE_STEPS = st.one_of(
    call("ZADD", KEYS, PAIRS),
    call("ZADD", KEYS, PAIRS),
    call(st.sampled_from(["ZUNION", "ZINTER", "ZDIFF", "ZINTERCARD"]), SOURCES, COMBINE_OPTIONS),
    call(st.sampled_from(["ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE"]), ANY_KEY, SOURCES, COMBINE_OPTIONS),
    call(st.sampled_from(["ZUNION", "ZINTER", "ZDIFF"]), SOURCES, "WITHSCORES"),
    call(st.sampled_from(["ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE"]), KEYS, SOURCES),
    call("ZINTERCARD", SOURCES, "LIMIT", st.sampled_from([0, 1, 2])),
    KEYS.map(Expire),
)


@pytest.mark.redis
@examples(250)
@given(st.lists(COMBINE_STEPS, max_size=30), st.booleans())
def test_combinations(redis_server: Address, steps: list[Step], resp3: bool) -> None:
    compare(redis_server, PREPARE + steps, resp3)


TIMEOUTS = st.sampled_from([0, 0.001, -1, "x", "inf", "-inf", 2**63, 1e300, "nan", "", " 1"])
MANY = st.one_of(
    st.tuples(SOURCES, st.sampled_from(["MIN", "max"]), st.lists(st.sampled_from(["COUNT", 1, 2, 0, "x"]), max_size=2)),
    st.tuples(SOURCES, st.lists(st.sampled_from(["MIN", "MAX", "COUNT", 1, 2, 0, -1, "x"]), max_size=4)),
)
POP_STEPS = st.one_of(
    call("ZADD", KEYS, PAIRS),
    call("ZMPOP", MANY),
    # Never waits: "z" has members. What is refused is refused before.
    call("BZMPOP", TIMEOUTS, MANY),
    call(st.sampled_from(["BZPOPMIN", "BZPOPMAX"]), st.lists(ANY_KEY, min_size=0, max_size=3), "z", TIMEOUTS),
    call("ZADD", "z", PAIRS, 1, "last"),
)


@pytest.mark.redis
@examples(150)
@given(st.lists(POP_STEPS, max_size=30), st.booleans())
def test_pops_that_find_something_or_are_refused(redis_server: Address, steps: list[Step], resp3: bool) -> None:
    with Pair(redis_server, resp3) as pair:
        for step in PREPARE:
            pair.step(step)
        for step in steps:
            pair("ZADD", "z", 1, "x")
            if isinstance(step, tuple) and str(step[0]).startswith("BZ"):
                pair("MULTI")  # where nothing waits
                pair(*step)
                pair("EXEC")
            else:
                pair.step(step)
        pair.check_state()


@pytest.mark.redis
@pytest.mark.parametrize("resp3", [False, True], ids=["RESP2", "RESP3"])
def test_random_members_where_there_is_no_choice(redis_server: Address, resp3: bool) -> None:
    with Pair(redis_server, resp3, {b"ZRANDMEMBER": lambda theirs, ours: theirs == ours}) as pair:
        pair("ZADD", "z", "1.5", "a")
        for rest in [(), (1,), (5,), (-3,), (0,), (5, "WITHSCORES"), (-3, "WithScores"), (0, "withscores"), (1, 2, 3)]:
            pair("ZRANDMEMBER", "z", *rest)
            pair("ZRANDMEMBER", "none", *rest)
