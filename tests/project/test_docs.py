"""What the pages say is what the code does: generated pages are up to date, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.generate import DOCS, PAGES

ROOT = Path(__file__).resolve().parents[2]
MARKDOWN = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("benchmarks/*.md")])
README_LINES_MAX = 170


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
