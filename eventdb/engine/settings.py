"""The settings of one node: every name that CONFIG GET shows, and the values it has here.

`setting.py` says what a setting is, `settings_own.py` lists those that do something, `settings_of_redis.py` those that
Redis has besides. docs/configuration.md is made from these tables.
"""

from __future__ import annotations

import resource
from typing import Final

from eventdb.backends import discreet
from eventdb.engine.setting import (
    CONSTANT,
    FIXED,
    LONG_MAX,
    OUTPUT_LIMITS,
    TEXT,
    Setting,
    SettingError,
    memory,
    whole_number,
)
from eventdb.engine.settings_of_redis import OF_REDIS
from eventdb.engine.settings_own import OWN
from eventdb.keyspace.value import Limits
from eventdb.security.networks import networks
from eventdb.security.tls import Tls

REDIS_VERSION: Final = "7.0.15"  # whose commands, replies and error texts eventdb has
RESERVED_FILES: Final = 64  # descriptors that are not clients: segments, listeners, standard streams
OUTPUT_LIMIT_MIN: Final = 1 << 20  # what a socket's buffer may hold without anybody being told

SETTINGS: Final[dict[str, Setting]] = {setting.name: setting for setting in (*OWN, *OF_REDIS)}


ADJUSTED: Final[dict[str, tuple[int, int]]] = {  # Redis accepts what lies outside, and takes the nearest
    "hz": (1, 500),
    "repl-backlog-size": (16384, LONG_MAX),
}


