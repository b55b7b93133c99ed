"""Settings: what CONFIG SET accepts does something, all of it or nothing; what it cannot do it refuses."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from docs.generate import settings_page
from eventdb.engine.setting import (
    CONSTANT,
    FIXED,
    FREE,
    MEMORY,
    NO_EFFECT,
    NUMBER,
    ONE_OF,
    YES_NO,
    Setting,
    SettingError,
)
from eventdb.engine.settings import SETTINGS, Config
from eventdb.engine.settings_of_redis import HIDDEN
from eventdb.protocol.replies import error
from tests.kit.differential import Address, Wire, split
from tests.kit.harness import Local

ROOT = Path(__file__).resolve().parents[2]
OK = b"+OK\r\n"
ATTRIBUTE = re.compile(r"\.(\w+)\b(?!\s*=[^=])")  # read, not set


def refused(name: str, why: str) -> bytes:
    return error(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")


def test_every_setting_has_its_default_and_is_listed() -> None:
    local = Local()
    found = local("CONFIG", "GET", "*")
    assert isinstance(found, list)
    values = {name.decode(): value.decode() for name, value in zip(found[::2], found[1::2], strict=True)}
    assert list(values) == [name for name in SETTINGS if name not in HIDDEN]
    for name, expected in {
        "save": "", "appendonly": "yes", "appendfsync": "always", "maxmemory": "0", "maxmemory-policy": "noeviction",
        "databases": "16", "proto-max-bulk-len": "536870912", "client-query-buffer-limit": "1073741824",
        "hash-max-listpack-entries": "512", "hash-max-ziplist-entries": "512", "maxclients": "10000",
        "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        "commit-timeout": "5000", "requirepass": "", "notify-keyspace-events": "", "slowlog-max-len": "128",
    }.items():  # fmt: skip
        assert values[name] == expected, name


def attributes_read() -> set[str]:
    """Every name that some file of the server reads as an attribute, the settings' own files left out.

    What a Config says for itself to another node (`greeting`) is an effect too.
    """
    found: set[str] = set()
    for path in (ROOT / "eventdb").rglob("*.py"):
        if path.name.startswith("setting") and path.name != "settings.py":
            continue
        found.update(ATTRIBUTE.findall(path.read_text()))
    own = (ROOT / "eventdb/engine/settings.py").read_text()
    greeting = own.split("    def greeting(")[1].split("    def ")[0]
    found.update(ATTRIBUTE.findall(greeting))
    return found


def test_a_setting_that_can_be_set_is_read_by_the_server() -> None:
    """Or it is marked as one without effect, with the reason: nobody is told OK for a setting that does nothing."""
    config, read = Config(), attributes_read()
    for setting in SETTINGS.values():
        assert setting.note, f"{setting.name}: what it does, or why it does nothing"
        attribute = setting.attribute.removeprefix("limits.").removeprefix("tls.")
        if setting.change == NO_EFFECT:
            assert attribute.startswith("noted."), setting.name
        elif setting.change == CONSTANT:
            assert not attribute, setting.name
        elif setting.name != "client-output-buffer-limit" and (attribute or setting.change == FREE):
            owners: dict[str, object] = {"limits": config.limits, "tls": config.tls}
            owner = owners.get(setting.attribute.partition(".")[0], config)
            assert hasattr(owner, attribute), setting.name
            assert attribute in read, f"{setting.name}: nothing reads {attribute}"


@pytest.mark.redis
def test_every_name_of_redis_is_known_and_may_be_set_to_what_it_is(redis_server: Address) -> None:
    local = Local()
    with closing(Wire(redis_server)) as wire:
        names = [item.split(b"\r\n")[1].decode() for item in split(wire.call("CONFIG", "GET", "*"))[1][::2]]
    assert len(names) > 190 and not set(names) - SETTINGS.keys()
    own = {
        "atomic-errors", "client-allow-list", "client-deny-list", "client-query-buffer-total-limit", "commit-timeout",
        "commandlog-execution-slower-than", "commandlog-slow-execution-max-len", "commandlog-request-larger-than",
        "commandlog-large-request-max-len", "commandlog-reply-larger-than", "commandlog-large-reply-max-len",
        "encryption-keys", "iam-cluster-name", "iam-key-command", "iam-key-file", "iam-region", "iam-session-seconds",
        "maxclients-per-address", "maxclients-unauthenticated", "metrics-bind", "metrics-port",
        "metrics-ready-lag",
        "once-max-reply", "once-max-tokens", "once-retention-ms", "primary-serve-stale-data", "replica-read-mode",
        "replica-read-timeout", "script-time-limit", "sentinel-service-name", "snapshot-store",
        "tls-auth-clients-user", "traces-endpoint", "traces-slower-than", "track-access", "unauthenticated-timeout",
    }  # fmt: skip
    assert SETTINGS.keys() - set(names) - set(HIDDEN) == own
    with closing(Wire(redis_server)) as wire:
        for name in HIDDEN:
            assert local.raw("CONFIG", "GET", name) == wire.call("CONFIG", "GET", name)
            assert local.raw("CONFIG", "GET", f"{name}*") == wire.call("CONFIG", "GET", f"{name}*") == b"*0\r\n"
    for name in (*names, *HIDDEN):
        value = local("CONFIG", "GET", name)
        assert isinstance(value, list) and value[0] == name.encode()
        assert local.raw("CONFIG", "SET", name, value[1]) == OK, name


VALUES = (
    "0", "1", "-1", "-2", "x", "", "10", "05", "1k", "2mb", "3zz", "99999999999", "yes", "NO", "disabled", "101",
    "1000000",
)  # fmt: skip
APART = {
    "activedefrag",  # Redis needs another allocator for it
    "maxmemory", "maxclients", "requirepass",  # the server is to stay usable
    "client-output-buffer-limit",  # clients that do not read are slowed down and not closed
}  # fmt: skip


@pytest.mark.redis
def test_values_are_checked_and_shown_as_redis_checks_and_shows_them(redis_server: Address) -> None:
    local, wrong = Local(), []
    with closing(Wire(redis_server)) as wire:
        known = {item.split(b"\r\n")[1].decode() for item in split(wire.call("CONFIG", "GET", "*"))[1][::2]} - APART
        for setting in SETTINGS.values():
            name = setting.name
            if setting.change not in (FREE, NO_EFFECT) or name not in known:
                continue
            before = wire.call("CONFIG", "GET", name)
            theirs = split(before)[1][1].partition(b"\r\n")[2][:-2]
            default = local.engine.config.get(name)
            wire.call("CONFIG", "SET", name, default)
            for value in VALUES:
                for words in (("CONFIG", "SET", name, value), ("CONFIG", "GET", name)):
                    reply, answer = wire.call(*words), local.raw(*words)
                    if reply != answer:
                        wrong.append(f"{words}: {reply!r} {answer!r}")
            wire.call("CONFIG", "SET", name, theirs)
            local.raw("CONFIG", "SET", name, default)
            assert wire.call("CONFIG", "GET", name) == before
    assert not wrong, "\n".join(wrong)


def other(setting: Setting) -> str:
    """A value that Redis would take and that is not the one in force."""
    if setting.kind == YES_NO:
        return "no" if setting.default == "yes" else "yes"
    if setting.kind == ONE_OF:
        return next(choice for choice in setting.choices if choice != setting.default)
    return str(int(setting.default) + 1) if setting.kind in (NUMBER, MEMORY) else "KEA"


@pytest.mark.parametrize("name", [s.name for s in SETTINGS.values() if s.change == CONSTANT])
def test_what_cannot_be_changed_may_be_set_to_what_it_is_and_to_nothing_else(name: str) -> None:
    local, setting = Local(), SETTINGS[name]
    assert local.raw("CONFIG", "SET", name, str(setting.default)) == OK
    assert local.raw("CONFIG", "SET", name, other(setting)) == refused(name, setting.note)


@pytest.mark.parametrize("name", [s.name for s in SETTINGS.values() if s.change == FIXED])
def test_what_is_chosen_at_the_start_may_be_set_to_what_it_is_and_to_nothing_else(name: str) -> None:
    local, setting = Local(), SETTINGS[name]
    assert local.raw("CONFIG", "SET", name, local.engine.config.get(name)) == OK
    assert local.raw("CONFIG", "SET", name, other(setting)) == refused(name, "can't set immutable config")


def test_what_has_no_effect_is_accepted_shown_again_and_checked_as_redis_checks_it() -> None:
    local = Local()
    for name, value in (("save", "900 1 300 10"), ("lazyfree-lazy-user-del", "yes"), ("activedefrag", "yes"),
                        ("list-max-ziplist-size", "-5"), ("repl-backlog-size", "2mb"), ("hz", "100")):  # fmt: skip
        assert local.raw("CONFIG", "SET", name, value) == OK
    assert local("CONFIG", "GET", "save") == [b"save", b"900 1 300 10"]
    assert local("CONFIG", "GET", "list-max-listpack-size") == [b"list-max-listpack-size", b"-5"]
    assert local("CONFIG", "GET", "repl-backlog-size") == [b"repl-backlog-size", b"2097152"]
    assert local.raw("CONFIG", "SET", "save", "900") == refused("save", "Invalid save parameters")
    assert local.raw("CONFIG", "SET", "activedefrag", "maybe") == refused(
        "activedefrag", "argument must be 'yes' or 'no'"
    )


def test_every_setting_is_on_the_page() -> None:
    made = settings_page()
    for name in SETTINGS:
        assert f"`{name}`" in made, name


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
    assert (config.commit_timeout_ms, config.limits.string_bytes, config.debug_command) == (250, 2 << 20, "local")
    for name, value in (
        ("nope", "1"),
        ("timeout", "x"),
        ("appendonly", "no"),
        ("databases", "4"),
        ("protected-mode", "maybe"),
    ):
        with pytest.raises(SettingError, match=name):
            config.set(name, value)


def test_debug_is_off_unless_the_start_said_so() -> None:
    local = Local()
    assert local.raw("DEBUG", "SLEEP", "0").startswith(b"-ERR DEBUG command not allowed.")
    local.engine.config.set("enable-debug-command", "local")
    assert local.raw("DEBUG", "SLEEP", "0") == OK
    assert local.raw("DEBUG", "NONSENSE").startswith(
        b"-ERR unknown subcommand or wrong number of arguments for 'NONSENSE'"
    )
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
