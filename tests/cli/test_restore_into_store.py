"""`eventdb restore --into` a store of snapshots, which is `eventdb snapshot create`; and marks of a trimmed log."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eventdb.backends import Log, open_log
from eventdb.cli.app import app
from eventdb.history.view import View
from eventdb.replay.state import state_at
from eventdb.replay.stores import open_store
from tests.kit.machines import START_MS
from tests.kit.trimmed_logs import Trimmed

RUNNER = CliRunner()
SAME = ("log_id", "offset", "position", "checksum", "epoch", "time_ms", "digest", "types", "key_count")


def run(*argv: str) -> tuple[int, str, str]:
    result = RUNNER.invoke(app, list(argv))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def made_in(store: Path | str) -> dict[str, object]:
    """The only snapshot of the store."""
    code, out, err = run("snapshot", "list", "--store", str(store), "--json")
    assert code == 0, err
    (found,) = json.loads(out)
    return found  # type: ignore[no-any-return]


@pytest.fixture(params=[False, True], ids=["whole", "trimmed"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Trimmed:
    found = Trimmed(tmp_path)
    asyncio.run(found.make(trim=request.param, marks=True))
    return found


@pytest.mark.parametrize(
    ("words", "offset"),
    [
        (("--to-offset", "47"), 47), (("--to-offset", "20"), 20), (("--to-latest",), 60), (("--to-mark", "at-50"), 50),
        (("--to-time", str(START_MS // 1000 + 4)), 50),
    ],
)  # fmt: skip
def test_a_snapshot_of_the_past_is_what_snapshot_create_makes(
    history: Trimmed, tmp_path: Path, words: tuple[str, ...], offset: int
) -> None:
    into = tmp_path / "more"
    code, out, err = run("restore", "--log", history.url, *words, "--store", history.store, "--into", f"file:{into}")
    assert code == 0 and f"in file:{into}, read back, loaded and compared" in out, err
    assert ("left out" in err) == (offset < 60)
    made = made_in(into)
    assert made["offset"] == offset and made["verified"] and not made["damaged"]
    wanted = () if words == ("--to-latest",) else words
    code, out, err = run("snapshot", "create", "--log", history.url, *wanted, "--store", history.store, "--json")
    assert code == 0, err
    created = json.loads(out)
    assert {name: created[name] for name in SAME} == {name: made[name] for name in SAME}
    assert run("snapshot", "verify", "--store", str(into))[0] == 0
    code, out, _ = run("log", "digest", "--log", history.url, "--at", str(offset), "--store", history.store, "--json")
    assert json.loads(out)["digest"] == made["digest"]
    if offset == 47:  # the log is restored from it alone, up to what came later
        again = f"quorum:{tmp_path / 'again'}"
        code, out, err = run(
            "restore", "--log", history.url, "--to-offset", "55", "--store", str(into), "--into", again
        )
        assert code == 0 and f"begins with the state of snapshot {made['name']}" in err, err


def test_a_state_of_the_log_begins_with_it(tmp_path: Path) -> None:
    """As that of a node does which starts with this store."""
    history = Trimmed(tmp_path)
    asyncio.run(history.make(trim=False))
    into = f"file:{tmp_path / 'more'}"
    code, _, err = run("restore", "--log", history.url, "--to-offset", "12", "--into", into)
    assert code == 0, err

    async def replayed() -> int:
        log, store = open_log(history.url), open_store(into)
        view, follower = await state_at(log, store, View)
        assert view.key_count() == 60
        await log.close()
        return follower.transactions

    assert asyncio.run(replayed()) == 48, "the snapshot was not begun with"


def test_a_part_is_no_snapshot(history: Trimmed, tmp_path: Path) -> None:
    """A node of the whole log would start from it, and lack the rest."""
    into = tmp_path / "more"
    for words in (("--keys", "key:1*"), ("--db", "0")):
        code, out, err = run(
            "restore", "--log", history.url, "--to-latest", "--store", history.store, "--into", f"file:{into}", *words
        )
        assert code == 2 and not out and "a snapshot is the whole state of its log" in err
    assert not into.exists()


def test_what_cannot_be_a_target_is_named(history: Trimmed, tmp_path: Path) -> None:
    asked = ("restore", "--log", history.url, "--to-offset", "60", "--store", history.store)
    code, _, err = run(*asked, "--into", "nothing://x")
    assert code == 2 and "--into is neither a log (" in err and "FILE.rdb" in err
    into = tmp_path / "more"
    code, out, err = run(*asked, "--into", f"file:{into}", "--dry-run")
    assert code == 0 and "nothing was written" in out, err
    assert not into.exists() or os.listdir(into) == []
    code, _, err = run("restore", "--log", history.url, "--to-offset", "61", "--into", f"file:{into}")
    assert code == 1 and "61" in err


def test_what_was_never_acknowledged_is_in_no_snapshot(
    history: Trimmed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy into a log foresees what a claim would find in a majority; a snapshot of it could be of a lost history."""
    from eventdb.cli import terminal

    opened: list[bool] = []
    real = terminal.open_source

    def noting(url: str, *, foresee: bool = True) -> Log:
        opened.append(foresee)
        return real(url, foresee=foresee)

    monkeypatch.setattr(terminal, "open_source", noting)
    asked = ("restore", "--log", history.url, "--to-latest", "--store", history.store)
    assert run(*asked, "--into", f"file:{tmp_path / 'more'}")[0] == 0
    assert opened == [False]
    assert run(*asked, "--into", history.into)[0] == 0
    assert opened[1:] == [True, True]


