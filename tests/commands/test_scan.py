"""SCAN and its kin return what was there from start to end, once, whatever happens in between; picks are even."""

from __future__ import annotations

import random
from collections import Counter
from math import sqrt
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventdb.keyspace.order import LOAD, POSITIONS, STEP, Order, reversed_bits
from tests.kit.differential import examples
from tests.kit.harness import Local

names = st.integers(0, 400).map(lambda n: b"%d" % n)
changes = st.lists(
    st.tuples(
        st.sampled_from(["add", "add many", "remove", "remove many", "remove and add", "pick", "replace"]), names
    ),
    max_size=8,
)


class Table:
    """A set with its Order, kept as values keep them."""

    def __init__(self) -> None:
        self.alive: set[bytes] = set()
        self.order = Order([])
        self.rng = random.Random(1)

    def add(self, key: bytes) -> None:
        if key not in self.alive:
            self.alive.add(key)
            self.order.added(key)

    def remove(self, key: bytes) -> None:
        if key in self.alive:
            self.alive.remove(key)
            self.order.removed(key)

    def change(self, what: str, key: bytes) -> None:
        if what == "add":
            self.add(key)
        elif what == "add many":
            for i in range(100):
                self.add(b"%d" % (int(key) + i))
        elif what == "remove":
            self.remove(key)
        elif what == "remove many":
            for other in sorted(self.alive):
                if other > key:
                    self.remove(other)
        elif what == "pick":
            assert not self.alive or self.order.pick(self.rng) in self.alive
        elif what == "replace":
            self.order = Order(sorted(self.alive))
        elif key in self.alive:
            self.remove(key)
            self.add(key)

    def check(self) -> None:
        """Everything is there exactly once, and what lies around is in proportion."""
        order = self.order
        placed = [key for bucket in order.buckets for key in bucket or ()]
        assert len(placed) == order.placed and all(bucket is None or bucket for bucket in order.buckets)
        assert sorted(placed + [key for key in order.pending if key not in order.gone]) == sorted(self.alive)
        assert order.gone <= set(order.pending) and order.size() == len(self.alive)
        assert len(order.gone) <= len(order.pending) / 2 + 80
        assert order.pending or len(order.buckets) <= 1 + order.placed
        assert all(len(bucket or ()) <= order.widest for bucket in order.buckets)


