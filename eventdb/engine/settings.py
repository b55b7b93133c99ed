"""Settings: every name that CONFIG GET shows, its bounds, and what CONFIG SET may do with it.

A setting has one of three kinds of change. FREE: CONFIG SET changes what the server does. FIXED: chosen at the start
(`eventdb serve --config name=value`). CONSTANT: Redis can change it and eventdb cannot, so only the value that is true
here is accepted: nobody is told OK for a setting that does nothing.
Names, bounds and texts follow redis src/config.c where Redis has the setting.
"""

from __future__ import annotations

import resource
from typing import Final

from eventdb.keyspace.value import Limits

REDIS_VERSION: Final = "7.0.15"  # whose commands, replies and error texts eventdb has

FREE: Final = 0
FIXED: Final = 1
CONSTANT: Final = 2

NUMBER: Final = 0
MEMORY: Final = 1  # bytes; "64mb" is understood
YES_NO: Final = 2
ONE_OF: Final = 3
TEXT: Final = 4
OUTPUT_LIMITS: Final = 5

INT_MAX: Final = 2**31 - 1
UINT_MAX: Final = 2**32 - 1
LONG_MAX: Final = 2**63 - 1
RESERVED_FILES: Final = 64  # descriptors that are not clients: segments, listeners, standard streams
OUTPUT_LIMIT_MIN: Final = 1 << 20  # what a socket's buffer may hold without anybody being told

UNITS: Final[dict[str, int]] = {
    "": 1, "b": 1, "k": 1000, "kb": 1 << 10, "m": 1000**2, "mb": 1 << 20, "g": 1000**3, "gb": 1 << 30,
}  # fmt: skip


class SettingError(ValueError):
    """A value that a setting cannot have; the text is what Redis says after the setting's name."""


