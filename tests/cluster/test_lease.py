"""Leases: when a primary may answer, when a follower may claim. Clocks are given, so nothing here sleeps."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from eventdb.backends import Record, RecordKind
from eventdb.backends.memory import MemoryWriter, open_memory
from eventdb.cluster.lease import Holder, Statement, silence_s
from eventdb.cluster.timing import ALONE_S, BEATS, LONE_LEASE_MS, TURN_S
from eventdb.cluster.topology import Member
from eventdb.engine.client import LEASELESS
from eventdb.engine.engine import Engine
from eventdb.node.succession import Ground, Standing
from eventdb.node.tenure import Tenure
from eventdb.pipeline.appending import Appending
from eventdb.pipeline.outbox import Batch
from tests.kit.harness import Local

LEASE_MS = 500


class Clock:
    """Seconds that pass when told; timers run in their order."""

    def __init__(self) -> None:
        self.now = time.perf_counter() + 1000  # ahead of the engine's own clock, which must find nothing lapsed
        self.timers: list[Timer] = []

    def __call__(self) -> float:
        return self.now

    def call_later(self, seconds: float, action: Callable[[], None]) -> Timer:
        timer = Timer(self.now + seconds, action)
        self.timers.append(timer)
        return timer

    def jump(self, seconds: float) -> None:
        """Time passes and no timer runs: the process was stopped."""
        self.now += seconds

    async def run(self, seconds: float) -> None:
        """Time passes, timers run, and what they appended is settled."""
        end = self.now + seconds
        while True:
            due = [timer for timer in self.timers if timer.at <= end]
            if not due:
                break
            first = min(due, key=lambda timer: timer.at)
            self.timers.remove(first)
            self.now = max(self.now, first.at)
            if not first.cancelled:
                first.action()
            await settle()
        self.now = end


class Timer:
    def __init__(self, at: float, action: Callable[[], None]) -> None:
        self.at, self.action, self.cancelled = at, action, False

    def cancel(self) -> None:
        self.cancelled = True


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


class Site:
    """An engine with a tenure over a log in memory, all on one given clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.local = Local()
        self.engine: Engine = self.local.engine
        self.engine.turn.call_later = self.clock.call_later  # type: ignore[assignment]
        self.engine.topology.introduce("me", "127.0.0.1:1")
        self.failures: list[BaseException] = []
        self.log = open_memory("memory:")

    async def begin(self, followers: tuple[Member, ...] = ()) -> Site:
        self.writer: MemoryWriter = await self.log.claim("me")
        self.tenure = Tenure(self.engine, self.writer, LEASE_MS, self.clock, self.failures.append)
        await self.tenure.begin(followers)
        return self

    def ask(self, *words: str) -> bytes:
        """One command by a client of its own; b"" when it has to wait."""
        self.engine.clock = self.clock()
        if self.engine.clock > self.engine.lease_until and self.engine.on_lapse is not None:
            self.engine.on_lapse()  # what Engine.read_clock does with the real clock
        return self.local.raw(*words, client=self.local.connect())

    async def records(self) -> list[Record]:
        return [record async for batch in self.log.read() for record in batch.records]

    async def statements(self) -> list[Statement]:
        beats = [record for record in await self.records() if record.kind is RecordKind.HEARTBEAT]
        return [Statement.decode(record.body) for record in beats if record.body]


FOLLOWER = Member("other", "127.0.0.1:2")


async def test_heartbeats_keep_the_lease_and_nothing_is_stalled() -> None:
    site = await Site().begin((FOLLOWER,))
    for _ in range(40):
        await site.clock.run(LEASE_MS / 1000 / 4)
        site.tenure.announced(FOLLOWER)
        assert site.ask("DBSIZE") == b":0\r\n"
    assert len(await site.records()) >= 40 / 4 * (BEATS - 1), "it has not appended often enough"
    assert not any(statement.resumed for statement in await site.statements())


