"""The test suite's own guards: nothing is skipped in silence in CI, nothing hangs, no stale compiled file is tested."""

from __future__ import annotations

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SKIPPING = """
import time, pytest
def test_without_a_component(): pytest.skip("redis-server is not installed")
def test_for_another_reason(): pytest.skip("root may write everywhere")
@pytest.fixture
def broker(): pytest.skip("Kafka broker not found")
def test_with_a_missing_fixture(broker): pass
"""


def run_pytest(folder: Path, text: str, *options: str, **env: str) -> str:
    """Run pytest as the suite does, with its conftest, on one file; returns the report."""
    (folder / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder)]
    command += ["-p", "tests.conftest", "-p", "no:cacheprovider", *options, str(folder / "test_it.py")]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("EVENTDB_")}
    env = {**kept, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False).stdout


@pytest.mark.slow
def test_a_missing_component_fails_only_when_all_is_required(tmp_path: Path) -> None:
    assert "3 skipped" in run_pytest(tmp_path, SKIPPING)
    report = run_pytest(tmp_path, SKIPPING, EVENTDB_REQUIRE_ALL="1")
    assert "1 skipped" in report
    assert "FAILED" in report and "redis-server is not installed" in report
    assert "Kafka broker not found" in report


@pytest.mark.slow
def test_a_hanging_test_fails(tmp_path: Path) -> None:
    report = run_pytest(tmp_path, "import threading\ndef test_it(): threading.Event().wait()\n", "--timeout=0.5")
    assert "1 failed" in report and "Timeout" in report


def test_stale_compiled_files_are_seen_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")
    for name in ("setup.py", "eventdb/protocol/replies.py", *setup["C_FILES"], *setup["C_HEADERS"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    setup = runpy.run_path(str(tmp_path / "setup.py"), run_name="setup")
    compiled = tmp_path / "eventdb" / "resp.cpython-311-x86_64-linux-gnu.so"
    compiled.touch()
    assert not setup["is_current"](), "compiled files without a stamp"
    setup["STAMP"].parent.mkdir()
    setup["STAMP"].write_text(setup["source_hash"]())
    assert setup["is_current"]()
    with (tmp_path / "eventdb" / "protocol" / "replies.py").open("a") as file:
        file.write("\n")
    assert not setup["is_current"](), "a source was edited"
    assert setup["remove_compiled"]() == 1
    assert not compiled.exists()


def test_no_function_of_a_compiled_room_catches_different_errors_by_one_name() -> None:
    """mypyc gives a name one type in a function, that of the first handler: another error ends as a TypeError."""
    setup = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")
    for name in setup["hot_files"]():
        for function in ast.walk(ast.parse((ROOT / name).read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                caught: dict[str, set[str]] = {}
                for node in ast.walk(function):
                    if isinstance(node, ast.ExceptHandler) and node.name and node.type is not None:
                        caught.setdefault(node.name, set()).add(ast.unparse(node.type))
                assert all(len(types) == 1 for types in caught.values()), f"{name}: {function.name}: {caught}"
