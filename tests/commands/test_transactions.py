"""MULTI, EXEC and WATCH: one transaction in the log, whose replies and messages wait until it is durable."""

from __future__ import annotations

import pytest

from eventdb.engine.client import FOLLOWING, IN_MULTI, Client
from eventdb.engine.engine import Engine
from eventdb.engine.settings import Config
from eventdb.pipeline.commit import Commit
from eventdb.pipeline.outbox import Batch
from tests.kit.harness import Collector, Local

ABORTED = "EXECABORT Transaction discarded because of previous errors."


@pytest.fixture
def local() -> Local:
    return Local()


def run(local: Local, *lines: str, client: Client | None = None) -> list[object]:
    return [local(*line.split(), client=client) for line in lines]


def test_the_events_of_a_block_are_one_transaction(local: Local) -> None:
    assert run(local, "MULTI", "SET a 1", "RPUSH l x y", "GET a", "LPOP l", "EXEC")[-1] == [b"OK", 2, b"1", b"x"]
    [transaction] = local.transactions()
    assert transaction[1:] == [[b"SET", b"a", b"1"], [b"RPUSH", b"l", b"x", b"y"], [b"LPOP", b"l"]]
    assert local.engine.commit.offset == 1
    local.check_replay()


def test_a_block_over_several_databases_says_where_each_event_goes(local: Local) -> None:
    client = local.client
    run(local, "MULTI", "SET a 1", "SET b 2")
    client.queue[1] = (client.queue[1][0], [b"SET", b"b", b"2"])
    client.db = local.engine.store.keyspace.dbs[4]
    run(local, "EXEC")
    assert local.events() == [[b"SELECT", b"4"], [b"SET", b"a", b"1"], [b"SET", b"b", b"2"]]
    local.check_replay()


def test_a_block_that_changes_nothing_is_not_logged(local: Local) -> None:
    assert run(local, "MULTI", "GET a", "LPOP none", "EXEC")[-1] == [None, None]
    assert run(local, "MULTI", "EXEC")[-1] == []
    assert local.transactions() == []


def test_an_error_while_running_does_not_stop_the_rest(local: Local) -> None:
    run(local, "SET s x", "MULTI", "LPUSH s a", "SET a 1")
    failure, ok = local("EXEC")  # type: ignore[misc]
    assert str(failure).startswith("WRONGTYPE") and ok == b"OK"  # type: ignore[has-type]


@pytest.mark.parametrize("line", ["GET", "NOSUCH x", "WATCH", "EXEC x y", "MULTI x"])
def test_an_error_while_queuing_spoils_the_block(local: Local, line: str) -> None:
    run(local, "MULTI", "SET a 1", line)
    if line.startswith("EXEC"):
        assert not local.client.gate & IN_MULTI
    else:
        assert str(local("EXEC")) == ABORTED
    assert str(local("EXEC")) == "ERR EXEC without MULTI"
    assert local("GET", "a") is None


def test_what_is_wrong_with_the_words_themselves(local: Local) -> None:
    answers = run(local, "EXEC", "DISCARD", "EXEC x", "MULTI", "MULTI", "WATCH k", "SET a 1", "EXEC")
    assert [str(answer) for answer in answers] == [
        "ERR EXEC without MULTI",
        "ERR DISCARD without MULTI",
        "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command",
        "b'OK'",
        "ERR MULTI calls can not be nested",
        "ERR WATCH inside MULTI is not allowed",
        "b'QUEUED'",
        "[b'OK']",  # neither error spoils the block
    ]


def test_discard_forgets_the_queue_and_the_watch(local: Local) -> None:
    other = local.connect()
    run(local, "WATCH k", "MULTI", "SET a 1", "DISCARD")
    run(local, "SET k 1", client=other)
    assert run(local, "MULTI", "GET a", "EXEC")[-1] == [None]
    assert not local.engine.store.watching.watches


def test_blocking_commands_answer_at_once(local: Local) -> None:
    run(local, "MULTI", "BLPOP q 0", "BLMOVE q r LEFT LEFT 0", "RPUSH q 1", "BLPOP q 0")
    assert local.raw("EXEC") == b"*4\r\n*-1\r\n$-1\r\n:1\r\n*2\r\n$1\r\nq\r\n$1\r\n1\r\n"
    assert local.client.blocked is None


