"""Strings and counters: what they log, what they keep, and the numbers they print."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventdb.keyspace.types.string import is_integer
from eventdb.protocol.errors import ReplyError
from eventdb.protocol.longdouble import add, format_long_double, parse_long_double
from eventdb.protocol.requests import RequestParser
from tests.kit.differential import Address, Pair, examples
from tests.kit.harness import Local

NOW = 1_700_000_000_000  # the harness's clock


@pytest.fixture
def db() -> Local:
    return Local()


def test_a_plain_set_is_one_event_and_one_transaction(db: Local) -> None:
    assert db.raw("set", "k", "v") == b"+OK\r\n"
    assert db.log == [b"*2\r\n$11\r\n127.0.0.1:1\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"]
    db.check_replay()


@pytest.mark.parametrize(
    ("command", "event"),
    [
        (("SET", "k", "v", "EX", 10), [b"SET", b"k", b"v", b"PXAT", b"%d" % (NOW + 10_000)]),
        (("SET", "k", "v", "PXAT", NOW + 5), [b"SET", b"k", b"v", b"PXAT", b"%d" % (NOW + 5)]),
        (("SETEX", "k", 10, "v"), [b"SET", b"k", b"v", b"PXAT", b"%d" % (NOW + 10_000)]),
        (("PSETEX", "k", 10, "v"), [b"SET", b"k", b"v", b"PXAT", b"%d" % (NOW + 10)]),
        (("SET", "k", "v", "NX"), [b"SET", b"k", b"v"]),
        (("SET", "k", "v", "KEEPTTL"), [b"SET", b"k", b"v"]),
        (("GETSET", "k", "v"), [b"SET", b"k", b"v"]),
        (("APPEND", "k", "v"), [b"SET", b"k", b"v"]),
        (("INCR", "k"), [b"SET", b"k", b"1"]),
        (("INCRBYFLOAT", "k", "0.5"), [b"SET", b"k", b"0.5"]),
        (("mset", "k", "v", "l", "w"), [b"MSET", b"k", b"v", b"l", b"w"]),
        (("SETRANGE", "k", 2, "v"), [b"SETRANGE", b"k", b"2", b"v"]),
    ],
)
def test_events_hold_the_outcome_and_not_the_question(
    db: Local, command: tuple[str | int, ...], event: list[bytes]
) -> None:
    db.raw(*command)
    assert db.events() == [event]
    db.check_replay()


@pytest.mark.parametrize(
    "command",
    [
        ("SET", "k", "v", "NX"),
        ("SET", "nothing", "v", "XX"),
        ("SETNX", "k", "v"),
        ("MSETNX", "new", "1", "k", "2"),
        ("GETDEL", "nothing"),
        ("GETEX", "k"),
        ("GETEX", "k", "PERSIST"),
        ("SETRANGE", "k", 0, ""),
        ("INCR", "k"),
        ("SET", "k", "v", "EX", 0),
    ],
)
def test_what_changes_nothing_logs_nothing(db: Local, command: tuple[str | int, ...]) -> None:
    db.raw("SET", "k", "old")
    before = len(db.log)
    db.raw(*command)
    assert len(db.log) == before
    assert db("GET", "k") == b"old"


def test_counting_keeps_the_deadline_and_setting_ends_it(db: Local) -> None:
    db.raw("SET", "k", 1, "PX", 500)
    assert db("INCR", "k") == 2
    assert db.events()[-1] == [b"SET", b"k", b"2", b"KEEPTTL"]
    assert db("PTTL", "k") == 500
    db.raw("SET", "k", 1)
    assert db("PTTL", "k") == -1
    db.check_replay()


def test_a_key_past_its_deadline_is_deleted_by_an_event_before_it_is_counted(db: Local) -> None:
    db.raw("SET", "k", 41, "PX", 1)
    db.engine.store.now_ms += 1
    assert db("INCR", "k") == 1
    assert db.transactions()[-1][1:] == [[b"DEL", b"k"], [b"SET", b"k", b"1"]]
    db.check_replay()


def test_appending_logs_only_what_was_appended_and_costs_as_much(db: Local) -> None:
    piece, count = b"x" * 100, 20_000
    db.raw("SET", "k", b"y" * 5_000_000)
    size = len(b"".join(db.log))
    start = time.perf_counter()
    for _ in range(count):
        db.raw("APPEND", "k", piece)
    seconds = time.perf_counter() - start
    assert db("STRLEN", "k") == 5_000_000 + 100 * count
    assert len(b"".join(db.log)) - size < count * 200
    assert seconds < 8, f"{count} appends took {seconds:.1f} s: copying 5 MB each would take a minute"
    db.check_replay()


def test_a_copy_does_not_see_later_changes_in_place(db: Local) -> None:
    db.raw("APPEND", "k", "a")
    db.raw("APPEND", "k", "b")
    db.raw("COPY", "k", "l")
    db.raw("APPEND", "k", "c")
    assert db("MGET", "k", "l") == [b"abc", b"ab"]
    db.check_replay()


@given(
    st.one_of(
        st.integers(-(2**64), 2**64).map(lambda n: b"%d" % n),
        st.binary(max_size=22),
        st.text("-+0 19_").map(str.encode),
    )
)
@examples(300)
def test_an_integer_is_what_prints_as_itself_in_64_bits(text: bytes) -> None:
    digits = text.removeprefix(b"-")
    canonical = digits.isdigit() and (digits[:1] != b"0" or text == b"0")
    assert is_integer(text) == (canonical and -(2**63) <= int(text) < 2**63)


@pytest.mark.parametrize(
    ("a", "b", "total"),
    [
        (b"0.1", b"0.2", b"0.3"),
        (b"3.0e3", b"200", b"3200"),
        (b"1", b"-1", b"0"),
        (b"-0", b"-0", b"0"),
        (b"9007199254740993", b"0", b"9007199254740993"),
        (b"18446744073709551617", b"0", b"18446744073709551616"),
        (b"1e-17", b"1", b"1.00000000000000001"),
        (b"1e-18", b"0", b"0"),
        (b"-1e-18", b"0", b"0"),
        (b"0x1.8p1", b"0", b"3"),
        (b"1e20", b"0.5", b"100000000000000000000"),
    ],
)
def test_floats_have_the_64_bits_of_a_long_double(a: bytes, b: bytes, total: bytes) -> None:
    assert format_long_double(add(parse_long_double(a), parse_long_double(b))) == total


@pytest.mark.parametrize(
    "text", [b"", b" 1", b"1 ", b"nan", b"1e5000", b"1e-5000", b"1_0", b"0x", b".", b"e5", b"1" * 5120]
)
def test_what_is_no_long_double_is_refused(text: bytes) -> None:
    with pytest.raises(ReplyError, match="not a valid float"):
        parse_long_double(text)


def test_a_huge_exponent_is_refused_at_once() -> None:
    start = time.perf_counter()
    for text in (b"1e99999999999", b"0x1p99999999999", b"1e-99999999999", b"1" * 5000 + b"e99999"):
        with pytest.raises(ReplyError):
            parse_long_double(text)
    assert time.perf_counter() - start < 1


def test_lcs_of_long_strings_takes_no_table(db: Local) -> None:
    a, b = b"abcd" * 1500, b"bdca" * 1500
    db.raw("MSET", "a", a, "b", b)
    found = db("LCS", "a", "b")
    assert isinstance(found, bytes)
    assert len(found) == db("LCS", "a", "b", "LEN")
    for text in (a, b):
        rest = iter(text)
        assert all(c in rest for c in found), "not a subsequence"


@pytest.mark.redis
def test_how_long_a_string_may_get_follows_its_setting(redis_server: Address) -> None:
    mb, text = 1 << 20, "ab" * 300
    with Pair(redis_server) as pair:
        try:
            for size in (mb, 600 * mb):
                pair("CONFIG", "SET", "proto-max-bulk-len", size)
                for end in (size, size + 1):  # the highest that goes, and one byte more; no such string is made
                    pair("SETRANGE", "none", end, "")
                    pair("GETBIT", "none", 8 * end - 1)
                    pair("BITFIELD", "none", "GET", "u8", 8 * end - 8)
                    pair("BITFIELD", "none", "GET", "u8", f"#{end - 1}")
                pair("SETRANGE", "none", size, "x")
                pair("SETBIT", "none", 8 * size, 1)
                pair("MSET", "a", text, "b", text[1:])
                pair("LCS", "a", "b", "LEN")
                pair("DEL", "a", "b")
            pair("CONFIG", "SET", "proto-max-bulk-len", mb)
            pair("SETBIT", "s", 8 * mb - 1, 1)
            for _ in range(2):
                pair("APPEND", "s", "x")
                pair("SETRANGE", "s", mb - 1, "xx")
            pair("SETRANGE", "s", mb - 1, "x")
            pair.local.check_replay()
        finally:
            pair("CONFIG", "SET", "proto-max-bulk-len", 512 * mb)


def test_how_long_an_argument_may_be_holds_for_open_connections_too(db: Local) -> None:
    first, second = RequestParser(db.engine.shared_reader), RequestParser(db.engine.shared_reader)
    request = b"*2\r\n$3\r\nGET\r\n$2000000\r\n"
    assert first.feed(request) == [] and not first.failure
    db.raw("CONFIG", "SET", "proto-max-bulk-len", "1mb")
    assert second.feed(request) == [] and second.failure == "invalid bulk length"
