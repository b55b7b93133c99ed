"""SYNC gives the state of one moment, while the server goes on with everything else; a replica of Redis is refused."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import hiredis
import psutil
import pytest

from eventdb.history.view import View
from eventdb.node import giving
from eventdb.rdb.reader import FileReader
from eventdb.rdb.source import Source
from eventdb.server.server import Server
from tests.conftest import StartServer, wait_until
from tests.kit import differential
from tests.kit.differential import Address
from tests.kit.harness import Local
from tests.kit.nodes import Nodes
from tests.kit.wire import Load, Wire, encode


def state_of(data: bytes) -> View:
    file = io.BytesIO(data)
    reader, view = FileReader(Source(b"", file.read)), View()
    while events := reader.piece():
        view.apply([[b"sync", *events]])
    return view


def received(wire: Wire, *command: str) -> tuple[bytes, bytes]:
    """Send SYNC or PSYNC: the line that came first, if there was one, and the file; the server closes then."""
    wire.send(encode(*command))
    data = b""
    while part := wire.socket.recv(1 << 16):
        data += part
    greeting = b""
    data = data.lstrip(b"\n")
    if data.startswith(b"+"):
        greeting, _, data = data.partition(b"\r\n")
        data = data.lstrip(b"\n")
    head, _, rest = data.partition(b"\r\n")
    assert head[:1] == b"$", data[:200]
    assert len(rest) == int(head[1:])
    return greeting, rest


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Nodes(tmp_path_factory.mktemp("giving")) as nodes:
        yield nodes.start("first")


@pytest.fixture
def server(shared: Server) -> Server:
    """One for the tests that ask little of it."""
    with Wire(shared.port) as wire:
        wire("FLUSHALL")
    return shared


def redis_cli() -> str:
    found = shutil.which("redis-cli")
    if found is None:
        pytest.skip("redis-cli is not installed")
    return found


@pytest.mark.redis
def test_redis_cli_gets_a_file(server: Server, tmp_path: Path) -> None:
    cli = redis_cli()
    with Wire(server.port) as wire:
        wire("SET", "k", b"\xff\r\n" * 300_000)
        wire("XADD", "x", "1-1", "f", "v")
        wire("SELECT", 5)
        wire("HSET", "h", "f", "v")
        code = b"#!lua name=lib\nredis.register_function('f', function() return 1 end)"
        assert wire("FUNCTION", "LOAD", code) == b"lib"
        digest = wire("EVENTDB.DIGEST")
    for option, keys in (("--rdb", 3), ("--functions-rdb", 0)):
        file = tmp_path / f"{keys}.rdb"
        done = subprocess.run(
            [cli, "-p", str(server.port), option, str(file)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        view = state_of(file.read_bytes())
        assert view.key_count() == keys
        assert view.keyspace.libraries.code == {b"lib": code}
        if keys:
            assert view.digest().encode() == digest


def test_the_file_is_of_one_moment_while_others_write(eventdb_server: StartServer) -> None:
    server = eventdb_server()
    loads = [Load(server.port, f"load{n}", depth=4) for n in range(3)]
    for load in loads:
        load.start()
    wait_until(lambda: all(load.pushed > 50 for load in loads))
    acknowledged = [load.pushed for load in loads]
    with Wire(server.port) as wire:
        wire("SET", "before", "1")
        _, data = received(wire, "SYNC")
    db = state_of(data).keyspace.dbs[0]
    assert db.values[b"before"] == b"1"
    for load, pushed in zip(loads, acknowledged, strict=True):
        value = db.values[load.list.encode()]
        elements = value.slice(0, value.size())  # type: ignore[attr-defined]
        assert elements == [b"%d" % n for n in range(len(elements))] and len(elements) >= pushed
        a, b = db.values[load.a.encode()], db.values[load.b.encode()]
        assert a == b and len(elements) - 1 <= int(a) + 1 <= len(elements)  # type: ignore[call-overload]
    assert all(load.pushed > pushed for load, pushed in zip(loads, acknowledged, strict=True))
    server.kill()
    for load in loads:
        load.join(30)


def test_what_the_client_wrote_in_the_same_breath_is_in_the_file(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(encode("SET", "k", "v"))
        wire.send(encode("PING"), encode("SYNC"))
        data = b""
        while part := wire.socket.recv(1 << 16):
            data += part
    assert data.startswith(b"+OK\r\n+PONG\r\n")
    data = data.removeprefix(b"+OK\r\n+PONG\r\n").lstrip(b"\n")
    assert state_of(data.partition(b"\r\n")[2]).keyspace.dbs[0].values == {b"k": b"v"}


def test_psync_says_which_log_and_offset(server: Server) -> None:
    with Wire(server.port) as wire:
        wire("SET", "k", "v")
        offset = wire("EVENTDB.OFFSET")
        assert wire("REPLCONF", "rdb-only", "1", "capa", "eof") == b"OK"
        greeting, data = received(wire, "PSYNC", "?", "-1")
    words = greeting.split()
    assert isinstance(offset, list)
    assert (words[0], len(words[1]), int(words[2])) == (b"+FULLRESYNC", 40, offset[0])
    assert state_of(data).key_count() == 1


def test_a_replica_of_redis_is_told_what_to_use_instead(server: Server) -> None:
    with Wire(server.port) as wire:
        for argv in (("PSYNC", "?", "-1"), ("SYNC",)):
            assert wire("REPLCONF", "listening-port", "7000") == b"OK"
            reply = wire(*argv)
            assert isinstance(reply, hiredis.ReplyError) and "cannot be a replica of eventdb" in str(reply)
        for options, said in (
            (("rdb-only", "2"), "out of range"), (("rdb-only",), "syntax error"), (("foo", "1"), "Unrecognized"),
            (("rdb-filter-only", "keys"), "Unsupported"), (("listening-port", "x"), "not an integer"),
        ):  # fmt: skip
            assert said in str(wire("REPLCONF", *options))
        assert wire("PING") == b"PONG"


@pytest.mark.redis
def test_replconf_answers_as_redis_does(redis_server: Address) -> None:
    with closing(differential.Wire(redis_server)) as wire:
        for words in (
            "", " x", " foo 1", " rdb-only 2", " rdb-only x", " rdb-only 1", " rdb-filter-only keys",
            " rdb-filter-only functions", " listening-port x", " listening-port 70000", " capa eof capa psync2",
            " ip-address 1.2.3.4", " RDB-ONLY 1 FOO 1",
        ):  # fmt: skip
            argv = f"REPLCONF{words}".split()
            assert Local().raw(*argv) == wire.call(*argv), words


def test_a_memory_log_is_given_too(eventdb_server: StartServer) -> None:
    with Wire(eventdb_server("memory:").port) as wire:
        wire("RPUSH", "l", *range(1000))
        digest = wire("EVENTDB.DIGEST")
        _, data = received(wire, "SYNC")
    assert state_of(data).digest().encode() == digest


@pytest.mark.slow
def test_a_client_that_reads_slowly_costs_no_memory(eventdb_server: StartServer) -> None:
    server = eventdb_server()
    with Wire(server.port) as wire, Wire(server.port) as other:
        for n in range(40):
            wire("SET", f"k{n}", os.urandom(1 << 20))
        before = psutil.Process(server.pid).memory_info().rss
        wire.send(encode("SYNC"))
        assert wire.socket.recv(1)
        wait_until(lambda: b"cmd=sync" in clients(other) and unsent(other) > 0)
        assert other("PING") == b"PONG"
        assert psutil.Process(server.pid).memory_info().rss - before < 16 << 20
        size = 1
        while part := wire.socket.recv(1 << 20):
            size += len(part)
    assert size > 40 << 20


def test_a_client_that_stops_reading_gets_no_error_for_a_piece_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giving, "SILENT_S_MAX", 0.2)
    with Nodes(tmp_path) as nodes:
        server = nodes.start("first")
        with Wire(server.port) as wire:
            for n in range(40):
                wire("SET", f"k{n}", os.urandom(1 << 20))
            wire.send(encode("SYNC"))
            assert wire.socket.recv(1)
            wait_until(lambda: files(server) == 0, 30)
            data = b""
            while part := wire.socket.recv(1 << 20):
                data += part
        assert len(data) < 40 << 20 and b"-ERR" not in data[-200:]


def clients(wire: Wire) -> bytes:
    found = wire("CLIENT", "LIST")
    assert isinstance(found, bytes)
    return found


def unsent(wire: Wire) -> int:
    line = next(line for line in clients(wire).splitlines() if b"cmd=sync" in line)
    return int(dict(word.partition(b"=")[::2] for word in line.split())[b"omem"])


def test_a_replica_of_ours_gives_it_and_a_failure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Nodes(tmp_path) as nodes:
        first, second = nodes.start("first"), nodes.start("second", follow_only=True)
        with Wire(first.port) as wire:
            wire("SET", "k", "v")
        nodes.applied(1)
        with Wire(second.port) as wire:
            assert state_of(received(wire, "SYNC")[1]).key_count() == 1
        monkeypatch.setattr(giving, "PROGRAM", "eventdb.no_such_program")
        with Wire(first.port) as wire:
            wire.send(encode("SYNC"))
            said = str(wire.receive()).strip()
            assert said.startswith("ERR the state cannot be sent") and "no_such_program" in said
            assert ended(wire)
        assert files(first) == 0


def test_who_goes_away_or_is_unblocked_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program that builds the file is replaced by one that never ends."""
    monkeypatch.setattr(giving, "PROGRAM", "timeit")
    monkeypatch.setattr(giving, "SIGN_S", 0.02)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "timeit.py").write_text("import time\ntime.sleep(1000)\n")
    with Nodes(tmp_path) as nodes:
        server = nodes.start("first")
        wire, other = Wire(server.port), Wire(server.port)
        wire.send(encode("SYNC"))
        wait_until(lambda: files(server) == 1)
        assert wire.socket.recv(1) == b"\n"
        wire.close()
        wait_until(lambda: files(server) == 0)
        wire = Wire(server.port)
        number = wire("CLIENT", "ID")
        assert isinstance(number, int)
        wire.send(encode("SYNC"))
        wait_until(lambda: files(server) == 1)
        assert other("CLIENT", "UNBLOCK", number, "ERROR") == 1
        assert ended(wire)
        wait_until(lambda: files(server) == 0)
        last = Wire(server.port)
        last.send(encode("SYNC"))
        wait_until(lambda: len(programs()) == 1)
        children = programs()
    assert not any(child.is_running() and child.status() != "zombie" for child in children)
    for each in (wire, other, last):
        each.close()


