"""`eventdb status`: of real nodes, and each warning with its reason; the exit code says how bad it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner, Result

from eventdb.cli.app import app
from eventdb.cli.status import DOWN, GOOD, WARNINGS, fields_of, judge
from tests.conftest import StartServer, free_port, wait_until
from tests.kit.nodes import Nodes

runner = CliRunner()


def run(*argv: str) -> Result:
    result = runner.invoke(app, ["status", *argv])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_healthy_primary_and_its_replica(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes:
        primary = nodes.start("a")
        alone = run("--port", str(primary.port))
        assert alone.exit_code == GOOD and "none: no other node can take over" in alone.stdout
        replica = nodes.start("b", follow_only=True)
        with redis.Redis(port=primary.port) as client:
            client.set("secret-key", "v")
        nodes.applied(1)
        wait_until(lambda: f"127.0.0.1:{replica.port}, " in run("--port", str(primary.port)).stdout)
        shown = run("--port", str(primary.port))
        assert shown.exit_code == GOOD, shown.stdout
        for line in ("role      primary of epoch 1", "zone      zone-b: up", "durable   offset 1, 0 ", "replicas  1"):
            assert line in shown.stdout
        assert "ms left of" in shown.stdout and "secret-key" not in shown.stdout and "warning" not in shown.stdout
        wait_until(lambda: run("--port", str(replica.port)).exit_code == GOOD)
        shown = run("--port", str(replica.port))
        assert f"primary  127.0.0.1:{primary.port}\n" in shown.stdout and "role     replica\n" in shown.stdout
        found = json.loads(run("--port", str(replica.port), "--json").stdout)
        assert found["code"] == 0 and found["warnings"] == [] and ["role", "replica"] in found["facts"]


def test_a_zone_that_is_gone_is_a_warning_with_what_to_do(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes:
        server = nodes.start("a")
        (tmp_path / "data" / "zone-b").rename(tmp_path / "gone")
        (tmp_path / "data" / "zone-b").write_text("not a directory")
        with redis.Redis(port=server.port) as client:

            def noticed() -> bool:
                client.set("k", "v" * 100_000)
                return run("--port", str(server.port)).exit_code == WARNINGS

            wait_until(noticed, 20, "the zone is down")
        shown = run("--port", str(server.port)).stdout
        assert "warning: zone-b is " in shown and "by itself" in shown


def test_nobody_there_is_down() -> None:
    port = free_port()
    found = run("--port", str(port))
    assert found.exit_code == DOWN and found.stdout == ""
    assert found.stderr.startswith(f"eventdb: no node answers at 127.0.0.1:{port}: ")


def test_a_password_is_asked_for_and_a_user_can_be_given(eventdb_server: StartServer) -> None:
    server = eventdb_server(env={"EVENTDB_REQUIREPASS": "correct-horse"})
    port = str(server.port)
    refused = run("--port", port)
    assert refused.exit_code == DOWN and "NOAUTH" in refused.stderr
    good = run("--port", port, "--password", "correct-horse")
    assert good.exit_code == GOOD and "correct-horse" not in good.stdout
    with redis.Redis(port=server.port, password="correct-horse") as client:
        client.execute_command("ACL", "SETUSER", "watcher", "on", ">pw", "+info")
    assert run("--port", port, "--user", "watcher", "--password", "pw").exit_code == GOOD
    assert run("--port", port, "--user", "watcher", "--password", "no").exit_code == DOWN


@pytest.mark.redis
def test_a_real_redis_is_no_eventdb(redis_server: tuple[str, int]) -> None:
    found = run("--port", str(redis_server[1]))
    assert (found.exit_code, found.stdout) == (
        DOWN, "warning: this is no eventdb server: give the --host and --port of one\n"
    )  # fmt: skip


PRIMARY = {
    "node_role": "primary", "node_name": "a", "epoch": "3", "eventdb_version": "1", "eventdb_build": "pure",
    "uptime_in_seconds": "5", "log_url": "quorum:d", "events_replayed": "7", "role": "master", "offset": "10",
    "durable_offset": "10", "lease_ms": "500", "lease_left_ms": "480", "log_zone0": "name=zone-a,state=up",
    "used_memory": "10", "used_memory_human": "10B", "used_memory_rss": "10", "maxmemory": "0", "maxmemory_human": "0B",
    "maxmemory_policy": "noeviction",
    "total_system_memory": "1000", "total_system_memory_human": "1K", "connected_clients": "1", "maxclients": "100",
    "blocked_clients": "0",
}  # fmt: skip
REPLICA = {
    **PRIMARY, "node_role": "replica", "role": "slave", "master_host": "h", "master_port": "1",
    "master_link_status": "up", "slave_lag_ms": "0", "slave_lag_offsets": "0",
}  # fmt: skip


@pytest.mark.parametrize(
    ("info", "changed", "code", "text"),
    [
        (PRIMARY, {}, GOOD, ""),
        (REPLICA, {}, GOOD, ""),
        (PRIMARY, {"lease_left_ms": "0"}, WARNINGS, "the lease has lapsed"),
        (PRIMARY, {"log_zone0": "name=zone-a,state=down,detail=a=b"}, WARNINGS, "zone-a is down (a=b)"),
        (PRIMARY, {"log_zone0": "name=zone-a,state=catching-up"}, WARNINGS, "zone-a is catching-up"),
        (PRIMARY, {"slave0": "ip=h,port=2,state=online,offset=3,lag=2,lag_ms=2000"}, WARNINGS, "h:2 is 2000 ms behind"),
        (PRIMARY, {"maxmemory": "11", "used_memory": "10"}, WARNINGS, "90 % of maxmemory"),
        (PRIMARY, {"used_memory_rss": "950"}, WARNINGS, "95 % of the machine's memory"),
        (PRIMARY, {"connected_clients": "99"}, WARNINGS, "99 of 100 connections"),
        (PRIMARY, {"node_role": "handing-over"}, WARNINGS, "being handed over"),
        (PRIMARY, {"node_role": "loading"}, WARNINGS, "being rebuilt, 7 events"),
        (REPLICA, {"master_link_status": "down"}, WARNINGS, "no node holds the lease"),
        (REPLICA, {"slave_lag_ms": "10001"}, WARNINGS, "this replica is 10001 ms behind"),
        (REPLICA, {"node_role": "stuck", "master_link_status": "down"}, DOWN, "cannot follow its log"),
    ],
)
def test_each_trouble_is_a_warning(info: dict[str, str], changed: dict[str, str], code: int, text: str) -> None:
    shown = "\r\n".join([f"{name}:{value}" for name, value in {**info, **changed}.items()])
    found = judge(fields_of("# Section\r\n" + shown))
    assert found.code == code
    assert len(found.warnings) == (code != GOOD) and text in "".join(found.warnings)
