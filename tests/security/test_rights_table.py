"""A table of every command × every kind of user, made from the registry: no cell is empty, and Redis fills it alike.

A cell holds the verdicts on the command's calls: runs, or that the command, a key or a channel is denied, or NOAUTH.
Where a real server has the command, ACL DRYRUN and the refusal itself are its to the byte; what is denied leaves
neither an event nor a change. Calls are those of tests/kit/calls.py, and some that are made to slip by.

One server, one connection for each kind of user, everything in pipelines. What a user may run is sent to the real
server only inside a MULTI that is then discarded: its checks are the same, and nothing happens.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eventdb.engine.command import IMMEDIATE, NO_AUTH, NO_MULTI
from eventdb.engine.settings import Config
from eventdb.security.acl import DENIED_AUTH
from tests.kit.calls import ALL, calls_of, filled
from tests.kit.differential import Wire, split
from tests.kit.harness import Local, StandIn
from tests.kit.real_redis import RealRedis

# Of each kind: the rules after `on >p`. In the calls' keyspace a to m are half of the keys.
KINDS = {
    "without commands": "~* &*",
    "one category": "~* &* +@read",
    "reader": "%R~[a-m]* &* +@all",
    "writer": "%W~[a-m]* &* +@all",
    "both": "%R~[a-m]* %W~[n-z]* +@all",
    "some keys": "~[n-z]* ~[0-9]* &news* +@all",
    "one channel": "~* &news1 +@all",
    "no channel": "~* resetchannels +@all",
    "selector": "+get +set ~s +multi +discard (+@write %W~[a-m]*) (+@read +@pubsub %R~z* &news*)",
    "subcommands": "~* &* +multi +discard +config|get +object|encoding +xgroup|create +client|id +memory|usage"
    " +xinfo|stream +function|list +acl|whoami +select|0 +script|exists +pubsub|channels +debug|object",
    "no subcommands": "~* &* +@all -config|set -object|freq -xgroup|destroy -client|kill -acl|setuser -debug",
    "not dangerous": "~* &* +@all -@dangerous",
    "default": "",
}
SLY = """
SUBSCRIBE news1|SUBSCRIBE news1 other|PSUBSCRIBE news*|PSUBSCRIBE news1|PSUBSCRIBE *|SSUBSCRIBE news1|SSUBSCRIBE other
PUBLISH news1 m|PUBLISH other m|SPUBLISH news1 m|SPUBLISH other m|UNSUBSCRIBE other|PUBSUB NUMSUB other
PUBLISH __keyspace@0__:s m|SUBSCRIBE __keyspace@0__:s|PSUBSCRIBE __key*__:*|SUBSCRIBE __redis__:invalidate
CLIENT TRACKING ON|CLIENT TRACKING ON BCAST PREFIX s|CLIENT KILL USER default
COPY a z|COPY z a|RENAME a z|RENAME z a|RENAMENX z a|SMOVE a z m|SMOVE z a m|LMOVE l z LEFT RIGHT|LMOVE z l LEFT LEFT
RPOPLPUSH l z|BRPOPLPUSH z l 1|MOVE s 1|SORT l|SORT s|SORT l STORE z|SORT z STORE l|SORT l BY s* GET s*|SORT_RO s
SORT l STORE l STORE z|SORT l LIMIT 0 1 STORE z|SORT l GET STORE STORE z
GEORADIUS g 1 2 3 km STORE z|GEORADIUS z 1 2 3 km STOREDIST g|GEORADIUSBYMEMBER g p 3 km STORE z
GEOSEARCHSTORE z g FROMMEMBER p BYRADIUS 1 km|GEOSEARCHSTORE g z FROMMEMBER p BYRADIUS 1 km|GEORADIUS_RO z 1 2 3 km
ZUNIONSTORE z 2 a b|ZUNIONSTORE a 1 z|ZRANGESTORE z a 0 1|SDIFFSTORE z a|BITOP NOT z a|BITOP NOT a z|PFMERGE z a
PFCOUNT a|PFCOUNT z|PFDEBUG GETREG a|SET a v GET|SET z v GET|SET a v|SET z v|GETSET a v|GETDEL a|GETEX a
SETRANGE a 0 v
BITFIELD a GET u8 0|BITFIELD a SET u8 0 1|BITFIELD z GET u8 0|BITFIELD z INCRBY u8 0 1|BITFIELD_RO z GET u8 0
XREADGROUP GROUP g c STREAMS x >|XREADGROUP GROUP g c COUNT 1 STREAMS a >|XREAD STREAMS a x 0 0
XREAD COUNT 1 STREAMS x 0
XAUTOCLAIM a g c 0 0|XCLAIM a g c 0 1-1|XACK a g 1-1|XINFO STREAM a|XINFO STREAM x|XGROUP CREATE a g $
XGROUP DESTROY x g
OBJECT ENCODING a|OBJECT ENCODING z|OBJECT FREQ z|OBJECT IDLETIME a|MEMORY USAGE a|MEMORY USAGE z|DEBUG OBJECT a
DUMP a|DUMP z|RESTORE a 0 x|RESTORE z 0 x REPLACE|EXISTS a|EXISTS z|TYPE a|TTL z|TOUCH a z|WATCH a|WATCH z|UNLINK a z
EVAL return 1 a|EVAL return 1 z|EVAL return 2 a z|EVAL return 0 z|EVAL_RO return 1 a|EVALSHA x 1 z|FCALL f 1 a
FCALL f 1 z
FCALL_RO f 1 a|EVAL return x z
LMPOP 1 a LEFT|LMPOP 1 z LEFT|ZMPOP 1 a MIN|ZMPOP 1 z MIN|BLMPOP 1 1 a LEFT|BZMPOP 1 1 z MIN|SINTERCARD 1 a
SINTERCARD 1 z
MIGRATE h 1 a 0 1|MIGRATE h 1 z 0 1|SCAN 0 MATCH a*|KEYS z*|RANDOMKEY|DBSIZE|FLUSHALL|FLUSHDB|SWAPDB 0 1|SELECT 0
SELECT 1
CLUSTER GETKEYSINSLOT 1 1|CLUSTER KEYSLOT a|MONITOR|PSYNC ? -1|SYNC|REPLCONF ack 1|SLOWLOG GET|CONFIG GET requirepass
CONFIG SET requirepass x|ACL SETUSER default on|ACL LIST|ACL LOG|ACL WHOAMI|MSET a 1 z 2|MSETNX a 1|MGET a z|DEL a z
COMMAND GETKEYS GET a|LATENCY HISTORY x|MODULE LIST|FUNCTION DUMP|FUNCTION LIST|SCRIPT LOAD x|SHUTDOWN NOSAVE|FAILOVER
EVENTDB.ONCE t SET a v|EVENTDB.ONCE t SET z v|EVENTDB.ONCE t GETDEL z|EVENTDB.ONCE t GETSET a v
EVENTDB.ONCE t EVAL return 1 z|EVENTDB.ONCE t ACL SETUSER x|EVENTDB.ONCE t FLUSHALL|EVENTDB.RESTORE TO OFFSET 1
EVENTDB.PUBLISH MESSAGE other m|EVENTDB.ANNOUNCE {}|EVENTDB.MARK m|EVENTDB.DIGEST
"""
# Redis 7.0 looks for a word, and lets these by: a consumer called STREAMS, a STORE that a later one replaces. And
# numbers of keys that make no sense: there the call fails in Redis, and is denied here.
LED_ASTRAY = """
XREADGROUP COUNT 1 GROUP g STREAMS STREAMS z >|XREADGROUP COUNT 1 GROUP g STREAMS STREAMS a >
GEORADIUS g 1 2 3 km STORE a STORE z|GEORADIUS z 1 2 3 km STORE z STORE a
GEORADIUSBYMEMBER g p 3 km STORE a STOREDIST z
GEORADIUS a 1 2 3 km STORE z STORE a|GEORADIUSBYMEMBER z p 3 km STORE z STOREDIST a
ZUNIONSTORE a 0 z|ZUNIONSTORE a -1 z|LMPOP 9 z LEFT|LMPOP +1 z LEFT|ZUNION 01 z|EVAL return 3 a
"""
LATER = (b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE", b"BYFLOAT", b"DIFF", b"ACKED", b"DELREF", b"NOVALUES")  # not in 7.0
USER_WORDS = {"runs", "command", "key", "channel"}


def split_lines(text: str) -> list[list[bytes]]:
    return [call.encode().split(b" ") for line in text.strip().splitlines() for call in line.split("|")]


def sly_calls() -> list[tuple[str, list[bytes]]]:
    """With names of commands; a | stands in no argument."""
    found = []
    for argv in split_lines(SLY) + split_lines(LED_ASTRAY):
        name = argv[0].lower().decode()
        inner = f"{name}|{argv[1].lower().decode()}" if len(argv) > 1 else name
        found.append((inner if inner in ALL else name, argv))
    return found


@functools.cache
def every_call() -> tuple[tuple[str, list[bytes]], ...]:
    made = [(name, argv) for name, found in calls_of().items() if ALL[name].handler is not None for argv in found]
    return tuple(made + sly_calls())


def user_of(kind: str) -> bytes:
    return kind.replace(" ", "-").encode()


class Theirs:
    """The real server: its verdicts of ACL DRYRUN, and what its users hear."""

    def __init__(self, server: RealRedis) -> None:
        self.address = ("127.0.0.1", server.port)
        self.admin = Wire(self.address)
        listed = self.admin.call("COMMAND", "LIST").split(b"\r\n")[2::2]
        self.names = {name.decode().lower() for name in listed}
        for kind, rules in KINDS.items():
            if rules:
                known = [rule for rule in rules.split() if not rule.startswith("+eventdb")]
                assert self.admin.call("ACL", "SETUSER", user_of(kind), "on", ">p", *known) == b"+OK\r\n", kind

    def has(self, name: str, argv: list[bytes]) -> bool:
        return name in self.names and not any(word.upper() in LATER for word in argv)

    def close(self) -> None:
        self.admin.close()

    def dry_runs(self, kind: str, calls: list[list[bytes]]) -> list[bytes]:
        for argv in calls:
            self.admin.send("ACL", "DRYRUN", user_of(kind), *argv)
        return [self.admin.reply() for _ in calls]

    def runs(self, kind: str, calls: list[tuple[list[bytes], bool]]) -> list[bytes]:
        """The reply to each; `True` beside one: inside a MULTI that is discarded."""
        with closing(Wire(self.address)) as wire:
            if KINDS[kind]:
                assert wire.call("AUTH", user_of(kind), "p") == b"+OK\r\n"
            found = []
            # Four at a time: Redis cuts off who is not logged in, with 1024 bytes of replies to read.
            for at in range(0, len(calls), 4):
                some = calls[at : at + 4]
                for argv, wrapped in some:
                    for step in ([b"MULTI"], argv, [b"DISCARD"]) if wrapped else (argv,):
                        wire.send(*step)
                for _, wrapped in some:
                    replies = [wire.reply() for _ in range(3 if wrapped else 1)]
                    found.append(replies[1] if wrapped else replies[0])
            return found


class Ours:
    """An engine with the same users."""

    def __init__(self) -> None:
        config = Config()
        config.set("enable-debug-command", "yes")
        self.local = filled(Local(config=config))
        self.local.engine.host = StandIn(shut_down=lambda: None, fail_over=lambda *_: None, reload=lambda _: None)
        for kind, rules in KINDS.items():
            if rules:
                assert self.local("ACL", "SETUSER", user_of(kind), "on", ">p", *rules.split()) == b"OK", kind

    def check(self, kind: str, calls: list[tuple[str, list[bytes]]]) -> tuple[list[bytes], list[bytes], list[str]]:
        """DRYRUN's answers, the refusals (b"" where it may run), and what is wrong in itself."""
        local, wrong = self.local, []
        client = local.connect()
        if KINDS[kind]:
            assert local("AUTH", user_of(kind), "p", client=client) == b"OK"
        dry, refused = [], []
        events, digest = len(local.log), local.engine.digest()
        for name, argv in calls:
            dry.append(local.raw("ACL", "DRYRUN", user_of(kind), *argv))
            denied = dry[-1] != b"+OK\r\n"
            if denied:
                refused.append(local.raw(*argv, client=client))
                if b"NOPERM this user has no permissions to " not in refused[-1]:
                    wrong.append(f"{name}, {kind}: {argv} is denied by DRYRUN, and runs: {refused[-1]!r}")
                continue
            refused.append(b"")
            if may_be_queued(name):
                local.raw("MULTI", client=client)
                reply = local.raw(*argv, client=client)
                local.raw("DISCARD", client=client)
                if b"NOPERM" in reply and b"has no permissions to run the 'multi'" not in reply:
                    in_it = local.engine.permissions.judge(client.user, ALL[name], argv)
                    wrong.append(f"{name}, {kind}: {argv} may run by DRYRUN, and is refused: {reply!r} {in_it}")
        if len(local.log) != events or local.engine.digest() != digest:
            wrong.append(f"{kind}: what was denied changed something")
        return dry, refused, wrong


