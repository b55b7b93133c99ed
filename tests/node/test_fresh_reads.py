"""replica-read-mode fresh: a replica shows what the primary had made durable when a read came, or says it cannot."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hiredis
import pytest

from eventdb.cluster.topology import Member
from eventdb.engine.client import FOLLOWING, FRESH, LEASELESS, Client
from eventdb.engine.settings import Config
from eventdb.node.freshness import Freshness
from eventdb.protocol.replies import error
from tests.conftest import StartServer, wait_until
from tests.kit.harness import Local
from tests.kit.wire import Wire, encode

LATE = "TRYAGAIN the primary has not said how far it is within 5 ms; the command was not run"
BEHIND = "TRYAGAIN this replica has not come so far within 5 ms; the command was not run"


def fresh(*more: str) -> tuple[str, ...]:
    return ("--role", "replica", "--config", "replica-read-mode=fresh", *more)


def test_a_fresh_replica_shows_every_write_that_was_acknowledged_before(
    eventdb_server: StartServer, tmp_path: Path
) -> None:
    """499 of 500 were missing."""
    url = f"quorum:{tmp_path / 'data'}"
    primary = eventdb_server(url)
    replica = eventdb_server(url, *fresh("--config", "replica-read-timeout=5000"))
    with Wire(primary.port) as wire, Wire(replica.port) as reader:
        for i in range(200):
            assert wire("INCR", "n") == i + 1
            assert reader("GET", "n") == b"%d" % (i + 1)
        assert wire("RPUSH", "list", "a") == 1
        reader.send(*[encode("LLEN", "list")] * 300, encode("MULTI"), encode("LLEN", "list"), encode("EXEC"))
        assert [reader.receive() for _ in range(300)] == [1] * 300
        assert [reader.receive() for _ in range(3)] == [b"OK", b"QUEUED", [1]]
        assert wire("DEL", "list") == 1 and reader("DBSIZE") == 1 and reader("EXISTS", "list") == 0
        assert "READONLY" in str(reader("SET", "k", "v"))
        assert wire("EVENTDB.DIGEST") == reader("EVENTDB.DIGEST")


def test_a_read_that_cannot_be_fresh_in_time_says_so_until_there_is_a_primary_again(
    eventdb_server: StartServer, tmp_path: Path
) -> None:
    url = f"quorum:{tmp_path / 'data'}"
    primary = eventdb_server(url)
    replica = eventdb_server(url, *fresh("--config", "replica-read-timeout=200"))
    with Wire(primary.port) as wire, Wire(replica.port) as reader:
        assert wire("SET", "k", "v") == b"OK"
        wait_until(lambda: reader("GET", "k") == b"v", what="the primary is asked")
        os.kill(primary.pid, signal.SIGSTOP)
        assert str(reader("GET", "k")).startswith("TRYAGAIN the primary has not said how far it is within 200 ms")
        assert reader("PING") == b"PONG"
        os.kill(primary.pid, signal.SIGCONT)
        wait_until(lambda: reader("GET", "k") == b"v", what="the primary answers again")
        primary.kill()
        primary.restart()
        wait_until(lambda: reader("GET", "k") == b"v", what="the primary is asked again")


# -- one engine


class Replica:
    """A fresh replica at offset 1 that asks when told to be connected, and counts its questions."""

    def __init__(self) -> None:
        self.local = Local()
        self.local.raw("SET", "k", "v")
        self.engine = self.local.engine
        self.engine.gate = FOLLOWING | FRESH
        self.freshness = Freshness(self.engine)
        self.questions = 0

    def connect(self) -> None:
        self.freshness.connected(self.ask)
        self.local.turn()

    def ask(self) -> None:
        self.questions += 1

    def read(self) -> Client:
        """A client whose read waits."""
        client = self.local.connect()
        assert self.local.raw("GET", "k", client=client) == b"" and client.stalled == [b"GET", b"k"]
        return client

    def heard(self, client: Client) -> bytes:
        self.local.turn()
        client.flush()
        return self.local.take(client)

    def reach(self, offset: int) -> None:
        self.engine.commit.durable_offset = offset
        self.freshness.reached()

    def time_out(self) -> None:
        self.engine.read_clock()
        for read in self.freshness._waiting:
            read.due = 0.0
        self.freshness._time_out()


VALUE = b"$1\r\nv\r\n"


def test_one_question_serves_all_reads_that_came_before_it_and_none_that_came_after() -> None:
    replica = Replica()
    first, second = replica.read(), replica.read()
    replica.connect()
    late = replica.read()
    assert replica.questions == 1
    replica.freshness.answered(2)
    assert replica.heard(first) == b"", "it has not come so far"
    replica.reach(2)
    assert [replica.heard(client) for client in (first, second, late)] == [VALUE, VALUE, b""]
    assert replica.questions == 2
    replica.freshness.answered(2)
    assert replica.heard(late) == VALUE


def test_commands_that_had_come_with_a_read_need_no_question_of_their_own() -> None:
    replica = Replica()
    replica.freshness.backlog = lambda client: 3
    client = replica.read()
    replica.connect()
    replica.freshness.answered(1)
    assert replica.heard(client) == VALUE
    assert replica.local.raw("GET", "k", client=client) == VALUE
    assert replica.local.raw("NOSUCH", client=client).startswith(b"-ERR unknown")
    assert replica.local.raw("PING", client=client) == b"+PONG\r\n"
    assert replica.local.raw("GET", "k", client=client) == b"", "it came later"


def test_a_read_that_was_refused_takes_no_answer_that_was_meant_for_it() -> None:
    """The client's next read would have been run by it."""
    replica = Replica()
    client = replica.read()
    replica.connect()
    replica.time_out()
    assert replica.heard(client) == error(LATE)
    assert replica.local.raw("GET", "k", client=client) == b""
    replica.freshness.answered(1)
    assert replica.heard(client) == b"" and replica.questions == 2
    replica.freshness.answered(5)
    replica.time_out()
    assert replica.heard(client) == error(BEHIND)


