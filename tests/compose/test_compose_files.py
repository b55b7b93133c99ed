"""The stack on quorum files: three volumes, one primary, four replicas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.sentinel import Sentinel

from tests.compose.engine import Engine
from tests.compose.stack import Load, Stack, lost, offset_of

pytestmark = pytest.mark.timeout(1800)  # the first test waits for images and builds


@pytest.fixture(scope="module")
def stack(engine: Engine, compose: list[str | Path], images: dict[str, str]) -> Iterator[Stack]:
    stack = Stack(engine, compose, "files", images)
    stack.down()
    try:
        stack.up(files_replica=4)
        yield stack
    finally:
        stack.down()


def test_four_replicas_show_what_the_primary_was_told(stack: Stack) -> None:
    primary = stack.primary()
    assert primary.service == "files-primary", "the one with the fixed port starts first"
    with primary.client() as client:
        for number in range(200):
            client.rpush("list", number)
        written, digest = offset_of(client), client.execute_command("EVENTDB.DIGEST")
        assert client.info("server")["eventdb_build"] == "compiled"
    replicas = [node for node in stack.nodes() if node != primary]
    assert len(replicas) == 4
    for replica in replicas:
        with replica.client() as reader:
            assert reader.execute_command("EVENTDB.WAITFOR", written, 10000) == written
            assert reader.llen("list") == 200 and reader.execute_command("EVENTDB.DIGEST") == digest
            with pytest.raises(redis.exceptions.ReadOnlyError):
                reader.set("k", "v")


def test_a_container_has_no_rights_and_no_compiler_and_writes_to_its_zones_only(stack: Stack) -> None:
    name = stack.primary().name
    status = stack.inside(name, "cat /proc/self/status; id -u; command -v cc gcc || echo none")
    assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status
    assert status.split()[-2:] == ["10001", "none"]
    assert stack.inside(name, "touch /x /etc/x /opt/eventdb/x 2>&1 || true").count("Read-only file system") == 3
    assert stack.inside(name, "ls /zones/a /zones/b /zones/c").count(".seg") >= 2
    assert stack.inside(name, "cat /proc/1/comm").strip() == "tini"


def test_a_killed_primary_is_followed_by_another_and_nothing_is_lost(stack: Stack) -> None:
    killed = stack.primary()
    with Load(stack) as load:
        load.wait_for_more(200)
        stack.kill(killed.name)
        load.wait_for_more(200)
        successor = stack.primary()
        assert successor.name != killed.name
        stack.start(killed.name)
        load.wait_for_more(200)
    assert stack.primary() == successor, "one that comes back follows"
    print(f"writes stopped for {load.longest_gap():.2f} s")
    with successor.client() as client:
        assert lost(client, load) == []
        written, digest = offset_of(client), client.execute_command("EVENTDB.DIGEST")
    for node in stack.nodes():
        with node.client() as client:
            assert int(client.execute_command("EVENTDB.WAITFOR", written, 10000)) >= written
            assert client.execute_command("EVENTDB.DIGEST") == digest, node.name


def test_sentinel_clients_find_the_primary_from_any_node(stack: Stack) -> None:
    """By the addresses on the containers' network, which this machine reaches where it is Linux."""
    primary = stack.primary()
    with primary.client() as client:
        client.set("found", "yes")
    for node in stack.nodes():
        sentinel = Sentinel([("127.0.0.1", node.port)], socket_timeout=5)
        host, port = sentinel.discover_master("mymaster")
        assert stack.inspect(primary.name, "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}").split() == [
            host
        ]
        with redis.Redis(host, port, decode_responses=True, socket_timeout=5) as client:
            assert client.get("found") == "yes" and client.execute_command("ROLE")[0] == "master"


def test_a_stop_is_a_graceful_end(stack: Stack) -> None:
    stopped = stack.primary()
    stack.engine.docker("stop", stopped.name)
    assert stack.inspect(stopped.name, "{{.State.ExitCode}} {{.State.OOMKilled}}") == "0 false"
    assert stack.primary().name != stopped.name
    stack.start(stopped.name)
