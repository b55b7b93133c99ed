"""A real Prometheus reads the files of docs/monitoring, scrapes real nodes, and its rules fire when they should."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import redis

from tests.conftest import free_port, wait_until
from tests.kit.nodes import Nodes
from tests.kit.prometheus import FOLDER, configuration, promtool, running
from tests.server.test_monitoring_files import alerts, dashboard

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
ON = 'instance="n",job="eventdb"'
PRIMARY = {f"eventdb_lease_valid{{{ON}}}": "1x120"}
WELL = {  # a node with nothing to complain about
    f"up{{{ON}}}": "1x120",
    **PRIMARY,
    f'eventdb_role{{role="stuck",{ON}}}': "0x120",
    f"eventdb_pending_oldest_seconds{{{ON}}}": "0x120",
    f'eventdb_zone_up{{zone="a",{ON}}}': "1x120",
    f'eventdb_zone_up{{zone="b",{ON}}}': "1x120",
    f'eventdb_zone_up{{zone="c",{ON}}}': "1x120",
    f"eventdb_replicas{{{ON}}}": "1x120",
    f"eventdb_epoch{{{ON}}}": "3x120",
    f"eventdb_replication_lag_seconds{{{ON}}}": "0x120",
    f'eventdb_commit_duration_seconds_bucket{{le="0.01",{ON}}}': "0+100x120",
    f'eventdb_commit_duration_seconds_bucket{{le="1",{ON}}}': "0+100x120",
    f'eventdb_commit_duration_seconds_bucket{{le="+Inf",{ON}}}': "0+100x120",
    f'eventdb_memory_bytes{{what="used",{ON}}}': "50x120",
    f"eventdb_memory_limit_bytes{{{ON}}}": "100x120",
    f"eventdb_connections{{{ON}}}": "1x120",
    f"eventdb_connections_limit{{{ON}}}": "100x120",
    f"eventdb_connections_rejected_total{{{ON}}}": "0x120",
    f'eventdb_engine_cpu_seconds_total{{mode="user",{ON}}}': "0+6x120",
    f"eventdb_authentication_failures_total{{{ON}}}": "0+1x120",
    f'eventdb_zone_write_seconds_total{{zone="a",{ON}}}': "0+1x120",
    f'eventdb_zone_writes_total{{zone="a",{ON}}}': "0+1000x120",
    f"eventdb_snapshot_age_seconds{{{ON}}}": "0+60x120",
    f"eventdb_snapshot_lag_transactions{{{ON}}}": "0+9x120",
    f"eventdb_snapshot_verified_time_seconds{{{ON}}}": "1x120",
    f"eventdb_snapshot_failed{{{ON}}}": "0x120",
}
# What is wrong (a step is a minute): the series that differ, and the alerts that come of it.
WRONG: list[tuple[dict[str, str], list[str]]] = [
    ({}, []),
    ({f"up{{{ON}}}": "0x120"}, ["EventdbNodeDown"]),
    ({f"eventdb_lease_valid{{{ON}}}": "0x120"}, ["EventdbNoPrimary"]),
    ({f'eventdb_role{{role="stuck",{ON}}}': "1x120"}, ["EventdbStuck"]),
    ({f"eventdb_pending_oldest_seconds{{{ON}}}": "0+1x120"}, ["EventdbWritesWait"]),
    ({f'eventdb_zone_up{{zone="b",{ON}}}': "0x120"}, ["EventdbOneLossFromStopping", "EventdbZoneDown"]),
    ({f"eventdb_replicas{{{ON}}}": "0x120"}, ["EventdbNoReplica"]),
    ({f"eventdb_epoch{{{ON}}}": "0+1x120"}, ["EventdbManyFailovers"]),
    ({f"eventdb_replication_lag_seconds{{{ON}}}": "6x120"}, ["EventdbReplicaBehind"]),
    ({f'eventdb_commit_duration_seconds_bucket{{le="0.01",{ON}}}': "0+90x120"}, ["EventdbCommitSlow"]),
    ({f'eventdb_memory_bytes{{what="used",{ON}}}': "95x120"}, ["EventdbMemoryNearLimit"]),
    ({f"eventdb_connections{{{ON}}}": "95x120"}, ["EventdbConnectionsNearLimit"]),
    ({f"eventdb_connections_rejected_total{{{ON}}}": "0+1x120"}, ["EventdbConnectionsRefused"]),
    ({f'eventdb_engine_cpu_seconds_total{{mode="user",{ON}}}': "0+58x120"}, ["EventdbEngineBusy"]),
    ({f"eventdb_authentication_failures_total{{{ON}}}": "0+60x120"}, ["EventdbLoginsRefused"]),
    ({f'eventdb_zone_write_seconds_total{{zone="a",{ON}}}': "0+200x120"}, ["EventdbZoneSlow"]),
    ({f"eventdb_snapshot_age_seconds{{{ON}}}": "90000x120"}, ["EventdbSnapshotOld"]),
    ({f"eventdb_snapshot_verified_time_seconds{{{ON}}}": "0x120"}, ["EventdbNoSnapshot"]),
    ({f"eventdb_snapshot_failed{{{ON}}}": "1x120"}, ["EventdbSnapshotFailed"]),
]


def test_prometheus_accepts_the_configuration_and_the_rules(tmp_path: Path) -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "rules", FOLDER / "alerts.yaml")
    promtool("check", "config", FOLDER / "prometheus.yaml")
    promtool("check", "config", configuration(tmp_path, [9121]))


def test_every_rule_fires_when_it_should_and_no_other_does(tmp_path: Path) -> None:
    """JSON is YAML, so promtool reads it."""
    tests = []
    for differs, fired in WRONG:
        assert differs.keys() <= WELL.keys(), "a series that no rule looks at"
        expected = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(fired)]
        question = {
            "expr": 'sort(count by (alertname) (ALERTS{alertstate="firing"}))',
            "eval_time": "100m",
            "exp_samples": expected,
        }
        series = [{"series": name, "values": values} for name, values in (WELL | differs).items()]
        tests.append({"name": str(fired), "interval": "1m", "input_series": series, "promql_expr_test": [question]})
    assert {name for _, fired in WRONG for name in fired} == set(
        re.findall(r"- alert: (\w+)", (FOLDER / "alerts.yaml").read_text())
    ), "a rule has no case"
    file = tmp_path / "cases.yaml"
    file.write_text(json.dumps({"rule_files": [str(FOLDER / "alerts.yaml")], "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", file)


def query_of(panel: str) -> str:
    filled = panel.replace("$job", "eventdb").replace("$instance", ".*").replace("$__rate_interval", "5s")
    return filled


@pytest.mark.slow
def test_a_real_prometheus_scrapes_nodes_and_answers_every_query_of_the_dashboard(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    with Nodes(tmp_path, metrics_port=str(ports[0]), snapshot_store=str(tmp_path / "store")) as nodes:
        primary = nodes.start("a", {"latency-tracking": "yes"})
        replica = nodes.start("b", {"metrics-port": str(ports[1])}, follow_only=True)
        with running(tmp_path, ports) as prometheus, redis.Redis(port=primary.port) as client:
            wait_until(lambda: len(prometheus.ask("eventdb_build_info")) == 2, 30, "both are scraped")
            assert {found["labels"]["job"] for found in prometheus.get("/api/v1/targets")["activeTargets"]} == {
                "eventdb"
            }
            seen: set[str] = set()
            # Nothing expires, fails or is refused here, no limit is set and no snapshot made: these find nothing.
            silent = re.compile(
                r"limit_bytes|replayed|errors_total|authorization_failures|_snapshot_age|histogram_quantile|_peak_"
            )
            panels = [query for query in dashboard() if not query.startswith("label_values")]

            def answered() -> bool:
                client.set("k", "v")
                client.get("k")
                seen.update(query for query in panels if query not in seen and prometheus.ask(query_of(query)))
                return all(query in seen or silent.search(query) for query in panels)

            wait_until(answered, 30, "every query finds something")
            assert prometheus.get("/api/v1/rules")["groups"][0]["rules"][0]["name"] == "EventdbNodeDown"
            nodes.stop(replica)
            wait_until(
                lambda: bool(prometheus.ask('ALERTS{alertname="EventdbNodeDown",alertstate="pending"}')),
                30,
                "it is noticed that a node is gone",
            )
