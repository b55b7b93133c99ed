"""A table of every command × what may go wrong with it, made from the registry: no cell is empty.

Columns: documented, arity, wrong type, wrong arguments, on a replica, in MULTI, in a script, event logged. Each column
fills its cells with a word, and an empty one fails; errors are compared with a real server where that has the command.
Calls are those of tests/kit/calls.py, or the shortest that the arity allows.
"""

from __future__ import annotations

import functools
from contextlib import closing

import pytest

from eventdb import commands
from eventdb.commands.server.introspection import usage
from eventdb.engine.client import FOLLOWING
from eventdb.engine.command import IMMEDIATE, NO_MULTI, NOSCRIPT, WRITE, Command
from eventdb.engine.settings import Config
from eventdb.keyspace.types.string import is_integer
from eventdb.node.node import READONLY_TEXT
from tests.kit.calls import ALL, FILL, calls_of, library, words_of
from tests.kit.differential import Address, Wire
from tests.kit.harness import Local, StandIn

commands.load()
COLUMNS = (
    "documented", "arity", "wrong type", "wrong arguments", "on a replica", "in MULTI", "in a script", "event logged",
)  # fmt: skip
JUNK = b"junk\xff"
WRONG_TYPES = (
    b"-WRONGTYPE",
    b"-ERR Key should be of string type",
    b"-ERR The specified keys must contain string values",
)
READONLY = b"-" + READONLY_TEXT.encode() + b"\r\n"
UNTOLD = ("command|getkeys", "command|getkeysandflags", "quit")  # whose arguments Redis 7.0 does not tell either
# Not sent to the real server: it would stop, change its role or what it is for, or leave for good.
UNSENT = (
    "shutdown", "debug", "monitor", "sync", "psync", "replicaof", "slaveof", "failover", "cluster", "client|kill",
    "client|pause", "client|reply", "client|unblock", "client|tracking", "client|caching", "config|set",
    "config|rewrite", "config|resetstat", "acl", "module", "bgsave", "save", "bgrewriteaof", "lastsave", "quit",
    "reset",
    "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe", "hello", "auth", "migrate",
    "function", "fcall", "replconf", "sentinel", "eventdb.", "memory", "latency", "info", "lolwut", "role", "asking",
    "readonly", "readwrite", "script|kill", "slowlog", "pfdebug", "pfselftest", "command", "wait", "object|freq",
    "object|idletime",
)  # fmt: skip
LONGER = ("zrank", "zrevrank")  # with a fourth word, WITHSCORE, since Redis 7.2
LATER = {b"IFEQ", b"IFNE", b"DIFF", b"ACKED", b"DELREF", b"NOVALUES"}  # options that Redis 7.0 does not have
# These take a key of any type.
ANY_TYPE = """
eventdb.once
del unlink exists touch type rename renamenx copy move expire pexpire expireat pexpireat persist ttl pttl expiretime
pexpiretime watch set setex psetex setnx mset msetnx msetex mget delex object|encoding object|freq object|idletime
object|refcount memory|usage sort sort_ro eval eval_ro evalsha evalsha_ro bitop sdiffstore sinterstore sunionstore
zdiffstore zinterstore zunionstore zrangestore geosearchstore migrate dump restore restore-asking fcall fcall_ro
debug
"""
QUIET = ("acl|deluser", "eventdb.restore")  # writes whose calls change nothing: nobody is no user, no log no past
# These take arguments of any kind, or none.
ANYTHING = """
acl|deluser acl|getuser client|capa eventdb.marks eventdb.outcome
set setnx getset append mset msetnx mget echo ping publish spublish sadd srem sismember smismember lpush rpush
lpushx rpushx hset hmset hdel hget hmget hexists hstrlen hsetnx hgetall pfadd zrem zscore zmscore zrank zrevrank
lrem linsert smove geohash geopos keys command command|info command|docs pfcount pfmerge sinter sinterstore sunion
sunionstore sdiff sdiffstore xgroup|destroy delifeq del unlink exists touch watch script|exists config|get info
latency|history latency|reset latency|histogram lolwut quit subscribe unsubscribe psubscribe punsubscribe ssubscribe
sunsubscribe pubsub|channels pubsub|shardchannels pubsub|numsub pubsub|shardnumsub sentinel|get-master-addr-by-name
sentinel|reset sentinel|info-cache
"""


@functools.cache
def refused() -> frozenset[str]:
    """Commands that answer one error whatever they are given."""
    return frozenset(name for name, command in ALL.items() if command.summary.startswith("Refused"))


class Ours:
    """An engine that is brought back to the same state as often as needed."""

    def __init__(self) -> None:
        config = Config()
        config.set("enable-debug-command", "yes")
        self.local = Local(config=config)
        self.local.engine.host = StandIn(shut_down=lambda: None, fail_over=lambda *_: None, reload=lambda _: None)

    def __call__(self, *argv: bytes, before: tuple[tuple[str | bytes, ...], ...] = ()) -> bytes:
        """The reply of a client of its own, on the filled keyspace."""
        local = self.local
        local.raw("FLUSHALL")
        for line in FILL.split("\n"):
            if line:
                local.raw(*line.split())
        if b"lib" not in local.engine.store.keyspace.libraries.code:
            local.raw("FUNCTION", "LOAD", library(b"lib"))
        client = local.connect()
        for each in before:
            local.raw(*each, client=client)
        reply = local.raw(*argv, client=client)
        local.engine.unpause()
        local.engine.disconnect(client)
        return reply


