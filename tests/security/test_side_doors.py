"""Ways past the rules that are no plain command: blocking, tokens, pauses, notifications, scripts, and odd arguments.

What tests/security/test_rights_table.py asks of every command is not repeated here.
"""

from __future__ import annotations

import os
import time

import pytest

from eventdb.engine import engine as engine_module
from eventdb.engine.client import Client
from eventdb.engine.permissions import uses
from eventdb.security.acl import WRITE
from tests.commands.test_argument_sweep import swept
from tests.commands.test_every_command import EVERY, Noting, command_of
from tests.kit.calls import ALL
from tests.kit.differential import Address, Pair, in_any_order
from tests.kit.harness import Local
from tests.kit.sweep import SEED, Sweep

COMPILED = not str(engine_module.__file__).endswith(".py")
SECONDS = float(os.environ.get("EVENTDB_FUZZ_SECONDS", "2"))
BLOCKING = [
    "BLPOP q 0", "BRPOP p q 0", "BLMOVE q r LEFT RIGHT 0", "BRPOPLPUSH q r 0", "BLMPOP 0 1 q LEFT", "BZPOPMIN q 0",
    "BZPOPMAX q 0", "BZMPOP 0 1 q MIN", "XREAD BLOCK 0 STREAMS q $", "XREADGROUP GROUP g c BLOCK 0 STREAMS q >",
]  # fmt: skip


def login(local: Local, name: str, *rules: str) -> Client:
    assert local("ACL", "SETUSER", name, "reset", "on", ">p", *rules) == b"OK"
    client = local.connect()
    assert local("AUTH", name, "p", client=client) == b"OK"
    return client


def filler(call: str) -> tuple[str, ...]:
    if call.startswith("X"):
        return ("XADD", "q", "9-9", "f", "v")
    return ("ZADD", "q", "1", "m") if call.startswith("BZ") else ("RPUSH", "q", "m")


@pytest.mark.parametrize("taken", ["resetkeys", "-@blocking", "nothing"])
@pytest.mark.parametrize("call", BLOCKING)
def test_a_blocked_command_whose_rights_were_taken_gets_nothing(call: str, taken: str) -> None:
    local = Local()
    if call.startswith("X"):
        local("XGROUP", "CREATE", "q", "g", "$", "MKSTREAM")
    waits = login(local, "u", "~*", "+@all")
    assert local.raw(*call.split(), client=waits) == b""
    if taken != "nothing":
        local("ACL", "SETUSER", "u", taken)
    other = login(local, "v", "~*", "+@all")
    local.raw(*call.split(), client=other)
    local.raw(*filler(call))
    waits.flush()
    other.flush()
    first, second = local.take(waits), local.take(other)
    if taken == "nothing":
        assert b"m" in first or b"9-9" in first
        return
    assert first.startswith(b"-NOPERM"), first
    assert b"m" in second or b"9-9" in second, "it is for the next who waits"
    assert [entry.user for entry in local.engine.permissions.log] == [b"u"]
    local.check_replay()


def test_a_token_shows_no_reply_that_its_user_could_not_have_read() -> None:
    local = Local()
    local("SET", "secret", "s3cret")
    assert local("EVENTDB.ONCE", "t", "GETSET", "secret", "other") == b"s3cret"
    assert local("EVENTDB.OUTCOME", "t")[3] == b"s3cret"  # type: ignore[index]
    client = login(local, "u", "~mine*", "+@all")
    found = local.raw("EVENTDB.OUTCOME", "t", client=client)
    assert found.startswith(b"*4\r\n$7\r\napplied\r\n") and b"-NOPERM" in found and b"s3cret" not in found
    assert local.raw("EVENTDB.ONCE", "t", "GETSET", "secret", "other", client=client).startswith(b"-NOPERM")
    assert local("EVENTDB.ONCE", "mine", "SET", "mine1", "v", "GET", client=client) is None
    assert local("EVENTDB.ONCE", "mine", "SET", "mine1", "v", "GET", client=client) is None, "its own it may repeat"
    assert "ONCEMISMATCH" in str(local("EVENTDB.ONCE", "t", "SET", "mine1", "v", client=client))


