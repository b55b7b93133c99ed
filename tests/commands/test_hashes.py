"""Hashes without a server: replies, what is logged, what Redis would call the encoding, and scans."""

from __future__ import annotations

import random

import pytest

from eventdb.keyspace.types import hash as hash_module
from eventdb.keyspace.types.hash import HashValue
from tests.kit.harness import Local

LONG = "x" * 65  # one more than hash-max-listpack-value


def fields_of(local: Local, key: bytes = b"h") -> HashValue:
    value = local.engine.store.keyspace.dbs[0].values[key]
    assert isinstance(value, HashValue)
    return value


def encoding(local: Local, key: bytes = b"h") -> bytes:
    return fields_of(local, key).encoding(local.engine.store.keyspace.limits)


def scan_all(local: Local, *options: str | int) -> list[bytes]:
    """Every field that a whole scan returns, repeats included."""
    found: list[bytes] = []
    cursor = b"0"
    while True:
        reply = local("HSCAN", "h", cursor, *options)
        assert isinstance(reply, list)
        cursor = reply[0]
        found += reply[1][::2]
        if cursor == b"0":
            return found


def test_hset_counts_only_new_fields_and_the_last_of_equal_fields_wins() -> None:
    local = Local()
    assert local.raw("HSET", "h", "a", 1, "b", 2, "a", 3) == b":2\r\n"
    assert local.raw("hset", "h", "a", 4, "c", 5) == b":1\r\n"
    assert local("HMGET", "h", "a", "b", "c", "d") == [b"4", b"2", b"5", None]
    local.check_replay()


def test_hset_logs_its_name_in_capitals_however_the_client_spells_it() -> None:
    local = Local()
    local("hSet", "h", "a", 1)
    assert local.events() == [[b"HSET", b"h", b"a", b"1"]]


@pytest.mark.parametrize("name", ["HSET", "hmset"])
def test_a_field_without_value_is_an_arity_error_whatever_the_key_holds(name: str) -> None:
    local = Local()
    local("SET", "s", "x")
    error = b"-ERR wrong number of arguments for '%b' command\r\n" % name.lower().encode()
    assert local.raw(name, "s", "a", 1, "b") == error


@pytest.mark.parametrize(
    ("command", "event"),
    [
        (("HSETNX", "h", "n", "v"), [b"HSET", b"h", b"n", b"v"]),
        (("HMSET", "h", "n", "v"), [b"HSET", b"h", b"n", b"v"]),
        (("HINCRBY", "h", "n", -3), [b"HSET", b"h", b"n", b"-3"]),
        (("HINCRBY", "h", "f", 10), [b"HSET", b"h", b"f", b"11"]),
        (("HINCRBYFLOAT", "h", "f", "0.10"), [b"HSET", b"h", b"f", b"1.1"]),
        (("HDEL", "h", "x", "f", "f"), [b"HDEL", b"h", b"f"]),
    ],
)
def test_what_happened_is_logged_and_not_what_was_asked(command: tuple[str, ...], event: list[bytes]) -> None:
    local = Local()
    local("HSET", "h", "f", 1, "other", 1)
    local(*command)
    assert local.events()[1:] == [event]
    local.check_replay()


@pytest.mark.parametrize(
    "command",
    [
        ("HSETNX", "h", "f", "v"),
        ("HDEL", "h", "x", "y"),
        ("HDEL", "none", "x"),
        ("HINCRBY", "h", "f", "x"),
        ("HINCRBY", "h", "text", "1"),
        ("HINCRBYFLOAT", "h", "text", "1"),
        ("HINCRBYFLOAT", "h", "new", "inf"),
        ("HSET", "s", "f", "v"),
        ("HGETALL", "h"),
    ],
)
def test_nothing_is_logged_when_nothing_changes(command: tuple[str, ...]) -> None:
    local = Local()
    local("HSET", "h", "f", 1, "text", "abc")
    local("SET", "s", "x")
    before = local.events()
    local(*command)
    assert local.events() == before


def test_the_last_field_takes_the_key_with_it() -> None:
    local = Local()
    local("HSET", "h", "a", 1, "b", 2)
    assert local.raw("HDEL", "h", "a", "b", "a") == b":2\r\n"
    assert not local.engine.store.keyspace.dbs[0].values
    local.check_replay()


