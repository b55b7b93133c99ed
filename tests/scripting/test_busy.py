"""While a script keeps the loop: who is answered what, what may end it, and that its transaction stays whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from eventdb.engine.client import Client
from tests.conftest import Server, StartServer
from tests.kit.differential import Address, Wire
from tests.kit.harness import Local

BUSY = b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n"
FUNCTION = "#!lua name=lib\nredis.register_function('endless', function() while true do end end)"

# What other clients may ask while a script runs; PING is answered first, once it is busy.
ASKED = """
PING; GET a; MULTI; GET a; EXEC; WATCH a; UNWATCH; FUNCTION KILL; SHUTDOWN; SHUTDOWN SAVE; QUITX; SCRIPT; SCRIPT FOO
SUBSCRIBE a; CONFIG GET save; COMMAND COUNT; INFO; CLIENT ID; SELECT 1; RESET; DISCARD; MULTI; DISCARD
SCRIPT EXISTS x; EVAL x 0; FCALL a 0; FUNCTION STATS; AUTH a; SCRIPT KILL
""".replace("\n", ";")


class Beside:
    """An engine whose other client gets its turn from inside scripts: `asked` are commands, `answers` their replies."""

    def __init__(self, *asked: str) -> None:
        self.local = Local()
        self.local("CONFIG", "SET", "busy-reply-threshold", 20)
        self.other: Client = self.local.connect()
        self.asked = list(asked)
        self.answers: list[bytes] = []
        self.ended = 0
        busy = self.local.engine.busy
        busy.on_wait = self.look
        busy.on_end = self.end

    def look(self) -> None:
        if self.asked:
            engine = self.local.engine
            engine.read_clock()
            engine.call(self.other, [word.encode() for word in self.asked.pop(0).split(" ")])
            self.other.flush()
            self.answers.append(self.local.take(self.other))

    def end(self) -> None:
        self.ended += 1


@pytest.mark.parametrize("script", ["while true do end", "while true do pcall(function() while true do end end) end",
                                    "while true do redis.call('GET', 'k') end"])  # fmt: skip
def test_script_kill_ends_a_script_that_only_reads(script: str) -> None:
    beside = Beside("PING", "SCRIPT KILL")
    reply = beside.local.raw("EVAL", script, 0)
    assert reply.startswith(b"-ERR Script killed by user with SCRIPT KILL... script: ")
    assert beside.answers == [BUSY, b"+OK\r\n"] and beside.ended == 1
    assert beside.local("EVAL", "return 1", 0) == 1
    assert beside.local.raw("SCRIPT", "KILL", client=beside.other).startswith(b"-NOTBUSY")


def test_a_function_is_ended_by_function_kill_and_seen_in_stats() -> None:
    beside = Beside("PING", "SCRIPT KILL", "FUNCTION STATS", "FUNCTION KILL")
    beside.local("FUNCTION", "LOAD", FUNCTION)
    reply = beside.local.raw("FCALL", "endless", 1, "k", "a")
    assert reply == b"-ERR Script killed by user with SCRIPT KILL... script: endless, on @user_function:2.\r\n"
    text = b"-BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.\r\n"
    assert beside.answers[:2] == [text, text] and beside.answers[3] == b"+OK\r\n"
    assert b"$7\r\nendless\r\n$7\r\ncommand\r\n*5\r\n$5\r\nFCALL\r\n" in beside.answers[2]


def test_a_script_that_has_written_is_not_killed_and_its_transaction_stays_whole() -> None:
    beside = Beside(
        "PING", "SCRIPT KILL", "FUNCTION KILL", "WATCH k", "MULTI", "SET x 1", "DISCARD", "HELLO 3", "RESET", "WATCH k"
    )
    local = beside.local
    local("CONFIG", "SET", "script-time-limit", 300)
    local("SUBSCRIBE", "c", client=(listener := local.connect()))
    local.take(listener)
    before = local.engine.store.now_ms
    script = """
        redis.call('SELECT', 3) redis.call('SET', 'k', 1) redis.call('PUBLISH', 'c', 'm')
        local at = redis.call('TIME') local n = 0
        local ok, why = pcall(function() while true do n = n + 1 end end)
        redis.call('SET', 'never', 1)
    """
    local("SET", "first", 1)
    reply = local.raw("EVAL", script, 0)
    assert reply.startswith(b"-ERR Script stopped: it ran for longer than script-time-limit, 300 ms."), reply
    assert beside.asked == []
    assert beside.answers[0] == BUSY and all(each.startswith(b"-UNKILLABLE") for each in beside.answers[1:3])
    assert beside.answers[3:5] == [b"+OK\r\n"] * 2 and beside.answers[5] == BUSY
    assert local.transactions()[1][1:] == [[b"SELECT", b"3"], [b"SET", b"k", b"1"]]  # type: ignore[index]
    local.check_replay()
    local.turn()
    assert local.take(listener).endswith(b"$1\r\nm\r\n")
    assert local.engine.store.now_ms == before  # one time for a transaction


def test_what_was_watched_before_the_write_has_changed_by_it() -> None:
    beside = Beside("WATCH k")
    local = beside.local
    script = "local n = 0 for i = 1, 5e6 do n = n + 1 end redis.call('SET', 'k', n)"
    local("CONFIG", "SET", "busy-reply-threshold", 1)
    local("EVAL", script, 0)
    assert beside.answers == [b"+OK\r\n"]
    for words in (("MULTI",), ("SET", "k", "2")):
        local(*words, client=beside.other)
    assert local("EXEC", client=beside.other) is None


def test_a_script_in_multi_may_be_killed_and_the_rest_of_it_runs() -> None:
    beside = Beside("PING", "SCRIPT KILL")
    local = beside.local
    for words in (("MULTI",), ("SET", "a", "1"), ("EVAL", "while true do end", "0"), ("SET", "b", "2")):
        local(*words)
    reply = local.raw("EXEC")
    assert reply.startswith(b"*3\r\n+OK\r\n-ERR Script killed") and reply.endswith(b"\r\n+OK\r\n")
    assert len(local.transactions()) == 1
    local.check_replay()


def test_zero_means_that_others_wait_and_that_nothing_is_stopped() -> None:
    beside = Beside("PING")
    local = beside.local
    local("CONFIG", "SET", "lua-time-limit", 0, "script-time-limit", 0)
    assert local("CONFIG", "GET", "busy-reply-threshold") == [b"busy-reply-threshold", b"0"]
    assert local("EVAL", "local n = 0 for i = 1, 1e7 do n = n + 1 end return n", 0) == 10**7
    assert beside.answers == []


def test_code_of_a_library_that_does_not_end_is_stopped_and_never_busy() -> None:
    beside = Beside("PING")
    began = time.monotonic()
    reply = beside.local.raw("FUNCTION", "LOAD", "#!lua name=lib\nwhile true do end")
    assert reply == b"-ERR Error registering functions: ERR FUNCTION LOAD timeout\r\n"
    assert beside.answers == [] and 0.4 < time.monotonic() - began < 5
    assert beside.local("EVAL", "return 1", 0) == 1


# -- the server


@pytest.fixture
def server(eventdb_server: StartServer) -> Server:
    return eventdb_server(None, "--config", "busy-reply-threshold=50")


OpenWire = Callable[[Server | Address], Wire]


@pytest.fixture
def wire() -> Iterator[OpenWire]:
    """Opens connections, which are closed when the test ends."""
    opened: list[Wire] = []

    def connect(to: Server | Address) -> Wire:
        opened.append(Wire((to.host, to.port) if isinstance(to, Server) else to))
        return opened[-1]

    yield connect
    for each in opened:
        each.close()
        each.socket.close()


def until_busy(other: Wire) -> None:
    while other.call("PING") != BUSY:
        pass


def ask(running: Wire, other: Wire, *script: str) -> tuple[list[bytes], bytes]:
    """What is answered while `script` runs, and what to its own client in the end."""
    assert other.call("PING") == b"+PONG\r\n"  # it is in the hands of the loop
    running.send(*script)
    until_busy(other)
    answers = [other.call(*words) for words in map(str.split, ASKED.split(";")) if words]
    return answers, running.reply()


@pytest.mark.redis
def test_others_are_answered_as_redis_answers_them(server: Server, redis_server: Address, wire: OpenWire) -> None:
    real = wire(redis_server)
    real.call("CONFIG", "SET", "busy-reply-threshold", 50)
    script = ("EVAL", "while true do end", "0")
    try:
        theirs, their_end = ask(wire(redis_server), wire(redis_server), *script)
    finally:
        real.call("CONFIG", "SET", "busy-reply-threshold", 5000)
    ours, our_end = ask(wire(server), wire(server), *script)
    for words, a, b in zip(filter(None, ASKED.split(";")), theirs, ours, strict=True):
        assert a == b, words
    assert our_end == their_end


def test_who_connects_while_a_script_runs_may_end_it_and_stays_connected(server: Server, wire: OpenWire) -> None:
    running = wire(server)
    early = wire(server)
    assert early.call("PING") == b"+PONG\r\n"
    running.send("EVAL", "while true do end", 0)
    until_busy(early)
    late = wire(server)
    assert late.call("MULTI") == b"+OK\r\n"
    late.socket.sendall(b"*2\r\n$3\r\nGET\r\n")  # half a command
    until_busy(early)
    assert early.call("SCRIPT", "KILL") == b"+OK\r\n"
    assert running.reply().startswith(b"-ERR Script killed by user")
    late.socket.sendall(b"$1\r\nk\r\n")
    assert late.reply() == b"+QUEUED\r\n"
    assert late.call("EXEC") == b"*1\r\n$-1\r\n"
    assert early.call("SET", "k", "x" * 3_000_000) == b"+OK\r\n"
    assert len(early.call("GET", "k")) > 3_000_000
    for each in (running, early, late):
        assert each.call("PING") == b"+PONG\r\n"


def test_a_password_is_asked_for_while_a_script_runs(eventdb_server: StartServer, wire: OpenWire) -> None:
    server = eventdb_server(None, "--config", "busy-reply-threshold=50", "--config", "requirepass=secret")
    running = wire(server)
    assert running.call("AUTH", "secret") == b"+OK\r\n"
    running.send("EVAL", "while true do end", 0)
    other = wire(server)
    assert other.call("SCRIPT", "KILL").startswith(b"-NOAUTH")
    assert other.call("AUTH", "secret") == b"+OK\r\n"
    until_busy(other)
    assert other.call("SCRIPT", "KILL") == b"+OK\r\n"
    assert running.reply().startswith(b"-ERR Script killed")


def test_more_refusals_than_a_socket_takes_arrive_in_order(server: Server, wire: OpenWire) -> None:
    running, other, killer = wire(server), wire(server), wire(server)
    assert other.call("PING") == killer.call("PING") == b"+PONG\r\n"
    running.send("EVAL", "while true do end", 0)
    until_busy(killer)
    for _ in range(100):
        other.socket.sendall(b"*1\r\n$4\r\nPING\r\n" * 500)
    assert killer.call("SCRIPT", "KILL") == b"+OK\r\n"
    replies = [other.reply() for _ in range(50_000)]
    assert replies == sorted(replies, reverse=True), "refused, and after the script answered"
    assert set(replies) <= {BUSY, b"+PONG\r\n"}


@pytest.mark.parametrize("writes", [False, True], ids=["reads", "has written"])
def test_shutdown_nosave_ends_the_server_in_the_middle_of_a_script(
    server: Server, wire: OpenWire, writes: bool
) -> None:
    running, other = wire(server), wire(server)
    assert running.call("SET", "kept", 1) == b"+OK\r\n"
    assert other.call("PING") == b"+PONG\r\n"
    running.send("EVAL", ("redis.call('SET', 'k', 1)" if writes else "") + " while true do end", 0)
    until_busy(other)
    assert other.call("SHUTDOWN") == BUSY
    other.send("SHUTDOWN", "NOSAVE")
    assert server.process.wait(10) == 0
    server.restart()
    assert wire(server).call("MGET", "kept", "k") == b"*2\r\n$1\r\n1\r\n$-1\r\n"
