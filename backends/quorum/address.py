"""The URL of quorum files: `quorum:DIR?zones=1|3|5` or `quorum:/zone-a,/zone-b,/zone-c`."""

from __future__ import annotations

import os
import string
from typing import Final
from urllib.parse import parse_qsl

from eventdb.backends.log import BadLogURL

ZONES_DEFAULT: Final = 3
ZONES_MAX: Final = 9


def zone_directories(url: str) -> list[str]:
    """The zones' directories, absolute, in order. Looks at no file. Raises BadLogURL."""
    rest = url.partition(":")[2]
    where, _, query = rest.partition("?")
    if where.startswith("//"):
        where = "/" + where.lstrip("/")
    options = _options(url, query)
    if not where:
        raise BadLogURL(f"{url!r} names no directory: write quorum:DIR or quorum:/zone-a,/zone-b,/zone-c")
    if "," in where:
        if options:
            raise BadLogURL(f"{url!r}: the directories are listed, so zones= is not needed")
        directories = [os.path.realpath(part) for part in where.split(",") if part]
        if len(directories) != where.count(",") + 1:
            raise BadLogURL(f"{url!r} has an empty place between its commas")
    else:
        count = options.get("zones", ZONES_DEFAULT)
        root = os.path.realpath(where)
        directories = [os.path.join(root, f"zone-{string.ascii_lowercase[index]}") for index in range(count)]
    if len(directories) % 2 == 0 or len(directories) > ZONES_MAX:
        raise BadLogURL(f"{url!r}: {len(directories)} zones; it takes an odd number up to {ZONES_MAX}")
    real = [os.path.realpath(directory) for directory in directories]
    for index, directory in enumerate(real):
        for other in real[:index]:
            if directory == other:
                raise BadLogURL(f"{url!r}: {directory} is given twice; each zone needs a directory of its own")
            if os.path.commonpath((directory, other)) in (directory, other):
                raise BadLogURL(f"{url!r}: {directory} and {other} lie in one another")
    return directories


def zone_names(directories: list[str]) -> list[str]:
    """What errors and `info` call the zones: the last part of the path where that is enough."""
    short = [os.path.basename(directory) for directory in directories]
    return short if len(set(short)) == len(short) else list(directories)


def _options(url: str, query: str) -> dict[str, int]:
    options: dict[str, int] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise BadLogURL(f"{url!r}: what follows the ? is not option=value") from None
    for name, value in pairs:
        if name != "zones":
            raise BadLogURL(f"{url!r}: quorum: has no option {name}; it has zones")
        if not value.isdigit() or int(value) == 0:
            raise BadLogURL(f"{url!r}: zones={value} is not a number of zones")
        options[name] = int(value)
    return options
