"""Append-only files, old and new: what Redis loads is loaded, what is damaged is named with its byte."""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventdb import commands
from eventdb.backends import LogError, open_log
from eventdb.history.appendonly import import_appended
from eventdb.history.importing import import_file
from eventdb.history.view import View
from eventdb.rdb.aof import CommandReader
from eventdb.rdb.codes import BadRdb, Unkept
from eventdb.rdb.crc64 import crc64
from tests.cli.test_cli_rdb import facts, run
from tests.conftest import wait_until
from tests.kit.real_redis import RealRedis, Writer, differing, groups
from tests.kit.wire import encode

SECONDS = float(os.environ.get("EVENTDB_FUZZ_SECONDS", "3"))
FILE = (
    encode("SELECT", 0) + encode("SET", "a", 1) + encode("MULTI") + encode("INCR", "a") + encode("RPUSH", "l", 1, 2)
    + encode("EXEC") + encode("SELECT", 3) + encode("SET", "b", 2, "PXAT", 1000)
)  # fmt: skip
RDB = b"REDIS0010\x00\x01r\x01v\xff" + bytes(8)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Callable[..., RealRedis]]:
    running: list[RealRedis] = []

    def begin(name: str, *options: str) -> RealRedis:
        running.append(RealRedis(tmp_path / name, *options))
        return running[-1]

    yield begin
    for server in running:
        server.stop()


def imported(path: Path, *options: str) -> tuple[int, str, str, str]:
    url = f"quorum:{path.parent / 'into'}"
    shutil.rmtree(path.parent / "into", ignore_errors=True)
    return (*run("import", str(path), "--log", url, *options), url)


def tail(url: str) -> list[str]:
    return run("log", "tail", "--log", url, "--from", "1")[1].splitlines()


def test_one_file_is_its_commands_and_multi_is_one_transaction(tmp_path: Path) -> None:
    path = tmp_path / "appendonly.aof"
    path.write_bytes(FILE)
    code, out, err, url = imported(path)
    said = facts(out)
    assert (code, said["commands"], said["offset"], said["keys"]) == (0, "8", "3", "3"), err
    text = "\n".join(tail(url))
    assert "RPUSH l 1 2" in text and "PXAT 1000" in text  # its deadline is over, and its DEL has not come
    assert said["digest"] == facts(run("log", "digest", "--log", url)[1])["digest"]


def test_names_of_commands_may_be_written_in_any_case(tmp_path: Path) -> None:
    """Those with a relative time become others on their way in, whatever their case."""
    payload = b"\0\x011" + struct.pack("<H", 10)
    commands = [
        ("SET", "a", "1", "PX", 900_000_000), ("SETEX", "b", 900_000, "1"), ("PSETEX", "c", 900_000_000, "1"),
        ("SET", "d", "1"), ("EXPIRE", "d", 900_000), ("SET", "e", "1"), ("PEXPIRE", "e", 900_000_000),
        ("SET", "f", "1"), ("GETEX", "f", "EX", 900_000),
        ("HSET", "h", "x", "1"), ("HEXPIRE", "h", 900_000, "FIELDS", 1, "x"),
        ("HSET", "i", "x", "1"), ("HPEXPIRE", "i", 900_000_000, "FIELDS", 1, "x"),
        ("MULTI",), ("SELECT", 1), ("SET", "g", "1"), ("EXEC",), ("XGROUP", "CREATE", "s", "g", 0, "MKSTREAM"),
        ("RESTORE", "r", 900_000_000, payload + crc64(payload).to_bytes(8, "little")),
    ]  # fmt: skip
    stamp = b"#TS:%d\r\n" % time.time()  # times count from here in each of them
    digests = []
    for change in (str.upper, str.lower, str.title, str.swapcase):
        path = tmp_path / f"{change.__name__}.aof"
        path.write_bytes(stamp + b"".join(encode(change(str(name).title()), *rest) for name, *rest in commands))
        code, out, err, _ = imported(path)
        assert code == 0 and "refused" not in out + err, (change, out, err)
        digests.append(facts(out)["digest"])
    assert len(set(digests)) == 1


def test_a_beginning_in_rdb(tmp_path: Path) -> None:
    path = tmp_path / "appendonly.aof"
    path.write_bytes(RDB + encode("SELECT", 0) + encode("APPEND", "r", "w"))
    code, out, err, _ = imported(path)
    assert (code, facts(out)["keys"], facts(out)["offset"]) == (0, "1", "2"), err
    path.write_bytes(RDB)
    assert imported(path)[0] == 0
    path.write_bytes(RDB[:-12] + encode("SET", "a", "b"))
    code, _, err, _ = imported(path)
    assert code == 1 and "appendonly.aof" in err


