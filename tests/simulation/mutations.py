"""The protocol broken on purpose, one rule at a time. Only tests use this: the simulation has to notice each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from unittest.mock import patch

from eventdb.backends.kafka import KafkaWriter
from eventdb.backends.quorum import claim, view
from eventdb.backends.quorum.claim import Facts
from eventdb.backends.quorum.files import FileOps
from eventdb.backends.quorum.promise import Promise
from eventdb.backends.quorum.recovery import Worth
from eventdb.backends.quorum.segment import Segment
from eventdb.backends.quorum.window import Quorum
from eventdb.node.succession import Standing
from eventdb.node.tenure import Tenure
from tests.simulation.simulation import FILES, KAFKA


@contextlib.contextmanager
def skip_promise_check() -> Iterator[None]:
    """A zone counts an append although a later claim has taken the zone."""

    def holds(promise: Promise, ops: FileOps) -> bool:
        return True

    with patch.object(Promise, "holds", holds):
        yield


@contextlib.contextmanager
def acknowledge_before_quorum() -> Iterator[None]:
    """One zone is enough."""
    mark = Quorum.mark

    def marked(quorum: Quorum, zone: int, end: int) -> bool:
        majority, quorum.majority = quorum.majority, 1
        try:
            return mark(quorum, zone, end)
        finally:
            quorum.majority = majority

    with patch.object(Quorum, "mark", marked):
        yield


@contextlib.contextmanager
def serve_past_the_lease() -> Iterator[None]:
    """A primary answers reads although its lease has lapsed."""
    with patch.object(Tenure, "_lapse", lambda tenure: None):
        yield


@contextlib.contextmanager
def skip_adoption() -> Iterator[None]:
    """A claim goes on behind any tail, not behind the best one, and does not look at what is known to be durable."""

    def worst(found: Sequence[Facts]) -> Facts | None:
        counting = [facts for facts in found if facts.worth is Worth.COUNT and facts.tail is not None]
        return min(counting, key=lambda facts: facts.tail.rank if facts.tail is not None else (0, 0), default=None)

    with patch.object(claim, "_best", worst), patch.object(claim, "_floor", lambda found: 0):
        yield


@contextlib.contextmanager
def read_fenced_records() -> Iterator[None]:
    """What a fenced writer adds to its segment behind the first position of a later epoch counts as history."""

    def every(segments: list[Segment]) -> list[Segment]:
        history: list[Segment] = []
        for segment in segments:
            if history and segment.first <= history[-1].first:
                continue
            if history:
                last = history[-1]
                history[-1] = Segment(last.path, last.first, last.epoch, segment.first)
            history.append(segment)
        return history

    with patch.object(view, "effective", every):
        yield


@contextlib.contextmanager
def answer_at_once() -> Iterator[None]:
    """A claimant answers although somebody may still hold a lease."""
    with patch.object(Standing, "wait_s", lambda standing: 0.0):
        yield


@contextlib.contextmanager
def ignore_expected_position() -> Iterator[None]:
    """A writer on Kafka acknowledges wherever the broker has put its records."""
    send = KafkaWriter._send

    async def sent(writer: KafkaWriter, frames: list[bytes]) -> int | None:
        position = await send(writer, frames)
        return position if position is None else writer._base

    with patch.object(KafkaWriter, "_send", sent):
        yield


@contextlib.contextmanager
def believe_what_is_shown() -> Iterator[None]:
    """A writer on Kafka takes what it reads back for acknowledged."""
    take = KafkaWriter._take

    def taken(writer: KafkaWriter, count: int) -> None:
        take(writer, count)
        writer._settle()

    with patch.object(KafkaWriter, "_take", taken):
        yield


@dataclass(frozen=True, slots=True)
class Mutation:
    """`noticed`: seeds that noticed it when this was written; `seeds`: how many are tried when none of them does."""

    broken: Callable[[], contextlib.AbstractContextManager[None]]
    backend: str = FILES
    noticed: tuple[int, ...] = ()
    seeds: int = 150


MUTATIONS: dict[str, Mutation] = {
    "skip-promise-check": Mutation(skip_promise_check, noticed=(2, 3)),
    "acknowledge-before-quorum": Mutation(acknowledge_before_quorum, noticed=(7, 8, 14)),
    "ignore-expected-position": Mutation(ignore_expected_position, KAFKA, noticed=(1, 2)),
    "believe-what-is-shown": Mutation(believe_what_is_shown, KAFKA, noticed=(46, 52, 96)),
    "serve-past-the-lease": Mutation(serve_past_the_lease, noticed=(7, 26, 33)),
    "skip-adoption": Mutation(skip_adoption, noticed=(8, 9, 11)),
    "read-fenced-records": Mutation(read_fenced_records, noticed=(442, 546, 550)),
    "answer-at-once": Mutation(answer_at_once, noticed=(978, 1011, 1023)),
}


def applied(name: str | None) -> contextlib.AbstractContextManager[None]:
    """Inside, the rule of that name is broken."""
    return MUTATIONS[name].broken() if name is not None else contextlib.nullcontext()