def may_be_queued(name: str) -> bool:
    return not ALL[name].bits & (IMMEDIATE | NO_MULTI) and name != "eventdb.once"


def word_of(dry: bytes) -> str:
    if dry == b"+OK\r\n":
        return "runs"
    text = dry.split(b"\r\n")[1]
    return "command" if text.endswith(b" command") else text.rsplit(b" ", 1)[1].decode()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theirs]:
    server = RealRedis(Path(tmp_path_factory.mktemp("redis")) / "d", "--enable-module-command", "yes")
    with closing(Theirs(server)) as made:
        yield made
    server.stop()


@pytest.fixture(scope="module")
def ours() -> Ours:
    return Ours()


@pytest.mark.redis
@pytest.mark.parametrize("kind", KINDS)
def test_a_user_of_this_kind_is_told_what_redis_tells_it(theirs: Theirs, ours: Ours, kind: str) -> None:
    calls = list(every_call())
    dry, refused, wrong = ours.check(kind, calls)
    cells: dict[str, set[str]] = {}
    for (name, _), verdict in zip(calls, dry, strict=True):
        cells.setdefault(name, set()).add(word_of(verdict))
    every = {name for name, command in ALL.items() if command.handler is not None}
    assert cells.keys() == every, f"empty cells: {every - cells.keys()}"
    assert all(words <= USER_WORDS for words in cells.values())
    astray = {tuple(argv) for argv in split_lines(LED_ASTRAY)}
    at = [i for i, (name, argv) in enumerate(calls) if theirs.has(name, argv) and tuple(argv) not in astray]
    verdicts = theirs.dry_runs(kind, [calls[i][1] for i in at])
    sent = []
    for i, verdict in zip(at, verdicts, strict=True):
        if verdict != dry[i]:
            wrong.append(f"DRYRUN {kind} {calls[i][1]}: redis {verdict!r}, eventdb {dry[i]!r}")
        elif verdict != b"+OK\r\n":
            sent.append(i)
    answers = theirs.runs(kind, [(calls[i][1], False) for i in sent])
    for i, answer in zip(sent, answers, strict=True):
        if answer != refused[i]:
            wrong.append(f"{kind} {calls[i][1]}: redis {answer!r}, eventdb {refused[i]!r}")
    assert not wrong, "\n".join(wrong)
    assert len(at) > 500, "compared"


