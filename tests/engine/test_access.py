"""OBJECT IDLETIME and FREQ: kept where a setting asks for it, as Redis keeps them, and at no price elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from eventdb.engine.access import SPARE
from eventdb.engine.client import TRACKED
from eventdb.protocol.replies import error
from tests.kit.differential import Address, Pair, Wire
from tests.kit.harness import Local

NOT_KEPT = (
    "ERR times of access are not kept unless asked for: CONFIG SET track-access yes, or an LRU maxmemory-policy;"
    " they count from then on"
)


def idle(local: Local, key: str) -> object:
    return local("OBJECT", "IDLETIME", key)


def pass_seconds(local: Local, seconds: int) -> None:
    local.engine.store.now_ms += seconds * 1000


def test_nothing_is_kept_and_nothing_is_looked_at_unless_asked_for() -> None:
    local = Local()
    local.raw("SET", "k", "v")
    assert local.raw("OBJECT", "IDLETIME", "k") == error(NOT_KEPT)
    assert local.raw("OBJECT", "IDLETIME", "nokey") == b"$-1\r\n"
    assert local.engine.store.accesses is None and local.engine.gate == 0
    local.raw("CONFIG", "SET", "track-access", "yes")
    assert local.engine.gate == TRACKED
    local.raw("CONFIG", "SET", "track-access", "no")
    assert local.engine.store.accesses is None and local.engine.gate == 0


@pytest.mark.parametrize("setting", [("track-access", "yes"), ("maxmemory-policy", "volatile-lru")])
def test_times_of_access_count_from_the_setting_on(setting: tuple[str, str]) -> None:
    local = Local()
    local.raw("SET", "old", "v")
    local.raw("CONFIG", "SET", *setting)
    pass_seconds(local, 10)
    local.raw("SET", "k", "v")
    local.raw("HSET", "h", "f", "v")
    assert (idle(local, "old"), idle(local, "k"), idle(local, "h")) == (10, 0, 0)
    pass_seconds(local, 5)
    for line in ("TYPE k", "TTL k", "EXISTS k", "OBJECT ENCODING k", "MEMORY USAGE k", "SCAN 0", "DBSIZE"):
        local.raw(*line.split())
    assert (idle(local, "old"), idle(local, "k")) == (15, 5)
    for line in ("GET k", "TOUCH old"):
        local.raw(*line.split())
    assert (idle(local, "old"), idle(local, "k"), idle(local, "h")) == (0, 0, 5)
    pass_seconds(local, 5)
    for line in ("MULTI", "GET k", "SELECT 1", "SET other v", "EXEC"):
        local.raw(*line.split())
    assert idle(local, "other") == 0
    local.raw("SWAPDB", "0", "1")
    assert (idle(local, "k"), idle(local, "h")) == (0, 10)
    local.raw("RENAME", "h", "new")
    assert idle(local, "new") == 0
    local.raw("MOVE", "new", "3")
    local.raw("SELECT", "3")
    assert idle(local, "new") == 0
    local.check_replay()


def test_commands_of_a_client_that_does_not_touch_are_no_use_of_a_key_but_touch_is() -> None:
    local = Local()
    local.raw("CONFIG", "SET", "track-access", "yes")
    local.raw("SET", "k", "v")
    assert local.raw("CLIENT", "NO-TOUCH", "on") == b"+OK\r\n"
    assert b" flags=T " in local.raw("CLIENT", "LIST")
    pass_seconds(local, 5)
    local.raw("GET", "k")
    assert idle(local, "k") == 5
    local.raw("TOUCH", "k")
    assert idle(local, "k") == 0


def test_a_replica_keeps_what_it_was_asked_itself_and_a_change_of_role_loses_nothing() -> None:
    local = Local()
    local.raw("CONFIG", "SET", "track-access", "yes")
    local.raw("SET", "k", "v")
    pass_seconds(local, 5)
    local.engine.gate = 0  # as a node sets it when its role changes
    local.engine.cron()
    assert idle(local, "k") == 5
    local.raw("GET", "k")
    assert idle(local, "k") == 0


def test_keys_that_are_gone_are_forgotten() -> None:
    local = Local()
    local.raw("CONFIG", "SET", "track-access", "yes")
    for i in range(SPARE + 10):
        local.raw("SET", f"k{i}", "v")
        local.raw("DEL", f"k{i}")
    local.raw("SET", "k", "v")
    accesses = local.engine.store.accesses
    assert accesses is not None and len(accesses.uses[0]) > SPARE
    local.engine.cron()
    assert list(accesses.uses[0]) == [b"k"]


@pytest.fixture
def counting(redis_server: Address) -> Iterator[Pair]:
    """Both under an LFU policy whose counter grows with every use."""
    words = ("maxmemory-policy", "allkeys-lfu", "lfu-log-factor", "0")
    with Pair(redis_server) as pair, closing(Wire(redis_server)) as wire:
        try:
            assert pair("CONFIG", "SET", *words) == b"+OK\r\n"
            yield pair
        finally:
            wire.call("CONFIG", "SET", "maxmemory-policy", "noeviction", "lfu-log-factor", "10")


@pytest.mark.redis
def test_frequencies_are_counted_as_redis_counts_them(counting: Pair) -> None:
    """With a factor of 0 each use counts; Redis's counters decay by the minute, so none passes here."""
    for line in (
        "SET k v", "OBJECT FREQ k", "GET k", "OBJECT FREQ k", "GET k", "TYPE k", "EXISTS k", "TTL k", "OBJECT FREQ k",
        "SET k w", "OBJECT FREQ k", "APPEND k x", "OBJECT FREQ k", "OBJECT FREQ nokey", "OBJECT IDLETIME k",
        "RPUSH l a b", "LRANGE l 0 -1", "OBJECT FREQ l", "DEL k", "SET k v", "OBJECT FREQ k",
        "CONFIG SET maxmemory-policy allkeys-lru", "OBJECT FREQ k",
    ):  # fmt: skip
        counting(*line.split())


def test_frequencies_grow_ever_more_slowly_and_decay() -> None:
    local = Local()
    local.raw("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    local.raw("SET", "k", "v")
    for _ in range(2000):
        local.raw("GET", "k")
    found = local("OBJECT", "FREQ", "k")
    assert isinstance(found, int) and 10 < found < 60
    pass_seconds(local, 240)
    assert local("OBJECT", "FREQ", "k") == found - 4
    local.raw("CONFIG", "SET", "lfu-decay-time", "0")
    pass_seconds(local, 600)
    assert local("OBJECT", "FREQ", "k") == found - 4
