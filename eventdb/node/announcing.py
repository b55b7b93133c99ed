"""A follower announces itself to the primary over an ordinary client connection; the primary lists it in the log.

Over the same connection it is passed what is published at the primary. That is all that nodes say to each other: data
and the name of the primary come from the log alone. When nobody can be reached, nothing is lost but this node's name
on the list, and messages, which nobody promised.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Final

import hiredis

from eventdb.backends.resolver import known
from eventdb.cluster.timing import ANNOUNCE_ANSWER_S, ANNOUNCE_S, PRIMARY_LOOK_S
from eventdb.keyspace.events import encode_event

if TYPE_CHECKING:
    from eventdb.cluster.topology import Member
    from eventdb.engine.engine import Engine

logger: Final = logging.getLogger("eventdb")

UNSENT_BYTES_MAX: Final = 32 << 20  # of messages for a primary that does not read; above it they are dropped


async def announce(engine: Engine) -> None:
    """Announce this node to the current primary until cancelled. Logs once why it does not succeed."""
    topology = engine.topology
    said = ""
    while True:
        primary = topology.primary
        if primary is None or topology.is_primary or not primary.port:
            await asyncio.sleep(PRIMARY_LOOK_S)
            continue
        try:
            await _announce_to(primary, engine)
            said = ""
        except Exception as error:
            reason = f"{primary.address} does not list this node: {error or type(error).__name__}"
            logger.log(logging.DEBUG if reason == said else logging.WARNING, "%s", reason)
            said = reason
            await asyncio.sleep(ANNOUNCE_S)


async def _announce_to(primary: Member, engine: Engine) -> None:
    """Keep announcing over one connection until another is the primary. Raises OSError, TimeoutError, EOFError."""
    topology, address = engine.topology, primary.address
    async with asyncio.timeout(ANNOUNCE_ANSWER_S):
        await known(primary.host)
        tls = engine.config.tls.client_context()
        reader, writer = await asyncio.open_connection(primary.host, primary.port, ssl=tls)
    line = _Line(reader, writer, engine)
    try:
        if greeting := engine.config.greeting():
            await line.ask(*greeting)
        while topology.primary is not None and topology.primary.address == address and not topology.is_primary:
            offset = await line.ask("EVENTDB.ANNOUNCE", json.dumps(topology.me.describe()))
            if topology.primary is not None and isinstance(offset, int):
                topology.primary.offset = offset
            if engine.config.cluster_enabled == "yes":
                engine.pubsub.upstream = line.publish
            for _ in range(round(ANNOUNCE_S / PRIMARY_LOOK_S)):
                if topology.primary is None or topology.primary.address != address:
                    return
                await line.listen(PRIMARY_LOOK_S)
    finally:
        engine.pubsub.upstream = None
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), ANNOUNCE_ANSWER_S)


class _Line:
    """The connection to the primary: what is asked there, and the messages that come of themselves."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, engine: Engine) -> None:
        self._reader = reader
        self._writer = writer
        self._engine = engine
        self._replies = hiredis.Reader()

    async def ask(self, *words: str | bytes) -> object:
        """The reply to a command. Raises TimeoutError, EOFError, ConnectionRefusedError: it is an error."""
        self._writer.write(encode_event([word.encode() if isinstance(word, str) else word for word in words]))
        async with asyncio.timeout(ANNOUNCE_ANSWER_S):
            return await self._reply()

    async def listen(self, seconds: float) -> None:
        """Take messages for so long. Raises EOFError, ConnectionError."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                raise ConnectionError(f"it said {await self._reply()!r} and was asked nothing")

    async def _reply(self) -> object:
        while True:
            reply = self._replies.gets()
            if reply is False:
                data = await self._reader.read(1 << 16)
                if not data:
                    raise EOFError("it closed the connection")
                self._replies.feed(data)
            elif isinstance(reply, hiredis.PushNotification):
                self._take(reply)
            elif isinstance(reply, hiredis.ReplyError):
                raise ConnectionRefusedError(str(reply))
            else:
                return reply

    def _take(self, message: list[object]) -> None:
        """A message that was published at the primary (EVENTDB.ANNOUNCE says its form)."""
        match message:
            case [b"message" | b"smessage" as kind, bytes(channel), bytes(text), int(offset)]:
                engine = self._engine
                reached = engine.commit.durable_offset
                engine.pubsub.passed_on(offset, channel, text, kind == b"smessage", reached)
            case _:
                raise ConnectionError("it sent a message of a form that is not known here")

    def publish(self, channel: bytes, message: bytes, sharded: bool) -> None:
        """Take a message to the primary; lost, like any message, if the connection breaks."""
        if self._engine.topology.is_primary:
            return  # since this moment: it is passed on from here
        if self._writer.transport.get_write_buffer_size() <= UNSENT_BYTES_MAX:
            kind = b"SMESSAGE" if sharded else b"MESSAGE"
            self._writer.write(encode_event([b"EVENTDB.PUBLISH", kind, channel, message]))