def test_increments_end_at_64_bits() -> None:
    local = Local()
    local("HSET", "h", "top", 2**63 - 1, "padded", "01")
    assert local.raw("HINCRBY", "h", "top", 1) == b"-ERR increment or decrement would overflow\r\n"
    assert local.raw("HINCRBY", "h", "top", -(2**63)) == b":-1\r\n"
    assert local.raw("HINCRBY", "h", "padded", 1) == b"-ERR hash value is not an integer\r\n"


def test_float_increments_are_those_of_a_long_double() -> None:
    local = Local()
    assert local.raw("HINCRBYFLOAT", "h", "f", "0.1") == b"$3\r\n0.1\r\n"
    assert local.raw("HINCRBYFLOAT", "h", "f", "0.2") == b"$3\r\n0.3\r\n"
    assert local.raw("HINCRBYFLOAT", "h", "f", "-0.3") == b"$1\r\n0\r\n"
    local("HSET", "h", "i", "inf")
    assert local.raw("HINCRBYFLOAT", "h", "i", "1") == b"-ERR increment would produce NaN or Infinity\r\n"


@pytest.mark.parametrize(
    "growth",
    [
        [("HSET", "h", "f", LONG)],
        [("HSET", "h", LONG, "v")],
        [("HSETNX", "h", LONG, "v")],
        [("HSET", "h", *(word for i in range(513) for word in (i, "v")))],
        [("HSET", "h", i, "v") for i in range(513)],
    ],
)
def test_a_hash_that_outgrew_a_listpack_stays_a_hashtable(growth: list[tuple[str | int, ...]]) -> None:
    local = Local()
    for command in growth:
        local(*command)
    assert encoding(local) == b"hashtable"
    local("HSET", "h", "small", "v")
    for field in list(fields_of(local).fields):
        if field != b"small":
            local("HDEL", "h", field)
    assert encoding(local) == b"hashtable" and fields_of(local).copy().encoding(local.engine.store.keyspace.limits)
    local.check_replay()


def test_a_hash_at_the_limits_is_a_listpack() -> None:
    local = Local()
    local("HSET", "h", *(word for i in range(512) for word in (f"{i:064}", LONG[1:])))
    assert encoding(local) == b"listpack"


def test_small_hashes_share_the_objects_of_their_field_names() -> None:
    local = Local()
    for i in range(3):
        local("HSET", f"user:{i}", bytes(bytearray(b"email")), i)
    names = {id(field) for i in range(3) for field in fields_of(local, b"user:%d" % i).fields}
    assert len(names) == 1


def test_shared_names_never_take_more_than_their_bound() -> None:
    local = Local()
    for i in range(hash_module.NAMES_MAX + 500):
        local("HSET", i, f"field-{i}", 1)
        assert len(hash_module._names) <= hash_module.NAMES_MAX


def test_a_listpack_is_scanned_whole_whatever_cursor_and_count_say() -> None:
    local = Local()
    local("HSET", "h", *(word for i in range(50) for word in (i, "v")))
    for cursor in ("0", "7", "18446744073709551615", "-1"):
        reply = local("HSCAN", "h", cursor, "COUNT", 1)
        assert isinstance(reply, list) and reply[0] == b"0" and len(reply[1]) == 100


def test_a_scan_returns_every_field_that_stays_while_others_come_and_go() -> None:
    seed = 7
    rng = random.Random(seed)
    local = Local()
    stay = {b"stay-%d" % i for i in range(300)}
    local("HSET", "h", *(word for field in stay for word in (field, "v")))
    local("HSET", "h", *(word for i in range(600) for word in (f"go-{i}", "v")))
    found: set[bytes] = set()
    cursor = b"0"
    while True:
        reply = local("HSCAN", "h", cursor, "COUNT", 7)
        assert isinstance(reply, list)
        cursor = reply[0]
        found |= set(reply[1][::2])
        for _ in range(20):
            local("HDEL", "h", f"go-{rng.randrange(600)}")
        local("HSET", "h", f"new-{rng.random()}", "v")
        if cursor == b"0":
            break
    assert stay <= found, f"seed {seed}: missed {sorted(stay - found)[:5]}"
    local.check_replay()


