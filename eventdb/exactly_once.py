"""For programs that use redis-py: writes that count exactly once, through timeouts, broken connections and failovers.

    once = Once(Sentinel(nodes).master_for("mymaster"))
    once("INCR", "visits")
    once.transaction([("INCR", "visits"), ("RPUSH", "log", "a visit")])

Each write goes to the server as EVENTDB.ONCE with a new token. While its outcome is unknown it is sent again with that
token, wherever the client finds the primary then; the server runs it once and repeats the first reply. This file needs
redis-py and nothing of the server.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import redis
import redis.asyncio
from redis import exceptions

SECONDS: Final = 30.0
PAUSE_S: Final = 0.02  # before the first repeat; doubled each time
PAUSE_MAX_S: Final = 0.5
RETRIED: Final = (
    exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ReadOnlyError, exceptions.MasterDownError,
    exceptions.ClusterDownError, exceptions.TryAgainError, exceptions.MovedError, exceptions.AskError,
    exceptions.SlotNotCoveredError, OSError,
)  # fmt: skip
# How the other errors begin that say "not here" or "not known": a node's role, with EXEC's words before it or without.
RETRIED_TEXTS: Final = ("UNKNOWN", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED")
EXEC_TEXT: Final = "Transaction discarded because of: "

Part = bytes | str | int | float
Command = Sequence[Part]


class OutcomeUnknown(Exception):  # noqa: N818 - what it says is a state, as the server's -UNKNOWN does
    """No node has confirmed the command in time. It may have run: ask `outcome(token)`, or repeat it with the token."""

    def __init__(self, token: bytes, last: BaseException) -> None:
        super().__init__(f"the outcome of the command with token {token!r} is unknown; at last: {last!r}")
        self.token = token
        self.last = last


class Outcome(NamedTuple):
    """What EVENTDB.OUTCOME answers."""

    applied: bool
    offset: int  # of its transaction; up to this one it did not run
    at_ms: int  # when it ran; the server knows every token that was used after this moment
    reply: Any = None  # an exception: the command's error, or that its reply was not kept


def new_token() -> bytes:
    return uuid.uuid4().hex.encode()


def may_repeat(failure: BaseException) -> bool:
    """The command did not run there, or it is not known whether it did."""
    if isinstance(failure, RETRIED):
        return True
    return isinstance(failure, exceptions.ResponseError) and (
        str(failure).removeprefix("EXECABORT ").removeprefix(EXEC_TEXT).startswith(RETRIED_TEXTS)
    )


class _Attempts:
    """Of one command: how long to wait before the next."""

    def __init__(self, token: bytes, seconds: float) -> None:
        self.token = token
        self.until = time.monotonic() + seconds
        self.pause_s = PAUSE_S

    def after(self, failure: BaseException) -> float:
        """Seconds to wait. Raises the failure when it is final, OutcomeUnknown when the time is up."""
        if not may_repeat(failure):
            raise failure
        if time.monotonic() + self.pause_s > self.until:
            raise OutcomeUnknown(self.token, failure) from failure
        pause_s, self.pause_s = self.pause_s, min(2 * self.pause_s, PAUSE_MAX_S)
        return pause_s


def _shown(client: Any, command: Command, reply: Any) -> Any:
    """The reply as redis-py returns it for the command itself."""
    name = command[0].decode() if isinstance(command[0], bytes) else str(command[0])
    callbacks = getattr(client, "response_callbacks", None)
    if callbacks is None:  # RedisCluster: those of any of its clients
        callbacks = client.get_redis_connection(client.get_default_node()).response_callbacks
    callback = callbacks.get(name.upper())
    return reply if callback is None or isinstance(reply, Exception) else callback(reply)


def _where(client: Any, command: Command) -> dict[str, Any]:
    """For RedisCluster the node of the command: for the keys of EVENTDB.ONCE it would ask one that may be gone."""
    if not isinstance(client, redis.RedisCluster):
        return {}
    slot: Any = client.determine_slot(*command)
    return {"target_nodes": client.nodes_manager.get_node_from_slot(slot)}


def _all_shown(client: Any, commands: Sequence[Command], replies: Any) -> list[Any] | None:
    if replies is None:
        return None
    return [_shown(client, command, reply) for command, reply in zip(commands, replies, strict=True)]


def _lines(commands: Sequence[Command], token: bytes) -> list[Command]:
    return [("MULTI",), *commands, ("EVENTDB.ONCE", token, "EXEC")]


def _outcome(found: list[Any]) -> Outcome:
    applied = found[0] in (b"applied", "applied")
    return Outcome(applied, int(found[1]), int(found[2]), found[3] if applied else None)


class Once:
    """Around a redis-py client: `redis.Redis`, a Sentinel's `master_for`, or `redis.RedisCluster`.

    It repeats by itself: a client made with `retry=Retry(NoBackoff(), 0)` finds the next primary soonest.
    seconds: for how long a command of unknown outcome is sent again. Keep it well below the server's once-retention-ms.
    """

    def __init__(self, client: redis.Redis | redis.RedisCluster, *, seconds: float = SECONDS) -> None:
        self.client: Any = client  # redis-py types only some of its methods
        self.seconds = seconds

    def __call__(self, *command: Part, token: bytes | None = None) -> Any:
        """Run one command that writes. Raises the server's error, or OutcomeUnknown."""
        attempts = _Attempts(token or new_token(), self.seconds)
        while True:
            try:
                where = _where(self.client, command)
                reply = self.client.execute_command("EVENTDB.ONCE", attempts.token, *command, **where)
                return _shown(self.client, command, reply)
            except Exception as failure:
                time.sleep(attempts.after(failure))

    def transaction(self, commands: Sequence[Command], token: bytes | None = None) -> list[Any] | None:
        """Run commands as one MULTI and EXEC; returns their replies, an error of one of them as an exception in it.

        Not for RedisCluster, whose connections it cannot choose.
        """
        attempts = _Attempts(token or new_token(), self.seconds)
        while True:
            try:
                return _all_shown(self.client, commands, self._send(_lines(commands, attempts.token)))
            except Exception as failure:
                time.sleep(attempts.after(failure))

    def _send(self, lines: list[Command]) -> Any:
        """Send all on one connection; the reply to the last. Raises what it answers."""
        pool = self.client.connection_pool
        connection = pool.get_connection()
        reply: Any = None
        try:
            connection.send_packed_command(connection.pack_commands(lines))
            for _ in lines:
                try:
                    reply = connection.read_response()
                except exceptions.ResponseError as error:
                    reply = error
        except BaseException:
            connection.disconnect()
            raise
        finally:
            pool.release(connection)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def outcome(self, token: bytes) -> Outcome:
        """Whether the command with that token ran. Not for RedisCluster: ask a node of the keys' shard."""
        attempts = _Attempts(token, self.seconds)
        while True:
            try:
                return _outcome(self.client.execute_command("EVENTDB.OUTCOME", token))
            except Exception as failure:
                time.sleep(attempts.after(failure))


