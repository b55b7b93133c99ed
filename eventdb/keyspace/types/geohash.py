"""Places as scores: 26 bits of latitude and 26 of longitude, interleaved, so that near places mostly have near scores.

A search covers its shape with the cell of the centre and its eight neighbours, whose scores are nine ranges. Cells,
their order and their limits follow Redis, on which the order of unsorted results depends.
Source: redis src/geohash.c, src/geohash_helper.c. Places have no events of their own: they are members of sorted sets.
"""

from __future__ import annotations

import math
from typing import Final

STEPS: Final = 26  # bits a coordinate in a score
LON_MAX: Final = 180.0
LAT_MAX: Final = 85.05112878  # Web Mercator's
EARTH_RADIUS_M: Final = 6372797.560856
MERCATOR_MAX_M: Final = 20037726.37
RADIAN: Final = math.pi / 180.0
ALPHABET: Final = b"0123456789bcdefghjkmnpqrstuvwxyz"
MASK64: Final = (1 << 64) - 1


def _spread(x: int) -> int:
    """Put a zero before each of 32 bits."""
    x = (x | x << 16) & 0x0000FFFF0000FFFF
    x = (x | x << 8) & 0x00FF00FF00FF00FF
    x = (x | x << 4) & 0x0F0F0F0F0F0F0F0F
    x = (x | x << 2) & 0x3333333333333333
    return (x | x << 1) & 0x5555555555555555


def _even_bits() -> bytes:
    """For each number of 16 bits the byte of its bits 0, 2, 4 …"""
    made = b"\0"
    for n in range(8):
        made += bytes([low | 1 << n for low in made])  # with bit 2n
        made = made + made  # with bit 2n + 1, which does not count
    return made


_EVEN: Final = _even_bits()


def _gather(x: int) -> int:
    """Every second bit of 64, from the lowest on."""
    even = _EVEN
    return even[x & 0xFFFF] | even[x >> 16 & 0xFFFF] << 8 | even[x >> 32 & 0xFFFF] << 16 | even[x >> 48] << 24


def _interleave(lat: int, lon: int) -> int:
    return _spread(lat) | _spread(lon) << 1


def _cell(lon: float, lat: float, steps: int, lat_max: float) -> tuple[int, int]:
    """The numbers of the row and the column that hold a place, of 2^steps each."""
    count = float(1 << steps)
    row = int((lat + lat_max) / (lat_max - -lat_max) * count)
    return row, int((lon + LON_MAX) / (LON_MAX - -LON_MAX) * count)


def encode(lon: float, lat: float) -> int:
    """The score of a place within the limits."""
    return _interleave(*_cell(lon, lat, STEPS, LAT_MAX))


def _edge(number: int, steps: int, limit: float) -> float:
    """Where a row or column begins, in degrees."""
    return -limit + (number / (1 << steps)) * (limit + limit)


def bits_of(score: float) -> int:
    """A score as the 64 bits that Redis makes of it: any score means some place."""
    return int(score) & MASK64 if -(2.0**63) <= score < 2.0**64 else 1 << 63


def latitude(bits: int) -> float:
    """Of the middle of a cell. What is beyond the limits counts as the limit."""
    row = _gather(bits)
    lat = (_edge(row, STEPS, LAT_MAX) + _edge(row + 1, STEPS, LAT_MAX)) / 2
    return lat if -LAT_MAX <= lat <= LAT_MAX else LAT_MAX


def longitude(bits: int) -> float:
    column = _gather(bits >> 1)
    lon = (_edge(column, STEPS, LON_MAX) + _edge(column + 1, STEPS, LON_MAX)) / 2
    return lon if -LON_MAX <= lon <= LON_MAX else LON_MAX


def decode(score: float) -> tuple[float, float]:
    """Longitude and latitude of the middle of a score's cell."""
    bits = bits_of(score)
    return longitude(bits), latitude(bits)


def geohash_text(score: float) -> bytes:
    """The standard geohash of a score, whose latitudes end at the poles; the last of its 11 letters is always 0."""
    bits = _interleave(*_cell(*decode(score), STEPS, 90.0))
    letters = bytearray(b"0" * 11)
    for i in range(10):
        letters[i] = ALPHABET[(bits >> (52 - (i + 1) * 5)) & 31]
    return bytes(letters)


def distance_m(lon1: float, lat1: float, lon2: float, lat2: float) -> float:
    """Metres along a great circle (haversine)."""
    lat1r, lat2r = lat1 * RADIAN, lat2 * RADIAN
    v = math.sin((lon2 * RADIAN - lon1 * RADIAN) / 2)
    if v == 0.0:
        return EARTH_RADIUS_M * abs(lat2r - lat1r)  # the same but for the last digits, which STOREDIST shows
    u = math.sin((lat2r - lat1r) / 2)
    return 2.0 * EARTH_RADIUS_M * math.asin(math.sqrt(u * u + math.cos(lat1r) * math.cos(lat2r) * v * v))


