"""Keyspace notifications: every command says what a real redis-server says, on the same connection and on another.

The calls are those of tests/kit/calls.py, so a new command is asked at once, and further ones that make keys, empty
them, find nothing or change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from eventdb.engine.client import FOLLOWING, LOADING, OBSERVED, Client
from eventdb.engine.command import READONLY, WRITE
from eventdb.engine.notifications import CLASS_OF, OF_EVENT
from eventdb.engine.registry import COMMANDS
from eventdb.keyspace.events import EVENTS, KEY_NONE, KEY_WHOLE
from tests.commands.test_every_command import command_of
from tests.conftest import StartServer
from tests.kit.calls import FILL, calls
from tests.kit.calls import filled as filled_local
from tests.kit.differential import Address
from tests.kit.harness import Collector, Local
from tests.kit.listening import Listening
from tests.kit.newer_notifications import NEWER
from tests.kit.wire import Wire
from tests.pipeline.test_commit import Stalled

MORE = """
SPOP a 5
HDEL h f g
LTRIM l 5 9
LTRIM l 0 -1
LREM l 0 1
LREM l 0 9
LPOP l 9
SREM a 1 2 3
SMOVE a b 3
SMOVE a new 3
ZREM y p q
ZREMRANGEBYSCORE z 0 99
ZREMRANGEBYRANK z 0 -1
ZPOPMIN z 9
ZINCRBY z 1 new
ZINCRBY new 1 new
ZADD z 2 q
ZADD z XX 5 new
ZADD z INCR 1 q
ZADD z INCR 0 q
SINTERSTORE a gone gone2
SINTERSTORE a a b
SUNIONSTORE new gone
SUNIONSTORE s a b
SDIFFSTORE s a b
ZUNIONSTORE z 1 gone
ZINTERSTORE z 2 y z
ZRANGESTORE z y 5 9
GEOSEARCHSTORE g g FROMLONLAT 0 0 BYRADIUS 1 m
GEORADIUS g 0 0 1 m STORE g
SORT gone STORE l
SORT l STORE l
LMOVE l l LEFT RIGHT
LMOVE l new RIGHT LEFT
LMOVE gone l LEFT RIGHT
RPOPLPUSH l new
RPOPLPUSH l l
XADD new MAXLEN 1 * f v
XADD x MAXLEN 1 * f v
XTRIM x MAXLEN 0
XTRIM x MAXLEN 9
XREADGROUP GROUP g newc STREAMS x >
XREADGROUP GROUP g newc STREAMS x 0
XREADGROUP GROUP g c STREAMS x >
XCLAIM x g newc 0 1-1
XCLAIM x g newc 0 1-1 LASTID 9-9
XAUTOCLAIM x g newc 0 0
XGROUP CREATECONSUMER x g c
XGROUP DELCONSUMER x g gone
XGROUP DESTROY x gone
XGROUP SETID x g $
XACK x g 1-1
XDEL x 9-9
HINCRBYFLOAT h f 1.0
HINCRBYFLOAT new f 1.0
HINCRBY h new 1
HSET h f 1
HSETNX h f 1
HMSET new a b
HDEL h gone
SETBIT s 7 1
SETBIT s 7 0
SETRANGE gone 0 ab
SETRANGE s 0 hello
APPEND gone x
PFADD i a
PFMERGE new gone
PFMERGE i i
PFCOUNT i
BITOP AND s gone gone2
BITOP OR s t
BITFIELD s SET u8 0 104
BITFIELD s SET u8 0 1 SET u8 8 1 GET u8 0
BITFIELD new SET u8 0 1
BITFIELD_RO gone GET u8 0
GETEX s
GETEX s PERSIST
GETEX s EXAT 1
GETEX gone
GETDEL gone
GETSET gone 1
SET s x KEEPTTL
SET v x KEEPTTL
SET v x GET
SET gone x GET
SET gone x XX
SET s x EXAT 1
PERSIST s
EXPIRE s 100 GT
EXPIRE gone 1
EXPIRE s 0
PEXPIREAT s 1
RENAME s s
RENAME s t
RENAME l s
RENAMENX l l
COPY s t REPLACE
COPY h new
COPY gone new
MOVE gone 1
SADD a 1
SADD new 1 2
LINSERT l BEFORE zz x
LPUSHX gone 1
MSET s 1 s 2
DEL gone
DEL s s t
UNLINK s gone
LMPOP 1 l RIGHT COUNT 9
ZMPOP 1 z MAX COUNT 9
ZMPOP 1 z MIN
BZMPOP 1 1 z MAX
BLMOVE l m RIGHT LEFT 1
INCR gone
INCR v
EVAL redis.call('set','s','1');redis.call('incr','n');return(redis.call('incr','n')) 0
EVAL redis.call('select',3);redis.call('spop','a',9);redis.call('rpush','new',1) 0
GET gone
STRLEN gone
GETRANGE gone 0 1
HGET gone f
HMGET gone f
HGETALL gone
HKEYS gone
HLEN gone
HRANDFIELD gone
HSTRLEN gone f
HSCAN gone 0
LLEN gone
LRANGE gone 0 1
LINDEX gone 0
LPOS gone x
SMEMBERS gone
SCARD gone
SISMEMBER gone x
SMISMEMBER gone x
SRANDMEMBER gone
SINTER gone s2
SINTERCARD 2 gone gone2
SUNION a gone
SDIFF gone a
SSCAN gone 0
ZCARD gone
ZSCORE gone x
ZMSCORE gone x
ZRANK gone x
ZRANGE gone 0 1
ZRANGEBYSCORE gone 0 1
ZCOUNT gone 0 1
ZLEXCOUNT gone - +
ZINTER 2 gone y
ZINTERCARD 2 y gone
ZUNION 2 gone y
ZDIFF 2 gone y
ZRANDMEMBER gone
ZSCAN gone 0
GEOPOS gone p
GEODIST gone p q
GEOSEARCH gone FROMLONLAT 0 0 BYRADIUS 1 m
GETBIT gone 0
BITCOUNT gone
BITPOS gone 1
XLEN gone
XRANGE gone - +
XINFO STREAM gone
XPENDING gone g
TYPE gone
TTL gone
PTTL gone
EXPIRETIME gone
OBJECT ENCODING gone
LCS gone s
"""
DATA = WRITE | READONLY


def asked() -> Iterator[list[str]]:
    for call in [*calls(), *[line.split(" ") for line in MORE.split("\n") if line]]:
        command = command_of([word.encode() for word in call])
        if command.bits & DATA and (command.has_keys or call[0] in ("FLUSHALL", "SWAPDB", "EVAL")):
            if not (call[0] == "BITOP" and call[1] == "DIFF") and " ".join(call) not in NEWER:  # of Redis 8
                yield call


def filled(both: Listening) -> None:
    wire, local = both.wires[0], both.local
    for number in (1, 0):
        for words in (("SELECT", number), ("CONFIG", "SET", "notify-keyspace-events", ""), ("FLUSHALL",)):
            wire.call(*words)
            local.raw(*words, client=both.clients[0])
    for line in FILL.split("\n"):
        if line:
            wire.call(*line.split())
            local.raw(*line.split(), client=both.clients[0])


@pytest.fixture(scope="module")
def both(still_redis: Address) -> Iterator[Listening]:
    with Listening(still_redis, [True, False]) as made:
        for number in (0, 1):
            made.step(number, "PSUBSCRIBE", "__key*__:*")
        yield made


@pytest.mark.redis
@pytest.mark.parametrize("call", list(asked()), ids=" ".join)
def test_every_command_notifies_as_redis_does(both: Listening, call: list[str]) -> None:
    both.history.clear()
    filled(both)
    classes = "KEAn" if call[0] == "SORT" and "BY" in call else "KEAnm"  # the keys of a pattern tell of no miss here
    both.step(0, "CONFIG", "SET", "notify-keyspace-events", classes)
    both.compared = {1}  # Redis 7.0 pushes to the writer before, after or inside the reply
    both.step(0, *call)
    both.step(0, "SELECT", 0)


def newer_than_redis_7_0(call: list[str]) -> bool:
    command = command_of([word.encode() for word in call])
    since = tuple(int(part) for part in command.since.split("."))
    return bool(command.bits & DATA and command.has_keys) and (
        since > (7, 0, 99) or command.name.startswith("eventdb.")
    )


@pytest.mark.parametrize(("call", "told"), NEWER.items())
def test_commands_newer_than_redis_7_0_notify_as_documented(call: str, told: str) -> None:
    local = filled_local(Local())
    ear = listener(local)
    local.raw("CONFIG", "SET", "notify-keyspace-events", "EAnm")
    reply = local.raw(*call.split(" "))
    assert not reply.startswith(b"-"), reply
    ear.flush()
    assert [" ".join(each) for each in names(local.take(ear))] == (told.split(", ") if told else [])


def test_a_repeat_of_eventdb_once_tells_of_nothing() -> None:
    local = Local()
    ear = listener(local)
    local.raw("SADD", "a", 1, 2)
    local.raw("CONFIG", "SET", "notify-keyspace-events", "EAnm")
    for first in (True, False):
        local.raw("EVENTDB.ONCE", "t", "GETDEL", "gone")
        local.raw("MULTI")
        for line in ("SPOP a 9", "INCR n", "GET gone"):
            local.raw(*line.split(" "))
        local.raw("EVENTDB.ONCE", "u", "EXEC")
        ear.flush()
        told = ["keymiss gone", "spop a", "del a", "new n", "incrby n", "keymiss gone"] if first else []
        assert [" ".join(each) for each in names(local.take(ear))] == told


def test_every_call_that_redis_7_0_does_not_know_is_in_the_table() -> None:
    newer = {" ".join(call) for call in calls() if newer_than_redis_7_0(call)}
    assert newer - set(NEWER) == set()


@pytest.mark.parametrize("follows", [False, True])
def test_fields_that_expire_are_told_of_by_name(follows: bool) -> None:
    primary, replica = Local(), Local()
    node = replica if follows else primary
    replica.engine.gate |= FOLLOWING
    ear = listener(node)
    node.engine.config.notify_classes = "EA"
    node.engine.reconfigure()
    primary.raw("HSETEX", "h", "PX", 5, "FIELDS", 2, "f", 1, "g", 2)
    primary.raw("HSET", "h", "stays", 1)
    primary.raw("HSETEX", "all", "PX", 5, "FIELDS", 1, "f", 1)
    primary.raw("SET", "k", 1, "PX", 5)
    primary.engine.store.now_ms += 10
    primary.engine.expire_cycle()
    primary.turn()
    if follows:
        replica.engine.apply(primary.transactions())  # type: ignore[arg-type]
        replica.turn()
        assert replica.engine.digest() == primary.engine.digest()
    ear.flush()
    assert names(node.take(ear))[-4:] == [("expired", "k"), ("hexpired", "all"), ("del", "all"), ("hexpired", "h")]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("HGETDEL h FIELDS 1 f", ["hexpired"]),
        ("HGETDEL h FIELDS 2 f stays", ["hexpired", "hdel", "del"]),
        ("HSETEX h KEEPTTL FIELDS 1 f 2", ["hexpired", "hset"]),
    ],
)
def test_fields_that_a_command_finds_expired_are_told_of_by_name(call: str, told: list[str]) -> None:
    local = Local()
    ear = listener(local)
    local.raw("HSET", "h", "stays", 1)
    local.raw("HSETEX", "h", "PX", 5, "FIELDS", 1, "f", 1)
    local.raw("CONFIG", "SET", "notify-keyspace-events", "EA")
    local.engine.store.now_ms += 10
    local.raw(*call.split(" "))
    ear.flush()
    assert [name for name, _ in names(local.take(ear))] == told


CLASSES = ["", "A", "KA", "EA", "Eg", "E$", "El", "Es", "Eh", "Ez", "Ex", "Ee", "Et", "Ed", "Em", "En", "KEg$lshzxetd",
           "Kgx$mnE", "q", "K E", "KEAA"]  # fmt: skip
WALK = ["SET k v EX 100", "LPUSH l 1", "SADD s 1", "HSET h f 1", "ZADD z 1 a", "XADD x 1-1 f v", "DEL k", "GET k"]


@pytest.mark.redis
@pytest.mark.parametrize("classes", CLASSES)
def test_classes_choose_what_is_told_and_are_shown_as_redis_shows_them(both: Listening, classes: str) -> None:
    both.history.clear()
    filled(both)
    both.compared = {0, 1}
    both.step(0, "FLUSHALL")
    both.step(0, "CONFIG", "SET", "notify-keyspace-events", classes)
    both.step(0, "CONFIG", "GET", "notify-keyspace-events")
    both.compared = {1}
    for line in WALK:
        both.step(0, *line.split())


@pytest.mark.redis
def test_an_exec_tells_of_each_command_and_of_keys_that_have_expired(both: Listening) -> None:
    both.history.clear()
    filled(both)
    both.compared = {1}  # Redis pushes into the array of EXEC's replies
    both.step(0, "CONFIG", "SET", "notify-keyspace-events", "KEA")
    for line in ["MULTI", "SPOP a 9", "SADD a 1", "SELECT 1", "INCR n", "LTRIM l 0 -1", "GET n", "MOVE n 2", "EXEC"]:
        both.step(0, *line.split(" "))


def test_every_kind_of_event_is_called_something() -> None:
    """A new kind of event needs a line in OF_EVENT, or in News._name and here."""
    otherwise = {b"DEL", b"MSET", b"LMOVE", b"XGROUP", b"XREADGROUP", b"XCLAIM", b"RENAME", b"COPY", b"MOVE"}
    silent = {b"XACK"}
    keyless = {
        b"EVENTDB.RAN", b"EVENTDB.FORGET", b"EVENTDB.MARK", b"EVENTDB.UNMARK", b"ACLSETUSER", b"ACLDELUSER", b"LIBRARY",
    }  # fmt: skip
    assert keyless == {name for name, kind in EVENTS.items() if kind.keys == KEY_NONE}
    data = {name for name, kind in EVENTS.items() if kind.keys != KEY_WHOLE} - keyless
    assert data - set(OF_EVENT) - otherwise == silent
    assert set(OF_EVENT.values()) <= set(CLASS_OF) | {b"expire", b"persist"}


def listener(node: Stalled | Local) -> Client:
    client = node.connect()
    argv = [b"PSUBSCRIBE", b"__keyevent@*"]
    node.engine.call(client, argv)
    node.turn()
    client.flush()
    assert isinstance(client.sink, Collector)
    client.sink.data = b""
    return client


def names(raw: bytes) -> list[tuple[str, str]]:
    """(name, key) of each notification."""
    words = raw.decode().split("\r\n")
    return [(words[i + 6].split("__:")[1], words[i + 8]) for i, word in enumerate(words) if word == "*4"]


def test_a_writer_that_listens_is_told_after_its_reply() -> None:
    local = Local()
    local.raw("HELLO", 3)
    local.raw("SUBSCRIBE", "__keyspace@0__:k")
    local.raw("CONFIG", "SET", "notify-keyspace-events", "KAm")
    told = b">3\r\n$7\r\nmessage\r\n$16\r\n__keyspace@0__:k\r\n"
    assert local.raw("GET", "k") == b"_\r\n" + told + b"$7\r\nkeymiss\r\n"
    assert local.raw("SET", "k", "v") == b"+OK\r\n" + told + b"$3\r\nset\r\n"


def test_a_notification_waits_until_its_change_can_be_read() -> None:
    node = Stalled()
    writer, ear = node.connect(), listener(node)
    node.send(writer, "CONFIG", "SET", "notify-keyspace-events", "EAm")
    assert node.send(writer, "SET", "k", "v") == b""
    assert node.send(writer, "GET", "gone") == b""
    told = names(node.received(ear))
    assert ("set", "k") not in told, "before the write is durable"
    node.confirm()
    assert told + names(node.received(ear)) == [("set", "k"), ("keymiss", "gone")]


@pytest.mark.parametrize("listens", [True, False])
def test_a_miss_of_a_key_that_was_just_deleted_waits_for_that(listens: bool) -> None:
    node = Stalled()
    writer, reader, ear = node.connect(), node.connect(), listener(node)
    node.send(writer, "SET", "k", "v")
    node.confirm()
    node.send(writer, "CONFIG", "SET", "notify-keyspace-events", "Em" if listens else "m")
    node.send(writer, "DEL", "k")
    node.send(reader, "GET", "k")
    assert node.received(ear) == b"", "it tells of a deletion that could be lost"
    node.confirm()
    assert names(node.received(ear)) == [("keymiss", "k")] * listens


def test_expired_keys_are_called_so_wherever_they_are_found() -> None:
    local = Local()
    ear = listener(local)
    local.raw("CONFIG", "SET", "notify-keyspace-events", "Exg")
    for key in ("cycle", "met"):
        local.raw("SET", key, "v", "PX", 5)
    local.take(ear)
    local.engine.store.now_ms += 10
    local.raw("INCR", "met")
    ear.flush()
    assert names(local.take(ear)) == [("expired", "met")]
    local.engine.expire_cycle()
    local.turn()
    ear.flush()
    assert names(local.take(ear)) == [("expired", "cycle")]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_replica_tells_what_the_log_says_whatever_pieces_it_applies(at_once: bool) -> None:
    primary, replica = Local(), Local()
    ear = listener(replica)
    replica.raw("CONFIG", "SET", "notify-keyspace-events", "EAn")
    replica.engine.gate |= FOLLOWING
    primary.raw("HSET", "h", "f", 1)
    primary.raw("HDEL", "h", "f")
    primary.raw("HSET", "h", "g", 1)
    primary.raw("SPOP", "h")
    primary.raw("EVAL", "redis.call('select', 2) redis.call('incr', 'n')", 0)
    primary.raw("XADD", "x", "1-1", "f", "v")
    primary.raw("XGROUP", "CREATE", "x", "g", "0")
    primary.raw("XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">")
    primary.raw("SET", "t", "v", "PX", 5)
    primary.engine.store.now_ms += 10
    primary.engine.expire_cycle()
    primary.turn()
    log = primary.transactions()
    for part in [log] if at_once else [[each] for each in log]:
        replica.engine.apply(part)  # type: ignore[arg-type]
    replica.turn()
    ear.flush()
    assert names(replica.take(ear)) == [
        ("new", "h"), ("hset", "h"), ("hdel", "h"), ("del", "h"), ("new", "h"), ("hset", "h"), ("new", "n"),
        ("set", "n"), ("new", "x"), ("xadd", "x"), ("xgroup-create", "x"), ("xgroup-createconsumer", "x"),
        ("new", "t"), ("set", "t"), ("expire", "t"), ("expired", "t"),
    ]  # fmt: skip
    assert replica.engine.digest() == primary.engine.digest()
    replica.engine.gate |= LOADING
    replica.engine.apply(primary.transactions()[:1])  # type: ignore[arg-type]
    replica.turn()
    assert replica.take(ear) == b"", "a rebuild tells of history"


def test_nothing_is_looked_at_while_nobody_listens() -> None:
    local = Local()
    for classes, heeded in (("A", False), ("KA", True), ("", False)):
        local.raw("CONFIG", "SET", "notify-keyspace-events", classes)
        assert local.engine.store.heeded is heeded
    assert not local.engine.gate & OBSERVED


def test_no_write_command_is_left_out() -> None:
    calls = [*asked(), *[line.split(" ") for line in NEWER]]
    names = {command_of([word.encode() for word in call]).name for call in calls}
    every = [each for command in COMMANDS.values() for each in (command, *command.subcommands.values())]
    writes = {each.name for each in every if each.handler is not None and each.bits & WRITE and each.has_keys}
    assert writes - names == {"migrate"}, "which refuses whatever it is given"


@pytest.mark.redis
@pytest.mark.parametrize(
    ("blocks", "frees"),
    [
        ("BLPOP w 0", "RPUSH w 1"),
        ("BLPOP w 0", "RPUSH w 1 2"),
        ("BRPOP w 0", "LPUSH w 1"),
        ("BLMOVE w new LEFT RIGHT 0", "RPUSH w 1"),
        ("BRPOPLPUSH w l 0", "RPUSH w 1 2"),
        ("BLMPOP 0 1 w LEFT", "RPUSH w 1"),
        ("BZPOPMIN w 0", "ZADD w 1 a"),
        ("BZMPOP 0 1 w MAX", "ZADD w 1 a 2 b"),
        ("XREADGROUP GROUP g newc BLOCK 0 STREAMS x >", "XADD x 9-9 f v"),
    ],
)
def test_a_command_that_was_waiting_tells_after_the_one_that_served_it(
    still_redis: Address, blocks: str, frees: str
) -> None:
    with Listening(still_redis, [False, False, False]) as both:
        both.step(1, "PSUBSCRIBE", "__key*__:*")
        filled(both)
        both.step(0, "XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">")
        both.step(0, "CONFIG", "SET", "notify-keyspace-events", "KEAn")
        both.compared = {1}
        both.step(2, *blocks.split(" "), blocks=True)
        both.compared = {0, 1, 2}
        both.step(0, *frees.split(" "), frees=[2])


def test_a_real_replica_tells_what_it_applies_in_the_order_of_the_log(
    eventdb_server: StartServer, tmp_path: Path
) -> None:
    url = f"quorum:{tmp_path / 'data'}"
    primary = eventdb_server(url)
    replica = eventdb_server(url, "--role", "replica", "--config", "notify-keyspace-events=EA")
    with Wire(primary.port) as writer, Wire(replica.port) as ear, Wire(replica.port) as reader:
        ear("PSUBSCRIBE", "__keyevent@0__:*")
        for i in range(50):
            writer("SET", "k", i)
            told = ear.receive()
            assert told == [b"pmessage", b"__keyevent@0__:*", b"__keyevent@0__:set", b"k"]
            assert reader("GET", "k") == b"%d" % i, "it hears of a change that it cannot read yet"


def test_an_exec_that_ends_the_listening_leaves_nothing_for_the_next_one() -> None:
    local = Local()
    ear = listener(local)
    local.raw("CONFIG", "SET", "notify-keyspace-events", "EA")
    for line in ("MULTI", "SET a 1", "SET b 1", "CONFIG SET notify-keyspace-events off", "EXEC"):
        words = line.split(" ")
        local.raw(*["" if word == "off" else word for word in words])
    local.take(ear)
    local.raw("CONFIG", "SET", "notify-keyspace-events", "EA")
    local.raw("SET", "c", 1)
    ear.flush()
    assert names(local.take(ear)) == [("set", "c")]