@examples(150)
@given(st.lists(names, max_size=300), changes, st.lists(changes, max_size=20), st.integers(1, 30))
def test_a_scan_returns_once_what_was_there_all_the_time(
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
        cursor, keys = table.order.scan(cursor, count)
        table.check()
        assert len(keys) >= count or cursor == 0
        seen += keys
        if cursor == 0:
            break
        for what, key in during[steps] if steps < len(during) else []:
            if what != "remove and add":
                table.change(what, key)
            always &= table.alive
            ever |= table.alive
        steps += 1
        assert steps < 1000, "a scan ends"
    assert always <= set(seen) <= ever
    assert len(seen) == len(set(seen)), "returned twice"


def test_many_elements_are_put_in_order_over_several_calls_and_the_scan_ends_though_more_come() -> None:
    keys = [b"%d" % i for i in range(3 * STEP)]
    order = Order(keys[: 2 * STEP])
    found: list[bytes] = []
    cursor, at, calls = 0, 2 * STEP, 0
    while True:
        cursor, page = order.scan(cursor, 10_000)
        found += page
        calls += 1
        if cursor == 0:
            break
        assert page or order.backlog
        for key in keys[at : at + STEP // 16]:  # faster than it visits
            order.added(key)
        at += STEP // 16
    assert set(keys[: 2 * STEP]) <= set(found)
    assert len(found) == len(set(found))
    assert calls < 70
    for key in keys[:at][: -STEP // 16]:
        order.removed(key)
    assert len(order.buckets) <= order.size()


@pytest.mark.parametrize("cursor", [1, 7, 99, 10**9, POSITIONS - 1, POSITIONS, POSITIONS + 5, 2**64 - 1])
def test_any_number_is_a_cursor(cursor: int) -> None:
    table = Table()
    for i in range(200):
        table.add(b"%d" % i)
    steps = 0
    while cursor:
        cursor, _ = table.order.scan(cursor, 3)
        assert 0 <= cursor < POSITIONS
        steps += 1
    assert steps < 200


def test_bits_turn_round() -> None:
    rng = random.Random(3)
    for _ in range(200):
        n = rng.getrandbits(32)
        assert reversed_bits(n) == int(f"{n:032b}"[::-1], 2)


def test_names_that_collide_end_in_one_page_and_picks_stay_quick_and_even() -> None:
    """CRC-32 is linear: what one changed byte does to it, the right four bytes after it undo."""
    zero = bytes(4)
    twist = (crc32(b"\x01") ^ crc32(b"\x00")).to_bytes(4, "little")
    same = [b"".join((b"\x01" + twist) if i >> bit & 1 else b"\x00" + zero for bit in range(8)) for i in range(256)]
    table = Table()
    for i in range(2000):
        table.add(b"%d" % i)
    for key in same:
        table.add(key)
    found: list[bytes] = []
    cursor, widest = 0, 0
    while True:
        cursor, page = table.order.scan(cursor, 10)
        found += page
        widest = max(widest, len(page))
        if cursor == 0:
            break
    assert widest >= 256, "the names do not collide"
    assert sorted(found) == sorted(table.alive)
    rng = random.Random(11)
    assert_even([table.order.pick(rng) for _ in range(20_000)], table.alive)


# -- picks


def assert_even(picks: list[bytes], of: set[bytes]) -> None:
    """The chi-square of the counts is what chance makes it, within four deviations either way."""
    found = Counter(picks)
    assert found.keys() <= of
    expected = len(picks) / len(of)
    chi = sum((found[key] - expected) ** 2 for key in of) / expected
    freedom = len(of) - 1
    assert abs(chi - freedom) < 4 * sqrt(2 * freedom), f"chi-square {chi:.0f} of {freedom} degrees"


@pytest.mark.parametrize("scanned", [False, True], ids=["never scanned", "scanned"])
@pytest.mark.parametrize("command", ["SRANDMEMBER", "SPOP", "HRANDFIELD", "ZRANDMEMBER", "RANDOMKEY"])
def test_picks_are_even_whatever_was_removed_and_added(command: str, scanned: bool) -> None:
    db = Local(seed=20)
    kind = KINDS["keys" if command == "RANDOMKEY" else {"S": "set", "H": "hash", "Z": "zset"}[command[0]]]
    members = {b"m%d" % i for i in range(300)}
    kind.add(db, b"k", sorted(members))

    def one() -> bytes:
        reply = db(command) if command == "RANDOMKEY" else db(command, "k")
        assert isinstance(reply, bytes)
        if command == "SPOP":
            db("SADD", "k", reply)
        return reply

    one()
    if scanned:
        kind.page(db, b"k", b"0", 10)
    for _ in range(500):  # it stood in the list as often as this
        kind.remove(db, b"k", [b"m7"])
        kind.add(db, b"k", [b"m7"])
    extra = [b"x%d" % i for i in range(250)]
    kind.add(db, b"k", extra)
    kind.remove(db, b"k", extra[:200])
    members.update(extra[200:])
    assert_even([one() for _ in range(7000)], members)
    if command == "SPOP":
        popped = [db("SPOP", "k") for _ in range(len(members))]
        assert sorted(popped) == sorted(members)  # type: ignore[type-var]
    elif command != "RANDOMKEY":
        many = db(command, "k", -7000)
        assert isinstance(many, list)
        assert_even(many, members)
        few = [member for _ in range(1000) for member in db(command, "k", 7)]  # type: ignore[attr-defined]
        assert_even(few, members)
    db.check_replay()


# -- all four commands under changes


class Kind:
    """One type of collection: how to add, to remove, to replace, and to read a page."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _pairs(self, members: list[bytes]) -> list[bytes]:
        if self.name == "hash":
            return [word for member in members for word in (member, b"v")]
        if self.name == "zset":
            return [word for member in members for word in (b"%d" % (len(member) % 3), member)]
        return members

    def add(self, db: Local, key: bytes, members: list[bytes]) -> None:
        if members:
            db({"set": "SADD", "hash": "HSET", "zset": "ZADD"}[self.name], key, *self._pairs(members))

    def remove(self, db: Local, key: bytes, members: list[bytes]) -> None:
        if members:
            db({"set": "SREM", "hash": "HDEL", "zset": "ZREM"}[self.name], key, *members)

    def replace(self, db: Local, key: bytes, members: list[bytes], way: int) -> None:
        """Another value of these members takes the key's place at once."""
        if way == 0:
            db("MULTI")
            db("DEL", key)
            self.add(db, key, members)
            db("EXEC")
            return
        db("DEL", b"other")
        self.add(db, b"other", members)
        if way == 1:
            db("RENAME", b"other", key)
        elif way == 2 or self.name == "hash":
            db("COPY", b"other", key, "REPLACE")
        elif self.name == "set":
            db("SUNIONSTORE", key, b"other", b"nothing")
        elif way == 3:
            db("ZUNIONSTORE", key, 1, b"other")
        else:
            db("ZRANGESTORE", key, b"other", 0, -1)

    def page(self, db: Local, key: bytes, cursor: bytes, count: int) -> tuple[bytes, list[bytes]]:
        reply = db({"set": "SSCAN", "hash": "HSCAN", "zset": "ZSCAN"}[self.name], key, cursor, "COUNT", count)
        assert isinstance(reply, list), reply
        return reply[0], reply[1] if self.name == "set" else reply[1][::2]


class Keys(Kind):
    def add(self, db: Local, key: bytes, members: list[bytes]) -> None:
        for member in members:
            db("SET", member, "")

    def remove(self, db: Local, key: bytes, members: list[bytes]) -> None:
        if members:
            db("DEL", *members)

    def replace(self, db: Local, key: bytes, members: list[bytes], way: int) -> None:
        if way == 0:
            db("MULTI")
            db("FLUSHDB")
            db("MSET", *(word for member in members for word in (member, b"")))
            db("EXEC")
        elif way == 1:
            db("SELECT", 1)
            db("FLUSHDB")
            self.add(db, key, members)
            db("SELECT", 0)
            db("SWAPDB", 0, 1)
        else:
            present = db("KEYS", "*")
            assert isinstance(present, list)
            self.remove(db, key, sorted(set(present) - set(members)))
            for i, member in enumerate(members):
                if way == 2:
                    db("SET", "other{t}", i)
                    db("RENAME", "other{t}", member)
                elif way == 3:
                    db("SADD", "other{t}", i)
                    db("SUNIONSTORE", member, "other{t}")
                    db("DEL", "other{t}")
                else:
                    db("GETSET" if i % 2 else "SET", member, i)

    def page(self, db: Local, key: bytes, cursor: bytes, count: int) -> tuple[bytes, list[bytes]]:
        reply = db("SCAN", cursor, "COUNT", count)
        assert isinstance(reply, list), reply
        return reply[0], reply[1]


KINDS = {"set": Kind("set"), "hash": Kind("hash"), "zset": Kind("zset"), "keys": Keys("keys")}


def on_another_node(db: Local) -> Local:
    made = Local()
    made.engine.apply(db.transactions())  # type: ignore[arg-type]
    made.log = list(db.log)
    return made


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", list(KINDS))
def test_scans_survive_replacement_shrinking_and_failover(name: str, seed: int) -> None:
    rng = random.Random(f"{name} {seed}")
    kind = KINDS[name]
    db = Local()
    core = [b"core:%d" % i for i in range(rng.choice([3, 60, 200]))]
    restless = [b"restless:%d" % i for i in range(600)]
    present = set(core) | set(rng.sample(restless, rng.choice([0, 200, 600])))
    kind.add(db, b"k", sorted(present))
    for _ in range(40):  # removed and added before the scan
        kind.remove(db, b"k", core[:2])
        kind.add(db, b"k", core[:2])
    ever, seen = set(present), Counter[bytes]()
    cursor, steps = b"0", 0
    while True:
        cursor, page = kind.page(db, b"k", cursor, rng.choice([1, 5, 20, 60]))
        seen.update(page)
        if cursor == b"0":
            break
        what = rng.randrange(8)
        chosen = rng.sample(restless, rng.choice([1, 30, 300]))
        if what <= 1:
            kind.add(db, b"k", sorted(set(chosen) - present))
            present |= set(chosen)
        elif what == 2:
            kind.remove(db, b"k", sorted(set(chosen) & present))
            present -= set(chosen)
        elif what == 3:
            kind.remove(db, b"k", sorted(present - set(core)))
            present = set(core)
        elif what == 4:
            db = on_another_node(db)
        else:
            present = set(core) | set(chosen)
            shuffled = sorted(present)
            rng.shuffle(shuffled)
            kind.replace(db, b"k", shuffled, rng.randrange(5))
        ever |= present
        steps += 1
        assert steps < 2000, f"seed {seed}: the scan does not end"
    assert set(core) <= seen.keys(), f"seed {seed}: missed {sorted(set(core) - seen.keys())[:5]}"
    assert seen.keys() <= ever
    # Once more for what a value returned whole, after it had shrunk to that.
    assert max(seen.values()) <= (1 if name == "keys" else 2), f"seed {seed}: {seen.most_common(3)}"
    db.check_replay()


@pytest.mark.parametrize("name", list(KINDS))
def test_an_element_at_rest_is_returned_once_however_often_it_was_removed_and_added(name: str) -> None:
    db, kind = Local(), KINDS[name]
    members = [b"m%d" % i for i in range(700)]
    kind.add(db, b"k", members)
    kind.page(db, b"k", b"0", 5)
    for _ in range(300):
        kind.remove(db, b"k", members[:3])
        kind.add(db, b"k", members[:3])
    seen: list[bytes] = []
    cursor = b"0"
    while True:
        cursor, page = kind.page(db, b"k", cursor, 10)
        seen += page
        if cursor == b"0":
            break
        assert 10 <= len(page) < 10 + 8 * LOAD
    assert sorted(seen) == sorted(members)


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
