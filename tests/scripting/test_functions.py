"""Functions answer as a real Redis's do, to the byte: what loads, what they see, what DUMP carries; what they log."""

from __future__ import annotations

import struct
from pathlib import Path

import hiredis
import pytest

from eventdb.engine.settings import Config
from eventdb.protocol.requests import split_arguments
from eventdb.rdb.crc64 import crc64
from eventdb.rdb.functions import PayloadError, dump, load
from tests.kit.differential import Address, Pair, Rule, split
from tests.kit.harness import Local
from tests.scripting.test_scripts import SCRIPTS

HEADER = "#!lua name=lib\n"
A = (
    "#!lua name=a\nredis.register_function{function_name='fa', flags={'no-writes'},"
    " callback=function(k, a) return {#k, a[1]} end}"
)
B = "#!lua name=b\nredis.register_function('fb', function(k, a) return redis.call('SET', 'b', 1) end)"
TAKEN = "#!lua name=c\nredis.register_function('FA', function() return 1 end)"


def payload(body: bytes, version: int = 10) -> bytes:
    head = body + struct.pack("<H", version)
    return head + struct.pack("<Q", crc64(head))


ARGUMENTS = {
    b"$a": A.encode(),
    b"$b": B.encode(),
    b"$taken": TAKEN.encode(),
    b"$broken": b"#!lua name=a\nfoo(",
    b"$dump": dump([A.encode(), B.encode()]),
    b"$one": dump([A.encode()]),
    b"$double": dump([A.encode(), A.encode()]),
    b"$spoiled": dump([A.encode()])[:-1] + b"x",
    b"$later": payload(b"", 11),
    b"$other": payload(b"\x00\x05hello"),
    b"$cut": payload(b"\xf5\x40\x40hello"),
    b"$empty": payload(b"", 9),
}


def corpus() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in Path(__file__).with_name("functions.txt").read_text().splitlines()[1:]:
        if line.startswith("["):
            group = found.setdefault(line.strip("[]"), [])
        else:
            group.append(line)
    return found


CORPUS = corpus()


def unescaped(line: str) -> str:
    return line.replace("\\n", "\n").replace("\\r", "\r")


def same_libraries(theirs: bytes, ours: bytes) -> bool:
    """FUNCTION's replies: Redis lists libraries and functions by their hashes, eventdb as they came."""
    return shape(theirs) == shape(ours)


def shape(raw: bytes) -> object:
    head, items = split(raw)
    return (head, sorted(repr(shape(item)) for item in items)) if items else raw


RULES: dict[bytes, Rule] = {b"FUNCTION": same_libraries, b"EXEC": same_libraries}


def run(pair: Pair, code: str) -> None:
    pair("FLUSHALL")
    pair("FUNCTION", "FLUSH")
    pair("SET", "s", "text")
    pair("HSET", "h", "f", "v")
    pair("FUNCTION", "LOAD", code)
    pair("FUNCTION", "LIST", "WITHCODE")
    pair("FCALL", "f", 1, "k1", "a1", "a2")
    pair("FCALL", "F", 0)
    pair("FCALL_RO", "f", 1, "k1", "a1")
    pair.check_state()


@pytest.mark.redis
@pytest.mark.parametrize("resp3", [False, True], ids=["RESP2", "RESP3"])
@pytest.mark.parametrize("group", ["HEADERS", "LOADING", "CALLS"])
def test_libraries_load_and_answer_as_redis_does(redis_server: Address, group: str, resp3: bool) -> None:
    wrong = []
    with Pair(redis_server, resp3, RULES) as pair:
        for line in CORPUS[group]:
            try:
                run(pair, ("" if group == "HEADERS" else HEADER) + unescaped(line))
            except AssertionError as failure:
                wrong.append(line + "\n" + "\n".join(str(failure).splitlines()[-3:]))
        pair("FUNCTION", "FLUSH")
    assert not wrong, f"{len(wrong)} libraries\n" + "\n\n".join(wrong)


@pytest.mark.redis
@pytest.mark.parametrize("resp3", [False, True], ids=["RESP2", "RESP3"])
def test_commands_answer_as_redis_does(redis_server: Address, resp3: bool) -> None:
    wrong = []
    with Pair(redis_server, resp3, RULES) as pair:
        pair("FUNCTION", "FLUSH")
        for line in CORPUS["COMMANDS"]:
            words = split_arguments(line.encode())
            assert words is not None, line
            try:
                pair(*(ARGUMENTS.get(word, word) for word in words))
            except AssertionError as failure:
                wrong.append("\n".join(str(failure).splitlines()[-3:]))
        pair.check_state()
        pair("FUNCTION", "FLUSH")
    assert not wrong, f"{len(wrong)} commands\n" + "\n\n".join(wrong)


