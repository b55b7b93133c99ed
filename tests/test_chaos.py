"""Three real nodes and redis-py clients while nodes, network and storage fail: nothing acknowledged is lost or doubled.

EVENTDB_CHAOS_SECONDS sets how long (`make chaos` runs ten minutes), EVENTDB_SEED repeats the plan of a run.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.chaos.campaign import Campaign
from tests.chaos.cluster import Cluster
from tests.chaos.proxy import Loop
from tests.chaos.stage import Files

SECONDS = float(os.environ.get("EVENTDB_CHAOS_SECONDS", "60"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 300)
def test_chaos_on_quorum_files(tmp_path: Path) -> None:
    seed = int(os.environ.get("EVENTDB_SEED", str(random.randrange(2**32))))
    print(f"EVENTDB_SEED={seed}")
    stage = Files(tmp_path)
    try:
        with Loop() as loop, Cluster(loop, stage.url, tmp_path / "nodes") as cluster:
            campaign = Campaign(loop, cluster, stage, seed)
            campaign.run(SECONDS)
            print(campaign.summary())
    finally:
        stage.close()
