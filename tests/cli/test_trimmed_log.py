"""A log whose beginning was trimmed, from the command line: what is kept and why, any state, a restore, a service."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from eventdb.backends import open_log
from eventdb.cli.app import app
from eventdb.cluster.lease import Statement
from tests.kit.machines import START_MS, Scribe
from tests.kit.nodes import Nodes
from tests.kit.trimmed_logs import Trimmed
from tests.kit.wire import Wire

RUNNER = CliRunner()


def run(*args: str) -> Result:
    return RUNNER.invoke(app, list(args))


@pytest.fixture
def trimmed(tmp_path: Path) -> Trimmed:
    found = Trimmed(tmp_path)
    asyncio.run(found.make())
    return found


def digest_of(url: str, *args: str) -> dict[str, object]:
    done = run("log", "digest", "--log", url, "--json", *args)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_any_state_that_is_left_is_digested_and_exported(trimmed: Trimmed, tmp_path: Path) -> None:
    refused = run("log", "digest", "--log", trimmed.url)
    assert refused.exit_code == 1 and "was trimmed" in refused.output and "snapshot" in refused.output
    for offset, keys in ((20, 20), (40, 40), (55, 55), (60, 60)):
        found = digest_of(trimmed.url, "--store", trimmed.store, "--at", str(offset))
        assert (found["offset"], found["key_count"]) == (offset, keys)
    refused = run("log", "digest", "--log", trimmed.url, "--store", trimmed.store, "--at", "30")
    assert refused.exit_code == 1 and "no snapshot in" in refused.output
    file = tmp_path / "dump.rdb"
    exported = run("export", "--log", trimmed.url, "--store", trimmed.store, "--rdb", str(file), "--to-offset", "47")
    assert exported.exit_code == 0, exported.output
    assert run("import", str(file), "--log", f"quorum:{tmp_path / 'imported'}").exit_code == 0
    there = digest_of(f"quorum:{tmp_path / 'imported'}")
    assert there["digest"] == digest_of(trimmed.url, "--store", trimmed.store, "--at", "47")["digest"]


@pytest.mark.parametrize("offset", [20, 40, 43, 60])
def test_a_restore_begins_with_the_snapshot(trimmed: Trimmed, offset: int) -> None:
    asked = ("restore", "--log", trimmed.url, "--to-offset", str(offset))
    refused = run(*asked, "--into", trimmed.into)
    assert refused.exit_code == 1 and "a snapshot is needed to begin with (--store)" in refused.output
    dry = run(*asked, "--store", trimmed.store, "--dry-run")
    assert dry.exit_code == 0 and f"--to-offset {offset}" in dry.output, dry.output
    done = run(*asked, "--store", trimmed.store, "--into", trimmed.into)
    assert done.exit_code == 0, done.output
    assert "counts its offsets anew" in done.output
    there = digest_of(trimmed.into)
    assert there["digest"] == digest_of(trimmed.url, "--store", trimmed.store, "--at", str(offset))["digest"]
    assert there["time_ms"] == START_MS + 1000 * ((offset - 1) // 10)


def test_a_restore_to_a_time_or_to_what_is_gone(trimmed: Trimmed) -> None:
    asked = ("restore", "--log", trimmed.url, "--store", trimmed.store, "--into", trimmed.into)
    gone = run(*asked, "--to-offset", "25")
    assert (
        gone.exit_code == 1 and "it can be restored to the offsets 40, 20 and to any offset from 40 on" in gone.output
    )
    done = run(*asked, "--to-time", str(START_MS // 1000 + 4))
    assert done.exit_code == 0, done.output
    assert digest_of(trimmed.into)["key_count"] == 50


def test_a_whole_log_is_restored_from_the_snapshot_when_a_store_is_named(tmp_path: Path) -> None:
    whole = Trimmed(tmp_path)
    asyncio.run(whole.make(trim=False))
    done = run("restore", "--log", whole.url, "--store", whole.store, "--to-latest", "--into", whole.into)
    assert done.exit_code == 0, done.output
    assert digest_of(whole.into)["digest"] == digest_of(whole.url)["digest"]
    early = f"quorum:{tmp_path / 'early'}"
    done = run("restore", "--log", whole.url, "--store", whole.store, "--to-offset", "5", "--into", early)
    assert done.exit_code == 0 and digest_of(early)["offset"] == 5, "before every snapshot the log alone does"


async def given_back(url: str) -> None:
    """Its last primary has given the lease back, so that the next one need not wait."""
    log = open_log(url)
    scribe = await Scribe.claim(log)
    scribe.records = 6
    await scribe.write_kind(Statement("gone", "127.0.0.1:1", 500, released=True).encode())
    await log.close()


def test_a_restore_in_place_of_a_trimmed_log_begins_with_a_snapshot_too(trimmed: Trimmed, tmp_path: Path) -> None:
    """By offset, time and mark; what is gone is named, and nothing was written then."""
    digests = {
        at: digest_of(trimmed.url, "--at", str(at), "--store", trimmed.store)["digest"] for at in (20, 40, 50, 60)
    }
    asyncio.run(given_back(trimmed.url))
    with Nodes(tmp_path, snapshot_store=trimmed.store) as nodes:
        nodes.url = trimmed.url
        with Wire(nodes.start("a").port) as wire:
            for words, at in (
                (("OFFSET", 40), 40), (("OFFSET", 50), 50), (("OFFSET", 20), 20), (("OFFSET", 60), 60),
                (("TIME", START_MS + 4_000), 50),
            ):  # fmt: skip
                reply = wire("EVENTDB.RESTORE", "TO", *words)
                assert isinstance(reply, list) and reply[1] == at, reply
                assert wire("EVENTDB.DIGEST") == digests[at].encode()  # type: ignore[attr-defined]
            offset = wire("EVENTDB.OFFSET")
            for words, text in (
                (("OFFSET", 35), "no snapshot in"), (("OFFSET", 1), "no snapshot in"),
                (("TIME", START_MS - 1), "keeps the transactions from 31 on"),
            ):  # fmt: skip
                reply = str(wire("EVENTDB.RESTORE", "TO", *words))
                assert "nothing was changed" in reply and text in reply, reply
            assert wire("EVENTDB.OFFSET") == offset
            mark = wire("EVENTDB.MARK", "now")
            now = wire("EVENTDB.DIGEST")
            wire("FLUSHALL")
            assert wire("EVENTDB.RESTORE", "TO", "MARK", "now")[1] == mark  # type: ignore[index]
            assert wire("EVENTDB.DIGEST") == now
            assert digest_of(trimmed.url, "--store", trimmed.store)["digest"] == now.decode()  # type: ignore[attr-defined]


def test_info_says_what_is_kept_and_why(trimmed: Trimmed) -> None:
    found = run("log", "info", "--log", trimmed.url, "--store", trimmed.store, "--recovery-window", "0")
    assert found.exit_code == 0, found.output
    assert "what came after the newest verified snapshot" in found.output
    far = run("log", "info", "--log", trimmed.url, "--store", trimmed.store, "--json")
    facts = json.loads(far.stdout)
    assert facts["kept"]["may_go_before"] == 0 and "recovery window" in facts["kept"]["holders"][0]["why"]
    assert run("log", "info", "--log", trimmed.url, "--recovery-window", "never").exit_code == 2


def test_the_service_makes_one_and_ends_at_once(tmp_path: Path) -> None:
    log = Trimmed(tmp_path)
    asyncio.run(log.make(trim=False))
    store = tmp_path / "more"
    service = subprocess.Popen(
        [sys.executable, "-m", "eventdb", "snapshotter", "--log", log.url, "--store", str(store), "--every", "1h"],
        stderr=subprocess.PIPE,
        text=True,
    )
    said = ""
    try:
        assert service.stderr is not None
        while "60 keys" not in said and (line := service.stderr.readline()):
            said += line
        assert len(list(store.glob("*.json"))) == 1, said
        nice = os.getpriority(os.PRIO_PROCESS, service.pid)
        assert nice == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10), "the database goes first"
        service.send_signal(signal.SIGTERM)
        assert service.wait(10) == 0
    finally:
        service.kill()
        said += service.communicate()[1]
    assert "60 keys" in said and "Traceback" not in said, said


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--every", "often"), "--every 'often' is no time"),
        (("--every", "1gb"), "--every '1gb' is no time"),
        (("--keep", "1h"), "no time with a unit"),
        (("--recovery-window", "7 parsecs"), "such as 7d, 20gb"),
    ],
)
def test_options_that_make_no_sense_are_named(tmp_path: Path, args: tuple[str, ...], text: str) -> None:
    done = run("snapshotter", "--log", f"quorum:{tmp_path / 'log'}", "--store", str(tmp_path / "s"), *args)
    assert done.exit_code == 2 and text in done.output