def test_a_question_that_is_lost_is_asked_again_elsewhere_and_a_new_primary_asks_nobody() -> None:
    replica = Replica()
    client, gone = replica.read(), replica.read()
    replica.connect()
    replica.freshness.lost()
    replica.engine.disconnect(gone)
    replica.connect()
    assert replica.questions == 2 and replica.heard(client) == b""
    replica.engine.gate = 0
    replica.freshness.all_fresh()
    assert replica.heard(client) == VALUE and replica.heard(gone) == b""


def test_what_reads_no_key_does_not_wait_and_in_multi_exec_does() -> None:
    replica = Replica()
    raw, client = replica.local.raw, replica.local.client
    assert raw("PING") == b"+PONG\r\n" and raw("MULTI") == b"+OK\r\n" and raw("GET", "k") == b"+QUEUED\r\n"
    assert raw("EXEC") == b"" and client.stalled == [b"EXEC"]
    replica.connect()
    replica.freshness.answered(1)
    assert replica.heard(client) == b"*1\r\n" + VALUE


def test_a_primary_says_how_far_it_is_only_while_its_lease_lasts() -> None:
    local = Local()
    local.raw("SET", "k", "v")
    assert local.raw("EVENTDB.DURABLE") == b":1\r\n"
    local.engine.gate |= LEASELESS
    assert local.raw("EVENTDB.DURABLE") == error("MASTERDOWN the lease of this primary has lapsed")
    local.engine.gate = FOLLOWING
    local.engine.topology.update(2, Member("b", "h:2"), [])
    assert local.raw("EVENTDB.DURABLE") == error("NOTPRIMARY h:2")


@pytest.mark.parametrize(("name", "value"), [("replica-read-mode", "slow"), ("replica-read-timeout", "0")])
def test_settings(name: str, value: str) -> None:
    config = Config()
    with pytest.raises(ValueError, match=name):
        config.set(name, value)
    config.set("replica-read-mode", "fresh")
    config.set("replica-read-timeout", "50")
    assert (config.get("replica-read-mode"), config.replica_read_timeout_ms) == ("fresh", 50)
    told = hiredis.Reader()
    told.feed(Local(config=config).raw("CONFIG", "SET", "replica-read-mode", "fast"))
    assert "immutable" in str(told.gets())
