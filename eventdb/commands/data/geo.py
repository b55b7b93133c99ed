"""Places in sorted sets. Source: redis src/geo.c, src/commands/*.json (group geo)."""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.lookups import zset_to_read
from eventdb.commands.shared.zset_changes import add_members, store_scores
from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.keyspace.types.geohash import (
    LAT_MAX,
    LON_MAX,
    Shape,
    bits_of,
    decode,
    distance_m,
    encode,
    geohash_text,
    latitude,
    longitude,
)
from eventdb.keyspace.types.zset import ZSetValue
from eventdb.protocol.errors import COUNT_TOO_SMALL, ReplyError, syntax_error
from eventdb.protocol.numbers import parse_float, parse_int
from eventdb.protocol.replies import EMPTY_ARRAY, array, bulk, integer, null, null_array

UNITS: Final[dict[bytes, float]] = {b"M": 1.0, b"KM": 1000.0, b"FT": 0.3048, b"MI": 1609.34}

# How a search is asked for.
RADIUS: Final = 0  # GEORADIUS
MEMBER: Final = 1  # GEORADIUSBYMEMBER
SEARCH: Final = 2  # GEOSEARCH
SEARCH_STORE: Final = 3  # GEOSEARCHSTORE

WITHDIST: Final = 1
WITHHASH: Final = 2
WITHCOORD: Final = 4
SHOWN: Final[dict[bytes, int]] = {b"WITHDIST": WITHDIST, b"WITHHASH": WITHHASH, b"WITHCOORD": WITHCOORD}

SEARCH_COMPLEXITY: Final = "O(N+log(M)) for M members, of which N are in the cells that cover the shape"


def parse_place(argv: list[bytes], at: int) -> tuple[float, float]:
    lon, lat = parse_float(argv[at]), parse_float(argv[at + 1])
    if not (-LON_MAX <= lon <= LON_MAX and -LAT_MAX <= lat <= LAT_MAX):
        raise ReplyError(f"ERR invalid longitude,latitude pair {lon:f},{lat:f}")
    return lon, lat


def parse_unit(text: bytes) -> float:
    """Metres in a unit."""
    unit = UNITS.get(text.upper())
    if unit is None:
        raise ReplyError("ERR unsupported unit provided. please use M, KM, FT, MI")
    return unit


def coordinate(degrees: float, resp3: bool) -> bytes:
    text = (b"%.17f" % degrees).rstrip(b"0").rstrip(b".")
    if text == b"-0":
        text = b"0"
    return b",%b\r\n" % text if resp3 else bulk(text)


def place_reply(place: tuple[float, float], resp3: bool) -> bytes:
    return array([coordinate(place[0], resp3), coordinate(place[1], resp3)])


def distance_reply(distance: float) -> bytes:
    return bulk(b"%.4f" % distance)


@command(
    "GEOADD", arity=-5, flags="write denyoom", keys=(1, 1, 1), acl="geo", group="geo", since="3.2.0",
    complexity="O(log(N)) for each place, among N", summary="Adds places to a sorted set, or moves them.",
)  # fmt: skip
def geoadd(client: Client, argv: list[bytes]) -> bytes:
    """It is a ZADD whose scores are places."""
    at = 2
    while at < len(argv) and argv[at].upper() in (b"NX", b"XX", b"CH"):
        at += 1
    options = argv[2:at]
    words = [option.upper() for option in options]
    if at == len(argv) or (len(argv) - at) % 3 or (b"NX" in words and b"XX" in words):
        raise syntax_error()
    words_of_zadd = [b"ZADD", argv[1], *options]
    for i in range(at, len(argv), 3):
        words_of_zadd += [b"%d" % encode(*parse_place(argv, i)), argv[i + 2]]
    return add_members(client, words_of_zadd, 0)


