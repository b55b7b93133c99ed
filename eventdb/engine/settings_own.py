"""The settings that eventdb reads: what CONFIG SET or `--config` changes. Names and bounds are Redis's."""

from __future__ import annotations

from typing import Final

from eventdb.engine.setting import (
    EVENT_CLASSES,
    FIXED,
    INT_MAX,
    MEMORY,
    NUMBER,
    ONE_OF,
    OUTPUT_LIMITS,
    PERCENTILES,
    TEXT,
    UINT_MAX,
    YES_NO,
    Setting,
)

POLICIES: Final = (
    "volatile-lru volatile-lfu volatile-random volatile-ttl allkeys-lru allkeys-lfu allkeys-random noeviction"
)
LOG_LEVELS: Final = "debug verbose notice warning"


def _compact(name: str, attribute: str, default: int, kind: int, what: str) -> list[Setting]:
    """A bound of Redis's compact encodings, under its name and the one it had before Redis 7."""
    note = f"OBJECT ENCODING reports the compact encoding of a {what}"
    names = (name, name.replace("listpack", "ziplist"))
    return [Setting(each, kind, default, f"limits.{attribute}", note=note) for each in names]


TLS: Final = (
    Setting(
        "tls-port", NUMBER, 0, "tls.port", 0, 65535, change=FIXED,
        note="the port for TLS (`--tls-port`), beside the plain one; 0: none",
    ),
    Setting("tls-cert-file", TEXT, "", "tls.cert_file", note="the server's certificate, and those above it, as PEM"),
    Setting("tls-key-file", TEXT, "", "tls.key_file", note="its private key; empty: it is in tls-cert-file"),
    Setting("tls-key-file-pass", TEXT, "", "tls.key_file_pass", note="the password of that key"),
    Setting("tls-ca-cert-file", TEXT, "", "tls.ca_cert_file", note="the authorities whose certificates are trusted"),
    Setting(
        "tls-ca-cert-dir", TEXT, "", "tls.ca_cert_dir", note="the same as a folder that `openssl rehash` has prepared"
    ),
    Setting(
        "tls-auth-clients", ONE_OF, "yes", "tls.auth_clients", choices="no yes optional",
        note="whether a client must have a certificate; optional: one that it has must be good",
    ),
    Setting(
        "tls-auth-clients-user", ONE_OF, "off", "tls.auth_clients_user", choices="off cn uri",
        note="the user whom a client's certificate names needs no AUTH: by its common name, or by a URI among its"
        " alternative names",
    ),
    Setting(
        "tls-protocols", TEXT, "", "tls.protocols", note="of TLSv1.2 TLSv1.3, a space between; empty: both"
    ),
    Setting("tls-ciphers", TEXT, "", "tls.ciphers", note="the ciphers of TLSv1.2, as OpenSSL names them"),
    Setting(
        "tls-ciphersuites", TEXT, "", "tls.ciphersuites",
        note="the suites of TLSv1.3; needs a Python that can choose among them (3.15)",
    ),
    Setting(
        "tls-prefer-server-ciphers", YES_NO, "no", "tls.prefer_server_ciphers",
        note="yes: the server's order of ciphers counts, not the client's",
    ),
    Setting(
        "tls-session-caching", YES_NO, "yes", "tls.session_caching",
        note="no: a client that comes again does the whole handshake again",
    ),
    Setting("tls-dh-params-file", TEXT, "", "tls.dh_params_file", note="parameters for ciphers with DHE"),
    Setting(
        "tls-replication", YES_NO, "no", "tls.replication", change=FIXED,
        note="yes: this node speaks TLS to others, and they are given its TLS port",
    ),
    Setting("tls-cluster", YES_NO, "no", "tls.cluster", change=FIXED, note="the same as tls-replication"),
    Setting(
        "tls-client-cert-file", TEXT, "", "tls.client_cert_file",
        note="the certificate that this node shows to others; empty: tls-cert-file",
    ),
    Setting("tls-client-key-file", TEXT, "", "tls.client_key_file", note="its private key"),
    Setting("tls-client-key-file-pass", TEXT, "", "tls.client_key_file_pass", note="the password of that key"),
)  # fmt: skip

