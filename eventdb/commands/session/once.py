"""EVENTDB.ONCE and EVENTDB.OUTCOME: a write that can be repeated and asked about.

    EVENTDB.ONCE token command [argument …]     runs the command, or answers what it answered when it ran
    EVENTDB.ONCE token EXEC                     the same for the transaction that MULTI has begun
    EVENTDB.OUTCOME token                       whether it ran

The token stands before the command that does the work, so that every check (slot, memory, role, pause, lease) is the
one of that command: for a transaction that is EXEC, and nothing has to be remembered since MULTI. Outcome and effect
are one transaction of the log. A reply is kept in both protocols, because what a repeat speaks is not known.

Both commands are `whole`: a repeat waits for the batch that its outcome is in, an answer that nothing ran for all that
is on its way.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Final

from eventdb.engine.client import FOLLOWING, IN_MULTI, RESTRICTED, Client
from eventdb.engine.command import BLOCKING, WRITE, Command
from eventdb.engine.engine import Engine
from eventdb.engine.registry import COMMANDS, called, server_command
from eventdb.keyspace.outcomes import Outcome
from eventdb.protocol.downgrade import as_resp2
from eventdb.protocol.errors import ReplyError
from eventdb.protocol.replies import array, bulk, error, integer

TOKEN_BYTES_MAX: Final = 512
FINGERPRINT_BYTES: Final = 8
WRITING: Final = frozenset(("exec", "eval", "evalsha", "fcall"))  # no writes by their flags
HARMLESS: Final = frozenset(("ping", "echo"))  # of the commands on a connection
LISTENING: Final = frozenset(("subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe"))
NOT_RUN: Final = "the command was not run"
SCRIPTS: Final = frozenset(("eval", "evalsha", "fcall"))  # what they read is judged only as they run
NOT_SHOWN: Final = (
    "NOPERM what a command has answered is shown only to a user that may read every key; EVENTDB.ONCE with the token"
    " and the command answers it too"
)
NOT_ALL_QUEUED: Final = (
    "NOPERM what has this token ran; not all of this transaction was queued, as a watched key had changed, so its reply"
    " is shown only to a user that may read every key"
)
RIGHTS_GONE: Final = "NOPERM the user may no longer run a command of this transaction, so its reply is not shown"
NO_SUCH_REPLY: Final = (
    "ONCENOREPLY the command with this token ran in the transaction at offset {}; its reply was not kept"
)


def check_token(token: bytes) -> bytes:
    """Raises ReplyError."""
    if not token:
        raise ReplyError("ERR the token is empty")
    if len(token) > TOKEN_BYTES_MAX:
        raise ReplyError(f"ERR the token is longer than {TOKEN_BYTES_MAX} bytes")
    return token


def inner(argv: list[bytes]) -> Command | str:
    """The command that EVENTDB.ONCE runs, or the text of the error."""
    found = called(argv[2:])
    if isinstance(found, str):
        return found
    if not found.bits & WRITE and found.name not in WRITING:
        return f"ERR EVENTDB.ONCE is for commands that write, and '{found.name}' does not; {NOT_RUN}"
    if found.inner is not None:
        return f"ERR EVENTDB.ONCE inside EVENTDB.ONCE; {NOT_RUN}"
    if found.bits & BLOCKING and not (found.name == "xreadgroup" and b"BLOCK" not in _options(argv)):
        return f"ERR '{found.name}' may block, and EVENTDB.ONCE runs only what does not; {NOT_RUN}"
    return found


def _options(argv: list[bytes]) -> list[bytes]:
    """Of XREADGROUP inside: the words before its keys."""
    words = [arg.upper() for arg in argv[6:]]
    return words[: words.index(b"STREAMS")] if b"STREAMS" in words else words


def keys_of(argv: list[bytes]) -> list[bytes]:
    found = called(argv[2:])
    return [] if isinstance(found, str) or not found.has_keys else found.keys(argv[2:])


def fingerprint(client: Client, command: Command, argv: list[bytes]) -> bytes:
    """Of what is asked for: the command and its arguments, for EXEC those of all that is queued, and the database.

    And of the user, if it may not read every key and the command is a script: that it may run the script says nothing
    of what another user's run has read.
    """
    h = blake2b(b"%d" % client.db.index, digest_size=FINGERPRINT_BYTES)
    commands = [queued for queued, _ in client.queue] if command.name == "exec" else [command]
    foreign = client.gate & RESTRICTED and not client.user.reads_every_key()
    if foreign and not SCRIPTS.isdisjoint([each.name for each in commands]):
        h.update(b"@%d:" % len(client.user.name))
        h.update(client.user.name)
    asked = [args for _, args in client.queue] if command.name == "exec" else [argv]
    for args in asked:
        h.update(b"*%d:" % len(args))
        h.update(args[0].upper())
        for arg in args[1:]:
            h.update(b"%d:" % len(arg))
            h.update(arg)
    return h.digest()


def answer(outcome: Outcome, resp3: bool) -> bytes:
    """The first reply again, or the error that says that it is not known any more."""
    return (outcome.reply if resp3 else outcome.reply2) or error(NO_SUCH_REPLY.format(outcome.offset))


def check_queue(engine: Engine, client: Client) -> None:
    """Raises ReplyError, and leaves MULTI, when something queued changes the connection: a repeat would not."""
    for queued, _ in client.queue:
        if ("connection" in queued.categories and queued.name not in HARMLESS) or queued.name in LISTENING:
            engine.discard(client)
            raise ReplyError(
                f"EXECABORT Transaction discarded because of: '{queued.name}' changes the connection, and a repeat of"
                " EVENTDB.ONCE would not"
            )


@server_command(
    "EVENTDB.ONCE", arity=-3, flags="write noscript movablekeys no_mandatory_keys", find_keys=keys_of, whole=True,
    since="7.0.0", group="transactions", complexity="That of the command inside",
    summary="Runs a command that writes at most once for that token; a repeat is answered with the first reply.",
)  # fmt: skip
def eventdb_once(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    token, command = check_token(argv[1]), inner(argv)
    if isinstance(command, str):
        raise ReplyError(command)
    is_exec, argv = command.name == "exec", argv[2:]
    if is_exec:
        if not client.gate & IN_MULTI:
            raise ReplyError("ERR EXEC without MULTI")
        check_queue(engine, client)
    what = fingerprint(client, command, argv)
    outcomes = engine.store.keyspace.outcomes
    known = outcomes.kept.get(token)
    if known is not None and not client.queue_failed:
        partly = is_exec and client.watcher.broken  # then not all of it was queued
        queue = client.queue
        if is_exec:
            engine.discard(client)
        if known.fingerprint != what and not partly:
            raise ReplyError("ONCEMISMATCH this token belongs to another command; nothing was run")
        if client.gate & RESTRICTED:
            _check_rights(engine, client, queue, known.fingerprint == what)
        return answer(known, client.resp3)
    limits, now_ms = engine.store.keyspace.limits, engine.store.now_ms
    due = outcomes.due(now_ms, limits.once_retention_ms)
    if len(outcomes.kept) - due >= limits.once_tokens_max:
        raise ReplyError(
            f"ONCEFULL the outcomes of {limits.once_tokens_max} tokens are kept (once-max-tokens), and none is older"
            f" than once-retention-ms; {NOT_RUN}"
        )
    return _run(engine, client, command, argv, token, what, due)


def _check_rights(engine: Engine, client: Client, queue: list[tuple[Command, list[bytes]]], complete: bool) -> None:
    """Raises ReplyError: the restricted user may not see what a transaction answered (a command alone was judged)."""
    if not complete and not client.user.reads_every_key():
        raise ReplyError(NOT_ALL_QUEUED)
    if complete and any(engine.permissions.refusal_at_exec(client, queued, args) for queued, args in queue):
        raise ReplyError(RIGHTS_GONE)


def _run(
    engine: Engine, client: Client, command: Command, argv: list[bytes], token: bytes, what: bytes, due: int
) -> bytes:
    """Run it, and let its transaction end with the outcome."""
    store, resp3 = engine.store, client.resp3
    inside = [(queued.name, len(args)) for queued, args in client.queue] if command.name == "exec" else []
    client.resp3 = True
    try:
        reply = engine.run_queued(client, command, argv)
    finally:
        client.resp3 = resp3
    if not reply:
        engine.unblock(client)
        raise ReplyError(f"ERR '{command.name}' gives no reply that EVENTDB.ONCE could keep")
    reply2 = as_resp2(reply, command.name, len(argv), inside)
    shown = reply if resp3 else reply2
    if not store.events and (reply[:1] == b"-" or (command.name == "exec" and reply[:1] == b"_")):
        return shown  # it failed and changed nothing, or a watched key had changed: it may be tried again
    db = store.keyspace.dbs[store.event_db]
    if due:
        store.emit(db, [b"EVENTDB.FORGET", b"%d" % due])
    ran = [b"EVENTDB.RAN", token, b"%d" % store.now_ms, b"%d" % (engine.commit.offset + 1), what, reply]
    if reply2 != reply:
        ran.append(reply2)
    if sum([len(each) for each in ran[5:]]) > store.keyspace.limits.once_reply_bytes_max:
        ran[5:] = [b""]
    store.emit(db, ran)
    return shown


COMMANDS[b"EVENTDB.ONCE"].inner = inner


@server_command(
    "EVENTDB.OUTCOME", arity=2, flags="readonly noscript", whole=True, acl="transaction", since="7.0.0",
    group="transactions", summary="Reports whether the command with that token ran, and its offset, time and reply.",
)  # fmt: skip
def eventdb_outcome(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    """["applied", offset, Unix ms, reply], or ["absent", offset, Unix ms]: it did not run up to that offset.

    Every token that was used after the second time is kept (0: every one that ever was). "absent" is said only by a
    primary under its lease, and leaves when everything before it is durable.
    """
    outcomes = engine.store.keyspace.outcomes
    known = outcomes.kept.get(check_token(argv[1]))
    if known is not None:
        hidden = client.gate & RESTRICTED and not client.user.reads_every_key()
        reply = error(NOT_SHOWN) if hidden else answer(known, client.resp3)
        return array([bulk(b"applied"), integer(known.offset), integer(known.at_ms), reply])
    if engine.gate & FOLLOWING:
        raise ReplyError("TRYAGAIN this replica does not know the token; only the primary can say that nothing ran")
    if engine.on_lapse is not None and engine.lease_until == math.inf:
        raise ReplyError("TRYAGAIN the lease of this primary has lapsed; another node may know the token")
    return array([bulk(b"absent"), integer(engine.commit.offset), integer(outcomes.forgotten_ms)])
