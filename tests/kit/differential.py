"""The same commands to a real redis-server and to eventdb, comparing the bytes that each would send.

    @pytest.mark.redis
    @examples(200)
    @given(sequences(step_strategy), st.booleans())
    def test_strings_answer_as_redis_does(redis_server, steps, resp3):
        compare(redis_server, steps, resp3)

A step is a command, `(b"SET", b"k", 1)`; `Expire(b"k")`, which lets a key's time pass on both sides; or `Via(1, step)`,
which sends a step through a second connection. Replies must be equal to the byte, but for the commands in RULES, where
Redis promises less. After the last step every key must hold the same on both sides (with the same OBJECT
ENCODING), and the events must rebuild the state (check_replay).

Both run on the real clock, a little apart. So compare deadlines that are absolute and far away, or relative
ones that differ by seconds: `EXPIRE k 100` followed by `EXPIRE k 100 GT` is a race in Redis itself.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from types import TracebackType

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from eventdb.engine.client import Client
from eventdb.engine.registry import COMMANDS
from tests.kit.harness import Local

Arg = bytes | str | int | float
Address = tuple[str, int]
REPLY_S_MAX = 10  # a reply that takes longer is a command that blocks in Redis
NEAR = 1500  # how far apart two times may be that the two servers read from their clocks; ms, or s for TTL


class Expire:
    """Give a key a deadline of 1 ms and wait until it has passed, on both sides, without anybody looking at it.

    DBSIZE, KEYS, SCAN and RANDOMKEY cannot be compared afterwards: Redis counts the key until it happens to find it.
    """

    def __init__(self, key: Arg) -> None:
        self.key = key

    def __repr__(self) -> str:
        return f"Expire({self.key!r})"


class Via:
    """Send a step through connection `number` (0 is the usual one)."""

    def __init__(self, number: int, step: Step) -> None:
        self.number = number
        self.step = step

    def __repr__(self) -> str:
        return f"Via({self.number}, {self.step!r})"


Step = tuple[Arg, ...] | Expire | Via


def examples(count: int) -> settings:
    """Hypothesis settings: `count` examples, or as many as EVENTDB_EXAMPLES says; failures print how to repeat them."""
    return settings(
        max_examples=int(os.environ.get("EVENTDB_EXAMPLES", count)),
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def sequences(step: st.SearchStrategy[Step], count_max: int = 40) -> st.SearchStrategy[list[Step]]:
    """Lists of steps, of every length up to `count_max` alike: `st.lists` draws five or so, whatever its maximum."""
    return st.integers(0, count_max).flatmap(lambda n: st.lists(step, min_size=n, max_size=n))


def encode(argv: Iterable[Arg]) -> list[bytes]:
    return [arg if isinstance(arg, bytes) else str(arg).encode() for arg in argv]


class Wire:
    """A blocking connection that hands out replies as they came, undecoded."""

    def __init__(self, address: Address, resp3: bool = False) -> None:
        self.socket = socket.create_connection(address, timeout=REPLY_S_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        if resp3:
            self.call("HELLO", 3)

    def send(self, *argv: Arg) -> None:
        parts = encode(argv)
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))

    def reply(self) -> bytes:
        """The raw bytes of exactly one reply (or push), nested ones included."""
        line = self.file.readline()
        assert line.endswith(b"\r\n"), f"connection closed after {line!r}"
        kind, head = line[:1], line[1:-2]
        if kind in b"$=!":
            return line + (self.file.read(int(head) + 2) if int(head) >= 0 else b"")
        if kind in b"*~>%":
            count = int(head) * (2 if kind == b"%" else 1)
            return line + b"".join(self.reply() for _ in range(max(count, 0)))
        return line

    def call(self, *argv: Arg) -> bytes:
        self.send(*argv)
        return self.reply()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def split(raw: bytes) -> tuple[bytes, list[bytes]]:
    """The first line of a reply, and the raw replies inside it."""
    line, _, rest = raw.partition(b"\r\n")
    if line[:1] not in (b"*", b"~", b">", b"%") or line[1:] == b"-1":
        return raw, []
    items: list[bytes] = []
    while rest:
        end = _end(rest)
        items.append(rest[:end])
        rest = rest[end:]
    return line, items


def _end(data: bytes) -> int:
    """Where the first reply in `data` ends."""
    stop = data.index(b"\r\n") + 2
    kind, head = data[:1], data[1 : stop - 2]
    if kind in (b"$", b"=", b"!"):
        return stop + int(head) + 2 if int(head) >= 0 else stop
    if kind in (b"*", b"~", b">", b"%"):
        for _ in range(max(0, int(head) * (2 if kind == b"%" else 1))):
            stop += _end(data[stop:])
    return stop


# -- rules: how far two replies must agree

Rule = Callable[[bytes, bytes], bool]


def same(theirs: bytes, ours: bytes) -> bool:
    return theirs == ours


def in_any_order(theirs: bytes, ours: bytes) -> bool:
    """The same elements."""
    (head, items), (our_head, our_items) = split(theirs), split(ours)
    return head == our_head and sorted(items) == sorted(our_items)


def pairs_in_any_order(theirs: bytes, ours: bytes) -> bool:
    """The same pairs, be they flat, nested or a map."""
    (head, items), (our_head, our_items) = split(theirs), split(ours)
    if any(item[:1] == b"*" for item in items):
        return in_any_order(theirs, ours)
    return head == our_head and sorted(zip(items[::2], items[1::2], strict=True)) == sorted(
        zip(our_items[::2], our_items[1::2], strict=True)
    )


def near(theirs: bytes, ours: bytes) -> bool:
    """Integers that differ by no more than the clocks may; -1 and -2 are exact."""
    if theirs[:1] == b":" and ours[:1] == b":":
        a, b = int(theirs[1:]), int(ours[1:])
        return a == b if min(a, b) < 0 else abs(a - b) <= NEAR
    return theirs == ours


def same_kind(theirs: bytes, ours: bytes) -> bool:
    """The same type of reply; errors must be equal."""
    return theirs == ours if b"-" in (theirs[:1], ours[:1]) else theirs[:1] == ours[:1]


# Of XINFO: fields that Redis 7.2 has more than 7.0, and the shape of its radix tree; fields that are times since.
NOT_COMPARED = {b"inactive", b"active-time", b"radix-tree-nodes"}
CLOCK_FROM = 10**12  # a number above it is a time


def _items(raw: bytes) -> list[bytes]:
    items = split(raw)[1]
    if items and items[0][:1] == b"$" and len(items) % 2 == 0:  # names and values in turn
        names = [item[item.index(b"\n") + 1 : -2] for item in items[::2]]
        kept = [(name, item) for name, item in zip(names, items[1::2], strict=True) if name not in NOT_COMPARED]
        return [part for name, item in kept for part in (name, item)]
    return items


def near_in_time(theirs: bytes, ours: bytes, idle: bool = False) -> bool:
    """Equal but for times, which are near each other, and for what is not compared; `idle`: it is a time since."""
    if theirs[:1] in (b"*", b"%") and ours[:1] == theirs[:1] and theirs[1:2] != b"-" != ours[1:2]:
        a, b = _items(theirs), _items(ours)
        if len(a) != len(b):
            return False
        extended = len(a) == 4 and [item[:1] for item in a] == [b"$", b"$", b":", b":"]  # an entry of XPENDING
        return all(
            near_in_time(x, y, a[i - 1] == b"idle" or (extended and i == 2))
            for i, (x, y) in enumerate(zip(a, b, strict=True))
        )
    if theirs[:1] == ours[:1] == b":" and (idle or int(theirs[1:]) > CLOCK_FROM):
        return near(theirs, ours)
    return theirs == ours


RULES: dict[bytes, Rule] = {
    **dict.fromkeys((b"SMEMBERS", b"SINTER", b"SUNION", b"SDIFF", b"KEYS", b"HKEYS", b"HVALS"), in_any_order),
    b"HGETALL": pairs_in_any_order,
    **dict.fromkeys((b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME"), near),
    **dict.fromkeys((b"SCAN", b"SSCAN", b"HSCAN", b"ZSCAN", b"RANDOMKEY", b"SRANDMEMBER", b"HRANDFIELD"), same_kind),
    **dict.fromkeys((b"ZRANDMEMBER", b"TIME"), same_kind),
    **dict.fromkeys((b"XINFO", b"XPENDING"), near_in_time),
}

# How to read a whole value, by type; commands that eventdb does not have yet are passed over.
CONTENT: dict[bytes, list[tuple[Arg, ...]]] = {
    b"+string\r\n": [("GET",)],
    b"+list\r\n": [("LRANGE", 0, -1)],
    b"+set\r\n": [("SMEMBERS",)],
    b"+hash\r\n": [("HGETALL",)],
    b"+zset\r\n": [("ZRANGE", 0, -1, "WITHSCORES")],
    b"+stream\r\n": [("XRANGE", "-", "+"), ("XINFO STREAM", "FULL", "COUNT", 0)],
}


class Pair:
    """A redis-server, emptied, and an engine, both driven by the same calls. Use it in a `with`.

    `rules` adds to RULES (by upper-case command name). `local` is the harness: look at its log, or at the engine.
    """

    def __init__(self, address: Address, resp3: bool = False, rules: dict[bytes, Rule] | None = None) -> None:
        self.address = address
        self.resp3 = resp3
        self.rules = {**RULES, **(rules or {})}
        self.local = Local()
        self.history: list[str] = []
        self.wires: list[Wire] = []
        self.clients: list[Client] = []
        self._connection(0)
        self.wires[0].call("FLUSHALL")

    def __enter__(self) -> Pair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for wire in self.wires:
            wire.close()

    def _connection(self, number: int) -> tuple[Wire, Client]:
        while len(self.wires) <= number:
            self.wires.append(Wire(self.address, self.resp3))
            self.clients.append(self.local.connect() if self.clients else self.local.client)
            self.clients[-1].resp3 = self.resp3
        return self.wires[number], self.clients[number]

    def __call__(self, *argv: Arg, via: int = 0) -> bytes:
        """Run a command on both, check that the replies agree, return Redis's."""
        wire, client = self._connection(via)
        rule = self.rules.get(str(encode(argv[:1])[0], "latin-1").upper().encode("latin-1"), same)
        theirs = wire.call(*argv)
        self.local.engine.store.now_ms = int(time.time() * 1000)
        ours = self.local.raw(*argv, client=client)
        shown = " ".join(repr(arg)[1:] if isinstance(arg, bytes) else str(arg) for arg in argv)
        self.history.append(f"{f'[{via}] ' if via else ''}{shown}  ->  {short(theirs)}")
        if not rule(theirs, ours):
            self._fail(theirs, ours)
        return theirs

    def _fail(self, theirs: bytes, ours: bytes) -> None:
        *before, last = self.history
        lines = ["", f"RESP{3 if self.resp3 else 2}, after:", *(f"    {line}" for line in before[-60:])]
        lines += [
            f"  {last.split('  ->  ')[0]}",
            f"    redis   {short(theirs, 2000)}",
            f"    eventdb {short(ours, 2000)}",
        ]
        raise AssertionError("\n".join(lines))

    def expire(self, key: Arg) -> None:
        """Let the key's time pass on both sides."""
        self("PEXPIRE", key, 1)
        past = time.time() + 0.0025
        while time.time() < past:
            time.sleep(0.0005)
        self.local.engine.store.now_ms = int(time.time() * 1000)

    def step(self, step: Step, via: int = 0) -> None:
        if isinstance(step, Via):
            self.step(step.step, step.number)
        elif isinstance(step, Expire):
            self.expire(step.key)
        else:
            self(*step, via=via)

    def check_state(self) -> None:
        """Every key of every database: type, content, encoding, deadline. Then the replay."""
        theirs, ours = Wire(self.address), self.local.connect()
        self.local.engine.store.now_ms = int(time.time() * 1000)
        try:
            for db in self.local.engine.store.keyspace.dbs:
                theirs.call("SELECT", db.index)
                ours.db = db
                for raw in split(theirs.call("KEYS", "*"))[1]:
                    self._check_key(theirs, ours, raw[raw.index(b"\n") + 1 : -2])
                live = [k for k in db.values if db.expires.get(k, 1 << 62) > self.local.engine.store.now_ms]
                for key in live:
                    if theirs.call("EXISTS", key) != b":1\r\n":
                        self.history.append(f"(at the end, db {db.index}) {key!r}")
                        self._fail(b"none", b"a value")
        finally:
            theirs.close()
        self.local.check_replay()

    def _check_key(self, theirs: Wire, ours: Client, key: bytes) -> None:
        kind = theirs.call("TYPE", key)
        questions: list[tuple[Arg, ...]] = [("TYPE", key), ("PEXPIRETIME", key), ("OBJECT", "ENCODING", key)]
        questions += [(*str(name).split(), key, *rest) for name, *rest in CONTENT.get(kind, [])]
        for question in questions:
            name = str(question[0]).encode()
            command = COMMANDS.get(name)
            if command is None or (name == b"OBJECT" and b"ENCODING" not in command.subcommands):
                continue
            rule = self.rules.get(name, same)
            reply, answer = theirs.call(*question), self.local.raw(*question, client=ours)
            if not rule(reply, answer):
                self.history.append(f"(at the end, db {ours.db.index}) {question!r}")
                self._fail(reply, answer)


def short(raw: bytes, size: int = 160) -> str:
    text = repr(raw)[2:-1]
    return text if len(text) <= size else f"{text[:size]}… ({len(raw)} bytes)"


def compare(
    address: Address, steps: Iterable[Step], resp3: bool = False, rules: dict[bytes, Rule] | None = None
) -> Local:
    """Run the steps on both sides and compare everything; returns the harness for further questions."""
    with Pair(address, resp3, rules) as pair:
        for step in steps:
            pair.step(step)
        pair.check_state()
        return pair.local
