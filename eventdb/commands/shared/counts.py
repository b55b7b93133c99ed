"""Counts of elements as arguments give them."""

from __future__ import annotations

from typing import Final

from eventdb.protocol.errors import NOT_POSITIVE, ReplyError, not_between
from eventdb.protocol.numbers import INT64_MAX, INT64_MIN, parse_at_least, parse_int

# Elements that a negative count may ask for. Redis has no such limit and stops serving until its memory is gone.
REPEATED_MAX: Final = 10_000_000


def random_count(text: bytes) -> int:
    """The count of HRANDFIELD, SRANDMEMBER and ZRANDMEMBER; negative asks for repetition."""
    count = parse_int(text)
    if count == INT64_MIN:
        raise ReplyError(not_between(-INT64_MAX, INT64_MAX))
    return count


def count_to_pop(text: bytes) -> int:
    """How many elements LPOP, SPOP and ZPOPMIN take."""
    return parse_at_least(text, 0, NOT_POSITIVE)
