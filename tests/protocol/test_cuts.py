"""The same bytes give the same answer however they are cut, and it is the answer that redis-server gives."""

from __future__ import annotations

import socket
import time
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from eventdb.protocol.replies import error
from eventdb.protocol.requests import RequestParser, SharedReader
from tests.kit.differential import Address, examples
from tests.kit.harness import Local

PING = b"*1\r\n$4\r\nPING\r\n"
ODD = [
    b"*1\r\n+PING\r\n",  # hiredis gives bytes for these three too
    b"*1\r\n=8\r\ntxt:PING\r\n",
    b"*1\r\n(12\r\n",
    b"*2\r\n$4\r\nECHO\r\n+a\r\n",
    b"*2\r\n$4\r\nECHO\r\n=5\r\ntxt:a\r\n",
    b"*2\r\n$4\r\nECHO\r\n$3XX\r\na\r\n",
    b"*01\r\n$4\r\nPING\r\n",
    b"*1\r\n$04\r\nPING\r\n",
    b"*+1\r\n$4\r\nPING\r\n",
    b"*-0\r\n",
    b"*1\r\n$-0\r\n\r\n",
    b"*1\r\n$-1\r\n",
    b"*1 \r\n",
    b"*\r\n",
    b"*1\r\n$\r\n",
    b"*1\r\n*1\r\n$1\r\na\r\n",
    b"*1\r\n%1\r\n+a\r\n+b\r\n",
    b"*1\r\n>9999999\r\n",
    b"*1\r\n\xff\r\n",
    b"*1\r\n\n\r\n",
    b"*1\0\r\n",
    b"*1\r\n$4\0\r\nPING\r\n",
    b"\0PING\r\n",
    b'ECHO "a',
    b'ECHO "a"b\r\n',
    b"*1\r\n$4\r\nPIN",
]
PLAIN = [
    PING,
    b"*2\r\n$4\r\nECHO\r\n$5\r\na=b+(\r\n",
    b"*2\r\n$4\r\nECHO\r\n$11\r\n\r\n+OK\r\n*1\r\n\0\r\n",
    b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
    b"*0\r\n",
    b"*-7\r\n",
    b"*1\rX$4\rYPING\r\n",  # Redis looks for the \r only
    b"*1\r\n$4\r\nPINGXX",
    b"PING\r\n",
    b"PING x\n",
    b"\r\n",
    b'ECHO "\\x41\\x+1\\x1_\\n"\r\n',
    b"ECHO 'a b'\r\n",
    b"+PING\r\n",
]


def parse(chunks: list[bytes]) -> tuple[list[list[bytes]], str]:
    parser = RequestParser(SharedReader())
    found: list[list[bytes]] = []
    for chunk in chunks:
        if chunk:
            found += parser.feed(chunk)
    return found, parser.failure


def answer(stream: bytes) -> bytes:
    """What a fresh client of eventdb is sent for these bytes."""
    local = Local()
    commands, failure = parse([stream])
    replies = [local.raw(*argv) for argv in commands]
    return b"".join(replies) + (error("ERR Protocol error: " + failure) if failure else b"")


def answer_of_redis(address: Address, stream: bytes) -> bytes:
    with socket.create_connection(address, timeout=10) as conn:
        conn.sendall(stream)
        conn.shutdown(socket.SHUT_WR)
        found = b""
        while data := conn.recv(1 << 16):
            found += data
    return found


def parse_by_ends(chunks: list[bytes]) -> tuple[list[list[bytes]], str]:
    """As a connection does that looks at what comes after an unfinished command before the parser gets it."""
    parser = RequestParser(SharedReader())
    found: list[list[bytes]] = []
    for chunk in chunks:
        if chunk and parser.idle():
            found += parser.feed(chunk)
        elif chunk:
            commands, after = parser.feed_end(chunk)
            assert len(commands) <= 1
            found += commands
            if after:
                found += parser.feed(after)
    return found, parser.failure


def assert_cuts_do_not_matter(stream: bytes) -> None:
    whole = parse([stream])
    assert parse([stream[i : i + 1] for i in range(len(stream))]) == whole
    for cut in range(1, len(stream)):
        assert parse([stream[:cut], stream[cut:]]) == whole, (stream, cut)
        assert parse_by_ends([stream[:cut], stream[cut:]]) == whole, (stream, cut)


@pytest.mark.redis
@pytest.mark.parametrize("piece", ODD + PLAIN)
def test_odd_bytes_are_answered_as_redis_does_however_they_are_cut(redis_server: Address, piece: bytes) -> None:
    for stream in (piece, PING + piece, PING + piece + PING, piece + PING[:-3]):
        assert answer(stream) == answer_of_redis(redis_server, stream), stream
        assert_cuts_do_not_matter(stream)


@pytest.mark.redis
@examples(150)
@given(st.lists(st.sampled_from(PLAIN * 3 + ODD), min_size=1, max_size=6), st.lists(st.integers(0, 200), max_size=8))
def test_random_streams_in_random_pieces(redis_server: Address, pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pieces)
    points = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert parse([stream[a:b] for a, b in pairwise(points)]) == parse([stream])
    assert_cuts_do_not_matter(stream)
    assert answer(stream) == answer_of_redis(redis_server, stream)


@examples(150)
@given(st.binary(max_size=60).map(lambda raw: bytes(b"*$+=(\r\n\0 12P"[byte % 12] for byte in raw)))
def test_random_bytes_parse_the_same_in_any_two_pieces(stream: bytes) -> None:
    assert_cuts_do_not_matter(stream)
    assert_cuts_do_not_matter(PING + stream)


@pytest.mark.parametrize("size", [65535, 65536, 65537])
@pytest.mark.parametrize(("head", "tail"), [(b"", b"\n"), (b"", b"\r\n"), (b"*", b"\r\n"), (b"*1\r\n$", b"\r\n")])
def test_a_line_is_as_long_as_it_is_whether_its_end_has_come_or_not(size: int, head: bytes, tail: bytes) -> None:
    stream = head + b"1" * size + tail + PING
    whole = parse([stream])
    for cut in range(size - 3, len(stream)):
        assert parse([stream[:cut], stream[cut:]]) == whole, cut


def test_nothing_is_read_after_a_failure() -> None:
    parser = RequestParser(SharedReader())
    assert parser.feed(PING + b"*x\r\n" + PING) == [[b"PING"]]
    assert parser.failure == "invalid multibulk length"
    assert parser.feed(PING) == []


def test_an_announced_map_takes_no_memory() -> None:
    """hiredis would make room for all of a push, set or map as soon as it is announced."""
    began = time.perf_counter()
    assert parse([PING + b"*1\r\n>999999999\r\n"]) == ([[b"PING"]], "expected '$', got '>'")
    assert time.perf_counter() - began < 1.0
