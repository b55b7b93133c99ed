"""redis-py, the usual Python client, does its work against eventdb: sync and asyncio, RESP2 and RESP3, over a crash."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from tests.conftest import Server, StartServer, wait_until
from tests.kit.wire import Wire

THREADS = 8
INCREMENTS = 25  # by each of them


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    server = Server(f"quorum:{folder / 'data'}", folder, (), {}).wait_ready()
    yield server
    server.kill()


@pytest.fixture
def server(shared: Server) -> Server:
    """One server for all tests that leave it running; empty."""
    with redis.Redis(port=shared.port) as client:
        client.flushall()
    return shared


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def client(server: Server, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port, protocol=request.param, decode_responses=True) as opened:
        yield opened


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
async def aclient(server: Server, request: pytest.FixtureRequest) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis(port=server.port, protocol=request.param, decode_responses=True) as opened:
        yield opened


def test_every_type_comes_back_as_python_values(client: redis.Redis) -> None:
    client.set("string", "grün", ex=100)
    client.hset("hash", mapping={"name": "Ada", "year": 1815})
    client.rpush("list", "a", "b", "c")
    client.sadd("set", "x", "y")
    client.zadd("zset", {"one": 1, "two": 2.5})
    assert client.get("string") == "grün" and 0 < client.ttl("string") <= 100
    assert client.hgetall("hash") == {"name": "Ada", "year": "1815"}
    assert client.lrange("list", 0, -1) == ["a", "b", "c"]
    assert client.smembers("set") == {"x", "y"}
    pairs = client.zrange("zset", 0, -1, withscores=True)
    assert [tuple(pair) for pair in pairs] == [("one", 1.0), ("two", 2.5)]
    assert client.zscore("zset", "two") == 2.5 and client.zscore("zset", "three") is None
    assert client.type("zset") == "zset"
    assert sorted(client.scan_iter(match="*s*t", count=2)) == ["list", "set", "zset"]
    assert dict(client.hscan_iter("hash")) == {"name": "Ada", "year": "1815"}
    assert dict(client.zscan_iter("zset")) == {"one": 1.0, "two": 2.5}


def test_scan_iter_sees_every_key_of_many(client: redis.Redis) -> None:
    with client.pipeline(transaction=False) as pipe:
        for n in range(5000):
            pipe.set(f"key:{n}", n)
        assert all(pipe.execute())
    assert set(client.scan_iter("key:*", count=100)) == {f"key:{n}" for n in range(5000)}


@pytest.mark.parametrize("transaction", [True, False])
def test_a_pipeline_answers_in_order_with_errors_in_place(client: redis.Redis, transaction: bool) -> None:
    client.set("text", "not a number")
    with client.pipeline(transaction=transaction) as pipe:
        pipe.set("a", 1).incr("a").incr("text").get("a").lpush("l", "x").blpop(["l"], 1)  # type: ignore[union-attr]
        replies = pipe.execute(raise_on_error=False)
    assert replies[:2] == [True, 2] and replies[3:5] == ["2", 1]
    assert isinstance(replies[2], redis.ResponseError) and "not an integer" in str(replies[2])
    assert list(replies[5]) == ["l", "x"]


def increment_watched(client: redis.Redis, key: str) -> int:
    """Read, add and write, as an application does that needs more than INCR; returns how often it had to try."""

    def add(pipe: Any) -> None:
        value = int(pipe.get(key) or 0)
        pipe.multi()
        pipe.set(key, value + 1)

    tries = 0
    while True:
        tries += 1
        with client.pipeline() as pipe, contextlib.suppress(redis.WatchError):
            pipe.watch(key)
            add(pipe)
            pipe.execute()
            return tries


def test_watch_loops_of_many_threads_on_one_pool_lose_no_increment(server: Server) -> None:
    pool = redis.ConnectionPool(port=server.port, max_connections=THREADS)
    with redis.Redis(connection_pool=pool) as client, ThreadPoolExecutor(THREADS) as threads:
        work = [threads.submit(increment_watched, client, "n") for _ in range(THREADS * INCREMENTS)]
        tries = sum(each.result() for each in work)
        assert client.get("n") == b"%d" % (THREADS * INCREMENTS)
        assert tries >= THREADS * INCREMENTS
        assert len(client.client_list()) <= THREADS
    pool.disconnect()


def test_a_subscriber_gets_what_others_publish(client: redis.Redis) -> None:
    with client.pubsub() as pubsub:
        pubsub.subscribe("news")
        pubsub.psubscribe("news.*")
        assert [pubsub.get_message(timeout=5)["type"] for _ in range(2)] == ["subscribe", "psubscribe"]
        assert client.publish("news", "one") == 1
        assert client.publish("news.sport", "two") == 1
        assert client.publish("weather", "unheard") == 0
        first, second = pubsub.get_message(timeout=5), pubsub.get_message(timeout=5)
        assert (first["type"], first["channel"], first["data"]) == ("message", "news", "one")
        assert (second["type"], second["pattern"], second["data"]) == ("pmessage", "news.*", "two")
        assert client.pubsub_numsub("news") == [("news", 1)] and client.pubsub_numpat() == 1


def test_a_blocking_pop_waits_for_another_client_or_for_its_timeout(client: redis.Redis, server: Server) -> None:
    assert client.blpop(["empty"], timeout=0.05) is None
    with redis.Redis(port=server.port, decode_responses=True) as other, ThreadPoolExecutor(3) as threads:
        popped = threads.submit(client.blpop, ["one", "two"], 10)
        moved = threads.submit(client.blmove, "from", "to", 10, "LEFT", "RIGHT")
        lowest = threads.submit(client.bzpopmin, ["board"], 10)
        wait_until(lambda: other.info("clients")["blocked_clients"] == 3, what="three clients wait")
        other.rpush("two", "x")
        other.rpush("from", "y")
        other.zadd("board", {"ann": 3, "bob": 1})
        assert list(popped.result(5)) == ["two", "x"]  # type: ignore[arg-type]
        assert moved.result(5) == "y" and other.lrange("to", 0, -1) == ["y"]
        assert list(lowest.result(5)) == ["board", "bob", 1.0]  # type: ignore[arg-type]


def test_what_operators_ask_is_parsed(client: redis.Redis) -> None:
    client.client_setname("reporter")
    (own,) = (each for each in client.client_list() if each["name"] == "reporter")
    assert own["lib-name"] == "redis-py" and own["resp"] == str(client.get_connection_kwargs()["protocol"])
    info = client.info()
    assert info["role"] == "master" and info["node_role"] == "primary" and info["redis_version"] == "7.0.15"
    assert info["eventdb_build"] in ("compiled", "pure") and info["durable_offset"] == info["offset"]
    client.set("k", "v")
    wait_until(lambda: client.info("stats")["instantaneous_ops_per_sec"] > 0, what="the rate is counted")
    assert client.info("keyspace")["db0"]["keys"] == 1
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert client.memory_usage("k") > 0 and client.object("encoding", "k") == "embstr"  # type: ignore[operator]
    assert client.wait(0, 0) >= 0
    offset, durable = client.execute_command("EVENTDB.OFFSET")
    assert 1 <= offset <= durable


def test_no_field_of_info_stands_in_two_sections(server: Server) -> None:
    """Clients keep INFO as one mapping; the node's own `role:primary` once hid `role:master` there."""
    with Wire(server.port) as wire:
        text = wire("INFO", "everything")
    assert isinstance(text, bytes)
    names = [line.partition(b":")[0] for line in text.splitlines() if line and not line.startswith(b"#")]
    assert sorted(names) == sorted(set(names))


