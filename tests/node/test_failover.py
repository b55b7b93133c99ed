"""Failover of real processes on one log: whoever dies, stops or hands over, nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import hiredis
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from eventdb.cluster.timing import LATE_S, LEASE_MS
from tests.conftest import Server, StartServer, wait_until
from tests.kit.wire import Wire, encode

GONE = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, redis.ResponseError)


class Trio:
    """Three nodes on one log; the first becomes the primary."""

    def __init__(self, start: StartServer, folder: Path, *options: str) -> None:
        self.url = f"quorum:{folder / 'data'}"
        self.nodes = [start(self.url, "--node-name", f"node-{i}", *options) for i in range(3)]
        wait_until(lambda: self.listed(self.nodes[0]) == 2, what="both followers are listed")

    @staticmethod
    def role(server: Server) -> str:
        with contextlib.suppress(OSError, EOFError, AssertionError), Wire(server.port) as wire:
            reply = wire("ROLE")
            return reply[0].decode() if isinstance(reply, list) else ""
        return ""

    @staticmethod
    def listed(server: Server) -> int:
        with Wire(server.port) as wire:
            reply = wire("ROLE")
        return len(reply[2]) if isinstance(reply, list) and reply[0] == b"master" else 0

    def primary(self) -> Server:
        found: list[Server] = []

        def one() -> bool:
            found[:] = [node for node in self.nodes if node.process.poll() is None and self.role(node) == "master"]
            return len(found) == 1

        wait_until(one, what="there is one primary")
        return found[0]

    def others(self, server: Server) -> list[Server]:
        return [node for node in self.nodes if node is not server]

    def sentinel(self) -> Sentinel:
        return Sentinel([("127.0.0.1", node.port) for node in self.nodes], socket_timeout=1.0)

    def agree(self) -> None:
        """Every node has the same state in the end."""

        def same() -> bool:
            digests = set()
            for node in self.nodes:
                with Wire(node.port) as wire:
                    digests.add(str(wire("EVENTDB.DIGEST")))
            return len(digests) == 1 and "LOADING" not in digests.pop()

        wait_until(same, what="all nodes have the same digest")


def write_until_accepted(trio: Trio, key: str, value: str, seconds: float = 15) -> float:
    """Ask each node in turn until one takes the write; returns the seconds it took."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        for node in trio.nodes:
            try:
                client = redis.Redis(port=node.port, socket_timeout=0.3, retry=Retry(NoBackoff(), 0))
                with contextlib.closing(client):
                    client.set(key, value)
                return time.monotonic() - began
            except GONE:
                continue
    pytest.fail(f"no node took a write within {seconds} s")


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_another_node_takes_over_and_the_old_primary_follows_it(
    eventdb_server: StartServer, tmp_path: Path, blow: signal.Signals
) -> None:
    trio = Trio(eventdb_server, tmp_path)
    old = trio.primary()
    with Wire(old.port) as wire:
        for i in range(100):
            assert wire("RPUSH", "list", str(i)) == i + 1
    os.kill(old.pid, blow)
    seconds = write_until_accepted(trio, "after", "1")
    assert seconds > LEASE_MS / 1000 / 2, "it was taken over while the lease lasted"
    new = next(node for node in trio.others(old) if trio.role(node) == "master")
    with Wire(new.port) as wire:
        assert wire("LRANGE", "list", "0", "-1") == [b"%d" % i for i in range(100)]
    if blow is signal.SIGKILL:
        old.kill()
        old.restart()
    else:
        with Wire(old.port) as wire:
            wire.send(encode("GET", "after"))  # it lies in its socket when the process goes on
            os.kill(old.pid, signal.SIGCONT)
            reply = wire.receive()
            assert reply == b"1" or isinstance(reply, hiredis.ReplyError), f"{reply!r} is what was before its time"
    wait_until(lambda: trio.role(old) == "slave", what="the old primary follows")
    trio.agree()


def test_a_sentinel_client_writes_and_reads_through_two_failovers(eventdb_server: StartServer, tmp_path: Path) -> None:
    trio = Trio(eventdb_server, tmp_path)
    sentinel = trio.sentinel()
    master = sentinel.master_for("mymaster", socket_timeout=1.0)
    assert master.incr("n") == 1
    acknowledged = 1
    for _ in range(2):
        old = trio.primary()
        old.kill()
        deadline = time.monotonic() + 15
        while True:
            try:
                acknowledged = master.incr("n")
                break
            except (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError):
                assert time.monotonic() < deadline, "the client does not find the new primary"
                time.sleep(0.02)
        old.restart()
        wait_until(lambda old=old: trio.role(old) == "slave", what="the old primary follows")  # type: ignore[misc]
        wait_until(lambda: trio.listed(trio.primary()) == 2, what="it is listed again")
    slave = sentinel.slave_for("mymaster", socket_timeout=1.0)
    wait_until(lambda: slave.get("n") == b"%d" % acknowledged, what="a replica has what was written")
    with pytest.raises(redis.ReadOnlyError):
        slave.set("n", "0")


