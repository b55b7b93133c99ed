"""CLIENT TRACKING: a client that caches hears of every change to what it holds, and never before it can read it.

Compared with a real redis-server message by message, in RESP2 and RESP3; what Redis has no word for (when a write
becomes visible, what a node does that loses its log) is asked of the commit pipeline.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import redis
from redis.cache import CacheConfig

from eventdb.engine.client import FOLLOWING, LOADING, Client
from eventdb.protocol.replies import OK, bulks
from tests.conftest import StartServer
from tests.kit.differential import Address, Arg
from tests.kit.harness import Local
from tests.kit.listening import Listening
from tests.pipeline.test_commit import Stalled

KEYS = ("k", "kk", "x", "y")


def invalidated(*keys: str) -> bytes:
    return b">2\r\n$10\r\ninvalidate\r\n" + bulks([key.encode() for key in keys])


@pytest.fixture
def local() -> Local:
    return Local()


NOTHING_KNOWN = b">2\r\n$10\r\ninvalidate\r\n_\r\n"

OPTIONS: list[tuple[Arg, ...]] = [
    (), ("NOLOOP",), ("BCAST",), ("BCAST", "NOLOOP"), ("OPTIN",), ("OPTOUT",), ("OPTIN", "NOLOOP"),
    ("BCAST", "PREFIX", "k"), ("BCAST", "PREFIX", "k", "PREFIX", "kk"), ("BCAST", "PREFIX", "kk", "PREFIX", "x"),
    ("BCAST", "PREFIX", "z", "PREFIX", "y"), ("PREFIX", "k"), ("OPTIN", "OPTOUT"), ("OPTIN", "BCAST"),
    ("REDIRECT", "@2"), ("BCAST", "REDIRECT", "@2"), ("REDIRECT", "@2", "REDIRECT", "@2"),
    ("REDIRECT", 999999999), ("REDIRECT",), ("REDIRECT", "x"), ("WRONG",), ("NOLOOP", "OPTOUT", "REDIRECT", "@2"),
]  # fmt: skip
OTHERS: list[tuple[Arg, ...]] = [
    ("FLUSHDB",), ("FLUSHALL",), ("MULTI",), ("EXEC",), ("EXEC",), ("DISCARD",), ("SELECT", 1), ("SELECT", 0),
    ("DBSIZE",), ("NONE",), ("GET",), ("RESET",), ("HELLO", 3), ("CLIENT", "TRACKINGINFO"),
    ("CLIENT", "CACHING", "YES"), ("CLIENT", "CACHING", "NO"), ("CLIENT", "CACHING", "MAYBE"),
    ("CLIENT", "TRACKING", "OFF"), ("CLIENT", "TRACKING", "OFF", "WRONG"), ("CLIENT", "TRACKING", "WHAT"),
    ("EVAL_RO", "return redis.call('get', KEYS[1])", 1, "k"),
    ("EVAL", "return {redis.call('get', KEYS[1]), redis.call('strlen', KEYS[1])}", 1, "x"),
]  # fmt: skip


def command(chance: random.Random) -> tuple[Arg, ...]:
    a, b = chance.choice(KEYS), chance.choice(KEYS)
    kind = chance.randrange(8)
    if kind < 2:
        return (chance.choice(["GET", "GET", "STRLEN", "INCR", "DEL", "TTL", "EXISTS", "PERSIST"]), a)
    if kind < 4:
        return (chance.choice(["SET", "APPEND", "EXPIRE", "LPUSH", "HGET"]), a, 100)
    if kind == 4:
        return (chance.choice(["MGET", "DEL", "RENAME", "TOUCH"]), a, b)
    if kind == 5:
        return ("CLIENT", "TRACKING", "ON", *chance.choice(OPTIONS))
    return chance.choice([*OTHERS, ("MSET", a, 1, b, 2)])


@pytest.mark.redis
@pytest.mark.parametrize("seed", range(30))
def test_what_two_tracking_clients_and_one_they_redirect_to_are_sent(still_redis: Address, seed: int) -> None:
    chance = random.Random(seed)
    with Listening(still_redis, [True, True, False]) as both:
        both.step(2, "SUBSCRIBE", "__redis__:invalidate")
        for number in (0, 1):
            both.step(number, "CLIENT", "TRACKING", "ON", *chance.choice(OPTIONS))
        for _ in range(40):
            both.step(chance.choice([0, 0, 1]), *command(chance))


@pytest.fixture
def node() -> Stalled:
    return Stalled()


def tracking(node: Stalled, *options: str) -> Client:
    client = node.connect()
    node.send(client, "HELLO", "3")
    assert node.send(client, "CLIENT", "TRACKING", "ON", *options) == OK
    return client


@pytest.mark.parametrize("options", [(), ("BCAST",)])
def test_whoever_hears_of_a_change_reads_what_replaced_it(node: Stalled, options: tuple[str, ...]) -> None:
    holder, writer = tracking(node, *options), node.connect()
    assert node.send(holder, "GET", "k") == b"_\r\n"
    assert node.send(writer, "SET", "k", "v") == b""
    assert node.received(holder) == b"", "an invalidation before the write is durable"
    assert node.send(holder, "GET", "k") == b""
    node.confirm()
    assert node.received(holder) == invalidated("k") + b"$1\r\nv\r\n"
    assert node.send(writer, "SET", "k", "w") == OK
    node.confirm()
    assert node.received(holder) == invalidated("k"), "the second read was not noted"


def test_an_invalidation_of_a_write_that_takes_too_long_comes_when_that_is_durable(node: Stalled) -> None:
    holder, writer = tracking(node), node.connect()
    node.send(holder, "GET", "k")
    node.send(writer, "SET", "k", "v")
    assert node.send(holder, "GET", "k") == b""
    batch = node.sent[0]
    clients, batch.clients = batch.clients, []
    for client in clients:
        client.fail_held("UNKNOWN", batch)
    assert node.received(holder) == b"-UNKNOWN\r\n" and node.received(writer) == b"-UNKNOWN\r\n"
    assert node.send(holder, "PING") == b"", "it keeps its place"
    node.confirm()
    assert node.received(holder) == invalidated("k") + b"+PONG\r\n"
    assert holder.owed == 0


def test_a_node_that_loses_its_state_makes_clients_forget_everything(node: Stalled) -> None:
    holder, writer = tracking(node), node.connect()
    node.send(holder, "GET", "k")
    node.send(writer, "SET", "k", "v")
    for batch in node.engine.commit.stop():
        for client in batch.clients:
            client.fail_held("UNKNOWN")
    node.engine.reset_state()
    node.turn()
    assert node.received(holder) == NOTHING_KNOWN
    assert node.engine.news.tracking.items == 0


def test_a_replica_invalidates_what_it_applies_and_a_rebuild_says_nothing() -> None:
    primary, replica = Local(), Local()
    replica.raw("HELLO", 3)
    replica.raw("CLIENT", "TRACKING", "ON")
    replica.engine.gate |= FOLLOWING
    replica.raw("MGET", "a", "b", "c")
    primary.raw("SET", "a", 1)
    primary.raw("EVAL", "redis.call('select', 3) redis.call('incr', 'b')", 0)
    replica.engine.apply(primary.transactions())  # type: ignore[arg-type]
    replica.turn()
    assert replica.take(replica.client) == invalidated("a") + invalidated("b")
    replica.raw("GET", "c")
    replica.engine.gate |= LOADING
    primary.raw("SET", "c", 1)
    replica.engine.apply(primary.transactions())  # type: ignore[arg-type]
    replica.turn()
    assert replica.take(replica.client) == b""


def test_expired_keys_invalidate(local: Local) -> None:
    reader = local.connect()
    local.raw("HELLO", 3, client=reader)
    local.raw("CLIENT", "TRACKING", "ON", client=reader)
    for key in ("cycle", "met"):
        local.raw("SET", key, "v", "PX", 5)
        local.raw("GET", key, client=reader)
    local.engine.store.now_ms += 10
    local.raw("SET", "met", "w", "XX")
    assert local.take(reader) == invalidated("met")
    local.engine.expire_cycle()
    local.turn()
    assert local.take(reader) == invalidated("cycle")


def test_what_a_script_reads_is_noted_declared_or_not(local: Local) -> None:
    local.raw("HELLO", 3)
    local.raw("CLIENT", "TRACKING", "ON")
    local.raw("EVAL", "redis.call('mget', 'a', 'b') redis.call('set', 'a', 1)", 1, "declared")
    assert sorted(local.engine.news.tracking.holders) == [b"b"]
    assert local.take(local.client) == b"", "the change of a came with the script's reply"


def test_a_swap_of_databases_changes_every_key(local: Local) -> None:
    local.raw("HELLO", 3)
    local.raw("SET", "k", 1)
    local.raw("CLIENT", "TRACKING", "ON")
    assert local.raw("SWAPDB", 0, 1) == OK + NOTHING_KNOWN


def test_the_table_has_a_limit_and_what_is_given_up_is_not_kept_by_a_client(local: Local) -> None:
    local.raw("HELLO", 3)
    local.raw("CLIENT", "TRACKING", "ON")
    local.raw("CONFIG", "SET", "tracking-table-max-keys", 2)
    nothing = b"*3\r\n_\r\n_\r\n_\r\n"
    assert local.raw("MGET", "a", "b", "c") == nothing, "a client would drop a value before it has it"
    found = local.raw("INFO", "everything")
    assert found.startswith(invalidated("a"))
    for line in ("clients:1", "total_keys:2", "total_items:2", "total_prefixes:0"):
        assert b"tracking_" + line.encode() in found
    assert local.raw("CONFIG", "SET", "tracking-table-max-keys", 1) == invalidated("b") + OK


def test_nothing_is_looked_at_while_nobody_tracks(local: Local) -> None:
    reader = local.connect()
    local.raw("CLIENT", "TRACKING", "ON", client=reader)
    assert local.engine.store.heeded
    local.engine.disconnect(reader)
    assert not local.engine.store.heeded and not local.engine.news.tracking.trackers


def test_client_list_shows_who_tracks(local: Local) -> None:
    reader = local.connect()
    local.raw("CLIENT", "TRACKING", "ON", "BCAST", "REDIRECT", local.client.id, client=reader)
    assert b"flags=tB " in local.raw("CLIENT", "INFO", client=reader)
    assert b" redir=%d resp=2" % local.client.id in local.raw("CLIENT", "INFO", client=reader)
    local.engine.disconnect(local.client)
    other = local.connect()
    local.raw("SET", "k", 1, client=other)
    assert b"flags=tRB " in local.raw("CLIENT", "INFO", client=reader)
    assert b" redir=-1 resp=2" in local.raw("CLIENT", "INFO", client=other)


def test_redis_py_caches_and_forgets(
    eventdb_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It asks for a server that calls itself 7.4, though what it uses has been there since 6.
    monkeypatch.setattr(redis.connection.CacheProxyConnection, "MIN_ALLOWED_VERSION", "6.0.0")
    url = f"quorum:{tmp_path / 'data'}"
    primary = eventdb_server(url)
    replica = eventdb_server(url, "--role", "replica")
    with redis.Redis(port=primary.port) as writer:
        writer.set("k", "0")
        offset = writer.execute_command("EVENTDB.OFFSET")[0]
        for port in (primary.port, replica.port):
            with redis.Redis(port=port, protocol=3, cache_config=CacheConfig(), decode_responses=True) as reader:
                reader.execute_command("EVENTDB.WAITFOR", offset, 10_000)
                for i in range(20):
                    assert reader.get("k") == reader.get("k")
                    assert reader.get_cache().size == 1, "it does not cache"
                    writer.set("k", str(i))
                    offset = writer.execute_command("EVENTDB.OFFSET")[0]
                    reader.execute_command("EVENTDB.WAITFOR", offset, 10_000)
                    assert reader.get("k") == str(i)
