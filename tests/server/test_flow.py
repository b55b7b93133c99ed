"""Flow control: who writes before it reads is read on, in bounded memory; who has gone runs nothing more."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from eventdb.engine.plain_runs import PlainRuns, find_runner
from eventdb.server.connection import Connection, Unread
from eventdb.server.door import Door
from tests.conftest import Server, wait_until
from tests.kit.transport import Ends
from tests.kit.wire import Wire, encode
from tests.pipeline.test_commit import Stalled

MIB = 1 << 20


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    server = Server(f"quorum:{folder / 'data'}", folder, (), {}).wait_ready()
    yield server
    server.kill()


@pytest.fixture
def server(one_server: Server) -> Server:
    """A server without keys, pauses and limits that another test has made."""
    with Wire(one_server.port) as admin:
        assert admin("CLIENT", "UNPAUSE") == b"OK"
        assert admin("CONFIG", "SET", "client-query-buffer-limit", "1gb") == b"OK"
        assert admin("CONFIG", "SET", "client-query-buffer-total-limit", "2gb") == b"OK"
        assert admin("FLUSHALL") == b"OK"
    return one_server


def ended(wire: Wire) -> bytes:
    """Say that no more will come, and return all that is sent before the server closes."""
    wire.socket.shutdown(socket.SHUT_WR)
    found = b""
    with contextlib.suppress(ConnectionError):
        while data := wire.socket.recv(1 << 16):
            found += data
    return found


def test_a_pipeline_may_be_written_whole_before_it_is_read(server: Server) -> None:
    """Neither the requests nor the replies fit into what sockets hold, 20 MB each way."""
    command = encode("ECHO", b"x" * 1000)
    reply = b"$1000\r\n" + b"x" * 1000 + b"\r\n"
    with Wire(server.port) as wire:
        wire.send(command * 20_000)  # times out when the server stops reading
        left = 20_000 * len(reply)
        while left:
            left -= len(wire.socket.recv(1 << 20))
        assert wire("PING") == b"PONG"


def test_queued_replies_may_be_many_and_small(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(encode("MULTI"), encode("ECHO", b"x" * 500) * 20_000, encode("DISCARD"))
        assert wire.receive() == b"OK"
        for _ in range(20_000):
            assert wire.receive() == b"QUEUED"
        assert wire.receive() == b"OK"


def test_one_client_may_send_ahead_up_to_the_query_buffer_limit(server: Server) -> None:
    with Wire(server.port) as admin, Wire(server.port) as wire:
        assert admin("CONFIG", "SET", "client-query-buffer-limit", MIB) == b"OK"
        with contextlib.suppress(OSError):
            wire.send(encode("ECHO", b"x" * 1000) * 20_000)
        with pytest.raises(OSError, match=r"closed|reset|Broken"):
            [wire.receive() for _ in range(20_000)]
        assert admin("PING") == b"PONG"


def test_the_newest_greedy_client_goes_when_all_together_hold_too_much(server: Server) -> None:
    with Wire(server.port) as admin, Wire(server.port) as old, Wire(server.port) as modest, Wire(server.port) as new:
        for wire in (old, modest, new):
            assert wire("PING") == b"PONG"
        assert admin("CONFIG", "SET", "client-query-buffer-total-limit", 4 * MIB) == b"OK"
        assert admin("CLIENT", "PAUSE", 60_000, "WRITE") == b"OK"
        size = {old: 3000, modest: 10, new: 3000}
        old.send(encode("SET", "k", b"x" * 1000) * size[old])
        modest.send(encode("SET", "k", b"x" * 1000) * size[modest])
        with contextlib.suppress(OSError):
            new.send(encode("SET", "k", b"x" * 1000) * size[new])
        with pytest.raises(OSError, match=r"closed|reset|Broken"):
            new.receive()
        assert admin("CLIENT", "UNPAUSE") == b"OK"
        for wire in (old, modest):
            for _ in range(size[wire]):
                assert wire.receive() == b"OK"
        assert admin("CONFIG", "SET", "client-query-buffer-total-limit", MIB) == b"OK"
        assert old("PING") == b"PONG", "what has run is held no more"


def test_what_multi_has_queued_counts_too(server: Server) -> None:
    """It waits for an EXEC; when that has run, it is held no more."""
    with Wire(server.port) as admin, Wire(server.port) as old, Wire(server.port) as new:
        assert admin("CONFIG", "SET", "client-query-buffer-total-limit", 4 * MIB) == b"OK"
        for wire in (old, new):
            assert wire("MULTI") == b"OK"
        for i in range(30):
            assert old("SET", "k", b"x" * 100_000 + b"%d" % i) == b"QUEUED"
        assert isinstance(old("EXEC"), list)
        for _ in range(30):
            assert new("SET", "k", b"x" * 100_000) == b"QUEUED"
        assert old("MULTI") == b"OK"
        with pytest.raises(OSError, match=r"closed|reset|Broken"):
            [new("SET", "k", b"x" * 100_000) for _ in range(20)]
        assert old("SET", "k", "last") == b"QUEUED"
        assert old("EXEC") == [b"OK"]
        wait_until(lambda: "client-query-buffer-total-limit" in server.text, what="the log says so")


@pytest.mark.parametrize(("mode", "ms"), [("ALL", 500), ("WRITE", 60_000)])
def test_a_command_that_a_pause_holds_is_dropped_with_its_client(server: Server, mode: str, ms: int) -> None:
    with Wire(server.port) as admin, Wire(server.port) as gone:
        assert admin("RPUSH", "jobs", "a", "b") == 2
        gone.send(encode("GET", "x"))
        assert gone.receive() is None
        assert admin("CLIENT", "PAUSE", ms, mode) == b"OK"
        gone.send(encode("LPOP", "jobs") * 200)
        assert ended(gone) == b""
        if mode == "WRITE":  # else this waits as well, until the pause is over
            assert admin("CLIENT", "UNPAUSE") == b"OK"
        assert admin("LRANGE", "jobs", 0, -1) == [b"a", b"b"]


def test_what_waits_for_unread_replies_is_dropped_with_its_client(server: Server) -> None:
    with Wire(server.port) as admin:
        assert admin("RPUSH", "jobs", "a") == 1
        gone = Wire(server.port)
        number = gone("CLIENT", "ID")
        gone.send(encode("ECHO", b"x" * 10_000) * 2000, encode("LPOP", "jobs"))
        gone.close()
        wait_until(lambda: b"id=%d " % number not in admin("CLIENT", "LIST"), what="the client is gone")  # type: ignore
        assert admin("LLEN", "jobs") == 1


@pytest.mark.parametrize("before", [0, 1, 5000])
def test_no_blocked_command_outlives_its_client(server: Server, before: int) -> None:
    """It would take the next element and give it to nobody."""
    with Wire(server.port) as admin, Wire(server.port) as gone:
        gone.send(encode("PING") * before + encode("BLPOP", "jobs", 0) + encode("PING"))
        assert ended(gone) == b"+PONG\r\n" * before
        assert admin("RPUSH", "jobs", "a") == 1
        assert admin("LRANGE", "jobs", 0, -1) == [b"a"]


def test_a_command_stalled_after_others_is_dropped_too(server: Server) -> None:
    with Wire(server.port) as admin, Wire(server.port) as gone:
        assert admin("RPUSH", "jobs", "a") == 1
        assert admin("CLIENT", "PAUSE", 60_000, "WRITE") == b"OK"
        gone.send(encode("PING") * 5000 + encode("LPOP", "jobs"))
        assert ended(gone) == b"+PONG\r\n" * 5000
        assert admin("CLIENT", "UNPAUSE") == b"OK"
        assert admin("LLEN", "jobs") == 1


def test_what_only_waits_for_its_turn_is_run_and_answered(server: Server) -> None:
    """As by Redis, which runs all that it has read before it sees that no more will come."""
    with Wire(server.port) as admin, Wire(server.port) as wire:
        wire.send(encode("INCR", "n") * 3000)
        assert ended(wire).count(b"\r\n") == 3000
        assert admin("GET", "n") == b"3000"


def connected(node: Stalled) -> tuple[Connection, Ends]:
    plain, door = PlainRuns(node.engine, find_runner()), Door(node.engine)
    connection, transport = Connection(node.engine, {}, Unread(), plain, door), Ends()
    connection.connection_made(transport)
    return connection, transport


def fill_the_pipeline(node: Stalled) -> None:
    writer, _ = connected(node)
    for i in range(65):
        writer.data_received(encode("SET", f"k{i}", b"x" * MIB))
    assert node.engine.commit.full


def confirm_all(node: Stalled) -> None:
    while node.engine.commit.pending:
        node.turn()
        node.confirm()


def test_a_client_that_goes_while_the_pipeline_is_full_takes_nothing() -> None:
    node = Stalled()
    writer, _ = connected(node)
    writer.data_received(encode("RPUSH", "jobs", "a"))
    fill_the_pipeline(node)
    gone, transport = connected(node)
    gone.data_received(encode("LPOP", "jobs"))
    gone.data_received(encode("LPOP", "jobs"))
    assert transport.reads, "or its end is not seen"
    assert gone.eof_received()
    node.turn()
    assert transport.closed
    confirm_all(node)
    gone.resume()
    node.turn()
    assert node.send(node.connect(), "LLEN", "jobs") == b":1\r\n"


def test_what_comes_while_the_pipeline_is_full_is_bounded() -> None:
    node = Stalled()
    fill_the_pipeline(node)
    busy, transport = connected(node)
    sent = 0
    while transport.reads:
        busy.data_received(encode("INCR", "n") * 100)
        sent += 100
    assert 64 << 10 < busy.unread_size < 80 << 10
    confirm_all(node)
    busy.resume()
    node.turn()
    while node.engine.commit.pending:
        node.confirm()
    assert busy.client is not None
    busy.client.flush()
    assert transport.reads
    assert transport.data.endswith(b":%d\r\n" % sent)
