"""Deadlines: absolute in the log, deleted by the primary alone, hidden from the moment they pass."""

from __future__ import annotations

import pytest

from eventdb.engine.expiry import KEYS_MAX, SHARE, SHARE_LATE, SLICE_S
from tests.kit.harness import Local

NOW = 1_700_000_000_000


@pytest.fixture
def db() -> Local:
    made = Local()
    made.raw("SET", "k", "v")
    return made


@pytest.mark.parametrize(
    ("command", "at_ms"),
    [
        (("EXPIRE", "k", 10), NOW + 10_000),
        (("PEXPIRE", "k", 10), NOW + 10),
        (("EXPIREAT", "k", 1_800_000_000), 1_800_000_000_000),
        (("PEXPIREAT", "k", 1_800_000_000_001), 1_800_000_000_001),
        (("GETEX", "k", "EX", 3), NOW + 3000),
    ],
)
def test_a_deadline_is_logged_in_absolute_ms(db: Local, command: tuple[str | int, ...], at_ms: int) -> None:
    db.raw(*command)
    assert db.events()[-1] == [b"PEXPIREAT", b"k", b"%d" % at_ms]
    assert db("PEXPIRETIME", "k") == at_ms
    db.check_replay()


@pytest.mark.parametrize(
    "command", [("EXPIRE", "k", -1), ("PEXPIRE", "k", 0), ("EXPIREAT", "k", 1), ("GETEX", "k", "PXAT", 1)]
)
def test_a_deadline_in_the_past_is_logged_as_a_deletion(db: Local, command: tuple[str | int, ...]) -> None:
    db.raw(*command)
    assert db.events()[-1] == [b"DEL", b"k"]
    assert db("EXISTS", "k") == 0
    db.check_replay()


@pytest.mark.parametrize(
    ("current", "asked", "option", "changed"),
    [
        (None, 50, "NX", True),
        (100, 50, "NX", False),
        (None, 50, "XX", False),
        (100, 50, "XX", True),
        (None, 50, "GT", False),  # no deadline counts as one that never comes
        (100, 50, "GT", False),
        (100, 100, "GT", False),
        (100, 101, "GT", True),
        (None, 50, "LT", True),
        (100, 50, "LT", True),
        (100, 100, "LT", False),
        (100, 101, "LT", False),
    ],
)
def test_conditions_compare_with_the_current_deadline(
    db: Local, current: int | None, asked: int, option: str, changed: bool
) -> None:
    if current is not None:
        db.raw("PEXPIRE", "k", current)
    before = len(db.log)
    assert db("PEXPIRE", "k", asked, option) == int(changed)
    assert db("PTTL", "k") == (asked if changed else -1 if current is None else current)
    assert (len(db.log) > before) == changed


def test_a_key_is_hidden_at_its_very_millisecond_and_deleted_by_the_cycle(db: Local) -> None:
    db.raw("PEXPIRE", "k", 10)
    db.engine.store.now_ms = NOW + 9
    db.engine.expire_cycle()
    assert db("GET", "k") == b"v"
    db.engine.store.now_ms = NOW + 10
    assert db("GET", "k") is None
    assert db("DBSIZE") == 1
    db.engine.expire_cycle()
    db.turn()
    assert db.transactions()[-1] == [b"expiry", [b"DEL", b"k"]]
    assert db("DBSIZE") == 0
    db.check_replay()


def test_the_cycle_passes_over_deadlines_that_were_moved_or_taken_away(db: Local) -> None:
    for i in range(100):
        db.raw("SET", f"key:{i}", i, "PX", 10)
    for i in range(50):
        db.raw("PEXPIRE", f"key:{i}", 1000)
    for i in range(50, 75):
        db.raw("PERSIST", f"key:{i}")
    db.engine.store.now_ms = NOW + 500
    db.engine.expire_cycle()
    db.turn()
    assert db("DBSIZE") == 76
    assert db("PTTL", "key:0") == 500
    db.check_replay()


def fill(db: Local, count: int) -> None:
    for i in range(count):
        db.engine.call(db.client, [b"SET", b"key:%d" % i, b"v", b"PX", b"10"])
    db.turn()
    db.client.flush()
    db.take(db.client)


def test_the_cycle_takes_all_that_has_expired_in_slices_and_pauses_between_them(db: Local) -> None:
    """Whatever the rate: what is left of a slice goes on soon, not a tenth of a second later."""
    count = 30_000
    for index in range(3):
        db.raw("SELECT", index)
        fill(db, count // 3)
    db.engine.store.now_ms = NOW + 500
    db.engine.expire_cycle()
    db.turn()
    rounds = 0
    while db.timers:
        seconds, action = db.timers.pop()
        assert seconds >= SLICE_S * (1 / SHARE_LATE - 1) * 0.99, "no more than its share of the loop"
        db.engine.expire_cycle()  # the driver's clock: one cycle is enough
        assert not db.timers
        rounds += 1
        assert rounds < 10_000
        now_ms = db.engine.store.now_ms
        action()
        db.engine.store.now_ms = now_ms  # reading the clock moved it
        db.turn()
    assert rounds > 0
    assert db("DBSIZE") == 0
    assert db.engine.store.expired_keys == count
    deleted = [event for event in db.events() if event[0] == b"DEL"]
    assert sum(len(event) - 1 for event in deleted) == count
    assert max(len(event) - 1 for event in deleted) <= KEYS_MAX
    db.check_replay()


def test_a_cycle_that_falls_behind_takes_a_larger_share(db: Local) -> None:
    fill(db, 30_000)
    db.engine.store.now_ms = NOW + 2000
    db.engine.expire_cycle()
    seconds, _ = db.timers.pop()
    spent = db.engine.statistics.expire_seconds
    assert SLICE_S * 0.99 <= seconds * SHARE_LATE / (1 - SHARE_LATE) <= spent
    assert SHARE < SHARE_LATE < 1


def test_the_cycle_stops_where_the_state_stands_still(db: Local) -> None:
    fill(db, 30_000)
    db.engine.store.now_ms = NOW + 500
    db.engine.expire_cycle()
    _, action = db.timers.pop()
    db.raw("CLIENT", "PAUSE", 1000, "WRITE")
    before = db("DBSIZE")
    db.timers.clear()
    action()
    assert (db("DBSIZE"), db.timers) == (before, [])


def test_changing_a_deadline_for_ever_does_not_grow_memory(db: Local) -> None:
    for i in range(10_000):
        db.raw("PEXPIRE", "k", 1000 + i)
    deadlines = db.engine.store.keyspace.dbs[0].deadlines
    assert deadlines is not None
    assert len(deadlines) < 2000


def test_an_expired_key_is_nowhere_to_be_found(db: Local) -> None:
    db.raw("PEXPIRE", "k", 1)
    db.engine.store.now_ms += 1
    assert [db("EXISTS", "k"), db("TTL", "k"), db("TYPE", "k"), db("KEYS", "*"), db("MGET", "k")] == [
        0,
        -2,
        b"none",
        [],
        [None],
    ]
    assert db("SCAN", 0) == [b"0", []]
    assert str(db("RENAME", "k", "l")) == "ERR no such key"
    assert db("PERSIST", "k") == 0
    db.check_replay()
