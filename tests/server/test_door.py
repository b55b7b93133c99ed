"""Who may connect at all: lists of networks, protected mode, limits, and how long a stranger may stay."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventdb.server.door import Door
from eventdb.server.server import Server
from tests.kit.harness import Local
from tests.kit.nodes import Nodes

PATIENCE_S = 10
Dial = Callable[[Server], socket.socket]


def door(**settings: str) -> Door:
    local = Local()
    for name, value in settings.items():
        local.engine.config.set(name.replace("_", "-"), value)
    local.engine.permissions.reconfigure(local.engine.clients)
    return Door(local.engine)


@pytest.mark.parametrize(
    ("allowed", "denied", "host", "why"),
    [
        ("", "", "203.0.113.9", ""),
        ("10.0.0.0/8 fd00::/8", "", "10.1.2.3", ""),
        ("10.0.0.0/8 fd00::/8", "", "::ffff:10.1.2.3", ""),
        ("10.0.0.0/8 fd00::/8", "", "fd00::1", ""),
        ("10.0.0.0/8 fd00::/8", "", "fe80::1%eth0", "not on client-allow-list"),
        ("10.0.0.0/8 fd00::/8", "", "11.0.0.1", "not on client-allow-list"),
        ("10.0.0.0/8", "10.9.0.0/16", "10.9.1.1", "on client-deny-list"),
        ("", "10.9.0.0/16 ::1", "::ffff:10.9.1.1", "on client-deny-list"),
        ("", "10.9.0.0/16 ::1", "::1", "on client-deny-list"),
        ("", "10.9.0.0/16 ::1", "10.8.1.1", ""),
        ("192.168.1.7", "", "192.168.1.7", ""),
        ("192.168.1.7", "", "", ""),  # a socket of no network
    ],
)
def test_lists_of_networks(allowed: str, denied: str, host: str, why: str) -> None:
    refusal = door(client_allow_list=allowed, client_deny_list=denied).refusal(host)
    assert refusal.startswith("DENIED ") and why in refusal if why else refusal == ""


def test_a_list_is_checked_when_it_is_set_and_holds_from_then_on() -> None:
    local = Local()
    at = Door(local.engine)
    assert at.refusal("10.0.0.1") == ""
    assert local.raw("CONFIG", "SET", "client-deny-list", "10.0.0.0/8 everything").startswith(
        b"-ERR CONFIG SET failed (possibly related to argument 'client-deny-list') - 'everything' is no network"
    )
    assert at.refusal("10.0.0.1") == ""
    local.raw("CONFIG", "SET", "client-deny-list", "10.0.0.0/8")
    assert at.refusal("10.0.0.1") != ""
    local.raw("CONFIG", "SET", "client-deny-list", "")
    assert at.refusal("10.0.0.1") == ""


def test_protected_mode_lets_others_in_once_there_is_a_password() -> None:
    open_to_all, protected = door(), door(protected_mode="yes")
    assert open_to_all.refusal("203.0.113.9") == ""
    for host in ("127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"):
        assert protected.refusal(host) == ""
    for host in ("203.0.113.9", "fd00::1"):
        assert protected.refusal(host).startswith("DENIED protected-mode is on")
        assert door(protected_mode="yes", requirepass="sesame").refusal(host) == ""


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as made:
        yield made


@pytest.fixture
def dial() -> Iterator[Dial]:
    with contextlib.ExitStack() as opened:
        yield lambda server: opened.enter_context(socket.create_connection(("127.0.0.1", server.port), PATIENCE_S))


def ask(line: socket.socket, text: str) -> bytes:
    line.sendall(text.encode() + b"\r\n")
    return line.recv(1 << 16)


def ended(line: socket.socket) -> bool:
    with contextlib.suppress(ConnectionError):
        return line.recv(1) == b""
    return True


def test_a_denied_address_gets_an_error_and_the_end(nodes: Nodes, dial: Dial) -> None:
    server = nodes.start("one")
    line = dial(server)
    assert ask(line, "CONFIG SET client-deny-list 127.0.0.0/8") == b"+OK\r\n"
    other = dial(server)
    assert other.recv(1 << 16) == b"-DENIED this address is on client-deny-list\r\n" and ended(other)
    assert ask(line, "PING") == b"+PONG\r\n"  # who is connected stays
    assert b"rejected_connections:1\r\n" in ask(line, "INFO stats")


def test_connections_of_one_address(nodes: Nodes, dial: Dial) -> None:
    server = nodes.start("one", {"maxclients-per-address": "2"})
    one, two = dial(server), dial(server)
    assert ask(one, "PING") == ask(two, "PING") == b"+PONG\r\n"
    assert dial(server).recv(1 << 16) == b"-ERR max number of clients of this address reached\r\n"
    assert ask(two, "QUIT") == b"+OK\r\n" and ended(two)
    assert ask(dial(server), "PING") == b"+PONG\r\n"
    assert server.door.held == {"127.0.0.1": 2}


def test_strangers_are_few_and_do_not_stay(nodes: Nodes, dial: Dial) -> None:
    server = nodes.start("one", {
        "maxclients-unauthenticated": "2", "unauthenticated-timeout": "1", "requirepass": "sesame",
    })  # fmt: skip
    known = dial(server)
    assert ask(known, "AUTH sesame") == b"+OK\r\n"
    strangers = [dial(server), dial(server)]
    assert all(ask(each, "PING").startswith(b"-NOAUTH") for each in strangers)
    assert dial(server).recv(1 << 16) == b"-ERR max number of clients that have not authenticated reached\r\n"
    assert all(ended(each) for each in strangers)  # after the timeout
    assert ask(dial(server), "AUTH sesame") == b"+OK\r\n"
    assert ask(known, "PING") == b"+PONG\r\n"