@pytest.mark.redis
def test_a_dump_goes_to_redis_and_comes_back(redis_server: Address) -> None:
    codes = [
        f"#!lua name=l{n}\nredis.register_function('f{n}', function() return {n} end)" + f" --{n}" * 9**n
        for n in range(6)
    ]
    with Pair(redis_server, rules=RULES) as pair:
        pair("FUNCTION", "FLUSH")
        pair("FUNCTION", "RESTORE", dump([code.encode() for code in codes]))
        pair("FUNCTION", "LIST", "WITHCODE")
        reply = pair.wires[0].call("FUNCTION", "DUMP")  # its long strings are compressed
        theirs = reply[reply.index(b"\n") + 1 : -2]
        assert sorted(load(theirs)) == sorted(code.encode() for code in codes)
        pair("FUNCTION", "RESTORE", theirs, "FLUSH")
        pair("FUNCTION", "FLUSH")


def test_no_payload_does_more_than_fail() -> None:
    good = dump([A.encode(), B.encode() * 200])
    for cut in range(len(good)):
        with pytest.raises(PayloadError):
            load(good[:cut])
    body = b"\xf5\xc3\x06\x0c\x05aaaaaa\xe0\xff\x00"
    for i in range(len(body)):
        for value in range(0, 256, 3):
            try:
                load(payload(body[:i] + bytes([value]) + body[i + 1 :]))
            except PayloadError:
                pass


# -- what is in the log


def test_libraries_are_in_the_log_and_a_replay_has_them() -> None:
    local = Local()
    empty = local.engine.digest()
    local("FUNCTION", "LOAD", A)
    local("FUNCTION", "LOAD", B)
    local("FUNCTION", "LOAD", "REPLACE", A + " --")
    local("FUNCTION", "LOAD", "REPLACE", A + " --")  # changes nothing
    local("FUNCTION", "DELETE", "b")
    assert local.events() == [
        [b"LIBRARY", b"SET", b"a", A.encode()],
        [b"LIBRARY", b"SET", b"b", B.encode()],
        [b"LIBRARY", b"SET", b"a", A.encode() + b" --"],
        [b"LIBRARY", b"DELETE", b"b"],
    ]
    assert local.engine.digest() != empty
    local.check_replay()
    replica = Local()
    replica.engine.apply(local.transactions())  # type: ignore[arg-type]
    assert replica("FCALL", "fa", 0, "x") == [0, b"x"]
    assert replica.raw("FUNCTION", "LIST", "WITHCODE") == local.raw("FUNCTION", "LIST", "WITHCODE")
    local("FUNCTION", "FLUSH")
    local("FUNCTION", "FLUSH")
    assert local.events()[4:] == [[b"LIBRARY", b"FLUSH"]]
    assert local.engine.digest() == empty
    local.check_replay()


def test_flushall_leaves_libraries_and_a_rebuild_forgets_them() -> None:
    local = Local()
    local("FUNCTION", "LOAD", A)
    local("FLUSHALL")
    assert local("FCALL", "fa", 0, "x") == [0, b"x"]
    local.check_replay()
    local.engine.reset_state()
    assert local("FUNCTION", "LIST") == []
    assert local.raw("FCALL", "fa", 0) == b"-ERR Function not found\r\n"


def test_a_restore_is_one_transaction() -> None:
    local = Local()
    local("FUNCTION", "LOAD", TAKEN)
    local("FUNCTION", "RESTORE", ARGUMENTS[b"$dump"], "FLUSH")
    assert [event[:3] for event in local.transactions()[1][1:]] == [  # type: ignore[index]
        [b"LIBRARY", b"FLUSH"], [b"LIBRARY", b"SET", b"a"], [b"LIBRARY", b"SET", b"b"],
    ]  # fmt: skip
    local.check_replay()


def test_the_writes_of_a_function_are_one_transaction() -> None:
    local = Local()
    code = "redis.call('SET', k[1], a[1]) redis.call('INCR', 'n') redis.call('SELECT', 2)"
    code += " return redis.call('SET', 'x', 1)"
    local("FUNCTION", "LOAD", f"{HEADER}redis.register_function('f', function(k, a) {code} end)")
    assert local("FCALL", "f", 1, "k", "v") == b"OK"
    assert len(local.transactions()) == 2
    assert local.events()[1:] == [[b"SET", b"k", b"v"], [b"SET", b"n", b"1"], [b"SELECT", b"2"], [b"SET", b"x", b"1"]]
    local.check_replay()


