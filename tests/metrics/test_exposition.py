"""Metrics as text: spreads are cumulative, labels are escaped; a distribution keeps Prometheus's bounds."""

from __future__ import annotations

import pytest

from eventdb.metrics.distribution import Distribution
from eventdb.metrics.exposition import Family, render

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")


def test_a_value_that_equals_a_bound_is_below_it() -> None:
    found = Distribution((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        found.add(value)
    assert found.counts == [2, 2, 1] and found.total == 7.5


def test_the_text_is_what_prometheus_reads() -> None:
    spread = Distribution((0.5, 1.0))
    spread.add(0.75)
    spread.add(9)
    unknown_sum = Family("histogram", "u", "Of which the sum is not known.", ("command",))
    unknown_sum.spreads.append((["get"], [("1e-06", 3.0), ("+Inf", 4.0)], None))
    text = render(
        [
            Family("counter", "c_total", "Grows.", ("name",)).add(3, 'say "hi"\n\\'),
            Family("gauge", "g", "Goes up and down.").add(True),
            Family("histogram", "h", "Is spread.").spread(spread),
            unknown_sum,
            Family("gauge", "none", "Has no samples."),
        ]
    ).decode()
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        r'c_total{name="say \"hi\"\n\\"} 3.0',
        "g 1.0",
        'h_bucket{le="0.5"} 0.0',
        'h_bucket{le="1"} 1.0',
        'h_bucket{le="+Inf"} 2.0',
        "h_count 2.0",
        "h_sum 9.75",
        'u_bucket{command="get",le="1e-06"} 3.0',
        'u_bucket{command="get",le="+Inf"} 4.0',
    ]
    assert "# HELP c_total Grows.\n# TYPE c_total counter\n" in text
