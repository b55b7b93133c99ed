"""LOLWUT: the version, and with VERSION 5 or 6 a drawing: a log in three zones, each a little behind or ahead."""

from __future__ import annotations

import random
from typing import Final

from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.engine.settings import REDIS_VERSION
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import verbatim

ZONES: Final = 3
COLUMNS_MAX: Final = 160
COLUMNS: Final = 66


@command(
    "LOLWUT", arity=-1, flags="readonly fast", since="5.0.0", group="server",
    summary="Returns the version; with VERSION 5 or 6 a drawing before it.",
)  # fmt: skip
def lolwut(client: Client, argv: list[bytes]) -> bytes:
    text = f"Redis ver. {REDIS_VERSION}\n"
    if len(argv) > 2 and argv[1].upper() == b"VERSION":
        wanted = parse_int(argv[2])
        numbers = [parse_int(arg) for arg in argv[3:]]
        if wanted in (5, 6):
            columns = max(1, min(COLUMNS_MAX, numbers[0])) if numbers else COLUMNS
            text = drawing(client.store.rng, columns) + text
    return verbatim(text.encode(), client.resp3)


def drawing(rng: random.Random, columns: int) -> str:
    """Blocks of records; what a majority of the rows has is drawn full."""
    ends = sorted([rng.randrange(columns // 2, columns + 1) for _ in range(ZONES)])
    durable = ends[1]
    rng.shuffle(ends)
    rows = ["█" * min(end, durable) + "░" * max(0, end - durable) for end in ends]
    return "\n".join(rows) + "\n" + " " * max(0, durable - 1) + "▲ durable\n"
