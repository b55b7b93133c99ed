"""`eventdb keys`, and every command that opens a sealed log: what it prints, and what it says without the keys."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

import eventdb
from eventdb.backends import open_log
from eventdb.backends.keyrings import changing, contents_of
from eventdb.backends.seal import ENVIRONMENT
from eventdb.cli.app import app
from tests.kit.keyring import key_of, keyring_file
from tests.kit.machines import Scribe

runner = CliRunner()
SECRET = b"correct horse battery staple"


def run(*argv: str, code: int = 0) -> str:
    """What the command prints, stderr after stdout."""
    result = runner.invoke(app, list(argv))
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.stdout + result.stderr


def test_a_key_is_made_then_active_then_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"file:{tmp_path}/keys.json"
    assert run("keys", "generate", "--keys", url) == (
        f"key 1 is in {url}\ngive it to every node, then: eventdb keys rotate\n"
    )
    assert "no key seals what is new yet" in run("keys", "list", "--keys", url)
    assert run("keys", "rotate", "--keys", url) == "key 1 seals what is new\n"
    monkeypatch.setenv("KEK", "0f" * 32)
    run("keys", "generate", "--keys", url, "--wrapped-by", "env:KEK")
    monkeypatch.setenv(ENVIRONMENT, url)
    assert run("keys", "rotate") == "key 2 seals what is new, where key 1 did\n"
    assert run("keys", "rewrap", "--wrapped-by", "env:KEK") == "2 keys are wrapped by env:KEK\n"
    lines = run("keys", "list").splitlines()
    assert [line.split()[0] for line in lines] == ["1", "*", "*"]
    assert all("env:KEK" in line and line.endswith("ok") for line in lines[:2])
    monkeypatch.setenv("KEK", "0e" * 32)
    assert "cannot be opened: env:KEK is not the key that wrapped it" in run("keys", "list", code=1)
    assert "env:KEK is not the key that wrapped it" in run("keys", "rotate", code=1)
    monkeypatch.setenv("KEK", "0f" * 32)
    assert run("keys", "rewrap") == "2 keys are not wrapped\n"
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600
    assert "has no key 9" in run("keys", "rotate", "--to", "9", code=1)
    assert "only a keyring in a file" in run("keys", "generate", "--keys", "env:KEK", code=1)


def test_keys_that_are_made_at_once_are_all_there(tmp_path: Path) -> None:
    """Each in a process of its own; a key that was told of and is lost takes with it what it sealed."""
    url = f"file:{tmp_path}/keys.json"
    command = [sys.executable, "-m", "eventdb", "keys", "generate", "--keys", url]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    told = [process.communicate()[0].split()[1] for process in running]
    assert sorted(told) == ["1", "2", "3", "4", "5"]
    assert sorted(contents_of(url).entries) == [1, 2, 3, 4, 5]
    assert os.listdir(tmp_path) == ["keys.json"]


def test_a_key_that_is_being_made_keeps_the_next_one_waiting(tmp_path: Path) -> None:
    url = f"file:{tmp_path}/keys.json"
    entered, made = threading.Event(), []

    def second() -> None:
        entered.set()
        with changing(url, make=True) as contents:
            made.append(contents.add())

    thread = threading.Thread(target=second)
    with changing(url, make=True) as contents:
        thread.start()
        entered.wait()
        thread.join(0.2)
        assert contents.add() == 1 and made == []
    thread.join()
    assert made == [2] and sorted(contents_of(url).entries) == [1, 2]


def test_a_link_to_a_keyring_stays_one(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    run("keys", "generate", "--keys", f"file:{real}")
    link.symlink_to("real.json")
    assert run("keys", "generate", "--keys", f"file:{link}").startswith("key 2 is in")
    assert link.is_symlink() and sorted(contents_of(f"file:{real}").entries) == [1, 2]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"active": 7, "keys": {}}', "key 7, which is to seal new records, cannot be used: it is not there"),
        ('{"active": 0, "keys": {"1": {"key": "QUFB"}}}', "key 1 has 3 bytes, not 32"),
        ('{"active": 1e400, "keys": {}}', "holds no keyring"),
    ],
)
def test_list_says_what_a_server_would_say(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    path.chmod(0o600)
    assert why in run("keys", "list", "--keys", f"file:{path}", code=1)


@pytest.fixture
def sealed(tmp_path: Path) -> str:
    """A log with clear records, then some sealed with key 1, then with key 2."""
    url = f"quorum:{tmp_path}/log?zones=1"

    async def make() -> None:
        for ids in ((), (1,), (1, 2)):
            keys = keyring_file(tmp_path / f"{len(ids)}.json", *ids) if ids else ""
            log = open_log(url, keys=keys)
            await (await Scribe.claim(log)).write([[b"10.0.0.7:1 web", [b"SET", b"k%d" % len(ids), SECRET]]])
            await log.close()

    asyncio.run(make())
    return url


def test_verify_counts_what_each_key_has_sealed(tmp_path: Path, sealed: str) -> None:
    url = keyring_file(tmp_path / "three.json", 1, 2, 3)
    assert run("keys", "verify", "--keys", url, "--log", sealed).splitlines() == [
        "not sealed: 2 frames", "key 1: 2 frames, all opened", "key 2: 2 frames, all opened",
        "key 3: not needed by this log",
    ]  # fmt: skip
    url = keyring_file(tmp_path / "two.json", 2)
    assert run("keys", "verify", "--keys", url, "--log", sealed, code=1).splitlines() == [
        "not sealed: 2 frames", "key 1: 2 frames, sealed with key 1, which is not there: there is 2",
        "key 2: 2 frames, all opened",
    ]  # fmt: skip


def test_snapshots_of_a_sealed_log_show_nothing_and_their_keys_are_counted(
    tmp_path: Path, sealed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "snapshots")
    monkeypatch.setenv(ENVIRONMENT, f"file:{tmp_path}/2.json")
    run("snapshot", "create", "--log", sealed, "--store", store)
    run("snapshot", "verify", "newest", "--store", store)
    found = [path.read_bytes() for path in (tmp_path / "snapshots").rglob("*") if path.is_file()]
    assert len(found) == 2 and not any(SECRET in data for data in found)
    assert run("keys", "verify", "--log", sealed, "--store", store).splitlines()[-1] == "key 2: 1 snapshots"
    monkeypatch.setenv(ENVIRONMENT, f"file:{tmp_path}/1.json")
    assert "sealed with key 2, which is not there: there is 1" in run(
        "snapshot", "verify", "newest", "--store", store, code=1
    )
    assert "key 2: 1 snapshots, and it is not there" in run("keys", "verify", "--log", sealed, "--store", store, code=1)


def test_every_command_opens_a_sealed_log_or_names_the_key(
    tmp_path: Path, sealed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = f"quorum:{tmp_path}/copy?zones=1"
    commands = (
        ["log", "tail", "--log", sealed, "--from", "1"], ["log", "verify", "--log", sealed],
        ["log", "digest", "--log", sealed], ["restore", "--log", sealed, "--to-offset", "2", "--into", copy],
        ["export", "--log", sealed, "--rdb", f"{tmp_path}/out.rdb"],
    )  # fmt: skip
    for argv in commands:
        said = run(*argv, code=1)
        assert re.search(r"sealed with key [12], and no keys are given \(encryption-keys, or EVENTDB_ENC", said), argv
        assert "Traceback" not in said and SECRET.decode() not in said
    monkeypatch.setenv(ENVIRONMENT, f"file:{tmp_path}/2.json")
    for argv in commands:
        run(*argv)
    assert SECRET.decode() in run("log", "tail", "--log", sealed, "--from", "1")
    stored = b"".join(path.read_bytes() for path in (tmp_path / "copy").rglob("*") if path.is_file())
    assert b"evDB" in stored and SECRET not in stored, "a copy is sealed with the active key"
    monkeypatch.setenv(ENVIRONMENT, f"file:{tmp_path}/missing.json")
    assert "missing.json: No such file or directory" in run("log", "digest", "--log", sealed, code=1)


def test_a_sealed_database_comes_back_with_the_same_digest_and_no_file_shows_a_value(tmp_path: Path) -> None:
    url, keys = f"quorum:{tmp_path}/log", keyring_file(tmp_path / "keys.json", 1)
    with eventdb.open_sync(url, encryption_keys=keys) as db:
        for number in range(50):
            db.execute("SET", f"key:{number}", SECRET + b"%d" % number)
        db.execute("SET", "large", os.urandom(600_000) + SECRET)
        db.execute("RPUSH", "list", SECRET, "b")
        digest = db.execute("EVENTDB.DIGEST")
    for path in (tmp_path / "log").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert SECRET not in data and b"key:1" not in data and key_of(1) not in data
    with eventdb.open_sync(url, encryption_keys=keys) as db:
        assert db.execute("EVENTDB.DIGEST") == digest
        assert db.execute("GET", "key:7") == SECRET + b"7"
    with pytest.raises(eventdb.backends.Corrupt, match="sealed with key 1, and no keys are given"):
        eventdb.open_sync(url)
