"""One key of each data type in three sizes, the same on both servers: what the rows of `types` read and write."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import hiredis

from benchmarks.rows import SIZES
from benchmarks.servers import Server

CHUNK = 1_000  # elements a command


def fill_types(server: Server) -> None:
    """Make hash:N, list:N, set:N, other:N, zset:N and stream:N. Raises RuntimeError when a command is refused."""
    reader = hiredis.Reader()
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as conn:
        for size in SIZES:
            for start in range(0, size, CHUNK):
                numbers = range(start, min(size, start + CHUNK))
                commands = [*_of_one_key(size, numbers), *_entries(size, numbers)]
                conn.sendall(b"".join(commands))
                for _ in commands:
                    _receive(conn, reader)


def _of_one_key(size: int, numbers: range) -> Iterator[bytes]:
    members = [b"m:%012d" % number for number in numbers]
    shapes: dict[str, Callable[[int], tuple[bytes, ...]]] = {
        "HSET hash": lambda number: (b"f:%012d" % number, b"value-%06d" % number),
        "RPUSH list": lambda number: (b"value-%06d" % number,),
        "ZADD zset": lambda number: (b"%d" % number, b"m:%012d" % number),
    }
    for name, shape in shapes.items():
        verb, kind = name.split()
        words = [part for number in numbers for part in shape(number)]
        yield _request([verb.encode(), f"{kind}:{size}".encode(), *words])
    yield _request([b"SADD", f"set:{size}".encode(), *members])
    yield _request([b"SADD", f"other:{size}".encode(), *members[::2]])


def _entries(size: int, numbers: range) -> Iterator[bytes]:
    key = f"stream:{size}".encode()
    return (_request([b"XADD", key, b"%d-1" % (number + 1), b"f", b"value-%06d" % number]) for number in numbers)


def _request(words: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def _receive(conn: socket.socket, reader: hiredis.Reader) -> None:
    while (reply := reader.gets()) is False:
        data = conn.recv(1 << 16)
        if not data:
            raise RuntimeError("the server closed the connection while it was being filled")
        reader.feed(data)
    if isinstance(reply, hiredis.ReplyError):
        raise RuntimeError(f"the server refused to be filled: {reply}")
