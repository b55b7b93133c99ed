"""DEBUG as suites and monitoring use it, LOLWUT, MEMORY, ACL HELP, MODULE HELP: raw replies beside those of Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eventdb.engine.settings import Config
from eventdb.protocol.replies import error
from tests.conftest import Server, wait_until
from tests.kit.differential import Address, Pair, Wire, split
from tests.kit.harness import Local
from tests.kit.real_redis import RealRedis

OK = b"+OK\r\n"


@pytest.fixture(scope="module")
def debug_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A redis-server whose DEBUG runs."""
    server = RealRedis(tmp_path_factory.mktemp("redis"))
    yield "127.0.0.1", server.port
    server.stop()


def debuggable(resp3: bool = False) -> Local:
    config = Config()
    config.set("enable-debug-command", "yes")
    local = Local(config=config)
    local.client.resp3 = resp3
    return local


SAME = """
DEBUG ERROR
DEBUG ERROR boom
DEBUG ERROR a b
DEBUG DIGEST
DEBUG DIGEST-VALUE
DEBUG DIGEST-VALUE nokey
DEBUG DIGEST x
DEBUG OBJECT nokey
DEBUG OBJECT
DEBUG SDSLEN nokey
DEBUG SDSLEN l
DEBUG QUICKLIST-PACKED-THRESHOLD 100b
DEBUG QUICKLIST-PACKED-THRESHOLD 0
DEBUG QUICKLIST-PACKED-THRESHOLD x
DEBUG QUICKLIST-PACKED-THRESHOLD 5gb
DEBUG CHANGE-REPL-ID
DEBUG LOG hello
DEBUG SLEEP
DEBUG SLEEP 0
DEBUG SET-ACTIVE-EXPIRE 1
DEBUG RELOAD foo
DEBUG POPULATE 3
DEBUG POPULATE 3 p 10
DEBUG POPULATE 3 p 2
DEBUG POPULATE x
DEBUG POPULATE
DEBUG NOPE
GET key:0
GET p:2
DBSIZE
LOLWUT
LOLWUT VERSION
LOLWUT VERSION x
LOLWUT VERSION 1
LOLWUT x y
MEMORY PURGE
MEMORY PURGE x
MEMORY STATS x
MEMORY MALLOC-STATS x
ACL HELP x
MODULE HELP x
MODULE LIST
CONFIG REWRITE
"""

KINDS = ["string", "integer", "double", "bignum", "null", "array", "set", "map", "verbatim", "true", "false", "nope"]


@pytest.mark.redis
@pytest.mark.parametrize("resp3", [False, True])
def test_replies_are_those_of_redis(debug_server: Address, resp3: bool) -> None:
    local = debuggable(resp3)
    with closing(Wire(debug_server, resp3)) as wire:
        wire.call("FLUSHALL")
        for line in SAME.strip().split("\n"):
            if line.startswith("DEBUG SDSLEN"):
                wire.call("RPUSH", "l", "a")
                local.raw("RPUSH", "l", "a")
            assert local.raw(*line.split()) == wire.call(*line.split()), line
        kinds = [
            "string",
            "integer",
            "double",
            "bignum",
            "null",
            "array",
            "set",
            "map",
            "verbatim",
            "true",
            "false",
            "nope",
        ]
        for kind in kinds:
            assert local.raw("DEBUG", "PROTOCOL", kind) == wire.call("DEBUG", "PROTOCOL", kind), kind
        theirs = wire.call("DEBUG", "PROTOCOL", "push")
        assert local.raw("DEBUG", "PROTOCOL", "push") == theirs
        if not resp3:
            assert local.raw("DEBUG", "PROTOCOL", "attrib") == wire.call("DEBUG", "PROTOCOL", "attrib")
    local.check_replay()


def test_attributes_come_before_their_reply() -> None:
    assert debuggable(True).raw("DEBUG", "PROTOCOL", "attrib") == (
        b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n"
        b"$39\r\nSome real reply following the attribute\r\n"
    )


def test_digests_depend_on_content_and_on_nothing_else() -> None:
    one, two = debuggable(), debuggable()
    for line in ("SET a 1", "RPUSH l x y", "SADD s 1 2 3"):
        one.raw(*line.split())
    for line in ("SADD s 3 1", "RPUSH l x", "SADD s 2", "SET a 1", "RPUSH l y"):
        two.raw(*line.split())
    assert one("DEBUG", "DIGEST") == two("DEBUG", "DIGEST") != b"0" * 40
    values = one("DEBUG", "DIGEST-VALUE", "a", "l", "s", "nokey")
    assert values == two("DEBUG", "DIGEST-VALUE", "a", "l", "s", "nokey")
    assert isinstance(values, list) and len(set(values)) == 4 and all(len(each) == 40 for each in values)
    two.raw("EXPIRE", "a", "100")
    assert one("DEBUG", "DIGEST") != two("DEBUG", "DIGEST")
    assert one("DEBUG", "DIGEST-VALUE", "a") != two("DEBUG", "DIGEST-VALUE", "a")


