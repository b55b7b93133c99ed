"""HyperLogLogs count as Redis's do and have their bytes, but for the count that Redis keeps inside: no read writes."""

from __future__ import annotations

import random
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventdb.keyspace.types.hyperloglog import EMPTY, dense, dense_patch, dense_rank, registers_of
from tests.commands.test_differential_strings import cmd
from tests.kit.differential import Address, Expire, Rule, Step, Wire, compare, examples, sequences
from tests.kit.harness import Local

key = st.sampled_from(["a", "b", "c", "d"])
few = st.lists(st.integers(0, 40), max_size=4)
many = st.builds(lambda start, count: list(range(start, start + count)), st.integers(0, 5000), st.integers(1, 1200))
broken = st.sampled_from(
    [
        b"", b"x", b"5", b"HYLL", b"HYLL\x01\0\0\0" + bytes(8), b"HYLL\x02\0\0\0" + bytes(8) + b"\x7f\xff",
        b"HYLL\0\0\0\0" + bytes(100), b"HYLL\x01\0\0\0" + bytes(7) + b"\x80" + b"\x7f\xfe", EMPTY,
        b"HYLL\x01abc" + b"\x05" + bytes(7) + b"\x7f\xff", EMPTY + b"\0", b"hYLL\0\0\0\0" + bytes(12296),
        b"HYLL\0xyz" + bytes(7) + b"\x80" + b"\x41" * 12288, b"HYLL\0\0\0\0" + b"\x07" + bytes(12295),
    ]
)  # fmt: skip
command: st.SearchStrategy[Step] = st.one_of(
    cmd("PFADD", key, few),
    cmd("PFADD", key, few),
    cmd("PFADD", key, many),
    cmd("PFCOUNT", key),
    cmd("PFCOUNT", st.lists(key, min_size=1, max_size=3)),
    cmd("PFMERGE", st.lists(key, min_size=1, max_size=3)),
    cmd("PFDEBUG", st.sampled_from(["ENCODING", "DECODE", "decode", "x"]), key),
    cmd("PFDEBUG", st.sampled_from(["ENCODING", "DECODE", "TODENSE", "GETREG"]), key),
    cmd("GET", key),
    cmd("EXPIRE", key, 1000),
    cmd("DEL", key),
    cmd(st.sampled_from(["PFADD", "PFCOUNT", "PFMERGE", "PFDEBUG", "PFSELFTEST x"])),
)


def same_but_count(theirs: bytes, ours: bytes) -> bool:
    """Equal, but for the eight bytes in which Redis keeps a count: here they stay marked as outdated."""
    at, same_from = theirs.find(b"\nHYLL") + 9, theirs.find(b"\nHYLL") + 17
    if at < 9 or theirs == ours:
        return theirs == ours
    return (
        len(theirs) == len(ours)
        and theirs[:at] + theirs[same_from:] == ours[:at] + ours[same_from:]
        and (ours[same_from - 1] & 0x80 != 0)
    )


def same_but_packed(theirs: bytes, ours: bytes) -> bool:
    return theirs == ours or theirs == b"$3\r\nraw\r\n"


RULES: dict[bytes, Rule] = {b"GET": same_but_count, b"OBJECT": same_but_packed}


@pytest.mark.redis
@examples(40)
@given(sequences(command, 25), st.booleans())
def test_they_answer_as_redis_does(redis_server: Address, steps: list[Step], resp3: bool) -> None:
    compare(redis_server, steps, resp3, RULES)


@pytest.mark.redis
@examples(40)
@given(
    st.lists(st.tuples(key, broken), max_size=3), st.lists(st.tuples(key, st.integers(0, 9)), max_size=4), st.booleans()
)
def test_what_is_none_and_what_is_broken_is_named(
    redis_server: Address, values: list[tuple[str, bytes]], added: list[tuple[str, int]], resp3: bool
) -> None:
    steps: list[Step] = [("RPUSH", "list", "x"), *(("SET", name, value) for name, value in values)]
    for name, n in added:
        steps += [("PFADD", name, n), ("PFCOUNT", name), ("PFCOUNT", name, "b"), ("PFMERGE", "c", name)]
        steps += [("PFDEBUG", word, name) for word in ("ENCODING", "DECODE", "TODENSE")]
    steps += [("PFADD", "list", 1), ("PFCOUNT", "list"), ("PFCOUNT", "a", "list"), ("PFMERGE", "list", "a")]
    compare(redis_server, [*steps, ("PFDEBUG", "ENCODING", "list"), Expire("a"), ("PFADD", "a")], resp3, RULES)


