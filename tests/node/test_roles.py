"""A node's role: the table is total, and a node refuses what is not in it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from eventdb.cluster.lease import AskedRole
from eventdb.cluster.topology import Member
from eventdb.engine.settings import Config
from eventdb.node.node import Node
from eventdb.node.role import IMPOSSIBLE, TRANSITIONS, Event, Role, RoleError, after
from tests.kit.faults import until

EVERY = list(itertools.product(Role, Event))


def test_every_role_has_one_entry_for_every_event() -> None:
    assert set(TRANSITIONS) | set(IMPOSSIBLE) == set(EVERY)
    assert not set(TRANSITIONS) & set(IMPOSSIBLE)
    assert all(IMPOSSIBLE.values()), "an impossible event has a reason"


@pytest.mark.parametrize(("role", "event"), EVERY)
def test_what_is_not_in_the_table_is_refused_with_its_reason(role: Role, event: Event) -> None:
    if (role, event) in TRANSITIONS:
        assert after(role, event) is TRANSITIONS[role, event]
        return
    with pytest.raises(RoleError) as refused:
        after(role, event)
    assert role.value in str(refused.value) and IMPOSSIBLE[role, event] in str(refused.value)


def test_every_role_can_be_reached_and_left_but_the_last() -> None:
    reached = {Role.LOADING}
    for _ in Role:
        reached |= {target for (role, _), target in TRANSITIONS.items() if role in reached}
    assert reached == set(Role)
    assert {role for role, _ in TRANSITIONS} == set(Role) - {Role.CLOSED}
    assert all(after(role, Event.CLOSED) is Role.CLOSED for role in Role if role is not Role.CLOSED)


class Watched(Node):
    """It writes down what it was, and counts its ticks."""

    def __init__(self, url: str, name: str, asked: AskedRole) -> None:
        self.ticks = 0
        super().__init__(url, Config(), name, f"127.0.0.1:{7000 + ord(name)}", asked=asked)
        self.roles = [self.role]

    def _happens(self, event: Event) -> None:
        super()._happens(event)
        self.roles.append(self.role)

    def _tick(self) -> None:
        self.ticks += 1
        super()._tick()


async def test_a_node_refuses_what_is_not_in_the_table(tmp_path: Path) -> None:
    node = Watched(f"quorum:{tmp_path / 'data'}", "p", AskedRole.PRIMARY)
    await node.start()
    assert node.roles == [Role.LOADING, Role.PRIMARY]
    for event in (Event.REBUILT, Event.CLAIMED, Event.RELEASED, Event.LOST_LOG):
        with pytest.raises(RoleError):
            node._happens(event)
    assert node.role is Role.PRIMARY
    await node.close()
    assert node.role is Role.CLOSED
    with pytest.raises(RoleError):
        node._happens(Event.FENCED)


async def test_a_hand_over_is_a_role_of_its_own_in_which_no_silence_is_noticed(tmp_path: Path) -> None:
    """A primary reads no records, so its log seemed silent for its whole reign: nobody was named for the writes to wait
    for as soon as the record that gives the lease back took longer than a tick."""
    url = f"quorum:{tmp_path / 'data'}"
    old, new = Watched(url, "o", AskedRole.PRIMARY), Watched(url, "n", AskedRole.AUTO)
    await old.start()
    await new.start()
    tenure = old.tenure
    assert tenure is not None
    tenure.announced(Member("n", new.address))
    old.standing.heard_at -= 60  # it has been the primary for a minute
    release = tenure.release

    async def slow(successor: str) -> int:
        assert old.role is Role.HANDING_OVER and old.facts()["role"] == "handing-over"
        before = old.ticks
        await until(lambda: old.ticks > before + 2)
        assert old.engine.topology.handing_over and not old.engine.topology.is_down
        return await release(successor)

    tenure.release = slow  # type: ignore[method-assign]
    assert await old.hand_over(None, 5000) == new.address
    await until(lambda: new.role is Role.PRIMARY)
    assert old.roles == [Role.LOADING, Role.PRIMARY, Role.HANDING_OVER, Role.REPLICA]
    assert new.roles == [Role.LOADING, Role.REPLICA, Role.PRIMARY]
    for node in (old, new):
        await node.close()
