"""`eventdb export` and `eventdb import`: what they print, how they fail, and that there and back loses nothing."""

from __future__ import annotations

import asyncio
import resource
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eventdb.backends import open_log
from eventdb.cli.app import app
from tests.cli.test_cli import finish, start
from tests.conftest import StartServer, wait_until
from tests.kit import old_encodings as old
from tests.kit.machines import START_MS, Scribe, set_transaction
from tests.kit.wire import Wire

runner = CliRunner()


def run(*argv: str) -> tuple[int, str, str]:
    result = runner.invoke(app, list(argv))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def facts(out: str) -> dict[str, str]:
    return dict(line.split(None, 1) for line in out.splitlines() if len(line.split(None, 1)) == 2)  # type: ignore[misc]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A log of ten transactions, SET key:n n, one a second."""
    url = f"quorum:{tmp_path / 'log'}"

    async def make() -> None:
        log = open_log(url)
        scribe = await Scribe.claim(log)
        for n in range(1, 11):
            await scribe.write([set_transaction(f"key:{n}", str(n))], time_ms=START_MS + 1000 * n)
        await log.close()

    asyncio.run(make())
    return url


def digest(url: str, *options: str) -> str:
    return facts(run("log", "digest", "--log", url, *options)[1])["digest"]


def test_there_and_back(url: str, tmp_path: Path) -> None:
    file, again = tmp_path / "dump.rdb", f"quorum:{tmp_path / 'again'}"
    code, out, err = run("export", "--log", url, "--rdb", str(file))
    assert (code, out.splitlines()[0]) == (0, f"exported {url} to {file}"), err
    said = facts(out)
    assert (said["offset"], said["keys"], said["bytes"]) == ("10", "10", str(file.stat().st_size))
    assert said["digest"] == digest(url)
    code, out, err = run("import", str(file), "--log", again)
    assert (code, out.splitlines()[0]) == (0, f"imported {file} into {again}, read back and compared"), err
    assert facts(out)["digest"] == said["digest"] == digest(again)
    assert list(tmp_path.glob(".*.part")) == []
    code, _, err = run("import", str(file), "--log", again)
    assert code == 1 and "is not empty (it holds transactions up to offset 1)" in err


def test_users_and_outcomes_come_along_and_are_named(tmp_path: Path) -> None:
    url, again, file = f"quorum:{tmp_path / 'log'}", f"quorum:{tmp_path / 'again'}", tmp_path / "dump.rdb"

    async def make(*events: list[bytes]) -> None:
        log = open_log(url)
        scribe = await Scribe.claim(log)
        await scribe.write([[b"", *events]])
        await log.close()

    asyncio.run(
        make(
            [b"ACLSETUSER", b"alice", b"on #" + b"0" * 64 + b" ~* resetchannels -@all +get"],
            [b"SET", b"k", b"v"],
            [b"EVENTDB.RAN", b"token", b"1700000000000", b"1", b"fingerprint", b"+OK\r\n"],
        )
    )
    assert run("export", "--log", url, "--rdb", str(file))[0] == 0
    code, out, err = run("import", str(file), "--log", again)
    said = facts(out)
    assert (code, said["keys"], said["users"], said["outcomes"], said["digest"]) == (0, "1", "1", "1", digest(url)), err
    asyncio.run(make([b"ACLSETUSER", b"alice", b"+of-a-later-version"]))
    assert run("export", "--log", url, "--rdb", str(file), "--overwrite")[0] == 0
    code, _, err = run("import", str(file), "--log", f"quorum:{tmp_path / 'third'}")
    assert code == 1 and "the user b'alice' has rules that make no sense" in err


def test_the_past_is_exported_by_offset_and_by_time(url: str, tmp_path: Path) -> None:
    for n, (option, value) in enumerate((("--to-offset", "4"), ("--to-time", f"{(START_MS + 4500) / 1000}"))):
        file = tmp_path / f"{n}.rdb"
        code, out, err = run("export", "--log", url, "--rdb", str(file), option, value)
        assert (code, facts(out)["keys"]) == (0, "4"), err
        assert facts(out)["digest"] == digest(url, "--at", "4")


def test_failures_are_one_line_and_leave_nothing(url: str, tmp_path: Path) -> None:
    file = tmp_path / "dump.rdb"
    for argv, code, text in (
        (("export", "--log", url, "--rdb", str(file), "--to-offset", "1", "--to-time", "1 s ago"), 2, "not both"),
        (("export", "--log", url, "--rdb", str(file), "--to-offset", "11"), 1, "there is no offset 11"),
        (("export", "--log", f"quorum:{tmp_path}/none", "--rdb", str(file)), 1, "there is no log at"),
        (("export", "--log", url, "--rdb", str(tmp_path / "no" / "dump.rdb")), 1, "No such file"),
        (("import", str(tmp_path / "none.rdb"), "--log", f"quorum:{tmp_path}/new"), 1, "No such file"),
        (("import", str(tmp_path / "log"), "--log", f"quorum:{tmp_path}/new"), 1, "a folder without a manifest"),
    ):
        found, _, err = run(*argv)
        assert (found, len(err.splitlines())) == (code, 1) and text in err, err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log"]


