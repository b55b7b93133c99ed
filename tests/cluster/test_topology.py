"""Who the nodes are: members, roles, the switch of the primary; and what ROLE, INFO and pub/sub tell of it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import hiredis
import pytest

import eventdb
from eventdb.backends import LogError
from eventdb.cluster.topology import PRIMARY, REPLICA, Member, Topology, View, member_of
from eventdb.engine.client import FOLLOWING
from eventdb.engine.settings import Config
from eventdb.server.server import announced
from tests.commands.test_info import info
from tests.kit.harness import Local, StandIn


def three() -> tuple[Topology, list[tuple[str | None, str]]]:
    """A node called b that has started, and the switches it was told of."""
    topology = Topology(Member("local", "local"))
    topology.introduce("b", "127.0.0.1:2")
    switches: list[tuple[str | None, str]] = []

    def compare(before: View) -> None:
        new = topology.primary
        if new is not None and (before.primary is None or before.primary.address != new.address):
            switches.append((before.primary and before.primary.address, new.address))  # type: ignore[arg-type]

    topology.on_update = compare
    return topology, switches


def test_an_engine_alone_is_the_primary() -> None:
    topology = Local().engine.topology
    assert topology.is_primary and topology.primary is topology.me and topology.replicas == []
    assert topology.me.role == PRIMARY and list(topology.members.values()) == [topology.me]


def test_a_node_that_starts_knows_no_primary() -> None:
    topology, switches = three()
    assert topology.primary is None and topology.last_primary is None and not topology.is_primary
    assert topology.me.role == REPLICA and topology.replicas == [topology.me] and switches == []


def test_update_sets_roles_and_keeps_this_node() -> None:
    topology, _ = three()
    me = topology.me
    me.offset = 7
    topology.update(3, Member("a", "h:1"), [Member("c", "h:3"), Member("b", "old:2", offset=1)])
    assert sorted(topology.members) == ["a", "b", "c"] and topology.members["b"] is me and me.offset == 7
    assert [member.name for member in topology.replicas] == ["b", "c"]
    assert [topology.members[name].role for name in "abc"] == [PRIMARY, REPLICA, REPLICA]
    topology.update(4, Member("b", "127.0.0.1:2"), [Member("c", "h:3")])
    assert topology.epoch == 4 and topology.is_primary and topology.primary is me and me.role == PRIMARY
    topology.update(5, None, topology.members.values())
    assert topology.primary is None and topology.last_primary is me and me.role == REPLICA


def test_a_switch_is_told_when_the_address_changes_and_never_else() -> None:
    topology, switches = three()
    topology.update(1, Member("a", "h:1"), [])
    topology.update(1, Member("a", "h:1"), [Member("c", "h:3")])
    topology.update(2, None, [Member("c", "h:3")])
    topology.update(3, Member("a again", "h:1"), [])
    assert switches == [(None, "h:1")]
    topology.update(3, None, [])
    topology.update(4, Member("c", "h:3"), [])
    topology.update(5, topology.me, [])
    assert switches == [(None, "h:1"), ("h:1", "h:3"), ("h:3", "127.0.0.1:2")]


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("h:1", "h", 1), ("[::1]:6379", "::1", 6379), ("embedded", "embedded", 0), ("", "", 0),
     ("10.0.0.1:65535", "10.0.0.1", 65535)],
)  # fmt: skip
def test_host_and_port(address: str, host: str, port: int) -> None:
    member = Member("n", address)
    assert (member.host, member.port) == (host, port)


def test_the_id_is_of_the_name_alone() -> None:
    first, second = Member("n", "h:1"), Member("n", "h:2")
    assert first.id == second.id == "d1854cae891ec7b29161ccaf79a24b00c274bdaa" != Member("m", "h:1").id


def test_a_member_survives_json_and_unknown_fields_are_passed_over() -> None:
    member = Member("n", "[::1]:5", candidate=False, offset=2**53 + 1, lag_ms=12)
    found = json.loads(json.dumps({**member.describe(), "role": "primary", "zone": ["a"]}))
    made = member_of(found)
    assert made.describe() == member.describe() and made.role == REPLICA


BAD: list[tuple[object, str]] = [
    ([], "object"), ("x", "object"), ({}, "name"), ({"name": 1, "address": "h:1"}, "name"),
    ({"name": "", "address": "h:1"}, "name"), ({"name": "a b", "address": "h:1"}, "name"),
    ({"name": "a\r\n", "address": "h:1"}, "name"), ({"name": "x" * 257, "address": "h:1"}, "name"),
    ({"name": "n"}, "address"), ({"name": "n", "address": "h"}, "address"),
    ({"name": "n", "address": "h:0"}, "address"),
    ({"name": "n", "address": ":5"}, "address"), ({"name": "n", "address": "h:65536"}, "address"),
    ({"name": "n", "address": "h:1", "candidate": 1}, "candidate"),
    ({"name": "n", "address": "h:1", "offset": -1}, "offset"),
    ({"name": "n", "address": "h:1", "offset": True}, "offset"),
    ({"name": "n", "address": "h:1", "offset": 2**63}, "offset"),
    ({"name": "n", "address": "h:1", "lag_ms": 1.5}, "lag_ms"),
]  # fmt: skip


@pytest.mark.parametrize(("found", "named"), BAD)
def test_a_member_that_makes_no_sense_is_refused(found: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        member_of(found)


# -- what clients see of it


def replica_of(local: Local, primary: Member | None) -> None:
    """Make the engine a replica called b, as a node would."""
    local.engine.topology.introduce("b", "127.0.0.1:2")
    local.engine.topology.update(3, primary, [Member("c", "h:3", offset=5)])
    local.engine.gate, local.engine.gate_error = FOLLOWING, "READONLY You can't write against a read only replica."


def test_role_and_info_of_a_primary_list_the_replicas_and_their_lag() -> None:
    local = Local()
    local.raw("SET", "k", "v")
    engine = local.engine
    engine.topology.update(2, engine.topology.me, [Member("b", "[::1]:7", offset=1, lag_ms=2345), Member("c", "h:3")])
    assert local("ROLE") == [b"master", 1, [[b"::1", b"7", b"1"], [b"h", b"3", b"0"]]]
    found = info(local, "replication")
    assert (found["role"], found["connected_slaves"], found["master_repl_offset"]) == ("master", "2", "1")
    assert found["slave0"] == "ip=::1,port=7,state=online,offset=1,lag=2,lag_ms=2345"
    assert found["slave1"] == "ip=h,port=3,state=online,offset=0,lag=0,lag_ms=0"
    assert len(found["master_replid"]) == 40 and found["master_failover_state"] == "no-failover"


def test_role_and_info_of_a_replica_name_the_primary_and_the_lag() -> None:
    local = Local()
    replica_of(local, Member("a", "primary.example:1", offset=12))
    local.engine.commit.offset = local.engine.commit.durable_offset = 9
    local.engine.topology.me.lag_ms = 40
    assert local("ROLE") == [b"slave", b"primary.example", 1, b"connected", 9]
    found = info(local, "replication")
    assert (found["role"], found["master_host"], found["master_port"]) == ("slave", "primary.example", "1")
    assert (found["master_link_status"], found["slave_repl_offset"]) == ("up", "9")
    assert (found["slave_lag_offsets"], found["slave_lag_ms"]) == ("3", "40")
    local.engine.topology.update(3, None, [])
    assert local("ROLE") == [b"slave", b"primary.example", 1, b"connect", 9]
    assert info(local, "replication")["master_link_status"] == "down"


def test_the_history_has_the_same_id_on_every_node() -> None:
    one, two = Local(), Local()
    one.engine.host = StandIn(info_fields=lambda: {"log_url": "quorum:./x", "log_id": "7"})
    two.engine.host = StandIn(info_fields=lambda: {"log_url": "quorum:/there/x", "log_id": "7"})
    assert info(one, "replication")["master_replid"] == info(two, "replication")["master_replid"]


@pytest.mark.parametrize("resp3", [False, True])
def test_a_switch_is_published_as_sentinel_publishes_it(resp3: bool) -> None:
    local = Local()
    replica_of(local, Member("a", "h:1"))
    local.raw("CONFIG", "SET", "sentinel-service-name", "shop")
    local.client.resp3 = resp3
    local.raw("SUBSCRIBE", "+switch-master")
    local.engine.topology.update(4, None, [])
    local.turn()
    assert local.take(local.client) == b""
    local.engine.topology.update(4, Member("c", "[::1]:3"), [])
    local.turn()
    kind = b">" if resp3 else b"*"
    text = b"shop h 1 ::1 3"
    assert local.take(local.client) == kind + b"3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$%d\r\n%b\r\n" % (
        len(text), text,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["", "a  b", "a b a", "a\nb"])
def test_the_names_of_a_service_are_words(name: str) -> None:
    assert b"argument must be one or more different names with a space between" in Local().raw(
        "CONFIG", "SET", "sentinel-service-name", name
    )


# -- where a node says it is


@pytest.mark.parametrize(
    ("settings", "host", "address"),
    [
        ({}, "127.0.0.1", "127.0.0.1:7"),
        ({}, "::1", "[::1]:7"),
        ({}, "0.0.0.0", f"{socket.gethostbyname(socket.gethostname())}:7"),
        ({"replica-announce-ip": "db.example", "replica-announce-port": "9"}, "0.0.0.0", "db.example:9"),
        ({"replica-announce-ip": "fd00::1"}, "127.0.0.1", "[fd00::1]:7"),
    ],
)
def test_the_announced_address_is_one_that_others_reach(settings: dict[str, str], host: str, address: str) -> None:
    config = Config()
    for name, value in settings.items():
        config.set(name, value)
    assert announced(config, host, 7) == address


async def test_a_cluster_refuses_a_log_with_other_databases(tmp_path: Path) -> None:
    url = f"quorum:{tmp_path / 'data'}"
    async with eventdb.open(url) as db:
        await db.execute("SELECT", "3")
        await db.execute("SET", "k", "v")
    with pytest.raises(LogError, match="other databases than 0"):
        await eventdb.open(url, cluster_enabled="yes")


def test_a_listener_hears_what_a_sentinel_would_say() -> None:
    """There was +switch-master alone; node-redis looks anew for the primary only when it hears of something else."""
    local = Local()
    topology = local.engine.topology
    topology.introduce("b", "127.0.0.1:2")
    topology.update(1, Member("a", "h:1"), [])
    local("PSUBSCRIBE", "[-+]*")

    def heard() -> list[str]:
        local.turn()
        reader = hiredis.Reader()
        reader.feed(local.take(local.client))
        found: list[str] = []
        while (message := reader.gets()) is not False:
            found.append(f"{message[2].decode()} {message[3].decode()}")
        return found

    c = Member("c", "h:3")
    topology.update(1, Member("a", "h:1"), [c])
    assert heard() == ["+slave slave h:3 h 3 @ mymaster h 1", f"+sentinel sentinel {c.id} h 3 @ mymaster h 1"]
    topology.update(1, Member("a", "h:1"), [Member("c", "h:3", offset=9)])
    assert heard() == [], "nothing has changed"
    topology.update(1, None, [c], handing_over=True)
    assert heard() == []
    topology.update(1, None, [c])
    assert heard() == ["+sdown master mymaster h 1", "+odown master mymaster h 1 #quorum 1/1"]
    topology.update(1, Member("a", "h:1"), [c])
    assert heard() == ["-sdown master mymaster h 1", "-odown master mymaster h 1"]
    topology.update(2, c, [])
    assert heard() == [
        "+switch-master mymaster h 1 h 3",
        "+slave slave 127.0.0.1:2 127.0.0.1 2 @ mymaster h 3",
        "+slave slave h:1 h 1 @ mymaster h 3",
    ]
    topology.update(2, c, [Member("a", "h:1")])
    topology.update(2, c, [])
    assert heard()[-1] == "+sdown slave h:1 h 1 @ mymaster h 3"