async def test_a_lease_runs_from_when_its_append_was_sent() -> None:
    """Not from when it was durable: a follower counts from what it hears, which may be the moment of sending."""
    site = Site()
    site.writer = await site.log.claim("me")
    site.tenure = Tenure(site.engine, site.writer, LEASE_MS, site.clock, site.failures.append)
    appending = Appending(site.failures.append, site.clock)  # type: ignore[arg-type]
    appending.commit, appending.writer, appending.on_durable = site.engine.commit, site.writer, site.tenure.durable

    async def lease_after(send: Callable[[], object]) -> float:
        """How long the lease of an append is that takes 0.2 s, seen from its sending."""
        sent = site.clock()
        site.writer.hold()
        send()
        await settle()
        site.clock.jump(0.2)
        site.writer.release()
        site.writer.hold()  # heartbeats that follow by themselves
        await settle()
        return site.engine.lease_until - sent

    def batch() -> None:
        made = Batch(1)
        made.count, made.chunks = 1, [b"*1\r\n", b"$1\r\nx\r\n"]
        site.engine.commit.pending.append(made)
        appending.append(made)

    begun: list[asyncio.Future[None]] = []
    lease = pytest.approx(LEASE_MS / 1000)
    assert await lease_after(lambda: begun.append(asyncio.ensure_future(site.tenure.begin((FOLLOWER,))))) == lease
    assert begun[0].done(), "the first word of a tenure"
    assert await lease_after(site.tenure._beat) == lease, "a heartbeat"
    assert await lease_after(batch) == lease, "a batch"
    site.clock.jump(LEASE_MS / 1000)
    assert await lease_after(lambda: site.ask("GET", "k")) == lease, "the word that takes it up again"
    assert site.failures == []


async def test_a_process_that_was_stopped_longer_than_its_lease_answers_nothing_before_the_log_confirms_it() -> None:
    site = await Site().begin((FOLLOWER,))
    site.clock.jump(LEASE_MS / 1000 + 0.01)
    site.writer.hold()
    assert site.ask("GET", "k") == b"" and site.ask("SET", "k", "v") == b""
    assert site.ask("PING") == b"+PONG\r\n", "what touches no key is answered"
    waiting = site.local.connect()
    assert site.local.raw("GET", "k", client=waiting) == b""
    site.writer.release()
    await settle()
    site.local.turn()
    waiting.flush()
    assert site.local.take(waiting) == b"$1\r\nv\r\n", "they run in the order they came"
    assert (await site.statements())[-1].resumed


def sort_of_a_second(site: Site) -> tuple[str, ...]:
    """A command that may take longer than LEASE_MS, and is over at once."""
    assert site.local("RPUSH", "l", *[b"%d" % n for n in range(300_000)]) == 300_000
    site.local.turn()
    return "SORT", "l", "LIMIT", "0", "1", "ALPHA", "STORE", "out"


async def test_a_command_that_may_outlast_the_lease_waits_until_a_longer_one_is_durable() -> None:
    site = await Site().begin((FOLLOWER,))
    long = sort_of_a_second(site)
    waiting = site.local.connect()
    site.writer.hold()
    for client in (waiting, site.local.connect()):
        site.engine.clock = site.clock()
        assert site.local.raw(*long, client=client) == b"", "it does not run under a lease that it may outlast"
    assert site.ask("GET", "k") == b"$-1\r\n", "others do not wait for it"
    assert site.engine.lease_until < site.clock() + LEASE_MS / 1000 + 0.01, "the longer lease is not durable yet"
    await settle()
    site.writer.release()
    await settle()
    site.local.turn()
    assert site.local.take(waiting) == b":1\r\n"
    assert [said.lease_ms for said in await site.statements()] == [LEASE_MS, 900 + LEASE_MS]
    assert site.engine.lease_until > site.clock() + 1.0

    site.clock.jump(1.0)  # it was as long as that
    assert site.ask("GET", "k") == b"$-1\r\n", "its lease has lasted"
    await site.clock.run(LEASE_MS / 1000 / BEATS)
    assert (await site.statements())[-1].lease_ms == LEASE_MS == site.tenure.lease_ms, "the usual lease is back"
    assert site.engine.lease_until <= site.clock() + LEASE_MS / 1000
    assert not any(said.resumed for said in await site.statements())
    site.clock.jump(LEASE_MS / 1000 + 0.01)
    site.writer.hold()
    assert site.ask("GET", "k") == b"", "and binds from the moment at which it was stated"