def programs() -> list[psutil.Process]:
    """The processes that build a file."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie, too, has just ended
            if "timeit" in child.cmdline():
                found.append(child)
    return found


def files(server: Server) -> int:
    """How many are being made."""
    return len(server.node.giving.tasks)


def ended(wire: Wire) -> bool:
    """The server closes, and has said nothing but line feeds and the error of SYNC itself."""
    data = b""
    while part := wire.socket.recv(1 << 16):
        data += part
    said = data.strip(b"\n")
    assert b"\r\n" not in said[:-2] and (not said or said.startswith(b"-ERR the state cannot be sent")), data
    return True


def test_users_and_outcomes_are_in_the_file_and_a_restricted_user_gets_none(server: Server) -> None:
    with Wire(server.port) as wire, Wire(server.port) as other:
        wire("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+@write", "+@keyspace", "+@fast")
        wire("EVENTDB.ONCE", "token", "INCR", "n")
        digest = wire("EVENTDB.DIGEST")
        other("AUTH", "reader", "pw")
        for argv in (("SYNC",), ("PSYNC", "?", "-1"), ("REPLCONF", "rdb-only", "1")):
            assert str(other(*argv)).startswith(f"NOPERM this user has no permissions to run the '{argv[0].lower()}'")
        assert isinstance(other("DUMP", "n"), bytes)
        view = state_of(received(wire, "SYNC")[1])
    assert view.digest().encode() == digest
    assert list(view.keyspace.users) == [b"reader"] and list(view.keyspace.outcomes.kept) == [b"token"]
