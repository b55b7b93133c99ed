"""Messages between nodes: what is published at the primary is heard at every node, once, not before its writes."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hiredis
import pytest
import redis

from eventdb.cluster.topology import Member
from eventdb.engine import pubsub
from eventdb.engine.client import Client
from tests.conftest import Server, StartServer, wait_until
from tests.kit.harness import Local, StandIn
from tests.kit.wire import Wire, encode
from tests.node.test_failover import Trio


class Ear:
    """Hears what one node delivers, in a thread; `heard` (kind, channel, data), in order."""

    def __init__(self, server: Server, *, patterns: tuple[str, ...] = ("*",), shards: tuple[str, ...] = ()) -> None:
        self.heard: list[tuple[str, str, str]] = []
        self._client = redis.Redis(port=server.port, decode_responses=True)
        self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        self._pubsub.psubscribe(*patterns)
        if shards:
            self._pubsub.ssubscribe(*shards)
        for _ in (*patterns, *shards):  # the confirmations: from here on it hears
            self._pubsub.parse_response()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(redis.ConnectionError, OSError, ValueError):
            while not self._ending.is_set():
                message: Any = self._pubsub.get_message(timeout=0.1)
                if message is not None:
                    self.heard.append((message["type"], message["channel"], message["data"]))

    def of(self, channel: str) -> list[str]:
        return [data for _kind, name, data in self.heard if name == channel]

    def close(self) -> None:
        self._ending.set()
        self._thread.join(10)
        self._pubsub.close()
        self._client.close()


@contextlib.contextmanager
def ears(servers: list[Server], **options: Any) -> Iterator[list[Ear]]:
    found = [Ear(server, **options) for server in servers]
    try:
        yield found
    finally:
        for ear in found:
            ear.close()


def publish_until_heard(server: Server, listening: list[Ear]) -> None:
    """The nodes announce themselves anew after a switch; until then a message is lost, as on a broken connection."""

    def heard() -> bool:
        with Wire(server.port) as wire:
            wire("PUBLISH", "probe", "x")
        return all(ear.of("probe") for ear in listening)

    wait_until(heard, what="every node hears the primary")


def test_a_message_reaches_the_subscribers_of_every_node_once_and_in_order(
    eventdb_server: StartServer, tmp_path: Path
) -> None:
    trio = Trio(eventdb_server, tmp_path)
    with ears(trio.nodes, shards=("shard",)) as listening, Wire(trio.nodes[0].port) as wire:
        for i in range(300):
            wire("SET", "k", str(i))
            assert wire("PUBLISH", "news", str(i)) == 1, "Redis counts the listeners of the node that was asked"
            if i % 3 == 0:
                wire("SPUBLISH", "shard", str(i))
        wire("MULTI")
        wire("PUBLISH", "news", "in a transaction")
        wire("SET", "k", "last")
        wire("EXEC")
        wanted = [*map(str, range(300)), "in a transaction"]
        wait_until(lambda: all(len(ear.of("news")) >= len(wanted) for ear in listening), what="all was heard")
        wait_until(lambda: all(len(ear.of("shard")) >= 100 for ear in listening), what="all shard messages were heard")
        for ear in listening:
            assert ear.of("news") == wanted
            assert ear.of("shard") == [str(i) for i in range(0, 300, 3)]
            assert {kind for kind, name, _ in ear.heard if name == "shard"} == {"smessage"}


def test_who_hears_of_a_write_at_a_replica_finds_it_there(eventdb_server: StartServer, tmp_path: Path) -> None:
    trio = Trio(eventdb_server, tmp_path)
    replica = trio.nodes[1]
    with Wire(trio.nodes[0].port) as writer, Wire(replica.port) as listener, Wire(replica.port) as reader:
        listener("SUBSCRIBE", "news")
        for i in range(300):
            writer.send(encode("SET", "k", str(i)) + encode("PUBLISH", "news", str(i)))
            assert listener.receive()[2] == b"%d" % i  # type: ignore[index]
            assert int(reader("GET", "k")) >= i  # type: ignore[call-overload]
            writer.receive()
            writer.receive()


def test_a_replica_keeps_its_own_messages_to_itself_as_in_redis(eventdb_server: StartServer, tmp_path: Path) -> None:
    trio = Trio(eventdb_server, tmp_path)
    with ears(trio.nodes) as (first, second, third):
        publish_until_heard(trio.nodes[0], [first, second, third])
        with Wire(trio.nodes[1].port) as wire:
            assert wire("PUBLISH", "local", "x") == 1
        publish_until_heard(trio.nodes[0], [third])
        wait_until(lambda: second.of("local") == ["x"], what="its own subscriber hears it")
        assert first.of("local") == [] == third.of("local")


def test_in_a_cluster_a_message_from_any_node_reaches_all(eventdb_server: StartServer, tmp_path: Path) -> None:
    trio = Trio(eventdb_server, tmp_path, "--config", "cluster-enabled=yes")
    with ears(trio.nodes, shards=("shard",)) as listening:
        publish_until_heard(trio.nodes[0], listening)
        for number, node in enumerate(trio.nodes):
            with Wire(node.port) as wire:
                wire("READONLY")
                for i in range(50):
                    assert wire("PUBLISH", f"from-{number}", str(i)) == 1
                wire("SPUBLISH", "shard", str(number))
        wanted = [str(i) for i in range(50)]

        def heard() -> bool:
            return all(
                all(len(ear.of(f"from-{number}")) >= 50 for number in range(3)) and len(ear.of("shard")) >= 3
                for ear in listening
            )

        wait_until(heard, what="all was heard")
        for ear in listening:
            assert [ear.of(f"from-{number}") for number in range(3)] == [wanted] * 3, "each once, and in order"
            assert sorted(ear.of("shard")) == ["0", "1", "2"]


@pytest.mark.parametrize("switch", ["SIGKILL", "FAILOVER"])
def test_after_a_switch_the_new_primary_passes_on_and_every_node_tells_of_it_once(
    eventdb_server: StartServer, tmp_path: Path, switch: str
) -> None:
    trio = Trio(eventdb_server, tmp_path)
    old = trio.nodes[0]
    with ears(trio.others(old)) as listening:
        publish_until_heard(old, listening)
        if switch == "SIGKILL":
            old.process.send_signal(signal.SIGKILL)
            old.process.wait()
        else:
            with Wire(old.port) as wire:
                assert wire("FAILOVER") == b"OK"
        wait_until(lambda: any(trio.role(node) == "master" for node in trio.others(old)), what="another is the primary")
        publish_until_heard(trio.primary(), listening)
        wait_until(lambda: all(ear.of("+switch-master") for ear in listening), what="the switch is told")
        assert all(len(ear.of("+switch-master")) == 1 for ear in listening)


# -- the two ends alone


def node() -> Local:
    """A primary that takes announcements."""
    local = Local()
    local.engine.host = StandIn(announced=lambda member, fields: None)
    return local


def announced(local: Local) -> Client:
    """A connection on which another node announced itself."""
    client = local.connect()
    told = json.dumps(Member("other", "h:2").describe())
    assert local.raw("EVENTDB.ANNOUNCE", told, client=client) == b"+OK\r\n"
    return client


def test_what_is_passed_on_is_a_push_with_the_offset_of_the_publisher() -> None:
    local = node()
    follower = announced(local)
    local("SET", "k", "v")
    local("PUBLISH", "c", "m")
    reader = hiredis.Reader()
    reader.feed(local.take(follower))
    push = reader.gets()
    assert isinstance(push, hiredis.PushNotification)
    assert push == [b"message", b"c", b"m", 1] and reader.gets() is False


def test_only_a_node_that_announced_itself_passes_messages_on() -> None:
    local = node()
    assert local.raw("EVENTDB.PUBLISH", "MESSAGE", "c", "m").startswith(b"-ERR only a node that has announced itself")
    listener = local.connect()
    local.raw("SUBSCRIBE", "c", client=listener)
    follower, other = announced(local), announced(local)
    assert local.raw("EVENTDB.PUBLISH", "MESSAGE", "c", "m", client=follower) == b"", "and it does not go back"
    assert b"\r\nm\r\n" in local.take(listener)
    assert b"\r\nm\r\n" in local.take(other)
    local.engine.disconnect(follower)
    assert list(local.engine.pubsub.followers) == [other]


def test_messages_wait_for_the_state_they_tell_of_and_keep_their_order() -> None:
    local = Local()
    local.raw("SUBSCRIBE", "c")
    told = local.engine.pubsub
    told.passed_on(7, b"c", b"one", False, 5)
    told.passed_on(6, b"c", b"two", False, 6)
    told.passed_on(9, b"c", b"three", False, 6)
    assert local.raw("PING") == b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
    told.reached(8)
    heard = local.raw("PING")
    assert 0 < heard.index(b"\r\none\r\n") < heard.index(b"\r\ntwo\r\n") and b"three" not in heard
    told.reached(9)
    assert b"\r\nthree\r\n" in local.raw("PING") and told.early_size == 0


def test_a_node_far_behind_does_not_keep_messages_without_end() -> None:
    told = Local().engine.pubsub
    message = b"x" * (1 << 20)
    for _ in range(2 * (pubsub.EARLY_BYTES_MAX >> 20)):
        told.passed_on(1, b"c", message, False, 0)
        assert told.early_size <= pubsub.EARLY_BYTES_MAX