def test_hand_over_is_quick_and_costs_a_client_that_finds_the_primary_nothing(
    eventdb_server: StartServer, tmp_path: Path
) -> None:
    trio = Trio(eventdb_server, tmp_path)
    old = trio.primary()
    master = trio.sentinel().master_for("mymaster", socket_timeout=5.0)
    assert master.set("k", "before")
    target = trio.others(old)[1]
    to = ["--to", f"127.0.0.1:{target.port}"]
    asked = trio.others(old)[0]  # a replica knows who the primary is
    command = [sys.executable, "-m", "eventdb", "failover", "--node", f"127.0.0.1:{asked.port}", *to]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"127.0.0.1:{target.port} is the primary now; 127.0.0.1:{old.port} follows it (")
    assert trio.role(target) == "master" and trio.role(old) == "slave"
    assert master.set("k", "after"), "its connection was closed, so it has looked again"
    trio.agree()
    again = subprocess.run([*command[:-1], "127.0.0.1:1"], capture_output=True, text=True, timeout=30, check=False)
    assert again.returncode == 1 and "is not a replica" in again.stderr and "Traceback" not in again.stderr


def test_nothing_is_handed_to_a_node_that_does_not_answer(eventdb_server: StartServer, tmp_path: Path) -> None:
    """It was, and for a lease and longer nobody took writes."""
    trio = Trio(eventdb_server, tmp_path)
    primary = trio.primary()
    stopped, other = trio.others(primary)
    os.kill(stopped.pid, signal.SIGSTOP)
    with Wire(primary.port) as wire:
        wait_until(lambda: _lag_ms(wire, stopped.port) > LATE_S * 1000, what="its silence shows in INFO")
        refused = wire("FAILOVER", "TO", "127.0.0.1", str(stopped.port))
        assert isinstance(refused, hiredis.ReplyError) and "has not been heard of" in str(refused)
        assert wire("SET", "k", "v") == b"OK"
        os.kill(stopped.pid, signal.SIGCONT)
        wait_until(lambda: 0 <= _lag_ms(wire, stopped.port) < 1000, what="it is heard of again")
        assert _lag_ms(wire, other.port) < 1000
    trio.agree()


def _lag_ms(primary: Wire, port: int) -> int:
    """What INFO on the primary says of the replica at that port; -1: nothing."""
    info = primary("INFO", "replication")
    assert isinstance(info, bytes)
    found = re.search(rb"port=%d,.*lag_ms=(\d+)" % port, info)
    return int(found[1]) if found else -1


def test_a_replica_says_that_its_primary_is_silent(eventdb_server: StartServer, tmp_path: Path) -> None:
    """It went on calling the dead primary connected, and sent clients of a cluster there."""
    url = f"quorum:{tmp_path / 'data'}"
    primary = eventdb_server(url)
    replica = eventdb_server(url, "--role", "replica")
    sentinel = Sentinel([("127.0.0.1", replica.port)], socket_timeout=1.0)
    with Wire(replica.port) as wire:

        def info() -> dict[bytes, bytes]:
            found = wire("INFO", "replication")
            assert isinstance(found, bytes)
            return dict(line.split(b":", 1) for line in found.split() if b":" in line)

        wait_until(lambda: info()[b"master_link_status"] == b"up", what="the replica follows")
        assert sentinel.discover_master("mymaster")[1] == primary.port
        primary.kill()
        wait_until(lambda: info()[b"master_link_status"] == b"down", what="the silence is noticed")
        wait_until(lambda: int(info()[b"slave_lag_ms"]) > 1000, what="the lag grows with it")
        with pytest.raises(redis.sentinel.MasterNotFoundError):
            sentinel.discover_master("mymaster")
        primary.restart()
        wait_until(lambda: info()[b"master_link_status"] == b"up", what="the primary is heard again")
        wait_until(lambda: int(info()[b"slave_lag_ms"]) < 1000, what="the lag is gone")
        assert sentinel.discover_master("mymaster")[1] == primary.port


def test_a_primary_that_stops_gives_its_lease_back(eventdb_server: StartServer, tmp_path: Path) -> None:
    trio = Trio(eventdb_server, tmp_path, "--lease-ms", "8000")
    assert trio.primary().stop() == 0
    assert write_until_accepted(trio, "k", "v") < 8, "the others waited for a lease that was given back"


def test_a_node_that_starts_beside_a_primary_follows_and_one_that_starts_after_a_crash_claims_at_once(
    eventdb_server: StartServer, tmp_path: Path
) -> None:
    url = f"quorum:{tmp_path / 'data'}"
    first = eventdb_server(url)
    second = eventdb_server(url)
    assert (Trio.role(first), Trio.role(second)) == ("master", "slave")
    first.kill()
    second.kill()
    first.restart()
    assert Trio.role(first) == "master", "its last holder has ended, so nobody is waited for"


def test_a_replica_by_choice_never_takes_over(eventdb_server: StartServer, tmp_path: Path) -> None:
    url = f"quorum:{tmp_path / 'data'}"
    first = eventdb_server(url, "--lease-ms", "200")
    replica = eventdb_server(url, "--role", "replica", "--lease-ms", "200")
    wait_until(lambda: Trio.listed(first) == 1, what="it is listed")
    done = subprocess.run(
        [sys.executable, "-m", "eventdb", "failover", "--node", f"127.0.0.1:{first.port}"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "a replica that may become the primary" in done.stderr
    first.kill()
    with Wire(replica.port) as wire:
        assert wire("EVENTDB.WAITFOR", "1", "4000") is None
        assert Trio.role(replica) == "slave"