def test_a_lock_is_let_go_extended_and_never_by_another(client: redis.Redis) -> None:
    """Lock's release, extend and reacquire are scripts."""
    lock, other = client.lock("door", timeout=30), client.lock("door", timeout=30)
    assert lock.acquire(blocking=False)
    assert not other.acquire(blocking=False)
    assert lock.extend(30) and 30 < client.ttl("door") <= 60
    assert lock.reacquire() and client.ttl("door") <= 30
    other.local.token = b"a stranger's"
    with pytest.raises(redis.exceptions.LockNotOwnedError):
        other.release()
    lock.release()
    assert other.acquire(blocking=False)


def test_a_registered_script_counts_within_a_limit(client: redis.Redis) -> None:
    limiter = client.register_script(
        "local n = redis.call('INCR', KEYS[1]) if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end"
        " return n <= tonumber(ARGV[1]) and 1 or 0"
    )
    assert [limiter(keys=["rate:ada"], args=[3, 60_000]) for _ in range(5)] == [1, 1, 1, 0, 0]
    assert 0 < client.pttl("rate:ada") <= 60_000


async def test_asyncio_pipelines_and_watch(aclient: redis.asyncio.Redis) -> None:
    async with aclient.pipeline(transaction=True) as pipe:
        assert await pipe.set("a", 1).incr("a").get("a").execute() == [True, 2, "2"]  # type: ignore[attr-defined]

    async def increment() -> None:
        async def add(pipe: Any) -> None:
            value = int(await pipe.get("n") or 0)
            pipe.multi()
            pipe.set("n", value + 1)

        await aclient.transaction(add, "n")

    for _ in range(5):
        await asyncio.gather(*[increment() for _ in range(10)])
    assert await aclient.get("n") == "50"
    assert [key async for key in aclient.scan_iter("?")] in (["a", "n"], ["n", "a"])


