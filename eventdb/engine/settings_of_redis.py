"""Settings that Redis 7.0 has and eventdb reads none of: CONFIG GET shows what is true here.

A group is one reason and the settings it holds for, a line each: names (the first one and its older names), kind,
default, and for a number its bounds, for a choice all choices. "-" is the empty text.
"""

from __future__ import annotations

import os
from typing import Final

from eventdb.engine.setting import (
    CONSTANT,
    FIXED,
    LONG_MAX,
    MEMORY,
    NO_EFFECT,
    NUMBER,
    ONE_OF,
    SAVE_POINTS,
    TEXT,
    YES_NO,
    Setting,
)

_KINDS: Final[dict[str, int]] = {
    "number": NUMBER, "memory": MEMORY, "yes_no": YES_NO, "one_of": ONE_OF, "text": TEXT, "save_points": SAVE_POINTS,
}  # fmt: skip

_NO_EFFECT: Final = (
    (
        "every acknowledged write is durable in the log already; nothing is saved in the background",
        """
        save save_points -
        stop-writes-on-bgsave-error yes_no yes
        rdbcompression yes_no yes
        rdb-save-incremental-fsync yes_no yes
        no-appendfsync-on-rewrite yes_no no
        auto-aof-rewrite-percentage number 100 0 2147483647
        auto-aof-rewrite-min-size memory 67108864
        aof-load-truncated yes_no yes
        aof-rewrite-incremental-fsync yes_no yes
        aof-use-rdb-preamble yes_no yes
        aof-timestamp-enabled yes_no no
        rdb-key-save-delay number 0 -2147483648 2147483647
        """,
    ),
    (
        "a start replays the log, and answers LOADING meanwhile",
        """
        key-load-delay number 0 -2147483648 2147483647
        loading-process-events-interval-bytes number 2097152 1024 2147483647
        """,
    ),
    (
        "eventdb frees values as Python does, and no thread frees them later",
        """
        lazyfree-lazy-eviction yes_no no
        lazyfree-lazy-expire yes_no no
        lazyfree-lazy-server-del yes_no no
        lazyfree-lazy-user-del yes_no no
        lazyfree-lazy-user-flush yes_no no
        replica-lazy-flush/slave-lazy-flush yes_no no
        """,
    ),
    (
        "Python's allocators keep the memory; nothing moves values about",
        """
        activedefrag yes_no no
        active-defrag-cycle-min number 1 1 99
        active-defrag-cycle-max number 25 1 99
        active-defrag-threshold-lower number 10 0 1000
        active-defrag-threshold-upper number 100 0 1000
        active-defrag-max-scan-fields number 1000 1 9223372036854775807
        active-defrag-ignore-bytes memory 104857600 1 9223372036854775807
        jemalloc-bg-thread yes_no yes
        """,
    ),
    (
        "the encoding of such values is the same whatever the bound is, and Redis's own layouts are not used",
        """
        list-max-listpack-size/list-max-ziplist-size number -2 -2147483648 2147483647
        list-compress-depth number 0 0 2147483647
        activerehashing yes_no yes
        """,
    ),
    (
        "what eventdb does on a clock it does as often as it needs, at least ten times a second",
        """
        hz number 10 0 2147483647
        dynamic-hz yes_no yes
        active-expire-effort number 1 1 10
        """,
    ),
    (
        "replicas follow the log and not the primary: there is no link, no backlog and no transfer to tune",
        """
        repl-backlog-size memory 1048576 1 9223372036854775807
        repl-backlog-ttl number 3600 0 9223372036854775807
        repl-timeout number 60 1 2147483647
        repl-ping-replica-period/repl-ping-slave-period number 10 1 2147483647
        repl-disable-tcp-nodelay yes_no no
        repl-diskless-sync yes_no yes
        repl-diskless-sync-delay number 5 0 2147483647
        repl-diskless-sync-max-replicas number 0 0 2147483647
        repl-diskless-load one_of disabled disabled on-empty-db swapdb
        min-replicas-max-lag/min-slaves-max-lag number 10 0 2147483647
        """,
    ),
    (
        "nodes find out about each other by the log: there is no cluster bus, and failover follows the lease",
        """
        cluster-node-timeout number 15000 0 9223372036854775807
        cluster-migration-barrier number 1 0 2147483647
        cluster-replica-validity-factor/cluster-slave-validity-factor number 10 0 2147483647
        cluster-allow-replica-migration yes_no yes
        cluster-link-sendbuf-limit memory 0
        """,
    ),
    (
        "a clean stop waits for what was accepted to be durable, and for no replica",
        """
        shutdown-timeout number 10 0 2147483647
        """,
    ),
    (
        "a TLS client keeps its session itself, as a ticket",
        """
        tls-session-cache-size number 20480 0 2147483647
        tls-session-cache-timeout number 300 0 2147483647
        """,
    ),
)  # fmt: skip

# Redis has them for its own tests: CONFIG GET shows them by their whole name only.
HIDDEN: Final = (
    "rdb-key-save-delay", "key-load-delay", "loading-process-events-interval-bytes", "use-exit-on-panic",
    "watchdog-period",
)  # fmt: skip

