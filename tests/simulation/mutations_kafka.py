"""The rules of the log in Kafka, broken on purpose (see mutations.py)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from aiokafka.protocol.produce import ProduceRequest

from eventdb.backends.kafka import KafkaWriter, claim, producer
from eventdb.backends.kafka.history import History
from eventdb.backends.record import Frame


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
