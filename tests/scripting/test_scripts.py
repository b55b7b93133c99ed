"""Scripts answer as a real Redis's do, to the byte: conversions, errors, libraries, the sandbox; and what they log."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from eventdb.scripting.lua import Lua
from tests.kit.differential import Address, Pair, Wire
from tests.kit.harness import Local


def scripts() -> dict[str, list[str]]:
    """The groups of scripts.txt."""
    found: dict[str, list[str]] = {}
    for line in Path(__file__).with_name("scripts.txt").read_text().splitlines()[1:]:
        if line.startswith("["):
            group = found.setdefault(line.strip("[]"), [])
        else:
            group.append(line.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\"))
    return found


SCRIPTS = scripts()


def run(pair: Pair, script: str) -> None:
    pair("FLUSHALL")
    for line in ("SET s text", "SET n 5", "RPUSH l 3 1 2", "HSET h f v", "SADD a x", "ZADD z 1.5 m"):
        pair(*line.split())
    pair("EVAL", script, 2, "k1", "k2", "a1", "a2")
    pair.check_state()


@pytest.mark.redis
@pytest.mark.parametrize("resp3", [False, True], ids=["RESP2", "RESP3"])
@pytest.mark.parametrize("group", ["VALUES", "CALLS", "ERRORS", "LIBRARIES"])
def test_scripts_answer_as_redis_does(redis_server: Address, group: str, resp3: bool) -> None:
    wrong = []
    with Pair(redis_server, resp3) as pair:
        for script in SCRIPTS[group]:
            try:
                run(pair, script)
            except AssertionError as failure:
                wrong.append("\n".join(str(failure).splitlines()[-3:]))
    assert not wrong, f"{len(wrong)} scripts\n" + "\n\n".join(wrong)


# -- what a script leaves in the log


def test_the_writes_of_a_script_are_one_transaction() -> None:
    local = Local()
    script = "redis.call('SET',KEYS[1],ARGV[1]) redis.call('INCR','n') redis.call('SELECT',2) redis.call('SET','x',1)"
    assert local("EVAL", script, 1, "k", "v") is None
    assert len(local.transactions()) == 1
    assert local.events() == [[b"SET", b"k", b"v"], [b"SET", b"n", b"1"], [b"SELECT", b"2"], [b"SET", b"x", b"1"]]
    local.check_replay()


def test_what_a_script_wrote_before_its_error_stays_and_is_logged() -> None:
    local = Local()
    assert local.raw("EVAL", "redis.call('SET','k','v') error('stop')", 0).startswith(b"-ERR user_script:1: stop")
    assert local.events() == [[b"SET", b"k", b"v"]]
    local.check_replay()


def test_scripts_in_multi_join_its_transaction() -> None:
    local = Local()
    client = local.connect()
    for argv in (("MULTI",), ("SET", "a", "1"), ("EVAL", "return redis.call('INCR','a')", "1", "a"), ("EXEC",)):
        last = local(*argv, client=client)
    assert last == [b"OK", 2]
    assert len(local.transactions()) == 1


def test_a_script_wakes_who_waits_and_publishes_when_it_is_durable() -> None:
    local = Local()
    waiting, listening = local.connect(), local.connect()
    local("BLPOP", "l", "0", client=waiting)
    local("SUBSCRIBE", "c", client=listening)
    local("EVAL", "redis.call('RPUSH','l','x') redis.call('PUBLISH','c','m')", 0)
    local.turn()
    assert local.take(waiting) == b"*2\r\n$1\r\nl\r\n$1\r\nx\r\n"
    assert local.take(listening).endswith(b"$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n")


def test_scripts_are_known_by_their_digest() -> None:
    local = Local()
    digest = local("SCRIPT", "LOAD", "return ARGV[1]")
    assert isinstance(digest, bytes)
    assert local("EVALSHA", digest.upper(), 0, "x") == b"x"
    assert local("SCRIPT", "EXISTS", digest, "0" * 40) == [1, 0]
    assert local("SCRIPT", "FLUSH") == b"OK"
    assert local.raw("EVALSHA", digest, 0).startswith(b"-NOSCRIPT")


@pytest.mark.parametrize("command", ["EVAL_RO", "EVALSHA_RO"])
def test_a_script_that_may_only_read_writes_nothing(command: str) -> None:
    local = Local()
    script = "return redis.call('SET','k','v')"
    first = local("SCRIPT", "LOAD", script) if command == "EVALSHA_RO" else script
    assert local.raw(command, first, 0).startswith(b"-ERR Write commands are not allowed from read-only scripts.")  # type: ignore[arg-type]
    assert local.events() == []


# -- nothing gets out, and nothing stays


@pytest.mark.parametrize("script", SCRIPTS["ESCAPES"])
def test_a_hostile_script_ends_in_an_error_or_an_answer_and_the_next_one_runs(script: str) -> None:
    local = Local()
    answer = local.raw("EVAL", script, 0)
    assert answer[:1] in b"+-:$*", answer
    assert b"python" not in answer.lower() and b"lupa" not in answer.lower()
    assert local("EVAL", "return {type(string.rep), #KEYS}", 0) == [b"function", 0]


def lua_of(local: Local) -> Lua:
    assert local("EVAL", "return 1", 0) == 1
    assert isinstance(local.engine.interpreter, Lua)
    return local.engine.interpreter


@pytest.mark.parametrize(
    "script",
    [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "coroutine.wrap(function() while true do end end)()",
        "local function f() return f() end return f()",
    ],
)
def test_a_script_that_does_not_end_is_stopped(script: str) -> None:
    local = Local()
    local("CONFIG", "SET", "script-time-limit", 50)
    assert b"Script stopped: it ran for longer than script-time-limit, 50 ms." in local.raw("EVAL", script, 0)
    assert local("EVAL", "return 2", 0) == 2


def test_a_value_that_does_not_fit_into_the_memory_of_scripts_is_an_error_and_no_hang() -> None:
    local = Local()
    local("SET", "big", b"x" * (70 << 20))
    local("SET", "half", b"x" * (40 << 20))
    assert local.raw("EVAL", "return #redis.call('GET', 'big')", 0).startswith(b"-ERR not enough memory")
    keep = "local t = {} for i = 1, 9 do t[i] = redis.call('GET', 'half') .. i end return #t"
    assert local.raw("EVAL", keep, 0).startswith(b"-ERR not enough memory")
    assert local.raw("EVAL", "return #ARGV[1]", 0, b"x" * (65 << 20)).startswith(b"-ERR the arguments")
    assert local("EVAL", "return #redis.call('GET', 'half')", 0) == 40 << 20


def test_what_scripts_leave_behind_is_cleared_when_it_is_too_much() -> None:
    local = Local()
    local(
        "EVAL", "table.insert(table, string.rep('x', 70 * 1024 * 1024)) return 1", 0
    )  # into the read-only proxy itself
    first = lua_of(local).memory_bytes()
    assert first < 64 << 20


@pytest.mark.redis
@pytest.mark.parametrize("digest", ["x", "f" * 39, "f" * 40])
def test_what_is_no_digest_is_told_before_the_number_of_keys(redis_server: Address, digest: str) -> None:
    with Pair(redis_server) as pair:
        for count in ("x", "-1", "2", "0"):
            pair("EVALSHA", digest, count)
            pair("EVALSHA_RO", digest, count)


# What Lua's own functions refuse: Redis's place and name, and no line of what stands between them and a script.
REFUSALS = """
unpack() unpack(1) unpack({},'a') unpack({},1,{}) unpack({1},0,1e9) pairs() pairs(1) next() next(1) next({},'q')
rawget() rawget(1,2) rawget({}) rawset() rawset(1,2,3) rawset({},1) rawset({},nil,1) setmetatable() setmetatable(1,{})
setmetatable({},1) setmetatable({}) setmetatable(_G,{}) setmetatable(setmetatable({},{__metatable=1}),{})
getmetatable() string.find() string.find('a') string.find('a','[') string.match('a','%') string.gsub('a')
string.gsub('a','a') string.gsub('a','(','b') string.gsub('a','a','%2') string.gsub('a','a',function()error('x')end)
string.gsub('a','a',function()error({err='x'})end) string.gsub('a','a',function()return{}end) string.gmatch()
string.gmatch('a') string.gsub('a','(',function()end) ('a'):rep({}) string.format('%d','x') table.concat({{}})
math.random(0) math.random({}) math.randomseed() loadstring() loadstring({}) loadstring('x') load() load(1) xpcall()
xpcall(1) coroutine.create() coroutine.create(1) coroutine.wrap(1) coroutine.wrap(function()error('x')end)()
coroutine.wrap(function()error({err='x'})end)() coroutine.resume(1) ipairs() select(0) tonumber('1',99) error('x',2)
assert(false)
"""


@pytest.mark.redis
def test_what_lua_refuses_names_the_script_and_nothing_of_ours(redis_server: Address) -> None:
    with Pair(redis_server) as pair:
        for called in REFUSALS.split():
            pair("EVAL", f"\nreturn {{pcall(function() local a = {called} return a end)}}", 0)
            pair("EVAL", f"local a = {called}\nreturn 1", 0)


@pytest.mark.redis
def test_unpack_gives_as_many_values_as_in_redis(redis_server: Address) -> None:
    with Pair(redis_server) as pair:
        for count, arguments in ((7999, ""), (8000, ""), (7998, ",1"), (7999, ",1"), (7997, ",1,7997")):
            filled = f"local t = {{}} for i = 1, {count} do t[i] = i end"
            pair("EVAL", f"{filled} local n = select('#', unpack(t{arguments})) return n", 0)
        filled = "local t = {} for i = 1, 7999 do t[i] = i end"
        for function in ("call", "pcall"):
            pair("EVAL", f"{filled} return redis.{function}('RPUSH', KEYS[1], unpack(t))", 1, "l")
            pair("EVAL", f"{filled} return redis.{function}('RPUSH', KEYS[1], nil, unpack(t, 2))", 1, "l")
        pair.check_state()


@pytest.mark.redis
@pytest.mark.parametrize(
    "script",
    [
        "local a = {} local b = {a} a[1] = b return a",
        "redis.setresp(3) local a = {} local b = {map = {x = a}} a[1] = b return a",
        "redis.setresp(3) local a = {} local b = {set = {}} b.set[a] = true a[1] = b return a",
        "local b = 1 for i = 1, 7994 do b = {b} end return b",
        "local b = 1 for i = 1, 7995 do b = {b} end return b",
    ],
)
def test_a_reply_as_deep_as_redis_makes_it_ends_in_its_error(redis_server: Address, script: str) -> None:
    local = Local()
    with closing(Wire(redis_server)) as wire:
        wire.send("EVAL", script, 0)
        wire.send("PING")
        found = b""
        while not found.endswith(b"+PONG\r\n"):
            found += wire.file.readline()
    assert local.raw("EVAL", script, 0) + b"+PONG\r\n" == found


@pytest.mark.redis
def test_the_metatable_of_the_globals_is_read_only(redis_server: Address) -> None:
    with Pair(redis_server) as pair:
        pair("EVAL", "local m = getmetatable(_G) m.__index = {}", 0)


@pytest.mark.redis
def test_what_others_notice_is_refused_to_a_script_that_may_only_read(redis_server: Address) -> None:
    with Pair(redis_server) as pair:
        for call in ("'PUBLISH', 'a', 'b'", "'SPUBLISH', 'a', 'b'", "'PFCOUNT', 'h'", "'SET', 'a', 'b'", "'GET', 'a'"):
            pair("EVAL_RO", f"return redis.call({call})", 0)
            pair("EVAL", f"#!lua flags=no-writes\nreturn redis.pcall({call})", 0)
        pair.check_state()
