"""Texts of errors: each stands in one file."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "eventdb"
# A code in capitals, a space, and a sentence: "ERR no such key". An f-string is known by its first part.
TEXT = re.compile(r"[A-Z]{3,12} \S.*[a-z]", re.DOTALL)


def texts_of(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and TEXT.fullmatch(node.value.rstrip(" '.")):
            found.add(node.value)
    return found


def test_no_error_text_is_written_in_two_files() -> None:
    """What two files use is in protocol/errors.py, so that it is changed once."""
    files: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if not {"backends", "replay"} & set(path.relative_to(PACKAGE).parts):
            for text in texts_of(ast.parse(path.read_text())):
                files.setdefault(text, []).append(str(path.relative_to(PACKAGE)))
    assert len(files) > 200  # else they are not found any more
    assert {text: where for text, where in files.items() if len(where) > 1} == {}
