"""Users and their rules: beside a real Redis, through the log, at replicas, and wherever a command can come from."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from eventdb.engine.engine import Engine
from eventdb.engine.registry import COMMANDS
from eventdb.engine.settings import Config
from eventdb.pipeline.commit import Commit
from eventdb.security.acl import AclError, User
from tests.kit.differential import Pair
from tests.kit.harness import Local

RULES = [
    "on >p ~a* %R~r* %W~w* &news* +get +set +exists +publish +subscribe +psubscribe",
    "on nopass allkeys +@read -@slow",
    "on nopass ~* +@all -@dangerous",
    "on nopass ~* +@all -config|set -del",
    "on nopass ~* -@all +config|get +select|0 +object|encoding",
    "on nopass +get ~a (+set ~b) (%R~c* +@all)",
    "on nopass ~x* resetkeys ~y* +@string -setrange",
    "on nopass &a* +publish +psubscribe +spublish +ssubscribe",
    "on nopass allchannels +@pubsub",
    "off nopass ~* +@all",
    "on nopass ~[ab]?* +@keyspace +copy +rename +sort",
]
CALLS = [
    "get a1", "get r1", "get w1", "get x", "set a1 v", "set r1 v", "set w1 v", "set w1 v get", "set y1 v", "exists w1",
    "exists zz", "del a1", "flushall", "config get x", "config set x y", "config resetstat", "select 0", "select 1",
    "object encoding a1", "mget a1 r1", "mget a1 zz", "publish news1 m", "publish other m", "subscribe news1",
    "psubscribe news*", "psubscribe a*", "spublish a1 m", "ssubscribe b", "unsubscribe", "copy a1 b1", "copy r1 w1",
    "rename a1 b1", "sort a1", "eval 1 1 a1", "bitfield a1 get u8 0", "bitfield r1 set u8 0 1", "setrange y1 0 a",
    "keys *", "ping", "auth x", "acl whoami", "zunionstore a1 2 r1 r2", "xread streams a1 r1 0 0", "getset r1 v",
    "lmove a1 zz left right", "multi", "info", "smove a1 w1 m", "migrate h 1 a1 0 1",
]  # fmt: skip


@pytest.fixture
def pair(redis_server: tuple[str, int]) -> Iterator[Pair]:
    with Pair(redis_server) as made:
        yield made
        names = made.wires[0].call("ACL", "USERS").split(b"\r\n")[2::2]
        for name in names:
            if name != b"default":
                made.wires[0].call("ACL", "DELUSER", name)


@pytest.mark.redis
@pytest.mark.parametrize("rules", RULES)
def test_verdicts_are_those_of_redis(pair: Pair, rules: str) -> None:
    pair("ACL", "SETUSER", "u", *rules.split())
    for call in CALLS:
        if call.split()[0].upper().encode() in COMMANDS:
            pair("ACL", "DRYRUN", "u", *call.split())


@pytest.mark.redis
@pytest.mark.parametrize(
    "rules",
    ["+nope", "+@nope", "-config|nope", "%X~a", "%~a", "xyz", "<nopw", "#zz", "!abc", "~a allkeys ~b", "(+get", ")",
     "allchannels &x", "+config|set|x", "-set|x", "~a\0b", "", "+", "+@", "> ", "+set|", "reset (+get ~a) (bad)",
     "+get|a|b", "+get||", "+get|a|", "+config|", "+config|get|", "+config|nope|x"],
)  # fmt: skip
def test_bad_rules_are_refused_with_the_text_of_redis_and_change_nothing(pair: Pair, rules: str) -> None:
    pair("ACL", "SETUSER", "u", "on", "+get", "~a")
    reply = pair("ACL", "SETUSER", "u", "+set", *rules.split(" "))
    if reply.startswith(b"-"):
        pair("ACL", "DRYRUN", "u", "set", "a", "b")
    pair("ACL", "SETUSER", "a b", "on")
    pair("ACL", "DELUSER", "default")


@pytest.mark.redis
def test_what_a_restricted_client_hears_is_what_redis_says(pair: Pair) -> None:
    pair("ACL", "SETUSER", "u", "on", ">p", "~a*", "&n*", "+@all", "-@admin", "-flushall")
    for step in [
        "AUTH u wrong", "AUTH nobody p", "AUTH u p", "ACL WHOAMI", "SET a1 v", "SET b1 v", "FLUSHALL", "CONFIG GET x",
        "PUBLISH x y", "PUBLISH n y", "MULTI", "SET a2 v", "SET b2 v", "EXEC", "MULTI", "SET a3 v", "EXEC", "GET a3",
        "MGET a1 b1", "AUTH default x", "RESET", "ACL WHOAMI", "AUTH u p", "ACL WHOAMI",
    ]:  # fmt: skip
        pair(*step.split(), via=1)
    pair("MULTI", via=1)
    pair("SET", "a4", "v", via=1)
    pair("ACL", "SETUSER", "u", "-set")
    pair("EXEC", via=1)
    pair("SET", "a4", "v", via=1)


@pytest.mark.redis
def test_sort_follows_patterns_only_for_a_user_that_may_read_every_key(pair: Pair) -> None:
    pair("RPUSH", "a", "1", "2")
    pair("SET", "secret1", "x")
    pair("ACL", "SETUSER", "u", "on", ">p", "~a*", "+@all")
    pair("AUTH", "u", "p", via=1)
    for rule in ("+@all", "%R~*"):
        pair("ACL", "SETUSER", "u", rule)
        for call in ("SORT a BY secret*", "SORT a BY nosort", "SORT a GET secret*", "SORT a GET #", "SORT_RO a BY w*"):
            pair(*call.split(), via=1)


@pytest.mark.redis
def test_getuser_and_users_are_those_of_redis(pair: Pair) -> None:
    pair("ACL", "GETUSER", "nobody")
    pair("ACL", "GETUSER", "default")
    pair("ACL", "SETUSER", "u")
    pair("ACL", "GETUSER", "u")
    pair("ACL", "SETUSER", "u", "on", ">p", "#" + "a" * 64, "~a*", "%R~b*", "+get", "&c", "(+@all ~*)", "nopass")
    pair("ACL", "GETUSER", "u")
    pair("ACL", "SETUSER", "u", "reset")
    pair("ACL", "GETUSER", "u")
    pair("ACL", "USERS")
    pair("ACL", "CAT")
    pair("ACL", "CAT", "nope")
    for bits in ("0", "5000", "x"):
        pair("ACL", "GENPASS", bits)
    pair("ACL", "LOAD")
    pair("ACL", "SAVE")


@pytest.mark.redis
def test_what_new_selectors_may_hear_is_a_setting_for_all_of_them(pair: Pair) -> None:
    for default in ("allchannels", "resetchannels"):
        pair("CONFIG", "SET", "acl-pubsub-default", default)
        for rules in ("on", "reset", "(+get ~a)", "resetchannels (+@all)", "reset &a", "clearselectors reset +@all"):
            pair("ACL", "SETUSER", f"u-{default}", *merged_words(rules))
            pair("ACL", "GETUSER", f"u-{default}")
    pair("CONFIG", "SET", "acl-pubsub-default", "resetchannels")


def merged_words(rules: str) -> list[str]:
    return re.findall(r"\([^)]*\)|\S+", rules)


def _replayed(local: Local) -> Engine:
    replica = Engine(Config(), Commit(lambda batch: None, lambda action: None), 2)
    replica.apply(local.transactions())  # type: ignore[arg-type]
    return replica


def test_users_are_in_the_log_and_a_replay_has_them() -> None:
    local = Local()
    before = local.engine.digest()
    assert local("ACL", "SETUSER", "u", "on", ">secret", "~a*", "+@all", "-flushall", "(+get ~*)") == b"OK"
    assert b"secret" not in b"".join(local.log), "a password is in the log"
    assert local.engine.digest() != before
    replayed = _replayed(local)
    assert replayed.digest() == local.engine.digest()
    assert replayed.permissions.lines() == local.engine.permissions.lines()
    assert local("FLUSHALL") == b"OK"
    assert local("ACL", "USERS") == [b"default", b"u"]
    assert local("ACL", "DELUSER", "u", "nobody") == 1
    assert local.engine.digest() == before
    assert _replayed(local).digest() == before


def test_a_line_of_rules_makes_the_same_user_again() -> None:
    local = Local()
    for i, rules in enumerate(RULES):
        name = f"u{i}"
        assert local("ACL", "SETUSER", name, *rules.split()) == b"OK"
        user = local.engine.permissions.users[name.encode()]
        again = local.engine.permissions.from_line(name.encode(), user.describe())
        assert again.describe() == user.describe()
        assert [each.commands for each in again.selectors] == [each.commands for each in user.selectors]


@pytest.mark.parametrize("rule", ["+select|0\t1", "+select|\n", "+select|0 ", "+select|"])
def test_a_first_argument_has_no_white_space(rule: str) -> None:
    """A line of rules with it could not be read back (Redis takes it)."""
    local = Local()
    assert "Error in ACL SETUSER modifier" in str(local("ACL", "SETUSER", "some", "+get", rule))
    assert local.log == [] and b"some" not in local.engine.permissions.users


def test_a_script_runs_in_the_name_of_its_caller() -> None:
    local = Local()
    local("ACL", "SETUSER", "u", "on", ">p", "~a*", "+eval", "+set")
    client = local.connect()
    assert local("AUTH", "u", "p", client=client) == b"OK"
    assert local("EVAL", "return redis.call('set', 'a', '1')", "0", client=client) == b"OK"
    for script in ("return redis.call('get', 'a')", "return redis.call('set', 'b', '1')"):
        assert "The user executing the script can't" in str(local("EVAL", script, "0", client=client))
    contexts = [entry.context for entry in local.engine.permissions.log]
    assert contexts == ["lua", "lua"]


def test_deleting_a_user_and_taking_a_channel_away_closes_connections() -> None:
    local = Local()
    local("ACL", "SETUSER", "u", "on", ">p", "~*", "&a", "&b", "+@all")
    first, second = local.connect(), local.connect()
    for client in (first, second):
        assert local("AUTH", "u", "p", client=client) == b"OK"
    local.raw("SUBSCRIBE", "a", client=first)
    local("ACL", "SETUSER", "u", "resetchannels", "&b")
    assert first.closing and not second.closing
    local("ACL", "DELUSER", "u")
    assert second.closing


def test_refusals_that_are_alike_are_one_entry() -> None:
    local = Local()
    local("ACL", "SETUSER", "u", "on", ">p", "~a*", "+get")
    client = local.connect()
    local.raw("AUTH", "u", "wrong", client=client)
    local("AUTH", "u", "p", client=client)
    for _ in range(3):
        local.raw("SET", "a", "b", client=client)
    local.raw("GET", "x", client=client)
    entries = local("ACL", "LOG")
    assert isinstance(entries, list)
    found = [dict(zip(entry[::2], entry[1::2])) for entry in entries]
    assert [(e[b"reason"], e[b"object"], e[b"count"]) for e in found] == [
        (b"key", b"x", 1), (b"command", b"set", 3), (b"auth", b"AUTH", 1),
    ]  # fmt: skip
    assert b"user=u" in found[0][b"client-info"]
    assert local("CONFIG", "SET", "acllog-max-len", "1") == b"OK"
    left = local("ACL", "LOG")
    assert isinstance(left, list)
    assert len(left) == 1
    assert local("ACL", "LOG", "RESET") == b"OK"
    assert local("ACL", "LOG") == []


def test_requirepass_is_the_default_users_password() -> None:
    local = Local()
    assert local("CONFIG", "SET", "requirepass", "x") == b"OK"
    client = local.connect()
    assert local.raw("GET", "a", client=client).startswith(b"-NOAUTH")
    assert local.raw("AUTH", "y", client=client).startswith(b"-WRONGPASS")
    assert local("AUTH", "x", client=client) == b"OK"
    assert local("AUTH", "default", "x", client=client) == b"OK"
    assert local("CONFIG", "SET", "requirepass", "") == b"OK"
    assert local("GET", "a", client=local.connect()) is None


def test_a_user_may_be_turned_off_and_the_default_one_too() -> None:
    local = Local()
    local("ACL", "SETUSER", "default", "off")
    client = local.connect()
    assert local.raw("GET", "a", client=client).startswith(b"-NOAUTH")
    assert local.raw("AUTH", "default", "x", client=client).startswith(b"-WRONGPASS")


def test_an_unrestricted_user_meets_no_gate() -> None:
    local = Local()
    local("ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all")
    client = local.connect()
    local("AUTH", "u", "p", client=client)
    assert client.gate == 0


def test_a_rule_is_never_half_applied() -> None:
    local = Local()
    user = local.engine.permissions.users[b"default"]
    with pytest.raises(AclError):
        local.engine.permissions.changed(b"default", [b"off", b"nonsense"])
    assert user.enabled
    assert isinstance(user, User)


def test_no_password_is_in_the_slow_log_or_in_the_acl_log() -> None:
    local = Local()
    local("CONFIG", "SET", "slowlog-log-slower-than", "0")
    local("ACL", "SETUSER", "u", "on", ">s3cret", "~*", "+@all")
    local("CONFIG", "SET", "masterauth", "s3cret")
    client = local.connect()
    local.raw("AUTH", "u", "s3cret-wrong", client=client)
    local.raw("AUTH", "u", "s3cret", client=client)
    local.raw("HELLO", "3", "AUTH", "u", "s3cret", client=client)
    local.raw("EVENTDB.ONCE", "t", "ACL", "SETUSER", "v", ">s3cret")
    for shown in (local.raw("SLOWLOG", "GET", "100"), local.raw("ACL", "LOG"), local.raw("INFO", "everything")):
        assert b"s3cret" not in shown


def test_an_undone_transaction_takes_its_users_back() -> None:
    local = Local()
    local("EVENTDB.ATOMIC", "ON")
    before = local.engine.digest()
    local("MULTI")
    local("ACL", "SETUSER", "u", "on", "nopass")
    local("LPUSH", "l", "1")
    local("GET", "l")
    assert "EXECABORT" in str(local("EXEC"))
    assert local.engine.digest() == before
    assert local("ACL", "USERS") == [b"default"]
    assert local.engine.permissions.users.keys() == {b"default"}
