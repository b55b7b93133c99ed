"""Clients of Redis Cluster, and listeners for +switch-master, through failovers of real processes."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest
import redis

from tests.conftest import StartServer, wait_until
from tests.kit.wire import Wire
from tests.node.test_failover import Trio


@pytest.mark.filterwarnings("ignore:.*read_from_replicas:DeprecationWarning")
def test_a_cluster_client_writes_and_reads_through_a_kill_and_a_hand_over(
    eventdb_server: StartServer, tmp_path: Path
) -> None:
    trio = Trio(eventdb_server, tmp_path, "--config", "cluster-enabled=yes")
    old = trio.primary()
    with closing(
        redis.RedisCluster("127.0.0.1", trio.others(old)[0].port, read_from_replicas=True, socket_timeout=1.0)
    ) as client:
        acknowledged = client.incr("n")
        old.kill()
        acknowledged = incr(client, acknowledged)
        old.restart()
        wait_until(lambda: trio.listed(trio.primary()) == 2, what="the old primary is listed again")
        handing = trio.primary()
        with Wire(handing.port) as wire:
            assert wire("FAILOVER", "TO", "127.0.0.1", str(old.port)) == b"OK"
        acknowledged = incr(client, acknowledged)
        assert trio.primary() is old
        wait_until(lambda: client.get("n") == b"%d" % acknowledged, what="a replica has what was written")
    for node in trio.others(old):
        with Wire(node.port) as wire:
            wait_until(lambda: f":{old.port}" in str(wire("GET", "n")), what="MOVED names the new primary")
            assert str(wire("GET", "n")) == f"MOVED 3432 127.0.0.1:{old.port}"


def incr(client: redis.RedisCluster, acknowledged: int) -> int:
    """Increment once more, whatever happens; what was acknowledged before must be in it."""
    deadline = time.monotonic() + 20
    while True:
        try:
            reached = client.incr("n")
        except (redis.RedisError, OSError):  # an increment of unknown outcome may have been counted
            if time.monotonic() > deadline:
                raise
            continue
        assert acknowledged < reached
        return reached


def test_a_listener_on_any_node_hears_of_the_new_primary(eventdb_server: StartServer, tmp_path: Path) -> None:
    trio = Trio(eventdb_server, tmp_path)
    old = trio.primary()
    listeners = [redis.Redis(port=node.port).pubsub() for node in trio.others(old)]
    for listener in listeners:
        listener.subscribe("+switch-master")
        assert listener.get_message(timeout=10) is not None
    old.kill()
    heard = [listener.get_message(timeout=20) for listener in listeners]
    new = trio.primary()
    expected = f"mymaster 127.0.0.1 {old.port} 127.0.0.1 {new.port}".encode()
    assert [message["data"] for message in heard if message] == [expected, expected]
    for listener in listeners:
        listener.close()
    with Wire(new.port) as wire:
        assert wire("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster") == [b"127.0.0.1", str(new.port).encode()]
        told = wire("SENTINEL", "MASTER", "mymaster")
    assert isinstance(told, list) and told[told.index(b"down-after-milliseconds") + 1] in (b"500", b"3000"), "the lease"