class Theirs:
    """The same of a real server, over a connection of its own each time."""

    def __init__(self, address: Address) -> None:
        self.address = address
        with closing(Wire(address)) as wire:
            listed = wire.call("COMMAND", "LIST").split(b"\r\n")[2::2]
        self.names = {name.decode() for name in listed}

    def has(self, name: str) -> bool:
        return name in self.names and not name.startswith(UNSENT)

    def __call__(self, *argv: bytes, before: tuple[tuple[str | bytes, ...], ...] = ()) -> bytes:
        with closing(Wire(self.address)) as wire:
            steps: list[tuple[str | bytes, ...]] = [("FLUSHALL",)]
            steps += [tuple(line.split()) for line in FILL.split("\n") if line]
            steps += before
            for step in steps:
                wire.send(*step)
            for _ in steps:
                wire.reply()
            return wire.call(*argv)


def compared(name: str, argv: list[bytes], ours: bytes, theirs: bytes) -> list[str]:
    """Errors must be the same; other replies are compared elsewhere."""
    if ours[:1] == b"-" != theirs[:1] or theirs[:1] == b"-" != ours[:1] or (ours[:1] == b"-" and ours != theirs):
        return [f"{name}: {argv}: redis {theirs[:120]!r}, eventdb {ours[:120]!r}"]
    return []


# -- the columns: each returns its cells


def documented() -> dict[str, str]:
    cells: dict[str, str] = {}
    for name, command in ALL.items():
        told = command.summary and command.since and command.group and command.complexity
        takes_none = command.arity == len(words_of(name))
        arguments = takes_none or name in usage() or bool(command.subcommands) or name in UNTOLD
        cells[name] = "yes" if told and arguments else ""
    return cells


def arity_calls(command: Command) -> list[list[bytes]]:
    """One argument too few, and one too many."""
    words = words_of(command.name)
    least = abs(command.arity)
    found = [words + [b"x"] * (least - 1 - len(words))] if least - 1 >= len(words) else []
    if command.arity > 0:
        found.append(words + [b"x"] * (command.arity + 1 - len(words)))
    return found


def arity() -> dict[str, str]:
    ours = Ours()
    cells: dict[str, str] = {}
    for name, command in ALL.items():
        tried = arity_calls(command)
        text = b"wrong number of arguments for '%b' command\r\n" % name.encode()
        failed = [argv for argv in tried if not ours(*argv).endswith(text)]
        cells[name] = "" if failed else "refused" if tried else "any number"
    return cells


def wrong_types(name: str) -> list[tuple[list[bytes], tuple[tuple[str | bytes, ...], ...]]]:
    """Calls, and what to do before: each of the keys in turn holds what the command is not for."""
    found: list[tuple[list[bytes], tuple[tuple[str | bytes, ...], ...]]] = []
    command = ALL[name]
    for argv in calls_of()[name]:
        for key in dict.fromkeys(command.keys(argv)) if command.has_keys else ():
            of_strings = command.group in ("string", "bitmap") or name == "pfdebug"
            wrong: tuple[str | bytes, ...] = ("RPUSH", key, "x") if of_strings else ("SET", key, "x")
            found.append((argv, (("DEL", key), wrong)))
    return found


def wrong_type() -> dict[str, str]:
    ours = Ours()
    cells: dict[str, str] = {}
    for name, command in ALL.items():
        replies = [ours(*argv, before=before) for argv, before in wrong_types(name)]
        if any(reply.startswith(WRONG_TYPES) for reply in replies):
            cells[name] = "WRONGTYPE"
        elif name in ANY_TYPE.split():
            cells[name] = "any type"
        else:
            cells[name] = "" if command.has_keys and name not in refused() and "ubscribe" not in name else "no key"
    cells["spublish"] = "no key"
    return cells


def wrong_arguments_of(name: str) -> list[list[bytes]]:
    """Each argument that is no key replaced by junk in turn, and one more at the end."""
    found: list[list[bytes]] = []
    command = ALL[name]
    for argv in calls_of()[name]:
        keys = command.keys(argv) if command.has_keys else []
        for at in range(len(words_of(name)), len(argv)):
            if argv[at] not in keys or is_integer(argv[at]):
                found.append([*argv[:at], JUNK, *argv[at + 1 :]])
        if command.arity < 0:
            found.append([*argv, JUNK])
    return found


def wrong_arguments() -> dict[str, str]:
    ours = Ours()
    cells: dict[str, str] = {}
    for name in ALL:
        tried = wrong_arguments_of(name)
        replies = [ours(*argv) for argv in tried]
        broken = [reply for reply in replies if b"internal error" in reply]
        if broken:
            cells[name] = ""
        elif any(reply[:1] == b"-" for reply in replies):
            cells[name] = "error"
        else:
            cells[name] = "takes anything" if not tried or name in ANYTHING.split() else ""
    return cells


