"""The dashboard and the alert rules of docs/monitoring: every metric and label that they name exists, and is shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from eventdb.metrics.exposition import Family
from eventdb.server.measures import families
from tests.conftest import ROOT, free_port
from tests.kit.nodes import Nodes

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
FOLDER = ROOT / "docs" / "monitoring"
NAME = re.compile(r"\b(eventdb_\w+)")
SELECTOR = re.compile(r"\b(eventdb_\w+)\{([^}]*)\}")
BY = re.compile(r"\b(?:by|on) \(([^)]*)\)")
OF_PROMETHEUS = {"job", "instance", "le"}


def dashboard() -> list[str]:
    found = json.loads((FOLDER / "dashboard.json").read_text())
    queries = [each["query"] for each in found["templating"]["list"] if each["type"] == "query"]
    return queries + [target["expr"] for panel in found["panels"] for target in panel["targets"]]


def alerts() -> list[str]:
    return re.findall(r"^        expr: (.*)$", (FOLDER / "alerts.yaml").read_text(), re.M)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Family]:
    """Each name that a query may use, of a primary."""
    with Nodes(tmp_path_factory.mktemp("node"), metrics_port=str(free_port())) as nodes:
        server = nodes.start("a")
        found: dict[str, Family] = {}
        for family in families(server.node, [("zone-a", "up", "")]):
            ends = ("_bucket", "_count", "_sum") if family.kind == "histogram" else ("",)
            found.update({family.name + end: family for end in ends})
        return found


@pytest.mark.parametrize("queries", [dashboard(), alerts()], ids=["dashboard", "alerts"])
def test_every_metric_and_label_of_a_query_exists(queries: list[str], known: dict[str, Family]) -> None:
    assert len(queries) >= 14
    for query in queries:
        names = NAME.findall(query)
        assert names or "up{" in query, query
        assert set(names) <= known.keys(), query
        assert all(query.count(left) == query.count(right) for left, right in ("()", "{}", "[]")), query
        for name, matchers in SELECTOR.findall(query):
            used = set(re.findall(r"(\w+)=~?\"", matchers))
            assert used <= {*known[name].labels, *OF_PROMETHEUS}, query
        labels = {label for name in names for label in known[name].labels} | OF_PROMETHEUS
        for grouped in BY.findall(query):
            assert set(grouped.split(", ")) <= labels, query


def test_a_counter_is_shown_as_a_rate_and_nothing_else_is(known: dict[str, Family]) -> None:
    for query in dashboard() + alerts():
        for name in NAME.findall(query):
            grows = known[name].kind in ("counter", "histogram")
            assert grows == bool(re.search(rf"\b(rate|increase)\({name}\b", query)), query


def test_each_alert_says_how_bad_it_is_and_what_to_do() -> None:
    rules = (FOLDER / "alerts.yaml").read_text().split("      - alert: ")[1:]
    assert len(rules) == len(alerts()) == len({rule.split("\n")[0] for rule in rules})
    for rule in rules:
        assert re.search(r"\n        labels: \{severity: (critical|warning)\}\n", rule), rule
        assert re.search(r'\n          summary: ".+"\n          action: ".+"\n', rule), rule


def test_each_panel_has_a_place_of_its_own() -> None:
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_page_for_operators_names_only_metrics_that_exist(known: dict[str, Family]) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    assert "monitoring/dashboard.json" in page and "monitoring/alerts.yaml" in page
    stems = {family.name for family in known.values()} | known.keys()
    for name in NAME.findall(page):
        assert name in stems or name.startswith("eventdb_("), name


def test_the_files_are_there() -> None:
    assert {path.name for path in Path(FOLDER).iterdir()} == {"alerts.yaml", "dashboard.json"}
