"""INFO, SLOWLOG, MEMORY and what else watches the server: measured numbers, and nothing pretended."""

from __future__ import annotations

import os
import time
from contextlib import closing

import pytest

from eventdb.commands.shared.info_counters import human
from eventdb.protocol.replies import error
from tests.kit.differential import Address, Wire
from tests.kit.harness import Local, StandIn
from tests.pipeline.test_commit import Stalled


def info(local: Local, *sections: str) -> dict[str, str]:
    text = local("INFO", *sections)
    assert isinstance(text, bytes)
    return dict(line.split(":", 1) for line in text.decode().split("\r\n") if ":" in line)


def titles(local: Local, *sections: str) -> list[str]:
    text = local("INFO", *sections)
    assert isinstance(text, bytes)
    return [line[2:] for line in text.decode().split("\r\n") if line.startswith("# ")]


def test_sections_are_chosen_by_name_in_a_fixed_order() -> None:
    local = Local()
    usual = [
        "Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Modules", "Errorstats",
        "Cluster", "Keyspace", "Eventdb",
    ]  # fmt: skip
    assert titles(local) == titles(local, "default") == usual
    assert titles(local, "all") == titles(local, "everything") == [
        *usual[:8], "Commandstats", "Errorstats", "Latencystats", *usual[9:],
    ]  # fmt: skip
    assert titles(local, "KEYSPACE", "cpu", "nope") == ["CPU", "Keyspace"]
    assert local("INFO", "nope") == b""
    local.client.resp3 = True
    assert local.raw("INFO", "cluster") == b"=34\r\ntxt:# Cluster\r\ncluster_enabled:0\r\n\r\n"


def test_numbers_are_those_of_the_process() -> None:
    local = Local()
    found = info(local)
    assert found["process_id"] == str(os.getpid()) and found["redis_version"] == "7.0.15"
    assert found["eventdb_build"] in ("pure", "compiled") and len(found["run_id"]) == 40
    assert 1 << 20 < int(found["used_memory"]) <= int(found["used_memory_peak"]) < int(found["total_system_memory"])
    assert float(found["used_cpu_user"]) > 0


def test_keys_hits_errors_and_commands_are_counted() -> None:
    local = Local()
    local.raw("CONFIG", "RESETSTAT")
    local.raw("SET", "a", "1", "PX", "1000")
    local.raw("SET", "b", "1")
    for line in ("GET a", "GET b", "GET c", "LPUSH a x", "NOPE", "GET", "EXEC"):
        local.raw(*line.split())
    found = info(local, "all")
    assert found["db0"] == "keys=2,expires=1,avg_ttl=1000"
    assert (found["keyspace_hits"], found["keyspace_misses"], found["total_error_replies"]) == ("2", "1", "4")
    assert found["errorstat_ERR"] == "count=3" and found["errorstat_WRONGTYPE"] == "count=1"
    assert found["cmdstat_get"].startswith("calls=3,usec=") and found["cmdstat_get"].endswith(
        "rejected_calls=1,failed_calls=0"
    )
    assert found["cmdstat_lpush"].endswith("rejected_calls=0,failed_calls=1")
    local.raw("CONFIG", "RESETSTAT")
    found = info(local, "all")
    assert found["keyspace_hits"] == "0" and "errorstat_ERR" not in found and "cmdstat_get" not in found


def test_what_is_not_durable_yet_shows_in_persistence_and_offsets() -> None:
    node = Stalled()
    client = node.connect()
    node.send(client, "SET", "k", "v")
    text = node.send(node.connect(), "INFO").decode()
    assert "rdb_changes_since_last_save:1\r\n" in text and "\r\noffset:1\r\ndurable_offset:0\r\n" in text
    node.confirm()
    assert "rdb_changes_since_last_save:0\r\n" in node.send(node.connect(), "INFO").decode()


def test_the_node_adds_what_it_knows() -> None:
    local = Local()
    local.engine.host = StandIn(info_fields=lambda: {"epoch": "7", "log_url": "quorum:x", "durable_offset": "ignored"})
    found = info(local)
    assert found["epoch"] == "7" and found["durable_offset"] == "0"


def test_rates_follow_the_counters() -> None:
    local = Local()
    statistics = local.engine.statistics
    statistics.sampled = time.monotonic() - 1
    local.engine.commands_run += 1000
    local.engine.cron()
    assert 900 < int(info(local, "stats")["instantaneous_ops_per_sec"]) <= 1001


@pytest.mark.parametrize(("size", "text"), [(0, "0B"), (1023, "1023B"), (1536, "1.50K"), (5 << 20, "5.00M")])
def test_sizes_for_people(size: int, text: str) -> None:
    assert human(size) == text


