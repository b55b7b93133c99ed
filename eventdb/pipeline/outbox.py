"""The outbox: what one client is still owed. A reply leaves now, or when the batch that it could reveal is durable.

Sans-IO: bytes leave through `sink`, an object of the connection or of the embedded API.
"""

from __future__ import annotations

from typing import Final, Protocol

from eventdb.pipeline.turn import Flushable, Turn
from eventdb.protocol.replies import error

# Values of Outbox.reply_mode (CLIENT REPLY). Pushed messages leave in any mode.
REPLY_ON: Final = 0
REPLY_OFF: Final = 1
REPLY_SKIP: Final = 2  # the next reply


class Sink(Protocol):
    """Where a client's replies go."""

    def write(self, data: bytes) -> None:
        """Take bytes for the client; called at most once a loop turn per client."""

    def resume(self) -> None:
        """The client may run its next command: it is unblocked, or the commit pipeline has room again."""

    def close(self) -> None:
        """Close once everything written has left. May be called again."""


class SocketFacts:
    """What CLIENT LIST and INFO show of a connection's socket; of a sink without one, nothing."""

    def __init__(self) -> None:
        self.fd = -1
        self.unparsed = 0  # bytes of an unfinished command
        self.waiting = 0  # bytes of commands parsed and not yet run
        self.unsent = 0  # bytes of replies handed over and not yet taken by the system
        self.events = ""  # r: it is read, w: it waits to write


def socket_facts(sink: Sink) -> SocketFacts:
    found = getattr(sink, "socket_facts", None)
    return SocketFacts() if found is None else found()


class Batch:
    """Consecutive transactions that become durable together."""

    def __init__(self, first_offset: int) -> None:
        self.first_offset = first_offset
        self.count = 0
        self.size = 0  # bytes of events
        self.chunks: list[bytes] = []
        self.dirty: set[bytes] = set()  # keys changed, whatever their database: waiting too often is safe
        self.whole = False  # a FLUSHALL or SWAPDB: every key is dirty
        self.clients: list[Outbox] = []  # those with replies held for this batch
        self.durable = False
        self.opened = 0.0  # time.monotonic() of its first transaction

    def body(self) -> bytes:
        return b"".join(self.chunks)


class Held:
    """Replies, and messages between them, that leave when their batch is durable."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.replies: list[bytes] = []
        self.pushed: dict[int, Batch | None] | None = None  # which answer no command, and the batch each reveals

    def push(self, data: bytes, after: Batch | None) -> None:
        if self.pushed is None:
            self.pushed = {}
        self.pushed[len(self.replies)] = after
        self.replies.append(data)

    def after(self, i: int) -> Batch | None:
        """The batch, not yet durable, that pushed message i may reveal; None for any other message, or a reply."""
        after = self.pushed.get(i) if self.pushed is not None else None
        return None if after is None or after.durable else after

    def is_pushed(self, i: int) -> bool:
        return self.pushed is not None and i in self.pushed


class Outbox(Flushable):
    """The reply half of a client."""

    def __init__(self, turn: Turn, sink: Sink) -> None:
        # What nearly every command touches stands first: a compiled object keeps this order, in few cache lines.
        self.turn = turn
        self.sink = sink
        self.closing = False  # nothing more is run for it
        self.reply_mode = REPLY_ON
        self.last_offset = 0  # of this client's last transaction
        self.out: list[bytes] = []  # may leave now
        self.held: list[Held] = []  # wait for their batches, oldest first; few, so a list is quickest
        self.owed = 0  # bytes in out and held

    def reply(self, data: bytes) -> None:
        """Send after everything this client is still owed."""
        if self.reply_mode:
            if self.reply_mode == REPLY_SKIP:
                self.reply_mode = REPLY_ON
            return
        self.owed += len(data)
        if self.held:
            self.held[-1].replies.append(data)
        else:
            self.out.append(data)

    def hold(self, batch: Batch, data: bytes) -> None:
        """Send when `batch` is durable, and after everything this client is still owed."""
        if batch.durable or self.reply_mode:
            self.reply(data)
        else:
            self._held_until(batch).replies.append(data)
            self.owed += len(data)

    def reply_all(self, replies: list[bytes], size: int) -> None:
        """What `reply` does with each; `size` bytes. reply_mode is REPLY_ON."""
        self.owed += size
        if self.held:
            self.held[-1].replies.extend(replies)
        else:
            self.out.extend(replies)

    def hold_all(self, batch: Batch, replies: list[bytes], size: int) -> None:
        """What `hold` does with each; `size` bytes. reply_mode is REPLY_ON."""
        if batch.durable:
            self.reply_all(replies, size)
        else:
            self._held_until(batch).replies.extend(replies)
            self.owed += size

    def _held_until(self, batch: Batch) -> Held:
        """Where to append what must not leave before `batch` is durable, nor before anything appended already."""
        held = self.held
        if held:
            last = held[-1]
            if last.batch is batch or last.batch.first_offset > batch.first_offset:
                return last
        part = Held(batch)
        held.append(part)
        batch.clients.append(self)
        return part

    def push(self, data: bytes, after: Batch | None = None) -> None:
        """Send out-of-band data, which CLIENT REPLY does not silence; after everything the client is still owed."""
        if self.closing:
            return
        self.owed += len(data)
        if after is not None and not after.durable:
            self._held_until(after).push(data, after)
        elif self.held:
            self.held[-1].push(data, None)
        else:
            self.out.append(data)
        self.turn.flush_later(self)

    def release(self) -> None:
        """Move the replies whose batch is durable to `out`."""
        held = self.held
        while held and held[0].batch.durable:
            self.out.extend(held.pop(0).replies)

    def fail_held(self, text: str, up_to: Batch | None = None) -> None:
        """Answer what is held, up to and with batch `up_to`, with an error: its outcome is unknown.

        A pushed message is no answer. One that reveals such a batch goes on waiting for it while the batch goes on
        (`up_to`), and is dropped when no batch will be durable any more.
        """
        answer = error(text)
        held = self.held
        waiting: list[Held] = []
        while held and (up_to is None or held[0].batch.first_offset <= up_to.first_offset):
            part = held.pop(0)
            for i, reply in enumerate(part.replies):
                sent = reply if part.is_pushed(i) else answer
                after = part.after(i)
                if after is None:
                    self.owed += len(sent) - len(reply)
                    self.out.append(sent)
                elif up_to is None:
                    self.owed -= len(reply)
                else:
                    if not waiting or waiting[-1].batch.first_offset < after.first_offset:
                        waiting.append(Held(after))
                        after.clients.append(self)
                    waiting[-1].push(reply, after)
        self.held = waiting + held

    def drop_replies(self) -> None:
        """Forget everything the client is owed: its connection is being closed without a word."""
        self.out.clear()
        self.held.clear()
        self.owed = 0

    def flush(self) -> None:
        """Hand `out` to the sink; close it when that was the last a closing client waited for."""
        out = self.out
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            self.owed -= len(data)
            self.turn.bytes_out += len(data)
            self.turn.writes += 1
            self.sink.write(data)
        if self.closing and not self.held:
            self.sink.close()

    def finish(self) -> None:
        """Run nothing more for this client, and close it once it has what it is owed."""
        self.closing = True
        self.turn.flush_later(self)
