"""What Valkey 8 has beside Redis, from its documentation: COMMANDLOG, CLIENT CAPA, SCRIPT SHOW, SLOT-STATS."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventdb.engine.settings import Config
from tests.kit.harness import Local
from tests.kit.nodes import Nodes
from tests.kit.wire import Wire


def test_commandlog_is_the_slow_log_under_another_name() -> None:
    local = Local()
    assert local("CONFIG", "SET", "commandlog-execution-slower-than", "0") == b"OK"
    assert local("CONFIG", "GET", "slowlog-log-slower-than") == [b"slowlog-log-slower-than", b"0"]
    local("SET", "k", "v")
    newest = local("COMMANDLOG", "GET", "-1", "SLOW")
    assert newest[0][3] == [b"SET", b"k", b"v"]  # type: ignore[index]
    assert local("COMMANDLOG", "LEN", "slow") == 4 and local("SLOWLOG", "LEN") == 5  # the one asked before
    assert local("COMMANDLOG", "RESET", "slow") == b"OK" and local("SLOWLOG", "LEN") == 1  # the reset itself


@pytest.mark.parametrize("kind", ["large-request", "large-reply"])
def test_of_large_requests_and_replies_nothing_is_kept_and_the_settings_say_so(kind: str) -> None:
    local = Local()
    local("SET", "k", "v" * 2_000_000)
    local("GET", "k")
    assert local("COMMANDLOG", "GET", "-1", kind) == [] and local("COMMANDLOG", "LEN", kind) == 0
    assert local("COMMANDLOG", "RESET", kind) == b"OK"
    setting = f"commandlog-{kind.removeprefix('large-')}-larger-than"
    assert local("CONFIG", "GET", setting) == [setting.encode(), b"-1"]
    assert b"would cost every command" in local.raw("CONFIG", "SET", setting, "1000")


def test_commandlog_refuses_what_it_does_not_know() -> None:
    local = Local()
    kinds = b"-ERR type should be one of the following: slow, large-request, large-reply\r\n"
    assert local.raw("COMMANDLOG", "LEN", "fast") == kinds
    assert local.raw("COMMANDLOG", "GET", "1", "fast") == kinds
    assert local.raw("COMMANDLOG", "GET", "-2", "slow") == b"-ERR count should be greater than or equal to -1\r\n"


def test_a_script_that_is_known_is_shown() -> None:
    local = Local()
    sha = local("SCRIPT", "LOAD", "return 1 -- one")
    assert isinstance(sha, bytes)
    assert local("SCRIPT", "SHOW", sha) == b"return 1 -- one"
    assert local("SCRIPT", "SHOW", sha.upper()) == b"return 1 -- one"
    assert local.raw("SCRIPT", "SHOW", "x" * 40).startswith(b"-NOSCRIPT ")


def test_a_client_that_follows_redirections_is_sent_to_the_primary(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes:
        primary, replica = nodes.start("first"), nodes.start("one", follow_only=True)
        nodes.agree(primary)
        elsewhere = f"REDIRECT 127.0.0.1:{primary.port}"
        with Wire(replica.port) as wire:
            assert str(wire("READONLY")) == "ERR This instance has cluster support disabled"
            assert str(wire("SET", "k", "v")).startswith("READONLY ")
            assert wire("CLIENT", "CAPA", "redirect", "else") == b"OK"
            assert str(wire("SET", "k", "v")) == str(wire("GET", "k")) == elsewhere
            assert wire("PING") == b"PONG" and wire("CONFIG", "GET", "port") is not None
            assert wire("MULTI") == b"OK" and str(wire("GET", "k")) == elsewhere
            assert str(wire("EXEC")).startswith("EXECABORT ")
            assert wire("READONLY") == b"OK" and wire("GET", "k") is None
            assert str(wire("SET", "k", "v")) == elsewhere
            assert wire("READWRITE") == b"OK" and str(wire("GET", "k")) == elsewhere
            wire("RESET")
            assert wire("GET", "k") is None
        with Wire(primary.port) as wire:
            assert wire("CLIENT", "CAPA", "redirect") == b"OK" and wire("SET", "k", "v") == b"OK"


def test_slots_are_counted_by_range_and_in_order() -> None:
    assert b"cluster support disabled" in Local().raw("CLUSTER", "SLOT-STATS", "SLOTSRANGE", "0", "1")
    config = Config()
    config.set("cluster-enabled", "yes")
    local = Local(config=config)
    for name in ("{a}1", "{a}2", "{a}3", "{b}1"):
        local("SET", name, "v")
    a, b = local("CLUSTER", "KEYSLOT", "a"), local("CLUSTER", "KEYSLOT", "b")

    def stats(*words: object) -> list[list[object]]:
        return local("CLUSTER", "SLOT-STATS", *map(str, words))  # type: ignore[return-value]

    assert stats("SLOTSRANGE", a, a) == [[a, [b"key-count", 3]]]
    assert [row[0] for row in stats("SLOTSRANGE", 5, 7)] == [5, 6, 7]
    assert stats("ORDERBY", "key-count", "LIMIT", 2) == [[a, [b"key-count", 3]], [b, [b"key-count", 1]]]
    assert stats("ORDERBY", "KEY-COUNT", "ASC")[-2:] == [[b, [b"key-count", 1]], [a, [b"key-count", 3]]]
    local("HELLO", "3")
    assert b"%1\r\n$9\r\nkey-count\r\n:3\r\n" in local.raw("CLUSTER", "SLOT-STATS", "SLOTSRANGE", str(a), str(a))
    for words, text in (
        ("SLOTSRANGE 1 16384", "Invalid or out of range slot"),
        ("SLOTSRANGE 2 1", "Start slot number 2 is greater than end slot number 1"),
        ("ORDERBY cpu-usec", "Unrecognized sort metric for ORDERBY."),
        ("ORDERBY key-count LIMIT 0", "Limit has to lie in between 1 and 16384 (maximum number of slots)."),
        ("ORDERBY key-count UP", "syntax error"),
        ("RANGE 1 2", "syntax error"),
    ):
        assert local.raw("CLUSTER", "SLOT-STATS", *words.split()) == f"-ERR {text}\r\n".encode()
