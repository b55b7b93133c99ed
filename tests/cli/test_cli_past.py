"""`eventdb restore` by mark, in part, into a file and in place; `eventdb log marks` and `eventdb log replay`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eventdb.cli.app import app
from eventdb.history import rehearsal
from eventdb.history.view import View
from tests.kit.nodes import Nodes
from tests.kit.wire import Wire

runner = CliRunner()


def run(*argv: str) -> tuple[int, str, str]:
    result = runner.invoke(app, list(argv))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def facts(out: str) -> dict[str, str]:
    return dict(line.rsplit(None, 1) for line in out.splitlines() if len(line.rsplit(None, 1)) == 2)  # type: ignore[misc]


class Deployed:
    """A server with users, a mark, and what a bad deploy has made of them."""

    def __init__(self, folder: Path, nodes: Nodes) -> None:
        self.server = nodes.start("a")
        self.url = nodes.url
        self.node = f"127.0.0.1:{self.server.port}"
        with Wire(self.server.port) as wire:
            wire("MSET", "user:1", "ann", "user:2", "bob", "cart:1", "book")
            wire("SELECT", 1)
            wire("SET", "user:1", "elsewhere")
            self.digest = wire("EVENTDB.DIGEST")
            self.mark = wire("EVENTDB.MARK", "before-deploy", "WITHDIGEST")
            wire("SELECT", 0)
            wire("SET", "user:1", "null")
            wire("DEL", "user:2", "cart:1")
            wire("SET", "user:3", "new")
            self.spoilt = wire("EVENTDB.DIGEST")
            self.before = wire("EVENTDB.OFFSET")[0]  # type: ignore[index]


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    with Nodes(tmp_path) as nodes:
        yield Deployed(tmp_path, nodes)


def test_in_place_and_back(deployed: Deployed) -> None:
    where = ("restore", "--in-place", "--node", deployed.node)
    code, out, err = run(*where, "--to-mark", "before-deploy", "--dry-run")
    assert (code, out.splitlines()[0]) == (0, "would bring all keys back to offset 3; nothing was written"), err
    assert {name: facts(out)[name] for name in ("changed", "appeared", "vanished")} == {
        "changed": "1", "appeared": "2", "vanished": "1",
    }  # fmt: skip
    code, out, err = run(*where, "--to-mark", "before-deploy")
    assert (code, out.splitlines()[0]) == (0, "all keys: as at offset 3, by transaction 7"), err
    assert err == f"undo it: eventdb restore --in-place --node {deployed.node} --to-offset {deployed.before}\n"
    with Wire(deployed.server.port) as wire:
        assert wire("MGET", "user:1", "user:2", "user:3", "cart:1") == [b"ann", b"bob", None, b"book"]
    code, out, err = run(*where, "--to-offset", str(deployed.before))
    assert code == 0, err
    with Wire(deployed.server.port) as wire:
        assert wire("EVENTDB.DIGEST") == deployed.spoilt
    code, out, err = run(*where, "--to-mark", "before-deploy", "--keys", "user:*", "--db", "0")
    assert (code, out.splitlines()[0]) == (0, "keys user:* of database 0: as at offset 3, by transaction 9"), err
    assert err.endswith("--to-offset 8 --keys 'user:*' --db 0\n")
    with Wire(deployed.server.port) as wire:
        assert wire("MGET", "user:1", "user:2", "user:3", "cart:1") == [b"ann", b"bob", None, None]
    assert run(*where, "--to-mark", "none")[0] == 1 and run(*where, "--to-latest")[0] == 2


def test_bytes_that_are_no_text_pass_through_and_addresses_that_are_none_are_named(deployed: Deployed) -> None:
    strange = os.fsdecode(b"\xff'k*")
    with Wire(deployed.server.port) as wire:
        wire("SET", b"\xff'key", "v")
        wire("EVENTDB.MARK", b"\xff")
    where = ("restore", "--in-place", "--node", deployed.node)
    code, out, err = run(*where, "--to-mark", os.fsdecode(b"\xff"))
    assert code == 0 and "so nothing was written" in out, err
    code, out, err = run(*where, "--to-mark", "before-deploy", "--keys", strange, "--keys", "it's")
    assert (code, facts(out)["vanished"]) == (0, "1"), err
    assert err.endswith(f" --to-offset {deployed.before + 2} --keys $'\\xff\\x27k*' --keys 'it'\\''s'\n")
    for address in ("nonsense", "127.0.0.1:", "127.0.0.1:0x1", "127.0.0.1:65536"):
        code, _, err = run("restore", "--in-place", "--node", address, "--to-offset", "1")
        assert (code, err) == (1, f"eventdb: {address!r} is no address of a node: give HOST:PORT\n")


def test_a_mark_that_came_in_with_a_file_is_no_place_in_this_log(tmp_path: Path) -> None:
    """Not even where it has the offset that it had: the state there is another one."""
    file = tmp_path / "file.rdb"
    with Nodes(tmp_path / "one") as nodes:
        with Wire(nodes.start("a").port) as wire:
            assert wire("EVENTDB.MARK", "begin") == 1
            wire("SET", "k", "v")
        assert run("export", "--log", nodes.url, "--rdb", str(file))[0] == 0
    with Nodes(tmp_path / "two") as nodes:
        assert run("import", str(file), "--log", nodes.url)[0] == 0
        code, _, err = run("restore", "--log", nodes.url, "--to-mark", "begin", "--dry-run")
        assert code == 1 and "has no mark 'begin'" in err
        with Wire(nodes.start("a").port) as wire:
            before = wire("EVENTDB.DIGEST")
            reply = str(wire("EVENTDB.RESTORE", "TO", "MARK", "begin"))
            assert "nothing was changed: mark 'begin': the mark is of another log" in reply
            assert (wire("EVENTDB.DIGEST"), wire("EVENTDB.OFFSET")) == (before, [0, 1])
            wire("EVENTDB.MARK", "begin")  # of this log
            wire("DEL", "k")
            assert wire("EVENTDB.RESTORE", "TO", "MARK", "begin")[3] == 4 and wire("GET", "k") == b"v"  # type: ignore[index]


def test_by_mark_into_a_log_and_a_file(deployed: Deployed, tmp_path: Path) -> None:
    log = ("--log", deployed.url)
    code, out, err = run("restore", *log, "--to-mark", "before-deploy", "--into", f"quorum:{tmp_path / 'whole'}")
    assert code == 0 and facts(out)["offset"] == str(deployed.mark), err
    code, out, err = run("log", "digest", "--log", f"quorum:{tmp_path / 'whole'}", "--at", "2")
    assert facts(out)["digest"].encode() == deployed.digest
    part = f"quorum:{tmp_path / 'part'}"
    chosen = ("--keys", "user:*", "--keys", "none", "--db", "0")
    code, out, err = run("restore", *log, "--to-mark", "before-deploy", *chosen, "--into", part)
    assert code == 0 and facts(out)["keys"] == "2" and "a part has no history" in err, err
    code, out, err = run("log", "tail", "--log", part, "--from", "1")
    assert [line.split("] ")[-1] for line in out.splitlines() if " SET " in line] == [
        "SET user:1 ann",
        "SET user:2 bob",
    ]
    file = tmp_path / "part.rdb"
    code, out, err = run("restore", *log, "--to-mark", "before-deploy", "--keys", "user:*", "--into", str(file))
    assert code == 0 and facts(out)["keys"] == "3", err
    assert run("restore", *log, "--to-latest", "--into", str(file))[0] == 1
    again = f"quorum:{tmp_path / 'again'}"
    assert run("import", str(file), "--log", again)[0] == 0
    code, out, err = run("restore", *log, "--to-mark", "missing", "--into", f"quorum:{tmp_path / 'none'}")
    assert code == 1 and "has no mark 'missing'" in err


def test_a_mark_that_came_with_a_file_marks_nothing(deployed: Deployed, tmp_path: Path) -> None:
    file, other = str(tmp_path / "all.rdb"), f"quorum:{tmp_path / 'other'}"
    assert run("restore", "--log", deployed.url, "--to-latest", "--into", file)[0] == 0
    assert run("import", file, "--log", other)[0] == 0
    assert run("log", "marks", "--log", other)[:2] == (0, "")
    assert run("restore", "--log", other, "--to-mark", "before-deploy", "--dry-run")[0] == 1


def test_marks_and_replay(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run("log", "marks", "--log", deployed.url)
    assert code == 0 and out.startswith("3 ") and "before-deploy  # digest before it" in out, err
    code, out, err = run("log", "replay", "--log", deployed.url, "--node", deployed.node)
    assert (code, out.splitlines()[0]) == (0, "OK: 2 digests agree, offsets 1 to 6"), err

    class Newer(View):
        """A version that applies something differently."""

        def apply(self, transactions: list[list[bytes | list[bytes]]]) -> int:
            count = super().apply(transactions)
            if b"user:3" in self.keyspace.dbs[0].values:
                self.keyspace.dbs[0].values[b"user:3"] = b"different"
            return count

    monkeypatch.setattr(rehearsal, "View", Newer)
    code, out, err = run("log", "replay", "--log", deployed.url, "--node", deployed.node)
    assert code == 1 and "One of the transactions 3 to 6 is applied differently" in err
