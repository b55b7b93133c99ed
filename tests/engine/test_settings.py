"""Settings: what CONFIG SET accepts does something, all of it or nothing; what it cannot do it refuses."""

from __future__ import annotations

import pytest

from eventdb.engine.settings import CONSTANT, FREE, SETTINGS, Config, SettingError
from eventdb.protocol.replies import error
from tests.kit.harness import Local

OK = b"+OK\r\n"


def refused(name: str, why: str) -> bytes:
    return error(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")


def test_every_setting_has_its_default_and_is_listed() -> None:
    local = Local()
    found = local("CONFIG", "GET", "*")
    assert isinstance(found, list)
    values = {name.decode(): value.decode() for name, value in zip(found[::2], found[1::2], strict=True)}
    assert values.keys() == SETTINGS.keys()
    for name, expected in {
        "save": "", "appendonly": "yes", "appendfsync": "always", "maxmemory": "0", "maxmemory-policy": "noeviction",
        "databases": "16", "proto-max-bulk-len": "536870912", "client-query-buffer-limit": "1073741824",
        "hash-max-listpack-entries": "512", "hash-max-ziplist-entries": "512", "maxclients": "10000",
        "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        "commit-timeout": "5000", "requirepass": "", "notify-keyspace-events": "", "slowlog-max-len": "128",
    }.items():  # fmt: skip
        assert values[name] == expected, name


def test_a_setting_that_can_be_set_is_read_by_the_server() -> None:
    """An attribute for each: what only CONFIG GET knows must not be settable."""
    config = Config()
    for setting in SETTINGS.values():
        if setting.change == FREE and setting.name != "client-output-buffer-limit":
            owner: object = config.limits if setting.attribute.startswith("limits.") else config
            assert hasattr(owner, setting.attribute.removeprefix("limits.")), setting.name
        if setting.change == CONSTANT:
            assert setting.why and not setting.attribute, setting.name


@pytest.mark.parametrize(("name", "value"), [(s.name, s.default) for s in SETTINGS.values() if s.change == CONSTANT])
def test_what_cannot_be_changed_may_be_set_to_what_it_is_and_to_nothing_else(name: str, value: str) -> None:
    local = Local()
    assert local.raw("CONFIG", "SET", name, str(value)) == OK
    other = {"yes": "no", "no": "yes", "always": "everysec", "noeviction": "allkeys-lru", "0": "100"}
    assert local.raw("CONFIG", "SET", name, other.get(str(value), "KEA")) == refused(name, SETTINGS[name].why)


def test_a_failing_set_changes_nothing() -> None:
    local = Local()
    assert local.raw("CONFIG", "SET", "timeout", "7", "slowlog-max-len", "x").startswith(b"-ERR CONFIG SET failed")
    assert local.raw("CONFIG", "SET", "timeout", "7", "nope", "1").startswith(b"-ERR Unknown option")
    assert local.raw("CONFIG", "SET", "timeout", "7", "databases", "3") == refused(
        "databases", "can't set immutable config"
    )
    assert local("CONFIG", "GET", "timeout") == [b"timeout", b"0"]
    assert local.raw("CONFIG", "SET", "TIMEOUT", "7", "slowlog-max-len", "3") == OK
    assert local.engine.config.idle_seconds_max == 7


def test_an_alias_is_the_same_setting() -> None:
    local = Local()
    assert local.raw("CONFIG", "SET", "zset-max-ziplist-entries", "7") == OK
    assert local("CONFIG", "GET", "zset-max-listpack-entries") == [b"zset-max-listpack-entries", b"7"]
    assert local.engine.store.keyspace.limits.zset_entries == 7
    local.raw("CONFIG", "SET", "hash-max-listpack-entries", "1")
    local.raw("HSET", "h", "a", "1", "b", "2")
    assert local("OBJECT", "ENCODING", "h") == b"hashtable"


def test_maxclients_needs_as_many_file_descriptors() -> None:
    reply = Local().raw("CONFIG", "SET", "maxclients", str(2**31))
    assert reply.startswith(b"-ERR CONFIG SET failed") and b"The operating system is not able to handle" in reply


def test_limits_for_subscribers_and_for_nobody_else() -> None:
    local = Local()
    assert local.raw("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0 pubsub 64mb 16mb 90") == OK
    config = local.engine.config
    assert (config.pubsub_bytes_hard_max, config.pubsub_bytes_soft_max, config.pubsub_soft_seconds) == (
        64 << 20, 16 << 20, 90,
    )  # fmt: skip
    for value in ("normal 1mb 0 0", "replica 1 1 1", "pubsub 1000 0 0"):
        assert local.raw("CONFIG", "SET", "client-output-buffer-limit", value).startswith(b"-ERR CONFIG SET failed")


def test_settings_for_the_start_take_every_name_and_report_bad_ones() -> None:
    config = Config()
    config.set("commit-timeout", "250")
    config.set("Proto-Max-Bulk-Len", "2mb")
    config.set("enable-debug-command", "local")
    config.set("save", "")
    config.set("databases", "16")
    assert (config.commit_timeout_ms, config.bulk_bytes_max, config.debug_command) == (250, 2 << 20, "local")
    for name, value in (
        ("nope", "1"),
        ("timeout", "x"),
        ("appendonly", "no"),
        ("databases", "4"),
        ("maxmemory", "1gb"),
    ):
        with pytest.raises(SettingError, match=name):
            config.set(name, value)


def test_debug_is_off_unless_the_start_said_so() -> None:
    local = Local()
    assert local.raw("DEBUG", "SLEEP", "0").startswith(b"-ERR DEBUG command not allowed.")
    local.engine.config.set("enable-debug-command", "local")
    assert local.raw("DEBUG", "SLEEP", "0") == OK
    assert local.raw("DEBUG", "JMAP").startswith(b"-ERR unknown subcommand or wrong number of arguments for 'JMAP'")
    stranger = local.engine.connect(local.client.sink, "10.0.0.1:5")
    assert local.raw("DEBUG", "SLEEP", "0", client=stranger).startswith(b"-ERR DEBUG command not allowed.")
    assert local.raw("DEBUG", "SET-ACTIVE-EXPIRE", "0") == OK
    local.raw("SET", "k", "v", "PX", "1")
    local.engine.store.now_ms += 10
    local.engine.expire_cycle()
    local.turn()
    assert [b"DEL", b"k"] not in local.events()


def test_rewrite_has_no_file_to_write() -> None:
    assert Local().raw("CONFIG", "REWRITE") == error("ERR The server is running without a config file")
