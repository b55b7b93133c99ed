"""XREAD and XREADGROUP that wait: who is served, when, with what; compared with a real Redis, and what the log says."""

from __future__ import annotations

import socket
import time
from contextlib import closing

import pytest

from eventdb.engine.engine import Engine
from eventdb.engine.settings import Config
from eventdb.pipeline.commit import Commit
from tests.commands.test_lists_blocking import NONE_YET, Room
from tests.kit.differential import Address, Wire
from tests.kit.harness import Collector

# Each: what is there, what waits, what is done. `|` separates commands. Then what the waiters received is compared.
STORIES = {
    "an entry ends the wait": ("", "XREAD BLOCK 0 STREAMS x y $ $", "XADD y 1-1 f v"),
    "everybody who reads is served": (
        "XADD x 1-1 f v", "XREAD BLOCK 0 STREAMS x $|XREAD BLOCK 0 COUNT 1 STREAMS x 1-5|XREAD BLOCK 0 STREAMS x 1-1",
        "XADD x 2-1 f v",
    ),
    "who asks for a higher id waits on": (
        "", "XREAD BLOCK 0 STREAMS x 5|XREAD BLOCK 0 STREAMS x 1", "XADD x 2-1 f v",
    ),
    "served later": ("", "XREAD BLOCK 0 STREAMS x 5", "XADD x 2-1 f v|XADD x 6-1 f w"),
    "another type": ("", "XREAD BLOCK 0 STREAMS x 0", "SET x v"),
    "deleted and made again": ("XADD x 1-1 f v", "XREAD BLOCK 0 STREAMS x $", "DEL x|XADD x 2-1 f v"),
    "a key named twice": ("", "XREAD BLOCK 0 STREAMS x x 1 5", "XADD x 2-1 f v"),
    "in a transaction": ("", "XREAD BLOCK 0 STREAMS x 0", "MULTI|XADD x 1-1 f v|XADD x 2-1 f v|EXEC"),
    "rename": ("XADD y 1-1 f v", "XREAD BLOCK 0 STREAMS x 0", "RENAME y x"),
    "copy": ("XADD y 1-1 f v", "XREAD BLOCK 0 STREAMS x 0", "COPY y x"),
    "a group gives each entry once": (
        "XGROUP CREATE x g $ MKSTREAM",
        "XREADGROUP GROUP g a BLOCK 0 STREAMS x >|XREADGROUP GROUP g b BLOCK 0 STREAMS x >",
        "XADD x 1-1 f v|XADD x 2-1 f w",
    ),
    "two groups": (
        "XGROUP CREATE x g $ MKSTREAM|XGROUP CREATE x h $",
        "XREADGROUP GROUP g a BLOCK 0 STREAMS x >|XREADGROUP GROUP h b NOACK BLOCK 0 STREAMS x >",
        "XADD x 1-1 f v",
    ),
    "group destroyed": (
        "XGROUP CREATE x g $ MKSTREAM|XGROUP CREATE x h $",
        "XREADGROUP GROUP g a BLOCK 0 STREAMS x >|XREADGROUP GROUP h a BLOCK 0 STREAMS x >|XREAD BLOCK 0 STREAMS x $",
        "XGROUP DESTROY x g",
    ),
    "consumer deleted": (
        "XGROUP CREATE x g $ MKSTREAM", "XREADGROUP GROUP g a BLOCK 0 STREAMS x >",
        "XGROUP DELCONSUMER x g a|XADD x 1-1 f v",
    ),
    **{
        f"key gone by {' '.join(end.split()[:1])}": (
            "XGROUP CREATE x g $ MKSTREAM|XGROUP CREATE y g $ MKSTREAM|SET s v",
            "XREADGROUP GROUP g a BLOCK 0 STREAMS y x > >|XREAD BLOCK 0 STREAMS x $",
            end,
        )
        for end in ("DEL x", "UNLINK x", "RENAME x z", "RENAME s x", "MOVE x 1", "FLUSHALL", "FLUSHDB", "SET x v",
                    "COPY s x REPLACE", "PEXPIRE x -1", "SWAPDB 0 1", "MSET x v", "SDIFFSTORE x none")
    },
    "deleted and made again with the group": (
        "XGROUP CREATE x g $ MKSTREAM", "XREADGROUP GROUP g a BLOCK 0 STREAMS x >",
        "MULTI|DEL x|XGROUP CREATE x g $ MKSTREAM|EXEC|XADD x 1-1 f v",
    ),
    "deleted and made again without the group": (
        "XGROUP CREATE x g $ MKSTREAM", "XREADGROUP GROUP g a BLOCK 0 STREAMS x >", "MULTI|DEL x|XADD x 1-1 f v|EXEC",
    ),
}  # fmt: skip


