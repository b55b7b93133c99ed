"""Nothing a client sends ends a lease: large values and long commands, with a second node that would take over."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from eventdb.engine.settings import Config
from eventdb.node.node import Node
from tests.conftest import Server, StartServer, wait_until
from tests.kit.harness import Collector
from tests.kit.kafka_brokers import Brokers, topic_name
from tests.kit.wire import Wire

DEADLINE_S = 90.0


class Pair:
    """A primary and a node that would take over."""

    def __init__(self, start: StartServer, url: str, *more: str, members: int = 0) -> None:
        """members: of each of the values that long commands are to work on."""
        self.primary: Server = start(url, "--config", "commit-timeout=60000", *more)
        self.wire = Wire(self.primary.port, timeout=DEADLINE_S)
        fill(self.wire, members)
        self.other: Server = start(url, "--role", "auto")
        self.beside = Wire(self.other.port, timeout=DEADLINE_S)
        wait_until(lambda: b"connected_slaves:1" in info(self.wire), what="the primary knows the other")
        self.epoch = field(self.wire, "epoch")

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *raised: object) -> None:
        self.wire.close()
        self.beside.close()

    def check(self) -> None:
        """No failover took place, and the other has all of it."""
        assert field(self.wire, "epoch") == self.epoch
        assert b"role:master" in info(self.wire) and b"role:slave" in info(self.beside)
        offsets = self.wire("EVENTDB.OFFSET")
        assert isinstance(offsets, list)
        self.beside("EVENTDB.WAITFOR", offsets[0], 60_000)
        assert self.wire("EVENTDB.DIGEST") == self.beside("EVENTDB.DIGEST")


@pytest.fixture(params=["files", pytest.param("kafka", marks=[pytest.mark.slow, pytest.mark.timeout(400)])])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "files":
        return f"quorum:{tmp_path / 'data'}"
    brokers: Brokers = request.getfixturevalue("kafka")
    return brokers.url(topic_name())


def info(wire: Wire) -> bytes:
    found = wire("INFO")
    assert isinstance(found, bytes)
    return found


def field(wire: Wire, name: str) -> bytes:
    return next(line.partition(b":")[2] for line in info(wire).splitlines() if line.startswith(name.encode() + b":"))


def test_values_of_64_mb_are_written_while_another_node_waits_to_take_over(
    eventdb_server: StartServer, url: str
) -> None:
    with Pair(eventdb_server, url) as pair:
        for n in range(1 if url.startswith("kafka") else 3):
            assert pair.wire("SET", f"k{n}", os.urandom(64 << 20)) == b"OK"
        pair.check()


@pytest.mark.slow
def test_a_transaction_of_100_mb_is_written_while_another_node_waits_to_take_over(
    eventdb_server: StartServer, url: str
) -> None:
    with Pair(eventdb_server, url) as pair:
        assert pair.wire("MULTI") == b"OK"
        for n in range(10):
            assert pair.wire("SET", f"k{n}", os.urandom(10 << 20)) == b"QUEUED"
        assert pair.wire("EXEC") == [b"OK"] * 10
        pair.check()


def fill(wire: Wire, members: int) -> None:
    """Two sorted sets, a list and a set."""
    for start in range(0, members, 10_000):
        names = [b"m%d" % n for n in range(start, start + 10_000)]
        scored = [part for n, name in enumerate(names) for part in (b"%d" % (n * 7919 % members), name)]
        assert wire("ZADD", "z1", *scored) == wire("ZADD", "z2", *scored) == 10_000
        assert wire("SADD", "s", *names) == 10_000
        assert wire("RPUSH", "l", *names) == start + 10_000


LONG = {
    "ZUNIONSTORE": ("ZUNIONSTORE", "out", "2", "z1", "z2"),
    "SORT": ("SORT", "s", "BY", "w_*", "GET", "v_*", "GET", "#", "STORE", "out"),
    "ZRANGESTORE": ("ZRANGESTORE", "out", "z1", "0", "-1"),
    "EVENTDB.DIGEST": ("EVENTDB.DIGEST",),
}


def test_commands_that_take_longer_than_the_lease_keep_it(eventdb_server: StartServer, url: str) -> None:
    with Pair(eventdb_server, url, "--lease-ms", "1000", members=40_000) as pair:
        for command in LONG.values():
            reply = pair.wire(*command)
            assert not isinstance(reply, Exception), reply
        assert pair.wire("MULTI") == b"OK"
        for command in (*LONG.values(),) * 6:
            assert pair.wire(*command) == b"QUEUED"
        began = time.monotonic()
        replies = pair.wire("EXEC")
        print("EXEC", time.monotonic() - began)
        assert isinstance(replies, list) and len(replies) == 6 * len(LONG)
        pair.check()
        wait_until(lambda: field(pair.wire, "lease_ms") == b"1000", what="the lease is as short as before")


@pytest.mark.slow
def test_ten_seconds_of_one_transaction_keep_the_lease(eventdb_server: StartServer, url: str) -> None:
    with Pair(eventdb_server, url, members=500_000) as pair:
        began = time.monotonic()
        assert pair.wire("MULTI") == b"OK"
        for _ in range(5):
            assert pair.wire("ZUNIONSTORE", "out", "2", "z1", "z2") == b"QUEUED"
        assert pair.wire("EXEC") == [500_000] * 5
        print("five times ZUNIONSTORE", time.monotonic() - began)
        pair.check()
        assert pair.wire("FLUSHALL") == b"OK"
        pair.check()


def test_a_loop_that_hangs_loses_the_lease(eventdb_server: StartServer, tmp_path: Path) -> None:
    url = f"quorum:{tmp_path / 'data'}"
    with Pair(eventdb_server, url, "--config", "enable-debug-command=yes") as pair:
        pair.wire.send(b"*3\r\n$5\r\nDEBUG\r\n$5\r\nSLEEP\r\n$1\r\n4\r\n")
        wait_until(lambda: b"role:master" in info(pair.beside), what="the other one has taken over", seconds=3)


@pytest.mark.slow
def test_a_value_of_512_mb_is_written_and_read_while_another_node_waits_to_take_over(
    eventdb_server: StartServer, url: str
) -> None:
    with Pair(eventdb_server, url) as pair:
        value = os.urandom(1 << 20) * 512
        assert pair.wire("SET", "k", value) == b"OK"
        assert pair.wire("GET", "k") == value
        pair.check()


def keep_the_loop(seconds: float) -> None:
    """As a long command does; the zones go on."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


async def test_a_write_that_became_durable_while_the_loop_was_busy_is_not_said_to_be_unknown(tmp_path: Path) -> None:
    config = Config()
    config.set("commit-timeout", "200")
    node = Node(f"quorum:{tmp_path / 'data'}", config)
    await node.start()
    try:
        sink = Collector()
        client = node.engine.connect(sink)
        node.engine.call(client, [b"SET", b"k", b"v"])
        node.engine.commit.seal()
        keep_the_loop(0.6)
        await asyncio.sleep(0.02)
        assert sink.data == b"+OK\r\n"
    finally:
        await node.close()
