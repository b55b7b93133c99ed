"""EVENTDB.MARK and EVENTDB.MARKS: points of the history that every node, restart and file knows by name."""

from __future__ import annotations

import io

from eventdb.history.view import View
from eventdb.keyspace.marks import MARKS_MAX, NAME_BYTES_MAX
from eventdb.rdb.reader import FileReader
from eventdb.rdb.source import Source
from eventdb.rdb.writer import write
from tests.kit.harness import Local


def names(local: Local, *pattern: str) -> list[object]:
    return [mark[1] for mark in local("EVENTDB.MARKS", *pattern)]  # type: ignore[attr-defined]


def test_a_mark_is_a_transaction_and_its_reply_the_offset() -> None:
    local = Local()
    local("SET", "k", "v")
    assert local("EVENTDB.MARK", "before-deploy") == 2
    assert local.transactions()[1][1:] == [[b"EVENTDB.MARK", b"before-deploy", b"1700000000000", b"2"]]
    assert local("EVENTDB.MARKS") == [
        [b"name", b"before-deploy", b"offset", 2, b"time", 1_700_000_000_000, b"digest", b""]
    ]
    local.check_replay()


def test_the_newest_of_a_name_counts_and_comes_last() -> None:
    local = Local()
    for name in ("a", "b", "a"):
        local("EVENTDB.MARK", name)
    assert names(local) == [b"b", b"a"]
    assert local("EVENTDB.MARKS", "a") == [[b"name", b"a", b"offset", 3, b"time", 1_700_000_000_000, b"digest", b""]]
    assert names(local, "x*") == []
    local.check_replay()


def test_in_multi_it_bears_the_offset_of_that_transaction() -> None:
    local = Local()
    local("SET", "k", "v")
    local("MULTI")
    local("SET", "k", "w")
    local("EVENTDB.MARK", "m")
    assert local("EXEC") == [b"OK", 2]
    assert len(local.log) == 2
    local("MULTI")
    local("EVENTDB.MARK", "m", "WITHDIGEST")
    assert "needs a transaction of its own" in str(local("EXEC")[0])  # type: ignore[index]
    local.check_replay()


def test_an_undone_transaction_leaves_no_mark() -> None:
    local = Local()
    local("EVENTDB.MARK", "old")
    local("EVENTDB.ATOMIC", "ON")
    local("MULTI")
    local("EVENTDB.MARK", "new")
    local("EVENTDB.MARK", "old")
    local("LPUSH", "l", 1)
    local("INCR", "l")
    assert isinstance(local("EXEC"), Exception)
    assert names(local) == [b"old"] and len(local.log) == 1
    local.check_replay()


def test_the_digest_is_that_of_the_state_before() -> None:
    local = Local()
    local("SET", "k", "v")
    before = local("EVENTDB.DIGEST")
    local("EVENTDB.MARK", "m", "withdigest")
    assert local("EVENTDB.MARKS")[0][7] == before  # type: ignore[index]
    assert local("EVENTDB.DIGEST") != before
    local.check_replay()


def test_the_oldest_goes_by_an_event() -> None:
    local = Local()
    for number in range(MARKS_MAX + 2):
        local("EVENTDB.MARK", f"m{number}")
    assert len(names(local)) == MARKS_MAX and names(local)[0] == b"m2"
    assert local.transactions()[-1][2] == [b"EVENTDB.UNMARK", b"m1"]
    local.check_replay()


def test_errors() -> None:
    local = Local()
    for argv in (("",), ("x" * (NAME_BYTES_MAX + 1),)):
        assert str(local("EVENTDB.MARK", *argv)) == "ERR the name of a mark has 1 to 256 bytes"
    for words in (("m", "WITH"), ("m", "WITHDIGEST", "x")):
        assert str(local("EVENTDB.MARK", *words)) == "ERR syntax error"
    assert local.log == []


def test_flushall_leaves_marks_and_a_file_carries_them() -> None:
    local = Local()
    local("SET", "k", "v")
    local("EVENTDB.MARK", "one")
    local("EVENTDB.MARK", "007", "WITHDIGEST")
    local("FLUSHALL")
    assert names(local) == [b"one", b"007"]
    parts: list[bytes] = []
    write(parts.append, local.engine.store.keyspace, {})
    reader, view = FileReader(Source(b"", io.BytesIO(b"".join(parts)).read)), View()
    while events := reader.piece():
        view.apply([[b"test", *events]])
    assert view.digest() == local.engine.digest() and reader.mark_count == 2