def denied_calls(ours: Ours, theirs: Theirs, kind: str) -> list[list[bytes]]:
    """What both deny to this kind of user."""
    calls = [(name, argv) for name, argv in every_call() if theirs.has(name, argv) and may_be_queued(name)]
    argvs = [argv for _, argv in calls]
    verdicts = theirs.dry_runs(kind, argvs)
    dry = [ours.local.raw("ACL", "DRYRUN", user_of(kind), *argv) for argv in argvs]
    return [
        argv
        for argv, theirs_says, says in zip(argvs, verdicts, dry, strict=True)
        if b"+OK\r\n" not in (says, theirs_says)
    ]


SCRIPT = "return redis.pcall(unpack(ARGV))"
RESTRICTED_KINDS = [kind for kind, rules in KINDS.items() if rules]


@pytest.mark.redis
@pytest.mark.parametrize("kind", RESTRICTED_KINDS)
def test_no_script_opens_what_is_closed_to_its_caller(theirs: Theirs, ours: Ours, kind: str) -> None:
    denied = denied_calls(ours, theirs, kind)
    for each in (ours.local.raw, theirs.admin.call):
        assert each("ACL", "SETUSER", "scripting", "reset", "on", ">p", *KINDS[kind].split(), "(+eval)") == b"+OK\r\n"
    client = ours.local.connect()
    events = len(ours.local.log)
    assert ours.local("AUTH", "scripting", "p", client=client) == b"OK"
    calls = [[b"EVAL", SCRIPT.encode(), b"0", *argv] for argv in denied]
    with closing(Wire(theirs.address)) as wire:
        assert wire.call("AUTH", "scripting", "p") == b"+OK\r\n"
        for call in calls:
            wire.send(*call)
        for call in calls:
            reply = ours.local.raw(*call, client=client)
            assert reply.startswith(b"-ERR ") and (
                b" from script" in reply or b"The user executing the script" in reply
            )
            assert reply == wire.reply(), call
    assert len(ours.local.log) == events and (denied or kind == "no subcommands")


