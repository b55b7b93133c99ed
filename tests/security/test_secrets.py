"""Secrets are shown nowhere: each place that takes one is given a marked one, and all that comes out is searched.

In: AUTH, HELLO AUTH, requirepass, masterauth, ACL SETUSER, settings files and options, the passwords and keys in URLs
(Kafka, object stores, redis://), encryption keys, TLS keys, IAM secret keys and tokens. Out: every log line, INFO,
MONITOR, SLOWLOG, LATENCY, CLIENT LIST, ACL LOG, the log and its files, metrics, error replies, what commands print.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import socket
import ssl
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from eventdb.backends.discreet import HIDDEN, discreet
from eventdb.cli.app import app
from eventdb.engine.command import Command
from eventdb.engine.config_file import ConfigFileError, load
from eventdb.engine.registry import COMMANDS
from eventdb.engine.settings import Config
from eventdb.security.iam import make
from eventdb.security.policies import read_keys
from tests.conftest import StartServer, free_port
from tests.kit.certificates import Authority
from tests.kit.harness import Local
from tests.kit.keyring import key_of, ring
from tests.kit.wire import Wire, encode

ARN = "arn:aws:memorydb:eu-central-1:000000000000:"
MAY = {"Effect": "Allow", "Action": "memorydb:connect", "Resource": [f"{ARN}cluster/shop", f"{ARN}user/alice"]}


class Sealed(Wire):
    """A plain client over TLS."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(port)
        self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")


