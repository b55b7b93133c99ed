"""Blocked clients: who is served, by which key, when, and what the log says about it."""

from __future__ import annotations

import pytest

from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.settings import Config
from eventdb.pipeline.commit import Commit
from eventdb.pipeline.outbox import Batch
from tests.kit.harness import Collector, Local

NONE_YET = b""


class Room:
    """An engine and clients who wait in it; `got` is what a client has received since it was last asked."""

    def __init__(self) -> None:
        self.local = Local()

    def __call__(self, line: str) -> object:
        return self.local(*line.split())

    def wait(self, line: str, resp3: bool = False) -> Client:
        client = self.local.connect()
        client.resp3 = resp3
        assert self.local.raw(*line.split(), client=client) == NONE_YET
        assert client.blocked is not None
        return client

    def got(self, client: Client) -> bytes:
        self.local.turn()
        client.flush()
        return self.local.take(client)


@pytest.fixture
def room() -> Room:
    return Room()


def pair(key: str, element: str) -> bytes:
    return f"*2\r\n${len(key)}\r\n{key}\r\n${len(element)}\r\n{element}\r\n".encode()


def test_who_has_waited_longest_is_served_first(room: Room) -> None:
    first, second, third = (room.wait("BLPOP k 0") for _ in range(3))
    room("RPUSH k 1 2")
    assert [room.got(c) for c in (first, second, third)] == [pair("k", "1"), pair("k", "2"), NONE_YET]
    room("RPUSH k 3")
    assert room.got(third) == pair("k", "3")
    assert not room.local.engine.blocking.waiters
    room.local.check_replay()


def test_each_served_client_pops_in_a_transaction_of_its_own(room: Room) -> None:
    room.wait("BLPOP k 0")
    room.wait("BRPOP k 0")
    room("LPUSH k 1 2 3")
    assert [transaction[1:] for transaction in room.local.transactions()] == [
        [[b"LPUSH", b"k", b"1", b"2", b"3"]],
        [[b"LPOP", b"k"]],
        [[b"RPOP", b"k"]],
    ]


def test_the_reply_of_a_served_client_waits_for_its_batch() -> None:
    sealed: list[Batch] = []
    engine = Engine(Config(), Commit(sealed.append, lambda action: action()))  # seals at once what may go
    waiter, pusher = engine.connect(Collector()), engine.connect(Collector())
    engine.call(waiter, [b"BLPOP", b"k", b"0"])
    engine.call(pusher, [b"RPUSH", b"k", b"1"])
    assert waiter.blocked is None and len(waiter.held) == 1 and not waiter.out
    (push,) = sealed  # the pop's batch is sealed when that one has returned
    engine.commit.completed(push)
    assert not waiter.out
    pop = sealed[-1]
    assert pop is not push
    engine.commit.completed(pop)
    assert waiter.out == [pair("k", "1")]


def test_the_key_that_became_ready_first_serves_not_the_one_named_first(room: Room) -> None:
    waiter = room.wait("BLPOP a b 0")
    for line in ("MULTI", "RPUSH b 1", "RPUSH a 2", "EXEC"):
        room(line)
    assert room.got(waiter) == pair("b", "1")
    assert room("LRANGE a 0 -1") == [b"2"]


def test_a_push_that_is_taken_back_in_the_same_transaction_serves_nobody(room: Room) -> None:
    waiter = room.wait("BLPOP k 0")
    for line in ("MULTI", "RPUSH k 1", "LPOP k", "EXEC"):
        room(line)
    assert room.got(waiter) == NONE_YET
    for line in ("MULTI", "RPUSH k 1", "DEL k", "SET k x", "EXEC"):
        room(line)
    assert room.got(waiter) == NONE_YET and waiter.blocked is not None


def test_a_key_of_another_type_is_waited_out(room: Room) -> None:
    waiter = room.wait("BLPOP k 0")
    room("SET k x")
    assert room.got(waiter) == NONE_YET
    room("DEL k")
    room("RPUSH k 1")
    assert room.got(waiter) == pair("k", "1")


def test_a_list_that_is_expired_when_its_turn_comes_serves_nobody_and_its_deletion_is_logged(room: Room) -> None:
    waiter = room.wait("BLPOP k 0")
    room("RPUSH src 1")
    room("PEXPIREAT src 1700000000050")
    engine = room.local.engine
    engine.store.now_ms += 1000
    engine.store.emit(
        engine.store.keyspace.dbs[0], [b"RENAME", b"src", b"k"]
    )  # as from a command that did not look at the clock
    engine.run(room.local.client, engine.commands[b"LLEN"], [b"LLEN", b"k"])
    assert room.got(waiter) == NONE_YET and waiter.blocked is not None
    assert not engine.store.events
    assert room.local.events()[-1] == [b"DEL", b"k"]
    room.local.check_replay()


def test_a_chain_of_moves_carries_an_element_to_its_end(room: Room) -> None:
    a = room.wait("BLMOVE a b LEFT RIGHT 0")
    b = room.wait("BRPOPLPUSH b c 0")
    c = room.wait("BLPOP c 0")
    room("RPUSH a 1")
    assert [room.got(client) for client in (a, b, c)] == [b"$1\r\n1\r\n", b"$1\r\n1\r\n", pair("c", "1")]
    assert room("EXISTS a b c") == 0
    room.local.check_replay()


def test_a_destination_of_the_wrong_type_fails_its_client_and_leaves_the_element_to_the_next(room: Room) -> None:
    room("SET text x")
    mover, popper = room.wait("BLMOVE k text LEFT LEFT 0"), room.wait("BLPOP k 0")
    room("RPUSH k 1")
    assert room.got(mover).startswith(b"-WRONGTYPE ")
    assert room.got(popper) == pair("k", "1")


