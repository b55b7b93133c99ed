"""INFO, CLIENT LIST and MEMORY STATS have the fields that Redis 7.0 has, and count what Redis counts."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing

import pytest

from eventdb.cluster.topology import Member
from eventdb.commands.shared.info_sections import SECTIONS, section
from eventdb.engine.client import FOLLOWING, LOADING
from tests.conftest import Server
from tests.kit.differential import Address, Wire
from tests.kit.harness import Local, StandIn

CHANGING = re.compile(r"^(slave|db)\d+$|^(cmdstat|errorstat|latency_percentiles_usec)_")


def sections(text: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for line in text.replace("\r", "").split("\n"):
        if line.startswith("# "):
            found[line[2:]] = {}
        elif ":" in line and found:
            name, _, value = line.partition(":")
            found[list(found)[-1]][name] = value
    return found


def text_of(raw: bytes) -> str:
    return raw.partition(b"\r\n")[2].decode().removeprefix("txt:")


def missing(theirs: str, ours: str) -> list[str]:
    """Fields of Redis that eventdb has not in the same section."""
    known = sections(ours)
    return [
        f"{title}: {name}"
        for title, fields in sections(theirs).items()
        for name in fields
        if name not in known.get(title, {}) and not CHANGING.match(name)
    ]


@pytest.mark.redis
def test_every_field_of_redis_is_there_in_its_section(redis_server: Address) -> None:
    with closing(Wire(redis_server)) as wire:
        wire.call("CONFIG", "RESETSTAT")
        for asked in ("everything", "all", "default", ""):
            words = ["INFO", asked] if asked else ["INFO"]
            theirs, ours = text_of(wire.call(*words)), text_of(Local().raw(*words))
            assert len(sections(theirs)["Memory"]) > 45 and not missing(theirs, ours)
            titles = [title for title in sections(ours) if title != "Eventdb"]
            assert titles == list(sections(theirs)), asked


@pytest.mark.redis
def test_a_replica_has_the_fields_of_a_replica(redis_server: Address) -> None:
    local = Local()
    local.engine.gate |= FOLLOWING
    local.engine.topology.introduce("me", "127.0.0.1:7")
    local.engine.topology.update(1, Member("other", "127.0.0.1:8"), [])
    local.engine.topology.update(1, None, [])  # its lease was not heard of for a while: the link is down
    with closing(Wire(redis_server)) as wire:
        try:
            assert wire.call("REPLICAOF", "127.0.0.1", "1") == b"+OK\r\n"
            theirs = text_of(wire.call("INFO", "replication"))
        finally:
            wire.call("REPLICAOF", "NO", "ONE")
    assert "slave_read_only" in theirs
    assert missing(theirs, text_of(local.raw("INFO", "replication"))) == []


def roles() -> dict[str, Callable[[Local], None]]:
    def replica(local: Local) -> None:
        local.engine.gate |= FOLLOWING
        local.engine.topology.introduce("me", "127.0.0.1:7")
        local.engine.topology.update(1, Member("other", "127.0.0.1:8"), [])

    def loading(local: Local) -> None:
        local.engine.gate |= LOADING
        local.engine.topology.introduce("me", "127.0.0.1:7")

    return {"primary": lambda local: None, "replica": replica, "loading": loading}


@pytest.mark.parametrize("role", roles())
def test_no_field_of_one_section_hides_one_of_another(role: str) -> None:
    """Clients keep INFO as one flat mapping."""
    local = Local()
    local.engine.config.set("latency-tracking", "yes")
    local.engine.reconfigure()
    local.raw("SET", "k", "v")
    roles()[role](local)
    facts = dict.fromkeys(NODE_FACTS, "1")
    local.engine.host = StandIn(facts=lambda: facts)
    seen: dict[str, str] = {}
    for title in SECTIONS:
        for name, _ in section(local.engine, title, facts):
            assert name not in seen, f"{name} of {title} hides that of {seen[name]}"
            seen[name] = title
    assert len(seen) > 150


NODE_FACTS = (
    "role", "log_url", "node_name", "lease_ms", "offset", "durable_offset", "pending_batches", "pending_bytes",
    "load_seconds", "events_replayed", "epoch", "log_records", "log_transactions", "log_body_bytes",
    "log_stored_bytes", "log_syncs", "log_zone_errors",
)  # fmt: skip


def test_a_running_node_states_these_facts_and_no_field_twice(eventdb_server: Callable[..., Server]) -> None:
    server = eventdb_server()
    with closing(Wire((server.host, server.port))) as wire:
        wire.call("SET", "k", "v")
        text = text_of(wire.call("INFO", "everything"))
        names = [line.partition(":")[0] for line in text.split("\r\n") if ":" in line]
        assert len(names) == len(set(names))
        found = sections(text)
        assert {"node_role" if name == "role" else name for name in NODE_FACTS} <= {
            *found["Eventdb"], *found["Persistence"],
        }  # fmt: skip
        assert int(found["Stats"]["total_reads_processed"]) >= 2 and int(found["Stats"]["total_writes_processed"]) >= 1


STEPS = """
GET k; SET k v; GET; SET k; LPUSH k x; NOPE; CONFIG NOPE; CONFIG GET; CONFIG SET x; CONFIG GET timeout; COMMAND COUNT
COMMAND NOPE; OBJECT ENCODING k; OBJECT ENCODING; MULTI; SET a 1; LPUSH k y; GET a; EXEC; MULTI; NOPE; EXEC; EXEC
INCR k; CLIENT SETNAME x; SUBSCRIBE; PING; ECHO; BLPOP k 1; BLPOP nothing; ZADD z nan m; SLOWLOG GET x; RESET; RESET x
"""


def counted(text: str) -> dict[str, tuple[str, str, str]]:
    """Calls, rejected and failed ones by command."""
    found: dict[str, tuple[str, str, str]] = {}
    for name, value in sections(text)["Commandstats"].items():
        facts = dict(part.split("=") for part in value.split(","))
        if name == "cmdstat_client|unblock":  # Redis takes the error that the other client hears for one of its own
            facts["failed_calls"] = "0"
        found[name] = (facts["calls"], facts["rejected_calls"], facts["failed_calls"])
    return found


@pytest.mark.redis
@pytest.mark.parametrize("resp3", [False, True])
def test_calls_are_counted_as_redis_counts_them(redis_server: Address, resp3: bool) -> None:
    local = Local()
    local.client.resp3 = resp3
    with closing(Wire(redis_server, resp3)) as wire, closing(Wire(redis_server, resp3)) as waiting:
        for who in (lambda *words: wire.call(*words), lambda *words: local.raw(*words)):
            who("DEL", "k", "a", "z", "nothing")
            who("CONFIG", "RESETSTAT")
            assert counted(text_of(who("INFO", "commandstats"))) == {"cmdstat_config|resetstat": ("1", "0", "0")}
            for step in STEPS.replace("\n", ";").split(";"):
                if step.strip():
                    who(*step.split())
        blocked = local.connect()
        blocked.resp3 = resp3
        key = int(waiting.call("CLIENT", "ID")[1:])
        local.raw("CLIENT", "ID", client=blocked)

        def compare() -> None:
            theirs, ours = text_of(wire.call("INFO", "all")), text_of(local.raw("INFO", "all"))
            assert counted(ours) == counted(theirs)
            assert sections(ours)["Errorstats"] == sections(theirs)["Errorstats"]
            for name in ("total_commands_processed", "total_error_replies"):
                assert sections(ours)["Stats"][name] == sections(theirs)["Stats"][name], name

        compare()
        for end in ("push", "wrong type", "timeout", "error", "time"):
            assert wire.call("DEL", "nothing", "a") == local.raw("DEL", "nothing", "a")
            words = ("BLMOVE", "nothing", "a", "LEFT", "LEFT", "0.3" if end == "time" else "0")
            waiting.send(*words)
            local.raw(*words, client=blocked)
            for _ in range(1000):
                local.raw("INFO", "clients")
                if b"blocked_clients:1" in wire.call("INFO", "clients"):
                    break
            else:
                pytest.fail("it does not block")
            compare()
            last: tuple[object, ...] = ("RPUSH", "nothing", "x")
            if end == "wrong type":
                wire.call("SET", "a", "x")
                local.raw("SET", "a", "x")
            elif end in ("timeout", "error"):
                last = ("CLIENT", "UNBLOCK", "{}", end.upper())
            elif end == "time":
                last = ("PING",)
                local.engine.block_ends(blocked, blocked.blocked.timeout_reply)  # type: ignore[union-attr]
            assert wire.call(*[str(word).format(key) for word in last]) == local.raw(
                *[str(word).format(blocked.id) for word in last]
            )
            assert waiting.reply() == local.take(blocked)
            compare()


def test_a_blocked_command_is_slow_when_it_is_over() -> None:
    local = Local()
    local.raw("CONFIG", "SET", "slowlog-log-slower-than", "0")
    local.raw("SLOWLOG", "RESET")
    waiting = local.connect()
    local.raw("BLPOP", "k", "0", client=waiting)
    assert [entry[3][0] for entry in local("SLOWLOG", "GET")] == [b"SLOWLOG"]  # type: ignore[attr-defined]
    local.raw("RPUSH", "k", "v")
    names = [entry[3][0] for entry in local("SLOWLOG", "GET")]  # type: ignore[attr-defined]
    assert sorted(names[:3]) == [b"BLPOP", b"RPUSH", b"SLOWLOG"]


def test_a_connection_shows_its_socket_and_its_buffers(eventdb_server: Callable[..., Server]) -> None:
    server = eventdb_server()
    with closing(Wire((server.host, server.port))) as wire, closing(Wire((server.host, server.port))) as half:
        half.call("CLIENT", "SETNAME", "half")
        half.socket.sendall(b"*2\r\n$4\r\nECHO\r\n$100\r\n" + b"x" * 60)
        wire.call("MULTI")
        wire.call("SET", "k", "v")
        queued = wire.call("CLIENT", "LIST")
        assert queued == b"+QUEUED\r\n"
        lines: list[dict[str, str]] = []
        while not any(int(line["qbuf"]) for line in lines):
            lines = described(wire.call("EXEC" if queued else "INFO", *([] if queued else ["clients"])))
            queued = b""
            if not any(int(line["qbuf"]) for line in lines):
                lines = described(wire.call("CLIENT", "LIST"))
        found = {line["name"]: line for line in lines}
        assert int(found["half"]["qbuf"]) >= 60 and int(found["half"]["tot-mem"]) > int(found["half"]["qbuf"])
        fds = [int(line["fd"]) for line in lines]
        assert len(set(fds)) == 2 and min(fds) > 2 and found["half"]["events"] == "r"
        clients = sections(text_of(wire.call("INFO", "clients")))["Clients"]
        assert int(clients["client_recent_max_input_buffer"]) >= 60


def described(raw: bytes) -> list[dict[str, str]]:
    return [
        dict(part.split("=", 1) for part in line.split(" "))
        for line in raw.decode().replace("\r", "").split("\n")
        if line.startswith("id=")
    ]


@pytest.mark.redis
def test_client_list_has_the_fields_of_redis_in_their_order(redis_server: Address) -> None:
    with closing(Wire(redis_server)) as wire:
        theirs = described(wire.call("CLIENT", "LIST", "ID", wire.call("CLIENT", "ID")[1:-2]))[0]
    ours = described(Local().raw("CLIENT", "LIST"))[0]
    assert list(ours) == [*theirs, "lib-name", "lib-ver"]
    for name in ("db", "flags", "multi", "sub", "psub", "ssub", "cmd", "user", "redir", "resp", "multi-mem"):
        assert ours[name] == theirs[name], name


def test_role_of_a_lone_node_that_loads_is_that_of_a_loading_master() -> None:
    local = Local()
    local.engine.gate |= LOADING
    local.engine.topology.introduce("me", "127.0.0.1:7")
    assert local("ROLE") == [b"master", 0, []]
    assert b"role:master" in local.raw("INFO", "replication")
    local.engine.topology.update(1, Member("me of before", "127.0.0.1:7"), [])
    assert local("ROLE") == [b"master", 0, []]
    local.engine.topology.update(1, Member("other", "127.0.0.1:8"), [])
    assert local("ROLE") == [b"slave", b"127.0.0.1", 8, b"sync", 0]
    local.engine.topology.introduce("me", "127.0.0.1:7", candidate=False)
    assert local("ROLE")[0] == b"slave"  # type: ignore[index]


def test_scripts_show_in_memory_once_they_came() -> None:
    local = Local()
    assert b"number_of_cached_scripts:0\r\n" in local.raw("INFO", "memory")
    local.raw("EVAL", "return 1", "0")
    found = sections(text_of(local.raw("INFO", "memory")))["Memory"]
    assert (found["number_of_cached_scripts"], found["used_memory_scripts_eval"]) == ("1", "8")
    assert int(found["used_memory_lua"]) > 1000
