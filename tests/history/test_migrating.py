"""Live migration from a real redis-server under load: nothing lost, nothing doubled, however it is interrupted."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.test_cli import finish, run_offset, start
from tests.cli.test_cli_rdb import facts, run
from tests.conftest import free_port, wait_until
from tests.kit.certificates import Authority
from tests.kit.real_redis import RealRedis, Writer, differing, groups

pytestmark = [pytest.mark.redis, pytest.mark.slow]

StartRedis = Callable[..., RealRedis]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[StartRedis]:
    running: list[RealRedis] = []

    def begin(*options: str, file: Path | None = None) -> RealRedis:
        folder = tmp_path / f"redis-{len(running)}"
        folder.mkdir()
        if file is not None:
            shutil.copy(file, folder / "dump.rdb")
        running.append(RealRedis(folder, *options))
        return running[-1]

    yield begin
    for server in running:
        server.stop()


def writers(server: RealRedis, count: int = 3) -> list[Writer]:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    found = [Writer(server.port, who, seed + who, pause=0.03) for who in range(count)]
    for writer in found:
        writer.start()
    return found


def migrate(server: RealRedis, url: str, *options: str) -> subprocess.Popen[str]:
    return start("import", server.url, "--log", url, *options)


def same(server: RealRedis, url: str, redis: StartRedis, folder: Path, steps: list[int]) -> None:
    """A real server that loads an export of the log has what the source has."""
    code, _, err = run("export", "--log", url, "--rdb", str(folder / "out.rdb"), "--overwrite")
    assert code == 0, err
    other = redis(file=folder / "out.rdb")
    with server.wire() as theirs, other.wire() as ours:
        for who, count in enumerate(steps):
            assert ours("GET", f"count:{who}") == b"%d" % count == theirs("GET", f"count:{who}")
            assert ours("LRANGE", f"log:{who}", 0, -1) == [b"%d" % n for n in range(count)]
        found, wanted = groups(ours), groups(theirs)
        for name in wanted:
            assert found[name] == wanted[name], name
        assert len(found) == len(wanted)
        assert differing(ours, theirs) == []


def end(clients: list[Writer]) -> list[int]:
    for client in clients:
        client.stop()
    return [client.steps for client in clients]


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_a_server_under_load_moves_in(redis: StartRedis, tmp_path: Path, diskless: str) -> None:
    server, url = redis("--repl-diskless-sync", diskless, "--repl-backlog-size", "64mb"), f"quorum:{tmp_path / 'data'}"
    clients = writers(server)
    wait_until(lambda: clients[0].steps > 20, 30, "there is something to copy")
    process = migrate(server, url)
    wait_until(lambda: run_offset(url) > 200, 60, "it follows")
    process.send_signal(signal.SIGTERM)
    done = finish(process)
    assert done.code == 0 and done.out.startswith(f"stopped; {url} holds"), done.err
    code, _, err = run("log", "digest", "--log", url)
    assert code == 1 and "did not finish" in err
    process = migrate(server, url, "--cutover", "pause")  # while they write
    done = finish(process)
    assert done.code == 0 and f"migrated {server.url} into {url}" in done.out, done.err
    said = facts(done.out)
    assert "takes no writes" in done.err and said["digest"] == facts(run("log", "digest", "--log", url)[1])["digest"]
    with server.wire() as wire:  # the writers wait in the pause
        held = [int(wire("GET", f"count:{who}")) for who in range(3)]  # type: ignore[call-overload]
        same(server, url, redis, tmp_path, held)
        assert wire("CLIENT", "UNPAUSE") == b"OK"
    end(clients)
    assert run("import", server.url, "--log", url)[0] == 1


def test_broken_connections_and_kills_lose_and_double_nothing(redis: StartRedis, tmp_path: Path) -> None:
    server, url = redis("--repl-backlog-size", "64mb"), f"quorum:{tmp_path / 'data'}"
    clients = writers(server)
    process = migrate(server, url)
    reached = 200
    for _ in range(3):
        wait_until(lambda: run_offset(url) > reached, 60, "it follows")  # noqa: B023 - called at once
        with server.wire() as wire:  # which may just be connecting again
            wait_until(lambda: wire("CLIENT", "KILL", "TYPE", "replica") == 1, what="its connection is killed")
        reached = run_offset(url) + 200
        wait_until(lambda: run_offset(url) > reached, 60, "it goes on")  # noqa: B023 - called at once
        process.kill()
        finish(process)
        process = migrate(server, url)
        reached = run_offset(url) + 200
    wait_until(lambda: run_offset(url) > reached, 60, "it goes on")
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 0
    steps = end(clients)
    done = finish(migrate(server, url, "--cutover", "zero"))
    assert done.code == 0, done.err
    same(server, url, redis, tmp_path, steps)


def test_a_kill_in_the_middle_of_the_file_begins_with_the_file_anew(redis: StartRedis, tmp_path: Path) -> None:
    server, url = redis("--repl-backlog-size", "64mb"), f"quorum:{tmp_path / 'data'}"
    with server.wire() as wire:
        assert wire("DEBUG", "POPULATE", 100_000, "key", 1000) == b"OK"
    process = migrate(server, url)
    wait_until(lambda: run_offset(url) > 2, 60, "some of the file is there")
    process.kill()
    finish(process)
    with server.wire() as wire:
        assert wire("SET", "new", "1") == b"OK"
    done = finish(migrate(server, url, "--cutover", "zero"))
    assert done.code == 0, done.err
    assert "holds part of an earlier attempt that did not finish: it is removed" in done.err
    assert facts(run("log", "digest", "--log", url)[1])["keys"] == "100001"


def test_a_source_that_has_forgotten_is_named(redis: StartRedis, tmp_path: Path) -> None:
    server, url = redis("--repl-backlog-size", "16kb"), f"quorum:{tmp_path / 'data'}"
    process = migrate(server, url)
    wait_until(lambda: run_offset(url) > 0, 30, "the mark of the file is there")
    process.kill()
    finish(process)
    with server.wire() as wire:
        for n in range(100):
            assert wire("SET", f"k:{n}", "x" * 1000) == b"OK"
    done = finish(migrate(server, url, "--cutover", "zero"))
    assert done.code == 1 and "no longer has what comes after offset" in done.err, done.err


def test_passwords_users_and_refusals(redis: StartRedis, tmp_path: Path) -> None:
    server, url = redis("--requirepass", "a b@c"), f"quorum:{tmp_path / 'data'}"
    with server.wire() as wire:
        assert wire("AUTH", "a b@c") == b"OK"
        assert wire("SET", "k", "v") == b"OK"
        assert wire("ACL", "SETUSER", "mover", "on", ">p", "+@all", "~*", "&*") == b"OK"
    for who, text in (("", "NOAUTH"), (":wrong@", "WRONGPASS"), ("nobody:x@", "WRONGPASS")):
        code, _, err = run("import", f"redis://{who}127.0.0.1:{server.port}", "--log", url, "--cutover", "zero")
        assert code == 1 and text in err and len(err.splitlines()) == 1, err
    done = finish(start("import", f"redis://mover:p@127.0.0.1:{server.port}/0", "--log", url, "--cutover", "zero"))
    assert (done.code, facts(done.out)["keys"]) == (0, "1"), done.err
    for argv, code, text in (
        ((f"redis://127.0.0.1:{server.port}/3",), 2, "takes all databases"), (("redis://",), 2, "should look like"),
        (("redis://127.0.0.1:1", "--cutover", "zero"), 1, "cannot be reached"),
        (("redis://127.0.0.1:1", "--cutover", "now"), 2, "--cutover is pause or zero"),
        (("redis://127.0.0.1:1", "--to-time", "1 s ago"), 2, "--to-time is for"),
    ):  # fmt: skip
        found, _, err = run("import", *argv, "--log", f"quorum:{tmp_path / 'other'}")
        assert found == code and text in err, err
    assert not (tmp_path / "other").exists()


def test_over_tls(redis: StartRedis, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certificates")
    port = free_port()
    options = authority.settings(port, authority.sign("server"))
    server = redis(*(part for name, value in options.items() for part in (f"--{name}", value)))
    with server.wire() as wire:
        assert wire("SET", "k", "v" * 300_000) == b"OK"
    source, url = f"rediss://127.0.0.1:{port}", f"quorum:{tmp_path / 'data'}"
    code, _, err = run("import", source, "--log", url, "--cutover", "zero")
    assert code == 1 and "certificate" in err, err
    done = finish(start("import", source, "--log", url, "--cutover", "pause", "--tls-ca", authority.file))
    assert (done.code, facts(done.out)["keys"]) == (0, "1"), done.err


def test_wait_on_the_source_means_durable_here(redis: StartRedis, tmp_path: Path) -> None:
    server, url = redis(), f"quorum:{tmp_path / 'data'}"
    process = migrate(server, url)
    wait_until(lambda: run_offset(url) == 1, 30, "the mark of the file is there")
    with server.wire() as wire:
        wait_until(lambda: b"state=online" in bytes(wire("INFO", "replication")), 30, "it follows")  # type: ignore[call-overload]
        before = run_offset(url)
        assert wire("SET", "k", "v") == b"OK"
        assert wire("WAIT", 1, 10_000) == 1
        assert run_offset(url) == before + 1
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 0
