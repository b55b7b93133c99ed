"""The host: what an engine asks of whatever it runs in. A node implements it; an engine alone has `NoHost`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from eventdb.metrics.saves import Saves
from eventdb.protocol.errors import ReplyError

if TYPE_CHECKING:
    from eventdb.cluster.topology import Member
    from eventdb.engine.client import Client
    from eventdb.keyspace.choice import Choice
    from eventdb.replay.cut import Wanted

# Engine.failover_state, in Redis's words. While a hand-over waits for what was accepted to be durable it can be called
# off: setting NO_FAILOVER ends it.
NO_FAILOVER: Final = "no-failover"
WAITING_FOR_SYNC: Final = "waiting-for-sync"
FAILOVER_IN_PROGRESS: Final = "failover-in-progress"


class Host(Protocol):
    """None of it is on the hot path."""

    def info_fields(self) -> dict[str, str]:
        """The node and its log for INFO: role, log_url, epoch, offset …"""

    def port(self) -> int:
        """Where it listens; 0: nowhere."""

    def shut_down(self) -> bool:
        """End the server soon. False: an embedded database is ended by its program."""

    def fail_over(self, address: str | None, timeout_ms: int) -> None:
        """Hand over to the node at `address` or to the best one, in the background. Raises ReplyError."""

    def reload(self, done: Callable[[str], None]) -> None:
        """Build the state again from the log, in the background, and call `done` with an error or "".

        Raises ReplyError when that cannot begin.
        """

    def give_state(self, client: Client, greeting: str, functions_only: bool) -> None:
        """Send the whole state to a client that has just blocked, and close it. Raises ReplyError."""

    def restore(self, client: Client, to: Wanted, choice: Choice, dry: bool) -> bytes:
        """Block the client, work out what differs from the past, and call the client's command again: then change it.

        Raises ReplyError when that cannot begin.
        """

    def save(self, done: Callable[[str], None]) -> None:
        """Make a snapshot in the background, and call `done` with an error or "". Raises ReplyError."""

    def saves(self) -> Saves:
        """What is known of snapshots."""

    def announced(self, member: Member, said: dict[str, object]) -> bytes | None:
        """A follower announces itself; the reply to it, None when this node is not the primary."""


class NoHost:
    """An engine without a node: a view, or a test."""

    def info_fields(self) -> dict[str, str]:
        return {}

    def port(self) -> int:
        return 0

    def shut_down(self) -> bool:
        return False

    def fail_over(self, address: str | None, timeout_ms: int) -> None:
        raise ReplyError("ERR eventdb runs inside a program here, which cannot hand its log over")

    def reload(self, done: Callable[[str], None]) -> None:
        raise ReplyError("ERR there is no log here to rebuild the state from")

    def give_state(self, client: Client, greeting: str, functions_only: bool) -> None:
        raise ReplyError("ERR there is no log here to build the state from")

    def restore(self, client: Client, to: Wanted, choice: Choice, dry: bool) -> bytes:
        raise ReplyError("ERR there is no log here to restore from")

    def save(self, done: Callable[[str], None]) -> None:
        raise ReplyError("ERR there is no log here to make a snapshot of")

    def saves(self) -> Saves:
        return Saves()

    def announced(self, member: Member, said: dict[str, object]) -> bytes | None:
        raise ReplyError("ERR this node takes no announcements")
