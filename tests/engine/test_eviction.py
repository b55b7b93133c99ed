"""Keys are evicted above maxmemory as maxmemory-policy says, by DEL events, and only by a primary."""

from __future__ import annotations

from typing import cast

import pytest

from eventdb.engine.client import EVICTS, FOLLOWING, OUT_OF_MEMORY
from eventdb.engine.eviction import time_limit
from eventdb.protocol.replies import error
from tests.conftest import StartServer
from tests.kit.harness import Local
from tests.kit.wire import Wire

OOM = error("OOM command not allowed when used memory > 'maxmemory'.")
OK = b"+OK\r\n"
POLICIES = ["allkeys-lru", "allkeys-lfu", "allkeys-random"]
VOLATILE = ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"]


def evicting(policy: str) -> Local:
    """An engine under a limit that it will not reach by itself."""
    local = Local()
    assert local.raw("CONFIG", "SET", "maxmemory", "1000gb", "maxmemory-policy", policy) == OK
    return local


def evict(local: Local, size: int = 1) -> None:
    """As if a measurement had found `size` bytes too much."""
    eviction = local.engine.eviction
    eviction._debt = size
    eviction.make_room(local.engine.commit, 1.0)
    local.turn()


def keys(local: Local) -> set[bytes]:
    found = local("KEYS", "*")
    assert isinstance(found, list)
    return set(found)


