"""A follower tells the primary that it is there, over an ordinary client connection; the primary lists it in the log.

That is all that nodes say to each other: data and the word on who is primary come from the log alone. When nobody can
be reached, nothing is lost but this node's name on the list.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Final

import hiredis

from eventdb.backends.names import known
from eventdb.events import encode_event

if TYPE_CHECKING:
    from eventdb.config import Config
    from eventdb.topology import Topology

log: Final = logging.getLogger("eventdb")

ANNOUNCE_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 0.05  # between two looks at who is the primary
ANSWER_SECONDS: Final = 2.0  # for connecting, and for each reply


async def announce(topology: Topology, config: Config) -> None:
    """Announce this node to whoever is the primary, for ever; cancel to end. Says once why it does not succeed."""
    said = ""
    while True:
        primary = topology.primary
        if primary is None or topology.is_primary or not primary.port:
            await asyncio.sleep(LOOK_SECONDS)
            continue
        try:
            await _announce_to(primary.address, topology, config)
            said = ""
        except Exception as error:
            reason = f"{primary.address} does not list this node: {error or type(error).__name__}"
            log.log(logging.DEBUG if reason == said else logging.WARNING, "%s", reason)
            said = reason
            await asyncio.sleep(ANNOUNCE_SECONDS)


async def _announce_to(address: str, topology: Topology, config: Config) -> None:
    """Keep announcing over one connection until another is the primary. Raises OSError, TimeoutError, EOFError."""
    primary = topology.primary
    assert primary is not None
    async with asyncio.timeout(ANSWER_SECONDS):
        await known(primary.host)
        reader, writer = await asyncio.open_connection(primary.host, primary.port)
    replies = hiredis.Reader()

    async def ask(*words: str | bytes) -> object:
        writer.write(encode_event([word.encode() if isinstance(word, str) else word for word in words]))
        async with asyncio.timeout(ANSWER_SECONDS):
            while (reply := replies.gets()) is False:
                data = await reader.read(1 << 16)
                if not data:
                    raise EOFError("it closed the connection")
                replies.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise ConnectionRefusedError(str(reply))
        return reply

    try:
        if config.requirepass:
            await ask("AUTH", config.requirepass)
        while topology.primary is not None and topology.primary.address == address and not topology.is_primary:
            offset = await ask("EVENTDB.ANNOUNCE", json.dumps(topology.me.describe()))
            if topology.primary is not None and isinstance(offset, int):
                topology.primary.offset = offset
            for _ in range(round(ANNOUNCE_SECONDS / LOOK_SECONDS)):
                if topology.primary is None or topology.primary.address != address:
                    return
                await asyncio.sleep(LOOK_SECONDS)
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), ANSWER_SECONDS)