def test_a_script_with_a_token_is_its_users_own() -> None:
    local = Local()
    local("SET", "secret", "s3cret")
    script = "redis.call('SET', 'mine1', 'x') return redis.call('GET', 'secret')"
    assert local("EVENTDB.ONCE", "t", "EVAL", script, "0") == b"s3cret"
    client, other = login(local, "u", "~mine*", "+@all"), login(local, "v", "~*", "+@all")
    assert b"s3cret" not in local.raw("EVENTDB.ONCE", "t", "EVAL", script, "0", client=client)
    assert local("EVENTDB.ONCE", "t", "EVAL", script, "0", client=other) == b"s3cret", "it may do everything"
    assert local("EVENTDB.ONCE", "own", "EVAL", "return redis.call('INCR', 'mine2')", "0", client=client) == 1
    assert local("EVENTDB.ONCE", "own", "EVAL", "return redis.call('INCR', 'mine2')", "0", client=client) == 1


def test_a_transaction_with_a_token_answers_only_who_may_still_run_it() -> None:
    local = Local()
    local("SET", "secret", "s3cret")
    client = login(local, "u", "~*", "+@all", "-config")

    def transaction() -> bytes:
        local("MULTI", client=client)
        local("GET", "secret", client=client)
        local("INCR", "n", client=client)
        return local.raw("EVENTDB.ONCE", "t", "EXEC", client=client)

    assert b"s3cret" in transaction()
    assert b"s3cret" in transaction()
    local("MULTI", client=client)
    local("GET", "secret", client=client)
    local("INCR", "n", client=client)
    local("ACL", "SETUSER", "u", "resetkeys", "~n")
    assert local.raw("EVENTDB.ONCE", "t", "EXEC", client=client).startswith(b"-NOPERM")
    # With a watched key that has changed nothing is queued, and nothing can be compared.
    local("WATCH", "n", client=client)
    local("INCR", "n")
    local("MULTI", client=client)
    local("INCR", "n", client=client)
    assert local.raw("EVENTDB.ONCE", "t", "EXEC", client=client).startswith(b"-NOPERM")
    assert local("GET", "n") == b"2"


@pytest.mark.redis
def test_a_subcommand_that_is_allowed_alone_is_allowed_in_a_script(redis_server: Address) -> None:
    with Pair(redis_server) as pair:
        pair("SET", "k", "v")
        pair(
            "ACL", "SETUSER", "u", "reset", "on", ">p", "~*", "+eval", "+object|encoding", "+xinfo|stream", "+select|0"
        )
        pair("AUTH", "u", "p", via=1)
        for call in ("OBJECT ENCODING k", "OBJECT REFCOUNT k", "OBJECT NOSUCH k", "OBJECT", "OBJECT ENCODING",
                     "XINFO HELP",
                     "SELECT 0", "SELECT 1", "COMMAND COUNT", "XINFO STREAM"):  # fmt: skip
            pair("EVAL", "return redis.pcall(unpack(ARGV))", "0", *call.split(), via=1)
        pair("ACL", "SETUSER", "u", "+command|count")
        pair("EVAL", "return type(redis.pcall('COMMAND', 'COUNT'))", "0", via=1)
        pair("EVAL", "return redis.acl_check_cmd('OBJECT', 'FREQ', 'k')", "0", via=1)
        pair("ACL", "DELUSER", "u")


@pytest.mark.redis
def test_what_a_user_of_some_keys_learns_of_others_is_what_redis_lets_it_learn(redis_server: Address) -> None:
    """Names and their number, and no contents, as SECURITY.md says."""
    with Pair(redis_server, rules={b"KEYS": in_any_order}) as pair:
        pair("SET", "other", "s3cret")
        pair("ACL", "SETUSER", "u", "reset", "on", ">p", "~mine*", "&mine", "+@all")
        pair("AUTH", "u", "p", via=1)
        for call in ("KEYS *", "SCAN 0 MATCH o*", "RANDOMKEY", "DBSIZE", "EXISTS other", "TYPE other",
                     "OBJECT ENCODING other",
                     "OBJECT REFCOUNT other", "MEMORY USAGE other", "DUMP other",
                     "PUBLISH __keyspace@0__:other set",
                     "SUBSCRIBE __keyspace@0__:other", "PSUBSCRIBE __key*", "SUBSCRIBE __redis__:invalidate",
                     "GET other", "TOUCH other", "COPY other mine1", "SORT mine1 BY other*",
                     "DEBUG OBJECT other"):  # fmt: skip
            reply = pair(*call.split(), via=1)
            assert b"s3cret" not in reply
        pair("ACL", "DELUSER", "u")


