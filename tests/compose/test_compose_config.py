"""compose.yaml is valid in every profile and keeps its promises, engine or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventdb.backends.kafka.broker_timing import BROKER_TIMING
from tests.compose.engine import ROOT, Engine, run
from tests.compose.stack import Stack

pytestmark = pytest.mark.timeout(1800)  # Compose may have to be built first

SERVICES = {
    "kafka": {"kafka-a", "kafka-b", "kafka-c", "primary", "replica", "snapshotter"},
    "files": {"files-primary", "files-replica", "files-snapshotter"},
    "monitoring": {"prometheus", "grafana"},
}


def services(compose: list[str | Path], profile: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = Stack(Engine(own=False), compose, profile, {}).config()["services"]
    return found


@pytest.mark.parametrize("profile", SERVICES)
def test_every_profile_is_valid_and_starts_its_services_alone(compose: list[str | Path], profile: str) -> None:
    assert set(services(compose, profile)) == SERVICES[profile]


def test_a_plain_up_is_the_kafka_stack(compose: list[str | Path]) -> None:
    assert set(run(*compose, "config", "--services", cwd=ROOT).split()) == SERVICES["kafka"]


@pytest.mark.parametrize("profile", SERVICES)
def test_every_container_is_confined_limited_and_watched(compose: list[str | Path], profile: str) -> None:
    for name, service in services(compose, profile).items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}, name
        assert service["healthcheck"] and "container_name" not in service, name
        for port in service.get("ports", ()):
            assert port["host_ip"] == "127.0.0.1", f"{name} is published to the world"


def test_replicas_scale_and_only_nodes_meet_clients(compose: list[str | Path]) -> None:
    kafka = services(compose, "kafka")
    for name in ("primary", "replica"):
        assert set(kafka[name]["networks"]) == {"clients", "log"}
    for letter in "abc":
        broker = kafka[f"kafka-{letter}"]
        assert set(broker["networks"]) == {"log"} and "ports" not in broker
        assert broker["environment"]["KAFKA_BROKER_RACK"] == letter
    for found in (kafka["replica"], services(compose, "files")["files-replica"]):
        assert "published" not in found["ports"][0], "a second replica could not have the same port"


def test_prometheus_finds_every_node_by_one_name_and_nothing_else(compose: list[str | Path]) -> None:
    found = services(compose, "kafka") | services(compose, "files") | services(compose, "monitoring")
    named = set()
    for name, each in found.items():
        joined = each["networks"].get("clients") or {}
        if "eventdb" in joined.get("aliases", ()):
            named.add(name)
    assert named == {"primary", "replica", "files-primary", "files-replica"}
    for name in named:
        assert "9121" in found[name]["command"] and all(port["target"] == 6379 for port in found[name]["ports"])


def test_the_brokers_replace_a_dead_one_as_fast_as_those_of_eventdb_dev_kafka(compose: list[str | Path]) -> None:
    broker = services(compose, "kafka")["kafka-b"]
    assert set(broker["dns_opt"]) == {"timeout:1", "attempts:1"}, "a dead broker's name must not hold the others up"
    environment = broker["environment"]
    for name, value in BROKER_TIMING.items():
        assert environment.get("KAFKA_" + name.replace(".", "_").upper()) == value, name
