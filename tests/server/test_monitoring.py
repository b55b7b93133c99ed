"""`/metrics`, `/healthz`, `/readyz`: of real nodes, over HTTP; and what the small HTTP server refuses."""

from __future__ import annotations

import asyncio
import re
import select
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from eventdb.backends import LogInfo
from eventdb.engine.client import LEASELESS
from eventdb.engine.settings import Config
from eventdb.metrics.statistics import Peak
from eventdb.node.node import Node
from eventdb.node.role import Role
from eventdb.node.saving import _restorable_from
from eventdb.replay.manifest import Manifest
from eventdb.server.health import not_ready
from eventdb.server.measures import families
from eventdb.server.server import Server
from tests.conftest import ROOT, StartServer, free_port, wait_until
from tests.kit.differential import Wire
from tests.kit.nodes import Nodes

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
PASSWORD = "correct-horse-battery"
SAMPLE = re.compile(r'^(eventdb_\w+)(\{(?:\w+="[^"\n]*",?)*\})? (-?[0-9.e+-]+|\+Inf)$')


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def values(port: int) -> dict[str, float]:
    """Every sample of a scrape by its name with labels."""
    status, text = get(port, "/metrics")
    assert status == 200
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            sample = SAMPLE.match(line)
            assert sample is not None, line
            found[sample[1] + (sample[2] or "")] = float(sample[3])
    return found


def until(port: int, name: str, value: float) -> dict[str, float]:
    """Scrape until a sample has this value: a scrape may be shown again for a moment."""
    found: dict[str, float] = {}

    def reached() -> bool:
        found.clear()
        found.update(values(port))
        return found.get(name) == value

    wait_until(reached, 30, f"{name} is {value}")
    return found


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path, metrics_port=str(free_port())) as found:
        yield found


def port_of(nodes: Nodes) -> int:
    return int(nodes.settings["metrics_port"])


def test_a_primary_shows_what_was_done(nodes: Nodes) -> None:
    server = nodes.start("a")
    port = port_of(nodes)
    with redis.Redis(port=server.port) as first:
        first.config_resetstat()  # what other tests of this process did
    with redis.Redis(port=server.port) as client:
        client.set("k", "v")
        client.get("k")
        client.get("none")
        client.hset("h", "f", 1)
        with pytest.raises(redis.ResponseError):
            client.incr("h")
    found = until(port, 'eventdb_commands_failed_total{command="incrby",group="string",kind="write"}', 1)
    assert found['eventdb_commands_total{command="set",group="string",kind="write"}'] >= 1
    assert found['eventdb_commands_total{command="get",group="string",kind="read"}'] >= 2
    assert found['eventdb_errors_total{code="WRONGTYPE"}'] == 1
    assert (found["eventdb_keyspace_hits_total"], found["eventdb_keyspace_misses_total"]) == (1, 1)
    assert found['eventdb_keys{db="0"}'] == 2
    assert found["eventdb_network_receive_bytes_total"] > 50 and found["eventdb_network_transmit_bytes_total"] > 20
    assert found["eventdb_connections_accepted_total"] == 1
    assert found['eventdb_role{role="primary"}'] == 1 and found['eventdb_role{role="replica"}'] == 0
    assert found["eventdb_lease_valid"] == 1 and 0 < found["eventdb_lease_left_seconds"] <= 2
    assert found["eventdb_epoch"] == 1 and found["eventdb_durable_lag_transactions"] == 0
    assert found["eventdb_durable_offset"] == found["eventdb_offset"] == 2
    for zone in "abc":
        assert found[f'eventdb_zone_up{{zone="zone-{zone}"}}'] == 1
        assert found[f'eventdb_zone_state{{state="up",zone="zone-{zone}"}}'] == 1
    for name in ("batch_transactions", "commit_duration_seconds", "write_duration_seconds"):
        assert found[f"eventdb_{name}_count"] == 2, name
        assert found[f'eventdb_{name}_bucket{{le="+Inf"}}'] == 2, name
    assert found["eventdb_batch_transactions_sum"] == 2
    assert 0 < found["eventdb_commit_duration_seconds_sum"] <= found["eventdb_write_duration_seconds_sum"] < 10