@command(
    "GEOPOS", arity=-2, flags="readonly", keys=(1, 1, 1), acl="geo", group="geo", since="3.2.0",
    complexity="O(1) for each member", summary="Returns longitude and latitude of members.",
)  # fmt: skip
def geopos(client: Client, argv: list[bytes]) -> bytes:
    value = zset_to_read(client, argv[1])
    found: list[bytes] = []
    for i in range(2, len(argv)):
        score = None if value is None else value.scores.get(argv[i])
        found.append(null_array(client.resp3) if score is None else place_reply(decode(score), client.resp3))
    return array(found)


@command(
    "GEOHASH", arity=-2, flags="readonly", keys=(1, 1, 1), acl="geo", group="geo", since="3.2.0",
    complexity="O(1) for each member", summary="Returns the geohashes of members, as other programs write them.",
)  # fmt: skip
def geohash(client: Client, argv: list[bytes]) -> bytes:
    value = zset_to_read(client, argv[1])
    found: list[bytes] = []
    for i in range(2, len(argv)):
        score = None if value is None else value.scores.get(argv[i])
        found.append(null(client.resp3) if score is None else bulk(geohash_text(score)))
    return array(found)


@command(
    "GEODIST", arity=-4, flags="readonly", keys=(1, 1, 1), acl="geo", group="geo", since="3.2.0",
    summary="Returns how far apart two members are.",
)  # fmt: skip
def geodist(client: Client, argv: list[bytes]) -> bytes:
    unit = 1.0
    if len(argv) == 5:
        unit = parse_unit(argv[4])
    elif len(argv) > 5:
        raise syntax_error()
    value = zset_to_read(client, argv[1])
    if value is None:
        return null(client.resp3)
    one, other = value.scores.get(argv[2]), value.scores.get(argv[3])
    if one is None or other is None:
        return null(client.resp3)
    return distance_reply(distance_m(*decode(one), *decode(other)) / unit)


# -- searching


class Found:
    """A member inside the shape."""

    def __init__(self, member: bytes, score: float, place: tuple[float, float], distance: float) -> None:
        self.member = member
        self.score = score
        self.place = place
        self.distance = distance  # in the unit of the search


