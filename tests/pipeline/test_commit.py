"""Nobody sees what could still be lost: replies and reads wait for the batch they could tell of."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from eventdb import commands
from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.settings import Config
from eventdb.pipeline.commit import GATHER_COUNT_MAX, GATHER_QUIET_TURNS, GATHER_TURNS_MAX, IN_FLIGHT_MAX, Commit
from eventdb.pipeline.outbox import Batch
from tests.kit.harness import Collector, Local

OK = b"+OK\r\n"


class Stalled:
    """An engine whose batches become durable only when the test says so."""

    def __init__(self) -> None:
        commands.load()
        self.sent: list[Batch] = []
        self.scheduled: list[Callable[[], None]] = []
        self.engine = Engine(Config(), Commit(self.sent.append, self.scheduled.append), 1)
        for db in self.engine.store.keyspace.dbs:
            db.track_deadlines()

    def connect(self) -> Client:
        return self.engine.connect(Collector())

    def turn(self) -> None:
        while self.scheduled:
            self.scheduled.pop(0)()

    def send(self, client: Client, *argv: str) -> bytes:
        """Run one command, end the loop turn, and return what the client has received."""
        self.engine.call(client, [a.encode() for a in argv])
        self.turn()
        return self.received(client)

    def received(self, client: Client) -> bytes:
        client.flush()
        sink = client.sink
        assert isinstance(sink, Collector)
        data, sink.data = sink.data, b""
        return data

    def confirm(self) -> None:
        """The oldest batch on its way becomes durable."""
        self.engine.commit.completed(self.sent.pop(0))
        self.turn()


def test_a_write_is_answered_only_when_its_batch_is_durable() -> None:
    node = Stalled()
    a = node.connect()
    assert node.send(a, "SET", "k", "v") == b""
    node.confirm()
    assert node.received(a) == OK


def test_later_replies_queue_behind_an_earlier_write() -> None:
    node = Stalled()
    a = node.connect()
    assert node.send(a, "SET", "k", "v") == b""
    assert node.send(a, "PING") == b""
    assert node.send(a, "GET", "clean") == b""
    node.confirm()
    assert node.received(a) == OK + b"+PONG\r\n$-1\r\n"


@pytest.mark.parametrize(
    ("read", "answer"),
    [
        (("GET", "k"), b"$1\r\n2\r\n"),
        (("MGET", "clean", "k"), b"*2\r\n$-1\r\n$1\r\n2\r\n"),
        (("EXISTS", "k"), b":1\r\n"),
        (("DBSIZE",), b":1\r\n"),
        (("KEYS", "*"), b"*1\r\n$1\r\nk\r\n"),
        (("SCAN", "0"), b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n"),
        (("RANDOMKEY",), b"$1\r\nk\r\n"),
        (("SET", "k", "x", "NX"), b"$-1\r\n"),
        (("SETNX", "k", "x"), b":0\r\n"),
    ],
)
def test_a_read_of_a_dirty_key_from_another_client_waits(read: tuple[str, ...], answer: bytes) -> None:
    node = Stalled()
    a, b = node.connect(), node.connect()
    node.send(a, "SET", "k", "2")
    assert node.send(b, *read) == b""
    assert node.send(b, "PING") == b"", "replies keep their order"
    node.confirm()
    assert node.received(b) == answer + b"+PONG\r\n"


@pytest.mark.parametrize(
    ("write", "changed"),
    [
        ("MSET a 1 b 2", "a b"),
        ("MSETNX new 1 other 2", "new other"),
        ("DEL a b", "a b"),
        ("UNLINK a b", "a b"),
        ("RENAME a b", "a b"),
        ("RENAMENX a new", "a new"),
        ("COPY a b REPLACE", "b"),
        ("SMOVE set set2 m", "set set2"),
        ("LMOVE list list2 LEFT LEFT", "list list2"),
        ("RPOPLPUSH list list2", "list list2"),
        ("SINTERSTORE b set", "b"),
        ("ZUNIONSTORE b 1 zset", "b"),
    ],
)
def test_every_key_of_a_write_is_dirty(write: str, changed: str) -> None:
    for key in changed.split():
        node = Stalled()
        writer, reader = node.connect(), node.connect()
        for before in ("MSET a x b y", "SADD set m n", "RPUSH list m n", "ZADD zset 1 m"):
            node.send(writer, *before.split())
            node.confirm()
        node.received(writer)
        assert node.send(writer, *write.split()) == b""
        assert node.send(reader, "EXISTS", key) == b"", f"{key} is told of before it is durable"
        assert node.send(node.connect(), "EXISTS", "clean") == b":0\r\n"
        node.confirm()
        assert node.received(reader) in (b":0\r\n", b":1\r\n")


def test_reads_of_clean_keys_do_not_wait() -> None:
    node = Stalled()
    a, b = node.connect(), node.connect()
    node.send(a, "SET", "clean", "1")
    node.confirm()
    node.send(a, "SET", "k", "2")
    assert node.send(b, "GET", "clean") == b"$1\r\n1\r\n"
    assert node.send(b, "GET", "never") == b"$-1\r\n"


def test_a_read_waits_for_the_newest_batch_that_changed_its_key() -> None:
    node = Stalled()
    a, b = node.connect(), node.connect()
    node.send(a, "SET", "k", "1")
    node.send(a, "SET", "k", "2")
    assert len(node.sent) == IN_FLIGHT_MAX == 1
    assert node.send(b, "GET", "k") == b""
    node.confirm()
    assert node.received(b) == b"", "the first batch is not enough"
    node.confirm()
    assert node.received(b) == b"$1\r\n2\r\n"


def test_exec_that_only_reads_waits_for_what_it_saw() -> None:
    node = Stalled()
    a, b = node.connect(), node.connect()
    node.send(a, "SET", "k", "1")
    assert node.send(b, "MULTI") == OK
    node.send(b, "GET", "k")
    assert node.send(b, "EXEC") == b""
    node.confirm()
    assert node.received(b).endswith(b"*1\r\n$1\r\n1\r\n")


def test_a_failed_watch_waits_for_the_write_that_broke_it() -> None:
    node = Stalled()
    a, b = node.connect(), node.connect()
    node.send(b, "WATCH", "k")
    node.send(a, "SET", "k", "1")
    node.send(b, "MULTI")
    node.send(b, "SET", "other", "1")
    node.received(b)
    assert node.send(b, "EXEC") == b""
    node.confirm()
    assert node.received(b) == b"*-1\r\n"


def test_a_message_does_not_overtake_what_its_publisher_wrote() -> None:
    node = Stalled()
    a, b = node.connect(), node.connect()
    node.send(b, "SUBSCRIBE", "c")
    node.send(a, "SET", "k", "1")
    node.send(a, "PUBLISH", "c", "look at k")
    assert b"look at k" not in node.received(b)
    node.confirm()
    assert b"look at k" in node.received(b)


def test_the_busier_the_log_the_larger_the_batch() -> None:
    node = Stalled()
    clients = [node.connect() for _ in range(10)]
    for client in clients:
        node.send(client, "SET", "k", "v")
    assert [batch.count for batch in node.sent] == [1]
    node.confirm()
    assert [(batch.first_offset, batch.count) for batch in node.sent] == [(2, 9)]


def test_a_whole_batch_change_makes_every_key_dirty() -> None:
    node = Stalled()
    a, b = node.connect(), node.connect()
    node.send(a, "SET", "k", "1")
    node.confirm()
    node.send(a, "FLUSHALL")
    assert node.send(b, "GET", "anything") == b""
    node.confirm()
    assert node.received(b) == b"$-1\r\n"


def test_failed_replies_keep_their_number_and_order() -> None:
    node = Stalled()
    a = node.connect()
    node.send(a, "SET", "k", "1")
    node.send(a, "PING")
    node.send(a, "SET", "k", "2")
    first = node.sent[0]
    a.fail_held("UNKNOWN outcome", first)
    assert node.received(a) == b"-UNKNOWN outcome\r\n" * 2
    node.confirm()
    assert node.received(a) == b"", "nothing is answered twice"
    node.confirm()
    assert node.received(a) == OK
    assert a.owed == 0


def test_stopping_the_pipeline_names_every_batch_of_unknown_outcome() -> None:
    node = Stalled()
    a = node.connect()
    node.send(a, "SET", "k", "1")
    node.send(a, "SET", "k", "2")
    node.send(a, "SET", "k", "3")
    lost = node.engine.commit.stop()
    assert [(batch.first_offset, batch.count) for batch in lost] == [(1, 1), (2, 2)]
    node.send(a, "SET", "k", "4")
    assert len(node.sent) == 1, "nothing is sent any more"


def test_a_write_that_was_fenced_off_has_no_offset() -> None:
    """EVENTDB.OFFSET went on calling it durable, though its number was another client's transaction by then."""
    local = Local()
    assert local("SET", "a", "1") == b"OK" and local("EVENTDB.OFFSET") == [1, 1]
    local.engine.call(local.client, [b"SET", b"b", b"2"])  # its batch is not durable yet
    local.engine.commit.stop()
    local.client.fail_held("UNKNOWN")
    local.engine.reset_state()
    local.client.flush()
    assert local.take(local.client) == b"-UNKNOWN\r\n"
    assert local("EVENTDB.OFFSET") == [1, 1]


