"""Redis's configuration file: what it says is done, or noted, or refused with the reason; CONFIG REWRITE keeps it."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from eventdb.engine.config_file import ConfigFileError, load, quoted, rewritten, split
from eventdb.engine.setting import FREE
from eventdb.engine.settings import SETTINGS, Config
from tests.conftest import StartServer
from tests.kit.differential import Wire
from tests.kit.harness import Local

# As packages install it: long comments, every default spelled out, save points, three output limits.
PACKAGED = """
# Redis configuration file example.
# include /path/to/local.conf
# loadmodule /path/to/my_module.so
bind 127.0.0.1 -::1
protected-mode yes
port 6379
tcp-backlog 511
timeout 0
tcp-keepalive 300
daemonize no
pidfile /run/redis/redis-server.pid
loglevel notice
logfile /var/log/redis/redis-server.log
databases 16
always-show-logo no
set-proc-title yes
proc-title-template "{title} {listen-addr} {server-mode}"
# save 3600 1 300 100
save 3600 1
save 300 100 60 10000
rdbchecksum yes
dbfilename dump.rdb
dir /var/lib/redis
# replicaof <masterip> <masterport>
replica-serve-stale-data yes
repl-diskless-sync-delay 5
replica-priority 100
acllog-max-len 128
lazyfree-lazy-user-del no
oom-score-adj-values 0 200 800
disable-thp yes
appendonly yes
appendfilename "appendonly.aof"
appendfsync everysec
auto-aof-rewrite-min-size 64mb
notify-keyspace-events ""
hash-max-listpack-entries 512
zset-max-ziplist-value 64
client-output-buffer-limit normal 0 0 0
client-output-buffer-limit replica 256mb 64mb 60
client-output-buffer-limit pubsub 32mb 8mb 60
hz 10
"""


def written(folder: Path, text: str, name: str = "redis.conf") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return str(path)


def loaded(folder: Path, text: str) -> Config:
    config = Config()
    load(written(folder, text), config)
    return config


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("save 3600 1", ["save", "3600", "1"]),
        ("  maxmemory\t100mb  ", ["maxmemory", "100mb"]),
        ('requirepass "a b"', ["requirepass", "a b"]),
        ('requirepass "\\x41\\n\\"\\q"', ["requirepass", 'A\n"q']),
        ("requirepass 'a \\' \\n'", ["requirepass", "a ' \\n"]),
        ('notify-keyspace-events ""', ["notify-keyspace-events", ""]),
        ('requirepass a"b c"', ["requirepass", "ab c"]),
        ('requirepass "a"b', None),
        ("requirepass 'a", None),
        ('requirepass "\\', None),
        ("", []),
    ],
)
def test_a_line_is_split_as_redis_splits_it(line: str, words: list[str] | None) -> None:
    assert split(line) == words


@pytest.mark.parametrize(
    "word", ["plain", "", "two words", 'quo"te', "back\\slash", "a'b", "#x", "\n\t\x01", "ä\udcff"]
)
def test_a_word_that_is_written_is_read_again(word: str) -> None:
    assert split(f"name {quoted(word)}") == ["name", word]


def test_a_packaged_file_is_read_with_a_note_for_each_line_that_means_nothing(tmp_path: Path) -> None:
    config = Config()
    path = written(tmp_path, PACKAGED)
    notes = load(path, config)
    assert config.bind == "127.0.0.1 -::1" and config.pubsub_bytes_hard_max == 32 << 20
    assert config.get("save") == "3600 1 300 100 60 10000"
    about = [re.sub(rf"^{re.escape(path)}:\d+: ", "", note).split(" ")[0].rstrip(":") for note in notes]
    silent = [
        "protected-mode", "tcp-backlog", "daemonize", "pidfile", "logfile", "databases", "always-show-logo",
        "set-proc-title", "proc-title-template", "save", "rdbchecksum", "dbfilename", "dir", "replica-serve-stale-data",
        "repl-diskless-sync-delay", "replica-priority", "acllog-max-len", "lazyfree-lazy-user-del",
        "oom-score-adj-values", "disable-thp", "appendonly", "appendfilename", "appendfsync",
        "auto-aof-rewrite-min-size", "notify-keyspace-events", "hz",
    ]  # fmt: skip
    # Those of them that do something by now are not noted.
    assert about == [name for name in silent if SETTINGS[name].change != FREE or not SETTINGS[name].attribute]
    assert f"{path}:8: tcp-backlog 511: nothing to choose here: the queue of connections not yet accepted" in notes


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("appendonly no", "eventdb keeps its data in a replicated log: every acknowledged write is durable already"),
        ("replicaof 10.0.0.1 6379", "wrong number of arguments"),
        ('slaveof "10.0.0.1 6379"', "a node's role follows from its log"),
        ("daemonize yes", "eventdb stays in the foreground"),
        ("supervised systemd", "eventdb does not speak to systemd"),
        ('rename-command FLUSHALL ""', "commands keep their names here"),
        ("loadmodule /x.so", "eventdb loads no modules"),
        ("user bob on", "users are in the log"),
        ("port 0", "0 means no plain port"),
        ("port 0\ntls-port 0", "0 means no plain port"),
        ("client-deny-list 10.0.0.1/8", "is no network"),
        ("databases 32", "every log has sixteen databases"),
        ("unixsocket /tmp/x", "eventdb does not have it"),
        ("min-replicas-to-write 1", "replicas confirm nothing to the primary"),
        ("nonsense 1", "there is no such setting"),
        ("timeout x", "argument couldn't be parsed into an integer"),
        ("timeout 1 2", "wrong number of arguments"),
        ("timeout", "wrong number of arguments"),
        ("maxmemory 1tb", "argument must be a memory value"),
        ("client-output-buffer-limit normal 1 2 3", "eventdb stops running the commands of a client"),
    ],
)  # fmt: skip
def test_what_would_lie_is_refused_with_the_reason(tmp_path: Path, line: str, why: str) -> None:
    config = Config()
    with pytest.raises(ConfigFileError) as failure:
        load(written(tmp_path, f"timeout 7\n{line}\n"), config)
    assert why in str(failure.value) and "redis.conf:" in str(failure.value)
    assert config.idle_seconds_max == 0 and not config.file, "nothing of a refused file is taken over"


def test_all_that_is_refused_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError) as failure:
        loaded(tmp_path, "appendonly no\nport 1\ndaemonize yes\nfoo bar\n")
    assert [line.split(": ")[1] for line in str(failure.value).split("\n")] == [
        "foo (not shown)", "appendonly no", "daemonize yes"
    ]  # fmt: skip


def test_later_lines_count_and_units_and_names_of_any_case(tmp_path: Path) -> None:
    config = loaded(tmp_path, "TimeOut 5\ntimeout 9\nmaxmemory 1gb\nproto-max-bulk-len 2MB\nsave 60 1\nsave ''\nhz 5\n")
    assert config.idle_seconds_max == 9 and config.memory_bytes_max == 1 << 30 and config.limits.string_bytes == 2 << 20
    assert config.get("save") == "" and config.get("hz") == "5"


def test_a_list_may_have_no_words(tmp_path: Path) -> None:
    """As Redis reads it: the first `save` replaces the default, a later one without words adds nothing."""
    assert loaded(tmp_path, "save \n").get("save") == ""
    assert loaded(tmp_path, "save 60 1\nsave\n").get("save") == "60 1"
    config = loaded(tmp_path, "client-output-buffer-limit\nlatency-tracking-info-percentiles\n")
    assert config.get("latency-tracking-info-percentiles") == ""
    assert config.get("client-output-buffer-limit") == Config().get("client-output-buffer-limit")


def test_names_of_files_count_from_the_folder_that_the_file_names(tmp_path: Path) -> None:
    text = f"aclfile users.acl\ntls-ca-cert-file /ca.crt\ndir {tmp_path}\ntls-cert-file tls/a.crt\n"
    config = loaded(tmp_path, text)
    assert config.acl_file == f"{tmp_path}/users.acl"
    assert (config.tls.cert_file, config.tls.ca_cert_file, config.tls.key_file) == (
        f"{tmp_path}/tls/a.crt",
        "/ca.crt",
        "",
    )
    assert loaded(tmp_path, "aclfile users.acl\n").acl_file == "users.acl"
    assert rewritten(f"{tmp_path}/redis.conf", text, config) == text


def test_what_permits_things_that_are_not_here_does_no_harm(tmp_path: Path) -> None:
    config = loaded(tmp_path, "enable-protected-configs yes\nenable-module-command local\n")
    assert config.get("enable-protected-configs") == "no"


def test_who_may_connect_is_in_the_file(tmp_path: Path) -> None:
    config = loaded(tmp_path, "protected-mode yes\nbind 0.0.0.0\nclient-allow-list 10.0.0.0/8 ::1\n")
    assert (config.protected_mode, config.client_allow_list) == ("yes", "10.0.0.0/8 ::1")


def test_tls_is_in_the_file_and_the_plain_port_may_be_off_beside_it(tmp_path: Path) -> None:
    config = loaded(tmp_path, "port 0\ntls-port 6390\ntls-cert-file /a.crt\ntls-protocols TLSv1.2 TLSv1.3\n")
    assert (config.port, config.tls.port, config.tls.cert_file) == (0, 6390, "/a.crt")
    assert config.tls.protocols == "TLSv1.2 TLSv1.3"


def test_files_are_included_in_their_place(tmp_path: Path) -> None:
    for number in (1, 2):
        written(tmp_path, f"timeout {number}\nmaxclients {number}\n", f"part-{number}.conf")
    config = loaded(tmp_path, f'timeout 9\ninclude "{tmp_path}/part-*.conf"\ninclude {tmp_path}/none-*\nmaxclients 7\n')
    assert config.idle_seconds_max == 2 and config.maxclients == 7
    with pytest.raises(ConfigFileError, match=r"redis\.conf:1: .*gone\.conf: No such file"):
        loaded(tmp_path, f"include {tmp_path}/gone.conf\n")
    with pytest.raises(ConfigFileError, match="include each other"):
        loaded(tmp_path, f"include {tmp_path}/redis.conf\n")
    with pytest.raises(ConfigFileError, match="quotes that do not end"):
        loaded(tmp_path, 'requirepass "x\n')


def test_rewriting_changes_only_what_has_changed(tmp_path: Path) -> None:
    path = written(tmp_path, PACKAGED)
    config = Config()
    load(path, config)
    assert rewritten(path, PACKAGED, config) == PACKAGED
    for name, value in {
        "timeout": "5", "save": "60 1", "zset-max-listpack-value": "100", "maxmemory": "3145728",
        "requirepass": 'a "b"', "hz": "20", "latency-tracking-info-percentiles": "50 99",
    }.items():  # fmt: skip
        config.set(name, value)
    text = rewritten(path, PACKAGED, config)
    expected = PACKAGED.replace("timeout 0", "timeout 5").replace("save 3600 1\nsave 300 100 60 10000", "save 60 1")
    expected = expected.replace("hz 10", "hz 20")
    expected = expected.replace("zset-max-ziplist-value 64", "zset-max-ziplist-value 100")
    lines = [line for line in text.split("\n") if line not in expected.split("\n")]
    assert lines == [
        "# Generated by CONFIG REWRITE", 'requirepass "a \\"b\\""', "maxmemory 3mb",
        "latency-tracking-info-percentiles 50 99",
    ]  # fmt: skip
    assert [line for line in expected.split("\n") if line not in text.split("\n")] == []
    assert text.index("# Generated") > text.index("hz 20")
    again = Config()
    load(written(tmp_path, text), again)
    assert {name: again.get(name) for name in ("requirepass", "maxmemory", "save", "zset-max-ziplist-value")} == {
        "requirepass": 'a "b"', "maxmemory": "3145728", "save": "60 1", "zset-max-ziplist-value": "100",
    }  # fmt: skip
    assert rewritten(path, text, config) == text


def test_rewriting_overrules_a_file_that_is_included_later(tmp_path: Path) -> None:
    part = written(tmp_path, "timeout 9\n", "part.conf")
    path = written(tmp_path, f"timeout 1\ninclude {part}\n")
    config = Config()
    load(path, config)
    config.set("timeout", "5")
    text = rewritten(path, Path(path).read_text(), config)
    assert text == f"timeout 5\ninclude {part}\n# Generated by CONFIG REWRITE\ntimeout 5\n"


def test_config_rewrite_replaces_the_file_in_one_step_and_keeps_its_mode(tmp_path: Path) -> None:
    path = Path(written(tmp_path, "# mine\ntimeout 1\n"))
    path.chmod(0o640)
    link = tmp_path / "link.conf"
    link.symlink_to(path)
    config = Config()
    load(str(link), config)
    local = Local(config=config)
    assert local("CONFIG", "SET", "timeout", 5) == b"OK" and path.read_text() == "# mine\ntimeout 1\n"
    assert local("CONFIG", "REWRITE") == b"OK"
    assert path.read_text() == "# mine\ntimeout 5\n" and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert link.is_symlink() and sorted(os.listdir(tmp_path)) == ["link.conf", "redis.conf"]
    path.write_text("appendonly no\n")
    assert b"Rewriting config file: " in local.raw("CONFIG", "REWRITE") and path.read_text() == "appendonly no\n"
    path.unlink()
    assert local.raw("CONFIG", "REWRITE") == b"-ERR Rewriting config file: No such file or directory\r\n"


def test_the_password_of_a_url_is_shown_to_nobody_and_kept_by_a_rewrite(tmp_path: Path) -> None:
    """Of every setting that is chosen at the start: whoever may ask for settings need not get into the store."""
    secrets = {
        "snapshot-store": ("sftp://me:S3CR3T@host/x", "sftp://me:***@host/x"),
        "traces-endpoint": ("https://me:S3CR3T@host:4317/", "https://me:***@host:4317/"),
        "encryption-keys": ("command:vault --token S3CR3T", "command:vault ..."),
    }
    text = "".join([f'{name} "{value}"\n' for name, (value, _) in secrets.items()])
    config = Config()
    load(path := written(tmp_path, text), config)
    local = Local(config=config)
    for name, (value, shown) in secrets.items():
        assert local("CONFIG", "GET", name) == [name.encode(), shown.encode()]
        assert local("CONFIG", "SET", name, shown) == local("CONFIG", "SET", name, value) == b"OK", "as it is"
        assert b"immutable" in local.raw("CONFIG", "SET", name, "sftp://me:other@host/x")
        assert local.engine.config.get(name) == value
    assert b"S3CR3T" not in local.raw("CONFIG", "GET", "*") + local.raw("INFO", "everything")
    assert local("CONFIG", "REWRITE") == b"OK"
    assert [line for line in Path(path).read_text().splitlines() if line and line[0] != "#"] == text.splitlines()


def test_config_rewrite_without_a_file_is_an_error() -> None:
    assert Local().raw("CONFIG", "REWRITE") == b"-ERR The server is running without a config file\r\n"


def test_a_server_reads_its_file_and_writes_it_back(tmp_path: Path, eventdb_server: StartServer) -> None:
    path = Path(written(tmp_path, PACKAGED))
    server = eventdb_server(None, "--config-file", str(path), "--config", "maxclients=77")
    assert f"{path}:8: tcp-backlog 511: nothing to choose here" in server.text
    with closing(Wire((server.host, server.port))) as wire:
        assert b"3600 1 300 100 60 10000" in wire.call("CONFIG", "GET", "save")
        assert b"127.0.0.1 -::1" in wire.call("CONFIG", "GET", "bind")
        assert wire.call("CONFIG", "SET", "timeout", 1234) == b"+OK\r\n"
        assert wire.call("CONFIG", "REWRITE") == b"+OK\r\n"
    assert server.stop() == 0
    text = path.read_text()
    assert "timeout 1234\n" in text and text.endswith("# Generated by CONFIG REWRITE\nmaxclients 77\n")
    server.restart()
    with closing(Wire((server.host, server.port))) as wire:
        assert b"1234" in wire.call("CONFIG", "GET", "timeout")


def test_a_file_that_lies_ends_the_start_with_every_reason(tmp_path: Path) -> None:
    path = written(tmp_path, "appendonly no\nreplicaof 127.0.0.1\n")
    command = [sys.executable, "-m", "eventdb", "serve", "--log", f"quorum:{tmp_path / 'data'}", "--config-file", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert [line.split(": ")[:2] for line in done.stderr.splitlines()[-2:]] == [
        [f"{path}:1", "appendonly no"],
        [f"{path}:2", "replicaof 127.0.0.1"],
    ]
    assert not (tmp_path / "data").exists()
    gone = subprocess.run([*command[:-1], path + "x"], capture_output=True, text=True, check=False)
    assert gone.returncode == 2 and "No such file or directory" in gone.stderr
    written(tmp_path, f"aclfile {tmp_path}/gone.acl\n")
    named = subprocess.run(command, capture_output=True, text=True, check=False)
    assert named.returncode == 2 and named.stderr == f"eventdb: {tmp_path}/gone.acl: No such file or directory\n"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        written(tmp_path, f"port {port}\n")
        busy = subprocess.run(command, capture_output=True, text=True, check=False)
    assert busy.returncode == 1 and busy.stderr.startswith(f"eventdb: cannot serve on 127.0.0.1:{port}: ")
