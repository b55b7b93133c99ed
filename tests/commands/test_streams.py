"""Streams: ids by the clock, and what the log says of each command."""

from __future__ import annotations

import pytest

from tests.kit.differential import Address, Pair
from tests.kit.harness import Local

NOW = 1_700_000_000_000


@pytest.fixture
def local() -> Local:
    made = Local()
    for n in (1, 2, 3, 4):
        made("XADD", "x", f"{n}-1", "f", n)
    made("XGROUP", "CREATE", "x", "g", "0")
    made("XREADGROUP", "GROUP", "g", "c", "COUNT", 3, "STREAMS", "x", ">")
    return made


def events(local: Local, *argv: str | int) -> list[str]:
    """What a command adds to the log, with times counted from NOW."""
    before = len(local.events())
    local.raw(*argv)
    local.check_replay()
    words = [[word.decode().replace(str(NOW), "NOW") for word in event] for event in local.events()[before:]]
    return [" ".join(event) for event in words]


def test_new_ids_follow_the_clock_and_never_go_back() -> None:
    local = Local()
    clock = local.engine.store
    assert local("XADD", "x", "*", "f", 1) == f"{NOW}-0".encode()
    assert local("XADD", "x", "*", "f", 1) == f"{NOW}-1".encode()
    clock.now_ms += 1
    assert local("XADD", "x", "*", "f", 1) == f"{NOW + 1}-0".encode()
    clock.now_ms -= 1000
    assert local("XADD", "x", "*", "f", 1) == f"{NOW + 1}-1".encode()
    assert local("XADD", "x", f"{NOW + 1}-{2**64 - 1}", "f", 1) == f"{NOW + 1}-{2**64 - 1}".encode()
    assert local("XADD", "x", "*", "f", 1) == f"{NOW + 2}-0".encode()
    local.check_replay()


@pytest.mark.parametrize(
    ("call", "logged"),
    [
        ("XADD y * f v", ["XADD y NOW-0 f v"]),
        ("XADD x MAXLEN 2 9-* f v", ["XADD x 9-0 f v", "XTRIM x MAXLEN 2"]),
        ("XADD x MAXLEN ~ 2 9-* f v", ["XADD x 9-0 f v"]),
        ("XADD y NOMKSTREAM * f v", []),
        ("XTRIM x MINID 3", ["XTRIM x MAXLEN 2"]),
        ("XTRIM x MAXLEN 4", []),
        ("XDEL x 1-1 1-1 7-7", ["XDEL x 1-1"]),
        ("XSETID x 8", ["XSETID x 8-0 ENTRIESADDED 4 MAXDELETEDID 0-0"]),
        ("XGROUP CREATE x h $", ["XGROUP CREATE x h 4-1 ENTRIESREAD -1"]),
        ("XGROUP CREATE y h $ MKSTREAM", ["XGROUP CREATE y h 0-0 ENTRIESREAD -1"]),
        ("XGROUP CREATECONSUMER x g d", ["XGROUP CREATECONSUMER x g d SEEN NOW"]),
        ("XGROUP CREATECONSUMER x g c", []),
        ("XGROUP DELCONSUMER x g c", ["XGROUP DELCONSUMER x g c"]),
        ("XGROUP DESTROY x g", ["XGROUP DESTROY x g"]),
        ("XREADGROUP GROUP g d STREAMS x >", ["XREADGROUP x g d NOW 1 NEW"]),
        ("XREADGROUP GROUP g d NOACK STREAMS x >", ["XREADGROUP x g d NOW 1 NOACK"]),
        ("XREADGROUP GROUP g c STREAMS x 1-1", ["XREADGROUP x g c NOW 2 AFTER 1-1"]),
        ("XREADGROUP GROUP g d STREAMS x 0", ["XGROUP CREATECONSUMER x g d SEEN NOW"]),
        ("XACK x g 2-1 2-1 4-1", ["XACK x g 2-1"]),
        ("XCLAIM x g d 0 1-1 2-1 IDLE 500", ["XCLAIM x g d NOW 1699999999500 2 1-1 2-1"]),
        ("XCLAIM x g d 0 1-1 4-1 FORCE JUSTID", ["XCLAIM x g d NOW NOW 1 1-1 4-1"]),
        ("XCLAIM x g d 9000 1-1", []),
        ("XAUTOCLAIM x g d 0 2", ["XCLAIM x g d NOW NOW 2 2-1 3-1"]),
        ("XREAD STREAMS x 0", []),
        ("XINFO STREAM x FULL", []),
        ("XPENDING x g", []),
    ],
)
def test_the_log_says_what_came_of_it(local: Local, call: str, logged: list[str]) -> None:
    assert events(local, *call.split()) == logged