# -- gathering: a small batch waits for the clients that have just been answered


class Crowd(Stalled):
    """Two clients that write all the time, seen turn by turn."""

    def __init__(self) -> None:
        super().__init__()
        self.clients = [self.connect(), self.connect()]
        for client in self.clients:  # the first write is on its way, and the second one is in the open batch
            self.send(client, "SET", "k", "v")
        assert [batch.count for batch in self.sent] == [1]

    def one_turn(self) -> None:
        for action in [self.scheduled.pop(0) for _ in range(len(self.scheduled))]:
            action()

    def write(self, client: Client) -> None:
        self.engine.call(client, [b"SET", b"k", b"v"])

    def first_is_durable(self) -> None:
        self.engine.commit.completed(self.sent.pop(0))


def test_a_small_batch_waits_for_who_was_just_answered() -> None:
    node = Crowd()
    node.first_is_durable()
    assert node.sent == []
    node.one_turn()
    node.write(node.clients[0])
    node.one_turn()
    assert node.sent == []
    for _ in range(GATHER_QUIET_TURNS):
        node.one_turn()
    assert [batch.count for batch in node.sent] == [2]
    assert node.scheduled == []


def test_what_goes_on_coming_does_not_hold_a_batch_back() -> None:
    node = Crowd()
    node.first_is_durable()
    for turns in range(GATHER_TURNS_MAX):
        assert node.sent == [], turns
        if turns % 2 and node.engine.commit.open.count < GATHER_COUNT_MAX - 1:
            node.write(node.clients[0])
        node.one_turn()
    assert len(node.sent) == 1


def test_a_batch_that_has_grown_large_waits_no_longer() -> None:
    node = Crowd()
    for _ in range(GATHER_COUNT_MAX):
        node.write(node.clients[1])
    node.first_is_durable()
    assert [batch.count for batch in node.sent] == [GATHER_COUNT_MAX + 1], "sealed before the replies leave"


def test_a_client_that_writes_alone_never_waits() -> None:
    node = Stalled()
    a = node.connect()
    for _ in range(3):
        node.engine.call(a, [b"SET", b"k", b"v"])
        assert len(node.scheduled) == 1
        node.scheduled.pop()()
        assert len(node.sent) == 1, "sealed at the end of the turn"
        node.engine.commit.completed(node.sent.pop())
        assert node.scheduled == []
