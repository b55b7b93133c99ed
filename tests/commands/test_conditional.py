"""Writes on a condition: SET IFEQ and its like, DIGEST, DELEX, DELIFEQ, MSETEX, INCREX.

Debian's Redis has none of these: replies and error texts are those of Redis 8.4's and 8.8's documentation and tests.
"""

from __future__ import annotations

import pytest

from eventdb.commands.data.strings import DIGESTED_BYTES_MAX
from tests.kit.harness import Local

NOW = 1_700_000_000_000
HELLO = "9555e8555c62dcfd"  # XXH3 of "hello"
OTHER = "0123456789abcdef"


@pytest.fixture
def db() -> Local:
    local = Local()
    local("SET", "k", "hello", "PX", 5000)
    local("RPUSH", "l", "x")
    local.log.clear()
    return local


@pytest.mark.parametrize(
    ("condition", "there", "missing"),
    [
        (("IFEQ", "hello"), True, False), (("IFEQ", "other"), False, False), (("ifeq", "hello"), True, False),
        (("IFNE", "hello"), False, True), (("IFNE", "other"), True, True),
        (("IFDEQ", HELLO), True, False), (("IFDEQ", HELLO.upper()), True, False), (("IFDEQ", OTHER), False, False),
        (("IFDNE", HELLO), False, True), (("IFDNE", OTHER), True, True),
    ],
)  # fmt: skip
def test_set_compares_with_what_is_there(db: Local, condition: tuple[str, str], there: bool, missing: bool) -> None:
    assert db("SET", "k", "world", *condition, "GET") == b"hello"
    assert db("GET", "k") == (b"world" if there else b"hello")
    assert db("SET", "new", "world", *condition) == (b"OK" if missing else None)
    assert db("EXISTS", "new") == missing
    expected = [[b"SET", b"k", b"world"]] * there + [[b"SET", b"new", b"world"]] * missing
    assert db.events() == expected