@pytest.mark.redis
@pytest.mark.parametrize("limit", [3000, 200])
def test_every_step_of_growth_has_redis_s_bytes(redis_server: Address, limit: int) -> None:
    """One element after the other, into the dense encoding: where runs are split and joined, and when that ends."""
    rng = random.Random(limit)
    local = Local()
    local.raw("CONFIG", "SET", "hll-sparse-max-bytes", limit)
    with closing(Wire(redis_server)) as wire:
        wire.call("FLUSHALL")
        wire.call("CONFIG", "SET", "hll-sparse-max-bytes", limit)
        try:
            for n in range(3000 if limit == 3000 else 600):
                element = rng.randbytes(rng.randrange(1, 20))
                for call in (("PFADD", "k", element), *([("GET", "k")] if n % 7 == 0 else [])):
                    assert local.raw(*call) == wire.call(*call), f"element {n}"
                if n % 100 == 0:
                    assert local.raw("PFCOUNT", "k") == wire.call("PFCOUNT", "k")
                    wire.call("DEL", "k")
                    wire.call("SET", "k", local("GET", "k"))  # type: ignore[arg-type]  # without its kept count
            assert wire.call("PFDEBUG", "ENCODING", "k") == b"+dense\r\n"
        finally:
            wire.call("CONFIG", "SET", "hll-sparse-max-bytes", 3000)
    local.check_replay()


def test_the_log_gets_the_bytes_that_changed() -> None:
    db = Local()
    assert db("PFADD", "k", "a", "b") == 1
    assert db("PFADD", "k", "a") == 0 and len(db.events()) == 1
    db.raw("EXPIRE", "k", 100)
    before = len(b"".join(db.log))
    assert db("PFADD", "k", "c") == 1
    assert len(b"".join(db.log)) - before < 100
    db.raw("PFDEBUG", "TODENSE", "k")
    before, count = len(b"".join(db.log)), len(db.events())
    assert db("PFADD", "k", "d", "a") == 1
    (event,) = db.events()[count:]
    assert event[0] == b"SETRANGE" and len(event[3]) <= 2
    db.raw("PFMERGE", "new", "k", "gone")
    count = len(db.events())
    assert db("PFCOUNT", "k") == db("PFCOUNT", "k", "new") == 4
    assert db("PFMERGE", "new", "k") == b"OK" and len(db.events()) == count
    assert db("TTL", "k") == 100
    db.check_replay()


def test_a_count_that_redis_has_kept_is_used_until_something_is_added() -> None:
    db = Local()
    kept = bytearray(EMPTY)
    kept[8:16] = (77).to_bytes(8, "little")
    db.raw("SET", "k", bytes(kept))
    assert db("PFCOUNT", "k") == 77
    db.raw("PFADD", "k", "a")
    assert db("PFCOUNT", "k") == 1
    db.raw("SET", "d", bytes(dense(kept, registers_of(kept))))
    assert db("PFCOUNT", "d") == 77
    db.raw("PFADD", "d", "a")
    assert db("PFCOUNT", "d") == 1
    db.check_replay()


def test_it_tests_itself() -> None:
    assert Local()("PFSELFTEST") == b"OK"


def test_the_estimate_stays_near_the_truth() -> None:
    db = Local()
    for n in range(100_000):
        if n % 5000 == 0:
            found = db("PFCOUNT", "k")
            assert isinstance(found, int) and abs(found - n) <= 0.04 * n
            db.raw("PFADD", "k", *range(n, n + 5000))


@given(st.integers(0, 16383), st.integers(0, 63), st.integers(0, 1000))
def test_a_register_is_read_as_it_was_written(index: int, rank: int, seed: int) -> None:
    registers = bytearray(random.Random(seed).randbytes(16384).translate(bytes(n & 63 for n in range(256))))
    value = dense(EMPTY, registers)
    assert registers_of(value) == registers and dense_rank(value, index) == registers[index]
    at, part = dense_patch(value, index, rank)
    value[at : at + len(part)] = part
    registers[index] = rank
    assert len(value) == 12304 and registers_of(value) == registers
