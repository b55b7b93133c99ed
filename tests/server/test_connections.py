"""What a connection may do and see: passwords, CLIENT, pauses, silence, the end."""

from __future__ import annotations

import pytest

from eventdb.engine.client import Client
from eventdb.protocol.replies import error
from tests.kit.harness import Collector, Local
from tests.pipeline.test_commit import Stalled

OK = b"+OK\r\n"
WRONGPASS = error("WRONGPASS invalid username-password pair or user is disabled.")
NOAUTH = error("NOAUTH Authentication required.")


class Closable(Collector):
    """A sink that remembers how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.resumed = 0

    def close(self) -> None:
        self.closed = True

    def resume(self) -> None:
        self.resumed += 1


def guarded() -> tuple[Local, Client]:
    local = Local()
    local.raw("CONFIG", "SET", "requirepass", "sesame")
    return local, local.connect()


def closable(local: Local) -> tuple[Client, Closable]:
    sink = Closable()
    return local.engine.connect(sink, "127.0.0.1:99"), sink


def test_without_the_password_only_a_greeting_is_allowed() -> None:
    local, client = guarded()
    for line in ("PING", "GET k", "SET k v", "MULTI", "CONFIG GET *", "SUBSCRIBE a", "CLIENT ID", "EVENTDB.OFFSET"):
        assert local.raw(*line.split(), client=client) == NOAUTH, line
    assert local.raw("HELLO", "3", client=client).startswith(b"-NOAUTH HELLO must be called with the client already")
    assert local.raw("AUTH", "wrong", client=client) == WRONGPASS
    assert local.raw("AUTH", "nobody", "sesame", client=client) == WRONGPASS
    assert local.raw("HELLO", "3", "AUTH", "default", "wrong", client=client) == WRONGPASS
    assert local.raw("RESET", client=client) == b"+RESET\r\n"
    assert local.raw("AUTH", "sesame", client=client) == OK
    assert local.raw("PING", client=client) == b"+PONG\r\n"


def test_hello_can_authenticate_and_reset_forgets_it() -> None:
    local, client = guarded()
    assert local.raw("HELLO", "3", "AUTH", "default", "sesame", "SETNAME", "me", client=client).startswith(b"%7\r\n")
    assert (client.resp3, client.name) == (True, b"me")
    assert local.raw("RESET", client=client) == b"+RESET\r\n"
    assert (client.resp3, client.name) == (False, b"")
    assert local.raw("GET", "k", client=client) == NOAUTH


def test_a_password_set_later_does_not_lock_out_who_is_in() -> None:
    local, _ = guarded()
    assert local.raw("PING") == b"+PONG\r\n"
    assert local.raw("CONFIG", "SET", "requirepass", "") == OK
    assert local.raw("PING", client=local.connect()) == b"+PONG\r\n"


def test_reset_ends_everything_the_connection_had_begun() -> None:
    local = Local()
    for line in ("SELECT 3", "CLIENT SETNAME me", "WATCH k", "SUBSCRIBE a", "PSUBSCRIBE b*", "SSUBSCRIBE c"):
        local.raw(*line.split())
    assert local.raw("RESET") == b"+RESET\r\n"
    assert local.raw("PUBSUB", "NUMPAT") == b":0\r\n"
    client = local.client
    assert (client.db.index, client.name, client.gate, len(client.watcher.watches)) == (0, b"", 0, 0)
    local.raw("MULTI")
    assert local.raw("RESET") == b"+RESET\r\n"
    assert local.raw("EXEC") == error("ERR EXEC without MULTI")


def test_quit_answers_what_is_owed_and_then_closes() -> None:
    node = Stalled()
    sink = Closable()
    client = node.engine.connect(sink)
    node.send(client, "SET", "k", "v")
    node.send(client, "QUIT")
    assert sink.data == b"" and not sink.closed, "closed before the write was durable"
    node.confirm()
    client.flush()
    assert sink.data == OK + OK and sink.closed


def test_silenced_replies_are_not_sent_but_pushed_messages_are() -> None:
    local = Local()
    local.client.resp3 = True
    assert local.raw("CLIENT", "REPLY", "SKIP") == b""
    assert local.raw("SET", "k", "v") == b""
    assert local.raw("GET", "k") == b"$1\r\nv\r\n"
    assert local.raw("CLIENT", "REPLY", "OFF") == b""
    assert local.raw("GET", "k") == local.raw("NOPE") == local.raw("CLIENT", "REPLY", "SKIP") == b""
    assert local.raw("SUBSCRIBE", "a") == b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
    assert local.raw("PUBLISH", "a", "x") == b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n"
    assert local.raw("CLIENT", "REPLY", "ON") == OK
    assert local.raw("PING") == b"+PONG\r\n"


def test_a_skipped_reply_is_the_next_one_and_no_other() -> None:
    local = Local()
    local.raw("CLIENT", "REPLY", "SKIP")
    assert local.raw("CLIENT", "REPLY", "ON") == OK
    assert local.raw("PING") == b"+PONG\r\n"
    local.raw("CLIENT", "REPLY", "SKIP")
    assert local.raw("SUBSCRIBE", "a") == b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", "confirmations are pushed"
    assert local.raw("PING", "x") == b"*2\r\n$4\r\npong\r\n$1\r\nx\r\n"


def test_silence_cannot_break_the_reply_of_exec() -> None:
    local = Local()
    local.raw("MULTI")
    local.raw("CLIENT", "REPLY", "OFF")
    local.raw("PING")
    assert local.raw("EXEC").startswith(
        b"*2\r\n-ERR CLIENT REPLY OFF and SKIP are not allowed inside a transaction\r\n+PONG"
    )


def test_a_paused_write_runs_when_the_pause_ends_and_reads_run_meanwhile() -> None:
    local = Local()
    writer, sink = closable(local)
    assert local.raw("CLIENT", "PAUSE", "1000", "WRITE") == OK
    assert local.raw("SET", "k", "v", client=writer) == b""
    assert not local.engine.may_run(writer), "its later commands must wait behind it"
    assert local.raw("GET", "k") == b"$-1\r\n"
    assert b"flags=b" in local.raw("CLIENT", "LIST", "ID", str(writer.id))
    assert b"blocked_clients:1\r\n" in local.raw("INFO", "clients")
    assert local.raw("CLIENT", "UNPAUSE") == OK
    assert local.take(writer) == OK
    assert sink.resumed and local.engine.may_run(writer)
    assert local.raw("GET", "k") == b"$1\r\nv\r\n"


def test_a_pause_ends_by_itself_and_the_longer_one_counts() -> None:
    local = Local()
    local.raw("CLIENT", "PAUSE", "5000", "WRITE")
    local.raw("CLIENT", "PAUSE", "10", "WRITE")
    assert [seconds for seconds, _ in local.timers] == [5.0, 5.0]
    assert local.raw("SET", "k", "v") == b""
    local.timers[-1][1]()
    local.turn()
    assert local.take(local.client) == OK


@pytest.mark.parametrize(
    ("mode", "line", "stalls"),
    [
        ("WRITE", "PUBLISH a x", True),
        ("WRITE", "SAVE", False),
        ("WRITE", "PING", False),
        ("ALL", "PING", True),
        ("ALL", "CLIENT UNPAUSE", True),
    ],
)
def test_which_commands_a_pause_stops(mode: str, line: str, stalls: bool) -> None:
    local = Local()
    other = local.connect()
    local.raw("CLIENT", "PAUSE", "1000", mode)
    assert (local.raw(*line.split(), client=other) == b"") is stalls


FUNCTIONS = """#!lua name=lib
redis.register_function{function_name = 'reads', callback = function() return 1 end, flags = {'no-writes'}}
redis.register_function('writes', function() return 1 end)
"""


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize(
    ("script", "stalls"),
    [
        ("#!lua flags=no-writes\nreturn 1", False),
        ("#!lua flags=allow-oom,no-writes,allow-stale\nreturn 1", False),
        ("#!lua\nreturn 1", True),
        ("#!lua flags=allow-oom\nreturn 'flags=no-writes'", True),
        ("#!lua flags=no-writesx\nreturn 1", True),
        ("return 1", True),
        ("reads", False),
        ("writes", True),
    ],
)
def test_a_script_that_says_it_writes_nothing_runs_in_a_pause_of_writes(
    script: str, stalls: bool, queued: bool
) -> None:
    local = Local()
    calls = [("FCALL", script, "0")] if " " not in script else [("EVAL", script, "0")]
    local.raw("FUNCTION", "LOAD", FUNCTIONS)
    if calls[0][0] == "EVAL" and "writesx" not in script:
        calls.append(("EVALSHA", local.raw("SCRIPT", "LOAD", script).split()[1].decode(), "0"))
    clients = [local.connect() for _ in calls]
    if queued:
        for client, call in zip(clients, calls, strict=True):
            local.raw("MULTI", client=client)
            local.raw(*call, client=client)
    local.raw("CLIENT", "PAUSE", "1000", "WRITE")
    for client, call in zip(clients, calls, strict=True):
        reply = local.raw("EXEC", client=client) if queued else local.raw(*call, client=client)
        assert (reply == b"") is stalls, call


def test_what_may_write_nothing_may_not_publish_either() -> None:
    local = Local()
    local.raw("CLIENT", "PAUSE", "1000", "WRITE")
    for call in ("'PUBLISH', 'a', 'b'", "'PFCOUNT', 'h'", "'SET', 'a', 'b'"):
        reply = local.raw("EVAL", f"#!lua flags=no-writes\nreturn redis.call({call})", "0")
        assert reply.startswith(b"-ERR Write commands are not allowed from read-only scripts.")
    assert not local.events()


def test_a_pause_of_writes_stops_exec_with_a_write_and_no_other_exec() -> None:
    local = Local()
    reader, writer = local.connect(), local.connect()
    for client, line in ((reader, "GET k"), (writer, "SET k v")):
        local.raw("MULTI", client=client)
        local.raw(*line.split(), client=client)
    local.raw("CLIENT", "PAUSE", "1000", "WRITE")
    assert local.raw("EXEC", client=reader) == b"*1\r\n$-1\r\n"
    assert local.raw("EXEC", client=writer) == b""
    local.raw("CLIENT", "UNPAUSE")
    assert local.take(writer) == b"*1\r\n+OK\r\n"


def test_nothing_expires_during_a_pause() -> None:
    local = Local()
    local.raw("SET", "k", "v", "PX", "5")
    local.raw("CLIENT", "PAUSE", "1000", "WRITE")
    local.engine.store.now_ms += 10
    before = len(local.events())
    local.engine.expire_cycle()
    local.turn()
    assert len(local.events()) == before
    local.raw("CLIENT", "UNPAUSE")
    local.engine.store.now_ms += 10**6  # reading the clock moved it
    local.engine.expire_cycle()
    local.turn()
    assert local.events()[-1] == [b"DEL", b"k"]


def test_a_client_that_leaves_takes_its_paused_command_along() -> None:
    local = Local()
    client, _ = closable(local)
    local.raw("CLIENT", "PAUSE", "1000", "WRITE")
    local.raw("SET", "k", "v", client=client)
    local.engine.disconnect(client)
    local.raw("CLIENT", "UNPAUSE")
    assert local.raw("EXISTS", "k") == b":0\r\n"


def test_a_new_pause_keeps_what_the_old_one_stalled() -> None:
    local = Local()
    client, _ = closable(local)
    local.raw("CLIENT", "PAUSE", "1000", "WRITE")
    local.raw("SET", "k", "v", client=client)
    local.engine.unpause()
    local.engine.pause_for(1000, True)
    local.turn()
    assert local.take(client) == b"" and client.stalled is not None
    local.raw("CLIENT", "UNPAUSE")
    assert local.take(client) == OK


def test_kill_closes_by_id_address_and_type() -> None:
    local = Local()
    client, sink = closable(local)
    assert local.raw("CLIENT", "KILL", "ID", str(client.id)) == b":1\r\n"
    assert sink.closed and client.id not in local.engine.clients
    client, sink = closable(local)
    assert local.raw("CLIENT", "KILL", "127.0.0.1:99") == OK
    assert sink.closed
    client, sink = closable(local)
    local.raw("SUBSCRIBE", "a", client=client)
    assert local.raw("CLIENT", "KILL", "TYPE", "pubsub", "USER", "default") == b":1\r\n"
    assert sink.closed and local.raw("PUBSUB", "CHANNELS") == b"*0\r\n"
    assert local.raw("CLIENT", "KILL", "TYPE", "normal") == b":0\r\n", "SKIPME is the default"


def test_a_client_that_kills_itself_gets_its_answer_first() -> None:
    local = Local()
    client, sink = closable(local)
    assert local.raw("CLIENT", "KILL", "ID", str(client.id), "SKIPME", "no", client=client) == b":1\r\n"
    assert sink.closed


def test_kill_drops_what_the_client_is_owed() -> None:
    node = Stalled()
    sink = Closable()
    client = node.engine.connect(sink)
    node.send(client, "SET", "k", "v")
    node.engine.kill(client)
    node.confirm()
    assert sink.data == b"" and sink.closed and client.owed == 0


def test_client_list_shows_each_connection_once_and_filters() -> None:
    local = Local()
    client, _ = closable(local)
    local.raw("CLIENT", "SETNAME", "worker-1", client=client)
    local.raw("CLIENT", "SETINFO", "LIB-NAME", "redis-py", client=client)
    local.raw("CLIENT", "SETINFO", "lib-ver", "5.0", client=client)
    local.raw("MULTI", client=client)
    local.raw("PING", client=client)
    text = local("CLIENT", "LIST", "ID", client.id, 12345)
    assert isinstance(text, bytes) and text.count(b"\n") == 1
    fields = dict(part.split(b"=", 1) for part in text.split())
    assert fields[b"name"] == b"worker-1" and fields[b"lib-name"] == b"redis-py" and fields[b"lib-ver"] == b"5.0"
    assert fields[b"flags"] == b"x" and fields[b"multi"] == b"1" and fields[b"addr"] == b"127.0.0.1:99"
    assert local("CLIENT", "LIST").count(b"\n") == 2  # type: ignore[attr-defined]
    assert local("CLIENT", "LIST", "TYPE", "pubsub") == b""


def test_setinfo_takes_two_fields_and_no_spaces() -> None:
    local = Local()
    assert local.raw("CLIENT", "SETINFO", "foo", "x") == error("ERR Unrecognized option 'foo'")
    assert local.raw("CLIENT", "SETINFO", "lib-name", "a b") == error(
        "ERR lib-name cannot contain spaces, newlines or special characters."
    )


def test_the_name_of_a_client_goes_into_the_log() -> None:
    local = Local()
    local.raw("CLIENT", "SETNAME", "importer")
    local.raw("SET", "k", "v")
    assert local.transactions()[-1][0] == b"127.0.0.1:1 importer"


def test_unblock_by_timeout_or_error() -> None:
    local = Local()
    client, sink = closable(local)
    local.raw("BLPOP", "list", "0", client=client)
    assert local.raw("CLIENT", "UNBLOCK", str(client.id)) == b":1\r\n"
    assert local.take(client) == b"*-1\r\n" and sink.resumed
    local.raw("BLPOP", "list", "0", client=client)
    assert local.raw("CLIENT", "UNBLOCK", str(client.id), "ERROR") == b":1\r\n"
    assert local.take(client) == error("UNBLOCKED client unblocked via CLIENT UNBLOCK")
    assert local.raw("CLIENT", "UNBLOCK", str(client.id)) == b":0\r\n"


def test_tracking_ends_with_its_connection_and_costs_nothing_then() -> None:
    local = Local()
    client = local.connect()
    local.raw("HELLO", "3", client=client)
    assert local.raw("CLIENT", "TRACKING", "on", "BCAST", "PREFIX", "a:", client=client) == OK
    assert local.engine.store.heeded
    assert local.raw("SET", "a:1", "x") == OK
    local.turn()
    client.flush()
    assert b"invalidate" in local.take(client)
    local.engine.disconnect(client)
    assert not local.engine.store.heeded
    assert local.raw("CLIENT", "TRACKING", "off") == OK


def test_idle_clients_are_closed_but_not_subscribers_nor_blocked_ones() -> None:
    local = Local()
    idle, sink = closable(local)
    listener, listening = closable(local)
    blocked, waiting = closable(local)
    local.raw("SUBSCRIBE", "a", client=listener)
    local.raw("BLPOP", "list", "0", client=blocked)
    local.raw("CONFIG", "SET", "timeout", "10")
    local.engine.store.now_ms += 10_001
    local.client.active_ms = local.engine.store.now_ms
    local.engine.cron()
    assert sink.closed and idle.id not in local.engine.clients
    assert not listening.closed and not waiting.closed and local.client.id in local.engine.clients


def test_own_writes_are_waited_for_even_when_their_replies_are_silenced() -> None:
    for command, answer in ((("WAIT", "1", "0"), b":0\r\n"), (("WAITAOF", "1", "0", "0"), b"*2\r\n:1\r\n:0\r\n")):
        node = Stalled()
        client = node.connect()
        node.send(client, "CLIENT", "REPLY", "OFF")
        node.send(client, "SET", "k", "v")
        assert node.send(client, "CLIENT", "REPLY", "ON") == OK
        assert node.send(client, *command) == b""
        node.confirm()
        assert node.received(client) == answer


def test_the_offset_of_a_write_is_told_when_it_is_durable() -> None:
    node = Stalled()
    a, b = node.connect(), node.connect()
    assert node.send(a, "EVENTDB.OFFSET") == b"*2\r\n:0\r\n:0\r\n"
    node.send(a, "SET", "k", "v")
    assert node.send(a, "EVENTDB.OFFSET") == b""
    assert node.send(b, "EVENTDB.OFFSET") == b"*2\r\n:0\r\n:0\r\n"
    node.confirm()
    assert node.received(a) == OK + b"*2\r\n:1\r\n:1\r\n"
    assert node.send(b, "EVENTDB.OFFSET") == b"*2\r\n:0\r\n:1\r\n"


def test_the_digest_and_save_wait_for_what_is_pending() -> None:
    for command in ("EVENTDB.DIGEST", "SAVE"):
        node = Stalled()
        a, b = node.connect(), node.connect()
        node.send(a, "SET", "k", "v")
        assert node.send(b, command) == b""
        node.confirm()
        assert node.received(b) != b""
