"""What a Redis Sentinel publishes when the nodes change: some clients look for the primary anew only when they hear it.

Every node publishes its own view to its own subscribers. Only what means something here: the primary is silent or back
(+sdown +odown -sdown -odown), another one is there (+switch-master, then +slave for the others, the old primary too),
a node has come or gone (+slave +sentinel, +sdown).
Source: redis src/sentinel.c sentinelEvent, and the list of channels in the Sentinel documentation.
"""

from __future__ import annotations

from collections.abc import Iterable

from eventdb.cluster.topology import Member, Topology, View

Event = tuple[str, str]  # channel and message


def sentinel_events(before: View, topology: Topology, names: Iterable[str]) -> list[Event]:
    """What to publish after an update; before: as it was then. names: of the service, each hears of everything."""
    found: list[Event] = []
    for name in names:
        found += _events(before, topology, name)
    return found


def _events(before: View, topology: Topology, name: str) -> list[Event]:
    primary, old = topology.last_primary, before.primary
    if primary is None:
        return []
    found: list[Event] = []
    switched = old is not None and old.address != primary.address
    master = f"master {name} {primary.host} {primary.port}"
    if old is not None and topology.is_down and not before.is_down:
        found += [("+sdown", master), ("+odown", f"{master} #quorum 1/1")]
    elif old is not None and before.is_down and not topology.is_down and not switched:
        found += [("-sdown", master), ("-odown", master)]
    if switched and old is not None:
        found.append(("+switch-master", f"{name} {old.host} {old.port} {primary.host} {primary.port}"))
    at = f"@ {name} {primary.host} {primary.port}"
    replicas = {member.address: member for member in topology.members.values() if member.name != primary.name}
    if switched and old is not None:
        replicas.setdefault(old.address, old)
    known = {member.address for member in before.members.values()}
    for address, member in sorted(replicas.items()):
        if switched or address not in known:
            found.append(("+slave", f"slave {_name(member)} {member.host} {member.port} {at}"))
    if old is not None:
        known.add(old.address)
    for member in topology.members.values():
        if member.address not in known and member is not topology.me:
            found.append(("+sentinel", f"sentinel {member.id} {member.host} {member.port} {at}"))
    there = {member.address for member in topology.members.values()}
    for member in before.members.values():
        if member.address not in there and not switched and member.address != primary.address:
            found.append(("+sdown", f"slave {_name(member)} {member.host} {member.port} {at}"))
    return found


def _name(member: Member) -> str:
    return f"{member.host}:{member.port}"
