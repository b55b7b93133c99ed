"""Places answer as a real Redis does, to the byte, the order of unsorted results included."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventdb.keyspace.types.geohash import LAT_MAX, Shape, decode, distance_m, encode
from tests.commands.test_differential_strings import cmd
from tests.kit.differential import Address, Expire, Step, compare, examples, sequences
from tests.kit.harness import Local

keys = st.sampled_from(["g", "h", "new", "list"])
conditions = st.lists(st.sampled_from(["NX", "XX", "CH", "ch", "GT"]), max_size=3)
stored_how = st.lists(st.sampled_from(["STOREDIST", "ASC"]), max_size=1)
members = st.sampled_from([f"m{n}" for n in range(12)])


def place_of(member: str, n: int, spread: str) -> tuple[float, float]:
    """Another place for each member, so that no two are equally far away: Redis's order of those is left open."""
    rng = random.Random(f"{member} {n} {spread}")
    if spread == "near":
        return 13 + rng.random(), 38 + rng.random()
    if spread == "pole":
        return rng.uniform(-180, 180), rng.choice((-1, 1)) * rng.uniform(80, 85.05)
    if spread == "date line":
        return rng.choice((-1, 1)) * rng.uniform(179, 180), rng.uniform(-10, 10)
    if spread == "edge":
        lon, lat = rng.uniform(-180, 180), rng.uniform(-85, 85)
        return rng.choice(((lon, 85.05112878), (lon, -85.05112878), (180, lat), (-180, lat)))
    return rng.uniform(-180, 180), rng.uniform(-85, 85)


spreads = st.sampled_from(["near", "near", "near", "far", "far", "pole", "date line", "edge"])
added = st.builds(lambda member, n, spread: (*place_of(member, n, spread), member), members, st.integers(0, 9), spreads)
wrong_numbers = st.sampled_from(["x", "", "nan", "inf", "-inf", 181, -180.1, 1e300, " 1"])
numbers = st.one_of(st.floats(-180, 180), st.integers(-90, 90), wrong_numbers)
sizes = st.one_of(
    st.sampled_from([0, 1, 10, 50.5, 200, 1000, 5000, 10000, 20000, 1e9, "inf", -1, "x", "-0", ""]), st.floats(0, 2000)
)
units = st.sampled_from(["m", "km", "km", "km", "KM", "mi", "FT", "x"])
places = st.one_of(st.builds(place_of, st.just("centre"), st.integers(0, 50), spreads), st.tuples(numbers, numbers))
common = st.one_of(
    st.sampled_from([("WITHDIST",), ("withhash",), ("WITHCOORD",), ("ASC",), ("DESC",), ("ANY",), ("x",), ("COUNT",)]),
    st.tuples(st.sampled_from(["COUNT", "count"]), st.sampled_from([1, 2, 5, 100, 0, -1, "x"])),
    st.tuples(st.just("COUNT"), st.integers(1, 5), st.just("ANY")),
)
radius = st.sampled_from(["GEORADIUS", "GEORADIUS_RO"])
stores = st.tuples(st.sampled_from(["STORE", "STOREDIST", "storedist"]), st.sampled_from(["new", "g", "list"]))
centre = st.one_of(cmd("FROMMEMBER", members), cmd("FROMLONLAT", places))
shape = st.one_of(cmd("BYRADIUS", sizes, units), cmd("BYBOX", sizes, sizes, units))
options = st.lists(common, max_size=3)
good = st.tuples(st.sampled_from([50, 200, 2000, 8000]), st.just("km"))
command: st.SearchStrategy[Step] = st.one_of(
    cmd("GEOADD", st.sampled_from(["g", "h"]), st.lists(added, min_size=1, max_size=12)),
    cmd("GEOADD", st.sampled_from(["g", "h"]), st.lists(added, min_size=1, max_size=12)),
    cmd("GEOADD", keys, conditions, st.lists(added, max_size=3)),
    cmd("GEOADD", keys, numbers, numbers, members),
    cmd("GEOPOS", keys, st.lists(members, max_size=3)),
    cmd("GEOHASH", keys, st.lists(members, max_size=3)),
    cmd("GEODIST", keys, members, members, st.lists(units, max_size=2)),
    cmd("GEOSEARCH", keys, centre, shape, options),
    cmd("GEOSEARCH", "g", centre, "BYRADIUS", good, options),
    cmd("GEOSEARCH", "g", "FROMLONLAT", places, "BYBOX", st.sampled_from([100, 3000]), good, options),
    cmd("GEOSEARCH", keys, st.lists(st.one_of(centre, shape, common, stores), max_size=5)),
    cmd("GEOSEARCHSTORE", keys, keys, centre, shape, options, st.lists(st.just("STOREDIST"), max_size=1)),
    cmd("GEOSEARCHSTORE", "new", "g", centre, "BYRADIUS", good, stored_how),
    cmd(radius, keys, places, sizes, units, options, st.lists(stores, max_size=1)),
    cmd("GEORADIUS", "g", places, good, options, st.lists(stores, max_size=1)),
    cmd(
        st.sampled_from(["GEORADIUSBYMEMBER", "georadiusbymember_ro"]), keys, members, sizes, units, options,
        st.lists(stores, max_size=2),
    ),
    cmd("GEORADIUSBYMEMBER", "g", members, good, st.lists(stores, max_size=1)),
    cmd("ZADD", "g", st.sampled_from([0, 1.5, -1, 3479099956230698, 4503599627370495, 2**52, 2**53]), members),
    cmd(st.sampled_from(["GEOADD", "GEOSEARCH", "GEORADIUS", "GEODIST", "GEOPOS", "GEOHASH", "GEOSEARCHSTORE"])),
)  # fmt: skip


