"""Atomic errors: an EXEC or a script that fails leaves nothing behind, whatever it had changed."""

from __future__ import annotations

import random
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventdb import commands
from eventdb.engine.client import Client
from eventdb.engine.command import NO_MULTI, WRITE
from eventdb.engine.registry import called
from eventdb.engine.settings import Config
from eventdb.keyspace.order import reversed_bits
from eventdb.keyspace.value import NEVER, Value
from tests.kit.calls import FILL, calls, filled
from tests.kit.differential import examples
from tests.kit.harness import Local

commands.load()
MORE = """
FLUSHALL
FLUSHDB
SWAPDB 0 1
SELECT 1
SELECT 0
SET s replaced
SET v kept KEEPTTL
SET new 1 PX 5000
APPEND n 1
SETBIT s 5 1
RENAME l m
RENAME h new
RENAMENX s new
MOVE s 1
MOVE wide 1
MOVE z 1
COPY z new DB 1 REPLACE
COPY a s REPLACE
LPUSH gone 1
RPUSH gone 2
RPOP gone
LPOP l 10
LPOP l
RPOP l
DEL gone s h
XADD x * f v
XREADGROUP GROUP g c STREAMS x >
XGROUP DESTROY x g
XTRIM x MAXLEN 0
EXPIRE s 0
PERSIST v
PEXPIRE s 77777
SUNIONSTORE a a b
ZUNIONSTORE z 2 y z
SPOP a 3
GETSET v 1
MSETNX n1 1 n2 2
GETDEL v
PFMERGE new i j
LMOVE l gone LEFT RIGHT
PUBLISH c message
"""
WRITES = [
    call
    for call in [*calls(), *(line.split() for line in MORE.strip().split("\n"))]
    if not isinstance(found := called([word.encode() for word in call]), str)
    and (found.bits & WRITE or call[0] in ("SELECT", "PUBLISH"))
    and not found.bits & NO_MULTI
    and found.inner is None
]
CHANCE = ("SPOP",)  # which elements, depends on how a set came to be


def prepare(seed: int = 3) -> Local:
    """A keyspace with everything that a transaction may disturb."""
    local = filled(Local(seed))
    local("SELECT", 1)
    for line in FILL.strip().split("\n")[:8]:
        local.raw(*line.split())
    local("SELECT", 0)
    local("HSET", "wide", *[word for i in range(600) for word in (f"f{i}", i)])
    local("XADD", "x", "4-1", "f", "y")
    local("XGROUP", "CREATE", "x", "other", "$")
    local("SCAN", 0)
    local("RANDOMKEY")
    local("HSCAN", "wide", 0)
    return local


def scan(local: Local, *asked: object) -> list[bytes]:
    """All elements in the order in which cursors pass them; how many a call returns may change."""
    found: list[bytes] = []
    cursor: object = b"0"
    while True:
        reply = local(*asked[:-1], cursor, *asked[-1])  # type: ignore[arg-type, misc]
        assert isinstance(reply, list)
        page = reply[1] if asked[0] == "SCAN" else reply[1][::2]
        found += sorted(page, key=lambda key: reversed_bits(crc32(key)))
        cursor = reply[0]
        if cursor == b"0":
            return found


def sight(local: Local, others: list[Client]) -> dict[str, Any]:
    """Everything that may be seen of the state."""
    store, engine = local.engine.store, local.engine
    found: dict[str, Any] = {"digest": engine.digest(), "dbs": [], "log": len(local.log)}
    for db in store.keyspace.dbs:
        heap = set(db.deadlines or ())
        assert {(at_ms, key) for key, at_ms in db.expires.items()} <= heap, "each deadline will be met"
        for key, value in db.values.items():
            if isinstance(value, Value) and (soonest := value.soonest()) < NEVER:
                at_ms = db.timed.get(key, NEVER)
                assert at_ms <= soonest and (at_ms, key) in set(db.element_deadlines or ()), "so will that of a field"
        assert db.order is None or sorted(element_of(db.order)) == sorted(db.values)
        found["dbs"].append((dict(sorted(db.expires.items())), sorted(db.values)))
    watching = store.watching
    found["watches"] = {
        place: {id(watch): watch.expired for watch in watches} for place, watches in watching.watches.items()
    }
    found["watchers"] = [(one.watcher.broken, [id(each) for each in one.watcher.watches]) for one in others]
    found["blocked"] = [(one.blocked is not None, dict(store.awaited), list(store.ready)) for one in others]
    batch = engine.commit.open
    found["batch"] = (set(batch.dirty), batch.whole, batch.count, engine.commit.offset, len(engine.commit.pending))
    found["open"] = (list(store.events), store.event_db, store.event_size, len(engine.deferred), store.undo)
    found["expired"] = store.expired_keys
    found["received"] = [local.take(one) for one in others]
    asking = local.connect()
    found["scan"] = scan(local, "SCAN", ["COUNT", "3"])
    found["wide"] = scan(local, "HSCAN", "wide", ["COUNT", "50"])
    for key in sorted(store.keyspace.dbs[0].values):
        found[repr(key)] = (local("OBJECT", "ENCODING", key, client=asking), local("PTTL", key, client=asking))
        if local("TYPE", key, client=asking) == b"hash":
            found["order of " + repr(key)] = local("HGETALL", key, client=asking)
    engine.disconnect(asking)
    return found


