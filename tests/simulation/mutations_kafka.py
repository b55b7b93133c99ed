"""The rules of the log in Kafka, broken on purpose (see mutations.py)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from aiokafka.protocol.produce import ProduceRequest

from eventdb.backends.kafka import KafkaWriter, claim, producer
from eventdb.backends.kafka.history import History
from eventdb.backends.kafka.link import Link
from eventdb.backends.kafka.producer import ACKS_MS
from eventdb.backends.kafka.stand_in import append_once
from eventdb.backends.record import Frame
from tests.simulation import broker


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


@contextlib.contextmanager
def ask_one_copy() -> Iterator[None]:
    """The leader answers as soon as it has the record (acks=1)."""

    def request(transaction: None, _acks: int, timeout: int, topics: Any) -> ProduceRequest:
        return ProduceRequest(transaction, 1, timeout, topics)

    with patch.object(producer, "ProduceRequest", request):
        yield


@contextlib.contextmanager
def every_claim_wins() -> Iterator[None]:
    """A second claim of an epoch is as good as the first."""
    takes = History._takes_claim

    def taken(history: History, frame: Frame) -> bool:
        if frame.epoch == history.epoch:
            history.epoch -= 1
        return takes(history, frame)

    with patch.object(History, "_takes_claim", taken):
        yield


@contextlib.contextmanager
def take_moved_records() -> Iterator[None]:
    """A record of the current epoch is history wherever it stands."""
    takes = History.takes

    def taken(history: History, frame: Frame, position: int) -> bool:
        return takes(history, frame, frame.position)

    with patch.object(History, "takes", taken):
        yield


@contextlib.contextmanager
def claim_without_reading() -> Iterator[None]:
    """A claim that was acknowledged is believed, whatever stands before it."""

    async def nothing_read(link: object, history: object, start: int, stop: int, key: bytes) -> int:
        return stop - 1

    with patch.object(claim, "_read_on", nothing_read):
        yield


# -- what a writer's stand-in sends while something keeps the loop


@contextlib.contextmanager
def push_what_was_sent_with_more() -> Iterator[None]:
    """A push sends all that is staged, under the sequence number of what is on its way, or was and had no answer."""
    batch = KafkaWriter._batch

    def anew(writer: KafkaWriter) -> list[bytes]:
        writer._sent = (-1, -1, 0)
        return batch(writer)

    with patch.object(KafkaWriter, "_batch", anew):
        yield


@contextlib.contextmanager
def push_on_after_a_claim() -> Iterator[None]:
    """What a push sent is acknowledged wherever the broker has put it: behind the claim of another writer, too."""
    pushed = KafkaWriter._pushed

    def believed(writer: KafkaWriter) -> None:
        push = writer._push
        if push is not None and not push.answer.cancelled() and push.answer.exception() is None:
            answer: Future[int] = Future()
            answer.set_result(push.base)
            writer._push = replace(push, answer=answer)
        pushed(writer)

    with patch.object(KafkaWriter, "_pushed", believed):
        yield


@contextlib.contextmanager
def push_to_one_copy() -> Iterator[None]:
    """The leader answers the stand-in as soon as it has the batch (acks=1)."""

    async def sent(link: Link, request: ProduceRequest) -> int:
        return await append_once(link, ProduceRequest(None, 1, ACKS_MS, request._topics))

    with patch.object(broker, "append_once", sent):
        yield


@contextlib.contextmanager
def acknowledge_what_is_pushed() -> Iterator[None]:
    """What was handed to the stand-in is acknowledged before there is an answer."""
    push = KafkaWriter.push

    def pushed(writer: KafkaWriter, _wait_s: float) -> None:
        push(writer, 0.0)
        if writer._push is not None:
            answer: Future[int] = Future()
            answer.set_result(writer._push.base)
            writer._push = replace(writer._push, answer=answer)
            writer._pushed()

    with patch.object(KafkaWriter, "push", pushed):
        yield