@pytest.mark.redis
@examples(100)
@given(sequences(command, 25), st.booleans())
def test_places_answer_as_redis_does(redis_server: Address, steps: list[Step], resp3: bool) -> None:
    compare(redis_server, [("RPUSH", "list", "x"), *steps], resp3)


@pytest.mark.redis
@examples(20)
@given(sequences(st.one_of(command, st.sampled_from(["g", "h", "new"]).map(Expire)), 12))
def test_places_of_expired_keys_are_gone(redis_server: Address, steps: list[Step]) -> None:
    first: list[Step] = [("GEOADD", "g", 13, 38, "m1"), ("GEOADD", "new", 13, 38, "m1"), Expire("g"), Expire("new")]
    compare(redis_server, [*first, *steps])


@pytest.mark.redis
@examples(20)
@given(st.integers(0, 1000), spreads, st.booleans())
def test_searches_among_many_places_answer_as_redis_does(
    redis_server: Address, seed: int, spread: str, box: bool
) -> None:
    rng = random.Random(seed)
    steps: list[Step] = [
        ("GEOADD", "g", *place_of(f"m{n}", seed, rng.choice(("far", spread))), f"m{n}") for n in range(300)
    ]
    for n in range(20):
        size = rng.choice((1, 50, 300, 1500, 4000, 9000, 30000)) * rng.uniform(0.5, 2)
        around = place_of("centre", seed + n, spread)
        area = ("BYBOX", size, size * rng.uniform(0.1, 3)) if box else ("BYRADIUS", size)
        limit: tuple[str | int, ...] = rng.choice(
            ((), (), ("COUNT", 7), ("COUNT", 7, "ANY"), ("DESC",), ("COUNT", 3, "DESC"))
        )
        shown = rng.choice(((), ("WITHDIST",), ("WITHCOORD", "WITHHASH")))
        steps.append(("GEOSEARCH", "g", "FROMLONLAT", *around, *area, "km", *limit, *shown))
        steps.append(
            ("GEOSEARCHSTORE", "new", "g", "FROMLONLAT", *around, *area, "mi", *limit, *(("STOREDIST",) * (n % 2)))
        )
    compare(redis_server, steps)


def test_the_log_gets_scores_and_results() -> None:
    db = Local()
    assert db("GEOADD", "g", 13.361389, 38.115556, "p", 15.087269, 37.502669, "q") == 2
    assert db.events() == [[b"ZADD", b"g", b"3479099956230698", b"p", b"3479447370796909", b"q"]]
    assert db("GEOADD", "g", "XX", "CH", 13.361389, 38.115556, "p") == 0 and len(db.events()) == 1
    assert db("GEORADIUS", "g", 15, 37, 100, "km", "STORE", "new") == 1
    assert db.events()[1:] == [[b"ZADD", b"new", b"3479447370796909", b"q"]]
    assert db("GEOSEARCHSTORE", "new", "g", "FROMLONLAT", 0, 0, "BYRADIUS", 1, "m") == 0
    assert db.events()[2:] == [[b"DEL", b"new"]]
    db.raw("GEOSEARCH", "g", "FROMMEMBER", "p", "BYRADIUS", 1, "km")
    assert len(db.events()) == 3
    db.check_replay()


@given(st.floats(-180, 180), st.floats(-LAT_MAX, LAT_MAX))
def test_a_score_means_the_place_to_a_metre(lon: float, lat: float) -> None:
    assert distance_m(lon, lat, *decode(float(encode(lon, lat)))) < 1.0


@given(st.floats(-150, 150), st.floats(-60, 60), st.floats(0.1, 1500), st.integers(0, 2**32))
def test_the_ranges_hold_every_place_inside(lon: float, lat: float, radius: float, seed: int) -> None:
    shape = Shape()
    shape.lon, shape.lat, shape.radius, shape.unit_m = lon, lat, radius, 1000.0
    ranges = shape.ranges()
    rng = random.Random(seed)
    for _ in range(50):
        reach = radius / 100
        place = lon + rng.uniform(-reach, reach), max(min(lat + rng.uniform(-reach, reach), LAT_MAX), -LAT_MAX)
        score = float(encode(*place))
        if shape.distance_m(*decode(score)) >= 0:
            assert any(low <= score < high for low, high in ranges)