def test_entries_that_are_gone_are_acknowledged_when_they_are_claimed(local: Local) -> None:
    local("XDEL", "x", "2-1")
    assert events(local, "XAUTOCLAIM", "x", "g", "d", 0, 0) == ["XCLAIM x g d NOW NOW 2 1-1 3-1", "XACK x g 2-1"]


def test_a_poll_that_finds_nothing_writes_nothing(local: Local) -> None:
    events(local, "XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">")
    assert events(local, "XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">") == []
    assert events(local, "XREADGROUP", "GROUP", "g", "new", "STREAMS", "x", ">") == []


def test_times_are_those_of_the_command_and_not_of_the_replay(local: Local) -> None:
    local.engine.store.now_ms = NOW + 5000
    local("XREADGROUP", "GROUP", "g", "d", "STREAMS", "x", ">")
    local.engine.store.now_ms = NOW + 7000
    rows = local("XPENDING", "x", "g", "-", "+", 10)
    assert [row[2] for row in rows] == [7000, 7000, 7000, 2000]  # type: ignore[attr-defined, index]
    c, d = local("XINFO", "CONSUMERS", "x", "g")  # type: ignore[misc]
    assert (c[5], c[7], d[5], d[7]) == (7000, 7000, 2000, 2000)  # type: ignore[has-type]
    local.check_replay()


def test_watch_and_scan_know_streams(local: Local) -> None:
    other = local.connect()
    local("WATCH", "x")
    local.raw("XADD", "x", "*", "f", "v", client=other)
    local("MULTI")
    local("PING")
    assert local("EXEC") is None
    local("SET", "s", "v")
    assert local("SCAN", 0, "TYPE", "stream") == [b"0", [b"x"]]
    assert local("EXPIRE", "x", 10) == 1 and local("DEL", "x") == 1


@pytest.mark.redis
def test_blocks_of_a_stream_end_where_those_of_redis_end(redis_server: Address) -> None:
    """`~` takes away whole blocks, so what it leaves shows how long they are; the log has the exact number."""
    with Pair(redis_server) as pair:
        for entries in (10, 3, 1, 0, 100):
            pair("CONFIG", "SET", "stream-node-max-entries", entries)
            pair("DEL", "s")
            for i in range(1, 101):
                pair("XADD", "s", f"{i}-0", "f", "v")
            if entries == 10:
                pair("XDEL", "s", "2-0", "15-0")
            for i, limit in enumerate((("LIMIT", 30), ("LIMIT", 0), ()), 101):
                pair("XADD", "s", "MAXLEN", "~", 55, *limit, f"{i}-0", "f", "v")
                pair("XLEN", "s")
            pair("XTRIM", "s", "MINID", "~", "70-0", "LIMIT", 20)
            pair("XTRIM", "s", "MAXLEN", "~", 7)
            pair("XRANGE", "s", "-", "+")
        pair.local.check_replay()


@pytest.mark.redis
def test_trimming_about_has_a_bound_per_call(redis_server: Address) -> None:
    """Of a hundred blocks."""
    with Pair(redis_server) as pair:
        pair("CONFIG", "SET", "stream-node-max-entries", 2)
        for i in range(1, 301):
            pair("XADD", "s", f"{i}-0", "f", "v")
        assert pair("XTRIM", "s", "MAXLEN", "~", 10) == b":200\r\n"
        pair("CONFIG", "SET", "stream-node-max-entries", 100)
