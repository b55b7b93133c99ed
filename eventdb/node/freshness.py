"""Fresh reads at a replica: each waits for what the primary had made durable when the read came.

The replica asks the primary for its durable offset, over a connection of its own, and runs the read when it has applied
that much. One question serves all reads that came before it was sent, and there is one on its way at a time: so the
more reads, the fewer questions a read. The primary answers only while its lease lasts, so nobody can have made anything
durable meanwhile that the answer does not count. A read that cannot be shown to be fresh in time is refused, not run.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import hiredis

from eventdb.backends.resolver import known
from eventdb.engine.client import FRESH
from eventdb.keyspace.events import encode_event
from eventdb.security.tls import TlsError

if TYPE_CHECKING:
    from eventdb.cluster.topology import Member
    from eventdb.engine.client import Client
    from eventdb.engine.engine import Engine
    from eventdb.pipeline.turn import Timer

logger: Final = logging.getLogger("eventdb")

LOOK_S: Final = 0.02  # between two looks for the primary
CONNECT_S: Final = 2.0
HURRY_S: Final = 0.0003
QUESTION: Final = encode_event([b"EVENTDB.DURABLE"])


class _Read:
    """One stalled command."""

    def __init__(self, client: Client, argv: list[bytes], due: float) -> None:
        self.client = client
        self.argv = argv
        self.due = due  # the engine's clock at which it has waited too long
        self.commands = 0  # of its client, this one included, that had come when the question was sent


class Freshness:
    """The reads that wait at one node. Sans-IO: `ask` sends the question, `answered` takes the answer."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.ask: Callable[[], None] | None = None  # None while the primary cannot be asked
        # How many commands of a client have come and wait after the one that is stalled; a server knows.
        self.backlog: Callable[[Client], int] = lambda client: 0
        self.hurry: Callable[[], None] = lambda: None  # lets the follower look at the log now
        self._waiting: dict[_Read, None] = {}  # neither run nor refused, in the order in which they came
        self._came: list[_Read] = []  # after the question on its way was sent
        self._asked: list[_Read] = []  # served by the question on its way
        self._known: deque[tuple[int, list[_Read]]] = deque()  # served by an answer that this node has not reached
        self._asking = False  # a question will be sent at the end of this turn
        self._timer: Timer | None = None
        self._look: Timer | None = None
        engine.freshen = self.wait

    def wait(self, client: Client, argv: list[bytes]) -> None:
        """A read has come: stall it."""
        limit_s = self.engine.config.replica_read_timeout_ms / 1000
        client.stalled = argv
        read = _Read(client, argv, self.engine.clock + limit_s)
        self._waiting[read] = None
        self._came.append(read)
        if self._timer is None:
            self._timer = self.engine.turn.later(limit_s, self._time_out)
        self._ask_later()

    def _ask_later(self) -> None:
        if self._came and not self._asked and not self._asking:
            self._asking = True
            self.engine.turn.schedule(self._ask)

    def _ask(self) -> None:
        self._asking = False
        if self.ask is None or self._asked:
            return
        self._asked, self._came = [read for read in self._came if read in self._waiting], []
        for read in self._asked:
            read.commands = 1 + self.backlog(read.client)
        if self._asked:
            self.ask()

    def answered(self, offset: int) -> None:
        """The primary's durable offset, at a moment after the question was sent."""
        self._known.append((offset, self._asked))
        self._asked = []
        self.reached()
        self._ask_later()

    def connected(self, ask: Callable[[], None]) -> None:
        self.ask = ask
        self._ask_later()

    def lost(self) -> None:
        """The question on its way will not be answered: it is asked again when somebody can be."""
        self.ask = None
        self._came, self._asked = self._asked + self._came, []

    def reached(self) -> None:
        """This node has applied more: run what waited for no more than that."""
        now = self.engine.commit.durable_offset
        while self._known and self._known[0][0] <= now:
            for read in self._known.popleft()[1]:
                self._run(read)
        if self._known and self._look is None:
            self._hurry()

    def _hurry(self) -> None:
        """Have the log looked at more often than a follower does, for as long as a read waits for it."""
        self._look = None
        if self._known and self._waiting:
            self.hurry()
            self._look = self.engine.turn.later(HURRY_S, self._hurry)

    def all_fresh(self) -> None:
        """This node is the primary: it is what others would ask."""
        self._came, self._asked = [], []
        self._known.clear()
        for client in self.engine.clients.values():
            client.fresh_left = 0
        for read in list(self._waiting):
            self._run(read)

    def _run(self, read: _Read) -> None:
        client = read.client
        if not self._settle(read):
            return
        client.fresh_left = read.commands
        self.engine.read_clock()
        self.engine.call(client, read.argv)
        self.engine.turn.flush_later(client)
        client.sink.resume()

    def _settle(self, read: _Read) -> bool:
        """It waits no longer. False: it did not, or its client is gone."""
        if read not in self._waiting:
            return False
        del self._waiting[read]
        if read.client.stalled is not read.argv:
            return False
        read.client.stalled = None
        return True

    def _time_out(self) -> None:
        """Refuse what has waited too long; all wait equally long, so the oldest are first."""
        self._timer = None
        engine = self.engine
        engine.read_clock()
        reason = "this replica has not come so far" if self._known else "the primary has not said how far it is"
        text = f"TRYAGAIN {reason} within {engine.config.replica_read_timeout_ms} ms; the command was not run"
        for read in list(self._waiting):
            if read.due > engine.clock:
                self._timer = engine.turn.later(read.due - engine.clock, self._time_out)
                return
            if self._settle(read):
                engine.refuse(read.client, text, engine.commands.get(read.argv[0].upper()))
                engine.turn.flush_later(read.client)
                read.client.sink.resume()