class Config:
    """The settings of one node. Hot code reads attributes; CONFIG GET and SET go by name."""

    def __init__(self) -> None:
        self.limits = Limits()
        self.file = ""  # the configuration file that the server was started with
        self.tls = Tls()
        self.protected_mode = "no"
        self.client_allow_list = ""  # networks; "": everybody
        self.client_deny_list = ""
        self.maxclients_per_address = 0  # 0: no limit
        self.maxclients_unauthenticated = 0
        self.unauthenticated_seconds_max = 0
        self.noted: dict[str, int | str] = {}  # settings without effect, which are only shown again
        self.requirepass = b""
        self.node_user = ""  # of this node at the primary
        self.node_password = ""
        self.acl_file = ""  # "": users are in the log
        self.iam_cluster_name = ""  # in tokens; "": nobody logs in with one
        self.iam_region = ""  # "": any
        self.iam_key_file = ""
        self.iam_key_command = ""
        self.iam_session_seconds = 43200
        self.acl_pubsub_default = "resetchannels"
        self.acl_log_entries_max = 128
        self.maxclients = 10_000
        self.idle_seconds_max = 0  # 0: for ever
        self.keepalive_seconds = 300  # of silence before TCP asks whether the peer still exists; 0: never
        self.commit_timeout_ms = 5000
        self.atomic_errors = "no"
        self.busy_reply_ms = 5000  # that a script may keep everybody waiting; 0: for ever
        self.script_limit_ms = 30_000  # after which a script is stopped; 0: never
        self.query_buffer_bytes_max = 1 << 30  # of commands that one client has sent and that have not run
        self.query_buffers_bytes_max = 2 << 30  # … all clients; then the newest greedy one is closed
        self.pubsub_bytes_hard_max = 32 << 20  # unread messages at which a subscriber is closed; 0: never
        self.pubsub_bytes_soft_max = 8 << 20  # … when it stays above for `pubsub_soft_seconds`; 0: never
        self.pubsub_soft_seconds = 60
        self.slowlog_usec = 10_000  # -1: nothing is logged
        self.slowlog_entries_max = 128
        self.debug_command = "no"
        self.cluster_enabled = "no"
        self.serve_stale_data = "no"
        self.encryption_keys = ""
        self.sentinel_service_name = "mymaster"
        self.announce_host = ""  # where others reach this node; "" and 0: where it listens
        self.announce_port = 0
        self.replica_read_mode = "fast"
        self.replica_read_timeout_ms = 5
        self.bind = "127.0.0.1"
        self.port = 6379
        self.memory_bytes_max = 0  # 0: no limit
        self.maxmemory_policy = "noeviction"
        self.memory_samples = 5
        self.eviction_tenacity = 10
        self.track_access = "no"
        self.lfu_log_factor = 10
        self.lfu_decay_minutes = 1
        self.snapshot_store = ""
        self.log_level = "notice"
        self.metrics_port = 0  # 0: nothing listens
        self.metrics_bind = "127.0.0.1"
        self.metrics_ready_lag_ms = 10_000
        self.traces_endpoint = ""  # "": no traces
        self.traces_slow_usec = 10_000  # -1: no command is a span
        self.notify_classes = ""  # of keyspace notifications
        self.tracking_keys_max = 1_000_000  # 0: no limit
        self.latency_threshold_ms = 0  # 0: LATENCY keeps nothing
        self.latency_tracking = "no"
        self.latency_percentiles = "50 99 99.9"
        for setting in SETTINGS.values():
            if setting.attribute:
                self._put(setting, setting.default)

    def shown(self, name: str) -> str:
        """The value as CONFIG GET prints it: that of a URL without its password. KeyError: no such setting."""
        setting = SETTINGS[name]
        value = self.get(name)
        return discreet.shown(value) if setting.kind == TEXT and setting.change == FIXED else value

    def get(self, name: str) -> str:
        """The value as a file of settings has it. KeyError: no such setting."""
        setting = SETTINGS[name]
        if setting.kind == OUTPUT_LIMITS:
            hard, soft, seconds = self.pubsub_bytes_hard_max, self.pubsub_bytes_soft_max, self.pubsub_soft_seconds
            return f"normal 0 0 0 slave 268435456 67108864 60 pubsub {hard} {soft} {seconds}"
        value: object = setting.default
        if setting.attribute.startswith("limits."):
            value = getattr(self.limits, setting.attribute.removeprefix("limits."))
        elif setting.attribute.startswith("tls."):
            value = getattr(self.tls, setting.attribute.removeprefix("tls."))
        elif setting.attribute.startswith("noted."):
            value = self.noted[setting.attribute.removeprefix("noted.")]
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
                raise SettingError(f"it is always {str(setting.default)!r}: {setting.note}")
            self.change([(setting, self.checked(setting, value))])
        except SettingError as failure:
            raise SettingError(f"{name}: {failure}") from None

    def checked(self, setting: Setting, text: str) -> int | str:
        """Parse a value and hold it to what this server can do. Raises SettingError."""
        value = setting.parse(text)
        if setting.change == CONSTANT and str(value) != self.get(setting.name):
            raise SettingError(setting.note)
        if setting.name == "maxclients":
            _reserve_files(int(value))
        elif setting.name == "sentinel-service-name":
            names = text.split(" ")
            if "" in names or len(set(names)) < len(names) or not text.isprintable():
                raise SettingError("argument must be one or more different names with a space between")
        elif setting.kind == OUTPUT_LIMITS:
            _output_limits(text)
        elif setting.name in ("client-allow-list", "client-deny-list"):
            try:
                networks(text)
            except ValueError as error:
                raise SettingError(str(error)) from None
        return value

    def greeting(self) -> list[bytes]:
        """What this node says first to another one; nothing where no password is asked for."""
        password = self.node_password.encode("utf-8", "surrogateescape") or self.requirepass
        if not password:
            return []
        user = self.node_user.encode("utf-8", "surrogateescape")
        return [b"AUTH", user, password] if user else [b"AUTH", password]

    def check_tls(self, values: list[tuple[Setting, int | str]]) -> Tls | None:
        """What TLS would be with these values, ready for use; None: they change nothing of it. Raises TlsError."""
        changes = {
            setting.attribute.removeprefix("tls."): value
            for setting, value in values
            if setting.attribute.startswith("tls.")
        }
        if not changes:
            return None
        made = self.tls.changed(changes)
        made.check()
        return made

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
        elif attribute.startswith("tls."):
            self.tls.put(attribute.removeprefix("tls."), value)
        elif attribute.startswith("noted."):
            low, high = ADJUSTED.get(setting.name, (0, 0))
            self.noted[attribute.removeprefix("noted.")] = min(high, max(low, int(value))) if high else value
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
