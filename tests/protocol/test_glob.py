"""Glob patterns match what a real Redis matches, whatever the pattern."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventdb.protocol.glob import glob_match
from tests.kit.differential import Address, Pair, examples

patterns = st.text("ab-^[]*?\\\n", max_size=8)
names = st.text("ab-^[]*\\\n", max_size=6)


@pytest.mark.redis
@examples(150)
@given(st.lists(names, min_size=1, max_size=12, unique=True), st.lists(patterns, min_size=1, max_size=8))
def test_keys_finds_what_redis_finds(redis_server: Address, keys: list[str], globs: list[str]) -> None:
    with Pair(redis_server) as pair:
        pair("MSET", *[word for key in keys for word in (key, 1)])
        for glob in globs:
            pair("KEYS", glob)


def test_a_run_of_stars_is_one_star() -> None:
    start = time.perf_counter()
    assert not glob_match(b"*" * 50 + b"x", b"a" * 50)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("pattern", [b"a*" * 30 + b"b", b"*a" * 30 + b"*b"])
def test_a_hostile_pattern_does_not_stop_the_server(pattern: bytes) -> None:
    start = time.perf_counter()
    assert not glob_match(pattern, b"a" * 60)
    assert time.perf_counter() - start < 1


def test_case_is_ignored_when_asked_for() -> None:
    assert glob_match(b"MAX*[A-Z]", b"maxmemory", ignore_case=True)
    assert not glob_match(b"MAX*", b"maxmemory")