def until_blocked(wire: Wire, count: int) -> None:
    until = time.monotonic() + 10
    while f"blocked_clients:{count}\r\n".encode() not in wire.call("INFO", "clients"):
        assert time.monotonic() < until


def received(wire: Wire) -> bytes:
    """What has arrived at a connection whose server has answered somebody else since; nothing: b""."""
    wire.socket.setblocking(False)
    try:
        return wire.reply() if wire.socket.recv(1, socket.MSG_PEEK) else b""
    except BlockingIOError:
        return NONE_YET
    finally:
        wire.socket.settimeout(10)


def as_redis_tells(address: Address, story: tuple[str, str, str], resp3: bool) -> list[bytes]:
    before, waits, after = ([one.split() for one in part.split("|") if one] for part in story)
    with closing(Wire(address, resp3)) as wire:
        wire.call("FLUSHALL")
        for call in before:
            wire.call(*call)
        waiters = [Wire(address, resp3) for _ in waits]
        try:
            for i, call in enumerate(waits):
                waiters[i].send(*call)
                until_blocked(wire, i + 1)
            for call in after:
                wire.call(*call)
            wire.call("PING")  # replies are written before the next command is read
            return [received(waiter) for waiter in waiters]
        finally:
            for waiter in waiters:
                waiter.close()
            until_blocked(wire, 0)


@pytest.mark.redis
@pytest.mark.parametrize("resp3", [False, True], ids=["RESP2", "RESP3"])
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_waiting_clients_get_what_redis_gives_them(
    redis_server: Address, story: tuple[str, str, str], resp3: bool
) -> None:
    theirs = as_redis_tells(redis_server, story, resp3)
    room = Room()
    before, waits, after = ([one for one in part.split("|") if one] for part in story)
    for call in before:
        room(call)
    waiters = [room.wait(call, resp3) for call in waits]
    for call in after:
        room(call)
    assert [room.got(waiter) for waiter in waiters] == theirs
    room.local.check_replay()


def test_each_delivery_to_a_waiting_client_is_a_transaction_of_its_own() -> None:
    room = Room()
    room("XGROUP CREATE x g $ MKSTREAM")
    room.wait("XREADGROUP GROUP g a BLOCK 0 STREAMS x >")
    room.wait("XREADGROUP GROUP g b BLOCK 0 STREAMS x >")
    room("XADD x 1-1 f v")
    room("XADD x 2-1 f v")
    now = str(room.local.engine.store.now_ms).encode()
    assert [transaction[1:] for transaction in room.local.transactions()[1:]] == [
        [[b"XADD", b"x", b"1-1", b"f", b"v"]],
        [[b"XREADGROUP", b"x", b"g", b"a", now, b"1", b"NEW"]],
        [[b"XADD", b"x", b"2-1", b"f", b"v"]],
        [[b"XREADGROUP", b"x", b"g", b"b", now, b"1", b"NEW"]],
    ]
    assert not room.local.engine.blocking.waiters and not room.local.engine.store.missed


def test_a_group_that_is_moved_back_serves_who_waits_at_once() -> None:
    """Redis lets the client wait for the next XADD."""
    room = Room()
    room("XADD x 1-1 f v")
    room("XGROUP CREATE x g $")
    client = room.wait("XREADGROUP GROUP g a BLOCK 0 STREAMS x >")
    room("XGROUP SETID x g 0")
    assert room.got(client) == b"*1\r\n*2\r\n$1\r\nx\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n"
    room.local.check_replay()


def test_a_client_of_a_replica_waits_too() -> None:
    primary = Room()
    replica = Engine(Config(), Commit(lambda batch: None, lambda action: action()))
    waiter = replica.connect(Collector())
    replica.call(waiter, [b"XREAD", b"BLOCK", b"0", b"STREAMS", b"x", b"$"])
    for line in ("XADD y 1-1 f v", "SELECT 3", "XADD x 1-1 f v", "SELECT 0", "XADD x 2-1 f v"):
        before = len(primary.local.log)
        primary(line)
        assert waiter.blocked is not None
        if len(primary.local.log) > before:
            replica.apply(primary.local.transactions()[-1:])  # type: ignore[arg-type]
    waiter.flush()
    assert waiter.blocked is None
    assert waiter.sink.data == b"*1\r\n*2\r\n$1\r\nx\r\n*1\r\n*2\r\n$3\r\n2-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n"  # type: ignore[attr-defined]


def test_a_wait_ends_by_its_time_and_in_multi_at_once() -> None:
    room = Room()
    client = room.wait("XREAD BLOCK 20 STREAMS x $")
    seconds, action = room.local.timers[-1]
    assert seconds == 0.02
    action()
    assert room.got(client) == b"*-1\r\n"
    room("MULTI")
    room("XREAD BLOCK 0 STREAMS x $")
    assert room("EXEC") == [None]
