"""Messages: to whom, in which form, and never before what their publisher wrote is durable."""

from __future__ import annotations

import pytest

from eventdb.engine.client import Client
from tests.kit.harness import Local
from tests.pipeline.test_commit import Stalled

OK = b"+OK\r\n"


def message(*parts: bytes, resp3: bool = False) -> bytes:
    return b"%b%d\r\n" % (b">" if resp3 else b"*", len(parts)) + b"".join(
        b"$%d\r\n%b\r\n" % (len(part), part) for part in parts
    )


def test_a_message_reaches_channel_pattern_and_shard_listeners() -> None:
    local = Local()
    a, b, c = local.connect(), local.connect(), local.connect()
    b.resp3 = True
    local.raw("SUBSCRIBE", "news.it", client=a)
    local.raw("PSUBSCRIBE", "news.*", "n*", client=b)
    local.raw("SSUBSCRIBE", "news.it", client=c)
    assert local.raw("PUBLISH", "news.it", "hi") == b":3\r\n"
    assert local.raw("PUBLISH", "other", "hi") == b":0\r\n"
    assert local.raw("SPUBLISH", "news.it", "shard") == b":1\r\n"
    assert local.take(a) == message(b"message", b"news.it", b"hi")
    assert local.take(b) == b"".join(
        message(b"pmessage", pattern, b"news.it", b"hi", resp3=True) for pattern in (b"news.*", b"n*")
    )
    assert local.take(c) == message(b"smessage", b"news.it", b"shard")


def test_nothing_is_left_of_a_listener_that_is_gone() -> None:
    local = Local()
    a = local.connect()
    for line in ("SUBSCRIBE x y", "PSUBSCRIBE p*", "SSUBSCRIBE s"):
        local.raw(*line.split(), client=a)
    local.engine.disconnect(a)
    pubsub = local.engine.pubsub
    assert (pubsub.channels, pubsub.patterns, pubsub.shards) == ({}, {}, {})
    assert local.raw("PUBLISH", "x", "hi") == b":0\r\n"


def test_a_message_waits_for_the_writes_of_its_publisher_and_no_others() -> None:
    node = Stalled()
    writer, other, listener = node.connect(), node.connect(), node.connect()
    node.send(listener, "SUBSCRIBE", "c")
    node.send(writer, "SET", "k", "v")
    assert node.send(other, "PUBLISH", "c", "free") == b":1\r\n"
    node.turn()
    assert node.received(listener) == message(b"message", b"c", b"free")
    assert node.send(writer, "PUBLISH", "c", "look at k") == b""
    assert node.received(listener) == b""
    node.confirm()
    assert node.received(writer) == OK + b":1\r\n"
    assert node.received(listener) == message(b"message", b"c", b"look at k")


def test_a_message_waits_for_writes_whose_replies_are_silenced() -> None:
    node = Stalled()
    writer, listener = node.connect(), node.connect()
    node.send(listener, "SUBSCRIBE", "c")
    node.send(writer, "CLIENT", "REPLY", "OFF")
    node.send(writer, "SET", "k", "v")
    node.send(writer, "PUBLISH", "c", "look at k")
    assert node.received(listener) == b""
    node.confirm()
    assert node.received(listener) == message(b"message", b"c", b"look at k")


def test_messages_inside_exec_leave_with_it() -> None:
    node = Stalled()
    writer, listener = node.connect(), node.connect()
    node.send(listener, "SUBSCRIBE", "c")
    node.send(listener, "SSUBSCRIBE", "s")
    for line in ("MULTI", "PUBLISH c first", "SET k v", "SPUBLISH s second"):
        node.send(writer, *line.split())
    assert node.send(writer, "EXEC") == b""
    assert node.received(listener) == b""
    node.confirm()
    assert node.received(writer) == b"*3\r\n:1\r\n+OK\r\n:1\r\n"
    assert node.received(listener) == message(b"message", b"c", b"first") + message(b"smessage", b"s", b"second")


