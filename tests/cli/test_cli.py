"""The command eventdb: what it prints, how it fails (one line, an exit code), and what it never does to a log."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import typer.main
from typer.testing import CliRunner

import eventdb
from eventdb import __version__
from eventdb.backends import open_log
from eventdb.cli.app import app
from tests.conftest import StartServer, free_port, wait_until
from tests.kit.machines import START_MS, Scribe, set_transaction

ROOT = Path(__file__).resolve().parents[2]
runner = CliRunner()


class Outcome:
    """What a run of the command left."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    def facts(self) -> dict[str, str]:
        """Lines of a name and a value."""
        return dict(line.split(None, 1) for line in self.out.splitlines() if len(line.split(None, 1)) == 2)


def run(*argv: str) -> Outcome:
    """Run the command in this process."""
    result = runner.invoke(app, list(argv))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def start(*argv: str, **options: object) -> subprocess.Popen[str]:
    """Start the command as a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "eventdb", *argv],
        env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,  # type: ignore[call-overload]
    )  # fmt: skip


def finish(process: subprocess.Popen[str], seconds: float = 60) -> Outcome:
    out, err = process.communicate(timeout=seconds)
    return Outcome(process.returncode, out, err)


def fails(outcome: Outcome, code: int, text: str) -> None:
    """One line on stderr, nothing on stdout."""
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1 and outcome.err.startswith("eventdb: "), outcome.err
    assert text in outcome.err


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A log of 12 transactions in 4 records, a second apart, and one of several events: 13."""
    found = f"quorum:{tmp_path / 'data'}"

    async def make() -> None:
        log = open_log(found)
        scribe = await Scribe.claim(log)
        await scribe.fill(4, 3)
        events = [[b"SELECT", b"3"], [b"SET", b'say "hi"', b"\x00\xff\n"], [b"SET", b"empty", b""]]
        await scribe.write([[b"10.0.0.7:4242 web", *events]])
        await log.close()

    asyncio.run(make())
    return found


# -- the application


def test_version_tells_the_build() -> None:
    found = run("--version")
    assert found.code == 0
    assert found.out.startswith(f"eventdb {__version__} (") and "Python 3." in found.out


@pytest.mark.parametrize("argv", [["--help"], ["-h"]])
def test_help_lists_every_command_and_shows_examples(argv: list[str]) -> None:
    text = run(*argv).out
    for word in ("serve", "restore", "log", "--version", "Examples", "10 minutes ago"):
        assert word in text
    assert "bold" not in text and "cyan" not in text, "markup must not be shown"