class AsyncOnce:
    """The same around `redis.asyncio.Redis`, alone or from a Sentinel."""

    def __init__(self, client: redis.asyncio.Redis, *, seconds: float = SECONDS) -> None:
        self.client: Any = client  # redis-py types only some of its methods
        self.seconds = seconds

    async def __call__(self, *command: Part, token: bytes | None = None) -> Any:
        """Run one command that writes. Raises the server's error, or OutcomeUnknown."""
        attempts = _Attempts(token or new_token(), self.seconds)
        while True:
            try:
                reply = await self.client.execute_command("EVENTDB.ONCE", attempts.token, *command)
                return _shown(self.client, command, reply)
            except Exception as failure:
                await asyncio.sleep(attempts.after(failure))

    async def transaction(self, commands: Sequence[Command], token: bytes | None = None) -> list[Any] | None:
        """As Once.transaction."""
        attempts = _Attempts(token or new_token(), self.seconds)
        while True:
            try:
                return _all_shown(self.client, commands, await self._send(_lines(commands, attempts.token)))
            except Exception as failure:
                await asyncio.sleep(attempts.after(failure))

    async def _send(self, lines: list[Command]) -> Any:
        pool = self.client.connection_pool
        connection = await pool.get_connection()
        reply: Any = None
        try:
            await connection.send_packed_command(connection.pack_commands(lines))
            for _ in lines:
                try:
                    reply = await connection.read_response()
                except exceptions.ResponseError as error:
                    reply = error
        except BaseException:
            await connection.disconnect()
            raise
        finally:
            await pool.release(connection)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def outcome(self, token: bytes) -> Outcome:
        """As Once.outcome."""
        attempts = _Attempts(token, self.seconds)
        while True:
            try:
                return _outcome(await self.client.execute_command("EVENTDB.OUTCOME", token))
            except Exception as failure:
                await asyncio.sleep(attempts.after(failure))
