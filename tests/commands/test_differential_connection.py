"""Connections, CLIENT, pub/sub and CONFIG against a real redis-server: the same bytes, on every connection.

After each step every connection is asked for PING with a token, and everything before the answer is compared: so a
message that Redis pushes and eventdb does not, or to somebody else, is found at once.
"""

from __future__ import annotations

import re
import socket
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventdb.engine.client import IN_MULTI, Client
from tests.kit.differential import Address, examples
from tests.kit.harness import Local

CONNECTIONS = 3
# Ids, and what Redis does in the order of a hash table.
ID = re.compile(rb"(\$2\r\nid\r\n):\d+")
UNORDERED = ("UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "PUBSUB", "EXEC", "PUBLISH")


class Both:
    """The same connections to redis-server and to an engine."""

    def __init__(self, address: Address) -> None:
        self.local = Local()
        self.clients: list[Client] = [self.local.connect() for _ in range(CONNECTIONS)]
        self.sockets = [socket.create_connection(address, timeout=10) for _ in range(CONNECTIONS)]
        self.history: list[str] = []
        self.tokens = 0

    def close(self) -> None:
        for each in self.sockets:
            each.close()

    def send(self, number: int, words: list[str]) -> None:
        parts = [word.encode() for word in words]
        request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        self.sockets[number].sendall(request)

    def until_token(self, number: int, before: bytes) -> tuple[bytes, bytes]:
        """Everything a connection receives up to the answer to a PING of our own; ours too, after `before`."""
        self.tokens += 1
        token = f"token-{self.tokens}"
        self.send(number, ["PING", token])
        ours = before + self.local.raw("PING", token, client=self.clients[number])
        data = b""
        while not data.endswith(f"{token}\r\n".encode()):
            if data.endswith(b"+QUEUED\r\n") and data.count(b"+QUEUED\r\n") == ours.count(b"+QUEUED\r\n"):
                break  # inside MULTI the PING is queued
            data += self.sockets[number].recv(1 << 16)
        return data, ours

    def step(self, number: int, line: str) -> None:
        words = line.split()
        client = self.clients[number]
        in_multi = client.gate & IN_MULTI
        if in_multi and words[0].upper() in ("PUBLISH", "SPUBLISH"):
            return  # eventdb delivers after the EXEC, for its messages wait with it
        self.history.append(f"[{number}] {line}")
        self.send(number, words)
        mine = self.local.raw(*words, client=client)
        order = [number, *[other for other in range(CONNECTIONS) if other != number]]
        for other in order:
            theirs, ours = self.until_token(other, mine if other == number else b"")
            assert same(words[0].upper(), theirs, ours), self.report(other, theirs, ours)

    def report(self, other: int, theirs: bytes, ours: bytes) -> str:
        return "\n".join(
            ["", *self.history[-30:], f"connection {other}:", f"  redis   {theirs!r}", f"  eventdb {ours!r}"]
        )


def same(name: str, theirs: bytes, ours: bytes) -> bool:
    theirs, ours = ID.sub(rb"\1", theirs), ID.sub(rb"\1", ours)
    if theirs == ours:
        return True
    return name in UNORDERED and sorted(theirs.split(b"\r\n")) == sorted(ours.split(b"\r\n"))


CLIENT_WITH_ONE = ["NO-EVICT", "CACHING", "UNBLOCK", "KILL TYPE", "KILL ID", "LIST ID", "LIST TYPE", "KILL SKIPME"]

names = st.sampled_from(["a", "b", "news.it", "a*", "n?ws.*", "[ab]"])
patterns = st.sampled_from(["", "a*", "a b"])
several = st.lists(names, min_size=0, max_size=3).map(" ".join)

pubsub = st.one_of(
    st.builds("{} {}".format, st.sampled_from(["SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE"]), several),
    st.builds("{} {}".format, st.sampled_from(["SSUBSCRIBE", "SUNSUBSCRIBE"]), several),
    st.builds("{} {} hi".format, st.sampled_from(["PUBLISH", "PUBLISH", "SPUBLISH"]), names),
    st.builds(
        "PUBSUB {} {}".format, st.sampled_from(["CHANNELS", "SHARDCHANNELS"]), st.sampled_from(["", "a*", "a b"])
    ),
    st.builds("PUBSUB {} {}".format, st.sampled_from(["NUMSUB", "SHARDNUMSUB", "NUMPAT", "FOO"]), several),
)
plain = st.one_of(
    st.sampled_from(
        [
            "PING", "PING x y", "ECHO x", "ECHO", "SELECT 3", "SELECT 16", "SELECT x", "GET k", "SET k v", "NOPE a b",
            "MULTI", "MULTI", "EXEC", "EXEC", "DISCARD", "RESET", "RESET x", "HELLO 2", "HELLO 3", "HELLO 3", "HELLO",
            "HELLO 4", "HELLO x", "HELLO 3 SETNAME", "HELLO 3 SETNAME me", "HELLO 2 AUTH default x",
            "HELLO 3 AUTH nobody x", "HELLO 3 AUTH", "HELLO 2 FOO", "AUTH x", "AUTH default x", "AUTH nobody x",
            "AUTH a b c", "AUTH", "WAIT 0 0", "WAIT 0 x", "WAIT x 0", "WAIT 0 -1", "SHUTDOWN FOO", "SHUTDOWN ABORT",
            "SHUTDOWN SAVE NOSAVE", "LATENCY LATEST", "LATENCY HISTORY x", "LATENCY RESET", "LATENCY GRAPH x",
            "LATENCY FOO", "MEMORY USAGE nokey", "MEMORY USAGE k SAMPLES", "MEMORY USAGE k SAMPLES -1",
            "MEMORY USAGE k SAMPLES x", "MEMORY USAGE k FOO 1", "MEMORY FOO", "SLOWLOG RESET",
            "SLOWLOG GET x", "SLOWLOG GET -2", "SLOWLOG GET 1 2", "SLOWLOG FOO", "SLOWLOG", "BGSAVE FOO", "SAVE x",
            "DEBUG SLEEP 0", "ACL WHOAMI", "ACL FOO", "MODULE LIST", "MODULE FOO", "SAVE", "INFO nope", "TIME x",
        ]
    ),
    st.builds("CLIENT {}".format, st.sampled_from(["GETNAME", "GETREDIR", "TRACKINGINFO", "UNPAUSE", "FOO", "ID x"])),
    st.builds("CLIENT SETNAME {}".format, st.sampled_from(["me", "you", "é", ""])),
    st.builds(
        "CLIENT {} {}".format,
        st.sampled_from(CLIENT_WITH_ONE),
        st.sampled_from(["x", "99999999", "replica", "master", "0", "foo", ""]),
    ),
    st.sampled_from(
        [
            "CLIENT TRACKING off", "CLIENT TRACKING off x", "CLIENT TRACKING x", "CLIENT TRACKING off NOLOOP",
            "CLIENT UNBLOCK 99999999 foo", "CLIENT UNBLOCK 9 ERROR x", "CLIENT KILL 1.2.3.4:5", "CLIENT KILL FOO bar",
            "CLIENT KILL ID 999999 TYPE", "CLIENT KILL USER nobody", "CLIENT PAUSE x", "CLIENT PAUSE -1",
            "CLIENT PAUSE 0 foo", "CLIENT PAUSE 0 WRITE x", "CLIENT REPLY foo", "CLIENT LIST foo", "CLIENT REPLY ON",
            "CLIENT KILL ADDR 1.1.1.1:1 SKIPME yes", "CLIENT LIST ID 999999", "CLIENT", "CLIENT LIST TYPE replica",
        ]
    ),
)  # fmt: skip
steps = st.lists(st.tuples(st.integers(0, CONNECTIONS - 1), st.one_of(pubsub, pubsub, plain)), max_size=30)


@pytest.mark.redis
@examples(120)
@given(steps)
def test_connections_answer_and_push_as_redis_does(redis_server: Address, steps: list[tuple[int, str]]) -> None:
    both = Both(redis_server)
    try:
        both.send(0, ["DEL", "k"])
        assert both.sockets[0].recv(16) in (b":0\r\n", b":1\r\n")
        for number, line in steps:
            both.step(number, line)
        both.local.check_replay()
    finally:
        both.close()


SETTINGS = (
    "timeout", "tcp-keepalive", "databases", "slowlog-log-slower-than", "slowlog-max-len",
    "proto-max-bulk-len", "client-query-buffer-limit", "client-output-buffer-limit", "hash-max-listpack-entries",
    "hash-max-ziplist-entries", "hash-max-listpack-value", "list-max-listpack-size", "list-max-ziplist-size",
    "set-max-intset-entries", "zset-max-listpack-entries", "zset-max-ziplist-value", "maxmemory-policy",
    "daemonize", "cluster-enabled", "nope",
)  # fmt: skip
VALUES = (
    "0", "1", "-1", "-2", "x", "", "10", "5000", "05", "+5", "1k", "1kb", "2mb", "3zz", "99999999999", "noeviction",
    "9223372036854775808", "yes", "maybe", "normal 0 0 0", "pubsub 32mb 8mb 60", "pubsub 1 2", "foo 0 0 0",
    "pubsub x 0 0", "pubsub 1 1 -1",
)  # fmt: skip
pairs = st.lists(st.tuples(st.sampled_from(SETTINGS), st.sampled_from(VALUES)), min_size=1, max_size=3)
UNSETTABLE = ("nope", "maxmemory-policy", "databases", "daemonize", "cluster-enabled")


@pytest.mark.redis
@examples(150)
@given(st.lists(pairs, min_size=1, max_size=4), st.booleans())
def test_settings_are_checked_as_redis_checks_them(
    redis_server: Address, sets: list[list[tuple[str, str]]], upper: bool
) -> None:
    local = Local()
    names = [name for name in SETTINGS if name not in UNSETTABLE]
    defaults = ["CONFIG", "SET"]
    for name in names:
        defaults += [name, local.engine.config.get(name)]
    with socket.create_connection(redis_server, timeout=10) as connection, connection.makefile("rwb") as stream:
        try:
            assert ask(stream, defaults) == b"+OK\r\n"  # type: ignore[arg-type]
            for wanted in sets:
                words = ["CONFIG", "SET"]
                for name, value in wanted:
                    words += [name.upper() if upper else name, value]
                theirs, ours = ask(stream, words), local.raw(*words)  # type: ignore[arg-type]
                assert theirs.lower() == ours.lower() or "maxmemory-policy" in words, (words, theirs, ours)
            for name in names:
                words = ["CONFIG", "GET", name]
                assert ask(stream, words) == local.raw(*words), words  # type: ignore[arg-type]
        finally:
            ask(stream, defaults)  # type: ignore[arg-type]  # other tests use this server too


def ask(stream: IO[bytes], words: list[str]) -> bytes:
    parts = [word.encode() for word in words]
    stream.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
    stream.flush()
    return read(stream)


def read(stream: IO[bytes]) -> bytes:
    line: bytes = stream.readline()
    if line[:1] == b"$" and line[1:2] != b"-":
        return line + stream.read(int(line[1:]) + 2)
    if line[:1] == b"*":
        return line + b"".join([read(stream) for _ in range(int(line[1:]))])
    return line
