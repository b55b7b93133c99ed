"""XREADGROUP … CLAIM, of Redis 8.4: what waits too long for an XACK comes first, then what is new."""

from __future__ import annotations

from eventdb.protocol.replies import error
from tests.kit.harness import Local


def waiting() -> Local:
    """Four entries: two were delivered to `dead`, the second of them later and twice."""
    local = Local()
    for n in range(1, 5):
        local.raw("XADD", "s", f"{n}-0", "n", n)
    local.raw("XGROUP", "CREATE", "s", "g", "0")
    local.raw("XREADGROUP", "GROUP", "g", "dead", "COUNT", 1, "STREAMS", "s", ">")
    local.engine.store.now_ms += 1000
    local.raw("XREADGROUP", "GROUP", "g", "dead", "COUNT", 1, "STREAMS", "s", ">")
    local.raw("XCLAIM", "s", "g", "dead", 0, "2-0")
    local.engine.store.now_ms += 500
    return local


def entry(n: int, idle_ms: int, times: int) -> list[object]:
    return [b"%d-0" % n, [b"n", b"%d" % n], idle_ms, times]


def test_what_waits_comes_first_and_says_for_how_long() -> None:
    local = waiting()
    ask = ("XREADGROUP", "GROUP", "g", "c")
    assert local(*ask, "CLAIM", 500, "STREAMS", "s", ">") == [
        [b"s", [entry(1, 1500, 1), entry(2, 500, 2), entry(3, 0, 0), entry(4, 0, 0)]]
    ]
    assert [event[:4] for event in local.events()[-3:]] == [
        [b"XCLAIM", b"s", b"g", b"c"], [b"XCLAIM", b"s", b"g", b"c"], [b"XREADGROUP", b"s", b"g", b"c"]
    ]  # fmt: skip
    assert local(*ask, "CLAIM", 1, "STREAMS", "s", ">") is None
    pending = local("XPENDING", "s", "g", "-", "+", 10)
    assert isinstance(pending, list) and [one[1:] for one in pending] == [
        [b"c", 0, 2], [b"c", 0, 3], [b"c", 0, 1], [b"c", 0, 1]
    ]  # fmt: skip
    local.check_replay()


def test_the_count_is_that_of_both() -> None:
    local = waiting()
    ask = ("XREADGROUP", "GROUP", "g", "c", "COUNT", 2)
    assert local(*ask, "CLAIM", 1000, "STREAMS", "s", ">") == [[b"s", [entry(1, 1500, 1), entry(3, 0, 0)]]]
    local.raw("XADD", "t", "9-0", "n", 9)
    local.raw("XGROUP", "CREATE", "t", "g", "0")
    assert local(*ask, "CLAIM", 0, "STREAMS", "t", "s", ">", ">") == [[b"s", [entry(2, 500, 2), entry(1, 0, 2)]]]
    local.check_replay()


def test_noack_is_for_what_is_new_and_an_id_ignores_claim() -> None:
    local = waiting()
    local.raw("XDEL", "s", "1-0")
    found = local("XREADGROUP", "GROUP", "g", "c", "NOACK", "CLAIM", 0, "STREAMS", "s", ">")
    assert found == [[b"s", [entry(2, 500, 2), entry(3, 0, 0), entry(4, 0, 0)]]]
    assert local("XPENDING", "s", "g") == [2, b"1-0", b"2-0", [[b"c", b"1"], [b"dead", b"1"]]]
    assert local("XREADGROUP", "GROUP", "g", "c", "CLAIM", 0, "STREAMS", "s", "0") == [[b"s", [[b"2-0", [b"n", b"2"]]]]]
    local.check_replay()


def test_a_client_that_waits_gets_what_has_waited_long_enough() -> None:
    local = waiting()
    local.raw("XREADGROUP", "GROUP", "g", "other", "STREAMS", "s", ">")
    client = local.connect()
    ask = ("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "CLAIM", 2000, "STREAMS", "s", ">")
    assert local.raw(*ask, client=client) == b""
    seconds, action = local.timers[-1]
    assert seconds == 0.5
    local.raw("XACK", "s", "g", "1-0")
    assert client.blocked is not None and client.blocked.again_ms == local.engine.store.now_ms + 1500
    assert local.take(client) == b"", "the one it was about is acknowledged"
    local.timers[-1][1]()  # reads the clock of today
    local.turn()
    assert b"2-0" in local.take(client) and client.blocked is None
    action()
    assert local.take(client) == b""
    local.check_replay()


def test_a_client_that_waits_gets_what_is_new() -> None:
    local = waiting()
    local.raw("XREADGROUP", "GROUP", "g", "other", "STREAMS", "s", ">")
    client = local.connect()
    local.raw("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "CLAIM", 9000, "STREAMS", "s", ">", client=client)
    local.raw("XADD", "s", "5-0", "n", 5)
    assert local.take(client).endswith(b":0\r\n:0\r\n")


def test_what_is_no_time() -> None:
    local = waiting()
    ask = ("XREADGROUP", "GROUP", "g", "c", "CLAIM")
    assert local.raw(*ask, "x", "STREAMS", "s", ">") == error("ERR min-idle-time is not an integer")
    assert local.raw(*ask, "-1", "STREAMS", "s", ">") == error("ERR min-idle-time must be a positive integer")
    assert local.raw("XREAD", "CLAIM", 1, "STREAMS", "s", "0") == error(
        "ERR The CLAIM option is only supported by XREADGROUP. You called XREAD instead."
    )