class Search:
    """A GEOSEARCH or one of its kin, as its arguments say it. Raises ReplyError where Redis does."""

    def __init__(self, client: Client, argv: list[bytes], kind: int, may_store: bool) -> None:
        self.argv = argv
        self.kind = kind
        self.may_store = may_store  # STORE and STOREDIST of the older commands
        self.value = zset_to_read(client, argv[2 if kind == SEARCH_STORE else 1])
        self.shape = Shape()
        self.shown = 0
        self.order = 0  # 1 ascending, -1 descending
        self.count = 0  # 0: all
        self.any = False
        self.store_key = argv[1] if kind == SEARCH_STORE else None
        self.store_distance = False
        self.from_member = self.from_place = self.by_radius = self.by_box = False
        self._parse()
        if self.count and not self.any and not self.order:
            self.order = 1

    def _parse(self) -> None:
        argv, shape = self.argv, self.shape
        at = 2 if self.kind == SEARCH else 3
        if self.kind == RADIUS:
            at = 6
            shape.lon, shape.lat = parse_place(argv, 2)
            self._read_radius(4)
        elif self.kind == MEMBER:
            at = 5
            if self.value is not None:
                self._read_member(argv[2])
                self._read_radius(3)
        while at < len(argv):
            at += self._option(argv[at].upper(), at, len(argv) - at - 1)
        self._check()

    def _option(self, word: bytes, at: int, left: int) -> int:
        """Read the option at argv[at], after which `left` arguments come; returns how many it has taken."""
        argv = self.argv
        if word in SHOWN:
            self.shown |= SHOWN[word]
        elif word == b"ANY":
            self.any = True
        elif word in (b"ASC", b"DESC"):
            self.order = 1 if word == b"ASC" else -1
        elif word == b"COUNT" and left > 0:
            self.count = parse_int(argv[at + 1])
            if self.count <= 0:
                raise ReplyError(COUNT_TOO_SMALL)
            return 2
        elif self.may_store and left > 0 and word in (b"STORE", b"STOREDIST"):
            self.store_key = argv[at + 1]
            self.store_distance = word == b"STOREDIST"
            return 2
        elif self.kind >= SEARCH:
            return self._search_option(word, at, left)
        else:
            raise syntax_error()
        return 1

    def _search_option(self, word: bytes, at: int, left: int) -> int:
        """One of GEOSEARCH alone."""
        shape = self.shape
        if word == b"FROMMEMBER" and left > 0 and not self.from_place:
            if self.value is not None:
                self._read_member(self.argv[at + 1])
            self.from_member = True
            return 2
        if word == b"FROMLONLAT" and left > 1 and not self.from_member:
            shape.lon, shape.lat = parse_place(self.argv, at + 1)
            self.from_place = True
            return 3
        if word == b"BYRADIUS" and left > 1 and not self.by_box:
            self._read_radius(at + 1)
            self.by_radius = True
            return 3
        if word == b"BYBOX" and left > 2 and not self.by_radius:
            self._read_box(at + 1)
            self.by_box = True
            return 4
        if word == b"STOREDIST" and self.kind == SEARCH_STORE:
            self.store_distance = True
            return 1
        raise syntax_error()

    def _read_member(self, member: bytes) -> None:
        assert self.value is not None
        score = self.value.scores.get(member)
        if score is None:
            raise ReplyError("ERR could not decode requested zset member")
        self.shape.lon, self.shape.lat = decode(score)

    def _read_radius(self, at: int) -> None:
        radius = parse_float(self.argv[at], "ERR need numeric radius")
        if radius < 0:
            raise ReplyError("ERR radius cannot be negative")
        self.shape.unit_m = parse_unit(self.argv[at + 1])
        self.shape.radius = radius

    def _read_box(self, at: int) -> None:
        shape = self.shape
        width = parse_float(self.argv[at], "ERR need numeric width")
        height = parse_float(self.argv[at + 1], "ERR need numeric height")
        if width < 0 or height < 0:
            raise ReplyError("ERR height or width cannot be negative")
        shape.unit_m = parse_unit(self.argv[at + 2])
        shape.is_box, shape.width, shape.height = True, width, height

    def _check(self) -> None:
        """What all arguments together must be."""
        if self.store_key is not None and self.shown:
            name = "GEOSEARCHSTORE" if self.kind == SEARCH_STORE else "STORE option in GEORADIUS"
            raise ReplyError(f"ERR {name} is not compatible with WITHDIST, WITHHASH and WITHCOORD options")
        if self.kind >= SEARCH:
            name = self.argv[0].decode("utf-8", "surrogateescape")
            if not (self.from_member or self.from_place):
                raise ReplyError(f"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}")
            if not (self.by_radius or self.by_box):
                raise ReplyError(f"ERR exactly one of BYRADIUS and BYBOX can be specified for {name}")
        if self.any and not self.count:
            raise ReplyError("ERR the ANY argument requires COUNT argument")

    def found(self, value: ZSetValue) -> list[Found]:
        """The members inside, in order and no more than COUNT."""
        found = self._inside(value)
        if self.order:
            found.sort(key=lambda each: each.distance, reverse=self.order < 0)
        return found[: self.count] if self.count else found

    def _inside(self, value: ZSetValue) -> list[Found]:
        shape, scores, ranking = self.shape, value.scores, value.ranked()
        limit = self.count if self.any else 0
        found: list[Found] = []
        for low, high in shape.ranges():
            for member in ranking.slice(ranking.count_below(low, False), ranking.count_below(high, False)):
                score = scores[member]
                bits = bits_of(score)
                lat = latitude(bits)
                if abs(lat - shape.lat) > shape.lat_reach:  # most that is outside need not be measured
                    continue
                lon = longitude(bits)
                distance = shape.distance_m(lon, lat)
                if distance >= 0.0:
                    found.append(Found(member, score, (lon, lat), distance / shape.unit_m))
                    if len(found) == limit:
                        return found
        return found