def limited() -> None:
    """For a process: no file of it may grow beyond 64 KiB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))


def test_without_room_the_file_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    """The disk of a file, or that of the temporary files on the way to another log."""
    url, store, file = f"quorum:{tmp_path / 'log'}", str(tmp_path / "store"), tmp_path / "dump.rdb"

    async def make() -> None:
        log = open_log(url)
        scribe = await Scribe.claim(log)
        await scribe.write([set_transaction("key", bytes(range(256)).hex() * 200)])
        await log.close()

    asyncio.run(make())
    assert run("snapshot", "create", "--log", url, "--store", store)[0] == 0
    new = ("--to-latest", "--into", f"quorum:{tmp_path / 'new'}")
    before = sorted(tmp_path.rglob("*"))
    for argv, where in (
        (("export", "--log", url, "--rdb", str(file)), str(file)),
        (("restore", "--log", url, *new, "--keys", "k*"), "(TMPDIR)"),
        (("restore", "--log", url, *new, "--store", store), "(TMPDIR)"),
    ):
        done = finish(start(*argv, preexec_fn=limited))
        assert done.code == 1 and done.err.splitlines()[-1].startswith("eventdb: File too large: "), done.err
        assert done.err.rstrip().endswith(where) and sorted(tmp_path.rglob("*")) == before


def test_a_file_is_replaced_only_when_told(url: str, tmp_path: Path) -> None:
    file = tmp_path / "dump.rdb"
    file.write_bytes(b"mine")
    code, _, err = run("export", "--log", url, "--rdb", str(file))
    assert code == 1 and "--overwrite" in err and file.read_bytes() == b"mine"
    assert run("export", "--log", url, "--rdb", str(file), "--overwrite")[0] == 0
    assert file.read_bytes().startswith(b"REDIS0010")


def test_what_cannot_be_kept_is_named(tmp_path: Path) -> None:
    module = b"\xf7\x81" + (1 << 10 | 2).to_bytes(8, "big") + b"\x02\x01\x05\x01x\x00"
    body = b"REDIS0010" + module + b"\x00\x01k\x01v" + b"\xff" + bytes(8)
    (tmp_path / "dump.rdb").write_bytes(body)
    argv = ("import", str(tmp_path / "dump.rdb"), "--log", f"quorum:{tmp_path}/new")
    code, _, err = run(*argv)
    assert code == 1 and "it holds a piece of data of the module" in err and "--skip-unsupported" in err
    argv = ("import", str(tmp_path / "dump.rdb"), "--log", f"quorum:{tmp_path}/newer")
    code, out, err = run(*argv, "--skip-unsupported")
    assert (code, facts(out)["keys"]) == (0, "1") and "left out: 1 × piece of data of the module" in err


@pytest.mark.slow
def test_an_import_that_is_killed_leaves_a_log_that_nobody_serves_and_finishes_when_it_is_run_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.cli.test_cli import finish, run_offset, start

    file, into = tmp_path / "dump.rdb", f"quorum:{tmp_path / 'new'}"
    pairs = b"".join(b"\x00" + old.string(b"key:%d" % n) + old.string(b"v" * 2000) for n in range(60_000))
    file.write_bytes(b"REDIS0010" + pairs + b"\xff" + bytes(8))
    process = start("import", str(file), "--log", into)
    wait_until(lambda: run_offset(into) > 5, 60, "the import has written something")
    code, _, err = run("import", str(file), "--log", into)
    assert code == 1 and "is being filled by another process at this moment" in err
    process.kill()
    assert finish(process).code == -signal.SIGKILL
    code, _, err = run("log", "digest", "--log", into)
    assert code == 1 and "holds part of a restore or an import that did not finish" in err
    other = tmp_path / "other.rdb"
    other.write_bytes(b"REDIS0010\xff" + bytes(8))
    code, _, err = run("import", str(other), "--log", into)
    assert code == 1 and "Run that again (rdb:dump.rdb), or delete it" in err
    code, out, err = run("import", str(file), "--log", into)
    assert (code, facts(out)["keys"]) == (0, "60000"), err
    assert "holds part of an earlier attempt that did not finish: it is removed" in caplog.text
    fresh = f"quorum:{tmp_path / 'fresh'}"
    assert run("import", str(file), "--log", fresh)[0] == 0
    assert digest(into) == digest(fresh)
    assert run("log", "verify", "--log", into)[0] == 0
    assert not list((tmp_path / "new").glob("*/filling")), "nothing is left of the lock"


def test_a_server_serves_what_was_imported(eventdb_server: StartServer, tmp_path: Path) -> None:
    body = b"\xfc" + (4_000_000_000_000).to_bytes(8, "little") + b"\x0a\x01l" + old.string(old.ziplist([b"a", b"7"]))
    (tmp_path / "dump.rdb").write_bytes(b"REDIS0006" + body + b"\xff" + bytes(8))
    url = f"quorum:{tmp_path / 'new'}"
    assert run("import", str(tmp_path / "dump.rdb"), "--log", url)[0] == 0
    with Wire(eventdb_server(url).port) as wire:
        assert wire("LRANGE", "l", 0, -1) == [b"a", b"7"]
        assert wire("PEXPIRETIME", "l") == 4_000_000_000_000
