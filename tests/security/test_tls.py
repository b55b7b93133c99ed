"""TLS: what the settings mean, whom a certificate names, and what goes in and out of a TLS port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from eventdb.cli.app import app
from eventdb.engine.settings import Config
from eventdb.security.tls import Tls, TlsError, names_of
from eventdb.server.server import Server
from tests.conftest import StartServer, free_port
from tests.kit.certificates import Authority
from tests.kit.nodes import Nodes

PATIENCE_S = 10


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.sign("server")
    made.sign("alice", names="URI:spiffe://shop/alice")
    return made


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("stranger"))
    made.sign("alice")
    return made


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as made:
        yield made


def begun(nodes: Nodes, authority: Authority, **others: str) -> Server:
    return nodes.start("one", authority.settings(free_port(), authority.folder / "server", **others))


class Line:
    """One connection to a TLS port."""

    def __init__(self, opened: ssl.SSLSocket) -> None:
        self.socket = opened

    def ask(self, line: str) -> bytes:
        self.socket.sendall(line.encode() + b"\r\n")
        return self.socket.recv(1 << 16)

    def serial(self) -> str:
        found = self.socket.getpeercert()
        assert found is not None
        return str(found["serialNumber"])


Dial = Callable[[Server, ssl.SSLContext], Line]


@pytest.fixture
def dial() -> Iterator[Dial]:
    """Connects; all is closed when the test ends."""
    with contextlib.ExitStack() as opened:

        def connect(server: Server, context: ssl.SSLContext) -> Line:
            plain = opened.enter_context(socket.create_connection(("127.0.0.1", server.config.tls.port), PATIENCE_S))
            line = Line(context.wrap_socket(plain, server_hostname="127.0.0.1"))
            opened.enter_context(line.socket)
            return line

        yield connect


def refused(dial: Dial, server: Server, context: ssl.SSLContext) -> bool:
    """With TLSv1.3 the server's refusal comes after the client's handshake, in place of the first reply."""
    try:
        return dial(server, context).ask("PING") == b""
    except (ssl.SSLError, ConnectionError):
        return True


# -- settings


def settings(authority: Authority, **others: str) -> Tls:
    tls = Tls()
    for name, value in authority.settings(6390, authority.folder / "server").items():
        tls.put(name.removeprefix("tls-").replace("-", "_"), int(value) if name == "tls-port" else value)
    for name, value in others.items():
        tls.put(name, value)
    return tls


def test_what_is_wrong_is_said_by_the_name_of_a_setting(authority: Authority, tmp_path: Path) -> None:
    other = authority.sign("other")
    locked = authority.sign("locked", password="sesame")
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing here\n")
    settings(authority).check()
    settings(authority, cert_file=f"{locked}.crt", key_file=f"{locked}.key", key_file_pass="sesame").check()
    for wrong, text in (
        ({"cert_file": ""}, "tls-cert-file: TLS needs a certificate, and none is set"),
        ({"cert_file": "/nowhere"}, "tls-cert-file: /nowhere: No such file or directory"),
        ({"key_file": "/nowhere"}, "tls-key-file: /nowhere: No such file or directory"),
        ({"cert_file": str(empty)}, f"tls-cert-file: {empty}: it holds no certificate in PEM form"),
        ({"key_file": str(empty)}, f"tls-key-file: {empty}: it holds no private key in PEM form"),
        ({"key_file": ""}, f"tls-key-file: {authority.folder}/server.crt: it holds no private key in PEM form"),
        ({"key_file": f"{other}.key"}, f"tls-key-file: {other}.key is not the key of the certificate in"),
        ({"cert_file": f"{locked}.crt", "key_file": f"{locked}.key"}, "tls-key-file-pass: .*no password is set"),
        (
            {"cert_file": f"{locked}.crt", "key_file": f"{locked}.key", "key_file_pass": "wrong-guess"},
            "tls-key-file-pass: .*: it does not open the key",
        ),
        ({"ca_cert_file": str(empty), "auth_clients": "yes"}, f"tls-ca-cert-file: {empty}: it holds no certificate"),
        ({"ca_cert_file": "", "auth_clients": "yes"}, "tls-ca-cert-file: tls-auth-clients yes needs an authority"),
        ({"ca_cert_file": "", "replication": "yes"}, "tls-ca-cert-file: tls-replication yes needs an authority"),
        ({"protocols": "TLSv1.1"}, "tls-protocols: TLSv1.1 is broken"),
        ({"protocols": "TLS"}, "tls-protocols: TLS is no version"),
        ({"ciphers": "ROT13"}, "tls-ciphers: OpenSSL knows no cipher of 'ROT13'"),
    ):
        with pytest.raises(TlsError, match=text) as found:
            settings(authority, **wrong).check()
        assert "wrong-guess" not in str(found.value)
    with pytest.raises(TlsError, match="tls-ciphersuites"):
        settings(authority, ciphersuites="ROT13").check()


def test_without_a_port_nothing_is_looked_at() -> None:
    tls = Tls()
    tls.put("cert_file", "/nowhere")
    tls.check()
    assert tls.look() and tls.client_context() is None


def test_whom_a_certificate_names() -> None:
    found: dict[str, object] = {
        "subject": ((("organizationName", "shop"),), (("commonName", "outer"),), (("commonName", "alice"),)),
        "subjectAltName": (("DNS", "x"), ("URI", "spiffe://a"), ("URI", "spiffe://b")),
    }
    assert names_of(found, "cn") == ["alice"]
    assert names_of(found, "uri") == ["spiffe://a", "spiffe://b"]
    assert names_of(None, "cn") == names_of({}, "uri") == []


# -- clients


def test_redis_clients_beside_the_plain_port(nodes: Nodes, authority: Authority) -> None:
    server = begun(nodes, authority)
    one = redis.Redis(port=server.port, socket_timeout=PATIENCE_S)
    two = redis.Redis(
        port=server.config.tls.port, ssl=True, ssl_ca_certs=authority.file, socket_timeout=PATIENCE_S, host="127.0.0.1"
    )
    with one, two:
        assert two.set("k", b"v" * 300_000) and one.get("k") == b"v" * 300_000
        assert (two.incr("n"), two.incr("n")) == (1, 2)
        assert one.config_get("tls-*")["tls-port"] == str(server.config.tls.port)
        assert one.info("server")["tcp_port"] == server.port
        assert two.client_info()["laddr"] == f"127.0.0.1:{server.config.tls.port}"


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
def test_redis_cli_and_no_plain_port(authority: Authority, eventdb_server: StartServer) -> None:
    place, port = authority.folder / "server", free_port()
    options = (
        "--tls-port", str(port), "--tls-cert-file", f"{place}.crt", "--tls-key-file", f"{place}.key",
        "--tls-ca-cert-file", authority.file, "--tls-auth-clients", "no",
    )  # fmt: skip
    server = eventdb_server(None, *options)  # with --port 0
    assert server.port == port and f"ready on 127.0.0.1:{port} with TLS" in server.text
    asked = ["redis-cli", "-p", str(port), "--tls", "--cacert", authority.file]
    for words, answer in ((["SET", "k", "v"], "OK"), (["GET", "k"], "v"), (["CONFIG", "GET", "port"], "port\n0")):
        done = subprocess.run([*asked, *words], capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.stdout.strip() == answer, done.stderr
    done = subprocess.run([*asked, "INFO", "server"], capture_output=True, text=True, timeout=PATIENCE_S)
    assert f"tcp_port:{port}\n" in done.stdout.replace("\r", "")
    assert server.stop() == 0
    assert "Traceback" not in server.text and "eof_received" not in server.text


def test_a_start_without_a_certificate_says_so(eventdb_server: StartServer) -> None:
    server = eventdb_server(None, "--tls-port", str(free_port()), wait=False)
    assert server.process.wait(PATIENCE_S) == 2
    assert "tls-cert-file: TLS needs a certificate, and none is set" in server.text and "Traceback" not in server.text


def test_a_client_certificate_is_needed_and_must_be_of_the_authority(
    nodes: Nodes, dial: Dial, authority: Authority, stranger: Authority
) -> None:
    server = begun(nodes, authority, tls_auth_clients="yes")
    assert dial(server, authority.client(authority.folder / "alice")).ask("PING") == b"+PONG\r\n"
    for context in (authority.client(), authority.client(stranger.folder / "alice")):
        assert refused(dial, server, context)
    with pytest.raises(ssl.SSLCertVerificationError):
        dial(server, authority.client(trusted=stranger.file))
    assert dial(server, authority.client(authority.folder / "alice")).ask("PING") == b"+PONG\r\n"


def test_optional_certificates(nodes: Nodes, dial: Dial, authority: Authority, stranger: Authority) -> None:
    server = begun(nodes, authority, tls_auth_clients="optional")
    assert dial(server, authority.client()).ask("PING") == b"+PONG\r\n"
    assert refused(dial, server, authority.client(stranger.folder / "alice"))


@pytest.mark.parametrize(("kind", "user"), [("CN", "alice"), ("URI", "spiffe://shop/alice")])
def test_the_user_of_a_certificate_needs_no_password(
    nodes: Nodes, dial: Dial, authority: Authority, kind: str, user: str
) -> None:
    server = begun(nodes, authority, tls_auth_clients="optional", tls_auth_clients_user=kind, requirepass="sesame")
    with redis.Redis(port=server.port, password="sesame", socket_timeout=PATIENCE_S) as admin:
        unknown = dial(server, authority.client(authority.folder / "alice"))
        assert unknown.ask("PING").startswith(b"-NOAUTH")
        assert admin.acl_log()[0]["object"] == "tls-cert"
        admin.execute_command("ACL", "SETUSER", user, "on", ">other", "~cart:*", "+@all", "-flushall")
        known = dial(server, authority.client(authority.folder / "alice"))
        assert known.ask("ACL WHOAMI") == b"$%d\r\n%b\r\n" % (len(user), user.encode())
        assert known.ask("SET price 1").startswith(b"-NOPERM") and known.ask("SET cart:1 a") == b"+OK\r\n"
        assert dial(server, authority.client()).ask("PING").startswith(b"-NOAUTH")
        admin.execute_command("ACL", "SETUSER", user, "off")
        assert dial(server, authority.client(authority.folder / "alice")).ask("PING").startswith(b"-NOAUTH")


def test_versions(nodes: Nodes, dial: Dial, authority: Authority) -> None:
    server = begun(nodes, authority, tls_protocols="TLSv1.3")
    old = authority.client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        dial(server, old)
    with redis.Redis(port=server.port, socket_timeout=PATIENCE_S) as admin:
        admin.config_set("tls-protocols", "TLSv1.2")
        assert dial(server, old).socket.version() == "TLSv1.2"
        with pytest.raises(redis.ResponseError, match=r"tls-protocols.*TLSv1 is broken"):
            admin.config_set("tls-protocols", "TLSv1")


# -- other certificates


def test_config_set_changes_certificates_together_or_not_at_all(nodes: Nodes, dial: Dial, authority: Authority) -> None:
    server = begun(nodes, authority)
    first = dial(server, authority.client())
    other = authority.sign("second")
    with redis.Redis(port=server.port, socket_timeout=PATIENCE_S) as admin:
        with pytest.raises(redis.ResponseError, match=r"argument 'tls-key-file'.*is not the key of the certificate"):
            admin.config_set("tls-cert-file", f"{other}.crt")
        assert admin.config_get("tls-cert-file")["tls-cert-file"] == f"{authority.folder}/server.crt"
        assert dial(server, authority.client()).serial() == first.serial()
        admin.execute_command("CONFIG", "SET", "tls-cert-file", f"{other}.crt", "tls-key-file", f"{other}.key")
        assert dial(server, authority.client()).serial() != first.serial()
        assert first.ask("PING") == b"+PONG\r\n"  # what is connected stays


def test_changed_files_are_taken_over_and_bad_ones_are_not(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    place = authority.sign("renewed")
    tls = settings(authority, cert_file=f"{place}.crt", key_file=f"{place}.key")
    tls.check()
    first = tls.server_context()
    assert tls.look() and tls.server_context() is first
    authority.sign("renewed")
    assert tls.look() and tls.server_context() is first  # somebody may be at it
    assert tls.look()
    second = tls.server_context()
    assert second is not first
    Path(f"{place}.key").write_text("half a k")
    with caplog.at_level(logging.WARNING, "eventdb"):
        assert tls.look() and not tls.look() and tls.look()
    assert tls.server_context() is second
    assert len(caplog.records) == 1 and f"tls-key-file: {place}.key" in caplog.text
    os.unlink(f"{place}.key")
    assert tls.look() and not tls.look() and tls.server_context() is second
    authority.sign("renewed")
    assert tls.look() and tls.look() and tls.server_context() is not second


def test_a_server_looks_by_itself(nodes: Nodes, dial: Dial, authority: Authority) -> None:
    place = authority.sign("watched")
    server = nodes.start("one", authority.settings(free_port(), place))
    before = dial(server, authority.client()).serial()
    authority.sign("watched")
    seen = {dial(server, authority.client()).serial()}
    for _ in range(500):
        if seen - {before}:
            break
        seen.add(dial(server, authority.client()).serial())
        nodes.run(_pause())
    assert seen - {before}


async def _pause() -> None:
    await asyncio.sleep(0.02)


# -- hostile


def test_half_a_handshake_and_noise_hurt_nobody(nodes: Nodes, dial: Dial, authority: Authority) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    server = begun(nodes, authority, unauthenticated_timeout="1", requirepass="sesame")
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        authority.client().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="127.0.0.1").do_handshake()
    whole = hello.read()
    opened = []
    for number in range(60):
        data = [
            whole[: chance.randrange(len(whole))],
            chance.randbytes(300),
            b"PING\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"",
        ]
        broken = bytearray(whole)
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        each = socket.create_connection(("127.0.0.1", server.config.tls.port), PATIENCE_S)
        each.sendall([*data, bytes(broken)][number % 6])
        opened.append(each)
    line = dial(server, authority.client())
    assert line.ask("AUTH sesame") == b"+OK\r\n" and line.ask("PING") == b"+PONG\r\n"
    for each in opened:  # all end, those that say nothing after the timeout
        with contextlib.suppress(ConnectionError):
            while each.recv(1 << 16):
                pass
        each.close()
    assert line.ask("PING") == b"+PONG\r\n"
    nodes.run(_all_known(server))
    assert server.door.held == {"127.0.0.1": 1} and len(server.connections) == 1


async def _all_known(server: Server) -> None:
    """Returns when nobody is in a handshake."""
    async with asyncio.timeout(PATIENCE_S):
        while server.tls_port is not None and (server.tls_port.handshakes or server.door.greeting):
            await asyncio.sleep(0.01)


def test_a_client_that_does_not_answer_the_end_holds_up_no_stop(nodes: Nodes, dial: Dial, authority: Authority) -> None:
    server = begun(nodes, authority)
    line = dial(server, authority.client())
    assert line.ask("PING") == b"+PONG\r\n"
    began = time.monotonic()
    nodes.stop(server)
    assert time.monotonic() - began < 4
    assert line.socket.recv(1) == b""


def test_the_end_of_tls_is_the_end_of_the_connection(
    nodes: Nodes, dial: Dial, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    server = begun(nodes, authority)
    line = dial(server, authority.client())
    assert line.ask("PING") == b"+PONG\r\n"
    line.socket.unwrap()  # it is answered
    nodes.run(_empty(server))
    assert server.door.held == {} and not caplog.records


async def _empty(server: Server) -> None:
    """Returns when nobody is connected."""
    async with asyncio.timeout(PATIENCE_S):
        while server.connections:
            await asyncio.sleep(0.01)


# -- nodes


async def _announced(server: Server) -> None:
    """Returns when another node has announced itself."""
    async with asyncio.timeout(PATIENCE_S):
        while not any(client.is_node for client in server.node.engine.clients.values()):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("mode", ["fast", "fresh"])
def test_two_nodes_over_tls_only(nodes: Nodes, dial: Dial, authority: Authority, mode: str) -> None:
    def node(name: str, *, follow_only: bool = False) -> Server:
        others = {"tls_replication": "yes", "tls_auth_clients": "yes", "replica_read_mode": mode}
        others["replica_read_timeout"] = "5000"
        settings = authority.settings(free_port(), authority.folder / "server", **others)
        return nodes.start(name, settings, follow_only=follow_only)

    primary, replica = node("one"), node("two", follow_only=True)
    assert primary.node.address == f"127.0.0.1:{primary.config.tls.port}" and primary.port == 0
    nodes.agree(primary)
    context = authority.client(authority.folder / "alice")
    writer, reader = dial(primary, context), dial(replica, context)
    assert writer.ask("SET k v") == b"+OK\r\n"
    nodes.run(_announced(primary))
    assert b"slave0:ip=127.0.0.1,port=%d,state=online" % replica.config.tls.port in writer.ask("INFO replication")
    if mode == "fresh":
        assert reader.ask("GET k") == b"$1\r\nv\r\n"
    assert reader.ask("SET k w").startswith((b"-READONLY", b"-MOVED"))


def test_a_hand_over_by_the_command_line(authority: Authority, eventdb_server: StartServer, tmp_path: Path) -> None:
    place, log, ports = authority.folder / "server", f"quorum:{tmp_path / 'log'}", [free_port(), free_port()]
    for port in ports:
        settings = authority.settings(port, place, tls_auth_clients="yes", tls_replication="yes")
        eventdb_server(log, *[word for name, value in settings.items() for word in ("-c", f"{name}={value}")])
    asked = [sys.executable, "-m", "eventdb", "failover", "--node", f"127.0.0.1:{ports[0]}", "--timeout-ms", "5000"]
    secrets = [
        "--tls-ca-cert-file",
        authority.file,
        "--tls-cert-file",
        f"{place}.crt",
        "--tls-key-file",
        f"{place}.key",
    ]
    done = subprocess.run([*asked, *secrets[2:]], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "--tls-ca-cert-file: TLS needs an authority" in done.stderr
    for _ in range(100):  # until the second node is on the first one's list
        done = subprocess.run([*asked, *secrets], capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            break
    assert f"127.0.0.1:{ports[1]} is the primary now; 127.0.0.1:{ports[0]} follows it" in done.stdout, done.stderr


def test_a_restore_in_place_by_the_command_line(nodes: Nodes, dial: Dial, authority: Authority) -> None:
    place = authority.folder / "server"
    server = nodes.start("one", authority.settings(free_port(), place, tls_auth_clients="yes"))
    writer = dial(server, authority.client(authority.folder / "alice"))
    assert writer.ask("SET k old") == writer.ask("SET k new") == b"+OK\r\n"
    asked = ["restore", "--in-place", "--node", f"127.0.0.1:{server.config.tls.port}", "--to-offset", "1"]
    certificate = ["--tls-cert-file", f"{place}.crt", "--tls-key-file", f"{place}.key"]
    assert CliRunner().invoke(app, [*asked, *certificate]).exit_code == 2
    done = CliRunner().invoke(app, [*asked, "--tls-ca-cert-file", authority.file, *certificate])
    assert done.exit_code == 0 and "as at offset 1, by transaction 3" in done.stdout, done.output
    assert writer.ask("GET k") == b"$3\r\nold\r\n"


def test_nodes_that_speak_tls_need_a_port_for_it(nodes: Nodes) -> None:
    config = Config()
    config.set("tls-replication", "yes")
    with pytest.raises(TlsError, match="tls-port: nodes that speak TLS"):
        nodes.run(Server(nodes.url, config, port=0).start())
