"""A plain client for tests that must know exactly what was sent and what came back: one socket, no retries."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import hiredis

from eventdb.embedded import Argument, encode_argument


def encode(*args: Argument) -> bytes:
    """A command as a RESP array."""
    argv = [encode_argument(arg) for arg in args]
    return b"*%d\r\n" % len(argv) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in argv)


class Wire:
    """A connection. Error replies are returned as `hiredis.ReplyError`, never raised; a closed one raises OSError."""

    def __init__(self, port: int, timeout: float | None = 10) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = hiredis.Reader()

    def send(self, *commands: bytes) -> None:
        self.socket.sendall(b"".join(commands))

    def receive(self) -> object:
        """The next reply; ConnectionError when there will be none."""
        while (reply := self.reader.gets()) is False:
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("closed by the server")
            self.reader.feed(data)
        return reply

    def __call__(self, *args: Argument) -> object:
        self.send(encode(*args))
        return self.receive()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Load(threading.Thread):
    """One client that writes in a fixed order until its connection breaks, and knows what was acknowledged.

    Step n is RPUSH list n, then MULTI, SET a n, SET b n, EXEC: so at any moment the list is 0 … m-1 without a gap, a
    equals b, and neither is ahead of the list. `depth` steps are sent before the first reply is read.
    """

    def __init__(self, port: int, prefix: str, depth: int) -> None:
        super().__init__(daemon=True)
        self.list, self.a, self.b = f"{prefix}:list", f"{prefix}:a", f"{prefix}:b"
        self.depth = depth
        self.sent = 0
        self.pushed = 0  # RPUSH acknowledged
        self.set = -1  # last n whose EXEC was acknowledged
        self.errors: list[str] = []  # texts of error replies, in order
        self.failure: BaseException | None = None
        self.wire = Wire(port)

    def run(self) -> None:
        try:
            while True:
                first = self.sent
                steps = [step for n in range(first, first + self.depth) for step in self._step(n)]
                self.sent += self.depth
                self.wire.send(*steps)
                for n in range(first, first + self.depth):
                    self._replies(n)
        except OSError:
            pass
        except BaseException as failure:
            self.failure = failure
        finally:
            self.wire.close()

    def _step(self, n: int) -> Iterator[bytes]:
        yield encode("RPUSH", self.list, n)
        yield encode("MULTI")
        yield encode("SET", self.a, n)
        yield encode("SET", self.b, n)
        yield encode("EXEC")

    def _replies(self, n: int) -> None:
        pushed, _multi, _one, _two, done = (self.wire.receive() for _ in range(5))
        for reply in (pushed, done):
            if isinstance(reply, hiredis.ReplyError):
                self.errors.append(str(reply))
        if not isinstance(pushed, hiredis.ReplyError):
            assert not self.errors, "an acknowledgement after an unknown outcome"
            assert pushed == n + 1
            self.pushed = n + 1
        if not isinstance(done, hiredis.ReplyError):
            assert not self.errors, "an acknowledgement after an unknown outcome"
            assert done == [b"OK", b"OK"]
            self.set = n

    def check(self, wire: Wire) -> None:
        """Everything acknowledged is there, in order, and nothing is half there."""
        if self.failure is not None:
            raise self.failure
        items = wire("LRANGE", self.list, 0, -1)
        assert isinstance(items, list)
        assert [int(item) for item in items] == list(range(len(items))), self.list
        assert self.pushed <= len(items) <= self.sent, (self.list, self.pushed, len(items), self.sent)
        a, b = wire("GET", self.a), wire("GET", self.b)
        assert a == b, "a torn transaction"
        last = -1 if a is None else int(a)  # type: ignore[call-overload]
        assert self.set <= last < max(len(items), 1), (self.set, last, len(items))
