"""Counts of elements as arguments give them."""

from __future__ import annotations

from typing import Final

from eventdb.protocol.replies import INT64_MIN, ReplyError, parse_int

# redis src/object.c getRangeLongFromObjectOrReply; the grammar is theirs.
COUNT_RANGE: Final = "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"
COUNT_OUT_OF_RANGE: Final = "ERR value is out of range"
# Elements that a negative count may ask for. Redis has no such limit and stops serving until its memory is gone.
REPEATED_MAX: Final = 10_000_000


def random_count(text: bytes) -> int:
    """The count of HRANDFIELD and SRANDMEMBER; negative asks for repetition."""
    count = parse_int(text)
    if count == INT64_MIN:
        raise ReplyError(COUNT_RANGE)
    return count