def element_of(order: Any) -> list[bytes]:
    return [key for key in order.pending if key not in order.gone] + [
        key for bucket in order.buckets if bucket for key in bucket
    ]


def onlookers(local: Local, late: bool) -> list[Client]:
    """Clients that watch keys, wait for keys and listen; late: deadlines have passed, and no key was deleted."""
    watcher, other, waiting, reading, listening = (local.connect() for _ in range(5))
    local("WATCH", "s", "l", "h", "v", "x", "gone", "new", client=watcher)
    local("SELECT", 1, client=other)
    local("WATCH", "s", "nothing", client=other)
    local("BLPOP", "gone", "new", 0, client=waiting)
    local("XREADGROUP", "GROUP", "other", "w", "BLOCK", 0, "STREAMS", "x", ">", client=reading)
    local("SUBSCRIBE", "c", client=listening)
    found = [watcher, other, waiting, reading, listening]
    if late:
        local.engine.store.now_ms += 200_000
        found.append(local.connect())
        local("WATCH", "v", "gone", client=found[-1])  # an absent key, for who watches it only now
    for one in found:
        local.take(one)
    return found


def check_undone(local: Local, run: list[list[str]], late: bool) -> None:
    others = onlookers(local, late)
    before = sight(local, others)
    assert local("EVENTDB.ATOMIC", "ON") == b"OK"
    local("MULTI")
    for call in run:
        local.raw(*call)
    local("LPUSH", "fails", "x")
    local("INCR", "fails")
    reply = str(local("EXEC"))
    assert reply.startswith("EXECABORT Transaction undone because of an error in command "), reply
    assert local.client.db.index == 0
    after = sight(local, others)
    assert {k: v for k, v in after.items() if before[k] != v} == {}
    local.check_replay()


@pytest.mark.parametrize("call", WRITES, ids=" ".join)
def test_every_write_is_undone(call: list[str]) -> None:
    for late in (False, True):
        check_undone(prepare(), [call], late)


@examples(100)
@given(st.lists(st.sampled_from(WRITES), min_size=1, max_size=12), st.booleans())
def test_any_transaction_is_undone_and_life_goes_on(run: list[list[str]], late: bool) -> None:
    local, untouched = prepare(), prepare()
    check_undone(local, run, late)
    onlookers(untouched, late)
    local("EVENTDB.ATOMIC", "OFF")
    replies = []
    for each in (local, untouched):
        each.engine.store.rng = random.Random(9)
        replies.append([each.raw(*call) for call in run if call[0] not in CHANCE])
        each.check_replay()
    assert local.engine.digest() == untouched.engine.digest()
    assert [each[:1] for each in replies[0]] == [each[:1] for each in replies[1]]


def test_a_deadline_is_met_after_the_heap_of_deadlines_was_made_anew() -> None:
    local = Local()
    local("EVENTDB.ATOMIC", "ON")
    local("SET", "k", "v", "PX", 1000)
    assert isinstance(transaction(local, "PERSIST k", *["PEXPIRE k 99999", "PERSIST k"] * 1100, "INCR k"), Exception)
    local.engine.store.now_ms += 1000
    local.engine.expire_cycle()
    assert not local.engine.store.keyspace.dbs[0].values
    local.turn()
    local.check_replay()


@pytest.fixture
def local() -> Local:
    return Local()


def transaction(local: Local, *lines: str) -> object:
    local("MULTI")
    for line in lines:
        local(*line.split())
    return local("EXEC")


def test_off_it_is_as_in_redis(local: Local) -> None:
    found = transaction(local, "SET k v", "INCR k", "SET m 1")
    assert isinstance(found, list) and found[0] == b"OK" and "not an integer" in str(found[1]) and found[2] == b"OK"


def test_the_setting_and_the_choice_of_a_connection(local: Local) -> None:
    undone = (
        "EXECABORT Transaction undone because of an error in command 2 ('incr'):"
        " ERR value is not an integer or out of range"
    )
    local("CONFIG", "SET", "atomic-errors", "yes")
    assert str(transaction(local, "SET k v", "INCR k", "SET m 1")) == undone
    local("EVENTDB.ATOMIC", "OFF")
    assert isinstance(transaction(local, "SET k v", "INCR k"), list)
    local("RESET")
    assert str(transaction(local, "SET k w", "INCR k")) == undone
    local("CONFIG", "SET", "atomic-errors", "no")
    assert isinstance(transaction(local, "SET k v", "INCR k"), list)
    local("EVENTDB.ATOMIC", "on")
    assert str(transaction(local, "SET k w", "INCR k")) == undone
    assert local("GET", "k") == b"v" and local("EXISTS", "m") == 0
    assert str(local("EVENTDB.ATOMIC", "MAYBE")) == "ERR Use EVENTDB.ATOMIC ON|OFF"
    local.check_replay()