def test_notifications_come_only_on_channels_that_the_user_may_hear() -> None:
    local = Local()
    local("CONFIG", "SET", "notify-keyspace-events", "KEA")
    client = login(local, "u", "~mine*", "&__keyspace@0__:mine*", "+@all")
    assert local.raw("SUBSCRIBE", "__keyspace@0__:other", client=client).startswith(b"-NOPERM")
    assert local.raw("PSUBSCRIBE", "__key*", client=client).startswith(b"-NOPERM")
    assert b"subscribe" in local.raw("SUBSCRIBE", "__keyspace@0__:mine1", client=client)
    local("SET", "other", "v")
    client.flush()
    assert local.take(client) == b""
    local("SET", "mine1", "v")
    client.flush()
    assert b"mine1" in local.take(client)


@pytest.mark.parametrize("call", [
    "MONITOR", "SYNC", "PSYNC ? -1", "EVENTDB.ANNOUNCE {}", "EVENTDB.PUBLISH MESSAGE c m",
    "EVENTDB.DURABLE", "SLOWLOG GET", "CONFIG GET requirepass", "ACL LIST",
    "CLIENT LIST", "CLIENT KILL 1:1",
    "DEBUG OBJECT k", "EVENTDB.RESTORE TO OFFSET 1",
    "SHUTDOWN", "FAILOVER", "REPLICAOF NO ONE", "INFO", "KEYS *", "FLUSHALL", "SWAPDB 0 1", "LATENCY DOCTOR", "SAVE",
])  # fmt: skip
def test_what_shows_or_changes_all_is_dangerous(call: str) -> None:
    """So that one rule, -@dangerous, closes them all: what a node or an operator may do and a program need not."""
    local = Local()
    local("CONFIG", "SET", "enable-debug-command", "yes")
    client = login(local, "u", "~*", "&*", "+@all", "-@dangerous")
    assert local.raw(*call.split(), client=client)[:7] in (b"-NOPERM", b"-ERR DE")


@pytest.mark.skipif(COMPILED, reason="compiled code looks into a dict without asking it")
def test_no_arguments_lead_a_command_to_a_key_that_was_not_judged() -> None:
    """Every command with odd arguments, in a keyspace that notes each look. EVENTDB_FUZZ_SECONDS for longer."""
    seed = int(os.environ.get("EVENTDB_FUZZ_SEED", time.time_ns() % (1 << 32)))
    print(f"EVENTDB_FUZZ_SEED={seed}")
    local, read, written, until, calls = Local(), set[bytes](), set[bytes](), time.monotonic() + SECONDS, 0
    commands = [name for name in swept() if not {"sort", "sort_ro", "keys", "scan", "randomkey", "move"} & {name}]
    while calls < 300 or time.monotonic() < until:
        local.raw("FLUSHALL")
        for line in SEED:
            local.raw(*line.split())
        for name in commands:
            argv = Sweep(name, seed + calls).call()
            calls += 1
            if not (command := ALL[name]).has_keys:
                continue
            if not (len(argv) == command.arity if command.arity > 0 else len(argv) >= -command.arity):
                continue
            command_of(argv)
            judged = dict[bytes, int]()
            for key, use in uses(command, argv):
                judged[key] = judged.get(key, 0) | use
            dbs = local.engine.store.keyspace.dbs[:2]
            for db in dbs:
                db.values = Noting(db.values, read, written)
            read.clear()
            written.clear()
            local.raw(*argv)
            local.engine.unblock(local.client)
            looked, changed = read - {EVERY}, set(written)
            for db in dbs:
                db.values = dict(db.values)
            assert looked <= judged.keys(), (argv, looked, judged)
            unasked = {key for key in changed if not judged.get(key, 0) & WRITE}
            assert not unasked, (argv, unasked, judged)
    print(f"{calls} calls")