async def test_followers_are_not_forgotten_because_a_command_kept_the_loop_from_hearing_them() -> None:
    site = await Site().begin((FOLLOWER,))
    site.clock.jump(30.0)
    await site.clock.run(LEASE_MS / 1000)
    assert "other" in site.tenure.members
    await site.clock.run(4.0)
    assert "other" not in site.tenure.members, "silent while it could be heard"


async def test_a_command_that_waits_for_a_longer_lease_is_refused_when_the_log_does_not_answer() -> None:
    site = await Site().begin((FOLLOWER,))
    long = sort_of_a_second(site)
    waiting = site.local.connect()
    site.writer.hold()
    site.engine.clock = site.clock()
    assert site.local.raw(*long, client=waiting) == b""
    await site.clock.run(6.0)
    assert site.tenure.lapsed
    site.tenure.time_out(5000)
    site.local.turn()
    assert site.local.take(waiting).startswith(b"-MASTERDOWN") and site.engine.commit.offset == 1, "only the RPUSH"


async def test_an_append_sent_before_the_lapse_does_not_take_the_lease_up_again() -> None:
    site = await Site().begin((FOLLOWER,))
    sent = site.clock()
    site.clock.jump(LEASE_MS / 1000 + 0.01)
    site.writer.hold()
    site.tenure.durable(sent + LEASE_MS / 1000)  # sent within the lease, known to be durable only now
    assert site.engine.gate & LEASELESS
    assert site.ask("GET", "k") == b""


async def test_a_tenure_that_was_fenced_meanwhile_never_answers_again() -> None:
    site = await Site().begin((FOLLOWER,))
    await site.log.claim("thief")
    site.clock.jump(LEASE_MS / 1000 + 0.01)
    assert site.ask("GET", "k") == b""
    await settle()
    assert [type(failure).__name__ for failure in site.failures] == ["Fenced"]
    assert site.ask("GET", "k") == b""


async def test_stalled_commands_are_refused_after_the_commit_timeout_and_were_not_run() -> None:
    site = await Site().begin((FOLLOWER,))
    site.writer.hold()
    site.clock.jump(LEASE_MS / 1000 + 0.01)
    client = site.local.connect()
    site.ask("PING")
    assert site.local.raw("SET", "k", "v", client=client) == b""
    site.tenure.time_out(5000)
    assert site.local.take(client) == b""
    site.clock.jump(5.0)
    site.tenure.time_out(5000)
    site.local.turn()
    assert site.local.take(client).startswith(b"-MASTERDOWN ")
    assert site.engine.commit.offset == 0


async def test_a_lone_primary_whose_log_does_not_answer_refuses_reads() -> None:
    site = await Site().begin()
    site.writer.hold()
    await site.clock.run(LONE_LEASE_MS / 1000 + 20 * ALONE_S)
    assert site.ask("GET", "k") == b""


async def test_a_lone_primary_answers_reads_again_where_a_setting_says_so_but_not_once_somebody_else_is_known() -> None:
    site = await Site().begin()
    assert site.ask("CONFIG", "SET", "primary-serve-stale-data", "yes") == b"+OK\r\n"
    site.writer.hold()
    await site.clock.run(LONE_LEASE_MS / 1000 + ALONE_S / 2)
    assert site.ask("GET", "k") == b""
    await site.clock.run(ALONE_S)
    assert site.ask("GET", "k") == b"$-1\r\n"
    site.tenure.announced(FOLLOWER)
    assert site.ask("GET", "k") == b""


async def test_reading_without_a_lease_is_turned_on_and_off_while_the_log_does_not_answer() -> None:
    site = await Site().begin()
    site.writer.hold()
    await site.clock.run(LONE_LEASE_MS / 1000 + 2 * ALONE_S)
    for value, reply in (("yes", b"$-1\r\n"), ("no", b""), ("yes", b"$-1\r\n")):
        site.ask("CONFIG", "SET", "primary-serve-stale-data", value)
        await site.clock.run(LONE_LEASE_MS / 1000 / BEATS)
        assert site.ask("GET", "k") == reply, value


