"""`eventdb snapshot …`: what each prints, how each fails; and `kill -9` while one is made."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from eventdb.backends import open_log
from eventdb.cli.app import app
from eventdb.history.view import View
from eventdb.replay import snapshots
from eventdb.replay.manifest import Manifest
from eventdb.replay.stores import open_store
from tests.kit.machines import START_MS, Scribe, set_transaction

runner = CliRunner()
ROOT = Path(__file__).parents[2]


def run(*argv: str) -> tuple[int, str, str]:
    result = runner.invoke(app, list(argv))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def facts(out: str) -> dict[str, str]:
    return dict(re.split(r" {2,}", line, maxsplit=1) for line in out.splitlines() if "  " in line)  # type: ignore[misc]


async def write(url: str, count: int, size: int = 1) -> None:
    rng = Random(1)
    log = open_log(url)
    scribe = await Scribe.claim(log)
    for n in range(1, count + 1):
        text = str(n) if size == 1 else rng.randbytes(size // 2).hex()
        await scribe.write([set_transaction(f"key:{n}", text)], time_ms=START_MS + 1000 * n)
    await log.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A log of ten transactions, one a second."""
    url = f"quorum:{tmp_path / 'log'}"
    asyncio.run(write(url, 10))
    return url


def test_the_help_names_every_command() -> None:
    code, out, _ = run("snapshot", "--help")
    assert code == 0
    for command in ("create", "list", "show", "verify", "copy", "export", "delete", "prune"):
        assert command in out
        code, text, _ = run("snapshot", command, "--help")
        assert code == 0 and "--store" in text


def test_a_snapshot_from_its_making_to_its_end(url: str, tmp_path: Path) -> None:
    store, second = str(tmp_path / "store"), str(tmp_path / "second")
    assert run("snapshot", "list", "--store", store)[:2] == (0, f"no snapshot in {store}\n")
    code, out, err = run("snapshot", "create", "--log", url, "--store", store, "--to-offset", "4")
    assert code == 0, err
    code, out, err = run("snapshot", "create", "--log", url, "--store", store)
    said = facts(out)
    assert code == 0 and out.startswith(f"made snapshot {said['name']} in {store}, read back, loaded and compared")
    assert (said["offset"], said["keys"], said["types"]) == ("10", "10", "10 string")
    digest = run("log", "digest", "--log", url)[1].splitlines()[-1].split()[-1]
    assert said["digest"] == digest
    listed = run("snapshot", "list", "--store", store)[1].splitlines()
    assert len(listed) == 2 and listed[0].startswith(said["name"])
    assert f"verified {said['verified']}, digest {digest}" in listed[0]
    shown = json.loads(run("snapshot", "show", "10", "--store", store, "--json")[1])
    assert shown["digest"] == digest and shown["damaged"] == "" and shown["position"] == int(said["position"])
    assert [each["offset"] for each in json.loads(run("snapshot", "list", "--store", store, "--json")[1])] == [10, 4]
    code, out, _ = run("snapshot", "verify", "--store", store)
    assert code == 0 and out.splitlines()[0] == f"{said['name']}  sound: loaded, digest {digest}"
    code, out, _ = run("snapshot", "copy", "--store", store, "--into", second)
    assert code == 0 and out.count("copied") == 2
    assert "nothing to copy" in run("snapshot", "copy", "--store", store, "--into", second)[1]
    file = tmp_path / "dump.rdb"
    code, out, _ = run("snapshot", "export", "newest", "--store", second, "--rdb", str(file))
    assert code == 0 and file.read_bytes().startswith(b"REDIS0010")
    code, out, _ = run("import", str(file), "--log", f"quorum:{tmp_path / 'again'}")
    assert code == 0 and facts(out)["digest"] == digest
    code, out, err = run("snapshot", "prune", "--store", store, "--keep", "1h:1h")
    assert code == 2 and "--log URL is missing" in err
    code, out, _ = run("snapshot", "prune", "--store", store, "--keep", "1h:1h", "--by-age-alone", "--dry-run")
    assert code == 0 and "1 kept, 1 would delete" in out
    pruned = ("snapshot", "prune", "--store", store, "--keep", "1h:1h", "--log", url)
    assert "1 kept, 1 deleted" in run(*pruned, "--recovery-window", "0")[1]
    code, _, err = run("snapshot", "delete", said["name"], "--store", store)
    assert code == 1 and "was not deleted: it is the newest verified one of its log" in err
    assert run("snapshot", "delete", said["name"], "--store", store, "--force")[:2] == (0, f"deleted {said['name']}\n")
    assert os.listdir(store) == []