@pytest.mark.parametrize(
    "lines",
    [
        ["RPUSH src 1", "RENAME src k"],
        ["RPUSH src 1", "COPY src k"],
        ["SET k x", "RPUSH src 1", "RENAME src k"],
        ["SET k x", "RPUSH src 1", "COPY src k REPLACE"],
    ],
)
def test_a_list_that_comes_by_another_way_than_a_push_wakes_too(room: Room, lines: list[str]) -> None:
    waiter = room.wait("BLPOP k 0")
    for line in lines:
        room(line)
    assert room.got(waiter) == pair("k", "1")
    room.local.check_replay()


def test_a_list_that_comes_from_another_database_wakes_too(room: Room) -> None:
    other = room.local.connect()
    other.db = room.local.engine.store.keyspace.dbs[3]
    waiter = room.wait("BLPOP k 0")
    room.local("RPUSH", "k", "1", client=other)
    assert room.got(waiter) == NONE_YET
    room.local("MOVE", "k", "0", client=other)
    assert room.got(waiter) == pair("k", "1")
    waiter = room.wait("BLPOP k 0")
    room.local("RPUSH", "k", "2", client=other)
    room("SWAPDB 0 3")
    assert room.got(waiter) == pair("k", "2")
    room.local.check_replay()


def test_a_client_that_left_is_passed_over(room: Room) -> None:
    gone, here = room.wait("BLPOP k 0"), room.wait("BLPOP k 0")
    room.local.engine.disconnect(gone)
    room("RPUSH k 1")
    assert room.got(here) == pair("k", "1")
    room.wait("BLPOP a b c 0")
    for client in list(room.local.engine.clients.values()):
        room.local.engine.disconnect(client)
    assert not room.local.engine.blocking.waiters


@pytest.mark.parametrize(
    "line", ["BLPOP k 0.5", "BLMOVE k l LEFT LEFT 0.5", "BRPOPLPUSH k l 0.5", "BLMPOP 0.5 1 k LEFT"]
)
@pytest.mark.parametrize(("resp3", "nothing"), [(False, b"*-1\r\n"), (True, b"_\r\n")])
def test_when_the_time_is_up_the_answer_is_a_null_array(room: Room, line: str, resp3: bool, nothing: bytes) -> None:
    waiter = room.wait(line, resp3)
    [(seconds, action)] = room.local.timers
    assert seconds == 0.5
    action()
    assert room.got(waiter) == nothing
    room("RPUSH k 1")
    assert room.got(waiter) == NONE_YET and room("LLEN k") == 1
    action()  # a timer that fires late finds nobody
    assert room.got(waiter) == NONE_YET


def test_a_timeout_does_not_tell_of_a_pop_that_could_still_be_lost() -> None:
    sealed: list[Batch] = []
    timers = []
    engine = Engine(Config(), Commit(sealed.append, lambda action: action()))
    engine.turn.call_later = lambda seconds, action: timers.append(action)  # type: ignore[assignment, return-value]
    waiter, other = engine.connect(Collector()), engine.connect(Collector())
    engine.call(other, [b"RPUSH", b"k", b"1"])
    engine.call(other, [b"LPOP", b"k"])
    engine.call(waiter, [b"BLPOP", b"k", b"1"])
    assert waiter.blocked is not None
    timers[0]()
    assert waiter.blocked is None and waiter.held and not waiter.out


@pytest.mark.parametrize(
    ("timeout", "answer"),
    [
        ("x", "ERR timeout is not a float or out of range"),
        ("nan", "ERR timeout is not a float or out of range"),
        ("-1", "ERR timeout is negative"),
        ("inf", "ERR timeout is negative"),
        ("9223372036854775807", "ERR timeout is negative"),
    ],
)
def test_timeouts_that_are_refused(room: Room, timeout: str, answer: str) -> None:
    for line in (f"BLPOP k {timeout}", f"BLMOVE k l LEFT LEFT {timeout}", f"BLMPOP {timeout} 1 k LEFT"):
        assert str(room(line)) == answer


def test_a_fraction_of_a_millisecond_is_not_for_ever(room: Room) -> None:
    room.wait("BLPOP k 0.0001")
    assert room.local.timers[0][0] == 0.001


def test_a_thousand_waiters_are_served_one_by_one_without_trying_the_others(room: Room) -> None:
    waiters = [room.wait("BLPOP k 0") for _ in range(1000)]
    command = room.local.engine.commands[b"BLPOP"]
    tried = command.calls
    room("RPUSH k 1")
    assert room.got(waiters[0]) == pair("k", "1")
    assert command.calls == tried
    assert len(room.local.engine.blocking.waiters[(0, b"k")]) == 999


def test_serving_is_not_a_second_call(room: Room) -> None:
    command = room.local.engine.commands[b"BLPOP"]
    before = command.calls
    room.wait("BLPOP k 0")
    room("RPUSH k 1")
    assert command.calls == before + 1


def test_an_expired_key_does_not_end_a_wait_and_its_deletion_is_logged() -> None:
    """A blocking command that changes something and waits all the same: it must be among those who wait."""
    room = Room()
    room("RPUSH k 1")
    room("PEXPIRE k 1")
    room.local.engine.store.now_ms += 2
    client = room.wait("BLPOP k 0")
    assert client.blocked is not None and client.blocked.usec > 0  # for the slow log, when it ends
    assert room.local.events()[-1] == [b"DEL", b"k"]
    room("RPUSH k 2")
    assert room.got(client) == b"*2\r\n$1\r\nk\r\n$1\r\n2\r\n"