OWN: Final[tuple[Setting, ...]] = (
    # which clients may connect, and how much they may send
    Setting("requirepass", TEXT, "", "requirepass", note="password of the default user; empty: none is asked for"),
    Setting(
        "masteruser", TEXT, "", "node_user", note="the user as which this node speaks to the primary; empty: default"
    ),
    Setting("masterauth", TEXT, "", "node_password", note="its password; empty: requirepass"),
    Setting(
        "aclfile", TEXT, "", "acl_file", change=FIXED,
        note="the file with the users, for ACL LOAD and SAVE; empty: they are in the log, and every node has them",
    ),
    Setting(
        "acl-pubsub-default", ONE_OF, "resetchannels", "acl_pubsub_default", choices="allchannels resetchannels",
        note="the channels of a new user: all or none",
    ),
    Setting(
        "iam-cluster-name", TEXT, "", "iam_cluster_name",
        note="the cluster's name in the tokens of users with the rule `iam`; empty: no token counts",
    ),
    Setting("iam-region", TEXT, "", "iam_region", note="the region in their tokens; empty: any"),
    Setting(
        "iam-key-file", TEXT, "", "iam_key_file",
        note="a JSON file of access keys and their policies; read again when it changes",
    ),
    Setting(
        "iam-key-command", TEXT, "", "iam_key_command", change=FIXED,
        note="a command that prints the entry of the access key that is its last argument; counts before iam-key-file",
    ),
    Setting(
        "iam-session-seconds", NUMBER, 43200, "iam_session_seconds", 1, INT_MAX,
        note="seconds after which a connection that came in with a token is closed, unless it authenticated again",
    ),
    Setting("acllog-max-len", NUMBER, 128, "acl_log_entries_max", note="entries of ACL LOG"),
    Setting("maxclients", NUMBER, 10_000, "maxclients", 1, UINT_MAX, note="connections; further ones are refused"),
    Setting(
        "timeout", NUMBER, 0, "idle_seconds_max", 0, INT_MAX,
        note="seconds after which an idle connection is closed; 0: never",
    ),
    Setting(
        "tcp-keepalive", NUMBER, 300, "keepalive_seconds", 0, INT_MAX,
        note="seconds of silence after which TCP probes a new connection's peer; 0: never",
    ),
    Setting("bind", TEXT, "127.0.0.1", "bind", change=FIXED, note="the address it listens on (`--host`)"),
    Setting(
        "port", NUMBER, 6379, "port", 0, 65535, change=FIXED,
        note="the port it listens on (`--port`); 0 beside a tls-port: there is no plain port",
    ),
    Setting(
        "protected-mode", YES_NO, "no", "protected_mode",
        note="yes: while the user default needs no password, only this machine may connect",
    ),
    Setting(
        "client-allow-list", TEXT, "", "client_allow_list",
        note="networks whose addresses may connect, as 10.0.0.0/8, with spaces between; empty: all",
    ),
    Setting(
        "client-deny-list", TEXT, "", "client_deny_list",
        note="networks whose addresses may not connect, even if they are allowed",
    ),
    Setting(
        "maxclients-per-address", NUMBER, 0, "maxclients_per_address", 0, UINT_MAX,
        note="connections of one address; further ones are refused; 0: no limit",
    ),
    Setting(
        "maxclients-unauthenticated", NUMBER, 0, "maxclients_unauthenticated", 0, UINT_MAX,
        note="connections that have not authenticated yet; further ones are refused; 0: no limit",
    ),
    Setting(
        "unauthenticated-timeout", NUMBER, 0, "unauthenticated_seconds_max", 0, INT_MAX,
        note="seconds after which a connection that has not authenticated is closed; 0: never. A TLS handshake has as"
        " long, and never more than 10 s",
    ),
    *TLS,
    Setting(
        "proto-max-bulk-len", MEMORY, 512 << 20, "limits.string_bytes", 1 << 20,
        note="bytes of one argument of a command, and of a string that commands make longer (at most 4 GB)",
    ),
    Setting(
        "client-query-buffer-limit", MEMORY, 1 << 30, "query_buffer_bytes_max", 1 << 20,
        note="bytes of commands that one client has sent and that have not run; a client that sends more is closed",
    ),
    Setting(
        "client-query-buffer-total-limit", MEMORY, 2 << 30, "query_buffers_bytes_max", 1 << 20,
        note="the same of all clients together; above it the newest greedy client is closed",
    ),
    Setting(
        "client-output-buffer-limit", OUTPUT_LIMITS, "",
        note="unread messages at which a subscriber is closed: hard limit, soft limit, seconds; other clients have no"
        " limit, their commands are not run while they read no replies",
    ),
    Setting(
        "enable-debug-command", ONE_OF, "no", "debug_command", change=FIXED, choices="no yes local",
        note="whether DEBUG runs: never, always, or on connections from this machine",
    ),
    # the log
    Setting(
        "commit-timeout", NUMBER, 5000, "commit_timeout_ms", 1, INT_MAX,
        note="milliseconds after which a write that is not durable is answered with an error: its outcome is unknown",
    ),
    Setting(
        "atomic-errors", YES_NO, "no", "atomic_errors",
        note="yes: the first error of an EXEC or a script undoes all of it and nothing is logged; EVENTDB.ATOMIC says"
        " so for one connection. Each key that changes is copied first",
    ),
    Setting(
        "encryption-keys", TEXT, "", "encryption_keys", change=FIXED,
        note="where the keys are that seal the log's records (`--encryption-keys`): file:PATH, env:NAME, command:LINE;"
        " empty: EVENTDB_ENCRYPTION_KEYS says it",
    ),
    # commands with a token (EVENTDB.ONCE)
    Setting(
        "once-retention-ms", NUMBER, 600_000, "limits.once_retention_ms", 1,
        note="milliseconds for which the outcome of a command with a token is kept; a repeat after that runs again",
    ),
    Setting(
        "once-max-tokens", NUMBER, 1_000_000, "limits.once_tokens_max", 1,
        note="outcomes that are kept; while none of them is old enough to be dropped, further tokens are refused",
    ),
    Setting(
        "once-max-reply", MEMORY, 16 << 10, "limits.once_reply_bytes_max",
        note="bytes of a reply that is kept; instead of a larger one a repeat gets an error that says that it ran",
    ),
    # scripts
    *[
        Setting(
            name, NUMBER, 5000, "busy_reply_ms",
            note="milliseconds after which a script that runs is BUSY: others are answered so, and may end it by SCRIPT"
            " KILL or FUNCTION KILL; 0: they wait",
        )
        for name in ("busy-reply-threshold", "lua-time-limit")
    ],
    Setting(
        "script-time-limit", NUMBER, 30_000, "script_limit_ms",
        note="milliseconds after which a script or a function is stopped by an error; what it wrote stays; 0: never."
        " Redis has no such limit",
    ),
    # how clients and nodes find this node
    Setting(
        "cluster-enabled", YES_NO, "no", "cluster_enabled", change=FIXED,
        note="speak the protocol of Redis Cluster: one database, redirects, CLUSTER",
    ),
    Setting(
        "sentinel-service-name", TEXT, "mymaster", "sentinel_service_name",
        note="the names that SENTINEL commands give to this log's primary, a space between them",
    ),
    Setting(
        "primary-serve-stale-data", YES_NO, "no", "serve_stale_data",
        note="yes: a primary that alone has lost its log goes on answering reads; another one may serve newer data",
    ),
    Setting(
        "replica-read-mode", ONE_OF, "fast", "replica_read_mode", change=FIXED, choices="fast fresh",
        note="fresh: a replica's read waits for what the primary had made durable when it came",
    ),
    Setting(
        "replica-read-timeout", NUMBER, 5, "replica_read_timeout_ms", 1, INT_MAX,
        note="milliseconds that a fresh read waits for the primary's offset before it is an error",
    ),
    Setting(
        "replica-announce-ip", TEXT, "", "announce_host", change=FIXED,
        note="the host that others are given for this node, be it primary or replica; a name will do",
    ),
    Setting(
        "slave-announce-ip", TEXT, "", "announce_host", change=FIXED,
        note="older name of replica-announce-ip",
    ),
    Setting(
        "replica-announce-port", NUMBER, 0, "announce_port", 0, 65535, change=FIXED,
        note="the port that others are given for this node; 0: the one it listens on",
    ),
    Setting(
        "slave-announce-port", NUMBER, 0, "announce_port", 0, 65535, change=FIXED,
        note="older name of replica-announce-port",
    ),
    # memory
    Setting(
        "maxmemory", MEMORY, 0, "memory_bytes_max",
        note="bytes above which commands that need memory are refused with -OOM on the primary, or keys evicted by it"
        " (`maxmemory-policy`); 0: no limit. used_memory of INFO is compared, ten times a second or more often",
    ),
    Setting(
        "maxmemory-policy", ONE_OF, "noeviction", "maxmemory_policy", choices=POLICIES,
        note="what the primary does above `maxmemory`: any policy but noeviction deletes data that nobody asked to"
        " delete, by DEL events of the log. An LRU policy keeps times of access (OBJECT IDLETIME), an LFU policy"
        " frequencies (OBJECT FREQ), of each node its own; both cost each command some time",
    ),
    Setting(
        "maxmemory-samples", NUMBER, 5, "memory_samples", 1, INT_MAX,
        note="keys that an LRU or LFU policy looks at to find the next one to evict",
    ),
    Setting(
        "maxmemory-eviction-tenacity", NUMBER, 10, "eviction_tenacity", 0, 100,
        note="how long one command may evict: 10 is half a millisecond, 100 until it is enough",
    ),
    Setting(
        "track-access", YES_NO, "no", "track_access",
        note="keep when each key was last used, for OBJECT IDLETIME; costs each command some time",
    ),
    Setting(
        "lfu-log-factor", NUMBER, 10, "lfu_log_factor", 0, INT_MAX,
        note="how slowly OBJECT FREQ grows under an LFU policy",
    ),
    Setting(
        "lfu-decay-time", NUMBER, 1, "lfu_decay_minutes", 0, INT_MAX,
        note="minutes after which OBJECT FREQ is one less under an LFU policy; 0: it never is",
    ),
    *_compact("hash-max-listpack-entries", "hash_entries", 512, NUMBER, "hash of at most that many fields"),
    *_compact("hash-max-listpack-value", "hash_value", 64, MEMORY, "hash whose fields and values are no longer"),
    *_compact("zset-max-listpack-entries", "zset_entries", 128, NUMBER, "sorted set of at most that many members"),
    *_compact("zset-max-listpack-value", "zset_value", 64, MEMORY, "sorted set whose members are no longer"),
    Setting(
        "set-max-intset-entries", NUMBER, 512, "limits.set_intset_entries",
        note="OBJECT ENCODING reports intset of a set of at most that many integers",
    ),
    Setting(
        "hll-sparse-max-bytes", MEMORY, 3000, "limits.hll_sparse_bytes",
        note="bytes from which on a HyperLogLog is written in the dense encoding",
    ),
    Setting(
        "stream-node-max-entries", NUMBER, 100, "limits.stream_entries",
        note="entries of a block of a stream; XADD and XTRIM with `~` take away whole blocks; 0: no limit",
    ),
    Setting(
        "stream-node-max-bytes", MEMORY, 4096, "limits.stream_bytes",
        note="about how long such a block may get; 0, or above 512 KB: 512 KB",
    ),
    # telling clients of changes
    Setting(
        "notify-keyspace-events", EVENT_CLASSES, "", "notify_classes",
        note="which changes of keys are published, and where: K to __keyspace@<db>__, E to __keyevent@<db>__; classes"
        " g$lshzxetd or A for them all, n new keys, m reads that find no key; empty: none",
    ),
    Setting(
        "tracking-table-max-keys", NUMBER, 1_000_000, "tracking_keys_max",
        note="keys that are noted for clients that cache (CLIENT TRACKING); above it those noted first are given up,"
        " and their clients told to forget them; 0: no limit",
    ),
    # snapshots
    Setting(
        "snapshot-store", TEXT, "", "snapshot_store", change=FIXED,
        note="where snapshots of the log are (`--snapshot-store`): a directory, or a URL such as s3://bucket/prefix; a"
        " start, and a replica that a trim has outrun, begin with the newest that can be used, BGSAVE and SAVE put one"
        " there, LASTSAVE and INFO look for them; empty: nowhere",
    ),
    # watching the server
    Setting(
        "metrics-port", NUMBER, 0, "metrics_port", 0, 65535, change=FIXED,
        note="the port of /metrics for Prometheus, /healthz and /readyz (`--metrics-port`); 0: none",
    ),
    Setting("metrics-bind", TEXT, "127.0.0.1", "metrics_bind", change=FIXED, note="the address of `metrics-port`"),
    Setting(
        "metrics-ready-lag", NUMBER, 10_000, "metrics_ready_lag_ms", 0, INT_MAX,
        note="milliseconds that a replica may be behind and still be ready at /readyz",
    ),
    Setting(
        "traces-endpoint", TEXT, "", "traces_endpoint", change=FIXED,
        note="where OpenTelemetry traces go, by OTLP over HTTP: http://HOST:4318/v1/traces; empty: there are none",
    ),
    Setting(
        "traces-slower-than", NUMBER, 10_000, "traces_slow_usec", -1,
        note="microseconds from which on a command is a span of the traces; -1: none is",
    ),
    Setting("loglevel", ONE_OF, "notice", "log_level", choices=LOG_LEVELS, note="which lines the server's log has"),
    Setting(
        "slowlog-log-slower-than", NUMBER, 10_000, "slowlog_usec", -1,
        note="microseconds from which on SLOWLOG keeps a command; -1: it keeps none",
    ),
    Setting("slowlog-max-len", NUMBER, 128, "slowlog_entries_max", note="entries of SLOWLOG"),
    Setting(
        "commandlog-execution-slower-than", NUMBER, 10_000, "slowlog_usec", -1,
        note="slowlog-log-slower-than by its name in Valkey 8.1",
    ),
    Setting(
        "commandlog-slow-execution-max-len", NUMBER, 128, "slowlog_entries_max",
        note="slowlog-max-len by its name in Valkey 8.1",
    ),
    Setting(
        "latency-monitor-threshold", NUMBER, 0, "latency_threshold_ms",
        note="milliseconds from which on LATENCY keeps an event; 0: it keeps none",
    ),
    Setting(
        "latency-tracking", YES_NO, "no", "latency_tracking",
        note="keep a histogram of each command's duration for LATENCY HISTOGRAM and INFO latencystats; costs each"
        " command some time, so it is off unless asked for",
    ),
    Setting(
        "latency-tracking-info-percentiles", PERCENTILES, "50 99 99.9", "latency_percentiles",
        note="the percentiles of INFO latencystats",
    ),
)  # fmt: skip
