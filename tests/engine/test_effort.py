"""What a command may take, judged before it runs: a bound that holds, for every command that can be long."""

from __future__ import annotations

import functools
import time

import pytest

from eventdb import commands
from eventdb.cluster.timing import EFFORT_S_MAX
from eventdb.engine import effort
from eventdb.engine.client import LARGE
from eventdb.engine.command import Command
from eventdb.engine.registry import COMMANDS
from tests.kit.harness import Local

MEMBERS = 30_000
NAMES = [b"m%d" % n for n in range(MEMBERS)]

# Their time grows with what a client sends in one command, which is judged by its size (LARGE), or with the clients,
# users and nodes there are. DEBUG SLEEP stands for a loop that hangs.
NOT_BY_VALUES = """
cluster|slots cluster|shards cluster|nodes cluster|keyslot sentinel|replicas sentinel|slaves sentinel|sentinels
mget mset msetnx append setrange hmset hmget hdel lpush rpush lpushx rpushx blpop brpop srem smismember zadd zincrby
zrem zmscore exists touch swapdb slowlog|get slowlog|reset debug config|get config|set command command|info command|docs
commandlog|get commandlog|reset
command|list command|getkeys command|getkeysandflags auth client|list client|kill client|unpause client|unblock
subscribe unsubscribe psubscribe punsubscribe ssubscribe sunsubscribe publish spublish pubsub|channels
pubsub|shardchannels pubsub|numsub pubsub|shardnumsub discard
bitcount bitop bitpos pfcount pfmerge pfdebug pfselftest geoadd geosearch geosearchstore georadius georadius_ro
georadiusbymember georadiusbymember_ro hset sadd watch xack xclaim xdel xgroup|destroy xpending xrange xread xreadgroup
xrevrange xtrim eval eval_ro evalsha evalsha_ro script|load script|exists script|flush
fcall fcall_ro function|delete function|dump function|flush function|list function|load function|restore
latency|histogram save bgsave eventdb.restore eventdb.marks
memory|malloc-stats memory|purge sentinel|config sentinel|info-cache sentinel|reset
hexpire hpexpire hexpireat hpexpireat hpersist httl hpttl hexpiretime hpexpiretime hgetdel hgetex hsetex
msetex xdelex xackdel
acl|deluser acl|getuser acl|list acl|load acl|log acl|save acl|setuser acl|users
"""

LONG = """
SMEMBERS s; HGETALL h; HKEYS h; HVALS h; LRANGE l 0 -1; ZRANGE z 0 -1 WITHSCORES; ZREVRANGE z 0 -1
ZRANGEBYSCORE z -inf +inf; ZREVRANGEBYSCORE z +inf -inf; ZRANGEBYLEX z - +; ZREVRANGEBYLEX z + -; ZRANGESTORE out z 0 -1
ZRANK z m1; ZCOUNT z -inf +inf; KEYS *; KEYS a*b*c; SCAN 0 COUNT 100000; SSCAN s 0 COUNT 100000; ZSCAN z 0 COUNT 100000
HSCAN h 0 COUNT 100000; EVENTDB.DIGEST; SORT l ALPHA; SORT z BY w_* GET v_* GET # ALPHA; SORT s ALPHA STORE out
SUNION s s2; SINTER s s2; SDIFF s s2; SINTERCARD 2 s s2; SUNIONSTORE out s s2; SINTERSTORE out s s2
SDIFFSTORE out s s2; ZUNION 2 z s; ZINTER 2 z s WITHSCORES; ZDIFF 2 z s2; ZINTERCARD 2 z s; ZUNIONSTORE out 2 z s
ZINTERSTORE out 2 z s; ZDIFFSTORE out 2 z s2; COPY z zc; COPY h hc; LREM l 0 x; LPOS l x; LINSERT l BEFORE m29999 x
LINDEX l 15000; LSET l 15000 x; LTRIM l 10 -10; SPOP s 20000; SRANDMEMBER s2 5000; SRANDMEMBER s2 -20000
HRANDFIELD h 5000 WITHVALUES; ZRANDMEMBER z 5000; ZREMRANGEBYRANK z 0 5000; ZREMRANGEBYSCORE z 0 9000
ZREMRANGEBYLEX z - [m2; LPOP l 9000; RPOP l 9000; LMPOP 1 l LEFT COUNT 5000; ZPOPMIN z 4000; ZPOPMAX z 1000
ZMPOP 1 z MIN COUNT 1000; LCS t1 t2; GETRANGE big 0 -1; DUMP s; DUMP h; DUMP l; DUMP z; DUMP big
DEL h s2; UNLINK hc; FLUSHALL
""".replace("\n", ";")


def filled() -> Local:
    local = Local()
    scored = [part for n, name in enumerate(NAMES) for part in (b"%d" % (n * 7919 % MEMBERS), name)]
    for words in (
        ("RPUSH", "l", *NAMES), ("SADD", "s", *NAMES), ("SADD", "s2", *NAMES[::2]), ("ZADD", "z", *scored),
        ("HSET", "h", *scored), ("MSET", *scored), ("SET", "big", b"x" * (8 << 20)),
        ("SET", "t1", "ab" * 800), ("SET", "t2", "ba" * 800),
    ):  # fmt: skip
        assert not isinstance(local(*words), Exception)  # type: ignore[arg-type]
    return local


@functools.cache
def ordered() -> Local:
    """The same, of which each value has the order that the first glance at it makes. Only to be judged."""
    local = filled()
    for glance in (("ZRANK", "z", "m1"), ("SRANDMEMBER", "s"), ("HRANDFIELD", "h")):
        local(*glance)
    return local


