"""Functions among the rest: users, errors that undo, tokens, MONITOR, notifications, a state put in place."""

from __future__ import annotations

import pytest

from eventdb.engine.settings import Config
from eventdb.keyspace.databases import Keyspace
from eventdb.node.reloading import put_in_place
from tests.kit.differential import Address, Pair
from tests.kit.harness import Local
from tests.kit.listening import Listening
from tests.scripting.test_busy import BUSY, Beside

LIBRARY = """#!lua name=lib
redis.register_function('put', function(keys, args) return redis.call('SET', keys[1], args[1]) end)
redis.register_function('add', function(keys) return redis.call('INCRBYFLOAT', keys[1], 1.5) end)
redis.register_function('spoil', function(keys)
  redis.call('SET', keys[1], 'new')
  local n = redis.call('INCR', keys[1])
  return n
end)
redis.register_function{function_name='all', flags={'atomic-errors'}, callback=function(keys)
  redis.call('SET', keys[1], 'new')
  local n = redis.call('INCR', keys[1])
  return n
end}
"""
ALL = LIBRARY.replace(", flags={'atomic-errors'}", "")  # for a server that has no such flag
OTHER = "#!lua name=other\nredis.register_function('other', function() return 1 end)"
CHECKS = """
'get'; 'get', 'mine:a'; 'get', 'a'; 'set', 'mine:a', 'x'; 'set', 'a', 'x'; 'mget', 'mine:a', 'a'; 'GET', 'mine:a'
'config', 'get'; 'config', 'get', 'x'; 'config'; 'config', 'nonsense'; 'nonsense'; 'publish', 'news', 'x'
'publish', 'olds', 'x'; 'object', 'encoding', 'mine:a'; 'object', 'encoding', 'a'; 'ping'; 'auth', 'x'; 1
'eval', 'return 1', 1, 'mine:a'; 'eval', 'return 1', 1, 'a'; 'xread', 'streams', 'mine:a', 0; 'flushall'
""".replace("\n", ";")


@pytest.mark.redis
def test_scripts_ask_what_their_user_may_do_as_in_redis(redis_server: Address) -> None:
    with Pair(redis_server) as pair:
        try:
            rules = ("~mine:*", "resetchannels", "&news", "+@all", "-set", "-config", "+config|get", "-flushall")
            pair("ACL", "SETUSER", "app", "on", ">p", *rules)
            pair("AUTH", "app", "p", via=1)
            for check in filter(None, map(str.strip, CHECKS.split(";"))):
                script = f"return {{redis.acl_check_cmd({check})}}"
                pair("EVAL", script, 0, via=1)
                pair("EVAL", script, 0)
        finally:
            pair("ACL", "DELUSER", "app")


@pytest.mark.redis
def test_a_function_may_do_what_its_caller_may(redis_server: Address) -> None:
    with Pair(redis_server) as pair:
        pair("FUNCTION", "FLUSH")
        pair("FUNCTION", "LOAD", ALL)
        try:
            pair("ACL", "SETUSER", "app", "on", ">p", "~mine:*", "+@all", "-incr", "-function", "+function|list")
            pair("AUTH", "app", "p", via=1)
            for words in (
                ("FCALL", "put", 1, "mine:a", "v"), ("FCALL", "put", 1, "a", "v"), ("FCALL", "spoil", 1, "mine:a"),
                ("FUNCTION", "FLUSH"), ("FUNCTION", "LOAD", OTHER), ("FCALL_RO", "put", 1, "mine:a", "v"),
                ("GET", "mine:a"),
            ):  # fmt: skip
                pair(*words, via=1)
            pair("ACL", "SETUSER", "app", "-@scripting")
            pair("FCALL", "put", 1, "mine:a", "v", via=1)
            pair.check_state()
        finally:
            pair("ACL", "DELUSER", "app")
            pair("FUNCTION", "FLUSH")


def test_the_first_error_undoes_a_function_that_says_so() -> None:
    local = Local()
    local("FUNCTION", "LOAD", LIBRARY)
    logged = len(local.log)
    text = local.raw("FCALL", "all", 1, "k")
    assert text.startswith(b"-EXECABORT Script undone because of an error in its command 2 ('incr'): ERR value is not")
    assert local("GET", "k") is None and len(local.log) == logged
    assert local.raw("FCALL", "spoil", 1, "k").startswith(b"-ERR value is not an integer")
    assert local("GET", "k") == b"new"
    local("DEL", "k")
    local("EVENTDB.ATOMIC", "ON")
    assert local.raw("FCALL", "spoil", 1, "k").startswith(b"-EXECABORT Script undone")
    assert local.raw(
        "EVAL", "#!lua flags=atomic-errors\nredis.call('SET', 'k', 1) return redis.call('X')", 0
    ).startswith(b"-EXECABORT Script undone because of an error in its command 2")
    assert local("GET", "k") is None
    local.check_replay()


def test_libraries_come_back_when_what_changed_them_is_undone() -> None:
    local = Local()
    local("CONFIG", "SET", "atomic-errors", "yes")
    local("FUNCTION", "LOAD", LIBRARY)
    local("SET", "k", "text")
    before, logged = local.engine.digest(), len(local.log)
    for changes in ([("LOAD", OTHER)], [("DELETE", "lib")], [("FLUSH",), ("LOAD", OTHER)]):
        local("MULTI")
        for change in changes:
            local("FUNCTION", *change)
        local("INCR", "k")
        assert local.raw("EXEC").startswith(b"-EXECABORT")
        assert local.engine.digest() == before and len(local.log) == logged
        assert local.raw("FCALL", "other", 0) == b"-ERR Function not found\r\n"
        assert local("FCALL", "put", 1, "p", "v") == b"OK" and local("DEL", "p") == 1
        logged = len(local.log)
    local.check_replay()


