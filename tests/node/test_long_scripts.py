"""A script that gets on keeps the lease, however long it takes; a process that hangs in the middle of one loses it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import hiredis
import pytest

from tests.conftest import StartServer, wait_until
from tests.kit.kafka_brokers import Brokers, topic_name
from tests.kit.wire import Wire, encode
from tests.node.test_unbroken_lease import Pair, field, info

TRIAL = 10_000_000
COUNT = "redis.call('SET', 'a', 1) local n = 0 for i = 1, ARGV[1] do n = n + 1 end redis.call('SET', 'n', n) return n"
CALLS = "local n = 0 for i = 1, ARGV[1] do n = redis.call('INCR', 'calls') end return n"
LIBRARY = """#!lua name=lib
redis.register_function('f', function() while true do end end)
redis.register_function{function_name='seven', flags={'no-writes'}, callback=function() return 7 end}
"""


def rounds(wire: Wire, script: str, trial: int, seconds: float) -> int:
    """For how many rounds the script runs for so long."""
    began = time.monotonic()
    reply = wire("EVAL", script, 0, trial)
    assert not isinstance(reply, Exception), reply
    return int(trial * seconds / (time.monotonic() - began))


@pytest.fixture(params=["files", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.slow])])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "files":
        return f"quorum:{tmp_path / 'data'}"
    brokers: Brokers = request.getfixturevalue("kafka")
    return brokers.url(topic_name())


@pytest.mark.parametrize(
    ("script", "trial", "seconds"),
    [
        (COUNT, TRIAL, 2.5),
        pytest.param(COUNT, TRIAL, 12, marks=pytest.mark.slow),
        pytest.param(CALLS, 20_000, 2, marks=pytest.mark.slow),
    ],
    ids=["counts", "counts for long", "calls"],
)
def test_a_script_that_takes_longer_than_the_lease_keeps_it(
    eventdb_server: StartServer, url: str, script: str, trial: int, seconds: float
) -> None:
    with Pair(eventdb_server, url, "--config", "busy-reply-threshold=1000") as pair:
        count = rounds(pair.wire, script, trial, seconds)
        before = int(field(pair.wire, "lease_ms"))
        assert before <= 500
        began = time.monotonic()
        reply = pair.wire("EVAL", script, 0, count)
        took = time.monotonic() - began
        assert reply == count or (script == CALLS and reply == count + trial), reply
        assert took > 2 * before / 1000, "it was no long script"
        pair.check()


@pytest.mark.slow
def test_a_function_that_reads_for_long_keeps_the_lease_and_others_may_end_it(
    eventdb_server: StartServer, url: str
) -> None:
    with Pair(eventdb_server, url, "--config", "busy-reply-threshold=1500") as pair:
        other = Wire(pair.primary.port)
        assert pair.wire("FUNCTION", "LOAD", LIBRARY) == b"lib"
        assert other("PING") == b"PONG"
        pair.wire.send(encode("FCALL", "f", 0))
        while not isinstance(other("PING"), hiredis.ReplyError):
            pass
        assert b"role:slave" in info(pair.beside)
        assert other("FUNCTION", "KILL") == b"OK"
        assert isinstance(pair.wire.receive(), hiredis.ReplyError)
        other.close()
        pair.check()
        assert pair.beside("FCALL", "seven", 0) == 7  # the replica has the library from the log
        refused = pair.beside("FCALL", "f", 0)
        assert isinstance(refused, hiredis.ReplyError) and str(refused).startswith("READONLY"), refused
        assert pair.beside("FUNCTION", "LIST") == pair.wire("FUNCTION", "LIST")
        pair.primary.kill()
        wait_until(lambda: b"role:master" in info(pair.beside), what="the other one has taken over")
        assert pair.beside("FUNCTION", "DELETE", "lib") == b"OK"


@pytest.mark.slow
def test_a_process_that_is_stopped_in_the_middle_of_a_script_is_replaced(eventdb_server: StartServer, url: str) -> None:
    with Pair(eventdb_server, url, "--config", "script-time-limit=2000") as pair:
        assert pair.wire("SET", "kept", 1) == b"OK"
        pair.wire.send(encode("EVAL", "redis.call('SET', 'k', 'lost') while true do end", 0))
        time.sleep(1.2)  # it has renewed its lease several times by now, from inside the script
        assert b"role:slave" in info(pair.beside)
        os.kill(pair.primary.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: b"role:master" in info(pair.beside), what="the other one has taken over", seconds=4)
            assert pair.beside("SET", "mine", 1) == b"OK"
        finally:
            os.kill(pair.primary.pid, signal.SIGCONT)
        try:
            reply = pair.wire.receive()
        except ConnectionError:
            reply = None
        assert reply is None or (isinstance(reply, hiredis.ReplyError) and str(reply).startswith("UNKNOWN")), reply
        assert pair.beside("MGET", "kept", "k", "mine") == [b"1", None, b"1"]


@pytest.mark.slow
def test_a_script_that_shows_no_progress_is_replaced(eventdb_server: StartServer, url: str) -> None:
    """A pattern that backtracks for ever runs no instruction of Lua: nobody can tell it from a process that hangs."""
    with Pair(eventdb_server, url) as pair:
        endless = "return string.find(string.rep('a', 100), string.rep('a*', 100) .. 'b')"
        pair.wire.send(encode("EVAL", endless, 0))
        wait_until(lambda: b"role:master" in info(pair.beside), what="the other one has taken over", seconds=4)
        pair.primary.kill()