@pytest.mark.redis
def test_an_object_is_described_in_the_words_of_redis(debug_server: Address) -> None:
    local = debuggable()
    with closing(Wire(debug_server)) as wire:
        for line in ("SET k v", "HSET h f v", "ZADD z 1 m", "SET n 12"):
            wire.call(*line.split())
            local.raw(*line.split())
            key = line.split()[1]
            words = ("DEBUG", "OBJECT", key)
            theirs, ours = wire.call(*words).decode().split(), local.raw(*words).decode().split()
            names = [word.partition(":")[0] for word in ours]
            assert names == [word.partition(":")[0] for word in theirs]
            assert ours[2:4] == theirs[2:4]  # references and encoding
    assert local.raw("DEBUG", "OBJECT", "k").endswith(b"lru_seconds_idle:-1\r\n")
    local.raw("CONFIG", "SET", "track-access", "yes")
    local.engine.store.accesses.began_ms -= 5000  # type: ignore[union-attr]
    assert local.raw("DEBUG", "OBJECT", "k").endswith(b"lru_seconds_idle:5\r\n")
    assert b"key_sds_len:1, key_sds_avail:0" in local.raw("DEBUG", "SDSLEN", "k")
    assert local("DEBUG", "STRINGMATCH-LEN", "a*", "abc") == 1 and local("DEBUG", "STRINGMATCH-LEN", "b*", "abc") == 0


def test_populate_is_a_write_where_writes_are_run_and_nowhere_else() -> None:
    local = debuggable()
    local.raw("SET", "key:1", "mine")
    assert local.raw("DEBUG", "POPULATE", "3") == OK
    assert [event[1] for event in local.events()] == [b"key:1", b"key:0", b"key:2"]
    local.engine.pause_for(1000, writes_only=True)
    assert local.raw("DEBUG", "POPULATE", "4") == error("ERR this node takes no writes now")
    assert local.raw("DEBUG", "POPULATE", "10000000") == error("ERR that is too much for one transaction")
    local.check_replay()


