"""Atomic errors: the first error of an EXEC, a script or a function undoes all of it, and nothing is logged.

Off by default, which is Redis's meaning. Asked for by `atomic-errors yes`, by EVENTDB.ATOMIC ON for one connection, or
by the function that runs. What is undone is what would have been logged: keys, deadlines, messages to be published; and
the database that SELECT chose. Settings and scripts loaded meanwhile stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from eventdb.engine.undo import Undo
from eventdb.protocol.errors import ReplyError

if TYPE_CHECKING:
    from eventdb.engine.client import Client
    from eventdb.engine.engine import Engine


class Scope:
    """One EXEC or script that is all or nothing. There is one at a time: what runs inside fails as a part of it."""

    def __init__(self, engine: Engine, client: Client) -> None:
        store = engine.store
        self._engine = engine
        self._client = client
        self._db = client.db
        self._events = len(store.events)
        self._event_db, self._event_size = store.event_db, store.event_size
        self._ready = len(store.ready)
        self._deferred = len(engine.deferred)
        self._expired_keys = store.expired_keys
        self._libraries, self._libraries_version = dict(store.keyspace.libraries.code), store.keyspace.libraries.version
        self._users, self._users_version = dict(store.keyspace.users), store.keyspace.users_version
        self._marks = store.keyspace.marks
        self.undo = store.undo = Undo(store.keyspace, store.watching, store.commit.open)

    def changed(self) -> bool:
        """Something would have been logged or published."""
        return len(self._engine.store.events) > self._events or len(self._engine.deferred) > self._deferred

    def undo_all(self) -> None:
        store = self._engine.store
        self.undo.play()
        del store.events[self._events :]
        self._engine.news.drop()
        store.event_db, store.event_size = self._event_db, self._event_size
        del store.ready[self._ready :]
        del self._engine.deferred[self._deferred :]
        store.expired_keys = self._expired_keys
        if store.keyspace.users_version != self._users_version:
            store.keyspace.users = self._users
            store.keyspace.users_version += 1
            self._engine.follow_users(self._client)
        if store.keyspace.libraries.version != self._libraries_version:
            store.keyspace.libraries.replace(self._libraries)
        store.keyspace.marks = self._marks
        self._client.db = self._db

    def end(self) -> None:
        self.undo.end()
        self._engine.store.undo = None


def begin(engine: Engine, client: Client, wanted: bool = False) -> Scope | None:
    """A scope for what is about to run; None when nobody wants one, or when it is a part of one that has begun."""
    store = engine.store
    if store.undo is not None or not (wanted or client.is_atomic()):
        return None
    return Scope(engine, client)


def text_of(reply: bytes) -> str:
    """The text of an error reply."""
    return reply[1:-2].decode("utf-8", "surrogateescape")


def run_script(engine: Engine, client: Client, run: Callable[[], bytes], wanted: bool = False) -> bytes:
    """Run a script or function. wanted: a function's own flag. Raises ReplyError.

    What counts is the reply in the end: an error that the script has caught by redis.pcall undoes nothing. A script
    that has changed nothing fails with its own error, so that NOSCRIPT and the like are understood.
    """
    scope = begin(engine, client, wanted)
    if scope is None:
        return run()
    try:
        try:
            reply = run()
            if reply[:1] != b"-":
                return reply
            text = text_of(reply)
        except ReplyError as failure:
            text = failure.text
        if not scope.changed():
            raise ReplyError(text)
        scope.undo_all()
        undo = scope.undo
        cause = "its error"
        if undo.failed_call and undo.failed_text.decode("utf-8", "surrogateescape") in text:
            name = undo.failed_name.decode("utf-8", "replace").lower()
            cause = f"an error in its command {undo.failed_call} ('{name}')"
        raise ReplyError(f"EXECABORT Script undone because of {cause}: {text}")
    finally:
        scope.end()