def test_a_token_runs_a_function_once() -> None:
    local = Local()
    local(
        "FUNCTION",
        "LOAD",
        "#!lua name=n\nredis.register_function('n', function(k) return redis.call('INCR', k[1]) end)",
    )
    for _ in range(2):
        assert local("EVENTDB.ONCE", "t", "FCALL", "n", 1, "k") == 1
        assert local("EVENTDB.ONCE", "e", "EVAL", "return {redis.call('GET', KEYS[1]), false}", 1, "k") == [b"1", None]
        assert local("EVENTDB.ONCE", "l", "FUNCTION", "LOAD", OTHER) == b"other"
    assert local("EVENTDB.OUTCOME", "t")[0] == b"applied"  # type: ignore[index]
    assert [event[0] for event in local.events()].count(b"INCR") + [e[0] for e in local.events()].count(b"SET") == 1
    assert [event[1] for event in local.events() if event[0] == b"LIBRARY"] == [b"SET", b"SET"]
    local.check_replay()


def test_a_token_brings_no_command_past_a_busy_script() -> None:
    beside = Beside("EVENTDB.ONCE t DISCARD", "EVENTDB.ONCE t SET k v", "EVENTDB.ONCE t WATCH k", "SCRIPT KILL")
    assert b"Script killed" in beside.local.raw("EVAL", "while true do end", 0)
    assert beside.answers[1] == BUSY and all(answer[:1] == b"-" for answer in beside.answers[:3])
    assert beside.local.log == [] and beside.local("EVAL", "return 1", 0) == 1


def test_messages_and_watches_of_a_script_that_is_undone_meet_no_one_who_is_answered_meanwhile() -> None:
    beside = Beside("PING", "WATCH k", "PING", "UNWATCH", "PING")
    local = beside.local
    local("CONFIG", "SET", "script-time-limit", 300)
    local("EVENTDB.ATOMIC", "ON")
    local("SUBSCRIBE", "c", client=(listener := local.connect()))
    local.take(listener)
    script = "redis.call('PUBLISH', 'c', 'm') while true do redis.call('SET', 'k', 1) end"
    assert local.raw("EVAL", script, 0).startswith(b"-EXECABORT Script undone")
    assert beside.answers == [BUSY, b"+OK\r\n", BUSY, b"+OK\r\n", BUSY]
    assert local.take(listener) == b"" and local.log == []
    assert local.engine.store.watching.watches == {}
    assert local("PUBLISH", "c", "m") == 1


@pytest.mark.redis
@pytest.mark.parametrize("resp3", [False, True], ids=["RESP2", "RESP3"])
def test_what_a_function_does_is_seen_and_told_as_in_redis(still_redis: Address, resp3: bool) -> None:
    with Listening(still_redis, [resp3, resp3]) as both:
        both.step(0, "FUNCTION", "FLUSH")
        both.step(0, "FUNCTION", "LOAD", ALL)
        both.step(0, "CONFIG", "SET", "notify-keyspace-events", "KEA")
        both.step(1, "PSUBSCRIBE", "__key*__:*")
        both.step(0, "FCALL", "put", 1, "k", "v")
        both.step(0, "FCALL", "spoil", 1, "k")
        both.step(0, "FCALL", "add", 1, "n")
        both.step(0, "FUNCTION", "DELETE", "lib")


def test_monitor_shows_the_call_and_what_it_runs() -> None:
    local = Local()
    local("FUNCTION", "LOAD", LIBRARY)
    local("MONITOR", client=(monitor := local.connect()))
    local.take(monitor)
    local("FCALL", "put", 1, "k", "v")
    local.turn()
    monitor.flush()
    lines = local.take(monitor).split(b"\r\n")
    assert [line.partition(b"] ")[2] for line in lines[:2]] == [b'"FCALL" "put" "1" "k" "v"', b'"SET" "k" "v"']
    assert b" lua] " in lines[1]


def test_a_reload_takes_libraries_over_and_they_are_compiled_anew() -> None:
    local, other = Local(), Local()
    for one in (local, other):
        one("FUNCTION", "LOAD", LIBRARY)
        assert one("FCALL", "put", 1, "k", "v") == b"OK"
    loaded = other.engine.store.keyspace
    assert put_in_place(loaded, local.engine.store.keyspace) == ""
    assert local.engine.store.keyspace.libraries.code is loaded.libraries.code
    assert local("FCALL", "put", 1, "k", "w") == b"OK"
    assert put_in_place(Local().engine.store.keyspace, local.engine.store.keyspace) != ""


def test_a_state_as_before_the_first_event_has_no_library() -> None:
    local = Local(config=Config())
    local("FUNCTION", "LOAD", LIBRARY)
    local("FLUSHALL")
    assert local("FUNCTION", "LIST") != []
    local.engine.reset_state()
    assert local.engine.digest() == Keyspace().digest() and local("FUNCTION", "LIST") == []