def run_search(client: Client, argv: list[bytes], kind: int, may_store: bool = False) -> bytes:
    search = Search(client, argv, kind, may_store)
    found = [] if search.value is None else search.found(search.value)
    if search.store_key is not None:
        by_distance = search.store_distance
        scores = {each.member: each.distance if by_distance else each.score for each in found}
        return store_scores(client, search.store_key, scores)
    if not found:
        return EMPTY_ARRAY
    if not search.shown:
        return array([bulk(each.member) for each in found])
    return array([_shown(each, search.shown, client.resp3) for each in found])


def _shown(each: Found, shown: int, resp3: bool) -> bytes:
    items = [bulk(each.member)]
    if shown & WITHDIST:
        items.append(distance_reply(each.distance))
    if shown & WITHHASH:
        items.append(integer(int(each.score)))
    if shown & WITHCOORD:
        items.append(place_reply(each.place, resp3))
    return array(items)


@command(
    "GEOSEARCH", arity=-7, flags="readonly", keys=(1, 1, 1), acl="geo", group="geo", since="6.2.0",
    complexity=SEARCH_COMPLEXITY, summary="Returns the members within a circle or a box.",
)  # fmt: skip
def geosearch(client: Client, argv: list[bytes]) -> bytes:
    return run_search(client, argv, SEARCH)


@command(
    "GEOSEARCHSTORE", arity=-8, flags="write denyoom", keys=(1, 2, 1), acl="geo", group="geo", since="6.2.0",
    complexity=SEARCH_COMPLEXITY, summary="Stores the members within a circle or a box.",
)  # fmt: skip
def geosearchstore(client: Client, argv: list[bytes]) -> bytes:
    return run_search(client, argv, SEARCH_STORE)


def _find_keys(argv: list[bytes], at: int) -> list[bytes]:
    """The key, and the one after the last STORE or STOREDIST; options begin at argv[at]."""
    stored: list[bytes] = []
    while at < len(argv):
        if argv[at].upper() in (b"STORE", b"STOREDIST") and at + 1 < len(argv):
            at += 1
            stored = [argv[at]]
        at += 1
    return argv[1:2] + stored


def _radius_keys(argv: list[bytes]) -> list[bytes]:
    return _find_keys(argv, 6)


def _member_keys(argv: list[bytes]) -> list[bytes]:
    return _find_keys(argv, 5)


@command(
    "GEORADIUS", arity=-6, flags="write denyoom movablekeys", keys=(1, 1, 1), find_keys=_radius_keys, acl="geo",
    group="geo", since="3.2.0", complexity=SEARCH_COMPLEXITY,
    summary="Returns or stores the members around a place (use GEOSEARCH, GEOSEARCHSTORE).",
)  # fmt: skip
def georadius(client: Client, argv: list[bytes]) -> bytes:
    return run_search(client, argv, RADIUS, may_store=True)


@command(
    "GEORADIUSBYMEMBER", arity=-5, flags="write denyoom movablekeys", keys=(1, 1, 1), find_keys=_member_keys,
    acl="geo", group="geo", since="3.2.0", complexity=SEARCH_COMPLEXITY,
    summary="Returns or stores the members around another one (use GEOSEARCH, GEOSEARCHSTORE).",
)  # fmt: skip
def georadiusbymember(client: Client, argv: list[bytes]) -> bytes:
    return run_search(client, argv, MEMBER, may_store=True)


@command(
    "GEORADIUS_RO", arity=-6, flags="readonly", keys=(1, 1, 1), acl="geo", group="geo", since="3.2.10",
    complexity=SEARCH_COMPLEXITY, summary="Returns the members around a place (use GEOSEARCH).",
)  # fmt: skip
def georadius_ro(client: Client, argv: list[bytes]) -> bytes:
    return run_search(client, argv, RADIUS)


@command(
    "GEORADIUSBYMEMBER_RO", arity=-5, flags="readonly", keys=(1, 1, 1), acl="geo", group="geo", since="3.2.10",
    complexity=SEARCH_COMPLEXITY, summary="Returns the members around another one (use GEOSEARCH).",
)  # fmt: skip
def georadiusbymember_ro(client: Client, argv: list[bytes]) -> bytes:
    return run_search(client, argv, MEMBER)