def test_a_replica_shows_its_lag_and_the_zones_that_it_reads(nodes: Nodes) -> None:
    primary_port = port_of(nodes)
    primary = nodes.start("a")
    nodes.settings["metrics_port"] = str(free_port())
    replica = nodes.start("b", follow_only=True)
    with redis.Redis(port=primary.port) as client:
        client.set("k", "v")
    nodes.applied(1)
    found = until(port_of(nodes), 'eventdb_replication_lag_transactions{node="b"}', 0)
    assert found['eventdb_role{role="replica"}'] == 1 and found["eventdb_lease_valid"] == 0
    assert found["eventdb_replayed_events_total"] == 1 and found["eventdb_replayed_bytes_total"] > 10
    assert found['eventdb_replication_lag_seconds{node="b"}'] < 60
    until(port_of(nodes), 'eventdb_zone_up{zone="zone-c"}', 1)
    until(primary_port, 'eventdb_replication_lag_transactions{node="b"}', 0)
    assert get(port_of(nodes), "/readyz") == (200, "ready: replica\n")
    replica.node.engine.topology.me.lag_ms = 10_001
    assert not_ready(replica.node) == ["10001 ms behind, more than metrics-ready-lag 10000"]


def test_a_zone_that_is_down_shows_as_down(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    server = nodes.start("a")
    states = [("zone-a", "up", ""), ("zone-b", "down", "disk full"), ("zone-c", "catching-up", "")]
    monkeypatch.setattr(server.monitoring, "zones", lambda: states)
    found = until(port_of(nodes), 'eventdb_zone_up{zone="zone-b"}', 0)
    assert found['eventdb_zone_state{state="down",zone="zone-b"}'] == 1
    assert found['eventdb_zone_state{state="catching-up",zone="zone-c"}'] == 1


def test_a_directory_that_is_lost_is_seen_by_the_writer(nodes: Nodes, tmp_path: Path) -> None:
    server = nodes.start("a")
    (tmp_path / "data" / "zone-b").rename(tmp_path / "gone")
    (tmp_path / "data" / "zone-b").write_text("not a directory")
    with redis.Redis(port=server.port) as client:
        deadline = time.monotonic() + 20
        while values(port_of(nodes))['eventdb_zone_up{zone="zone-b"}'] == 1:
            client.set("k", "v" * 100_000)
            assert time.monotonic() < deadline
        assert client.info("eventdb")["log_zone1"]["name"] == "zone-b"
        assert client.info("eventdb")["log_zone1"]["state"] in ("down", "catching-up")


def test_health_and_readiness_of_a_primary(nodes: Nodes) -> None:
    server = nodes.start("a")
    assert get(port_of(nodes), "/healthz") == (200, "ok\n")
    assert get(port_of(nodes), "/readyz") == (200, "ready: primary\n")
    server.node.engine.gate |= LEASELESS
    assert not_ready(server.node) == ["the lease has lapsed: the log does not answer"]
    server.node.engine.gate &= ~LEASELESS


def test_while_the_state_is_rebuilt_a_node_is_healthy_and_not_ready(nodes: Nodes) -> None:
    server = nodes.start("a")

    async def step_down() -> list[str]:
        server.node._step_down()
        return not_ready(server.node)

    assert nodes.run(step_down()) == ["the state is being rebuilt"]
    assert get(port_of(nodes), "/healthz")[0] == 200


@pytest.mark.parametrize("role", [role for role in Role if role not in (Role.PRIMARY, Role.REPLICA)])
def test_a_node_that_is_neither_primary_nor_replica_is_not_ready(role: Role) -> None:
    async def reasons() -> list[str]:
        node = Node("memory:", Config())
        node.role = role
        return not_ready(node)

    assert asyncio.run(reasons()) == [
        "the state is being rebuilt" if role is Role.LOADING else f"the node is {role.value}"
    ]


def test_refusals_are_counted_and_no_secret_is_shown(eventdb_server: StartServer) -> None:
    port = free_port()
    server = eventdb_server(None, "--metrics-port", str(port), env={"EVENTDB_REQUIREPASS": PASSWORD})
    with redis.Redis(port=server.port, password=PASSWORD) as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">another-secret", "~a:*", "+get", "+subscribe")
        client.execute_command("CONFIG", "SET", "latency-tracking", "yes")
        client.set("secret-key", "secret-value")
        with closing(Wire(("127.0.0.1", server.port))) as wire:
            assert wire.call("AUTH", "reader", "another-secret") == b"+OK\r\n"
            for words in (["SET", "a:1", "x"], ["GET", "b"], ["SUBSCRIBE", "c"]):
                assert wire.call(*words).startswith(b"-NOPERM"), words
            for wrong in ("wrong-password", "wrong-password-2"):
                assert wire.call("AUTH", "reader", wrong).startswith(b"-WRONGPASS")
        found = until(port, "eventdb_authentication_failures_total", 2)
        for on in ("command", "key", "channel"):
            assert found[f'eventdb_authorization_failures_total{{on="{on}"}}'] == 1, on
        info = client.info("stats")
        assert (info["acl_access_denied_auth"], info["acl_access_denied_cmd"]) == (2, 1)
        assert (info["acl_access_denied_key"], info["acl_access_denied_channel"]) == (1, 1)
        assert found['eventdb_command_duration_seconds_bucket{command="set",kind="write",le="+Inf"}'] == 1
        text = get(port, "/metrics")[1] + get(port, "/readyz")[1] + server.text
        for secret in (PASSWORD, "another-secret", "wrong-password", "secret-key", "secret-value", "reader"):
            assert secret not in text
        client.config_resetstat()
        until(port, "eventdb_authentication_failures_total", 0)


