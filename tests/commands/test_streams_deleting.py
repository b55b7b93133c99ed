"""XDELEX, XACKDEL, and KEEPREF, DELREF, ACKED of XADD and XTRIM: as Redis 8.2 documents and tests them."""

from __future__ import annotations

import pytest

from tests.kit.harness import Local


@pytest.fixture
def db() -> Local:
    """Ten entries. Group g has 1, 4, 5, 6 pending and acknowledged 2, 3; group h has 3, 4, and acknowledged 1, 2."""
    local = Local()
    for i in range(1, 11):
        local("XADD", "x", f"{i}-0", "f", i)
    for group, count, acked in (("g", 6, ("2-0", "3-0")), ("h", 4, ("1-0", "2-0"))):
        local("XGROUP", "CREATE", "x", group, 0)
        local("XREADGROUP", "GROUP", group, "c", "COUNT", count, "STREAMS", "x", ">")
        local("XACK", "x", group, *acked)
    return local


def left(db: Local) -> list[int]:
    entries = db("XRANGE", "x", "-", "+")
    assert isinstance(entries, list)
    return [int(entry[0].split(b"-")[0]) for entry in entries]


def pending(db: Local, group: str) -> list[int]:
    entries = db("XPENDING", "x", group, "-", "+", 99)
    assert isinstance(entries, list)
    return [int(entry[0].split(b"-")[0]) for entry in entries]


@pytest.mark.parametrize(
    ("command", "reply", "gone", "g", "h"),
    [
        ("XDELEX x IDS 3 1-0 99-0 1-0", [1, -1, -1], {1}, [1, 4, 5, 6], [3, 4]),
        ("XDELEX x KEEPREF IDS 1 3-0", [1], {3}, [1, 4, 5, 6], [3, 4]),
        ("XDELEX x DELREF IDS 2 4-0 1-0", [1, 1], {1, 4}, [5, 6], [3]),
        ("XDELEX x IDS 5 1-0 2-0 3-0 7-0 99-0 ACKED", [2, 1, 2, 2, -1], {2}, [1, 4, 5, 6], [3, 4]),
        ("XACKDEL x g IDS 3 1-0 2-0 1-0", [1, -1, -1], {1}, [4, 5, 6], [3, 4]),
        ("XACKDEL x g DELREF IDS 1 4-0", [1], {4}, [1, 5, 6], [3]),
        ("XACKDEL x g ACKED IDS 3 1-0 4-0 5-0", [1, 2, 2], {1}, [6], [3, 4]),
        ("XACKDEL x none IDS 2 1-0 2-0", [-1, -1], set(), [1, 4, 5, 6], [3, 4]),
        ("XACKDEL none g IDS 2 bad 2-0", [-1, -1], set(), [1, 4, 5, 6], [3, 4]),
        ("XTRIM x MAXLEN 6", 4, {1, 2, 3, 4}, [1, 4, 5, 6], [3, 4]),
        ("XTRIM x MAXLEN 6 DELREF", 4, {1, 2, 3, 4}, [5, 6], []),
        ("XTRIM x DELREF MAXLEN 0", 10, set(range(1, 11)), [], []),
        ("XTRIM x MINID 4 DELREF", 3, {1, 2, 3}, [4, 5, 6], [4]),
        ("XTRIM x MAXLEN = 9 ACKED", 1, {2}, [1, 4, 5, 6], [3, 4]),
        ("XTRIM x MAXLEN 0 ACKED", 1, {2}, [1, 4, 5, 6], [3, 4]),
        ("XTRIM x MINID 9 ACKED", 1, {2}, [1, 4, 5, 6], [3, 4]),
        ("XTRIM x MINID 2 ACKED", 0, set(), [1, 4, 5, 6], [3, 4]),
    ],
)
def test_what_goes_and_what_groups_remember(
    db: Local, command: str, reply: object, gone: set[int], g: list[int], h: list[int]
) -> None:
    assert db(*command.split()) == reply
    assert left(db) == [i for i in range(1, 11) if i not in gone]
    assert (pending(db, "g"), pending(db, "h")) == (g, h)
    db.check_replay()


def test_xackdel_answers_for_an_entry_that_is_gone_but_pending(db: Local) -> None:
    db("XDEL", "x", "1-0", "4-0")
    assert db("XACKDEL", "x", "g", "KEEPREF", "IDS", 1, "1-0") == [1]
    assert db("XDELEX", "x", "DELREF", "IDS", 1, "4-0") == [-1]
    assert (pending(db, "g"), pending(db, "h")) == ([5, 6], [3])
    db.check_replay()


def test_xadd_trims_what_every_group_has_acknowledged(db: Local) -> None:
    db("XACK", "x", "g", "1-0")
    assert db("XADD", "x", "ACKED", "MAXLEN", "=", 3, "11-0", "f", "v") == b"11-0"
    assert left(db) == list(range(3, 12))
    assert db.events()[-2:] == [[b"XADD", b"x", b"11-0", b"f", b"v"], [b"XTRIM", b"x", b"MAXLEN", b"9"]]
    db("XADD", "x", "DELREF", "MAXLEN", 2, "12-0", "f", "v")
    assert left(db) == [11, 12] and not pending(db, "g") and not pending(db, "h")
    db.check_replay()


def test_without_groups_everything_is_acknowledged() -> None:
    db = Local()
    for i in range(1, 400):
        db("XADD", "x", f"{i}-0", "f", i)
    assert db("XTRIM", "x", "ACKED", "MAXLEN", 10) == 389
    db("XGROUP", "CREATE", "x", "g", "395-0")
    assert db("XTRIM", "x", "MAXLEN", 0, "ACKED") == 6
    assert db("XTRIM", "x", "MAXLEN", "~", 0, "ACKED") == 0
    db.check_replay()


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("XDELEX s BOGUS IDS 1 1-1", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("XDELEX x IDS 0 1-1", "ERR Number of IDs must be a positive integer"),
        ("XDELEX x IDS x 1-1", "ERR Number of IDs must be a positive integer"),
        ("XDELEX x IDS 3 1-1", "ERR The `numids` parameter must match the number of arguments"),
        ("XDELEX x IDS 1 1-1 2-2", "ERR syntax error"),
        ("XDELEX x ACKED DELREF IDS 1 1-1", "ERR syntax error"),
        ("XDELEX x IDS 1 bad", "ERR Invalid stream ID specified as stream command argument"),
        ("XACKDEL x g BOGUS IDS 1 1-1", "ERR syntax error"),
        ("XACKDEL x g IDS 1", "ERR wrong number of arguments for 'xackdel' command"),
        ("XTRIM x MAXLEN 1 ACKED KEEPREF", "ERR syntax error"),
    ],
)
def test_errors(db: Local, command: str, error: str) -> None:
    db("SET", "s", "x")
    before = len(db.log)
    assert db.raw(*command.split()) == f"-{error}\r\n".encode()
    assert len(db.log) == before
