"""Times as people write them: read without guessing, or refused with a text that says what to write."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventdb.replay.times import BadMoment, format_ms, parse_moment

NOW_MS = 1_769_868_300_123  # 2026-01-31T14:05:00.123Z
NOON_MS = 1_769_860_800_000  # 2026-01-31T12:00:00Z

READ = [
    ("2026-01-31T12:00:00Z", NOON_MS),
    ("2026-01-31T12:00:00+00:00", NOON_MS),
    ("2026-01-31T13:00:00+01:00", NOON_MS),
    ("2026-01-31 07:00:00-05:00", NOON_MS),
    ("2026-01-31T12:00Z", NOON_MS),
    ("20260131T120000Z", NOON_MS),
    ("2026-01-31T12:00:00.5Z", NOON_MS + 500),
    ("2026-01-31T12:00:00.123999Z", NOON_MS + 123),
    ("  2026-01-31T12:00:00z ", NOON_MS),
    ("1769860800", NOON_MS),
    ("1769860800.25", NOON_MS + 250),
    ("1769860800.0019", NOON_MS + 1),
    ("1769860800.", NOON_MS),
    ("now", NOW_MS),
    ("yesterday", NOW_MS - 86_400_000),
    ("Yesterday", NOW_MS - 86_400_000),
    ("10 minutes ago", NOW_MS - 600_000),
    ("10m ago", NOW_MS - 600_000),
    ("10 min ago", NOW_MS - 600_000),
    ("a minute ago", NOW_MS - 60_000),
    ("an hour ago", NOW_MS - 3_600_000),
    ("one day ago", NOW_MS - 86_400_000),
    ("2 hours ago", NOW_MS - 7_200_000),
    ("1.5 hours ago", NOW_MS - 5_400_000),
    ("1 hour 30 minutes ago", NOW_MS - 5_400_000),
    ("1 hour, 30 minutes and 5 seconds ago", NOW_MS - 5_405_000),
    ("1h30m ago", NOW_MS - 5_400_000),
    ("90s ago", NOW_MS - 90_000),
    ("250 ms ago", NOW_MS - 250),
    ("3 days ago", NOW_MS - 3 * 86_400_000),
    ("2 weeks ago", NOW_MS - 14 * 86_400_000),
    ("0 seconds ago", NOW_MS),
]


@pytest.mark.parametrize(("text", "expected"), READ)
def test_a_time_means_one_millisecond(text: str, expected: int) -> None:
    assert parse_moment(text, NOW_MS) == expected


FORMS = '2026-01-31T14:05:00Z, 2026-01-31T15:05:00+01:00, 1769868300 (Unix seconds) or "10 minutes ago"'
REFUSED = [
    ("", f"an empty time; write {FORMS}"),
    ("   ", f"an empty time; write {FORMS}"),
    ("tomorrow", f"'tomorrow' is no time I can read; write {FORMS}"),
    ("12:00", f"'12:00' is no time I can read; write {FORMS}"),
    (
        "2026-01-31T12:00:00",
        "'2026-01-31T12:00:00' has no time zone: add Z for UTC or an offset, such as 2026-01-31T12:00:00Z or"
        " 2026-01-31T12:00:00+01:00",
    ),
    (
        "2026-01-31",
        "'2026-01-31' has no time zone: add Z for UTC or an offset, such as 2026-01-31T00:00:00Z or"
        " 2026-01-31T00:00:00+01:00",
    ),
    (
        "2026-02-30T12:00:00Z",
        f"'2026-02-30T12:00:00Z' is no ISO 8601 time (day is out of range for month); write {FORMS}",
    ),
    ("1969-12-31T23:59:59Z", "'1969-12-31T23:59:59Z' lies before 1970"),
    ("2026", f"'2026' as Unix seconds lies before 1973-03-03; for a date write {FORMS}"),
    ("20260131", f"'20260131' as Unix seconds lies before 1973-03-03; for a date write {FORMS}"),
    ("-5", f"'-5' as Unix seconds lies before 1973-03-03; for a date write {FORMS}"),
    (
        "1769860800000",
        "'1769860800000' looks like milliseconds; Unix time is taken in seconds: 1769860800.000",
    ),
    ("a month ago", "'a month ago': 'month' has no fixed length here; use seconds, minutes, hours, days or weeks"),
    ("2 years ago", "'2 years ago': 'years' has no fixed length here; use seconds, minutes, hours, days or weeks"),
    ("ten minutes ago", '\'ten minutes ago\': I read "10 minutes ago" or "1 hour 30 minutes ago", not this'),
    (" ago", f"' ago' is no time I can read; write {FORMS}"),
    ("-5 minutes ago", '\'-5 minutes ago\': I read "10 minutes ago" or "1 hour 30 minutes ago", not this'),
    ("9" * 25, f"'{'9' * 25}' is no ISO 8601 time (month must be in 1..12); write {FORMS}"),
    ("9999 weeks ago", "'9999 weeks ago' lies before 1970"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_could_mean_two_things_is_refused_with_a_text_that_helps(text: str, message: str) -> None:
    with pytest.raises(BadMoment) as caught:
        parse_moment(text, NOW_MS)
    assert str(caught.value) == message


@given(st.integers(min_value=1, max_value=4_000_000_000_000))
def test_a_time_we_print_reads_back_as_itself(time_ms: int) -> None:
    assert parse_moment(format_ms(time_ms), NOW_MS) == time_ms


@given(st.text(max_size=30))
def test_no_text_does_more_than_refuse(text: str) -> None:
    with contextlib.suppress(BadMoment):
        assert parse_moment(text, NOW_MS) >= 0


@given(st.datetimes(min_value=datetime(1973, 4, 1), max_value=datetime(2200, 1, 1)))
def test_iso_and_unix_seconds_agree(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    whole = int(aware.replace(microsecond=0).timestamp())
    seconds = f"{whole}.{moment.microsecond:06d}"
    assert parse_moment(aware.isoformat(), NOW_MS) == parse_moment(seconds, NOW_MS)


def test_a_log_without_transactions_was_never_written() -> None:
    assert format_ms(0) == "never"
    assert format_ms(2**63) == f"{2**63} ms"
    assert format_ms(-62_135_596_800_000) == "0001-01-01T00:00:00.000Z"
    assert format_ms(-62_135_596_800_001) == "-62135596800001 ms"  # a recovery window of 999999d begins there
    assert format_ms(NOW_MS) == "2026-01-31T14:05:00.123Z"