def test_reload_rebuilds_from_the_log_and_finds_what_differs(
    eventdb_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = eventdb_server(None, "--config", "enable-debug-command=local")
    with closing(Wire((server.host, server.port))) as wire, closing(Wire((server.host, server.port))) as other:
        for line in ("SET k v PX 100000", "RPUSH l a b", "SELECT 3", "ZADD z 1 m 2 n", "SELECT 0"):
            wire.call(*line.split())
        before = wire.call("DEBUG", "DIGEST")
        wire.send("INCR", "n")
        wire.send("DEBUG", "RELOAD")
        assert wire.reply() == b":1\r\n"
        other.send("INCR", "n")  # waits until it is over, or came before it
        assert wire.reply() == OK
        assert other.reply() == b":2\r\n"
        assert wire.call("DEBUG", "LOADAOF") == OK and wire.call("DEBUG", "RELOAD", "NOSAVE") == OK
        assert wire.call("GET", "n") == b"$1\r\n2\r\n" and wire.call("DEL", "n") == b":1\r\n"
        assert wire.call("DEBUG", "DIGEST") == before
        assert wire.call("PEXPIRE", "k", "1") == b":1\r\n"
        wait_until(lambda: wire.call("DBSIZE") == b":1\r\n", what="the key is deleted by its deadline")
        assert split(wire.call("LRANGE", "l", "0", "-1"))[1] == [b"$1\r\na\r\n", b"$1\r\nb\r\n"]
        wire.call("MULTI")
        wire.call("DEBUG", "RELOAD")
        assert b"cannot be rebuilt inside a transaction" in wire.call("EXEC")
    assert debuggable().raw("DEBUG", "RELOAD") == error("ERR there is no log here to rebuild the state from")


@pytest.mark.redis
def test_memory_stats_has_the_fields_of_redis(debug_server: Address) -> None:
    for resp3 in (False, True):
        local = debuggable(resp3)
        local.raw("SET", "k", "v")
        with closing(Wire(debug_server, resp3)) as wire:
            wire.call("FLUSHALL")
            wire.call("SET", "k", "v")
            theirs, ours = split(wire.call("MEMORY", "STATS"))[1], split(local.raw("MEMORY", "STATS"))[1]
        assert ours[::2] == theirs[::2]
        assert [each[:1] for each in ours[1::2]] == [each[:1] for each in theirs[1::2]]
        at = ours.index(b"$4\r\ndb.0\r\n") + 1
        assert split(ours[at])[1][::2] == split(theirs[at])[1][::2]


def test_words_about_memory_and_drawings() -> None:
    local = debuggable()
    assert b"maxmemory is not set" in local.raw("MEMORY", "DOCTOR")
    local.raw("CONFIG", "SET", "maxmemory", "100gb")
    assert b"maxmemory is 100.00G" in local.raw("MEMORY", "DOCTOR")
    assert b"small blocks allocated" in local.raw("MEMORY", "MALLOC-STATS")
    drawn = local("LOLWUT", "VERSION", "5", "40")
    assert isinstance(drawn, bytes) and drawn.decode().endswith("▲ durable\nRedis ver. 7.0.15\n")
    for name in ("ACL", "MODULE", "MEMORY", "DEBUG"):
        text = local(name, "HELP")
        assert isinstance(text, list) and text[0].startswith(name.encode()) and text[-1] == b"    Print this help."


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("DEBUG segfault", "a server does not harm itself; a signal to its process does (kill -9, kill -STOP)"),
        (
            "DEBUG JMAP",
            "Redis's layouts and allocator are not used; DEBUG OBJECT, OBJECT ENCODING and MEMORY USAGE answer",
        ),
        ("DEBUG PAUSE-CRON 1", "eventdb does not have that part of Redis"),
    ],
)
def test_debug_says_why_a_part_is_not_here(call: str, why: str) -> None:
    config = Config()
    config.set("enable-debug-command", "yes")
    name = call.split()[1].upper()
    assert Local(config=config).raw(*call.split()) == f"-ERR DEBUG {name} is not here: {why}\r\n".encode()


def _after_a_long_command(address: Address) -> list[bytes]:
    """What clients see of deadlines that pass while one command, or one EXEC, takes its time."""
    with closing(Wire(address)) as wire, closing(Wire(address)) as waiting:
        for line in ("FLUSHALL", "DEBUG SET-ACTIVE-EXPIRE 0"):
            wire.call(*line.split())
        waiting.send("BLPOP", "l", 0)
        wait_until(lambda: b"blocked_clients:1" in wire.call("INFO", "clients"), 10, "a client waits")
        wire.socket.sendall(
            b"SET k v PX 20\r\nDEBUG SLEEP 0.05\r\nGET k\r\n"
            b"MULTI\r\nRPUSH l old\r\nPEXPIRE l 20\r\nDEBUG SLEEP 0.05\r\nEXEC\r\nEXISTS l\r\n"
        )
        seen = [wire.reply() for _ in range(9)]
        return [*seen, wire.call("RPUSH", "l", "new"), waiting.reply(), wire.call("DEBUG", "RELOAD")]


@pytest.mark.redis
def test_time_passes_with_a_long_command(debug_server: Address, eventdb_server: Callable[..., Server]) -> None:
    """For what the same input has after it, and for a client that it wakes; and DEBUG RELOAD finds the log's state."""
    server = eventdb_server(None, "--config", "enable-debug-command=local")
    seen = _after_a_long_command(("127.0.0.1", server.port))
    assert seen == _after_a_long_command(debug_server)
    assert seen[2] == b"$-1\r\n" and seen[10] == b"*2\r\n$1\r\nl\r\n$3\r\nnew\r\n"


def test_time_passes_within_one_input() -> None:
    """However short its commands are; `tick_s` is a millisecond in a node, and for ever in an engine of its own."""
    engine = (local := Local()).engine
    for tick_s, moves in ((0.0, True), (1e9, False)):
        engine.tick_s = tick_s
        engine.read_clock()
        engine.store.now_ms = 5
        local.raw("PING")
        assert (engine.store.now_ms > 5) == moves


@pytest.mark.redis
def test_debug_that_is_not_allowed_is_refused_before_anything_else(redis_server: Address) -> None:
    with Pair(redis_server) as pair:
        for line in ("DEBUG SLEEP 0", "MULTI", "DEBUG SLEEP 0", "EXEC", "SUBSCRIBE a", "DEBUG SLEEP 0", "GET k"):
            pair(*line.split())
