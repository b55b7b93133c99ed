"""Hostile clients: memory stays bounded and everybody else is served."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import socket
import threading
from collections.abc import Callable

import hiredis
import pytest

from tests.conftest import Server, StartServer, wait_until
from tests.kit.wire import Wire, encode

MIB = 1 << 20


def memory(server: Server) -> int:
    """Resident bytes of the server process."""
    with open(f"/proc/{server.pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def assert_served(server: Server) -> None:
    """Another client gets a read, and a durable write."""
    with Wire(server.port) as wire:
        assert wire("SET", "canary", "alive") == b"OK"
        assert wire("GET", "canary") == b"alive"


def raw(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def test_garbage_is_answered_with_an_error_and_closed(eventdb_server: StartServer) -> None:
    server = eventdb_server()
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(200):
        with raw(server) as conn, contextlib.suppress(OSError):
            conn.sendall(rng.choice((b"*", b"$", b"", b"*3\r\n$3\r\nSET\r\n")) + rng.randbytes(rng.randrange(1, 4000)))
            conn.shutdown(socket.SHUT_WR)
            while conn.recv(1 << 16):
                pass
    assert_served(server)


@pytest.mark.parametrize("line", [b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"GET / HTTP/1.0\r\nhost: x\r\n"])
def test_a_web_page_cannot_smuggle_commands_in(eventdb_server: StartServer, line: bytes) -> None:
    server = eventdb_server()
    with raw(server) as conn:
        conn.sendall(line + b"Content-Length: 12\r\n\r\nSET hacked 1\r\n")
        assert b"unknown command" not in conn.recv(1 << 16)
    with Wire(server.port) as wire:
        assert wire("GET", "hacked") is None


@pytest.mark.parametrize("announced", [b"*3000000000\r\n", b"*1\r\n$99999999999\r\n", b"*1\r\n$-5\r\n"])
def test_huge_lengths_are_refused_at_once(eventdb_server: StartServer, announced: bytes) -> None:
    server = eventdb_server()
    before = memory(server)
    with raw(server) as conn:
        conn.sendall(announced)
        reply = conn.recv(1 << 16)
        assert reply.startswith(b"-ERR Protocol error: invalid"), reply
        assert conn.recv(1) == b"", "closed"
    assert memory(server) - before < 16 * MIB
    assert_served(server)


def test_announced_but_unsent_arguments_cost_nothing(eventdb_server: StartServer) -> None:
    server = eventdb_server()
    before = memory(server)
    held = [raw(server) for _ in range(200)]
    for conn in held:
        conn.sendall(b"*1000000\r\n$500000000\r\n")
    assert_served(server)
    assert memory(server) - before < 64 * MIB
    for conn in held:
        conn.close()


def test_before_authentication_little_is_read(eventdb_server: StartServer) -> None:
    server = eventdb_server(None, "--requirepass", "secret")
    with raw(server) as conn:
        conn.sendall(b"*11\r\n")
        assert b"unauthenticated multibulk length" in conn.recv(1 << 16)
    with raw(server) as conn:
        conn.sendall(b"*2\r\n$4\r\nAUTH\r\n$20000\r\n")
        assert b"unauthenticated bulk length" in conn.recv(1 << 16)
    with Wire(server.port) as wire:
        refused = wire("GET", "k")
        assert isinstance(refused, hiredis.ReplyError)
        assert str(refused) == "NOAUTH Authentication required."
        assert wire("AUTH", "secret") == b"OK"
        assert wire("SET", "k", "v") == b"OK"


def test_a_client_that_never_reads_is_stopped_not_buffered(eventdb_server: StartServer) -> None:
    server = eventdb_server()
    with Wire(server.port) as wire:
        assert wire("SET", "big", b"x" * MIB) == b"OK"
    before = memory(server)
    greedy = raw(server)
    greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    greedy.sendall(encode("GET", "big") * 5000)
    assert_served(server)
    assert memory(server) - before < 48 * MIB, "5 GB of replies were asked for"
    greedy.close()
    assert_served(server)


def test_a_million_tiny_commands_unread(eventdb_server: StartServer) -> None:
    server = eventdb_server()
    before = memory(server)
    conn = raw(server)
    flood = encode("PING", "0123456789") * 1000

    def send() -> None:
        with contextlib.suppress(OSError):
            for _ in range(1000):
                conn.sendall(flood)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    for _ in range(20):
        assert_served(server)
    assert memory(server) - before < 64 * MIB
    reader = hiredis.Reader()
    received = 0
    conn.settimeout(30)
    while received < 1_000_000:  # nothing was dropped: read now, it all comes
        reader.feed(conn.recv(1 << 20))
        while reader.gets() is not False:
            received += 1
    sender.join(10)
    conn.close()


def test_writes_faster_than_the_log_are_slowed_not_buffered(eventdb_server: StartServer) -> None:
    server = eventdb_server()
    before = memory(server)
    conn = raw(server)
    conn.settimeout(60)
    value = os.urandom(100_000)

    def send() -> None:
        with contextlib.suppress(OSError):
            for _ in range(3000):
                conn.sendall(encode("SET", "k", value))

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    peak = 0
    received = 0
    while received < 3000 * 5:
        received += len(conn.recv(1 << 16))
        peak = max(peak, memory(server))
    sender.join(10)
    assert peak - before < 300 * MIB, f"{(peak - before) / MIB:.0f} MiB for 300 MB of writes"
    conn.close()


def check_closed_for_not_reading(server: Server, first: bytes, is_there: Callable[[Wire, bytes], bool]) -> None:
    """A client says `first` and reads nothing. `is_there` publishes a message and tells whether it is still served."""
    before = memory(server)
    lazy = raw(server)
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.sendall(first)
    with Wire(server.port) as wire:
        wait_until(lambda: is_there(wire, b"x"), what="it is there")
        message = b"x" * 100_000
        for _ in range(1000):
            if not is_there(wire, message):
                break
        else:
            pytest.fail("100 MB were buffered for a client that does not read")
    assert memory(server) - before < 128 * MIB
    lazy.close()
    assert_served(server)


def test_a_subscriber_that_never_reads_is_closed(eventdb_server: StartServer) -> None:
    def is_there(wire: Wire, message: bytes) -> bool:
        count = wire("PUBLISH", "news", message)
        assert count in (0, 1)
        return count == 1

    check_closed_for_not_reading(eventdb_server(), encode("SUBSCRIBE", "news"), is_there)


def test_a_node_that_never_reads_what_is_passed_on_is_closed(eventdb_server: StartServer) -> None:
    def is_there(wire: Wire, message: bytes) -> bool:
        assert wire("PUBLISH", "news", message) == 0, "a node is no listener"
        return "EVENTDB.ANNOUNCE" in str(wire("CLIENT", "LIST")).upper()

    said = json.dumps({"name": "lazy", "address": "127.0.0.1:1"})
    check_closed_for_not_reading(eventdb_server(), encode("EVENTDB.ANNOUNCE", said), is_there)


def test_ten_thousand_idle_connections(eventdb_server: StartServer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 10_500:
        pytest.skip(f"this account may open only {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (10_500, hard))
    server = eventdb_server()
    before = memory(server)
    idle = []
    try:
        for i in range(9_990):
            conn = socket.socket()
            conn.bind((f"127.0.0.{2 + i % 4}", 0))
            conn.connect(("127.0.0.1", server.port))
            idle.append(conn)
        assert_served(server)
        per_client = (memory(server) - before) / len(idle)
        assert per_client < 16 << 10, f"{per_client:.0f} bytes an idle client"
        extra = [raw(server) for _ in range(12)]
        idle += extra
        assert b"max number of clients" in extra[-1].recv(100)
    finally:
        for conn in idle:
            conn.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert_served(server)
