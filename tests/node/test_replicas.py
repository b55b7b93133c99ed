"""Replicas by choice: they follow the log, answer reads, refuse writes and never take the log over."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import hiredis
import pytest

from eventdb.backends import Writer, open_log
from eventdb.cluster.lease import AskedRole
from eventdb.engine.client import LOADING
from eventdb.engine.engine import Engine
from eventdb.engine.settings import Config
from eventdb.node.node import Node
from eventdb.pipeline.commit import Commit
from eventdb.pipeline.outbox import Batch
from tests.conftest import StartServer, wait_until
from tests.kit.faults import until
from tests.kit.harness import Collector
from tests.kit.wire import Wire

READONLY = "READONLY You can't write against a read only replica."


def offset_of(wire: Wire) -> int:
    found = wire("EVENTDB.OFFSET")
    assert isinstance(found, list)
    return int(found[0])


def test_replicas_follow_serve_reads_and_outlive_the_primary(eventdb_server: StartServer, tmp_path: Path) -> None:
    url = f"quorum:{tmp_path / 'data'}"
    primary = eventdb_server(url)
    with Wire(primary.port) as wire:
        assert wire("SET", "before", "1") == b"OK"
    replicas = [eventdb_server(url, "--role", "replica") for _ in range(2)]
    with Wire(primary.port) as wire:
        for i in range(200):
            wire("RPUSH", "list", str(i))
            written = offset_of(wire)
            with Wire(replicas[i % 2].port) as reader:
                reached = reader("EVENTDB.WAITFOR", str(written), "10000")
                assert isinstance(reached, int) and reached >= written
                assert reader("LLEN", "list") == i + 1, "a client does not see its own write"
        digest = wire("EVENTDB.DIGEST")
        role = wire("ROLE")
        assert isinstance(role, list) and role[0] == b"master", "a replica has fenced the primary"
    for replica in replicas:
        with Wire(replica.port) as reader:
            assert reader("EVENTDB.WAITFOR", str(written), "10000") == written
            assert reader("EVENTDB.DIGEST") == digest and reader("GET", "before") == b"1"
            refused = reader("SET", "k", "v")
            assert isinstance(refused, hiredis.ReplyError) and str(refused) == READONLY
            role = reader("ROLE")
            assert isinstance(role, list) and role[0] == b"slave"
    primary.kill()
    with Wire(replicas[0].port) as reader:
        assert reader("LLEN", "list") == 200
        assert reader("EVENTDB.WAITFOR", str(written + 1), "50") is None
    primary.restart()
    with Wire(primary.port) as wire, Wire(replicas[0].port) as reader:
        assert wire("RPUSH", "list", "after") == 201
        assert isinstance(reader("EVENTDB.WAITFOR", str(offset_of(wire)), "10000"), int)
        assert reader("LLEN", "list") == 201


def test_a_replica_may_be_there_before_the_log(eventdb_server: StartServer, tmp_path: Path) -> None:
    url = f"quorum:{tmp_path / 'data'}"
    replica = eventdb_server(url, "--role", "replica")
    with Wire(replica.port) as reader:
        assert reader("DBSIZE") == 0
    assert not (tmp_path / "data").exists(), "a replica writes nothing"
    primary = eventdb_server(url)
    with Wire(primary.port) as wire:
        assert wire("SET", "k", "v") == b"OK"
        written = offset_of(wire)
    with Wire(replica.port) as reader:
        assert reader("EVENTDB.WAITFOR", str(written), "10000") == written
        assert reader("GET", "k") == b"v"


def test_a_replica_stopped_in_the_middle_comes_back_and_catches_up(eventdb_server: StartServer, tmp_path: Path) -> None:
    url = f"quorum:{tmp_path / 'data'}"
    primary, replica = eventdb_server(url), eventdb_server(url, "--role", "replica")
    replica.kill()
    with Wire(primary.port) as wire:
        for i in range(50):
            wire("HSET", "h", str(i), "x")
        digest = wire("EVENTDB.DIGEST")
    replica.restart()

    def caught_up() -> bool:
        with Wire(replica.port) as reader:
            return reader("EVENTDB.DIGEST") == digest

    wait_until(caught_up, what="the replica has caught up")
    assert replica.stop() == 0


def test_a_replica_answers_while_the_zones_are_away_and_goes_on_when_they_are_back(
    eventdb_server: StartServer, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    primary, replica = eventdb_server(f"quorum:{data}"), eventdb_server(f"quorum:{data}", "--role", "replica")
    with Wire(primary.port) as wire, Wire(replica.port) as reader:
        assert wire("SET", "k", "1") == b"OK"
        assert reader("EVENTDB.WAITFOR", "1", "10000") == 1
        assert primary.stop() == 0
        data.rename(tmp_path / "away")
        assert reader("EVENTDB.WAITFOR", "2", "500") is None, "it needs longer than its reader needs to look again"
        assert reader("GET", "k") == b"1"
        (tmp_path / "away").rename(data)
    primary.restart()
    with Wire(primary.port) as wire, Wire(replica.port) as reader:
        assert wire("SET", "k", "2") == b"OK"
        assert reader("EVENTDB.WAITFOR", "2", "10000") == 2 and reader("GET", "k") == b"2"


async def test_a_log_that_cannot_be_followed_ends_the_service_by_name(tmp_path: Path) -> None:
    url = f"quorum:{tmp_path / 'data'}"
    log = open_log(url)
    writer = await log.claim("node")
    node = Node(url, Config(), asked=AskedRole.REPLICA)
    await node.start()
    try:
        body = b"*2\r\n$4\r\ntest\r\n*2\r\n$9\r\nNOT-KNOWN\r\n$1\r\nk\r\n"
        await writer.append(body, first_offset=1, count=1, time_ms=1)
        await until(lambda: node.engine.gate & LOADING != 0)
        sink = Collector()
        client = node.engine.connect(sink)
        node.engine.call(client, [b"GET", b"k"])
        client.flush()
        assert sink.data.startswith(b"-MASTERDOWN this replica cannot follow its log behind offset 0: ")
        assert b"NOT-KNOWN" in sink.data
    finally:
        await node.close()
        await log.close()


def test_waitfor_answers_when_the_offset_is_durable_and_not_before() -> None:
    sealed: list[Batch] = []
    engine = Engine(Config(), Commit(sealed.append, lambda action: action()))
    writer, waiter = engine.connect(Collector()), engine.connect(Collector())
    engine.call(waiter, [b"EVENTDB.WAITFOR", b"1"])
    engine.call(writer, [b"SET", b"k", b"v"])
    assert waiter.blocked is not None and not waiter.out
    engine.commit.completed(sealed[0])
    engine.offset_reached()
    assert waiter.blocked is None and waiter.out == [b":1\r\n"]
    assert not engine.blocking.offsets


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("EVENTDB.WAITFOR", "ERR wrong number of arguments for 'eventdb.waitfor' command"),
        ("EVENTDB.WAITFOR x", "ERR value is not an integer or out of range"),
        ("EVENTDB.WAITFOR -1", "ERR offset is negative"),
        ("EVENTDB.WAITFOR 1 -1", "ERR timeout is negative"),
        ("EVENTDB.WAITFOR 1 9223372036854775807", "ERR timeout is out of range"),
        ("EVENTDB.WAITFOR 1 x", "ERR timeout is not an integer or out of range"),
        ("EVENTDB.WAITFOR 1 2 3", "ERR syntax error"),
    ],
)
def test_waitfor_refuses_what_it_cannot_mean(line: str, text: str) -> None:
    engine = Engine(Config(), Commit(lambda batch: None, lambda action: None))
    client = engine.connect(Collector())
    engine.call(client, [word.encode() for word in line.split()])
    assert client.out == [f"-{text}\r\n".encode()] and client.blocked is None


def test_a_waitfor_that_is_ended_leaves_nothing_behind() -> None:
    engine = Engine(Config(), Commit(lambda batch: None, lambda action: None))
    waiter, other = engine.connect(Collector()), engine.connect(Collector())
    engine.call(waiter, [b"EVENTDB.WAITFOR", b"7"])
    engine.call(other, [b"CLIENT", b"UNBLOCK", b"%d" % waiter.id])
    assert waiter.out == [b"$-1\r\n"] and not engine.blocking.offsets
    engine.call(waiter, [b"EVENTDB.WAITFOR", b"7"])
    engine.disconnect(waiter)
    assert not engine.blocking.offsets


async def test_a_replica_in_the_middle_of_a_record_states_what_it_shows(tmp_path: Path) -> None:
    """Between two slices its state was ahead of its offset: two nodes with one offset had different digests."""
    url = f"quorum:{tmp_path / 'data'}"
    primary, replica = (
        Node(url, Config(), "p", asked=AskedRole.PRIMARY),
        Node(url, Config(), "r", asked=AskedRole.REPLICA),
    )
    await primary.start()
    await replica.start()
    replica.follower.clock = itertools.count().__next__  # every slice takes a second: the loop gets its turn behind it
    client = primary.engine.connect(Collector(), "test")
    for number in range(2000):
        primary.engine.call(client, [b"RPUSH", b"list", b"%d" % number])
    sink = Collector()
    looker = replica.engine.connect(sink, "test")
    seen: set[int] = set()

    def look() -> bool:
        replica.engine.call(looker, [b"LLEN", b"list"])
        looker.flush()
        shown, sink.data = int(sink.data.strip().lstrip(b":")), b""
        assert shown == replica.engine.commit.durable_offset
        seen.add(shown)
        return shown == 2000

    while not look():
        await asyncio.sleep(0)
    assert len(seen) > 3, "it was never looked at in the middle"
    await replica.close()
    await primary.close()


async def test_a_claim_that_another_node_has_overtaken_and_written_after_ends_in_following(tmp_path: Path) -> None:
    """The node that was slow between its claim and its reading died of an assertion when it started."""
    url = f"quorum:{tmp_path / 'data'}"
    rival = Node(url, Config(), "rival", asked=AskedRole.PRIMARY)

    class Slow(Node):
        async def _claim(self, attempts: int) -> Writer:
            writer = await super()._claim(attempts)
            await rival.start()
            rival.engine.call(rival.engine.connect(Collector(), "test"), [b"SET", b"k", b"v"])
            await until(lambda: rival.engine.commit.durable_offset == 1)
            return writer

    slow = Slow(url, Config(), "slow", asked=AskedRole.AUTO)
    await slow.start()
    assert slow.role == "replica" and rival.role == "primary"
    await until(lambda: slow.engine.digest() == rival.engine.digest())
    await slow.close()
    await rival.close()