def test_match_filters_by_field_and_count_bounds_a_step() -> None:
    local = Local()
    local("HSET", "h", *(word for i in range(600) for word in (f"f{i}", f"f{i}")))
    assert sorted(scan_all(local, "MATCH", "f1?", "COUNT", 50)) == sorted(b"f1%d" % i for i in range(10))
    reply = local("HSCAN", "h", 0)
    assert isinstance(reply, list) and 20 <= len(reply[1]) < 100


@pytest.mark.parametrize("size", [5, 300])
def test_random_fields_are_different_or_repeated_as_the_sign_says(size: int) -> None:
    local = Local()
    local("HSET", "h", *(word for i in range(size) for word in (i, f"v{i}")))
    for count in (1, 2, size // 2, size - 1, size, size + 5):
        picked = local("HRANDFIELD", "h", count)
        assert isinstance(picked, list) and len(set(picked)) == len(picked) == min(count, size)
    assert len(local("HRANDFIELD", "h", -3 * size)) == 3 * size  # type: ignore[arg-type]
    pairs = local("HRANDFIELD", "h", -40, "WITHVALUES")
    assert isinstance(pairs, list) and all(b"v" + f == v for f, v in zip(pairs[::2], pairs[1::2], strict=True))
    seen = {local("HRANDFIELD", "h") for _ in range(20 * size)}
    assert len(seen) > size * 0.9
    assert len(local.events()) == 1


def test_a_negative_count_that_no_memory_can_hold_is_refused() -> None:
    local = Local()
    local("HSET", "h", "a", 1)
    assert local.raw("HRANDFIELD", "h", -(2**62)) == b"-ERR value is out of range\r\n"
    assert local.raw("HRANDFIELD", "h", -(2**63)).startswith(b"-ERR value is out of range, value must between")
    assert local.raw("HRANDFIELD", "none", -(2**62)) == b"*0\r\n"


def test_resp3_has_maps_and_pairs() -> None:
    local = Local()
    local.client.resp3 = True
    local("HSET", "h", "a", 1)
    assert local.raw("HGETALL", "h") == b"%1\r\n$1\r\na\r\n$1\r\n1\r\n"
    assert local.raw("HGETALL", "none") == b"%0\r\n"
    assert local.raw("HRANDFIELD", "h", 1, "WITHVALUES") == b"*1\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n"
    assert local.raw("HGET", "h", "x") == b"_\r\n"
    assert local.raw("HMGET", "none", "x", "y") == b"*2\r\n_\r\n_\r\n"


def test_long_fields_and_values_are_encoded_in_full() -> None:
    local = Local()
    long = b"y" * 5000
    local("HSET", "h", long, long + b"z")
    assert local("HGETALL", "h") == [long, long + b"z"]
    assert local("HVALS", "h") == [long + b"z"]


def test_an_expired_hash_is_deleted_by_the_write_that_finds_it() -> None:
    local = Local()
    local("HSET", "h", "old", 1)
    local.client.emit([b"PEXPIREAT", b"h", b"%d" % (local.engine.store.now_ms + 5)])
    local.engine.store.now_ms += 5
    assert local.raw("HLEN", "h") == b":0\r\n"
    assert local.raw("HSET", "h", "new", 1) == b":1\r\n"
    assert local.events()[-2:] == [[b"DEL", b"h"], [b"HSET", b"h", b"new", b"1"]]
    assert local("HGETALL", "h") == [b"new", b"1"]
    local.check_replay()


def test_a_hash_that_shrank_gives_its_table_back() -> None:
    local = Local()
    local("HSET", "h", *(word for i in range(20_000) for word in (i, "v")))
    large = fields_of(local).fields.__sizeof__()
    local("HDEL", "h", *range(10, 20_000))
    assert fields_of(local).fields.__sizeof__() < large / 100
    assert sorted(scan_all(local)) == [b"%d" % i for i in range(10)]
    local.check_replay()


def test_the_digest_depends_on_content_and_not_on_its_order() -> None:
    one, two, three = HashValue(), HashValue(), HashValue()
    one.fields = {b"a": b"1", b"b": b"2"}
    two.fields = {b"b": b"2", b"a": b"1"}
    three.fields = {b"a": b"2", b"b": b"1"}
    assert one.digest() == two.digest() != three.digest()
    three.fields = {b"a1": b"", b"b": b"2"}
    assert one.digest() != three.digest()
