"""Streams answer as a real Redis does: replies, errors, content, what a group remembers; and the log rebuilds them."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.commands.test_differential_zsets import call, maybe
from tests.kit.differential import Address, Expire, Pair, Step, compare, examples, sequences

KEYS = st.sampled_from([b"x1", b"x2"])
ANY_KEY = st.sampled_from([b"x1", b"x2", b"x1", b"x2", b"x1", b"x2", b"string", b"none"])
MAX = 2**64 - 1
IDS = st.sampled_from([f"{ms}-{seq}" for ms in (0, 1, 2, 3, 4, 5, 6, 9) for seq in (0, 1, 2)])
ODD_IDS = st.sampled_from(
    ["0", "5", "007", "5-", "-", "+", "$", ">", "*", "-5", "5--1", "5--05", " 5", "+5-1", "5 ", "x", "", "5-x", "1-2-3",
     "5\x00-9", f"{MAX}", f"{MAX}-{MAX}", f"{MAX}-{MAX - 1}", f"{MAX + 1}", "5-0x1", "9" * 128, "(", "((5", "(5-*",
     "5-*", "\t-0-1", "-00", "18446744073709551615-*", "5-**"]
)  # fmt: skip
ANY_ID = st.one_of(IDS, IDS, IDS, IDS, ODD_IDS)
NEW_IDS = st.one_of(st.integers(1, 9).map(lambda ms: f"{ms}-*"), IDS, ODD_IDS.filter(lambda text: text != "*"))
BOUNDS = st.one_of(st.sampled_from(["-", "+"]), ANY_ID, ANY_ID.map(lambda text: f"({text}"))
COUNTS = st.sampled_from([0, 1, 2, 3, 100, -1, "x", 2**63])
FIELDS = st.lists(st.sampled_from([b"f", b"v", b"", b"\x00\xff", b"12"]), min_size=2, max_size=4)
TRIMS = st.one_of(
    st.tuples(st.sampled_from(["MAXLEN", "maxlen"]), st.sampled_from(["", "=", "~"]), st.sampled_from([0, 1, 2, 3, 5])),
    st.tuples(st.just("MINID"), st.sampled_from(["", "=", "~"]), IDS),
    st.tuples(st.sampled_from(["MAXLEN", "MINID"]), st.sampled_from(["=", "~"]), ANY_ID, st.just("LIMIT"), COUNTS),
    maybe("MAXLEN", "MINID", "LIMIT", "~", "=", "1", "0", "NOMKSTREAM", "x", "-1", "1-1"),
).map(lambda words: [word for word in words if word != ""])  # fmt: skip
COUNT = st.one_of(st.just([]), st.tuples(st.sampled_from(["COUNT", "count"]), COUNTS), maybe("COUNT", "x", "1"))  # type: ignore[var-annotated]

APPENDS = call("XADD", KEYS, st.integers(1, 9).map(lambda ms: f"{ms}-*"), "f", st.integers(0, 9))
CHANGES = st.one_of(
    APPENDS,
    APPENDS,
    APPENDS,
    call("XADD", ANY_KEY, maybe("NOMKSTREAM"), NEW_IDS, FIELDS),
    call("XADD", KEYS, TRIMS, NEW_IDS, FIELDS),
    call("XADD", ANY_KEY, TRIMS, NEW_IDS, FIELDS),
    call("XTRIM", ANY_KEY, TRIMS),
    call("XDEL", KEYS, st.lists(IDS, min_size=1, max_size=3)),
    call("XDEL", ANY_KEY, st.lists(ANY_ID, max_size=3)),
    call("XSETID", ANY_KEY, ANY_ID),
    call(
        "XSETID", KEYS, ANY_ID,
        st.lists(st.one_of(st.tuples(st.just("ENTRIESADDED"), COUNTS), st.tuples(st.just("MAXDELETEDID"), ANY_ID),
                           st.sampled_from(["x", "ENTRIESADDED"])), max_size=2),
    ),
    call("DEL", KEYS),
    KEYS.map(Expire),
    call(st.sampled_from(["COPY", "RENAME"]), KEYS, KEYS),
    call("COPY", KEYS, KEYS, "REPLACE"),
)  # fmt: skip
STREAM_ARGUMENTS = st.one_of(
    st.tuples(ANY_KEY, ANY_ID),
    st.tuples(KEYS, KEYS, IDS, IDS),
    st.tuples(ANY_KEY, ANY_KEY, ANY_ID, ANY_ID),
    st.lists(ANY_KEY, max_size=3),
)
READS = st.one_of(
    call("XLEN", ANY_KEY),
    call(st.sampled_from(["XRANGE", "xrevrange"]), ANY_KEY, BOUNDS, BOUNDS, COUNT),
    call("XRANGE", KEYS, IDS, IDS),
    call("XREVRANGE", KEYS, IDS, IDS),
    call("XREAD", COUNT, "STREAMS", STREAM_ARGUMENTS),
    call("XREAD", maybe("NOACK", "GROUP", "COUNT", "BLOCK", "x"), "streams", STREAM_ARGUMENTS),
    call("XREAD", "BLOCK", st.sampled_from(["x", -1, 2**63]), "STREAMS", "x2", "0"),
    call("XINFO", "STREAM", ANY_KEY),
    call("XINFO", "STREAM", ANY_KEY, maybe("FULL", "COUNT", "1", "x"), maybe("COUNT", "2", "-1", "0")),
    call("TYPE", KEYS),
    call("OBJECT", "ENCODING", KEYS),
    call("SORT", KEYS),
)
PREPARE: list[Step] = [("SET", "string", "v")]


@pytest.mark.redis
@examples(150)
@given(sequences(st.one_of(CHANGES, CHANGES, READS)), st.booleans())
def test_entries(redis_server: Address, steps: list[Step], resp3: bool) -> None:
    compare(redis_server, [*PREPARE, ("XADD", "x1", "1-1", "f", "v"), *steps], resp3)


# Some blocks of entries: what ~ takes goes by whole ones.
LONG: list[Step] = [("XADD", "x1", f"{i // 7 + 1}-*", "f", i) for i in range(450)]
LONG_IDS = st.integers(0, 70).map(lambda ms: f"{ms}-{ms % 8}")
LONG_STEPS = st.one_of(
    call("XTRIM", "x1", "MAXLEN", st.sampled_from(["~", "="]), st.integers(0, 450)),
    call("XTRIM", "x1", "MINID", st.sampled_from(["~", "="]), LONG_IDS),
    call("XTRIM", "x1", st.sampled_from(["MAXLEN", "MINID"]), "~", st.integers(0, 70), "LIMIT", st.integers(0, 300)),
    call("XADD", "x1", "MAXLEN", "~", st.integers(100, 400), "100-*", "f", "v"),
    call("XDEL", "x1", st.lists(LONG_IDS, min_size=1, max_size=40)),
    call(st.sampled_from(["XRANGE", "XREVRANGE"]), "x1", LONG_IDS, LONG_IDS),
    call(st.sampled_from(["XRANGE", "XREVRANGE"]), "x1", LONG_IDS, LONG_IDS, "COUNT", st.integers(1, 250)),
    call("XREAD", "COUNT", st.integers(1, 250), "STREAMS", "x1", LONG_IDS),
    call("XINFO", "STREAM", "x1"),
)


@pytest.mark.redis
@examples(25)
@given(sequences(LONG_STEPS, 20), st.booleans())
def test_entries_in_many_blocks(redis_server: Address, steps: list[Step], resp3: bool) -> None:
    compare(redis_server, LONG + steps, resp3)


GROUPS = st.sampled_from(["g", "g", "g", "h", "none"])
CONSUMERS = st.sampled_from(["c", "d", "e"])
IDLE = st.sampled_from([0, 0, 0, 100_000, -1, "x"])
NEXT = call("XREADGROUP", "GROUP", GROUPS, CONSUMERS, COUNT, maybe("NOACK"), "STREAMS", KEYS, ">")
CLAIM_OPTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["IDLE", "idle"]), st.sampled_from([0, 200_000, -5, 2**62, -(2**63), "x"])),
        st.tuples(st.just("TIME"), st.sampled_from([0, 1, -1, 2**62, "x", 1_600_000_000_000])),
        st.tuples(st.just("RETRYCOUNT"), st.sampled_from([0, 7, -1, "x"])),
        st.tuples(st.just("LASTID"), ANY_ID),
        st.sampled_from(["FORCE", "JUSTID", "force", "x", "IDLE"]),
    ),
    max_size=3,
)
GROUP_STEPS = st.one_of(
    APPENDS,
    APPENDS,
    NEXT,
    NEXT,
    call("XDEL", KEYS, st.lists(IDS, min_size=1, max_size=3)),
    call("XTRIM", KEYS, "MAXLEN", st.integers(0, 4)),
    call("XSETID", KEYS, IDS),
    call("XGROUP", st.sampled_from(["CREATE", "create"]), ANY_KEY, GROUPS, ANY_ID,
         st.lists(st.sampled_from(["MKSTREAM", "ENTRIESREAD", 3, -1, -2, "x"]), max_size=4)),
    call("XGROUP", "CREATE", KEYS, GROUPS, st.sampled_from(["0", "$"]), maybe("MKSTREAM")),
    call("XGROUP", "SETID", ANY_KEY, GROUPS, ANY_ID,
         st.lists(st.sampled_from(["ENTRIESREAD", 3, -1, "x"]), max_size=3)),
    call("XGROUP", "SETID", KEYS, "g", IDS),
    call("XGROUP", st.sampled_from(["DESTROY", "CREATECONSUMER", "DELCONSUMER", "x"]), ANY_KEY, GROUPS,
         st.lists(CONSUMERS, max_size=2)),
    call("XGROUP", st.sampled_from(["CREATECONSUMER", "DELCONSUMER"]), KEYS, GROUPS, CONSUMERS),
    call("XREADGROUP", "GROUP", GROUPS, CONSUMERS, COUNT, "STREAMS", KEYS, IDS),
    call("XREADGROUP", "GROUP", GROUPS, CONSUMERS, maybe("NOACK", "COUNT", "BLOCK", "GROUP"), "STREAMS",
         STREAM_ARGUMENTS),
    call("XREADGROUP", "GROUP", "g", CONSUMERS, "STREAMS", "x1", "x2", st.sampled_from([">", "0"]), ">"),
    call("XACK", KEYS, GROUPS, st.lists(IDS, min_size=1, max_size=4)),
    call("XACK", ANY_KEY, GROUPS, st.lists(ANY_ID, max_size=2)),
    call("COPY", KEYS, KEYS, "REPLACE"),
)  # fmt: skip
CLAIM_STEPS = st.one_of(
    APPENDS,
    NEXT,
    NEXT,
    call("XDEL", KEYS, st.lists(IDS, min_size=1, max_size=3)),
    call("XCLAIM", KEYS, GROUPS, CONSUMERS, IDLE, st.lists(IDS, min_size=1, max_size=4), CLAIM_OPTIONS),
    call("XCLAIM", KEYS, "g", CONSUMERS, 0, st.lists(IDS, min_size=1, max_size=6), CLAIM_OPTIONS),
    call("XCLAIM", ANY_KEY, GROUPS, CONSUMERS, IDLE, st.lists(ANY_ID, max_size=3), CLAIM_OPTIONS),
    call("XAUTOCLAIM", KEYS, "g", CONSUMERS, st.sampled_from([0, 100_000]), IDS, st.sampled_from([(), ("COUNT", 1)])),
    call("XAUTOCLAIM", ANY_KEY, GROUPS, CONSUMERS, IDLE, BOUNDS,
         st.lists(st.sampled_from(["COUNT", 1, 2, 0, "JUSTID", "x", 2**62]), max_size=3)),
)  # fmt: skip
GROUP_READS = st.one_of(
    call("XPENDING", KEYS, GROUPS),
    call("XPENDING", ANY_KEY, GROUPS, st.one_of(st.just(()), st.tuples(st.just("IDLE"), IDLE)), BOUNDS, BOUNDS, COUNTS,
         st.lists(CONSUMERS, max_size=1)),
    call("XPENDING", KEYS, "g", st.lists(st.sampled_from(["IDLE", 0, "-", "+", 5, "c"]), max_size=7)),
    call("XPENDING", KEYS, "g", "-", "+", st.integers(0, 3)),
    call("XPENDING", KEYS, "g", "IDLE", 50_000, "-", "+", st.integers(0, 3)),
    call("XINFO", "GROUPS", ANY_KEY),
    call("XINFO", "GROUPS", KEYS),
    call("XINFO", "CONSUMERS", ANY_KEY, GROUPS),
    call("XINFO", "STREAM", ANY_KEY, "FULL"),
    call("XINFO", st.sampled_from(["STREAM", "CONSUMERS", "GROUPS", "x"]), KEYS, st.lists(GROUPS, max_size=2)),
)  # fmt: skip
TWO: list[Step] = [
    *PREPARE,
    *[("XADD", "x1", f"{ms}-1", "f", ms) for ms in (1, 2, 3)],
    *[("XADD", "x2", f"{ms}-1", "f", ms) for ms in (1, 2)],
    *[("XGROUP", "CREATE", key, "g", "0") for key in ("x1", "x2")],
]


@pytest.mark.redis
@examples(150)
@given(sequences(st.one_of(GROUP_STEPS, GROUP_STEPS, GROUP_READS)), st.booleans())
def test_groups(redis_server: Address, steps: list[Step], resp3: bool) -> None:
    compare(redis_server, TWO + steps, resp3)


@pytest.mark.redis
@examples(150)
@given(sequences(st.one_of(CLAIM_STEPS, CLAIM_STEPS, GROUP_READS)), st.booleans())
def test_claims(redis_server: Address, steps: list[Step], resp3: bool) -> None:
    compare(redis_server, TWO + steps, resp3)


@pytest.mark.redis
@pytest.mark.parametrize("command", [("XTRIM", "x1"), ("XADD", "x2")])
def test_options_of_trimming_in_every_order(redis_server: Address, command: tuple[str, str]) -> None:
    words = ("LIMIT", "MAXLEN", "MINID", "0", "5", "~", "=", "x", "-1", "NOMKSTREAM")
    with Pair(redis_server) as pair:
        pair("XADD", "x1", "1-1", "f", "v")
        for length in (1, 2, 3):
            for options in product(words, repeat=length):
                pair(*command, *options, *(("7-*", "f") if command[0] == "XADD" else ()))
                pair("DEL", "x2")
