"""FAILOVER, REPLICAOF and EVENTDB.ANNOUNCE: what they accept, what they refuse, and whom they ask."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from eventdb.cluster.topology import Member
from eventdb.engine.host import NoHost
from eventdb.engine.settings import Config
from eventdb.protocol.errors import ReplyError
from eventdb.protocol.replies import bulk, error
from tests.kit.differential import Address, Wire
from tests.kit.harness import Local, StandIn


def primary(**settings: str) -> tuple[Local, list[tuple[str | None, int]]]:
    """A primary with a candidate at h:2 and a follower at [::1]:3, and what it was asked to hand over."""
    config = Config()
    for name, value in settings.items():
        config.set(name.replace("_", "-"), value)
    local = Local(config=config)
    topology = local.engine.topology
    topology.update(2, topology.me, [Member("b", "h:2"), Member("c", "[::1]:3", candidate=False)])
    asked: list[tuple[str | None, int]] = []
    local.engine.host = StandIn(fail_over=lambda address, timeout_ms: asked.append((address, timeout_ms)))
    return local, asked


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("FAILOVER", (None, 0)),
        ("failover timeout 500", (None, 500)),
        ("FAILOVER TO h 2", ("h:2", 0)),
        ("FAILOVER TIMEOUT 7 TO h 2 FORCE", ("h:2", 7)),
    ],
)
def test_a_failover_is_handed_to_the_node(line: str, asked: tuple[str | None, int]) -> None:
    for settings in ({}, {"cluster_enabled": "yes"}):
        local, found = primary(**settings)
        assert local.raw(*line.split()) == b"+OK\r\n" and found == [asked]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("FAILOVER TO h 3", "ERR FAILOVER target HOST and PORT is not a replica."),
        ("FAILOVER TO ::1 3", "ERR FAILOVER target only follows: it was started with --role replica."),
        ("FAILOVER FORCE", "ERR FAILOVER with force option requires both a timeout and target HOST and IP."),
        ("FAILOVER FORCE TO h 2", "ERR FAILOVER with force option requires both a timeout and target HOST and IP."),
        ("FAILOVER FORCE TIMEOUT 5", "ERR FAILOVER with force option requires both a timeout and target HOST and IP."),
    ],
)
def test_a_failover_that_cannot_begin_says_why(line: str, text: str) -> None:
    local, asked = primary()
    assert local.raw(*line.split()) == error(text) and asked == []


def test_a_failover_needs_somebody_to_take_over() -> None:
    local, asked = primary()
    topology = local.engine.topology
    topology.update(2, topology.me, [Member("c", "[::1]:3", candidate=False)])
    assert local.raw("FAILOVER") == error("ERR FAILOVER requires a replica that may become the primary.")
    topology.update(3, Member("b", "h:2"), [])
    assert local.raw("FAILOVER") == error("ERR FAILOVER is not valid when server is a replica.")
    assert asked == []


def test_a_failover_under_way_is_told() -> None:
    local, asked = primary()
    local.engine.failover_state = "failover-in-progress"
    assert local.raw("FAILOVER") == error("ERR FAILOVER already in progress.")
    too_late = "ERR the log is being handed over already, which cannot be called back"
    assert local.raw("FAILOVER", "ABORT") == error(too_late)
    assert b"master_failover_state:failover-in-progress\r\n" in local.raw("INFO", "replication") and asked == []
    local.engine.failover_state = "waiting-for-sync"
    assert local.raw("FAILOVER") == error("ERR FAILOVER already in progress.")
    assert local.raw("FAILOVER", "ABORT") == b"+OK\r\n"
    assert local.raw("FAILOVER", "ABORT") == error("ERR No failover in progress.")


def test_what_the_node_refuses_is_answered() -> None:
    local, _ = primary()

    def refuse(address: str | None, timeout_ms: int) -> None:
        raise ReplyError("ERR not now")

    local.engine.host = StandIn(fail_over=refuse)
    assert local.raw("FAILOVER") == b"-ERR not now\r\n"
    local.engine.host = NoHost()
    assert b"runs inside a program" in local.raw("FAILOVER")


LINES = (
    "FAILOVER", "FAILOVER ABORT", "FAILOVER ABORT x", "FAILOVER x", "FAILOVER TO", "FAILOVER TO h", "FAILOVER TO h x",
    "FAILOVER TO h 1", "FAILOVER TO h 1 TO h 1", "FAILOVER TIMEOUT", "FAILOVER TIMEOUT 0", "FAILOVER TIMEOUT x",
    "FAILOVER TIMEOUT -1", "FAILOVER TIMEOUT 1 TIMEOUT 1", "FAILOVER FORCE", "FAILOVER FORCE FORCE",
    "FAILOVER TIMEOUT 1", "FAILOVER TO h 1 FORCE TIMEOUT 1", "FAILOVER TO h 1 FORCE", "REPLICAOF", "REPLICAOF h",
    "SLAVEOF h",
)  # fmt: skip


@pytest.mark.redis
@pytest.mark.parametrize("line", LINES)
def test_failover_is_read_as_redis_reads_it(redis_server: Address, line: str) -> None:
    """Both have no replicas."""
    with closing(Wire(redis_server)) as wire:
        assert Local().raw(*line.split()) == wire.call(*line.split())


@pytest.mark.parametrize("line", ["REPLICAOF h 1", "REPLICAOF NO ONE", "SLAVEOF NO ONE", "slaveof h x"])
def test_roles_cannot_be_set(line: str) -> None:
    local = Local()
    local.engine.topology.introduce("b", "h:2")  # no primary is known
    assert local.raw(*line.split()).startswith(b"-ERR eventdb's roles follow from its log: ")


@pytest.mark.redis
@pytest.mark.parametrize("line", ["REPLICAOF NO ONE", "slaveof no One"])
def test_a_primary_may_be_told_to_follow_nobody(redis_server: Address, line: str) -> None:
    local, _ = primary()
    with closing(Wire(redis_server)) as wire:
        assert local.raw(*line.split()) == wire.call(*line.split()) == b"+OK\r\n"


# -- EVENTDB.ANNOUNCE


def announce(local: Local, **fields: object) -> bytes:
    found = {"name": "d", "address": "h:4", "candidate": True, "offset": 3, "lag_ms": 1, **fields}
    return local.raw("EVENTDB.ANNOUNCE", json.dumps(found))


def test_an_announcement_reaches_the_node_with_all_its_fields() -> None:
    local, _ = primary()
    assert announce(Local()) == error("ERR this node takes no announcements")
    told: list[tuple[Member, dict[str, object]]] = []
    local.engine.host = StandIn(announced=lambda member, fields: told.append((member, fields)))
    assert announce(local, zone="a") == b"+OK\r\n"
    (member, fields) = told[0]
    assert (member.name, member.address, member.candidate, member.offset, member.lag_ms) == ("d", "h:4", True, 3, 1)
    assert fields["zone"] == "a" and local.log == [], "an announcement is not a write"
    local.engine.host = StandIn(announced=lambda member, fields: bulk(b"more"))
    assert announce(local) == b"$4\r\nmore\r\n"


def test_an_announcement_elsewhere_is_told_where_it_belongs() -> None:
    local, _ = primary()
    local.engine.host = StandIn(announced=lambda member, fields: pytest.fail("asked"))
    local.engine.topology.update(3, Member("b", "h:2"), [])
    assert announce(local) == b"-NOTPRIMARY h:2\r\n"
    local.engine.topology.update(3, None, [])
    assert announce(local) == b"-NOTPRIMARY ?\r\n"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"name": "d"}', "\xff", "[" * 4000, '{"name": "d", "address": "h:0"}', "9" * 4096]
)
def test_an_announcement_that_makes_no_sense_is_refused(text: str) -> None:
    local, _ = primary()
    local.engine.host = StandIn(announced=lambda member, fields: pytest.fail("asked"))
    assert local.raw("EVENTDB.ANNOUNCE", text).startswith(b"-ERR not an announcement: ")
    assert local.raw("EVENTDB.ANNOUNCE", b"\xff\xfe").startswith(b"-ERR not an announcement: ")


def test_an_announcement_is_short_and_has_a_name_of_its_own() -> None:
    local, _ = primary()
    local.engine.host = StandIn(announced=lambda member, fields: pytest.fail("asked"))
    assert announce(local, more="x" * 4096) == error("ERR an announcement has at most 4096 bytes")
    assert announce(local, name=local.engine.topology.me.name).startswith(b"-ERR the primary itself is called 'local'")
    config = Config()
    config.set("requirepass", "secret")
    assert announce(Local(config=config)) == error("NOAUTH Authentication required.")
