"""Lists beside a real Redis: random commands, blocked clients and transactions, with the same replies to the byte."""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.differential import Address, Expire, Pair, Step, Wire, compare, encode, examples

pytestmark = pytest.mark.redis

BLOCKS_S_MAX = 5.0  # until Redis shows a client as blocked

KEYS = st.sampled_from([b"l", b"l", b"l", b"m", b"text", b"none"])
ELEMENTS = st.sampled_from([b"a", b"b", b"c", b"", b"7", b"\x00\r\n\xff"])
SMALL = st.integers(-8, 8).map(lambda n: b"%d" % n)
NUMBERS = st.one_of(
    SMALL,
    SMALL,
    st.sampled_from([b"x", b"", b"1.0", b"+1", b"01", b" 1", b"9223372036854775807", b"9223372036854775808"]),
    st.sampled_from([b"-9223372036854775807", b"99999999999999999999999"]),
)
SIDES = st.sampled_from([b"LEFT", b"RIGHT", b"left", b"Right", b"up"])
TIMEOUTS = st.sampled_from(
    [b"0", b"0.5", b"1e-1", b"x", b"-1", b"", b"1e", b"nan", b"-0", b" 1", b"inf", b"-inf", b"1_0"]
)


def call(name: str, *parts: st.SearchStrategy[bytes] | st.SearchStrategy[list[bytes]]) -> st.SearchStrategy[Step]:
    """A command; a part that makes a list stands for several arguments."""

    def flatten(drawn: tuple[bytes | list[bytes], ...]) -> Step:
        flat: list[bytes] = []
        for part in drawn:
            flat += part if isinstance(part, list) else [part]
        return (name, *flat)

    return st.tuples(*parts).map(flatten)


def some(elements: st.SearchStrategy[bytes], low: int = 1, high: int = 4) -> st.SearchStrategy[list[bytes]]:
    return st.lists(elements, min_size=low, max_size=high)


OPTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([b"RANK", b"rank", b"COUNT", b"MAXLEN", b"FOO"]), NUMBERS).map(list),
        st.sampled_from([[b"COUNT"], [b"RANK"]]),
    ),
    max_size=3,
).map(lambda found: [part for option in found for part in option])
MANY = st.one_of(
    st.tuples(KEYS, SIDES).map(lambda drawn: [b"1", *drawn]),
    st.tuples(KEYS, KEYS, SIDES).map(lambda drawn: [b"2", *drawn]),
    st.tuples(NUMBERS, KEYS, SIDES).map(list),
)
COUNT = st.one_of(st.just([]), st.tuples(st.sampled_from([b"COUNT", b"count", b"x"]), NUMBERS).map(list), some(NUMBERS))

PUSHES = st.one_of(
    call("LPUSH", KEYS, some(ELEMENTS)),
    call("RPUSH", KEYS, some(ELEMENTS)),
    call("rpush", KEYS, some(ELEMENTS, 0, 6)),
    call("LPUSHX", KEYS, some(ELEMENTS)),
    call("RPUSHX", KEYS, some(ELEMENTS)),
)
COMMANDS = st.one_of(
    PUSHES,
    PUSHES,
    call("LPOP", KEYS),
    call("RPOP", KEYS),
    call("LPOP", KEYS, some(NUMBERS, 0, 2)),
    call("RPOP", KEYS, NUMBERS),
    call("LLEN", KEYS),
    call("LRANGE", KEYS, NUMBERS, NUMBERS),
    call("LINDEX", KEYS, NUMBERS),
    call("LSET", KEYS, NUMBERS, ELEMENTS),
    call("LINSERT", KEYS, st.sampled_from([b"before", b"AFTER", b"on"]), ELEMENTS, ELEMENTS),
    call("LREM", KEYS, NUMBERS, ELEMENTS),
    call("LTRIM", KEYS, NUMBERS, NUMBERS),
    call("LPOS", KEYS, ELEMENTS, OPTIONS),
    call("LMOVE", KEYS, KEYS, SIDES, SIDES),
    call("RPOPLPUSH", KEYS, KEYS),
    call("LMPOP", MANY, COUNT),
    call("TYPE", KEYS),
    call("DEL", KEYS),
)
# Inside MULTI nothing blocks, so the blocking commands may be compared one by one.
BLOCKING = st.one_of(
    call("BLPOP", some(KEYS, 0, 3), TIMEOUTS),
    call("BRPOP", some(KEYS, 1, 2), TIMEOUTS),
    call("BLMOVE", KEYS, KEYS, SIDES, SIDES, TIMEOUTS),
    call("BRPOPLPUSH", KEYS, KEYS, TIMEOUTS),
    call("BLMPOP", TIMEOUTS, MANY, COUNT),
)


