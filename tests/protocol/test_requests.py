"""Requests parse the same however the bytes are cut, and hostile ones end with Redis's own texts."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from eventdb.protocol.requests import RequestParser, SharedReader, split_arguments


def encode(argv: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(argv) + b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in argv)


def parse(chunks: list[bytes], authenticated: bool = True) -> tuple[list[list[bytes]], str]:
    parser = RequestParser(SharedReader())
    parser.authenticated = authenticated
    found: list[list[bytes]] = []
    for chunk in chunks:
        if chunk and not parser.failure:
            found += parser.feed(chunk)
    return found, parser.failure


STREAM = (
    encode([b"SET", b"k", b"*1234567\r\n$9"])
    + b"PING  x\r\n"
    + encode([b"GET", b"k"])
    + b"*0\r\n"
    + encode([b"", b"\r\n"])
)
EXPECTED = [[b"SET", b"k", b"*1234567\r\n$9"], [b"PING", b"x"], [b"GET", b"k"], [b"", b"\r\n"]]


def test_an_empty_array_before_an_array_that_is_cut() -> None:
    """The empty array that is fed behind a chunk was taken for the first argument, and the client's own for the end."""
    for first in range(len(STREAM)):
        for second in range(first, len(STREAM)):
            assert parse([STREAM[:first], STREAM[first:second], STREAM[second:]]) == (EXPECTED, ""), (first, second)


def test_a_number_of_the_client_is_not_taken_for_the_end_of_a_chunk() -> None:
    """Between requests it is an inline command, however odd, and what follows it is read."""
    stream = encode([b"PING"]) + b":5\r\n" + encode([b"GET", b"k"])
    assert parse([stream]) == ([[b"PING"], [b":5"], [b"GET", b"k"]], "")


@pytest.mark.parametrize("key", [b"%1\r\n$1\r\na\r\n$1\r\nb\r\n", b"*1\r\n$1\r\na\r\n", b"%3\r\nGET0\r\n"])
def test_a_map_whose_key_cannot_be_one_is_a_protocol_error(key: bytes) -> None:
    """What hiredis makes of it cannot be hashed. The request before it is there."""
    stream = encode([b"GET", b"k"]) + b"*2\r\n%1\r\n" + key + b"$1\r\nx\r\n" + encode([b"GET", b"k"])
    assert parse([stream]) == ([[b"GET", b"k"]], "expected '$', got '%'")


def test_every_split_in_two_and_byte_by_byte_gives_the_same_commands() -> None:
    assert parse([STREAM]) == (EXPECTED, "")
    assert parse([STREAM[i : i + 1] for i in range(len(STREAM))]) == (EXPECTED, "")
    for cut in range(len(STREAM)):
        assert parse([STREAM[:cut], STREAM[cut:]]) == (EXPECTED, ""), cut


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=5), max_size=12),
    st.lists(st.integers(0, 600), max_size=6),
)
def test_random_commands_survive_random_cuts(commands: list[list[bytes]], cuts: list[int]) -> None:
    stream = b"".join(map(encode, commands))
    points = [0, *sorted(min(c, len(stream)) for c in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(points)]
    assert parse(chunks) == (commands, "")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=5), st.lists(st.integers(0, len(STREAM)), max_size=5))
def test_connections_that_share_a_reader_never_see_each_others_bytes(cuts: list[int], others: list[int]) -> None:
    shared = SharedReader()
    parsers = [RequestParser(shared) for _ in range(3)]
    found: list[list[list[bytes]]] = [[], [], []]
    chunks = [[STREAM[a:b] for a, b in pairwise([0, *sorted(points), len(STREAM)])] for points in (cuts, others)]
    garbage = [encode([b"GET", b"k"]) + b"*2\r\n$3\r\nGET\r\n:1\r\n", b"*3\r\n$1\r\na\r\n"]
    for turn in range(max(map(len, chunks))):
        for parser, mine, from_it in zip(parsers, [*chunks, garbage], found, strict=True):
            if turn < len(mine) and mine[turn] and not parser.failure:
                from_it += parser.feed(mine[turn])
    assert found == [EXPECTED, EXPECTED, [[b"GET", b"k"]]]


@pytest.mark.parametrize(
    ("stream", "failure"),
    [
        (b"*2147483648\r\n", "invalid multibulk length"),
        (b"*99999999999999999999999\r\n", "invalid multibulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*1\r\n:5\r\n", "expected '$', got ':'"),
        (b"*1\r\n*1\r\n$1\r\na\r\n", "expected '$', got '*'"),
        (b'GET "unbalanced\r\n', "unbalanced quotes in request"),
        (b"x" * 70000, "too big inline request"),
        (b"*" + b"1" * 70000, "too big mbulk count string"),
        (b"*1\r\n$" + b"1" * 70000, "too big bulk count string"),
    ],
)
def test_hostile_bytes_end_the_stream_after_the_good_commands(stream: bytes, failure: str) -> None:
    good = encode([b"PING"])
    assert parse([good + stream]) == ([[b"PING"]], failure)
    assert parse([good, stream]) == ([[b"PING"]], failure)


def test_before_authentication_only_small_requests_are_read() -> None:
    assert parse([encode([b"AUTH", b"x"])], authenticated=False) == ([[b"AUTH", b"x"]], "")
    assert parse([b"*11\r\n"], authenticated=False)[1] == "unauthenticated multibulk length"
    assert parse([b"*1\r\n$16385\r\n"], authenticated=False)[1] == "unauthenticated bulk length"


@pytest.mark.parametrize(
    ("line", "args"),
    [
        (b'set k "a\\x41\\n\\"b"', [b"set", b"k", b'aA\n"b']),
        (b"set k 'it\\'s'", [b"set", b"k", b"it's"]),
        (b"  a   b ", [b"a", b"b"]),
        (b'"a"b', None),
        (b"", []),
    ],
)
def test_inline_commands_split_as_in_redis(line: bytes, args: list[bytes] | None) -> None:
    assert split_arguments(line) == args
