"""Whole files: what is written a real server loads and answers the same, what it writes is read; damage is named."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventdb import commands
from eventdb.backends import open_log
from eventdb.engine.permissions import check_rules
from eventdb.history.importing import Imported, import_file
from eventdb.history.view import View
from eventdb.rdb import codes
from eventdb.rdb.codes import BadRdb, Unkept
from eventdb.rdb.crc64 import crc64
from eventdb.rdb.listpack import ListpackWriter
from eventdb.rdb.reader import FileReader
from eventdb.rdb.source import Source
from eventdb.rdb.writer import FileWriter, write
from eventdb.replay.completeness import Incomplete, check_complete
from eventdb.replay.filling import NotEmpty
from eventdb.replay.follower import Follower
from tests.conftest import answers_ping, free_port, wait_until
from tests.kit import old_encodings as old
from tests.kit.differential import Wire, examples
from tests.kit.harness import Local
from tests.kit.machines import Scribe
from tests.kit.values import values

FUTURE_MS = 4_000_000_000_000


def filled() -> Local:
    """Every kind of value in database 0, and some keys with deadlines in others."""
    local = Local()
    for makers in values(Random(7)).values():
        for command in makers:
            assert not local.raw(*command).startswith(b"-"), command
    local("PEXPIREAT", "list small", FUTURE_MS)
    local("SELECT", 3)
    local("SET", "there too", "value", "PXAT", FUTURE_MS)
    local("SELECT", 15)
    local("SADD", "the last", 1, 2, "three")
    local("SELECT", 0)
    return local


def file_of(local: Local, **facts: str) -> bytes:
    parts: list[bytes] = []
    write(parts.append, local.engine.store.keyspace, facts)
    return b"".join(parts)


def read(data: bytes, *, skip: bool = False, piece_bytes: int = 4096, chunk: int = 1000) -> tuple[FileReader, View]:
    """Read a file in small chunks and small pieces."""
    file = io.BytesIO(data)
    reader = FileReader(Source(b"", lambda size: file.read(min(size, chunk))), skip)
    view = View()
    while events := reader.piece(piece_bytes):
        view.apply([[b"import", *events]])
    return reader, view


def test_a_file_read_back_is_the_same_state() -> None:
    local = filled()
    data = file_of(local, **{"eventdb-offset": "12"})
    for piece_bytes, chunk in ((1, 7), (4096, 1000), (1 << 20, 1 << 20)):
        reader, view = read(data, piece_bytes=piece_bytes, chunk=chunk)
        assert view.digest() == local.engine.digest()
        assert (reader.key_count, reader.facts) == (local.engine.key_count(), {"eventdb-offset": "12"})


def test_only_deadlines_of_fields_ask_for_version_12() -> None:
    local = Local()
    local("HSET", "k", "a", 1, "b", 2)
    assert file_of(local).startswith(b"REDIS0010")
    local("HPEXPIREAT", "k", FUTURE_MS, "FIELDS", 1, "b")
    data = file_of(local)
    assert data.startswith(b"REDIS0012") and read(data)[1].digest() == local.engine.digest()
    local("HDEL", "k", "b")
    assert file_of(local).startswith(b"REDIS0010")


def test_pieces_are_bounded() -> None:
    local = Local()
    for i in range(300):
        local("SET", f"key {i}", b"x" * 1000)
    file = io.BytesIO(file_of(local))
    reader = FileReader(Source(b"", file.read))
    sizes = []
    while events := reader.piece(10_000):
        sizes.append(sum(len(arg) for event in events for arg in event))
    assert len(sizes) > 20 and max(sizes) < 12_000


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[bytes], tuple[Wire, Path]]]:
    """A real server on a file; and where it writes its own."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    running: list[subprocess.Popen[bytes]] = []

    def start(data: bytes) -> tuple[Wire, Path]:
        (tmp_path / "dump.rdb").write_bytes(data)
        port = free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
        running.append(subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL, cwd=tmp_path))
        wait_until(lambda: answers_ping(port), 30, "redis-server answers")
        return Wire(("127.0.0.1", port)), tmp_path / "dump.rdb"

    yield start
    for process in running:
        process.kill()
        process.wait()


def bulk(raw: bytes) -> bytes:
    reader = hiredis.Reader()
    reader.feed(raw)
    found = reader.gets()
    assert isinstance(found, bytes), raw
    return found


