"""SCAN returns every key that was there from its start to its end, whatever happens in between."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventdb.keyspace.value import Order
from tests.kit.differential import examples
from tests.kit.harness import Local

names = st.integers(0, 60).map(lambda n: b"%d" % n)
changes = st.lists(st.tuples(st.sampled_from(["add", "remove", "remove many", "compact"]), names), max_size=12)


class Table:
    """A dict with its Order, kept as values keep them."""

    def __init__(self) -> None:
        self.alive: dict[bytes, object] = {}
        self.order = Order([])

    def add(self, key: bytes) -> None:
        if key not in self.alive:
            self.alive[key] = None
            self.order.added(key)

    def remove(self, key: bytes) -> None:
        if self.alive.pop(key, 0) is None:
            self.order.removed(self.alive)

    def change(self, what: str, key: bytes) -> None:
        if what == "add":
            self.add(key)
        elif what == "remove":
            self.remove(key)
        elif what == "compact":
            self.order.compact(self.alive)
        else:
            for other in list(self.alive):
                if other > key:
                    self.remove(other)


@examples(150)
@given(st.lists(names, max_size=80), changes, st.lists(changes, max_size=20), st.integers(1, 10))
def test_a_scan_misses_no_key_that_was_there_all_the_time(
    start: list[bytes],
    before: list[tuple[str, bytes]],
    during: list[list[tuple[str, bytes]]],
    count: int,
) -> None:
    table = Table()
    for key in start:
        table.add(key)
    for what, key in before:
        table.change(what, key)
    always, ever = set(table.alive), set(table.alive)
    seen: list[bytes] = []
    cursor, steps = 0, 0
    while True:
        cursor, keys = table.order.scan(cursor, count, table.alive)
        seen += keys
        if cursor == 0:
            break
        for what, key in during[steps] if steps < len(during) else []:
            table.change(what, key)
            always &= table.alive.keys()
            ever |= table.alive.keys()
        steps += 1
        assert steps < 1000, "a scan ends"
    assert always <= set(seen) <= ever


@examples(100)
@given(st.lists(st.tuples(st.booleans(), names), max_size=200))
def test_the_list_behind_a_scan_stays_within_twice_the_keys(operations: list[tuple[bool, bytes]]) -> None:
    table = Table()
    for added, key in operations:
        table.add(key) if added else table.remove(key)
        assert len(table.order.keys) <= 2 * len(table.alive) + 65
        assert table.alive.keys() <= set(table.order.keys)


@pytest.mark.parametrize("cursor", [1, 7, 99, 10**9, 2**64 - 1])
def test_any_number_is_a_cursor(cursor: int) -> None:
    table = Table()
    for i in range(20):
        table.add(b"%d" % i)
    while cursor:
        following, _ = table.order.scan(cursor, 3, table.alive)
        assert following < cursor
        cursor = following


def test_a_random_pick_is_alive_and_even() -> None:
    table = Table()
    for i in range(100):
        table.add(b"%d" % i)
    for i in range(90):
        table.remove(b"%d" % i)
    rng = random.Random(7)
    found = Counter(table.order.pick(rng, table.alive) for _ in range(5000))
    assert found.keys() == table.alive.keys()
    assert min(found.values()) > 350


# -- through the commands


def scan_all(db: Local, *options: str | int) -> list[bytes]:
    found: list[bytes] = []
    cursor = b"0"
    while True:
        reply = db("SCAN", cursor, *options)
        assert isinstance(reply, list)
        cursor = reply[0]
        found += reply[1]
        if cursor == b"0":
            return found


@pytest.fixture
def db() -> Local:
    made = Local()
    for i in range(100):
        made.raw("SET", f"key:{i}", i)
    for i in range(0, 100, 2):
        made.raw("PEXPIRE", f"key:{i}", 10 if i % 4 else 1000)
    return made


def test_a_quiet_scan_returns_each_key_once(db: Local) -> None:
    assert sorted(scan_all(db, "COUNT", 7)) == sorted(b"key:%d" % i for i in range(100))


def test_match_and_type_filter_and_expired_keys_are_hidden(db: Local) -> None:
    db.engine.store.now_ms += 10
    live = [i for i in range(100) if i % 4 != 2]
    assert sorted(scan_all(db)) == sorted(b"key:%d" % i for i in live)
    assert sorted(scan_all(db, "MATCH", "*5", "COUNT", 1000)) == sorted(b"key:%d" % i for i in live if i % 10 == 5)
    assert len(scan_all(db, "TYPE", "STRING")) == len(live)
    assert scan_all(db, "TYPE", "hash") == scan_all(db, "TYPE", "") == []


def test_a_scan_survives_flush_and_swap(db: Local) -> None:
    reply = db("SCAN", 0, "COUNT", 10)
    assert isinstance(reply, list)
    db.raw("SWAPDB", 0, 1)
    assert db("SCAN", reply[0]) == [b"0", []]
    db.raw("SWAPDB", 0, 1)
    db.raw("FLUSHDB")
    assert db("SCAN", reply[0]) == [b"0", []]
    db.check_replay()


def test_keys_come_from_every_place_for_randomkey(db: Local) -> None:
    for i in range(10, 100):
        db.raw("DEL", f"key:{i}")
    assert {db("RANDOMKEY") for _ in range(300)} == {b"key:%d" % i for i in range(10)}


def test_randomkey_never_tells_of_a_key_that_has_expired() -> None:
    """It gave up after some tries and told of an expired one, where Redis says nil or finds the one that is alive."""
    db = Local()
    for i in range(300):
        db("SET", f"k{i}", "", "PXAT", 1)
    assert db("RANDOMKEY") is None
    db("SET", "alive", "")
    assert [db("RANDOMKEY") for _ in range(5)] == [b"alive"] * 5