def test_what_goes_wrong_is_one_line(url: str, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    assert run("snapshot", "create", "--log", url, "--store", store)[0] == 0
    (data,) = (tmp_path / "store").glob("*.zst")
    data.write_bytes(data.read_bytes()[:-1])
    cases: list[tuple[int, str, tuple[str, ...]]] = [
        (1, "is truncated: it has", ("export", "newest", "--rdb", str(tmp_path / "x.rdb"))),
        (1, "1 snapshot in", ("verify",)),
        (1, "there is no snapshot '77'", ("show", "77")),
        (1, "there is no snapshot of the full name 'newest'", ("delete", "newest")),
        (1, "ends at offset 10: there is no offset 11 yet", ("create", "--log", url, "--to-offset", "11")),
        (1, "there is no log at", ("create", "--log", f"quorum:{tmp_path / 'none'}")),
        (2, "--keep '1x:1h': '1x' is no time", ("prune", "--keep", "1x:1h", "--log", url)),
        (2, "--recovery-window 'ever' is no", ("prune", "--log", url, "--recovery-window", "ever")),
        (
            2,
            "give exactly one of --to-offset N, --to-time T, --to-mark NAME\n",
            ("create", "--log", url, "--to-offset", "1", "--to-time", "now"),
        ),
    ]
    for code, text, argv in cases:
        found, _, err = run("snapshot", argv[0], *argv[1:], "--store", store)
        assert (found, err.count("\n")) == (code, 1) and text in err and err.startswith("eventdb: "), err
    assert not (tmp_path / "x.rdb").exists()
    data.unlink()
    code, out, err = run("snapshot", "list", "--store", store)
    assert code == 1 and "DAMAGED: its data" in out and "1 of 1 snapshots cannot be used" in err
    assert "left as it is" in run("snapshot", "prune", "--store", store, "--log", url)[1]
    assert run("snapshot", "delete", data.name.removesuffix(".rdb.zst"), "--store", store)[0] == 0
    assert run("snapshot", "list", "--store", "nonsense://x")[0] == 2


def parts(store: Path) -> bool:
    return any(name.endswith(".part") for name in os.listdir(store))


def data(store: Path) -> bool:
    return any(name.endswith(".zst") and not name.startswith(".") for name in os.listdir(store))


@pytest.mark.parametrize("moment", [parts, data])
def test_killed_while_it_is_made(tmp_path: Path, moment: Callable[[Path], bool]) -> None:
    url, store = f"quorum:{tmp_path / 'log'}", tmp_path / "store"
    store.mkdir()
    asyncio.run(write(url, 50, 100_000))
    argv = [sys.executable, "-m", "eventdb", "snapshot", "create", "--log", url, "--store", str(store)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, env=environment)
    while process.poll() is None and not moment(store):
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()

    async def check(expected: int | None) -> None:
        opened = open_store(str(store))
        found = await snapshots.listed(opened)
        assert expected is None or len(found) == expected
        for each in found:
            assert isinstance(each, Manifest)
            await snapshots.verify(opened, each, View)

    asyncio.run(check(None))
    before = len(list(store.glob("*.json")))
    assert subprocess.run(argv, stdout=subprocess.DEVNULL, env=environment, check=False).returncode == 0
    asyncio.run(check(before + 1))
