"""The dashboard and the alert rules of docs/monitoring: every metric and label that they name exists, and is shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from eventdb.engine.registry import COMMANDS
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
    page = (ROOT / "docs" / "monitoring.md").read_text()
    for file in ("dashboard.json", "alerts.yaml", "prometheus.yaml"):
        assert f"monitoring/{file}" in page
    stems = {family.name for family in known.values()} | known.keys()
    for name in NAME.findall(page):
        assert name in stems or name.startswith("eventdb_("), name


def test_the_files_are_there() -> None:
    assert {path.name for path in Path(FOLDER).iterdir()} == {
        "alerts.yaml",
        "dashboard.json",
        "prometheus.yaml",
        "grafana",
    }
    assert {path.name for path in (FOLDER / "grafana").iterdir()} == {"dashboards.yaml", "datasource.yaml"}


def test_the_compose_stack_mounts_each_file_where_it_is_looked_for() -> None:
    """Grafana finds the folder that its provisioning names, and Prometheus the rules beside its configuration."""
    stack = (ROOT / "compose.yaml").read_text()
    mounts = dict(re.findall(r"- \./docs/(\S+):(/\S+):ro", stack))
    assert mounts["monitoring/prometheus.yaml"] == "/etc/prometheus/prometheus.yaml"
    assert mounts["monitoring/alerts.yaml"] == "/etc/prometheus/alerts.yaml"
    assert "rule_files:\n  - alerts.yaml\n" in (FOLDER / "prometheus.yaml").read_text()
    provider = (FOLDER / "grafana" / "dashboards.yaml").read_text()
    folder = re.search(r"path: (\S+)", provider)
    assert folder is not None and mounts["monitoring/dashboard.json"].startswith(f"{folder[1]}/")
    assert mounts["monitoring/grafana/dashboards.yaml"].startswith("/etc/grafana/provisioning/dashboards/")
    assert mounts["monitoring/grafana/datasource.yaml"].startswith("/etc/grafana/provisioning/datasources/")
    assert f"DASHBOARD_PATH: {mounts['monitoring/dashboard.json']}\n" in stack
    for path in mounts:
        assert (ROOT / "docs" / path).is_file(), path
    assert '--metrics-port, "9121"' in stack and "port: 9121\n" in (FOLDER / "prometheus.yaml").read_text()
    assert stack.count("aliases: [eventdb]") == 2 and "names: [eventdb]" in (FOLDER / "prometheus.yaml").read_text()


# The names that AWS documents for the namespace AWS/MemoryDB.
CLOUDWATCH = re.findall(
    r"\w+",
    """
ActiveDefragHits AuthenticationFailures BytesUsedForMemoryDB BytesReadFromDisk BytesWrittenToDisk
CommandAuthorizationFailures CurrConnections CurrItems DatabaseMemoryUsagePercentage DatabaseCapacityUsagePercentage
DB0AverageTTL EngineCPUUtilization Evictions IsPrimary KeyAuthorizationFailures KeyspaceHits KeyspaceMisses KeysTracked
MaxReplicationThroughput MemoryFragmentationRatio MultiRegionClusterReplicationLag NewConnections NumItemsReadFromDisk
NumItemsWrittenToDisk PrimaryLinkHealthStatus Reclaimed ReplicationBytes ReplicationDelayedWriteCommands ReplicationLag
SuccessfulWriteRequestLatency SuccessfulReadRequestLatency ErrorCount EvalBasedCmds GeoSpatialBasedCmds GetTypeCmds
HashBasedCmds HyperLogLogBasedCmds JsonBasedCmds KeyBasedCmds ListBasedCmds PubSubBasedCmds SearchBasedCmds
SearchBasedGetCmds SearchBasedSetCmds SearchNumberOfIndexes SearchNumberOfIndexedKeys SearchTotalIndexSize SetBasedCmds
SetTypeCmds SortedSetBasedCmds StringBasedCmds StreamBasedCmds
CPUUtilization FreeableMemory SwapUsage NetworkBytesIn NetworkBytesOut NetworkPacketsIn NetworkPacketsOut
""",
)


def test_every_metric_of_memorydb_has_one_of_ours_or_a_reason(known: dict[str, Family]) -> None:
    rows: dict[str, str] = {}
    for line in (ROOT / "docs" / "monitoring.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 2:
            rows.update(dict.fromkeys(re.findall(r"\b[A-Z]\w+", cells[0]), cells[1]))
    for name in CLOUDWATCH:
        assert name in rows, name
        ours = NAME.findall(rows[name])
        assert ours or rows[name].startswith("none: "), name
    groups = {each.group for each in COMMANDS.values()}
    row = rows["StringBasedCmds"].partition(":")[2]
    assert set(re.findall(r"`([a-z-]+)`", row)) <= groups
