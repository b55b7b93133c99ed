"""What gets installed: one top-level name, whole, from a wheel, an sdist or an editable tree, compiled or not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("eventdb", "backends", "replay")
FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
UNDER_TEST = "import eventdb, eventdb.backends, eventdb.replay, eventdb.commands.data.strings; "

# A project whose own packages are called as two folders of eventdb's repository are.
DJANGO_PROJECT = {
    "manage.py": """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
""",
    "site_settings.py": 'SECRET_KEY = "x"\nINSTALLED_APPS = ["backends", "replay"]\nUSE_TZ = True\n',
    "backends/__init__.py": 'OWNER = "the project"\n',
    "replay/__init__.py": 'OWNER = "the project"\n',
    "replay/management/__init__.py": "",
    "replay/management/commands/__init__.py": "",
    "replay/management/commands/embed.py": """
import asyncio
import backends, replay
import eventdb, eventdb.backends, eventdb.replay
from django.core.management.base import BaseCommand

async def embed():
    async with eventdb.open("memory:") as db:
        await db.execute("SET", "k", "v")
        return await db.execute("GET", "k")

class Command(BaseCommand):
    def handle(self, *args, **options):
        assert backends.OWNER == replay.OWNER == "the project"
        assert eventdb.backends is not backends and eventdb.replay is not replay
        self.stdout.write(repr(asyncio.run(embed())))
""",
}


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Run a command to its end; returns what it printed. Nothing of this test's own environment leaks into it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "EVENTDB_"))}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env={**kept, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def make_tree(folder: Path) -> Path:
    """A clean copy of what a clone has, links included, so that a build leaves no trace in the real tree."""
    folder.mkdir()
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    for room in FOLDERS:
        shutil.copytree(ROOT / room, folder / room, symlinks=True, ignore=ignore)
    for file in FILES:
        shutil.copy(ROOT / file, folder / file)
    return folder


def build(tree: Path, kind: str, **env: str) -> Path:
    """Build a wheel or an sdist with the tools of this environment."""
    out = tree.parent / f"{kind}-{env.get('EVENTDB_COMPILE', 'auto')}"
    run(sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", out, tree, cwd=tree.parent, **env)
    return next(out.iterdir())


def make_venv(folder: Path) -> Path:
    """A new environment that sees this one's dependencies, but not its eventdb (.pth files are not followed twice)."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def install(python: Path, *what: str | Path, **env: str) -> None:
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index")
    run(*pip, "--no-build-isolation", *what, cwd=python.parent, **env)


@pytest.fixture(scope="module")
def pure_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, as an installer without wheels at hand would."""
    folder = tmp_path_factory.mktemp("pure")
    sdist = build(make_tree(folder / "tree"), "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return build(folder / sdist.name.removesuffix(".tar.gz"), "wheel", EVENTDB_COMPILE="0")


def sources() -> set[str]:
    """The package's files as they are to be installed."""
    names = {"eventdb/" + str(path.relative_to(ROOT / "eventdb")) for path in (ROOT / "eventdb").rglob("*.py")}
    for room in FOLDERS[1:]:
        names |= {f"eventdb/{path.relative_to(ROOT)}" for path in (ROOT / room).rglob("*.py")}
    names |= {f"eventdb/scripting/{path.name}" for path in (ROOT / "eventdb" / "scripting").glob("*.lua")}
    names |= {"eventdb/py.typed", "eventdb/commands/server/arguments.json"}
    names |= {f"eventdb/engine/plain_{part}.h" for part in ("values", "ranks", "parts")}
    for module in ("eventdb/backends/quorum/zone_loop", "eventdb/engine/plain_run"):
        names |= {f"{module}.c", f"{module}.pyi"}
    return names


def test_wheel_holds_every_source_and_only_the_name_eventdb(pure_wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(pure_wheel).namelist() if ".dist-info/" not in name}
    assert names == sources()
    assert pure_wheel.name.endswith("-py3-none-any.whl")


def test_a_django_project_with_backends_and_replay_of_its_own_embeds_eventdb(pure_wheel: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name, text in DJANGO_PROJECT.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    python = make_venv(tmp_path / "venv")
    install(python, pure_wheel)
    assert run(python, "manage.py", "embed", cwd=project).strip() == "b'v'"
    assert "serve" in run(python.parent / "eventdb", "--help", cwd=tmp_path)


def test_editable_install_runs_the_tree_and_claims_only_the_name_eventdb(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    python = make_venv(tmp_path / "venv")
    install(python, "-e", tree, EVENTDB_COMPILE="0")
    where = run(python, "-c", UNDER_TEST + "print(eventdb.replay.__file__)", cwd=tmp_path)
    assert where.strip() == str(tree / "eventdb" / "replay" / "__init__.py")
    look = "import importlib.util as u; print([u.find_spec(n) for n in ('backends', 'replay', 'tests', 'setup')])"
    assert run(python, "-c", look, cwd=tmp_path).strip() == "[None, None, None, None]"


def test_compiled_wheel_holds_the_same_sources_and_only_the_name_eventdb(tmp_path: Path) -> None:
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("no C compiler")
    tree = make_tree(tmp_path / "tree")
    # Three modules, one of them behind a link, are packed as all are, and compile in seconds.
    few = 'HOT_ROOMS = ("eventdb/protocol/replies.py", "eventdb/protocol/glob.py", "eventdb/replay/transaction.py")\n'
    text = re.sub(r"^HOT_ROOMS = \(.*?^\)\n", few, (tree / "setup.py").read_text(), flags=re.M | re.S)
    assert few in text
    (tree / "setup.py").write_text(text)
    wheel = build(tree, "wheel", EVENTDB_COMPILE="1", EVENTDB_OPT_LEVEL="0")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    compiled = {name for name in names if name.endswith(".so")}
    assert names - compiled == sources()
    assert len(compiled) == 5 + (sys.platform == "linux"), "three modules, their library, plain_run.c, and zone_loop.c"
    assert {name.split("/")[0] for name in compiled} == {"eventdb"}
    python = make_venv(tmp_path / "venv")
    install(python, wheel)
    look = UNDER_TEST + "import eventdb.replay.transaction as t; print(t.__file__.endswith('.so'))"
    assert run(python, "-c", look, cwd=tmp_path).strip() == "True"


def test_without_a_compiler_the_build_is_pure_and_says_so(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    env = {"CC": "/no/such/compiler", "PATH": os.environ["PATH"]}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pure Python build: no C compiler" in done.stderr
    assert not list(tree.rglob("*.so"))
    env["EVENTDB_COMPILE"] = "1"
    done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