class Setting:
    """One name of CONFIG GET."""

    def __init__(
        self,
        name: str,
        kind: int,
        default: int | str,
        attribute: str = "",
        low: int = 0,
        high: int = LONG_MAX,
        change: int = FREE,
        choices: str = "",
        why: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.attribute = attribute  # of Config; "limits.x" of its Limits; "" when only CONFIG GET knows it
        self.low = low
        self.high = high
        self.change = change
        self.choices = choices.split()
        self.why = why  # for CONSTANT: why it is not otherwise

    def parse(self, text: str) -> int | str:
        """The value that the text means. Raises SettingError."""
        kind = self.kind
        if kind == NUMBER:
            return self._within(whole_number(text))
        if kind == MEMORY:
            return self._within(memory(text))
        if kind == YES_NO:
            if text.lower() not in ("yes", "no"):
                raise SettingError("argument must be 'yes' or 'no'")
            return text.lower()
        if kind == ONE_OF:
            if text.lower() not in self.choices:
                raise SettingError("argument(s) must be one of the following: " + ", ".join(self.choices))
            return text.lower()
        return text

    def _within(self, value: int) -> int:
        if not self.low <= value <= self.high:
            raise SettingError(f"argument must be between {self.low} and {self.high} inclusive")
        return value


def whole_number(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or (digits[0] == "0" and text != "0") or len(digits) > 19:
        raise SettingError("argument couldn't be parsed into an integer")
    value = int(text)
    if not -LONG_MAX - 1 <= value <= LONG_MAX:
        raise SettingError("argument couldn't be parsed into an integer")
    return value


def memory(text: str) -> int:
    """Bytes: a number and a unit; k is 1000, kb is 1024."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text[len(digits) :].lower()
    if not (digits.isascii() and (digits or "0").isdigit()) or unit not in UNITS or len(digits) > 19:
        raise SettingError("argument must be a memory value")
    return int(digits or "0") * UNITS[unit]  # nothing is zero, as in redis memtoull


_POLICIES: Final = (
    "volatile-lru volatile-lfu volatile-random volatile-ttl allkeys-lru allkeys-lfu allkeys-random noeviction"
)
_NO_EVICTION: Final = "eventdb never evicts: what was acknowledged is kept"
_LOG: Final = "eventdb keeps its data in a replicated log: every acknowledged write is durable already"


def _compact(name: str, attribute: str, default: int, kind: int = NUMBER) -> list[Setting]:
    """A bound of Redis's compact encodings, under its name and the one it had before Redis 7."""
    low, high = (-(2**31), INT_MAX) if name.startswith("list-") else (0, LONG_MAX)
    names = (name, name.replace("listpack", "ziplist"))
    return [Setting(each, kind, default, f"limits.{attribute}", low, high) for each in names]


SETTINGS: Final[dict[str, Setting]] = {
    setting.name: setting
    for setting in (
        # who may connect, and how much they may send
        Setting("requirepass", TEXT, "", "requirepass"),
        Setting("maxclients", NUMBER, 10_000, "maxclients", 1, UINT_MAX),
        Setting("timeout", NUMBER, 0, "idle_seconds_max", 0, INT_MAX),
        Setting("tcp-keepalive", NUMBER, 300, "keepalive_seconds", 0, INT_MAX),
        Setting("tcp-backlog", NUMBER, 1024, change=FIXED),
        Setting("bind", TEXT, "127.0.0.1", "bind", change=FIXED),
        Setting("port", NUMBER, 6379, "port", 0, 65535, change=FIXED),
        Setting("unixsocket", TEXT, "", change=FIXED),
        Setting("io-threads", NUMBER, 1, change=FIXED),
        Setting("proto-max-bulk-len", MEMORY, 512 << 20, "bulk_bytes_max", 1 << 20),
        Setting("client-query-buffer-limit", MEMORY, 1 << 30, "query_buffer_bytes_max", 1 << 20),
        Setting("client-output-buffer-limit", OUTPUT_LIMITS, ""),
        Setting("enable-debug-command", ONE_OF, "no", "debug_command", change=FIXED, choices="no yes local"),
        # the log
        Setting("commit-timeout", NUMBER, 5000, "commit_timeout_ms", 1, INT_MAX),
        Setting("appendonly", YES_NO, "yes", change=CONSTANT, why=_LOG),
        Setting("appendfsync", ONE_OF, "always", change=CONSTANT, choices="everysec always no", why=_LOG),
        Setting("save", TEXT, "", change=CONSTANT, why=_LOG),
        Setting("databases", NUMBER, 16, change=FIXED),
        # who finds this node, and how
        Setting("cluster-enabled", YES_NO, "no", "cluster_enabled", change=FIXED),
        Setting("sentinel-service-name", TEXT, "mymaster", "sentinel_service_name"),
        Setting("replica-announce-ip", TEXT, "", "announce_host", change=FIXED),  # of a primary too; a name will do
        Setting("replica-announce-port", NUMBER, 0, "announce_port", 0, 65535, change=FIXED),
        Setting("replica-read-only", YES_NO, "yes", change=CONSTANT, why="only the primary can append to the log"),
        Setting("slave-read-only", YES_NO, "yes", change=CONSTANT, why="only the primary can append to the log"),
        Setting("replica-read-mode", ONE_OF, "fast", "replica_read_mode", change=FIXED, choices="fast fresh"),
        Setting("replica-read-timeout", NUMBER, 5, "replica_read_timeout_ms", 1, INT_MAX),  # ms, of a fresh read
        Setting("daemonize", YES_NO, "no", change=FIXED),
        # memory
        Setting("maxmemory", MEMORY, 0, change=CONSTANT, why=_NO_EVICTION),
        Setting("maxmemory-policy", ONE_OF, "noeviction", change=CONSTANT, choices=_POLICIES, why=_NO_EVICTION),
        Setting("maxmemory-clients", MEMORY, 0, change=CONSTANT, why="a client's memory is bounded by flow control"),
        *_compact("hash-max-listpack-entries", "hash_entries", 512),
        *_compact("hash-max-listpack-value", "hash_value", 64, MEMORY),
        *_compact("list-max-listpack-size", "list_size", -2),
        *_compact("zset-max-listpack-entries", "zset_entries", 128),
        *_compact("zset-max-listpack-value", "zset_value", 64, MEMORY),
        Setting("set-max-intset-entries", NUMBER, 512, "limits.set_intset_entries"),
        # watching the server
        Setting("slowlog-log-slower-than", NUMBER, 10_000, "slowlog_usec", -1),
        Setting("slowlog-max-len", NUMBER, 128, "slowlog_entries_max"),
        Setting("latency-tracking", YES_NO, "no", change=CONSTANT, why="eventdb keeps no latency histograms"),
        Setting("latency-monitor-threshold", NUMBER, 0, change=CONSTANT, why="eventdb has no latency monitor"),
        Setting("notify-keyspace-events", TEXT, "", change=CONSTANT, why="eventdb has no keyspace notifications yet"),
    )
}


class Config:
    """The settings of one node. Hot code reads attributes; CONFIG GET and SET go by name."""

    def __init__(self) -> None:
        self.limits = Limits()
        self.requirepass = b""
        self.maxclients = 10_000
        self.idle_seconds_max = 0  # 0: for ever
        self.keepalive_seconds = 300  # of silence before TCP asks whether the peer is there; 0: never
        self.commit_timeout_ms = 5000
        self.query_buffer_bytes_max = 1 << 30  # of an unfinished command
        self.bulk_bytes_max = 512 << 20
        self.pubsub_bytes_hard_max = 32 << 20  # unread messages at which a subscriber is closed; 0: never
        self.pubsub_bytes_soft_max = 8 << 20  # … when it stays above for `pubsub_soft_seconds`; 0: never
        self.pubsub_soft_seconds = 60
        self.slowlog_usec = 10_000  # -1: nothing is logged
        self.slowlog_entries_max = 128
        self.debug_command = "no"
        self.cluster_enabled = "no"
        self.sentinel_service_name = "mymaster"
        self.announce_host = ""  # where others reach this node; "" and 0: where it listens
        self.announce_port = 0
        self.replica_read_mode = "fast"
        self.replica_read_timeout_ms = 5
        self.bind = "127.0.0.1"
        self.port = 6379
        for setting in SETTINGS.values():
            if setting.attribute:
                self._put(setting, setting.default)

    def get(self, name: str) -> str:
        """The value as CONFIG GET prints it. KeyError: no such setting."""
        setting = SETTINGS[name]
        if setting.kind == OUTPUT_LIMITS:
            hard, soft, seconds = self.pubsub_bytes_hard_max, self.pubsub_bytes_soft_max, self.pubsub_soft_seconds
            return f"normal 0 0 0 slave 268435456 67108864 60 pubsub {hard} {soft} {seconds}"
        value: object = setting.default
        if setting.attribute.startswith("limits."):
            value = getattr(self.limits, setting.attribute.removeprefix("limits."))
        elif setting.attribute:
            value = getattr(self, setting.attribute)
        return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)

    def set(self, name: str, value: str) -> None:
        """Set any setting by name before the start, FIXED ones too. Raises SettingError, which is a ValueError."""
        setting = SETTINGS.get(name.lower())
        if setting is None:
            raise SettingError(f"there is no setting '{name}'")
        try:
            if setting.change == FIXED and not setting.attribute and value != str(setting.default):
                raise SettingError(f"eventdb has it at {setting.default!r} always")
            self.change([(setting, self.checked(setting, value))])
        except SettingError as failure:
            raise SettingError(f"{name}: {failure}") from None

    def checked(self, setting: Setting, text: str) -> int | str:
        """Parse a value and hold it to what this server can do. Raises SettingError."""
        value = setting.parse(text)
        if setting.change == CONSTANT and str(value) != self.get(setting.name):
            raise SettingError(setting.why)
        if setting.name == "maxclients":
            _reserve_files(int(value))
        elif setting.name == "sentinel-service-name":
            names = text.split(" ")
            if "" in names or len(set(names)) < len(names) or not text.isprintable():
                raise SettingError("argument must be one or more different names with a space between")
        elif setting.kind == OUTPUT_LIMITS:
            _output_limits(text)
        return value

    def change(self, values: list[tuple[Setting, int | str]]) -> None:
        """Take values that `checked` has accepted; nothing can fail any more."""
        for setting, value in values:
            if setting.kind == OUTPUT_LIMITS:
                for kind, hard, soft, seconds in _output_limits(str(value)):
                    if kind == "pubsub":
                        self.pubsub_bytes_hard_max, self.pubsub_bytes_soft_max = hard, soft
                        self.pubsub_soft_seconds = seconds
            elif setting.attribute:
                self._put(setting, value)

    def _put(self, setting: Setting, value: int | str) -> None:
        attribute = setting.attribute
        if attribute.startswith("limits."):
            setattr(self.limits, attribute.removeprefix("limits."), value)
        elif attribute == "requirepass":
            self.requirepass = str(value).encode("utf-8", "surrogateescape")
        else:
            setattr(self, attribute, value)


def _reserve_files(clients: int) -> None:
    """Let the process open that many connections. Raises SettingError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = clients + RESERVED_FILES
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise SettingError(
            "The operating system is not able to handle the specified number of clients, try with"
            f" {hard - RESERVED_FILES}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _output_limits(text: str) -> list[tuple[str, int, int, int]]:
    """Read "class hard soft seconds …". Only subscribers have limits here. Raises SettingError."""
    words = text.split()
    if len(words) % 4:
        raise SettingError("Wrong number of arguments in buffer limit configuration.")
    found: list[tuple[str, int, int, int]] = []
    for i in range(0, len(words), 4):
        kind = words[i].lower()
        if kind not in ("normal", "slave", "replica", "pubsub"):
            raise SettingError("Invalid client class specified in buffer limit configuration.")
        try:
            limit = (memory(words[i + 1]), memory(words[i + 2]), whole_number(words[i + 3]))
        except SettingError:
            limit = (0, 0, -1)
        if limit[2] < 0:
            raise SettingError("Error in hard, soft or soft_seconds setting in buffer limit configuration.")
        if kind == "pubsub" and (0 < limit[0] < OUTPUT_LIMIT_MIN or 0 < limit[1] < OUTPUT_LIMIT_MIN):
            raise SettingError(f"eventdb looks at unread messages from {OUTPUT_LIMIT_MIN} bytes on")
        if kind == "normal" and limit[:2] != (0, 0):
            raise SettingError("eventdb stops running the commands of a client that does not read, and never closes it")
        if kind in ("slave", "replica") and limit != (268435456, 67108864, 60):
            raise SettingError("eventdb's replicas follow the log and have no output buffer on the primary")
        found.append((kind, *limit))
    return found
