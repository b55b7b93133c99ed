"""Sending one batch of frames at a time, as an idempotent producer.

The broker keeps the sequence number of a producer's latest batches, so that a batch sent again, because its answer
was lost, is answered with the position it has and not stored twice. That saves the log from copies while answers
fail; what is history does not depend on it (`history.py`). So a claim, which is one record, is sent without, and so
is everything while no producer id is to be had: brokers get them in blocks from the controller, which may be what was
lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from aiokafka import errors
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from eventdb.backends.kafka.link import PARTITION, Link, NoAnswer, describe

# How long the leader may wait for its followers before it says that it does not know.
ACKS_MS: Final = 1500
SEND_S: Final = 3.0  # our own deadline for the answer
MAGIC: Final = 2
SEQUENCES: Final = 1 << 31
# What one record and one batch take in Kafka beyond their values: KIP-98's varints and header, generously.
RECORD_BYTES: Final = 64
BATCH_BYTES: Final = 128
TOO_LARGE: Final = frozenset({10, 18})


class TooLarge(NoAnswer):
    """The broker takes no batch of this size. Nothing was appended."""


class Producer:
    def __init__(self, link: Link, *, idempotent: bool = True) -> None:
        self._link = link
        self._idempotent = idempotent
        self._id = -1  # for the broker: not idempotent
        self._epoch = -1
        self._sequence = -1
        self._turn = 0  # grows with whatever makes an older answer worthless

    @property
    def known(self) -> bool:
        """It has a producer id: a batch that is sent twice, by whichever way, is stored once."""
        return self._id >= 0

    @property
    def turn(self) -> int:
        return self._turn

    async def send(self, frames: Sequence[bytes], key: bytes | None = None) -> int:
        """Append the frames, together or not at all; return the position of the first once all is durable.

        Raises NoAnswer: they may be in the log, may come into it later, or not at all. Sending the same frames again is
        safe; other frames only after `renew`.
        """
        if self._id < 0 and self._idempotent:
            await self._introduce()
        turn = self._turn
        answer = await self._link.ask_leader(self.request(frames, key), SEND_S)
        if turn != self._turn:
            raise NoAnswer("it was sent and answered another way meanwhile")
        code, position = outcome_of(answer)
        if code in TOO_LARGE:
            self.renew()
            raise TooLarge(describe(errors.for_code(code)()))
        if code:
            if not errors.for_code(code).retriable:
                self.renew()
            raise self._link.refused(code)
        if position < 0:
            raise NoAnswer("the broker took it for one sent before, and does not say where that is")
        self._count(len(frames))
        return position

    def request(self, frames: Sequence[bytes], key: bytes | None = None) -> ProduceRequest:
        """What asks for the frames to be appended next; the same frames give the same request until one is taken."""
        builder = DefaultRecordBatchBuilder(MAGIC, 0, 0, self._id, self._epoch, self._sequence, SEQUENCES - 1)
        for index, frame in enumerate(frames):
            builder.append(index, None, key, frame, [])
        return ProduceRequest(None, -1, ACKS_MS, [(self._link.address.topic, [(PARTITION, builder.build())])])

    def overtaken(self, count: int) -> None:
        """So many frames were sent by another way, and are in the log; a `send` under way learns nothing any more."""
        self._turn += 1
        self._count(count)

    def _count(self, count: int) -> None:
        if self._id >= 0:
            self._sequence = (self._sequence + count) % SEQUENCES

    def renew(self) -> None:
        """Be a new producer from now on: the fate of the latest batch is not known, and it will not be sent again."""
        self._turn += 1
        self._id = self._epoch = self._sequence = -1

    async def _introduce(self) -> None:
        """Get a producer id, or go on without."""
        answer = await self._link.ask_leader(InitProducerIdRequest(None, 0))
        if answer.error_code:
            return
        self._id = answer.producer_id
        self._epoch = answer.producer_epoch
        self._sequence = 0


def outcome_of(answer: Any) -> tuple[int, int]:
    """The error code and the position in the answer to `Producer.request`."""
    ((_topic, (found,)),) = answer.topics
    _partition, code, position = found[:3]
    return int(code), int(position)
