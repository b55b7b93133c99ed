"""Sets without a server: replies, what is logged, layout and encoding, scans, algebra."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from eventdb.keyspace.types.set import FEW_MAX, SetValue
from tests.kit.harness import Local


def set_of(local: Local, key: bytes = b"s") -> SetValue:
    value = local.engine.store.keyspace.dbs[0].values[key]
    assert isinstance(value, SetValue)
    return value


def encoding(local: Local, key: bytes = b"s") -> bytes:
    return set_of(local, key).encoding(local.engine.store.keyspace.limits)


def members(local: Local, key: str = "s") -> set[bytes]:
    reply = local("SMEMBERS", key)
    assert isinstance(reply, list) and len(set(reply)) == len(reply)
    return set(reply)


def test_only_new_members_are_counted_and_logged() -> None:
    local = Local()
    assert local.raw("SADD", "s", "a", "b", "a") == b":2\r\n"
    assert local.raw("sadd", "s", "c") == b":1\r\n"
    assert local.raw("SADD", "s", "a", "d", "d") == b":1\r\n"
    assert local.raw("SADD", "s", "a", "b") == b":0\r\n"
    assert local.events() == [[b"SADD", b"s", b"a", b"b"], [b"SADD", b"s", b"c"], [b"SADD", b"s", b"d"]]
    assert members(local) == {b"a", b"b", b"c", b"d"}
    local.check_replay()


def test_the_last_member_takes_the_key_with_it() -> None:
    local = Local()
    local("SADD", "s", "a", "b")
    assert local.raw("SREM", "s", "x", "a", "b", "a") == b":2\r\n"
    assert local.events()[-1] == [b"SREM", b"s", b"a", b"b"]
    assert not local.engine.store.keyspace.dbs[0].values
    local.check_replay()


@pytest.mark.parametrize(
    "command",
    [
        ("SADD", "s", "a"),
        ("SADD", "string", "a"),
        ("SREM", "s", "x", "y"),
        ("SREM", "none", "x"),
        ("SPOP", "none"),
        ("SPOP", "s", "0"),
        ("SPOP", "s", "-1"),
        ("SMOVE", "s", "other", "x"),
        ("SMOVE", "s", "s", "a"),
        ("SMOVE", "s", "string", "a"),
        ("SINTERSTORE", "none", "s", "other"),
        ("SUNIONSTORE", "none", "s", "string"),
        ("SMEMBERS", "s"),
    ],
)
def test_nothing_is_logged_when_nothing_changes(command: tuple[str, ...]) -> None:
    local = Local()
    local("SADD", "s", "a", "b")
    local("SET", "string", "x")
    before = local.events()
    local(*command)
    assert local.events() == before


@pytest.mark.parametrize("size", [1, 3, FEW_MAX, FEW_MAX + 1, 400])
def test_a_pop_is_logged_as_the_members_it_took(size: int) -> None:
    local = Local()
    local("SADD", "s", *(f"m{i}" for i in range(size)))
    left = members(local)
    while left:
        member = local("SPOP", "s")
        assert local.events()[-1] == [b"SREM", b"s", member]
        left.remove(member)  # type: ignore[arg-type]
    assert local.raw("EXISTS", "s") and not local.engine.store.keyspace.dbs[0].values
    local.check_replay()


def test_a_pop_of_everything_is_logged_as_a_deletion() -> None:
    local = Local()
    local("SADD", "s", 1, 2, 3)
    picked = local("SPOP", "s", 5)
    assert isinstance(picked, list) and sorted(picked) == [b"1", b"2", b"3"]
    assert local.events()[-1] == [b"DEL", b"s"]
    local.check_replay()


@pytest.mark.parametrize("count", [1, 5, 100, 399])
def test_a_pop_takes_as_many_different_members_as_asked(count: int) -> None:
    local = Local()
    local("SADD", "s", *range(400))
    picked = local("SPOP", "s", count)
    assert isinstance(picked, list) and len(set(picked)) == count
    assert members(local) == {b"%d" % i for i in range(400)} - set(picked)
    local.check_replay()


def test_a_move_is_logged_as_removal_and_addition() -> None:
    local = Local()
    local("SADD", "s", "a", "b")
    local("SADD", "t", "b")
    assert local.raw("SMOVE", "s", "t", "a") == b":1\r\n"
    assert local.events()[-2:] == [[b"SREM", b"s", b"a"], [b"SADD", b"t", b"a"]]
    assert local.raw("SMOVE", "s", "t", "b") == b":1\r\n"  # it was there already
    assert local.events()[-1] == [b"SREM", b"s", b"b"]
    assert members(local, "t") == {b"a", b"b"} and b"s" not in local.engine.store.keyspace.dbs[0].values
    local.check_replay()


@pytest.mark.parametrize("size", [0, 1, 4, FEW_MAX - 1, FEW_MAX, FEW_MAX + 1, 200])
def test_every_layout_adds_finds_and_removes(size: int) -> None:
    seed = size
    rng = random.Random(seed)
    local = Local()
    model: set[bytes] = set()
    for i in range(size):
        local("SADD", "s", f"m{i}")
        model.add(b"m%d" % i)
    for _ in range(200):
        some = [b"m%d" % rng.randrange(2 * size + 4) for _ in range(rng.choice([1, 1, 2, 20]))]
        if rng.random() < 0.5:
            assert local("SADD", "s", *some) == len(set(some) - model), f"seed {seed}"
            model |= set(some)
        else:
            assert local("SREM", "s", *some) == len(set(some) & model), f"seed {seed}"
            model -= set(some)
        assert members(local) == model and local("SCARD", "s") == len(model), f"seed {seed}"
        assert local("SMISMEMBER", "s", *some) == [int(m in model) for m in some], f"seed {seed}"
    local.check_replay()


def test_few_members_are_a_tuple_and_become_one_again() -> None:
    local = Local()
    local("SADD", "s", *range(FEW_MAX))
    assert isinstance(set_of(local).members, tuple)
    local("SADD", "s", "one more")
    assert isinstance(set_of(local).members, set)
    local("SREM", "s", *range(FEW_MAX - 3))
    assert isinstance(set_of(local).members, tuple)
    local.check_replay()


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ([0, -1, 2**63 - 1, -(2**63)], b"intset"),
        ([2**63], b"hashtable"),
        (["01"], b"hashtable"),
        (["-0"], b"hashtable"),
        (["+1"], b"hashtable"),
        ([" 1"], b"hashtable"),
        (["1_0"], b"hashtable"),
        (["-"], b"hashtable"),
        ([""], b"hashtable"),
        ([1, "a"], b"hashtable"),
        (list(range(512)), b"intset"),
        (list(range(513)), b"hashtable"),
    ],
)
def test_integers_are_an_intset_up_to_512_of_them(added: list[int | str], expected: bytes) -> None:
    local = Local()
    local("SADD", "s", *added)
    assert encoding(local) == expected
    one_by_one = Local()
    for member in added:
        one_by_one("SADD", "s", member)
    assert encoding(one_by_one) == expected


def test_a_hashtable_stays_one() -> None:
    local = Local()
    local("SADD", "s", 1, "a")
    local("SREM", "s", "a")
    assert encoding(local) == b"hashtable"
    local("SUNIONSTORE", "t", "s")
    assert encoding(local, b"t") == b"intset"  # a new set
    local.check_replay()


# -- algebra

SETS: dict[str, set[int]] = {
    "small": {1, 2, 3, 40},
    "other": {3, 4, 40, 100},
    "large": set(range(20, 400)),
    "larger": set(range(30, 900)),
    "none": set(),
}
NAMES = list(SETS)


@pytest.fixture
def filled() -> Local:
    local = Local()
    for name, content in SETS.items():
        if content:
            local("SADD", name, *content)
    return local


@pytest.mark.parametrize("name", ["SINTER", "SUNION", "SDIFF"])
def test_algebra_over_every_pair_and_triple_of_layouts(filled: Local, name: str) -> None:
    operators: dict[str, Callable[..., Any]] = {
        "SINTER": set.intersection,
        "SUNION": set.union,
        "SDIFF": set.difference,
    }
    operate = operators[name]
    before = {key: set(members(filled, key)) for key in NAMES}
    for a in NAMES:
        for b in NAMES:
            for c in [None, *NAMES]:
                keys = [key for key in (a, b, c) if key is not None]
                expected = {b"%d" % i for i in operate(*(SETS[key] for key in keys))}
                reply = filled(name, *keys)
                assert isinstance(reply, list) and len(reply) == len(expected) and set(reply) == expected, keys
                if name == "SINTER":
                    assert filled("SINTERCARD", len(keys), *keys) == len(expected)
                    limited = filled("SINTERCARD", len(keys), *keys, "LIMIT", 2)
                    assert limited == min(2, len(expected))
    assert before == {key: members(filled, key) for key in NAMES}  # no operand was changed


def test_a_stored_result_replaces_whatever_was_there(filled: Local) -> None:
    filled("SET", "dest", "text")
    assert filled.raw("SDIFFSTORE", "dest", "small", "other") == b":2\r\n"
    event = filled.events()[-1]
    assert filled.events()[-2] == [b"DEL", b"dest"] and event[:2] == [b"SADD", b"dest"]
    assert sorted(event[2:]) == [b"1", b"2"]
    assert len(filled.transactions()[-1]) == 3  # origin and both events: applied together
    filled.check_replay()


def test_an_empty_result_deletes_the_destination(filled: Local) -> None:
    assert filled.raw("SINTERSTORE", "other", "small", "none") == b":0\r\n"
    assert filled.events()[-1] == [b"DEL", b"other"]
    filled.check_replay()


def test_the_destination_may_be_a_source(filled: Local) -> None:
    expected = len(SETS["large"] | SETS["small"])
    assert filled("SUNIONSTORE", "large", "large", "small") == expected
    assert len(members(filled, "large")) == expected
    assert filled("SDIFFSTORE", "small", "small", "small") == 0
    assert b"small" not in filled.engine.store.keyspace.dbs[0].values
    filled.check_replay()


def test_a_stored_result_has_no_deadline(filled: Local) -> None:
    filled.client.emit([b"PEXPIREAT", b"large", b"%d" % (filled.engine.store.now_ms + 1000)])
    filled("SUNIONSTORE", "large", "small")
    assert not filled.engine.store.keyspace.dbs[0].expires
    filled.check_replay()


def test_an_expired_set_counts_as_missing_and_is_deleted_by_a_write(filled: Local) -> None:
    filled.client.emit([b"PEXPIREAT", b"large", b"%d" % (filled.engine.store.now_ms + 5)])
    filled.engine.store.now_ms += 5
    assert filled.raw("SINTER", "large", "small") == b"*0\r\n"
    assert filled.raw("SINTERSTORE", "large", "large", "small") == b":0\r\n"
    assert filled.events()[-1] == [b"DEL", b"large"]
    filled.check_replay()


def test_a_wrong_type_anywhere_among_the_sources_is_an_error(filled: Local) -> None:
    filled("SET", "text", "x")
    for name in ("SINTER", "SUNION", "SDIFF"):
        for keys in (("none", "text"), ("text", "none"), ("small", "none", "text")):
            assert filled.raw(name, *keys).startswith(b"-WRONGTYPE")
            assert filled.raw(f"{name}STORE", "dest", *keys).startswith(b"-WRONGTYPE")


# -- scans and random picks


def test_an_intset_and_a_short_set_are_scanned_whole() -> None:
    local = Local()
    local("SADD", "s", *range(500))
    local("SADD", "words", *(f"w{i}" for i in range(100)))
    for key, size in (("s", 500), ("words", 100)):
        reply = local("SSCAN", key, 17, "COUNT", 3)
        assert isinstance(reply, list) and reply[0] == b"0" and len(set(reply[1])) == size


def test_a_scan_returns_every_member_that_stays_while_others_come_and_go() -> None:
    seed = 11
    rng = random.Random(seed)
    local = Local()
    stay = {b"stay-%d" % i for i in range(300)}
    local("SADD", "s", *stay, *(f"go-{i}" for i in range(600)))
    found: set[bytes] = set()
    cursor = b"0"
    while True:
        reply = local("SSCAN", "s", cursor, "COUNT", 9)
        assert isinstance(reply, list)
        cursor = reply[0]
        found |= set(reply[1])
        local("SREM", "s", *(f"go-{rng.randrange(600)}" for _ in range(25)))
        local("SADD", "s", f"new-{rng.random()}", f"go-{rng.randrange(600)}")
        if cursor == b"0":
            break
    assert stay <= found, f"seed {seed}: missed {sorted(stay - found)[:5]}"
    local.check_replay()


@pytest.mark.parametrize("size", [5, 300])
def test_random_members_are_different_or_repeated_as_the_sign_says(size: int) -> None:
    local = Local()
    local("SADD", "s", *range(size))
    for count in (1, 2, size // 2, size - 1, size, size + 5):
        picked = local("SRANDMEMBER", "s", count)
        assert isinstance(picked, list) and len(set(picked)) == len(picked) == min(count, size)
    assert len(local("SRANDMEMBER", "s", -3 * size)) == 3 * size  # type: ignore[arg-type]
    assert len({local("SRANDMEMBER", "s") for _ in range(20 * size)}) > size * 0.9
    assert local.raw("SRANDMEMBER", "s", -(2**62)) == b"-ERR value is out of range\r\n"


def test_resp3_has_sets_where_redis_7_0_has_them() -> None:
    local = Local()
    local.client.resp3 = True
    local("SADD", "s", "a")
    for command in (("SMEMBERS", "s"), ("SINTER", "s"), ("SUNION", "s"), ("SDIFF", "s")):
        assert local.raw(*command) == b"~1\r\n$1\r\na\r\n"
    assert local.raw("SMEMBERS", "none") == b"~0\r\n"
    assert local.raw("SRANDMEMBER", "s", 1) == b"*1\r\n$1\r\na\r\n"
    assert local.raw("SPOP", "s", 1) == b"~1\r\n$1\r\na\r\n"
    assert local.raw("SPOP", "s") == b"_\r\n"


def test_a_set_that_shrank_gives_its_table_back() -> None:
    local = Local()
    local("SADD", "s", *range(20_000))
    large = set_of(local).members.__sizeof__()
    local("SREM", "s", *range(100, 20_000))
    assert set_of(local).members.__sizeof__() < large / 20
    assert members(local) == {b"%d" % i for i in range(100)}
    local.check_replay()


def test_the_digest_depends_on_content_and_not_on_order_or_layout() -> None:
    one, two, three = SetValue(), SetValue(), SetValue()
    one.members = (b"a", b"b")
    two.members = {b"b", b"a"}
    three.members = (b"ab",)
    assert one.digest() == two.digest() != three.digest()
