"""A leaderboard is played on while its state of a while ago is restored next to it, exactly, and served.

EVENTDB_PLAYERS=1000000 is the size meant; the default is smaller so that `make test` stays short.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.conftest import Server, StartServer, wait_until
from tests.kit.wire import Wire, encode

PLAYERS = int(os.environ.get("EVENTDB_PLAYERS", "100000"))
SEED = int(os.environ.get("EVENTDB_SEED", str(random.randrange(2**32))))
GAMERS = 3
ROUND = 20  # games reported in one go
CHUNK = 1000  # players in one ZADD
PLAYED_BETWEEN = 1500  # rounds, at the least, between the moment and its restore
PAGE = 20_000
TIMEOUT = 120.0


def player(number: int) -> bytes:
    return b"player:%07d" % number


class Gamer(threading.Thread):
    """Reports results, ROUND at a time: points won, and in the same transaction the game's number."""

    def __init__(self, server: Server, name: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.wire = Wire(server.port, TIMEOUT)
        self.name = name
        self.rng = random.Random(seed)
        self.rounds = 0
        self.slowest = 0.0  # seconds a round waited for its replies
        self.stopping = False
        self.may_play = threading.Event()
        self.resting = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopping:
                if not self.may_play.is_set():
                    self.resting.set()
                    self.may_play.wait()
                    self.resting.clear()
                    continue
                self.play()
        except BaseException as failure:
            self.failure = failure
            self.resting.set()
        finally:
            self.wire.close()

    def play(self) -> None:
        commands = [encode("MULTI"), encode("INCRBY", f"games:{self.name}", ROUND)]
        for _ in range(ROUND):
            commands.append(encode("ZINCRBY", "board", self.rng.randint(1, 50), player(self.rng.randrange(PLAYERS))))
        began = time.perf_counter()
        self.wire.send(*commands, encode("EXEC"))
        for _ in range(ROUND + 2):
            self.wire.receive()
        done = self.wire.receive()
        assert isinstance(done, list) and done[0] == ROUND * (self.rounds + 1), done
        self.rounds += 1
        self.slowest = max(self.slowest, time.perf_counter() - began)


class Match:
    """All gamers."""

    def __init__(self, server: Server) -> None:
        self.gamers = [Gamer(server, f"gamer-{i}", SEED + i) for i in range(GAMERS)]
        self.began = time.perf_counter()
        for gamer in self.gamers:
            gamer.may_play.set()
            gamer.start()

    @property
    def rounds(self) -> int:
        for gamer in self.gamers:
            if gamer.failure is not None:
                raise gamer.failure
        return sum(gamer.rounds for gamer in self.gamers)

    def rest(self) -> None:
        for gamer in self.gamers:
            gamer.may_play.clear()
        for gamer in self.gamers:
            assert gamer.resting.wait(TIMEOUT)

    def go_on(self) -> None:
        for gamer in self.gamers:
            gamer.slowest = 0.0
            gamer.may_play.set()

    def play(self, rounds: int) -> None:
        goal = self.rounds + rounds
        wait_until(lambda: self.rounds >= goal, TIMEOUT, f"{rounds} rounds")

    def end(self) -> None:
        for gamer in self.gamers:
            gamer.stopping = True
            gamer.may_play.set()
        for gamer in self.gamers:
            gamer.join(TIMEOUT)
            assert not gamer.is_alive()
        assert self.rounds


def fill(server: Server) -> None:
    rng = random.Random(SEED)
    with Wire(server.port, TIMEOUT) as wire:
        for first in range(0, PLAYERS, CHUNK):
            pairs = [
                part for n in range(first, min(first + CHUNK, PLAYERS)) for part in (rng.randrange(10**6), player(n))
            ]
            assert wire("ZADD", "board", *pairs) == len(pairs) // 2


def ranking(server: Server) -> list[object]:
    """Every player with the score, best first."""
    found: list[object] = []
    with Wire(server.port, TIMEOUT) as wire:
        for start in range(0, PLAYERS, PAGE):
            page = wire("ZREVRANGE", "board", start, start + PAGE - 1, "WITHSCORES")
            assert isinstance(page, list)
            found += page
    assert len(found) == 2 * PLAYERS
    return found


def eventdb(*arguments: str) -> str:
    """Run the command line; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "eventdb", *arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT * 3
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_board_of_a_while_ago_is_restored_next_to_the_running_one(
    eventdb_server: StartServer, tmp_path: Path
) -> None:
    print(f"EVENTDB_SEED={SEED}")
    server = eventdb_server()
    fill(server)
    match = Match(server)
    match.play(PLAYED_BETWEEN)

    match.rest()  # so that a time means one state; reading a million players takes its time too
    with Wire(server.port, TIMEOUT) as wire:
        offset = wire("EVENTDB.OFFSET")
        digest = wire("EVENTDB.DIGEST")
    assert isinstance(offset, list) and isinstance(digest, bytes)
    moment = datetime.now(UTC).isoformat()
    board = ranking(server)
    match.go_on()
    match.play(PLAYED_BETWEEN)

    before, began = match.rounds, time.perf_counter()
    target = f"quorum:{tmp_path / 'restored'}"
    printed = eventdb("restore", "--log", server.log_url, "--to-time", moment, "--into", target)
    seconds = time.perf_counter() - began
    during = match.rounds - before
    assert digest.decode() in printed and f"{offset[1]}" in printed.replace(",", "")
    assert during > 0, "the running server stood still"
    slowest = max(gamer.slowest for gamer in match.gamers)
    assert slowest < 10, f"a round waited {slowest:.1f} s"
    assert digest.decode() in eventdb("log", "digest", "--log", server.log_url, "--at", str(offset[1]))

    restored = eventdb_server(target, seconds=TIMEOUT)
    with Wire(restored.port, TIMEOUT) as wire:
        assert wire("EVENTDB.DIGEST") == digest
        assert wire("ZCARD", "board") == PLAYERS
    assert ranking(restored) == board
    best, points = board[0], board[1]
    with Wire(restored.port, TIMEOUT) as wire:
        assert wire("ZREVRANK", "board", best) == 0 and wire("ZSCORE", "board", best) == points  # type: ignore[arg-type]
        wire("ZINCRBY", "board", 1, "only in the restored one")

    match.end()
    with Wire(server.port, TIMEOUT) as wire:
        for gamer in match.gamers:
            assert int(wire("GET", f"games:{gamer.name}")) == gamer.rounds * ROUND  # type: ignore[call-overload]
        assert wire("ZSCORE", "board", "only in the restored one") is None
        assert wire("EVENTDB.DIGEST") != digest
    assert "sound" in eventdb("log", "verify", "--log", server.log_url)
    print(
        f"{PLAYERS:,} players; restored to offset {offset[1]:,} in {seconds:.1f} s, in which {during * ROUND:,} results"
        f" were acknowledged ({during * ROUND / seconds:,.0f} a second), the slowest round in {slowest * 1000:.0f} ms"
    )
