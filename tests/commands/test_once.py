"""EVENTDB.ONCE and EVENTDB.OUTCOME: at most once for a token, and the first reply for ever after."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from eventdb.commands.session.once import TOKEN_BYTES_MAX
from eventdb.engine.client import FOLLOWING, LEASELESS, OUT_OF_MEMORY
from eventdb.engine.engine import Engine
from eventdb.engine.settings import Config
from eventdb.keyspace.outcomes import FORGET_MAX
from eventdb.pipeline.commit import Commit
from eventdb.pipeline.outbox import Batch
from tests.kit.harness import Local


@pytest.fixture
def local() -> Local:
    return Local()


def test_a_repeat_runs_nothing_and_has_the_first_reply(local: Local) -> None:
    assert local("EVENTDB.ONCE", "t", "INCRBY", "n", 5) == 5
    local("INCRBY", "n", 100)
    logged = len(local.events())
    assert local("EVENTDB.ONCE", "t", "INCRBY", "n", 5) == 5
    assert local("eventdb.once", "t", "incrby", "n", 5) == 5, "the spelling of a command's name means nothing"
    assert local("GET", "n") == b"105"
    assert len(local.events()) == logged
    assert local.events()[1][:4] == [b"EVENTDB.RAN", b"t", b"1700000000000", b"1"]
    assert local("EVENTDB.OUTCOME", "t") == [b"applied", 1, 1_700_000_000_000, 5]
    assert local("EVENTDB.OUTCOME", "other") == [b"absent", 2, 0]
    local.check_replay()


def test_effect_and_outcome_are_one_transaction(local: Local) -> None:
    local("EVENTDB.ONCE", "t", "SET", "k", "v")
    assert [[event[0] for event in transaction[1:]] for transaction in local.transactions()] == [  # type: ignore[index]
        [b"SET", b"EVENTDB.RAN"]
    ]


def test_what_wrote_nothing_is_an_outcome_too(local: Local) -> None:
    local("SET", "k", "v")
    assert local("EVENTDB.ONCE", "t", "SET", "k", "w", "NX") is None
    local("DEL", "k")
    assert local("EVENTDB.ONCE", "t", "SET", "k", "w", "NX") is None
    assert local("EXISTS", "k") == 0
    local.check_replay()


def test_a_failed_command_is_not_kept(local: Local) -> None:
    local("SET", "k", "text")
    assert "not an integer" in str(local("EVENTDB.ONCE", "t", "INCR", "k"))
    local("SET", "k", "1")
    assert local("EVENTDB.ONCE", "t", "INCR", "k") == 2
    local.check_replay()


def test_a_script_that_wrote_and_failed_is_kept(local: Local) -> None:
    pytest.importorskip("lupa")
    script = "redis.call('incr',KEYS[1]) return redis.error_reply('MINE no')"
    assert str(local("EVENTDB.ONCE", "t", "EVAL", script, 1, "k")) == "MINE no"
    assert str(local("EVENTDB.ONCE", "t", "EVAL", script, 1, "k")) == "MINE no"
    assert local("GET", "k") == b"1"
    outcome = local("EVENTDB.OUTCOME", "t")
    assert isinstance(outcome, list) and str(outcome[3]) == "MINE no"
    local.check_replay()


def test_scripts(local: Local) -> None:
    pytest.importorskip("lupa")
    script = "return {redis.call('incr',KEYS[1]),false,ARGV[1]}"
    for _ in range(2):
        assert local("EVENTDB.ONCE", "t", "EVAL", script, 1, "k", "x") == [1, None, b"x"]
    assert "not allowed from script" in str(local("EVAL", "return redis.call('eventdb.once','a','incr','k')", 0))
    assert "not allowed from script" in str(local("EVAL", "return redis.call('eventdb.outcome','a')", 0))
    local.check_replay()


def run_transaction(local: Local, token: str, **who: object) -> bytes:
    local.raw("MULTI", **who)  # type: ignore[arg-type]
    for line in ("INCR n", "ZADD z 1.5 m", "ZPOPMIN z 1", "LPOP gone 1", "GET gone", "HGETALL h"):
        local.raw(*line.split(), **who)  # type: ignore[arg-type]
    return local.raw("EVENTDB.ONCE", token, "EXEC", **who)  # type: ignore[arg-type]


@pytest.mark.parametrize("first", [2, 3])
def test_a_transaction_has_the_form_of_each_connection(first: int) -> None:
    expected = {}
    for version in (2, 3):
        plain = Local()
        plain("HELLO", version)
        plain("HSET", "h", "f", "v")
        plain.raw("MULTI")
        for line in ("INCR n", "ZADD z 1.5 m", "ZPOPMIN z 1", "LPOP gone 1", "GET gone", "HGETALL h"):
            plain.raw(*line.split())
        expected[version] = plain.raw("EXEC")
    local = Local()
    clients = {2: local.connect(), 3: local.connect()}
    local("HELLO", 3, client=clients[3])
    local("HSET", "h", "f", "v")
    for version in (first, 5 - first, first):
        assert run_transaction(local, "t", client=clients[version]) == expected[version]
        assert local("PING", client=clients[version]) == b"PONG", "it has left MULTI"
        assert local.raw("EVENTDB.OUTCOME", "t", client=clients[version]).endswith(expected[version])
    assert local("GET", "n") == b"1"
    assert len(local.transactions()) == 2
    local.check_replay()


def test_a_transaction_whose_keys_have_changed_is_not_kept(local: Local) -> None:
    other = local.connect()
    local("WATCH", "n")
    local("SET", "n", 5, client=other)
    local("MULTI")
    local("INCR", "n")
    assert local("EVENTDB.ONCE", "t", "EXEC") is None
    assert run_transaction(local, "t").startswith(b"*6\r\n:6\r\n")
    # and a repeat of one that ran has its reply, whatever is watched
    local("WATCH", "n")
    local("SET", "n", 1, client=other)
    assert run_transaction(local, "t").startswith(b"*6\r\n:6\r\n")
    local.check_replay()


def test_a_spoiled_transaction(local: Local) -> None:
    assert str(local("EVENTDB.ONCE", "t", "EXEC")) == "ERR EXEC without MULTI"
    local("MULTI")
    local("NOPE")
    assert str(local("EVENTDB.ONCE", "t", "EXEC")).startswith("EXECABORT")
    local("MULTI")
    assert "is not queued" in str(local("EVENTDB.ONCE", "t", "INCR", "n"))
    assert str(local("EXEC")).startswith("EXECABORT")
    for line in ("SELECT 1", "HELLO 3", "CLIENT SETNAME x", "SUBSCRIBE c"):
        local("MULTI")
        local("INCR", "n")
        local(*line.split())
        assert "changes the connection" in str(local("EVENTDB.ONCE", "t", "EXEC")), line
        assert local("PING") == b"PONG"
    assert local("EXISTS", "n") == 0 and local.events() == []


def test_one_token_is_for_one_command(local: Local) -> None:
    local("EVENTDB.ONCE", "t", "SET", "k", "v")
    for other in (("SET", "k", "w"), ("SET", "k", "v", "NX"), ("APPEND", "k", "v")):
        assert str(local("EVENTDB.ONCE", "t", *other)).startswith("ONCEMISMATCH")
    local("SELECT", 1)
    assert str(local("EVENTDB.ONCE", "t", "SET", "k", "v")).startswith("ONCEMISMATCH")
    assert local("DBSIZE") == 0
    assert run_transaction(local, "t").startswith(b"-ONCEMISMATCH")
    local.check_replay()


def test_what_it_does_not_take(local: Local) -> None:
    for line, text in {
        "t": "wrong number of arguments for 'eventdb.once'",
        "t GET k": "'get' does not; the command was not run",
        "t PUBLISH c m": "'publish' does not",
        "t EVAL_RO return(1) 0": "'eval_ro' does not",
        "t CONFIG SET maxmemory 0": "'config|set' does not",
        "t BLPOP l 0": "may block",
        "t XREADGROUP GROUP g c BLOCK 0 STREAMS x >": "may block",
        "t EVENTDB.ONCE u INCR k": "inside EVENTDB.ONCE",
        "t INCR": "wrong number of arguments for 'incr'",
        "t XGROUP NOPE x": "unknown subcommand",
        "t NOPE": "unknown command 'NOPE'",
        "t MULTI": "'multi' does not",
    }.items():
        assert text in str(local("EVENTDB.ONCE", *line.split())), line
    assert local.events() == []
    local("XGROUP", "CREATE", "x", "g", "$", "MKSTREAM")
    local("XADD", "x", "1-1", "BLOCK", "v")
    for _ in range(2):
        read = local("EVENTDB.ONCE", "t", "XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">")
        assert read == [[b"x", [[b"1-1", [b"BLOCK", b"v"]]]]]
    local.check_replay()


@pytest.mark.parametrize("command", ["EVENTDB.ONCE", "EVENTDB.OUTCOME"])
def test_hostile_tokens(local: Local, command: str) -> None:
    rest = ("SET", "k", "v") if command == "EVENTDB.ONCE" else ()
    assert str(local(command, "", *rest)) == "ERR the token is empty"
    long = b"\xff\x00\r\n" * (TOKEN_BYTES_MAX // 4)
    assert str(local(command, long + b"x", *rest)) == "ERR the token is longer than 512 bytes"
    assert not isinstance(local(command, long, *rest), Exception)
    assert local("EVENTDB.ONCE", long, "SET", "k", "v") == b"OK"
    assert local("EVENTDB.OUTCOME", long) == [b"applied", 1, 1_700_000_000_000, b"OK"]
    local.check_replay()


def test_a_reply_too_large_to_keep(local: Local) -> None:
    local("CONFIG", "SET", "once-max-reply", "100")
    local("SET", "k", "x" * 200)
    assert local("EVENTDB.ONCE", "t", "GETDEL", "k") == b"x" * 200
    lost = "ONCENOREPLY the command with this token ran in the transaction at offset 2; its reply was not kept"
    assert str(local("EVENTDB.ONCE", "t", "GETDEL", "k")) == lost
    outcome = local("EVENTDB.OUTCOME", "t")
    assert isinstance(outcome, list) and outcome[:2] == [b"applied", 2] and str(outcome[3]) == lost
    local.check_replay()


def test_outcomes_are_kept_for_a_time(local: Local) -> None:
    local("CONFIG", "SET", "once-retention-ms", 1000)
    store = local.engine.store
    for i in range(3):
        local("EVENTDB.ONCE", f"t{i}", "INCR", "n")
        store.now_ms += 500
    assert local("EVENTDB.ONCE", "t1", "INCR", "n") == 2, "it is kept for as long as nothing drops it"
    assert local("EVENTDB.ONCE", "t3", "INCR", "n") == 4
    assert local.events()[-2] == [b"EVENTDB.FORGET", b"1"], "t0 went when t2 came"
    assert local("EVENTDB.ONCE", "t0", "INCR", "n") == 5, "past its time a repeat runs again"
    assert local("EVENTDB.OUTCOME", "t1") == [b"absent", 5, 1_700_000_000_500]
    store.now_ms += 1000
    local.engine.expire_cycle()
    local.turn()
    assert local.events()[-1] == [b"EVENTDB.FORGET", b"3"] and not store.keyspace.outcomes.kept
    local.check_replay()


def test_outcomes_are_bounded_by_a_count(local: Local) -> None:
    local("CONFIG", "SET", "once-max-tokens", 2)
    for token in ("a", "b"):
        local("EVENTDB.ONCE", token, "INCR", "n")
    assert str(local("EVENTDB.ONCE", "c", "INCR", "n")).startswith("ONCEFULL the outcomes of 2 tokens are kept")
    assert local("EVENTDB.ONCE", "a", "INCR", "n") == 1, "what is kept is answered"
    assert local("GET", "n") == b"2"
    local.engine.store.now_ms += 600_000
    assert local("EVENTDB.ONCE", "c", "INCR", "n") == 3
    local.check_replay()


def test_many_are_dropped_a_part_at_a_time(local: Local) -> None:
    for i in range(FORGET_MAX + 5):
        local.engine.call(local.client, [b"EVENTDB.ONCE", b"%d" % i, b"INCR", b"n"])
    local.turn()
    local.engine.store.now_ms += 600_000
    for _ in range(2):
        local.engine.expire_cycle()
        local.turn()
    assert [event for event in local.events() if event[0] == b"EVENTDB.FORGET"] == [
        [b"EVENTDB.FORGET", b"1000"], [b"EVENTDB.FORGET", b"5"]
    ]  # fmt: skip
    local.check_replay()


def test_a_flush_keeps_outcomes(local: Local) -> None:
    local("SET", "k", "v")
    local("EVENTDB.ONCE", "t", "FLUSHALL")
    local("SET", "k", "w")
    assert local("EVENTDB.ONCE", "t", "FLUSHALL") == b"OK"
    assert local("GET", "k") == b"w"
    local("FLUSHALL")
    assert isinstance(found := local("EVENTDB.OUTCOME", "t"), list) and found[0] == b"applied"
    local.check_replay()


def test_outcomes_are_state(local: Local) -> None:
    """The digest tells of them; without tokens it is the one that it always was."""
    plain = Local()
    plain("SET", "k", "v")
    local("EVENTDB.ONCE", "t", "SET", "k", "v")
    assert local.engine.digest() != plain.engine.digest()
    replica = Engine(Config(), Commit(lambda batch: None, lambda action: None))
    replica.apply(local.transactions())  # type: ignore[arg-type]
    kept = replica.store.keyspace.outcomes.kept[b"t"]
    assert (kept.offset, kept.reply, kept.reply2) == (1, b"+OK\r\n", b"+OK\r\n")
    replica.reset_state()
    assert not replica.store.keyspace.outcomes.kept


def test_nobody_hears_of_an_outcome_before_it_is_durable() -> None:
    batches: list[Batch] = []
    scheduled: list[Callable[[], None]] = []
    local = Local()
    commit = Commit(batches.append, scheduled.append)
    local.engine.begin_commit(commit)
    first, second, third = local.connect(), local.connect(), local.connect()
    assert local.raw("EVENTDB.ONCE", "t", "INCR", "n", client=first) == b""
    assert local.raw("EVENTDB.ONCE", "t", "INCR", "n", client=second) == b""
    assert local.raw("EVENTDB.OUTCOME", "t", client=third) == b""
    absent = local.connect()
    assert local.raw("EVENTDB.OUTCOME", "u", client=absent) == b""
    scheduled.pop(0)()
    assert local.engine.commit.offset == 1
    for client in commit.completed(batches[0]):
        client.flush()
    assert local.take(first) == local.take(second) == b":1\r\n"
    assert local.take(third).startswith(b"*4\r\n$7\r\napplied\r\n:1\r\n")
    assert local.take(absent) == b"*3\r\n$6\r\nabsent\r\n:1\r\n:0\r\n"


def test_a_replica_knows_what_ran_and_never_says_that_nothing_did(local: Local) -> None:
    local("EVENTDB.ONCE", "t", "INCR", "n")
    local.engine.gate |= FOLLOWING
    local.engine.gate_error = "READONLY no"
    assert str(local("EVENTDB.ONCE", "t", "INCR", "n")) == "READONLY no"
    pytest.importorskip("lupa")
    assert str(local("EVENTDB.ONCE", "u", "EVAL", "return 1", 0)) == "READONLY no"
    local("MULTI")
    local("GET", "n")
    assert str(local("EVENTDB.ONCE", "u", "EXEC")) == "EXECABORT Transaction discarded because of: READONLY no"
    assert local("PING") == b"PONG"
    assert local("EVENTDB.OUTCOME", "t") == [b"applied", 1, 1_700_000_000_000, 1]
    assert str(local("EVENTDB.OUTCOME", "u")).startswith("TRYAGAIN this replica")


def test_without_a_lease(local: Local) -> None:
    local.engine.gate |= LEASELESS
    assert local.raw("EVENTDB.OUTCOME", "t") == b"" and local.client.stalled
    local.engine.gate &= ~LEASELESS
    local.engine.run_stalled_later()
    local.turn()
    assert local.take(local.client).startswith(b"*3\r\n$6\r\nabsent")
    local.engine.on_lapse = lambda: None  # a primary whose lease has lapsed and that answers reads all the same
    assert str(local("EVENTDB.OUTCOME", "t")).startswith("TRYAGAIN the lease")


def test_a_stalled_command_keeps_its_token(local: Local) -> None:
    local("CLIENT", "PAUSE", 1000, "WRITE")
    assert local.raw("EVENTDB.ONCE", "t", "INCR", "n") == b""
    other = local.connect()
    assert local.raw("EVENTDB.ONCE", "t", "INCR", "n", client=other) == b""
    local.engine.unpause()
    local.turn()
    assert local.take(local.client) == local.take(other) == b":1\r\n"
    local.check_replay()


def test_the_checks_are_those_of_the_command_inside() -> None:
    config = Config()
    config.set("requirepass", "secret")
    local = Local(config=config)
    assert str(local("EVENTDB.ONCE", "t", "NOPE")).startswith("NOAUTH")
    assert str(local("EVENTDB.ONCE", "t", "SET", "k", "v")).startswith("NOAUTH")
    local("AUTH", "secret")
    assert local("EVENTDB.ONCE", "before", "SET", "k", "v") == b"OK"
    local.engine.gate |= OUT_OF_MEMORY
    assert str(local("EVENTDB.ONCE", "t", "SET", "k", "v")).startswith("OOM")
    assert local("EVENTDB.ONCE", "t", "DEL", "k") == 1
    assert local("EVENTDB.ONCE", "before", "SET", "k", "v") == b"OK", "what ran needs no memory"


def test_the_slot_is_the_commands(local: Local) -> None:
    config = Config()
    config.set("cluster-enabled", "yes")
    local = Local(config=config)
    assert "CROSSSLOT" in str(local("EVENTDB.ONCE", "t", "MSET", "a", "1", "b", "2"))
    assert local("EVENTDB.ONCE", "t", "MSET", "{a}1", "1", "{a}2", "2") == b"OK"
    assert local("COMMAND", "GETKEYS", "EVENTDB.ONCE", "t", "MSET", "a", "1", "b", "2") == [b"a", b"b"]