def test_functions_are_compiled_anew_when_the_interpreter_is() -> None:
    local = Local()
    counting = f"{HEADER}local n = 0 redis.register_function('f', function() n = n + 1 return n end)"
    local("FUNCTION", "LOAD", counting)
    assert [local("FCALL", "f", 0) for _ in range(2)] == [1, 2]
    local("FUNCTION", "LOAD", A)
    assert local("FCALL", "f", 0) == 3  # what has not changed is not compiled again
    local("SCRIPT", "FLUSH")
    assert local("FCALL", "f", 0) == 1


def test_globals_of_functions_and_scripts_are_apart() -> None:
    local = Local()
    local("FUNCTION", "LOAD", f"{HEADER}redis.register_function('f', function() return KEYS end)")
    assert local("EVAL", "return KEYS[1]", 1, "k") == b"k"
    assert b"nonexistent global variable 'KEYS'" in local.raw("FCALL", "f", 0)
    assert local("EVAL", "return #KEYS", 2, "a", "b") == 2


def test_a_function_that_does_not_fit_its_flags_is_refused() -> None:
    config = Config()
    config.set("cluster-enabled", "yes")
    local = Local(config=config)
    crossing = "redis.call('SET', 'a', 1) redis.call('SET', 'b', 1)"
    for name, flags in (("f", ""), ("g", "'allow-cross-slot-keys'"), ("h", "'no-cluster'")):
        local(
            "FUNCTION", "LOAD",
            f"#!lua name=l{name}\nredis.register_function{{function_name='{name}', flags={{{flags}}},"
            f" callback=function() {crossing} return 1 end}}",
        )  # fmt: skip
    assert b"keys that do not hash to the same slot" in local.raw("FCALL", "f", 0)
    assert local("FCALL", "g", 0) == 1
    assert local.raw("FCALL", "h", 0) == b"-ERR Can not run script on cluster, 'no-cluster' flag is set.\r\n"
    assert b"same slot" in local.raw("EVAL", f"#!lua\n{crossing}", 0)
    assert local("EVAL", f"{crossing} return 1", 0) == 1  # an old script says nothing


@pytest.mark.redis
def test_memory_is_asked_for_as_redis_asks(redis_server: Address) -> None:
    with Pair(redis_server, rules=RULES) as pair:
        pair("FUNCTION", "FLUSH")
        pair("FUNCTION", "LOAD", A)
        pair("FUNCTION", "LOAD", B)
        pair("FUNCTION", "LOAD", "#!lua name=o\nredis.register_function{function_name='fo', flags={'allow-oom'},"
             " callback=function() return redis.call('set', 'a', 'b') end}")  # fmt: skip
        pair("CONFIG", "SET", "maxmemory", 1)
        try:
            for words in (
                ("FCALL", "fa", 0), ("FCALL", "fb", 0), ("FCALL", "fo", 0), ("FUNCTION", "LOAD", TAKEN),
                ("FUNCTION", "RESTORE", ARGUMENTS[b"$dump"]), ("EVAL", "#!lua\nreturn 1", 0),
                ("EVAL", "#!lua flags=no-writes\nreturn 1", 0), ("EVAL", "return 1", 0),
                ("EVAL", "#!lua flags=allow-oom\nreturn redis.call('set', 'a', 'b')", 0),
                ("EVAL", "return redis.call('set', 'a', 'b')", 0), ("FUNCTION", "DELETE", "b"),
            ):  # fmt: skip
                pair(*words)
        finally:
            pair("CONFIG", "SET", "maxmemory", 0)
            pair("FUNCTION", "FLUSH")


@pytest.mark.parametrize("script", SCRIPTS["ESCAPES"])
def test_a_hostile_function_ends_in_an_error_or_an_answer_and_the_next_one_runs(script: str) -> None:
    local = Local()
    local("FUNCTION", "LOAD", A)
    loaded = local.raw("FUNCTION", "LOAD", f"{HEADER}redis.register_function('f', function() {script} end)")
    answers = [loaded, local.raw("FCALL", "f", 0), local.raw("FUNCTION", "LOAD", f"#!lua name=top\n{script}")]
    for answer in answers:
        assert answer[:1] in b"+-:$*", answer
        assert b"python" not in answer.lower() and b"lupa" not in answer.lower()
    assert local("FCALL", "fa", 0, "x") == [0, b"x"]
    assert local("EVAL", "return {type(string.rep), #KEYS}", 0) == [b"function", 0]
    local.check_replay()


def test_what_a_library_costs_is_in_info() -> None:
    local = Local()
    local("FUNCTION", "LOAD", A)
    reader = hiredis.Reader()
    reader.feed(local.raw("INFO", "memory"))
    text = reader.gets()
    assert isinstance(text, bytes)
    assert b"number_of_functions:1\r\n" in text and b"number_of_libraries:1\r\n" in text