def commands_of(group: Any, trail: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command of the program as the words that run it, groups included."""
    for name, command in group.commands.items():
        yield (*trail, name)
        if hasattr(command, "commands"):
            yield from commands_of(command, (*trail, name))


COMMANDS = sorted(commands_of(typer.main.get_command(app)))


def test_every_command_is_found_and_listed_in_the_help_of_its_group() -> None:
    assert {("serve",), ("restore",), ("failover",), ("log", "verify"), ("dev", "kafka")} <= set(COMMANDS)
    for *group, name in COMMANDS:
        shown = run(*group, "--help").out
        assert re.search(rf"^\W*{name}\b", shown, re.M), f"eventdb {' '.join(group)} --help leaves out {name}"


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_every_command_has_help(argv: tuple[str, ...]) -> None:
    found = run(*argv, "--help")
    assert found.code == 0 and "Usage: eventdb" in found.out.replace("root", "eventdb")


def test_nothing_heavy_is_imported_before_a_command_runs() -> None:
    names = ["eventdb.engine.engine", "eventdb.backends", "asyncio", "hiredis", "zstandard", "uvloop", "rich.table"]
    code = f"import sys, eventdb.cli; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "argv", [["frobnicate"], ["restore", "--nonsense"], ["log", "tail", "--from", "x"], ["log", "info"]]
)
def test_a_command_line_that_makes_no_sense_ends_with_2(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVENTDB_LOG", raising=False)
    assert run(*argv).code == 2


# -- looking into a log


def test_info_shows_offsets_and_zones(url: str) -> None:
    text = run("log", "info", "--log", url).out
    assert "offsets       1 to 13" in text
    assert "last written  2023-11-14T22:13:24.000Z" in text
    assert all(zone in text for zone in ("zone-a", "zone-b", "zone-c"))
    found = json.loads(run("log", "info", "--log", url, "--json").out)
    assert (found["last_offset"], found["epoch"], len(found["zones"])) == (13, 1, 3)


def test_tail_prints_the_last_transactions_as_people_read_commands(url: str) -> None:
    lines = run("log", "tail", "--log", url, "-n", "2").out.splitlines()
    assert lines == [
        "12 2023-11-14T22:13:23.000Z [0 127.0.0.1:1] SET key:12 12",
        r'13 2023-11-14T22:13:24.000Z [3 10.0.0.7:4242 web] SET "say \"hi\"" "\x00\xff\n"',
        '13 2023-11-14T22:13:24.000Z [3 10.0.0.7:4242 web] SET empty ""',
    ]


def test_tail_from_an_offset_shows_claims_too(url: str) -> None:
    lines = run("log", "tail", "--log", url, "--from", "1").out.splitlines()
    assert lines[0] == "# epoch 1 claimed by node-a 127.0.0.1:6379; no transaction before it"
    assert [int(line.split()[0]) for line in lines[1:]] == [*range(1, 14), 13]
    assert run("log", "tail", "--log", url, "--from", "5").out.splitlines()[0].startswith("5 2023-")


def test_tail_as_json_loses_no_byte(url: str) -> None:
    lines = [json.loads(line) for line in run("log", "tail", "--log", url, "--json", "-n", "1").out.splitlines()]
    assert lines == [
        {
            "kind": "transaction", "offset": 13, "time": "2023-11-14T22:13:24.000Z", "time_ms": START_MS + 4000,
            "epoch": 1, "position": 5, "origin": "10.0.0.7:4242 web",
            "events": [
                {"db": 3, "event": ["SET", 'say "hi"', {"base64": "AP8K"}]},
                {"db": 3, "event": ["SET", "empty", ""]},
            ],
        }
    ]  # fmt: skip


def test_digest_is_the_one_of_the_state_at_that_offset(url: str) -> None:
    last = run("log", "digest", "--log", url).facts()
    assert (last["offset"], last["keys"]) == ("13", "14")
    at = run("log", "digest", "--log", url, "--at", "12").facts()
    assert (at["offset"], at["keys"], at["time"]) == ("12", "12", "2023-11-14T22:13:23.000Z")
    assert at["digest"] != last["digest"]
    assert json.loads(run("log", "digest", "--log", url, "--json").out)["digest"] == last["digest"]


def test_verify_finds_a_sound_log_sound_and_a_flipped_byte_in_one_zone(url: str, tmp_path: Path) -> None:
    found = run("log", "verify", "--log", url)
    assert (found.code, found.out) == (0, "sound: 3 zones, positions 0 to 6, offsets to 13\n")
    segment = next(path for path in sorted((tmp_path / "data" / "zone-b").rglob("*")) if path.stat().st_size > 500)
    data = bytearray(segment.read_bytes())
    data[data.index(b"evDB", 200) + 70] ^= 1
    segment.write_bytes(data)
    found = run("log", "verify", "--log", url)
    assert found.code == 1 and "zone-b" in found.out
    assert found.err.startswith("eventdb: ") and "finding" in found.err


@pytest.mark.parametrize("command", ["info", "tail", "verify", "digest"])
def test_a_mistyped_path_is_an_error_and_leaves_nothing_behind(command: str, tmp_path: Path) -> None:
    missing = tmp_path / "typo"
    fails(run("log", command, "--log", f"quorum:{missing}"), 1, "there is no log at quorum:")
    assert not missing.exists()
    fails(run("log", command, "--log", "data"), 2, "'data' is no log URL")


def test_an_offset_that_is_not_there_is_an_error_with_the_numbers(url: str) -> None:
    fails(run("log", "digest", "--log", url, "--at", "99"), 1, "ends at offset 13: there is no offset 99 yet")
    fails(run("log", "tail", "--log", url, "--from", "99"), 1, "ends at offset 13: there is no offset 99 yet")


# -- restore


def test_restore_ends_with_offset_time_keys_and_digest(url: str, tmp_path: Path) -> None:
    into = f"quorum:{tmp_path / 'restored'}"
    found = run("restore", "--log", url, "--to-offset", "12", "--into", into)
    assert found.code == 0, found.err
    expected = run("log", "digest", "--log", url, "--at", "12").facts()
    shown = found.facts()
    assert {name: shown[name] for name in expected} == expected
    assert run("log", "digest", "--log", into).facts() == expected
    fails(
        run("restore", "--log", url, "--to-latest", "--into", into),
        1,
        "is not empty (it holds transactions up to offset 12)",
    )


@pytest.mark.parametrize(
    ("cut", "offset"),
    [(["--to-latest"], "13"), (["--to-time", "2023-11-14T22:13:21.999Z"], "6"), (["--to-time", "1700000003"], "12")],
)
def test_restore_takes_every_kind_of_cut(url: str, tmp_path: Path, cut: list[str], offset: str) -> None:
    found = run("restore", "--log", url, *cut, "--into", f"quorum:{tmp_path / 'restored'}")
    assert found.facts()["offset"] == offset


def test_a_dry_run_shows_the_cut_and_writes_nothing(url: str, tmp_path: Path) -> None:
    into = tmp_path / "restored"
    found = run("restore", "--log", url, "--to-offset", "11", "--into", f"quorum:{into}", "--dry-run")
    assert found.code == 0
    lines = found.out.splitlines()
    assert lines[0].startswith("would restore offsets 1 to 11 of ") and lines[0].endswith("22:13:23.000Z")
    assert lines[1] == "would leave out 2 later transactions, up to offset 13"
    at = lines.index("first after the cut, left out:")
    assert lines[at - 1].endswith("SET key:11 11") and lines[at + 1].endswith("SET key:12 12")
    assert not into.exists()
    assert run("restore", "--log", url, "--to-latest", "--dry-run").code == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "give exactly one of --to-offset N, --to-time T, --to-mark NAME, --to-latest"),
        (["--to-latest", "--to-offset", "3"], "give exactly one of"),
        (["--to-latest"], "--into URL is missing"),
        (["--to-time", "2026-01-31T14:00:00", "--dry-run"], "has no time zone: add Z for UTC"),
        (["--to-time", "2999-01-01T00:00:00Z", "--dry-run"], "lies in the future"),
        (["--to-time", "last summer", "--dry-run"], "is no time I can read"),
        (["--to-latest", "--into", "elsewhere"], "'elsewhere' is no log URL"),
    ],
)
def test_a_restore_that_is_not_clear_is_refused_before_anything_happens(
    url: str, options: list[str], text: str
) -> None:
    fails(run("restore", "--log", url, *options), 2, text)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--to-offset", "14"], "ends at offset 13: there is no offset 14 yet"),
        (["--to-time", "2023-11-14T00:00:00Z"], "nothing was committed at or before 2023-11-14T00:00:00.000Z"),
    ],
)
def test_a_cut_that_is_not_there_is_an_error_with_the_numbers(
    url: str, tmp_path: Path, options: list[str], text: str
) -> None:
    into = tmp_path / "restored"
    fails(run("restore", "--log", url, *options, "--into", f"quorum:{into}"), 1, text)
    assert not into.exists()


# -- as processes


def test_output_that_nobody_reads_any_more_is_no_error(tmp_path: Path) -> None:
    url = f"quorum:{tmp_path / 'data'}"

    async def make() -> None:
        log = open_log(url)
        scribe = await Scribe.claim(log)
        await scribe.fill(20, 1000)
        await log.close()

    asyncio.run(make())
    process = start("log", "tail", "--log", url, "--from", "1")
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith("# epoch 1")
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_restore_that_is_killed_leaves_nothing_to_be_served_and_finishes_when_it_is_run_again(tmp_path: Path) -> None:
    url = f"quorum:{tmp_path / 'data'}"

    async def make() -> None:
        log = open_log(url)
        scribe = await Scribe.claim(log)
        for at in range(40):
            await scribe.write([set_transaction(f"key:{at}:{n}", "v" * 200) for n in range(2000)])
        await log.close()

    asyncio.run(make())
    into = tmp_path / "restored"
    process = start("restore", "--log", url, "--to-latest", "--into", f"quorum:{into}")
    wait_until(lambda: run_offset(f"quorum:{into}") > 10_000, 60, "the restore has copied something")
    process.kill()
    assert finish(process).code == -signal.SIGKILL
    text = "holds part of a restore or an import that did not finish"
    fails(run("log", "digest", "--log", f"quorum:{into}"), 1, text)
    for _ in range(2):
        served = finish(start("serve", "--log", f"quorum:{into}", "--port", "0"))
        assert served.code == 1
        assert text in served.err and "Traceback" not in served.err and "ready on" not in served.out
    again = finish(start("restore", "--log", url, "--to-latest", "--into", f"quorum:{into}"))
    assert again.code == 0 and "an earlier attempt that did not finish: it is removed" in again.err, again.err
    assert run("log", "digest", "--log", f"quorum:{into}").out == run("log", "digest", "--log", url).out


def run_offset(url: str) -> int:
    """Last durable offset of a log that somebody else writes; 0 while it is not there."""

    async def look() -> int:
        log = open_log(url)
        try:
            return (await log.info()).last_offset
        finally:
            await log.close()

    return asyncio.run(look())


def test_a_live_server_can_be_looked_into_and_restored_from(eventdb_server: StartServer, tmp_path: Path) -> None:
    url = f"quorum:{tmp_path / 'data'}"
    server = eventdb_server(url)
    with redis.Redis(port=server.port) as client:
        for n in range(50):
            client.set(f"k{n}", n)
        follow = start("log", "tail", "--log", url, "--follow", "-n", "1")
        assert follow.stdout is not None
        assert follow.stdout.readline().endswith("SET k49 49\n")
        client.set("live", "now")
        assert follow.stdout.readline().endswith("SET live now\n")
        follow.send_signal(signal.SIGINT)
        stopped = finish(follow)
        assert (stopped.code, stopped.err.strip()) == (130, "")
        into = f"quorum:{tmp_path / 'restored'}"
        assert run("restore", "--log", url, "--to-offset", "20", "--into", into).code == 0
        client.set("after", "1")  # it is still the primary
        assert run("log", "digest", "--log", url).facts()["offset"] == "52"
    restored = eventdb_server(into)
    with redis.Redis(port=restored.port) as client:
        assert client.dbsize() == 20 and client.get("k19") == b"19"


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = finish(start("serve", "--log", f"quorum:{tmp_path / 'data'}", "--port", str(port)))
    assert found.code == 1
    assert found.err.splitlines()[-1].startswith(f"eventdb: cannot serve on 127.0.0.1:{port}: ")
    assert "Traceback" not in found.err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--config", "maxclients"], "--config takes NAME=VALUE"),
        (["--log", "nowhere:x"], "no backend for nowhere:"),
        (["--config", "no-such-setting=1"], "no-such-setting"),
    ],
)
def test_serve_refuses_what_it_does_not_know(tmp_path: Path, options: list[str], text: str) -> None:
    found = finish(start("serve", "--port", str(free_port()), *options, cwd=tmp_path))
    assert found.code == 2
    assert found.err.splitlines()[-1].startswith("eventdb: ") and text in found.err
    assert "Traceback" not in found.err


def test_long_values_are_cut_unless_all_is_asked_for(tmp_path: Path) -> None:
    """Two values of 40 MB are no answer to where the cut is."""
    url = f"quorum:{tmp_path / 'log'}"
    with eventdb.open_sync(url) as database:
        database.execute("SET", "large", b"x" * 200_000)
        database.execute("RPUSH", "many", *(b"%d" % n for n in range(1000)))
    for command in (["log", "tail", "--log", url], ["restore", "--log", url, "--to-latest", "--dry-run"]):
        found = run(*command)
        assert found.code == 0 and len(found.out) < 2000, command
        assert "…(199,872 more bytes)" in found.out and "…(970 more arguments)" in found.out
        assert "x" * 200_000 in run(*command, "--full").out
    assert "x" * 200_000 in run("log", "tail", "--log", url, "--json").out, "what is for a program is whole"


def test_a_log_from_a_clock_that_was_ahead_is_told_when_a_time_is_asked_for(tmp_path: Path) -> None:
    day_ahead_ms = int(time.time() * 1000) + 86_400_000

    async def write() -> None:
        log = open_log(f"quorum:{tmp_path / 'log'}")
        scribe = await Scribe.claim(log)
        for at_ms in (START_MS, day_ahead_ms, day_ahead_ms):
            await scribe.write([set_transaction("key", str(at_ms))], at_ms)
        await scribe.writer.close()
        await log.close()

    asyncio.run(write())
    options = ["restore", "--log", f"quorum:{tmp_path / 'log'}", "--to-time", "now"]
    for found in (run(*options, "--dry-run"), run(*options, "--into", f"quorum:{tmp_path / 'copy'}")):
        assert found.code == 0
        assert "2 later transactions, up to offset 3" in found.out + found.err
        assert "ahead of this machine's clock" in found.err and "--to-offset is exact" in found.err