def test_what_is_cut_off_is_left_out_and_named(tmp_path: Path) -> None:
    path = tmp_path / "appendonly.aof"
    begins = FILE.index(encode("MULTI"))
    for end in (len(FILE) - 1, len(FILE) - 9, begins + 3, begins + len(encode("MULTI")), begins + 40, 5):
        path.write_bytes(FILE[:end])
        code, out, err, _ = imported(path)
        assert code == 0, err
        place = int(err.split("what begins at byte ")[1].split()[0])
        assert place <= end and (place == begins or FILE[place : place + 1] == b"*"), (end, err)
        assert facts(out)["offset"] == str(FILE[:place].count(b"SET\r\n") + FILE[:place].count(b"EXEC\r\n"))


@pytest.mark.parametrize("at", [0, 4, 23, 31, 60])
def test_damage_in_the_middle_is_named_with_its_byte(tmp_path: Path, at: int) -> None:
    path = tmp_path / "appendonly.aof"
    data = bytearray(FILE)
    at = FILE.index(b"*", at) if at else 0
    data[at] = 0x21
    path.write_bytes(bytes(data))
    code, _, err, _ = imported(path)
    assert code == 1 and f"byte {at} begins no command" in err, err


def test_times_of_the_file_are_those_of_the_log(tmp_path: Path) -> None:
    path = tmp_path / "appendonly.aof"
    stamps = [b"#TS:%d\r\n" % second for second in (1_700_000_000, 1_700_000_010, 1_700_000_020)]
    body = b"".join(stamp + encode("SET", f"k{n}", n) for n, stamp in enumerate(stamps))
    path.write_bytes(body + encode("SETEX", "old", 100, "v"))
    code, out, err, url = imported(path)
    assert (code, facts(out)["keys"]) == (0, "4"), err
    assert "2023-11-14T22:13:40" in facts(out)["last"] and any("PXAT 1700000120000" in line for line in tail(url))
    assert facts(run("log", "digest", "--log", url, "--at", "2")[1])["offset"] == "2"
    code, out, err, url = imported(path, "--to-time", "2023-11-14T22:13:35Z")
    assert (code, facts(out)["keys"]) == (0, "2"), err
    path.write_bytes(FILE)
    code, _, err, _ = imported(path, "--to-time", "2023-11-14T22:13:35Z")
    assert code == 1 and "no notes of the time" in err


def test_a_manifest_is_read_as_redis_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    (folder / "a b.base.rdb").write_bytes(RDB)
    (folder / "a.1.incr.aof").write_bytes(encode("SELECT", 1) + encode("SET", "x", 1))
    (folder / "a.2.incr.aof").write_bytes(encode("SET", "y", 1)[:-3])
    (folder / "a.0.incr.aof").write_bytes(b"garbage of history")
    manifest = folder / "a.aof.manifest"
    good = (
        'file "a b.base.rdb" seq 1 type b\n# a comment\nfile a.0.incr.aof seq 9 type h\n'
        "file a.1.incr.aof seq 1 type i startoffset 1\nfile a.2.incr.aof seq 2 type i\n"
    )
    manifest.write_text(good)
    for path in (folder, tmp_path, manifest):
        code, out, err, _ = imported(path)
        if path is tmp_path:
            assert code == 0
            continue
        assert (code, facts(out)["keys"]) == (0, "2") and "a.2.incr.aof ends in the middle" in err, err
    for bad, text in (
        (good + "file a.3.incr.aof seq 3 type i\n", "which is not there"), (good + "file x\n", "line 6"),
        (good + "file a.1.incr.aof seq 1 type i\n", "out of order"), (good + 'file b seq 2 type b\n', "a second base"),
        (good.replace("a.1.incr", "../a.1.incr"), "line 4"), ("", "names no file"),
        (good + "file a seq 1 type q\n", "line 6"),
        (good.replace("a.2.incr.aof seq 2", "a.1.incr.aof seq 2").replace("a.1.incr.aof seq 1", "a.2.incr.aof seq 1"),
         "is not the last file"),
    ):  # fmt: skip
        manifest.write_text(bad)
        code, _, err, _ = imported(folder)
        assert code == 1 and text in err, (text, err)


def test_commands_that_are_refused_are_counted_and_unknown_ones_named(tmp_path: Path) -> None:
    path = tmp_path / "appendonly.aof"
    path.write_bytes(FILE + encode("LPUSH", "b", 1) + encode("CONFIG", "SET", "maxmemory", 1) + encode("SHUTDOWN"))
    code, out, err, _ = imported(path)
    assert (code, facts(out)["keys"]) == (0, "3") and "left out: 1 × LPUSH that was refused: WRONGTYPE" in err
    path.write_bytes(FILE + encode("NOSUCH", "k", 1))
    code, _, err, _ = imported(path)
    assert code == 1 and "unknown command 'NOSUCH'" in err and "--skip-unsupported" in err
    assert imported(path, "--skip-unsupported")[0] == 0
    path.write_bytes(encode("SELECT", 99) + encode("SET", "k", 1))
    code, _, err, _ = imported(path, "--skip-unsupported")
    assert code == 1 and "SELECT 99" in err