class Marks:
    """Secrets that are found again; `places` says where each went in."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}

    def new(self, place: str) -> str:
        made = f"mArK{len(self.places):02}zZ{place.replace(' ', '')[:20]}"
        self.places[made] = place
        return made

    def keep(self, place: str, secret: str) -> str:
        self.places[secret] = place
        return secret

    def check(self, outputs: dict[str, bytes | str]) -> None:
        found = []
        for where, output in outputs.items():
            text = output.encode("utf-8", "surrogateescape") if isinstance(output, str) else output
            assert text, f"{where} is empty"
            for secret, place in self.places.items():
                shapes = {secret, base64.b64encode(secret.encode()).decode(), repr(secret.encode())[2:-1]}
                if any(shape.encode() in text for shape in shapes):
                    at = text.index(next(shape.encode() for shape in shapes if shape.encode() in text))
                    found.append(f"{place} in {where}: …{text[max(0, at - 80) : at + 60]!r}")
        assert not found, "\n".join(found)


def read_all(conn: socket.socket, until: bytes) -> bytes:
    """What comes, up to and with this text."""
    found = b""
    while until not in found:
        data = conn.recv(1 << 16)
        assert data, found
        found += data
    return found


def say_secrets(wire: Wire, marks: Marks, token: str) -> list[object]:
    """Every command that takes a secret, right and wrong, alone, in MULTI, in EVENTDB.ONCE; returns the replies."""
    new, replies = marks.new, []
    for words in (
        ("AUTH", new("AUTH password")), ("AUTH", "default", new("AUTH user password")),
        ("AUTH", "nobody", new("AUTH nobody")),
        ("AUTH", "a", "b", new("AUTH of too many")), ("HELLO", "3", "AUTH", "default", new("HELLO AUTH")),
        ("HELLO", "2", "SETNAME", "n", "AUTH", "x", new("HELLO SETNAME AUTH")),
        ("HELLO", "3", "AUTH", new("HELLO AUTH cut")),
        ("HELLO", "9", "AUTH", "u", new("HELLO of no version")), ("AUTH", "alice", token),
        ("AUTH", "alice", token + "0"),
        ("ACL", "SETUSER", "u", "on", ">" + new("SETUSER"), "~*", "+@all"),
        ("ACL", "SETUSER", "u", "<" + new("SETUSER remove")),
        ("ACL", "SETUSER", "u", ">" + new("SETUSER bad"), "+nosuch"),
        ("ACL", "SETUSER", "u", "#" + new("SETUSER hash")),
        ("ACL", "SETUSER", "u", "(+get", ">" + new("SETUSER open")),
        ("EVENTDB.ONCE", "t1", "ACL", "SETUSER", "v", ">" + new("ONCE SETUSER")),
        ("EVENTDB.ONCE", "t2", "AUTH", new("ONCE AUTH")), ("MULTI",),
        ("ACL", "SETUSER", "w", "on", ">" + new("MULTI SETUSER")),
        ("CONFIG", "SET", "masterauth", new("MULTI masterauth")),
        ("AUTH", new("AUTH in MULTI")), ("EXEC",), ("CONFIG", "SET", "masterauth", new("masterauth")),
        ("CONFIG", "SET", "requirepass", new("requirepass")),
        ("CONFIG", "SET", "tls-key-file-pass", new("tls-key-file-pass")),
        ("CONFIG", "SET", "requirepass", new("requirepass and more"), "timeout"),
        ("CONFIG", "SET", "snapshot-store", f"s3://bucket/x?aws_secret_access_key={new('snapshot-store')}"),
        ("CONFIG", "SET", "iam-key-command", f"lookup {new('iam-key-command')}"),
        ("MIGRATE", "h", "1", "k", "0", "1", "AUTH", new("MIGRATE AUTH")),
        ("MIGRATE", "h", "1", "k", "0", "1", "AUTH2", "u", new("MIGRATE AUTH2")),
        ("SENTINEL", "SET", "m", "auth-pass", new("SENTINEL SET")),
        ("SENTINEL", "CONFIG", "SET", "sentinel-pass", new("S CONFIG")),
        ("NOSUCH", "AUTH", new("an unknown command")),
    ):  # fmt: skip
        replies.append(wire(*words))
    return replies


@pytest.mark.redis
def test_no_secret_that_a_server_is_given_comes_out_of_it(eventdb_server: StartServer, tmp_path: Path) -> None:
    marks = Marks()
    authority = Authority(tmp_path / "ca")
    key_pass = marks.new("tls-key-file-pass")
    place = authority.sign("server", password=key_pass)
    marks.keep("TLS key", Path(f"{place}.key").read_text().splitlines()[2])
    secret = marks.new("IAM secret key")
    entry = {"access_key_id": "AKIDALICE", "secret_access_key": secret, "policies": [{"Statement": [MAY]}]}
    (tmp_path / "iam.json").write_text(json.dumps(entry))
    token = make("shop", "alice", read_keys(json.dumps(entry))["AKIDALICE"], region="eu-central-1")
    marks.keep("IAM token", token.rpartition("X-Amz-Signature=")[2])
    password, metrics = marks.new("requirepass of the file"), free_port()
    (tmp_path / "redis.conf").write_text(
        f"requirepass {password}\nmasterauth {marks.new('masterauth of the file')}\ntls-port {free_port()}\n"
        f"tls-cert-file {place}.crt\ntls-key-file {place}.key\ntls-key-file-pass {key_pass}\nloglevel debug\n"
        f"tls-ca-cert-file {authority.file}\ntls-auth-clients no\n"
        f"iam-cluster-name shop\niam-key-file {tmp_path}/iam.json\n"
    )
    keyring = {
        "active": 1,
        "keys": {"1": {"made": "2026-01-31T14:05:00Z", "key": base64.b64encode(key_of(1)).decode()}},
    }
    marks.keep("encryption key", base64.b64encode(key_of(1)).decode())
    marks.keep("encryption key in hex", key_of(1).hex())
    server = eventdb_server(
        None, "--config-file", str(tmp_path / "redis.conf"), "--encryption-keys", "env:RING",
        "--metrics-port", str(metrics),
        env={"RING": json.dumps(keyring)},
    )  # fmt: skip
    trusting = authority.client()
    with contextlib.ExitStack() as stack:
        wire, watching = (stack.enter_context(Sealed(server.port, trusting)) for _ in range(2))
        for each in (wire, watching):
            assert each("AUTH", password) == b"OK"
        for setting in ("slowlog-log-slower-than 0", "slowlog-max-len 1000", "latency-monitor-threshold 1"):
            assert wire("CONFIG", "SET", *setting.split()) == b"OK"
        assert wire("ACL", "SETUSER", "alice", "on", "iam", "~*", "+@all") == b"OK"
        watching.send(encode("MONITOR"))
        replies = [wire("CLIENT", "SETNAME", "tester"), *say_secrets(wire, marks, token)]
        with Sealed(server.port, trusting) as other:
            replies += say_secrets(other, marks, token)  # of one that nobody has let in
            replies.append(other("AUTH", "alice", token))
            assert replies[-1] == b"OK"
            replies.append(other("CLIENT", "LIST"))
        # To who sent it Redis names a wrong rule of SETUSER and an unknown command's arguments.
        ours = [each for each in replies if "modifier" not in str(each) and "unknown command" not in str(each)]
        outputs: dict[str, bytes | str] = {"error replies": repr(ours)}
        for asked in (
            "SLOWLOG GET 1000", "ACL LOG 100", "INFO everything", "INFO commandstats", "INFO errorstats",
            "CLIENT LIST", "CLIENT INFO",
            "LATENCY LATEST", "LATENCY DOCTOR", "LATENCY HISTOGRAM", "ACL LIST", "ACL USERS", "ACL GETUSER u",
            "MEMORY DOCTOR",
            "COMMAND LIST", "EVENTDB.OUTCOME t1", "ROLE", "PUBSUB CHANNELS", "EVENTDB.MARKS", "ECHO x", "DEBUG HELP",
        ):  # fmt: skip
            outputs[asked] = repr(wire(*asked.split()))
        wire("ECHO", "the end of it")
        outputs["MONITOR"] = read_all(watching.socket, b"the end of it")
    outputs["/metrics"] = urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10).read()
    assert server.stop() == 0
    outputs["its log"] = server.text
    env = {"RING": json.dumps(keyring), "EVENTDB_ENCRYPTION_KEYS": "env:RING"}
    for words in (
        ["log", "tail", "-n", "1000", "--full"],
        ["log", "tail", "-n", "1000", "--json"],
        ["log", "info"],
        ["log", "verify"],
    ):
        done = CliRunner().invoke(app, [*words, "--log", server.log_url], env=env)
        outputs[f"eventdb {' '.join(words)}"] = done.output
    for path in (tmp_path / "server-0" / "data").rglob("*"):
        if path.is_file() and path.stat().st_size:
            outputs[f"the file {path.name}"] = path.read_bytes()
    listing = CliRunner().invoke(app, ["keys", "list", "--keys", "env:RING"], env=env)
    outputs["eventdb keys list"] = listing.output
    marks.check(outputs)


# -- URLs

URLS = [
    "kafka://127.0.0.1:9/t?security-protocol=SASL_PLAINTEXT&sasl-username=me&sasl-password=SECRET%20x",
    "kafka://b:9092/?ssl-keypassword=SECRET", "kafka://me:SECRET@b:9092/t", "kafka://b:nine/t?sasl-password=SECRET,x",
    "kafkaa://me:SECRET@b:9092/t", "redis://:SECRET@host:6379", "redis://u:SECRET@host:port/3",
    "rediss://:SECRET/w@host:6379/7", "s3://key:SECRET@bucket/x", "sftp://me:SECRET@host/x",
    "s3://bucket/x?aws_secret_access_key=SECRET&region=x", "az://container/x?sig=SECRET&sv=1",
    "nosuch://me:SECRET@host?password=SECRET", "ftp://me:SECRET#x@host/", "ftp://me:SECRET?x@host/",
]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_no_command_prints_the_secret_of_a_url(tmp_path: Path, caplog: pytest.LogCaptureFixture, url: str) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "mArKsEcReT"
    url = url.replace("SECRET", secret)
    (tmp_path / "x.rdb").write_bytes(b"")
    here = f"quorum:{tmp_path}/none"
    for words in (
        ["log", "info", "--log", url], ["serve", "--log", url, "--port", "0", "--metrics-port", "-1"],
        ["import", url, "--log", url], ["import", str(tmp_path / "x.rdb"), "--log", url],
        ["snapshot", "list", "--store", url], ["log", "digest", "--log", here, "--store", url],
        ["restore", "--log", here, "--into", url, "--to-offset", "1", "--store", url],
        ["keys", "list", "--keys", url],
        ["serve", "--log", here, "--port", "0", "-c", "requirepass" + url.replace("=", "")],
        ["serve", "--log", here, "--port", "0", "--encryption-keys", url, "--metrics-port", "-1"],
    ):  # fmt: skip
        if words[0] == "snapshot" and url.startswith(("s3://", "az://")):
            continue  # it would look for the bucket
        done = CliRunner().invoke(app, words, env={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
        assert done.exit_code in (1, 2), (words, done.output, done.exception)
        shown = done.output + done.stderr + repr(done.exception) + caplog.text
        assert secret not in shown.replace("\n", ""), (words, shown)


@given(
    st.text("ab1:@/?#&=%. ", max_size=12),
    st.sampled_from(["sasl-password", "token", "X-Amz-Signature", "secret_access_key"]),
)
def test_whatever_a_password_is_made_of_it_is_hidden(noise: str, option: str) -> None:
    password = f"S3CR{noise.replace(' ', '')}3T"
    secret = password.replace("&", "").replace("?", "").replace("#", "")
    for url in (
        f"sftp://user:{password}@host:22/path",
        f"sftp://:{password}@host/path?a=b",
        f"x://b/t?{option}={secret}",
        f"x://b/t?a=b&{option}={secret}&c=d",
    ):
        shown = discreet(f"cannot open {url}")
        assert "S3CR" not in shown and "3T" not in shown and HIDDEN in shown, (url, shown)
        assert discreet(shown) == shown
    for plain in (
        "quorum:/a,/b",
        "kafka://b:9092,c:9092/t?ssl-keyfile=/k",
        "s3://bucket/prefix",
        "/var/x@y",
        "file:/a:b@c",
    ):
        assert discreet(plain) == plain


# -- settings

WRONG_LINES = [
    'requirepass "S', "requirepass S T", "requirepas S", "masterauth S T", "user alice on >S ~*",
    "sentinel auth-pass m S",
    "tls-key-file-pass S S", "include S\nrequirepass 'S", "Requirepass: S", "iam-key-command a S", "requirepass=S",
]  # fmt: skip


@pytest.mark.parametrize("line", WRONG_LINES)
def test_a_wrong_line_of_a_settings_file_is_named_without_its_secret(tmp_path: Path, line: str) -> None:
    path = tmp_path / "redis.conf"
    path.write_text(line.replace("include S", "timeout 1").replace("S", "mArKsEcReT") + "\n")
    with pytest.raises(ConfigFileError) as refused:
        load(str(path), Config())
    assert "mArK" not in str(refused.value) and f"{path}:" in str(refused.value)
    done = CliRunner().invoke(
        app, ["serve", "--log", f"quorum:{tmp_path}/d", "--port", "0", "--config-file", str(path)]
    )
    assert done.exit_code == 2
    assert "mArK" not in done.output + done.stderr


def test_help_shows_no_password_of_the_environment() -> None:
    for words in (["serve", "--help"], ["status", "--help"], ["failover", "--help"]):
        done = CliRunner().invoke(app, words, env={"EVENTDB_REQUIREPASS": "mArKsEcReT", "EVENTDB_LOG": "kafka://b/t"})
        assert done.exit_code == 0 and "mArK" not in done.output


def test_what_a_broken_handler_logs_has_no_argument(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A crash is logged with its stack; that shows lines of the source and no values."""
    local = Local()

    def broken(*_args: object) -> bytes:
        raise RuntimeError("broken")

    for name in (b"AUTH", b"SET"):
        command: Command = COMMANDS[name]
        monkeypatch.setattr(command, "handler", broken)
        reply = local.raw(name, "mArKsEcReT", *(["v"] if name == b"SET" else []))
        assert reply.startswith(b"-ERR internal error") and b"mArK" not in reply
    assert "broken" in caplog.text and "mArK" not in caplog.text


def test_no_object_that_holds_keys_shows_them_in_a_traceback() -> None:
    key = read_keys(json.dumps({"access_key_id": "A", "secret_access_key": "mArKsEcReT", "policies": []}))["A"]
    held: list[object] = [key, ring(1), Local().engine.config]
    for each in held:
        shown = repr(each) + str(each)
        assert "mArK" not in shown and key_of(1).hex() not in shown and repr(key_of(1))[2:-1] not in shown


def test_a_wrong_acl_file_is_named_without_its_passwords(tmp_path: Path) -> None:
    (tmp_path / "users.acl").write_text("user a on <mArKsEcReT\nuser b on #mArKsEcReT':x\nuser c on !mArKsEcReT\n")
    config = Config()
    config.set("aclfile", str(tmp_path / "users.acl"))
    local = Local(config=config)
    reply = local.raw("ACL", "LOAD")
    assert reply.count(b"users.acl:") == 3 and b"mArK" not in reply