def judged(local: Local, *words: str | bytes) -> float:
    argv = [word if isinstance(word, bytes) else word.encode() for word in words]
    return effort.seconds(local.client, COMMANDS[argv[0].upper()], argv)


def test_no_command_takes_longer_than_was_said() -> None:
    local = filled()
    late: list[str] = []
    for words in filter(None, (line.split() for line in LONG.split(";"))):
        said = judged(local, *words)
        began = time.thread_time()
        reply = local(*words)
        took = time.thread_time() - began
        assert not isinstance(reply, Exception), (words, reply)
        if took > said + 0.005:  # what it costs to be run at all
            late.append(f"{' '.join(words)[:60]}: {took:.3f} s where {said:.3f} s were said")
    assert not late, "\n".join(late)


def every(commands: dict[bytes, Command]) -> list[Command]:
    return [one for command in commands.values() for one in (command, *every(command.subcommands))]


def test_every_command_whose_time_grows_is_judged() -> None:
    commands.load()
    found = {command.name: command for command in every(COMMANDS) if command.handler is not None}
    growing = {name for name, command in found.items() if not command.complexity.startswith("O(1)")}
    assert growing - set(effort.ELEMENT_USEC) == set(NOT_BY_VALUES.split()) & growing
    assert set(effort.ELEMENT_USEC) <= set(found), set(effort.ELEMENT_USEC) - set(found)
    for name in ("get", "set", "incr", "hset", "hget", "lpush", "sadd", "zadd", "zscore"):
        assert not found[name].checked, f"{name} pays for what it never needs"


@pytest.mark.parametrize(
    "words",
    [
        "LRANGE l 0 9", "LRANGE l -10 -1", "ZRANGE z 0 9", "ZREVRANGE z 0 9 WITHSCORES", "ZRANK z m1", "SPOP s",
        "ZRANGEBYSCORE z -inf +inf LIMIT 0 1", "SRANDMEMBER s", "SSCAN s 0", "SCAN 0", "LPOP l", "ZPOPMIN z",
        "ZRANGE z 0 1000 BYSCORE LIMIT 0 5", "LINDEX l 3", "HRANDFIELD h", "BZPOPMIN z 0", "LTRIM l 0 -2",
    ],
)  # fmt: skip
def test_a_glance_at_a_large_value_is_not_long(words: str) -> None:
    assert judged(ordered(), *words.split()) < 0.02


@pytest.mark.parametrize(
    "words",
    ["LRANGE l a b", "ZRANGE z 0 1 LIMIT", "SPOP s x", "SCAN 0 COUNT", "SORT l BY", "ZRANGEBYSCORE z 1 2 LIMIT 0"],
)
def test_arguments_that_make_no_sense_are_left_to_the_handler(words: str) -> None:
    assert judged(ordered(), *words.split()) >= 0


def test_a_transaction_is_judged_by_all_that_is_queued() -> None:
    local = filled()
    one = judged(local, "ZUNIONSTORE", "out", "2", "z", "s")
    local("MULTI")
    for _ in range(3):
        assert local("ZUNIONSTORE", "out", "2", "z", "s") == b"QUEUED"
    local("SET", "k", b"x" * (20 << 20))
    assert judged(local, "EXEC") > 3 * one + 0.2


def test_what_a_client_sends_counts_once_it_is_large() -> None:
    local = Local()
    small = [b"SET", b"k", b"v"]
    assert judged(local, *small) == 0
    local.client.gate |= LARGE
    assert judged(local, b"SET", b"k", bytes(100 << 20)) > 0.9
    assert judged(local, b"SADD", b"k", *NAMES) > 0.2
    assert judged(local, b"SET", b"k", bytes(10 << 20)) <= EFFORT_S_MAX


def test_a_command_with_a_token_takes_as_long_as_without_and_an_undo_copies() -> None:
    local = Local()
    local("SADD", "s", *NAMES)

    def judged(*argv: str) -> float:
        return effort.seconds(local.client, COMMANDS[argv[0].encode()], [word.encode() for word in argv])

    plain = judged("SUNIONSTORE", "out", "s")
    assert judged("EVENTDB.ONCE", "t", "SUNIONSTORE", "out", "s") == plain > 0.05
    assert judged("EVENTDB.ONCE", "t", "NOPE") == 0.0
    local("MULTI")
    local("SADD", "s", "one more")
    quick = judged("EXEC")
    assert judged("EVENTDB.ONCE", "t", "EXEC") == quick
    local.client.atomic = True
    assert judged("EXEC") > quick + 0.5e-6 * MEMBERS
    digest = judged("EVENTDB.DIGEST")
    local("DISCARD")
    for n in range(100):
        local("EVENTDB.ONCE", n, "SET", "k", "v")
    assert judged("EVENTDB.DIGEST") > digest + 100e-6


def test_what_is_said_at_a_glance_is_never_less_than_the_judgement() -> None:
    """Else a command would run that has to wait for a longer lease."""
    more = "SRANDMEMBER s2 -90000; GETRANGE big 0 10; RESTORE out 0 xxxxxx; ZCOUNT nothing 0 1; HRANDFIELD h; LPOP l"
    unordered, with_order = filled(), ordered()
    fitting = 0
    for words in (LONG + more.replace("; ", ";")).split(";"):
        argv = [word.encode() for word in words.split()]
        command = COMMANDS[argv[0].upper()] if argv else None
        if command is None or command.element_usec == 0.0:
            continue
        for local in (unordered, with_order):
            seconds = effort.seconds(local.client, command, argv)
            fitting += effort.fits(local.client, command, argv, seconds * 1.001 + 1e-9)
            assert not effort.fits(local.client, command, argv, seconds), words
    assert fitting >= 100