# -- marks


def marks(*argv: str) -> tuple[list[str], str]:
    code, out, err = run("log", "marks", *argv)
    assert code == 0, err
    return out.splitlines(), err


def test_marks_of_what_was_trimmed_are_listed_from_the_snapshots(tmp_path: Path) -> None:
    whole, cut = Trimmed(tmp_path / "whole"), Trimmed(tmp_path / "cut")
    asyncio.run(whole.make(trim=False, marks=True))
    asyncio.run(cut.make(marks=True))
    everything, err = marks("--log", whole.url)
    assert [line.split()[0] for line in everything] == ["10", "20", "30", "40", "50", "60"] and not err
    assert marks("--log", whole.url, "--store", whole.store) == (everything, "")
    kept, err = marks("--log", cut.url)
    assert kept == everything[3:] and "the log begins at offset 31; --store shows" in err
    listed, err = marks("--log", cut.url, "--store", cut.store)
    assert listed[:3] == [f"{line}  # trimmed: the log begins at offset 31" for line in everything[:3]]
    assert listed[3:] == everything[3:] and not err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("at-10", "the mark stood at offset 10, 2023-11-14T22:13:20.000Z; no state of it is left"),
        ("at-20", "is of that offset: --to-offset 20"),
        ("at-70", "and no snapshot in"),
    ],
)
def test_a_mark_outside_what_can_be_restored_says_why_not(tmp_path: Path, name: str, text: str) -> None:
    cut = Trimmed(tmp_path)
    asyncio.run(cut.make(marks=True))
    asked = ("restore", "--log", cut.url, "--to-mark", name, "--into", cut.into)
    code, _, err = run(*asked)
    assert code == 1 and f"has no mark '{name}': it keeps the transactions from 31 on" in err and "(--store)" in err
    code, _, err = run(*asked, "--store", cut.store)
    assert code == 1 and f"has no mark '{name}'" in err and text in err, err


def test_a_mark_that_no_snapshot_reaches_is_named_too(tmp_path: Path) -> None:
    """It is in the log, and the way to it is not."""
    cut = Trimmed(tmp_path)
    asyncio.run(cut.make(marks=True))
    name = made_of(cut, 40)
    assert run("snapshot", "delete", name, "--store", cut.store, "--force")[0] == 0
    code, _, err = run("restore", "--log", cut.url, "--to-mark", "at-50", "--into", cut.into, "--store", cut.store)
    assert code == 1 and "mark 'at-50' is offset 50: " in err and "was trimmed" in err, err


def made_of(history: Trimmed, offset: int) -> str:
    found = json.loads(run("snapshot", "list", "--store", history.store, "--json")[1])
    (name,) = [each["name"] for each in found if each["offset"] == offset]
    return str(name)
