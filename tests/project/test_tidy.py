"""Style that a machine can check: which room imports which, sizes, names, and words kept out of public text."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 75  # a screen
ROOMS = ("backends", "replay", "eventdb")  # an import points to the same room or to one before it
# The rooms of eventdb/, in order: an import may only point to the left, those for type checking too. Files at the top
# of the package stand after all of them.
HOUSE = (
    "backends", "replay", "protocol", "metrics", "cluster", "security", "keyspace", "pipeline", "rdb", "engine",
    "history", "scripting", "node", "commands", "server", "cli",
)  # fmt: skip
BANNED_FILES = {"utils.py", "util.py", "common.py", "base.py", "helpers.py", "helper.py", "misc.py"}
# Words that sell, and words that belong to the making of the project and not to the project.
BANNED_WORDS = (
    r"blazing(ly)?", r"seamless(ly)?", r"game.chang\w+", r"cutting.edge", r"state.of.the.art", r"revolutionary",
    r"leverag(e|es|ing)", r"delve", r"robust(ly|ness)?", r"effortless(ly)?", r"simply put", r"world.class",
    r"as an ai", r"language model", r"chatgpt", r"copilot", r"prompt engineering",
)  # fmt: skip
BANNED = re.compile(r"\b(" + "|".join(BANNED_WORDS) + r")\b", re.IGNORECASE)
HOST_PATHS = re.compile(r"(?<![\w.])/(work|root)/[a-z.]")


def public_files() -> list[Path]:
    """Every file git would publish: known to it, or new and not ignored. Links are left out."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        names = done.stdout.splitlines()
    except OSError:
        names = []
    if not names:  # an unpacked archive
        folders = ("eventdb", "backends", "replay", "tests", "benchmarks")
        names = [str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py")]
    paths = (ROOT / name for name in sorted(set(names)))
    return [path for path in paths if path.is_file() and not path.is_symlink()]


FILES = public_files()
PYTHON = [path for path in FILES if path.suffix == ".py"]
SOURCES = [path for path in PYTHON if path.relative_to(ROOT).parts[0] in ROOMS]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported_names(tree: ast.AST) -> list[str]:
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "eventdb":
            found += [f"eventdb.{alias.name}" for alias in node.names if alias.name != "__version__"]
        elif isinstance(node, ast.ImportFrom):
            found.append("." * node.level + (node.module or ""))
    return found


def room_of(module: str) -> str | None:
    """The room an imported module lies in, None for one of another project."""
    parts = module.split(".")
    if parts[0] != "eventdb":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS[:2] else "eventdb"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_point_from_eventdb_to_replay_to_backends(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    for module in imported_names(tree_of(path)):
        assert not module.startswith("."), f"{name(path)}: relative import {module}"
        assert module.split(".")[0] not in ROOMS[:2], f"{name(path)}: import {module} as eventdb.{module}"
        target = room_of(module)
        if target is not None:
            assert ROOMS.index(target) <= ROOMS.index(room), f"{name(path)}: {room} must not import {module}"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "eventdb" else ("eventdb", *parts)).removesuffix(".__init__")


def imported_modules(tree: ast.AST, known: set[str]) -> set[str]:
    """The files that are imported: of `from package import name` the submodule, where there is one of that name."""
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return found


def house_room(module: str) -> int:
    """The place in HOUSE of a module of eventdb; past its end for a file at the top, -1 for another project's."""
    parts = module.split(".")
    if parts[0] != "eventdb":
        return -1
    return HOUSE.index(parts[1]) if len(parts) > 1 and parts[1] in HOUSE else len(HOUSE)


@pytest.mark.parametrize("path", [path for path in SOURCES if path.relative_to(ROOT).parts[0] == "eventdb"], ids=name)
def test_rooms_import_only_from_rooms_before_them(path: Path) -> None:
    own = house_room(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module in imported_names(tree_of(path)):
        assert house_room(module) <= own, f"{name(path)} must not import {module}"


def is_command_module(module: str) -> bool:
    """True for a module that registers commands, and so not for what they share."""
    parts = module.split(".")
    return parts[:2] == ["eventdb", "commands"] and len(parts) > 2 and parts[2] != "shared"


@pytest.mark.parametrize("path", [path for path in SOURCES if "commands" in path.relative_to(ROOT).parts], ids=name)
def test_command_modules_import_no_sibling(path: Path) -> None:
    """What two of them need is in eventdb/commands/shared/, which imports none of them either."""
    for module in imported_names(tree_of(path)):
        assert not is_command_module(module), f"{name(path)} imports {module}: move what both need to commands/shared/"


def test_every_folder_of_the_package_is_a_room() -> None:
    found = [path.relative_to(ROOT).parts for path in SOURCES]
    assert {parts[1] for parts in found if parts[0] == "eventdb" and len(parts) > 2} <= set(HOUSE)


def test_no_two_files_import_each_other() -> None:
    """Circles of any length, those that exist only for type checking too."""
    trees = {module_name(path): tree_of(path) for path in SOURCES}
    graph = {module: imported_modules(tree, set(trees)) - {module} for module, tree in trees.items()}
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module in done or module not in graph:
            return
        for each in graph[module]:
            walk(each, (*trail, module))
        done.add(module)

    for module in graph:
        walk(module, ())


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_files_and_functions_fit(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= FILE_LINES_MAX, f"{name(path)} is longer than {FILE_LINES_MAX} lines: split it"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{name(path)}:{node.lineno} {node.name} has {lines} lines"


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_every_file_says_what_it_is_for(path: Path) -> None:
    assert path.name not in BANNED_FILES, f"{name(path)}: name a file after the one thing it owns"
    assert ast.get_docstring(tree_of(path)), f"{name(path)} has no docstring"


def test_public_text_keeps_to_plain_words() -> None:
    found = []
    for path in FILES:
        if path == Path(__file__).resolve() or path.name == "LICENSE":
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            found += [f"{name(path)}:{number}: {word[0]}" for word in BANNED.finditer(line)]
            found += [f"{name(path)}:{number}: {word[0]}…, a path of one machine" for word in HOST_PATHS.finditer(line)]
    assert not found, "\n".join(found)


def test_requirements_name_no_host_and_pin_every_file() -> None:
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text()
        assert "://" not in text and "--index" not in text, f"{path.name} names a host"
        pins = re.findall(r"^[a-z0-9][\w.-]*==\S+ \\\n    --hash=sha256:", text, re.M)
        assert len(pins) == len(re.findall(r"^[a-z0-9]", text, re.M)), f"{path.name}: a pin without a hash"


def test_every_compiled_file_exists() -> None:
    setup = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")
    for pattern in setup["HOT_ROOMS"]:
        assert list(ROOT.glob(pattern)), f"setup.py lists {pattern}, and there is no such file"
    for file in setup["hot_files"]():
        assert (ROOT / file).is_file()


def test_the_links_make_two_top_folders_part_of_the_package() -> None:
    for room in ROOMS[:2]:
        link = ROOT / "eventdb" / room
        assert link.is_symlink() and link.readlink() == Path("..") / room


def test_architecture_names_every_room_and_no_file_that_is_gone() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = {path.parent.name for path in (ROOT / "eventdb").glob("*/__init__.py")}
    for room in rooms - set(ROOMS[:2]):
        assert f"| `eventdb/{room}/` |" in text, f"ARCHITECTURE's table of rooms leaves out eventdb/{room}/"
    files = {path.name for path in PYTHON} | {path.name for path in FILES}
    for file in re.findall(r"`(?:[\w/]+/)?(\w+\.(?:py|c))`", text):
        assert file in files, f"ARCHITECTURE names {file}, and there is no such file"
    for path in re.findall(r"`((?:eventdb|backends|replay|tests)/[\w/]+(?:\.\w+)?/?)`", text):
        assert (ROOT / path).exists(), f"ARCHITECTURE names {path}, and there is no such place"