@pytest.mark.redis
def test_only_the_value_of_a_password_is_hidden(redis_server: Address) -> None:
    local = Local()
    with closing(Wire(redis_server)) as wire:
        for call in (local.raw, wire.call):
            call("CONFIG", "SET", "slowlog-log-slower-than", "0")
            call("SLOWLOG", "RESET")
            call("CONFIG", "SET", "maxmemory", "0", "masterauth", "")
            call("config", "set", "MasterAuth", "", "masteruser", "", "timeout", "0")
            call("CONFIG", "SET", "slowlog-log-slower-than", "-1")
        for number in (1, 2):
            words = f"return redis.call('SLOWLOG', 'GET')[{number}][4]"
            assert local.raw("EVAL", words, 0) == wire.call("EVAL", words, 0)
    assert b"masterauth\r\n$10\r\n(redacted)" in local.raw("SLOWLOG", "GET")


def test_slow_commands_are_kept_newest_first_and_shortened() -> None:
    local = Local()
    local.raw("CONFIG", "SET", "slowlog-log-slower-than", "0", "slowlog-max-len", "3")
    local.raw("SLOWLOG", "RESET")
    local.raw("SET", "k", "v" * 200)
    local.raw("MSET", *[str(i) for i in range(100)])
    local.raw("AUTH", "default", "secret")
    local.raw("CONFIG", "SET", "slowlog-log-slower-than", "-1")
    entries = local("SLOWLOG", "GET", "-1")
    assert isinstance(entries, list) and len(entries) == 3 == local("SLOWLOG", "LEN")
    assert entries[0][3] == [b"AUTH", b"(redacted)", b"(redacted)"]
    assert len(entries[1][3]) == 32 and entries[1][3][-1] == b"... (70 more arguments)"
    assert entries[2][3] == [b"SET", b"k", b"v" * 128 + b"... (72 more bytes)"]
    assert [entry[0] for entry in entries] == sorted([entry[0] for entry in entries], reverse=True)
    assert entries[1][4] == b"127.0.0.1:1"
    assert len(local("SLOWLOG", "GET", "1")) == 1  # type: ignore[arg-type]
    local.raw("CONFIG", "SET", "slowlog-max-len", "1")
    assert local("SLOWLOG", "LEN") == 1


def test_a_long_argument_and_each_command_of_exec_are_logged() -> None:
    local = Local()
    local.raw("CONFIG", "SET", "slowlog-log-slower-than", "0")
    local.raw("SLOWLOG", "RESET")
    for line in ("MULTI", "SET k " + "v" * 200, "EXEC"):
        local.raw(*line.split())
    names = [entry[3] for entry in local("SLOWLOG", "GET")]  # type: ignore[attr-defined]
    assert names[0] == [b"SET", b"k", b"v" * 128 + b"... (72 more bytes)"]
    assert [name[0] for name in names] == [b"SET", b"MULTI", b"SLOWLOG"]


def test_memory_usage_grows_with_the_value_and_samples_large_ones() -> None:
    local = Local()
    local.raw("SET", "small", "x")
    local.raw("SET", "large", "x" * 10_000)
    for i in range(500):
        local.raw("HSET", "hash", f"field-{i}", "v" * 100)
    small, large, hash_ = (local("MEMORY", "USAGE", key) for key in ("small", "large", "hash"))
    assert isinstance(small, int) and isinstance(large, int) and isinstance(hash_, int)
    assert small < 200 and 10_000 < large < 10_500 and 60_000 < hash_ < 200_000
    everything = local("MEMORY", "USAGE", "hash", "SAMPLES", "0")
    assert isinstance(everything, int) and abs(everything - hash_) < everything // 5
    assert local("MEMORY", "USAGE", "nokey") is None


def test_saving_answers_without_pretending() -> None:
    local = Local()
    assert local.raw("SAVE") == b"+OK\r\n"
    assert local.raw("BGSAVE").startswith(b"+Background saving is not needed")
    assert local.raw("BGREWRITEAOF").startswith(b"+There is no append only file to rewrite")
    last = local("LASTSAVE")
    assert isinstance(last, int) and abs(last - time.time()) < 5


def test_shutdown_asks_whoever_runs_the_server() -> None:
    local = Local()
    assert local.raw("SHUTDOWN") == error("ERR eventdb runs inside a program here, which has to close it")
    asked: list[str] = []
    local.engine.host = StandIn(shut_down=lambda: asked.append("stop"))
    assert local.raw("SHUTDOWN", "NOSAVE", "NOW") == b"" and asked == ["stop"]


def test_role_tells_the_durable_offset() -> None:
    local = Local()
    local.raw("SET", "k", "v")
    assert local("ROLE") == [b"master", 1, []]


def test_help_is_there_for_every_container() -> None:
    local = Local()
    for name in ("CLIENT", "CONFIG", "COMMAND", "PUBSUB", "SLOWLOG", "MEMORY", "LATENCY"):
        text = local(name, "HELP")
        assert isinstance(text, list) and text[0].startswith(name.encode()) and text[-1] == b"    Print this help."