def test_set_with_a_condition_takes_the_other_options(db: Local) -> None:
    assert db("SET", "k", "a", "IFEQ", "hello", "KEEPTTL") == b"OK"
    assert db("SET", "k", "b", "EX", 10, "IFNE", "x") == b"OK"
    assert db.events() == [
        [b"SET", b"k", b"a", b"KEEPTTL"],
        [b"SET", b"k", b"b", b"PXAT", b"%d" % (NOW + 10_000)],
    ]


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("SET k v IFEQ", "ERR syntax error"),
        ("SET k v NX IFEQ hello", "ERR syntax error"),
        ("SET k v IFEQ hello XX", "ERR syntax error"),
        ("SET k v IFEQ hello IFNE x", "ERR syntax error"),
        ("GETEX k IFEQ hello", "ERR syntax error"),
        ("SET k v IFDEQ abc", "ERR must be exactly 16 hexadecimal characters"),
        ("SET l v IFEQ x", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("SET l v IFDNE abc", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("DIGEST l", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("DELIFEQ l x", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("DELEX l IFEQ x", "ERR Key should be of string type if conditions are specified"),
        ("DELEX k EQ x", "ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE"),
        ("DELEX k IFEQ", "ERR wrong number of arguments for 'delex' command"),
        ("DELEX k IFEQ a b", "ERR wrong number of arguments for 'delex' command"),
        ("DELEX k IFDEQ abc", "ERR must be exactly 16 hexadecimal characters"),
        ("MSETEX k v EX 1", "ERR invalid numkeys value"),
        ("MSETEX 0 k v", "ERR invalid numkeys value"),
        ("MSETEX 2147483648 k v", "ERR invalid numkeys value"),
        ("MSETEX 2 k v x", "ERR wrong number of key-value pairs"),
        ("MSETEX 1 k v x", "ERR syntax error"),
        ("MSETEX 1 k v NX XX", "ERR syntax error"),
        ("MSETEX 1 k v GET", "ERR syntax error"),
        ("MSETEX 1 k v EX 1 PX 1", "ERR syntax error"),
        ("MSETEX 1 k v KEEPTTL EX 1", "ERR syntax error"),
        ("MSETEX 1 k v EX 0", "ERR invalid expire time in 'msetex' command"),
    ],
)
def test_errors(db: Local, command: str, error: str) -> None:
    assert db.raw(*command.split()) == f"-{error}\r\n".encode()
    assert not db.events()


def test_digest_is_the_hash_of_the_string(db: Local) -> None:
    assert db("DIGEST", "k") == HELLO.encode() and db("DIGEST", "gone") is None
    db("APPEND", "k", "x")
    assert db("DIGEST", "k") != HELLO.encode()
    assert db("SET", "k", "y", "IFDEQ", db("DIGEST", "k")) == b"OK"  # type: ignore[arg-type]


def test_set_refuses_digests_of_what_takes_too_long(db: Local) -> None:
    db("SETRANGE", "k", DIGESTED_BYTES_MAX, "x")
    reply = db.raw("SET", "k", "v", "IFDEQ", OTHER)
    assert reply == b"-ERR the string is too long for IFDEQ and IFDNE of SET, which take up to 4 MiB\r\n"


@pytest.mark.parametrize(
    ("command", "deleted"),
    [
        ("DELEX k", 1), ("DELEX l", 1), ("DELEX gone", 0), ("DELEX gone IFEQ x", 0), ("DELEX gone IFDEQ x", 0),
        ("DELEX k IFEQ hello", 1), ("DELEX k IFEQ x", 0), ("DELEX k IFNE x", 1), ("DELEX k IFNE hello", 0),
        (f"DELEX k IFDEQ {HELLO}", 1), (f"DELEX k IFDNE {HELLO}", 0), (f"delex k ifdne {OTHER}", 1),
        ("DELIFEQ k hello", 1), ("DELIFEQ k x", 0), ("DELIFEQ gone x", 0),
    ],
)  # fmt: skip
def test_deleting_on_a_condition(db: Local, command: str, deleted: int) -> None:
    key = command.split()[1]
    assert db(*command.split()) == deleted
    assert db.events() == ([[b"DEL", key.encode()]] if deleted else [])


@pytest.mark.parametrize(
    ("command", "reply", "events"),
    [
        ("MSETEX 2 a 1 b 2", 1, ["MSET a 1 b 2"]),
        ("MSETEX 1 l 1", 1, ["MSET l 1"]),
        ("MSETEX 2 a 1 b 2 EX 5", 1, [f"SET a 1 PXAT {NOW + 5000}", f"SET b 2 PXAT {NOW + 5000}"]),
        ("MSETEX 2 k 1 b 2 KEEPTTL", 1, ["SET k 1 KEEPTTL", "SET b 2"]),
        ("MSETEX 2 a 1 b 2 NX", 1, ["MSET a 1 b 2"]),
        ("MSETEX 2 a 1 k 2 NX PX 5", 0, []),
        ("MSETEX 2 a 1 k 2 XX", 0, []),
        ("MSETEX 2 l 1 k 2 PXAT 1800000000000 XX", 1, ["SET l 1 PXAT 1800000000000", "SET k 2 PXAT 1800000000000"]),
    ],
)
def test_msetex(db: Local, command: str, reply: int, events: list[str]) -> None:
    assert db(*command.split()) == reply
    assert db.events() == [event.encode().split() for event in events]
    if events:
        assert len(db.transactions()) == 1


def test_msetex_names_its_keys(db: Local) -> None:
    assert db("COMMAND", "GETKEYS", "MSETEX", 2, "a", 1, "b", 2, "EX", 5) == [b"a", b"b"]


TOP, BOTTOM = 2**63 - 1, -(2**63)


@pytest.mark.parametrize(
    ("before", "options", "reply", "after"),
    [
        (None, "", [1, 1], b"1"), ("10", "", [11, 1], b"11"), ("100", "BYINT -10", [90, -10], b"90"),
        ("50", "BYINT 100 UBOUND 80", [50, 0], b"50"), ("50", "BYINT 100 UBOUND 80 SATURATE", [80, 30], b"80"),
        ("10", "SATURATE BYINT -100 LBOUND 0", [0, -10], b"0"), ("5", "BYINT 5 LBOUND 0 UBOUND 10", [10, 5], b"10"),
        (str(TOP - 7), f"BYINT {TOP}", [TOP - 7, 0], b"%d" % (TOP - 7)),
        (str(TOP - 7), f"BYINT {TOP} SATURATE", [TOP, 7], b"%d" % TOP),
        (str(BOTTOM + 8), f"BYINT {BOTTOM} SATURATE", [BOTTOM, -8], b"%d" % BOTTOM),
        (None, "BYINT 5 LBOUND 10", [0, 0], None), (None, "LBOUND 5 SATURATE", [5, 5], b"5"),
        (None, "UBOUND 0 SATURATE", [0, 0], b"0"), ("50", "BYINT 5 UBOUND 30 SATURATE", [30, -20], b"30"),
        ("50", "BYINT -25 UBOUND 30", [25, -25], b"25"),
        ("1.5", "BYFLOAT 0.25", [b"1.75", b"0.25"], b"1.75"), (None, "BYFLOAT -0.5 UBOUND -1.5", [b"0", b"0"], None),
        ("10", "BYFLOAT 100 UBOUND 42.5 SATURATE", [b"42.5", b"32.5"], b"42.5"),
        ("50.5", "BYFLOAT 5.5 UBOUND 30", [b"50.5", b"0"], b"50.5"),
        ("10", "BYFLOAT 1 UBOUND inf", [b"11", b"1"], b"11"), ("10", "BYFLOAT 1 LBOUND -inf", [b"11", b"1"], b"11"),
        ("10", "BYFLOAT 1 LBOUND inf UBOUND inf", [b"10", b"0"], b"10"),
        ("10", "BYFLOAT 1e4931 UBOUND 100 SATURATE", [b"100", b"90"], b"100"),
        ("10", "BYFLOAT -1e4931 LBOUND -100", [b"10", b"0"], b"10"),
    ],
)  # fmt: skip
def test_increx_stays_within_its_bounds(before: str | None, options: str, reply: object, after: bytes | None) -> None:
    db = Local()
    if before is not None:
        db("SET", "k", before)
    assert db("INCREX", "k", *options.split()) == reply
    assert db("GET", "k") == after
    db.check_replay()


@pytest.mark.parametrize(
    ("deadline", "options", "event"),
    [
        (0, "", "SET k 11"), (500, "", "SET k 11 KEEPTTL"), (500, "PERSIST", "SET k 11"),
        (0, "EX 100", f"SET k 11 PXAT {NOW + 100_000}"), (500, "PX 5", f"SET k 11 PXAT {NOW + 5}"),
        (0, "EX 1 ENX", f"SET k 11 PXAT {NOW + 1000}"), (500, "EX 1 ENX", "SET k 11 KEEPTTL"),
        (500, "EXAT 1 ENX", "SET k 11 KEEPTTL"), (0, "EXAT 1", "DEL k"), (500, "PXAT 1", "DEL k"),
        (0, "UBOUND 10 EX 100", ""), (0, "UBOUND 10 SATURATE PXAT 1800000000000", "SET k 10 PXAT 1800000000000"),
    ],
)  # fmt: skip
def test_increx_gives_a_deadline_or_keeps_it(deadline: int, options: str, event: str) -> None:
    db = Local()
    db("SET", "k", 10, *(["EX", deadline] if deadline else []))
    db("INCREX", "k", *options.split())
    assert db.events()[1:] == ([event.encode().split()] if event else [])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("FOO", "ERR syntax error"), ("BYINT 1 BYFLOAT 1.5", "ERR syntax error"), ("EX 10 PX 5", "ERR syntax error"),
        ("PERSIST EX 1", "ERR syntax error"), ("PERSIST ENX", "ERR syntax error"), ("ENX", "ERR syntax error"),
        ("LBOUND", "ERR syntax error"), ("BYINT abc", "ERR value is not an integer or out of range"),
        ("BYFLOAT abc", "ERR value is not a valid float"), ("EX 0", "ERR invalid expire time in 'increx' command"),
        ("LBOUND 10 UBOUND 5", "ERR LBOUND can't be greater than UBOUND"),
        ("BYFLOAT 1 LBOUND 2 UBOUND 1.5", "ERR LBOUND can't be greater than UBOUND"),
        ("BYFLOAT 1 UBOUND -inf", "ERR LBOUND can't be greater than UBOUND"),
        ("UBOUND 1.5", "ERR UBOUND is not an integer or out of range"),
        ("LBOUND inf", "ERR LBOUND is not an integer or out of range"),
        ("BYFLOAT 1 LBOUND x", "ERR LBOUND is not a valid float"),
        ("BYFLOAT inf", "ERR BYFLOAT increment cannot be Infinity"),
        ("BYFLOAT 1 LBOUND inf UBOUND inf SATURATE", "ERR applied increment would be Infinity"),
        (f"UBOUND {BOTTOM} SATURATE", "ERR applied increment would overflow"),
    ],
)  # fmt: skip
def test_increx_errors(options: str, error: str) -> None:
    db = Local()
    db("SET", "k", 10)
    assert db.raw("INCREX", "k", *options.split()) == f"-{error}\r\n".encode()
    db("SET", "k", "inf")
    assert db.raw("INCREX", "k", "BYFLOAT", 1) == b"-ERR value cannot be Infinity\r\n"
    assert db.raw("INCREX", "k") == b"-ERR value is not an integer or out of range\r\n"


def test_increx_answers_doubles_in_resp3() -> None:
    db = Local()
    db.client.resp3 = True
    assert db.raw("INCREX", "k", "BYFLOAT", "1.5") == b"*2\r\n,1.5\r\n,1.5\r\n"
    assert db.raw("INCREX", "n") == b"*2\r\n:1\r\n:1\r\n"