class _Line(asyncio.Protocol):
    """The connection to the primary. It is closed at the first reply that is no offset."""

    def __init__(self, freshness: Freshness) -> None:
        self.freshness = freshness
        self.replies = hiredis.Reader()
        self.transport: asyncio.Transport | None = None
        self.greeting = 0  # replies that are not to a question
        self.failure = ""
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        greeting = self.freshness.engine.config.greeting()
        if greeting:
            self.greeting = 1
            transport.write(encode_event(greeting))
        self.freshness.connected(self.ask)

    def ask(self) -> None:
        if self.transport is not None:
            self.transport.write(QUESTION)

    def data_received(self, data: bytes) -> None:
        self.replies.feed(data)
        while (reply := self.replies.gets()) is not False:
            if isinstance(reply, int):
                self.freshness.answered(reply)
            elif self.greeting and not isinstance(reply, hiredis.ReplyError):
                self.greeting = 0
            else:
                self.failure = str(reply)
                self.close()
                return

    def connection_lost(self, failure: Exception | None) -> None:
        self.close()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()
            self.transport = None
            self.freshness.lost()
        if not self.ended.done():
            self.ended.set_result(None)


async def keep_asking(engine: Engine, freshness: Freshness) -> None:
    """Keep a connection to the current primary while this node is a fresh replica; cancel to end."""
    said = ""
    while True:
        primary = engine.topology.primary
        if not engine.gate & FRESH or primary is None or engine.topology.is_primary or not primary.port:
            await asyncio.sleep(LOOK_S)
            continue
        reason = await _ask_at(primary, engine, freshness)
        if reason and reason != said:
            logger.warning("%s cannot be asked how far it is: %s", primary.address, reason)
        said = reason
        await asyncio.sleep(LOOK_S)


async def _ask_at(primary: Member, engine: Engine, freshness: Freshness) -> str:
    """Returns when this is no longer the primary, or why it cannot be asked."""
    topology = engine.topology
    try:
        async with asyncio.timeout(CONNECT_S):
            await known(primary.host)
            _transport, line = await asyncio.get_running_loop().create_connection(
                lambda: _Line(freshness), primary.host, primary.port, ssl=engine.config.tls.client_context()
            )
    except (OSError, TimeoutError, TlsError) as error:
        return str(error) or type(error).__name__
    try:
        while topology.primary is not None and topology.primary.address == primary.address and not topology.is_primary:
            await asyncio.wait((line.ended,), timeout=LOOK_S)
            if line.ended.done():
                return line.failure or "it closed the connection"
        return ""
    finally:
        line.close()
