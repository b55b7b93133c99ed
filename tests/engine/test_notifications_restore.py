"""Keyspace notifications of what comes to several events: RESTORE, commands with a token."""

from __future__ import annotations

import pytest

from tests.engine.test_notifications import listener, names
from tests.kit.calls import filled
from tests.kit.harness import Local


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("RESTORE x 1 %s REPLACE ABSTTL", "del x"), ("RESTORE new 0 %s", "new new, restore new"),
        ("RESTORE x 100000 %s REPLACE", "new x, restore x"), ("SINTERSTORE s gone", "del s"),
        ("SINTERSTORE s a b", "sinterstore s"),
    ],
)  # fmt: skip
def test_what_a_token_repeats_is_told_of_as_without_it(call: str, told: str) -> None:
    words = call.replace("%s", "\0\5lnmjv\b\0ukN|<!RV").split(" ")
    for argv in (words, ["EVENTDB.ONCE", "token", *words]):
        local = filled(Local())
        ear = listener(local)
        local.raw("CONFIG", "SET", "notify-keyspace-events", "EAn")
        reply = local.raw(*argv)
        assert not reply.startswith(b"-"), reply
        ear.flush()
        assert [" ".join(each) for each in names(local.take(ear))] == told.split(", ")


def test_a_stream_that_is_restored_is_told_of_once() -> None:
    local = filled(Local())
    payload = local("DUMP", "x")
    assert isinstance(payload, bytes)
    ear = listener(local)
    local.raw("CONFIG", "SET", "notify-keyspace-events", "EAn")
    assert local.raw("RESTORE", "copy", 100_000, payload) == b"+OK\r\n"
    ear.flush()
    assert names(local.take(ear)) == [("new", "copy"), ("restore", "copy")]