def on_a_replica() -> dict[str, str]:
    local = Ours().local
    local.engine.gate |= FOLLOWING
    local.engine.gate_error = READONLY_TEXT
    cells: dict[str, str] = {}
    for name, command in ALL.items():
        reply = b""
        for argv in calls_of()[name]:
            client = local.connect()
            reply = local.raw(*argv, client=client)
            local.engine.disconnect(client)
            local.engine.gate |= FOLLOWING
        writes = command.bits & WRITE != 0 and not command.subcommands
        right = reply == READONLY if writes else reply != READONLY
        cells[name] = ("READONLY" if writes else "served") if right else ""
    return cells


def in_multi() -> dict[str, str]:
    ours = Ours().local
    cells: dict[str, str] = {}
    for name, command in ALL.items():
        if command.handler is None:
            cells[name] = "by its subcommands"
            continue
        client = ours.connect()
        ours.raw("MULTI", client=client)
        reply = ours.raw(*calls_of()[name][0], client=client)
        if command.bits & IMMEDIATE:
            cells[name] = "at once" if reply != b"+QUEUED\r\n" else ""
        elif command.bits & NO_MULTI:
            cells[name] = "refused" if reply == b"-ERR Command not allowed inside a transaction\r\n" else ""
        else:
            cells[name] = "queued" if reply == b"+QUEUED\r\n" else "refused" if b"is not queued" in reply else ""
        ours.engine.disconnect(client)
    return cells


SCRIPT = b"return redis.pcall(unpack(ARGV))"
NOT_FROM_SCRIPT = b"-ERR This Redis command is not allowed from script"


def in_a_script() -> dict[str, str]:
    ours = Ours()
    cells: dict[str, str] = {}
    for name, command in ALL.items():
        if command.handler is None:
            cells[name] = "by its subcommands"
            continue
        reply = ours(b"EVAL", SCRIPT, b"0", *calls_of()[name][0])
        if command.bits & NOSCRIPT:
            cells[name] = "refused" if reply.startswith(NOT_FROM_SCRIPT) else ""
        else:
            cells[name] = "runs" if not reply.startswith(NOT_FROM_SCRIPT) and b"internal error" not in reply else ""
    return cells


def event_logged() -> dict[str, str]:
    """A write logs something in one of its calls, anything else in none; and the log gives the same state."""
    ours = Ours()
    log = ours.local.log
    cells: dict[str, str] = {}
    for name, command in ALL.items():
        logged = False
        for argv in calls_of()[name]:
            ours(b"PING")
            before = len(log)
            client = ours.local.connect()
            ours.local.raw(*argv, client=client)
            ours.local.engine.unpause()
            ours.local.engine.disconnect(client)
            logged = logged or len(log) > before
        writes = command.bits & WRITE != 0 and name not in refused()
        right = logged == writes or name in QUIET
        cells[name] = ("event" if logged else "nothing") if right else ""
    ours.local.check_replay()
    return cells


FILLS = {
    "documented": documented, "arity": arity, "wrong type": wrong_type, "wrong arguments": wrong_arguments,
    "on a replica": on_a_replica, "in MULTI": in_multi, "in a script": in_a_script, "event logged": event_logged,
}  # fmt: skip


@functools.cache
def cells_of(column: str) -> dict[str, str]:
    return FILLS[column]()


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_has_a_word_for_every_command(column: str) -> None:
    cells = cells_of(column)
    assert cells.keys() == ALL.keys()
    empty = [name for name, cell in cells.items() if not cell]
    assert not empty, f"{column}: {empty}"


# -- and the same of a real server


def variants(column: str, name: str) -> list[tuple[list[bytes], tuple[tuple[str | bytes, ...], ...]]]:
    """What a column sends for a command: a call, and what is done before."""
    if column == "arity":
        return [(argv, ()) for argv in arity_calls(ALL[name])]
    if column == "wrong type":
        return wrong_types(name)
    if column == "wrong arguments":
        return [(argv, ()) for argv in wrong_arguments_of(name)]
    if column == "in MULTI":
        return [(calls_of()[name][0], (("MULTI",),))]
    return [([b"EVAL", SCRIPT, b"0", *calls_of()[name][0]], ())]


@pytest.mark.redis
@pytest.mark.parametrize("column", ["arity", "wrong type", "wrong arguments", "in MULTI", "in a script"])
def test_errors_are_those_of_a_real_server(redis_server: Address, column: str) -> None:
    ours, theirs = Ours(), Theirs(redis_server)
    wrong: list[str] = []
    for name in ALL:
        if theirs.has(name):
            for argv, before in variants(column, name):
                if LATER.isdisjoint(argv) and not (name in LONGER and len(argv) > 3):
                    wrong += compared(name, argv, ours(*argv, before=before), theirs(*argv, before=before))
    assert not wrong, "\n".join(wrong)
