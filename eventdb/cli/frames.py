"""What nodes do now, from two looks at their INFO: what `eventdb top` shows."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass, field
from typing import Final

from eventdb.cli.failover import Connection, Refused
from eventdb.cli.status import Fields, fields_of, judge
from eventdb.commands.shared.info_counters import human

Rows = list[tuple[str, str]]
BUSIEST: Final = 8  # commands that are shown
NOTHING: Final = "-"
MISSING: Final = "a live screen needs textual, which is not installed: pip install 'eventdb[top]' (or use --once)"


@dataclass(frozen=True)
class Look:
    """One answer to INFO."""

    info: Fields
    at: float  # by the node's own clock, seconds


@dataclass
class Frame:
    """What is shown of one node: panels of names and values, and what is wrong."""

    address: str
    panels: list[tuple[str, Rows]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    commands_s: float = 0.0

    def lines(self) -> list[str]:
        width = max((len(name) for _, rows in self.panels for name, _ in rows), default=0)
        found: list[str] = []
        for title, rows in self.panels:
            found += [title, *[f"  {name:{width}}  {value}" for name, value in rows]]
        return found + [f"warning: {warning}" for warning in self.warnings]


class Watched:
    """A node that is looked at again and again. It connects anew after an error."""

    def __init__(self, address: str, password: str, tls: ssl.SSLContext | None, user: str) -> None:
        self.address = address
        self._password, self._tls, self._user = password, tls, user
        self._node: Connection | None = None
        self.before: Look | None = None
        self.latest: Look | None = None

    def look(self) -> Look:
        """Raises Refused."""
        try:
            if self._node is None:
                self._node = Connection(self.address, self._password, self._tls, self._user)
            info = fields_of(str(self._node.ask("INFO", "everything")))
        except Refused:
            self.close()
            raise
        self.before, self.latest = self.latest, Look(info, int(info.get("server_time_usec", 0)) / 1e6)
        return self.latest

    def frame(self) -> Frame:
        """What happened between the last two looks; a node that does not answer is a frame that says so."""
        try:
            latest = self.look()
        except Refused as error:
            return Frame(self.address, warnings=[str(error)])
        if "node_role" not in latest.info:
            return Frame(self.address, warnings=judge(latest.info).warnings)
        before = self.before
        if before is not None and before.info.get("run_id") != latest.info.get("run_id"):
            before = None  # another process: its counters began anew
        return frame_of(self.address, before, latest)

    def close(self) -> None:
        node, self._node = self._node, None
        self.before = self.latest = None
        if node is not None:
            node.close()


class Cluster:
    """The node that was named and, if asked for, all others that it knows."""

    def __init__(self, address: str, password: str, tls: ssl.SSLContext | None, user: str, everyone: bool) -> None:
        self._how = (password, tls, user)
        self.first = Watched(address, *self._how)
        self.others: dict[str, Watched] = {}
        self.everyone = everyone

    def frames(self) -> list[Frame]:
        """Of the named node, then of the others."""
        found = [self.first.frame()]
        if self.everyone and self.first.latest is not None:
            self._meet(self.first.latest.info)
        return found + [node.frame() for node in self.others.values()]

    def _meet(self, info: Fields) -> None:
        known = set(others_of(info))
        for address in known - self.others.keys():
            self.others[address] = Watched(address, *self._how)
        for address in self.others.keys() - known:
            self.others.pop(address).close()

    def close(self) -> None:
        for node in [self.first, *self.others.values()]:
            node.close()


def others_of(info: Fields) -> list[str]:
    """host:port of each other node that one knows: its replicas, or its primary."""
    if info.get("role") != "master":
        return [_address(info["master_host"], info["master_port"])] if info.get("master_host") else []
    replicas = [_parts(info[name]) for name in info if name.startswith("slave") and name[5:].isdigit()]
    return [_address(each["ip"], each["port"]) for each in replicas]


def _address(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def frame_of(address: str, before: Look | None, latest: Look) -> Frame:
    """What a node does: `before` is None at the first look, when there are no rates yet."""
    span = Span(before, latest)
    info = latest.info
    commands = span.per_second("total_commands_processed")
    found = Frame(address, warnings=judge(info).warnings, commands_s=commands or 0.0)
    found.panels = [
        ("node", _node(info)),
        ("work", _work(span)),
        ("log", _log(span)),
        ("zones", _zones(span)),
        ("replicas" if info["role"] == "master" else "replication", _replication(info)),
        ("room", _room(span)),
        ("commands", _busiest(span)),
    ]
    found.panels = [(title, rows) for title, rows in found.panels if rows]
    return found


class Span:
    """What has grown between two looks. None: nothing can be said, or the counter began anew."""

    def __init__(self, before: Look | None, latest: Look) -> None:
        self.before = before.info if before is not None else None
        self.info = latest.info
        self.seconds = latest.at - before.at if before is not None else 0.0

    def grown(self, name: str, part: str = "") -> float | None:
        if self.before is None or self.seconds <= 0 or name not in self.info:
            return None
        old, new = self.before.get(name, ""), self.info[name]
        if part:
            old, new = _parts(old).get(part, "0"), _parts(new).get(part, "0")
        more = float(new) - float(old or 0)
        return more if more >= 0 else None

    def per_second(self, name: str) -> float | None:
        more = self.grown(name)
        return None if more is None else more / self.seconds


def _parts(value: str) -> Fields:
    """name=zone-a,state=up as a mapping; a detail is last and may hold anything."""
    return dict([part.partition("=")[::2] for part in value.split(",")]) if value else {}


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return NOTHING
    return f"{value:,.0f}{unit}" if value >= 10 or value == int(value) else f"{value:.1f}{unit}"


def _over(spent: float | None, count: float | None, scale: float, unit: str) -> str:
    """What one of `count` took."""
    return f"{spent / count * scale:.2f} {unit}" if spent is not None and count else NOTHING


def _bytes(value: float | None) -> str:
    return NOTHING if value is None else f"{human(int(value))}/s"


def _node(info: Fields) -> Rows:
    role, epoch = info["node_role"], info.get("epoch")
    return [
        ("name", info["node_name"]),
        ("role", role + (f" of epoch {epoch}" if epoch and role == "primary" else "")),
        ("version", f"{info['eventdb_version']} ({info['eventdb_build']}), up for {info['uptime_in_seconds']} s"),
        ("log", info["log_url"]),
    ]


def _work(span: Span) -> Rows:
    calls, usec = by_kind(span)
    hits, misses = span.grown("keyspace_hits"), span.grown("keyspace_misses")
    looked = (hits or 0) + (misses or 0)
    rates = {kind: None if span.before is None else calls.get(kind, 0.0) / span.seconds for kind in ("read", "write")}
    cpu = [span.per_second(f"used_cpu_{mode}_main_thread") for mode in ("user", "sys")]
    busy = None if None in cpu else 100 * sum(each or 0 for each in cpu)
    return [
        ("commands", f"{_number(span.per_second('total_commands_processed'))}/s"),
        ("reads, writes", f"{_number(rates['read'])}/s, {_number(rates['write'])}/s"),
        ("time in a read", _over(usec.get("read"), calls.get("read"), 1, "us")),
        ("time in a write", _over(usec.get("write"), calls.get("write"), 1, "us") + " (without the log)"),
        ("hits", f"{100 * (hits or 0) / looked:.0f} %" if looked else NOTHING),
        ("received, sent", f"{_bytes(span.per_second('total_net_input_bytes'))}, "
                           f"{_bytes(span.per_second('total_net_output_bytes'))}"),
        ("errors", f"{_number(span.per_second('total_error_replies'))}/s"),
        ("engine's CPU", _number(busy, " %")),
    ]  # fmt: skip


def by_kind(span: Span) -> tuple[dict[str, float], dict[str, float]]:
    """Calls, and microseconds in them, of reads and of writes."""
    from eventdb.commands import load
    from eventdb.engine.registry import COMMANDS
    from eventdb.server.measures import kind_of

    load()
    kinds = {one.name: kind_of(one) for each in COMMANDS.values() for one in [each, *each.subcommands.values()]}
    calls: dict[str, float] = {}
    usec: dict[str, float] = {}
    for name in span.info:
        if name.startswith("cmdstat_"):
            kind = kinds.get(name[8:], "other")
            calls[kind] = calls.get(kind, 0.0) + (span.grown(name, "calls") or 0.0)
            usec[kind] = usec.get(kind, 0.0) + (span.grown(name, "usec") or 0.0)
    return calls, usec


def _log(span: Span) -> Rows:
    info = span.info
    behind = int(info["offset"]) - int(info["durable_offset"])
    found: Rows = [("durable", f"offset {info['durable_offset']}, {behind} transactions on their way")]
    if "commits" in info:
        commits = span.grown("commits")
        transactions = span.grown("log_transactions")
        each = _over(span.grown("commit_usec"), commits, 1e-3, "ms")
        batch = f"{transactions / commits:.1f} transactions" if transactions is not None and commits else NOTHING
        found += [
            ("commits", f"{_number(span.per_second('commits'))}/s, {each} each, batch of {batch}"),
            ("written", f"{_bytes(span.per_second('log_stored_bytes'))} to each zone"),
        ]
    else:
        found.append(("replayed", f"{_number(span.per_second('events_replayed'))} events/s"))
    if "lease_left_ms" in info:
        found.append(("lease", f"{info['lease_left_ms']} ms left of {info['lease_ms']}"))
    if "snapshot_time" in info:
        age = int(info["server_time_usec"]) // 1_000_000 - int(info["snapshot_time"])
        proven = f"proven {span_of(age)} ago" if int(info["snapshot_time"]) else "none is proven"
        found.append(("snapshot", f"{proven}, {info['rdb_changes_since_last_save']} transactions since"))
    return found


def span_of(seconds: int) -> str:
    """90061 as 1 d 1 h."""
    for size, unit, smaller, less in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // smaller} {less}"
    return f"{max(0, seconds)} s"


def _zones(span: Span) -> Rows:
    found: Rows = []
    for name in span.info:
        if name.startswith("log_zone") and name[8:].isdigit():
            zone = _parts(span.info[name])
            detail = f" ({zone['detail']})" if "detail" in zone else ""
            writes, took = span.grown(name, "writes"), span.grown(name, "write_usec")
            each = f", a synced write takes {_over(took, writes, 1e-3, 'ms')}" if "writes" in zone else ""
            found.append((zone["name"], zone["state"] + detail + each))
    return found


def _replication(info: Fields) -> Rows:
    if info["role"] != "master":
        primary = _address(info["master_host"], info["master_port"]) if info.get("master_host") else "not known"
        behind = f"{info['slave_lag_ms']} ms, {info['slave_lag_offsets']} transactions"
        return [("primary", primary), ("behind", behind)]
    found: Rows = []
    for name in info:
        if name.startswith("slave") and name[5:].isdigit():
            each = _parts(info[name])
            behind = str(max(0, int(info["durable_offset"]) - int(each["offset"])))
            found.append((_address(each["ip"], each["port"]), f"{each['lag_ms']} ms, {behind} transactions behind"))
    return found or [("none", "no other node can take over")]


def _room(span: Span) -> Rows:
    info = span.info
    limit = f" of {info['maxmemory_human']}" if int(info["maxmemory"]) else ", no maxmemory"
    keys = sum(
        int(_parts(value)["keys"]) for name, value in info.items() if name.startswith("db") and name[2:].isdigit()
    )
    gone = f"{_number(span.per_second('expired_keys'))}/s, {_number(span.per_second('evicted_keys'))}/s"
    return [
        ("memory", f"{info['used_memory_human']}{limit}; the process holds {human(int(info['used_memory_rss']))}"),
        ("keys", f"{keys:,}"),
        ("expired, evicted", gone),
        ("clients", f"{info['connected_clients']} of {info['maxclients']}, {info['blocked_clients']} blocked"),
    ]


def _busiest(span: Span) -> Rows:
    """The commands that took most of the time."""
    found: list[tuple[float, str, float]] = []
    for name in span.info:
        calls = span.grown(name, "calls") if name.startswith("cmdstat_") else None
        if calls:
            found.append((span.grown(name, "usec") or 0.0, name[8:].replace("|", " "), calls))
    found.sort(reverse=True)
    return [
        (name, f"{_number(calls / span.seconds)}/s, {usec / calls:.2f} us each")
        for usec, name, calls in found[:BUSIEST]
    ]


def once(cluster: Cluster, interval_s: float) -> list[Frame]:
    """One frame of each node, with the rates of one interval."""
    cluster.frames()
    time.sleep(interval_s)
    return cluster.frames()