async def test_a_shorter_lease_binds_at_once_and_a_longer_one_only_when_it_is_in_the_log() -> None:
    site = await Site().begin()
    assert site.engine.lease_until == site.clock() + LONE_LEASE_MS / 1000
    site.writer.hold()
    site.tenure.announced(FOLLOWER)
    assert site.engine.lease_until == site.clock() + LEASE_MS / 1000, "the word is sent: others may act on it"
    site.writer.release()
    await settle()
    assert (await site.statements())[-1].lease_ms == LEASE_MS
    site.writer.hold()
    site.tenure.members.clear()
    site.tenure.state(changed=True)
    assert site.tenure.lease_ms == LEASE_MS, "a follower may not have read the word yet"
    site.writer.release()
    await settle()
    assert site.tenure.lease_ms == LONE_LEASE_MS


async def test_followers_that_fall_silent_are_struck_off_the_list() -> None:
    site = await Site().begin((FOLLOWER,))
    await site.clock.run(10)
    assert site.tenure.members == {} and (await site.statements())[-1].members == ()


# -- the follower's side


def record(
    position: int,
    kind: RecordKind,
    epoch: int,
    statement: Statement | None = None,
    *,
    who: bytes = b"p",
    time_ms: int = 0,
) -> Record:
    body = statement.encode() if statement is not None else who if kind is RecordKind.CLAIM else b""
    return Record(position, epoch, kind, 1, 0, time_ms, body)


def standing(clock: Clock, name: str = "me") -> Standing:
    return Standing(name, clock, random.Random(1))


ME, THIRD = Member("me", "h:1"), Member("third", "h:3")
SAID = Statement("p", "h:0", LEASE_MS, (THIRD, ME))


def test_a_follower_waits_for_the_lease_a_margin_and_its_turn() -> None:
    found = standing(Clock())
    found.heard(record(0, RecordKind.CLAIM, 1))
    found.heard(record(1, RecordKind.HEARTBEAT, 1, SAID))
    assert not found.is_free() and not found.may_begin()
    assert silence_s(LEASE_MS) + TURN_S <= found.patience_s() <= silence_s(LEASE_MS) + TURN_S + 0.02
    assert silence_s(LEASE_MS) > LEASE_MS / 1000


def test_a_released_lease_is_for_the_successor_at_once_and_for_others_when_it_does_not_come() -> None:
    given = Statement("p", "h:0", LEASE_MS, (THIRD, ME), released=True, successor="me")
    mine, others = standing(Clock()), standing(Clock(), "third")
    for found in (mine, others):
        found.heard(record(0, RecordKind.CLAIM, 1))
        found.heard(record(1, RecordKind.HEARTBEAT, 1, given))
        assert found.is_free()
    assert mine.patience_s() == 0.0
    assert others.patience_s() >= silence_s(LEASE_MS)


RESUMED = Statement("p", "h:0", LEASE_MS, resumed=True)
LONGER = Statement("p", "h:0", 3000)
DATA, CLAIM, BEAT = RecordKind.DATA, RecordKind.CLAIM, RecordKind.HEARTBEAT
WHOLE = silence_s(LEASE_MS)