def test_nothing_listens_and_nothing_is_measured_when_it_is_off(tmp_path: Path) -> None:
    with Nodes(tmp_path) as off:
        server = off.start("a")
        assert server.monitoring is None and server.node.appending.times is None


def test_without_its_library_the_server_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['prometheus_client'] = None\nfrom eventdb.cli import app\n"
        f"sys.argv = ['eventdb', 'serve', '--log', 'quorum:{tmp_path}/d', '--port', '0', '--metrics-port', '1']\napp()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    expected = "eventdb: metrics-port needs prometheus-client, which is not installed: pip install 'eventdb[metrics]'"
    assert done.stderr.splitlines()[-1] == expected
    assert not (tmp_path / "d").exists(), "the log was touched"


def test_a_port_that_is_taken_ends_the_start_before_the_log_is_claimed(nodes: Nodes, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port_of(nodes)))
        taken.listen()

        async def begin() -> None:
            config = Config()
            config.set("metrics-port", nodes.settings["metrics_port"])
            server = Server(nodes.url, config, port=0)
            try:
                await server.start()
            finally:
                await server.close()

        with pytest.raises(ValueError, match=r"metrics-port: cannot listen on 127\.0\.0\.1:\d+: "):
            nodes.run(begin())
    assert not (tmp_path / "data").exists()