def test_a_block_that_grows_without_end_is_dropped(local: Local) -> None:
    local.engine.multi_bytes_max = 1000
    run(local, "MULTI", "SET a 1")
    answers = run(local, *["SET b 2"] * 10)
    assert [answer for answer in answers if answer != b"QUEUED"] and answers[-1] == b"QUEUED"
    assert not local.client.queue
    assert str(local("EXEC")) == ABORTED


def test_writes_queued_before_this_node_lost_its_role_are_refused(local: Local) -> None:
    run(local, "MULTI", "SET a 1")
    local.engine.gate = FOLLOWING
    local.engine.gate_error = "READONLY You can't write against a read only replica."
    assert str(local("EXEC")).startswith("EXECABORT Transaction discarded because of: READONLY ")
    assert run(local, "MULTI", "GET a", "EXEC")[-1] == [None]


# -- WATCH


def outcome(local: Local, *, broken: bool) -> None:
    """The next EXEC of the usual client fails, or not."""
    assert run(local, "MULTI", "GET none", "EXEC")[-1] == (None if broken else [None])
    assert not local.engine.store.watching.watches


@pytest.mark.parametrize(
    ("before", "change", "broken"),
    [
        ("", "SET k 1", True),
        ("", "SET other 1", False),
        ("SET k 1", "DEL k", True),
        ("", "DEL k", False),
        ("SET k 1", "RENAME k other", True),
        ("SET other 1", "RENAME other k", True),
        ("SET other 1", "COPY other k", True),
        ("SET k 1", "COPY k other", False),
        ("SET k 1", "MOVE k 1", True),
        ("SET k 1", "FLUSHALL", True),
        ("SET k 1", "FLUSHDB", True),
        ("SET other 1", "FLUSHALL", False),
        ("SET k 1", "SWAPDB 0 1", True),
        ("SET other 1", "SWAPDB 0 1", False),
        ("SET k 1", "SWAPDB 1 2", False),
        ("SET k 1", "PEXPIREAT k 9999999999999", True),
        ("RPUSH k 1", "LPOP none", False),
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_only_a_change_of_the_key_breaks_a_watch(
    local: Local, before: str, change: str, broken: bool, own: bool
) -> None:
    client = local.client if own else local.connect()
    if before:
        run(local, before)
    run(local, "WATCH k")
    run(local, change, client=client)
    outcome(local, broken=broken)


def test_a_watch_holds_in_its_own_database(local: Local) -> None:
    other = local.connect()
    other.db = local.engine.store.keyspace.dbs[1]
    run(local, "WATCH k")
    run(local, "SET k 1", "FLUSHDB", client=other)
    outcome(local, broken=False)
    run(local, "WATCH k")
    run(local, "SET k 1", "MOVE k 0", client=other)
    outcome(local, broken=True)


def test_unwatch_forgives(local: Local) -> None:
    run(local, "WATCH k", "SET k 1", "UNWATCH")
    outcome(local, broken=False)


def test_a_key_that_expires_between_watch_and_exec_breaks_it(local: Local) -> None:
    for look in ([], ["GET k"], ["SET k 2"]):
        run(local, f"SET k 1 PXAT {local.engine.store.now_ms + 50}", "WATCH k")
        local.engine.store.now_ms += 100
        run(local, *look)
        outcome(local, broken=True)
        run(local, "DEL k")


@pytest.mark.parametrize(
    ("change", "broken"), [("", False), ("DEL k", False), ("FLUSHALL", False), ("SWAPDB 0 1", False), ("SET k 2", True)]
)
def test_a_key_that_had_expired_before_the_watch_counts_as_absent(local: Local, change: str, broken: bool) -> None:
    run(local, f"SET k 1 PXAT {local.engine.store.now_ms + 50}")
    local.engine.store.now_ms += 100
    run(local, "WATCH k")
    if change:
        run(local, change)
    else:
        local.engine.expire_cycle()
        assert not local.engine.store.keyspace.dbs[0].values
    outcome(local, broken=broken)


def test_an_expired_key_that_swapdb_brings_counts_as_absent(local: Local) -> None:
    other = local.connect()
    other.db = local.engine.store.keyspace.dbs[1]
    run(local, f"SET k 1 PXAT {local.engine.store.now_ms + 50}", client=other)
    local.engine.store.now_ms += 100
    run(local, "WATCH k", "SWAPDB 0 1")
    outcome(local, broken=False)


def test_serving_a_blocked_client_breaks_a_watch(local: Local) -> None:
    waiter = local.connect()
    local.raw("BLPOP", "k", "0", client=waiter)
    run(local, "WATCH k")
    run(local, "RPUSH k 1", client=local.connect())
    outcome(local, broken=True)


def test_a_client_that_leaves_watches_no_more(local: Local) -> None:
    other = local.connect()
    run(local, "WATCH a b", client=other)
    local.engine.disconnect(other)
    assert not local.engine.store.watching.watches


# -- nothing leaves before it is durable


class Slow:
    """An engine whose batches become durable when the test says so."""

    def __init__(self) -> None:
        self.sealed: list[Batch] = []
        self.engine = Engine(Config(), Commit(self.sealed.append, lambda action: action()))

    def client(self, *lines: str) -> Client:
        client = self.engine.connect(Collector())
        self.run(client, *lines)
        return client

    def run(self, client: Client, *lines: str) -> None:
        for line in lines:
            self.engine.call(client, line.encode().split())

    def finish(self) -> None:
        while self.sealed:
            self.engine.commit.completed(self.sealed.pop(0))

    def sent(self, client: Client) -> bytes:
        client.flush()
        assert isinstance(client.sink, Collector)
        data, client.sink.data = client.sink.data, b""
        return data


def test_the_reply_of_exec_waits_even_if_it_only_read() -> None:
    slow = Slow()
    slow.client("SET k 1")
    reader = slow.client("MULTI", "GET k", "EXEC")
    assert slow.sent(reader) == b"+OK\r\n+QUEUED\r\n"
    slow.finish()
    assert slow.sent(reader) == b"*1\r\n$1\r\n1\r\n"


def test_a_broken_watch_is_not_told_before_what_broke_it_is_durable() -> None:
    slow = Slow()
    watcher = slow.client("WATCH k")
    slow.client("SET k 1")
    slow.run(watcher, "MULTI", "EXEC")
    assert slow.sent(watcher) == b"+OK\r\n+OK\r\n"
    slow.finish()
    assert slow.sent(watcher) == b"*-1\r\n"


def test_a_message_published_inside_exec_leaves_with_the_transaction() -> None:
    slow = Slow()
    listener = slow.client("SUBSCRIBE news")
    slow.sent(listener)
    publisher = slow.client("MULTI", "PUBLISH news before", "SET k 1", "PUBLISH news after", "EXEC")
    assert slow.sent(listener) == b""
    assert slow.sent(publisher) == b"+OK\r\n" + b"+QUEUED\r\n" * 3
    slow.finish()
    assert slow.sent(publisher) == b"*3\r\n:1\r\n+OK\r\n:1\r\n"
    messages = [b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n" + text for text in (b"$6\r\nbefore\r\n", b"$5\r\nafter\r\n")]
    assert slow.sent(listener) == b"".join(messages)


def test_a_message_published_inside_exec_that_changed_nothing_leaves_with_what_was_pending_before() -> None:
    slow = Slow()
    listener = slow.client("SUBSCRIBE news")
    slow.sent(listener)
    slow.client("SET k 1")
    slow.client("MULTI", "GET k", "PUBLISH news hi", "EXEC")
    assert slow.sent(listener) == b""
    slow.finish()
    assert slow.sent(listener).endswith(b"$2\r\nhi\r\n")
    slow.client("MULTI", "PUBLISH news ho", "EXEC")
    assert slow.sent(listener).endswith(b"$2\r\nho\r\n")


def test_a_subscription_inside_exec_is_confirmed_inside_its_reply(local: Local) -> None:
    run(local, "MULTI", "SUBSCRIBE x", "PING")
    assert local.raw("EXEC") == b"*2\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n"
