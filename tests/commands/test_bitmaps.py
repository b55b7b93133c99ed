"""Bits of strings answer as a real Redis does, to the byte; what is newer than Redis 7.0 is held to a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventdb.keyspace.types.bitmap import Field, combine, count_bits, find_bit
from tests.commands.test_differential_strings import cmd, integers
from tests.kit.differential import Address, Expire, Step, compare, examples, sequences
from tests.kit.harness import Local

key = st.sampled_from(["a", "b", "c", "list"])
strings = st.one_of(
    st.sampled_from(
        ["", "5", "\0\0\0", b"\xff\xff\xff", b"\0\xff\xf0\0", "hello, world of bits", b"\xff" * 40 + b"\x01"]
    ),
    st.binary(max_size=40),
)
small = st.integers(-90, 90)
offsets = st.one_of(st.integers(0, 200), st.integers(0, 70_000), integers.filter(lambda n: n != 100), st.just(2**32))
ends = st.lists(st.one_of(small, integers), max_size=2)
unit = st.lists(st.sampled_from(["BIT", "bit", "BYTE", "byte", "x"]), max_size=1)
ranges = st.one_of(
    st.tuples(small, small, st.sampled_from(["BIT", "bit", "BYTE"])), st.tuples(small, small), st.tuples(ends, unit)
)
widths = st.one_of(
    st.builds(lambda sign, bits: f"{sign}{bits}", st.sampled_from("iu"), st.integers(1, 63)),
    st.sampled_from(["i64", "u64", "i0", "i65", "u0", "i", "", "8", "U8", "i08", "i 8", "x4"]),
)
places = st.one_of(
    st.integers(0, 100), st.integers(0, 9).map(lambda n: f"#{n}"), st.sampled_from(["#", "#x", "#-1", -1])
)
numbers = st.one_of(st.integers(-300, 300), integers, st.integers(-(2**63), 2**63 - 1))
part = st.one_of(
    cmd("GET", widths, places),
    cmd(st.sampled_from(["SET", "INCRBY", "incrby"]), widths, places, numbers),
    cmd("OVERFLOW", st.sampled_from(["WRAP", "SAT", "FAIL", "sat", "x"])),
    st.sampled_from([("GET",), ("SET", "u8"), ("OVERFLOW",), ("x",)]),
)
command: st.SearchStrategy[Step] = st.one_of(
    cmd("SET", key.filter(lambda k: k != "list"), strings),
    cmd("SETBIT", key, offsets.filter(lambda n: n != 2**32 - 1), st.sampled_from([0, 1, 1, 1, 2, -1, "x", "01"])),
    cmd("SETBIT", key, st.integers(0, 100), st.sampled_from([0, 1])),
    cmd("GETBIT", key, offsets),
    cmd("BITCOUNT", key),
    cmd("BITCOUNT", key, ranges),
    cmd("BITPOS", key, st.sampled_from([0, 1, 0, 1, 2, "x"]), st.one_of(ranges, ends)),
    cmd("BITOP", st.sampled_from(["AND", "OR", "XOR", "NOT", "xor", "x"]), key, st.lists(key, min_size=1, max_size=4)),
    cmd(st.sampled_from(["BITFIELD", "BITFIELD", "BITFIELD_RO"]), key, st.lists(part, max_size=5)),
    cmd("BITFIELD", key, "OVERFLOW", st.sampled_from(["WRAP", "SAT", "FAIL"]), "INCRBY", widths, places, numbers),
    cmd("BITFIELD_RO", key, "GET", widths, places),
    cmd("EXPIRE", key, 1000),
    cmd("GET", key),
    cmd(st.sampled_from(["SETBIT", "GETBIT", "BITCOUNT", "BITPOS", "BITOP", "BITFIELD", "BITFIELD_RO"])),
)


def same_but_packed(theirs: bytes, ours: bytes) -> bool:
    """Redis keeps unpacked what a bit operation made or only looked at; here that depends on the value alone."""
    return theirs == ours or theirs == b"$3\r\nraw\r\n"


@pytest.mark.redis
@examples(120)
@given(sequences(command), st.booleans())
def test_bits_answer_as_redis_does(redis_server: Address, steps: list[Step], resp3: bool) -> None:
    compare(redis_server, [("RPUSH", "list", "x"), *steps], resp3, {b"OBJECT": same_but_packed})


@pytest.mark.redis
@examples(20)
@given(sequences(st.one_of(command, key.map(Expire)), 12))
def test_bits_of_expired_keys_are_gone(redis_server: Address, steps: list[Step]) -> None:
    first: list[Step] = [("MSET", "a", b"\xff\0", "b", b"\x0f", "c", "5"), Expire("a"), Expire("b")]
    compare(redis_server, [*first, *steps], rules={b"OBJECT": same_but_packed})


def bits(value: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in value)


@given(st.binary(min_size=1, max_size=9), st.data())
def test_counting_and_finding_look_at_the_bits_of_the_range_only(value: bytes, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(value) * 8 - 1))
    last = data.draw(st.integers(first, len(value) * 8 - 1))
    part = bits(value)[first : last + 1]
    assert count_bits(value, first, last) == part.count("1")
    for bit in (0, 1):
        at = part.find(str(bit))
        assert find_bit(value, bit, first, last) == (at if at < 0 else first + at)


@given(st.lists(st.binary(max_size=5), min_size=2, max_size=4))
def test_the_operations_of_redis_8(values: list[bytes]) -> None:
    size = max(map(len, values))
    columns = list(zip(*(bits(value.ljust(size, b"\0")) for value in values), strict=True))
    model = {
        b"DIFF": lambda first, others: first and not others,
        b"DIFF1": lambda first, others: not first and others > 0,
        b"ANDOR": lambda first, others: first and others > 0,
        b"ONE": lambda first, others: first + others == 1,
    }
    for operation, rule in model.items():
        wanted = "".join("1" if rule(int(c[0]), c[1:].count("1")) else "0" for c in columns)
        assert bits(combine(operation, list(values))) == wanted, operation


def test_the_operations_of_redis_8_check_their_arguments() -> None:
    db = Local()
    for operation in ("DIFF", "DIFF1", "andor"):
        error = b"-ERR BITOP %b must be called with at least two source keys.\r\n" % operation.upper().encode()
        assert db.raw("BITOP", operation, "new", "a") == error
    db.raw("SET", "a", b"\xf0")
    db.raw("SET", "b", b"\x3c\x01", "EX", 10)
    assert db("BITOP", "one", "b", "a", "b") == 2
    assert db.events()[-1] == [b"SET", b"b", b"\xcc\x01"] and db("TTL", "b") == -1
    assert db("BITOP", "DIFF", "b", "gone", "b") == 2 and db("GET", "b") == b"\0\0"
    db.check_replay()


@pytest.mark.parametrize(
    ("command", "events"),
    [
        (("SETBIT", "k", 9, 1), [[b"SETRANGE", b"k", b"1", b"\xcc"]]),
        (("SETBIT", "k", 8, 1), []),
        (("SETBIT", "k", 100, 0), [[b"SETRANGE", b"k", b"12", b"\0"]]),
        (("SETBIT", "new", 0, 1), [[b"SETRANGE", b"new", b"0", b"\x80"]]),
        (("BITFIELD", "k", "GET", "u8", 0), []),
        (("BITFIELD", "k", "SET", "u8", 8, 0x8C), []),
        (("BITFIELD", "k", "INCRBY", "u4", 4, 1), [[b"SETRANGE", b"k", b"0", b"\x01"]]),
        (("BITFIELD", "k", "OVERFLOW", "FAIL", "SET", "u2", 30, 9), [[b"SETRANGE", b"k", b"3", b"\0"]]),
        (("BITOP", "AND", "gone", "none"), []),
        (("BITOP", "AND", "k", "none"), [[b"DEL", b"k"]]),
        (("BITOP", "NOT", "new", "k"), [[b"SET", b"new", b"\xff\x73"]]),
    ],
)  # fmt: skip
def test_the_log_gets_the_bytes_that_changed(command: tuple[str | int, ...], events: list[list[bytes]]) -> None:
    db = Local()
    db.raw("SET", "k", b"\0\x8c", "EX", 100)
    before = len(db.events())
    db.raw(*command)
    assert db.events()[before:] == events
    assert db("EXISTS", "k") == 0 or db("TTL", "k") == 100
    db.check_replay()


@given(st.booleans(), st.integers(1, 63), st.integers(0, 70), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=20))
def test_a_field_returns_what_was_put_and_changes_nothing_else(
    signed: bool, width: int, at: int, number: int, value: bytes
) -> None:
    field = Field(signed, width, at)
    number = field.wrapped(number)
    whole = bytearray(value.ljust(field.stop(), b"\0"))
    before = bits(bytes(whole))
    whole[field.start() : field.stop()] = field.patch(value, number)
    after = bits(bytes(whole))
    assert field.read(whole) == number
    assert before[:at] == after[:at] and before[at + width :] == after[at + width :]
