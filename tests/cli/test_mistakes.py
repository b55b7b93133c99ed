"""Operators' mistakes: each is one line on stderr that says what is wrong, with an exit code, never a traceback."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, free_port

pytestmark = pytest.mark.slow
# All in one process, because starting one takes longer than most mistakes. It prints code and stderr of each.
PROGRAM = """
import json, logging, os, sys
from typer.testing import CliRunner
from eventdb.cli.app import app
found = []
for argv in json.load(sys.stdin):
    os.environ.pop("EVENTDB_ENCRYPTION_KEYS", None)
    logging.getLogger().handlers.clear()  # of the command before, whose stderr is gone
    result = CliRunner().invoke(app, argv)
    crash = "" if result.exception is None or isinstance(result.exception, SystemExit) else repr(result.exception)
    found.append([result.exit_code, result.stderr, crash])
print(json.dumps(found))
"""
LOG = "quorum:D/new"
# The command line, D being a folder; its exit code; what the line says.
MISTAKES: list[tuple[str, int, str]] = [
    ("serve --port 0 --log quorum:D/file/x", 1, "Not a directory"),
    ("serve --port 0 --log quorum:/proc/x", 1, "No such file or directory"),
    ("serve --port 0 --log quorum:", 2, "names no directory"),
    ("serve --port 0 --log nosuch:x", 2, "no backend for nosuch"),
    ("serve --port 0 --log quorum:D/new?zones=x", 2, "zones"),
    ("serve --port 0 --log kafka://127.0.0.1:1/topic", 1, "127.0.0.1:1"),
    (f"serve --port TAKEN --log {LOG}", 1, "cannot serve on 127.0.0.1:TAKEN: Address already in use"),
    (f"serve --port 0 --host 203.0.113.7 --log {LOG}", 1, "cannot serve on 203.0.113.7:0: Cannot assign"),
    (f"serve --port 0 --host no.invalid --log {LOG}", 1, "cannot serve on no.invalid:0: "),
    (f"serve --port 0 --log {LOG} --config-file D/nothere", 2, "D/nothere: No such file or directory"),
    (f"serve --port 0 --log {LOG} --config-file D", 2, "D: Is a directory"),
    (f"serve --port 0 --log {LOG} --config-file D/binary", 2, "D/binary:1: "),
    (f"serve --port 0 --log {LOG} --config-file D/bad.conf", 2, "D/bad.conf:1: nonsense: there is no such setting"),
    (f"serve --port 0 --log {LOG} --config-file D/quotes.conf", 2, "D/quotes.conf:1: quotes that do not end"),
    (f"serve --port 0 --log {LOG} --config nosuch=1", 2, "there is no setting 'nosuch'"),
    (f"serve --port 0 --log {LOG} --config nosuch", 2, "--config takes NAME=VALUE"),
    (f"serve --port 0 --log {LOG} --nosuch", 2, "No such option: --nosuch"),
    (f"serve --port 0 --log {LOG} --encryption-keys file:D/nothere", 1, "D/nothere: No such file or directory"),
    (f"serve --port 0 --log {LOG} --encryption-keys file:D/key", 1, "D/key"),
    (f"serve --port 0 --log {LOG} --tls-port 7001 --tls-cert-file D/nothere", 2, "tls-cert-file: D/nothere: No such"),
    (f"serve --port 0 --log {LOG} --tls-port 7001 --tls-cert-file D/key --tls-key-file D/key", 2, "tls-"),
    (f"serve --port 0 --log {LOG} --config aclfile=D/nothere.acl", 2, "D/nothere.acl: No such file or directory"),
    (f"serve --port 0 --log {LOG} --config aclfile=D/bad.conf", 2, "D/bad.conf:1: should start with user keyword"),
    (f"serve --port 0 --log {LOG} --metrics-port TAKEN", 2, "metrics-port: cannot listen on 127.0.0.1:TAKEN: "),
    (f"serve --port 0 --log {LOG} --config traces-endpoint=here", 2, "traces-endpoint 'here' is no URL"),
    (f"serve --port 0 --log {LOG} --snapshot-store nosuch://x", 1, "nosuch://x"),
    ("restore --log quorum:D/nothere --to-offset 1 --into quorum:D/r", 1, "no log at quorum:D/nothere"),
    ("restore --log quorum:D/nothere --to-time yesterdayish --into quorum:D/r", 2, "is no time I can read"),
    ("import D/commands.aof --log quorum:D/good", 0, ""),  # no mistake: the next ones need a log
    ("export --rdb D/x.rdb --log quorum:D/nothere", 1, "no log at quorum:D/nothere"),
    ("export --rdb D/nodir/x.rdb --log quorum:D/good", 1, "D/nodir"),
    ("export --rdb /dev/full --log quorum:D/good", 1, "/dev/"),
    ("restore --log quorum:D/good --to-offset 999 --into quorum:D/r", 1, "999"),
    ("restore --log quorum:D/good --to-offset 1 --into quorum:D/file", 1, "Not a directory"),
    ("restore --log quorum:D/good --to-offset 1 --into quorum:D/good", 1, "quorum:D/good"),
    ("import D/commands.aof --log quorum:D/good", 1, "quorum:D/good"),
    ("snapshot create --log quorum:D/good --store D/file", 1, "D/file"),
    ("snapshot create --log quorum:D/good --store /proc/x", 1, "/proc/x"),
    ("snapshotter --log quorum:D/good --store nosuch://x", 2, "nosuch://x"),
    ("import D/nothere.rdb --log quorum:D/i", 1, "D/nothere.rdb"),
    ("import D/binary --log quorum:D/i", 1, "D/binary"),
    ("import redis://127.0.0.1:1 --log quorum:D/i", 1, "127.0.0.1:1"),
    ("snapshotter --log quorum:D/nothere --store D/s --every never", 2, "--every 'never' is no time"),
    ("snapshot create --log quorum:D/nothere --store D/s", 1, "no log at quorum:D/nothere"),
    ("snapshot list --store D/file", 1, "D/file"),
    ("log info --log quorum:D/nothere", 1, "no log at quorum:D/nothere"),
    ("log verify --log quorum:D/file", 1, "D/file"),
    ("log tail --log kafka://127.0.0.1:1/topic", 1, "127.0.0.1:1"),
    ("keys list --keys file:D/nothere", 1, "D/nothere"),
    ("keys list --keys file:D/bad.keys", 1, "D/bad.keys"),
    ("failover --node nonsense", 1, "'nonsense' is no address of a node"),
    ("failover --node 127.0.0.1:1", 1, "no node answers at 127.0.0.1:1"),
    ("status --port 1", 2, "no node answers at 127.0.0.1:1"),
    ("status --tls-ca-cert-file D/nothere", 2, "D/nothere"),
    ("status --tls-ca-cert-file D/key", 2, "D/key"),
    ("top --once --port 1", 2, "no node answers at 127.0.0.1:1"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("mistakes")
    (made / "file").touch()
    (made / "binary").write_bytes(b"\xff\xfe\x00")
    (made / "bad.conf").write_text("nonsense\n")
    (made / "quotes.conf").write_text('set "unbalanced\n')
    (made / "key").write_text("nonsense")
    (made / "commands.aof").write_bytes(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n")
    (made / "bad.keys").write_text("nonsense")
    (made / "bad.keys").chmod(0o600)
    return made


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> list[tuple[str, int, str, str]]:
    """(what the line should say, exit code, stderr, how it crashed) of each mistake."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = str(taken.getsockname()[1])

        def filled(text: str) -> str:
            return re.sub(r"\bD\b", str(folder), text).replace("TAKEN", port)

        asked = json.dumps([filled(words).split() for words, _, _ in MISTAKES])
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=ROOT, input=asked, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    return [
        (filled(text), code, shown, crash)
        for (_, _, text), (code, shown, crash) in zip(MISTAKES, json.loads(done.stdout), strict=True)
    ]


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[words for words, _, _ in MISTAKES])
def test_a_mistake_is_one_line_that_says_what_is_wrong(number: int, outcomes: list[tuple[str, int, str, str]]) -> None:
    expected, code, shown, crash = outcomes[number]
    assert not crash and "Traceback" not in shown, crash + shown
    assert expected in shown, shown
    assert code == MISTAKES[number][1], shown
    if code and "No such option" not in expected:  # which comes with a hint, in a frame
        lines = shown.splitlines()
        last = max(at for at, line in enumerate(lines) if line.startswith("eventdb: "))
        places = [line for line in lines[last + 1 :] if re.match(r"\S+:\d+: ", line)]  # in a file of settings
        assert sum(line.startswith("eventdb: ") for line in lines) == 1 and len(lines) == last + 1 + len(places), shown


def test_a_service_logs_one_line_an_event_as_text_or_as_json(tmp_path: Path) -> None:
    """The last word of a command that ends is such a line too."""
    for form, expected in (("json", True), ("text", False)):
        code = (
            "import logging\nfrom eventdb.cli import log_lines\n"
            f"log_lines.configure(log_lines.LogFormat('{form}'))\nlog = logging.getLogger('eventdb')\n"
            "log.warning('two\\nlines %s', 'é')\n"
            "try:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('a fault')\n"
            "from eventdb.cli import terminal\nterminal.fail('wrong:\\n  this')\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        lines = done.stderr.split("Traceback (most recent call last)\n")[0].splitlines()
        if expected:
            first, second, third = (json.loads(line) for line in lines[:3])
            assert first.keys() == {"time", "level", "logger", "message"}
            assert (first["level"], first["logger"], first["message"]) == ("warning", "eventdb", "two\nlines é")
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
            assert "ZeroDivisionError" in second["trace"] and third["message"] == "wrong: this"
        else:
            assert lines[0].endswith(" WARNING two\\nlines é")
            assert " ERROR a fault\\nTraceback" in lines[1] and lines[2] == "eventdb: wrong: this"
