"""Deadlines of hash fields: HEXPIRE and its like, HGETEX, HSETEX, HGETDEL; what is hidden, logged and deleted.

Debian's Redis has none of these commands: replies and error texts are those of Redis 8.0's documentation and tests.
"""

from __future__ import annotations

import random
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventdb.engine.engine import Engine
from eventdb.engine.expiry import KEYS_MAX
from eventdb.engine.settings import Config
from eventdb.keyspace.types.hash import HashValue
from eventdb.keyspace.types.timed_hash import TimedHash
from eventdb.node.reloading import put_in_place
from eventdb.pipeline.commit import Commit
from tests.kit.differential import Step, examples
from tests.kit.harness import Local

NOW = 1_700_000_000_000
Word = str | int


@pytest.fixture
def db() -> Local:
    local = Local()
    local.raw("HSET", "h", "a", 1, "b", 2, "c", 3)
    local.raw("SET", "s", "x")
    local.log.clear()
    return local


def later(db: Local, ms: int) -> None:
    db.engine.store.now_ms += ms


def cycle(db: Local) -> None:
    """The expiry cycle, until it wants no pause any more."""
    db.engine.expire_cycle()
    now_ms = db.engine.store.now_ms
    while db.timers:
        db.timers.pop()[1]()
        db.engine.store.now_ms = now_ms
    db.turn()


def replica_of(db: Local) -> Local:
    """An engine that has replayed the log, at the same time."""
    made = Local()
    for each in made.engine.store.keyspace.dbs:
        each.stop_tracking()
    made.engine.apply(cast("list[list[bytes | list[bytes]]]", db.transactions()))
    made.engine.store.now_ms = db.engine.store.now_ms
    return made


def checked(db: Local) -> None:
    """The log alone gives the same state; the fixture has dropped its beginning, so this is for tests that have not."""
    db.check_replay()


