"""cluster-enabled: CLUSTER, MOVED, CROSSSLOT, READONLY as a real Redis Cluster has them, and redis-py's client on it.

The Redis Cluster is one primary with all slots and one replica of it; our engines bear the same addresses and ids.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import redis
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from eventdb.cluster.slots import SLOTS, Shard, key_slot
from eventdb.cluster.topology import Member, Topology
from eventdb.engine.client import CLUSTERED, FOLLOWING
from eventdb.engine.settings import Config
from tests.conftest import StartServer, start_redis, wait_until
from tests.kit.differential import Address, Wire, examples, sequences
from tests.kit.harness import Local
from tests.kit.nodes import Nodes
from tests.kit.wire import Wire as Plain

READONLY_TEXT = "READONLY You can't write against a read only replica."


class RealCluster:
    """Addresses and ids of the two redis-servers."""

    def __init__(self, ports: list[int], ids: list[str]) -> None:
        self.addresses: list[Address] = [("127.0.0.1", port) for port in ports]
        self.members = [
            Member(name, f"127.0.0.1:{port}") for name, port in zip(("primary", "replica"), ports, strict=True)
        ]
        for member, name in zip(self.members, ids, strict=True):
            member.id = name


@pytest.fixture(scope="module")
def real() -> Iterator[RealCluster]:
    ports: list[int] = []
    with ExitStack() as stack:
        for _ in range(2):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="redis-"))
            options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "500", "--repl-diskless-sync-delay", "0")
            process, port = start_redis(Path(folder), *options, bus=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            ports.append(port)
        primary, replica = (stack.enter_context(Plain(port)) for port in ports)
        ids = [bytes(wire("CLUSTER", "MYID")).decode() for wire in (primary, replica)]  # type: ignore[call-overload]
        assert primary("CLUSTER", "ADDSLOTSRANGE", "0", "16383") == b"OK"
        assert primary("CLUSTER", "MEET", "127.0.0.1", str(ports[1])) == b"OK"
        wait_until(lambda: replica("CLUSTER", "REPLICATE", ids[0]) == b"OK", what="the nodes have met")
        wait_until(lambda: replica("ROLE")[3] == b"connected", what="the replica follows")  # type: ignore[index]
        wait_until(lambda: primary("SET", "k", "v") == b"OK", what="the primary takes writes")
        assert primary("DEL", "k") == 1  # a replica with offset 0 would count as loading
        for wire in (primary, replica):
            wait_until(lambda: b"state:ok" in wire("CLUSTER", "INFO"), what="the cluster is up")  # type: ignore[operator]  # noqa: B023
            wait_until(lambda: len(wire("CLUSTER", "SLOTS")[0]) == 4, what="the replica is known")  # type: ignore[index]  # noqa: B023
            wait_until(lambda: b"loading" not in str(wire("CLUSTER", "SHARDS")).encode(), what="the replica is up")  # noqa: B023
        yield RealCluster(ports, ids)


def clustered() -> Local:
    config = Config()
    config.set("cluster-enabled", "yes")
    return Local(config=config)


def ours(real: RealCluster, number: int) -> Local:
    """An engine in the place of the primary (0) or of the replica (1)."""
    local = clustered()
    topology = local.engine.topology
    me, other = real.members[number], real.members[1 - number]
    topology.introduce(me.name, me.address)
    topology.me.id = me.id
    copy = Member(other.name, other.address)
    copy.id = other.id
    topology.update(1, topology.me if number == 0 else copy, [copy])
    if number == 1:
        local.engine.gate, local.engine.gate_error = FOLLOWING, READONLY_TEXT
    return local


def normal(words: list[str], reply: bytes) -> bytes:
    """What must be equal of a reply: no bus ports, ping times, epochs, offsets."""
    name = " ".join(words[:2]).upper()
    if name == "CLUSTER NODES":
        rows = sorted(reply.partition(b"\r\n")[2].removeprefix(b"txt:").rstrip().split(b"\n"))
        return b"\n".join(re.sub(rb"@\d+ (\S+) (\S+) \d+ \d+ \d+", rb"@ \1 \2", row) for row in rows)
    if name in ("CLUSTER REPLICAS", "CLUSTER SLAVES") and reply[:1] == b"*":
        return re.sub(rb"\$\d+\r\n|@\d+|(?<= )\d+ \d+ \d+ ", b"", reply)
    if name == "CLUSTER SHARDS":
        return re.sub(rb"(replication-offset\r\n:)\d+", rb"\1", reply)
    if name == "CLUSTER INFO":
        body = reply.partition(b"cluster_state")[2]
        kept = [line for line in body.split(b"\r\n") if b"stats_messages" not in line and b"epoch" not in line]
        return b"\n".join(kept)
    if name == "HELLO" or words[0].upper() == "HELLO":
        return re.sub(rb"(\$2\r\nid\r\n):\d+", rb"\1", reply)
    return reply


LINES = (
    "CLUSTER SLOTS", "CLUSTER SHARDS", "CLUSTER NODES", "CLUSTER INFO", "CLUSTER MYID", "CLUSTER", "CLUSTER FOO",
    "CLUSTER KEYSLOT a", "CLUSTER KEYSLOT {a}b", "CLUSTER KEYSLOT", "CLUSTER COUNTKEYSINSLOT 1",
    "CLUSTER COUNTKEYSINSLOT -1", "CLUSTER COUNTKEYSINSLOT 16384", "CLUSTER COUNTKEYSINSLOT x",
    "CLUSTER GETKEYSINSLOT 1 1", "CLUSTER GETKEYSINSLOT 1 -1", "CLUSTER GETKEYSINSLOT 16384 1",
    "CLUSTER GETKEYSINSLOT x 1", "CLUSTER GETKEYSINSLOT 1 x", "CLUSTER REPLICAS x", "CLUSTER REPLICAS PRIMARY",
    "CLUSTER SLAVES PRIMARY", "CLUSTER REPLICAS REPLICA", "HELLO", "INFO cluster", "SELECT 0", "SELECT 1", "SELECT 99",
    "SELECT x", "MOVE k 1", "MOVE k x", "COPY {a}1 {a}2 DB 1", "COPY {a}1 {a}2 DB 0", "COPY {a}1 {a}2 DB 99",
    "COPY a b", "SWAPDB 0 1", "SWAPDB x 1", "SORT k BY w_*", "SORT k BY nosort", "SORT k GET #", "SORT_RO k BY w_*",
    "SORT k BY nosort LIMIT x 1", "SORT k GET", "GET k", "MGET a b", "MGET {a}1 {a}2", "DEL a a", "EXISTS a b",
    "SINTERSTORE a b", "ZUNIONSTORE {a}1 2 {a}2 {a}3", "ZUNIONSTORE a 2 b c", "SINTERCARD 2 a b", "LMPOP 2 a b LEFT",
    "DBSIZE", "KEYS nope", "PING", "WATCH a b", "WATCH nokey", "UNWATCH", "READONLY x", "READONLY", "READWRITE",
    "ASKING", "ASKING x", "SPUBLISH a b", "SSUBSCRIBE a b", "SUNSUBSCRIBE", "OBJECT ENCODING nokey", "EXEC", "DISCARD",
    "CONFIG GET cluster-enabled", "CONFIG SET cluster-enabled no", "GETDEL", "GETDEL nokey", "FLUSHALL x",
)  # fmt: skip


@pytest.mark.redis
@pytest.mark.parametrize("resp3", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_every_command_answers_as_in_redis_cluster(real: RealCluster, number: int, resp3: bool) -> None:
    wrong = []
    for line in LINES:
        words = [real.members[0].id if w == "PRIMARY" else real.members[1].id if w == "REPLICA" else w
                 for w in line.split()]  # fmt: skip
        local = ours(real, number)
        local.client.resp3 = resp3
        with closing(Wire(real.addresses[number], resp3)) as wire:
            theirs, mine = wire.call(*words), local.raw(*words)
        if normal(words, theirs) != normal(words, mine):
            wrong.append(f"{line}\n    redis   {theirs!r}\n    eventdb {mine!r}")
    assert not wrong, "\n".join(wrong)


keys = st.sampled_from(["a", "b", "{a}b", "{b}a"])
step = st.one_of(
    st.builds("{} {}".format, st.sampled_from(["GET", "STRLEN", "WATCH", "TTL", "GET", "INCR", "DEL"]), keys),
    st.builds("{} {} {}".format, st.sampled_from(["MGET", "EXISTS", "SINTER", "DEL", "SPUBLISH"]), keys, keys),
    st.sampled_from(["MULTI", "MULTI", "EXEC", "EXEC", "DISCARD", "READONLY", "READWRITE", "RESET", "ECHO x"]),
    st.sampled_from(["MULTI x", "GET", "NOPE", "SELECT 1", "CLUSTER KEYSLOT x", "UNWATCH", "EXEC x"]),
)


@pytest.mark.redis
@examples(150)
@given(sequences(step.map(str.split).map(tuple), 30), st.integers(0, 1), st.booleans())
def test_redirects_and_transactions_go_as_in_redis_cluster(
    real: RealCluster, calls: list[tuple[str, ...]], number: int, resp3: bool
) -> None:
    """Both begin without keys, and nobody writes but through the node that is compared."""
    with closing(Wire(real.addresses[0])) as wire:
        wire.call("DEL", "a", "{a}b") and wire.call("DEL", "b", "{b}a")
        if number == 1:
            wire.call("WAIT", 1, 1000)
    local = ours(real, number)
    local.client.resp3 = resp3
    history: list[str] = []
    with closing(Wire(real.addresses[number], resp3)) as wire:
        for words in calls:
            theirs, mine = wire.call(*words), local.raw(*words)
            history.append(f"{' '.join(words)} -> {theirs!r}")
            assert theirs == mine, "\n".join([f"node {number}", *history, f"eventdb: {mine!r}"])


@pytest.mark.redis
def test_without_cluster_enabled_the_commands_say_so(redis_server: Address) -> None:
    lines = (
        "CLUSTER SLOTS", "CLUSTER NODES", "CLUSTER HELP", "CLUSTER FOO", "CLUSTER", "CLUSTER KEYSLOT", "CLUSTER LINKS",
        "CLUSTER KEYSLOT a", "CLUSTER ADDSLOTS 1", "CLUSTER MEET a 1", "CLUSTER FAILOVER", "CLUSTER RESET", "READONLY",
        "READWRITE", "ASKING", "READONLY x", "HELLO", "INFO cluster", "SELECT 1",
    )  # fmt: skip
    with closing(Wire(redis_server)) as wire:
        for line in lines:
            words = line.split()
            assert normal(words, Local().raw(*words)) == normal(words, wire.call(*words)), line


def test_without_cluster_enabled_no_client_has_the_gate() -> None:
    assert Local().client.gate == 0 and clustered().client.gate == CLUSTERED


@pytest.mark.redis
@examples(200)
@given(st.lists(st.binary(max_size=40) | st.text("{}ab", max_size=8).map(str.encode), min_size=1, max_size=20))
def test_slots_are_those_of_redis(real: RealCluster, keys: list[bytes]) -> None:
    with closing(Wire(real.addresses[0])) as wire:
        for key in keys:
            assert wire.call("CLUSTER", "KEYSLOT", key) == b":%d\r\n" % key_slot(key), key


def test_what_would_change_the_cluster_is_refused() -> None:
    local = clustered()
    for line in ("ADDSLOTS 1", "DELSLOTS 1", "MEET h 1", "FORGET x", "REPLICATE x", "FAILOVER", "RESET", "SETSLOT 1 x"):
        words = line.split()
        if line == "FAILOVER":
            words.append("FORCE")
        if line == "SETSLOT 1 x":
            words.append("y")
        if words[0] == "RESET":
            words.append("SOFT")
        assert local.raw("CLUSTER", *words).startswith(b"-ERR eventdb's slots and roles follow from its log"), line


def test_keys_in_a_slot_are_counted_and_listed() -> None:
    local = clustered()
    for key in ("{a}1", "{a}2", "b"):
        local.raw("SET", key, "v")
    slot = key_slot(b"a")
    assert local("CLUSTER", "COUNTKEYSINSLOT", slot) == 2
    assert sorted(local("CLUSTER", "GETKEYSINSLOT", slot, 10)) == [b"{a}1", b"{a}2"]  # type: ignore[arg-type, call-overload, type-var]
    assert len(local("CLUSTER", "GETKEYSINSLOT", slot, 1)) == 1  # type: ignore[arg-type]
    assert local("CLUSTER", "LINKS") == [] and len(local("CLUSTER", "MYSHARDID")) == 40  # type: ignore[arg-type]


# -- while there is no primary, and with more than one shard


def replica(primary: Member | None, *others: Member) -> Local:
    local = clustered()
    topology = local.engine.topology
    topology.introduce("me", "h:2")
    topology.update(1, Member("first", "h:1"), others)
    topology.update(1, primary, others)
    local.engine.gate, local.engine.gate_error = FOLLOWING, READONLY_TEXT
    return local


def test_while_there_is_no_primary_the_last_one_is_shown_and_writes_find_nobody() -> None:
    local = replica(None, Member("other", "h:3"))
    assert local.raw("SET", "k", "v") == b"-CLUSTERDOWN The cluster is down\r\n" == local.raw("GET", "k")
    assert local("CLUSTER", "SLOTS")[0][2][:2] == [b"h", 1]  # type: ignore[index]
    text = local("CLUSTER", "NODES")
    assert isinstance(text, bytes) and b" h:1@0 master,fail? - 0 0 1 disconnected 0-16383\n" in text
    assert b"cluster_state:fail\r\n" in local.raw("CLUSTER", "INFO")
    assert local.raw("READONLY") == b"+OK\r\n" and local("GET", "k") is None, "replicas go on answering"


def test_a_node_that_knows_no_primary_yet_shows_no_slots() -> None:
    local = clustered()
    local.engine.topology.introduce("me", "h:2")
    assert local("CLUSTER", "SLOTS") == [] and local.raw("GET", "k") == b"-CLUSTERDOWN The cluster is down\r\n"
    assert b"myself,slave - " in local.raw("CLUSTER", "NODES")


def test_many_shards_are_told_apart() -> None:
    local = clustered()
    slots = local.engine.slots
    second = Topology(Member("there", "there:7"))
    second.update(4, second.me, [Member("its replica", "there:8")])
    shard = Shard(second)
    slots.assign(shard, 8000, 16000)
    slots.assign(None, 16000, SLOTS)
    assert slots.mine.ranges == [(0, 7999)] and shard.ranges == [(8000, 15999)] and slots.assigned() == 16000
    assert key_slot(b"a") == 15495 and key_slot(b"b") == 3300
    assert local.raw("SET", "b", "v") == b"+OK\r\n" and local.raw("SET", "a", "v") == b"-MOVED 15495 there:7\r\n"
    assert local.raw("READONLY") == b"+OK\r\n" and local.raw("GET", "a") == b"-MOVED 15495 there:7\r\n"
    lost = next(key for i in range(1000) if key_slot(key := b"k%d" % i) >= 16000)
    assert local.raw("GET", lost) == b"-CLUSTERDOWN Hash slot not served\r\n"
    found = local("CLUSTER", "SLOTS")
    assert [row[:2] for row in found] == [[0, 7999], [8000, 15999]]  # type: ignore[attr-defined]
    assert [node[:2] for node in found[1][2:]] == [[b"there", 7], [b"there", 8]]  # type: ignore[index]
    info = local.raw("CLUSTER", "INFO")
    assert b"cluster_state:fail\r\ncluster_slots_assigned:16000\r\n" in info and b"cluster_size:2\r\n" in info


def test_a_blocked_client_and_a_queue_meet_a_change_of_role() -> None:
    local = clustered()
    waiter = local.connect()
    assert local.raw("BLPOP", "k", "0", client=waiter) == b""
    assert local.raw("READONLY") == b"+OK\r\n"  # which lets nobody write on a replica
    assert local.raw("MULTI") == b"+OK\r\n" and local.raw("SET", "k", "v") == b"+QUEUED\r\n"
    local.engine.topology.update(2, Member("next", "h:9"), [])
    assert local.raw("EXEC") == b"-MOVED 7629 h:9\r\n" and local.raw("EXEC") == b"-ERR EXEC without MULTI\r\n"
    local.engine.reset_state()
    local.turn()
    assert local.take(waiter).startswith(b"-UNBLOCKED ")


def test_an_embedded_caller_is_never_redirected() -> None:
    local = clustered()
    local.client.gate = 0  # as eventdb.embedded has it
    assert local("MGET", "a", "b") == [None, None]


# -- redis-py's client

DEPRECATED = "ignore:.*read_from_replicas:DeprecationWarning"  # what most programs still say


@pytest.mark.filterwarnings(DEPRECATED)
def test_redis_py_finds_slots_and_reads_from_replicas(tmp_path: Path) -> None:
    with Nodes(tmp_path, cluster_enabled="yes") as nodes:
        primary = nodes.start("p")
        replicas = [nodes.start("r1", follow_only=True), nodes.start("r2", follow_only=True)]
        nodes.agree(primary)
        with closing(redis.RedisCluster("127.0.0.1", replicas[0].port, read_from_replicas=True)) as client:
            assert {node.port for node in client.get_nodes()} == {server.port for server in nodes.servers}
            for i in range(20):
                client.set(f"k{i}", i)
            assert client.mset_nonatomic({"x": 1, "y": 2}) and client.incr("n") == 1
            with client.pipeline() as pipe:
                assert pipe.set("p1", "a").set("p2", "b").get("{p}3").execute() == [True, True, None]
            nodes.applied(primary.node.engine.commit.durable_offset)
            before = [server.node.engine.store.hits for server in replicas]
            assert [client.get(f"k{i}") for i in range(20)] == [b"%d" % i for i in range(20)]
            read = [server.node.engine.store.hits - old for server, old in zip(replicas, before, strict=True)]
            assert min(read) > 0, "a replica was left out"
            assert client.dbsize() == 25 and client.cluster_keyslot("a") == 15495

        async def again() -> None:
            async with redis.asyncio.RedisCluster(host="127.0.0.1", port=replicas[1].port) as client:
                assert await client.set("async", "1") and await client.get("async") == b"1"
                assert await client.mget_nonatomic("k1", "k2") == [b"1", b"2"]

        asyncio.run(again())


@pytest.mark.filterwarnings(DEPRECATED)
def test_redis_py_follows_the_primary_to_another_node(tmp_path: Path) -> None:
    with Nodes(tmp_path, cluster_enabled="yes") as nodes:
        first = nodes.start("first")
        replica = nodes.start("replica", follow_only=True)
        nodes.agree(first)
        with closing(redis.RedisCluster("127.0.0.1", replica.port, read_from_replicas=True)) as client:
            assert client.set("k", "1")
            nodes.stop(first)
            nodes.agree(None)
            second = nodes.start("second")
            nodes.agree(second)
            assert client.set("k", "2") and second.node.engine.store.keyspace.dbs[0].values[b"k"] == b"2"
            nodes.applied(second.node.engine.commit.durable_offset)
            assert client.get("k") == b"2"


def test_a_server_started_with_cluster_enabled_serves_clusters_clients(eventdb_server: StartServer) -> None:
    server = eventdb_server(None, "--config", "cluster-enabled=yes")
    with closing(redis.RedisCluster("127.0.0.1", server.port)) as client:
        assert client.set("k", "v") and client.get("k") == b"v" and client.info("cluster")["cluster_enabled"] == 1
        assert client.config_get("cluster-enabled") == {"cluster-enabled": "yes"}
    with Plain(server.port) as wire:
        assert str(wire("MGET", "a", "b")) == "CROSSSLOT Keys in request don't hash to the same slot"