@pytest.mark.parametrize(
    ("ground", "unseen", "wait_s"),
    [
        (Ground.SILENCE, [], 0),
        (Ground.SILENCE, [(DATA, 1, 1005, None), (BEAT, 1, 1010, None)], 0.011),  # sent 10 ms after the last one heard
        (Ground.SILENCE, [(BEAT, 1, 1100, SAID)], 0.11),
        (Ground.SILENCE, [(BEAT, 1, 1600, RESUMED)], WHOLE),
        (Ground.SILENCE, [(BEAT, 1, 1000, RESUMED)], WHOLE),  # whatever its clock says
        (Ground.SILENCE, [(CLAIM, 2, 1000, None)], 0),  # it said nothing yet, so it has answered nothing
        (Ground.SILENCE, [(CLAIM, 2, 1000, None), (BEAT, 2, 1000, SAID)], WHOLE),
        (Ground.SILENCE, [(BEAT, 1, 1000, LONGER)], 3.3 - silence_s(LEASE_MS)),  # for a long command, in the same ms
        (Ground.FREE, [(DATA, 1, 1005, None)], 0),
        (Ground.FREE, [(CLAIM, 2, 1000, None), (BEAT, 2, 1000, SAID)], WHOLE),
        (Ground.FORCE, [], WHOLE),
    ],
)
def test_a_claimant_waits_for_the_leases_that_began_behind_its_back(
    ground: Ground, unseen: list[tuple[RecordKind, int, int, Statement | None]], wait_s: float
) -> None:
    clock = Clock()
    found = standing(clock)
    found.heard(record(0, CLAIM, 1))
    found.heard(record(1, BEAT, 1, SAID, time_ms=1000))
    clock.jump(silence_s(LEASE_MS))
    found.decide(ground)
    for position, (kind, epoch, time_ms, statement) in enumerate(unseen, 2):
        found.heard(record(position, kind, epoch, statement, time_ms=time_ms))
    found.heard(record(9, CLAIM, 3, who=b"me", time_ms=unseen[-1][2] if unseen else 1000))
    assert found.wait_s() == pytest.approx(wait_s, abs=1e-6)


async def test_a_follower_that_was_stopped_itself_listens_again_before_it_claims() -> None:
    clock = Clock()
    found = standing(clock)
    found.heard(record(0, RecordKind.CLAIM, 1))
    found.heard(record(1, RecordKind.HEARTBEAT, 1, SAID))
    silence = found.silence()
    due = clock() + found.patience_s()
    clock.jump(found.patience_s() + 5)
    found._look(due)
    assert not silence.done() and found.heard_at == clock()
    clock.jump(found.patience_s())
    found._look(clock())
    assert silence.done()


def test_what_is_said_again_of_an_idle_log_is_the_same_to_the_byte() -> None:
    """The lag of a follower is in it, which is another one each time it is measured."""
    said = {Statement("p", "h:0", 500, (Member("b", "h:2", lag_ms=lag),)).encode() for lag in (0, 3, 17, 99)}
    assert len(said) == 1
    assert Statement.decode(said.pop()).members[0].lag_ms == 0
    late = Statement("p", "h:0", 500, (Member("b", "h:2", lag_ms=1234),))
    assert Statement.decode(late.encode()).members[0].lag_ms == 1200


def test_a_statement_survives_its_encoding_and_nonsense_is_named() -> None:
    said = Statement("p", "h:0", 700, (THIRD, ME), Holder.here(), True, "me", True)
    read = Statement.decode(said.encode())
    assert (read.name, read.address, read.lease_ms, read.holder) == ("p", "h:0", 700, said.holder)
    assert (read.released, read.successor, read.resumed) == (True, "me", True)
    assert [member.describe() for member in read.members] == [THIRD.describe(), ME.describe()]
    assert Statement.decode(b'{"lease_ms":5,"of a later version":1}').lease_ms == 5
    for body in (
        b"",
        b"[]",
        b"{",
        b'{"lease_ms":"x"}',
        b'{"lease_ms":0}',
        b'{"members":[1]}',
        b'{"members":1}',
        b"{}" * 200_000,
    ):
        with pytest.raises((ValueError, TypeError)):
            Statement.decode(body)


def test_a_holder_has_ended_only_when_that_is_certain() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with open(f"/proc/{child.pid}/stat") as file:
        started = int(file.read().rpartition(")")[2].split()[19])
    here = Holder.here()
    holder = Holder(here.boot, here.space, child.pid, started)
    assert not here.has_ended() and not holder.has_ended()
    assert Holder(here.boot, here.space, os.getpid(), here.started + 1).has_ended(), "the number was given anew"
    child.kill()
    child.communicate()
    assert holder.has_ended()
    assert not Holder("another kernel", here.space, child.pid, started).has_ended()
    assert not Holder().has_ended()