@pytest.mark.parametrize(
    ("command", "reply", "events"),
    [
        ("HEXPIRE h 10 FIELDS 2 a x", [1, -2], [f"HPEXPIREAT h {NOW + 10_000} FIELDS 1 a"]),
        ("HPEXPIRE h 10 FIELDS 3 a b a", [1, 1, 1], [f"HPEXPIREAT h {NOW + 10} FIELDS 2 a b"]),
        ("HEXPIREAT h 1700000001 FIELDS 1 c", [1], [f"HPEXPIREAT h {NOW + 1000} FIELDS 1 c"]),
        (f"hpexpireat h {NOW + 1} fields 1 c", [1], [f"HPEXPIREAT h {NOW + 1} FIELDS 1 c"]),
        (f"HPEXPIREAT h {NOW} FIELDS 2 a x", [2, -2], ["HDEL h a"]),
        ("HEXPIRE h 0 FIELDS 4 a a b c", [2, -2, 2, 2], ["HDEL h a b c"]),
        ("HEXPIRE none 10 FIELDS 2 a b", [-2, -2], []),
        ("HPERSIST h FIELDS 2 a x", [-1, -2], []),
        ("HPERSIST none FIELDS 1 a", [-2], []),
        ("HTTL h FIELDS 2 a x", [-1, -2], []),
        ("HPTTL none FIELDS 1 a", [-2], []),
        ("HGETEX h FIELDS 2 a x", [b"1", None], []),
        ("HGETEX h EX 10 FIELDS 2 a x", [b"1", None], [f"HPEXPIREAT h {NOW + 10_000} FIELDS 1 a"]),
        ("HGETEX h PXAT 1 FIELDS 3 a a b", [b"1", None, b"2"], ["HDEL h a b"]),
        ("HGETEX h PERSIST FIELDS 1 a", [b"1"], []),
        ("HGETEX none EX 1 FIELDS 2 a b", [None, None], []),
        ("HGETDEL h FIELDS 3 a x a", [b"1", None, None], ["HDEL h a"]),
        ("HGETDEL h FIELDS 3 a b c", [b"1", b"2", b"3"], ["HDEL h a b c"]),
        ("HGETDEL none FIELDS 1 a", [None], []),
        ("HSETEX h FIELDS 1 a 9", 1, ["HSET h a 9"]),
        ("HSETEX h FNX FIELDS 2 x 1 a 9", 0, []),
        ("HSETEX h FNX FIELDS 1 x 1", 1, ["HSET h x 1"]),
        ("HSETEX h FXX EX 5 FIELDS 1 x 1", 0, []),
        ("HSETEX none FXX FIELDS 1 x 1", 0, []),
        ("HSETEX h EX 5 FXX FIELDS 1 a 9", 1, [f"HSETEX h PXAT {NOW + 5000} FIELDS 1 a 9"]),
        ("HSETEX new PX 5 FIELDS 1 a 9", 1, [f"HSETEX new PXAT {NOW + 5} FIELDS 1 a 9"]),
        ("HSETEX h EXAT 1 FIELDS 2 a 9 x 9", 1, ["HDEL h a"]),
        ("HSETEX new EXAT 1 FIELDS 1 a 9", 1, []),
        ("HSETEX h KEEPTTL FIELDS 1 a 9", 1, ["HSET h a 9"]),
    ],
)
def test_reply_and_events(db: Local, command: str, reply: object, events: list[str]) -> None:
    assert db(*command.split()) == reply
    assert db.events() == [event.encode().split() for event in events]


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("HEXPIRE s x FIELDS 1 a", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("HTTL s NOT 1 a", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("HSETEX s nonsense FIELDS 1 a b", "ERR unknown argument: nonsense"),
        ("HSETEX s FIELDS 1 a b", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("HEXPIRE h x FIELDS 1 a", "ERR value is not an integer or out of range"),
        ("HEXPIRE h -1 FIELDS 1 a", "ERR invalid expire time, must be >= 0"),
        (f"HPEXPIREAT h {1 << 46} FIELDS 1 a", "ERR invalid expire time in 'hpexpireat' command"),
        (f"HPEXPIRE h {(1 << 46) - NOW} FIELDS 1 a", "ERR invalid expire time in 'hpexpire' command"),
        (f"HEXPIRE h {(1 << 46) // 1000 + 1} FIELDS 1 a", "ERR invalid expire time in 'hexpire' command"),
        (f"HGETEX h EX {1 << 60} FIELDS 1 a", "ERR invalid expire time in 'hgetex' command"),
        (f"HSETEX h PXAT {1 << 46} FIELDS 1 a 1", "ERR invalid expire time in 'hsetex' command"),
        ("HEXPIRE h 1 NX XX 1 a", "ERR Mandatory argument FIELDS is missing or not at the right position"),
        ("HEXPIRE h 1 NX FIELDS 0 a", "ERR Parameter `numFields` should be greater than 0"),
        ("HEXPIRE h 1 FIELDS 2 a", "ERR The `numfields` parameter must match the number of arguments"),
        ("HTTL h FIELDS 0 a", "ERR Number of fields must be a positive integer"),
        ("HPERSIST h FIELDS 9223372036854775808 a", "ERR Number of fields must be a positive integer"),
        ("HGETDEL h FIELDS 1 a b", "ERR The `numfields` parameter must match the number of arguments"),
        ("HGETEX h PERSIST 1 FIELDS 1 a", "ERR Mandatory argument FIELDS is missing or not at the right position"),
        ("HGETEX h PXAT 1 1", "ERR Mandatory argument FIELDS is missing or not at the right position"),
        ("HSETEX h FXX FNX FIELDS 1 a b", "ERR Only one of FXX or FNX arguments can be specified"),
        ("HSETEX h EX 1 EX 1 FIELDS 1 a b", "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"),
        ("HSETEX h KEEPTTL PX 1 1 1", "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"),
        ("HSETEX h EX FIELDS 1 a b", "ERR value is not an integer or out of range"),
        ("HSETEX h FIELDS x a b", "ERR invalid number of fields"),
        ("HSETEX h FIELDS 2 a b c", "ERR wrong number of arguments for 'hsetex' command"),
        ("HSETEX h FNX FNX KEEPTTL PX", "ERR Only one of FXX or FNX arguments can be specified"),
        ("HSETEX h FNX KEEPTTL 1 1", "ERR unknown argument: 1"),
    ],
)  # fmt: skip
def test_errors_and_their_precedence(db: Local, command: str, error: str) -> None:
    assert db.raw(*command.split()) == f"-{error}\r\n".encode()
    assert not db.events()


@pytest.mark.parametrize(
    ("condition", "ms", "none", "fifty"),
    [("NX", 10, 1, 0), ("XX", 10, 0, 1), ("GT", 10, 0, 0), ("GT", 60, 0, 1), ("LT", 10, 1, 1), ("LT", 50, 1, 0)],
)
def test_conditions_compare_with_the_current_deadline(
    db: Local, condition: str, ms: int, none: int, fifty: int
) -> None:
    db("HPEXPIRE", "h", 50, "FIELDS", 1, "b")
    assert db("HPEXPIRE", "h", ms, condition, "FIELDS", 2, "a", "b") == [none, fifty]


def test_a_condition_is_asked_of_each_mention_of_a_field(db: Local) -> None:
    assert db("HPEXPIRE", "h", 10, "NX", "FIELDS", 3, "a", "a", "b") == [1, 0, 1]
    assert db("HPERSIST", "h", "FIELDS", 2, "a", "a") == [1, -1]


def test_seconds_are_rounded_up(db: Local) -> None:
    db("HPEXPIRE", "h", 1001, "FIELDS", 1, "a")
    assert db("HTTL", "h", "FIELDS", 1, "a") == [2] and db("HPTTL", "h", "FIELDS", 1, "a") == [1001]
    assert db("HEXPIRETIME", "h", "FIELDS", 2, "a", "b") == [NOW // 1000 + 2, -1]
    assert db("HPEXPIRETIME", "h", "FIELDS", 1, "a") == [NOW + 1001]


def test_what_writes_a_field_ends_its_deadline_and_an_increment_keeps_it(db: Local) -> None:
    db("HPEXPIRE", "h", 50, "FIELDS", 3, "a", "b", "c")
    db("HSET", "h", "a", 5)
    db("HINCRBY", "h", "b", 5)
    db("HINCRBYFLOAT", "h", "c", "0.5")
    assert db.events()[1:] == [
        [b"HSET", b"h", b"a", b"5"],
        [b"HSETEX", b"h", b"KEEPTTL", b"FIELDS", b"1", b"b", b"7"],
        [b"HSETEX", b"h", b"KEEPTTL", b"FIELDS", b"1", b"c", b"3.5"],
    ]
    assert db("HPTTL", "h", "FIELDS", 3, "a", "b", "c") == [-1, 50, 50]
    db("HSETEX", "h", "KEEPTTL", "FIELDS", 2, "b", "x", "a", "x")
    assert db("HPTTL", "h", "FIELDS", 2, "a", "b") == [-1, 50]
    db("HMSET", "h", "b", 1)
    db("HSETEX", "h", "FIELDS", 1, "c", 1)
    assert db("HPTTL", "h", "FIELDS", 2, "b", "c") == [-1, -1]


READS = {
    "HGET h a": None, "HMGET h a b": [None, b"2"], "HEXISTS h a": 0, "HSTRLEN h a": 0, "HLEN h": 2,
    "HGETALL h": [b"b", b"2", b"c", b"3"], "HKEYS h": [b"b", b"c"], "HVALS h": [b"2", b"3"],
    "HSCAN h 0": [b"0", [b"b", b"2", b"c", b"3"]], "HSCAN h 0 NOVALUES COUNT 5": [b"0", [b"b", b"c"]],
    "HRANDFIELD h 9": [b"b", b"c"], "HTTL h FIELDS 2 a b": [-2, -1], "HPERSIST h FIELDS 1 a": [-2],
    "HEXPIRE h 9 FIELDS 1 a": [-2], "HGETEX h FIELDS 1 a": [None], "SORT l BY nosort GET h->*": [None],
}  # fmt: skip


def test_a_field_is_hidden_at_its_very_millisecond_by_every_read_and_none_writes() -> None:
    db = Local()
    db("HSET", "h", "a", 1, "b", 2, "c", 3)
    db("RPUSH", "l", "a")
    db("HPEXPIRE", "h", 10, "FIELDS", 1, "a")
    later(db, 9)
    assert db("HGET", "h", "a") == b"1" and db("HLEN", "h") == 3
    later(db, 1)
    before = len(db.log)
    for node in (db, replica_of(db)):
        for command, reply in READS.items():
            found = node(*command.split())
            assert (sorted(found) if command[:5] == "HRAND" else found) == reply, command  # type: ignore[type-var, arg-type]
        assert {node("HRANDFIELD", "h") for _ in range(30)} == {b"b", b"c"}
        assert len(node("HRANDFIELD", "h", -20)) == 20  # type: ignore[arg-type]
    assert len(db.log) == before


def test_a_hash_with_nothing_but_fields_past_their_deadlines_reads_as_empty() -> None:
    db = Local()
    db("HSETEX", "h", "PX", 5, "FIELDS", 2, "a", 1, "b", 2)
    later(db, 5)
    assert db("HGETALL", "h") == [] and db("HLEN", "h") == 0
    assert db("HRANDFIELD", "h") is None and db("HRANDFIELD", "h", 3) == [] and db("HRANDFIELD", "h", -3) == []
    cycle(db)
    assert db("EXISTS", "h") == 0
    checked(db)


@pytest.mark.parametrize(
    ("command", "reply", "left"),
    [
        ("HSET h a 9 n 9", 2, {b"a": b"9", b"b": b"2", b"n": b"9"}),
        ("HSETNX h a 9", 1, {b"a": b"9", b"b": b"2"}),
        ("HINCRBY h a 4", 4, {b"a": b"4", b"b": b"2"}),
        ("HINCRBYFLOAT h a 4", b"4", {b"a": b"4", b"b": b"2"}),
        ("HDEL h a", 0, {b"b": b"2"}),
        ("HDEL h a b x", 1, {}),
        ("HGETDEL h FIELDS 2 a b", [None, b"2"], {}),
        ("HSETEX h FXX FIELDS 1 a 9", 0, {b"b": b"2"}),
        ("HSETEX h FNX FIELDS 1 a 9", 1, {b"a": b"9", b"b": b"2"}),
        ("HSETEX h KEEPTTL FIELDS 2 a 9 b 9", 1, {b"a": b"9", b"b": b"9"}),
        ("HSETEX h PX 100 FIELDS 1 a 9", 1, {b"a": b"9", b"b": b"2"}),
    ],
)
def test_to_a_write_a_field_past_its_deadline_is_not_there(command: str, reply: object, left: object) -> None:
    db = Local()
    db("HSET", "h", "a", 1, "b", 2)
    db("HPEXPIRE", "h", 10, "FIELDS", 1, "a")
    later(db, 10)
    assert db(*command.split()) == reply
    cycle(db)
    found = db("HGETALL", "h")
    assert isinstance(found, list) and dict(zip(found[::2], found[1::2], strict=True)) == left
    later(db, 1000)
    checked(db)


def test_the_cycle_deletes_fields_that_nobody_reads_and_with_the_last_one_the_key() -> None:
    db = Local()
    db("HSET", "h", "a", 1, "b", 2)
    db("HSET", "stays", "a", 1, "b", 2)
    db("HPEXPIRE", "h", 10, "FIELDS", 2, "a", "b")
    db("HPEXPIRE", "stays", 10, "FIELDS", 1, "a")
    db("HPEXPIRE", "stays", 20, "FIELDS", 1, "b")
    db("HPEXPIRE", "stays", 500, "FIELDS", 1, "b")
    db("CONFIG", "RESETSTAT")
    assert b"db0:keys=2,expires=0,avg_ttl=0,subexpiry=2\r\n" in db.raw("INFO", "keyspace")
    later(db, 10)
    cycle(db)
    assert db.events()[-2:] == [[b"HDEL", b"h", b"a", b"b"], [b"HDEL", b"stays", b"a"]]
    assert db("EXISTS", "h", "stays") == 1
    later(db, 100)
    cycle(db)
    assert db("HGETALL", "stays") == [b"b", b"2"]
    assert b"expired_subkeys:3\r\n" in db.raw("INFO", "stats")
    checked(db)


@pytest.mark.parametrize("keys", [1, 7, 5000])
def test_the_cycle_works_in_bounded_pieces_and_takes_all(keys: int) -> None:
    """One hash of thousands of fields, and thousands of hashes, due at one time."""
    db = Local()
    count = 5000
    for key in range(keys):
        pairs = [word for i in range(count // keys) for word in (f"f{i}", 1)]
        db("HSETEX", f"h{key}", "PX", 10, "FIELDS", len(pairs) // 2, *pairs)
    before = len(db.transactions())
    later(db, 10)
    cycle(db)
    pieces = db.transactions()[before:]
    assert db("DBSIZE") == 0
    assert max(sum(len(event) - 2 for event in piece[1:]) for piece in pieces) <= KEYS_MAX  # type: ignore[arg-type, misc]
    assert db.engine.store.expired_elements == count // keys * keys
    checked(db)


def test_the_cycle_follows_a_hash_that_is_renamed_copied_moved_or_swapped() -> None:
    db = Local()
    db("HSETEX", "h", "PX", 10, "FIELDS", 1, "a", 1)
    db("HSET", "h", "b", 2)
    db("COPY", "h", "copy")
    db("COPY", "h", "far", "DB", 3)
    db("COPY", "h", "moved")
    db("MOVE", "moved", 2)
    db("RENAME", "h", "renamed")
    db("SET", "h", "something else")
    db("SELECT", 1)
    db("HSETEX", "swapped", "PX", 10, "FIELDS", 1, "a", 1)
    db("SWAPDB", 1, 4)
    assert db.engine.store.keyspace.dbs[2].values[b"moved"].deadlines == {b"a": NOW + 10}  # type: ignore[attr-defined]
    checked(db)
    later(db, 10)
    cycle(db)
    left = {
        key: value.fields if isinstance(value, HashValue) else value
        for each in db.engine.store.keyspace.dbs
        for key, value in each.values.items()
    }
    b = {b"b": b"2"}
    assert left == {b"h": b"something else", b"copy": b, b"far": b, b"moved": b, b"renamed": b}
    assert not any(each.timed for each in db.engine.store.keyspace.dbs)
    checked(db)


def test_a_node_that_becomes_primary_deletes_what_was_due_before() -> None:
    db = Local()
    for i in range(20):
        db("HSETEX", f"h{i}", "PX", 10 + i, "FIELDS", 1, "a", 1)
    later(db, 20)
    replica = replica_of(db)
    replica.engine.expire_cycle()
    assert replica("DBSIZE") == 20, "a replica waits for the primary's events"
    for each in replica.engine.store.keyspace.dbs:
        each.track_deadlines()
    cycle(replica)
    assert replica("DBSIZE") == 9
    later(replica, 100)
    cycle(replica)
    assert replica("DBSIZE") == 0


def test_flushing_forgets_deadlines_and_memory_does_not_grow_with_changes() -> None:
    db = Local()
    db("HSET", "h", "a", 1)
    for i in range(5000):
        db("HPEXPIRE", "h", 100_000 - i, "FIELDS", 1, "a")
    first = db.engine.store.keyspace.dbs[0]
    value = first.values[b"h"]
    assert isinstance(value, TimedHash)
    value.take_due(NOW, 1)
    for i in range(5000):
        db("HPEXPIRE", "h", 100_000 + i, "FIELDS", 1, "a")
        if i % 100 == 0:
            value.take_due(NOW, 1)
    assert len(first.element_deadlines or ()) < 2000 and len(value.heap or ()) < 500
    db("FLUSHALL")
    assert not first.element_deadlines and not first.timed


def test_exec_fails_when_a_field_of_a_watched_hash_has_passed_its_deadline() -> None:
    db = Local()
    other = db.connect()
    db("HSETEX", "h", "PX", 10, "FIELDS", 1, "a", 1)
    db("HSETEX", "h", "PX", 5, "FIELDS", 1, "gone", 1)
    later(db, 5)
    for client, ms in ((db.client, 5), (other, 0)):
        later(db, ms)
        db("WATCH", "h", client=client)
        db("MULTI", client=client)
        db("PING", client=client)
    assert db("EXEC", client=other) == [b"PONG"], "what was past its deadline when it was watched is no change"
    assert db("EXEC") == [b"PONG"]
    db("WATCH", "h")
    later(db, -3)
    db("HSETEX", "k", "PX", 10, "FIELDS", 1, "a", 1)
    db("UNWATCH")
    db("WATCH", "k")
    later(db, 10)
    db("MULTI")
    db("PING")
    assert db("EXEC") is None


def test_a_hash_without_deadlines_is_the_object_it_was() -> None:
    """It pays nothing: no field of its own, and a deadline on another key changes nothing for it."""
    db = Local()
    db("HSET", "plain", "a", 1)
    db("HSETEX", "timed", "EX", 10, "FIELDS", 1, "a", 1)
    values = db.engine.store.keyspace.dbs[0].values
    assert type(values[b"plain"]) is HashValue and type(values[b"timed"]) is TimedHash
    assert not hasattr(values[b"plain"], "deadlines")
    assert db("OBJECT", "ENCODING", "plain") == b"listpack" and db("OBJECT", "ENCODING", "timed") == b"listpackex"


def test_the_digest_tells_deadlines_apart_and_forgets_a_hash_that_had_some() -> None:
    digests = []
    for commands in (
        ["HSET h a 1 b 2"],
        ["HSETEX h EX 9 FIELDS 1 a 1", "HSET h b 2"],
        ["HSETEX h EX 9 FIELDS 1 b 2", "HSET h a 1"],
        ["HSETEX h EX 8 FIELDS 1 a 1", "HSET h b 2"],
        ["HSET h a 1 b 2", "EXPIRE h 9"],
        ["HSET h a 1 b 2", "HEXPIRE h 9 FIELDS 2 a b", "HPERSIST h FIELDS 2 b a"],
    ):
        db = Local()
        for command in commands:
            db(*command.split())
        digests.append(db("EVENTDB.DIGEST"))
        checked(db)
    assert len(set(map(str, digests))) == 5 and str(digests[0]) == str(digests[5])


def test_a_large_hash_is_scanned_past_its_deadlines() -> None:
    seed = 11
    rng = random.Random(seed)
    db = Local()
    fields = [f"f{i}" for i in range(1000)]
    db("HSET", "h", *(word for field in fields for word in (field, "v")))
    gone = set(rng.sample(fields, 600))
    db("HPEXPIRE", "h", 10, "FIELDS", len(gone), *gone)
    assert db("OBJECT", "ENCODING", "h") == b"hashtable"
    cursor, found = b"0", []
    for step in range(1000):
        if step == 3:
            later(db, 10)
            found = []
            cursor = b"0"
        reply = db("HSCAN", "h", cursor, "COUNT", 10)
        assert isinstance(reply, list)
        cursor = reply[0]
        found += reply[1][::2]
        if cursor == b"0":
            break
    assert sorted(found) == sorted(f.encode() for f in fields if f not in gone), f"seed {seed}"
    assert db("HLEN", "h") == 400
    assert len(db("HRANDFIELD", "h", 900)) == 400  # type: ignore[arg-type]


# -- against a model, which knows the clock

FIELDS = st.sampled_from(["a", "b", "c"])
KEYS = st.sampled_from(["h", "k"])
STEPS = st.one_of(
    st.tuples(st.just("later"), st.sampled_from([1, 5, 10, 30])),
    st.tuples(st.just("cycle")),
    st.tuples(st.just("HSET"), KEYS, FIELDS, st.integers(0, 9)),
    st.tuples(st.just("HINCRBY"), KEYS, FIELDS, st.integers(0, 9)),
    st.tuples(st.just("HDEL"), KEYS, FIELDS, FIELDS),
    st.tuples(st.just("HPEXPIRE"), KEYS, st.sampled_from([0, 5, 10, 20]), st.sampled_from(["", "NX", "XX", "GT", "LT"]),
              FIELDS, FIELDS),
    st.tuples(st.just("HPERSIST"), KEYS, FIELDS),
    st.tuples(st.just("HSETEX"), KEYS, st.sampled_from(["", "FNX", "FXX"]), st.sampled_from(["", "KEEPTTL", "PX 10"]),
              FIELDS, st.integers(0, 9)),
    st.tuples(st.just("HGETDEL"), KEYS, FIELDS),
    st.tuples(st.just("RENAME"), KEYS, KEYS),
    st.tuples(st.just("COPY"), KEYS, KEYS),
)  # fmt: skip


class Model:
    """key -> field -> (value, deadline), without what is past its deadline."""

    def __init__(self) -> None:
        self.now = 0
        self.keys: dict[str, dict[str, tuple[int, int]]] = {}

    def later(self, ms: int) -> None:
        self.now += ms
        for key, fields in list(self.keys.items()):
            self.keys[key] = {f: (v, at) for f, (v, at) in fields.items() if at > self.now}

    def run(self, step: tuple[Word, ...]) -> list[Word] | None:
        """Change the model; the command to send, or None when it has none."""
        name, key, *rest = cast("tuple[str, ...]", step)
        fields = self.keys.setdefault(key, {})
        never = 1 << 60
        if name == "HSET":
            fields[rest[0]] = (int(rest[1]), never)
        elif name == "HINCRBY":
            value, at = fields.get(rest[0], (0, never))
            fields[rest[0]] = (value + int(rest[1]), at)
        elif name in ("HDEL", "HGETDEL"):
            for field in rest:
                fields.pop(field, None)
            if name == "HGETDEL":
                return [name, key, "FIELDS", 1, *rest]
        elif name == "HPERSIST":
            if rest[0] in fields:
                fields[rest[0]] = (fields[rest[0]][0], never)
            return [name, key, "FIELDS", 1, *rest]
        elif name == "HPEXPIRE":
            self._expire(fields, int(rest[0]), rest[1], rest[2:])
            return [name, key, rest[0], *([rest[1]] if rest[1] else []), "FIELDS", 2, *rest[2:]]
        elif name == "HSETEX":
            condition, ttl, field, value = rest
            if not condition or (field in fields) == (condition == "FXX"):
                kept = fields.get(field, (0, never))[1]
                fields[field] = (int(value), kept if ttl == "KEEPTTL" else self.now + 10 if ttl else never)
            return [name, key, *condition.split(), *ttl.split(), "FIELDS", 1, field, value]
        return [name, key, *rest]

    def _expire(self, fields: dict[str, tuple[int, int]], ms: int, condition: str, names: list[str]) -> None:
        at = self.now + ms
        for field in names:
            if field in fields:
                value, current = fields[field]
                none = current == 1 << 60
                if (condition == "NX" and not none) or (condition in ("XX", "GT") and none):
                    continue
                if (condition == "GT" and at <= current) or (condition == "LT" and at >= current):
                    continue
                if ms == 0:
                    del fields[field]
                else:
                    fields[field] = (value, at)

    def whole(self, name: str, key: str, other: str) -> None:
        """RENAME or COPY … REPLACE."""
        if key != other and self.keys.get(key):
            self.keys[other] = dict(self.keys[key])
            if name == "RENAME":
                self.keys[key] = {}


def compare_with(model: Model, node: Local, step: object) -> None:
    for key in ("h", "k"):
        found = node("HGETALL", key)
        assert isinstance(found, list)
        expected = {f.encode(): b"%d" % v for f, (v, _) in model.keys.get(key, {}).items()}
        assert dict(zip(found[::2], found[1::2], strict=True)) == expected, step
        assert node("HLEN", key) == len(expected)


@examples(80)
@given(st.integers(1, 40).flatmap(lambda n: st.lists(STEPS, min_size=n, max_size=n)))
def test_any_sequence_does_what_a_model_with_a_clock_says(steps: list[Step]) -> None:
    db, model = Local(), Model()
    for step in cast("list[tuple[Word, ...]]", steps):
        if step[0] == "later":
            later(db, int(step[1]))
            model.later(int(step[1]))
        elif step[0] == "cycle":
            cycle(db)
        elif step[0] in ("RENAME", "COPY"):
            name, key, other = cast("tuple[str, str, str]", step)
            if not model.keys.get(key):
                cycle(db)  # a hash of which nothing is left is a key until the cycle comes
            db(name, key, other, *(["REPLACE"] if name == "COPY" else []))
            model.whole(name, key, other)
        else:
            command = model.run(step)
            assert command is not None
            assert not isinstance(db(*command), Exception), command
        compare_with(model, db, step)
    compare_with(model, replica_of(db), "replayed")
    later(db, 100)
    cycle(db)
    assert not any(each.timed for each in db.engine.store.keyspace.dbs)
    for value in db.engine.store.keyspace.dbs[0].values.values():
        assert isinstance(value, HashValue) and value.fields
    db.check_replay()


def test_replaying_on_a_replica_keeps_no_heaps() -> None:
    db = Local()
    db("HSETEX", "h", "PX", 10, "FIELDS", 1, "a", 1)
    made = Engine(Config(), Commit(lambda batch: None, lambda action: None), 2)
    made.apply(cast("list[list[bytes | list[bytes]]]", db.transactions()))
    first = made.store.keyspace.dbs[0]
    value = first.values[b"h"]
    assert isinstance(value, TimedHash) and value.heap is None
    assert first.element_deadlines is None and list(first.timed) == [b"h"]


def test_a_state_that_is_loaded_again_is_tracked_again() -> None:
    db = Local()
    db("HSETEX", "h", "PX", 10, "FIELDS", 1, "a", 1)
    assert put_in_place(replica_of(db).engine.store.keyspace, db.engine.store.keyspace) == ""
    later(db, 10)
    cycle(db)
    assert db("EXISTS", "h") == 0