@pytest.mark.redis
@pytest.mark.parametrize("kind", RESTRICTED_KINDS)
def test_what_was_queued_is_judged_by_the_rights_at_exec(theirs: Theirs, ours: Ours, kind: str) -> None:
    denied = denied_calls(ours, theirs, kind)
    client = ours.local.connect()
    events = len(ours.local.log) + 2  # the two changes of the user
    with closing(Wire(theirs.address)) as wire:
        both = (lambda *argv: ours.local.raw(*argv, client=client), wire.call)
        for admin in (ours.local.raw, theirs.admin.call):
            assert admin("ACL", "SETUSER", "turncoat", "reset", "on", ">p", "~*", "&*", "+@all") == b"+OK\r\n"
        for call in both:
            assert call("AUTH", "turncoat", "p") == b"+OK\r\n"
            assert call("MULTI") == b"+OK\r\n"
            for argv in denied:
                assert call(*argv) == b"+QUEUED\r\n", argv
        for admin in (ours.local.raw, theirs.admin.call):
            assert (
                admin("ACL", "SETUSER", "turncoat", "reset", "on", ">p", *KINDS[kind].split(), "(+exec)") == b"+OK\r\n"
            )
        replies, expected = [split(call("EXEC"))[1] for call in both]
        assert replies == expected
        assert len(replies) == len(denied) and all(reply.startswith(b"-NOPERM") for reply in replies)
    assert len(ours.local.log) == events


