"""Generic keys: what they log, whom they tell, and what a rename, a copy or a move takes along."""

from __future__ import annotations

import pytest

from eventdb.engine.client import Client
from eventdb.engine.registry import COMMANDS
from tests.kit.harness import Local


@pytest.fixture
def db() -> Local:
    return Local()


def in_db(db: Local, index: int) -> Client:
    client = db.connect()
    client.db = db.engine.store.keyspace.dbs[index]
    return client


def test_one_event_deletes_the_keys_that_were_there_once_each(db: Local) -> None:
    db.raw("MSET", "a", 1, "b", 2)
    assert db("DEL", "a", "x", "b", "a") == 2
    assert db.events()[-1] == [b"DEL", b"a", b"b"]
    db.check_replay()


@pytest.mark.parametrize(
    "command",
    [
        ("DEL", "x"),
        ("UNLINK", "x", "y"),
        ("RENAME", "a", "a"),
        ("RENAMENX", "a", "b"),
        ("COPY", "a", "b"),
        ("COPY", "x", "b"),
        ("MOVE", "x", 1),
        ("SWAPDB", 0, 0),
        ("SWAPDB", 5, 6),
        ("PERSIST", "a"),
        ("TOUCH", "a"),
        ("EXPIRE", "x", 10),
    ],
)
def test_what_changes_nothing_logs_nothing(db: Local, command: tuple[str | int, ...]) -> None:
    db.raw("MSET", "a", 1, "b", 2)
    before = len(db.log)
    db.raw(*command)
    assert len(db.log) == before


def test_flushing_what_is_empty_logs_nothing(db: Local) -> None:
    assert db.raw("FLUSHALL") == db.raw("FLUSHDB", "ASYNC") == b"+OK\r\n"
    assert db.log == []


def test_a_deadline_moves_with_its_key(db: Local) -> None:
    db.raw("SET", "a", 1, "PX", 1000)
    db.raw("SET", "b", 2, "PX", 5)
    db.raw("RENAME", "a", "b")
    assert (db("PTTL", "b"), db("PTTL", "a")) == (1000, -2)
    db.raw("COPY", "b", "c", "DB", 3)
    assert db("PTTL", "c", client=in_db(db, 3)) == 1000
    db.raw("MOVE", "b", 2)
    assert db("PTTL", "b", client=in_db(db, 2)) == 1000
    assert db("DBSIZE") == 0
    db.check_replay()


def test_an_expired_key_at_the_destination_is_in_nobodys_way(db: Local) -> None:
    other = in_db(db, 1)
    for client in (db.client, other):
        db.raw("SET", "old", "x", "PX", 1, client=client)
    db.raw("SET", "a", 1)
    db.engine.store.now_ms += 10
    assert db("COPY", "a", "old", "DB", 1) == 1
    assert db("RENAMENX", "a", "old") == 1
    assert (db("GET", "old"), db("GET", "old", client=other)) == (b"1", b"1")
    db.check_replay()


def test_swapping_databases_swaps_what_their_clients_see(db: Local) -> None:
    other = in_db(db, 1)
    db.raw("SET", "a", 1)
    db.raw("SET", "b", 2, client=other)
    db.raw("SWAPDB", 0, 1)
    assert (db("GET", "b"), db("GET", "a", client=other)) == (b"2", b"1")
    assert db("RANDOMKEY") == b"b"
    db.check_replay()


@pytest.mark.parametrize(
    ("command", "broken"),
    [
        (("COPY", "a", "b", "REPLACE"), {"b"}),
        (("COPY", "a", "c", "DB", 1), {"1:c"}),
        (("RENAME", "a", "b"), {"a", "b"}),
        (("MOVE", "a", 1), {"a", "1:a"}),
        (("FLUSHDB",), {"a", "b"}),
        (("FLUSHALL",), {"a", "b", "1:d"}),
        (("SWAPDB", 0, 1), {"a", "b", "d", "1:a", "1:b", "1:d"}),
        (("SWAPDB", 1, 2), {"1:d", "2:d"}),
        (("DEL", "a", "x"), {"a"}),
        (("MSET", "a", 1, "x", 2), {"a", "x"}),
        (("EXPIRE", "a", 10), {"a"}),
        (("EXPIRE", "x", 10), set()),
    ],
)
def test_a_watch_breaks_for_the_keys_that_changed_and_no_others(
    db: Local, command: tuple[str | int, ...], broken: set[str]
) -> None:
    db.raw("MSET", "a", 1, "b", 2)
    db.raw("SET", "d", 3, client=in_db(db, 1))
    clients: dict[str, Client] = {}
    for index in range(3):
        for key in "abcdx":
            client = in_db(db, index)
            db.engine.store.watching.watch(client.watcher, client.db, key.encode(), db.engine.store.now_ms)
            clients[f"{index}:{key}" if index else key] = client
    db.raw(*command)
    assert {name for name, client in clients.items() if client.watcher.broken} == broken


def test_names_are_bytes_of_any_kind(db: Local) -> None:
    key = bytes(range(256))
    db.raw("SET", key, b"\r\n\0")
    assert db("KEYS", "*") == [key]
    assert db("GET", key) == b"\r\n\0"
    db.check_replay()


@pytest.mark.parametrize("name", ["GET", "SCAN", "KEYS", "DBSIZE", "RANDOMKEY"])
def test_reads_write_nothing_even_when_they_meet_expired_keys(db: Local, name: str) -> None:
    db.raw("SET", "k", 1, "PX", 1)
    before = len(db.log)
    db.engine.store.now_ms += 10
    arguments = {"GET": ["k"], "SCAN": [0], "KEYS": ["*"]}.get(name, [])
    reply = db(name, *arguments)  # type: ignore[arg-type, misc]
    assert reply == {"GET": None, "SCAN": [b"0", []], "KEYS": [], "DBSIZE": 1, "RANDOMKEY": None}[name]
    assert len(db.log) == before


def test_commands_that_name_no_key_wait_for_every_pending_write() -> None:
    from eventdb.engine.command import WHOLE

    for name in (b"SCAN", b"KEYS", b"DBSIZE", b"RANDOMKEY"):
        assert COMMANDS[name].bits & WHOLE
