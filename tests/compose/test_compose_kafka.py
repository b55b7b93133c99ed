"""The stack that a plain `docker compose up` starts: three brokers in racks, one primary, four replicas."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.engine import Engine
from tests.compose.stack import Load, Stack, lost, offset_of

pytestmark = [pytest.mark.timeout(1800), pytest.mark.kafka]  # the first test waits for images and builds

# Of a broker: longer than a node or another broker takes to have asked for its name, which is gone with it, many times.
# Whoever waits for those answers cannot find the next leader.
DEAD_S = 12.0


@pytest.fixture(scope="module")
def stack(engine: Engine, compose: list[str | Path], images: dict[str, str]) -> Iterator[Stack]:
    stack = Stack(engine, compose, "kafka", images)
    stack.down()
    try:
        stack.up(replica=4)
        yield stack
    finally:
        stack.down()


def check_same_everywhere(stack: Stack, load: Load) -> None:
    """Nothing acknowledged is lost, and all nodes come to the same state."""
    with stack.primary().client() as client:
        assert lost(client, load) == []
        client.set("mark", "1")
        written, digest = offset_of(client), client.execute_command("EVENTDB.DIGEST")
    for node in stack.nodes():
        with node.client() as client:
            assert int(client.execute_command("EVENTDB.WAITFOR", written, 10000)) >= written
            assert client.execute_command("EVENTDB.DIGEST") == digest, node.name


def test_four_replicas_follow_through_kafka(stack: Stack) -> None:
    assert stack.primary().service == "primary", "the one with the fixed port starts first"
    assert len(stack.nodes()) == 5
    with Load(stack) as load:
        load.wait_for_more(200)
    check_same_everywhere(stack, load)


def test_a_killed_primary_is_followed_by_another_and_nothing_is_lost(stack: Stack) -> None:
    killed = stack.primary()
    with Load(stack) as load:
        load.wait_for_more(200)
        stack.kill(killed.name)
        load.wait_for_more(200)
    print(f"primary killed: writes stopped for {load.longest_gap():.2f} s")
    stack.start(killed.name)
    check_same_everywhere(stack, load)


@pytest.mark.parametrize("letter", "abc")
def test_writes_resume_when_a_broker_is_killed(stack: Stack, letter: str) -> None:
    broker = next(one["Name"] for one in stack.containers() if one["Service"] == f"kafka-{letter}")
    with Load(stack) as load:
        load.wait_for_more(200)
        stack.kill(broker)
        load.wait_for_more(200)
        time.sleep(DEAD_S)
        stack.start(broker)
        load.wait_for_more(200)
    print(f"{broker} killed: writes stopped for {load.longest_gap():.2f} s")
    assert load.longest_gap() < DEAD_S, "whoever waits for a name waits longer"
    check_same_everywhere(stack, load)
