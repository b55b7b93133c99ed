"""What clients are told whose commands have no certain outcome: UNKNOWN, and why."""

from __future__ import annotations

import time
from typing import Final

from eventdb.pipeline.commit import Commit
from eventdb.pipeline.outbox import Outbox

FENCED_TEXT: Final = (
    "UNKNOWN the outcome of this command is unknown: another node has taken over the log before it was confirmed"
)
CLOSED_TEXT: Final = "UNKNOWN the outcome of this command is unknown: the server stopped before it was confirmed"


def timeout_text(timeout_ms: int) -> str:
    return (
        f"UNKNOWN the outcome of this command is unknown: no majority of zones confirmed it within {timeout_ms} ms;"
        " a write may still become durable"
    )


def fail_pending(commit: Commit, text: str) -> None:
    """Stop the pipeline: nothing that is pending will be confirmed to its clients, so each gets this error."""
    clients: dict[Outbox, None] = {}
    for batch in commit.stop():
        for client in batch.clients:
            clients[client] = None
    for client in clients:
        client.fail_held(text)
        client.flush()


def time_out(commit: Commit, limit_ms: int) -> None:
    """Answer what has waited longer than commit-timeout; the batches themselves go on."""
    now = time.monotonic()
    for batch in commit.pending:
        if (now - batch.opened) * 1000 < limit_ms:
            break
        clients, batch.clients = batch.clients, []
        for client in clients:
            client.fail_held(timeout_text(limit_ms), batch)
            client.flush()
