"""Streams through redis-py: work that is handed out, kept too long and taken over, across a kill of the server."""

from __future__ import annotations

from typing import Any

import redis

from tests.conftest import StartServer


def test_what_a_group_remembers_survives_a_kill(eventdb_server: StartServer) -> None:
    server = eventdb_server()
    with redis.Redis(port=server.port, decode_responses=True) as client:
        for n in range(10):
            client.xadd("work", {"job": n}, id=f"{n + 1}-0")
        client.xgroup_create("work", "group", id="0")
        given: Any = client.xreadgroup("group", "alice", {"work": ">"}, count=4)
        assert [fields["job"] for _, fields in given[0][1]] == ["0", "1", "2", "3"]
        client.xreadgroup("group", "bob", {"work": ">"}, count=2)
        client.xack("work", "group", "1-0", "5-0")
        client.xreadgroup("group", "alice", {"work": "0"})  # again: a second delivery
        client.xclaim("work", "group", "bob", 0, ["2-0"], idle=60_000, retrycount=7)  # type: ignore[arg-type]
        client.xdel("work", "9-0")
        before: Any = client.xinfo_stream("work", full=True)
        digest = client.execute_command("EVENTDB.DIGEST")
        server.kill()
        server.restart()
        assert client.execute_command("EVENTDB.DIGEST") == digest
        after: Any = client.xinfo_stream("work", full=True)
        assert after == before
        group = after["groups"][0]
        assert (group["entries-read"], group["lag"], group["last-delivered-id"]) == (6, None, "6-0")
        waiting: Any = client.xpending_range("work", "group", "-", "+", 10)
        assert [(one["message_id"], one["consumer"], one["times_delivered"]) for one in waiting] == [
            ("2-0", "bob", 7), ("3-0", "alice", 2), ("4-0", "alice", 2), ("6-0", "bob", 1),
        ]  # fmt: skip
        assert waiting[0]["time_since_delivered"] >= 60_000
        taken: Any = client.xautoclaim("work", "group", "carol", 50_000)
        assert [entry for entry, _ in taken[1]] == ["2-0"]
        rest: Any = client.xreadgroup("group", "carol", {"work": ">"}, block=10)
        assert [entry for entry, _ in rest[0][1]] == ["7-0", "8-0", "10-0"]
