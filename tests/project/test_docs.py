"""What the pages say is what the code does: generated pages are up to date, links lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from docs.generate import DOCS, PAGES

ROOT = Path(__file__).resolve().parents[2]
MARKDOWN = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("benchmarks/*.md")])
README_LINES_MAX = 150


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), f"docs/{name}: run `make docs`"


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    gone = [link for link in links if not link.startswith(("http:", "https:")) and not (page.parent / link).exists()]
    assert not gone, f"{page.name} links to {gone}"


def test_every_page_is_linked_from_readme() -> None:
    text = (ROOT / "README.md").read_text()
    missing = [page.name for page in DOCS.glob("*.md") if f"docs/{page.name}" not in text]
    assert not missing, f"README does not link {missing}"


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES_MAX


@pytest.mark.parametrize(
    "page", [page for page in MARKDOWN if page.parent.name != "benchmarks"], ids=lambda page: page.name
)
def test_ratios_to_redis_stand_in_the_benchmarks_alone(page: Path) -> None:
    """Figures that are copied go stale: a ratio is quoted by a link to the table."""
    quoted = re.findall(r"\d\.\d+ (?:of Redis|to \d\.\d+ of Redis)", page.read_text())
    assert not quoted or page.name == "CHANGELOG.md", f"{page.name} quotes {quoted}"


@pytest.mark.parametrize("file", ["Makefile", ".ci/run", "CONTRIBUTING.md", "docs/testing.md"])
def test_the_paths_of_tests_that_are_named_exist(file: str) -> None:
    """A target whose files have moved runs nothing."""
    named = re.findall(r"(?<![\w/])tests/[\w./*-]+", (ROOT / file).read_text())
    gone = [path for path in named if not list(ROOT.glob(path.rstrip(".")))]
    assert not gone, f"{file} names {gone}"


def test_what_the_pure_build_is_spared_is_never_compiled() -> None:
    """In `.ci/run`: the same sources have just been tested."""
    found = re.search(r"never_compiled=\((.*)\)", (ROOT / ".ci" / "run").read_text())
    assert found
    compiled = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")["hot_files"]()
    for room in found[1].split():
        assert (ROOT / "tests" / room).is_dir(), room
        assert not [name for name in compiled if name.startswith(f"eventdb/{room}/")], room


def claims() -> list[tuple[str, list[str]]]:
    """Of the threat model: each claim, and the tests that are said to hold it."""
    rows = re.findall(r"^\| (?!claim \|)([^|]+) \| ([^|]+) \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    return [(claim, re.findall(r"`(tests/[^`]+)`", held)) for claim, held in rows]


def test_every_claim_of_the_threat_model_is_held_by_a_test_that_exists() -> None:
    assert len(claims()) > 40
    for claim, held in claims():
        assert held, f"no test holds: {claim}"
        for name in held:
            path, _, function = name.partition("::")
            assert (ROOT / path).is_file() and function, f"{claim}: {name}"
            found = re.search(rf"^(async )?def {re.escape(function)}\(", (ROOT / path).read_text(), re.MULTILINE)
            assert found, f"{claim}: there is no {name}"
