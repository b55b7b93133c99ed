"""Every backend keeps the log contract: the shipped suite, on each of them."""

import uuid
from collections.abc import Callable
from pathlib import Path

from eventdb.backends import Log, open_log
from eventdb.backends.conformance import LogConformance
from eventdb.backends.quorum import QuorumLog


class TestMemory(LogConformance):
    def fresh(self, tmp_path: Path) -> Callable[[], Log]:
        url = f"memory:{uuid.uuid4().hex}"
        self.keep = open_log(url)
        return lambda: open_log(url)


class TestQuorumThreeZones(LogConformance):
    def fresh(self, tmp_path: Path) -> Callable[[], Log]:
        return lambda: open_log(f"quorum:{tmp_path}/log")


class TestQuorumOneZone(LogConformance):
    def fresh(self, tmp_path: Path) -> Callable[[], Log]:
        return lambda: open_log(f"quorum:{tmp_path}/log?zones=1")


class TestQuorumFiveListedZones(LogConformance):
    def fresh(self, tmp_path: Path) -> Callable[[], Log]:
        where = ",".join(f"{tmp_path}/{name}" for name in "abcde")
        return lambda: open_log(f"quorum:{where}")


class TestQuorumSmallSegmentsAndFragments(LogConformance):
    """Many segments, most records in fragments, segments that begin inside a record."""

    def fresh(self, tmp_path: Path) -> Callable[[], Log]:
        return lambda: QuorumLog(f"quorum:{tmp_path}/log", segment_bytes=20_000, payload_bytes_max=1500)