async def test_asyncio_pubsub_and_blocking(aclient: redis.asyncio.Redis) -> None:
    async with aclient.pubsub() as pubsub:
        await pubsub.subscribe("news")
        assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
        assert await aclient.publish("news", "hello") == 1
        message = await pubsub.get_message(timeout=5)
        assert (message["channel"], message["data"]) == ("news", "hello")
    waiting = [asyncio.create_task(aclient.brpop(["queue"], 10)) for _ in range(3)]  # type: ignore[arg-type, var-annotated]
    while (await aclient.info("clients"))["blocked_clients"] < 3:
        await asyncio.sleep(0.01)
    await aclient.lpush("queue", "1", "2", "3")
    assert sorted(value for _, value in await asyncio.gather(*waiting)) == ["1", "2", "3"]


class Counter(threading.Thread):
    """Increments its own key until told to stop. An increment whose outcome is unknown is asked about, not repeated."""

    def __init__(self, server: Server, key: str) -> None:
        super().__init__(daemon=True)
        self.client = redis.Redis(
            port=server.port, retry=Retry(ConstantBackoff(0.02), 0), socket_timeout=10, socket_connect_timeout=10
        )
        self.key = key
        self.sent = self.acknowledged = self.last = self.broken = 0
        self.stopping = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self.sent += 1
                try:
                    value = int(self.client.incr(self.key))
                except redis.ConnectionError:  # refused, broken off, or LOADING
                    self.broken += 1
                    self.stopping.wait(0.05)
                    continue
                assert value > self.last, "an acknowledged increment was taken back"
                self.acknowledged += 1
                self.last = value
        except BaseException as failure:
            self.failure = failure
        finally:
            self.client.close()


def test_no_acknowledged_increment_is_lost_when_the_server_is_killed(eventdb_server: StartServer) -> None:
    server = eventdb_server()
    counters = [Counter(server, f"n{i}") for i in range(4)]
    for counter in counters:
        counter.start()
    for _ in range(4):
        reached = [counter.acknowledged + 20 for counter in counters]
        wait_until(
            lambda reached=reached: all(c.acknowledged >= n or c.failure for c, n in zip(counters, reached)),  # type: ignore[misc]
            seconds=30,
            what="increments",
        )
        server.kill()
        server.restart()
    for counter in counters:
        counter.stopping.set()
        counter.join(15)
        assert not counter.is_alive()
        if counter.failure is not None:
            raise counter.failure
    with redis.Redis(port=server.port) as client:
        for counter in counters:
            stored = int(client.get(counter.key) or 0)
            assert counter.broken > 0
            assert max(counter.last, counter.acknowledged) <= stored <= counter.sent


def test_a_client_that_retries_does_not_notice_a_restart(eventdb_server: StartServer) -> None:
    """With redis-py's own retries a reader only waits: its pool replaces the dead connections."""
    server = eventdb_server()
    retry = Retry(ConstantBackoff(0.05), 200)
    with redis.Redis(port=server.port, retry=retry) as client, ThreadPoolExecutor(4) as threads:
        client.set("k", "v")
        list(threads.map(lambda _: client.get("k"), range(8)))  # several connections in the pool
        server.kill()
        reads = [threads.submit(client.get, "k") for _ in range(4)]
        server.restart()
        assert [read.result(20) for read in reads] == [b"v"] * 4
        with client.pipeline() as pipe:
            assert pipe.get("k").set("k", "w").execute() == [b"v", True]
