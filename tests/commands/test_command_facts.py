"""COMMAND INFO, COUNT, LIST, DOCS, GETKEYS: the facts of every command are those of a real Redis 7.0."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import hiredis
import pytest

from eventdb import commands
from eventdb.commands.server.introspection import find, usage
from eventdb.engine.keyspecs import specs_of
from eventdb.engine.registry import COMMANDS
from tests.kit.differential import Address, Wire, split
from tests.kit.harness import Local

commands.load()
ALL = [one for command in COMMANDS.values() for one in (command, *command.subcommands.values())]
# Commands of later Redis versions; those that start with "eventdb." are eventdb's own.
NEW = {command.name for command in ALL if tuple(map(int, command.since.split("."))) >= (7, 2)}
ELSEWHERE = (
    "eventdb.",
    "sentinel",
)  # Redis knows SENTINEL only as a Sentinel: test_sentinel.py compares

# Deliberate differences: name, what differs, theirs, ours. Nothing else may differ.
DIFFERENT: dict[tuple[str, str], tuple[Any, Any]] = {
    ("zrank", "arity"): (3, -3),  # WITHSCORE, of Redis 7.2
    ("zrevrank", "arity"): (3, -3),
}


def decoded(raw: bytes) -> Any:
    reader = hiredis.Reader(encoding="utf-8")
    reader.feed(raw)
    return reader.gets()


def flat(info: list[Any]) -> dict[str, dict[str, Any]]:
    """COMMAND INFO by full name, subcommands beside their parents."""
    found: dict[str, dict[str, Any]] = {}
    for name, arity, flags, first, last, step, categories, tips, specs, children in info:
        found[name] = {
            "arity": arity,
            "flags": set(flags),
            "keys": (first, last, step),
            "categories": categories,  # in the order of redis, which programs show
            "tips": set(tips),
            "specs": [comparable(spec) for spec in specs],
            "subcommands": {child[0] for child in children},
        }
        found.update(flat(children))
    return found


def comparable(spec: list[Any]) -> Any:
    pairs = dict(zip(spec[::2], spec[1::2], strict=True))
    pairs["notes"] = bool(pairs.get("notes"))  # the words are our own
    pairs["flags"] = sorted(pairs["flags"])
    return pairs


@pytest.mark.redis
def test_every_command_has_the_facts_of_redis(redis_server: Address) -> None:
    with closing(Wire(redis_server)) as wire:
        theirs, ours = flat(decoded(wire.call("COMMAND"))), flat(decoded(Local().raw("COMMAND")))
    wrong = []
    for name, facts in ours.items():
        if name in NEW or name.startswith(ELSEWHERE):
            assert name not in theirs, f"{name} is in this Redis: compare it"
            continue
        if name not in theirs:
            wrong.append(f"{name}: Redis does not have it, and it is not in the table NEW")
            continue
        for fact, value in facts.items():
            other = theirs[name][fact]
            if fact == "subcommands":  # a container may have fewer; which it has is compared one by one
                missing = value - other - NEW
                if missing:
                    wrong.append(f"{name}: subcommands {missing}")
            elif (name, fact) in DIFFERENT:
                if DIFFERENT[name, fact] != (other, value):
                    wrong.append(f"{name}: {fact}: the table of differences is wrong: {other} {value}")
            elif value != other:
                wrong.append(f"{name}: {fact}\n    redis   {other}\n    eventdb {value}")
    assert not wrong, "\n".join(wrong)


def shape(raw: bytes) -> object:
    """The types of a reply and of all in it, what stands in a set in any order; strings and numbers are left out."""
    head, items = split(raw)
    inner = [shape(item) for item in items]
    return (head[:1], sorted(map(repr, inner)) if head[:1] == b"~" else inner) if items else raw[:1]


@pytest.mark.redis
def test_resp3_has_sets_where_redis_has_them(redis_server: Address) -> None:
    local = Local()
    local.client.resp3 = True
    with closing(Wire(redis_server, resp3=True)) as wire:
        for name in flat(decoded(Local().raw("COMMAND"))):
            command = find(name.encode())
            if name in NEW or name.startswith(ELSEWHERE) or command is None or command.subcommands:
                continue
            theirs, ours = wire.call("COMMAND", "INFO", name), local.raw("COMMAND", "INFO", name)
            assert shape(ours) == shape(theirs), name
        for words in ("COMMAND LIST FILTERBY PATTERN get", "COMMAND GETKEYS get a", "COMMAND GETKEYSANDFLAGS set a b"):
            assert shape(local.raw(*words.split())) == shape(wire.call(*words.split())), words
        theirs, ours = wire.call("COMMAND", "INFO", "config"), local.raw("COMMAND", "INFO", "config")
        assert split(theirs)[1][0].count(b"~") == split(ours)[1][0].count(b"~")


@pytest.mark.redis
def test_keys_are_found_where_redis_finds_them(redis_server: Address) -> None:
    calls = (
        "get a", "get", "mset a 1 b 2", "mset a 1 b", "ping x", "nope x", "zunionstore d 2 a b weights 1 2",
        "zunionstore d x a b", "zunionstore d 0 a b", "zunionstore d 3 a b", "lmpop 2 a b left", "set a b get",
        "set a b", "set a b ex 10 get", "lmove a b left right", "config get a", "object encoding k", "object foo k",
        "memory usage k", "subscribe a", "ssubscribe a", "blpop a b 0", "rename a b", "sintercard 2 a b limit 1",
        "zadd z 1 m", "sdiffstore d a b", "bzmpop 0 1 a min", "watch a b c", "del a b", "copy a b", "spublish a b",
        "object help x", "config nope x", "eval x 0", "evalsha x 0", "eval_ro x 0", "fcall x 0", "fcall_ro x 0",
        "eval x -1", "eval x 5 a", "eval x abc", "xread count 1 x", "zunion 0 a",
    )  # fmt: skip
    for resp3 in (False, True):
        local = Local()
        local.client.resp3 = resp3
        with closing(Wire(redis_server, resp3)) as wire:
            for call in calls:
                for kind in ("GETKEYS", "GETKEYSANDFLAGS"):
                    words = ("COMMAND", kind, *call.split())
                    assert local.raw(*words) == wire.call(*words), words


@pytest.mark.redis
@pytest.mark.parametrize(
    "call",
    [
        "COMMAND LIST FILTERBY", "COMMAND LIST FILTERBY FOO x", "COMMAND LIST FOO", "COMMAND COUNT x", "COMMAND FOO",
        "COMMAND LIST FILTERBY ACLCAT nope", "COMMAND LIST FILTERBY ACLCAT @read", "COMMAND LIST FILTERBY MODULE x",
        "COMMAND LIST FILTERBY PATTERN nope*", "COMMAND INFO nope", "COMMAND INFO config|nope", "COMMAND DOCS nope",
        "COMMAND GETKEYS", "COMMAND GETKEYS get",
    ],
)  # fmt: skip
def test_command_answers_as_redis_does(redis_server: Address, call: str) -> None:
    for resp3 in (False, True):
        local = Local()
        local.client.resp3 = resp3
        with closing(Wire(redis_server, resp3)) as wire:
            assert local.raw(*call.split()) == wire.call(*call.split())


def test_info_has_the_shape_that_redis_gives_it() -> None:
    local = Local()
    assert decoded(local.raw("COMMAND", "INFO", "get", "nope", "config|get")) == [
        ["get", 2, ["readonly", "fast"], 1, 1, 1, ["@read", "@string", "@fast"], [],
         [["flags", ["RO", "access"], "begin_search", ["type", "index", "spec", ["index", 1]],
           "find_keys", ["type", "range", "spec", ["lastkey", 0, "keystep", 1, "limit", 0]]]], []],
        None,
        ["config|get", -3, ["admin", "noscript", "loading", "stale"], 0, 0, 0, ["@admin", "@slow", "@dangerous"],
         [], [], []],
    ]  # fmt: skip
    assert local("COMMAND", "COUNT") == len(COMMANDS) == len(local("COMMAND"))  # type: ignore[arg-type]
    assert local("COMMAND", "INFO") == local("COMMAND")


def test_docs_say_what_every_command_is_for() -> None:
    local = Local()
    found = decoded(local.raw("COMMAND", "DOCS"))
    docs = dict(zip(found[::2], found[1::2], strict=True))
    assert docs.keys() == {name.decode().lower() for name in COMMANDS}
    for name, doc in docs.items():
        facts = dict(zip(doc[::2], doc[1::2], strict=True))
        assert facts["summary"] and facts["since"] and facts["group"] and facts["complexity"], name
    assert decoded(local.raw("COMMAND", "DOCS", "config|get", "nope"))[0] == "config|get"


def documented(docs: Any, parent: str = "") -> dict[str, dict[str, Any]]:
    """COMMAND DOCS by full name, without what is told in words, and without a level for subcommands."""
    found: dict[str, dict[str, Any]] = {}
    pairs = docs.items() if isinstance(docs, dict) else zip(docs[::2], docs[1::2], strict=True)
    for name, doc in pairs:
        facts = dict(doc) if isinstance(doc, dict) else dict(zip(doc[::2], doc[1::2], strict=True))
        children = facts.pop("subcommands", [])
        for words in ("summary", "complexity", "history"):
            facts.pop(words, None)
        found[name] = facts
        found.update(documented(children))
    return found


@pytest.mark.redis
@pytest.mark.parametrize("resp3", [False, True])
def test_docs_tell_the_arguments_that_redis_tells(redis_server: Address, resp3: bool) -> None:
    """A new command: the line that arguments.json lacks stands in the failure."""
    local = Local()
    local.client.resp3 = resp3
    with closing(Wire(redis_server, resp3)) as wire:
        theirs = documented(decoded(wire.call("COMMAND", "DOCS")))
    ours = documented(decoded(local.raw("COMMAND", "DOCS")))
    known = [name for name in ours if name in theirs]
    assert len(known) > 200
    differ = [name for name in known if theirs[name] != ours[name]]
    wrong = [f"{name}:\n  redis   {theirs[name]}\n  eventdb {ours[name]}" for name in differ]
    assert not wrong, "\n".join(wrong)
    assert not usage().keys() - ours.keys(), "lines for commands that are not there"
    if not resp3:  # in RESP3 the order of sets and maps is free
        for name in ("set", "zadd", "object", "substr", "client|kill"):
            assert list(theirs[name]) == list(ours[name])


def test_list_filters_by_category_and_pattern() -> None:
    local = Local()
    everything = local("COMMAND", "LIST")
    assert b"get" in everything and b"config|get" in everything  # type: ignore[operator]
    assert sorted(local("COMMAND", "LIST", "FILTERBY", "PATTERN", "CONFIG|re*")) == [  # type: ignore[arg-type, call-overload, type-var]
        b"config|resetstat", b"config|rewrite",
    ]  # fmt: skip
    assert b"multi" in local("COMMAND", "LIST", "FILTERBY", "ACLCAT", "transaction")  # type: ignore[operator]


def test_every_command_with_keys_says_where_they_are() -> None:
    for command in COMMANDS.values():
        for one in [command, *command.subcommands.values()]:
            assert bool(one.first_key or one.find_keys) == bool(specs_of(one)), one.name
    assert find(b"config|nope") is None


def test_container_subcommands_are_counted_as_themselves() -> None:
    local = Local()
    before = COMMANDS[b"COMMAND"].calls
    local("COMMAND", "COUNT")
    assert COMMANDS[b"COMMAND"].calls == before
    assert COMMANDS[b"COMMAND"].subcommands[b"COUNT"].calls > 0
