"""Two claims at once in one zone: the lower one is outbid at whatever moment the higher one comes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eventdb.backends.quorum import promise as promises
from eventdb.backends.quorum.files import FileOps


class RivalOps(FileOps):
    """Before the first call of this name, somebody else promises a higher epoch; and takes it back, or not."""

    def __init__(self, zone: str, call: str, withdraws: bool) -> None:
        self.zone = zone
        self.call = call
        self.withdraws = withdraws

    def _meet(self, call: str) -> None:
        if call != self.call:
            return
        self.call = ""
        made = promises.make(FileOps(), self.zone, 2)
        if self.withdraws:
            os.unlink(made.path)

    def listdir(self, path: str) -> list[str]:
        names = super().listdir(path)
        self._meet("after listdir")
        return names

    def stat(self, path: str) -> os.stat_result:
        if promises.DIRECTORY in os.path.dirname(path):
            self._meet("stat")
        return super().stat(path)


@pytest.mark.parametrize("withdraws", [False, True])
@pytest.mark.parametrize("call", ["after listdir", "stat"])
def test_a_promise_that_a_higher_claim_took_is_outbid(tmp_path: Path, call: str, withdraws: bool) -> None:
    """It counted as an error of the disk: of three nodes that started at once on a new log one gave up."""
    zone = str(tmp_path)
    with pytest.raises(promises.Outbid):
        promises.make(RivalOps(zone, call, withdraws), zone, 1)
    assert promises.epochs(FileOps(), zone) == ([] if withdraws else [2])


def test_a_withdrawal_does_not_mind_that_a_higher_claim_was_faster(tmp_path: Path) -> None:
    zone = str(tmp_path)
    held = promises.make(FileOps(), zone, 2)

    class Ops(FileOps):
        def unlink(self, path: str) -> None:
            super().unlink(path)
            super().unlink(path)

    with pytest.raises(promises.Outbid, match="epoch 2"):
        promises.make(Ops(), zone, 1)
    assert held.holds(FileOps())