@pytest.mark.parametrize("sharded", [False, True])
def test_a_message_inside_exec_is_for_those_who_listen_when_it_is_published(sharded: bool) -> None:
    publish, subscribe, unsubscribe, kind = (
        ("SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE", b"smessage")
        if sharded
        else ("PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE", b"message")
    )
    node = Stalled()
    client = node.connect()
    client.resp3 = True
    node.send(client, subscribe, "c")
    for line in ("MULTI", f"{publish} c m1", f"{unsubscribe} c", f"{publish} c m2", "EXEC"):
        raw = node.send(client, *line.split())
    gone = b">3\r\n$%d\r\n%b\r\n$1\r\nc\r\n:0\r\n" % (len(unsubscribe), unsubscribe.lower().encode())
    assert raw == b"*3\r\n:1\r\n" + gone + b":0\r\n" + message(kind, b"c", b"m1", resp3=True)
    if not sharded:
        for line in ("MULTI", "PUBLISH c m1", "SUBSCRIBE c", "PUBLISH c m2", "EXEC"):
            raw = node.send(client, *line.split())
        assert raw.endswith(b":1\r\n" + message(kind, b"c", b"m2", resp3=True))
        assert b"m1" not in raw


def test_exec_refuses_to_subscribe_to_a_shard_channel() -> None:
    node = Stalled()
    client = node.connect()
    for line in ("MULTI", "SSUBSCRIBE s", "EXEC"):
        raw = node.send(client, *line.split())
    assert raw == b"*1\r\n-ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client\r\n"
    assert node.send(client, "SPUBLISH", "s", "m") == b":0\r\n"


def test_no_pattern_matches_the_empty_channel() -> None:
    """As in Redis, whose search for a pattern does not begin on an empty text."""
    node = Stalled()
    listener, writer = node.connect(), node.connect()
    node.send(listener, "PSUBSCRIBE", "*", "**")
    node.send(listener, "SUBSCRIBE", "")
    assert node.send(writer, "PUBLISH", "", "m") == b":1\r\n"
    assert node.send(writer, "PUBLISH", "c", "m") == b":2\r\n"
    assert node.send(writer, "PUBSUB", "CHANNELS", "*") == b"*0\r\n"
    assert node.send(writer, "PUBSUB", "CHANNELS") == b"*1\r\n$0\r\n\r\n"


def listening_writer(node: Stalled) -> tuple[Client, Client]:
    """A RESP3 client that listens to `c` and has a write on its way; and another client."""
    client = node.connect()
    client.resp3 = True
    node.send(client, "SUBSCRIBE", "c")
    node.send(client, "SET", "k", "v")
    return client, node.connect()


def test_a_message_behind_a_held_reply_is_no_answer_when_that_fails() -> None:
    node = Stalled()
    client, other = listening_writer(node)
    node.send(other, "PUBLISH", "c", "free")
    node.send(client, "PING")
    node.engine.commit.stop()
    client.fail_held("UNKNOWN outcome")
    pushed = message(b"message", b"c", b"free", resp3=True)
    assert node.received(client) == b"-UNKNOWN outcome\r\n" + pushed + b"-UNKNOWN outcome\r\n"
    assert client.owed == 0


def test_a_message_that_tells_of_a_lost_write_is_dropped() -> None:
    node = Stalled()
    client, other = listening_writer(node)
    node.send(other, "SET", "other", "v")
    node.send(other, "PUBLISH", "c", "look at other")
    node.engine.commit.stop()
    client.fail_held("UNKNOWN outcome")
    assert node.received(client) == b"-UNKNOWN outcome\r\n"
    assert client.owed == 0


def test_numbers_and_names_of_what_is_listened_to() -> None:
    local = Local()
    a, b = local.connect(), local.connect()
    local.raw("SUBSCRIBE", "x", "y", client=a)
    local.raw("SUBSCRIBE", "x", client=b)
    local.raw("PSUBSCRIBE", "p*", client=b)
    local.raw("SSUBSCRIBE", "s", client=b)
    assert sorted(local("PUBSUB", "CHANNELS")) == [b"x", b"y"]  # type: ignore[arg-type, call-overload, type-var]
    assert local("PUBSUB", "CHANNELS", "X") == [] and local("PUBSUB", "CHANNELS", "[x]") == [b"x"]
    assert local("PUBSUB", "NUMSUB", "x", "nobody") == [b"x", 2, b"nobody", 0]
    assert local("PUBSUB", "NUMPAT") == 1
    assert local("PUBSUB", "SHARDCHANNELS") == [b"s"]
    assert local("PUBSUB", "SHARDNUMSUB", "s", "x") == [b"s", 1, b"x", 0]
    assert b"pubsub_channels:2\r\npubsub_patterns:1\r\npubsubshard_channels:1\r\n" in local.raw("INFO", "stats")
