"""`eventdb status`: how one node and its log do, from its INFO, and what to do about what is wrong."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final

from eventdb.cli.failover import Connection
from eventdb.cluster.timing import LAG_MS_MAX

GOOD: Final = 0
WARNINGS: Final = 1
DOWN: Final = 2
NEARLY: Final = 0.9  # of a limit
REPLICA_LAG_MS_MAX: Final = 10_000


@dataclass
class Status:
    """What is shown: names and values, what is wrong, and the exit code."""

    facts: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # each with what to do
    code: int = GOOD

    def warn(self, what: str, do: str, code: int = WARNINGS) -> None:
        self.warnings.append(f"{what}: {do}")
        self.code = max(self.code, code)


Fields = dict[str, str]


def ask(host: str, port: int, user: str, password: str, tls: ssl.SSLContext | None = None) -> Status:
    """Raises Refused: the node does not answer, or not to this user."""
    node = Connection(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", password, tls, user)
    try:
        text = node.ask("INFO", "everything")
    finally:
        node.close()
    return judge(fields_of(str(text)))


def fields_of(text: str) -> Fields:
    """The lines of INFO by name."""
    found: Fields = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            found[name] = value
    return found


def judge(info: Fields) -> Status:
    status = Status()
    if "node_role" not in info:
        status.warn("this is no eventdb server", "give the --host and --port of one", DOWN)
        return status
    _node(info, status)
    _replication(info, status)
    _durability(info, status)
    _zones(info, status)
    _room(info, status)
    return status


def _parts(value: str) -> Fields:
    """name=zone-a,state=up as a mapping."""
    return dict([part.partition("=")[::2] for part in value.split(",")])


def _node(info: Fields, status: Status) -> None:
    role, epoch = info["node_role"], info.get("epoch")
    status.facts += [
        ("node", info["node_name"]),
        ("role", role + (f" of epoch {epoch}" if epoch and role == "primary" else "")),
        ("version", f"{info['eventdb_version']} ({info['eventdb_build']}), up for {info['uptime_in_seconds']} s"),
        ("log", info["log_url"]),
    ]
    if role == "loading":
        do = "it answers when it is done; its log shows how far it is"
        status.warn(f"the state is being rebuilt, {info['events_replayed']} events so far", do)
    elif role == "stuck":
        do = "its log says why; run `eventdb log verify`, repair or restore the log, start the node again"
        status.warn("the node cannot follow its log and answers nothing about keys", do, DOWN)
    elif role == "handing-over":
        status.warn("the primary's role is being handed over", "ask again in a moment")


def _replication(info: Fields, status: Status) -> None:
    if info["role"] == "master":
        names = [name for name in info if name.startswith("slave") and name[5:].isdigit()]
        replicas = [_parts(info[name]) for name in names]
        status.facts.append(("replicas", str(len(replicas)) if replicas else "none: no other node can take over"))
        for each in replicas:
            address, lag_ms = f"{each['ip']}:{each['port']}", int(each["lag_ms"])
            behind = max(0, int(info["durable_offset"]) - int(each["offset"]))
            status.facts.append(("replica", f"{address}, {lag_ms} ms and {behind} transactions behind"))
            if lag_ms > LAG_MS_MAX:
                do = "nothing is handed over to it meanwhile; look at its machine's load and at its way to the log"
                status.warn(f"replica {address} is {lag_ms} ms behind", do)
        return
    primary = f"{info['master_host']}:{info['master_port']}" if info.get("master_host") else "not known"
    lag_ms, behind = int(info["slave_lag_ms"]), int(info["slave_lag_offsets"])
    status.facts += [("primary", primary), ("lag", f"{lag_ms} ms, {behind} transactions")]
    if info["master_link_status"] != "up" and info["node_role"] == "replica":
        do = "writes wait for a node that takes over: start one with --role auto, or look why the log does not answer"
        status.warn("no node holds the lease", do)
    elif lag_ms > REPLICA_LAG_MS_MAX:
        status.warn(f"this replica is {lag_ms} ms behind", "look at its machine's load and at its way to the log")


def _durability(info: Fields, status: Status) -> None:
    waiting = int(info["offset"]) - int(info["durable_offset"])
    status.facts.append(("durable", f"offset {info['durable_offset']}, {waiting} transactions are on their way"))
    if "lease_left_ms" in info:
        left_ms = int(info["lease_left_ms"])
        status.facts.append(("lease", f"{left_ms} ms left of {info['lease_ms']}"))
        if left_ms <= 0:
            do = "the log does not answer; bring back a majority of its zones or brokers, the service returns by itself"
            status.warn("the lease has lapsed, commands on keys wait or fail", do)


def _zones(info: Fields, status: Status) -> None:
    zones = [_parts(info[name]) for name in info if name.startswith("log_zone") and name[8:].isdigit()]
    if not zones:
        where = "of its log the brokers know" if info["node_role"] == "primary" else "the primary knows them"
        status.facts.append(("zones", f"{where}: eventdb log info --log {info['log_url']}"))
        return
    for zone in zones:
        name, state, detail = zone["name"], zone["state"], zone.get("detail", "")
        said = f"{state} ({detail})" if detail else state
        status.facts.append(("zone", f"{name}: {said}"))
        if state == "down":
            do = "repair or replace its disk; the zone is rebuilt and catches up by itself"
            status.warn(f"{name} is {said}", do)
        elif state != "up":
            status.warn(f"{name} is {said}", "it counts again by itself; another loss before that stops writes")


def _room(info: Fields, status: Status) -> None:
    """Memory and connections against their limits."""
    used, limit = int(info["used_memory"]), int(info["maxmemory"])
    whole, machine = int(info["used_memory_rss"]), int(info["total_system_memory"])
    of = f" of {info['maxmemory_human']} (maxmemory)" if limit else ", no maxmemory"
    status.facts.append(
        ("memory", f"{info['used_memory_human']}{of}; the machine has {info['total_system_memory_human']}")
    )
    if limit and used > NEARLY * limit:
        do = "delete keys, or raise maxmemory (CONFIG SET maxmemory)"
        then = "writes fail" if info["maxmemory_policy"] == "noeviction" else "keys are evicted"
        status.warn(f"{100 * used // limit} % of maxmemory are used, {then} at 100 %", do)
    elif whole > NEARLY * machine:
        do = "delete keys or move to a larger machine, and set maxmemory: the system ends processes that take too much"
        status.warn(f"the server holds {100 * whole // machine} % of the machine's memory", do)
    connected, most = int(info["connected_clients"]), int(info["maxclients"])
    status.facts.append(("clients", f"{connected} of {most}, {info['blocked_clients']} blocked"))
    if connected > NEARLY * most:
        do = "close idle ones (CONFIG SET timeout) or raise maxclients"
        status.warn(f"{connected} of {most} connections are taken, further ones are refused at {most}", do)
