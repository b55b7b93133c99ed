"""LCS, the longest common subsequence of two strings. Source: redis src/t_string.c lcsCommand.

Redis fills a table of n × m numbers. Here a row of the table is one integer of m bits, and bit j of row i is 0 where
the length grows from j to j+1: a row costs four operations on long integers, and the way back reads the bits.
Algorithm: H. Hyyrö, "Bit-Parallel LCS-length Computation Revisited", 2004.
"""

from __future__ import annotations

from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.protocol.errors import ReplyError, syntax_error
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import array, bulk, integer, mapping


class Match:
    """A run of bytes that both strings have: inclusive ends, as LCS IDX reports them."""

    def __init__(self, a_start: int, a_end: int, b_start: int, b_end: int) -> None:
        self.a_start = a_start
        self.a_end = a_end
        self.b_start = b_start
        self.b_end = b_end

    def size(self) -> int:
        return self.a_end - self.a_start + 1

    def encode(self, with_length: bool) -> bytes:
        items = [
            array([integer(self.a_start), integer(self.a_end)]),
            array([integer(self.b_start), integer(self.b_end)]),
        ]
        if with_length:
            items.append(integer(self.size()))
        return array(items)


def fill(a: bytes, b: bytes) -> list[int]:
    """Row i, for the first i bytes of a; row 0 is all ones."""
    width = len(b)
    mask = (1 << width) - 1
    places: dict[int, int] = {}
    for j in range(width):
        places[b[j]] = places.get(b[j], 0) | 1 << j
    row = mask
    rows = [row]
    for c in a:
        hits = row & places.get(c, 0)
        row = ((row + hits) | (row - hits)) & mask
        rows.append(row)
    return rows


def walk_back(a: bytes, b: bytes, rows: list[int]) -> tuple[bytes, list[Match]]:
    """The common bytes, and their runs from the last to the first; ties go the way Redis goes."""
    i, j = len(a), len(b)
    width = (j + 7) // 8
    found = bytearray()
    matches: list[Match] = []
    run: Match | None = None
    bits = rows[i].to_bytes(width, "little")
    while i > 0 and j > 0:
        if a[i - 1] == b[j - 1]:
            found.append(a[i - 1])
            if run is not None and run.a_start == i and run.b_start == j:
                run.a_start, run.b_start = i - 1, j - 1
            else:
                run = Match(i - 1, i - 1, j - 1, j - 1)
                matches.append(run)
            j -= 1
            i -= 1
            bits = rows[i].to_bytes(width, "little")
        elif bits[(j - 1) >> 3] >> ((j - 1) & 7) & 1:
            j -= 1
        else:
            i -= 1
            bits = rows[i].to_bytes(width, "little")
    found.reverse()
    return bytes(found), matches


@command(
    "LCS", arity=-3, flags="readonly", keys=(1, 2, 1), acl="string", group="string", since="7.0.0",
    complexity="O(N*M) for strings of N and M bytes",
    summary="Finds the longest sequence of bytes that two strings have in common, gaps allowed.",
)  # fmt: skip
def lcs(client: Client, argv: list[bytes]) -> bytes:
    a, b = string_of(client, argv[1]), string_of(client, argv[2])
    want_length = want_matches = with_match_length = False
    smallest = 0
    at = 3
    while at < len(argv):
        word = argv[at].upper()
        if word == b"IDX":
            want_matches = True
        elif word == b"LEN":
            want_length = True
        elif word == b"WITHMATCHLEN":
            with_match_length = True
        elif word == b"MINMATCHLEN" and at + 1 < len(argv):
            at += 1
            smallest = max(0, parse_int(argv[at]))
        else:
            raise syntax_error()
        at += 1
    if want_matches and want_length:
        raise ReplyError("ERR If you want both the length and indexes, please just use IDX.")
    if (len(a) + 1) * (len(b) + 1) * 4 > client.store.keyspace.limits.string_bytes:
        raise ReplyError("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
    found, matches = walk_back(a, b, fill(a, b))
    if want_length:
        return integer(len(found))
    if not want_matches:
        return bulk(found)
    shown = [match.encode(with_match_length) for match in matches if match.size() >= smallest]
    return mapping([bulk(b"matches"), array(shown), bulk(b"len"), integer(len(found))], client.resp3)


def string_of(client: Client, key: bytes) -> bytes:
    value = client.lookup(key)
    if value is None:
        return b""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    raise ReplyError("ERR The specified keys must contain string values")