def _cos(x: float) -> float:
    return math.cos(x) if math.isfinite(x) else math.nan


class Shape:
    """What a search looks for: everything within a radius, or within a box, around a place."""

    def __init__(self) -> None:
        self.lon = 0.0
        self.lat = 0.0
        self.is_box = False
        self.radius = 0.0  # these three in the unit that the caller has chosen
        self.width = 0.0
        self.height = 0.0
        self.unit_m = 1.0
        self.lat_reach = math.inf  # degrees: what is farther north or south is outside; set by ranges()

    def distance_m(self, lon: float, lat: float) -> float:
        """From the centre to a place; -1 when the place is outside."""
        if self.is_box:
            if distance_m(lon, lat, self.lon, lat) > self.width * self.unit_m / 2:
                return -1.0
            if distance_m(lon, lat, lon, self.lat) > self.height * self.unit_m / 2:
                return -1.0
            return distance_m(self.lon, self.lat, lon, lat)
        found = distance_m(self.lon, self.lat, lon, lat)
        return found if found <= self.radius * self.unit_m else -1.0

    def _reach_m(self) -> float:
        """From the centre to the point of the shape that is farthest away."""
        if self.is_box:
            return math.sqrt((self.width / 2) * (self.width / 2) + (self.height / 2) * (self.height / 2)) * self.unit_m
        return self.radius * self.unit_m

    def _bounds(self) -> tuple[float, float, float, float]:
        """Longitudes and latitudes that enclose it: least and greatest longitude, least and greatest latitude."""
        height = self.unit_m * (self.height / 2 if self.is_box else self.radius)
        width = self.unit_m * (self.width / 2 if self.is_box else self.radius)
        lat_delta = height / EARTH_RADIUS_M / RADIAN
        pole_side = self.lat - lat_delta if self.lat < 0 else self.lat + lat_delta
        lon_delta = width / EARTH_RADIUS_M / _cos(pole_side * RADIAN) / RADIAN
        return self.lon - lon_delta, self.lon + lon_delta, self.lat - lat_delta, self.lat + lat_delta

    def _steps(self) -> int:
        """How fine the cells are: the finest of which nine most likely cover the shape."""
        reach = self._reach_m()
        if reach == 0:
            return STEPS
        steps = 1
        while reach < MERCATOR_MAX_M:
            reach *= 2
            steps += 1
        steps -= 2
        if abs(self.lat) > 66:
            steps -= 1
            if abs(self.lat) > 80:
                steps -= 1
        return min(max(steps, 1), STEPS)

    def ranges(self) -> list[tuple[float, float]]:
        """Scores from the first to before the second of each pair hold every place inside, and others."""
        west, east, south, north = self._bounds()
        self.lat_reach = (north - south) / 2 * (1 + 1e-9) + 1e-9  # a little more than rounding takes
        steps = self._steps()
        row, column = _cell(self.lon, self.lat, steps, LAT_MAX)
        last = (1 << steps) - 1
        if steps > 1 and (
            _edge((row + 1 & last) + 1, steps, LAT_MAX) < north
            or _edge(row - 1 & last, steps, LAT_MAX) > south
            or _edge((column + 1 & last) + 1, steps, LON_MAX) < east
            or _edge(column - 1 & last, steps, LON_MAX) > west
        ):
            steps -= 1
            row, column = _cell(self.lon, self.lat, steps, LAT_MAX)
            last = (1 << steps) - 1
        go_south = steps < 2 or not _edge(row, steps, LAT_MAX) < south
        go_north = steps < 2 or not _edge(row + 1, steps, LAT_MAX) > north
        go_west = steps < 2 or not _edge(column, steps, LON_MAX) < west
        go_east = steps < 2 or not _edge(column + 1, steps, LON_MAX) > east
        up, down, right, left = row + 1 & last, row - 1 & last, column + 1 & last, column - 1 & last
        cells = [_interleave(row, column)]
        previous = -1  # neighbours of a huge shape may be one cell; the centre is not compared, as in Redis
        for wanted, r, c in (
            (go_north, up, column), (go_south, down, column), (go_east, row, right), (go_west, row, left),
            (go_north and go_east, up, right), (go_north and go_west, up, left),
            (go_south and go_east, down, right), (go_south and go_west, down, left),
        ):  # fmt: skip
            cell = _interleave(r, c)
            if wanted and cell != previous:
                cells.append(cell)
                previous = cell
        shift = 2 * (STEPS - steps)
        return [(float(cell << shift), float((cell + 1) << shift)) for cell in cells]
