"""A client in one line: CLIENT LIST and INFO, and what ACL LOG keeps of a refused client."""

from __future__ import annotations

import sys

from eventdb.engine.client import IN_MULTI, Client
from eventdb.pipeline.outbox import socket_facts


def _flags(client: Client) -> str:
    flags = "O" if client.is_monitor else ""
    if client.channels or client.patterns or client.shards:
        flags += "P"
    if client.gate & IN_MULTI:
        flags += "x"
    if client.blocked is not None or client.stalled is not None:
        flags += "b"
    tracker = client.tracker
    if tracker is not None:
        flags += "t" + "R" * tracker.broken + "B" * tracker.bcast
    if client.watcher.broken:
        flags += "d"
    if client.closing:
        flags += "c"
    if client.readonly_mode:
        flags += "r"
    if client.no_evict:
        flags += "e"
    if client.no_touch:
        flags += "T"
    return flags or "N"


def describe(client: Client) -> bytes:
    """One line of CLIENT LIST, without the line break.

    Replies are kept in a list and never in a fixed buffer, so rbs, rbp and obl are 0 and all of it is oll and omem.
    """
    command, tracker = client.last_command, client.tracker
    multi = len(client.queue) if client.gate & IN_MULTI else -1
    socket = socket_facts(client.sink)
    unsent = client.owed + socket.unsent
    memory = unsent + client.queue_bytes + socket.unparsed + socket.waiting
    waiting = len(client.out) + sum([len(held.replies) for held in client.held])
    text = (
        f"id={client.id} addr={client.address} laddr={client.local_address} fd={socket.fd}"
        f" name={client.name.decode()} age={(client.store.now_ms - client.created_ms) // 1000}"
        f" idle={max(0, client.store.now_ms - client.active_ms) // 1000} flags={_flags(client)} db={client.db.index}"
        f" sub={len(client.channels)} psub={len(client.patterns)} ssub={len(client.shards)} multi={multi}"
        f" qbuf={socket.unparsed} qbuf-free=0 argv-mem={socket.waiting} multi-mem={client.queue_bytes}"
        " rbs=0 rbp=0 obl=0"
        f" oll={waiting} omem={unsent} tot-mem={memory + sys.getsizeof(client)}"
        f" events={socket.events} cmd={command.name if command is not None else 'NULL'}"
        f" user={client.user.name.decode('utf-8', 'surrogateescape')}"
        f" redir={-1 if tracker is None else tracker.redirect} resp={3 if client.resp3 else 2}"
        f" lib-name={client.library_name.decode()} lib-ver={client.library_version.decode()}"
    )
    return text.encode("utf-8", "surrogateescape")