@pytest.mark.redis
def test_what_leads_the_specs_astray_is_denied_though_redis_lets_it_by(theirs: Theirs, ours: Ours) -> None:
    for kind, words in (("some keys", 1), ("reader", 3), ("writer", 3)):
        calls = split_lines(LED_ASTRAY)
        dry, _, wrong = ours.check(kind, [(argv[0].lower().decode(), argv) for argv in calls])
        assert not wrong
        denied = [argv for argv, verdict in zip(calls, dry, strict=True) if word_of(verdict) == "key"]
        assert len(denied) >= words, (kind, denied)
        lax = theirs.dry_runs(kind, calls)
        for argv, theirs_says, ours_says in zip(calls, lax, dry, strict=True):
            assert ours_says == theirs_says or theirs_says == b"+OK\r\n", argv
    user = ours.local.engine.permissions.users[b"some-keys"]
    call = [b"GEORADIUS", b"z", b"1", b"2", b"3", b"km", b"STORE", b"z", b"STORE", b"a"]
    assert ours.local.engine.permissions.judge(user, ALL["georadius"], call)[1] == b"a"


@pytest.mark.redis
def test_nobody_is_let_in_without_a_password(theirs: Theirs) -> None:
    """The column of those who have not said AUTH; they may only try to."""
    config = Config()
    config.set("enable-debug-command", "yes")
    local = filled(Local(config=config))
    assert local("CONFIG", "SET", "requirepass", "p") == b"OK"
    assert theirs.admin.call("CONFIG", "SET", "requirepass", "p") == b"+OK\r\n"
    events, digest, before = len(local.log), local.engine.digest(), local.engine.permissions.refused[DENIED_AUTH]
    client = local.connect()
    cells: dict[str, str] = {}
    sent = []
    for name, argv in every_call():
        if ALL[name].bits & NO_AUTH:
            cells[name] = "may try"
            continue
        reply = local.raw(*argv, client=client)
        assert b"NOAUTH Authentication required." in reply, (argv, reply)
        cells[name] = "NOAUTH"
        if theirs.has(name, argv):
            sent.append((argv, reply))
    assert sorted(name for name, cell in cells.items() if cell == "may try") == ["auth", "hello", "quit", "reset"]
    assert cells.keys() == {name for name, command in ALL.items() if command.handler is not None}
    try:
        assert theirs.runs("default", [(argv, False) for argv, _ in sent]) == [reply for _, reply in sent]
    finally:
        theirs.admin.call("CONFIG", "SET", "requirepass", "")
    assert (len(local.log), local.engine.digest()) == (events, digest)
    assert local.engine.permissions.refused[DENIED_AUTH] == before, "no attempt was made"