def raw(port: int, sent: bytes) -> bytes:
    """What the server answers to these bytes, to the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as conn:
        conn.sendall(sent)
        found = b""
        try:
            while data := conn.recv(1 << 16):
                found += data
        except ConnectionResetError:
            pass
        return found


def test_what_is_not_a_plain_request_is_refused(nodes: Nodes) -> None:
    nodes.start("a")
    port = port_of(nodes)
    host = b"\r\nHost: x\r\n\r\n"
    assert get(port, "/")[0] == 404 and get(port, "/metrics/../x")[0] == 404
    assert raw(port, b"POST /metrics HTTP/1.1" + host).startswith(b"HTTP/1.1 405 ")
    assert raw(port, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    head = raw(port, b"HEAD /healthz HTTP/1.1" + host)
    assert head.startswith(b"HTTP/1.1 200 ") and head.endswith(b"\r\n\r\n") and b"Content-Length: 3\r\n" in head
    assert not raw(port, b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    try:
        # of 40 silent connections those above the limit are closed at once
        wait_until(lambda: len(select.select(idle, [], [], 0)[0]) >= 8, what="connections above the limit are closed")
        assert len(select.select(idle, [], [], 0)[0]) == 8
    finally:
        for conn in idle:
            conn.close()


def test_asking_all_the_time_does_not_make_a_new_text_each_time(nodes: Nodes) -> None:
    server = nodes.start("a")
    assert server.monitoring is not None
    first = server.monitoring.metrics().body
    server.monitoring._good_until = float("inf")
    assert server.monitoring.metrics().body is first


def test_every_family_has_help_and_a_name_that_prometheus_likes(nodes: Nodes) -> None:
    server = nodes.start("a")
    names = []
    for family in families(server.node, [("zone-a", "up", "")]):
        names.append(family.name)
        assert re.fullmatch(r"eventdb_[a-z][a-z0-9_]*[a-z0-9]", family.name) and family.help.endswith(".")
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert not re.search(r"_(ms|usec|msec|kb|mb)(_|$)", family.name), "base units"
    assert len(names) == len(set(names))


def test_snapshots_show_when_they_were_proven_and_how_far_back_one_can_go(tmp_path: Path) -> None:
    port = free_port()
    with Nodes(tmp_path, metrics_port=str(port), snapshot_store=str(tmp_path / "store")) as nodes:
        server = nodes.start("a")
        with redis.Redis(port=server.port, socket_timeout=60) as client:  # SAVE is not to be asked for twice
            client.set("k", "v")
            found = until(port, "eventdb_snapshot_lag_transactions", 1)
            assert found["eventdb_snapshot_verified_time_seconds"] == 0 and found["eventdb_snapshot_failed"] == 0
            assert "eventdb_snapshot_age_seconds" not in found
            client.execute_command("SAVE")
            client.set("k", "w")
            found = until(port, "eventdb_snapshots_made_total", 1)
            assert 0 <= found["eventdb_snapshot_age_seconds"] < 60
            assert found["eventdb_snapshot_lag_transactions"] == 1
        server.node.saving._looked = -100.0
        until(port, "eventdb_recovery_window_seconds", float("inf"))


def test_the_recovery_window_begins_with_the_oldest_snapshot_that_the_log_goes_on_from() -> None:
    def manifest(position: int, time_ms: int) -> Manifest:
        return Manifest("s", "l", 5, position, 0, 1, time_ms, time_ms, 1, {}, 1, 1, "", "", 10, "0", verified=1)

    log = LogInfo("quorum:d", 1, 100, 200, 50, 90, 9_000)
    found = [manifest(150, 7_000), manifest(100, 5_000), manifest(99, 3_000)]
    assert _restorable_from(log, found) == 5
    assert _restorable_from(log, found[2:]) == -1
    assert _restorable_from(replace(log, first_offset=1), []) == 0


def test_the_fastest_moment_is_that_of_two_minutes() -> None:
    peak = Peak()
    for count, now in ((0, 60.0), (10, 60.1), (1000, 60.2), (1001, 119.9)):
        peak.sample(count, now)
    assert peak.value() == pytest.approx(9900)
    peak.sample(0, 121.0)  # the counter began anew: no rate
    peak.sample(50, 122.0)
    assert peak.value() == pytest.approx(9900)
    peak.sample(60, 181.0)
    assert peak.value() == pytest.approx(50)
    peak.sample(-1, 600.0)
    peak.sample(10**9, 600.1)
    assert peak.value() == 0


def test_a_zone_shows_what_its_synced_writes_take(nodes: Nodes) -> None:
    server = nodes.start("a")
    with redis.Redis(port=server.port) as client:
        for number in range(20):
            client.set("k", number)
        zones = [client.info("eventdb")[f"log_zone{index}"] for index in range(3)]
    found = values(port_of(nodes))
    for zone, shown in zip("abc", zones, strict=True):
        writes = found[f'eventdb_zone_writes_total{{zone="zone-{zone}"}}']
        took = found[f'eventdb_zone_write_seconds_total{{zone="zone-{zone}"}}']
        assert writes >= 1 and 0 < took / writes < 10
        assert shown["name"] == f"zone-{zone}" and shown["writes"] >= 1 and shown["write_usec"] > 0