def test_what_does_not_fail_is_committed(local: Local) -> None:
    local("EVENTDB.ATOMIC", "ON")
    watcher = local.connect()
    local("WATCH", "k", client=watcher)
    waiting = local.connect()
    assert local.raw("BLPOP", "l", 0, client=waiting) == b""
    assert transaction(local, "SET k v", "RPUSH l a", "GET gone") == [b"OK", 1, None]
    assert local.take(waiting) == b"*2\r\n$1\r\nl\r\n$1\r\na\r\n"
    local("MULTI", client=watcher)
    assert local("EXEC", client=watcher) is None
    assert local.engine.store.undo is None and local.engine.store.watching.journal is None
    local.check_replay()


def test_messages_of_a_transaction_that_fails_are_not_published(local: Local) -> None:
    listener = local.connect()
    local("SUBSCRIBE", "c", client=listener)
    local.take(listener)
    local("EVENTDB.ATOMIC", "ON")
    local("SET", "k", "v")
    assert isinstance(transaction(local, "PUBLISH c m", "INCR k"), Exception)
    local("PING")
    assert local.take(listener) == b""
    assert transaction(local, "PUBLISH c m") == [1]
    assert local.take(listener) == b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n"


def test_scripts(local: Local) -> None:
    pytest.importorskip("lupa")
    local("EVENTDB.ATOMIC", "ON")
    script = "redis.call('set','k','v') redis.call('get','k') return redis.call('incr','k')"
    reply = str(local("EVAL", script, 0))
    start = "EXECABORT Script undone because of an error in its command 3 ('incr'): ERR value is not an integer"
    assert reply.startswith(start), reply
    assert local("EXISTS", "k") == 0 and local.events() == []
    caught = "redis.call('set','k','v') local r = redis.pcall('incr','k') return r.err"
    assert local("EVAL", caught, 0) == b"ERR value is not an integer or out of range"
    assert local("GET", "k") == b"v", "an error that the script handles undoes nothing"
    passed_on = "redis.call('set','k','w') return redis.pcall('lpush','k','x')"
    assert "in its command 2 ('lpush'): WRONGTYPE" in str(local("EVAL", passed_on, 0))
    own = "redis.call('set','k','w') return redis.error_reply('MINE no')"
    assert str(local("EVAL", own, 0)) == "EXECABORT Script undone because of its error: MINE no"
    assert "its error: ERR user_script:1: boom" in str(local("EVAL", "redis.call('set','k','w') error('boom')", 0))
    assert local("GET", "k") == b"v"
    assert str(local("EVALSHA", "f" * 40, 0)).startswith("NOSCRIPT"), "it has changed nothing"
    assert str(local("EVAL", "return redis.error_reply('MINE no')", 0)) == "MINE no"
    local("EVENTDB.ATOMIC", "OFF")
    assert str(local("EVAL", own, 0)) == "MINE no"
    assert local("GET", "k") == b"w"
    local.check_replay()


def test_a_script_inside_a_transaction_fails_with_it(local: Local) -> None:
    pytest.importorskip("lupa")
    local("EVENTDB.ATOMIC", "ON")
    local("MULTI")
    local("SET", "a", 1)
    local("EVAL", "redis.call('set','b',1) return redis.call('lpush','b',1)", 0)
    assert "error in command 2 ('eval'): WRONGTYPE" in str(local("EXEC"))
    assert local("DBSIZE") == 0 and local.events() == []


def test_a_transaction_with_a_token_that_fails_may_be_tried_again(local: Local) -> None:
    local("EVENTDB.ATOMIC", "ON")
    local("SET", "k", "v")
    for value in ("v", "7"):
        local("SET", "k", value)
        local("MULTI")
        local("RPUSH", "l", "x")
        local("INCR", "k")
        found = local("EVENTDB.ONCE", "t", "EXEC")
    assert found == [1, 8] and local("LLEN", "l") == 1
    local.check_replay()


def test_after_a_kill_nothing_of_it_is_there() -> None:
    """The log never had it: what a replay gives is what the clients saw."""
    config = Config()
    config.set("atomic-errors", "yes")
    local = Local(config=config)
    local("SET", "k", "v")
    for i in range(5):
        local("MULTI")
        local("SET", f"k{i}", i)
        local("FLUSHALL")
        local("INCR", "n")
        local("LPUSH", "n", "x")
        assert isinstance(local("EXEC"), Exception)
        assert local("INCR", "counter") == i + 1
    assert [event[0] for event in local.events()] == [b"SET"] * 6
    assert local("KEYS", "*") == [b"k", b"counter"]
    local.check_replay()