@pytest.mark.redis
def test_a_real_server_loads_our_file_and_we_load_its(started: Callable[[bytes], tuple[Wire, Path]]) -> None:
    local = filled()
    wire, path = started(file_of(local))
    state = Local()  # every value comes back as DUMP tells it
    count = 0
    for db in local.engine.store.keyspace.dbs:
        wire.call("SELECT", db.index)
        state("SELECT", db.index)
        assert wire.call("DBSIZE") == b":%d\r\n" % len(db.values)
        for key in db.values:
            assert state.raw("RESTORE", key, 0, bulk(wire.call("DUMP", key))) == b"+OK\r\n"
            if key in db.expires:
                assert wire.call("PEXPIRETIME", key) == b":%d\r\n" % db.expires[key]
                state("PEXPIREAT", key, db.expires[key])
            count += 1
    assert count > 30
    wire.call("SAVE")
    data = path.read_bytes()
    assert data.startswith(b"REDIS0010") and data != file_of(local)  # packed and compressed by the other server
    reader, view = read(data)
    assert reader.facts["redis-ver"].startswith("7.")
    level_times(local)
    level_times(state)
    assert state.engine.digest() == local.engine.digest() == view.digest()
    wire.close()


def level_times(local: Local) -> None:
    """7.0 does not know when a consumer was last given something."""
    for db in local.engine.store.keyspace.dbs:
        for value in db.values.values():
            for group in getattr(value, "groups", {}).values():
                for consumer in group.consumers.values():
                    consumer.active_ms = consumer.seen_ms


@pytest.mark.redis
def test_a_real_server_loads_functions_from_our_file(started: Callable[[bytes], tuple[Wire, Path]]) -> None:
    code = b"#!lua name=lib\nredis.register_function('f', function(keys) return redis.call('GET', keys[1]) end)"
    local, parts = Local(), list[bytes]()
    local("SET", "k", "v")
    file = FileWriter(parts.append)
    file.begin({})
    file.library(code)
    file.database(local.engine.store.keyspace.dbs[0])
    file.end()
    wire, path = started(b"".join(parts))
    assert wire.call("FCALL", "f", 1, "k") == b"$1\r\nv\r\n"
    wire.call("SAVE")
    reader, view = read(path.read_bytes())
    assert view.key_count() == 1 and reader.library_count == 1
    assert view.keyspace.libraries.code == {b"lib": code}
    wire.close()


# -- files of other versions, by hand


def by_hand(body: bytes, head: bytes = b"REDIS0011") -> bytes:
    data = head + body + b"\xff"
    return data + struct.pack("<Q", crc64(data))


PAIR = b"\x00\x01k\x01v"


@pytest.mark.parametrize("head", [b"REDIS%04d" % version for version in range(5, 14)] + [b"VALKEY080"])
def test_every_version_is_read(head: bytes) -> None:
    reader, view = read(by_hand(PAIR, head))
    assert view.keyspace.dbs[0].values == {b"k": b"v"} and reader.ended


def test_versions_before_5_have_no_checksum() -> None:
    for version in range(1, 5):
        _, view = read(b"REDIS%04d" % version + PAIR + b"\xff")
        assert view.keyspace.dbs[0].values == {b"k": b"v"}


@pytest.mark.parametrize("head", [b"REDIS0014", b"REDIS0000", b"VALKEY081", b"VALKEY011"])
def test_other_versions_are_refused_by_name(head: bytes) -> None:
    with pytest.raises(Unkept, match=r"its version is \d+ of (Redis|Valkey)'s format; those read are"):
        read(by_hand(PAIR, head))


def test_a_checksum_of_zero_stands_for_none() -> None:
    _, view = read(b"REDIS0010" + PAIR + b"\xff" + bytes(8))
    assert view.key_count() == 1


def test_opcodes_between_keys() -> None:
    body = (
        b"\xfa\x09redis-ver\x053.2.1" + b"\xfa\x01x" + old.string(b"y" * 5000)  # facts
        + b"\xfe\x02\xfb\x02\x01"  # database 2
        + b"\xfd" + struct.pack("<i", 2_000_000_000) + b"\x00\x01a\x01b"  # seconds
        + b"\xfc" + struct.pack("<q", FUTURE_MS) + b"\xf8\x80\x00\x00\x01\x00" + b"\x00\x01c\x01d"  # idle
        + b"\xf9\x07" + b"\x00\x01e\x01f" + b"\xf4\x01\x01\x00"  # frequency, a slot
    )  # fmt: skip
    reader, view = read(by_hand(body))
    db = view.keyspace.dbs[2]
    assert db.values == {b"a": b"b", b"c": b"d", b"e": b"f"}
    assert db.expires == {b"a": 2_000_000_000_000, b"c": FUTURE_MS}
    assert reader.facts == {"redis-ver": "3.2.1"}


MODULE_ID = b"\x81" + struct.pack(">Q", 1 << 10 | 2)
MODULE = b"\x07\x01m" + MODULE_ID + b"\x02\x05\x05\x03abc\x00"
MODULE_FACT = b"\xf7" + MODULE_ID + b"\x02\x01\x05\x01x\x00"


