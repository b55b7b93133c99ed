"""MONITOR shows the lines of a real redis-server, in RESP2 and RESP3, and ends with RESET, QUIT and the connection."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from eventdb.engine.client import OBSERVED
from eventdb.engine.monitors import quoted
from tests.kit.differential import Address
from tests.kit.harness import Local
from tests.kit.listening import MARKER, Listening
from tests.pipeline.test_commit import Stalled

LINE = re.compile(rb"\+\d{10}\.\d{6} \[(\d+) (127[^\]]*|lua)\]")
MARKERS = re.compile(rb"\+[^\r\n]*" + MARKER.encode() + rb'"\r\n')

SHOWN = """
SET k v
get k
NOPE
GET
MULTI
SET a 1
INCR a
SELECT 1
GET a
EXEC
SELECT 0
MULTI
DISCARD
MULTI
NOPE
EXEC
WATCH k
UNWATCH
SELECT 2
SELECT 99
EVAL redis.call('set','x',1);return(redis.call('get','x')) 0
EVAL_RO return(redis.call('get','x')) 0
EVALSHA 0000000000000000000000000000000000000000 0
AUTH x
AUTH u x
CLIENT SETNAME q
CLIENT NO-EVICT ON
CLIENT KILL ID 999999
CONFIG GET save
CONFIG HELP
SLOWLOG LEN
PUBLISH c m
SCRIPT EXISTS x
ECHO hi
OBJECT HELP
ACL WHOAMI
LPUSH l 1
SPOP s
GETEX k EX 10
INCRBYFLOAT f 1
LATENCY RESET
RESET
ECHO hi
"""


def normal(data: bytes) -> bytes:
    return LINE.sub(lambda found: b"+TIME [%b %b]" % (found[1], found[2][:3]), MARKERS.sub(b"", data))


@pytest.fixture
def both(still_redis: Address) -> Iterator[Listening]:
    with Listening(still_redis, [False, False, True], normal) as made:
        made.step(1, "MONITOR")
        made.step(2, "MONITOR")
        yield made


@pytest.mark.redis
def test_lines_are_those_of_redis(both: Listening) -> None:
    both.compared = {1, 2}
    seen = b""
    for line in SHOWN.split("\n"):
        if line:
            seen += both.step(0, *line.split(" "))[1]
    both.step(0, "SET", "k", bytes(range(256)))
    assert seen.count(b"+TIME [") > 30 and b'[2 lua] "set" "x" "1"' in seen and b"(redacted)" in seen


@pytest.mark.redis
def test_passwords_in_hello_are_not_shown(both: Listening) -> None:
    both.compared = {1, 2}
    both.step(0, "HELLO", 2, "AUTH", "default", "secret", "SETNAME", "me")


@pytest.mark.redis
def test_a_monitor_touches_no_keys_and_ends_with_reset(both: Listening) -> None:
    for line in ["GET k", "SET k v", "PUBLISH a b", "KEYS *", "EVAL return(1) 0"]:
        for number in (1, 2):
            both.step(number, *line.split(" "))
    both.compared = {2}
    both.step(1, "RESET")
    both.compared = {0, 1, 2}
    both.step(0, "SET", "k", "v")
    both.step(1, "GET", "k")


@pytest.mark.redis
def test_exec_and_scripts_may_not_begin_one(both: Listening) -> None:
    both.compared = {0}
    for line in ["MULTI", "MONITOR", "EXEC", "EVAL return(redis.pcall('monitor')) 0"]:
        both.step(0, *line.split(" "))


def test_it_is_asked_for_once_and_costs_nothing_after_the_last_has_gone() -> None:
    local = Local()
    ear = local.connect()
    assert local.raw("MONITOR", client=ear) == b"+OK\r\n"
    local.raw("PING", client=ear)
    assert b"+OK" not in local.raw("MONITOR", client=ear)
    assert b" flags=O " in local.raw("CLIENT", "LIST")
    assert local.engine.gate & OBSERVED
    local.raw("CONFIG", "SET", "timeout", 1)
    local.engine.store.now_ms += 5000
    local.client.active_ms = local.engine.store.now_ms
    local.engine.cron()
    assert ear.id in local.engine.clients, "it is never idle"
    local.engine.disconnect(ear)
    assert not local.engine.gate & OBSERVED


def test_a_line_waits_for_no_batch() -> None:
    node = Stalled()
    writer, ear = node.connect(), node.connect()
    node.send(ear, "MONITOR")
    assert node.send(writer, "SET", "k", "v") == b""
    assert node.received(ear).endswith(b'"SET" "k" "v"\r\n')


def test_arguments_are_quoted_as_redis_quotes_them() -> None:
    assert quoted(b'a"\\\n\r\t\x07\x08\x00\xff z') == r'"a\"\\\n\r\t\a\b\x00\xff z"'


def test_a_session_inside_a_program_is_refused() -> None:
    local = Local()
    local.client.embedded = True
    assert local.raw("MONITOR").startswith(b"-ERR MONITOR needs a connection")


@pytest.mark.redis
def test_a_monitor_that_resets_itself_does_not_see_it(both: Listening) -> None:
    both.compared = {1, 2}
    both.step(1, "RESET")
    both.step(0, "PING")