@examples(300)
@given(st.lists(COMMANDS, max_size=40), st.booleans())
def test_lists_answer_as_redis_does(redis_server: Address, steps: list[Step], resp3: bool) -> None:
    compare(redis_server, [("SET", "text", "x"), ("RPUSH", "l", *"abcabacb"), *steps], resp3)


@examples(25)
@given(st.lists(COMMANDS, max_size=10))
def test_expired_lists_are_gone_for_every_command(redis_server: Address, steps: list[Step]) -> None:
    start: list[Step] = [("RPUSH", "l", "a", "b"), ("RPUSH", "m", "c"), ("SET", "text", "x")]
    compare(redis_server, [*start, Expire("l"), Expire("text"), *steps])


@examples(200)
@given(
    st.lists(st.lists(st.one_of(BLOCKING, COMMANDS, call("WATCH", KEYS), call("NOSUCH")), max_size=6), max_size=4),
    st.booleans(),
)
def test_transactions_answer_as_redis_does(redis_server: Address, blocks: list[list[Step]], resp3: bool) -> None:
    steps: list[Step] = [("SET", "text", "x"), ("RPUSH", "l", *"abcab")]
    for block in blocks:
        steps += [("MULTI",), *block, ("EXEC",)]
    compare(redis_server, [*steps, ("EXEC",), ("DISCARD",)], resp3)


@examples(150)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2]),
            st.one_of(
                st.sampled_from([("MULTI",), ("EXEC",), ("EXEC",), ("DISCARD",), ("UNWATCH",), ("FLUSHALL",)]),
                st.sampled_from([("FLUSHDB",), ("SELECT", "0"), ("SELECT", "1"), ("SWAPDB", "0", "1"), ("EXEC", "x")]),
                call("WATCH", some(KEYS)),
                call("WATCH", some(KEYS)),
                call("MOVE", KEYS, st.sampled_from([b"0", b"1"])),
                call("RENAME", KEYS, KEYS),
                call("COPY", KEYS, KEYS),
                call("LPUSH", KEYS, ELEMENTS),
                call("SET", KEYS, ELEMENTS),
                call("DEL", KEYS),
            ),
        ),
        max_size=40,
    )
)
def test_watch_breaks_when_redis_says_so(redis_server: Address, steps: list[tuple[int, Step]]) -> None:
    with Pair(redis_server) as pair:
        for number, step in steps:
            pair.step(step, via=number)
        for number in range(len(pair.wires)):
            pair("DISCARD", via=number)
        pair.check_state()


# -- blocked clients


