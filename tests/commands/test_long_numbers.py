"""A number of thousands of digits in every place of every command: Python refuses to read it, and no caller minds."""

from __future__ import annotations

import pytest

from tests.kit.calls import calls_of, filled
from tests.kit.harness import Local, StandIn

LONG = b"9" * 5000
UNASKED = (
    "shutdown",
    "client|reply",
    "client|pause",
    "monitor",
    "debug",
    "sync",
    "psync",
    "failover",
    "eventdb.restore",
)
BEFORE = ((), (b"COMMAND", b"GETKEYSANDFLAGS"), (b"EVENTDB.ONCE", b"t"), (b"ACL", b"DRYRUN", b"u"))


@pytest.mark.parametrize("before", BEFORE, ids=lambda words: " ".join(word.decode() for word in words) or "alone")
def test_no_number_is_too_long(before: tuple[bytes, ...]) -> None:
    """By a user whose keys are judged and by one who may do all, watched by MONITOR, with every use of a key noted."""
    local = filled(Local())
    local.engine.host = StandIn(shut_down=lambda: None, fail_over=lambda *_: None, reload=lambda _: None)
    local("CONFIG", "SET", "track-access", "yes")
    local("ACL", "SETUSER", "u", "on", ">p", "~a*", "~9*", "&*", "+@all")
    monitor = local.connect()
    local.raw("MONITOR", client=monitor)
    clients = [local.connect(), local.connect()]
    local("AUTH", "u", "p", client=clients[1])
    for name, calls in calls_of().items():
        if name in UNASKED:
            continue
        for argv in calls:
            for at in range(1, len(argv)):
                call = [*before, *argv[:at], LONG, *argv[at + 1 :]]
                for number, client in list(enumerate(clients))[1 if before else 0 :]:
                    reply = local.raw(*call, client=client)
                    assert b"internal error" not in reply, (call, reply)
                    local.engine.unblock(client)
                    local.take(monitor)
                    if client.gate and (name in ("multi", "auth", "reset", "hello", "quit") or client.closing):
                        local.engine.disconnect(client)
                        clients[number] = local.connect()
                        local("AUTH", *(("u", "p") if number else ("default", "x")), client=clients[number])
    local.check_replay()
