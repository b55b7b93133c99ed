"""The time of records: a clock that leaps for a moment leaves no trace, one that stays away is followed, and told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from eventdb.engine import engine as engine_module
from eventdb.pipeline import record_clock
from eventdb.pipeline.record_clock import SETTLE_S, RecordClock

DAY_S = 86_400.0
COMPILED = not str(engine_module.__file__).endswith(".py")
pytestmark = pytest.mark.skipif(COMPILED, reason="a compiled module keeps the clock it was made with")


class Hands:
    """Both clocks of a machine, set by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.monotonic = 1_700_000_000.0, 50.0
        self.newest_ms = 0
        monkeypatch.setattr(record_clock, "time", SimpleNamespace(time=lambda: self.wall))
        self.clock = RecordClock(lambda: self.monotonic)

    def after(self, seconds: float, step_s: float = 0.0) -> int:
        """Let time pass, the wall clock stepping meanwhile; the time of a record made then, which is the newest."""
        self.monotonic += seconds
        self.wall += seconds + step_s
        self.newest_ms = self.clock.now_ms(self.newest_ms)
        return self.newest_ms


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    return Hands(monkeypatch)


def test_it_is_the_wall_clock(hands: Hands) -> None:
    for _ in range(100):
        assert hands.after(0.37, step_s=0.01) == int(hands.wall * 1000)


def test_a_second_of_a_clock_that_is_a_day_ahead_leaves_no_trace(
    hands: Hands, caplog: pytest.LogCaptureFixture
) -> None:
    right = hands.after(1)
    assert hands.after(1, step_s=DAY_S) == right + 1000
    assert hands.after(1, step_s=-DAY_S) == right + 2000 == int(hands.wall * 1000)
    assert len(caplog.records) == 2 and "has stepped by +86400.0 s" in caplog.text and "no effect" in caplog.text


def test_a_step_that_lasts_is_followed(hands: Hands, caplog: pytest.LogCaptureFixture) -> None:
    hands.after(1, step_s=DAY_S)
    assert hands.after(SETTLE_S - 1) < (hands.wall - DAY_S / 2) * 1000
    assert hands.after(2) == int(hands.wall * 1000)
    assert hands.after(5) == int(hands.wall * 1000) and len(caplog.records) == 2


def test_times_never_go_back_and_a_clock_that_is_behind_is_reported_once(
    hands: Hands, caplog: pytest.LogCaptureFixture
) -> None:
    hands.newest_ms = int((hands.wall + DAY_S) * 1000)
    newest = hands.newest_ms
    assert [hands.after(1) for _ in range(5)] == [newest] * 5
    assert len(caplog.records) == 1 and "86399.0 s behind the newest record" in caplog.text
    assert "--to-offset" in caplog.text
    assert hands.after(DAY_S + 10) == int(hands.wall * 1000) > newest
