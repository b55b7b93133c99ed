"""Writes with a token against real processes: kill -9, restart, restore, failovers, and replies that never arrive."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from eventdb.exactly_once import AsyncOnce, Once, OutcomeUnknown, may_repeat
from tests.conftest import Server, StartServer, wait_until
from tests.kit.wire import Wire
from tests.node.test_failover import Trio

NO_RETRY = Retry(NoBackoff(), 0)


class Lossy:
    """Passes one connection at a time on to a server, and loses the replies to the first requests: they have run."""

    def __init__(self, port: int, losses: int) -> None:
        self.losses = losses
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            while data := client.recv(1 << 16):
                server.sendall(data)
                reply = server.recv(1 << 16)
                while b"EVENTDB.ONCE" in data and b"MULTI" in data and reply.count(b"\r\n*") == 0:
                    reply += server.recv(1 << 16)  # up to the one of EXEC
                if b"EVENTDB.ONCE" in data and self.losses > 0:
                    self.losses -= 1
                    return
                client.sendall(reply)

    def close(self) -> None:
        self._listener.close()


@contextlib.contextmanager
def lossy(server: Server, losses: int) -> Iterator[redis.Redis]:
    proxy = Lossy(server.port, losses)
    try:
        with redis.Redis(port=proxy.port, retry=NO_RETRY, socket_timeout=5) as client:
            client.ping()
            yield client
    finally:
        proxy.close()


def test_a_reply_that_is_lost_is_asked_for_again(eventdb_server: StartServer) -> None:
    server = eventdb_server()
    with lossy(server, 2) as client, redis.Redis(port=server.port) as plain:
        assert Once(client)("INCR", "n") == 1, "it ran at the first sending and was sent three times"
        assert plain.get("n") == b"1"
    with lossy(server, 2) as client, redis.Redis(port=server.port) as plain:
        commands = [("INCR", "n"), ("SET", "k", "v"), ("ZINCRBY", "z", 1.5, "m")]
        assert Once(client).transaction(commands) == [2, True, 1.5]
        assert plain.get("n") == b"2"
    with lossy(server, 10) as client, redis.Redis(port=server.port) as plain:
        with pytest.raises(OutcomeUnknown) as unknown:
            Once(client, seconds=0.2)("INCR", "n")
        outcome = Once(client).outcome(unknown.value.token)
        assert (outcome.applied, outcome.reply) == (True, 3)
        assert not Once(client).outcome(b"never used").applied
        assert plain.get("n") == b"3"
        plain.set("text", "a")
        with pytest.raises(redis.ResponseError, match="not an integer"):
            Once(plain)("INCR", "text")


def test_the_same_with_asyncio(eventdb_server: StartServer) -> None:
    server = eventdb_server()
    proxy = Lossy(server.port, 2)

    async def run() -> None:
        client = redis.asyncio.Redis(port=proxy.port, retry=None, socket_timeout=5)  # type: ignore[arg-type]
        async with client:
            await client.ping()
            once = AsyncOnce(client)
            assert await once("INCR", "n", token=b"mine") == 1
            proxy.losses = 2
            assert await once.transaction([("INCR", "n"), ("HSET", "h", "f", "v")]) == [2, 1]
            outcome = await once.outcome(b"mine")
            assert (outcome.applied, outcome.offset, outcome.reply) == (True, 1, 1)
            assert await client.get("n") == b"2"

    try:
        asyncio.run(run())
    finally:
        proxy.close()


def test_what_ran_is_known_after_a_kill_a_restart_and_in_a_restore(eventdb_server: StartServer, tmp_path: Path) -> None:
    server = eventdb_server(None, "--config", "enable-debug-command=yes")
    with Wire(server.port) as wire:
        assert wire("EVENTDB.ONCE", "t", "INCR", "n") == 1
        outcome, digest = wire("EVENTDB.OUTCOME", "t"), wire("EVENTDB.DIGEST")
        assert wire("EVENTDB.ONCE", "later", "SET", "k", "v") == b"OK"
    server.kill()
    server.restart()
    with Wire(server.port) as wire:
        assert wire("EVENTDB.ONCE", "t", "INCR", "n") == 1
        assert wire("EVENTDB.OUTCOME", "t") == outcome
        assert wire("GET", "n") == b"1"
        assert wire("DEBUG", "RELOAD") == b"OK"
        assert wire("EVENTDB.OUTCOME", "t") == outcome
    assert server.stop() == 0
    target = f"quorum:{tmp_path / 'restored'}"
    restore = ["restore", "--log", server.log_url, "--into", target, "--to-offset", "1"]
    command = [sys.executable, "-m", "eventdb", *restore]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert isinstance(digest, bytes) and digest.decode() in done.stdout
    restored = eventdb_server(target)
    with Wire(restored.port) as wire:
        assert wire("EVENTDB.OUTCOME", "t") == outcome
        assert wire("EVENTDB.ONCE", "t", "INCR", "n") == 1
        absent = wire("EVENTDB.OUTCOME", "later")
        assert isinstance(absent, list) and absent[0] == b"absent", "it did not run before the offset of the restore"


class Counting(threading.Thread):
    """Increments until it is told to stop, and keeps every reply."""

    def __init__(self, trio: Trio) -> None:
        super().__init__(daemon=True)
        self.replies: list[int] = []
        self.ending = threading.Event()
        self.failure: BaseException | None = None
        self.nodes = [("127.0.0.1", node.port) for node in trio.nodes]

    def run(self) -> None:
        try:
            self.count()
        except BaseException as failure:
            self.failure = failure

    def count(self) -> None:
        sentinel = Sentinel(self.nodes, sentinel_kwargs={"socket_timeout": 1.0, "retry": NO_RETRY})
        client = sentinel.master_for("mymaster", socket_timeout=1.0, retry=NO_RETRY)
        once = Once(client)
        while not self.ending.is_set():
            self.replies.append(once("INCR", "n"))
        client.close()
        for node in sentinel.sentinels:
            node.close()


class CountingAsync(Counting):
    """The same with asyncio, four at a time, two of them as transactions."""

    def count(self) -> None:
        asyncio.run(self._count())

    async def _count(self) -> None:
        retry = AsyncRetry(NoBackoff(), 0)
        sentinel = AsyncSentinel(self.nodes, sentinel_kwargs={"socket_timeout": 1.0, "retry": retry})
        all_sentinels = list(sentinel.sentinels)  # the client puts the one that answered first, and may lose one so
        client = sentinel.master_for("mymaster", socket_timeout=1.0, retry=retry)
        once = AsyncOnce(client)
        while not self.ending.is_set():
            work = [once("INCR", "n"), once("INCR", "n")]
            pairs = [once.transaction([("INCR", "n")]), once.transaction([("INCR", "n")])]
            self.replies += await asyncio.gather(*work)
            for found in await asyncio.gather(*pairs):
                assert found is not None
                self.replies += found
        await client.aclose()
        for node in all_sentinels:
            await node.aclose()


def count_through_kills(trio: Trio, kills: int) -> None:
    counting = [Counting(trio), Counting(trio), CountingAsync(trio)]
    for one in counting:
        one.start()

    def counts_on() -> None:
        before = [len(one.replies) for one in counting]
        wait_until(
            lambda: all(len(one.replies) > n + 20 for one, n in zip(counting, before, strict=True)), 20, "all count"
        )

    for kill in range(kills):
        counts_on()
        old = trio.primary()
        old.kill()
        counts_on()
        if kill < kills - 1:
            old.restart()
            wait_until(lambda: trio.listed(trio.primary()) == 2, what="the old primary is listed again")
    for one in counting:
        one.ending.set()
    for one in counting:
        one.join(40)
        assert one.failure is None and not one.is_alive()
    replies = sorted(reply for one in counting for reply in one.replies)
    assert replies == list(range(1, len(replies) + 1)), "every increment counted once, and has its own reply"
    with Wire(trio.primary().port) as wire:
        assert wire("GET", "n") == b"%d" % len(replies)


def test_increments_count_exactly_through_a_kill(eventdb_server: StartServer, tmp_path: Path) -> None:
    count_through_kills(Trio(eventdb_server, tmp_path), 1)


@pytest.mark.slow
def test_increments_count_exactly_through_many_kills(eventdb_server: StartServer, tmp_path: Path) -> None:
    count_through_kills(Trio(eventdb_server, tmp_path), 8)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets that the client leaves open
def test_a_cluster_client(eventdb_server: StartServer, tmp_path: Path) -> None:
    trio = Trio(eventdb_server, tmp_path, "--config", "cluster-enabled=yes")
    old = trio.primary()
    with contextlib.closing(redis.RedisCluster("127.0.0.1", trio.others(old)[0].port, socket_timeout=1.0)) as client:
        once = Once(client)
        assert once("INCR", "n", token=b"t") == 1
        assert once("MSET", "{a}1", "1", "{a}2", "2") is True
        old.kill()
        assert once("INCR", "n", token=b"t") == 1
        assert once("INCR", "n") == 2


def test_which_errors_are_repeated() -> None:
    for text in ("UNKNOWN the outcome", "Transaction discarded because of: READONLY You can't", "MOVED 1 a:1"):
        assert may_repeat(redis.ResponseError(text)), text
    for text in ("WRONGTYPE", "ONCEMISMATCH", "ONCEFULL", "OOM", "Transaction discarded because of: x", "NOAUTH"):
        assert not may_repeat(redis.ResponseError(text)), text
    assert not may_repeat(ValueError())


def test_it_needs_nothing_of_the_server() -> None:
    code = (
        "import sys, eventdb.exactly_once;"
        "print([m for m in sys.modules if m.startswith('eventdb.') and m != 'eventdb.exactly_once'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
