"""What is registered by name: backends run the conformance suite, events say what they do."""

from __future__ import annotations

import ast
import re
import tomllib
from importlib import import_module
from pathlib import Path

from eventdb.backends import keyrings, registry
from eventdb.keyspace.events import EVENTS

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {"memory": "memory:", "quorum": "quorum:data", "kafka": "kafka://localhost/t"}  # a URL of each


def conformance_classes() -> dict[str, str]:
    """The classes that run the shipped suite, with the text of what makes their log."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "tests" / "backends").glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "LogConformance" for base in node.bases):
                found[node.name] = ast.unparse(node)
    return found


def test_every_backend_of_the_package_is_held_to_the_log_contract() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        registered = tomllib.load(file)["project"]["entry-points"][registry.GROUP]
    assert registered.keys() == EXAMPLES.keys() == registry._BUILT_IN.keys()
    classes = conformance_classes()
    for scheme, place in registered.items():
        module, _, function = place.partition(":")
        made = type(getattr(import_module(module), function)(EXAMPLES[scheme]))
        text = rf"\b{scheme}:|\b{made.__name__}\("
        assert any(re.search(text, body) for body in classes.values()), (
            f"no class of tests/backends/ runs LogConformance on {scheme}:"
        )


def test_the_key_providers_of_the_package_are_found_installed_or_not() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        registered = tomllib.load(file)["project"]["entry-points"][keyrings.GROUP]
    assert registered == {scheme: ":".join(place) for scheme, place in keyrings._BUILT_IN.items()}
    for scheme in registered:
        assert isinstance(keyrings.wrapping(f"{scheme}:alias/example"), keyrings.Wrapping)


def test_every_event_says_what_it_does() -> None:
    """In the docstring of what applies it: its name, its arguments, then what changes."""
    said: dict[str, str] = {}
    for path in sorted((ROOT / "eventdb" / "keyspace").rglob("*.py")):
        module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "event":
                    named = call.args[0]
                    name = getattr(module, named.id) if isinstance(named, ast.Name) else ast.literal_eval(named)
                    said[name.decode()] = ast.get_docstring(node) or ""
    said["SET"] = "SET"  # registered by a call, so that compiled callers reach the function itself
    assert said.keys() == {name.decode() for name in EVENTS}
    assert not [name for name, text in said.items() if not re.match(rf"{re.escape(name)}\b", text)]