@pytest.mark.redis
def test_what_a_real_server_wrote(redis: Callable[..., RealRedis], tmp_path: Path) -> None:
    options = ("--appendonly", "yes", "--appendfsync", "no", "--aof-timestamp-enabled", "yes")
    server = redis("theirs", *options)
    seed = int(time.time())
    print(f"seed {seed}")
    clients = [Writer(server.port, who, seed + who, pause=0.001) for who in range(2)]
    for client in clients:
        client.start()
    wait_until(lambda: clients[0].steps > 30, 30, "the first part is written")
    with server.wire() as wire:
        assert "started" in str(wire("BGREWRITEAOF"))  # so that there is a base
        wait_until(lambda: b"aof_rewrite_in_progress:0" in bytes(wire("INFO", "persistence")), 30)  # type: ignore[call-overload]
    wait_until(lambda: clients[0].steps > 60, 30, "the second part is written")
    for client in clients:
        client.stop()
    code, out, err, url = imported(server.folder / "appendonlydir")
    assert code == 0 and "left out" not in err, err
    noted = any(b"#TS:" in file.read_bytes() for file in (server.folder / "appendonlydir").glob("*.incr.aof"))
    assert noted == ("last" in facts(out))
    (tmp_path / "ours").mkdir()
    assert run("export", "--log", url, "--rdb", str(tmp_path / "ours" / "dump.rdb"))[0] == 0
    with server.wire() as theirs, redis("ours").wire() as ours:
        assert groups(ours) == groups(theirs)
        assert ours("GET", "count:0") == b"%d" % clients[0].steps
        assert differing(ours, theirs) == []


@settings(deadline=None)
@given(st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=4), max_size=6), st.integers(1, 40))
def test_commands_come_out_whole_however_they_are_cut(wanted: list[list[bytes]], size: int) -> None:
    data = b"".join(encode(*command) for command in wanted)
    reader, found, ends = CommandReader(7), [], [7]
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])
        while (argv := reader.next()) is not None:
            found.append(argv)
            ends.append(reader.whole_at)
    assert found == wanted and reader.is_between()
    assert ends == [7 + sum(len(encode(*command)) for command in wanted[:n]) for n in range(len(wanted) + 1)]


def _feed(data: bytes, folder: Path) -> None:
    """Import it as what its beginning says; only named errors may come, and what comes in is replayed the same."""
    path = folder / ("x.aof" if not data.startswith((b"REDIS", b"VALKEY")) or folder.name.endswith("aof") else "x.rdb")
    path.write_bytes(data)

    async def work() -> None:
        log = open_log("memory:")
        try:
            if path.suffix == ".aof":
                await import_appended([path], log, View, name="x", skip=True)
            else:
                with path.open("rb") as file:
                    await import_file(file, log, View, skip=True)
        except (BadRdb, Unkept, LogError):
            pass
        finally:
            await log.close()

    asyncio.run(work())


def test_mutated_files_give_a_state_or_a_named_error(tmp_path: Path) -> None:
    """Real files with bytes flipped, cut out, doubled. EVENTDB_FUZZ_SECONDS for longer."""
    import random
    import resource

    commands.load()
    seed = int(os.environ.get("EVENTDB_FUZZ_SEED", time.time_ns() % (1 << 32)))
    print(f"EVENTDB_FUZZ_SEED={seed}")
    rng = random.Random(seed)
    golden = (Path(__file__).parent.parent / "golden" / "rdb" / "ours.rdb").read_bytes()
    sources = [golden, FILE * 3, RDB + FILE, b"#TS:1700000000\r\n" + FILE + b"#TS:1700000001\r\n" + FILE]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    folders = [tmp_path / "as-aof", tmp_path / "as-it-is"]
    for folder in folders:
        folder.mkdir()
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        data = bytearray(rng.choice(sources))
        for _ in range(rng.randint(1, 6)):
            at, size = rng.randrange(len(data) + 1), rng.randint(1, 12)
            kind = rng.randrange(5)
            if kind == 0 and at < len(data):
                data[at] = rng.randrange(256)
            elif kind == 1:
                del data[at : at + size]
            elif kind == 2:
                data[at:at] = data[at : at + size]
            elif kind == 3:
                data[at:at] = rng.choice(
                    (b"\x81" + b"\xff" * 8, b"\x80\x7f\xff\xff\xff", b"$536870912\r\n", b"*1048576\r\n")
                )
            else:
                data[at : at + size] = struct.pack("<q", rng.choice((-1, 0, 1 << 40, (1 << 63) - 1)))
        _feed(bytes(data), rng.choice(folders))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, f"{grown} KB"


def test_a_length_that_lies_costs_nothing(tmp_path: Path) -> None:
    for data in (b"*2147483647\r\n$536870912\r\nx", b"*1\r\n$2147483647\r\nx"):
        _feed(data, tmp_path)
    for data in (
        b"*99999999999\r\n",
        b"*1\r\n$-1\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*" + b"1" * 40,
        b"#" + b"x" * 2000,
        b"*1\r\n:1\r\n",
    ):
        reader = CommandReader()
        reader.feed(data)
        with pytest.raises(BadRdb, match=r"byte 0|byte 4"):
            reader.next()