def test_what_cannot_be_kept_is_refused_or_left_out_when_told() -> None:
    body = MODULE_FACT + PAIR + MODULE + b"\x00\x01z\x01z"
    for part, said in (
        (MODULE, "key b'm' at byte .* holds the value of a module, 'AAAAAAAAB' version 2"),
        (MODULE_FACT, "a piece of data of the module 'AAAAAAAAB'"),
    ):  # fmt: skip
        with pytest.raises(Unkept, match=said):
            read(by_hand(PAIR + part))
    reader, view = read(by_hand(body), skip=True)
    assert view.keyspace.dbs[0].values == {b"k": b"v", b"z": b"z"}
    assert reader.skipped == {
        "piece of data of the module 'AAAAAAAAB' version 2": 1,
        "value of the module 'AAAAAAAAB' version 2": 1,
    }
    with pytest.raises(BadRdb, match="without a name"):
        read(by_hand(PAIR + b"\xf5\x03lib"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\xfe\x10" + PAIR, "database 16, and eventdb has 16"), (b"\x1b\x01k", "type 27 of the format"),
        (b"\xf3\x01", "opcode 243"), (b"\xf6\x01", "opcode 246"), (b"\x1c\x01k\x00", "array .*type 28"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_named_even_when_told_to_skip(body: bytes, said: str) -> None:
    with pytest.raises(Unkept, match=said):
        read(by_hand(body), skip=True)


# -- damage


def test_cut_and_flipped_files_are_refused() -> None:
    local = Local()
    local("SET", "a", "value of a")
    local("RPUSH", "l", 1, 2, "three")
    local("XADD", "x", "1-1", "f", "v")
    data = file_of(local, ctime="1")
    for cut in range(len(data)):
        with pytest.raises(BadRdb):
            read(data[:cut])
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 0x40
        with pytest.raises(BadRdb):
            read(bytes(flipped))
    with pytest.raises(BadRdb, match="goes on after its end"):
        read(data + b"*1\r\n$4\r\nPING\r\n")


@examples(200)
@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_a_file_or_a_named_error(body: bytes, skip: bool) -> None:
    try:
        reader, _ = read_only(b"REDIS0012" + body, skip)
        assert reader.ended
    except BadRdb:
        pass


def read_only(data: bytes, skip: bool) -> tuple[FileReader, int]:
    file = io.BytesIO(data)
    reader = FileReader(Source(b"", file.read), skip)
    count = 0
    while events := reader.piece(100):
        count += len(events)
    return reader, count


# -- into a log


class Named(io.BytesIO):
    name = "dump.rdb"


async def imported(data: bytes, url: str, **options: bool) -> Imported:
    log = open_log(url)
    try:
        return await import_file(Named(data), log, View, **options)  # type: ignore[arg-type]
    finally:
        await log.close()


async def rebuilt(url: str) -> tuple[Follower, View]:
    log, view = open_log(url), View()
    follower = Follower(log, view)
    try:
        await follower.rebuild()
    finally:
        await log.close()
    return follower, view


async def test_an_import_is_a_new_log_of_the_same_state(tmp_path: Path) -> None:
    local = filled()
    url = f"quorum:{tmp_path / 'new'}"
    done = await imported(file_of(local), url)
    follower, view = await rebuilt(url)
    assert done.digest == view.digest() == local.engine.digest()
    assert (done.offset, done.key_count) == (follower.offset, local.engine.key_count())
    assert done.offset >= 2  # the pieces
    with pytest.raises(NotEmpty, match="is not empty"):
        await imported(file_of(local), url)


async def test_an_empty_file_makes_an_empty_log(tmp_path: Path) -> None:
    url = f"quorum:{tmp_path / 'new'}"
    assert (await imported(file_of(Local()), url)).offset == 0
    assert (await rebuilt(url))[1].key_count() == 0


async def test_a_damaged_file_leaves_the_log_untouched(tmp_path: Path) -> None:
    data = bytearray(file_of(filled()))
    data[len(data) // 2] ^= 1
    url = f"quorum:{tmp_path / 'new'}"
    with pytest.raises(BadRdb, match="cut off or damaged"):
        await imported(bytes(data), url)
    log = open_log(url)
    assert await log.is_empty()
    await log.close()


@pytest.mark.parametrize("again", [PAIR, b"\x01\x01k\x01\x01v", b"\x02\x01k\x01\x01v"])
async def test_half_an_import_is_never_a_database(tmp_path: Path, again: bytes) -> None:
    """A key that comes twice is found on the way: what was written stays marked, and is refused by every reader."""
    url = f"quorum:{tmp_path / 'new'}"
    with pytest.raises(BadRdb, match="twice"):
        await imported(by_hand(PAIR + again), url)
    log = open_log(url)
    with pytest.raises(Incomplete, match="restore or an import that did not finish"):
        await check_complete(log)
    with pytest.raises(Incomplete):
        await import_file(Named(by_hand(PAIR)), log, View, source_url="rdb:other")  # type: ignore[arg-type]
    with pytest.raises(Incomplete):
        await rebuilt(url)
    await import_file(Named(by_hand(PAIR)), log, View)  # type: ignore[arg-type]
    await log.close()
    assert (await rebuilt(url))[1].key_count() == 1


async def test_a_log_that_holds_something_is_not_added_to(tmp_path: Path) -> None:
    url = f"memory:{tmp_path.name}"
    scribe = await Scribe.claim(open_log(url))
    await scribe.fill(1, 1)
    with pytest.raises(NotEmpty):
        await imported(by_hand(PAIR), url)


async def test_a_large_value_comes_in_several_transactions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventdb.history.importing.VALUE_BYTES", 50_000)
    local = Local()
    local("SELECT", 2)
    local("RPUSH", "l", *range(20_000))
    url = f"quorum:{tmp_path / 'new'}"
    done = await imported(file_of(local), url)
    assert done.offset > 5 and done.digest == local.engine.digest()


def test_reading_is_not_slower_than_it_was_meant_to_be() -> None:
    """A net for mistakes that make it slower by the square of the size, not a benchmark."""
    local = Local()
    local("RPUSH", "l", *range(100_000))
    data = file_of(local)
    began = time.thread_time()
    read(data, chunk=1 << 20, piece_bytes=1 << 20)
    assert time.thread_time() - began < 2


def stateful() -> Local:
    """Users, outcomes with one reply and with two, and some that were dropped."""
    local = Local()
    local(
        "ACL", "SETUSER", "alice", "on", ">secret", "~a:*", "%R~b:*", "&c", "+@read", "-get", "+config|get", "(~x +set)"
    )
    local("ACL", "SETUSER", "default", "on", "nopass", "+@all", "-debug", "~*", "&*")
    local("CONFIG", "SET", "once-retention-ms", 1000)
    for n in range(3):
        local("EVENTDB.ONCE", f"old {n}", "INCR", "n")
    local.engine.store.now_ms += 5000
    local("EVENTDB.ONCE", "007", "HSET", "h", "f", 1)
    local("EVENTDB.ONCE", "two replies", "ZADD", "z", "INCR", 1.5, "m")
    local("EVENTDB.ONCE", "error", "EVAL", "redis.call('set','k','v');return redis.call('lpop','k')", 1, "k")
    return local


def test_users_and_outcomes_are_carried() -> None:
    local = stateful()
    keyspace = local.engine.store.keyspace
    assert len(keyspace.users) == 2 and len(keyspace.outcomes.kept) == 3 and keyspace.outcomes.forgotten_ms
    for piece_bytes in (1, 1 << 20):
        reader, view = read(file_of(local), piece_bytes=piece_bytes)
        assert view.digest() == local.engine.digest()
        assert (reader.user_count, reader.outcome_count) == (2, 3)
        assert (list(view.keyspace.users), list(view.keyspace.outcomes.kept)) == (
            list(keyspace.users), list(keyspace.outcomes.kept),
        )  # fmt: skip


@pytest.mark.redis
def test_a_real_server_passes_over_users_and_outcomes(started: Callable[[bytes], tuple[Wire, Path]]) -> None:
    local = stateful()
    wire, _ = started(file_of(local))
    assert wire.call("DBSIZE") == b":%d\r\n" % local.engine.key_count()
    assert wire.call("ACL", "USERS") == b"*1\r\n$7\r\ndefault\r\n"
    wire.close()


@pytest.mark.parametrize(
    ("fact", "parts"),
    [
        (codes.USER, [b"alice"]), (codes.USER, [b"alice", b"on", b"more"]), (codes.OUTCOME, [b"t", b"1", b"2", b"f"]),
        (codes.FORGOTTEN, []), (codes.FORGOTTEN, [b"soon"]), (codes.OUTCOME, [b"t", b"x", b"2", b"f", b"+OK\r\n"]),
        (codes.USER, [b"alice", b"+nosuchcommand"]), (codes.USER, [b"alice", b"(unmatched"]),
    ],
)  # fmt: skip
async def test_a_fact_that_makes_no_state_is_refused(tmp_path: Path, fact: bytes, parts: list[bytes]) -> None:
    commands.load()
    pack = ListpackWriter()
    for part in parts:
        pack.string(part)
    found: list[bytes] = []
    file = FileWriter(found.append)
    file.begin({})
    file.out.raw(b"%c" % codes.AUX)
    file.out.string(fact)
    file.out.string(pack.made())
    file.end()
    path = tmp_path / "dump.rdb"
    path.write_bytes(b"".join(found))
    log = open_log("memory:")
    with path.open("rb") as opened, pytest.raises(BadRdb):
        await import_file(opened, log, View, check_user=check_rules)
    await log.close()
