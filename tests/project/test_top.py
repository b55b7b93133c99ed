"""What stands at the top of the repository, and that no test or benchmark leaves more there."""

from __future__ import annotations

import ast
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP = {
    "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "Dockerfile", "LICENSE", "Makefile", "NOTICE", "README.md",
    "SECURITY.md", "backends", "benchmarks", "compose.yaml", "docs", "eventdb", "pyproject.toml", "replay",
    "requirements", "setup.py", "tests",
}  # fmt: skip
STARTS = [
    path
    for folder in ("tests", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if '"redis-server"' in path.read_text()
]


def test_the_top_holds_what_belongs_there_and_nothing_else() -> None:
    """A server that is started there leaves its dump.rdb. What .gitignore names, and what begins with a dot, may be."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found >= TOP
    assert not {name for name in found - TOP if not any(fnmatch(name, pattern) for pattern in ignored)}


@pytest.mark.parametrize("path", STARTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_redis_server_is_started_in_a_folder_of_its_own(path: Path) -> None:
    """It writes into the folder it is started in, whatever it is told later."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    started = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "Popen"]
    without = [call.lineno for call in started if not any(word.arg == "cwd" for word in call.keywords)]
    assert not without, f"{path}: lines {without} start a process in the folder that the tests are run from"


def test_files_that_start_a_redis_server_are_found() -> None:
    assert {"conftest.py", "servers.py", "make_rdb.py"} <= {path.name for path in STARTS}
