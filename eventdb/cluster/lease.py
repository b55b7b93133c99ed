"""The lease: the right to answer as the primary, for a time. Sans-IO; clocks are given.

A primary holds a lease from the moment at which it *sent* its newest durable append, for `lease_ms`. Past it nothing
is answered from its memory. A follower that hears nothing from the log for `lease_ms` and a margin claims the log. What
makes this safe, whatever is delayed, as long as clocks run at rates that differ by less than the margin:

1. A follower's silence begins when it has *read* a record, so not before that record was sent.
2. Before it claims, it reads the log to its proven end; if anything new was there, its silence begins anew.
3. The history that it adopts may hold records which it had not seen: in flight when the primary died, or durable and
   not yet provable. The old lease may run from the last of them. By the old primary's own clock, in both records' time,
   that one was sent N ms after the last record heard; the claimant waits N ms longer, a few ms as a rule.
4. A primary whose lease has lapsed takes it up again only by a record that says so (`resumed`), sent after the lapse.
   A claimant that finds the word in what it adopts, or what another claimant stated, waits a whole lease + margin.

5. A command may keep the loop busy for longer than the lease lasts. So it runs only under a lease that outlasts it, as
   far as `engine/effort.py` can judge before it runs; else it waits until one that does is durable. A longer lease is
   stated like any other: it counts for the primary once it is durable, and binds a claimant, which has then read or
   adopts it. After the command the usual lease is stated again, and binds the primary from the moment it is sent.

6. Nobody knows how long a script takes before it has run, so while it runs it beats for the loop: Lua's hook, and
   each command that the script calls, append heartbeats as due (`Tenure._progress`). They state the usual lease. So a
   follower waits as long as the script gets on, at most `script-time-limit`, and a process that is stopped, or hangs in
   the middle of an instruction, is replaced as soon as one that hangs outside a script. The primary extends nothing by
   them until the loop turns and hears that they are durable; nothing is answered meanwhile but refusals, which tell of
   no key. By then the lease that it knows of may have lapsed: it is taken up as rule 4 says. A log that is reached
   through the loop (Kafka) gets the beats by a stand-in with connections of its own, one batch at each look of the
   script and none without one (`Pushing`): a process that hangs sends at most the beat that was handed over before.

Nothing else renews a lease in place of a busy loop, so a process that hangs is bounded by what it stated last,
LEASE_MS_MAX at the most. A reply that leaves after a command which outran its lease is no stale read: state stands
still while a command runs, so what it read was true when it began, under the lease, and it began before the reply.

Large records are no matter of the lease: heartbeats do not wait for them (`Writer.append`).

Rule 3 trusts that nobody sets the old primary's clock back in just that moment, and all of it that a machine which was
suspended as a whole (its monotonic clock stands still) is not resumed as a primary: writes are safe all the same, they
are fenced by the log.

A claim by force (`--role primary`) has waited for no silence, so it always waits lease + margin, unless the log says
that the lease was given back (`released`) or the holder is a process of this machine that has ended.

The statement of a primary about all this is the body of its heartbeat records; an empty body repeats the newest one. So
the log is also the list of nodes, and any reader knows them.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from eventdb.cluster.timing import LEASE_MS_MAX, LONE_LEASE_MS, MARGIN
from eventdb.cluster.topology import Member, member_of

STATEMENT_BYTES_MAX: Final = 256 << 10
LAG_STEP_MS: Final = 100


class AskedRole(StrEnum):
    """What a node is asked to be."""

    AUTO = "auto"  # primary if nobody else is, else a replica that takes over
    PRIMARY = "primary"  # claims the log when it starts, even if another node holds it; then as AUTO
    REPLICA = "replica"  # never claims


def silence_s(lease_ms: int) -> float:
    """Seconds after which another clock agrees that a lease has lapsed."""
    return lease_ms * (1 + MARGIN) / 1000


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, named so that another one on the same machine can find out whether it has ended.

    boot: the kernel's boot id; space: inode of the process id namespace; pid; started: clock ticks since boot.
    """

    boot: str = ""
    space: int = 0
    pid: int = 0
    started: int = 0

    @staticmethod
    def here() -> Holder:
        """This process; one without a name where the kernel hides it (then nobody can say that it has ended)."""
        try:
            with open("/proc/sys/kernel/random/boot_id") as file:
                boot = file.read().strip()
            return Holder(boot, os.stat("/proc/self/ns/pid").st_ino, os.getpid(), _started(os.getpid()))
        except (OSError, ValueError, IndexError):
            return Holder()

    def has_ended(self) -> bool:
        """True only when it is certain: same kernel, same process ids, and no such process any more."""
        here = Holder.here()
        if not self.boot or (self.boot, self.space) != (here.boot, here.space):
            return False
        try:
            return _started(self.pid) != self.started
        except FileNotFoundError:
            return _is_gone(self.pid)
        except (OSError, ValueError, IndexError):
            return False


def _started(pid: int) -> int:
    """When a process began, in clock ticks since boot (proc(5), field 22); -1 for one that has ended, a zombie."""
    with open(f"/proc/{pid}/stat") as file:
        state, *rest = file.read().rpartition(")")[2].split()
    return -1 if state in ("Z", "X") else int(rest[18])


def _is_gone(pid: int) -> bool:
    """No such process: a /proc that hides other people's says so of the living too (hidepid of proc(5))."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _listed(member: Member) -> dict[str, object]:
    """A follower as the log has it. Its lag in steps: it is seconds old when it is read, and what is said again every
    few seconds while nothing happens is to be the same to the byte, so that it costs nothing to keep (squeezed.py).
    """
    return {**member.describe(), "lag_ms": member.lag_ms // LAG_STEP_MS * LAG_STEP_MS}


@dataclass(frozen=True, slots=True)
class Statement:
    """What a primary says of itself and of the others. Unknown fields of a newer version are left out."""

    name: str = ""
    address: str = ""
    lease_ms: int = LONE_LEASE_MS
    members: tuple[Member, ...] = ()  # the followers it has heard of lately
    holder: Holder = Holder()
    released: bool = False  # the lease ends with this record: any node may claim at once
    successor: str = ""  # the name of the one that should
    resumed: bool = False  # the lease had lapsed and begins anew with this record

    def encode(self) -> bytes:
        said: dict[str, object] = {field.name: getattr(self, field.name) for field in fields(self)}
        said["members"] = [_listed(member) for member in self.members]
        said["holder"] = {field.name: getattr(self.holder, field.name) for field in fields(self.holder)}
        return json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()

    @staticmethod
    def decode(body: bytes) -> Statement:
        """Raises ValueError for what no primary writes."""
        if len(body) > STATEMENT_BYTES_MAX:
            raise ValueError(f"a statement of {len(body)} bytes")
        said: Any = json.loads(body)
        if not isinstance(said, dict):
            raise ValueError("a statement is an object")
        known: dict[str, Any] = {field.name: said[field.name] for field in fields(Statement) if field.name in said}
        known["members"] = tuple(member_of(member) for member in said.get("members", ()))
        holder: Any = said.get("holder", {})
        known["holder"] = Holder(*(holder.get(field.name, field.default) for field in fields(Holder)))
        statement = Statement(**known)
        if not isinstance(statement.name, str) or not isinstance(statement.address, str):
            raise ValueError("name and address are text")
        if not 0 < statement.lease_ms <= LEASE_MS_MAX:
            raise ValueError(f"a lease of {statement.lease_ms!r} ms")
        return statement