def test_it_costs_nothing_until_both_a_limit_and_a_policy_are_set() -> None:
    local = Local()
    local.raw("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    assert local.engine.gate == 0
    local.raw("CONFIG", "SET", "maxmemory", "1000gb")
    assert local.engine.gate == EVICTS
    local.raw("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert local.engine.gate == 0


@pytest.mark.parametrize("policy", POLICIES + VOLATILE)
def test_what_is_evicted_is_in_the_log(policy: str) -> None:
    local = evicting(policy)
    for n in range(40):
        local.raw("SET", f"k{n}", "v" * 100, "PX", 1_000_000 + n)
        local.raw("SELECT", 3)
        local.raw("RPUSH", f"l{n}", "v" * 100)
        local.raw("EXPIRE", f"l{n}", 10_000)
        local.raw("SELECT", 0)
    evict(local, 5_000)
    deleted: list[bytes] = []
    for transaction in local.transactions():
        if transaction[0] == b"eviction":
            deleted += [event[1] for event in cast("list[list[bytes]]", transaction[1:]) if event[0] == b"DEL"]
    assert 5 < len(deleted) < 40 and len(set(deleted)) == len(deleted)
    assert local.engine.eviction.evicted == len(deleted) == 80 - local.engine.key_count()
    assert b"evicted_keys:%d\r\n" % len(deleted) in local.raw("INFO", "stats")
    local.check_replay()
    local.raw("CONFIG", "RESETSTAT")
    assert b"evicted_keys:0\r\n" in local.raw("INFO", "stats")


@pytest.mark.parametrize("policy", VOLATILE)
def test_keys_without_a_deadline_are_none_of_a_volatile_policy(policy: str) -> None:
    local = evicting(policy)
    for n in range(10):
        local.raw("SET", f"kept{n}", "v")
        local.raw("SET", f"k{n}", "v", "EX", 100)
        local.raw("EXPIRE", f"k{n}", 200)  # the heap has entries that mean nothing any more
    local.raw("PERSIST", "k9")
    evict(local, 1 << 40)
    assert local.engine.eviction.failing
    assert keys(local) == {f"kept{n}".encode() for n in range(10)} | {b"k9"}


def test_the_next_to_expire_goes_first() -> None:
    local = evicting("volatile-ttl")
    for n in (50, 20, 40, 10, 30):
        local.raw("SET", f"k{n}", "v", "EX", n)
    local.raw("EXPIRE", "k10", 100)
    evict(local)
    assert keys(local) == {b"k10", b"k30", b"k40", b"k50"}


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru"])
def test_the_longest_unused_goes_first(policy: str) -> None:
    local = evicting(policy)
    local.raw("CONFIG", "SET", "maxmemory-samples", 64)
    for n in range(10):
        local.raw("SET", f"k{n}", "v", "EX", 1000)
        local.engine.store.now_ms += 1000
    local.raw("GET", "k0")
    evict(local)
    evict(local)
    assert keys(local) == {b"k0"} | {f"k{n}".encode() for n in range(3, 10)}


@pytest.mark.parametrize("policy", ["allkeys-lfu", "volatile-lfu"])
def test_the_least_used_goes_first(policy: str) -> None:
    local = evicting(policy)
    local.raw("CONFIG", "SET", "maxmemory-samples", 64, "lfu-log-factor", 0)
    for n in range(10):
        local.raw("SET", f"k{n}", "v", "EX", 1000)
        for _ in range(n if n != 7 else 0):
            local.raw("GET", f"k{n}")
    evict(local)
    evict(local)
    assert keys(local) == {f"k{n}".encode() for n in range(1, 10) if n != 7}


def test_when_nothing_can_be_evicted_commands_that_need_memory_are_refused() -> None:
    local = evicting("volatile-random")
    local.raw("SET", "k", "v")
    local.raw("CONFIG", "SET", "maxmemory", 1)
    assert local.raw("SET", "k", "w") == OOM
    assert local.engine.gate & OUT_OF_MEMORY
    assert local.raw("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "k").startswith(b"-OOM")
    assert local.raw("GET", "k") == b"$1\r\nv\r\n" and local.raw("EXPIRE", "k", 100) == b":1\r\n"
    while local.raw("SET", "l", "w") == OOM and local("EXISTS", "k"):
        pass  # a measurement was made a moment ago
    assert [event for event in local.events() if event[0] == b"DEL"] == [[b"DEL", b"k"]]
    local.check_replay()


def test_a_limit_that_is_set_at_runtime_evicts_at_once_and_no_replica_does() -> None:
    local = evicting("allkeys-random")
    for n in range(5):
        local.raw("SET", f"k{n}", "v")
    engine = local.engine
    engine.gate |= FOLLOWING
    engine.config.memory_bytes_max = 1
    engine.reconfigure()
    engine.cron()
    local.turn()
    assert engine.key_count() == 5 and local.raw("GET", "k1") == b"$1\r\nv\r\n"
    engine.gate &= ~FOLLOWING
    engine.cron()
    local.turn()
    assert engine.key_count() < 5
    while engine.key_count():
        engine.cron()
        local.turn()
    local.check_replay()


def test_evictions_are_notified_as_such_and_break_what_watches() -> None:
    local = evicting("allkeys-random")
    local.raw("CONFIG", "SET", "notify-keyspace-events", "KEA")
    listener, watcher = local.connect(), local.connect()
    local.raw("SET", "k", "v")
    local.raw("PSUBSCRIBE", "__key*@0__:*", client=listener)
    local.raw("WATCH", "k", client=watcher)
    local.raw("MULTI", client=watcher)
    evict(local)
    told = local.raw("PING", client=listener)
    assert told.count(b"evicted") == 2 and b"del" not in told
    assert local.raw("EXEC", client=watcher) == b"*-1\r\n"


def test_a_command_evicts_no_longer_than_tenacity_allows() -> None:
    assert time_limit(0) == 0 and time_limit(10) == pytest.approx(500e-6)
    assert 500e-6 < time_limit(50) < 1 < time_limit(100)
    local = evicting("allkeys-random")
    for n in range(1000):
        local.raw("SET", f"k{n}", "v")
    local.engine.eviction._debt = 1 << 40
    local.engine.eviction.make_room(local.engine.commit, 0.0)
    assert local.engine.key_count() == 999


def test_what_a_flush_has_freed_is_not_evicted_again() -> None:
    local = evicting("allkeys-random")
    local.raw("SET", "k", "v")
    local.engine.eviction._debt = 1 << 40
    local.raw("FLUSHALL")
    local.raw("SET", "k", "v")
    assert keys(local) == {b"k"}


@pytest.mark.parametrize("size", [100, 10_000])
def test_memory_stays_at_the_limit_and_the_log_says_the_same(eventdb_server: StartServer, size: int) -> None:
    """Small values are in the interpreter's own memory, of which little is given back: not all goes for that."""
    server = eventdb_server()
    with Wire(server.port) as wire:

        def used() -> int:
            info = wire("INFO", "memory")
            assert isinstance(info, bytes)
            return int(info.split(b"used_memory:")[1].split(b"\r\n")[0])

        count = 16_000_000 // (size + 150)
        limit = used() + 8_000_000
        wire("CONFIG", "SET", "maxmemory", limit, "maxmemory-policy", "allkeys-lru")
        for first in range(0, count, 100):
            assert wire("MSET", *[part for n in range(first, first + 100) for part in (f"k:{n}", b"v" * size)]) == b"OK"
        kept = wire("DBSIZE")
        assert isinstance(kept, int) and count // 5 < kept < count * 9 // 10
        assert used() < limit + 2_000_000
        assert wire("EXISTS", f"k:{count - 1}") == 1 and wire("EXISTS", "k:0") == 0
        wire("CONFIG", "SET", "maxmemory", 0)
        kept, live = wire("DBSIZE"), wire("EVENTDB.DIGEST")
    server.kill()
    server.restart()
    with Wire(server.port) as wire:
        assert wire("EVENTDB.DIGEST") == live and wire("DBSIZE") == kept
