"""maxmemory: commands that need memory are refused above it, as Redis refuses them without eviction."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from eventdb import commands
from eventdb.engine.client import FOLLOWING, OUT_OF_MEMORY
from eventdb.metrics.memory import SmallBlocks, give_back, malloc_facts, resident_bytes, used_bytes
from eventdb.protocol.replies import error
from tests.kit.differential import Address, Pair, Wire
from tests.kit.harness import Local

commands.load()
OOM = error("OOM command not allowed when used memory > 'maxmemory'.")


@pytest.fixture
def full(redis_server: Address) -> Iterator[Pair]:
    with Pair(redis_server) as pair, closing(Wire(redis_server)) as wire:
        try:
            for line in ("SET s 1", "RPUSH l a b", "HSET h f v", "CONFIG SET maxmemory 1"):
                pair(*line.split())
            yield pair
        finally:
            wire.call("CONFIG", "SET", "maxmemory", "0")


@pytest.mark.redis
def test_what_needs_memory_is_refused_as_redis_refuses_it(full: Pair) -> None:
    for line in (
        "GET s", "SET s 2", "SET s", "DEL s", "APPEND x y", "LPUSH l c", "LPOP l", "LMOVE l m LEFT LEFT", "HSET h f w",
        "HDEL h f", "EXPIRE l 100", "COPY l m", "RENAME l n", "SADD t a", "ZADD z 1 m", "INCR c", "GETSET s 1",
        "MULTI", "GET s", "EXEC", "MULTI", "SET s 1", "DISCARD", "MULTI", "EXEC", "MULTI", "SET s 1", "EXEC",
        "WATCH s", "UNWATCH", "FLUSHALL", "SET s 1", "CONFIG SET maxmemory 0", "SET s 1", "MULTI", "SET s 2",
        "CONFIG GET maxmemory", "EXEC",
    ):  # fmt: skip
        full(*line.split())
    full.check_state()


@pytest.mark.redis
def test_an_exec_whose_commands_need_memory_is_refused(full: Pair) -> None:
    for line in ("CONFIG SET maxmemory 0", "MULTI", "SET s 2"):
        full(*line.split())
    full("CONFIG", "SET", "maxmemory", "1", via=1)
    full("EXEC")
    full("GET", "s")


@pytest.mark.redis
def test_a_script_may_end_what_it_has_begun_and_begin_nothing(full: Pair) -> None:
    for script in (
        "return redis.call('GET', 's')",
        "return redis.pcall('SET', 's', 2)['err']",
        "return redis.call('DEL', 's')",
        "redis.call('DEL', 'l'); return redis.call('SET', 's', 3)",
    ):
        if "err" not in script:  # Redis names the script and the line in the text of an error
            full("EVAL", script, 0)
            continue
        theirs, ours = full.wires[0].call("EVAL", script, 0), full.local.raw("EVAL", script, 0)
        assert b"OOM command not allowed when used memory > 'maxmemory'." in theirs and theirs[:1] == ours[:1]
        assert b"OOM command not allowed when used memory > 'maxmemory'." in ours
    full("GET", "s")
    full.check_state()


def test_no_limit_costs_nothing_and_a_limit_is_looked_at_ten_times_a_second() -> None:
    local = Local()
    assert local.engine.gate == 0
    local.raw("CONFIG", "SET", "maxmemory", "100gb")
    assert local.engine.gate == 0 and local.raw("SET", "k", "v") == b"+OK\r\n"
    local.engine.config.memory_bytes_max = 1
    local.engine.cron()
    assert local.engine.gate == OUT_OF_MEMORY
    assert local.raw("SET", "k", "w") == OOM and local("GET", "k") == b"v"
    assert b"maxmemory:1\r\n" in local.raw("INFO", "memory")
    local.engine.gate |= FOLLOWING  # a replica takes what the log says, and its own answer is another one
    local.engine.gate_error = "READONLY"
    assert local.raw("SET", "k", "w") == error("READONLY")
    local.engine.gate &= ~FOLLOWING
    local.raw("CONFIG", "SET", "maxmemory", "0")
    assert local.engine.gate == 0 and local.raw("SET", "k", "w") == b"+OK\r\n"
    assert [event[0] for event in local.events()] == [b"SET", b"SET"]
    local.check_replay()


def test_expired_keys_are_deleted_above_the_limit() -> None:
    local = Local()
    local.raw("SET", "k", "v", "PX", "1")
    local.raw("CONFIG", "SET", "maxmemory", "1")
    local.engine.store.now_ms += 10
    local.engine.expire_cycle()
    local.turn()
    assert local.events()[-1] == [b"DEL", b"k"]


def test_used_memory_follows_large_values_that_come_and_go() -> None:
    if not malloc_facts():
        pytest.skip("this C library does not count")
    before = used_bytes()
    kept = [bytes(200_000) + bytes([i]) for i in range(200)]
    assert used_bytes() - before > 30_000_000
    assert used_bytes() <= resident_bytes() and len(kept) == 200
    kept.clear()
    assert used_bytes() - before < 10_000_000
    give_back()


def test_what_lies_free_in_the_interpreters_memory_is_counted_by_blocks() -> None:
    memory = SmallBlocks()
    assert memory.free(10_000_000, 100_000) == 0
    assert memory.free(110_000_000, 1_100_000) == 0  # 100 bytes a block
    assert memory.free(110_000_000, 600_000) == 50_000_000
    assert memory.free(100_000_000, 600_000) == 40_000_000, "what was given back does not show twice"
    assert memory.free(110_000_000, 1_100_000) == 0
    memory.free(110_000_000, 600_000)
    left = memory.free(120_000_000, 600_000)
    assert left == 30_000_000, "it grows although half is free: that half is of little use"
    assert memory.free(140_000_000, 600_000) == 0


def test_small_values_that_are_deleted_leave_used_memory() -> None:
    """In a process of its own: what others have left free in this one would take the values."""
    code = (
        "from eventdb.metrics.memory import used_bytes\n"
        "before = used_bytes()\n"
        "kept = [b'%d' % n * 20 for n in range(200_000)]\n"
        "full = used_bytes()\n"
        "del kept[::2]\n"
        "print(full - before, full - used_bytes())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown, fallen = map(int, done.stdout.split())
    assert grown > 20_000_000 and fallen > 5_000_000
