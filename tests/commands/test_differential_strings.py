"""Strings, counters, generic keys and deadlines answer as a real Redis does, to the byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.differential import Address, Expire, Step, compare, examples, same_kind, sequences

pytestmark = pytest.mark.redis

FAR = 4_000_000_000  # a Unix second in 2096
KEYS = ["a", "b", "c", "n"]
key = st.sampled_from(KEYS)
integers = st.sampled_from(
    [0, 1, -1, 2, 5, 10, -10, 100, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, "x", "", "01", "1.5"]
)
small = st.integers(-12, 12)
texts = st.sampled_from(
    [
        "",
        "x",
        "hello",
        "10",
        "-3",
        "007",
        "3.0",
        " 1",
        "1 ",
        "9223372036854775807",
        "a" * 44,
        "b" * 45,
        "c" * 200,
        b"\0\xff",
    ]
)
floats = st.one_of(
    st.sampled_from(
        ["0.1", "0.2", "1e3", "-1.5e-3", "3", "inf", "-inf", "nan", "0x1p3", "1e4931", "1e5000", "1e-5000", ".5", "5.",
         "", " 1", "1 ", "abc", "1e", "+2", "-0", "1e17", "0.00000000000000001", "123456789012345678901234567890"]
    ),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-1000, max_value=1000).map(str),
)  # fmt: skip
wrong_times = [0, -1, "x", 2**63 - 1, 2**63 // 1000, -(2**63), "", "10.5"]
times = st.sampled_from([FAR, FAR * 1000, 100_000, *wrong_times])
timed = st.one_of(
    st.tuples(st.sampled_from(["EX", "PX", "ex"]), times),
    st.tuples(st.sampled_from(["EXAT", "PXAT"]), st.sampled_from([1, *wrong_times])),
)
far_units = st.sampled_from(
    [
        ("EX", 100_000),
        ("PX", 100_000_000),
        ("EXAT", FAR),
        ("PXAT", FAR * 1000),
        ("exat", FAR + 1),
        ("EXAT", 1),
        ("PXAT", 1),
    ]
)


def flat(parts: tuple[object, ...]) -> Step:
    """Nested tuples and lists to one command."""
    found: list[object] = []
    for part in parts:
        found += flat(tuple(part)) if isinstance(part, (tuple, list)) else [part]  # type: ignore[arg-type]
    return tuple(found)  # type: ignore[arg-type, return-value]


def cmd(*parts: object) -> st.SearchStrategy[Step]:
    made = [part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts]
    return st.tuples(*made).map(flat)


set_option = st.one_of(
    st.sampled_from([("NX",), ("XX",), ("GET",), ("KEEPTTL",), ("nx",), ("Get",), ("PERSIST",), ("EX",), ("bogus",)]),
    far_units,
    timed,
)
getex_option = st.one_of(far_units, st.just(("PERSIST",)), timed, st.just(("NX",)))
lcs_option = st.sampled_from(["IDX", "LEN", "WITHMATCHLEN", "minmatchlen", 2, -1, "x"])
copy_option = st.sampled_from(["REPLACE", ("DB", 1), ("DB", 99), ("db", "x"), "DB", "foo"])
scan_option = st.sampled_from(
    [("COUNT", 10), ("COUNT", 0), ("count", "x"), ("MATCH", "a*"), "MATCH", ("TYPE", "string"), "x"]
)
assignments = st.lists(st.tuples(key, texts), min_size=1, max_size=4)

strings = st.one_of(
    cmd("SET", key, texts),
    cmd("SET", key, texts, st.lists(set_option, max_size=3)),
    cmd("GET", key),
    cmd("GETSET", key, texts),
    cmd("GETDEL", key),
    cmd("GETEX", key, st.lists(getex_option, max_size=2)),
    cmd("SETNX", key, texts),
    cmd("SETEX", key, times, texts),
    cmd("PSETEX", key, times, texts),
    cmd("APPEND", key, texts),
    cmd("STRLEN", key),
    cmd("GETRANGE", key, small, small),
    cmd("GETRANGE", key, integers, integers),
    cmd("SUBSTR", key, small, small),
    cmd("SETRANGE", key, small, texts),
    cmd("SETRANGE", key, integers.filter(lambda n: n not in (2**63 - 1, 100)), texts),
    cmd("MGET", st.lists(key, min_size=1, max_size=4)),
    cmd("MSET", assignments),
    cmd("MSETNX", assignments),
    cmd("MSET", key, texts, key),
    cmd("MSETNX", key, texts, key),
    cmd("LCS", key, key, st.lists(lcs_option, max_size=4)),
)  # fmt: skip
counters = st.one_of(
    cmd(st.sampled_from(["INCR", "DECR", "incr"]), key),
    cmd(st.sampled_from(["INCRBY", "DECRBY"]), key, integers),
)
conditions = st.lists(st.sampled_from(["NX", "XX", "GT", "LT", "gt", "foo"]), max_size=2)
generic = st.one_of(
    cmd(st.sampled_from(["DEL", "UNLINK", "EXISTS", "TOUCH"]), st.lists(key, min_size=1, max_size=3)),
    cmd("TYPE", key),
    cmd(st.sampled_from(["RENAME", "RENAMENX"]), key, key),
    cmd("COPY", key, key, st.lists(copy_option, max_size=2)),
    cmd("MOVE", key, st.sampled_from([0, 1, 2, 16, -1, "x", 2**40])),
    cmd("SWAPDB", st.sampled_from([0, 1, 99, "x"]), st.sampled_from([0, 1, 2, -1, "x", 2**40])),
    cmd("OBJECT", st.sampled_from(["ENCODING", "REFCOUNT", "FREQ", "foo"]), key),
    cmd("KEYS", st.sampled_from(["*", "a", "[ab]", "[^a]", "?", "b*", ""])),
    cmd(st.sampled_from(["FLUSHDB", "FLUSHALL"]), st.sampled_from([(), ("ASYNC",), ("sync",), ("x",), ("SYNC", "x")])),
    cmd("DBSIZE"),
)  # fmt: skip
deadlines = st.one_of(
    cmd(st.sampled_from(["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"]), key, st.sampled_from(wrong_times)),
    cmd("EXPIREAT", key, st.sampled_from([FAR, FAR + 10, 2**63 // 1000, 2**63 // 1000 + 1, 1]), conditions),
    cmd("PEXPIREAT", key, st.sampled_from([FAR * 1000, FAR * 1000 + 1, 2**63 - 1]), conditions),
    cmd("EXPIRE", key, st.sampled_from([100_000, 2**63 // 1000, -1]), conditions.filter(lambda c: "GT" not in c)),
    cmd(st.sampled_from(["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "PERSIST"]), key),
)  # fmt: skip
cursors = st.sampled_from(["0", "x", "-1", "", "1 ", "99999999999999999999", "18446744073709551615"])
others = st.one_of(
    cmd(st.sampled_from(["GET", "SET", "APPEND", "INCR", "TTL", "EXPIRE", "COPY", "OBJECT", "LCS", "MSET", "SCAN"])),
    cmd("SCAN", cursors, st.lists(scan_option, max_size=2)),
    cmd("RANDOMKEY"),
)  # fmt: skip
command = st.one_of(strings, cmd("SET", key, texts), counters, generic, deadlines, generic, others)
steps = sequences(command)


@examples(200)
@given(steps, st.booleans())
def test_strings_and_keys_answer_as_redis_does(redis_server: Address, steps: list[Step], resp3: bool) -> None:
    compare(redis_server, steps, resp3, {b"SCAN": same_kind})


@examples(25)
@given(sequences(st.one_of(strings, counters, deadlines, key.map(Expire)), 12))
def test_expired_keys_are_gone_for_every_command(redis_server: Address, steps: list[Step]) -> None:
    compare(redis_server, [("MSET", "a", "1", "b", "2", "c", "x"), Expire("a"), Expire("b"), *steps])


def same_or_embedded(theirs: bytes, ours: bytes) -> bool:
    """INCRBYFLOAT makes an embstr of a whole number; its event is a SET, which makes an int, as on Redis's replicas."""
    return theirs == ours or (theirs == b"$6\r\nembstr\r\n" and ours == b"$3\r\nint\r\n")


@examples(100)
@given(sequences(st.one_of(cmd("INCRBYFLOAT", key, floats), cmd("SET", key, floats), cmd("GET", key)), 20))
def test_floats_are_added_and_printed_as_a_long_double(redis_server: Address, steps: list[Step]) -> None:
    compare(redis_server, steps, rules={b"OBJECT": same_or_embedded})


@examples(100)
@given(
    st.text("ab", max_size=30),
    st.text("abc", max_size=30),
    st.sampled_from([(), ("LEN",), ("IDX",), ("IDX", "WITHMATCHLEN"), ("IDX", "MINMATCHLEN", 2)]),
    st.booleans(),
)
def test_lcs_breaks_ties_as_redis_does(
    redis_server: Address, a: str, b: str, options: tuple[object, ...], resp3: bool
) -> None:
    compare(redis_server, [("MSET", "a", a, "b", b), flat(("LCS", "a", "b", options))], resp3)
