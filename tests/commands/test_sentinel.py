"""SENTINEL on every node: the replies of a real Redis Sentinel, and redis-py's Sentinel clients on real nodes.

The real thing is a redis-server with one replica, watched by two Sentinels.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import hiredis
import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel

from eventdb.cluster.topology import Member
from eventdb.engine.registry import COMMANDS
from eventdb.engine.settings import Config
from tests.conftest import StartServer, answers_ping, free_port, wait_until
from tests.kit.differential import Address, Wire
from tests.kit.harness import Local, StandIn
from tests.kit.nodes import Nodes
from tests.kit.wire import Wire as Plain

SERVICE = "mymaster"


class Watched:
    """Ports of the primary, the replica and the two Sentinels."""

    def __init__(self) -> None:
        self.primary, self.replica, self.sentinel, self.other = (free_port() for _ in range(4))

    @property
    def address(self) -> Address:
        return "127.0.0.1", self.sentinel


@pytest.fixture(scope="module")
def real() -> Iterator[Watched]:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    ports = Watched()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="redis-"))

        def start(port: int, *options: str) -> None:
            process = subprocess.Popen(
                [binary, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            wait_until(lambda: answers_ping(port), 30, "redis-server answers")

        usual = ("--bind", "127.0.0.1", "--save", "", "--dir", folder, "--repl-diskless-sync-delay", "0")
        start(ports.primary, "--port", str(ports.primary), *usual)
        follow = ("--replicaof", f"127.0.0.1 {ports.primary}", "--dbfilename", "replica.rdb")
        start(ports.replica, "--port", str(ports.replica), *usual, *follow)
        wire = stack.enter_context(Plain(ports.replica))
        wait_until(lambda: wire("ROLE")[3] == b"connected", what="the replica follows")  # type: ignore[index]
        for port in (ports.sentinel, ports.other):
            file = Path(folder) / f"{port}.conf"
            file.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor {SERVICE} 127.0.0.1 {ports.primary} 1\n"
            )
            start(port, str(file), "--sentinel")
        seen = stack.enter_context(Plain(ports.sentinel))
        for what in ("SENTINELS", "REPLICAS"):
            wait_until(lambda: len(seen("SENTINEL", what, SERVICE)) == 1, 20, f"the {what} are known")  # type: ignore[arg-type]  # noqa: B023
        yield ports


def ours(real: Watched) -> Local:
    """A third node beside the two that the real Sentinels know."""
    local = Local()
    topology = local.engine.topology
    replica = Member("replica", f"127.0.0.1:{real.replica}")
    topology.introduce("self", "127.0.0.1:1")
    topology.update(0, Member("primary", f"127.0.0.1:{real.primary}"), [replica])
    return local


def decoded(raw: bytes) -> Any:
    reader = hiredis.Reader(encoding="utf-8")
    reader.feed(raw)
    return reader.gets()


def fields(found: Any) -> list[str]:
    return list(found) if isinstance(found, dict) else found[::2]


@pytest.mark.redis
@pytest.mark.parametrize("resp3", [False, True])
def test_the_fields_are_those_of_a_sentinel(real: Watched, resp3: bool) -> None:
    local = ours(real)
    local.client.resp3 = resp3
    with closing(Wire(real.address, resp3)) as wire:
        for words in (
            ["MASTERS"],
            ["MASTER", SERVICE],
            ["REPLICAS", SERVICE],
            ["SLAVES", SERVICE],
            ["SENTINELS", SERVICE],
        ):
            theirs, mine = decoded(wire.call("SENTINEL", *words)), decoded(local.raw("SENTINEL", *words))
            if words[0] != "MASTER":
                theirs, mine = theirs[0], mine[0]
            assert type(theirs) is type(mine) and fields(theirs) == fields(mine), words


@pytest.mark.redis
@pytest.mark.parametrize("resp3", [False, True])
def test_what_clients_read_has_the_same_values(real: Watched, resp3: bool) -> None:
    local = ours(real)
    local.client.resp3 = resp3
    with closing(Wire(real.address)) as wire:
        for words, same in (
            (["MASTER", SERVICE], ("name", "ip", "port", "flags", "quorum", "config-epoch")),
            (["REPLICAS", SERVICE], ("name", "ip", "port", "flags", "master-host", "master-port", "master-link-status",
                                     "slave-priority", "replica-announced")),
        ):  # fmt: skip
            theirs, mine = decoded(wire.call("SENTINEL", *words)), decoded(local.raw("SENTINEL", *words))
            if words[0] == "REPLICAS":
                theirs, mine = theirs[0], mine[0]
            theirs = dict(zip(theirs[::2], theirs[1::2], strict=True))
            mine = mine if resp3 else dict(zip(mine[::2], mine[1::2], strict=True))
            assert {name: theirs[name] for name in same} == {name: mine[name] for name in same}


LINES = (
    "SENTINEL", "SENTINEL FOO", "SENTINEL MASTER", "SENTINEL MASTERS x", "SENTINEL get-master-addr-by-name",
    f"SENTINEL GET-MASTER-ADDR-BY-NAME {SERVICE}", "SENTINEL MYID x", "SENTINEL CKQUORUM", "SENTINEL REPLICAS",
    "SENTINEL is-master-down-by-addr 127.0.0.1 PORT 0 *", "SENTINEL is-master-down-by-addr 127.0.0.1 x 0 *",
    "SENTINEL is-master-down-by-addr 127.0.0.1 1 x *", "SENTINEL is-master-down-by-addr 127.0.0.1 1 0",
    f"SENTINEL CKQUORUM {SERVICE}", "SENTINEL CKQUORUM x", "SENTINEL MASTER x", "SENTINEL REPLICAS x",
    "SENTINEL SLAVES x", "SENTINEL SENTINELS x", "SENTINEL GET-MASTER-ADDR-BY-NAME x", "SENTINEL FAILOVER x",
    "SENTINEL FAILOVER",
    "SENTINEL RESET nothing*", "SENTINEL RESET", "SENTINEL CONFIG", "SENTINEL CONFIG GET", "SENTINEL CONFIG SET",
    "SENTINEL CONFIG GET announce-*p", "SENTINEL CONFIG GET SENTINEL-*", "SENTINEL CONFIG GET x",
    "SENTINEL CONFIG GET a b", "SENTINEL CONFIG SET x y", "SENTINEL CONFIG SET announce-port 0",
    "SENTINEL CONFIG FOO x", "SENTINEL INFO-CACHE",
    "SENTINEL INFO-CACHE x", "SENTINEL PENDING-SCRIPTS", "SENTINEL PENDING-SCRIPTS x",
)  # fmt: skip


@pytest.mark.redis
@pytest.mark.parametrize("line", LINES)
def test_replies_and_errors_are_those_of_a_sentinel(real: Watched, line: str) -> None:
    words = line.replace("PORT", str(real.primary)).split()
    with closing(Wire(real.address)) as wire:
        theirs = wire.call(*words)
    assert ours(real).raw(*words) == theirs.replace(b"OK 2 usable", b"OK 3 usable")  # all our nodes are Sentinels


@pytest.mark.redis
@pytest.mark.parametrize("resp3", [False, True])
def test_what_operators_ask_has_the_form_of_a_sentinel(real: Watched, resp3: bool) -> None:
    local = ours(real)
    local.client.resp3 = resp3
    with closing(Wire(real.address, resp3)) as wire:
        for words in (["SENTINEL", "CONFIG", "GET", "*"], ["SENTINEL", "INFO-CACHE", SERVICE], ["INFO", "SENTINEL"]):
            theirs, mine = decoded(wire.call(*words)), decoded(local.raw(*words))
            if words[1] == "CONFIG":
                assert fields(theirs) == fields(mine)
            elif words[1] == "INFO-CACHE":
                assert len(theirs) == len(mine) == 2 and theirs[0] == mine[0] == SERVICE
                assert [len(each) for each in theirs[1]] == [2, 2], "the primary and a replica"
                assert [len(each) for each in mine[1]] == [2, 2, 2] and mine[1][0] == [0, None]
            else:
                theirs = theirs.replace("slaves=1,sentinels=2", "slaves=2,sentinels=3")
                assert theirs == mine


@pytest.mark.redis
def test_the_subcommands_have_the_facts_of_a_sentinel(real: Watched) -> None:
    with closing(Wire(real.address)) as wire:
        (theirs,) = decoded(wire.call("COMMAND", "INFO", "sentinel"))
    found = {child[0]: child for child in theirs[9]}
    container = COMMANDS[b"SENTINEL"]
    assert theirs[1] == container.arity and set(theirs[2]) == set(container.flags)
    for command in container.subcommands.values():
        name, arity, flags, _, _, _, categories = found[command.name][:7]
        assert (name, arity) == (command.name, command.arity)
        assert set(flags) == set(command.flags) - ({"loading", "stale"} - set(flags)), name  # ours answer always
        assert {f"@{category}" for category in command.categories} == set(categories), name


# -- without a primary


def asked(local: Local, *words: str) -> dict[str, str]:
    found = decoded(local.raw("SENTINEL", *words))
    return dict(zip(found[::2], found[1::2], strict=True))


def test_before_a_primary_was_heard_of_there_is_no_master() -> None:
    local = Local()
    local.engine.topology.introduce("me", "h:1")
    assert local("SENTINEL", "MASTERS") == [] and local("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE) is None
    for name in ("MASTER", "REPLICAS", "CKQUORUM"):
        assert local.raw("SENTINEL", name, SERVICE) == b"-ERR No such master with that name\r\n"
    local.client.resp3 = True
    assert local.raw("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE) == b"_\r\n"


def test_a_primary_without_a_lease_is_down() -> None:
    local = Local()
    topology = local.engine.topology
    topology.introduce("me", "h:1", candidate=False)
    local.engine.host = StandIn(info_fields=lambda: {"lease_ms": "500"})
    topology.update(6, Member("a", "[::1]:2"), [Member("b", "h:3")])
    found = asked(local, "MASTER", SERVICE)
    assert (found["flags"], found["ip"], found["port"], found["config-epoch"]) == ("master", "::1", "2", "6")
    assert (found["num-slaves"], found["num-other-sentinels"]) == ("2", "2")
    assert found["down-after-milliseconds"] == "500"
    down = ("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", "::1", "2", "0", "*")
    assert local(*down) == [0, b"*", 0]
    topology.update(6, None, [Member("b", "h:3")])
    assert asked(local, "MASTER", SERVICE)["flags"] == "master,s_down,o_down,disconnected"
    assert local("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE) == [b"::1", b"2"]
    assert local(*down) == [1, b"*", 0] and local("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", "h", "2", "0", "*")[0] == 0  # type: ignore[index]
    assert (
        local("SENTINEL", "CKQUORUM", SERVICE)
        == b"OK 2 usable Sentinels. Quorum and failover authorization can be reached"
    )
    topology.update(6, Member("a", "[::1]:2"), [])
    assert local.raw("SENTINEL", "CKQUORUM", SERVICE).startswith(b"-NOQUORUM 2 usable Sentinels. ")


def test_a_service_may_have_several_names() -> None:
    config = Config()
    config.set("sentinel-service-name", "mymaster cache")
    local = Local(config=config)
    topology = local.engine.topology
    assert [each[1] for each in decoded(local.raw("SENTINEL", "MASTERS"))] == ["mymaster", "cache"]
    assert asked(local, "MASTER", "cache")["name"] == "cache"
    assert local("SENTINEL", "RESET", "*") == 2 and local("SENTINEL", "RESET", "c*") == 1
    assert local.raw("SENTINEL", "MASTER", "mymaster cache") == b"-ERR No such master with that name\r\n"
    assert "master1:name=cache,status=ok,address=local:0,slaves=0,sentinels=1" in str(local("INFO", "sentinel"))
    assert "# Sentinel" not in str(local("INFO", "everything")) and "# Sentinel" in str(local("INFO", "sentinel"))
    local("SUBSCRIBE", "+switch-master")
    topology.update(2, Member("b", "h:2"), [])
    local.turn()
    assert local.take(local.client).count(b"+switch-master\r\n") == 2
    for bad in ("", "a  b", " a", "a a", "a\tb"):
        with pytest.raises(ValueError, match="names with a space between"):
            config.set("sentinel-service-name", bad)


def test_a_failover_is_begun_by_the_primary_alone() -> None:
    local = Local()
    topology = local.engine.topology
    begun: list[tuple[str | None, int]] = []
    local.engine.host = StandIn(fail_over=lambda address, timeout_ms: begun.append((address, timeout_ms)))
    assert local.raw("SENTINEL", "FAILOVER", SERVICE) == b"-NOGOODSLAVE No suitable replica to promote\r\n"
    topology.update(2, topology.me, [Member("b", "h:2", candidate=False)])
    assert local.raw("SENTINEL", "FAILOVER", SERVICE).startswith(b"-NOGOODSLAVE ")
    topology.update(2, topology.me, [Member("b", "h:2")])
    assert local("SENTINEL", "FAILOVER", SERVICE) == b"OK" and begun == [(None, 0)]
    local.engine.failover_state = "waiting-for-sync"
    assert local.raw("SENTINEL", "FAILOVER", SERVICE) == b"-INPROG Failover already in progress\r\n"
    local.engine.failover_state = "no-failover"
    topology.update(3, Member("b", "h:2"), [])
    assert local.raw("SENTINEL", "FAILOVER", SERVICE) == b"-ERR only the primary hands over: send it to h:2\r\n"
    assert len(begun) == 1


def test_what_follows_from_other_settings_is_set_there() -> None:
    local = Local()
    for line in ("resolve-hostnames no", "announce-ip 1.2.3.4", "sentinel-pass x"):
        assert b"follows from this node's own settings" in local.raw("SENTINEL", "CONFIG", "SET", *line.split())
    assert local("SENTINEL", "CONFIG", "SET", "resolve-hostnames", "yes") == b"OK"
    assert local("SENTINEL", "INFO-CACHE", SERVICE)[1][0][1].startswith(b"# Server\r\n")  # type: ignore[index]


def test_sentinel_needs_the_password_like_any_command() -> None:
    config = Config()
    config.set("requirepass", "secret")
    local = Local(config=config)
    assert local.raw("SENTINEL", "MASTERS") == b"-NOAUTH Authentication required.\r\n"
    local.raw("AUTH", "secret")
    assert local.raw("SENTINEL", "MASTERS").startswith(b"*1\r\n")


# -- redis-py's clients


def addresses(nodes: Nodes) -> list[tuple[str, int]]:
    return [("127.0.0.1", server.port) for server in nodes.servers]


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_finds_primary_and_replicas_and_follows_a_switch(tmp_path: Path, protocol: int) -> None:
    with Nodes(tmp_path) as nodes:
        first, one, two = (nodes.start(name, follow_only=name != "first") for name in ("first", "one", "two"))
        nodes.agree(first)
        sentinel = redis.sentinel.Sentinel(
            addresses(nodes)[1:], sentinel_kwargs={"protocol": protocol}, min_other_sentinels=1, protocol=protocol
        )
        assert sentinel.discover_master(SERVICE) == ("127.0.0.1", first.port)
        assert sorted(sentinel.discover_slaves(SERVICE)) == sorted(("127.0.0.1", s.port) for s in (one, two))
        master, slave = sentinel.master_for(SERVICE), sentinel.slave_for(SERVICE)
        listener = redis.Redis(port=one.port, protocol=protocol).pubsub()
        listener.subscribe("+switch-master")
        assert listener.get_message(timeout=10)["type"] == "subscribe"  # type: ignore[index]
        assert master.set("k", "1")
        nodes.applied(1)
        assert slave.get("k") == b"1"
        with pytest.raises(redis.ReadOnlyError):
            slave.set("k", "2")
        old = first.port
        nodes.stop(first)
        nodes.agree(None)
        with pytest.raises(redis.sentinel.MasterNotFoundError):
            sentinel.discover_master(SERVICE)
        second = nodes.start("second")
        nodes.agree(second)
        assert sentinel.discover_master(SERVICE) == ("127.0.0.1", second.port)
        assert master.set("k", "2") and second.node.engine.commit.durable_offset == 2
        nodes.applied(2)
        assert slave.get("k") == b"2"
        message = listener.get_message(timeout=10)
        assert message and message["data"] == f"{SERVICE} 127.0.0.1 {old} 127.0.0.1 {second.port}".encode()
        listener.close()
        for client in (master, slave, *sentinel.sentinels):
            client.connection_pool.disconnect()


async def test_redis_py_asyncio_finds_them_too(tmp_path: Path) -> None:
    def start(nodes: Nodes) -> tuple[int, int]:
        first, one = nodes.start("first"), nodes.start("one", follow_only=True)
        nodes.agree(first)
        return first.port, one.port

    nodes = Nodes(tmp_path, requirepass="secret", sentinel_service_name="shop")
    await asyncio.to_thread(nodes.__enter__)
    try:
        primary, replica = await asyncio.to_thread(start, nodes)
        sentinel = redis.asyncio.sentinel.Sentinel(
            addresses(nodes), sentinel_kwargs={"password": "secret"}, password="secret"
        )
        assert await sentinel.discover_master("shop") == ("127.0.0.1", primary)
        assert await sentinel.discover_slaves("shop") == [("127.0.0.1", replica)]
        async with sentinel.master_for("shop") as master, sentinel.slave_for("shop") as slave:
            assert await master.set("k", "1")
            await asyncio.to_thread(nodes.applied, 1)
            assert await slave.get("k") == b"1"
        for client in sentinel.sentinels:
            await client.aclose()
    finally:
        await asyncio.to_thread(nodes.__exit__, None, None, None)


def test_a_server_alone_is_found_through_itself(eventdb_server: StartServer) -> None:
    server = eventdb_server()
    sentinel = redis.sentinel.Sentinel([("127.0.0.1", server.port)])
    assert sentinel.discover_master(SERVICE) == ("127.0.0.1", server.port) and sentinel.discover_slaves(SERVICE) == []
    with sentinel.master_for(SERVICE) as client:
        assert client.set("k", "v")
    sentinel.sentinels[0].close()
