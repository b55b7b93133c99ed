"""Every data command with arguments that it was not made for, beside a real redis-server: the replies are equal.

tests/kit/sweep.py makes the calls. EVENTDB_SWEEP=seed,rounds asks for others and more.
"""

from __future__ import annotations

import os
from typing import Final

import pytest

from eventdb import commands
from eventdb.engine.command import BLOCKING, Command
from eventdb.engine.registry import COMMANDS
from tests.conftest import ROOT
from tests.kit.differential import Address, Pair, Rule, in_any_order, near_in_time, same_kind
from tests.kit.sweep import SEED, Sweep, described

commands.load()
GROUPS: Final = frozenset(
    ("string", "list", "set", "sorted-set", "sorted_set", "hash", "stream", "geo", "bitmap", "hyperloglog", "generic")
)
PASSED_OVER: Final = {  # what differs on purpose, or by chance
    "dump": "the bytes of sets depend on their order", "restore": "takes what DUMP makes",
    "migrate": "another server", "wait": "replicas", "waitaof": "replicas", "debug": "tests/commands/test_debug.py",
    "object|idletime": "asks for track-access", "object|freq": "asks for a policy", "object|help": "our own words",
    "xgroup|help": "our own words", "xinfo|help": "our own words", "spop": "takes other members",
}  # fmt: skip
RULES: Final[dict[bytes, Rule]] = {
    b"XAUTOCLAIM": near_in_time,
    b"XCLAIM": near_in_time,
    b"SORT": in_any_order,  # equal weights come in no order
    b"SORT_RO": in_any_order,
    b"EXEC": in_any_order,
    b"RANDOMKEY": same_kind,
}
LONGER: Final = (b"ZRANK", b"ZREVRANK")  # with a fourth word, WITHSCORE, since Redis 7.2
# Redis reads a BLOCK that ends after all time as one that is over (7.2 refuses it, as eventdb).
ENDLESS: Final = b"9223372036854775807"
SEED_NUMBER, ROUNDS = (int(n) for n in os.environ.get("EVENTDB_SWEEP", "1,1").split(","))


def find(name: str) -> Command:
    outer, _, inner = name.partition("|")
    command = COMMANDS[outer.upper().encode()]
    return command.subcommands[inner.upper().encode()] if inner else command


def swept() -> list[str]:
    """Commands of Redis 7.0 that have a group of data and are no container."""
    theirs = set((ROOT / "docs" / "redis-commands.txt").read_text().split())
    here = [name for name in described() if name in theirs and name not in PASSED_OVER]
    return [name for name in here if find(name).group in GROUPS and not find(name).subcommands]


def test_nothing_is_passed_over_that_does_not_exist() -> None:
    assert set(PASSED_OVER) <= set((ROOT / "docs" / "redis-commands.txt").read_text().split())
    assert len(swept()) > 150


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.parametrize("resp3", [False, True])
def test_odd_arguments_are_answered_as_redis_answers_them(redis_server: Address, resp3: bool) -> None:
    with Pair(redis_server, resp3, RULES) as pair:
        limit = pair.wires[0].call("CONFIG", "GET", "proto-max-bulk-len").split(b"\r\n")[-2]
        pair("CONFIG", "SET", "proto-max-bulk-len", "1mb")  # no SETRANGE of half a gigabyte
        try:
            for name in swept():
                blocks = find(name).bits & BLOCKING
                sweep = Sweep(name, SEED_NUMBER)
                for _ in range(ROUNDS):
                    pair("FLUSHALL")
                    for line in SEED:
                        pair(*line.split())
                    for _ in range(5):
                        call = sweep.call()
                        if call[0] in LONGER and len(call) == 4:
                            continue
                        if not blocks:
                            pair(*call)
                        elif ENDLESS not in call:
                            pair("MULTI")
                            pair(*call)
                            pair("EXEC")
        finally:
            pair("CONFIG", "SET", "proto-max-bulk-len", limit)
        pair.local.check_replay()
