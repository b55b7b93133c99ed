"""`.ci/tested`: who gets a second chance in CI, and that it is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FAILS_ONCE = """
import pathlib
def test_{name}():
    seen = pathlib.Path("seen-{name}")
    first = not seen.exists()
    seen.touch()
    assert not first
"""
FAILS = "def test_it():\n    assert False\n"
PASSES = "def test_it():\n    pass\n"


def run(folder: Path, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run it in a project of these tests, whose `make` only runs them."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (folder / "Makefile").write_text(f"test:\n\t{sys.executable} -m pytest -q $(PYTEST_ARGS)\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "MAKE", "CI"))}
    command = [str(ROOT / ".ci" / "tested"), "test", "tests"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("files", "passes", "flaky"),
    [
        ({"tests/cli/test_a.py": PASSES}, True, 0),
        ({"tests/cli/test_a.py": FAILS_ONCE.format(name="a"), "tests/cli/test_b.py": PASSES}, True, 1),
        ({"tests/cli/test_a.py": FAILS}, False, 0),
        ({"tests/cli/test_a.py": "import nothing_of_that_name"}, False, 0),
        ({"tests/backends/test_a.py": FAILS_ONCE.format(name="a")}, False, 0),
        ({"tests/cli/test_a.py": "".join(FAILS_ONCE.format(name=name) for name in "abcd")}, False, 0),
        ({"tests/cli/test_a.py": "import os\n\ndef test_it():\n    os._exit(3)\n"}, False, 0),
    ],
    ids=["passes", "flaky", "fails", "cannot be collected", "of the log", "too many", "dies"],
)
def test_a_failure_may_be_forgiven_once(tmp_path: Path, files: dict[str, str], passes: bool, flaky: int) -> None:
    done = run(tmp_path, files)
    assert (done.returncode == 0) is passes, done.stdout + done.stderr
    assert done.stdout.count("FLAKY: ") == flaky, done.stdout
