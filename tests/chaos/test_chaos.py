"""Three real nodes and redis-py clients while nodes, network and storage fail: nothing acknowledged is lost or doubled.

EVENTDB_CHAOS_SECONDS sets how long (`make chaos` runs ten minutes), EVENTDB_SEED repeats the plan of a run.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from pathlib import Path

import pytest

from eventdb.cli.dev.brokers import NoKafka
from tests.chaos.campaign import Campaign
from tests.chaos.cluster import Cluster
from tests.chaos.kafka_stage import Kafka
from tests.chaos.proxy import Loop
from tests.chaos.stage import Files, Stage

SECONDS = float(os.environ.get("EVENTDB_CHAOS_SECONDS", "45"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(SECONDS * 2 + 300),
    # redis-py's asyncio connections that time out while they connect are left to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def campaign(loop: asyncio.AbstractEventLoop, stage: Stage, folder: Path) -> None:
    seed = int(os.environ.get("EVENTDB_SEED", str(random.randrange(2**32))))
    print(f"EVENTDB_SEED={seed}")
    try:
        with Cluster(loop, stage.url, folder) as cluster:
            one = Campaign(loop, cluster, stage, seed)
            one.run(SECONDS)
            print(one.summary())
    finally:
        stage.close()
        gc.collect()


def test_chaos_on_quorum_files(tmp_path: Path) -> None:
    with Loop() as loop:
        campaign(loop, Files(tmp_path), tmp_path / "nodes")


@pytest.mark.kafka
def test_chaos_on_kafka(tmp_path: Path) -> None:
    with Loop() as loop:
        try:
            stage = Kafka(loop, tmp_path)
        except NoKafka as error:
            pytest.skip(f"{error}; or: make kafka")
        campaign(loop, stage, tmp_path / "nodes")