_CONSTANT: Final = (
    (
        "eventdb keeps its data in a replicated log: every acknowledged write is durable already",
        """
        appendonly yes_no yes
        appendfsync one_of always everysec always no
        """,
    ),
    (
        "eventdb writes no RDB or AOF file",
        """
        dbfilename text -
        rdb-del-sync-files yes_no no
        aof-disable-auto-gc yes_no no
        """,
    ),
    (
        "of large requests and replies COMMANDLOG keeps nothing: measuring them would cost every command",
        """
        commandlog-request-larger-than number -1 -1 9223372036854775807
        commandlog-reply-larger-than number -1 -1 9223372036854775807
        commandlog-large-request-max-len number 0
        commandlog-large-reply-max-len number 0
        """,
    ),
    ("a payload is always checked before it is used", "sanitize-dump-payload one_of yes no yes clients"),
    ("a client's memory is bounded by flow control", "maxmemory-clients memory 0"),
    (
        "only the primary can append to the log",
        """
        replica-read-only/slave-read-only yes_no yes
        """,
    ),
    (
        "a replica follows the log, which nobody limits by memory or priority",
        """
        replica-ignore-maxmemory/slave-ignore-maxmemory yes_no yes
        replica-ignore-disk-write-errors yes_no no
        replica-announced yes_no yes
        """,
    ),
    ("a node that may never become the primary is started with --role replica", """
        replica-priority/slave-priority number 100 0 2147483647
        cluster-replica-no-failover/cluster-slave-no-failover yes_no no
        """),
    (
        "a replica whose log is silent answers reads of what it has",
        "replica-serve-stale-data/slave-serve-stale-data yes_no yes",
    ),
    (
        "replicas confirm nothing to the primary: the log's zones do",
        "min-replicas-to-write/min-slaves-to-write number 0 0 2147483647",
    ),
    (
        "one log is one shard, which serves all slots or none",
        """
        cluster-require-full-coverage yes_no yes
        cluster-allow-reads-when-down yes_no no
        cluster-allow-pubsubshard-when-down yes_no yes
        """,
    ),
    (
        "what others are given for this node is chosen by --advertise or replica-announce-ip, at the start",
        """
        cluster-announce-ip text -
        cluster-announce-hostname text -
        cluster-announce-port number 0 0 65535
        cluster-announce-bus-port number 0 0 65535
        cluster-announce-tls-port number 0 0 65535
        cluster-preferred-endpoint-type one_of ip ip hostname unknown-endpoint
        """,
    ),
    (
        "a node that cannot apply a record of its log stops and says so",
        "propagation-error-behavior one_of panic ignore panic panic-on-replicas",
    ),
    (
        "the operating system and its service manager decide about the process",
        """
        oom-score-adj one_of no no yes relative absolute
        oom-score-adj-values text 0_200_800
        crash-log-enabled yes_no no
        crash-memcheck-enabled yes_no no
        use-exit-on-panic yes_no no
        watchdog-period number 0 0 2147483647
        proc-title-template text -
        """,
    ),
    (
        "a signal stops the server as SHUTDOWN does: when everything is durable",
        """
        shutdown-on-sigterm one_of default default save nosave now force
        shutdown-on-sigint one_of default default save nosave now force
        """,
    ),
)  # fmt: skip

_FIXED: Final = (
    ("every log has sixteen databases", "databases number 16"),
    ("eventdb runs commands in one thread", "io-threads number 1\nio-threads-do-reads yes_no no"),
    ("the queue of connections not yet accepted", "tcp-backlog number 1024"),
    (
        "eventdb does not have it",
        """
        unixsocket text -
        unixsocketperm number 0
        daemonize yes_no no
        supervised one_of no no systemd upstart auto
        pidfile text -
        logfile text -
        syslog-enabled yes_no no
        syslog-ident text redis
        syslog-facility text local0
        always-show-logo yes_no no
        set-proc-title yes_no no
        disable-thp yes_no no
        server_cpulist text -
        bio_cpulist text -
        aof_rewrite_cpulist text -
        bgsave_cpulist text -
        bind-source-addr text -
        socket-mark-id number 0
        ignore-warnings text -
        enable-module-command one_of no no yes local
        enable-protected-configs one_of no no yes local
        appendfilename text -
        appenddirname text -
        cluster-config-file text -
        cluster-port number 0
        """,
    ),
    ("records of the log always have checksums", "rdbchecksum yes_no yes"),
    ("a node's role follows from its log", "replicaof/slaveof text -"),
)  # fmt: skip


def _read(line: str, change: int, note: str) -> list[Setting]:
    """The settings of one line: one for each name, all with one value."""
    names, kind_name, default, *rest = line.split()
    kind = _KINDS[kind_name]
    value: int | str = int(default) if kind in (NUMBER, MEMORY) else default.replace("_", " ") if default != "-" else ""
    low, high = (int(rest[0]), int(rest[1])) if kind in (NUMBER, MEMORY) and rest else (0, LONG_MAX)
    choices = " ".join(rest) if kind == ONE_OF else ""
    spelled = names.split("/")
    attribute = f"noted.{spelled[0]}" if change == NO_EFFECT else ""
    return [Setting(name, kind, value, attribute, low, high, change, choices, note) for name in spelled]


def _groups(groups: tuple[tuple[str, str], ...], change: int) -> list[Setting]:
    return [
        setting
        for note, text in groups
        for line in text.splitlines()
        if line.strip()
        for setting in _read(line, change, note)
    ]


def _folder() -> str:
    """Where the server was started; "" if that folder is gone."""
    try:
        return os.getcwd()
    except OSError:
        return ""


OF_REDIS: Final[tuple[Setting, ...]] = (
    *_groups(_NO_EFFECT, NO_EFFECT),
    *_groups(_CONSTANT, CONSTANT),
    *_groups(_FIXED, FIXED),
    Setting("dir", TEXT, _folder(), change=FIXED, note="the directory in which the server was started"),
)