class Blocking:
    """Several clients on both sides, some of them blocked; every reply that arrives anywhere is compared."""

    def __init__(self, address: Address, resp3: bool) -> None:
        self.pair = Pair(address, resp3)
        self.ids: list[bytes] = []
        self.control = Wire(address)
        for number in range(4):
            wire, _ = self.pair._connection(number)
            self.ids.append(wire.call("CLIENT", "ID").strip()[1:])

    def close(self) -> None:
        self.control.close()
        self.pair.__exit__(None, None, None)

    def step(self, number: int, step: Iterable[bytes | str | int | float]) -> None:
        wire, client = self.pair.wires[number], self.pair.clients[number]
        if client.blocked is not None:
            return
        argv = encode(step)
        local = self.pair.local
        self.pair.history.append(f"[{number}] {argv}")
        wire.send(*argv)
        local.engine.store.now_ms = int(time.time() * 1000)
        replies = {number: local.raw(*argv, client=client)}
        if client.blocked is not None:
            self.wait_until_blocked(number)
            del replies[number]
        for other, waiter in enumerate(self.pair.clients):
            waiter.flush()
            if other != number and (reply := local.take(waiter)):
                replies[other] = reply
        for other, reply in replies.items():
            self.pair.history.append(f"        [{other}] gets {reply!r}")
            theirs = self.pair.wires[other].reply()
            if theirs != reply:
                self.pair.history.append(f"client {other}")
                self.pair._fail(theirs, reply)

    def is_blocked(self, number: int) -> bool:
        listed = self.control.call("CLIENT", "LIST", "ID", self.ids[number])
        flags = listed.partition(b" flags=")[2].partition(b" ")[0]
        return b"b" in flags

    def wait_until_blocked(self, number: int) -> None:
        end = time.monotonic() + BLOCKS_S_MAX
        while not self.is_blocked(number):
            assert time.monotonic() < end, "\n".join([*self.pair.history, f"redis does not block client {number}"])

    def check(self) -> None:
        for number, client in enumerate(self.pair.clients):
            assert self.is_blocked(number) == (client.blocked is not None), "\n".join(self.pair.history)
        self.pair.check_state()


WAITED = st.sampled_from([b"a", b"b", b"c"])
VALUE = st.integers(0, 99).map(lambda n: b"%d" % n)
SIDE = st.sampled_from([b"LEFT", b"RIGHT"])
FOREVER = st.just(b"0")
QUICK = st.one_of(
    call("RPUSH", WAITED, some(VALUE)),
    call("LPUSH", WAITED, some(VALUE)),
    call("LPOP", WAITED),
    call("LMOVE", WAITED, WAITED, SIDE, SIDE),
    call("DEL", WAITED),
    call("SET", WAITED, VALUE),
    call("RENAME", WAITED, WAITED),
    call("COPY", WAITED, WAITED, st.sampled_from([[], [b"REPLACE"]])),
    call("PEXPIRE", WAITED, st.just(b"-1")),
    call("LREM", WAITED, st.just(b"0"), VALUE),
    call("ZADD", WAITED, VALUE, VALUE),
)
WAIT = st.one_of(
    call("BLPOP", some(WAITED, 1, 3), FOREVER),
    call("BRPOP", some(WAITED, 1, 3), FOREVER),
    call("BLMOVE", WAITED, WAITED, SIDE, SIDE, FOREVER),
    call("BRPOPLPUSH", WAITED, WAITED, FOREVER),
    call("BZPOPMIN", some(WAITED, 1, 2), FOREVER),
    call("BLMPOP", FOREVER, some(WAITED, 2, 2).map(lambda keys: [b"2", *keys]), SIDE),
    call("BLMPOP", FOREVER, WAITED.map(lambda key: [b"1", key]), SIDE, st.just([b"COUNT", b"2"])),
)
WHO = st.sampled_from([0, 1, 2, 3])


@examples(150)
@given(
    st.lists(
        st.one_of(
            st.tuples(WHO, st.one_of(WAIT, WAIT, QUICK).map(lambda step: [step])),
            st.tuples(
                WHO, st.lists(st.one_of(QUICK, WAIT), max_size=5).map(lambda block: [("MULTI",), *block, ("EXEC",)])
            ),
        ),
        max_size=25,
    ),
    st.booleans(),
)
def test_blocked_clients_are_served_as_in_redis(
    redis_server: Address, turns: list[tuple[int, list[tuple[bytes | str, ...]]]], resp3: bool
) -> None:
    both = Blocking(redis_server, resp3)
    try:
        for number, steps in turns:
            for step in steps:
                both.step(number, step)
        both.check()
    finally:
        both.close()
